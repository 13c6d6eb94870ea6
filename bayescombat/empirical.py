"""Empirical Bayes: from moments to estimates, in closed form or by a fixed point per batch. Arrays only.

The published algorithm is that of Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037, as the
R package sva runs it.  Residuals sum to zero within each batch, so the sizes, means and sums of squares of the
batches are all that it needs of the data.  Where cells are missing, every feature is fitted to the scans that it was
observed in.  With several batch variables the least squares are joint and additive, the log scales likewise, and each
variable's levels are shrunken as batches are.
"""

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from scipy.special import digamma, logsumexp, polygamma

from bayescombat.blocks import side_by_side
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares
from bayescombat.repeated import fixed_effects

__all__ = [
    "Compat",
    "Estimates",
    "LEAST_FREEDOM",
    "Hats",
    "Shrinkage",
    "empirical_bayes",
    "estimates_of",
    "shrunken",
    "unshrunken",
]

Shrinkage = Literal["parametric", "nonparametric", "none"]
Compat = Literal["sva", "longcombat"]
TOLERANCE = 1e-12
SVA_TOLERANCE = 1e-4
MOST_ITERATIONS = 10_000
# Degrees of freedom below which residuals tell nothing of a scale.
LEAST_FREEDOM = 0.5
# From so many on batches are shrunken in threads.
MANY_FEATURES = 5_000


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
    subject_sd : ndarray, (feature,), optional
        Standard deviation of the subjects' intercepts, where scans are repeated.
    gamma_unshrunken : ndarray, (batch, feature), optional
        What intercepts are predicted from by longitudinal ComBat as published.
    smooth_sd : ndarray, (feature, smooth)
        Standard deviations of the smooths' coefficients.
    """

    alpha: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    hyper: dict[str, np.ndarray]
    iterations: np.ndarray
    subject_sd: np.ndarray | None = None
    gamma_unshrunken: np.ndarray | None = None
    smooth_sd: np.ndarray | None = None


def empirical_bayes(
    moments: Moments,
    shrinkage: Shrinkage = "parametric",
    mean_only: bool = False,
    compat: Compat | None = None,
    fit: LeastSquares | None = None,
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
    compat : {"sva", "longcombat"}, optional
        Reproduce an R package: what is known to be wrong with it too.
    fit : LeastSquares, optional
        The fixed effects, where they are known already.

    Notes
    -----
    Where scans are repeated, the published algorithm (Beer et al. 2020, doi:10.1016/j.neuroimage.2020.117129) takes
    the shifts for as sure as if all scans were independent, and divides sums of squares by n - 1 although subjects'
    intercepts took their part: shifts are shrunken too little and scales come out too small.
    """
    fit, sva = fixed_effects(moments) if fit is None else fit, compat == "sva"
    if compat == "longcombat":
        fit = replace(fit, precision=moments.n, freedom=np.maximum(moments.n - 1, 0))
    if sva and (moments.scans < 2).any():
        mean_only = True
    alpha, sigma, hats = unshrunken(moments, fit, sva)
    unshrunken_gamma = sigma * hats.gamma if compat == "longcombat" else None
    at = None if moments.reference is None else moments.levels.positions([moments.reference])[0]
    found = estimates_of(alpha, fit.beta, sigma, hats, shrinkage, mean_only, sva, at)
    return replace(found, subject_sd=fit.subject_sd, gamma_unshrunken=unshrunken_gamma, smooth_sd=fit.smooth_sd)


def estimates_of(
    alpha: np.ndarray,
    beta: np.ndarray,
    sigma: np.ndarray,
    hats: Hats,
    shrinkage: Shrinkage,
    mean_only: bool,
    sva: bool = False,
    reference: np.ndarray | None = None,
) -> Estimates:
    """Return the estimates, given what is not shrunken; `reference` holds the positions of levels that stay."""
    gamma, delta, hyper, iterations = shrunken(hats, shrinkage, mean_only, sva)
    if reference is not None:
        gamma[reference], delta[reference], iterations[reference] = 0.0, 1.0, 0
    gamma *= sigma
    np.sqrt(delta, out=delta)
    return Estimates(alpha, beta, sigma, gamma, delta, hyper, iterations)


def shrunken(
    hats: Hats, shrinkage: Shrinkage, mean_only: bool, sva: bool = False
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Return gamma, delta squared (batch, feature), hyper-parameters and the passes (batch,); see `empirical_bayes`."""
    n, freedom = (np.broadcast_to(part, hats.gamma.shape) for part in (hats.n, hats.freedom))
    gamma, delta2 = np.empty_like(hats.gamma), np.empty_like(hats.delta2)
    iterations, moments = np.zeros(len(n), dtype=np.int64), np.empty((len(n), 4))

    def work(batches: slice) -> None:
        for i in range(len(n))[batches]:
            told = (freedom[i] >= LEAST_FREEDOM) & np.isfinite(hats.delta2[i]) & (not mean_only)
            # sva's mean-only shrinks as if every batch had one scan.
            size = np.minimum(n[i], 1) if sva and mean_only and shrinkage == "parametric" else n[i]
            delta2_hat = np.where(told, hats.delta2[i], 1.0)
            level = _Level(hats.gamma[i], delta2_hat, size, freedom[i], n[i] > 0, told)
            gamma[i], delta2[i], iterations[i] = _shrink(level, shrinkage, sva)
            moments[i] = *level.shifts(), *level.scales()

    many = n.shape[1] >= MANY_FEATURES
    side_by_side(work, [slice(i, i + 1) for i in range(len(n))] if many else [slice(None)])
    return gamma, delta2, _hyperparameters(*moments.T) if shrinkage == "parametric" else {}, iterations


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

    def shifts(self) -> tuple[float, float]:
        """Return mean and variance over the features of what is seen of gamma."""
        return _mean_and_variance(self.gamma[self.seen])

    def scales(self) -> tuple[float, float]:
        """Return mean and variance over the features of what is told of delta squared."""
        return _mean_and_variance(self.delta2[self.told]) if self.told.any() else (1.0, 0.0)


def _mean_and_variance(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.var(ddof=1)) if len(values) > 1 else 0.0


def unshrunken(moments: Moments, fit: LeastSquares, sva: bool = False) -> tuple[np.ndarray, np.ndarray, Hats]:
    """Return alpha, sigma and the levels' effects before shrinkage."""
    additive, n = fit.additive, moments.n
    holes = (n != moments.scans[:, None]).any()
    # sva weights batches by all scans, and takes a variance with one degree of freedom less, if any cell is missing.
    weights = moments.scans[:, None] / moments.scans.sum() if sva else additive.share()
    lost = 1 if sva and holes else 0
    origin, gamma = additive.effects(fit.cell_mean)
    repeated = fit.subject_sd is not None
    alpha = (weights * fit.cell_mean).sum(axis=0)
    variance = fit.variance if repeated else fit.ssr.sum(axis=0) / (n.sum(axis=0) - lost)
    if moments.reference is not None and not additive.crossed:
        at = moments.batches.index(moments.reference)
        alpha, variance = fit.cell_mean[at], _of_reference(fit, at) if repeated else fit.ssr[at] / (n[at] - lost)
    gamma, delta2 = gamma + (origin - alpha), _scales(fit, variance)
    if moments.reference is not None and additive.crossed:
        levels = moments.levels
        at, owner = levels.positions([moments.reference])[0], np.repeat(np.arange(len(levels.sizes)), levels.sizes)
        alpha, gamma = origin + gamma[at].sum(axis=0), gamma - gamma[at[owner]]
        own = np.where(np.isnan(delta2[at]), 1.0, delta2[at])
        variance, delta2 = variance * own.prod(axis=0), delta2 / own[owner]
    sigma = np.sqrt(variance)
    size, freedom = (additive.indicator.T @ part for part in (fit.precision, fit.freedom))
    return alpha, sigma, Hats(gamma / sigma, delta2, size, freedom if repeated else size - 1)


def _of_reference(fit: LeastSquares, at: int) -> np.ndarray:
    """Return the residual variance of the reference batch (feature,): the common one where intercepts leave it none."""
    freedom = fit.freedom[at]
    told = freedom >= LEAST_FREEDOM
    return np.where(told, fit.ssr[at] / np.where(told, freedom, 1), fit.variance)


def _scales(fit: LeastSquares, variance: np.ndarray) -> np.ndarray:
    """Return the levels' squared scales (level, feature), NaN where nothing tells of them.

    With several variables log scales add up: each variable's are fitted to the squares given the others', in turn,
    and have the same average over the scans.
    """
    additive = fit.additive
    indicator = additive.indicator
    total = indicator.T @ fit.freedom
    told = np.broadcast_to(total >= LEAST_FREEDOM, (len(total), fit.ssr.shape[1]))
    squares = fit.ssr / variance
    if not additive.crossed:
        return np.where(told, squares / np.where(total > 0, total, 1), np.nan)
    scales = np.ones((len(total), fit.ssr.shape[1]))
    columns, freedom = additive.positions.T, total[np.unique(additive.positions[:, 0])].sum(axis=0)
    for _ in range(MOST_ITERATIONS):
        before = scales.copy()
        for k, column in enumerate(columns):
            mine = np.unique(column)
            others = np.delete(scales[additive.positions], k, axis=1).prod(axis=1)
            found = indicator[:, mine].T @ (squares / others) / np.where(total > 0, total, 1)[mine]
            scales[mine] = np.where(told[mine], found, 1.0)
        levels = [np.unique(column) for column in columns]
        averages = [(additive.size[mine] * scales[mine]).sum(axis=0) / freedom for mine in levels]
        for mine, average in zip(levels, averages, strict=True):
            scales[mine] *= np.prod(averages, axis=0) ** (1 / len(levels)) / average
        if np.abs(scales / before - 1).max() <= TOLERANCE:
            break
    return np.where(told, scales, np.nan)


def _shrink(level: _Level, shrinkage: Shrinkage, sva: bool) -> _Shrunken:
    """Return gamma, delta squared and the number of passes for one batch, all (feature,)."""
    if shrinkage == "none":
        return _Shrunken(np.where(level.seen, level.gamma, 0.0), level.delta2, 0)
    if shrinkage == "nonparametric":
        gamma, delta2 = _nonparametric(level)
        return _Shrunken(gamma, delta2 if level.told.any() else np.ones_like(delta2), 0)
    mean, variance = level.shifts()
    if not level.told.any():
        gamma = (variance * level.n * level.gamma + mean) / (variance * level.n + 1)
        return _Shrunken(gamma, level.delta2, 0)
    return _fixed_point(level, mean, variance, sva)


def _fixed_point(level: _Level, mean: float, variance: float, sva: bool) -> _Shrunken:
    """Alternate the conditional means of gamma and delta squared until they stand still."""
    n, gamma_hat = level.n, np.where(level.seen, level.gamma, mean)
    m, v = level.scales()
    within, scans = np.where(level.told, level.freedom * level.delta2, 0.0), level.freedom + 1
    gamma, delta2 = gamma_hat, np.where(level.told, level.delta2, m)
    iteration = 0
    while iteration < MOST_ITERATIONS:
        iteration += 1
        new_gamma = (variance * n * gamma_hat + delta2 * mean) / (variance * n + delta2)
        squares = within + n * (gamma_hat - new_gamma) ** 2
        # The inverse-gamma update with both sides multiplied by v, so that v = 0 is a point prior at m.
        new_delta2 = (v * squares / 2 + m * (v + m**2)) / (v * scans / 2 + v + m**2)
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
    return _Shrunken(gamma, delta2, iteration)


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
