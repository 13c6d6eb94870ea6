"""Effective draws per gradient: each cell centred by its information, against one constant for all."""

import time
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd

import bayescombat as bc
from bayescombat.fused import packing
from benchmarks.tables import TABLES

SETTINGS: dict[str, object] = {"chains": 2, "draws": 1000, "tune": 1000, "seed": 1, "progress_bar": False}
CONSTANTS = {"by information": None, "z-scores": 0.0, "half way": 0.5, "as themselves": 1.0}
SMALL_SITES = (1, 2, 3, 4, 5) * 4


def small_sites() -> bc.Study:
    """Return a simulated study of 100 features whose 20 sites have one to five scans."""
    simulation = bc.datasets.simulate(SMALL_SITES, features=100, seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.Study.from_dataframe(simulation.table, batch="site", covariates="age", features=simulation.features)


def measured(study: bc.Study, constant: float | None) -> dict[str, float]:
    """Return what the draws are worth if log scales, means and spreads of batches are all centred that far."""
    by_information = packing.share_of_data
    if constant is not None:
        packing.share_of_data = lambda information, sd: np.full_like(by_information(information, sd), constant)
    try:
        started = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bc.BayesCombatWarning)
            fit = bc.fit(study, **SETTINGS)
        seconds = time.perf_counter() - started
    finally:
        packing.share_of_data = by_information
    stats = fit.tree["sample_stats"].to_dataset()
    bulk = fit.tree["diagnostics/ess_bulk"].to_dataset()
    ess = min(float(values.min()) for values in bulk.data_vars.values())
    rhat = max(float(values.max()) for values in fit.tree["diagnostics/rhat"].to_dataset().data_vars.values())
    return {
        "ess": ess,
        "rhat": rhat,
        "divergences": int(stats["diverging"].sum()),
        "steps": float(stats["n_steps"].mean()),
        "ess_per_1000_gradients": 1000 * ess / float(stats["n_steps"].sum()),
        "ess_per_second": ess / seconds,
    }


def _rows() -> Iterator[dict[str, object]]:
    studies = TABLES | {"sites of 1 to 5 scans": small_sites}
    for name, make in studies.items():
        for centred, constant in CONSTANTS.items():
            yield {"table": name, "centred": centred, **measured(make(), constant)}


def table() -> pd.DataFrame:
    """Return the smallest bulk ESS over all parameters, for each table and way to centre."""
    return pd.DataFrame(_rows()).set_index(["table", "centred"])
