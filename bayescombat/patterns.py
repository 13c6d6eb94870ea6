"""How effects of batches vary together over the features, learned from the batches. Arrays only.

Their covariance is that of an inverse-Wishart prior about a first guess, given the other batches (Chen 1979,
doi:10.1111/j.2517-6161.1979.tb01078.x).
"""

from dataclasses import dataclass

import numpy as np

from bayescombat.mixed import Mixed

__all__ = ["Patterns", "learned_patterns"]

# What is expected of a covariance beforehand weighs as much as this many batches.
EXPECTED_BATCHES = 20.0
MOST_OF_COVARIANCE = 0.995


@dataclass(frozen=True, eq=False)
class Patterns:
    """How effects of batches vary together over the features, in units of the spread of what each has of its own.

    Parameters
    ----------
    axes : ndarray, (feature, axis)
        Orthogonal directions of unit length.
    each : ndarray, (batch, axis, score)
        What all other batches say of every batch: loadings of independent scores on the axes.
    new : ndarray, (axis, score)
        What all batches say of one more.
    """

    axes: np.ndarray
    each: np.ndarray
    new: np.ndarray

    @property
    def of_features(self) -> np.ndarray:
        """Loadings of the features in every batch, (batch, feature, score)."""
        return np.asarray(self.axes @ self.each)


def learned_patterns(found: Mixed, site: np.ndarray) -> Patterns:
    """Return how the effects of batches vary together, about their means and beside what each has of its own.

    Parameters
    ----------
    found : Mixed
        Effects of batches, given a first guess of their covariance.
    site : ndarray, (feature, factor)
        The loadings of that guess.
    """
    batches, away = len(found.effect), (found.effect - found.mean[:, None])[..., None]
    columns = np.concatenate([away, found.of_effect @ np.linalg.cholesky(found.unsure)], axis=2)
    squares = columns @ columns.swapaxes(1, 2)
    guess = EXPECTED_BATCHES * (site * found.spread[1:] ** 2) @ site.T
    total = squares.sum(axis=0) + guess
    own = found.own + EXPECTED_BATCHES * np.exp(np.log(found.sd**2).mean()) / batches
    values, vectors = np.linalg.eigh(total)
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    axes = vectors[:, : int(np.searchsorted(np.cumsum(values), MOST_OF_COVARIANCE * values.sum())) + 1]
    others = (own.sum() - own)[:, None, None]
    return Patterns(axes, _root(axes.T @ (total - squares) @ axes / others), _root(axes.T @ total @ axes / own.sum()))


def _root(covariance: np.ndarray) -> np.ndarray:
    """Return loadings (..., axis, score) of independent scores that have this covariance."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0))[..., None, :])
