"""Moments on the model's scale, and what they say before any sampling. Arrays only.

A feature is centred and divided by its residual standard deviation within batches; design columns are
centred and whitened. Nothing here reaches a user: parameters leave the model in feature units.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import digamma, logsumexp, polygamma, softmax

from bayescombat.empirical import LeastSquares, least_squares
from bayescombat.moments import Moments
from bayescombat.priors import Priors

__all__ = ["Standardised", "Start", "standardise", "starting_point"]


NODES = 15
GRID = 81
TYPICAL_WIDTH = 0.3


@dataclass(frozen=True, eq=False)
class Standardised:
    """Moments on the standardised scale.

    Parameters
    ----------
    location, scale : ndarray, (feature,)
        Centre and unit of every feature, in feature units.
    center : ndarray, (1 or feature, covariate)
        Average covariates.
    whitener : ndarray, (1 or feature, covariate, covariate)
        ``(x - center) @ whitener`` is the whitened design.
    n : ndarray, (batch, 1 or feature)
    mean_x, sxx : ndarray, (batch, 1 or feature, covariate[, covariate])
    mean_y, syy : ndarray, (batch, feature)
    sxy : ndarray, (batch, feature, covariate)
    """

    location: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    whitener: np.ndarray
    n: np.ndarray
    mean_x: np.ndarray
    sxx: np.ndarray
    mean_y: np.ndarray
    sxy: np.ndarray
    syy: np.ndarray


@dataclass(frozen=True, eq=False)
class Start:
    """Stabilised empirical-Bayes values on the standardised scale, where chains start.

    Parameters
    ----------
    alpha, log_sigma : ndarray, (feature,)
    beta : ndarray, (feature, covariate)
    gamma_mean, gamma_sd, log_delta_mean, log_delta_sd : ndarray, (batch,)
        Means sum to zero over the batches.
    gamma_mean_spread, log_delta_mean_spread : tuple of float
        Spreads of those means across the batches, and low guesses of them.
    gamma_sd_low, log_delta_sd_low : ndarray, (batch,)
        Low guesses of the spreads: one posterior standard deviation down.
    cell_mean, log_scale : ndarray, (batch, feature)
        Shrunken means and log standard deviations of the cells.
    mean_noise, scale_noise : ndarray, (batch, feature)
        Sampling variances of the cells' means and log standard deviations.
    """

    alpha: np.ndarray
    log_sigma: np.ndarray
    beta: np.ndarray
    gamma_mean: np.ndarray
    gamma_mean_spread: tuple[float, float]
    gamma_sd: np.ndarray
    gamma_sd_low: np.ndarray
    log_delta_mean: np.ndarray
    log_delta_mean_spread: tuple[float, float]
    log_delta_sd: np.ndarray
    log_delta_sd_low: np.ndarray
    cell_mean: np.ndarray
    log_scale: np.ndarray
    mean_noise: np.ndarray
    scale_noise: np.ndarray


@dataclass(frozen=True, eq=False)
class _Scales:
    value: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    sd_low: np.ndarray


def standardise(moments: Moments) -> Standardised:
    """Return the moments on the model's scale."""
    fit = least_squares(moments)
    weights = moments.n / moments.n.sum(axis=0)
    location = (weights * fit.cell_mean).sum(axis=0)
    freedom = np.maximum(moments.n.sum(axis=0) - len(moments.n) - len(moments.covariates), 1)
    scale = np.sqrt(fit.ssr.sum(axis=0) / freedom)
    root = fit.whitener
    transposed = root.swapaxes(1, 2)
    return Standardised(
        location=location,
        scale=scale,
        center=fit.center,
        whitener=root,
        n=moments.n,
        mean_x=(transposed @ (moments.mean_x - fit.center)[..., None])[..., 0],
        sxx=transposed @ moments.sxx @ root,
        mean_y=(moments.mean_y - location) / scale,
        sxy=(transposed @ moments.sxy[..., None])[..., 0] / scale[:, None],
        syy=moments.syy / scale**2,
    )


def starting_point(moments: Moments, standard: Standardised, priors: Priors) -> Start:
    """Estimate every parameter from the moments, with care for batches of one to three scans."""
    fit = least_squares(moments)
    n = np.broadcast_to(standard.n, fit.ssr.shape)
    scales = _start_scales(fit, standard, n, priors)
    mean = (fit.cell_mean - standard.location) / standard.scale
    noise = np.exp(2 * scales.value) / n
    gamma_mean = mean.mean(axis=1, keepdims=True)

    def shifts(sd: float) -> np.ndarray:
        variance = sd**2 + noise
        return -(np.log(variance) + (mean - gamma_mean) ** 2 / variance) / 2

    gamma_sd, gamma_sd_low = _spread(shifts, priors.gamma_sd_median, priors.gamma_sd_log_sd)
    signal = gamma_sd[:, None] ** 2
    gamma_between = _between(gamma_mean, signal + noise, priors.gamma_mean_median, priors.gamma_mean_log_sd)
    scale_noise = 1 / (2 * n)
    delta_between = _between(
        scales.mean[:, None],
        scales.sd[:, None] ** 2 + scale_noise,
        priors.log_delta_mean_median,
        priors.log_delta_mean_log_sd,
    )
    level = gamma_mean.mean()
    unwhitened = np.linalg.inv(standard.whitener)
    return Start(
        alpha=np.average(mean - gamma_mean, axis=0, weights=1 / (noise + signal)) + level,
        log_sigma=np.average(scales.value - scales.mean[:, None], axis=0, weights=n),
        beta=(unwhitened @ fit.beta[..., None])[..., 0] / standard.scale[:, None],
        gamma_mean=gamma_mean[:, 0] - level,
        gamma_mean_spread=gamma_between,
        gamma_sd=gamma_sd,
        gamma_sd_low=gamma_sd_low,
        log_delta_mean=scales.mean,
        log_delta_mean_spread=delta_between,
        log_delta_sd=scales.sd,
        log_delta_sd_low=scales.sd_low,
        cell_mean=(mean * signal + gamma_mean * noise) / (signal + noise),
        log_scale=scales.value,
        mean_noise=noise,
        scale_noise=scale_noise,
    )


def _start_scales(fit: LeastSquares, standard: Standardised, n: np.ndarray, priors: Priors) -> _Scales:
    total, used = n.sum(axis=0), len(n) + fit.beta.shape[1]
    # Each batch pays its share of the slopes' degrees of freedom.
    freedom = (n - 1) * (total - used) / (total - len(n))
    usable = freedom > 0
    half = np.where(usable, freedom, 1) / 2
    squares = np.where(usable, fit.ssr / standard.scale**2, 0)
    estimate = np.where(usable, (np.log(np.where(usable, squares, 1) / 2) - digamma(half)) / 2, 0.0)
    noise = np.where(usable, polygamma(1, half) / 4, np.inf)
    middle = estimate.mean(axis=1, keepdims=True)
    nodes, weights = np.polynomial.hermite_e.hermegauss(NODES)

    def scales(sd: float) -> np.ndarray:
        log_scale = middle[..., None] + sd * nodes
        density = -freedom[..., None] * log_scale - squares[..., None] * np.exp(-2 * log_scale) / 2
        return np.asarray(logsumexp(density, b=weights, axis=-1))

    sd, low = _spread(scales, priors.log_delta_sd_median, priors.log_delta_sd_log_sd)
    share = sd[:, None] ** 2 / (sd[:, None] ** 2 + noise)
    value = share * estimate + (1 - share) * middle
    return _Scales(value, (middle - middle.mean())[:, 0], sd, low)


def _between(mean: np.ndarray, variance: np.ndarray, median: float, log_sd: float) -> tuple[float, float]:
    """Return the spread of the batches' means (batch, 1), and a low guess of it."""
    noise = variance.mean(axis=1) / variance.shape[1]
    centred = (mean - mean.mean())[:, 0]

    def means(sd: float) -> np.ndarray:
        total = sd**2 + noise
        return -(np.log(total) + centred**2 / total)[None] / 2

    spread, low = _spread(means, median, log_sd)
    return float(spread[0]), float(low[0])


def _spread(
    log_likelihood: Callable[[float], np.ndarray], median: float, log_sd: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return each batch's spread over the features, and a low guess of it, by its posterior on a grid, (batch,).

    `log_likelihood` gives (batch, feature) at one spread. The first pass has the prior of one batch alone; the
    second that of a batch like the others.
    """
    log_grid = np.log(median) + np.linspace(-4, 4, GRID)
    evidence = np.array([log_likelihood(float(sd)).sum(axis=1) for sd in np.exp(log_grid)])
    center, width = np.log(median), log_sd
    for _ in range(2):
        log_posterior = evidence - ((log_grid[:, None] - center) / width) ** 2 / 2
        posterior = softmax(log_posterior, axis=0)
        mean = log_grid @ posterior
        sd = np.sqrt(((log_grid[:, None] - mean) ** 2 * posterior).sum(axis=0))
        center, width = np.median(mean), max(mean.std(), TYPICAL_WIDTH)
    return np.exp(mean), np.exp(mean - sd)
