"""Seconds from a fresh process to harmonized values of fcon1000 by NUTS, as PyMC compiles the model, and fused."""

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import pandas as pd

FORMS = ("readable", "fused")
CACHES = ("cold", "warm")
STAGES = ("import", "model", "compile", "sample", "identify", "diagnose", "harmonize", "process")


def _timed(seconds: dict[str, float], stage: str, module: str, name: str) -> None:
    """Make a function of a module add its seconds to a stage."""
    home = importlib.import_module(module)
    function: Callable[..., Any] = getattr(home, name)

    @wraps(function)
    def timed(*arguments: Any, **options: Any) -> Any:
        started = time.perf_counter()
        result = function(*arguments, **options)
        seconds[stage] = seconds.get(stage, 0.0) + time.perf_counter() - started
        return result

    setattr(home, name, timed)


def measured(form: str) -> dict[str, float]:
    """Return the seconds of every stage in this process, which should have imported nothing yet."""
    started = time.perf_counter()
    import bayescombat as bc
    import bayescombat.sampling
    import bayescombat.verdict

    if form == "readable":
        import bayescombat.model
    seconds = {"import": time.perf_counter() - started}
    from benchmarks.tables import fcon1000

    study = fcon1000()
    if form == "readable":
        import bayescombat.fused

        bayescombat.fused.applies = lambda moments: False
    _timed(seconds, "model", "bayescombat.estimation", "model_of")
    _timed(seconds, "compile", "bayescombat.sampling", "density_of")
    _timed(seconds, "sample", "bayescombat.sampling", "drawn")
    _timed(seconds, "identify", "bayescombat.estimation", "identify")
    _timed(seconds, "diagnose", "bayescombat.verdict", "verdict_of")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(study, seed=1, progress_bar=False, shared_factors=0)
        started = time.perf_counter()
        assert fit.harmonized["mean"].size
    seconds["harmonize"] = time.perf_counter() - started
    if form == "readable":
        seconds["diagnose"] = _by_arviz(fit.parameters)
    return seconds


def _by_arviz(parameters: Any) -> float:
    """Return the seconds of the same figures by ArviZ."""
    import arviz as az

    started = time.perf_counter()
    az.rhat(parameters), az.ess(parameters, method="bulk"), az.ess(parameters, method="tail")
    return time.perf_counter() - started


def _in_fresh_process(form: str, caches: Path) -> dict[str, float]:
    environment = os.environ | {
        "NUMBA_CACHE_DIR": str(caches / "numba"),
        "PYTENSOR_FLAGS": f"base_compiledir={caches / 'pytensor'}",
    }
    command = [sys.executable, "-m", "benchmarks.startup", form]
    started = time.perf_counter()
    printed = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    whole = time.perf_counter() - started
    seconds: dict[str, float] = json.loads(printed.splitlines()[-1])
    return seconds | {"process": whole}


def table() -> pd.DataFrame:
    """Return seconds by stage, for empty caches and for those of the run before, and how many times as fast it got.

    ``process`` is the whole process from its start to its end; for the readable form its diagnostics are ArviZ's, which
    are made beside ours and are counted in it.
    """
    with tempfile.TemporaryDirectory() as folder:
        found = {(cache, form): _in_fresh_process(form, Path(folder, form)) for cache in CACHES for form in FORMS}
    result = pd.DataFrame(found).reindex(STAGES)
    for cache in CACHES:
        result[cache, "ratio"] = result[cache, "readable"] / result[cache, "fused"]
    return result.sort_index(axis=1, level=0, sort_remaining=False)


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
