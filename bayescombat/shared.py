"""Empirical Bayes where features share factors. Arrays only.

Log scales first, then shifts given these; each feature by all that the batch's other features say of it, and by the
patterns over the features that the effects of other batches have (`mixed.py`, `patterns.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, Self

import numpy as np
from scipy.special import digamma, polygamma

from bayescombat.empirical import Estimates, unshrunken
from bayescombat.factors import Loadings
from bayescombat.mixed import MOST_PASSES, Batches, Levels, Mixed, in_turn, mixed
from bayescombat.moments import Moments
from bayescombat.patterns import Patterns, learned_patterns
from bayescombat.pooling import Pooled, beside_others, by_level, in_cells
from bayescombat.regression import LeastSquares
from bayescombat.shrinkage import LEAST_FREEDOM, MOST_ITERATIONS, Hats

__all__ = ["Found", "found_of", "shared_empirical_bayes", "shared_new_batch"]

TYPICAL_SHIFTS = 0.1
TYPICAL_LOG_SCALES = 0.02


def shared_empirical_bayes(
    moments: Moments, fit: LeastSquares, factors: Loadings, mean_only: bool = False
) -> tuple[Estimates, list[Patterns]]:
    """Return the empirical-Bayes estimates of features that share factors, and the patterns of batches' shifts.

    Parameters
    ----------
    moments : Moments
        Of features that vary within every batch.
    fit : LeastSquares
        The fixed effects.
    factors : Loadings
        What the features share.
    mean_only : bool
        Shift only: delta is one.

    Returns
    -------
    estimates : Estimates
    patterns : list of Patterns
        Of every batch variable.

    Notes
    -----
    With several batch variables the noise of factors belongs to cells, effects to levels. Each variable's levels are
    estimated given the effects of the others, in turn until nothing moves: shifts from the generalised means of their
    cells (`pooling.py`), and so exactly the posterior means given scales and spreads; log scales from the squares of
    their cells, as if a level's were those of one cell. A variable's spreads, scales and patterns are found as if the
    effects of the others were known.
    """
    found = found_of(moments, fit, factors, mean_only)
    alpha, sigma, shifts, scales = found.alpha, found.sigma, found.shifts, found.scales
    gamma, gamma_mean = _from_one_origin(moments, fit, shifts)
    log_delta, log_delta_mean = _from_one_origin(moments, fit, scales)
    delta = np.exp(log_delta)
    at = moments.reference_levels
    if at is not None:
        owner = moments.levels.owner
        unit = delta[at].prod(axis=0)
        alpha, gamma = alpha + sigma * gamma[at].sum(axis=0), gamma - gamma[at[owner]]
        sigma, gamma, delta = sigma * unit, gamma / unit, delta / delta[at[owner]]
    hyper = {
        "gamma_mean": gamma_mean,
        "gamma_sd": np.concatenate([one.sd for one in shifts]),
        "log_delta_mean": log_delta_mean,
        "log_delta_sd": np.concatenate([one.sd for one in scales]),
        "gamma_mean_spread": np.concatenate([one.spread for one in shifts]),
        "log_delta_mean_spread": np.concatenate([one.spread for one in scales]),
    }
    passes = max(max(one.passes for one in shifts), max(one.passes for one in scales))
    iterations = np.full(len(gamma), MOST_ITERATIONS if passes == MOST_PASSES else passes)
    estimates = Estimates(alpha, fit.beta, sigma, sigma * gamma, delta, hyper, iterations, smooth_sd=fit.smooth_sd)
    return estimates, found.patterns


class Found(NamedTuple):
    """Alpha and sigma (feature,) without a reference, and what is found of the levels of every batch variable.

    `residual` (cell, feature) is what alpha leaves of the means of cells, in units of sigma, and `errors` are its
    variances beside the factors and its loadings, (cell, feature[, score]); `pooled` are those of the levels' means.
    """

    alpha: np.ndarray
    sigma: np.ndarray
    scales: "list[_Scales]"
    shifts: list[Mixed]
    patterns: list[Patterns]
    residual: np.ndarray
    errors: tuple[np.ndarray, np.ndarray]
    pooled: list[tuple[np.ndarray, np.ndarray]]


def found_of(moments: Moments, fit: LeastSquares, factors: Loadings, mean_only: bool = False) -> Found:
    """Return what empirical Bayes finds; arguments as in `shared_empirical_bayes`."""
    # A reference batch is shrunken as the others are, and then measured from.
    alpha, sigma, hats = unshrunken(replace(moments, reference=None), fit)
    scales = _scales_in_turn(moments, fit, sigma, hats, factors, mean_only)
    delta = np.exp(in_cells(moments.positions, [one.effect for one in scales]))
    n = np.broadcast_to(moments.n, delta.shape)
    errors = _errors(factors.of_own(n, moments.scans), moments.scans, delta, factors)
    residual, positions, of_levels = hats.gamma, moments.positions, [errors]
    if fit.additive.crossed:
        away = moments.mean_y - ((moments.mean_x - fit.center) * fit.beta).sum(axis=-1) - alpha
        residual = np.where(moments.n > 0, away / sigma, 0.0)
        pooled = [Pooled.of(column - column.min(), *errors) for column in positions.T]
        of_levels = [(one.variance, one.noise) for one in pooled]

    def estimate(k: int, shifts: Sequence[np.ndarray]) -> np.ndarray:
        if len(shifts) == 1:
            return residual
        return pooled[k].means(residual - beside_others(positions, shifts, k))

    def mixed_by(sites: Sequence[np.ndarray], known: bool) -> list[Mixed]:
        start = np.split(hats.gamma, _boundaries(moments))
        levels = [
            Levels.of(part, *one, site, TYPICAL_SHIFTS, known=known)
            for part, one, site in zip(start, of_levels, sites, strict=True)
        ]
        return in_turn(levels, start, estimate)

    guesses = mixed_by([factors.loadings] * len(of_levels), known=False)
    patterns = [learned_patterns(guess, factors.loadings) for guess in guesses]
    shifts = mixed_by([one.of_features for one in patterns], known=True)
    return Found(alpha, sigma, scales, shifts, patterns, residual, errors, of_levels)


def _from_one_origin(
    moments: Moments, fit: LeastSquares, found: "Sequence[Mixed | _Scales]"
) -> tuple[np.ndarray, np.ndarray]:
    """Return effects (batch, feature) and their means (batch,), all variables' measured from one origin.

    What the levels of one variable have in common could be that of another's: priors alone tell these apart.
    """
    cuts = _boundaries(moments)
    size = np.split(np.broadcast_to(fit.additive.size, (sum(moments.levels.sizes), len(fit.beta))), cuts)
    common = [(part / part.sum(axis=0) * one.effect).sum(axis=0) for part, one in zip(size, found, strict=True)]
    moved = [np.mean(common, axis=0) - own for own in common]
    effect = [one.effect + by for one, by in zip(found, moved, strict=True)]
    mean = [one.mean + by.mean() for one, by in zip(found, moved, strict=True)]
    return np.concatenate(effect), np.concatenate(mean)


def _boundaries(moments: Moments) -> np.ndarray:
    """Return where the levels of every variable but the first begin among all."""
    return np.cumsum(moments.levels.sizes)[:-1]


def shared_new_batch(
    hats: Hats,
    own: np.ndarray,
    scans: np.ndarray,
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
    own : ndarray, (1, feature)
        Variance of the mean residual beside the factors, in units of the squared scale of the batch.
    scans : ndarray, (1,)
        Of the batch, or how many would have as much noise of the factors in their mean.
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
    scales = _no_scales(n) if mean_only else _log_scales(hats.delta2, n - 1, factors, of_scales)
    delta = np.exp(scales.effect)
    errors = _errors(own, scans, delta, factors)
    of_shifts = Batches.of(known["gamma_mean_spread"], known["gamma_sd"])
    shifts = mixed(Levels.of(hats.gamma, *errors, patterns, TYPICAL_SHIFTS, of_shifts, known=True))
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

    @classmethod
    def of(cls, found: Mixed) -> Self:
        return cls(found.effect, found.mean, found.sd, found.spread, found.passes)


def _no_scales(n: np.ndarray) -> _Scales:
    zero = np.zeros(len(n))
    return _Scales(np.zeros(n.shape), zero, zero, np.zeros(1), 0)


def _scales_in_turn(
    moments: Moments, fit: LeastSquares, sigma: np.ndarray, hats: Hats, factors: Loadings, mean_only: bool
) -> list[_Scales]:
    """Return the log scales of every batch variable, each given the others'."""
    positions, cuts = moments.positions, _boundaries(moments)
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    if mean_only:
        return [_no_scales(part) for part in np.split(n, cuts)]
    if not fit.additive.crossed:
        return [_log_scales(hats.delta2, n - 1, factors)]
    freedom = np.split(np.broadcast_to(fit.additive.indicator.T @ fit.freedom, n.shape), cuts)
    delta2, squares = np.split(hats.delta2, cuts), fit.ssr / sigma**2
    owners = [column - column.min() for column in positions.T]
    levels = [_levels_of_scales(part, left, factors) for part, left in zip(delta2, freedom, strict=True)]

    def estimate(k: int, effects: Sequence[np.ndarray]) -> np.ndarray:
        left = by_level(owners[k], squares * np.exp(-2 * beside_others(positions, effects, k)))
        return _log_of(left / np.maximum(freedom[k], LEAST_FREEDOM), freedom[k])

    start = [_log_of(part, left) for part, left in zip(delta2, freedom, strict=True)]
    return [_Scales.of(one) for one in in_turn(levels, start, estimate)]


def _log_scales(delta2: np.ndarray, freedom: np.ndarray, factors: Loadings, batches: Batches | None = None) -> _Scales:
    return _Scales.of(mixed(_levels_of_scales(delta2, freedom, factors, batches)))


def _log_of(delta2: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return unbiased estimates of log scales, zero where nothing tells of them."""
    told = (freedom >= LEAST_FREEDOM) & np.isfinite(delta2)
    half = np.where(told, freedom, 1) / 2
    return np.where(told, np.log(np.where(told, delta2, 1) * half) - digamma(half), 0.0) / 2


def _levels_of_scales(
    delta2: np.ndarray, freedom: np.ndarray, factors: Loadings, batches: Batches | None = None
) -> Levels:
    told = (freedom >= LEAST_FREEDOM) & np.isfinite(delta2)
    variance = polygamma(1, np.where(told, freedom, 1) / 2) / 4
    axes = factors.of_squares
    own = np.where(told, variance * (1 - (axes**2).sum(axis=1)), np.inf)
    noise = np.where(told, np.sqrt(variance), 0.0)[..., None] * axes
    site = np.zeros((len(axes), 0))
    return Levels.of(_log_of(delta2, freedom), own, noise, site, TYPICAL_LOG_SCALES, batches)


def _errors(own: np.ndarray, scans: np.ndarray, delta: np.ndarray, factors: Loadings) -> tuple[np.ndarray, np.ndarray]:
    """Return the errors of unshrunken shifts: variances beside the factors, and loadings, in units of sigma."""
    noise = (delta / np.sqrt(np.maximum(scans, 1))[:, None])[..., None] * factors.loadings
    return delta**2 * own, noise
