"""Hold empirical Bayes against full Bayes: ``make study``, or ``python -m benchmarks.study FOLDER``.

Reynolds et al. (2023), doi:10.1016/j.nicl.2023.103472, found empirical Bayes better at removing scanner strength, and
full Bayes at preserving disease and age and on travelling subjects. FOLDER gets study.csv and study.md, one table
twice, and a file of every dataset's rows: what is there already is kept, so that an interrupted run goes on.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import bayescombat as bc
from bayescombat.storage import read_text, write_text
from benchmarks.study.datasets import DATASETS
from benchmarks.study.judging import Judged, judged
from benchmarks.study.methods import METHODS
from benchmarks.study.report import long_table, markdown

__all__ = ["main", "run"]


def main() -> None:
    """Run the study, print its table and write it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.study", description=__doc__)
    parser.add_argument("folder", nargs="?", default="study", metavar="FOLDER", help="'study' by default")
    parser.add_argument("--datasets", nargs="+", choices=list(DATASETS), default=list(DATASETS), help="all by default")
    parser.add_argument("--seed", type=int, default=1, help="of folds, fits and classifiers; 1 by default")
    asked = parser.parse_args()
    print(run(Path(asked.folder), asked.datasets, asked.seed))


def run(folder: Path, names: list[str], seed: int, methods: Any = METHODS, datasets: Any = DATASETS) -> str:
    """Return the table for people, after it was written; what the folder holds of it is not made again.

    Parameters
    ----------
    folder : path
        Made if there is none.
    names : list of str
        Of datasets. Those whose files are not there are left out, in words.
    seed : int
        Of folds, fits and classifiers.
    methods, datasets : mapping
        As `METHODS` and `DATASETS`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts, abouts = {}, {}
    for place, name in enumerate(names, start=1):
        try:
            dataset = datasets[name]()
        except FileNotFoundError as error:
            print(f"{name}: left out, as there is no {error.filename}. Name its folder in BAYESCOMBAT_DATA.")
            continue
        settings = {
            "seed": seed,
            "methods": {key: dict(one) for key, one in methods.items()},
            "study": str(dataset.study),
        }
        path = folder / f"{name}.json"
        print(f"{place} of {len(names)}: {name}{', as it stands in the folder' if path.exists() else ''}", flush=True)
        parts[name] = _kept(path, settings) or _made(path, settings, judged(name, dataset, methods, seed=seed))
        abouts[name] = dataset.about
    table = long_table(parts)
    text = markdown(table, abouts, {name: part.notes for name, part in parts.items()})
    write_text(table.to_csv(index=False, float_format="%.6g"), folder / "study.csv")
    write_text(text, folder / "study.md")
    return text


def _made(path: Path, settings: dict[str, Any], found: Judged) -> Judged:
    write_text(json.dumps({"settings": settings, "notes": found.notes, "rows": found.rows}, indent=1), path)
    return found


def _kept(path: Path, settings: dict[str, Any]) -> Judged | None:
    """Return what an earlier run found, or None.

    Raises
    ------
    BayesCombatError
        If it was found with other settings.
    """
    if not path.exists():
        return None
    kept = json.loads(read_text(path))
    if kept["settings"] != settings:
        raise bc.BayesCombatError(
            f"Expected {str(path)!r} to be of the same seed, methods and data, found others. Remove it, or name "
            "another folder."
        )
    return Judged([tuple(row) for row in kept["rows"]], kept["notes"])


if __name__ == "__main__":
    main()
