"""Print every figure: ``python -m benchmarks``, or some of them: ``python -m benchmarks parity speed``."""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib import import_module

import pandas as pd

NAMES = (
    "parity",
    "speed",
    "peers",
    "voxels",
    "blocked",
    "startup",
    "mixing",
    "centring",
    "calibration",
    "coverage",
    "robustness",
    "conditional",
    "crossed",
    "repeated",
    "replicates",
    "unseen",
    "newcomers",
    "downstream",
    "shrunken",
    "curves",
    "gam",
    "evaluation",
    "leak",
)


def main() -> None:
    """Run the benchmarks that were named, all by default, and print their tables with the machine's load."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(NAMES)}; all by default")
    chosen = parser.parse_args().names or NAMES
    unknown = set(chosen) - set(NAMES)
    if unknown:
        parser.error(f"expected names among {', '.join(NAMES)}, found {', '.join(sorted(unknown))}")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for name in chosen:
        module = import_module(f"benchmarks.{name}")
        table: Callable[[], pd.DataFrame] = module.table
        before, started = os.getloadavg()[0], time.perf_counter()
        result = table()
        seconds = time.perf_counter() - started
        print(f"\n{name}: {module.__doc__}")
        print(f"load {before:.1f} before, {os.getloadavg()[0]:.1f} after; {seconds:.0f} s\n")
        with pd.option_context("display.width", 200, "display.max_columns", 30, "display.precision", 3):
            print(result.to_string())


if __name__ == "__main__":
    main()
