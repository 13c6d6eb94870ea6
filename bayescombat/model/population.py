"""The random part of the model: what features and batches are drawn from, on the standardised scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.centring import (
    OFF_MODE,
    Known,
    Parametrisation,
    Turned,
    known_of_sds,
    levels_at_start,
    parametrised,
    spread_at_start,
)
from bayescombat.model.sharing import Hyper, Shared, declare_shared, places_of
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.scores import CrossedSharing, Sharing
from bayescombat.standard import Effects, Start

__all__ = [
    "Population",
    "Variable",
    "declare_population",
    "expected_shifts",
    "sampled_given_data",
]


@dataclass(frozen=True, eq=False)
class Variable:
    """The random part of one batch variable, (level, feature), on the standardised scale.

    Parameters
    ----------
    suffix : str
        What its names end in: nothing where it is the only variable, else its number (a column's name might make that
        of another parameter).
    place : ndarray of int, (cell,)
        Which of its levels each cell has.
    gamma_mean, gamma_sd : (level,)
        Prior of the shifts, in units of sigma.
    gamma : (level, feature), optional
        Shifts; those of the first variable are integrated out or declared later, unless subjects couple its cells.
    log_scale : (level, feature)
        Log scales; those of the first variable include log sigma.
    """

    suffix: str
    place: np.ndarray
    gamma_mean: Any
    gamma_sd: Any
    gamma: Any
    log_scale: Any


@dataclass(frozen=True, eq=False)
class Population:
    """The random part that every likelihood builds on, on the standardised scale.

    Parameters
    ----------
    alpha, log_sigma : (feature,)
    beta : (feature, direction)
    variables : sequence of Variable
    log_scale : (cell, feature)
    shared : Shared, optional
        Where features share factors.
    subject_sd : (feature,), optional
        Spread of the subjects' intercepts, where scans are repeated.
    """

    alpha: Any
    beta: Any
    log_sigma: Any
    variables: Sequence[Variable]
    log_scale: Any
    shared: Shared | None
    subject_sd: Any


def declare_population(
    moments: Moments, priors: Priors, start: Start, sharing: Sharing | CrossedSharing | None
) -> Population:
    """Declare the priors and return the random part."""
    suffixes, places = moments.levels.suffixes, places_of(moments)
    effects, squares = parametrised(moments, start, priors, sharing)
    hypers = [_hyper(suffix, priors, one) for suffix, one in zip(suffixes, effects, strict=True)]
    shared = None if sharing is None or squares is None else declare_shared(moments, sharing, squares, hypers)
    alpha, log_sigma = _declare_levels(moments, priors, start, effects, hypers, shared)
    beta = (
        pm.Normal("beta_standard", 0, priors.beta_sd, dims=("feature", "direction"), initval=start.beta)
        if start.beta.shape[1]
        else pt.zeros(start.beta.shape)
    )
    variables = []
    for k, suffix in enumerate(suffixes):
        variables.append(
            _variable(suffix, places[k], hypers[k], effects[k], alpha, log_sigma, start, k, shared, _coupled(moments))
        )
    log_scale = variables[0].log_scale
    if len(variables) > 1:
        log_scale = sum(variable.log_scale[variable.place] for variable in variables)
    subject_sd = None if start.subject_sd is None else _subject_sd(priors, start)
    return Population(alpha, beta, log_sigma, variables, log_scale, shared, subject_sd)


def _declare_levels(
    moments: Moments,
    priors: Priors,
    start: Start,
    effects: Sequence[Parametrisation],
    hypers: Sequence[Hyper],
    shared: Shared | None,
) -> tuple[Any, Any]:
    """Declare alpha and log sigma, (feature,), each sampled as its sum with what batches have in common.

    That is their average by how well they know the feature's level, so that these hang on each other no more.
    """
    pairs = list(zip(effects, hypers, strict=True))
    scale = sum((one.of_log_sigma * hyper.log_delta_mean[:, None]).sum(axis=0) for one, hyper in pairs)
    shift = sum((one.of_alpha * hyper.gamma_mean[:, None]).sum(axis=0) for one, hyper in pairs)
    if shared is not None:
        share = (moments.scans / moments.scans.sum())[:, None]
        of_cells = (effects[0].of_log_sigma, effects[0].of_alpha) if len(effects) == 1 else (share, share)
        along = zip(effects, shared.effects, strict=True)
        scale += (of_cells[0] * shared.squares).sum(axis=0)
        shift += (of_cells[1] * shared.noise).sum(axis=0) + sum((one.of_alpha * by).sum(axis=0) for one, by in along)
    of_sigma, of_alpha = levels_at_start(start, effects)
    log_sigma = pm.Normal("log_sigma_standard", scale, priors.log_sigma_sd, dims="feature", initval=of_sigma) - scale
    shift = pt.exp(log_sigma) * shift
    return pm.Normal("alpha_standard", shift, priors.alpha_sd, dims="feature", initval=of_alpha) - shift, log_sigma


def expected_shifts(population: Population) -> Any:
    """Return the prior means of the first variable's shifts, in units of sigma, (level, 1 or feature)."""
    mean = population.variables[0].gamma_mean[:, None]
    return mean if population.shared is None else mean + population.shared.effects[0]


def _hyper(suffix: str, priors: Priors, effects: Parametrisation) -> Hyper:
    """Declare what the effects of a batch variable's levels are drawn from."""
    gamma = _batch_priors("gamma", suffix, priors, effects.shifts, effects.shift_means)
    return Hyper(*gamma, *_batch_priors("log_delta", suffix, priors, effects.scales, effects.scale_means))


def _coupled(moments: Moments) -> bool:
    """Whether subjects tie the means of cells together, so that these cannot be integrated out one by one."""
    subjects = moments.subjects
    return subjects is not None and (len(moments.levels.active) > 1 or not subjects.nested)


def _subject_sd(priors: Priors, start: Start) -> Any:
    """Declare the spread of the subjects' intercepts, (feature,)."""
    assert start.subject_sd is not None and start.subject_information is not None
    typical = priors.subject_sd_median, priors.subject_sd_log_sd
    spread = priors.subject_sd_spread_median, priors.subject_sd_spread_log_sd
    known = Known.of(start.subject_information, np.log(start.subject_sd))
    return _spreads("subject_sd_standard", "", "feature", typical, spread, known, start.subject_sd)


def _variable(
    suffix: str,
    place: np.ndarray,
    hyper: Hyper,
    effects: Parametrisation,
    alpha: Any,
    log_sigma: Any,
    start: Start,
    k: int,
    shared: Shared | None,
    coupled: bool,
) -> Variable:
    """Declare the effects of one batch variable; the first one's shifts are left open unless cells are coupled."""
    shifts, scales, dims = effects.shifts, effects.scales, (f"batch{suffix}", "feature")
    # The first variable's scales are sampled as those of its cells, which the data know.
    level, level_start = (log_sigma, start.log_sigma) if k == 0 else (0.0, 0.0)
    noise = 0.0 if shared is None else shared.of_scales[k]
    log_scale = sampled_given_data(
        f"log_scale{suffix}",
        level + noise + hyper.log_delta_mean[:, None],
        hyper.log_delta_sd[:, None],
        Known.of(1 / scales.noise, level_start + scales.estimate),
        dims,
    )
    gamma = None
    if k > 0 or coupled:
        # The first variable's shifts are sampled as means of its cells, as far as the data know these by themselves.
        centring = start.centring if k == 0 else np.zeros(len(start.alpha))
        sigma, along = pt.exp(log_sigma), 0.0 if shared is None else shared.effects[k]
        gamma = -centring * alpha + sampled_given_data(
            f"gamma{suffix}",
            centring * alpha + sigma * (hyper.gamma_mean[:, None] + along),
            sigma * hyper.gamma_sd[:, None],
            Known.of(1 / shifts.noise, centring * start.alpha + shifts.estimate),
            dims,
        )
    return Variable(suffix, place, hyper.gamma_mean, hyper.gamma_sd, gamma, log_scale - noise)


def sampled_given_data(name: str, mean: Any, sd: Any, known: Known, dims: str | tuple[str, ...]) -> Any:
    """Return a Normal(mean, sd) variable, sampled as its z-score given what the data tell of it."""
    left = 1 / (1 + sd**2 * known.information)
    away, unit = sd**2 * left * (known.pull - known.information * mean), sd * pt.sqrt(left)
    initial = np.full(known.pull.shape, OFF_MODE)
    score = pm.Normal(f"{name}_given_data", -away / unit, 1 / pt.sqrt(left), dims=dims, initval=initial)
    return mean + away + unit * score


def _batch_priors(name: str, suffix: str, priors: Priors, effects: Effects, means: Turned) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of the levels' effects on their features, (level,)."""

    def prior(field: str) -> tuple[float, float]:
        return getattr(priors, f"{name}_{field}_median"), getattr(priors, f"{name}_{field}_log_sd")

    dim = f"batch{suffix}"
    mean = _batch_means(f"{name}_mean", suffix, dim, prior("mean"), means, effects.spread)
    known = known_of_sds(effects)
    return mean, _spreads(f"{name}_sd", suffix, dim, prior("sd"), prior("sd_spread"), known, effects.sd)


def _batch_means(name: str, suffix: str, dim: str, prior: tuple[float, float], means: Turned, start: float) -> Any:
    """Return per-batch prior means that sum to zero, with a learned spread across batches."""
    median, log_sd = prior
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(median), log_sd, initval=start)
    along = sampled_given_data(f"{name}{suffix}", 0.0, between, means.known, f"contrast{suffix}")
    return pm.Deterministic(f"{name}{suffix}", pt.dot(means.basis, along), dims=dim)


def _spreads(
    name: str,
    suffix: str,
    dim: str,
    typical: tuple[float, float],
    spread: tuple[float, float],
    known: Known,
    start: np.ndarray,
) -> Any:
    """Return standard deviations, log-normal across a dimension with a learned middle and spread."""
    middle, width = spread_at_start(np.log(start), spread[0])
    log_typical = pm.Normal(f"{name}_log_typical{suffix}", np.log(typical[0]), typical[1], initval=middle)
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(spread[0]), spread[1], initval=width)
    log_value = sampled_given_data(f"{name}_log{suffix}", log_typical, between, known, dim)
    return pm.Deterministic(f"{name}{suffix}", pt.exp(log_value), dims=dim)
