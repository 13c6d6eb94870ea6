"""What an evaluation says: removal beside preservation, in tables and in words."""

import numpy as np
import xarray as xr

from bayescombat.errors import DataError, listing
from bayescombat.evaluate import Evaluation
from bayescombat.fit import Fit
from bayescombat.report.pieces import Table, number

__all__ = ["AT_THE_SHELL", "HOW", "check_evaluation", "reading", "tables", "told"]

AT_THE_SHELL = "bayescombat report fit.nc --evaluate --out report.html"
HOW = """evaluation = bc.evaluate(study, fit, seed=1)
bc.report(fit, "report.html", evaluation=evaluation)"""
EXPECTED = {"removal": "Chance", "preservation": "Within batches"}
CAPTIONS = {
    "removal": "Removal: what is left of the batches. After harmonization it should be as chance has it",
    "preservation": "Preservation: what is left of the rest. It should be what raw values say within batches",
}


def check_evaluation(evaluation: object, fit: Fit) -> None:
    """Raise a DataError if this is no evaluation, or one of other features than the fit's."""
    if evaluation is None:
        return
    if not isinstance(evaluation, Evaluation):
        raise DataError(
            f"Expected an Evaluation, found {type(evaluation).__name__}. "
            "Make one with bayescombat.evaluate(study, fit)."
        )
    known = set(fit.layout.spec.features)
    others = [name for name in evaluation.dataset["feature"].values if name not in known]
    if others:
        raise DataError(
            f"Expected an evaluation of the fit's features, found one of others: {listing(others)}. "
            "Evaluate the study that was fitted."
        )


def tables(evaluation: Evaluation) -> list[Table]:
    """Return removal and preservation, a table each."""
    data = evaluation.dataset
    found = []
    for kind, caption in CAPTIONS.items():
        part = data.isel(metric=np.flatnonzero(data["kind"].values == kind))
        names = [str(name) for name in data["table"].values]
        rows = [
            [str(metric), *_cells(part.isel(metric=place)), number(float(part["expected"][place]))]
            for place, metric in enumerate(part["metric"].values)
        ]
        if rows:
            headings = ["Metric", *(name[:1].upper() + name[1:] for name in names), EXPECTED[kind]]
            found.append(Table(caption, headings, rows))
    return found


def reading(evaluation: Evaluation) -> list[str]:
    """Say the main figures in words: what batches explain, and what is left of the effects of covariates."""
    data, words = evaluation.dataset, []
    others = [str(name) for name in data["table"].values[1:]]
    for metric in map(str, data["metric"].values):
        one, (variable, _, kind) = data.sel(metric=metric), metric.partition(": ")
        found = [f"{number(float(one['estimate'].sel(table=name)))} ({name})" for name in ["raw", *others]]
        if kind == "share of variance":
            what = f"Share of the median feature’s variance that ‘{variable}’ explains beyond covariates"
            words.append(f"{what}: {', '.join(found)}; chance is {number(float(one['expected']))}.")
        elif kind == "effect":
            what = f"Effect of ‘{variable}’ that an analysis without batches finds, over that within batches"
            words.append(f"{what}: {', '.join(found)}; one is right.")
    return words


def told(evaluation: Evaluation) -> str:
    """Say how it was evaluated, and what has to be said of the figures."""
    probability = f"{100 * float(evaluation.dataset.attrs['probability']):g} % intervals in brackets."
    return " ".join([str(evaluation.dataset.attrs["design"]), probability, *evaluation.notes])


def _cells(one: xr.Dataset) -> list[str]:
    """Return the estimate of every table, of all but raw values with its interval."""
    found = []
    for place in range(one.sizes["table"]):
        score = one.isel(table=place)
        text = number(float(score["estimate"]))
        if place and np.isfinite(float(score["sd"])):
            text += f" ({number(float(score['lower']))} to {number(float(score['upper']))})"
        found.append(text)
    return found
