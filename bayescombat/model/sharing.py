"""What features share in the model: scores of a batch's shifts, and of the mean noise of its scans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from pymc.distributions.transforms import Transform

from bayescombat.centring import OFF_MODE, scores_at_start
from bayescombat.factors import Loadings
from bayescombat.moments import Moments
from bayescombat.scores import CrossedSharing, Sharing, Squares, Stretch

__all__ = ["Hyper", "Shared", "declare_shared", "places_of"]


class Stretched(Transform):  # type: ignore[misc]
    """Scores (batch, score) as what is stretched to them."""

    name = "unstretched"

    def __init__(self, stretch: Stretch) -> None:
        """Keep directions."""
        self.stretch = stretch

    def forward(self, value: Any, *inputs: Any) -> Any:
        """Return what is stretched to scores."""
        by, along = self._flat()
        return value - pt.dot(pt.dot(np.linalg.solve(self.stretch.inner, by), value.ravel()), along).reshape(
            value.shape
        )

    def backward(self, value: Any, *inputs: Any) -> Any:
        """Return scores."""
        by, along = self._flat()
        return value + pt.dot(pt.dot(by, value.ravel()), along).reshape(value.shape)

    def log_jac_det(self, value: Any, *inputs: Any) -> Any:
        """Return the logarithm of how many times the volume scores have."""
        return pt.constant(self.stretch.log_volume)

    def _flat(self) -> tuple[np.ndarray, np.ndarray]:
        stretch = self.stretch
        size = stretch.by.shape[1] * stretch.by.shape[2]
        return stretch.by.reshape(-1, size), stretch.along.reshape(-1, size)


class Hyper(NamedTuple):
    """Of a batch variable's levels, (level,): mean and spread of the effects on their features."""

    gamma_mean: Any
    gamma_sd: Any
    log_delta_mean: Any
    log_delta_sd: Any


@dataclass(frozen=True, eq=False)
class Shared:
    """What features have in common beside the means of batches.

    Parameters
    ----------
    effects : sequence of (level, feature)
        Shifts of every batch variable's levels along the patterns, in units of sigma.
    noise : (cell, feature)
        What the factors of the noise add to the cell's mean, in units of its scale.
    own : ndarray, (cell, feature)
        Variance of the cell's mean beside the factors, in units of its squared scale.
    squares : (cell, feature)
        What the factors of the noise add to the logarithm of the cell's residual standard deviation.
    of_scales : sequence of (level, feature)
        What that is on average in the cells of every variable's levels, beside which their log scales are sampled.
    weight : ndarray, (feature,)
        How many times the degrees of freedom there are, given that.
    """

    effects: Sequence[Any]
    noise: Any
    own: np.ndarray
    squares: Any
    of_scales: Sequence[Any]
    weight: np.ndarray


def declare_shared(
    moments: Moments, sharing: Sharing | CrossedSharing, of_squares: Squares, hypers: Sequence[Hyper]
) -> Shared:
    """Declare the scores of patterns and factors; they are independent given the data at the spreads of the start."""
    factors = sharing.factors
    if isinstance(sharing, Sharing):
        effects, scans = _of_one(sharing, hypers[0])
    else:
        effects, scans = _of_several(sharing, hypers)
    members = [(place[:, None] == np.arange(place.max() + 1)).astype(float) for place in places_of(moments)]
    levels = sum(pt.dot(member, hyper.log_delta_mean) for member, hyper in zip(members, hypers, strict=True))
    squares = _squares(moments, factors, of_squares, levels)
    own = factors.of_own(moments.n, moments.scans)
    of_scales = [squares] if len(hypers) == 1 else _on_average(moments, members, squares)
    noise = pt.dot(scans, factors.loadings.T)
    return Shared(effects, noise, own, squares, of_scales, factors.of_squares_weight)


def places_of(moments: Moments) -> list[np.ndarray]:
    """Return which of its levels each cell has, for every batch variable."""
    return [column - column.min() for column in moments.positions.T]


def _of_one(sharing: Sharing, hyper: Hyper) -> tuple[list[Any], Any]:
    """Declare the scores of batches; return shifts along the patterns, and means of the noise's factors.

    As far as the data know them, scores are sampled in units of the batch's spread where chains start, and beside what
    they have in common with its mean.
    """
    spread = (hyper.gamma_sd / sharing.sd)[:, None] ** sharing.known
    general = hyper.gamma_mean[:, None] * sharing.of_mean
    start = scores_at_start(sharing)
    sampled = pm.Normal(
        "score_partly",
        spread * general,
        spread,
        dims=("batch", "score"),
        initval=start,
        transform=Stretched(sharing.stretch),
    )
    score = sampled / spread - general
    along = (sharing.of_shifts * score[:, None, :]).sum(axis=2) * hyper.gamma_sd[:, None]
    shift = pt.dot(along - along.mean(axis=0), sharing.patterns.axes.T)
    shift = pm.Deterministic("batch_pattern", shift, dims=("batch", "feature"))
    noise = (sharing.of_noise * score[:, None, :]).sum(axis=2)
    return [shift], pm.Deterministic("noise_factor", noise, dims=("batch", "factor"))


def _of_several(sharing: CrossedSharing, hypers: Sequence[Hyper]) -> tuple[list[Any], Any]:
    """Declare the scores of all levels and cells; return the same of every variable's levels, and of cells.

    They are sampled beside what they have in common with the means of levels.
    """
    parts = list(zip(sharing.of_variables, hypers, strict=True))
    general = sum(pt.dot(hyper.gamma_mean, one.of_mean) for one, hyper in parts)
    score = pm.Normal("score_partly", general, 1.0, dims="score", initval=scores_at_start(sharing)) - general
    shifts = []
    for number, (one, hyper) in enumerate(parts, 1):
        along = _applied(one.of_shifts, score) * hyper.gamma_sd[:, None]
        shift = pt.dot(along - along.mean(axis=0), one.patterns.axes.T)
        shifts.append(pm.Deterministic(f"batch_pattern_{number}", shift, dims=(f"batch_{number}", "feature")))
    return shifts, pm.Deterministic("noise_factor", _applied(sharing.of_noise, score), dims=("cell", "factor"))


def _applied(design: np.ndarray, score: Any) -> Any:
    """Return what scores (score,) come to by a design (row, column, score), (row, column)."""
    return pt.dot(design.reshape(-1, design.shape[2]), score).reshape(design.shape[:2])


def _squares(moments: Moments, factors: Loadings, of_squares: Squares, level: Any) -> Any:
    """Declare what the factors of the noise add to the log sums of squares, sampled beside the mean of log scales."""
    axes, dim = factors.of_squares, "batch" if len(moments.levels.active) == 1 else "cell"
    general = level[:, None] * of_squares.of_mean
    start = np.full(of_squares.of_mean.shape, OFF_MODE)
    score = pm.Normal("square_score", general, 1.0, dims=(dim, "axis"), initval=start) - general
    along = (of_squares.of_axes * score[:, None, :]).sum(axis=2)
    freedom = np.maximum(moments.scans - 1, 1)[:, None]
    return pt.dot(along, axes.T) - (axes**2).sum(axis=1) / (2 * freedom)


def _on_average(moments: Moments, members: Sequence[np.ndarray], squares: Any) -> list[Any]:
    """Return the squares on average over the scans of every variable's levels; but the first, beside those of all."""
    weights = [member.T * np.maximum(moments.scans - 1, 1) for member in members]
    shares = [weight / weight.sum(axis=1, keepdims=True) for weight in weights]
    overall = moments.scans / moments.scans.sum()
    return [pt.dot(share if k == 0 else share - overall, squares) for k, share in enumerate(shares)]
