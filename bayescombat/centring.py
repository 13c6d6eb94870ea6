"""How far variables are sampled as themselves rather than as z-scores, and where they start. Arrays only."""

from dataclasses import replace
from typing import Any

import numpy as np

from bayescombat.scores import CrossedSharing, Sharing, SharingOfLevels
from bayescombat.standard import Effects, between

__all__ = [
    "OFF_MODE",
    "as_sampled",
    "beside_sharing",
    "known_of_means",
    "known_of_sds",
    "scores_at_start",
    "share_of_data",
    "spread_at_start",
]

# What nothing was observed of would start at its mode, whose gradient of zero the sampler refuses.
OFF_MODE = 0.1
# A low guess of a spread, over the guess.
LOW = 0.8


def share_of_data(information: np.ndarray, sd: Any) -> np.ndarray:
    """Return the share of the data in what is known of a variable with prior standard deviation `sd`."""
    return np.asarray(information / (information + 1 / sd**2))


def as_sampled(value: np.ndarray, mean: Any, sd: Any, weight: Any) -> np.ndarray:
    """Return a Normal(mean, sd) value as it is sampled: as itself at weight one, as its z-score at weight zero."""
    sampled = weight * mean + (value - mean) / sd ** (1 - weight)
    return np.where((weight == 0) & (sampled == 0), OFF_MODE, sampled)


def known_of_means(effects: Effects, left: Any = 1.0) -> np.ndarray:
    """Return what the data tell of the levels' means, (level,), by the part of every feature that is left for it."""
    # Low guesses of spreads, since a funnel opens where one is nearly zero.
    return np.asarray((left / (effects.sd_low[:, None] ** 2 + effects.noise)).sum(axis=1))


def known_of_sds(effects: Effects) -> np.ndarray:
    """Return what the data tell of the logarithm of the levels' spreads over the features, (level,)."""
    signal = effects.sd_low[:, None] ** 2
    return np.asarray((2 * (signal / (signal + effects.noise)) ** 2).sum(axis=1))


def spread_at_start(log_sd: np.ndarray, expected: float) -> tuple[float, float]:
    """Return the middle of log spreads, and how far they lie apart: at least a third of what is expected."""
    return float(log_sd.mean()), max(float(log_sd.std()), expected / 3)


def beside_sharing(
    shifts: Effects, scales: Effects, sharing: Sharing | SharingOfLevels | None, priors
) -> tuple[Effects, np.ndarray, np.ndarray]:
    """Return the shifts beside what features share, and what the data tell of the means of shifts and log scales."""
    if sharing is None:
        return shifts, known_of_means(shifts), known_of_means(scales)
    estimate = sharing.mean_estimate - sharing.mean_estimate.mean()
    spread, low = between(estimate, sharing.information[:, None], priors.gamma_mean_median, priors.gamma_mean_log_sd)
    mean = estimate / (1 + 1 / (sharing.information * spread**2))
    shifts = replace(
        shifts, noise=sharing.own, mean=mean - mean.mean(), sd=sharing.sd, sd_low=sharing.sd * LOW, spread=spread, spread_low=low
    )
    return shifts, sharing.information, known_of_means(scales, sharing.factors.beside_squares)


def scores_at_start(sharing: Sharing | CrossedSharing) -> np.ndarray:
    """Return what the scores are sampled as where chains start, (batch, score) or (score,)."""
    if isinstance(sharing, Sharing):
        start = sharing.score + (sharing.mean - sharing.mean.mean())[:, None] * sharing.of_mean
    else:
        start = sharing.score + sum((one.mean - one.mean.mean()) @ one.of_mean for one in sharing.of_variables)
    return np.where(start == 0, OFF_MODE, start)


def _weights(sd, noise):
    return 1 / (sd[:, None] ** 2 + noise)


def shares_of_level(sd, noise):
    """Return shares (batch, feature) by which levels of features are known."""
    weight = 1 / (sd[:, None] ** 2 + noise)
    return weight / weight.sum(axis=0)


def turned_means(sd, noise, information):
    """Return a basis (batch, batch - 1) of the means, and what the data tell along each."""
    weight = 1 / (sd[:, None] ** 2 + noise)
    total = weight.sum(axis=1)
    weight = weight * np.divide(information, total, out=np.zeros_like(total), where=total > 0)[:, None]
    sums = weight.sum(axis=0)
    precision = np.diag(weight.sum(axis=1)) - (weight / np.where(sums > 0, sums, 1)) @ weight.T
    batches = len(precision)
    sumless = np.linalg.svd(np.eye(batches) - 1 / batches)[0][:, :-1]
    values, turn = np.linalg.eigh(sumless.T @ precision @ sumless)
    return sumless @ turn, np.maximum(values, 0)


def told_squares(factors, sd, noise, freedom):
    weight = _weights(sd, noise / factors.of_squares_weight)
    loadings = factors.of_squares / np.sqrt(2 * freedom)[:, None, None]
    weighted = loadings * weight[..., None]
    values, turn = np.linalg.eigh(weighted.swapaxes(1, 2) @ loadings)
    values = np.maximum(values, 0)
    general = (turn.swapaxes(1, 2) @ weighted.sum(axis=1)[..., None])[..., 0]
    information = weight.sum(axis=1) - (general**2 / (1 + values)).sum(axis=1)
    return turn / np.sqrt(2 * freedom)[:, None, None], general / (1 + values), information


def anchored(value, mean, sd, told, pull):
    left = 1 / (1 + sd**2 * told)
    z = (value - mean - sd**2 * left * (pull - told * mean)) / (sd * np.sqrt(left))
    return np.where(z == 0, OFF_MODE, z)
