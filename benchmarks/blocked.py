"""NUTS in blocks: time and memory for 500 to 5,000 features, and what blocking does to the batches' effects.

Every size has a process of its own. Seconds of all cores together hang less on what else the machine does than seconds.
"""

import json
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from benchmarks.voxels import Watch

SITES = (30,) * 10
SIZES = (500, 2_000, 5_000)
QUICK = {"chains": 2, "draws": 300, "tune": 300}
BLOCK = 250
# Where batches are small, effects lean most on what the features of a block tell of the batch.
UNEVEN = (80, 60, 40, 30, 20, 10, 5, 5, 3, 3)
FEATURES = 500
THOROUGH = {"chains": 2, "draws": 1000, "tune": 500}
PARAMETERS = ("gamma", "delta")


def study(scans: tuple[int, ...], features: int, seed: int = 0) -> tuple[bc.Study, xr.Dataset]:
    """Return a simulated study with age as covariate, and its truth."""
    made = bc.datasets.simulate(scans, features=features, seed=seed)
    columns = {name: made.table[name] for name in ("site", "age")}
    # Far from zero, where no harmonized value would be called negative.
    y = made.table[list(made.features)].to_numpy() + 1000
    data = bc.Study.from_arrays(y, batch=columns["site"], covariates={"age": columns["age"]}, features=made.features)
    return data, made.truth


def in_blocks(data: bc.Study, block_size: int, seed: int = 1, **settings: int) -> dict[str, xr.Dataset]:
    """Return the parameters and the accounts of the blocks, in memory."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        tree = bc.fit_blocks(data, f"{folder}/out.zarr", block_size, seed=seed, progress_bar=False, **settings)
        return {name: tree[name].to_dataset().load() for name in ("parameters", "blocks")}


def measured(features: int) -> dict[str, float]:
    """Return seconds, and the memory that a fit in blocks takes beyond the table, once a first block was fitted."""
    small, _ = study(SITES, 20)
    in_blocks(small, 10, **QUICK)
    data, _ = study(SITES, features)
    with Watch() as watch:
        found = in_blocks(data, BLOCK, **QUICK)
    assert found["blocks"].sizes["block"] == features // BLOCK
    return watch.figures


def run(features: int) -> dict[str, float]:
    """Return what `measured` returns in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.blocked", str(features)]
    folder = Path(__file__).parents[1]
    said = subprocess.run(command, check=True, capture_output=True, text=True, cwd=folder).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def scaling() -> dict[str, float]:
    """Return the figures of all sizes, and those per feature in parts of those of the smallest."""
    found = {size: run(size) for size in SIZES}
    least = found[SIZES[0]]
    rows = {}
    for size, figures in found.items():
        rows[f"{size:,} features (s)"] = figures["seconds"]
        rows[f"  {size:,}: of all cores together (s)"] = figures["cpu"]
        for name, words in (("seconds", "seconds"), ("cpu", "seconds of all cores")):
            rows[f"  {size:,}: {words} per feature / at {SIZES[0]}"] = figures[name] / size / (least[name] / SIZES[0])
        rows[f"  {size:,}: memory beyond the table (MiB)"] = figures["extra"]
    return rows


def differences(one: xr.Dataset, other: xr.Dataset) -> dict[str, float]:
    """Return how far posterior means of gamma and delta are apart, in posterior standard deviations of the first."""
    rows = {}
    for name in PARAMETERS:
        mean, sd = (one[name].sel(summary=summary).values for summary in ("mean", "sd"))
        apart = np.abs(other[name].sel(summary="mean").values - mean) / sd
        spread = other[name].sel(summary="sd").values / sd
        rows[f"{name}: median difference / sd"] = float(np.median(apart))
        rows[f"{name}: largest difference / sd"] = float(apart.max())
        rows[f"{name}: 1 - correlation"] = 1 - np.corrcoef(_in_sigma(one, name), _in_sigma(other, name))[0, 1]
        rows[f"{name}: median ratio of sds"] = float(np.median(spread))
    return rows


def errors(parameters: xr.Dataset, truth: xr.Dataset) -> dict[str, float]:
    """Return root mean squared errors of posterior means, of gamma in units of sigma."""
    sigma, average = truth["sigma"].values, parameters.sel(summary="mean")
    gamma = (average["gamma"].values - truth["gamma"].values) / sigma
    delta = average["delta"].values - truth["delta"].values
    return {"gamma: RMSE / sigma": float(np.sqrt(np.mean(gamma**2))), "delta: RMSE": float(np.sqrt(np.mean(delta**2)))}


def _in_sigma(parameters: xr.Dataset, name: str) -> np.ndarray:
    average = parameters.sel(summary="mean")
    values = average[name] / average["sigma"] if name == "gamma" else average[name]
    return np.asarray(values.transpose("batch", "feature").values.ravel())


def blocking() -> dict[str, float]:
    """Return what 2 and 10 blocks do to 500 features, beside another seed of the fit in one block."""
    data, truth = study(UNEVEN, FEATURES)
    whole = in_blocks(data, FEATURES, **THOROUGH)["parameters"]
    fits = {
        "another seed": in_blocks(data, FEATURES, seed=2, **THOROUGH)["parameters"],
        "2 blocks of 250": in_blocks(data, 250, **THOROUGH)["parameters"],
        "10 blocks of 50": in_blocks(data, 50, **THOROUGH)["parameters"],
    }
    rows = {f"one block, {name}": value for name, value in errors(whole, truth).items()}
    for label, found in fits.items():
        figures = differences(whole, found) | errors(found, truth)
        rows |= {f"{label}, {name}": value for name, value in figures.items()}
    return rows


def table() -> pd.DataFrame:
    """Return the figures, one row each."""
    return pd.DataFrame({"value": scaling() | blocking()}).rename_axis("what")


if __name__ == "__main__":
    print(json.dumps(measured(int(sys.argv[1]))))
