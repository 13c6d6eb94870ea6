"""Additive effects of levels and common slopes by least squares, from moments; curves are penalised. Arrays only."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bayescombat.additive import Additive
from bayescombat.blocks import column_blocks, side_by_side
from bayescombat.moments import Moments
from bayescombat.reml import Slopes, Swept, inverse_root, reml

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
    whitener : ndarray, (1 or feature, covariate, direction)
        ``(x - center) @ whitener`` has unit covariance within batches. With smooths so have its first directions, of
        the unpenalised columns; the others, of each smooth's penalised columns, are orthogonal to these and to each
        other, and keep their unit.
    taken : ndarray, (1 or feature,)
        Degrees of freedom that the slopes take.
    variance : ndarray, (feature,)
        Residual variance.
    covariance : ndarray, (feature, covariate, covariate)
        Of the slopes, given how smooth curves are.
    curves : Slopes, optional
        With smooths: the slopes in terms of their cross-products.
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
    taken: np.ndarray
    variance: np.ndarray
    covariance: np.ndarray
    curves: Slopes | None = None
    subject_sd: np.ndarray | None = None
    shared: np.ndarray | float = 0.0

    @property
    def smooth_sd(self) -> np.ndarray | None:
        """Standard deviations of the smooths' coefficients, in feature units, (feature, smooth)."""
        return None if self.curves is None else np.asarray(np.sqrt(self.curves.ratios * self.curves.variance[:, None]))

    @property
    def residual_freedom(self) -> np.ndarray:
        """Degrees of freedom of the residual variance, (1 or feature,)."""
        if self.curves is not None:
            return self.curves.swept.freedom
        return np.asarray(np.maximum(self.freedom.sum(axis=0) - self.taken, 1))

    def mean_squares(self, smooth: int | None = None) -> np.ndarray:
        """Return mean squares and products of the slopes' errors, (feature, covariate, covariate).

        They are given how smooth curves are, except for one smooth by its position where scans are independent.
        """
        if self.curves is None or smooth is None or self.subject_sd is not None:
            return self.covariance
        return self.curves.mean_squares(smooth)


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
    """Fit additive effects of the levels, and common slopes, by ordinary least squares.

    The coefficients of smooths are penalised as much as restricted maximum likelihood says, feature by feature.
    """
    n, center = moments.n, moments.center
    additive, left, pooled = products_of_covariates(moments)
    cross = moments.sxy.sum(axis=0)
    unexplained = np.zeros_like(moments.mean_y)
    if additive.crossed:
        unexplained = moments.mean_y - additive.fitted(moments.mean_y)
        cross = cross + (n[..., None] * left * unexplained[..., None]).sum(axis=0)
    left_over = np.maximum(n - additive.leverage(), 0)
    freedom = left_over.sum(axis=0)
    if moments.spec.smooths:
        squares = (moments.syy + n * unexplained**2).sum(axis=0)
        curves = _curves(pooled, cross, squares, freedom, moments.spec.penalised)
        beta, whitener, taken = curves.beta, curves.swept.whitener(), curves.taken
        directions = np.arange(pooled.shape[-1]) < len(curves.swept.fixed)
        spread = np.where(directions, np.sqrt(np.maximum(freedom - directions.sum(), 1))[:, None], 1.0)
        whitener = whitener * spread[:, None, :]
    else:
        curves, taken = None, np.full(1, float(len(moments.covariates)))
        root = inverse_root(pooled)
        beta = (root @ (root.swapaxes(1, 2) @ cross[..., None]))[..., 0]
        whitener = root * np.sqrt(np.maximum(freedom - taken, 1))[:, None, None]
    cell_mean, ssr = _cells(moments, center, beta)
    if additive.crossed:
        fitted = additive.fitted(cell_mean)
        cell_mean, ssr = fitted, ssr + n * (cell_mean - fitted) ** 2
    variance = ssr.sum(axis=0) / np.maximum(freedom - taken, 1)
    if curves is None:
        inverse = whitener @ whitener.swapaxes(1, 2) / np.maximum(freedom - taken, 1)[:, None, None]
        covariance = inverse * variance[:, None, None]
    else:
        covariance = curves.covariance * curves.variance[:, None, None]
    return LeastSquares(
        additive, center, beta, cell_mean, ssr, left_over, n, whitener, taken, variance, covariance, curves
    )


def _cells(moments: Moments, center: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of the batches at the average covariates and their residual squares, (batch, feature)."""
    cell_mean, ssr = np.empty_like(moments.mean_y), np.empty_like(moments.mean_y)
    offset, seen, whole = moments.mean_x - center, moments.n > 0, moments.n.shape[1] == 1

    def work(block: slice) -> None:
        own, slopes = slice(None) if whole else block, beta[block]
        products = moments.sxx[:, own]
        pairs = (slopes[:, :, None] * slopes[:, None, :]).reshape(len(slopes), slopes.shape[1] ** 2)
        away = moments.mean_y[:, block] - _along(offset[:, own], slopes)
        cell_mean[:, block] = np.where(seen[:, own], away, 0.0)
        explained = _along(products.reshape(*products.shape[:2], pairs.shape[1]), pairs)
        explained -= 2 * np.einsum("bfp,fp->bf", moments.sxy[:, block], slopes)
        ssr[:, block] = np.maximum(moments.syy[:, block] + explained, 0)

    side_by_side(work, column_blocks(moments.mean_y.shape[1], moments.sxy[:, :1].size))
    return cell_mean, ssr


def _along(values: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """Return the sums of products of values (batch, 1 or feature, column) and slopes (feature, column)."""
    if values.shape[1] == 1:
        # No matrix product: a batch's bits would hang on how many others there are.
        return np.asarray(np.einsum("bp,fp->bf", values[:, 0], slopes))
    return np.asarray(np.einsum("bfp,fp->bf", values, slopes))


def _curves(
    products: np.ndarray,
    cross: np.ndarray,
    squares: np.ndarray,
    freedom: np.ndarray,
    penalised: Sequence[np.ndarray],
) -> Slopes:
    freedom = np.broadcast_to(freedom, squares.shape)
    ratios = reml(products, cross, squares, freedom, penalised)
    return Slopes(Swept.of(products, cross, squares, freedom, penalised), ratios)
