"""Sums over subjects, and the ratio of variances at which their restricted likelihood is highest. Arrays only."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize.elementwise import find_root

__all__ = ["Solved", "Sums", "likeliest_ratio"]

# Of the logarithm of the ratio of variances: below, subjects are taken for alike; above, scans of a subject are.
GRID = np.linspace(-12.0, 24.0, 37)


@dataclass(frozen=True, eq=False)
class Sums:
    """Sums over subjects of the residuals of ordinary least squares, by how many scans a subject has.

    Parameters
    ----------
    size : ndarray, (size,)
        Numbers of scans that occur.
    count : ndarray, (size, 1 or feature)
        Subjects of that size.
    products : ndarray, (size, 1 or feature, column, column)
        Of the subjects' totals of the design, with each other.
    cross : ndarray, (size, feature, column)
        With the totals of the residuals.
    squares : ndarray, (size, feature)
        Of the totals of the residuals.
    design : ndarray, (1 or feature, column, column)
        Cross-products of the design over all scans.
    ssr : ndarray, (feature,)
        Residual sum of squares over all scans.
    freedom : ndarray, (1 or feature,)
        Scans less the columns that are not penalised.
    right : ndarray, (feature, column)
        Cross-products of the design with the residuals: of penalised columns they need not be zero.
    coefficients : ndarray, (feature, column)
        Those of the penalised columns that the residuals were taken with.
    penalty : ndarray, (1 or feature, column)
        Of the squared coefficients; zero for columns that are free.
    basis : ndarray, (1 or feature, column, direction)
        Directions of the columns, told apart by how much scans of the same subject tell of them.
    """

    size: np.ndarray
    count: np.ndarray
    products: np.ndarray
    cross: np.ndarray
    squares: np.ndarray
    design: np.ndarray
    ssr: np.ndarray
    freedom: np.ndarray
    right: np.ndarray
    coefficients: np.ndarray
    penalty: np.ndarray
    basis: np.ndarray

    def of(self, features: np.ndarray) -> "Sums":
        """Return the sums of some features."""

        def some(values: np.ndarray, axis: int) -> np.ndarray:
            return values if values.shape[axis] == 1 else np.take(values, features, axis=axis)

        return Sums(
            self.size,
            some(self.count, 1),
            some(self.products, 1),
            self.cross[:, features],
            self.squares[:, features],
            some(self.design, 0),
            self.ssr[features],
            some(self.freedom, 0),
            self.right[features],
            self.coefficients[features],
            some(self.penalty, 0),
            some(self.basis, 0),
        )

    def solved(self, ratio: np.ndarray) -> "Solved":
        """Return generalised least squares at a ratio of variances, (1 or feature,)."""
        weight = ratio / (1 + ratio * self.size[:, None])
        products = self.products * np.ones((1, len(ratio), 1, 1))
        normal = self.design - np.einsum("kf,kfpq->fpq", weight, products)
        right = self.right - np.einsum("kf,kfp->fp", weight, self.cross)
        squares = self.ssr - (weight * self.squares).sum(axis=0)
        bent = self.penalty * self.coefficients
        root, turned = self._turned(normal + self.penalty[:, :, None] * np.eye(normal.shape[-1]))
        along = np.einsum("fpq,fp->fq", root, right - bent)
        solution = np.linalg.solve(turned, along[..., None])[..., 0]
        inverse = root @ np.linalg.inv(turned) @ root.swapaxes(1, 2)
        change = np.einsum("fpq,fq->fp", root, solution)
        least = squares + (bent * self.coefficients).sum(axis=-1) - (along * solution).sum(axis=-1)
        return Solved(ratio, normal, inverse, change, least / self.freedom, right, squares)

    def _turned(self, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the basis in units that make the diagonal of normal equations one, and these equations in it.

        Where intercepts spread far, what is told between subjects is known far worse than what is told within them.
        """
        turned = self.basis.swapaxes(1, 2) @ normal @ self.basis
        unit = 1 / np.sqrt(np.einsum("fpp->fp", turned))
        return self.basis * unit[:, None, :], turned * unit[:, :, None] * unit[:, None, :]

    def criterion(self, ratio: np.ndarray) -> np.ndarray:
        """Return minus twice the restricted log-likelihood, up to a constant, (feature,)."""
        found = self.solved(ratio)
        volume = -np.linalg.slogdet(found.inverse)[1]
        volume = volume + (self.count * np.log1p(ratio * self.size[:, None])).sum(axis=0)
        return np.asarray(self.freedom * np.log(found.variance) + volume)

    def slope(self, log_ratio: np.ndarray) -> np.ndarray:
        """Return the derivative of the criterion by the ratio, (feature,)."""
        ratio = np.exp(log_ratio)
        found = self.solved(ratio)
        shrunken, products = 1 / (1 + ratio * self.size[:, None]), self.products * np.ones((1, len(ratio), 1, 1))
        fitted = np.einsum("fpq,kfpq->kf", found.inverse, products)
        trace = (shrunken * self.size[:, None] * self.count - shrunken**2 * fitted).sum(axis=0)
        change = found.change
        moved = np.einsum("fp,kfpq,fq->kf", change, products, change, optimize=True)
        left = self.squares - 2 * np.einsum("kfp,fp->kf", self.cross, change) + moved
        return np.asarray(trace - (shrunken**2 * left).sum(axis=0) / found.variance)


@dataclass(frozen=True, eq=False)
class Solved:
    """Generalised least squares at a ratio of variances.

    Parameters
    ----------
    ratio : ndarray, (feature,)
        Of the intercepts' variance to the residual one.
    normal : ndarray, (feature, column, column)
        Cross-products of the design, weighted.
    inverse : ndarray, (feature, column, column)
        Of these and the penalty.
    change : ndarray, (feature, column)
        Of the coefficients, from those that the residuals were taken with.
    variance : ndarray, (feature,)
        Residual variance.
    right : ndarray, (feature, column)
        Weighted cross-products of the design with the residuals.
    squares : ndarray, (feature,)
        Weighted sum of squares of the residuals.
    """

    ratio: np.ndarray
    normal: np.ndarray
    inverse: np.ndarray
    change: np.ndarray
    variance: np.ndarray
    right: np.ndarray
    squares: np.ndarray


def likeliest_ratio(sums: Sums) -> np.ndarray:
    """Return the ratio of variances at which the restricted likelihood is highest, (feature,)."""
    criterion = np.stack([sums.criterion(np.exp([place])) for place in GRID])
    best = criterion.argmin(axis=0)
    inside = np.flatnonzero((best > 0) & (best < len(GRID) - 1))
    log_ratio = GRID[best]
    if len(inside):

        def slope(place: np.ndarray, feature: np.ndarray) -> np.ndarray:
            return sums.of(feature.astype(int)).slope(place)

        found = find_root(slope, (GRID[best[inside] - 1], GRID[best[inside] + 1]), args=(inside,))
        log_ratio[inside] = np.where(found.success, found.x, log_ratio[inside])
    return np.where(best == 0, 0.0, np.exp(log_ratio))
