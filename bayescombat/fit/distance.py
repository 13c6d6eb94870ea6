"""How far an adopted batch is from what a refit would say, in closed form."""

import warnings
from functools import partial

import numpy as np

from bayescombat.errors import BayesCombatWarning, ConfoundedDesignError, DataError
from bayescombat.estimation import by_empirical_bayes
from bayescombat.fit.contents import Contents
from bayescombat.fit.extension import Extension
from bayescombat.fit.joining import Asked
from bayescombat.fit.trees import fitted_tree
from bayescombat.identification import estimable
from bayescombat.moments import Moments, merge

__all__ = ["distance_to_refit"]


def distance_to_refit(fitted: Moments, added: Moments, mean_only: bool, shared_factors: int) -> str:
    """Say how far the harmonized scans of new batches move when all is fitted again, root mean square in sigma.

    Both ways are taken by empirical Bayes: the new batches given the fit to `fitted`, and the fit to everything, with
    as many shared factors as the fit has. What a refit changes is the pooled target, which then holds the new scans
    too, and every parameter that they inform.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BayesCombatWarning)
        before = estimable(fitted)
        try:
            after = estimable(merge([fitted, added]))
        except (DataError, ConfoundedDesignError) as error:
            return f"update would refuse these scans ({error})"
        distance = _distance(before, after, added, mean_only, shared_factors)
    lost = len(set(before.features) - set(after.features))
    aside = f" and set aside {lost} more features" if lost else ""
    return f"update would move the harmonized values there by about {distance:.2g} sigma (root mean square){aside}"


def _distance(before: Moments, after: Moments, added: Moments, mean_only: bool, shared_factors: int) -> float:
    common = set(before.features) & set(after.features)
    before, after = (part.select(np.array([name in common for name in part.features])) for part in (before, after))
    some = added.select(np.array([name in common for name in added.features]))
    extension, _ = _by_empirical_bayes(before, mean_only, shared_factors).adopted(some)
    one, other = _affine(extension, some), _affine(_by_empirical_bayes(after, mean_only, shared_factors), some)
    constant, slope, ratio = (a - b for a, b in zip(one, other, strict=True))
    n = np.broadcast_to(some.n, some.syy.shape)
    squares = n * constant**2 + (slope * (some.sxx @ slope[..., None])[..., 0]).sum(axis=-1)
    squares += 2 * ratio * (slope * some.sxy).sum(axis=-1) + ratio**2 * some.syy
    sigma = extension.parameters["sigma"].values
    return float(np.sqrt((squares / sigma**2).sum() / n.sum()))


def _by_empirical_bayes(moments: Moments, mean_only: bool, shared_factors: int) -> Extension:
    estimator = partial(
        by_empirical_bayes, shrinkage="parametric", mean_only=mean_only, compat=None, shared_factors=shared_factors
    )
    return Contents(fitted_tree(moments, estimator, Asked())).extensible


def _affine(extension: Extension, moments: Moments) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return harmonized mean values (batch, feature), and how values move with covariates and measurements."""
    parameters, layout = extension.parameters, extension.layout
    levels = layout.levels.positions(moments.batches)
    alpha, beta = parameters["alpha"].values, parameters["beta"].values
    gamma = parameters["gamma"].values[levels].sum(axis=1)
    ratio = 1 / parameters["delta"].values[levels].prod(axis=1)
    offset, kept = moments.mean_x - layout.center, layout.spec.kept
    predicted, preserved = ((some * beta).sum(axis=-1) for some in (offset, offset * kept))
    mean = alpha + preserved + ratio * (moments.mean_y - alpha - predicted - gamma)
    return mean, beta * (kept - ratio[..., None]), ratio
