"""Time one package on one table. Run as a script, by the interpreter of any environment that has NumPy.

``runner.py NAME FOLDER REPEATS CORES`` reads ``y.npy`` (obs, feature), ``batch.npy`` and ``x.npy`` (obs, covariate)
from the folder, and prints figures as JSON in its last line. The first writes ``expected.npy`` there, against which the
others are held.
"""

import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

type Call = Callable[[], np.ndarray]

COVARIATES = ["age", "sex", "size"]
MIB = 2**20
FEW = 50


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


# Each returns a call without arguments, from the package's own kind of table to harmonized values (obs, feature).
# What makes that table is not timed.


def bayescombat(y: np.ndarray, batch: np.ndarray, x: np.ndarray, compat: str | None = None) -> Call:
    """From arrays, checks included."""
    import bayescombat as bc

    def call() -> np.ndarray:
        study = bc.Study.from_arrays(y, batch=batch, covariates=x, copy=False)
        return bc.fit(study, method="eb", compat=compat).harmonized["mean"].values

    return call


def bayescombat_sva(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From arrays, checks included, by the algorithm of sva."""
    return bayescombat(y, batch, x, "sva")


def pycombat(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From arrays."""
    from pycombat import Combat

    return lambda: Combat().fit_transform(y, batch, X=x)


def combaters(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From arrays."""
    from combaters import combat

    return lambda: combat(y, batch, x)["adjusted"]


def neuroCombat(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From an array and a data frame."""
    from neuroCombat import neuroCombat
    from pandas import DataFrame

    table = DataFrame(x, columns=COVARIATES).assign(site=batch)
    roles = {"batch_col": "site", "categorical_cols": ["sex"], "continuous_cols": ["age", "size"]}
    return lambda: neuroCombat(dat=y.T, covars=table, **roles)["data"].T


def neuroHarmonize(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From an array and a data frame."""
    from neuroHarmonize import harmonizationLearn
    from pandas import DataFrame

    table = DataFrame(x, columns=COVARIATES).assign(SITE=batch)
    return lambda: harmonizationLearn(y, table)[1]


def inmoose(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From arrays; genes are rows there."""
    from inmoose.pycombat import pycombat_norm

    values = np.ascontiguousarray(y.T)
    return lambda: np.asarray(pycombat_norm(values, list(batch), covar_mod=x)).T


def scanpy(y: np.ndarray, batch: np.ndarray, x: np.ndarray) -> Call:
    """From annotated data."""
    from anndata import AnnData
    from pandas import DataFrame
    from scanpy.preprocessing import combat

    names = [str(scan) for scan in range(len(y))]
    rows = DataFrame(x, columns=COVARIATES, index=names).assign(site=batch.astype(str)).astype({"site": "category"})
    table = AnnData(y, obs=rows)
    return lambda: combat(table, key="site", covariates=COVARIATES, inplace=False)


def measured(name: str, folder: Path, repeats: int) -> dict[str, float]:
    """Return medians of the repeats, after a call on a few features and after memory was written to once."""
    y, batch, x = (np.load(folder / f"{part}.npy") for part in ("y", "batch", "x"))
    prepare = globals()[name]
    prepare(np.ascontiguousarray(y[:, :FEW]), batch, x)()
    np.ones((4, *y.shape))
    call, figures = prepare(y, batch, x), []
    for _ in range(repeats):
        with Watch() as watch:
            found = call()
        figures.append(watch.figures)
    medians = {key: float(np.median([repeat[key] for repeat in figures])) for key in figures[0]}
    return medians | compared(found, y, folder)


def compared(found: np.ndarray, y: np.ndarray, folder: Path) -> dict[str, float]:
    """Return the largest difference from what is expected in units of the feature's sd, and the share that is NaN."""
    path = folder / "expected.npy"
    if not path.exists():
        np.save(path, found)
    expected, sd = np.load(path, mmap_mode="r"), y.std(axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        difference = max(np.nanmax(abs(row - other) / sd) for row, other in zip(found, expected, strict=True))
    return {"difference": float(difference), "missing": float(np.isnan(found).mean())}


if __name__ == "__main__":
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[4])])
    print(json.dumps(measured(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))))
