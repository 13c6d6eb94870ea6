"""A model, or what stands for it -> draws, by NUTS on nutpie."""

import warnings
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from threading import Event, Lock
from typing import TYPE_CHECKING, Any

import numpy as np
import nutpie
import pandas as pd
import xarray as xr
from nutpie.compile_pymc import CompiledPyMCModel
from threadpoolctl import threadpool_limits

from bayescombat.fused import Packed, density, expansion, sources
from bayescombat.settings import FEWEST_DRAWS, Backend, Settings

if TYPE_CHECKING:
    import pymc as pm

__all__ = ["density_of", "drawn", "reported", "sample"]

STATISTICS = (
    "diverging",
    "energy",
    "logp",
    "depth",
    "maxdepth_reached",
    "n_steps",
    "step_size",
    "mean_tree_accept",
)
# Where models are sampled in threads, one is compiled at a time.
_COMPILING = Lock()
SECONDS_BETWEEN_LOOKS = 0.1


def sample(model: "pm.Model | Packed", settings: Settings, stop: Event | None = None) -> xr.DataTree:
    """Sample a model of `build_model`, or what is packed in its stead, from its own starting values.

    Parameters
    ----------
    model : pymc.Model or Packed
        As built or packed.
    settings : Settings
        Resolved.
    stop : Event, optional
        What tells a thread, which hears of no Ctrl-C, to stop.

    Returns
    -------
    xarray.DataTree
        Groups ``posterior`` (the model's parameters, (chain, draw, ...)) and ``sample_stats``. After an interrupt it
        holds the draws so far.

    Raises
    ------
    KeyboardInterrupt
        If interrupted before there was anything to keep.
    CancelledError
        If told to stop.
    """
    return _labelled(drawn(density_of(model, settings.backend), settings, stop), model.coords)


def density_of(model: "pm.Model | Packed", backend: Backend = "numba") -> Any:
    """Return the compiled log-density of a model, with its starting values and what is reported of a position."""
    with _COMPILING:
        if isinstance(model, Packed):
            return _of_packed(model)
        return nutpie.compile_pymc_model(
            model,
            backend=backend,
            default_initialization_strategy="support_point",
            jitter_rvs=set(),
            var_names=reported(model),
        )


def _of_packed(packed: Packed) -> Any:
    """Return what nutpie makes of a PyMC model, made of a study's numbers and the density that serves all studies."""
    coords = {dim: pd.Index(labels) for dim, labels in packed.coords.items()}
    names = list(packed.reported)
    shapes = [tuple(len(coords[dim]) for dim in dims) for dims in packed.reported.values()]
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes])
    places = [slice(end - np.prod(shape, dtype=int), end) for end, shape in zip(ends, shapes, strict=True)]
    return CompiledPyMCModel(
        dims=packed.reported,
        compiled_logp_func=density(sources()),
        compiled_expand_func=expansion(sources()),
        initial_point_func=lambda seed: packed.start,
        shared_data={},
        shared_var_keys={},
        user_data=packed.data,
        n_expanded=int(ends[-1]),
        shape_info=(names, places, shapes),
        logp_func=None,
        expand_func=None,
        _n_dim=len(packed.start),
        _shapes=dict(zip(names, shapes, strict=True)),
        _coords=coords | {"unconstrained_parameter": pd.RangeIndex(len(packed.start))},
    )


def drawn(compiled: Any, settings: Settings, stop: Event | None = None) -> xr.DataTree:
    """Return whole chains and draws of a compiled log-density."""
    # One thread per chain: matrix products of many threads each would only compete.
    with threadpool_limits(1):
        sampler = nutpie.sample(
            compiled,
            draws=settings.draws,
            tune=settings.tune,
            chains=settings.chains,
            cores=settings.cores,
            seed=settings.seed,
            target_accept=settings.target_accept,
            progress_bar=settings.progress_bar,
            save_warmup=False,
            blocking=False,
        )
        try:
            tree = sampler.wait() if stop is None else _waited(sampler, stop)
        except KeyboardInterrupt:
            with warnings.catch_warnings():
                # Few draws look to ArviZ as if chains and draws had been confused.
                warnings.filterwarnings("ignore", "Found chain dimension", UserWarning)
                tree = sampler.abort()
        except BaseException:
            sampler.cancel()
            raise
    return _complete(tree)


def _waited(sampler: Any, stop: Event) -> Any:
    """Return what the sampler drew once it is finished, looking now and then whether it is to stop."""
    while not stop.is_set():
        with suppress(TimeoutError):
            return sampler.wait(timeout=SECONDS_BETWEEN_LOOKS)
    raise CancelledError("Told to stop.")


def reported(model: "pm.Model") -> list[str]:
    """Return the names of what a fit keeps: deterministic variables, shifts, and what batches are drawn from."""
    kept = ("gamma", "smooth_sd_log_typical", "smooth_sd_spread")
    declared = [rv.name for rv in model.free_RVs if rv.ndim == 0 or rv.name in kept]
    return [variable.name for variable in model.deterministics] + declared


def _complete(tree: xr.DataTree) -> xr.DataTree:
    """Return the chains and draws that are whole; chains that were interrupted end at different places.

    Of the ways to cut them to one length, that which keeps most draws is taken.
    """
    stats = tree["sample_stats"].to_dataset()
    finished = np.isfinite(stats["energy"].values).sum(axis=1)
    longest = np.sort(finished)[::-1]
    draws = int(longest[np.argmax(longest * np.arange(1, len(longest) + 1))]) if len(longest) else 0
    if draws < FEWEST_DRAWS:
        raise KeyboardInterrupt("Interrupted before there were draws to keep.")
    kept = {"chain": np.flatnonzero(finished >= draws), "draw": slice(draws)}
    posterior = tree["posterior"].to_dataset().isel(kept)
    stats = stats[list(STATISTICS)].isel(kept)
    stats.attrs = {"inference_library": "nutpie"}
    # The name that ArviZ looks for.
    stats["reached_max_treedepth"] = stats["maxdepth_reached"]
    return xr.DataTree.from_dict({"posterior": posterior, "sample_stats": stats})


def _labelled(tree: xr.DataTree, coords_of_model: Mapping[str, Any]) -> xr.DataTree:
    """Return the tree with exactly the model's coordinates on the parameters."""
    posterior = tree["posterior"].to_dataset()
    coords: dict[str, Any] = {
        name: list(values)
        for name, values in coords_of_model.items()
        if name in posterior.dims and isinstance(values, Sequence)
    }
    tree["posterior"] = xr.DataTree(posterior.assign_coords(coords))
    return tree
