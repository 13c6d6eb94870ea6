"""Harmonized values with smooth={"age": 10} against ComBat-GAM (ComBatFamily with mgcv) on fcon1000, in sigma."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from unittest import mock

import numpy as np
import pandas as pd

import bayescombat as bc
from bayescombat.reml import Slopes, Swept
from benchmarks.tables import FOLDER, read_fcon1000, study_of

CONFIGURATION = "comfam_gam_s_age"
DESIGNS: dict[str, dict[str, object]] = {
    "smooth": {"covariates": "sex", "smooth": {"age": 10}},
    "smooth, by cross-validation": {"covariates": "sex", "smooth": {"age": 10}},
    "spline without penalty": {"covariates": "bs(age, df=9) + sex"},
    "straight line": {"covariates": "age + sex"},
}
LOG_RATIOS = np.linspace(-14, 12, 261)


def measured(design: str) -> dict[str, float]:
    """Return how harmonized values of the twenty reference features compare.

    ``correlation`` and ``of_adjustments``: the smallest over the features, of harmonized values and of what was taken
    out of them; ``rms`` and ``largest`` difference in units of sigma.
    """
    outputs = pd.read_parquet(FOLDER / "fcon1000" / "r_reference_outputs.parquet").set_index("config")
    expected = outputs.loc[CONFIGURATION].set_index("sub_id")
    rows, names = list(expected.index), list(expected.columns)
    study = study_of(read_fcon1000(), batch="site", features="hickness", **DESIGNS[design])
    with warnings.catch_warnings(), _cross_validated("validation" in design):
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(study, method="eb")
        found = fit.harmonized["mean"].sel(obs=rows, feature=names).values
    raw = pd.DataFrame(study.y, study.obs, list(study.features)).loc[rows, names].to_numpy()
    difference = (found - expected.to_numpy()) / fit.parameters["sigma"].sel(feature=names).values
    return {
        "correlation": _least_correlation(found, expected.to_numpy()),
        "of_adjustments": _least_correlation(found - raw, expected.to_numpy() - raw),
        "rms": float(np.sqrt((difference**2).mean())),
        "largest": float(np.abs(difference).max()),
    }


def _least_correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(min(np.corrcoef(a, b)[0, 1] for a, b in zip(one.T, other.T, strict=True)))


@contextmanager
def _cross_validated(wanted: bool) -> Iterator[None]:
    """Choose smoothness as mgcv does unless told otherwise: what the choice of criterion alone can move."""
    if not wanted:
        yield
        return
    with mock.patch("bayescombat.regression.reml", _by_cross_validation):
        yield


def _by_cross_validation(
    products: np.ndarray,
    cross: np.ndarray,
    squares: np.ndarray,
    freedom: np.ndarray,
    penalised: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the ratios of least generalised cross-validation (Craven and Wahba 1979, doi:10.1007/BF01404567)."""
    swept = Swept.of(products, cross, squares, freedom, penalised)
    found, least = np.zeros((len(cross), 1)), np.full(len(cross), np.inf)
    for ratio in (0.0, *np.exp(LOG_RATIOS)):
        slopes = Slopes(swept, np.full((len(cross), 1), ratio))
        beta = slopes.beta
        left = squares - 2 * (beta * cross).sum(axis=1) + ((products @ beta[..., None])[..., 0] * beta).sum(axis=1)
        score = left / (freedom - slopes.taken) ** 2
        found[score < least], least = ratio, np.minimum(score, least)
    return found


def table() -> pd.DataFrame:
    """Return the comparison for every way to model age."""
    return pd.DataFrame({design: measured(design) for design in DESIGNS}).T
