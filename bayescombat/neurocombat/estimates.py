"""Estimates by the names, and in the shapes, that neuroCombat gives them."""

from typing import Any

import numpy as np

from bayescombat.empirical import unshrunken
from bayescombat.fit import Fit
from bayescombat.repeated import fixed_effects
from bayescombat.shrinkage import evidence_of
from bayescombat.study import Study

__all__ = ["effects_of", "priors_of"]


def priors_of(fitted: Fit, order: np.ndarray) -> dict[str, Any]:
    """Return effects before shrinkage, and what they are shrunken towards, batches in the order asked for."""
    moments, mean_only = fitted.learned, fitted.mean_only
    hats = unshrunken(moments, fixed_effects(moments), fitted.settings["compat"] == "sva")[2]
    found = {name: values[order] for name, values in evidence_of(hats, mean_only).items()}
    gamma, several = found["gamma_unshrunken"], len(moments.features) > 1
    mean, variance = found["delta2_mean"], found["delta2_variance"]
    # Squared scales that do not vary have a prior that is a point.
    shape = np.divide(mean**2, variance, out=np.full(len(mean), np.inf), where=variance > 0) + 2
    return {
        "gamma_hat": _of_all(gamma, fitted, 0.0),
        "delta_hat": list(_of_all(found["delta_unshrunken"] ** 2, fitted, 1.0)),
        "gamma_bar": gamma.mean(axis=1),
        "t2": gamma.var(axis=1, ddof=1) if several else np.full(len(gamma), np.nan),
        "a_prior": None if mean_only else list(shape),
        "b_prior": None if mean_only else list(mean * (shape - 1)),
    }


def effects_of(fitted: Fit, study: Study, order: np.ndarray) -> dict[str, np.ndarray]:
    """Return effects after shrinkage, and what values are standardised by."""
    names = ("alpha", "beta", "sigma", "gamma", "delta")
    alpha, beta, sigma, gamma, delta = (fitted.parameters[name].values for name in names)
    # Alpha is at the average covariates, neuroCombat's grand mean where all of them are zero.
    grand = alpha - (fitted.layout.center * beta).sum(axis=-1)
    seen = ~np.isnan(study.y)
    means = np.where(seen, study.y, 0.0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)
    return {
        "var.pooled": _of_all(sigma**2, fitted, 1.0)[:, None],
        "stand.mean": np.repeat(_of_all(grand, fitted, means)[:, None], len(study.y), axis=1),
        "mod.mean": _of_all(study.x @ beta.T, fitted, 0.0).T,
        "gamma.star": _of_all(gamma[order] / sigma, fitted, 0.0),
        "delta.star": _of_all(delta[order] ** 2, fitted, 1.0),
    }


def _of_all(values: np.ndarray, fitted: Fit, aside: float | np.ndarray) -> np.ndarray:
    """Return values (..., feature) of modelled features beside others for those that were set aside."""
    whole = np.empty((*values.shape[:-1], len(fitted.layout.spec.features)))
    whole[...] = aside
    whole[..., fitted.layout.modelled] = values
    return whole
