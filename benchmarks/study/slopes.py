"""Slopes of age by both estimators beside those that `bc.evaluate` calls right: ``python -m benchmarks.study.slopes``.

Those are of least squares within batches in which every scan weighs the same, as in empirical Bayes; full Bayes weighs
scans by the noise of their site.
"""

import numpy as np
import pandas as pd

import bayescombat as bc
from bayescombat.evaluate.within import within_slopes
from benchmarks.study.datasets import DATASETS
from benchmarks.study.methods import METHODS

__all__ = ["ratio", "table", "weighted_slopes"]

TABLES = ("abide1_fs6", "mriqc_abide", "openneuro")


def weighted_slopes(y: np.ndarray, x: np.ndarray, batch: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return slopes (column, feature) of least squares with an intercept for every batch, scans weighed by its noise.

    Parameters
    ----------
    y : ndarray, (obs, feature)
        Complete.
    x : ndarray, (obs, column)
        Covariates.
    batch : ndarray of int, (obs,)
        Codes.
    scales : ndarray, (batch, feature)
        Standard deviations of the noise, up to a factor for every feature.
    """
    design = np.hstack([x, np.eye(len(scales))[batch]])
    found = np.zeros((x.shape[1], y.shape[1]))
    for v, of_batch in enumerate(scales.T):
        weight = 1 / of_batch[batch]
        found[:, v] = np.linalg.lstsq(design * weight[:, None], y[:, v] * weight)[0][: len(found)]
    return found


def ratio(slopes: np.ndarray, expected: np.ndarray, unit: np.ndarray) -> float:
    """Return how large slopes (feature,) are of those expected, over all features in units of their own."""
    return float((slopes * expected / unit**2).sum() / (expected**2 / unit**2).sum())


def table(seed: int = 1) -> pd.DataFrame:
    """Return for every table the ratio of slopes of age, over all features, to those within batches."""
    rows = {}
    for name in TABLES:
        study = DATASETS[name]().study
        quick = bc.fit(study, method="eb").parameters
        full = bc.fit(study, **METHODS["NUTS, independent"], seed=seed).parameters["beta"].mean(("chain", "draw"))
        y = study.y[:, [study.features.index(feature) for feature in quick["feature"].values]]
        scales, unit = quick["delta"].transpose("batch", "feature").values, quick["sigma"].values
        place = study.covariates.index("age")
        right = within_slopes(y, study.x, study.codes)[place]
        slopes = {
            "EB": quick["beta"].sel(covariate="age").values,
            "weighed by the scales of EB": weighted_slopes(y, study.x, study.codes, scales)[place],
            "NUTS, independent": full.sel(covariate="age").values,
        }
        rows[name] = {key: ratio(of_age, right, unit) for key, of_age in slopes.items()}
    return pd.DataFrame(rows).T


if __name__ == "__main__":
    print(table().round(3).to_string())
