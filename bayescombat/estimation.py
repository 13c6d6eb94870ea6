"""The two estimators, from moments to a tree of parameters.

PyMC and nutpie are imported only where they are used, so that empirical Bayes starts in about a second.
"""

import json
from dataclasses import asdict
from typing import get_args

import numpy as np
import xarray as xr

from bayescombat.columns import warn
from bayescombat.empirical import MOST_ITERATIONS, Shrinkage, empirical_bayes
from bayescombat.errors import (
    BatchSizeWarning,
    ConvergenceWarning,
    PoolingWarning,
    check_choice,
    listing,
)
from bayescombat.moments import Moments
from bayescombat.parameters import estimated, identify
from bayescombat.priors import Priors
from bayescombat.settings import Settings

__all__ = ["by_empirical_bayes", "by_nuts"]


def by_nuts(moments: Moments, priors: Priors, settings: Settings) -> xr.DataTree:
    """Return posterior, sampler statistics and diagnostics of the moments of estimable features."""
    from bayescombat.diagnosis import diagnose
    from bayescombat.model import build_model
    from bayescombat.sampling import sample

    settings = settings.resolved(len(moments.features))
    _warn_of_little_data(moments)
    sampled = sample(build_model(moments, priors), settings)
    stats = sampled["sample_stats"].to_dataset()
    posterior = identify(sampled["posterior"].to_dataset(), moments, settings.seed)
    found = diagnose(posterior, stats, asked=settings.draws * settings.chains, reference=moments.reference)
    if not found.converged:
        warn(found.verdict, ConvergenceWarning)
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": stats,
            "diagnostics/rhat": found.rhat,
            "diagnostics/ess_bulk": found.ess_bulk,
            "diagnostics/ess_tail": found.ess_tail,
        }
    )
    tree.attrs = {
        "method": "nuts",
        "settings": json.dumps(asdict(settings)),
        "priors": json.dumps(asdict(priors)),
        "verdict": found.verdict,
        "converged": int(found.converged),
    }
    return tree


def by_empirical_bayes(moments: Moments, shrinkage: Shrinkage, mean_only: bool, compat: str | None) -> xr.DataTree:
    """Return the estimates from the moments of estimable features."""
    check_choice("shrinkage", shrinkage, get_args(Shrinkage))
    check_choice("compat", compat, ("sva", None))
    settings = {"shrinkage": shrinkage, "mean_only": mean_only, "compat": compat}
    _warn_of_little_data(moments, whole_run=compat == "sva" and not mean_only)
    if len(moments.features) == 1:
        shrinkage = "none"
    estimates = empirical_bayes(moments, shrinkage, mean_only, sva=compat == "sva")
    converged = bool((estimates.iterations < MOST_ITERATIONS).all())
    passes = int(estimates.iterations.max())
    verdict = f"Estimated: every fixed point stood still after at most {passes} passes."
    if not passes:
        verdict = "Estimated in closed form."
    if not converged:
        stuck = np.array(moments.batches)[estimates.iterations == MOST_ITERATIONS]
        verdict = (
            f"The fixed point of {listing(stuck)} still moves after {MOST_ITERATIONS} passes. "
            "Look for features on the edge of being constant, or use method='nuts'."
        )
        warn(verdict, ConvergenceWarning)
    tree = xr.DataTree.from_dict({"empirical_bayes": estimated(estimates, moments)})
    tree.attrs = {
        "method": "eb",
        "settings": json.dumps(settings),
        "verdict": verdict,
        "converged": int(converged),
    }
    return tree


def _warn_of_little_data(moments: Moments, whole_run: bool = False) -> None:
    single = np.array(moments.batches)[moments.scans == 1]
    if len(single):
        effect = (
            "As in sva, the whole run is therefore mean-only: no batch's scale is adjusted."
            if whole_run
            else "There the scale comes from the prior alone, the location from the prior and that scan."
        )
        warn(
            f"One scan in {len(single)} of {len(moments.batches)} batches: {listing(single)}. {effect}",
            BatchSizeWarning,
        )
    if len(moments.features) == 1:
        warn(
            f"There is one feature to model, {moments.features[0]!r}: nothing can be pooled across features. "
            "Empirical Bayes does not shrink; NUTS pools across batches alone.",
            PoolingWarning,
        )
