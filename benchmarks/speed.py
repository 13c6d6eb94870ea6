"""Seconds: of a gradient against the number of scans, of the import, of missing cells. Ratios are side by side."""

import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks import peers

REPEATS = 7


def _median_seconds(call: Callable[[], object], repeats: int = REPEATS) -> float:
    call()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def study(scans: int, features: int = 100, batches: int = 10, seed: int = 0, holes: float = 0.0) -> bc.Study:
    """Return a study of noise with a shift for each batch, and a share of its cells missing."""
    rng = np.random.default_rng(seed)
    codes = np.arange(scans) % batches
    y = rng.standard_normal((scans, features)) + rng.normal(0, 0.5, (batches, features))[codes]
    y[rng.random(y.shape) < holes] = np.nan
    return bc.Study.from_arrays(y, batch=codes, covariates={"age": rng.normal(50, 10, scans)})


def gradient_seconds(sizes: tuple[int, ...] = (1_000, 100_000), calls: int = 2_000) -> list[float]:
    """Return the seconds of one log-density and gradient at each number of scans, measured in turn."""
    return _gradient_seconds([study(scans) for scans in sizes], calls)


def gradient_seconds_with_holes(holes: float = 0.05, calls: int = 2_000) -> list[float]:
    """Return the seconds of one log-density and gradient without and with missing cells, measured in turn."""
    return _gradient_seconds([study(1_000), study(1_000, holes=holes)], calls)


def _gradient_seconds(studies: list[bc.Study], calls: int) -> list[float]:
    from pymc.blocking import DictToArrayBijection

    steps = []
    for data in studies:
        model = bc.build_model(data)
        function = model.logp_dlogp_function(ravel_inputs=True)
        function.set_extra_values({})
        steps.append(partial(function, DictToArrayBijection.map(model.initial_point()).data))

    def run(step: Callable[[], object]) -> float:
        started = time.perf_counter()
        for _ in range(calls):
            step()
        return (time.perf_counter() - started) / calls

    rounds = [[run(step) for step in steps] for _ in range(REPEATS + 1)]
    return [float(value) for value in np.median(rounds[1:], axis=0)]


def import_seconds() -> float:
    """Return the seconds that a fresh interpreter takes to import bayescombat, its own start included."""
    return _median_seconds(lambda: subprocess.run([sys.executable, "-c", "import bayescombat"], check=True))


def empirical_bayes_seconds_with_holes(holes: float = 0.05, features: int = 5_000) -> list[float]:
    """Return the seconds from study to harmonized values by empirical Bayes, without and with missing cells."""

    def seconds(data: bc.Study) -> float:
        return _median_seconds(lambda: bc.fit(data, method="eb").harmonized)

    return [seconds(study(1_000, features, 20, holes=share)) for share in (0.0, holes)]


def small_table_seconds(scans: int = 100, features: int = 1_000, batches: int = 5, calls: int = 20) -> dict[str, float]:
    """Return processor seconds of a small table by empirical Bayes: of the study, the fit, and harmonized values."""
    y, codes, x = peers.values(scans, features, batches)
    rounds = []
    for _ in range(calls + 1):
        marks = [time.process_time()]
        made = bc.Study.from_arrays(y, batch=codes, covariates=x, copy=False)
        marks.append(time.process_time())
        fit = bc.fit(made, method="eb", compat="sva")
        marks.append(time.process_time())
        assert fit.harmonized["mean"].shape == y.shape
        rounds.append(np.diff([*marks, time.process_time()]))
    return dict(zip(("study", "fit", "harmonize"), np.median(rounds[1:], axis=0).tolist(), strict=True))


def uncertainty_seconds(scans: int = 1_000, features: int = 20_000, few: int = 200) -> dict[str, float]:
    """Return processor seconds of empirical Bayes: of estimates, of these with sd, and of the interval of one value."""

    def seconds(call: Callable[[], object]) -> float:
        found = []
        for _ in range(4):
            started = time.process_time()
            call()
            found.append(time.process_time() - started)
        return float(np.median(found[1:]))

    wide, narrow = study(scans, features, 20), study(scans, few, 20)
    fit = bc.fit(narrow, method="eb", uncertainty=True, seed=1)
    return {
        "estimates": seconds(lambda: bc.fit(wide, method="eb").harmonized),
        "sd": seconds(lambda: bc.fit(wide, method="eb", uncertainty=True).harmonize(wide, probability=None)),
        "interval": seconds(lambda: fit.harmonize(narrow)) / (scans * few),
    }


def table() -> pd.DataFrame:
    """Return the timings, one row each."""
    small, large = gradient_seconds()
    full, holed = gradient_seconds_with_holes()
    quick, quick_holed = empirical_bayes_seconds_with_holes()
    sure, parts = uncertainty_seconds(), small_table_seconds()
    rows = {
        "gradient, 1,000 scans × 100 features × 10 batches (µs)": small * 1e6,
        "gradient, 100,000 scans (µs)": large * 1e6,
        "ratio of the two": large / small,
        "gradient with 5 % missing cells / complete": holed / full,
        "EB fit and harmonize with 5 % missing cells / complete": quick_holed / quick,
        "import bayescombat in a fresh interpreter (s)": import_seconds(),
        "EB of 100 × 1,000 × 5 batches, processor time (ms)": sum(parts.values()) * 1e3,
        **{f"  of these to {part}": seconds * 1e3 for part, seconds in parts.items()},
        "EB with sd / without, 1,000 × 20,000 × 20 batches, processor time": sure["sd"] / sure["estimates"],
        "EB interval of one value, processor time (µs)": sure["interval"] * 1e6,
    }
    return pd.DataFrame({"value": rows}).rename_axis("what")
