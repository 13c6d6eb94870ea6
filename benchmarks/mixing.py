"""How well NUTS mixes: on real tables at default settings, and on tables as small as they come."""

import resource
import time
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.vocabulary import HYPERPARAMETERS
from benchmarks.tables import TABLES

SMALL = [(features, scans) for features in (1, 3, 10) for scans in ((40, 3), (40, 1, 2, 3, 10))]


def measured(name: str, study: bc.Study, seed: int = 1) -> dict[str, object]:
    """Fit a study at default settings and return what its draws are worth, as one row."""
    started = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(study, seed=seed, progress_bar=False)
    seconds = time.perf_counter() - started
    stats = fit.tree["sample_stats"].to_dataset()
    diagnostics = {key: fit.tree[f"diagnostics/{key}"].to_dataset() for key in ("rhat", "ess_bulk")}
    hyper = list(HYPERPARAMETERS)
    rest = [variable for variable in fit.parameters.data_vars if variable not in hyper]
    sizes = fit.parameters.sizes
    return {
        "table": name,
        "scans": len(study.obs),
        "features": sizes["feature"],
        "batches": sizes["batch"],
        "draws": stats["diverging"].size,
        "divergences": int(stats["diverging"].sum()),
        "ess": extreme(diagnostics["ess_bulk"], rest, np.min),
        "ess_hyper": extreme(diagnostics["ess_bulk"], hyper, np.min),
        "rhat": extreme(diagnostics["rhat"], rest, np.max),
        "rhat_hyper": extreme(diagnostics["rhat"], hyper, np.max),
        "steps": float(stats["n_steps"].mean()),
        "seconds": seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }


def extreme(values: xr.Dataset, names: Sequence[object], worst: np.ufunc) -> float:
    """Return the worst of the values of those variables that there are."""
    return float(worst([worst(values[name].values) for name in names if name in values]))


def small_study(features: int, scans: Sequence[int], seed: int = 5) -> bc.Study:
    """Return a simulated study of few features and tiny sites."""
    simulation = bc.datasets.simulate(scans, features=features, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.Study.from_dataframe(simulation.table, batch="site", covariates="age", features=simulation.features)


def _rows() -> Iterator[dict[str, object]]:
    for name, make in TABLES.items():
        yield measured(name, make())
    for features, scans in SMALL:
        yield measured(f"simulated {scans}", small_study(features, scans))


def table() -> pd.DataFrame:
    """Return a row for each table: divergences, smallest bulk ESS and largest R-hat, seconds, peak memory so far."""
    return pd.DataFrame(_rows()).set_index("table")
