"""Effects of levels that add up in cells: weighted least squares for several batch variables. Arrays only.

With one batch variable every cell is a level, and the effects are the cells' differences from their weighted mean.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["Additive"]

# Keeps levels finite that a feature's missing cells leave unconnected; far below what the data say.
RIDGE = 1e-13


@dataclass(frozen=True, eq=False)
class Additive:
    """Weighted least squares of cells on the levels that they have.

    The effects of a variable's levels, weighted by the levels' weights, sum to zero.

    Parameters
    ----------
    positions : ndarray of int, (cell, variable)
        Which levels each cell has, one of every variable; the levels of all variables are numbered through.
    weight : ndarray, (cell, 1 or feature)
        Weights of the cells; zero where there is nothing.

    Examples
    --------
    >>> additive = Additive(np.array([[0, 2], [0, 3], [1, 3]]), np.ones((3, 1)))
    >>> origin, effects = additive.effects(np.array([[1.0], [2.0], [4.0]]))
    >>> (origin[0] + effects[[0, 1], 0] + effects[3, 0]).round(6)
    array([2., 4.])
    """

    positions: np.ndarray
    weight: np.ndarray

    @property
    def crossed(self) -> bool:
        """Whether there are several variables."""
        return bool(self.positions.shape[1] > 1)

    @property
    def indicator(self) -> np.ndarray:
        """Which levels each cell has, (cell, level), ones and zeros."""
        found = np.zeros((len(self.positions), int(self.positions.max()) + 1))
        np.put_along_axis(found, self.positions, 1.0, axis=1)
        return found

    @property
    def size(self) -> np.ndarray:
        """Weights of the levels, (level, 1 or feature)."""
        return np.asarray(self.indicator.T @ self.weight)

    def share(self) -> np.ndarray:
        """Return the cells' shares of the weight, (cell, 1 or feature)."""
        return np.asarray(self.weight / np.maximum(self.weight.sum(axis=0), np.finfo(float).tiny))

    def effects(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the weighted mean (feature,) and the effects (level, feature) of values (cell, feature)."""
        origin = (self.share() * values).sum(axis=0)
        centred = np.where(self.weight > 0, values - origin, 0.0)
        if not self.crossed:
            return origin, centred
        right = np.einsum("cl,cf->fl", self.indicator, self.weight * centred)
        return origin, np.linalg.solve(self._normal(), right[..., None])[..., 0].T

    def cells(self, effects: np.ndarray) -> np.ndarray:
        """Return the sums of their levels' effects (level, feature) in the cells, (cell, feature)."""
        return np.asarray(effects[self.positions].sum(axis=1))

    def fitted(self, values: np.ndarray) -> np.ndarray:
        """Return what the levels explain of values (cell, feature), the same shape; without weights, the values."""
        if not self.crossed:
            return values
        origin, effects = self.effects(values)
        return np.asarray(origin + self.cells(effects))

    def leverage(self) -> np.ndarray:
        """Return how much of its own mean each cell's fit takes, (cell, 1 or feature); zero where there is nothing."""
        if not self.crossed:
            return (self.weight > 0).astype(float)
        indicator = self.indicator
        inverse = np.linalg.inv(self._normal())
        own = np.einsum("cl,flm,cm->cf", indicator, inverse, indicator, optimize=True)
        # The constraints take part of the weighted mean out of the normal matrix.
        mean = self.share() / (self.positions.shape[1] + 1)
        return np.asarray(np.clip(self.weight * own + mean, 0.0, 1.0))

    def freedom(self) -> np.ndarray:
        """Return how many of the scans of each level are left to tell of its scale, (level, 1 or feature)."""
        return np.asarray(self.indicator.T @ np.maximum(self.weight - self.leverage(), 0))

    def _normal(self) -> np.ndarray:
        """Return the normal matrix with the constraints that the effects of every variable sum to zero."""
        indicator, size = self.indicator, self.size
        products = np.einsum("cl,cf,cm->flm", indicator, self.weight, indicator, optimize=True)
        for column in self.positions.T:
            mine = np.zeros(len(size), dtype=bool)
            mine[column] = True
            constraint = np.where(mine[:, None], size, 0.0)
            total = np.maximum(constraint.sum(axis=0), 1)
            products += np.einsum("lf,mf->flm", constraint, constraint / total)
        diagonal = np.einsum("fll->fl", products)
        diagonal += np.where(size.T > 0, RIDGE * diagonal, 1.0)
        return np.asarray(products)
