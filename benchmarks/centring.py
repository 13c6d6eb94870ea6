"""Effective draws per gradient: variables sampled given what the data tell of them, against one form for all."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.centring import Known
from benchmarks.mixing import extreme, small_study
from benchmarks.tables import TABLES

SETTINGS: dict[str, Any] = {"chains": 2, "draws": 1000, "tune": 1000, "progress_bar": False}
SEEDS = (1, 2)
# How many times what is known: nothing makes a z-score given the prior alone, very much the variable itself.
FORMS = {"given the data": 1.0, "as z-scores": 0.0, "as themselves": 1e4}
SMALL_SITES = (1, 2, 3, 4, 5) * 4


@contextmanager
def known_as(times: float) -> Iterator[None]:
    """Take cells, means and spreads of batches for known that many times as well as they are."""
    of = Known.of
    Known.of = lambda information, estimate: of(times * information, estimate)
    try:
        yield
    finally:
        Known.of = of


def fitted(study: bc.Study, **settings: object) -> bc.Fit:
    """Fit a study by NUTS, without a word."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.fit(study, **(SETTINGS | settings))


def measured(study: bc.Study, seed: int) -> dict[str, object]:
    """Return what the draws are worth, by gradients and by seconds of processor time."""
    started = time.process_time()
    fit = fitted(study, seed=seed)
    seconds = time.process_time() - started
    stats = fit.tree["sample_stats"].to_dataset()
    bulk = fit.tree["diagnostics/ess_bulk"].to_dataset()
    rhat = fit.tree["diagnostics/rhat"].to_dataset()
    ess = extreme(bulk, list(bulk), np.min)
    middle = np.median(np.concatenate([values.values.ravel() for values in bulk.data_vars.values()]))
    thousands = float(stats["n_steps"].sum()) / 1000
    return {
        "least_per_1000": ess / thousands,
        "median_per_1000": float(middle) / thousands,
        "least_per_second": ess / seconds,
        "least": _least(bulk),
        "rhat": extreme(rhat, list(rhat), np.max),
        "steps": float(stats["n_steps"].mean()),
        "divergences": int(stats["diverging"].sum()),
    }


def _least(values: xr.Dataset) -> str:
    """Return the name of the parameter with the least value, with its labels."""
    name = min(values, key=lambda name: float(values[name].min()))
    one = values[name]
    place = one.isel(one.argmin(...))
    return " ".join([str(name), *(str(place[dim].values) for dim in one.dims)])


def _rows() -> Iterator[dict[str, object]]:
    studies = TABLES | {"sites of 1 to 5 scans": lambda: small_study(100, SMALL_SITES)}
    # Machine code is made, or read from disk, before anything is timed.
    fitted(small_study(3, (10, 10)), draws=10, tune=10, seed=1)
    for name, make in studies.items():
        for form, times in FORMS.items():
            for seed in SEEDS:
                with known_as(times):
                    yield {"table": name, "sampled": form, "seed": seed, **measured(make(), seed)}


def table() -> pd.DataFrame:
    """Return bulk ESS, the smallest over all parameters and their median, for each table, form and seed."""
    return pd.DataFrame(_rows()).set_index(["table", "sampled", "seed"])
