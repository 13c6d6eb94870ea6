"""What variables are sampled as, given what the data tell of them, and where they start. Arrays only.

A Normal(mean, sd) variable is sampled as its z-score given the data: these are taken for a normal likelihood of it. So
it hangs on mean and sd as little as the data allow, whether they say nothing of it, or nearly all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.linalg import helmert

from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.scores import CrossedSharing, Sharing, SharingOfLevels, Squares, squares_of
from bayescombat.standard import Effects, Start, between

__all__ = [
    "OFF_MODE",
    "Known",
    "Parametrisation",
    "Turned",
    "known_of_sds",
    "levels_at_start",
    "parametrised",
    "scores_at_start",
    "share_of_data",
    "spread_at_start",
]

# What is sampled as a z-score would start at its mode, whose gradient of zero the sampler refuses.
OFF_MODE = 0.1
# A low guess of a spread, over the guess.
LOW = 0.8


class Known(NamedTuple):
    """What the data tell of variables: the precision of a normal likelihood, and that times its estimate."""

    information: np.ndarray
    pull: np.ndarray

    @classmethod
    def of(cls, information: np.ndarray, estimate: np.ndarray) -> Self:
        """Return this of what is estimated without a prior."""
        return cls(np.broadcast_to(information, np.shape(estimate)), information * estimate)

    @classmethod
    def by_expected(cls, information: np.ndarray, expected: np.ndarray, mean: Any, sd: Any) -> Self:
        """Return this of what is expected under a Normal(mean, sd) prior."""
        return cls(np.broadcast_to(information, np.shape(expected)), information * expected + (expected - mean) / sd**2)


class Turned(NamedTuple):
    """Means of batches, which sum to zero, along directions that the data tell apart: (batch, direction)."""

    basis: np.ndarray
    known: Known


@dataclass(frozen=True, eq=False)
class Parametrisation:
    """What the effects of one batch variable are sampled as.

    Parameters
    ----------
    shifts, scales : Effects
        Beside what features share.
    shift_means, scale_means : Turned
    of_alpha, of_log_sigma : ndarray, (level, feature)
        Shares of the levels in what is known of alpha and log sigma.
    """

    shifts: Effects
    scales: Effects
    shift_means: Turned
    scale_means: Turned
    of_alpha: np.ndarray
    of_log_sigma: np.ndarray


def levels_at_start(start: Start, effects: Sequence[Parametrisation]) -> tuple[np.ndarray, np.ndarray]:
    """Return what log sigma and alpha are sampled as where chains start, (feature,)."""
    scale = np.sum([one.scales.mean @ one.of_log_sigma for one in effects], axis=0)
    shift = np.sum([one.shifts.mean @ one.of_alpha for one in effects], axis=0)
    return start.log_sigma + scale, start.alpha + np.exp(start.log_sigma) * shift


def parametrised(
    moments: Moments, start: Start, priors: Priors, sharing: Sharing | CrossedSharing | None
) -> tuple[list[Parametrisation], Squares | None]:
    """Return what the effects of every batch variable are sampled as, and the log sums of squares that features share.

    Parameters
    ----------
    moments : Moments
        Of estimable features.
    start : Start
        Where chains start.
    priors : Priors
        Scales of the priors.
    sharing : Sharing or CrossedSharing, optional
        What features share.
    """
    if sharing is None:
        pairs = zip(start.gamma, start.log_delta, strict=True)
        return [_parametrised(*pair, _known_of_means(pair[0]), _known_of_means(pair[1])) for pair in pairs], None
    squares = squares_of(moments, sharing.factors, [scales.sd for scales in start.log_delta])
    weight, found = sharing.factors.of_squares_weight, []
    for k, (shifts, scales) in enumerate(zip(start.gamma, start.log_delta, strict=True)):
        one: Sharing | SharingOfLevels = sharing.of_variables[k]
        column = moments.positions[:, k]
        of_scales = np.bincount(column - column.min(), squares.information)
        beside = replace(scales, noise=scales.noise / weight)
        found.append(_parametrised(_beside(shifts, one, priors), beside, one.information, of_scales))
    return found, squares


def _parametrised(shifts: Effects, scales: Effects, of_shifts: np.ndarray, of_scales: np.ndarray) -> Parametrisation:
    return Parametrisation(
        shifts, scales, _turned(shifts, of_shifts), _turned(scales, of_scales), _shares(shifts), _shares(scales)
    )


def _beside(shifts: Effects, sharing: Sharing | SharingOfLevels, priors: Priors) -> Effects:
    """Return the shifts beside what features share."""
    information, estimate = sharing.information, sharing.mean_estimate - sharing.mean_estimate.mean()
    spread = between(estimate, information, priors.gamma_mean_median, priors.gamma_mean_log_sd)
    of_shifts = {"mean": estimate, "sd": sharing.sd, "sd_low": sharing.sd * LOW}
    return replace(shifts, noise=sharing.own, spread=spread, **of_shifts)


def _weights(effects: Effects) -> np.ndarray:
    """Return what the data tell of the sum of a feature's level and a batch's mean, (batch, feature)."""
    return np.asarray(1 / (effects.sd[:, None] ** 2 + effects.noise))


def _shares(effects: Effects) -> np.ndarray:
    """Return shares (batch, feature) of the batches in what is known of the features' levels."""
    weight = _weights(effects)
    total, equal = weight.sum(axis=0), np.full(weight.shape, 1 / len(weight))
    return np.asarray(np.divide(weight, total, out=equal, where=total > 0))


def _known_of_means(effects: Effects) -> np.ndarray:
    return np.asarray(_weights(effects).sum(axis=1))


def _turned(effects: Effects, information: np.ndarray) -> Turned:
    """Return the means of batches turned, by what the data tell of each (batch,) beside the features' levels."""
    weight = _weights(effects)
    total = weight.sum(axis=1)
    weight = weight * np.divide(information, total, out=np.zeros(len(total)), where=total > 0)[:, None]
    told = np.diag(weight.sum(axis=1)) - _shares(effects) @ weight.T
    sumless = helmert(len(told)).T
    values, turn = np.linalg.eigh(sumless.T @ ((told + told.T) / 2) @ sumless)
    basis = sumless @ turn
    return Turned(basis, Known.of(np.maximum(values, 0), basis.T @ effects.mean))


def share_of_data(information: np.ndarray, sd: Any) -> np.ndarray:
    """Return the share of the data in what is known of a variable with prior standard deviation `sd`."""
    return np.asarray(information / (information + 1 / sd**2))


def known_of_sds(effects: Effects) -> Known:
    """Return what the data tell of the logarithm of the levels' spreads over the features, (level,)."""
    # Low guesses of spreads, since a funnel opens where one is nearly zero.
    share = share_of_data(1 / effects.noise, effects.sd_low[:, None])
    return Known.of(2 * (share**2).sum(axis=1), np.log(effects.sd))


def spread_at_start(log_sd: np.ndarray, expected: float) -> tuple[float, float]:
    """Return the middle of log spreads, and how far they lie apart: at least a third of what is expected."""
    return float(log_sd.mean()), max(float(log_sd.std()), expected / 3)


def scores_at_start(sharing: Sharing | CrossedSharing) -> np.ndarray:
    """Return what the scores are sampled as where chains start, (batch, score) or (score,)."""
    if isinstance(sharing, Sharing):
        start = sharing.score + (sharing.mean - sharing.mean.mean())[:, None] * sharing.of_mean
    else:
        start = sharing.score + sum((one.mean - one.mean.mean()) @ one.of_mean for one in sharing.of_variables)
    return np.where(start == 0, OFF_MODE, start)
