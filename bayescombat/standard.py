"""Moments on the model's scale, and what they say before any sampling. Arrays only.

A feature is centred and divided by its residual standard deviation within batches; design columns are
centred and whitened. Nothing here reaches a user: parameters leave the model in feature units.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.special import digamma, polygamma, softmax

from bayescombat.additive import Additive
from bayescombat.moments import Moments, Subjects
from bayescombat.priors import Priors
from bayescombat.regression import LeastSquares
from bayescombat.reml import Slopes, Swept, restricted_deviance
from bayescombat.repeated import fixed_effects

__all__ = ["Effects", "Standardised", "Start", "between", "standardise", "starting_point"]


GRID = 81
SWEEPS = 4
TYPICAL_WIDTH = 0.3
# Fewer degrees of freedom say nothing of a scale, and may be rounding error where levels hardly connect.
NO_FREEDOM = 0.1
LEAST_SPREAD = 0.1


@dataclass(frozen=True, eq=False)
class Standardised:
    """Moments on the standardised scale.

    Parameters
    ----------
    fit : LeastSquares
        The fixed-effects fit that centre and unit come from, in feature units.
    location, scale : ndarray, (feature,)
        Centre and unit of every feature, in feature units.
    center : ndarray, (1 or feature, covariate)
        Average covariates.
    whitener : ndarray, (1 or feature, covariate, covariate)
        ``(x - center) @ whitener`` is the whitened design.
    n : ndarray, (batch, 1 or feature)
    mean_x, sxx : ndarray, (batch, 1 or feature, covariate[, covariate])
    mean_y, syy : ndarray, (batch, feature)
    sxy : ndarray, (batch, feature, covariate)
    subjects : Subjects, optional
        With their means on this scale.
    """

    fit: LeastSquares
    location: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    whitener: np.ndarray
    n: np.ndarray
    mean_x: np.ndarray
    sxx: np.ndarray
    mean_y: np.ndarray
    sxy: np.ndarray
    syy: np.ndarray
    subjects: Subjects | None


@dataclass(frozen=True, eq=False)
class Effects:
    """Stabilised estimates of one kind of batch effect, shifts or log scales, on the standardised scale.

    Parameters
    ----------
    level : ndarray, (feature,)
        What the batches of a feature have in common.
    effect, estimate : ndarray, (batch, feature)
        Differences from the level, shrunken and as they are.
    noise : ndarray, (batch, feature)
        Sampling variances of the latter; infinite where a cell says nothing.
    mean, sd, sd_low : ndarray, (batch,)
        Of the effects over the features; the means sum to zero. The last is a low guess of the spread, one posterior
        standard deviation down.
    spread : float
        Of the means over the batches.
    """

    level: np.ndarray
    effect: np.ndarray
    estimate: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    sd_low: np.ndarray
    spread: float


@dataclass(frozen=True, eq=False)
class Start:
    """Where chains start, on the standardised scale.

    Parameters
    ----------
    alpha, log_sigma : ndarray, (feature,)
    beta : ndarray, (feature, direction)
        Of the unpenalised directions.
    gamma, log_delta : list of Effects
        Of the levels of every batch variable.
    subject_sd : ndarray, (feature,), optional
        Spread of the subjects' intercepts.
    subject_information : ndarray, (feature,), optional
        What the subjects tell of its logarithm.
    centring : ndarray, (feature,)
        Share of its own in what is known of a cell mean, the rest being what all of them have in common.
    bends : Bends, optional
        Of smooths.
    """

    alpha: np.ndarray
    log_sigma: np.ndarray
    beta: np.ndarray
    gamma: list[Effects]
    log_delta: list[Effects]
    subject_sd: np.ndarray | None
    subject_information: np.ndarray | None
    centring: np.ndarray
    bends: "Bends | None" = None


@dataclass(frozen=True, eq=False)
class Bends:
    """Stabilised estimates of the smooths' coefficients, on the standardised scale.

    Parameters
    ----------
    owner : ndarray of int, (bend,)
        Which smooth each penalised direction belongs to.
    coefficient : ndarray, (feature, bend)
    information : ndarray, (1 or feature, bend)
        What the data tell of each, as inverse variance.
    log_sd, width : ndarray, (feature, smooth)
        Logarithm of their standard deviation, and how unsure that is.
    typical, spread : ndarray, (smooth,)
        Mean and spread of these over the features.
    """

    owner: np.ndarray
    coefficient: np.ndarray
    information: np.ndarray
    log_sd: np.ndarray
    width: np.ndarray
    typical: np.ndarray
    spread: np.ndarray


def standardise(moments: Moments) -> Standardised:
    """Return the moments on the model's scale."""
    fit = fixed_effects(moments)
    location = (fit.additive.share() * fit.cell_mean).sum(axis=0)
    scale = np.sqrt(fit.variance)
    root = fit.whitener
    transposed = root.swapaxes(1, 2)
    return Standardised(
        fit=fit,
        location=location,
        scale=scale,
        center=fit.center,
        whitener=root,
        n=moments.n,
        mean_x=(transposed @ (moments.mean_x - fit.center)[..., None])[..., 0],
        sxx=transposed @ moments.sxx @ root,
        mean_y=(moments.mean_y - location) / scale,
        sxy=(transposed @ moments.sxy[..., None])[..., 0] / scale[:, None],
        syy=moments.syy / scale**2,
        subjects=None if moments.subjects is None else _subjects(moments.subjects, fit, location, scale),
    )


def _subjects(subjects: Subjects, fit: LeastSquares, location: np.ndarray, scale: np.ndarray) -> Subjects:
    offset = np.einsum("nfp,fpq->nfq", subjects.mean_x - fit.center, fit.whitener)
    return replace(subjects, mean_x=offset, mean_y=(subjects.mean_y - location) / scale)


def starting_point(standard: Standardised, priors: Priors) -> Start:
    """Estimate every parameter from the moments, with care for batches of one to three scans."""
    fit = standard.fit
    log_sigma, scales = _by_variable(fit.additive, *_log_scales(standard), priors, "log_delta")
    log_scale = log_sigma + fit.additive.cells(np.concatenate([scale.effect for scale in scales]))
    mean = (fit.cell_mean - standard.location) / standard.scale
    n = np.broadcast_to(fit.precision, mean.shape)
    noise = np.divide(np.exp(2 * log_scale), n, out=np.full(n.shape, np.inf), where=n > 0)
    alpha, shifts = _by_variable(fit.additive, mean, noise, priors, "gamma")
    spread, information = _of_subjects(standard, priors)
    own = np.nanmedian(np.where(n > 0, noise, np.nan), axis=0)
    beside = (spread, information, own / (own + fit.shared))
    if fit.curves is None:
        return Start(alpha, log_sigma, _directions(standard, fit.beta), shifts, scales, *beside)
    log_sd, width, typical, spread = _bent(fit.curves.swept, fit.curves.ratios, priors)
    swept, free = fit.curves.swept, len(fit.curves.swept.fixed)
    slopes = _directions(standard, Slopes(swept, np.exp(2 * log_sd)).beta)
    information = np.einsum("bfpp->fp", standard.sxx)[:, free:]
    bends = Bends(swept.owner, slopes[:, free:], information, log_sd, width, typical, spread)
    return Start(alpha, log_sigma, slopes[:, :free], shifts, scales, *beside, bends)


def _of_subjects(standard: Standardised, priors: Priors) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return the spread of intercepts, drawn together over the features, and what is known of its logarithm."""
    subjects, found = standard.subjects, standard.fit.subject_sd
    if subjects is None or found is None:
        return None, None
    scans = subjects.total(subjects.n)
    count = np.maximum((scans > 0).sum(axis=0), 2)
    spread = np.maximum(found / standard.scale, LEAST_SPREAD)
    reliability = spread**2 / (spread**2 + count / scans.sum(axis=0))
    noise = 1 / (2 * reliability**2 * (count - 1))
    width, prior = priors.subject_sd_spread_median, np.log(priors.subject_sd_median)
    precision = 1 / (width**2 + noise)
    weight = 1 / priors.subject_sd_log_sd**2
    middle = (prior * weight + (precision * np.log(spread)).sum()) / (weight + precision.sum())
    shrunken = middle + width**2 * precision * (np.log(spread) - middle)
    return np.exp(shrunken), 1 / noise


def _directions(standard: Standardised, beta: np.ndarray) -> np.ndarray:
    """Return slopes of the design columns as slopes of the directions, (feature, direction)."""
    return np.asarray((np.linalg.inv(standard.whitener) @ beta[..., None])[..., 0] / standard.scale[:, None])


def _bent(swept: Swept, ratios: np.ndarray, priors: Priors) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return how far the smooths bend: what `Bends` holds from `log_sd` to `spread`.

    Each is taken on a grid, by its restricted likelihood given the other smooths; after the first sweep under the
    prior of a feature like the others.
    """
    log_sd, width = np.empty(ratios.shape), np.empty(ratios.shape)
    grid = _log_grid(priors.smooth_sd_median)
    shape = ratios.shape[1]
    typical, spread = np.full(shape, np.log(priors.smooth_sd_median)), np.full(shape, priors.smooth_sd_log_sd)
    for k in range(shape):
        evidence = np.empty((len(ratios), GRID))
        for i, place in enumerate(grid):
            some = ratios.copy()
            some[:, k] = np.exp(2 * place)
            evidence[:, i] = -restricted_deviance(swept, some) / 2
        for _ in range(SWEEPS):
            found = [_posterior(one, grid, typical[k], spread[k]) for one in evidence]
            log_sd[:, k], width[:, k] = np.transpose(found)
            typical[k], spread[k] = log_sd[:, k].mean(), max(log_sd[:, k].std(), TYPICAL_WIDTH)
    return log_sd, width, typical, spread


def _log_scales(standard: Standardised) -> tuple[np.ndarray, np.ndarray]:
    """Return each cell's log standard deviation and its sampling variance, infinite for a single scan."""
    fit = standard.fit
    free = fit.freedom
    # Each batch pays its share of the slopes' degrees of freedom.
    total = free.sum(axis=0)
    freedom = np.broadcast_to(free * (total - fit.taken) / total, fit.ssr.shape)
    usable = np.broadcast_to(free > NO_FREEDOM, freedom.shape)
    half = np.where(usable, freedom, 1) / 2
    squares = np.where(usable, fit.ssr / standard.scale**2, 1)
    usable = usable & (squares > 0)
    estimate = (np.log(np.where(usable, squares, 1) / 2) - digamma(half)) / 2
    return np.where(usable, estimate, 0.0), np.where(usable, polygamma(1, half) / 4, np.inf)


def _by_variable(
    additive: Additive, values: np.ndarray, noise: np.ndarray, priors: Priors, name: str
) -> tuple[np.ndarray, list[Effects]]:
    """Split cells (batch, feature) into the features' levels and the effects of every batch variable."""
    if not additive.crossed:
        effects = _effects(values, noise, priors, name)
        return effects.level, [effects]
    weighted = Additive(additive.positions, 1 / noise)
    origin, levels = weighted.effects(values)
    size = weighted.size
    of_levels = np.divide(1, size, out=np.full(size.shape, np.inf), where=size > 0)
    found = [_effects(levels[mine], of_levels[mine], priors, name) for mine in map(np.unique, additive.positions.T)]
    return origin + np.sum([effects.level for effects in found], axis=0), found


def _effects(values: np.ndarray, noise: np.ndarray, priors: Priors, name: str) -> Effects:
    """Split cells (batch, feature) into feature levels, batch means, and the batches' effects on the features."""
    known = np.isfinite(noise)
    mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    mean -= mean.mean()
    centred = np.where(known, values - mean[:, None], 0.0)
    sd, low = _spreads(centred, noise, getattr(priors, f"{name}_sd_median"), getattr(priors, f"{name}_sd_log_sd"))
    signal = sd[:, None] ** 2
    precision = 1 / (signal + noise)
    level = (precision * centred).sum(axis=0) / precision.sum(axis=0)
    effect = mean[:, None] + signal * precision * (centred - level)
    expected = getattr(priors, f"{name}_mean_median"), getattr(priors, f"{name}_mean_log_sd")
    spread = between(mean, precision.sum(axis=1), *expected)
    return Effects(level, effect, np.where(known, values - level, mean[:, None]), noise, mean, sd, low, spread)


def between(mean: np.ndarray, precision: np.ndarray, median: float, log_sd: float) -> float:
    """Return the spread of the batches' means (batch,), of which each is known by a precision."""
    grid = _log_grid(median)
    known = precision > 0
    variance = np.exp(2 * grid)[:, None] + 1 / precision[known]
    evidence = -(np.log(variance) + mean[known] ** 2 / variance).sum(axis=1) / 2
    return float(np.exp(_posterior(evidence, grid, np.log(median), log_sd)[0]))


def _spreads(values: np.ndarray, noise: np.ndarray, median: float, log_sd: float) -> tuple[np.ndarray, np.ndarray]:
    """Return each batch's spread over the features, and a low guess of it, (batch,).

    Values (batch, feature) are Normal(level of the feature, spread² + noise); the levels are integrated out. Each
    spread's posterior is taken on a grid given the others, a few times over; after the first sweep under the prior of a
    batch like the others.
    """
    grid = _log_grid(median)
    log_spread, width_of = np.full(len(values), np.log(median)), np.zeros(len(values))
    center, width = np.log(median), log_sd
    for _ in range(SWEEPS):
        for i in range(len(values)):
            precision = 1 / (np.exp(2 * log_spread)[:, None] + noise)
            precision[i] = 0
            evidence = _evidence(values, precision, i, 1 / (np.exp(2 * grid)[:, None] + noise[i]))
            log_spread[i], width_of[i] = _posterior(evidence, grid, center, width)
        center, width = float(np.median(log_spread)), max(float(log_spread.std()), TYPICAL_WIDTH)
    return np.exp(log_spread), np.exp(log_spread - width_of)


def _evidence(values: np.ndarray, others: np.ndarray, i: int, precision: np.ndarray) -> np.ndarray:
    """Return the log-likelihood of every precision (grid, feature) of batch i, given those of the others."""
    total = others.sum(axis=0) + precision
    cross = (others * values).sum(axis=0) + precision * values[i]
    squares = (others * values**2).sum(axis=0) + precision * values[i] ** 2 - cross**2 / total
    informed = precision > 0
    log_precision = np.log(np.where(informed, precision, 1))
    return np.asarray((log_precision - np.log(total) - squares).sum(axis=1) / 2)


def _log_grid(median: float) -> np.ndarray:
    return np.asarray(np.log(median) + np.linspace(-4, 4, GRID))


def _posterior(evidence: np.ndarray, grid: np.ndarray, center: float, width: float) -> tuple[float, float]:
    """Return mean and standard deviation on a grid under a normal prior."""
    posterior = softmax(evidence - ((grid - center) / width) ** 2 / 2)
    mean = float(posterior @ grid)
    return mean, float(np.sqrt(posterior @ (grid - mean) ** 2))
