"""Least squares over the moments: additive effects of the levels, common slopes. Arrays only."""

from dataclasses import dataclass

import numpy as np

from bayescombat.additive import Additive
from bayescombat.moments import Moments

__all__ = ["LeastSquares", "least_squares", "products_of_covariates"]


@dataclass(frozen=True, eq=False)
class LeastSquares:
    """The fixed-effects fit: additive effects of the batch variables' levels, common slopes.

    Parameters
    ----------
    additive : Additive
        The levels, weighted by observed scans.
    center : ndarray, (1 or feature, covariate)
        Average covariates over all scans.
    beta : ndarray, (feature, covariate)
        Slopes, in feature units per unit of the design column.
    cell_mean : ndarray, (batch, feature)
        Means of the batches at the average covariates, in feature units.
    ssr : ndarray, (batch, feature)
        Residual sums of squares; where scans of subjects are repeated, of what their intercepts leave.
    freedom : ndarray, (batch, 1 or feature)
        Their expectations in units of the residual variance, but for what the slopes take.
    precision : ndarray, (batch, 1 or feature)
        Of the cell means about what they have in common, in units of one scan: the scans, where all are independent.
    whitener : ndarray, (1 or feature, covariate, covariate)
        ``(x - center) @ whitener`` has unit covariance within batches.
    variance : ndarray, (feature,)
        Residual variance, without bias.
    subject_sd : ndarray, (feature,), optional
        Standard deviation of the subjects' intercepts, in feature units.
    shared : ndarray, (feature,)
        Variance of what the cell means have in common, in units of the residual variance.
    """

    additive: Additive
    center: np.ndarray
    beta: np.ndarray
    cell_mean: np.ndarray
    ssr: np.ndarray
    freedom: np.ndarray
    precision: np.ndarray
    whitener: np.ndarray
    variance: np.ndarray
    subject_sd: np.ndarray | None = None
    shared: np.ndarray | float = 0.0


def products_of_covariates(moments: Moments) -> tuple[Additive, np.ndarray, np.ndarray]:
    """Return the levels, what they leave of the batches' covariate means, and the products of all that they leave.

    Returns
    -------
    additive : Additive
        The levels, weighted by observed scans.
    left : ndarray, (batch, 1 or feature, covariate)
        What levels do not explain of the means: zero with one batch variable.
    products : ndarray, (1 or feature, covariate, covariate)
        Cross-products of the design columns that tell of the slopes.
    """
    additive = Additive(moments.positions, moments.n)
    pooled = moments.sxx.sum(axis=0)
    if not additive.crossed or not moments.covariates:
        return additive, np.zeros_like(moments.mean_x), pooled
    offset = np.where((moments.n > 0)[..., None], moments.mean_x - moments.center, 0.0)
    left = offset - np.stack([additive.fitted(column) for column in np.moveaxis(offset, -1, 0)], axis=-1)
    return additive, left, pooled + np.einsum("cfp,cfq->fpq", moments.n[..., None] * left, left)


def least_squares(moments: Moments) -> LeastSquares:
    """Fit additive effects of the levels, and common slopes, by ordinary least squares."""
    n, center, seen = moments.n, moments.center, moments.n > 0
    additive, left, pooled = products_of_covariates(moments)
    cross = moments.sxy.sum(axis=0)
    if additive.crossed:
        unexplained = moments.mean_y - additive.fitted(moments.mean_y)
        cross = cross + (n[..., None] * left * unexplained[..., None]).sum(axis=0)
    scale = np.sqrt(np.einsum("fpp->fp", pooled))
    correlation = pooled / (scale[:, :, None] * scale[:, None, :])
    root = np.linalg.inv(np.linalg.cholesky(correlation)).swapaxes(1, 2) / scale[:, :, None]
    beta = (root @ (root.swapaxes(1, 2) @ cross[..., None]))[..., 0]
    offset = moments.mean_x - center
    cell_mean = np.where(seen, moments.mean_y - (offset * beta).sum(axis=-1), 0.0)
    explained = (moments.sxx @ beta[..., None])[..., 0]
    ssr = np.maximum(moments.syy - (beta * (2 * moments.sxy - explained)).sum(axis=-1), 0)
    if additive.crossed:
        fitted = additive.fitted(cell_mean)
        cell_mean, ssr = fitted, ssr + n * (cell_mean - fitted) ** 2
    freedom = np.maximum(n - additive.leverage(), 0)
    total = np.maximum(freedom.sum(axis=0) - len(moments.covariates), 1)
    whitener, variance = root * np.sqrt(total)[:, None, None], ssr.sum(axis=0) / total
    return LeastSquares(additive, center, beta, cell_mean, ssr, freedom, n, whitener, variance)
