"""Empirical Bayes beside its peers: seconds on one core, ratios, memory, and whether exact peers agree with `sva`.

Every package runs in an environment of its own in ``.peers``, made when it is first asked for. Processes take turns:
in every round each package has one, and a ratio is the median over the rounds. Seconds are those of the processor, on
which other work on the machine has less of a say. ``difference`` is the largest one from ``bayescombat_sva``
(``compat="sva"``) in units of the feature's sd. Peers get their own kind of table ready made; ours is timed from plain
arrays.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.peers.environments import PEERS, NotMeasuredError, Peer, finished, python_of

type Measurement = Callable[[], dict[str, float]]

ROOT = Path(__file__).parents[2]
OURS = ("bayescombat_sva", "bayescombat")
# Scans, features and batches; and how often a process repeats the call.
SIZES = {"100 × 1,000 × 5": (100, 1_000, 5, 9), "1,000 × 20,000 × 20": (1_000, 20_000, 20, 1)}
ROUNDS = 5
MOST_SECONDS = 300
OWN: dict[str, object] = {"version": version("pymc-combat"), "licence": "Apache-2.0"}


def values(scans: int, features: int, batches: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return noise with a shift for each batch (obs, feature), codes of batches, and three covariates."""
    rng, codes = np.random.default_rng(seed), np.arange(scans) % batches
    y = rng.standard_normal((scans, features))
    y += rng.normal(0, 0.5, (batches, features))[codes]
    return y, codes, np.column_stack([rng.normal(50, 10, scans), rng.integers(0, 2, scans), rng.normal(0, 1, scans)])


def write(folder: Path, scans: int, features: int, batches: int) -> None:
    """Write the table that every package is given."""
    for name, array in zip(("y", "batch", "x"), values(scans, features, batches), strict=True):
        np.save(folder / f"{name}.npy", array)


def measured(name: str, folder: Path, repeats: int = 1, cores: int = 1) -> dict[str, float]:
    """Return the runner's figures of a package, or raise NotMeasuredError with the reason."""
    python = str(python_of(PEERS[name])) if name in PEERS else sys.executable
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "NUMBA_NUM_THREADS")
    environment = os.environ | dict.fromkeys(threads, str(cores))
    environment |= {"PYTHONPATH": "" if name in PEERS else str(ROOT)}
    command = [python, str(Path(__file__).with_name("runner.py")), name, str(folder), str(repeats), str(cores)]
    said = finished(command, f"{name} failed", MOST_SECONDS, environment)
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def verdict(peer: Peer, difference: float, missing: float) -> str:
    """Return in words whether a peer gives what it should."""
    if missing:
        return f"NaN in {missing:.0%} of the values"
    if peer.within is None:
        return f"another result: {peer.why}"
    if difference > peer.within:
        return f"DISAGREES: at most {peer.within:g} was expected"
    return f"agrees; {peer.why}" if peer.why else "agrees"


def in_turn(calls: dict[str, Measurement], rounds: int) -> tuple[dict[str, pd.DataFrame], dict[str, str]]:
    """Return what each call gave in every round, and why some could not be measured; these are not called again."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in calls}
    failures: dict[str, str] = {}
    for _ in range(rounds):
        for name in calls:
            if name in failures:
                continue
            try:
                found[name].append(calls[name]())
            except NotMeasuredError as error:
                failures[name] = str(error)
    return {name: pd.DataFrame(figures) for name, figures in found.items() if name not in failures}, failures


def row(name: str, found: dict[str, pd.DataFrame], failures: dict[str, str]) -> dict[str, object]:
    """Return the figures of one package, or the reason why there are none."""
    peer = PEERS.get(name)
    known: dict[str, object] = {"version": peer.version, "licence": peer.licence} if peer else OWN
    if name in failures:
        return known | {"result": failures[name]}
    figures = found[name]
    middle = figures.median()
    low, high = figures["cpu"].quantile([0.25, 0.75])
    return known | {
        "seconds": middle["cpu"],
        "quartiles": f"{low:.3g} to {high:.3g}",
        "ratio": (figures["cpu"] / found[OURS[0]]["cpu"]).median(),
        "memory (MiB)": middle["extra"],
        "difference": middle["difference"],
        "result": verdict(peer, middle["difference"], middle["missing"]) if peer else "",
    }


def table() -> pd.DataFrame:
    """Return a row for every size and package."""
    parts = {}
    for size, (scans, features, batches, repeats) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), scans, features, batches)
            names = (*OURS, *PEERS)
            found, failures = in_turn({name: partial(measured, name, Path(folder), repeats) for name in names}, ROUNDS)
        parts[size] = pd.DataFrame({name: row(name, found, failures) for name in names}).T.infer_objects()
    return pd.concat(parts, names=["scans × features × batches", "package"])
