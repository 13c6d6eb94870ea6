"""The random part of the model: what features and batches are drawn from, on the standardised scale."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.standard import Effects, Start

__all__ = ["Population", "Variable", "declare_population"]

OFF_MODE = 0.1


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
        Shifts; those of the first variable are integrated out or declared later.
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
    """The random part that every likelihood builds on, on the standardised scale; `log_scale` is (cell, feature)."""

    alpha: Any
    beta: Any
    log_sigma: Any
    variables: Sequence[Variable]
    log_scale: Any


def declare_population(moments: Moments, priors: Priors, start: Start) -> Population:
    """Declare the priors and return the random part."""
    alpha = pm.Normal("alpha_standard", 0, priors.alpha_sd, dims="feature", initval=start.alpha)
    beta = (
        pm.Normal("beta_standard", 0, priors.beta_sd, dims=("feature", "direction"), initval=start.beta)
        if start.beta.shape[1]
        else pt.zeros(start.beta.shape)
    )
    log_sigma = pm.Normal("log_sigma_standard", 0, priors.log_sigma_sd, dims="feature", initval=start.log_sigma)
    names = moments.levels.active
    variables = []
    for k in range(len(names)):
        place = moments.positions[:, k] - moments.positions[:, k].min()
        suffix = "" if len(names) == 1 else f"_{k + 1}"
        variables.append(_variable(suffix, place, priors, log_sigma, start, k))
    log_scale = variables[0].log_scale
    if len(variables) > 1:
        log_scale = sum(variable.log_scale[variable.place] for variable in variables)
    return Population(alpha, beta, log_sigma, variables, log_scale)


def _variable(suffix: str, place: np.ndarray, priors: Priors, log_sigma: Any, start: Start, k: int) -> Variable:
    """Declare the effects of one batch variable; the first one's shifts are left open."""
    shifts, scales, dim = start.gamma[k], start.log_delta[k], f"batch{suffix}"
    gamma_mean, gamma_sd = _batch_priors("gamma", suffix, dim, priors, shifts)
    log_delta_mean, log_delta_sd = _batch_priors("log_delta", suffix, dim, priors, scales)
    # The first variable's scales are sampled as those of its cells, which the data know.
    level, level_start = (log_sigma, start.log_sigma) if k == 0 else (0.0, 0.0)
    log_scale = _partly_centred(
        f"log_scale{suffix}",
        level + log_delta_mean[:, None],
        log_delta_sd[:, None],
        _weight(1 / scales.noise, scales.sd_low[:, None]),
        level_start + scales.effect,
        (level_start + scales.mean[:, None], scales.sd[:, None]),
        (dim, "feature"),
    )
    gamma = None
    if k > 0:
        sigma = pt.exp(log_sigma)
        gamma = _partly_centred(
            f"gamma{suffix}",
            sigma * gamma_mean[:, None],
            sigma * gamma_sd[:, None],
            _weight(1 / shifts.noise, shifts.sd_low[:, None]),
            shifts.effect,
            (np.exp(start.log_sigma) * shifts.mean[:, None], np.exp(start.log_sigma) * shifts.sd[:, None]),
            (dim, "feature"),
        )
    return Variable(suffix, place, gamma_mean, gamma_sd, gamma, log_scale)


def _partly_centred(
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
    initial = weight * start_mean + (start - start_mean) / start_sd ** (1 - weight)
    # What nothing was observed of would start at its mode, whose gradient of zero the sampler refuses.
    initial = np.where((weight == 0) & (initial == 0), OFF_MODE, initial)
    partly = pm.Normal(f"{name}_partly", weight * mean, sd**weight, dims=dims, initval=initial)
    return mean + sd ** (1 - weight) * (partly - weight * mean)


def _weight(information: np.ndarray, sd: Any) -> np.ndarray:
    """Return the share of the data in what is known of a variable with prior standard deviation `sd`."""
    return np.asarray(information / (information + 1 / sd**2))


def _batch_priors(name: str, suffix: str, dim: str, priors: Priors, start: Effects) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of the levels' effects on their features, (level,)."""

    def prior(field: str) -> tuple[float, float]:
        return getattr(priors, f"{name}_{field}_median"), getattr(priors, f"{name}_{field}_log_sd")

    # Low guesses, since a funnel opens where a spread is nearly zero.
    signal = start.sd_low[:, None] ** 2
    share = signal / (signal + start.noise)
    known = 1 / (signal + start.noise)
    mean = _batch_means(f"{name}_mean", suffix, dim, prior("mean"), known.sum(axis=1), start)
    information = (2 * share**2).sum(axis=1)
    sd = _batch_spreads(f"{name}_sd", suffix, dim, prior("sd"), prior("sd_spread"), information, start)
    return mean, sd


def _batch_means(
    name: str, suffix: str, dim: str, prior: tuple[float, float], information: np.ndarray, start: Effects
) -> Any:
    """Return per-batch prior means that sum to zero, with a learned spread across batches."""
    median, log_sd = prior
    # One weight for all batches, since they sum to zero together.
    weight = float(_weight(information, start.spread_low).min())
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(median), log_sd, initval=start.spread)
    initial = start.mean / start.spread ** (1 - weight)
    partly = pm.ZeroSumNormal(f"{name}_partly{suffix}", sigma=between**weight, dims=dim, initval=initial)
    return pm.Deterministic(f"{name}{suffix}", between ** (1 - weight) * partly, dims=dim)


def _batch_spreads(
    name: str,
    suffix: str,
    dim: str,
    typical: tuple[float, float],
    spread: tuple[float, float],
    information: np.ndarray,
    start: Effects,
) -> Any:
    """Return per-batch prior standard deviations, log-normal across batches."""
    log_start = np.log(start.sd)
    middle, width = float(log_start.mean()), max(float(log_start.std()), spread[0] / 3)
    log_typical = pm.Normal(f"{name}_log_typical{suffix}", np.log(typical[0]), typical[1], initval=middle)
    between = pm.LogNormal(f"{name}_spread{suffix}", np.log(spread[0]), spread[1], initval=width)
    weight = _weight(information, width)
    log_value = _partly_centred(f"{name}_log{suffix}", log_typical, between, weight, log_start, (middle, width), dim)
    return pm.Deterministic(f"{name}{suffix}", pt.exp(log_value), dims=dim)
