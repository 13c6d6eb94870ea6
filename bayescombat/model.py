"""The hierarchical ComBat model as a PyMC model: pure construction, no sampling, no subclass.

    y_jv = alpha_v + (x_j - center)' beta_v + gamma_iv + delta_iv sigma_v eps_jv,     eps ~ Normal(0, 1)
    gamma_iv / sigma_v ~ Normal(gamma_mean_i, gamma_sd_i)
    log delta_iv       ~ Normal(log_delta_mean_i, log_delta_sd_i)

for scan j of batch i and feature v.  All forms share one prior; they differ in how the data enter.
"""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.errors import DataError, check_choice
from bayescombat.identification import estimable
from bayescombat.moments import Moments, as_moments
from bayescombat.priors import Priors
from bayescombat.standard import Effects, Standardised, Start, standardise, starting_point
from bayescombat.study import Study

__all__ = ["build_model"]

Likelihood = Literal["moments", "observations"]
CellMeans = Literal["integrated", "explicit"]
CELL = ("batch", "feature")
LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class Population:
    """The random part that every likelihood builds on, on the standardised scale."""

    alpha: Any
    beta: Any
    log_sigma: Any
    gamma_mean: Any
    gamma_sd: Any
    log_scale: Any


def build_model(
    data: Study | Moments,
    priors: Priors | None = None,
    likelihood: Likelihood = "moments",
    cell_means: CellMeans = "integrated",
) -> pm.Model:
    """Build the hierarchical ComBat model.

    Parameters
    ----------
    data : Study or Moments
        The table or its moments; the textbook likelihood needs the table.
    priors : Priors, optional
        Scales of the priors on the standardised scale.
    likelihood : {"moments", "observations"}
        ``"moments"`` costs the same for any number of scans. ``"observations"`` is the textbook form with one
        normal variable ``y`` (obs, feature) in feature units; it serves predictive checks, ``pm.do`` and teaching.
    cell_means : {"integrated", "explicit"}
        With moments, whether the means of batch × feature are integrated out (fast) or stand in the graph as
        ``gamma``. The textbook form always has them.

    Returns
    -------
    pymc.Model
        With coordinates ``feature, batch, covariate``, ``direction`` of the whitened covariates, and ``obs`` in the
        textbook form. Its deterministic variables ``alpha, beta, sigma, delta`` are in feature units, ``gamma_mean,
        gamma_sd, log_delta_mean, log_delta_sd`` in units of sigma. Chains of the moments forms start at the
        empirical-Bayes estimate; the textbook form has PyMC's own starting values, so that ``pm.do`` and
        ``pm.observe`` accept it.

    Raises
    ------
    ConfoundedDesignError
        If batch and covariates cannot be told apart.
    DataError
        If ``likelihood="observations"`` is asked of moments.

    Notes
    -----
    In the model alpha and gamma, sigma and delta are told apart by the priors alone. The draws that a fit reports
    are taken from it by an exact change of variables to the constraint of `bayescombat.fit`, which
    `bayescombat.identify` applies to draws of any sampler.

    `bayescombat.fit` starts chains exactly where the model says; `pm.sample` moves every start at random.

    The location and scale model is that of Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037;
    the partially centred parametrisation follows Papaspiliopoulos, Roberts and Sköld (2007),
    doi:10.1214/088342307000000014.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> model = bc.build_model(study)
    >>> sorted(model.coords)
    ['batch', 'covariate', 'direction', 'feature']
    """
    check_choice("likelihood", likelihood, get_args(Likelihood))
    check_choice("cell_means", cell_means, get_args(CellMeans))
    if likelihood == "observations" and not isinstance(data, Study):
        raise DataError(
            "Expected a Study for likelihood='observations', found moments, which hold no rows. "
            "Give the study, or use likelihood='moments'."
        )
    moments = estimable(as_moments(data))
    standard = standardise(moments)
    priors = priors or Priors()
    start = starting_point(standard, priors)
    coords = {
        "feature": list(moments.features),
        "batch": list(moments.batches),
        "covariate": list(moments.covariates),
        "direction": range(len(moments.covariates)),
    }
    with pm.Model(coords=coords) as model:
        population = _population(priors, start)
        _in_feature_units(population, standard)
        if likelihood == "observations" or cell_means == "explicit":
            _explicit_cell_means(model, standard, start)
        if likelihood == "observations":
            assert isinstance(data, Study)
            _observations(model, data, moments)
            # pm.do and pm.observe refuse a model with starting values of its own.
            model.rvs_to_initial_values.update(dict.fromkeys(model.rvs_to_initial_values))
        elif cell_means == "explicit":
            _moments_given_cell_means(model, population, standard)
        else:
            _moments_alone(population, standard)
    return model


def _population(priors: Priors, start: Start) -> Population:
    """Declare the priors and return the random part."""
    alpha = pm.Normal("alpha_standard", 0, priors.alpha_sd, dims="feature", initval=start.gamma.level)
    beta = (
        pm.Normal("beta_standard", 0, priors.beta_sd, dims=("feature", "direction"), initval=start.beta)
        if start.beta.shape[1]
        else pt.zeros(start.beta.shape)
    )
    log_sigma = pm.Normal("log_sigma_standard", 0, priors.log_sigma_sd, dims="feature", initval=start.log_delta.level)
    gamma_mean, gamma_sd = _batch_priors("gamma", priors, start.gamma)
    log_delta_mean, log_delta_sd = _batch_priors("log_delta", priors, start.log_delta)
    scales = start.log_delta
    log_scale = _partly_centred(
        "log_scale",
        log_sigma + log_delta_mean[:, None],
        log_delta_sd[:, None],
        _weight(1 / scales.noise, scales.sd_low[:, None]),
        scales.level + scales.effect,
        (scales.level + scales.mean[:, None], scales.sd[:, None]),
        CELL,
    )
    return Population(alpha, beta, log_sigma, gamma_mean, gamma_sd, log_scale)


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
    partly = pm.Normal(f"{name}_partly", weight * mean, sd**weight, dims=dims, initval=initial)
    return mean + sd ** (1 - weight) * (partly - weight * mean)


def _weight(information: np.ndarray, sd: Any) -> np.ndarray:
    """Return the share of the data in what is known of a variable with prior standard deviation `sd`."""
    return np.asarray(information / (information + 1 / sd**2))


def _batch_priors(name: str, priors: Priors, start: Effects) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of the batches' effects on their features, (batch,)."""

    def prior(field: str) -> tuple[float, float]:
        return getattr(priors, f"{name}_{field}_median"), getattr(priors, f"{name}_{field}_log_sd")

    # Low guesses, since a funnel opens where a spread is nearly zero.
    signal = start.sd_low[:, None] ** 2
    share = signal / (signal + start.noise)
    known = 1 / (signal + start.noise)
    mean = _batch_means(f"{name}_mean", prior("mean"), known.sum(axis=1), start)
    sd = _batch_spreads(f"{name}_sd", prior("sd"), prior("sd_spread"), (2 * share**2).sum(axis=1), start)
    return mean, sd


def _batch_means(name: str, prior: tuple[float, float], information: np.ndarray, start: Effects) -> Any:
    """Return per-batch prior means that sum to zero, with a learned spread across batches."""
    median, log_sd = prior
    # One weight for all batches, since they sum to zero together.
    weight = float(_weight(information, start.spread_low).min())
    between = pm.LogNormal(f"{name}_spread", np.log(median), log_sd, initval=start.spread)
    initial = start.mean / start.spread ** (1 - weight)
    partly = pm.ZeroSumNormal(f"{name}_partly", sigma=between**weight, dims="batch", initval=initial)
    return pm.Deterministic(name, between ** (1 - weight) * partly, dims="batch")


def _batch_spreads(
    name: str,
    typical: tuple[float, float],
    spread: tuple[float, float],
    information: np.ndarray,
    start: Effects,
) -> Any:
    """Return per-batch prior standard deviations, log-normal across batches."""
    log_start = np.log(start.sd)
    middle, width = float(log_start.mean()), max(float(log_start.std()), spread[0] / 3)
    log_typical = pm.Normal(f"{name}_log_typical", np.log(typical[0]), typical[1], initval=middle)
    between = pm.LogNormal(f"{name}_spread", np.log(spread[0]), spread[1], initval=width)
    weight = _weight(information, width)
    log_value = _partly_centred(f"{name}_log", log_typical, between, weight, log_start, (middle, width), "batch")
    return pm.Deterministic(name, pt.exp(log_value), dims="batch")


def _in_feature_units(population: Population, standard: Standardised) -> None:
    """Record the parameters as a reader knows them."""
    location, scale = standard.location, standard.scale
    pm.Deterministic("alpha", location + scale * population.alpha, dims="feature")
    beta = (standard.whitener * population.beta[:, None, :]).sum(axis=-1) * scale[:, None]
    pm.Deterministic("beta", beta, dims=("feature", "covariate"))
    pm.Deterministic("sigma", scale * pt.exp(population.log_sigma), dims="feature")
    pm.Deterministic("delta", pt.exp(population.log_scale - population.log_sigma), dims=CELL)


def _explicit_cell_means(model: pm.Model, standard: Standardised, start: Start) -> None:
    sigma = model["sigma"]
    initial = start.gamma.effect * standard.scale
    pm.Normal(
        "gamma",
        sigma * model["gamma_mean"][:, None],
        sigma * model["gamma_sd"][:, None],
        dims=CELL,
        initval=initial,
    )


def _observations(model: pm.Model, study: Study, moments: Moments) -> None:
    """Add the textbook likelihood of every scan."""
    model.add_coord("obs", list(study.obs))
    kept = [study.features.index(name) for name in moments.features]
    batch_index = pm.Data("batch_index", study.codes, dims="obs")
    x = pm.Data("x", study.x - moments.center[0], dims=("obs", "covariate"))
    mean = model["alpha"] + x @ model["beta"].T + model["gamma"][batch_index]
    sd = model["sigma"] * model["delta"][batch_index]
    pm.Normal("y", mean, sd, observed=study.y[:, kept], dims=("obs", "feature"))


def _within(population: Population, standard: Standardised) -> tuple[Any, Any]:
    """Return each cell's mean residual and its residual sum of squares, given the slopes."""
    beta = population.beta
    mean = standard.mean_y - population.alpha - (standard.mean_x * beta).sum(axis=-1)
    squares = (beta[:, :, None] * beta[:, None, :]).reshape((beta.shape[0], -1))
    sxx = standard.sxx.reshape((*standard.sxx.shape[:2], -1))
    quadratic = pt.dot(sxx[:, 0], squares.T) if sxx.shape[1] == 1 else (sxx * squares).sum(axis=-1)
    return mean, standard.syy - 2 * (standard.sxy * beta).sum(axis=-1) + quadratic


def _moments_given_cell_means(model: pm.Model, population: Population, standard: Standardised) -> None:
    """Add the likelihood of the moments with gamma in the graph."""
    n = standard.n
    mean, ssr = _within(population, standard)
    gamma = model["gamma"] / standard.scale
    squares = ssr + n * (mean - gamma) ** 2
    log_likelihood = -n * (LOG_2PI / 2 + population.log_scale) - squares * pt.exp(-2 * population.log_scale) / 2
    pm.Potential("cells", log_likelihood, dims=CELL)


def _moments_alone(population: Population, standard: Standardised) -> None:
    """Add the likelihood of the moments with the cell means integrated out."""
    n = standard.n
    mean, ssr = _within(population, standard)
    sigma = pt.exp(population.log_sigma)
    variance = pt.exp(2 * population.log_scale)
    within = -(n - 1) * (LOG_2PI / 2 + population.log_scale) - ssr / (2 * variance) - np.log(n) / 2
    spread = variance / n + (sigma * population.gamma_sd[:, None]) ** 2
    away = mean - sigma * population.gamma_mean[:, None]
    between = -(LOG_2PI + pt.log(spread) + away**2 / spread) / 2
    pm.Potential("cells", within + between, dims=CELL)
