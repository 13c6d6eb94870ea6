"""The effect of one covariate, as a curve with its band; the effects of every batch, over the features."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats
from scipy.stats import false_discovery_control

from bayescombat.batches import cell_parts
from bayescombat.blocks import slices
from bayescombat.design import effect_columns, learned_grid
from bayescombat.errors import DataError, check_probability
from bayescombat.fit.layout import Layout, stacked
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares
from bayescombat.repeated import fixed_effects

__all__ = ["batch_effects", "effect_dataset", "fitted_moments", "places"]

PLACES = 50
# Numbers in one block of work: 64 MiB of float64.
BLOCK = 2**23


def places(layout: Layout, name: str, at: Any, tree: xr.DataTree) -> pd.Series:
    """Return the values of a covariate at which to show its effect.

    Parameters
    ----------
    layout : Layout
        How rows meet parameters.
    name : str
        The covariate.
    at : array-like of (at,), or None
        What was asked for; None for even places over the range that is known of it.
    tree : xarray.DataTree
        Of the fit, whose rows tell of the range where the design does not.
    """
    if at is not None:
        if np.ndim(at) != 1 or not len(at):
            raise DataError(
                f"Expected at as a list of values of {name!r}, found {at!r}. Give for example [20, 40, 60]."
            )
        return pd.Series(list(at))
    found = learned_grid(layout.spec, name)
    if found is None and "constant_data" in tree and name in layout.spec.covariates:
        column = tree["constant_data"].to_dataset()["x"].sel(covariate=name).values
        found = pd.Series(np.linspace(column.min(), column.max(), PLACES))
    if found is None:
        raise DataError(
            f"Expected values of {name!r} to show the effect at, found none, and neither design nor rows tell of its "
            f"range. Give fit.effect({name!r}, at=[...])."
        )
    return found


def effect_dataset(
    parameters: xr.Dataset,
    layout: Layout,
    moments: Moments | None,
    name: str,
    at: pd.Series,
    probability: float,
    against: Any = None,
) -> xr.Dataset:
    """Return ``mean, sd, lower, upper`` (at, feature), and ``p, p_fdr`` against another value.

    Of estimates without moments ``mean`` alone.

    Parameters
    ----------
    parameters : xarray.Dataset
        Draws (chain, draw, ...) or estimates.
    layout : Layout
        How rows meet them.
    moments : Moments, optional
        What estimates were learned from.
    name : str
        The covariate.
    at : pandas.Series, (at,)
        Values of it.
    probability : float
        Of the interval from lower to upper.
    against : optional
        Value of the covariate that others are compared with; by default their average over the scans.
    """
    check_probability(probability)
    if against is not None and (np.ndim(against) or pd.isna(against)):
        raise DataError(f"Expected one value of {name!r} to compare with, found {against!r}. Name a level or a number.")
    positions, matrix = effect_columns(layout.spec, name, at)
    # Measured from the average over the scans, as alpha is.
    origin = layout.center[:, positions]
    if against is not None:
        origin = effect_columns(layout.spec, name, pd.Series([against]))[1]
    offset = matrix[:, None, :] - origin
    beta, freedom = stacked(parameters, "beta")[..., positions], np.array(np.inf)
    if "draw" in parameters.dims:
        found = _of_draws(offset, beta, probability)
    else:
        found = {"mean": (offset * beta[0]).sum(axis=-1)}
        if moments is not None:
            least = fixed_effects(moments)
            freedom = least.residual_freedom
            found |= _bounds(offset, found["mean"], moments, least, positions, probability)
    units = f"{'log ' if layout.spec.transform == 'log' else ''}feature units"
    data: dict[str, Any] = {key: (("at", "feature"), values, {"units": units}) for key, values in found.items()}
    if against is not None and "sd" in found:
        p = _p_values(found["mean"], found["sd"], freedom)
        data |= {"p": (("at", "feature"), p), "p_fdr": (("at", "feature"), false_discovery_control(p, axis=1))}
    coords = {"at": ("at", at.to_numpy(), {"long_name": name}), "feature": list(layout.features)}
    attrs: dict[str, str | float] = {"covariate": name}
    return xr.Dataset(data, coords, attrs | ({"probability": probability} if "sd" in found else {}))


def _of_draws(offset: np.ndarray, beta: np.ndarray, probability: float) -> dict[str, np.ndarray]:
    """Return mean, sd and quantiles of the curves of all draws, in blocks of features."""
    tails = [(1 - probability) / 2, (1 + probability) / 2]
    parts = []
    for some in slices(beta.shape[1], BLOCK // (4 * len(beta) * len(offset))):
        own = offset if offset.shape[1] == 1 else offset[:, some]
        curves = np.stack([(one[some] * own).sum(axis=-1) for one in beta])
        parts.append((curves.mean(axis=0), curves.std(axis=0, ddof=1), *np.quantile(curves, tails, axis=0)))
    joined = (np.concatenate(found, axis=1) for found in zip(*parts, strict=True))
    return dict(zip(("mean", "sd", "lower", "upper"), joined, strict=True))


def _bounds(
    offset: np.ndarray,
    mean: np.ndarray,
    moments: Moments,
    fit: LeastSquares,
    positions: np.ndarray,
    probability: float,
) -> dict[str, np.ndarray]:
    """Return sd and bounds of estimates."""
    mine = [k for k, columns in enumerate(moments.spec.penalised) if np.isin(columns, positions).any()]
    squares = fit.mean_squares(mine[0] if mine else None)[:, positions[:, None], positions]
    sd = np.sqrt(np.maximum(((offset[..., None, :] @ squares)[..., 0, :] * offset).sum(axis=-1), 0))
    reach = stats.t.ppf((1 + probability) / 2, fit.residual_freedom) * sd
    return {"sd": sd, "lower": mean - reach, "upper": mean + reach}


def _p_values(mean: np.ndarray, sd: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return two-sided p-values of no effect, (at, feature); one where a value is compared with itself."""
    score = np.divide(np.abs(mean), sd, out=np.zeros_like(mean), where=sd > 0)
    return np.asarray(2 * stats.t.sf(score, freedom))


def fitted_moments(moments: Moments, layout: Layout, adopted: Sequence[Sequence[str]]) -> Moments:
    """Return the moments of the modelled features in the batches that were fitted, without those adopted later."""
    left = {tuple(pair) for pair in adopted}
    variables = layout.levels.variables
    kept = [
        i
        for i, label in enumerate(moments.batches)
        if not left & set(zip(variables, cell_parts(label, variables), strict=True))
    ]
    return moments.of_batches(kept).select(np.isin(moments.features, layout.features))


def batch_effects(parameters: xr.Dataset) -> dict[str, xr.DataArray]:
    """Return ``shift``, ``shift_rms`` and ``scale`` of every batch, (..., batch), as `Fit.summary` describes them."""
    gamma = parameters["gamma"] / parameters["sigma"]
    return {
        "shift": gamma.mean("feature"),
        "shift_rms": (gamma**2).mean("feature") ** 0.5,
        "scale": xr.ufuncs.exp(xr.ufuncs.log(parameters["delta"]).mean("feature")),
    }
