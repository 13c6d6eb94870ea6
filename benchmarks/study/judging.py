"""One table after another, judged by every metric: rows of estimates, and of what one estimator is better by."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.evaluate.classification import predicted_labels, predicted_numbers
from bayescombat.evaluate.harmonizers import some_scans
from bayescombat.evaluate.metrics import groups_left_out, jackknife, without_groups
from bayescombat.evaluate.preservation import shared_variance
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
    if dataset.age is not None:
        data = xr.concat([data, _plain(dataset, dataset.age, found.dataset["fold"].values, remembered, seed)], "metric")
    rows = [row for metric in range(data.sizes["metric"]) for row in _rows(name, data.isel(metric=metric), dataset)]
    for method, one in remembered.items():
        rows.append(
            (name, "processor seconds of a fit", "cost", method, float(np.median(one.seconds)), *[np.nan] * 3, "")
        )
    return Judged(rows, [*found.notes, *_said(remembered)])


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


def _plain(dataset: Dataset, age: str, fold: np.ndarray, remembered: Mapping[str, Remembered], seed: int) -> xr.Dataset:
    """Return plain site accuracy of a linear support vector machine, and R² of age by ridge regression, as metrics.

    Covariates stay in the features, and sites weigh by their scans. Chance is the largest site.
    """
    study = dataset.study
    numbers = study.x[:, study.covariates.index(age)]
    group = groups_left_out(np.arange(len(fold)), study.codes, seed)
    everyone = np.zeros(len(fold), dtype=np.int64)
    parts = []
    for method in ("raw", *remembered):
        right, predicted = np.zeros(len(fold)), np.zeros(len(fold))
        for number in np.unique(fold):
            apart = fold == number
            train, test = (some_scans(study, np.flatnonzero(part)) for part in (~apart, apart))
            harmonize = (lambda rows: rows.y) if method == "raw" else remembered[method](train)
            one, other = harmonize(train), harmonize(test)
            right[apart] = predicted_labels(linear_svm, one, study.codes[~apart], other, seed) == study.codes[apart]
            predicted[apart] = predicted_numbers(one, numbers[~apart], other)

        def figures(rows: np.ndarray, right: np.ndarray = right, predicted: np.ndarray = predicted) -> dict[str, float]:
            explained = shared_variance(numbers[rows], predicted[rows], everyone[rows])
            return {"linear SVM": float(right[rows].mean()), "ridge": explained}

        whole = figures(np.arange(len(fold)))
        parts.append((list(whole.values()), np.stack(list(without_groups(figures, group, whole).values()))))
    estimate, left_out = (np.stack(each, axis=1) for each in zip(*parts, strict=True))
    width = reach(dataset.folds, left_out.shape[-1])
    half = width * np.apply_along_axis(jackknife, -1, left_out)
    largest = np.bincount(study.codes).max() / len(fold)
    axes = ("metric", "table")
    return xr.Dataset(
        {
            "estimate": (axes, estimate),
            "lower": (axes, estimate - half),
            "upper": (axes, estimate + half),
            "expected": ("metric", [largest, 0.0]),
            "left_out": ((*axes, "group"), left_out),
        },
        {
            "metric": ["plain site accuracy: linear SVM", f"plain R² of {age}: ridge"],
            "table": ["raw", *remembered],
            "kind": ("metric", ["removal", "preservation"]),
        },
    )


def _said(remembered: Mapping[str, Remembered]) -> list[str]:
    """Return the first thing that each method warned of, and how much more there was."""
    return [
        f"{method}: {one.said[0]}" + (f" ({len(one.said) - 1} more warnings)" if len(one.said) > 1 else "")
        for method, one in remembered.items()
        if one.said
    ]
