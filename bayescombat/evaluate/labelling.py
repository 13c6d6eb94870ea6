"""Metrics as one labelled Dataset."""

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr
from scipy import stats

from bayescombat.columns import names_index
from bayescombat.evaluate.measuring import TESTS, Measured, Score
from bayescombat.evaluate.tables import Plan

__all__ = ["labelled"]

ACCURACY = "balanced accuracy"
MEANINGS = {
    "logistic regression": ACCURACY,
    "random forest": ACCURACY,
    "share of variance": "share of variance of the median feature that batch explains beyond covariates",
    "share of components": "share of the variance of the leading principal components that batch explains",
    "share of covariances": "share of squared covariances that is differences between batches",
    "share of distances": "energy distance between batches, of twice the distance between their scans",
    "means that differ": "share of features whose batches differ, at a false-discovery rate of 5 %",
    "spreads that differ": "share of features whose batches differ, at a false-discovery rate of 5 %",
    "effect": "effects on all features in an analysis that knows no batch, of those within batches",
    "effect size": "root mean square over features, in residual standard deviations",
    ACCURACY: ACCURACY,
    "R² of prediction": "share of variance predicted",
    "R² within batches": "share of variance within batches predicted",
    "order within batches": "rank correlation with raw values, mean over features",
    "intraclass correlation": "of scans of the same subject, mean over features",
    "recognised": "share of scans whose nearest scan of another batch is of the same subject",
}


def labelled(
    found: Measured,
    plan: Plan,
    tables: Sequence[str],
    columns: Sequence[str],
    probability: float,
    attrs: Mapping[str, object],
) -> xr.Dataset:
    """Return the metrics as a Dataset, as `evaluate` describes it.

    Parameters
    ----------
    found : Measured
        The metrics.
    plan : Plan
        What was evaluated.
    tables : sequence of str
        Names of the tables, "raw" first.
    columns : sequence of str
        Names of the columns that slopes were estimated of.
    probability : float
        Of the intervals.
    attrs : mapping
        Of the Dataset.
    """
    metrics = sorted(found.kinds, key=lambda metric: found.kinds[metric] == "preservation")
    scores = [[found.scores.get((metric, table), Score(np.nan)) for table in tables] for metric in metrics]
    estimate, sd, p = np.moveaxis(np.array([[one[:3] for one in row] for row in scores]), -1, 0)
    reach = stats.norm.ppf((1 + probability) / 2) * sd
    meanings = [metric.split(": ")[-1] for metric in metrics]
    low, high = np.array([_range(meaning) for meaning in meanings]).T[..., None]
    over = ("metric", "table")
    data = {
        "estimate": (over, estimate),
        "sd": (over, sd),
        "lower": (over, np.maximum(estimate - reach, low)),
        "upper": (over, np.minimum(estimate + reach, high)),
        "p": (over, p, {"long_name": "share of exchanges of labels that give as much"}),
        "expected": ("metric", [found.expected.get(metric, np.nan) for metric in metrics]),
    }
    coords = {
        "metric": metrics,
        "table": list(tables),
        "kind": ("metric", [found.kinds[metric] for metric in metrics]),
        "meaning": ("metric", [MEANINGS[meaning] for meaning in meanings]),
        "obs": ("obs", np.asarray(plan.study.obs)),
        "fold": ("obs", plan.fold),
        "feature": names_index([plan.study.features[place] for place in plan.features]),
        "batch_variable": list(plan.batch),
        "column": list(columns),
    }
    data["left_out"] = ((*over, "group"), _padded([[one.left_out for one in row] for row in scores]))
    drawn = _padded([[one.draws for one in row] for row in scores])
    if drawn.size:
        data["drawn"] = ((*over, "draw"), drawn)
    return xr.Dataset(data | _of_features(found, list(plan.batch), tables), coords, dict(attrs))


def _padded(parts: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Return numbers (metric, table, number), NaN where there are none."""
    count = max(len(part) for row in parts for part in row)
    return np.array([[np.pad(part, (0, count - len(part)), constant_values=np.nan) for part in row] for row in parts])


def _range(meaning: str) -> tuple[float, float]:
    """Return what a metric lies between."""
    text = MEANINGS[meaning]
    if text.startswith("effects on all"):
        return -np.inf, np.inf
    if text == ACCURACY or text.startswith(("share of features", "share of scans")):
        return 0.0, 1.0
    return (0.0, np.inf) if meaning == "effect size" else (-np.inf, 1.0)


def _of_features(found: Measured, variables: Sequence[str], tables: Sequence[str]) -> dict[str, object]:
    """Return what is known of every feature."""
    units = {"units": "standard deviations within batches of the raw feature per unit of the column"}
    over = ("batch_variable", "table", "feature")

    def stacked(*key: str) -> np.ndarray:
        return np.stack([[found.features[*key, variable, table] for table in tables] for variable in variables])

    mean, spread = TESTS
    data: dict[str, object] = {
        "batch_share": (over, stacked("share of variance")),
        "mean_p": (over, stacked("false-discovery p", mean), {"long_name": f"{mean}, adjusted"}),
        "spread_p": (over, stacked("false-discovery p", spread), {"long_name": f"{spread}, adjusted"}),
        "slope": (("table", "column", "feature"), np.stack([found.features["slope", name] for name in tables]), units),
        "slope_within": (("column", "feature"), found.features["slope", "within batches"], units),
    }
    if ("intraclass correlation", tables[0]) in found.features:
        parts = [found.features["intraclass correlation", name] for name in tables]
        data["intraclass_correlation"] = (("table", "feature"), np.stack(parts))
    return data
