r"""Shifts and scales given everything else that empirical Bayes finds: by quadrature, and drawn. Arrays only.

Given its hyper-parameters, the posterior of one batch and feature is, in units of sigma,

.. math::
    \hat\gamma \mid \gamma, \delta^2 \sim \mathrm{Normal}(\gamma, \delta^2 / n), \quad
    f \hat\delta^2 / \delta^2 \sim \chi^2_f, \quad
    \gamma \sim \mathrm{Normal}(\bar\gamma, \tau^2), \quad \delta^2 \sim \mathrm{InverseGamma}(a, b)

between whose conditional means Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037, alternate. Given
delta squared the shift is normal. Without the shift, log delta squared has a density along one dimension, on which the
trapezoidal rule converges faster than any power of the step (Trefethen and Weideman 2014, doi:10.1137/130932132).
"""

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Self

import numpy as np
from scipy.special import gammaln

__all__ = ["Conditional", "Expectations"]

# Nodes of the search for where the density is, of the quadrature, and of the distribution function that is inverted.
FEW_NODES = 24
NODES = 64
FINE_NODES = 512
# Of the nodes that has to be where the density is not negligible.
LEAST_SHARE = 0.75
# Logarithm of how far below its peak the density is cut.
DEPTH = 30.0
NEWTON_STEPS = 3


@dataclass(frozen=True, eq=False)
class Expectations:
    """Expectations of powers of gamma, measured from an origin, times powers of delta.

    Parameters
    ----------
    weight, delta : ndarray, (batch, feature, node)
        Of the nodes, and the scale at each.
    powers : tuple of ndarray, (batch, feature, node)
        Expectations of gamma and of its square, given the scale.
    """

    weight: np.ndarray
    delta: np.ndarray
    powers: tuple[np.ndarray, np.ndarray]

    def of(self, batch: int, gamma: int, delta: int) -> np.ndarray:
        """Return the expectation (feature,) of so high a power of gamma, at most two, times one of delta."""
        value, factor = self.weight[batch], self.delta[batch]
        for _ in range(abs(delta)):
            value = value * factor if delta > 0 else value / factor
        return np.asarray(np.einsum("fn,fn->f", value, self.powers[gamma - 1][batch]) if gamma else value.sum(axis=-1))


@dataclass(frozen=True, eq=False)
class Conditional:
    """What the posterior of gamma and delta is made of, in units of sigma.

    Parameters
    ----------
    gamma_hat, delta2_hat : ndarray, (batch, feature)
        Shifts and squared scales before shrinkage.
    n, freedom : ndarray, (batch, feature)
        Observed scans, and degrees of freedom behind the scales: zero where nothing tells of them.
    gamma_mean, gamma_variance, delta2_mean, delta2_variance : ndarray, (batch, 1)
        Of the normal and inverse-gamma priors, which are points where the variance is zero.
    """

    gamma_hat: np.ndarray
    delta2_hat: np.ndarray
    n: np.ndarray
    freedom: np.ndarray
    gamma_mean: np.ndarray
    gamma_variance: np.ndarray
    delta2_mean: np.ndarray
    delta2_variance: np.ndarray

    def of_features(self, block: slice) -> Self:
        """Return what is known of some features."""
        parts = [getattr(self, field.name) for field in fields(self)]
        return type(self)(*(part[:, block] for part in parts[:4]), *parts[4:])

    def expectations(self, origin: np.ndarray) -> Expectations:
        """Return what expectations are taken by, given the origin (batch, feature) that gamma is measured from."""
        low, step = self._interval(NODES)
        u = _nodes(low, step, NODES)
        weight = self._density(u)
        weight /= weight.sum(axis=-1, keepdims=True)
        mean, variance = self._shift(np.exp(-u))
        mean -= origin[..., None]
        return Expectations(weight, np.exp(u / 2), (mean, mean**2 + variance))

    def draws(self, uniform: np.ndarray, normal: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return draws of gamma and delta, given uniform and normal scores of the same shape (batch, feature, draw)."""
        low, step = self._interval(FINE_NODES)
        u = _nodes(low, step, FINE_NODES)
        density = self._density(u)
        bend = density * self._slope(u) * step[..., None]
        # The trapezoidal rule with its end correction, which leaves an error of the fifth power of the step.
        mass = (density[..., 1:] + density[..., :-1]) / 2 - np.diff(bend, axis=-1) / 12
        below = np.concatenate([np.zeros_like(density[..., :1]), np.cumsum(mass, axis=-1)], axis=-1)
        total = below[..., -1:]
        drawn = low[..., None] + step[..., None] * _inverted(below / total, density / total, uniform)
        mean, variance = self._shift(np.exp(-drawn))
        return mean + np.sqrt(variance) * normal, np.exp(drawn / 2)

    @cached_property
    def _gamma_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Precisions of the scans over that of gamma's prior, and squared distances from it, where delta is one."""
        return self.n * self.gamma_variance, self.n * (self.gamma_hat - self.gamma_mean) ** 2

    @cached_property
    def _delta_terms(self) -> tuple[np.ndarray, np.ndarray]:
        """Shape and rate of the inverse-gamma distribution that delta squared has if the scans told of it alone."""
        m, v = self.delta2_mean, np.where(self._point, 1.0, self.delta2_variance)
        shape = 2 + m**2 / v
        return shape + (self.freedom + (self.n > 0)) / 2, m * (shape - 1) + self.freedom * self.delta2_hat / 2

    @property
    def _point(self) -> np.ndarray:
        return self.delta2_variance <= 0

    def _shift(self, precision: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of gamma given 1 / delta squared, (batch, feature, place)."""
        told = self._gamma_terms[0][..., None] * precision
        mean = (told * self.gamma_hat[..., None] + self.gamma_mean[..., None]) / (1 + told)
        return mean, self.gamma_variance[..., None] / (1 + told)

    def _log_density(self, u: np.ndarray) -> np.ndarray:
        """Return the log-density of log delta squared at u (batch, feature, place), up to a constant."""
        (known, away), (shape, rate) = self._gamma_terms, self._delta_terms
        precision = np.exp(-u)
        told = known[..., None] * precision
        found = -shape[..., None] * u - rate[..., None] * precision
        found -= (np.log1p(told) + away[..., None] * precision / (1 + told)) / 2
        return np.where(self._point[..., None], 0.0, found)

    def _density(self, u: np.ndarray) -> np.ndarray:
        found = self._log_density(u)
        return np.asarray(np.exp(found - found.max(axis=-1, keepdims=True)))

    def _slope(self, u: np.ndarray) -> np.ndarray:
        """Return the derivative of the log-density."""
        (known, away), (shape, rate) = self._gamma_terms, self._delta_terms
        precision = np.exp(-u)
        told = known[..., None] * precision
        found = rate[..., None] * precision - shape[..., None]
        found += (told / (1 + told) + away[..., None] * precision / (1 + told) ** 2) / 2
        return np.where(self._point[..., None], 0.0, found)

    def _interval(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest of so many nodes where the density is not negligible, and the step, (batch, feature).

        Delta squared is stochastically larger than the inverse gamma of the scales alone, since a shift off its prior
        speaks for noise; and smaller than the one to which such a shift is noise alone. Within the bounds of these two
        nodes close in on what is not negligible, which a grid never mistakes as narrower than it is.
        """
        (_, away), (shape, rate) = self._gamma_terms, self._delta_terms
        least = shape - 0.5
        # Bounds of gamma quantiles; the first is Laurent and Massart's (2000), doi:10.1214/aos/1015957395.
        low = np.log(rate) - np.log(shape + np.sqrt(2 * shape * DEPTH) + DEPTH)
        high = np.log(rate + away / 2) - (gammaln(least + 1) - DEPTH) / least
        point = np.log(self.delta2_mean)
        low, high = np.where(self._point, point, low), np.where(self._point, point, high)
        last = FEW_NODES - 1
        while True:
            step = (high - low) / last
            found = self._log_density(_nodes(low, step, FEW_NODES))
            inside = found > found.max(axis=-1, keepdims=True) - DEPTH
            first, end = inside.argmax(axis=-1), last - inside[..., ::-1].argmax(axis=-1)
            if (end - first >= LEAST_SHARE * last).all():
                return low, (high - low) / (count - 1)
            low, high = low + step * np.maximum(first - 1, 0), low + step * np.minimum(end + 1, last)


def _nodes(low: np.ndarray, step: np.ndarray, count: int) -> np.ndarray:
    return np.asarray(low[..., None] + step[..., None] * np.arange(count))


def _inverted(below: np.ndarray, density: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Return where distribution functions, given at nodes (..., node), have the probabilities (..., place), in nodes.

    Between nodes they are cubic, with the density as their slope.
    """
    shape, count = probability.shape, below.shape[-1]
    row = np.arange(below[..., 0].size)[:, None]
    ladder, wanted = below.reshape(-1, count) + row, probability.reshape(len(row), -1) + row
    left = np.searchsorted(ladder.ravel(), wanted.ravel(), side="right").reshape(wanted.shape) - 1
    left = np.clip(left - row * count, 0, count - 2) + row * count
    start, slope = below.ravel()[left], density.ravel()[left]
    rise, end = below.ravel()[left + 1] - start, density.ravel()[left + 1]
    wanted = probability.reshape(left.shape) - start
    square, cube = 3 * rise - 2 * slope - end, slope + end - 2 * rise
    along = np.clip(wanted / np.where(rise > 0, rise, 1), 0, 1)
    for _ in range(NEWTON_STEPS):
        excess = ((cube * along + square) * along + slope) * along - wanted
        steepness = (3 * cube * along + 2 * square) * along + slope
        along = np.clip(along - excess / np.where(steepness > 0, steepness, 1), 0, 1)
    return np.asarray((left - row * count + along).reshape(shape))
