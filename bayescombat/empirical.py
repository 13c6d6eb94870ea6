"""Empirical Bayes: from moments to estimates, in closed form or by a fixed point per batch. Arrays only.

The published algorithm is that of Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037, as the
R package sva runs it.  Residuals sum to zero within each batch, so the sizes, means and sums of squares of the
batches are all that it needs of the data.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import digamma, logsumexp, polygamma

from bayescombat.moments import Moments

__all__ = ["Estimates", "LeastSquares", "Shrinkage", "empirical_bayes", "least_squares"]

Shrinkage = Literal["parametric", "nonparametric", "none"]
TOLERANCE = 1e-12
SVA_TOLERANCE = 1e-4
MOST_ITERATIONS = 10_000


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The fixed-effects fit: one mean per batch and feature, common slopes.

    Parameters
    ----------
    center : ndarray, (1 or feature, covariate)
        Average covariates over all scans.
    beta : ndarray, (feature, covariate)
        Slopes, in feature units per unit of the design column.
    cell_mean : ndarray, (batch, feature)
        Means of the batches at the average covariates, in feature units.
    ssr : ndarray, (batch, feature)
        Residual sums of squares.
    whitener : ndarray, (1 or feature, covariate, covariate)
        ``(x - center) @ whitener`` has unit covariance within batches.
    """

    center: np.ndarray
    beta: np.ndarray
    cell_mean: np.ndarray
    ssr: np.ndarray
    whitener: np.ndarray


@dataclass(frozen=True, eq=False)
class Estimates:
    """Empirical-Bayes estimates, in feature units except for the hyper-parameters (units of sigma).

    Parameters
    ----------
    alpha, sigma : ndarray, (feature,)
    beta : ndarray, (feature, covariate)
    gamma, delta : ndarray, (batch, feature)
    hyper : dict of ndarray, (batch,)
        ``gamma_mean, gamma_sd, log_delta_mean, log_delta_sd`` of the parametric priors, else empty.
    iterations : ndarray, (batch,)
        Passes of the fixed point; zero where the estimate has a closed form.
    """

    alpha: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    hyper: dict[str, np.ndarray]
    iterations: np.ndarray


def least_squares(moments: Moments) -> LeastSquares:
    """Fit one mean per batch and feature, and common slopes, by ordinary least squares."""
    n, center = moments.n, moments.center
    pooled = moments.sxx.sum(axis=0)
    scale = np.sqrt(np.einsum("fpp->fp", pooled))
    correlation = pooled / (scale[:, :, None] * scale[:, None, :])
    root = np.linalg.inv(np.linalg.cholesky(correlation)).swapaxes(1, 2) / scale[:, :, None]
    beta = (root @ (root.swapaxes(1, 2) @ moments.sxy.sum(axis=0)[..., None]))[..., 0]
    offset = moments.mean_x - center
    cell_mean = moments.mean_y - (offset * beta).sum(axis=-1)
    explained = (moments.sxx @ beta[..., None])[..., 0]
    ssr = moments.syy - (beta * (2 * moments.sxy - explained)).sum(axis=-1)
    freedom = np.maximum(n.sum(axis=0) - len(n) - len(moments.covariates), 1)
    whitener = root * np.sqrt(freedom)[:, None, None]
    return LeastSquares(center, beta, cell_mean, np.maximum(ssr, 0), whitener)


def empirical_bayes(
    moments: Moments, shrinkage: Shrinkage = "parametric", mean_only: bool = False, sva: bool = False
) -> Estimates:
    """Return the empirical-Bayes estimates of every feature in the moments.

    Parameters
    ----------
    moments : Moments
        Of features that vary within every batch.
    shrinkage : {"parametric", "nonparametric", "none"}
        Normal and inverse-gamma priors, the empirical distribution of the other features, or no shrinkage.
    mean_only : bool
        Shift only: delta is one.
    sva : bool
        Reproduce the quirks of the R package sva.
    """
    fit = least_squares(moments)
    n = moments.n
    scans = moments.scans
    weights = n / n.sum(axis=0)
    reference = None if moments.reference is None else moments.batches.index(moments.reference)
    if reference is None:
        alpha = (weights * fit.cell_mean).sum(axis=0)
        sigma = np.sqrt(fit.ssr.sum(axis=0) / n.sum(axis=0))
    else:
        alpha = fit.cell_mean[reference]
        sigma = np.sqrt(fit.ssr[reference] / n[reference])
    gamma_hat = (fit.cell_mean - alpha) / sigma
    single = np.broadcast_to(n < 2, gamma_hat.shape)
    if sva and (scans < 2).any():
        mean_only = True
    delta2_hat = np.where(single | mean_only, 1.0, fit.ssr / (np.maximum(n - 1, 1) * sigma**2))
    # sva's mean-only shrinks as if every batch had one scan.
    size = np.ones_like(n) if sva and mean_only and shrinkage == "parametric" else n
    shrunk = [
        _shrink(
            gamma_hat[i], delta2_hat[i], size[i], shrinkage, fixed_scale=mean_only or bool(single[i].all()), sva=sva
        )
        if i != reference
        else (np.zeros_like(alpha), np.ones_like(alpha), 0)
        for i in range(len(n))
    ]
    gamma, delta2, iterations = (np.array(part) for part in zip(*shrunk, strict=True))
    hyper = _hyperparameters(gamma_hat, delta2_hat) if shrinkage == "parametric" else {}
    return Estimates(alpha, fit.beta, sigma, sigma * gamma, np.sqrt(delta2), hyper, iterations)


def _shrink(
    gamma_hat: np.ndarray, delta2_hat: np.ndarray, n: np.ndarray, shrinkage: Shrinkage, fixed_scale: bool, sva: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Return gamma, delta squared and the number of passes for one batch, all (feature,)."""
    if shrinkage == "none":
        return gamma_hat, delta2_hat, 0
    if shrinkage == "nonparametric":
        gamma, delta2 = _nonparametric(gamma_hat, delta2_hat, n)
        return gamma, np.ones_like(delta2) if fixed_scale else delta2, 0
    mean, variance = gamma_hat.mean(), gamma_hat.var(ddof=1)
    if fixed_scale:
        return (variance * n * gamma_hat + mean) / (variance * n + 1), delta2_hat, 0
    return _fixed_point(gamma_hat, delta2_hat, n, mean, variance, sva)


def _fixed_point(
    gamma_hat: np.ndarray, delta2_hat: np.ndarray, n: np.ndarray, mean: float, variance: float, sva: bool
) -> tuple[np.ndarray, np.ndarray, int]:
    """Alternate the conditional means of gamma and delta squared until they stand still."""
    m, v = delta2_hat.mean(), delta2_hat.var(ddof=1)
    within = (n - 1) * delta2_hat
    gamma, delta2 = gamma_hat, delta2_hat
    iteration = 0
    while iteration < MOST_ITERATIONS:
        iteration += 1
        new_gamma = (variance * n * gamma_hat + delta2 * mean) / (variance * n + delta2)
        squares = within + n * (gamma_hat - new_gamma) ** 2
        # The inverse-gamma update with both sides multiplied by v, so that v = 0 is a point prior at m.
        new_delta2 = (v * squares / 2 + m * (v + m**2)) / (v * n / 2 + v + m**2)
        if sva:
            # The signed denominator is sva's: features with negative gamma never hold the loop open.
            with np.errstate(divide="ignore", invalid="ignore"):
                change = max(
                    np.nanmax(np.abs(new_gamma - gamma) / gamma, initial=-np.inf),
                    np.nanmax(np.abs(new_delta2 - delta2) / delta2, initial=-np.inf),
                )
        else:
            change = max(np.abs(new_gamma - gamma).max(), (np.abs(new_delta2 - delta2) / delta2).max())
        gamma, delta2 = new_gamma, new_delta2
        if change <= (SVA_TOLERANCE if sva else TOLERANCE):
            break
    return gamma, delta2, iteration


def _nonparametric(gamma_hat: np.ndarray, delta2_hat: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average the other features' estimates by how well they explain this feature (log-sum-exp)."""
    size = np.broadcast_to(n, gamma_hat.shape)
    log_delta2 = np.log(delta2_hat)
    within = (size - 1) * delta2_hat
    gamma, delta2 = np.empty_like(gamma_hat), np.empty_like(delta2_hat)
    for g in range(len(gamma_hat)):
        squares = within[g] + size[g] * (gamma_hat[g] - gamma_hat) ** 2
        log_weight = -(size[g] * log_delta2 + squares / delta2_hat) / 2
        log_weight[g] = -np.inf
        weight = np.exp(log_weight - logsumexp(log_weight))
        gamma[g], delta2[g] = weight @ gamma_hat, weight @ delta2_hat
    return gamma, delta2


def _hyperparameters(gamma_hat: np.ndarray, delta2_hat: np.ndarray) -> dict[str, np.ndarray]:
    """Return what the priors say of gamma and of log delta, per batch, in units of sigma."""
    m, v = delta2_hat.mean(axis=1), delta2_hat.var(axis=1, ddof=1)
    point = v <= 0
    # Any variance will do where the prior is a point: what follows from it is not used.
    shape = 2 + m**2 / np.where(point, 1, v)
    log_mean = np.where(point, np.log(m), np.log(m * (shape - 1)) - digamma(shape)) / 2
    log_sd = np.where(point, 0.0, np.sqrt(polygamma(1, shape))) / 2
    return {
        "gamma_mean": gamma_hat.mean(axis=1),
        "gamma_sd": gamma_hat.std(axis=1, ddof=1),
        "log_delta_mean": log_mean,
        "log_delta_sd": log_sd,
    }
