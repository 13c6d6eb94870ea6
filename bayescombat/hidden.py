r"""Hidden factors: found in the residuals, taken out of the moments that are fitted and out of rows. Arrays only.

The residuals of a scan are :math:`\sigma_v \delta_{iv} (L_v' f_j + u_{jv})`, with few factors f whose mean and spread
may differ between batches, and u independent between features.  Loadings L and scales are found in turn: loadings from
the pooled correlation in units of the scales, scales from what the factors leave, so that a batch in which a factor
varies more is not taken for one of larger scale.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.stats import chi2

from bayescombat.empirical import empirical_bayes
from bayescombat.errors import BayesCombatError, listing
from bayescombat.factors import (
    FEATURES_PER_FACTOR,
    any_asked,
    loadings_of,
    observed_share,
    pooled_correlation,
    residual_products,
)
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.residuals import RegressionAxes

__all__ = ["Factors", "HiddenFactors", "check_joint", "without_factors"]

type Factors = int | Literal["auto"]

MOST_PASSES = 50
TOLERANCE = 1e-4
# Factors carry a covariate if they explain this share of its variance within batches, and look like it not by chance.
CARRIED = 0.1
CHANCE = 0.05


@dataclass(frozen=True, eq=False)
class HiddenFactors:
    """What is taken out of a scan's harmonized residual.

    Parameters
    ----------
    loadings : ndarray, (feature, factor)
        Correlations of the features' residuals with the factors.
    unit : ndarray, (feature,)
        What harmonized residuals are standardised by, in feature units.
    """

    loadings: np.ndarray
    unit: np.ndarray

    @property
    def axes(self) -> RegressionAxes:
        """How scores are read, and what they do."""
        return RegressionAxes(self.loadings, FEATURES_PER_FACTOR * self.loadings.shape[1])

    def unread(self, y: np.ndarray) -> np.ndarray:
        """Return which scans (obs,) have too few observed features (obs, feature) for scores, but some."""
        seen = (~np.isnan(y)).sum(axis=1)
        return np.asarray((seen > 0) & (seen < self.axes.fewest))


def check_joint(moments: Moments, what: str) -> None:
    """Raise a BayesCombatError if the moments cannot tell what features do together.

    Parameters
    ----------
    moments : Moments
        What is to be learned from.
    what : str
        The argument that asks for it.
    """
    if len(moments.levels.active) > 1:
        raise BayesCombatError(
            f"Expected one batch variable for {what}, found {listing(moments.levels.active)}: how features vary "
            f"together is told of batches, not of the levels of several variables. Leave {what} out, or give one "
            "variable."
        )
    if moments.subjects is not None:
        raise BayesCombatError(
            f"Expected scans of one subject each for {what}, found repeated scans: how features vary together between "
            f"subjects is not how they vary within. Leave {what} or the subjects out."
        )
    if moments.cross is None:
        raise BayesCombatError(
            f"Expected moments with the cross-products of the features, which {what} is learned from, found moments "
            "without. Make them by Moments.from_study(study, cross=True)."
        )


def without_factors(moments: Moments, asked: Factors, despite_covariates: bool) -> tuple[Moments, HiddenFactors | None]:
    """Return the moments that the scans have without their hidden factors; and these, or None where there are none.

    The batches' means stay: what a factor does to them is part of the batches' shifts.

    Parameters
    ----------
    moments : Moments
        Of estimable features.
    asked : int or "auto"
        How many; "auto" for as many as parallel analysis finds, none where there are too few features for it.
    despite_covariates : bool
        Whether factors that carry a preserved covariate are removed too.

    Raises
    ------
    BayesCombatError
        If there cannot be as many, or one carries a preserved covariate.
    """
    if not any_asked(asked, "factors", len(moments.features)):
        return moments, None
    auto = asked == "auto"
    check_joint(moments, "factors")
    if not auto and int(asked) * FEATURES_PER_FACTOR > len(moments.features):
        raise BayesCombatError(
            f"Expected at least three features for every factor to be removed, found {len(moments.features)} features "
            f"for {asked}."
        )
    cleaned, found, relative = _found(moments, None if auto else int(asked))
    if not found.loadings.shape[1]:
        return moments, None
    if not despite_covariates:
        _check_carried(found, relative, moments)
    at = moments.reference_levels
    if at is not None:
        # Harmonized residuals are in the reference's units.
        found = replace(found, unit=found.unit * relative[at[0]])
    return cleaned, found


def _found(moments: Moments, count: int | None) -> tuple[Moments, HiddenFactors, np.ndarray]:
    """Find loadings and scales in turn; return moments without the factors, these, and the scales (batch, feature)."""
    beta = least_squares(moments).beta
    products = residual_products(moments, beta)
    relative = empirical_bayes(replace(moments, reference=None)).delta
    for _ in range(MOST_PASSES):
        correlation, spread, freedom = pooled_correlation(moments, products, relative)
        loadings = loadings_of(correlation, freedom, count).loadings
        found, count = HiddenFactors(loadings, spread), loadings.shape[1]
        cleaned = _cleaned(moments, found, beta, relative)
        before, relative = relative, empirical_bayes(replace(cleaned, reference=None)).delta
        if not count or np.abs(np.log(relative / before)).max() <= TOLERANCE:
            break
    return cleaned, found, relative


def _cleaned(moments: Moments, found: HiddenFactors, beta: np.ndarray, relative: np.ndarray) -> Moments:
    """Return the moments of values without factors, given slopes and scales; with missing cells to first order.

    The slopes stay: what batches have of slopes of their own counts as noise.
    """
    project = _projections(found, relative)
    left = project @ residual_products(moments, beta) @ project.swapaxes(1, 2)
    squares = np.maximum(np.einsum("bvv->bv", left) * observed_share(moments), 0)
    sxy = (moments.sxx @ beta[..., None])[..., 0]
    return replace(moments, sxy=sxy, syy=squares + (beta * sxy).sum(axis=-1))


def _projections(found: HiddenFactors, relative: np.ndarray) -> np.ndarray:
    """Return what takes factors out of the residuals of complete scans, (batch, feature, feature)."""
    unit = found.unit * relative
    out = found.axes.write @ found.axes.read(np.ones(unit.shape[1], dtype=bool)).T
    return np.asarray(np.eye(unit.shape[1]) - unit[:, :, None] * out / unit[:, None, :])


class _Carried(NamedTuple):
    """What scores say of a covariate: see `_carried`."""

    share: float
    chance: float
    factor: int


def _check_carried(found: HiddenFactors, relative: np.ndarray, moments: Moments) -> None:
    """Raise a BayesCombatError if a factor carries a preserved covariate."""
    kept = np.flatnonzero(moments.spec.kept)
    carried = {moments.covariates[p]: _carried(found, relative, moments, int(p)) for p in kept}
    bad = {name: c for name, c in carried.items() if c.share >= CARRIED and c.chance <= CHANCE}
    if bad:
        name = max(bad, key=lambda name: bad[name].share)
        more = f" So do {listing(sorted(set(bad) - {name}))}." if len(bad) > 1 else ""
        raise BayesCombatError(
            f"Expected factors that carry no preserved covariate, found that factor {bad[name].factor + 1} goes along "
            f"with {name!r}: with covariates left in, scores explain {bad[name].share:.0%} of its variance within "
            f"batches (limit {CARRIED:.0%}).{more} Its slopes would stay, but what else follows its pattern over the "
            "features would go: a curved effect, what cases do beyond their mean. Ask for fewer factors, give the "
            "covariate a form that leaves nothing of it in the residuals (a spline), or, if the factors are unwanted "
            "all the same, say factors_despite_covariates=True."
        )


def _carried(found: HiddenFactors, relative: np.ndarray, moments: Moments, column: int) -> _Carried:
    """Return how far scores of the values, covariates left in, explain a covariate within batches.

    Returns
    -------
    share : float
        Squared multiple correlation.
    chance : float
        How often the features' parts would add up to as much if each had a random sign: factors and covariate have
        patterns of their own over the features, which may look alike in part.
    factor : int
        The factor that explains most.
    """
    read = found.axes.read(np.ones(len(moments.features), dtype=bool)) / (found.unit * relative)[:, :, None]
    within = np.einsum(
        "bvk,bvw,bwl->kl",
        read,
        residual_products(moments, np.zeros((len(moments.features), len(moments.covariates)))),
        read,
        optimize=True,
    )
    share = observed_share(moments)
    parts = np.einsum("bvk,bv->vk", read, moments.sxy[..., column] / np.where(share > 0, share, 1))
    sums, squares = parts.sum(axis=0), moments.sxx[..., column, column].mean(axis=1).sum()
    explained = float(sums @ np.linalg.solve(within, sums) / squares)
    likeness = float(sums @ np.linalg.pinv(parts.T @ parts) @ sums)
    return _Carried(explained, float(chi2.sf(likeness, len(sums))), int((sums**2 / np.diagonal(within)).argmax()))
