"""The hierarchical ComBat model as a PyMC model: pure construction, no sampling, no subclass.

    y_jv = alpha_v + (x_j - center)' beta_v + gamma_iv + delta_iv sigma_v eps_jv,     eps ~ Normal(0, 1)
    gamma_iv / sigma_v ~ Normal(gamma_mean_i, gamma_sd_i)
    log delta_iv       ~ Normal(log_delta_mean_i, log_delta_sd_i)

for scan j of batch i and feature v.  With several batch variables shifts add and scales multiply over the levels that a
scan has.  All forms share one prior; they differ in how the data enter.
"""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import pymc as pm

from bayescombat.errors import DataError, check_choice
from bayescombat.factors import SharedFactors, shared_factors_of
from bayescombat.identification import estimable
from bayescombat.model.likelihoods import (
    declare_shifts,
    likelihood_of_moments,
    likelihood_of_moments_given_shifts,
    likelihood_of_nested_subjects,
    likelihood_of_rows,
    likelihood_of_subjects,
    record_in_feature_units,
    record_shifts,
)
from bayescombat.model.population import declare_population
from bayescombat.model.smooths import with_smooths
from bayescombat.moments import Moments, as_moments
from bayescombat.priors import Priors
from bayescombat.scores import CrossedSharing, Sharing, sharing_of
from bayescombat.standard import standardise, starting_point
from bayescombat.study import Study

__all__ = ["build_model"]

Likelihood = Literal["moments", "observations"]
CellMeans = Literal["integrated", "explicit"]


def build_model(
    data: Study | Moments,
    priors: Priors | None = None,
    likelihood: Likelihood = "moments",
    cell_means: CellMeans = "integrated",
    shared_factors: SharedFactors = 0,
    robust: bool = False,
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
        ``gamma``. The textbook form always has them; the others have them too where subjects were scanned in several
        batches. Intercepts of subjects stand in the graph of the textbook form alone.
    shared_factors : int or "auto"
        With moments that hold the features' cross-products: how many factors noise and batch effects share; see
        `bayescombat.fit`.
    robust : bool
        In the textbook form: noise is Student's t, with ``nu`` degrees of freedom that all features have in common.
        Chains then start at the empirical-Bayes estimate.

    Returns
    -------
    pymc.Model
        With coordinates ``feature, batch, covariate``, ``direction`` of the whitened covariates, ``contrast`` of the
        batches' means, and ``obs`` in the textbook form. Its deterministic variables ``alpha, beta, sigma, delta`` are
        in feature units, ``gamma_mean, gamma_sd, log_delta_mean, log_delta_sd`` in units of sigma. With several batch
        variables, what belongs to one ends in its number, ``_1`` for the first, and there are coordinates ``cell``,
        ``batch_1``, ``contrast_1`` and so on.

        Chains of the moments forms start at the empirical-Bayes estimate; the textbook form has PyMC's own starting
        values, so that ``pm.do`` and ``pm.observe`` accept it.

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
    variables are sampled as z-scores given the data, which goes on from the partially centred parametrisation of
    Papaspiliopoulos, Roberts and Sköld (2007), doi:10.1214/088342307000000014.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> model = bc.build_model(study)
    >>> sorted(model.coords)
    ['batch', 'contrast', 'covariate', 'direction', 'feature']
    """
    check_choice("likelihood", likelihood, get_args(Likelihood))
    check_choice("cell_means", cell_means, get_args(CellMeans))
    if likelihood == "observations" and not isinstance(data, Study):
        raise DataError(
            "Expected a Study for likelihood='observations', found moments, which hold no rows. "
            "Give the study, or use likelihood='moments'."
        )
    if likelihood == "observations" and shared_factors != 0:
        raise DataError(
            f"Expected no shared factors in likelihood='observations', found shared_factors={shared_factors!r}: the "
            "textbook form has independent features. Use likelihood='moments'."
        )
    if robust and likelihood != "observations":
        raise DataError(
            "Expected likelihood='observations' for robust=True, found likelihood='moments': moments say all of normal "
            "noise alone. Use the textbook form."
        )
    moments = estimable(as_moments(data, cross=shared_factors != 0))
    standard = standardise(moments)
    factors = shared_factors_of(moments, shared_factors)
    priors = priors or Priors()
    start = starting_point(standard, priors)
    sharing = None if factors is None else sharing_of(moments, standard.fit, factors)
    with pm.Model(coords=_coords(moments, sharing)) as model:
        population = declare_population(moments, priors, start, sharing)
        if start.bends is not None:
            population = with_smooths(population, start.bends, priors, standard.scale)
        record_in_feature_units(population, standard)
        declared = population.variables[0].gamma is not None
        if declared:
            record_shifts(population, standard)
        elif likelihood == "observations" or cell_means == "explicit":
            declare_shifts(model, population, standard, start)
        if likelihood == "observations":
            assert isinstance(data, Study)
            likelihood_of_rows(model, data, moments, priors if robust else None)
            if not robust:
                # pm.do and pm.observe refuse a model with starting values of its own.
                model.rvs_to_initial_values.update(dict.fromkeys(model.rvs_to_initial_values))
        elif declared or cell_means == "explicit":
            likelihood_of_moments_given_shifts(model, population, standard)
            if moments.subjects is not None:
                likelihood_of_subjects(model, population, standard)
        elif moments.subjects is not None:
            likelihood_of_nested_subjects(population, standard)
        else:
            likelihood_of_moments(population, standard)
    return model


def _coords(moments: Moments, sharing: Sharing | CrossedSharing | None) -> dict[str, Sequence[Any]]:
    levels = moments.levels
    coords: dict[str, Sequence[Any]] = {
        "feature": list(moments.features),
        "batch": list(levels.labels),
        "covariate": list(moments.covariates),
        "direction": range(len(moments.spec.unpenalised)),
    }
    coords |= {f"contrast{suffix}": range(size - 1) for suffix, size in zip(levels.suffixes, levels.sizes, strict=True)}
    if moments.spec.smooths:
        coords |= {"smooth": [smooth.column for smooth in moments.spec.smooths]}
        coords |= {"bend": range(len(moments.covariates) - len(moments.spec.unpenalised))}
    if len(levels.active) > 1:
        coords |= {"cell": list(moments.batches)}
        coords |= {dim: list(names) for dim, names in levels.dims.items()}
    if moments.subjects is not None:
        coords["subject"] = list(moments.subjects.labels)
    if sharing is not None:
        factors = sharing.factors
        coords |= {"factor": range(factors.count), "axis": range(factors.of_squares.shape[1])}
        coords["score"] = range(sharing.score.shape[-1])
    return coords
