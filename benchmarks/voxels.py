"""Empirical Bayes of very many features: in memory beside its peers and the memory's bandwidth, and in chunks.

Every run has a process of its own, and they take turns. Peers run in the interpreter that BAYESCOMBAT_PEERS names, an
environment with pycombat and neuroCombat; without it they are left out.
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
from pathlib import Path

import numpy as np
import pandas as pd

SCANS, BATCHES, CHUNK, REPEATS = 1_000, 20, 10_000, 3
IN_MEMORY, IN_CHUNKS = 200_000, 1_000_000
PEERS = os.environ.get("BAYESCOMBAT_PEERS")
MIB = 2**20


def values(features: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noise with a shift for each batch (obs, feature), codes of batches, and three covariates."""
    rng, codes = np.random.default_rng(seed), np.arange(SCANS) % BATCHES
    y = rng.standard_normal((SCANS, features))
    y += rng.normal(0, 0.5, (BATCHES, features))[codes]
    return y, codes, np.column_stack([rng.normal(50, 10, SCANS), rng.integers(0, 2, SCANS), rng.normal(0, 1, SCANS)])


def prepared(
    features: int, call: Callable[..., object] = lambda *few: None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the values once a call on a few was done, and memory was written to, which is slow for the first time."""
    call(*values(50))
    np.ones((4 * SCANS, features))
    return values(features)


class Watch:
    """Seconds, and the most memory beyond that at the start, of what runs inside."""

    def __enter__(self) -> "Watch":
        """Start."""
        self.done, self.most, self.before = threading.Event(), 0, resident()
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        self.started, self.cpu = time.perf_counter(), time.process_time()
        return self

    def _look(self) -> None:
        while not self.done.wait(0.005):
            self.most = max(self.most, resident())

    def __exit__(self, *error: object) -> None:
        """Stop."""
        self.seconds, self.cpu = time.perf_counter() - self.started, time.process_time() - self.cpu
        self.most = max(self.most, resident())
        self.done.set()
        self.thread.join()

    @property
    def figures(self) -> dict[str, float]:
        """Seconds, those of all cores together, and the most memory in MiB."""
        return {"seconds": self.seconds, "cpu": self.cpu, "extra": (self.most - self.before) / MIB}


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


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


def ours(features: int) -> dict[str, float]:
    """From arrays to harmonized values."""
    import bayescombat as bc

    y, codes, x = prepared(features, lambda *few: bc.fit(bc.Study.from_arrays(few[0], batch=few[1]), "eb").harmonized)
    with Watch() as watch:
        study = bc.Study.from_arrays(y, batch=codes, covariates=x, copy=False)
        read = time.perf_counter()
        fit = bc.fit(study, method="eb", compat="sva")
        fitted = time.perf_counter()
        found = fit.harmonized["mean"].values
    parts = {"study": read - watch.started, "fit": fitted - read, "harmonize": watch.started + watch.seconds - fitted}
    return watch.figures | {"output": found.nbytes / MIB} | parts | check(found)


def pycombat(features: int) -> dict[str, float]:
    """Pycombat, which is exact."""
    from pycombat import Combat

    y, codes, x = prepared(features, lambda *few: Combat().fit_transform(few[0], few[1]))
    with Watch() as watch:
        found = Combat().fit_transform(y, codes, X=x)
    return watch.figures | check(found)


def neurocombat(features: int) -> dict[str, float]:
    """Run neuroCombat, which rounds continuous covariates to single precision."""
    from neuroCombat import neuroCombat

    y, codes, x = prepared(features)
    table = pd.DataFrame(x, columns=["age", "sex", "size"]).assign(site=codes)
    with Watch() as watch:
        found = neuroCombat(dat=y.T, covars=table, batch_col="site", categorical_cols=["sex"])["data"].T
    return watch.figures | check(found)


def check(found: np.ndarray) -> dict[str, float]:
    """Return something that all exact packages agree on."""
    return {"check": float(np.abs(found[:, ::97]).sum())}


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


def run(call: Callable[..., object], *arguments: object, python: str = sys.executable) -> dict[str, float]:
    """Return what a function of this module returns in a fresh process of two threads."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "2")
    command = [python, __file__, call.__name__, *map(str, arguments)]
    folder = str(Path(__file__).parents[1])
    environment = os.environ | threads | ({"PYTHONPATH": folder} if python == sys.executable else {})
    said = subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def medians(calls: dict[str, Callable[[], dict[str, float]]]) -> dict[str, pd.Series]:
    """Return the medians of what every call returns, the calls taking turns."""
    rounds = [{name: call() for name, call in calls.items()} for _ in range(REPEATS)]
    return {name: pd.DataFrame([found[name] for found in rounds]).median() for name in calls}


def table(in_memory: int = IN_MEMORY, chunked: int = IN_CHUNKS) -> pd.DataFrame:
    """Return the figures, one row each."""
    calls: dict[str, Callable[[], dict[str, float]]] = {
        "ours": lambda: run(ours, in_memory),
        "copying": lambda: run(copying, in_memory),
    }
    if PEERS:
        python = PEERS
        calls |= {
            "pycombat": lambda: run(pycombat, in_memory, python=python),
            "neuroCombat": lambda: run(neurocombat, in_memory, python=python),
        }
    found = medians(calls)
    mine = found["ours"]
    rows = {
        f"EB in memory, {SCANS:,} × {in_memory:,} (s)": mine["seconds"],
        "  of all cores together": mine["cpu"],
        **{f"  of these to {part}": mine[part] for part in ("study", "fit", "harmonize")},
        "  / one read and one write of the values": mine["seconds"] / found["copying"]["seconds"],
        "  extra memory at its peak / output": mine["extra"] / mine["output"],
    }
    for peer in set(calls) - {"ours", "copying"}:
        rows[f"{peer} / bayescombat, seconds"] = found[peer]["seconds"] / mine["seconds"]
        rows[f"{peer} / bayescombat, seconds of all cores"] = found[peer]["cpu"] / mine["cpu"]
        rows[f"{peer} / bayescombat, extra memory"] = found[peer]["extra"] / mine["extra"]
        rows[f"{peer}: relative difference of sums"] = found[peer]["check"] / mine["check"] - 1
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
