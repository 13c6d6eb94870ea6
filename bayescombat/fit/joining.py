"""What a fit does to a scan's residuals across its features: asked for, checked, and learned for some of its draws."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import xarray as xr

from bayescombat.adjust import Draws
from bayescombat.columns import warn
from bayescombat.covariance import covariances_of
from bayescombat.errors import BatchSizeWarning, BayesCombatError, DataError, listing
from bayescombat.fit.layout import Layout
from bayescombat.hidden import Factors, HiddenFactors, check_joint
from bayescombat.joint import Joint
from bayescombat.moments import Moments

__all__ = ["Asked", "Joining", "check_adoptable", "check_covariance", "check_drawable", "hidden_group"]

SHARE_OF_VARIANCE = 0.95


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Parameters
    ----------
    factors : int or "auto"
        Hidden factors to remove.
    despite_covariates : bool
        Whether those that carry a preserved covariate go too.
    share : float
        Of the variance, that the principal components have to explain whose scores are harmonized; zero for none.
    """

    factors: Factors = 0
    despite_covariates: bool = False
    share: float = 0.0

    @classmethod
    def of(cls, factors: Factors, despite_covariates: bool, covariance: bool | float) -> Self:
        """Return what the arguments of `fit` ask for.

        Raises
        ------
        BayesCombatError
            If `covariance` is neither a truth value nor a share.
        """
        share = SHARE_OF_VARIANCE if covariance is True else float(covariance)
        if not 0 <= share < 1:
            raise BayesCombatError(
                f"Expected covariance to be True, False or a share of variance between 0 and 1, found {covariance!r}."
            )
        return cls(factors, despite_covariates, share)

    @classmethod
    def again(cls, attrs: Mapping[Any, Any]) -> Self:
        """Return what the attributes of a fit's tree say."""
        factors = attrs.get("factors", 0)
        count: Factors = "auto" if factors == "auto" else int(factors)
        return cls(count, bool(attrs.get("factors_despite_covariates", 0)), float(attrs.get("covariance", 0)))

    @property
    def attrs(self) -> dict[str, Any]:
        """What was asked for, as attributes of a tree."""
        return {
            "factors": self.factors,
            "factors_despite_covariates": int(self.despite_covariates),
            "covariance": self.share,
        }

    @property
    def needs_cross(self) -> bool:
        """Whether moments need the features' cross-products."""
        return self.factors != 0 or self.share > 0


def check_covariance(moments: Moments) -> None:
    """Check that the moments of modelled features tell how these vary together in every batch.

    Raises
    ------
    BayesCombatError
        If there are several batch variables, or no cross-products.
    DataError
        If there is one feature, or one that a batch of several scans never measured.

    Warns
    -----
    BatchSizeWarning
        If batches have one scan.
    """
    check_joint(moments, "covariance")
    names, labels = np.array(moments.features, dtype=object), np.array(moments.batches, dtype=object)
    if len(names) < 2:
        raise DataError(f"Expected several features for covariance, found one: {listing(names)}. Leave covariance out.")
    unseen = (np.broadcast_to(moments.n, moments.mean_y.shape) < 2) & (moments.scans > 1)[:, None]
    if unseen.any():
        raise DataError(
            f"Expected every feature twice or more in every batch for covariance, found "
            f"{listing(names[unseen.any(axis=0)])} observed at most once in {listing(labels[unseen.any(axis=1)])}. "
            "Leave these features or covariance out."
        )
    if (moments.scans == 1).any():
        warn(
            f"One scan in {listing(labels[moments.scans == 1])}: it says nothing of how features vary together there, "
            "so that its covariance is left as it is.",
            BatchSizeWarning,
        )


def check_adoptable(hidden: HiddenFactors | None) -> None:
    """Raise a BayesCombatError if a fit removes factors: it can adopt no batch."""
    if hidden is not None:
        raise BayesCombatError(
            "Expected a fit that removes no factors, found one whose scales are of what factors leave, which adopt "
            "cannot tell of a new batch alone. Use update."
        )


def check_drawable(asked: Asked, layout: Layout, batches: Sequence[str]) -> None:
    """Raise a BayesCombatError if covariances of unknown batches would have to be drawn."""
    unknown = np.array(batches, dtype=object)[(layout.levels.known(batches) < 0).any(axis=1)]
    if asked.share and len(unknown):
        raise BayesCombatError(
            f"Expected batches whose covariance the fit has learned, found {listing(unknown)}: no population of "
            "covariances is known that one could be drawn from. Adopt the batch, update, or fit without covariance."
        )


def hidden_group(hidden: HiddenFactors, features: tuple[str, ...]) -> xr.DataTree:
    """Return hidden factors as a group of a fit's tree."""
    loadings = {"units": "1", "long_name": "correlation of the feature's residuals with the factor that is removed"}
    unit = {"units": "feature units", "long_name": "standard deviation of harmonized residuals before factors go"}
    data = {"loadings": (("feature", "factor"), hidden.loadings, loadings), "unit": ("feature", hidden.unit, unit)}
    return xr.DataTree(xr.Dataset(data, {"feature": list(features), "factor": range(hidden.loadings.shape[1])}))


@dataclass(frozen=True, eq=False)
class Joining:
    """What a fit does to residuals.

    Parameters
    ----------
    hidden : HiddenFactors, optional
        Factors to take out.
    share : float
        As in `Asked`.
    moments : Moments, optional
        What covariances are learned from: needed where there is a share.
    adopted : tuple of str
        Batches that no component and no average is learned from.
    seed : int, optional
        For what is drawn by NUTS: errors of factors' scores, and scales of scores. None for estimates.
    """

    hidden: HiddenFactors | None
    share: float = 0.0
    moments: Moments | None = None
    adopted: tuple[str, ...] = ()
    seed: int | None = None

    def of(self, draws: Draws, average: Draws, layout: Layout, every: np.ndarray) -> Joint:
        """Return what is done to residuals in draws of the numbers `every` (draw,), given the average of all draws."""
        if self.moments is None:
            return Joint(self.hidden, seed=self.seed)
        levels = layout.levels.positions(self.moments.batches)[:, 0]
        reference = None if layout.reference is None else int(layout.levels.positions([layout.reference])[0, 0])
        streams = None
        if self.seed is not None:
            streams = [np.random.default_rng([self.seed, int(number)]) for number in every]
        found = covariances_of(
            _ordered(self.moments.select(np.isin(self.moments.features, layout.features)), levels),
            draws,
            average,
            self.share,
            hidden=self.hidden,
            pooled=~np.isin(layout.levels.labels, self.adopted),
            reference=reference,
            streams=streams,
        )
        return Joint(self.hidden, found, self.seed)


def _ordered(moments: Moments, levels: np.ndarray) -> Moments:
    """Return the moments with the batches in the order of a layout's levels, whose positions they have."""
    order = np.argsort(levels)
    arrays: dict[str, Any] = {name: getattr(moments, name)[order] for name in moments.held}
    return replace(moments, **arrays, batches=tuple(moments.batches[i] for i in order))
