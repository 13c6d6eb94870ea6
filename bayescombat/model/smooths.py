"""The random part of curves: how far they bend, feature by feature, and the coefficients that bend them."""

from dataclasses import replace

import numpy as np
import pymc as pm
import pytensor.tensor as pt

from bayescombat.centring import Known, share_of_data
from bayescombat.model.population import Population, sampled_given_data
from bayescombat.priors import Priors
from bayescombat.standard import Bends

__all__ = ["with_smooths"]


def with_smooths(population: Population, bends: Bends, priors: Priors, scale: np.ndarray) -> Population:
    """Declare the coefficients of the penalised directions; return the population with their slopes beside the others.

    Parameters
    ----------
    population : Population
        With the slopes of the unpenalised directions.
    bends : Bends
        Where chains start.
    priors : Priors
        Scales of the priors.
    scale : ndarray, (feature,)
        Unit of every feature, in feature units.
    """
    median, spread_median = np.log(priors.smooth_sd_median), np.log(priors.smooth_sd_spread_median)
    typical = pm.Normal("smooth_sd_log_typical", median, priors.smooth_sd_log_sd, dims="smooth", initval=bends.typical)
    spread = pm.LogNormal(
        "smooth_sd_spread", spread_median, priors.smooth_sd_spread_log_sd, dims="smooth", initval=bends.spread
    )
    # A low guess, since a funnel opens where nothing bends.
    share = share_of_data(bends.information, np.exp(bends.log_sd - bends.width)[:, bends.owner])
    member = (bends.owner[:, None] == np.arange(len(bends.typical))).astype(float)
    log_sd = sampled_given_data(
        "smooth_sd_log",
        typical,
        spread,
        Known.of(2 * share**2 @ member, bends.log_sd),
        ("feature", "smooth"),
    )
    sd = pt.exp(log_sd)
    pm.Deterministic("smooth_sd", sd * scale[:, None], dims=("feature", "smooth"))
    coefficients = sampled_given_data(
        "smooth",
        0.0,
        sd[:, bends.owner],
        Known.by_expected(bends.information, bends.coefficient, 0.0, np.exp(bends.log_sd)[:, bends.owner]),
        ("feature", "bend"),
    )
    return replace(population, beta=pt.concatenate([population.beta, coefficients], axis=1))
