"""Rows and parameters in, labelled harmonized data out."""

import numpy as np
import xarray as xr

from bayescombat.adjust import Draws, adjust, adjusted_draws
from bayescombat.columns import text_label, warn
from bayescombat.errors import (
    BayesCombatError,
    NegativeValueWarning,
    UnseenBatchError,
    listing,
    suggestion,
)
from bayescombat.moments import Moments
from bayescombat.study import Study

__all__ = ["harmonized_dataset", "harmonized_draws"]


def harmonized_dataset(
    parameters: xr.Dataset, moments: Moments, study: Study, target: str | None, probability: float
) -> xr.Dataset:
    """Return ``mean, sd, lower, upper`` (obs, feature); ``mean`` alone where there is one draw.

    Parameters
    ----------
    parameters : xarray.Dataset
        Draws (chain, draw, ...) or estimates, of the modelled features.
    moments : Moments
        Of all features.
    study : Study
        The rows, with the batches of the moments.
    target : str, optional
        The batch to harmonize to.
    probability : float
        Of the interval from lower to upper.
    """
    if not 0 < probability < 1:
        raise BayesCombatError(f"Expected a probability between 0 and 1, found {probability!r}.")
    kept = _modelled(parameters, moments)
    y = np.ascontiguousarray(study.y[:, kept])
    adjusted = adjust(_draws(parameters, moments, target), y, study.x, study.codes, probability)
    _warn_of_negatives(y, adjusted.mean, np.array(study.features, dtype=object)[kept])
    data = {}
    for name in ("mean", "sd", "lower", "upper"):
        values = getattr(adjusted, name)
        if values is None:
            continue
        whole = np.zeros_like(study.y) if name == "sd" else study.y.copy()
        whole[:, kept] = values
        data[name] = (("obs", "feature"), whole, {"units": "feature units"})
    attrs: dict[str, str | float] = {"target": _target_name(target, moments)}
    if adjusted.sd is not None:
        attrs["probability"] = probability
    return xr.Dataset(data, _coords(study, kept), attrs)


def harmonized_draws(
    parameters: xr.Dataset, moments: Moments, study: Study, target: str | None, n: int
) -> xr.DataArray:
    """Return one harmonized table (draw, obs, feature) for each of n evenly spaced draws."""
    total = parameters.sizes["chain"] * parameters.sizes["draw"]
    if not 1 <= n <= total:
        raise BayesCombatError(f"Expected n between 1 and the fit's {total} draws, found {n!r}.")
    kept = _modelled(parameters, moments)
    every = np.linspace(0, total - 1, n).round().astype(int)
    values = np.repeat(study.y[None], n, axis=0)
    y = np.ascontiguousarray(study.y[:, kept])
    values[:, :, kept] = adjusted_draws(_draws(parameters, moments, target, every), y, study.x, study.codes)
    coords = _coords(study, kept) | {"draw": every}
    attrs = {"units": "feature units", "long_name": "harmonized value", "target": _target_name(target, moments)}
    return xr.DataArray(values, coords, ("draw", "obs", "feature"), "harmonized", attrs)


def _modelled(parameters: xr.Dataset, moments: Moments) -> np.ndarray:
    """Return the positions of the modelled features among all of them."""
    modelled = set(parameters["feature"].values)
    return np.flatnonzero([name in modelled for name in moments.features])


def _coords(study: Study, kept: np.ndarray) -> dict[str, object]:
    aside = np.ones(len(study.features), dtype=bool)
    aside[kept] = False
    return {
        "obs": ("obs", np.asarray(study.obs)),
        "feature": list(study.features),
        "set_aside": ("feature", aside),
    }


def _draws(
    parameters: xr.Dataset, moments: Moments, target: str | None, every: np.ndarray | slice = slice(None)
) -> Draws:
    """Return the parameters as arrays with one draw axis."""
    leading = [dim for dim in ("chain", "draw") if dim in parameters.dims]

    def stacked(name: str) -> np.ndarray:
        array = parameters[name].transpose(*leading, ...).values
        count = int(np.prod(array.shape[: len(leading)]))
        return np.asarray(array.reshape(count, *array.shape[len(leading) :])[every])

    at = None if target is None else _position(target, moments.batches)
    unmoved = at if moments.reference is None or at is not None else moments.batches.index(moments.reference)
    alpha, beta, gamma, delta = (stacked(name) for name in ("alpha", "beta", "gamma", "delta"))
    center = moments.center
    common = center.mean(axis=0)
    if len(center) > 1:
        # With missing cells each feature has an average of its own: measure them all from one.
        alpha = alpha + ((common - center[_modelled(parameters, moments)]) * beta).sum(axis=-1)
    return Draws(alpha, beta, gamma, delta, common, at, unmoved)


def _target_name(target: object, moments: Moments) -> str:
    name = moments.reference if target is None else text_label(target)
    return "pooled" if name is None else name


def _position(target: object, batches: tuple[str, ...]) -> int:
    name = text_label(target)
    if name not in batches:
        raise UnseenBatchError(
            f"Expected a target among the fitted batches {listing(batches)}, found {name!r}."
            f"{suggestion(name, batches)} Name one of them."
        )
    return batches.index(name)


def _warn_of_negatives(y: np.ndarray, mean: np.ndarray, names: np.ndarray) -> None:
    negative = (y > 0).all(axis=0) & (mean < 0).any(axis=0)
    if negative.any():
        count = int((mean[:, negative] < 0).sum())
        warn(
            f"{count} harmonized values of {negative.sum()} features that are positive in the table are negative: "
            f"{listing(names[negative])}. If they cannot be negative, harmonize their logarithms.",
            NegativeValueWarning,
        )
