"""One table after another, judged by every metric: rows of estimates, and of what one estimator is better by."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.evaluate.classification import predicted_labels
from bayescombat.evaluate.harmonizers import some_scans
from bayescombat.evaluate.metrics import groups_left_out, jackknife
from benchmarks.evaluation import linear_svm
from benchmarks.study.arithmetic import gain, losses, nominal_probability, reach
from benchmarks.study.datasets import Dataset
from benchmarks.study.methods import PAIRS, Remembered

__all__ = ["COLUMNS", "Judged", "judged", "over"]

COLUMNS = ("dataset", "metric", "direction", "method", "estimate", "lower", "upper", "reference", "better")

type Row = tuple[str, str, str, str, float, float, float, float, str]


class Judged(NamedTuple):
    """What one table says: rows by `COLUMNS`, and what has to be said of them."""

    rows: list[Row]
    notes: list[str]


def over(pair: Sequence[str]) -> str:
    """Return the name of the rows that say by how much the first of a pair is better."""
    return f"{pair[0]} over {pair[1]}"


def judged(
    name: str,
    dataset: Dataset,
    methods: Mapping[str, Mapping[str, object]],
    *,
    seed: int = 1,
    permutations: int = 200,
    progress_bar: bool = True,
) -> Judged:
    """Return every metric of every method on scans that were held out, and the gains of the pairs that are there.

    Parameters
    ----------
    name : str
        Of the table.
    dataset : Dataset
        The table.
    methods : mapping of mappings
        Arguments of `bayescombat.fit`, by name.
    seed : int
        Of folds, fits and classifiers.
    permutations : int
        Of labels, to say what chance does.
    progress_bar : bool
        Whether to show one.
    """
    units = np.arange(len(dataset.study.codes)) if dataset.units is None else pd.factorize(dataset.units)[0]
    groups = len(np.unique(groups_left_out(units, dataset.study.codes, seed)))
    remembered = {method: Remembered(settings, seed) for method, settings in methods.items()}
    found = bc.evaluate(
        dataset.study,
        remembered,
        subject=dataset.units,
        folds=dataset.folds,
        permutations=permutations,
        probability=nominal_probability(dataset.folds, groups),
        seed=seed,
        progress_bar=progress_bar,
    )
    data = found.dataset[["estimate", "lower", "upper", "expected", "left_out"]].drop_vars("meaning")
    if dataset.plain:
        data = xr.concat([data, _plain(dataset, found.dataset["fold"].values, remembered, seed)], "metric")
    rows = [row for metric in range(data.sizes["metric"]) for row in _rows(name, data.isel(metric=metric), dataset)]
    for method, one in remembered.items():
        rows.append(
            (name, "processor seconds of a fit", "cost", method, float(np.median(one.seconds)), *[np.nan] * 3, "")
        )
    notes = [f"{method}: {note}" for method, one in remembered.items() for note in one.notes()]
    return Judged(rows, [*found.notes, *notes])


def _rows(name: str, data: xr.Dataset, dataset: Dataset) -> list[Row]:
    """Return the rows of one metric: every method's, and every pair's gain."""
    metric, direction, reference = str(data["metric"].values), str(data["kind"].values), float(data["expected"])
    rows: list[Row] = []
    for method in data["table"].values:
        numbers = [float(data[key].sel(table=method)) for key in ("estimate", "lower", "upper")]
        rows.append((name, metric, direction, str(method), *numbers, reference, ""))
    width = reach(dataset.folds, data.sizes["group"])
    for pair in PAIRS:
        if not set(pair) <= set(data["table"].values):
            continue
        parts = [data.sel(table=method) for method in pair]
        estimates, left_out = (
            [losses(part[key].values, metric, direction, reference) for part in parts]
            for key in ("estimate", "left_out")
        )
        found = gain(estimates[0], estimates[1], (left_out[0], left_out[1]), width)
        better = {1: pair[0], -1: pair[1], 0: ""}[found.surely]
        rows.append((name, metric, direction, over(pair), *found, 0.0, better))
    return rows


def _plain(dataset: Dataset, fold: np.ndarray, remembered: Mapping[str, Remembered], seed: int) -> xr.Dataset:
    """Return plain site accuracy of a linear support vector machine, as a metric like those of `bc.evaluate`.

    Covariates stay in the features, and sites weigh by their scans. Chance is the largest site.
    """
    study, everyone = dataset.study, np.arange(len(fold))
    group = groups_left_out(everyone, study.codes, seed)
    estimates, left_out = [], []
    for method in ("raw", *remembered):
        right = np.zeros(len(fold))
        for number in np.unique(fold):
            apart = fold == number
            train, test = (some_scans(study, np.flatnonzero(part)) for part in (~apart, apart))
            harmonize = (lambda rows: rows.y) if method == "raw" else remembered[method](train)
            found = predicted_labels(linear_svm, harmonize(train), study.codes[~apart], harmonize(test), seed)
            right[apart] = found == study.codes[apart]
        estimates.append(right.mean())
        left_out.append([right[group != number].mean() for number in np.unique(group)])
    estimate, less = np.array([estimates]), np.array([left_out])
    half = reach(dataset.folds, less.shape[-1]) * np.apply_along_axis(jackknife, -1, less)
    axes = ("metric", "table")
    figures = {"estimate": estimate, "lower": estimate - half, "upper": estimate + half}
    return xr.Dataset(
        {key: (axes, values) for key, values in figures.items()}
        | {"left_out": ((*axes, "group"), less), "expected": ("metric", [np.bincount(study.codes).max() / len(fold)])},
        {
            "metric": ["plain site accuracy: linear SVM"],
            "table": ["raw", *remembered],
            "kind": ("metric", ["removal"]),
        },
    )
