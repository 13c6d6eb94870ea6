"""The posterior of the levels' effects given everything else, as estimates by empirical Bayes hold it."""

from collections.abc import Sequence

import numpy as np
import xarray as xr

from bayescombat.conditional import Conditional
from bayescombat.errors import BayesCombatError, listing
from bayescombat.fit.layout import Layout
from bayescombat.uncertainty import Given

__all__ = ["UNCERTAINTY", "check_known", "given_of"]

# What harmonized data say of their sd and bounds.
UNCERTAINTY = "conditional on the hyper-parameters, alpha, beta and sigma, which are taken for known"


def given_of(parameters: xr.Dataset, layout: Layout, seed: int | None) -> Given | None:
    """Return the posterior given everything else; None where there is no seed, as it was not asked for.

    Parameters
    ----------
    parameters : xarray.Dataset
        Estimates, of the modelled features.
    layout : Layout
        Whose reference is known for certain.
    seed : int, optional
        Of the draws.
    """
    if seed is None:
        return None
    sigma = parameters["sigma"].values
    cells = [parameters[name].values for name in ("gamma_unshrunken", "delta_unshrunken", "observed", "freedom")]
    gamma, delta, observed, freedom = cells
    names = ("gamma_mean", "gamma_sd", "delta2_mean", "delta2_variance")
    gamma_mean, gamma_sd, delta2_mean, delta2_variance = (parameters[name].values[:, None].copy() for name in names)
    if layout.reference is not None:
        still = layout.levels.positions([layout.reference])[0]
        for prior, value in ((gamma_mean, 0.0), (gamma_sd, 0.0), (delta2_mean, 1.0), (delta2_variance, 0.0)):
            prior[still] = value
    conditional = Conditional(
        gamma / sigma, delta**2, observed, freedom, gamma_mean, gamma_sd**2, delta2_mean, delta2_variance
    )
    return Given(conditional, tuple(map(str, layout.levels.labels)), seed)


def check_known(layout: Layout, batches: Sequence[str]) -> None:
    """Raise a BayesCombatError if unknown batches would have to be drawn, of which estimates know no distribution."""
    unknown = np.array(batches, dtype=object)[(layout.levels.known(batches) < 0).any(axis=1)]
    if len(unknown):
        raise BayesCombatError(
            f"Expected batches that the fit knows, found {listing(unknown)}: empirical Bayes takes an unknown batch "
            "for an average one and cannot say how unsure that is. Adopt the batch, fit without uncertainty, or use "
            "method='nuts'."
        )
