"""The random part of the model: what features and batches are drawn from, on the standardised scale."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.centring import as_sampled, beside_sharing, known_of_sds, share_of_data, spread_at_start
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
    "partly_centred",
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
    of_variables = [None] * len(suffixes) if sharing is None else sharing.of_variables
    pairs = zip(start.gamma, start.log_delta, of_variables, strict=True)
    besides = [beside_sharing(shifts, scales, one) for shifts, scales, one in pairs]
    start = replace(start, gamma=[shifts for shifts, _, _ in besides])
    hypers = [_hyper(suffix, priors, start, k, *besides[k][1:]) for k, suffix in enumerate(suffixes)]
    shared = None if sharing is None else declare_shared(moments, sharing, hypers)
    # What all batches have in common of what features share is part of alpha and sigma, as the data know them.
    share = moments.scans / moments.scans.sum()
    scale = 0.0 if shared is None else (share[:, None] * shared.squares).sum(axis=0)
    log_sigma = _beside("log_sigma_standard", scale, priors.log_sigma_sd, start.log_sigma)
    shift: Any = 0.0
    if shared is not None:
        common = [pt.dot(np.bincount(place, share), one) for place, one in zip(places, shared.effects, strict=True)]
        shift = pt.exp(log_sigma) * (pt.dot(share, shared.noise) + sum(common))
    alpha = _beside("alpha_standard", shift, priors.alpha_sd, start.alpha)
    beta = (
        pm.Normal("beta_standard", 0, priors.beta_sd, dims=("feature", "direction"), initval=start.beta)
        if start.beta.shape[1]
        else pt.zeros(start.beta.shape)
    )
    variables = []
    for k, suffix in enumerate(suffixes):
        variables.append(_variable(suffix, places[k], hypers[k], alpha, log_sigma, start, k, shared, _coupled(moments)))
    log_scale = variables[0].log_scale
    if len(variables) > 1:
        log_scale = sum(variable.log_scale[variable.place] for variable in variables)
    subject_sd = None if start.subject_sd is None else _subject_sd(priors, start)
    return Population(alpha, beta, log_sigma, variables, log_scale, shared, subject_sd)


def _beside(name: str, common: Any, sd: float, start: np.ndarray) -> Any:
    """Return a Normal(0, sd) variable of the features, sampled as its sum with what they have in common."""
    return pm.Normal(name, common, sd, dims="feature", initval=start) - common


def expected_shifts(population: Population) -> Any:
    """Return the prior means of the first variable's shifts, in units of sigma, (level, 1 or feature)."""
    mean = population.variables[0].gamma_mean[:, None]
    return mean if population.shared is None else mean + population.shared.effects[0]


def _hyper(suffix: str, priors: Priors, start: Start, k: int, of_shifts: np.ndarray, of_scales: np.ndarray) -> Hyper:
    """Declare what the effects of a batch variable's levels are drawn from, given what is known of their means."""
    dim = f"batch{suffix}"
    gamma = _batch_priors("gamma", suffix, dim, priors, start.gamma[k], of_shifts)
    return Hyper(*gamma, *_batch_priors("log_delta", suffix, dim, priors, start.log_delta[k], of_scales))


def _coupled(moments: Moments) -> bool:
    """Whether subjects tie the means of cells together, so that these cannot be integrated out one by one."""
    subjects = moments.subjects
    return subjects is not None and (len(moments.levels.active) > 1 or not subjects.nested)


def _subject_sd(priors: Priors, start: Start) -> Any:
    """Declare the spread of the subjects' intercepts, (feature,)."""
    assert start.subject_sd is not None and start.subject_information is not None
    typical = priors.subject_sd_median, priors.subject_sd_log_sd
    spread = priors.subject_sd_spread_median, priors.subject_sd_spread_log_sd
    return _spreads("subject_sd_standard", "", "feature", typical, spread, start.subject_information, start.subject_sd)


def _variable(
    suffix: str,
    place: np.ndarray,
    hyper: Hyper,
    alpha: Any,
    log_sigma: Any,
    start: Start,
    k: int,
    shared: Shared | None,
    coupled: bool,
) -> Variable:
    """Declare the effects of one batch variable; the first one's shifts are left open unless cells are coupled."""
    shifts, scales, dim = start.gamma[k], start.log_delta[k], f"batch{suffix}"
    # The first variable's scales are sampled as those of its cells, which the data know.
    level, level_start = (log_sigma, start.log_sigma) if k == 0 else (0.0, 0.0)
    known, noise = (1.0, 0.0) if shared is None else (shared.weight, shared.of_scales[k])
    log_scale = partly_centred(
        f"log_scale{suffix}",
        level + noise + hyper.log_delta_mean[:, None],
        hyper.log_delta_sd[:, None],
        share_of_data(known / scales.noise, scales.sd_low[:, None]),
        level_start + scales.effect,
        (level_start + scales.mean[:, None], scales.sd[:, None]),
        (dim, "feature"),
    )
    gamma = None
    if k > 0 or coupled:
        # The first variable's shifts are sampled as means of its cells, as far as the data know these by themselves.
        centring = start.centring if k == 0 else np.zeros(len(start.alpha))
        sigma, unit, origin = pt.exp(log_sigma), np.exp(start.log_sigma), centring * start.alpha
        along, along_at_start = (0.0, 0.0) if shared is None else (shared.effects[k], shared.at_start[k])
        gamma = -centring * alpha + partly_centred(
            f"gamma{suffix}",
            centring * alpha + sigma * (hyper.gamma_mean[:, None] + along),
            sigma * hyper.gamma_sd[:, None],
            share_of_data(1 / shifts.noise, shifts.sd_low[:, None]),
            origin + shifts.effect,
            (origin + unit * (shifts.mean[:, None] + along_at_start), unit * shifts.sd[:, None]),
            (dim, "feature"),
        )
    return Variable(suffix, place, hyper.gamma_mean, hyper.gamma_sd, gamma, log_scale - noise)


def partly_centred(
    name: str,
    mean: Any,
    sd: Any,
    weight: Any,
    start: np.ndarray,
    start_prior: tuple[Any, Any],
    dims: str | tuple[str, ...],
) -> Any:
    """Return a Normal(mean, sd) variable, sampled as itself at weight one and as its z-score at weight zero."""
    start_mean, start_sd = start_prior
    initial = as_sampled(start, start_mean, start_sd, weight)
    partly = pm.Normal(f"{name}_partly", weight * mean, sd**weight, dims=dims, initval=initial)
    return mean + sd ** (1 - weight) * (partly - weight * mean)


def _batch_priors(
    name: str, suffix: str, dim: str, priors: Priors, start: Effects, of_mean: np.ndarray
) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of the levels' effects on their features, (level,)."""

    def prior(field: str) -> tuple[float, float]:
        return getattr(priors, f"{name}_{field}_median"), getattr(priors, f"{name}_{field}_log_sd")

    mean = _batch_means(f"{name}_mean", suffix, dim, prior("mean"), of_mean, start)
    sd = _spreads(f"{name}_sd", suffix, dim, prior("sd"), prior("sd_spread"), known_of_sds(start), start.sd)
    return mean, sd


def _batch_means(
    name: str, suffix: str, dim: str, prior: tuple[float, float], information: np.ndarray, start: Effects
) -> Any:
    """Return per-batch prior means that sum to zero, with a learned spread across batches."""
    median, log_sd = prior
    # One weight for all batches, since they sum to zero together.
    weight = float(share_of_data(information, start.spread_low).min())
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(median), log_sd, initval=start.spread)
    initial = start.mean / start.spread ** (1 - weight)
    partly = pm.ZeroSumNormal(f"{name}_partly{suffix}", sigma=between**weight, dims=dim, initval=initial)
    return pm.Deterministic(f"{name}{suffix}", between ** (1 - weight) * partly, dims=dim)


def _spreads(
    name: str,
    suffix: str,
    dim: str,
    typical: tuple[float, float],
    spread: tuple[float, float],
    information: np.ndarray,
    start: np.ndarray,
) -> Any:
    """Return standard deviations, log-normal across a dimension with a learned middle and spread."""
    log_start = np.log(start)
    middle, width = spread_at_start(log_start, spread[0])
    log_typical = pm.Normal(f"{name}_log_typical{suffix}", np.log(typical[0]), typical[1], initval=middle)
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(spread[0]), spread[1], initval=width)
    weight = share_of_data(information, width)
    log_value = partly_centred(f"{name}_log{suffix}", log_typical, between, weight, log_start, (middle, width), dim)
    return pm.Deterministic(f"{name}{suffix}", pt.exp(log_value), dims=dim)
