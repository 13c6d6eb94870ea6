"""How the data enter the model: as moments, the first variable's shifts integrated out or not, or as rows."""

from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.model.population import Population, expected_shifts
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.standard import Standardised, Start
from bayescombat.study import Study

__all__ = [
    "declare_shifts",
    "likelihood_of_moments",
    "likelihood_of_moments_given_shifts",
    "likelihood_of_nested_subjects",
    "likelihood_of_rows",
    "likelihood_of_subjects",
    "record_in_feature_units",
    "record_shifts",
]

LEVEL = ("batch", "feature")
LOG_2PI = float(np.log(2 * np.pi))


def record_in_feature_units(population: Population, standard: Standardised) -> None:
    """Record the parameters as a reader knows them."""
    location, scale = standard.location, standard.scale
    pm.Deterministic("alpha", location + scale * population.alpha, dims="feature")
    beta = (standard.whitener * population.beta[:, None, :]).sum(axis=-1) * scale[:, None]
    pm.Deterministic("beta", beta, dims=("feature", "covariate"))
    pm.Deterministic("sigma", scale * pt.exp(population.log_sigma), dims="feature")
    first, *others = population.variables
    log_delta = [first.log_scale - population.log_sigma, *(variable.log_scale for variable in others)]
    pm.Deterministic("delta", pt.exp(pt.concatenate(log_delta) if others else log_delta[0]), dims=LEVEL)
    for variable in others:
        pm.Deterministic(f"gamma{variable.suffix}", scale * variable.gamma, dims=(f"batch{variable.suffix}", "feature"))
    if population.subject_sd is not None:
        pm.Deterministic("subject_sd", scale * population.subject_sd, dims="feature")


def record_shifts(population: Population, standard: Standardised) -> None:
    """Record the shifts of all variables, in feature units, where they stand in the graph."""
    gamma = [variable.gamma for variable in population.variables]
    pm.Deterministic("gamma", standard.scale * (pt.concatenate(gamma) if len(gamma) > 1 else gamma[0]), dims=LEVEL)


def declare_shifts(model: pm.Model, population: Population, standard: Standardised, start: Start) -> None:
    """Declare the first variable's shifts and record those of all variables, in feature units."""
    sigma, (first, *others) = model["sigma"], population.variables
    declared = pm.Normal(
        f"gamma{first.suffix}",
        sigma * expected_shifts(population),
        sigma * first.gamma_sd[:, None],
        dims=(f"batch{first.suffix}", "feature"),
        initval=start.gamma[0].effect * standard.scale,
    )
    if others:
        every = [declared, *(model[f"gamma{variable.suffix}"] for variable in others)]
        pm.Deterministic("gamma", pt.concatenate(every), dims=LEVEL)


def likelihood_of_rows(model: pm.Model, study: Study, moments: Moments, tails: Priors | None) -> None:
    """Add the textbook likelihood of every scan, or of every observed cell where some are missing.

    With the priors of heavy tails it is Student's t.
    """
    model.add_coord("obs", list(study.obs))
    kept = [study.features.index(name) for name in moments.features]
    y = study.transformed[:, kept]
    levels = moments.levels.positions(study.batches)[study.codes]
    columns = [
        pm.Data(f"batch{suffix}_index", column, dims="obs")
        for suffix, column in zip(moments.levels.suffixes, levels.T, strict=True)
    ]
    x = pm.Data("x", study.x - moments.center.mean(axis=0), dims=("obs", "covariate"))
    origin = model["alpha"] + ((moments.center.mean(axis=0) - moments.center) * model["beta"]).sum(axis=-1)
    mean = origin + x @ model["beta"].T + sum(model["gamma"][column] for column in columns)
    if study.subjects is not None:
        places = {label: place for place, label in enumerate(model.coords["subject"])}
        index = pm.Data("subject_index", [places[label] for label in study.subjects], dims="obs")
        mean = mean + pm.Normal("intercept", 0, model["subject_sd"], dims=("subject", "feature"))[index]
    sd = model["sigma"] * np.prod([model["delta"][column] for column in columns])
    seen, dims = np.isfinite(y), {"dims": ("obs", "feature")}
    if not seen.all():
        mean, sd, y, dims = mean[seen.nonzero()], sd[seen.nonzero()], y[seen], {}
    if tails is None:
        pm.Normal("y", mean, sd, observed=y, **dims)
    else:
        nu = pm.LogNormal("nu", np.log(tails.nu_median), tails.nu_log_sd)
        pm.StudentT("y", nu=nu, mu=mean, sigma=sd, observed=y, **dims)


def likelihood_of_subjects(model: pm.Model, population: Population, standard: Standardised) -> None:
    """Add what the likelihood of the moments, given shifts, lacks where subjects' intercepts are integrated out."""
    first = population.variables[0]
    shift = model["gamma"][first.place] / standard.scale
    for variable in population.variables[1:]:
        shift = shift + variable.gamma[variable.place]
    precision, residual = _pairs(population, standard, shift)
    subjects = standard.subjects
    assert subjects is not None
    if not subjects.nested:
        zero = pt.zeros((len(subjects.labels), len(standard.scale)))
        precision, residual = (pt.inc_subtensor(zero[subjects.subject], part) for part in (precision, residual))
    pm.Potential("subjects", _of_intercepts(population, precision, residual), dims=("subject", "feature"))


def likelihood_of_nested_subjects(population: Population, standard: Standardised) -> None:
    """Add the likelihood of the moments of subjects with one batch each: shifts and intercepts integrated out."""
    subjects, seen = standard.subjects, (standard.n > 0).astype(float)
    assert subjects is not None
    mean, ssr = _within(population, standard)
    noise = pt.exp(2 * population.log_scale) * _own(population, standard)
    unshifted = _squares(population, standard, ssr) - (LOG_2PI + pt.log(noise) + mean**2 / noise) / 2
    precision, residual = _pairs(population, standard, pt.zeros((len(standard.n), 1)))
    known = 1 + population.subject_sd**2 * precision
    zero = pt.zeros((len(standard.n), len(standard.scale)))
    information, score = (pt.inc_subtensor(zero[subjects.batch], part / known) for part in (precision, residual))
    sigma = pt.exp(population.log_sigma)
    expected = sigma * expected_shifts(population)
    variance = (sigma * population.variables[0].gamma_sd[:, None]) ** 2
    total = 1 + variance * information
    moved = variance * score**2 + 2 * score * expected - information * expected**2
    pm.Potential("cells", unshifted * seen, dims=_cell_dims(population))
    pm.Potential("subjects", _of_intercepts(population, precision, residual), dims=("subject", "feature"))
    pm.Potential("levels", (moved / total - pt.log(total)) / 2, dims=LEVEL)


def _pairs(population: Population, standard: Standardised, shift: Any) -> tuple[Any, Any]:
    """Return the precision of every pair's mean, and its residual weighted by it, (pair, feature)."""
    pairs, beta = standard.subjects, population.beta
    assert pairs is not None
    slopes = pt.dot(pairs.mean_x[:, 0], beta.T) if pairs.n.shape[1] == 1 else (pairs.mean_x * beta).sum(axis=-1)
    precision = pairs.n * pt.exp(-2 * population.log_scale)[pairs.batch]
    return precision, precision * (pairs.mean_y - (population.alpha + shift)[pairs.batch] - slopes)


def _of_intercepts(population: Population, precision: Any, residual: Any) -> Any:
    """Return what integrating intercepts out adds, (subject, feature)."""
    variance = population.subject_sd**2
    known = 1 + variance * precision
    return (variance * residual**2 / known - pt.log(known)) / 2


def _within(population: Population, standard: Standardised) -> tuple[Any, Any]:
    """Return each cell's mean residual and its residual sum of squares, given the slopes and the later variables."""
    beta = population.beta
    mean = standard.mean_y - population.alpha - (standard.mean_x * beta).sum(axis=-1)
    for variable in population.variables[1:]:
        mean = mean - variable.gamma[variable.place]
    if population.shared is not None:
        mean = mean - pt.exp(population.log_scale) * population.shared.noise
    squares = (beta[:, :, None] * beta[:, None, :]).reshape((beta.shape[0], -1))
    sxx = standard.sxx.reshape((*standard.sxx.shape[:2], -1))
    quadratic = pt.dot(sxx[:, 0], squares.T) if sxx.shape[1] == 1 else (sxx * squares).sum(axis=-1)
    return mean, standard.syy - 2 * (standard.sxy * beta).sum(axis=-1) + quadratic


def likelihood_of_moments_given_shifts(model: pm.Model, population: Population, standard: Standardised) -> None:
    """Add the likelihood of the moments with gamma in the graph."""
    seen, first = (standard.n > 0).astype(float), population.variables[0]
    mean, ssr = _within(population, standard)
    noise = pt.exp(2 * population.log_scale) * _own(population, standard)
    away = mean - model["gamma"][first.place] / standard.scale
    between = -(LOG_2PI + pt.log(noise) + away**2 / noise) / 2
    pm.Potential("cells", (_squares(population, standard, ssr) + between) * seen, dims=_cell_dims(population))


def likelihood_of_moments(population: Population, standard: Standardised) -> None:
    """Add the likelihood of the moments with the first variable's shifts integrated out."""
    seen = (standard.n > 0).astype(float)
    mean, ssr = _within(population, standard)
    within = _squares(population, standard, ssr)
    noise = pt.exp(2 * population.log_scale) * _own(population, standard)
    first, sigma = population.variables[0], pt.exp(population.log_sigma)
    known, shared = seen, 0.0
    if len(population.variables) > 1:
        within, mean, noise, known, shared = _pooled(within, mean, noise, seen, first.place)
    spread = noise + (sigma * first.gamma_sd[:, None]) ** 2
    away = mean - sigma * expected_shifts(population)
    between = shared - (LOG_2PI + pt.log(spread) + away**2 / spread) / 2
    pm.Potential("cells", within if seen.all() else within * seen, dims=_cell_dims(population))
    pm.Potential("levels", between if known.all() else between * known, dims=(f"batch{first.suffix}", "feature"))


def _squares(population: Population, standard: Standardised, ssr: Any) -> Any:
    """Return the log-likelihood of the cells' residual sums of squares, (cell, feature)."""
    n, shared = np.maximum(standard.n, 1), population.shared
    if shared is None:
        variance = pt.exp(2 * population.log_scale)
        return -(n - 1) * (LOG_2PI / 2 + population.log_scale) - ssr / (2 * variance) - np.log(n) / 2
    log_spread = population.log_scale + shared.squares
    return shared.weight * (-(n - 1) * log_spread - ssr * pt.exp(-2 * log_spread) / 2)


def _own(population: Population, standard: Standardised) -> np.ndarray:
    """Return the variance of a cell's mean about its factors, in units of the squared scale, (cell, feature)."""
    if population.shared is None:
        return np.asarray(1 / np.maximum(standard.n, 1))
    return np.where(standard.n > 0, population.shared.own, 1.0)


def _cell_dims(population: Population) -> tuple[str, str]:
    return LEVEL if len(population.variables) == 1 else ("cell", "feature")


def _pooled(
    within: Any, mean: Any, noise: Any, seen: np.ndarray, place: np.ndarray
) -> tuple[Any, Any, Any, np.ndarray, Any]:
    """Pool cells that share a level of the first variable, and so a shift.

    What they say of it is their mean weighted by precision; how they scatter about that has a density of its own, and
    that of the pooled mean is then counted once, by the level.
    """
    member = (place == np.arange(place.max() + 1)[:, None]).astype(float)
    precision = seen / noise
    known = (member @ seen > 0).astype(float)
    total = pt.dot(member, precision) + (1 - known)
    pooled = pt.dot(member, precision * mean) / total
    own = -(LOG_2PI + pt.log(noise) + precision * (mean - pooled[place]) ** 2) / 2
    return within + own, pooled, 1 / total, known, (LOG_2PI - pt.log(total)) / 2
