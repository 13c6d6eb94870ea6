"""Seconds of two commits: ``python -m benchmarks.compare BASE`` holds the working tree against BASE, by default HEAD.

The benchmarks of ``regressions.py`` run on both in turn, several times; what counts is the fastest round of each, which
other work on the machine disturbs least.
"""

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
REGRESSIONS = Path("benchmarks", "regressions.py")
TURNS = 3
SLOWER = 1.25


def checkout(commit: str, folder: Path) -> None:
    """Write the files of a commit, with today's benchmarks."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    shutil.copy(ROOT / REGRESSIONS, folder / REGRESSIONS)


def fastest(tree: Path) -> dict[str, float]:
    """Return the fewest seconds of every benchmark on the code in a folder; those that fail there are missing."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "figures.json")
        options = ["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", f"--benchmark-json={path}"]
        command = [sys.executable, "-m", "pytest", str(REGRESSIONS), *options]
        done = subprocess.run(command, cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True)
        if done.returncode:
            print(done.stdout.decode(), done.stderr.decode(), file=sys.stderr)
        figures = json.loads(path.read_text())["benchmarks"]
    return {each["name"].removeprefix("test_"): each["stats"]["min"] for each in figures}


def table(base: str = "HEAD") -> pd.DataFrame:
    """Return milliseconds of the base and of the working tree, and their ratio."""
    with tempfile.TemporaryDirectory() as folder:
        checkout(base, Path(folder))
        turns = [(fastest(Path(folder)), fastest(ROOT)) for _ in range(TURNS)]
    found = {
        name: pd.DataFrame(each).min() * 1e3 for name, each in zip((base, "now"), zip(*turns, strict=True), strict=True)
    }
    result = pd.DataFrame(found).rename_axis("milliseconds")
    result["ratio"] = result["now"] / result[base]
    result["verdict"] = (result["ratio"] > SLOWER).map({True: "SLOWER", False: ""})
    return result


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("base", nargs="?", default="HEAD", metavar="BASE", help="a commit; HEAD by default")
    print(table(parser.parse_args().base).to_string(float_format="{:.3f}".format))
