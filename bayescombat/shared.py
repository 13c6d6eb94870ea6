"""Empirical Bayes where features share factors. Arrays only.

Log scales first, then shifts given these; each feature by all that the batch's other features say of it, and by the
patterns over the features that the effects of other batches have (`mixed.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.special import digamma, polygamma

from bayescombat.empirical import Estimates, unshrunken
from bayescombat.factors import Loadings
from bayescombat.mixed import MOST_PASSES, Batches, Mixed, Patterns, learned_patterns, mixed
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares
from bayescombat.shrinkage import MOST_ITERATIONS, Hats

__all__ = ["Sharing", "shared_empirical_bayes", "shared_new_batch", "sharing_of"]

TYPICAL_SHIFTS = 0.1
TYPICAL_LOG_SCALES = 0.02


@dataclass(frozen=True, eq=False)
class Sharing:
    """What features share, and scores for it that data tell apart.

    A score is standard normal beforehand; given the spreads that empirical Bayes finds, the scores of a batch are
    independent given its data too.

    Parameters
    ----------
    factors : Loadings
        Of the noise of a scan.
    patterns : Patterns
        Of the shifts of a batch.
    of_shifts : ndarray, (batch, axis, score)
        How the shifts of a batch along the axes of the patterns follow its scores, in units of their spread.
    of_noise : ndarray, (batch, factor, score)
        How the mean noise of its scans along the factors does.
    score : ndarray, (batch, score)
        Expected scores.
    of_mean : ndarray, (batch, score)
        How much lower a score is expected for a higher mean of the batch's shifts.
    known : ndarray, (batch, score)
        Share of the data in what is known of a score, as far as it is one of shifts.
    information : ndarray, (batch,)
        What the data tell of the mean of the batch's shifts.
    mean, sd : ndarray, (batch,)
        Of the shifts, beside the patterns.
    own : ndarray, (batch, feature)
        Variance of the unshrunken shifts beside what features share.
    """

    factors: Loadings
    patterns: Patterns
    of_shifts: np.ndarray
    of_noise: np.ndarray
    score: np.ndarray
    of_mean: np.ndarray
    known: np.ndarray
    information: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    own: np.ndarray


def shared_empirical_bayes(
    moments: Moments, fit: LeastSquares, factors: Loadings, mean_only: bool = False
) -> tuple[Estimates, Patterns]:
    """Return the empirical-Bayes estimates of features that share factors, and the patterns of batches' shifts.

    Parameters
    ----------
    moments : Moments
        Of features that vary within every batch, of one batch variable.
    fit : LeastSquares
        The fixed effects.
    factors : Loadings
        What the features share.
    mean_only : bool
        Shift only: delta is one.
    """
    found = _found(moments, fit, factors, mean_only)
    alpha, sigma, delta = found.alpha, found.sigma, np.exp(found.scales.effect)
    shifts, scales, gamma = found.shifts, found.scales, found.shifts.effect
    if moments.reference is not None:
        at = moments.batches.index(moments.reference)
        alpha, gamma = alpha + sigma * gamma[at], gamma - gamma[at]
        sigma, gamma, delta = sigma * delta[at], gamma / delta[at], delta / delta[at]
    hyper = {
        "gamma_mean": shifts.mean,
        "gamma_sd": shifts.sd,
        "log_delta_mean": scales.mean,
        "log_delta_sd": scales.sd,
        "gamma_mean_spread": shifts.spread,
        "log_delta_mean_spread": scales.spread,
    }
    passes = max(shifts.passes, scales.passes)
    iterations = np.full(len(gamma), MOST_ITERATIONS if passes == MOST_PASSES else passes)
    estimates = Estimates(alpha, fit.beta, sigma, sigma * gamma, delta, hyper, iterations, smooth_sd=fit.smooth_sd)
    return estimates, found.patterns


def sharing_of(moments: Moments, fit: LeastSquares, factors: Loadings) -> Sharing:
    """Return what features share, as empirical Bayes finds it; arguments as in `shared_empirical_bayes`."""
    found = _found(moments, fit, factors, mean_only=False)
    patterns, sd = found.patterns, found.shifts.sd
    own, noise = found.errors
    loadings = np.concatenate([sd[:, None, None] * patterns.of_features, noise], axis=2)
    weighted = loadings / (sd[:, None] ** 2 + own)[..., None]
    values, turn = np.linalg.eigh(weighted.swapaxes(1, 2) @ loadings)
    values, axes = np.maximum(values, 0), patterns.each.shape[2]
    of_mean = (turn.swapaxes(1, 2) @ weighted.sum(axis=1)[..., None])[..., 0]
    # Scores of patterns come in units of their spread, those of noise as they are.
    score = found.shifts.scores[:, 1:].copy()
    score[:, :axes] /= sd[:, None]
    return Sharing(
        factors=factors,
        patterns=patterns,
        of_shifts=patterns.each @ turn[:, :axes],
        of_noise=turn[:, axes:] / np.sqrt(np.maximum(moments.scans, 1))[:, None, None],
        score=(turn.swapaxes(1, 2) @ score[..., None])[..., 0],
        of_mean=of_mean / (1 + values),
        known=values / (1 + values) * (turn[:, :axes] ** 2).sum(axis=1),
        information=(1 / (sd[:, None] ** 2 + own)).sum(axis=1) - (of_mean**2 / (1 + values)).sum(axis=1),
        mean=found.shifts.mean,
        sd=sd,
        own=own,
    )


class _Found(NamedTuple):
    """Alpha and sigma (feature,) without a reference; log scales and shifts of batches; errors of unshrunken shifts."""

    alpha: np.ndarray
    sigma: np.ndarray
    scales: "_Scales"
    shifts: Mixed
    patterns: Patterns
    errors: tuple[np.ndarray, np.ndarray]


def _found(moments: Moments, fit: LeastSquares, factors: Loadings, mean_only: bool) -> _Found:
    # A reference batch is shrunken as the others are, and then measured from.
    alpha, sigma, hats = unshrunken(replace(moments, reference=None), fit)
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    scales = _no_scales(n) if mean_only else _log_scales(hats.delta2, n, factors)
    errors = _errors(n, moments.scans, np.exp(scales.effect), factors)
    guess = mixed(hats.gamma, *errors, factors.loadings, TYPICAL_SHIFTS)
    patterns = learned_patterns(guess, factors.loadings)
    shifts = mixed(hats.gamma, *errors, patterns.of_features, TYPICAL_SHIFTS, known=True)
    return _Found(alpha, sigma, scales, shifts, patterns, errors)


def shared_new_batch(
    hats: Hats,
    scans: int,
    factors: Loadings,
    patterns: np.ndarray,
    known: Mapping[str, np.ndarray],
    mean_only: bool,
) -> dict[str, np.ndarray]:
    """Return the empirical-Bayes estimates of a batch that was not fitted, in units of sigma.

    Parameters
    ----------
    hats : Hats
        Unshrunken estimates of the one batch, (1, feature).
    scans : int
        Of the batch.
    factors : Loadings
        What the features share.
    patterns : ndarray, (feature, pattern)
        What the fitted batches say of the shifts of one more.
    known : mapping
        What the fit says of its batches, in units of sigma: ``gamma_sd`` and ``log_delta_sd`` (batch,),
        ``gamma_mean_spread`` and ``log_delta_mean_spread`` (1,).
    mean_only : bool
        Shift only: delta is one.
    """
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    of_scales = Batches.of(known["log_delta_mean_spread"], known["log_delta_sd"])
    scales = _no_scales(n) if mean_only else _log_scales(hats.delta2, n, factors, of_scales)
    delta = np.exp(scales.effect)
    errors = _errors(n, np.array([scans]), delta, factors)
    of_shifts = Batches.of(known["gamma_mean_spread"], known["gamma_sd"])
    shifts = mixed(hats.gamma, *errors, patterns, TYPICAL_SHIFTS, of_shifts, known=True)
    return {
        "gamma": shifts.effect[0],
        "delta": delta[0],
        "gamma_mean": shifts.mean[0],
        "gamma_sd": shifts.sd[0],
        "log_delta_mean": scales.mean[0],
        "log_delta_sd": scales.sd[0],
    }


class _Scales(NamedTuple):
    """Log scales: expected effects (batch, feature), their means and spreads (batch,), and spread of means (1,)."""

    effect: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    spread: np.ndarray
    passes: int


def _no_scales(n: np.ndarray) -> _Scales:
    zero = np.zeros(len(n))
    return _Scales(np.zeros(n.shape), zero, zero, np.zeros(1), 0)


def _log_scales(delta2: np.ndarray, n: np.ndarray, factors: Loadings, batches: Batches | None = None) -> _Scales:
    told = (n >= 2) & np.isfinite(delta2)
    half = np.where(told, n - 1, 1) / 2
    estimate = np.where(told, np.log(np.where(told, delta2, 1) * half) - digamma(half), 0.0) / 2
    variance = polygamma(1, half) / 4
    axes = factors.of_squares
    own = np.where(told, variance * (1 - (axes**2).sum(axis=1)), np.inf)
    noise = np.where(told, np.sqrt(variance), 0.0)[..., None] * axes
    found = mixed(estimate, own, noise, np.zeros((len(axes), 0)), TYPICAL_LOG_SCALES, batches)
    return _Scales(found.effect, found.mean, found.sd, found.spread, found.passes)


def _errors(n: np.ndarray, scans: np.ndarray, delta: np.ndarray, factors: Loadings) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of unshrunken shifts: variances beside the factors, and loadings, in units of sigma."""
    noise = (delta / np.sqrt(np.maximum(scans, 1))[:, None])[..., None] * factors.loadings
    return delta**2 * factors.of_own(n, scans), noise
