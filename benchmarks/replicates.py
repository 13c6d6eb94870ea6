"""Samples of mtbls79 measured in several batches: how well their replicates agree, before and after."""

from typing import Literal

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks.tables import mtbls79

FEATURES_FOR_NUTS = 200


def intraclass_correlation(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return the one-way intraclass correlation ICC(1) of every feature, from its observed cells.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        NaN where missing.
    groups : ndarray, (obs,)
        Which sample each row is of.

    Notes
    -----
    Shrout and Fleiss (1979), doi:10.1037/0033-2909.86.2.420, with the average group size of unbalanced designs.
    """
    member = pd.get_dummies(groups).to_numpy(dtype=float).T
    seen = ~np.isnan(values)
    count = member @ seen
    total, groups_seen = count.sum(axis=0), (count > 0).sum(axis=0)
    grand = np.nanmean(values, axis=0)
    centred = np.where(seen, values - grand, 0.0)
    sums = member @ centred
    squares = (sums**2 / np.maximum(count, 1)).sum(axis=0)
    size = (total - (count**2).sum(axis=0) / total) / (groups_seen - 1)
    between = squares / (groups_seen - 1)
    within = ((centred**2).sum(axis=0) - squares) / (total - groups_seen)
    return np.asarray((between - within) / (between + (size - 1) * within))


def agreement(method: Literal["nuts", "eb"], **settings: object) -> pd.DataFrame:
    """Return the intraclass correlation of log intensities over the animals, before and after, for every feature.

    Empirical Bayes takes all 2,488 peaks, NUTS 200 that were chosen at random.
    """
    chosen = None if method == "eb" else FEATURES_FOR_NUTS
    study, animals = mtbls79(chosen)
    after = bc.fit(study, method=method, **settings).harmonized["mean"].values
    rows = animals.to_numpy() != ""
    pairs = {"before": study.y, "after": after}
    found = {name: intraclass_correlation(np.log(y[rows]), animals[rows].to_numpy()) for name, y in pairs.items()}
    return pd.DataFrame(found, index=list(study.features))


def table() -> pd.DataFrame:
    """Return the median over features, and the share of features that agree better, for both estimators."""
    rows = {}
    for method, settings in (("eb", {}), ("nuts", {"seed": 1, "progress_bar": False})):
        found = agreement(method, **settings)
        rows[method] = found.median().to_dict() | {
            "features": len(found),
            "better": (found["after"] > found["before"]).mean(),
        }
    return pd.DataFrame(rows).T
