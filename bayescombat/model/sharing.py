"""What features share in the model: scores of a batch's shifts, and of the mean noise of its scans."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.centring import OFF_MODE, scores_at_start
from bayescombat.factors import Loadings
from bayescombat.moments import Moments
from bayescombat.shared import Sharing

__all__ = ["Hyper", "Shared", "declare_shared"]


class Hyper(NamedTuple):
    """Of a batch variable's levels, (level,): mean and spread of the effects on their features."""

    gamma_mean: Any
    gamma_sd: Any
    log_delta_mean: Any
    log_delta_sd: Any


@dataclass(frozen=True, eq=False)
class Shared:
    """What the features of a batch have in common beside its means.

    Parameters
    ----------
    effect : (batch, feature)
        Shift of the batch along the patterns, in units of sigma.
    noise : (batch, feature)
        What the factors of the noise add to the batch's mean, in units of its scale.
    own : ndarray, (batch, feature)
        Variance of the batch's mean beside the factors, in units of its squared scale.
    squares : (batch, feature)
        What the factors of the noise add to the logarithm of the batch's residual standard deviation.
    weight : ndarray, (feature,)
        How many times the degrees of freedom there are, given that.
    """

    effect: Any
    noise: Any
    own: np.ndarray
    squares: Any
    weight: np.ndarray


def declare_shared(moments: Moments, sharing: Sharing, hyper: Hyper) -> Shared:
    """Declare the scores of patterns and factors.

    They are independent given the data at the spreads where chains start. As far as the data know them, they are
    sampled in units of the batch's spread there, and beside what they have in common with its mean.
    """
    factors, patterns = sharing.factors, sharing.patterns
    spread = (hyper.gamma_sd / sharing.sd)[:, None] ** sharing.known
    general = hyper.gamma_mean[:, None] * sharing.of_mean
    start = scores_at_start(sharing)
    sampled = pm.Normal("score_partly", spread * general, spread, dims=("batch", "score"), initval=start)
    score = sampled / spread - general
    along = (sharing.of_shifts * score[:, None, :]).sum(axis=2) * hyper.gamma_sd[:, None]
    shift = pt.dot(along - along.mean(axis=0), patterns.axes.T)
    shift = pm.Deterministic("batch_pattern", shift, dims=("batch", "feature"))
    noise = (sharing.of_noise * score[:, None, :]).sum(axis=2)
    scans = pm.Deterministic("noise_factor", noise, dims=("batch", "factor"))
    squares, weight = _squares(moments, factors, hyper)
    own = factors.of_own(moments.n, moments.scans)
    return Shared(shift, pt.dot(scans, factors.loadings.T), own, squares, weight)


def _squares(moments: Moments, factors: Loadings, hyper: Hyper) -> tuple[Any, np.ndarray]:
    """Declare what the factors of the noise add to the log sums of squares, sampled as the data know it."""
    axes = factors.of_squares
    size, freedom = (axes**2).sum(axis=1), np.maximum(moments.scans - 1, 1)[:, None]
    general = hyper.log_delta_mean[:, None] * factors.of_squares_mean
    start = np.full((len(freedom), axes.shape[1]), OFF_MODE)
    total = pm.Normal("square_total", general, np.sqrt(1 / (2 * freedom)), dims=("batch", "axis"), initval=start)
    return pt.dot(total - general, axes.T) - size / (2 * freedom), factors.of_squares_weight
