"""The two estimators, from moments to a tree of parameters.

PyMC and nutpie are imported only where they are used, so that empirical Bayes starts in about a second.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from secrets import randbits
from threading import Event
from typing import Any, get_args

import numpy as np
import xarray as xr

from bayescombat.additive import Additive
from bayescombat.columns import heard, warn
from bayescombat.empirical import Compat, Estimates, empirical_bayes, independent_empirical_bayes, unshrunken
from bayescombat.errors import (
    BatchSizeWarning,
    BayesCombatError,
    ConvergenceWarning,
    FeatureWarning,
    PoolingWarning,
    check_choice,
    listing,
)
from bayescombat.factors import Loadings, SharedFactors, shared_factors_of
from bayescombat.far_shifts import said_of_far_shifts
from bayescombat.identification import thinly_observed
from bayescombat.moments import Moments
from bayescombat.parameters import estimated, identify
from bayescombat.patterns import Patterns
from bayescombat.priors import Priors
from bayescombat.regression import LeastSquares
from bayescombat.repeated import fixed_effects
from bayescombat.scores import CrossedSharing, Sharing, sharing_of
from bayescombat.settings import Backend, Settings
from bayescombat.shared import shared_empirical_bayes
from bayescombat.shrinkage import LEAST_FREEDOM, MANY_FEATURES, MOST_ITERATIONS, Shrinkage
from bayescombat.study import Study

__all__ = [
    "Estimator",
    "again",
    "by_empirical_bayes",
    "by_nuts",
    "check_compat",
    "model_of",
    "priors_in",
    "shared_factors_in",
    "tree_of_estimates",
    "warn_of_little_data",
]

type Estimator = Callable[[Moments], xr.DataTree]


def again(attrs: Mapping[Any, Any], rows: Study | None = None) -> Estimator:
    """Return the estimator whose settings stand in the attributes of a fit's tree; a robust one needs the rows."""
    settings = json.loads(attrs["settings"])
    if attrs["method"] == "nuts":
        priors, count = priors_in(attrs), shared_factors_in(attrs)
        robust = rows if attrs.get("robust") else None
        return partial(by_nuts, priors=priors, settings=Settings(**settings), shared_factors=count, robust=robust)
    return partial(by_empirical_bayes, **settings)


def priors_in(attrs: Mapping[Any, Any]) -> Priors:
    """Return the priors of a fit by NUTS."""
    return Priors(**json.loads(attrs["priors"]))


def shared_factors_in(attrs: Mapping[Any, Any]) -> SharedFactors:
    """Return how many factors were asked for; a file has a number of its own kind."""
    asked = attrs["shared_factors"]
    return "auto" if asked == "auto" else int(asked)


def by_nuts(
    moments: Moments,
    priors: Priors,
    settings: Settings,
    shared_factors: SharedFactors = 0,
    stop: Event | None = None,
    robust: Study | None = None,
) -> xr.DataTree:
    """Return posterior, sampler statistics and diagnostics of the moments of estimable features.

    In a thread `stop` says when to give up; see `sample`. Of a study to be fitted with heavy tails the rows are given.
    """
    from bayescombat.sampling import sample
    from bayescombat.verdict import verdict_of

    fixed = fixed_effects(moments)
    warn_of_little_data(moments, fixed)
    factors = shared_factors_of(moments, shared_factors)
    settings = settings.resolved(len(moments.features), len(moments.levels.labels), sharing=factors is not None)
    sharing = None if factors is None else sharing_of(moments, fixed, factors)
    model = model_of(moments, priors, sharing, settings.backend) if robust is None else robust_model_of(robust, priors)
    sampled = sample(model, settings, stop)
    stats = sampled["sample_stats"].to_dataset()
    posterior = identify(sampled["posterior"].to_dataset(), moments, settings.seed)
    still = moments.reference_levels
    reference = [] if still is None else [moments.levels.labels[level] for level in still]
    found = verdict_of(posterior, stats, asked=settings.total, reference=reference, held=priors.scales_held)
    if not found.converged:
        warn(found.words, ConvergenceWarning)
    far = _far_shifts(moments, fixed, posterior)
    tree = xr.DataTree.from_dict(
        {
            "posterior": posterior,
            "sample_stats": stats,
            "diagnostics/rhat": found.rhat,
            "diagnostics/ess_bulk": found.ess_bulk,
            "diagnostics/ess_tail": found.ess_tail,
        }
    )
    if sharing is not None:
        tree["factors"] = _loadings(sharing.factors, [one.patterns for one in sharing.of_variables], moments)
    tree.attrs = {
        "method": "nuts",
        "settings": json.dumps(asdict(settings)),
        "priors": json.dumps(asdict(priors)),
        "shared_factors": shared_factors,
        "verdict": f"{found.words} {far}".strip(),
        "converged": int(found.converged),
        "robust": int(robust is not None),
    }
    return tree


def _far_shifts(moments: Moments, fixed: LeastSquares, posterior: xr.Dataset) -> str:
    """Say, and warn, which shifts the draws take for noise."""
    mean = posterior[["gamma", "delta", "sigma"]].mean(("chain", "draw"))
    gamma, delta = (
        part.transpose("batch", "feature").values for part in (mean["gamma"] / mean["sigma"], mean["delta"])
    )
    hats = unshrunken(moments, fixed)[2]
    said = said_of_far_shifts(hats, gamma, delta, moments.levels.labels, moments.features)
    if said:
        warn(said, BatchSizeWarning)
    return said


def robust_model_of(study: Study, priors: Priors) -> Any:
    """Return the textbook form of the model, with Student's t."""
    from bayescombat.model import build_model

    # What it sets aside was told when the moments were made.
    with heard():
        return build_model(study, priors, likelihood="observations", robust=True)


def model_of(moments: Moments, priors: Priors, sharing: Sharing | CrossedSharing | None, backend: Backend) -> Any:
    """Return what is sampled: the compiled density where it knows all that the moments have, else the PyMC model."""
    from bayescombat.fused import applies, packed

    if backend == "numba" and applies(moments) and not isinstance(sharing, CrossedSharing):
        return packed(moments, priors, sharing)
    from bayescombat.model import build_model

    return build_model(moments, priors, shared_factors=0 if sharing is None else sharing.factors.count)


def by_empirical_bayes(
    moments: Moments,
    shrinkage: Shrinkage,
    mean_only: bool,
    compat: Compat | None,
    shared_factors: SharedFactors,
    uncertainty: bool = False,
    seed: int | None = None,
) -> xr.DataTree:
    """Return the estimates from the moments of estimable features."""
    check_choice("shrinkage", shrinkage, get_args(Shrinkage))
    check_choice("compat", compat, (*get_args(Compat), None))
    check_compat(moments, compat)
    if uncertainty:
        _check_uncertainty(moments, shrinkage, compat, shared_factors)
    factors = shared_factors_of(moments, shared_factors)
    if factors is not None and (shrinkage != "parametric" or compat):
        raise BayesCombatError(
            "Expected shrinkage='parametric' and no compat where features share factors, found "
            f"shrinkage={shrinkage!r} and compat={compat!r}. Leave them or shared_factors out."
        )
    settings = {"shrinkage": shrinkage, "mean_only": mean_only, "compat": compat, "shared_factors": shared_factors}
    if uncertainty:
        settings |= {"uncertainty": True, "seed": randbits(32) if seed is None else seed}
    many = len(moments.features) >= MANY_FEATURES and factors is None
    independent = many and moments.subjects is None and not moments.spec.smooths
    fit = None if independent else fixed_effects(moments)
    warn_of_little_data(moments, fit, whole_run=compat == "sva" and not mean_only)
    if len(moments.features) == 1:
        shrinkage = "none"
    if fit is None:
        estimates = independent_empirical_bayes(moments, shrinkage, mean_only, compat, uncertainty)
    elif factors is None:
        estimates = empirical_bayes(moments, shrinkage, mean_only, compat, fit, uncertainty)
    else:
        estimates, patterns = shared_empirical_bayes(moments, fit, factors, mean_only)
    tree = tree_of_estimates(estimates, moments, settings)
    if factors is not None:
        tree["factors"] = _loadings(factors, patterns, moments)
    return tree


def tree_of_estimates(estimates: Estimates, moments: Moments, settings: Mapping[str, Any]) -> xr.DataTree:
    """Return empirical-Bayes estimates as a tree, with a verdict and the settings in its attributes."""
    converged = bool((estimates.iterations < MOST_ITERATIONS).all())
    passes = int(estimates.iterations.max())
    verdict = f"Estimated: every fixed point stood still after at most {passes} passes."
    if not passes:
        verdict = "Estimated in closed form."
    if not converged:
        stuck = np.array(moments.levels.labels)[estimates.iterations == MOST_ITERATIONS]
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


def check_compat(moments: Moments, compat: Compat | None) -> None:
    """Raise a BayesCombatError if an R package knows nothing of what these moments have."""
    if compat is not None and len(moments.levels.active) > 1:
        raise BayesCombatError(
            f"Expected one batch variable for compat={compat!r}, found {listing(moments.levels.active)}: the package "
            "knows one. Leave compat out, or give one variable."
        )
    if compat is not None and moments.spec.smooths:
        smooths = [smooth.column for smooth in moments.spec.smooths]
        raise BayesCombatError(
            f"Expected no smooth for compat={compat!r}, found {listing(smooths)}: the package knows none. "
            "Leave compat out, or put a spline into the formula, such as bs(age, df=4)."
        )
    if compat == "sva" and moments.subjects is not None:
        raise BayesCombatError(
            "Expected no subjects for compat='sva', found some: sva knows none. Leave compat out, or choose "
            "compat='longcombat'."
        )
    if compat == "longcombat" and (moments.subjects is None or moments.reference is not None):
        raise BayesCombatError(
            "Expected subjects and no reference batch for compat='longcombat', found "
            f"{'no subjects' if moments.subjects is None else 'a reference batch'}. Leave compat out."
        )


def _check_uncertainty(
    moments: Moments, shrinkage: Shrinkage, compat: Compat | None, shared_factors: SharedFactors
) -> None:
    """Raise a BayesCombatError if there is no posterior given hyper-parameters, or it is not that of single cells."""
    if shrinkage != "parametric" or compat or shared_factors != 0:
        raise BayesCombatError(
            "Expected shrinkage='parametric' without compat and shared_factors for uncertainty, found "
            f"shrinkage={shrinkage!r}, compat={compat!r} and shared_factors={shared_factors!r}. Without parametric "
            "priors there is no posterior, the packages reproduced have none, and shared factors tie the features "
            "together. Leave them out, or use method='nuts'."
        )
    if moments.subjects is not None:
        raise BayesCombatError(
            "Expected scans that are independent given their batch for uncertainty, found a study with subjects, whose "
            "intercepts tie scans and batches together. Use method='nuts'."
        )
    if len(moments.features) == 1:
        raise BayesCombatError(
            f"Expected several features for uncertainty, found one to model: {moments.features[0]!r}. There are no "
            "others to learn the priors from that its effects would be given. Use method='nuts'."
        )


def _loadings(factors: Loadings, patterns: Sequence[Patterns], moments: Moments) -> xr.DataTree:
    of_noise = {"units": "1", "long_name": "correlation of the feature's noise with the factor"}
    of_shifts = {"units": "gamma_sd", "long_name": "loading of a new batch's shift on the pattern"}
    found = [one.axes @ one.new for one in patterns]
    data = {
        "loadings": (("feature", "factor"), factors.loadings, of_noise),
        "patterns": (("feature", "pattern"), np.concatenate(found, axis=1), of_shifts),
    }
    variables = np.repeat(np.array(moments.levels.active, dtype=object), [part.shape[1] for part in found])
    coords = {
        "feature": list(moments.features),
        "factor": range(factors.count),
        "batch_variable": ("pattern", variables),
    }
    return xr.DataTree(xr.Dataset(data, coords))


def warn_of_little_data(moments: Moments, fit: LeastSquares | None, whole_run: bool = False) -> None:
    """Warn of batches, and of features in batches, that tell little; with subjects `fit` says what these leave."""
    labels = np.array(moments.levels.labels)
    scans = Additive(moments.positions, moments.scans[:, None]).size[:, 0]
    freedom = Additive(moments.positions, moments.scans[:, None]).freedom()[:, 0]
    single, untold = labels[scans == 1], labels[(scans > 1) & (freedom < LEAST_FREEDOM)]
    if len(untold):
        warn(
            f"The effects of the other batch variables use up the scans of {listing(untold)}. There nothing tells of "
            "the scale.",
            BatchSizeWarning,
        )
    if moments.subjects is not None and fit is not None:
        left = np.median(fit.additive.indicator.T @ fit.freedom, axis=1)
        spent = labels[(scans > 1) & (freedom >= LEAST_FREEDOM) & (left < LEAST_FREEDOM)]
        if len(spent):
            warn(
                f"The intercepts of subjects use up the scans of {listing(spent)}, where few subjects have several. "
                "There the scale comes nearly from the prior alone.",
                BatchSizeWarning,
            )
    if len(single):
        effect = (
            "As in sva, the whole run is therefore mean-only: no batch's scale is adjusted."
            if whole_run
            else "That scan tells nothing of the scale there; the location comes from the prior and from it."
        )
        warn(
            f"One scan in {len(single)} of {len(labels)} batches: {listing(single)}. {effect}",
            BatchSizeWarning,
        )
    _warn_of_holes(moments, labels, scans)
    if len(moments.features) == 1:
        warn(
            f"There is one feature to model, {moments.features[0]!r}: nothing can be pooled across features. "
            "Empirical Bayes does not shrink; NUTS pools across batches alone.",
            PoolingWarning,
        )


def _warn_of_holes(moments: Moments, labels: np.ndarray, scans: np.ndarray) -> None:
    """Warn of features that are never, or once, observed in a batch of more scans."""
    observed = np.broadcast_to(Additive(moments.positions, moments.n).size, (len(labels), len(moments.features)))
    found = thinly_observed(observed, scans, moments.features, list(labels))
    if found:
        warn(
            f"Some features are missing in (nearly) a whole batch. {'; '.join(found)}. There the batch's prior stands "
            "in for what was not observed; where the feature was observed it is harmonized.",
            FeatureWarning,
        )
