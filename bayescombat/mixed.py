"""Empirical Bayes where features share factors: generalised least squares per batch. Arrays only.

Estimates of a batch's effects on its features, shifts or log scales, are taken for

    estimate_v = mean + site_v' g + effect_v + noise_v' f + error_v

with scores g and f, and ``mean``, ``g`` and ``effect`` normal across batches and features, f standard normal.  Given
the spreads everything is linear and normal; the spreads are found by expectation-maximisation (Dempster, Laird and
Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np
from scipy.special import digamma, polygamma

from bayescombat.empirical import MOST_ITERATIONS, Estimates, Hats, unshrunken
from bayescombat.factors import Loadings
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares

__all__ = ["Mixed", "mixed", "shared_empirical_bayes", "shared_new_batch"]

MOST_PASSES = 2000
TOLERANCE = 1e-4
# Batches' spreads are taken for as alike as if each had this many features more of the common spread.
ALIKE = 10.0
LEAST_SPREAD = 1e-3
TYPICAL_SHIFTS = 0.1
TYPICAL_LOG_SCALES = 0.02


@dataclass(frozen=True, eq=False)
class Mixed:
    """What estimates say of the effects.

    Parameters
    ----------
    effect : ndarray, (batch, feature)
        Expected effects.
    mean : ndarray, (batch,)
        Expected mean over the features, beside the factors.
    sd : ndarray, (batch,)
        Spread of the effects over the features, beside the factors.
    spread : ndarray, (1 + factor,)
        Spread of the batches: of their means, and along the factors.
    passes : int
        Of the expectation-maximisation.
    """

    effect: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    spread: np.ndarray
    passes: int


def shared_empirical_bayes(
    moments: Moments, fit: LeastSquares, factors: Loadings, mean_only: bool = False
) -> Estimates:
    """Return the empirical-Bayes estimates of features that share factors.

    Log scales first, then the shifts given these; each feature by all that the batch's other features say of it.

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
    # A reference batch is shrunken as the others are, and then measured from.
    alpha, sigma, hats = unshrunken(replace(moments, reference=None), fit)
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    scales = _no_scales(n) if mean_only else _log_scales(hats.delta2, n, factors)
    delta = np.exp(scales.effect)
    shifts = _shifts(hats.gamma, n, moments.scans, scales, factors)
    gamma = shifts.effect
    if moments.reference is not None:
        at = moments.batches.index(moments.reference)
        alpha, gamma = alpha + sigma * gamma[at], gamma - gamma[at]
        sigma, gamma, delta = sigma * delta[at], gamma / delta[at], delta / delta[at]
    hyper = {
        "gamma_mean": shifts.mean,
        "gamma_sd": shifts.sd,
        "log_delta_mean": scales.mean,
        "log_delta_sd": scales.sd,
        "gamma_mean_spread": shifts.spread[:1],
        "log_delta_mean_spread": scales.spread[:1],
        "factor_sd": shifts.spread[1:],
    }
    passes = max(shifts.passes, scales.passes)
    iterations = np.full(len(gamma), MOST_ITERATIONS if passes == MOST_PASSES else passes)
    return Estimates(alpha, fit.beta, sigma, sigma * gamma, delta, hyper, iterations, smooth_sd=fit.smooth_sd)


def _no_scales(n: np.ndarray) -> Mixed:
    zero = np.zeros(len(n))
    return Mixed(np.zeros(n.shape), zero, zero, np.zeros(1), 0)


def shared_new_batch(
    hats: Hats, scans: int, factors: Loadings, known: Mapping[str, np.ndarray], mean_only: bool
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
    known : mapping
        What the fit says of its batches, in units of sigma: ``gamma_sd`` and ``log_delta_sd`` (batch,),
        ``gamma_mean_spread`` and ``log_delta_mean_spread`` (1,), ``factor_sd`` (factor,).
    mean_only : bool
        Shift only: delta is one.
    """
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    of_scales = _Batches.of(known["log_delta_mean_spread"], known["log_delta_sd"])
    scales = _no_scales(n) if mean_only else _log_scales(hats.delta2, n, factors, of_scales)
    spreads = np.concatenate([known["gamma_mean_spread"], known["factor_sd"]])
    shifts = _shifts(hats.gamma, n, np.array([scans]), scales, factors, _Batches.of(spreads, known["gamma_sd"]))
    return {
        "gamma": shifts.effect[0],
        "delta": np.exp(scales.effect[0]),
        "gamma_mean": shifts.mean[0],
        "gamma_sd": shifts.sd[0],
        "log_delta_mean": scales.mean[0],
        "log_delta_sd": scales.sd[0],
    }


class _Batches(NamedTuple):
    """What fitted batches say of one more: variances of scores (1 + factor,), and that beside them in a typical one."""

    spread: np.ndarray
    sd2: float

    @classmethod
    def of(cls, spread: np.ndarray, sd: np.ndarray) -> Self:
        return cls(
            np.maximum(spread, LEAST_SPREAD) ** 2, float(np.exp(2 * np.log(np.maximum(sd, LEAST_SPREAD)).mean()))
        )


def _shifts(
    gamma: np.ndarray,
    n: np.ndarray,
    scans: np.ndarray,
    scales: Mixed,
    factors: Loadings,
    batches: _Batches | None = None,
) -> Mixed:
    delta = np.exp(scales.effect)
    own = delta**2 * factors.of_own(n, scans)
    noise = (delta / np.sqrt(np.maximum(scans, 1))[:, None])[..., None] * factors.loadings
    return mixed(gamma, own, factors.loadings, noise, TYPICAL_SHIFTS, batches)


def _log_scales(delta2: np.ndarray, n: np.ndarray, factors: Loadings, batches: _Batches | None = None) -> Mixed:
    told = (n >= 2) & np.isfinite(delta2)
    half = np.where(told, n - 1, 1) / 2
    estimate = np.where(told, np.log(np.where(told, delta2, 1) * half) - digamma(half), 0.0) / 2
    variance = polygamma(1, half) / 4
    axes = factors.of_squares
    own = np.where(told, variance * (1 - (axes**2).sum(axis=1)), np.inf)
    noise = np.where(told, np.sqrt(variance), 0.0)[..., None] * axes
    return mixed(estimate, own, np.zeros((len(axes), 0)), noise, TYPICAL_LOG_SCALES, batches)


def mixed(
    estimate: np.ndarray,
    variance: np.ndarray,
    site: np.ndarray,
    noise: np.ndarray,
    typical: float,
    batches: _Batches | None = None,
) -> Mixed:
    """Estimate effects of batches on features.

    Parameters
    ----------
    estimate : ndarray, (batch, feature)
        Unshrunken estimates; nothing is read where their variance is infinite.
    variance : ndarray, (batch, feature)
        Of their errors beside what the noise factors explain.
    site : ndarray, (feature, factor)
        Loadings of the effects.
    noise : ndarray, (batch, feature, score)
        Loadings of the errors.
    typical : float
        Expected beforehand of every variance across features or batches, with the weight of one of them.
    batches : optional
        What other batches say; by default these say it of each other.
    """
    data = _Data.of(estimate, variance, site, noise)
    seen = data.known.sum(axis=1)
    told = seen > 0
    spread, sd2 = np.full(data.count, typical), np.full(len(estimate), typical)
    if batches is not None:
        spread = batches.spread
    passes, moved = 0, np.inf
    while moved > TOLERANCE and passes < MOST_PASSES:
        passes += 1
        found = _expected(data, spread, sd2)
        # One more feature, and one more batch, as expected beforehand keep spreads off zero.
        new_sd2 = (found.squares.sum(axis=1, where=data.known) + typical) / (seen + 1)
        information = (found.share**2).sum(axis=1)
        if batches is None:
            new_sd2 = _drawn_together(new_sd2, information, (information * np.log(new_sd2)).sum() / information.sum())
            new_spread = (found.scores2[told, : data.count].sum(axis=0) + typical) / (told.sum() + 1)
        else:
            new_sd2, new_spread = _drawn_together(new_sd2, information, np.log(batches.sd2)), spread
        moved = max(np.abs(np.log(new_sd2 / sd2)).max(), np.abs(np.log(new_spread / spread)).max())
        spread, sd2 = new_spread, new_sd2
    found = _expected(data, spread, sd2)
    return Mixed(found.effect, found.scores[:, 0], np.sqrt(sd2), np.sqrt(spread), passes)


@dataclass(frozen=True, eq=False)
class _Data:
    """Estimates (batch, feature), zero where not known, their variances, and all loadings (batch, feature, score).

    The first `count` scores are those of the effects.
    """

    estimate: np.ndarray
    variance: np.ndarray
    known: np.ndarray
    design: np.ndarray
    count: int

    @classmethod
    def of(cls, estimate: np.ndarray, variance: np.ndarray, site: np.ndarray, noise: np.ndarray) -> Self:
        known = np.isfinite(variance)
        shared = np.concatenate([np.ones((len(site), 1)), site], axis=1)
        design = np.concatenate([np.broadcast_to(shared, (len(estimate), *shared.shape)), noise], axis=2)
        return cls(np.where(known, estimate, 0.0), variance, known, design, shared.shape[1])


class _Expected(NamedTuple):
    """Given the spreads: scores (batch, score) and their squares; effects and squares of what is beside the scores.

    `share` is how far the data, rather than the spread, say what is beside the scores.
    """

    scores: np.ndarray
    scores2: np.ndarray
    effect: np.ndarray
    squares: np.ndarray
    share: np.ndarray


def _drawn_together(sd2: np.ndarray, information: np.ndarray, middle: float) -> np.ndarray:
    """Return the batches' variances (batch,), those that little is known of drawn to the middle of their logarithms."""
    return np.asarray(np.exp((information * np.log(sd2) + ALIKE * middle) / (information + ALIKE)))


def _expected(data: _Data, spread: np.ndarray, sd2: np.ndarray) -> _Expected:
    weight = 1 / (sd2[:, None] + data.variance)
    weighted = data.design * weight[..., None]
    precision = weighted.swapaxes(1, 2) @ data.design
    diagonal = np.arange(data.design.shape[2])
    precision[:, diagonal, diagonal] += np.concatenate([1 / spread, np.ones(len(diagonal) - len(spread))])
    covariance = np.linalg.inv(precision)
    scores = (covariance @ (weighted.swapaxes(1, 2) @ data.estimate[..., None]))[..., 0]
    rest = data.estimate - (data.design @ scores[..., None])[..., 0]
    unsure = ((data.design @ covariance) * data.design).sum(axis=2)
    share = sd2[:, None] * weight
    squares = share**2 * (rest**2 + unsure) + sd2[:, None] * (1 - share)
    along = (data.design[:, :, : data.count] @ scores[:, : data.count, None])[..., 0]
    second = scores**2 + covariance[:, diagonal, diagonal]
    return _Expected(scores, second, along + share * rest, squares, share)
