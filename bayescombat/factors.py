"""Common factors of the features: from the moments' cross-products to loadings. Arrays only.

The residuals of one scan are correlated. Their within-batch correlation is taken for ``L L' + diag(unique)`` with few
columns of loadings L, found by principal-axis factoring; how many, by parallel analysis (Horn 1965,
doi:10.1007/BF02289447).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Literal

import numpy as np

from bayescombat.batches import Levels
from bayescombat.empirical import empirical_bayes
from bayescombat.errors import BayesCombatError
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.study import Study

__all__ = [
    "FEATURES_PER_FACTOR",
    "FEWEST_FEATURES",
    "Loadings",
    "SharedFactors",
    "any_asked",
    "by_default",
    "factors_of",
    "loadings_of",
    "most_factors",
    "observed_share",
    "pooled_correlation",
    "residual_products",
    "shared_factors_of",
]

type SharedFactors = int | Literal["auto"]

FEWEST_FEATURES = 10
# Cross-products of more features than this, for every batch, are kept only if they are asked for.
MOST_BY_DEFAULT = 500
FEATURES_PER_FACTOR = 3
MOST_FACTORS = 10
LARGEST_COMMUNALITY = 0.95
MOST_OF_SQUARES = 0.9
REPLICATES = 20
QUANTILE = 0.95
LEAST_SCATTER = 1e-3
PASSES = 100
TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Loadings:
    """What the features of a scan share.

    Parameters
    ----------
    loadings : ndarray, (feature, factor)
        Correlations of the features with the factors.
    """

    loadings: np.ndarray

    @property
    def common(self) -> np.ndarray:
        """Share of a feature's variance that the factors explain, (feature,)."""
        return np.asarray((self.loadings**2).sum(axis=1))

    @cached_property
    def of_squares(self) -> np.ndarray:
        """Loadings of the log sums of squares, whose correlations are the squares of the features', (feature, axis).

        The axes that explain most of what the factors do to them.
        """
        features = len(self.loadings)
        pairs = (self.loadings[:, :, None] * self.loadings[:, None, :]).reshape(features, -1)
        left, size, _ = np.linalg.svd(pairs, full_matrices=False)
        share = np.cumsum(size**2) / (size**2).sum()
        return np.asarray((left * size)[:, : int(np.searchsorted(share, MOST_OF_SQUARES)) + 1])

    @property
    def of_squares_weight(self) -> np.ndarray:
        """How many times the degrees of freedom the log sums of squares have beside the axes, (feature,)."""
        return np.asarray(1 / (1 - (self.of_squares**2).sum(axis=1)))

    def of_own(self, n: np.ndarray, scans: np.ndarray) -> np.ndarray:
        """Return the variance of a mean beside the factors, in units of the residual variance, (batch, feature).

        Where cells are missing, features share the noise of their means as far as all scans of the batch do. It is
        infinite where nothing was observed.
        """
        mean = np.divide(1.0, n, out=np.full(n.shape, np.inf), where=n > 0)
        return np.asarray(mean - self.common / np.maximum(scans, 1)[:, None])

    @property
    def count(self) -> int:
        """How many factors there are."""
        return int(self.loadings.shape[1])


def by_default(data: Study | Moments) -> SharedFactors:
    """Return how many factors NUTS has if nobody says: as many as there are, where they can be had."""
    if isinstance(data, Moments) and data.cross is None:
        return 0
    plain = data.subjects is None and len(Levels.of(data.spec.batch, data.batches).active) == 1
    return "auto" if plain and FEWEST_FEATURES <= len(data.features) <= MOST_BY_DEFAULT else 0


def shared_factors_of(moments: Moments, asked: SharedFactors) -> Loadings | None:
    """Return the factors that a model is to have, or None for none.

    Parameters
    ----------
    moments : Moments
        Of estimable features.
    asked : int or "auto"
        How many; "auto" for as many as parallel analysis finds, none where there are too few features for it.

    Raises
    ------
    BayesCombatError
        If there cannot be as many.
    """
    if not any_asked(asked, "shared_factors", len(moments.features)):
        return None
    auto = asked == "auto"
    if moments.subjects is not None:
        raise BayesCombatError(
            "Expected scans of one subject each where features share factors, found repeated scans: their intercepts "
            "would need factors too. Leave shared_factors or the subjects out."
        )
    if moments.cross is None:
        raise BayesCombatError(
            "Expected moments with the cross-products of the features, which factors are learned from, found moments "
            "without. Make them by Moments.from_study(study, cross=True)."
        )
    if not auto and int(asked) * FEATURES_PER_FACTOR > len(moments.features):
        raise BayesCombatError(
            f"Expected at least three features for every shared factor, found {len(moments.features)} for {asked}."
        )
    found = factors_of(moments, None if auto else int(asked))
    return found if found.count else None


def any_asked(asked: SharedFactors, name: str, features: int) -> bool:
    """Return whether factors are asked for, of enough features if "auto".

    Raises
    ------
    BayesCombatError
        If the argument of that name is neither a number nor "auto".
    """
    auto = asked == "auto"
    if not auto and (isinstance(asked, bool) or not isinstance(asked, Integral) or asked < 0):
        raise BayesCombatError(f"Expected {name} to be 'auto' or a whole number of at least 0, found {asked!r}.")
    return asked != 0 and not (auto and features < FEWEST_FEATURES)


def most_factors(features: int) -> int:
    """Return how many factors so many features may have where nobody says how many."""
    return min(MOST_FACTORS, features // FEATURES_PER_FACTOR)


def loadings_of(correlation: np.ndarray, freedom: int, count: int | None = None) -> Loadings:
    """Return the factors of a correlation; by default as many as parallel analysis finds.

    Parameters
    ----------
    correlation : ndarray, (feature, feature)
        Of residuals.
    freedom : int
        Their degrees of freedom.
    count : int, optional
        How many.
    """
    if count is None:
        count = min(most_factors(len(correlation)), _parallel(correlation, freedom))
    return Loadings(_principal_axes(correlation, count))


def factors_of(moments: Moments, count: int | None = None) -> Loadings:
    """Return the factors of features whose cross-products the moments hold.

    Parameters
    ----------
    moments : Moments
        Of estimable features, with `cross`.
    count : int, optional
        How many; by default as many as explain more than they would if the features were independent.
    """
    return loadings_of(*_correlation(moments), count)


def residual_products(moments: Moments, beta: np.ndarray) -> np.ndarray:
    """Return the cross-products of what the slopes (feature, covariate) leave, (batch, feature, feature).

    Where cells are missing they are as large as if none were: pairs of features are observed together in fewer scans
    than either, by the product of their shares.
    """
    assert moments.cross is not None
    share = observed_share(moments)
    share = np.where(share > 0, share, 1)
    sxx = (moments.sxx / share[:, : moments.sxx.shape[1], None, None]).mean(axis=1)
    explained = np.einsum("bvp,wp->bvw", moments.sxy / share[..., None], beta)
    products = moments.cross / (share[:, :, None] * share[:, None, :]) - explained - explained.swapaxes(1, 2)
    products += np.einsum("vp,bpq,wq->bvw", beta, sxx, beta, optimize=True)
    if (share < 1).any():
        left = moments.syy - (beta * (2 * moments.sxy - (moments.sxx @ beta[..., None])[..., 0])).sum(axis=-1)
        diagonal = np.arange(len(beta))
        products[:, diagonal, diagonal] = np.maximum(left, 0) / share
        # Pairs that were seen in different scans need not fit together.
        values, vectors = np.linalg.eigh(products)
        values = np.maximum(values, LEAST_SCATTER * values[:, -1:])
        products = (vectors * values[:, None]) @ vectors.swapaxes(1, 2)
    return np.asarray(products)


def observed_share(moments: Moments) -> np.ndarray:
    """Return the share of a batch's scans in which features were observed, (batch, feature)."""
    return np.asarray(np.broadcast_to(moments.n, moments.mean_y.shape) / np.maximum(moments.scans, 1)[:, None])


def pooled_correlation(moments: Moments, products: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Return the pooled correlation of residuals, their spread in the units, and their degrees of freedom.

    Parameters
    ----------
    moments : Moments
        Of estimable features.
    products : ndarray, (batch, feature, feature)
        Cross-products of residuals.
    unit : ndarray, (batch, feature)
        What residuals are measured in.
    """
    pooled = np.einsum("bvw,bv,bw->vw", products, 1 / unit, 1 / unit, optimize=True)
    squares = np.diagonal(pooled)
    seen = (observed_share(moments) > 0).astype(float)
    # Batches that never measured one of two features tell nothing of the pair.
    both = (seen * moments.scans[:, None]).T @ seen
    size = np.diagonal(both)
    correlation = pooled / np.sqrt(np.outer(squares, squares)) * np.sqrt(np.outer(size, size)) / np.maximum(both, 1)
    np.fill_diagonal(correlation, 1.0)
    groups = len(moments.levels.labels) - moments.positions.shape[1] + 1
    n = moments.n.sum(axis=0)
    return correlation, np.sqrt(squares / size), max(2, int(n.min()) - groups - len(moments.covariates))


def _correlation(moments: Moments) -> tuple[np.ndarray, int]:
    """Return the pooled correlation of residuals in units of each batch's own scale, and their degrees of freedom."""
    fit, estimates = least_squares(moments), empirical_bayes(replace(moments, reference=None))
    unit = estimates.sigma * estimates.delta[moments.positions].prod(axis=1)
    correlation, _, freedom = pooled_correlation(moments, residual_products(moments, fit.beta), unit)
    return correlation, freedom


def _parallel(correlation: np.ndarray, freedom: int) -> int:
    """Return how many eigenvalues exceed those of as many independent features."""
    rng, features = np.random.default_rng(0), len(correlation)
    null = []
    for _ in range(REPLICATES):
        root = np.tril(rng.standard_normal((features, min(features, freedom))), -1)
        root[np.diag_indices(root.shape[1])] = np.sqrt(rng.chisquare(freedom - np.arange(root.shape[1])))
        root /= np.sqrt((root**2).sum(axis=1, keepdims=True))
        null.append(np.linalg.svd(root, compute_uv=False) ** 2)
    limit = np.quantile(null, QUANTILE, axis=0)
    found = np.linalg.eigvalsh(correlation)[::-1][: len(limit)]
    below = found <= limit
    return int(np.argmax(below)) if below.any() else len(found)


def _principal_axes(correlation: np.ndarray, count: int) -> np.ndarray:
    """Return the loadings (feature, factor) of iterated principal-axis factoring."""
    reduced = correlation.copy()
    off = np.abs(correlation - np.eye(len(correlation)))
    common, loadings = off.max(axis=1), np.zeros((len(correlation), 0))
    for _ in range(PASSES if count else 0):
        np.fill_diagonal(reduced, common)
        values, vectors = np.linalg.eigh(reduced)
        loadings = vectors[:, ::-1][:, :count] * np.sqrt(np.maximum(values[::-1][:count], 0))
        found = np.minimum((loadings**2).sum(axis=1), LARGEST_COMMUNALITY)
        moved = np.abs(found - common).max()
        common = found
        if moved <= TOLERANCE:
            break
    size = (loadings**2).sum(axis=1, keepdims=True)
    loadings = loadings * np.sqrt(np.minimum(1, LARGEST_COMMUNALITY / np.maximum(size, LARGEST_COMMUNALITY)))
    # A sign that does not hang on the eigenvectors' own.
    return np.asarray(loadings * np.where(loadings.sum(axis=0) < 0, -1.0, 1.0))
