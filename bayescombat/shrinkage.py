"""Effects of levels shrunken towards what the levels have in common over the features. Arrays only.

The published algorithm is that of Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037, as the R package
sva runs it.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Self

import numpy as np
from scipy.special import digamma, logsumexp, polygamma

from bayescombat.blocks import side_by_side, slices

__all__ = [
    "Hats",
    "LEAST_FREEDOM",
    "MANY_FEATURES",
    "MOST_ITERATIONS",
    "Shrinkage",
    "TOLERANCE",
    "evidence_of",
    "shrunken",
]

Shrinkage = Literal["parametric", "nonparametric", "none"]
TOLERANCE = 1e-12
SVA_TOLERANCE = 1e-4
MOST_ITERATIONS = 10_000
# Degrees of freedom below which residuals tell nothing of a scale.
LEAST_FREEDOM = 0.5
# From so many on the work is divided among threads.
MANY_FEATURES = 5_000
# Of so many a pass of the fixed point stays in a core's cache.
FEATURES_AT_ONCE = 8_192


@dataclass(frozen=True, eq=False)
class Hats:
    """Unshrunken estimates of the levels' effects, in units of sigma, (batch, feature).

    Parameters
    ----------
    gamma, delta2 : ndarray, (batch, feature)
        Shifts and squared scales.
    n : ndarray, (batch, 1 or feature)
        Observed scans, or how many independent ones would tell as much of the shift.
    freedom : ndarray, (batch, 1 or feature)
        Degrees of freedom behind the scales.
    """

    gamma: np.ndarray
    delta2: np.ndarray
    n: np.ndarray
    freedom: np.ndarray


def shrunken(
    hats: Hats, shrinkage: Shrinkage, mean_only: bool, sva: bool = False, in_place: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Return gamma, delta squared (batch, feature), hyper-parameters and the passes (batch,).

    The other arguments are those of `empirical_bayes`; `in_place` lets the estimates take the place of `hats`.
    """
    n = np.broadcast_to(hats.n, hats.gamma.shape)
    gamma, delta2 = (hats.gamma, hats.delta2) if in_place else (np.empty_like(hats.gamma), np.empty_like(hats.delta2))
    iterations, moments = np.zeros(len(n), dtype=np.int64), np.empty((len(n), 4))

    def work(batches: slice) -> None:
        for i in range(len(n))[batches]:
            level = _Level.of(hats, i, mean_only)
            if sva and mean_only and shrinkage == "parametric":
                # sva's mean-only shrinks as if every batch had one scan.
                level = replace(level, n=np.minimum(level.n, 1))
            moments[i] = prior = _Prior(*level.shifts(), *level.scales())
            gamma[i], delta2[i], iterations[i] = _shrink(level, prior, shrinkage, sva)

    many = n.shape[1] >= MANY_FEATURES
    side_by_side(work, [slice(i, i + 1) for i in range(len(n))] if many else [slice(None)])
    return gamma, delta2, _hyperparameters(*moments.T) if shrinkage == "parametric" else {}, iterations


def evidence_of(hats: Hats, mean_only: bool) -> dict[str, np.ndarray]:
    """Return what the posterior of the levels' effects is made of beside gamma_mean and gamma_sd, in units of sigma.

    ``gamma_unshrunken, delta_unshrunken, observed, freedom`` (batch, feature), and ``delta2_mean, delta2_variance``
    (batch,) of the inverse-gamma priors. Where nothing tells of a scale it is one, of no degrees of freedom.
    """
    levels = [_Level.of(hats, i, mean_only) for i in range(len(hats.gamma))]
    scales = np.array([level.scales() for level in levels])
    return {
        "gamma_unshrunken": np.stack([np.where(level.seen, level.gamma, 0.0) for level in levels]),
        "delta_unshrunken": np.sqrt([level.delta2 for level in levels]),
        "observed": np.stack([level.n for level in levels]),
        "freedom": np.stack([np.where(level.told, level.freedom, 0.0) for level in levels]),
        "delta2_mean": scales[:, 0],
        "delta2_variance": scales[:, 1],
    }


class _Prior(NamedTuple):
    """Mean and variance over the features of gamma, and of delta squared."""

    mean: float
    variance: float
    m: float
    v: float


class _Shrunken(NamedTuple):
    """Estimates of one batch, (feature,), and the passes that they took."""

    gamma: np.ndarray
    delta2: np.ndarray
    iterations: int


@dataclass(frozen=True, eq=False)
class _Level:
    """Unshrunken estimates of one batch, (feature,): `seen` where it has scans, `told` where these tell of scale."""

    gamma: np.ndarray
    delta2: np.ndarray
    n: np.ndarray
    freedom: np.ndarray
    seen: np.ndarray
    told: np.ndarray

    @classmethod
    def of(cls, hats: Hats, i: int, mean_only: bool) -> Self:
        """Return the estimates of batch i; if they are mean-only, nothing tells of scale."""
        gamma, delta2 = hats.gamma[i], hats.delta2[i]
        n, freedom = (np.broadcast_to(part[i], gamma.shape) for part in (hats.n, hats.freedom))
        told = (freedom >= LEAST_FREEDOM) & np.isfinite(delta2) & (not mean_only)
        return cls(gamma, np.where(told, delta2, 1.0), n, freedom, n > 0, told)

    def shifts(self) -> tuple[float, float]:
        """Return mean and variance over the features of what is seen of gamma."""
        return _mean_and_variance(self.gamma[self.seen])

    def scales(self) -> tuple[float, float]:
        """Return mean and variance over the features of what is told of delta squared."""
        return _mean_and_variance(self.delta2[self.told]) if self.told.any() else (1.0, 0.0)


def _mean_and_variance(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.var(ddof=1)) if len(values) > 1 else 0.0


def _shrink(level: _Level, prior: _Prior, shrinkage: Shrinkage, sva: bool) -> _Shrunken:
    """Return gamma, delta squared and the number of passes for one batch, all (feature,)."""
    if shrinkage == "none":
        return _Shrunken(np.where(level.seen, level.gamma, 0.0), level.delta2, 0)
    if shrinkage == "nonparametric":
        gamma, delta2 = _nonparametric(level)
        return _Shrunken(gamma, delta2 if level.told.any() else np.ones_like(delta2), 0)
    if not level.told.any():
        gamma = (prior.variance * level.n * level.gamma + prior.mean) / (prior.variance * level.n + 1)
        return _Shrunken(gamma, level.delta2, 0)
    return _fixed_point(level, prior, sva)


def _fixed_point(level: _Level, prior: _Prior, sva: bool) -> _Shrunken:
    """Alternate the conditional means of gamma and delta squared until they stand still."""
    mean, variance, m, v = prior
    n, gamma_hat = level.n, np.where(level.seen, level.gamma, mean)
    within, weight = np.where(level.told, level.freedom * level.delta2, 0.0), v * (level.freedom + 1) / 2 + v + m**2
    gamma, delta2 = gamma_hat.copy(), np.where(level.told, level.delta2, m)
    largest = np.fmax if sva else np.maximum

    def moved(block: slice) -> float:
        """Take some features one pass on, and return how far they move."""
        old_gamma, old_delta2, information = gamma[block], delta2[block], variance * n[block]
        new_gamma = (information * gamma_hat[block] + old_delta2 * mean) / (information + old_delta2)
        squares = within[block] + n[block] * (gamma_hat[block] - new_gamma) ** 2
        # The inverse-gamma update with both sides multiplied by v, so that v = 0 is a point prior at m.
        new_delta2 = (v * squares / 2 + m * (v + m**2)) / weight[block]
        by, relative = np.abs(new_gamma - old_gamma), np.abs(new_delta2 - old_delta2) / old_delta2
        if sva:
            # The signed denominator is sva's: features with negative gamma never hold the loop open.
            with np.errstate(divide="ignore", invalid="ignore"):
                by /= old_gamma
        gamma[block], delta2[block] = new_gamma, new_delta2
        return float(max(largest.reduce(by, initial=-np.inf), largest.reduce(relative, initial=-np.inf)))

    blocks = slices(len(n), FEATURES_AT_ONCE)
    for passes in range(1, MOST_ITERATIONS + 1):
        if largest.reduce([moved(block) for block in blocks]) <= (SVA_TOLERANCE if sva else TOLERANCE):
            return _Shrunken(gamma, delta2, passes)
    return _Shrunken(gamma, delta2, MOST_ITERATIONS)


def _nonparametric(level: _Level) -> tuple[np.ndarray, np.ndarray]:
    """Average the other features' estimates by how well they explain this feature (log-sum-exp)."""
    source = level.told if level.told.any() else level.seen
    gamma_hat, delta2_hat, size = level.gamma, level.delta2, level.n
    log_delta2 = np.log(delta2_hat)
    scans = level.freedom + 1
    within = np.where(level.told | ~level.told.any(), np.maximum(level.freedom, 0) * delta2_hat, 0.0)
    gamma, delta2 = np.empty_like(gamma_hat), np.empty_like(delta2_hat)
    for g in range(len(gamma_hat)):
        squares = within[g] + size[g] * (gamma_hat[g] - gamma_hat) ** 2
        log_weight = np.where(source, -(scans[g] * log_delta2 + squares / delta2_hat) / 2, -np.inf)
        if source.sum() > source[g]:
            log_weight[g] = -np.inf
        weight = np.exp(log_weight - logsumexp(log_weight))
        gamma[g], delta2[g] = weight @ gamma_hat, weight @ delta2_hat
    return gamma, delta2


def _hyperparameters(
    gamma_mean: np.ndarray, gamma_variance: np.ndarray, m: np.ndarray, v: np.ndarray
) -> dict[str, np.ndarray]:
    """Return what the priors say of gamma and of log delta, per batch, in units of sigma.

    They are given mean and variance over the features of gamma and of delta squared.
    """
    point = v <= 0
    # Any variance will do where the prior is a point: what follows from it is not used.
    shape = 2 + m**2 / np.where(point, 1, v)
    log_mean = np.where(point, np.log(m), np.log(m * (shape - 1)) - digamma(shape)) / 2
    log_sd = np.where(point, 0.0, np.sqrt(polygamma(1, shape))) / 2
    return {
        "gamma_mean": gamma_mean,
        "gamma_sd": np.sqrt(gamma_variance),
        "log_delta_mean": log_mean,
        "log_delta_sd": log_sd,
    }
