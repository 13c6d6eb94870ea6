"""What cells say of the levels of one batch variable, where the noise of features has factors. Arrays only.

A cell's noise has the covariance N = diag(variance) + noise noise'. Cells that share a level say of its effect, given
the effects of the other variables, what their generalised mean says: inverse(sum of inverse(N)) times the sum of
inverse(N) residual, whose covariance is again a diagonal and the product of a few loadings. Nothing is lost by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

__all__ = ["Pooled", "beside_others", "by_level", "in_cells"]


@dataclass(frozen=True, eq=False)
class Pooled:
    """Generalised means of the cells of every level of one batch variable.

    Parameters
    ----------
    owner : ndarray of int, (cell,)
        Which of the variable's levels each cell has.
    precision : ndarray, (cell, feature)
        Of the cells beside the factors; zero where nothing was observed.
    root : ndarray, (cell, feature, factor)
        What the factors take from the precision: it is ``diag(precision) - root root'``.
    variance : ndarray, (level, feature)
        Of the levels' means beside the factors; infinite where nothing was observed.
    noise : ndarray, (level, feature, score)
        Loadings of the levels' means.
    """

    owner: np.ndarray
    precision: np.ndarray
    root: np.ndarray
    variance: np.ndarray
    noise: np.ndarray

    @classmethod
    def of(cls, owner: np.ndarray, variance: np.ndarray, noise: np.ndarray) -> Self:
        """Return the means of cells with such errors: variances (cell, feature), loadings (cell, feature, factor)."""
        precision = 1 / variance
        root = _root(precision, noise)
        total = by_level(owner, precision)
        known = total > 0
        of_level = np.divide(1.0, total, out=np.zeros(total.shape), where=known)
        roots = np.zeros((*total.shape, np.bincount(owner).max(), noise.shape[2]))
        # The place of every cell among those of its level.
        place = (np.tril(owner[:, None] == owner, -1)).sum(axis=1)
        roots[owner, :, place] = root
        stacked = roots.reshape(*total.shape, -1)
        scaled = of_level[..., None] * stacked
        left = np.eye(stacked.shape[2]) - stacked.swapaxes(1, 2) @ scaled
        loadings = scaled @ np.linalg.cholesky(np.linalg.inv(left))
        return cls(owner, precision, root, np.where(known, of_level, np.inf), loadings)

    def means(self, residual: np.ndarray) -> np.ndarray:
        """Return the levels' means (level, feature) of residuals (cell, feature)."""
        known = self.precision > 0
        residual = np.where(known, residual, 0.0)[..., None]
        weighted = self.precision * residual[..., 0] - (self.root @ (self.root.swapaxes(1, 2) @ residual))[..., 0]
        total = by_level(self.owner, weighted)
        along = (self.noise @ (self.noise.swapaxes(1, 2) @ total[..., None]))[..., 0]
        return np.asarray(np.where(np.isfinite(self.variance), self.variance, 0.0) * total + along)


def beside_others(positions: np.ndarray, effects: Sequence[np.ndarray], k: int) -> np.ndarray:
    """Return the sum of the effects that the levels of all variables but one have in the cells, (cell, feature)."""
    return in_cells(np.delete(positions, k, axis=1), [*effects[:k], *effects[k + 1 :]])


def in_cells(positions: np.ndarray, effects: Sequence[np.ndarray]) -> np.ndarray:
    """Return the sum of the effects (level, feature) of every variable in the cells, (cell, feature)."""
    found = [effect[column - column.min()] for effect, column in zip(effects, positions.T, strict=True)]
    return np.asarray(np.sum(found, axis=0))


def _root(precision: np.ndarray, noise: np.ndarray) -> np.ndarray:
    weighted = precision[..., None] * noise
    inner = np.eye(noise.shape[2]) + noise.swapaxes(1, 2) @ weighted
    return np.asarray(weighted @ np.linalg.cholesky(np.linalg.inv(inner)))


def by_level(owner: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the sums of values (cell, feature) over the cells of every level, (level, feature)."""
    found = np.zeros((owner.max() + 1, values.shape[1]))
    np.add.at(found, owner, values)
    return found
