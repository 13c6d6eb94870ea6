"""Residuals of a scan moved along few scores that are read from all its features. Arrays only.

Both hidden factors, whose scores are taken out, and principal components, whose scores are brought to another location
and scale, are ways to read scores from standardised residuals. Cells that are missing say nothing: scores are read from
those that were observed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bayescombat.blocks import observed_alike

__all__ = ["Axes", "PrincipalAxes", "RegressionAxes", "moved", "patterns", "scores_of"]


class Axes(Protocol):
    """Directions in the space of features."""

    @property
    def write(self) -> np.ndarray:
        """What a score adds to the standardised residuals, (..., feature, score)."""

    def read(self, seen: np.ndarray) -> np.ndarray:
        """Return the weights (..., feature, score) of standardised residuals that were seen (feature,), others zero."""


@dataclass(frozen=True, eq=False)
class RegressionAxes:
    """Common factors, whose scores are Bartlett's (1937, doi:10.1111/j.2044-8295.1937.tb00863.x): unbiased.

    Scores of scans in which fewer than `fewest` features were observed are taken for zero.

    Parameters
    ----------
    loadings : ndarray, (feature, factor)
        Of the standardised residuals.
    fewest : int
        Fewest features that scores are read from.
    """

    loadings: np.ndarray
    fewest: int

    @property
    def write(self) -> np.ndarray:
        """The loadings."""
        return self.loadings

    def read(self, seen: np.ndarray) -> np.ndarray:
        """Return the weights of generalised least squares on the loadings."""
        weighted = self._weighted(seen)
        return np.asarray(weighted @ np.linalg.pinv(weighted.T @ self.loadings))

    def error_root(self, seen: np.ndarray) -> np.ndarray:
        """Return a root (factor, factor) of the covariance of the scores' errors; zero where none are read."""
        values, vectors = np.linalg.eigh(np.linalg.pinv(self._weighted(seen).T @ self.loadings))
        return np.asarray(vectors * np.sqrt(np.maximum(values, 0)))

    def _weighted(self, seen: np.ndarray) -> np.ndarray:
        if seen.sum() < self.fewest:
            return np.zeros_like(self.loadings)
        unique = 1 - (self.loadings**2).sum(axis=1, keepdims=True)
        return np.where(seen[:, None], self.loadings / unique, 0.0)


@dataclass(frozen=True, eq=False)
class PrincipalAxes:
    """The first principal components; missing cells stand at what the observed ones lead to expect.

    Parameters
    ----------
    vectors : ndarray, (..., feature, component)
        Orthonormal; there may be some for every draw.
    correlation : ndarray, (feature, feature)
        Of the standardised residuals.
    """

    vectors: np.ndarray
    correlation: np.ndarray

    @property
    def write(self) -> np.ndarray:
        """The vectors."""
        return self.vectors

    def read(self, seen: np.ndarray) -> np.ndarray:
        """Return the vectors, or the weights of the scores' conditional expectation."""
        if seen.all():
            return self.vectors
        weights = np.zeros_like(self.vectors)
        weights[..., seen, :] = (
            np.linalg.solve(self.correlation[np.ix_(seen, seen)], self.correlation[seen]) @ self.vectors
        )
        return weights


def moved(
    residual: np.ndarray, axes: Axes, unit: np.ndarray, gain: np.ndarray | float, shift: np.ndarray | float = 0.0
) -> np.ndarray:
    """Return residuals whose scores s became ``gain * s + shift``; what is beside the axes stays.

    Parameters
    ----------
    residual : ndarray, (..., obs, feature)
        NaN where a cell is missing, the same cells in all tables.
    axes : Axes
        Directions.
    unit : ndarray, (feature,) or (..., 1, feature)
        What residuals are standardised by.
    gain, shift : ndarray, (..., 1, score), or float
        Of the scores.
    """
    scores = scores_of(residual / unit, axes)
    change = scores * (np.asarray(gain) - 1) + shift
    return np.asarray(residual + (change @ axes.write.swapaxes(-1, -2)) * unit)


def scores_of(standardised: np.ndarray, axes: Axes) -> np.ndarray:
    """Return the scores (..., obs, score) of standardised residuals (..., obs, feature)."""
    scores = np.empty((*standardised.shape[:-1], axes.write.shape[-1]))
    for seen, rows in patterns(standardised.reshape(-1, *standardised.shape[-2:])[0]):
        scores[..., rows, :] = standardised[..., rows, :][..., seen] @ axes.read(seen)[..., seen, :]
    return scores


def patterns(table: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield which features are observed (feature,), and the rows of the table in which just these are."""
    seen = ~np.isnan(table)
    pattern = observed_alike(seen.T)
    for number in np.unique(pattern):
        rows = np.flatnonzero(pattern == number)
        yield seen[rows[0]], rows
