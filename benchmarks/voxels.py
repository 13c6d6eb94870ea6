"""Empirical Bayes of very many features: in memory beside peers and the memory's bandwidth, and in chunks.

Every run has a process of its own, on two cores, and they take turns. Of the peers pycombat is the fastest exact one,
neuroCombat the best known.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import peers
from benchmarks.peers.runner import MIB, Watch

SCANS, BATCHES, CHUNK, REPEATS = 1_000, 20, 10_000, 3
IN_MEMORY, IN_CHUNKS = 200_000, 1_000_000
BESIDE = ("pycombat", "neuroCombat")


def values(features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noise with a shift for each batch (obs, feature), codes of batches, and three covariates."""
    return peers.values(SCANS, features, BATCHES, seed)


def copying(features: int) -> dict[str, float]:
    """One read and one write of the values, in two threads, to memory that was written before."""
    y, _, _ = values(features)
    out, halves = np.zeros_like(y), [slice(0, SCANS // 2), slice(SCANS // 2, None)]
    with Watch() as watch:
        threads = [threading.Thread(target=np.copyto, args=(out[half], y[half])) for half in halves]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    return {"seconds": watch.seconds}


def ours(features: int, folder: str) -> dict[str, float]:
    """From arrays to harmonized values, which are written for the peers to be held against."""
    import bayescombat as bc

    y, codes, x = (np.load(f"{folder}/{name}.npy") for name in ("y", "batch", "x"))
    assert bc.fit(bc.Study.from_arrays(y[:, :50], batch=codes), "eb").harmonized.sizes
    np.ones((4, *y.shape))  # Memory that is written to for the first time is slow.
    with Watch() as watch:
        study = bc.Study.from_arrays(y, batch=codes, covariates=x, copy=False)
        read = time.perf_counter()
        fit = bc.fit(study, method="eb", compat="sva")
        fitted = time.perf_counter()
        found = fit.harmonized["mean"].values
    np.save(f"{folder}/expected.npy", found)
    parts = {"study": read - watch.started, "fit": fitted - read, "harmonize": watch.started + watch.seconds - fitted}
    return watch.figures | {"output": found.nbytes / MIB} | parts


def in_chunks(features: int, folder: str) -> dict[str, float]:
    """From a Zarr store of single precision to another one; `folder` holds the first."""
    import xarray as xr

    import bayescombat as bc

    stored = xr.open_dataset(f"{folder}/in.zarr", engine="zarr", chunks={}, consolidated=False)["y"]
    _, codes, x = values(1)
    coords = {"site": codes, "age": x[:, 0], "sex": x[:, 1], "size": x[:, 2]}
    stored = stored.assign_coords({name: ("obs", column) for name, column in coords.items()})
    with Watch() as watch:
        study = bc.ChunkedStudy.from_xarray(stored, batch="site", covariates="age + sex + size")
        fit = bc.fit(study, method="eb", progress_bar=False)
        fitted = time.perf_counter()
        bc.write_zarr(fit.harmonize(study), f"{folder}/out.zarr", progress_bar=False)
    parts = {"fit": fitted - watch.started, "harmonize": watch.started + watch.seconds - fitted}
    return {"seconds": watch.seconds, "whole": watch.most / MIB, **parts}


def passing(features: int, folder: str) -> dict[str, float]:
    """Two reads of the store and one write of the same values by Dask: the least that `in_chunks` has to do."""
    import xarray as xr

    import bayescombat as bc

    stored = xr.open_dataset(f"{folder}/in.zarr", engine="zarr", chunks={}, consolidated=False)
    with Watch() as watch:
        stored["y"].data.sum(axis=0).compute()
        bc.write_zarr(stored + np.float32(1), f"{folder}/out.zarr", progress_bar=False)
    return {"seconds": watch.seconds}


def store(features: int, folder: str) -> None:
    """Write the values in single precision, a chunk at a time."""
    import zarr

    zarr.open_group(f"{folder}/in.zarr", mode="w", zarr_format=2)
    shape, width = (SCANS, features), min(CHUNK, features)
    array = zarr.create_array(
        f"{folder}/in.zarr/y", shape=shape, chunks=(SCANS, width), dtype="f4", zarr_format=2, compressors=None
    )
    array.attrs["_ARRAY_DIMENSIONS"] = ["obs", "feature"]
    for start in range(0, features, width):
        array[:, start : start + width] = values(min(width, features - start), start)[0].astype(np.float32)


def run(call: Callable[..., object], *arguments: object) -> dict[str, float]:
    """Return what a function of this module returns in a fresh process of two threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    command = [sys.executable, __file__, call.__name__, *map(str, arguments)]
    environment = os.environ | threads | {"PYTHONPATH": str(Path(__file__).parents[1])}
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def beside_peers(features: int) -> dict[str, object]:
    """Return the rows of a table in memory."""
    with tempfile.TemporaryDirectory() as folder:
        peers.write(Path(folder), SCANS, features, BATCHES)
        calls: dict[str, peers.Measurement] = {
            "ours": partial(run, ours, features, folder),
            "copying": partial(run, copying, features),
            **{name: partial(peers.measured, name, Path(folder), cores=2) for name in BESIDE},
        }
        rounds, failures = peers.in_turn(calls, REPEATS)
    found = {name: rounds[name].median() for name in rounds}
    mine = found["ours"]
    rows: dict[str, object] = {
        f"EB in memory, {SCANS:,} × {features:,} (s)": mine["seconds"],
        "  of all cores together": mine["cpu"],
        **{f"  of these to {part}": mine[part] for part in ("study", "fit", "harmonize")},
        "  / one read and one write of the values": mine["seconds"] / found["copying"]["seconds"],
        "  extra memory at its peak / output": mine["extra"] / mine["output"],
    }
    for name in (name for name in BESIDE if name in found):
        for key, what in (("seconds", "seconds"), ("cpu", "seconds of all cores"), ("extra", "extra memory")):
            rows[f"{name} / bayescombat, {what}"] = (rounds[name][key] / rounds["ours"][key]).median()
        rows[f"{name}: largest difference in sd"] = found[name]["difference"]
    return rows | failures


def table(in_memory: int = IN_MEMORY, chunked: int = IN_CHUNKS) -> pd.DataFrame:
    """Return the figures, one row each."""
    rows = beside_peers(in_memory)
    with tempfile.TemporaryDirectory() as folder:
        store(chunked, folder)
        chunks = run(in_chunks, chunked, folder)
        shutil.rmtree(f"{folder}/out.zarr")
        least = run(passing, chunked, folder)
    rows |= {
        f"EB in chunks, {SCANS:,} × {chunked:,} of float32 (s)": chunks["seconds"],
        **{f"  of these to {part} in chunks": chunks[part] for part in ("fit", "harmonize")},
        "  / two reads and one write by Dask": chunks["seconds"] / least["seconds"],
        "  memory of the process at its peak (MiB)": chunks["whole"],
    }
    return pd.DataFrame({"value": rows}).rename_axis("what")


if __name__ == "__main__":
    name, size, *others = sys.argv[1:]
    print(json.dumps(globals()[name](int(size), *others)))
