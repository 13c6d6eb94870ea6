"""What broke other packages on real tables, from the table to the harmonized values.

Each test is named for its row in the list of edge cases; rows that are refused at the door are tested with it.
"""

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bayescombat as bc
from bayescombat.errors import (
    BatchSizeWarning,
    ConfoundedDesignError,
    ConvergenceWarning,
    DataError,
    ExtrapolationWarning,
    FeatureWarning,
    NegativeValueWarning,
    PoolingWarning,
    UnseenBatchError,
    UnseenLevelError,
)
from bayescombat.fit.harmonization import SOME_SCANS
from bayescombat.standard import standardise

type Method = Literal["nuts", "eb"]

METHODS = ["nuts", "eb"]
# The typical residual standard deviation of the simulated features.
SIGMA = 0.15
ARRAYS = ("mean_x", "sxx", "mean_y", "sxy", "syy")


def eb_of(
    table: pd.DataFrame,
    features: Any,
    covariates: Any = "age + sex",
    shrinkage: Any = "parametric",
    mean_only: bool = False,
    **options: Any,
) -> bc.Fit:
    """Fit a table with sites by empirical Bayes."""
    study = bc.Study.from_dataframe(table, batch="site", covariates=covariates, features=features, **options)
    return bc.fit(study, method="eb", shrinkage=shrinkage, mean_only=mean_only)


@pytest.fixture(scope="module")
def table(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    return simulation.table


@pytest.fixture(scope="module")
def features(simulation: bc.datasets.Simulation) -> list[str]:
    return list(simulation.features)


@pytest.fixture(scope="module")
def expected(eb_fit: bc.Fit) -> np.ndarray:
    """Return the harmonized values of the shared study by empirical Bayes."""
    return eb_fit.harmonized["mean"].values


# ---------------------------------------------------------------- row 1: a batch of one scan


def test_row_01_one_scan_batch_is_named(tiny_study: bc.Study) -> None:
    with pytest.warns(BatchSizeWarning, match="One scan in 1 of 3 batches: 'site_03'"):
        bc.fit(tiny_study, method="eb")


@pytest.mark.filterwarnings("ignore::bayescombat.errors.BatchSizeWarning")
def test_row_01_one_scan_batch_has_scale_one_and_no_other_has(tiny_study: bc.Study) -> None:
    fit = bc.fit(tiny_study, method="eb")
    delta = fit.parameters["delta"]
    assert (delta.sel(batch="site_03") == 1).all()
    assert (delta.sel(batch=["site_01", "site_02"]) != 1).all()
    assert np.isfinite(fit.harmonized["mean"]).all()


@pytest.mark.filterwarnings("ignore::bayescombat.errors.BatchSizeWarning")
def test_row_01_one_scan_batch_leaves_the_others_as_they_are(tiny_simulation: bc.datasets.Simulation) -> None:
    whole = tiny_simulation.table
    without = whole[whole["site"] != "site_03"]
    options = {"features": tiny_simulation.features, "covariates": "age", "reference": "site_01"}
    expected = eb_of(without, **options).harmonized["mean"].values
    found = eb_of(whole, **options).harmonized["mean"].values[: len(without)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_row_01_one_scan_batch_is_finite_with_nuts(tiny_fit: bc.Fit) -> None:
    alone = tiny_fit.harmonized.sel(obs=20)
    assert all(np.isfinite(alone[name]).all() for name in alone.data_vars)
    assert (alone["sd"] > 0).all()


def test_row_01_one_scan_batch_is_surest_least_with_nuts(tiny_fit: bc.Fit) -> None:
    sd = tiny_fit.harmonized["sd"].values
    assert (sd[20] > sd[:20].max(axis=0)).all()


# ---------------------------------------------------------------- row 2: one missing cell


# A scan of every site.
ROWS = {"site_01": 0, "site_02": 35, "site_03": 55, "site_04": 60}


def with_hole(table: pd.DataFrame, row: int, feature: str) -> pd.DataFrame:
    holed = table.copy()
    holed.loc[table.index[row], feature] = np.nan
    return holed


@pytest.mark.parametrize("covariates", ["age + sex", None])
@pytest.mark.parametrize("site", ROWS)
def test_row_02_missing_cell_changes_no_bit_of_the_other_features(
    table: pd.DataFrame, features: list[str], site: str, covariates: str | None
) -> None:
    options = {"covariates": covariates, "shrinkage": "none"}
    others = [name for name in features if name != "feature_3"]
    expected = eb_of(table, features, **options).harmonized["mean"].sel(feature=others)
    found = eb_of(with_hole(table, ROWS[site], "feature_3"), features, **options).harmonized["mean"]
    np.testing.assert_array_equal(found.sel(feature=others), expected)


@pytest.mark.parametrize("covariates", ["age + sex", None])
@pytest.mark.parametrize("site", ROWS)
def test_row_02_feature_with_a_missing_cell_is_learned_from_its_other_scans(
    table: pd.DataFrame, features: list[str], site: str, covariates: str | None
) -> None:
    options = {"covariates": covariates, "shrinkage": "none"}
    row = ROWS[site]
    without = eb_of(table.drop(index=table.index[row]), features, **options)
    found = eb_of(with_hole(table, row, "feature_3"), features, **options).harmonized["mean"].sel(feature="feature_3")
    np.testing.assert_allclose(
        np.delete(found.values, row), without.harmonized["mean"].sel(feature="feature_3"), rtol=1e-12
    )


@pytest.mark.parametrize("site", ROWS)
def test_row_02_missing_cell_changes_the_others_a_little_through_pooling(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, site: str
) -> None:
    found = eb_of(with_hole(table, ROWS[site], "feature_3"), features).harmonized["mean"].values
    np.testing.assert_allclose(np.delete(found, 3, axis=1), np.delete(expected, 3, axis=1), rtol=0, atol=0.05 * SIGMA)


@pytest.mark.parametrize("shrinkage", ["parametric", "nonparametric", "none"])
@pytest.mark.parametrize("site", ROWS)
def test_row_02_the_cell_stays_missing_and_no_other_is(
    table: pd.DataFrame, features: list[str], site: str, shrinkage: str
) -> None:
    found = eb_of(with_hole(table, ROWS[site], "feature_3"), features, shrinkage=shrinkage).harmonized
    assert np.argwhere(np.isnan(found["mean"].values)).tolist() == [[ROWS[site], 3]]
    assert not found["set_aside"].any()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("site", ROWS)
def test_row_02_missing_cell_of_new_rows_changes_no_bit(
    nuts_fit: bc.Fit, eb_fit: bc.Fit, table: pd.DataFrame, site: str, method: str
) -> None:
    fit = {"nuts": nuts_fit, "eb": eb_fit}[method]
    found, whole = fit.harmonize(with_hole(table, ROWS[site], "feature_3")), fit.harmonized
    for name in found.data_vars:
        complete = whole[name].values.copy()
        complete[ROWS[site], 3] = np.nan
        np.testing.assert_array_equal(found[name], complete, err_msg=str(name))


def test_row_02_missing_cell_with_nuts(
    tiny_simulation: bc.datasets.Simulation, tiny_fit: bc.Fit, fit_tiny: Callable[[bc.Study], bc.Fit]
) -> None:
    features = tiny_simulation.features
    study = bc.Study.from_dataframe(
        with_hole(tiny_simulation.table, 4, "feature_0"), batch="site", covariates="age", features=features
    )
    fit = fit_tiny(study)
    found, complete = fit.harmonized, tiny_fit.harmonized
    for name in ("mean", "sd", "lower", "upper"):
        assert np.argwhere(np.isnan(found[name].values)).tolist() == [[4, 0]]
    tables = fit.draws(20).values
    assert (np.isnan(tables) == np.isnan(study.y)).all()
    # What one cell of many changes is far below what the posterior leaves open, and so is the error of 200 draws.
    away = abs(found["mean"] - complete["mean"]) / complete["sd"]
    assert float(away.max()) < 1
    assert float(abs(np.log(found["sd"] / complete["sd"])).max()) < np.log(2)


# ---------------------------------------------------------------- row 3: features missing in a whole batch


MISSING_IN_A_BATCH = (
    "never observed: 'feature_0' in 'site_02'; observed once: 'feature_1' in 'site_02'.*"
    "where the feature was observed it is harmonized"
)


def with_missing_batch(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table with a feature that site_02 lacks, and another that it has one value of."""
    holed = table.copy()
    own = np.flatnonzero(table["site"] == "site_02")
    holed.loc[table.index[own], "feature_0"] = np.nan
    holed.loc[table.index[own[1:]], "feature_1"] = np.nan
    return holed


@pytest.fixture(scope="module")
def eb_without_a_batch(table: pd.DataFrame, features: list[str]) -> tuple[pd.DataFrame, bc.Fit]:
    """A table of which features are missing in a batch, and its fit by empirical Bayes."""
    holed = with_missing_batch(table)
    with pytest.warns(FeatureWarning):
        return holed, eb_of(holed, features)


@pytest.fixture(scope="module")
def nuts_without_a_batch(tiny_simulation: bc.datasets.Simulation) -> tuple[pd.DataFrame, bc.Fit, list[str]]:
    """The like for NUTS, with what its FeatureWarnings said. Its draws are too few to be trusted."""
    holed = with_missing_batch(tiny_simulation.table)
    study = bc.Study.from_dataframe(holed, batch="site", covariates="age", features=tiny_simulation.features)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = bc.fit(study, chains=2, tune=100, draws=100, seed=3, progress_bar=False)
    return holed, fit, [str(item.message) for item in caught if issubclass(item.category, FeatureWarning)]


@pytest.mark.parametrize("shrinkage", ["parametric", "nonparametric", "none"])
@pytest.mark.parametrize("covariates", ["age + sex", None])
def test_row_03_features_missing_in_a_batch_are_named(
    table: pd.DataFrame, features: list[str], covariates: str | None, shrinkage: str
) -> None:
    with pytest.warns(FeatureWarning, match=MISSING_IN_A_BATCH) as caught:
        fit = eb_of(with_missing_batch(table), features, covariates, shrinkage=shrinkage)
    assert len(caught) == 1
    assert not fit.harmonized["set_aside"].any()


def test_row_03_features_missing_in_a_batch_are_named_with_nuts(
    nuts_without_a_batch: tuple[pd.DataFrame, bc.Fit, list[str]],
) -> None:
    (said,) = nuts_without_a_batch[2]
    assert re.search(MISSING_IN_A_BATCH, said)


@pytest.mark.parametrize("shrinkage", ["parametric", "nonparametric", "none"])
@pytest.mark.parametrize("mean_only", [False, True])
@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_row_03_what_was_observed_is_harmonized(
    table: pd.DataFrame, features: list[str], shrinkage: str, mean_only: bool
) -> None:
    holed = with_missing_batch(table)
    found = eb_of(holed, features, shrinkage=shrinkage, mean_only=mean_only).harmonized["mean"].values
    seen = holed[features].notna().values
    assert (np.isfinite(found) == seen).all()
    assert (found[seen] != holed[features].values[seen]).all()


def test_row_03_what_was_observed_is_harmonized_with_nuts(
    nuts_without_a_batch: tuple[pd.DataFrame, bc.Fit, list[str]], tiny_simulation: bc.datasets.Simulation
) -> None:
    holed, fit, _ = nuts_without_a_batch
    seen = holed[list(tiny_simulation.features)].notna().values
    for name in ("mean", "sd", "lower", "upper"):
        assert (np.isfinite(fit.harmonized[name].values) == seen).all()
    assert (fit.harmonized["sd"].values[seen] > 0).all()
    assert all(np.isfinite(array).all() for array in fit.parameters.data_vars.values())


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_row_03_other_features_keep_every_bit(table: pd.DataFrame, features: list[str]) -> None:
    others = features[2:]
    found = eb_of(with_missing_batch(table), features, shrinkage="none").harmonized["mean"].sel(feature=others)
    expected = eb_of(table, features, shrinkage="none").harmonized["mean"].sel(feature=others)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_row_03_feature_missing_in_a_batch_is_that_of_the_other_batches(
    table: pd.DataFrame, features: list[str]
) -> None:
    elsewhere = table["site"] != "site_02"
    found = eb_of(with_missing_batch(table), features, shrinkage="none").harmonized["mean"].values[elsewhere, 0]
    expected = eb_of(table[elsewhere], features, shrinkage="none").harmonized["mean"].values[:, 0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_row_03_the_prior_stands_in_for_what_was_not_observed(eb_without_a_batch: tuple[pd.DataFrame, bc.Fit]) -> None:
    parameters = eb_without_a_batch[1].parameters.sel(batch="site_02", feature="feature_0")
    np.testing.assert_allclose(parameters["gamma"] / parameters["sigma"], parameters["gamma_mean"], rtol=1e-12)


def test_row_03_nuts_knows_least_of_what_was_not_observed(
    nuts_without_a_batch: tuple[pd.DataFrame, bc.Fit, list[str]],
) -> None:
    parameters = nuts_without_a_batch[1].parameters.sel(batch="site_02")
    never, once, often = (parameters["gamma"] / parameters["sigma"]).std(["chain", "draw"]).values
    assert never > once > often


@pytest.mark.parametrize("method", METHODS)
def test_row_03_new_rows_of_what_was_not_observed_are_harmonized(
    request: pytest.FixtureRequest, simulation: bc.datasets.Simulation, method: str
) -> None:
    fit = request.getfixturevalue(f"{method}_without_a_batch")[1]
    rows = simulation.table[simulation.table["site"] == "site_02"]
    found = fit.harmonize(rows)
    assert all(np.isfinite(found[name]).all() for name in found.data_vars)


# ---------------------------------------------------------------- row 4: constant features


CONSTANT: dict[str, Callable[[pd.DataFrame], Any]] = {
    "all zero": lambda table: 0.0,
    "all a tenth": lambda table: 0.1,
    "constant in one batch": lambda table: np.where(table["site"] == "site_03", 0.1, table["feature_0"]),
    "constant in every batch": lambda table: table["site"].map(len) + 0.1 * (table["site"] == "site_02"),
}


@pytest.mark.parametrize("position", [0, 4, 8])
@pytest.mark.parametrize("kind", CONSTANT)
def test_row_04_constant_feature_changes_no_bit_of_the_others(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, kind: str, position: int
) -> None:
    names = [*features[:position], "flat", *features[position:]]
    with pytest.warns(FeatureWarning, match="Set aside 1 of 9 features, constant .*: 'flat'"):
        fit = eb_of(table.assign(flat=CONSTANT[kind]), names)
    np.testing.assert_array_equal(fit.harmonized["mean"].sel(feature=features), expected)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
@pytest.mark.parametrize("kind", CONSTANT)
def test_row_04_constant_feature_passes_untouched(table: pd.DataFrame, features: list[str], kind: str) -> None:
    flat = table.assign(flat=CONSTANT[kind])
    fit = eb_of(flat, ["flat", *features])
    np.testing.assert_array_equal(fit.harmonized["mean"].sel(feature="flat"), flat["flat"])
    assert list(fit.harmonized["feature"].values[fit.harmonized["set_aside"].values]) == ["flat"]


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_row_04_constant_feature_passes_untouched_in_new_rows(table: pd.DataFrame, features: list[str]) -> None:
    fit = eb_of(table.assign(flat=0.0), ["flat", *features])
    new = table.head(5).assign(flat=np.arange(5.0))
    np.testing.assert_array_equal(fit.harmonize(new)["mean"].sel(feature="flat"), new["flat"])


def test_row_04_zero_feature_changes_no_bit_of_the_others_with_nuts(
    tiny_simulation: bc.datasets.Simulation, tiny_fit: bc.Fit, fit_tiny: Callable[[bc.Study], bc.Fit]
) -> None:
    first, *others = tiny_simulation.features
    study = bc.Study.from_dataframe(
        tiny_simulation.table.assign(flat=0.0), batch="site", covariates="age", features=[first, "flat", *others]
    )
    found = fit_tiny(study).harmonized
    kept = found.sel(feature=[first, *others]).drop_attrs()
    xr.testing.assert_identical(kept, tiny_fit.harmonized.drop_attrs())
    flat = found.sel(feature="flat")
    assert all((flat[name] == 0).all() for name in ("mean", "sd", "lower", "upper"))


@pytest.mark.parametrize("method", METHODS)
def test_row_04_only_constant_features_are_refused(table: pd.DataFrame, method: Method) -> None:
    study = bc.Study.from_dataframe(table.assign(left=0.0, right=0.1), batch="site", features=["left", "right"])
    with (
        pytest.warns(FeatureWarning, match="2 of 2"),
        pytest.raises(DataError, match="Expected at least one feature that varies within batches"),
    ):
        bc.fit(study, method=method)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
@pytest.mark.parametrize("value", [0.0, 0.1])
def test_row_04_features_that_are_nearly_constant_stay(table: pd.DataFrame, features: list[str], value: float) -> None:
    nearly = table.assign(nearly=value + 1e-6 * table["feature_0"])
    fit = eb_of(nearly, [*features, "nearly"])
    assert not fit.harmonized["set_aside"].any()


# ---------------------------------------------------------------- rows 5 and 22: units


@settings(max_examples=25, deadline=None)
@given(st.floats(-9, 6), st.sampled_from([0.0, 1.0, -30.0, 2000.0]))
def test_row_05_features_in_any_unit(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, exponent: float, origin: float
) -> None:
    unit = 10.0**exponent
    other = table.assign(**{name: unit * (table[name] + origin) for name in features})
    found = eb_of(other, features).harmonized["mean"].values / unit - origin
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * SIGMA)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
@pytest.mark.parametrize("sign", [1, -1])
def test_row_05_features_of_either_sign(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, unit: float, sign: int
) -> None:
    other = table.assign(**{name: sign * unit * table[name] for name in features})
    found = sign * eb_of(other, features).harmonized["mean"].values / unit
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * SIGMA)


@pytest.mark.parametrize(("unit", "origin"), [(1e-9, 0.0), (1e6, 0.0), (-1.0, 2026.0), (365.25 * 86_400, 0.0)], ids=str)
def test_row_05_covariates_in_any_unit(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, unit: float, origin: float
) -> None:
    found = eb_of(table.assign(age=origin + unit * table["age"]), features).harmonized["mean"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10 * SIGMA)


@pytest.mark.parametrize("unit", [1e-9, 1e6])
@pytest.mark.parametrize("origin", [0.0, 2000.0])
def test_row_05_nuts_sees_the_same_in_any_unit(
    table: pd.DataFrame, features: list[str], study: bc.Study, unit: float, origin: float
) -> None:
    # All that the model knows of the data are the standardised moments.
    other = table.assign(**{name: unit * (table[name] + origin) for name in features})
    moments = bc.Moments.from_study(
        bc.Study.from_dataframe(other, batch="site", covariates="age + sex", features=features)
    )
    found, expected = standardise(moments), standardise(bc.Moments.from_study(study))
    for name in ARRAYS:
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-9, err_msg=name)


def test_row_22_unit_of_one_feature_leaves_the_others(
    table: pd.DataFrame, features: list[str], expected: np.ndarray
) -> None:
    found = eb_of(table.assign(feature_3=1e6 * table["feature_3"]), features).harmonized["mean"].values
    np.testing.assert_allclose(np.delete(found, 3, axis=1), np.delete(expected, 3, axis=1), rtol=1e-12)


def test_row_22_large_feature_changes_the_others_through_pooling_alone(
    table: pd.DataFrame, features: list[str], study: bc.Study
) -> None:
    large = table.assign(volume=1e6 + 1e5 * np.random.default_rng(0).normal(size=len(table)))
    other = bc.Study.from_dataframe(large, batch="site", covariates="age + sex", features=[*features, "volume"])
    found = bc.fit(other, method="eb", shrinkage="none").harmonized["mean"].sel(feature=features)
    expected = bc.fit(study, method="eb", shrinkage="none").harmonized["mean"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


# ---------------------------------------------------------------- row 6: confounded designs


@pytest.fixture(scope="module")
def confounded(table: pd.DataFrame, features: list[str]) -> bc.Study:
    strength = table["site"].map({"site_01": 1.5, "site_02": 3.0, "site_03": 3.0, "site_04": 7.0})
    with pytest.warns(bc.OverlapWarning, match="'tesla'"):
        return bc.Study.from_dataframe(
            table.assign(tesla=strength), batch="site", covariates="age + tesla", features=features
        )


@pytest.mark.parametrize("method", METHODS)
def test_row_06_covariate_of_the_batch_is_named_with_batches(confounded: bc.Study, method: Method) -> None:
    message = "found 'tesla' constant within every batch .*'site_01' 1.5, 'site_02' 3, 'site_03' 3, 'site_04' 7"
    with pytest.raises(ConfoundedDesignError, match=message):
        bc.fit(confounded, method=method)


def test_row_06_covariate_of_the_batch_is_named_by_the_model(confounded: bc.Study) -> None:
    with pytest.raises(ConfoundedDesignError, match="'tesla'"):
        bc.build_model(confounded)


@pytest.mark.parametrize("method", METHODS)
def test_row_06_covariates_that_say_the_same_are_named(
    table: pd.DataFrame, features: list[str], method: Method
) -> None:
    # Months since a date that differs by site: not collinear over the table, but within every site.
    months = 12 * table["age"] + 100 * table["site"].str[-1].astype(int)
    study = bc.Study.from_dataframe(
        table.assign(months=months), batch="site", covariates="age + sex + months", features=features
    )
    with pytest.raises(ConfoundedDesignError, match=r"found 'age', 'months' to be collinear .*'site_01'"):
        bc.fit(study, method=method)


def test_row_06_covariate_that_varies_in_one_batch_alone_is_enough(table: pd.DataFrame, features: list[str]) -> None:
    rng = np.random.default_rng(0)
    dose = np.where(table["site"] == "site_01", rng.integers(2, size=len(table)), 0)
    with pytest.warns(bc.OverlapWarning, match="'dose'"):
        fit = eb_of(table.assign(dose=dose), features, "age + dose")
    assert np.isfinite(fit.harmonized["mean"]).all()


# ---------------------------------------------------------------- row 7: one batch, one feature


@pytest.mark.parametrize("method", METHODS)
def test_row_07_moments_of_one_batch_are_refused(table: pd.DataFrame, study: bc.Study, method: Method) -> None:
    rows = bc.Study.from_design(table[table["site"] == "site_02"], study.spec)
    with pytest.raises(DataError, match="at least two batches, found 'site_02'.*merge the moments"):
        bc.fit(bc.Moments.from_study(rows), method=method)


def test_row_07_one_feature_says_that_nothing_is_pooled(table: pd.DataFrame) -> None:
    with pytest.warns(PoolingWarning, match="one feature to model, 'feature_2': nothing can be pooled"):
        eb_of(table, ["feature_2"])


@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_row_07_one_feature_beside_constant_ones_says_that_nothing_is_pooled(table: pd.DataFrame) -> None:
    with pytest.warns(PoolingWarning, match="'feature_2'"):
        eb_of(table.assign(flat=0.0), ["feature_2", "flat"])


@pytest.mark.filterwarnings("ignore::bayescombat.errors.PoolingWarning")
def test_row_07_one_feature_is_not_shrunken(table: pd.DataFrame, study: bc.Study) -> None:
    found = eb_of(table, ["feature_2"]).harmonized["mean"].sel(feature="feature_2")
    expected = bc.fit(study, method="eb", shrinkage="none").harmonized["mean"].sel(feature="feature_2")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_row_07_one_feature_works_with_nuts(
    tiny_simulation: bc.datasets.Simulation, fit_tiny: Callable[[bc.Study], bc.Fit]
) -> None:
    rows = tiny_simulation.table[tiny_simulation.table["site"] != "site_03"]
    study = bc.Study.from_dataframe(rows, batch="site", features=["feature_1"])
    fit = fit_tiny(study)
    shifts = fit.harmonized["mean"].values[:, 0] - study.y[:, 0]
    # The batches are brought nearer to each other.
    raw = np.diff([study.y[study.codes == i].mean() for i in (0, 1)])
    assert np.isfinite(shifts).all() and (fit.harmonized["sd"] > 0).all()
    assert abs(raw + np.diff([shifts[study.codes == i].mean() for i in (0, 1)])) < abs(raw)


# ---------------------------------------------------------------- row 8: new rows


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.integers(0, 62), min_size=1, max_size=20, unique=True))
def test_row_08_any_rows_are_those_of_the_whole(
    eb_fit: bc.Fit, table: pd.DataFrame, expected: np.ndarray, rows: list[int]
) -> None:
    found = eb_fit.harmonize(table.iloc[rows])
    assert list(found["obs"].values) == rows
    np.testing.assert_allclose(found["mean"], expected[rows], rtol=1e-12)


@pytest.mark.parametrize("site", ["site_01", "site_04"])
@pytest.mark.parametrize("method", METHODS)
def test_row_08_one_batch_alone_is_that_of_the_whole(
    nuts_fit: bc.Fit, eb_fit: bc.Fit, table: pd.DataFrame, site: str, method: str
) -> None:
    fit, own = {"nuts": nuts_fit, "eb": eb_fit}[method], table["site"] == site
    found = fit.harmonize(table[own])
    np.testing.assert_allclose(found["mean"], fit.harmonized["mean"].values[own], rtol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_row_08_unknown_batch_names_the_known_and_what_to_do(
    nuts_fit: bc.Fit, eb_fit: bc.Fit, table: pd.DataFrame, method: str
) -> None:
    rows = table.head(3).assign(site=["site_01", "site_9", "site_9"])
    with pytest.raises(
        UnseenBatchError, match="'site_01'.*found 'site_9'.*fit again with them.*or harmonize with unseen='prior'"
    ):
        {"nuts": nuts_fit, "eb": eb_fit}[method].harmonize(rows)


# ---------------------------------------------------------------- row 9: covariates that were never seen


def test_row_09_unseen_level_is_refused(eb_fit: bc.Fit, table: pd.DataFrame) -> None:
    with pytest.raises(UnseenLevelError, match="'X'"):
        eb_fit.harmonize(table.head(3).assign(sex=["F", "M", "X"]))


@pytest.fixture(scope="module")
def spline_fit(table: pd.DataFrame, features: list[str]) -> bc.Fit:
    return eb_of(table, features, "bs(age, df=4) + sex")


def test_row_09_ages_outside_the_spline_warn(spline_fit: bc.Fit, table: pd.DataFrame) -> None:
    with pytest.warns(ExtrapolationWarning, match="1 row has 'age' outside the range"):
        spline_fit.harmonize(table.head(2).assign(age=[40.0, 99.0]))


@pytest.mark.filterwarnings("ignore::bayescombat.errors.ExtrapolationWarning")
@pytest.mark.parametrize("ages", [[80.0, 90.0, 100.0], [1.0, 2.0, 3.0]])
def test_row_09_values_continue_as_a_straight_line(
    spline_fit: bc.Fit, table: pd.DataFrame, features: list[str], ages: list[float]
) -> None:
    # The same scan at three ages outside the range: only the slope of age differs.
    rows = pd.concat([table.iloc[[25]]] * 3, ignore_index=True).assign(age=ages)
    found = spline_fit.harmonize(rows)["mean"].values
    assert abs(found[0] - 2 * found[1] + found[2]).max() < 1e-10
    assert (abs(found[0] - found[2]) > 1e-6).all()


# ---------------------------------------------------------------- order and labels


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(63)))
def test_order_of_rows_changes_nothing(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, order: list[int]
) -> None:
    found = eb_of(table.iloc[order], features).harmonized["mean"]
    np.testing.assert_allclose(found, expected[order], rtol=0, atol=1e-10 * SIGMA)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(8)))
def test_order_of_features_changes_nothing(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, order: list[int]
) -> None:
    found = eb_of(table, [features[v] for v in order]).harmonized["mean"]
    np.testing.assert_allclose(found, expected[:, order], rtol=0, atol=1e-10 * SIGMA)


@settings(max_examples=15, deadline=None)
@given(names=st.permutations(["site_01", "site_02", "site_03", "site_04"]))
def test_row_13_relabelled_batches_change_nothing(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, eb_fit: bc.Fit, names: list[str]
) -> None:
    renamed = dict(zip(eb_fit.moments.batches, names, strict=True))
    fit = eb_of(table.assign(site=table["site"].map(renamed)), features)
    np.testing.assert_allclose(fit.harmonized["mean"], expected, rtol=0, atol=1e-10 * SIGMA)
    gamma = fit.parameters["gamma"].sel(batch=names).values
    np.testing.assert_allclose(gamma, eb_fit.parameters["gamma"], rtol=0, atol=1e-10 * SIGMA)


@pytest.mark.parametrize("labels", [[1, 2, 3, 4], [2.5, 10.0, 9.0, -1.0], ["1", "b", "10", "b c"]], ids=str)
def test_row_13_labels_of_any_kind_change_nothing(
    table: pd.DataFrame, features: list[str], expected: np.ndarray, eb_fit: bc.Fit, labels: list[Any]
) -> None:
    renamed = dict(zip(eb_fit.moments.batches, labels, strict=True))
    fit = eb_of(table.assign(site=table["site"].map(renamed)), features)
    np.testing.assert_allclose(fit.harmonized["mean"], expected, rtol=0, atol=1e-10 * SIGMA)


# ---------------------------------------------------------------- row 14: impossible references


@pytest.mark.parametrize("method", METHODS)
def test_row_14_moments_with_an_unknown_reference_are_refused(tiny_study: bc.Study, method: Method) -> None:
    moments = replace(bc.Moments.from_study(tiny_study), reference="site_3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchSizeWarning)
        with pytest.raises(DataError, match="'site_01'.*'site_3'"):
            bc.fit(moments, method=method)


@pytest.mark.parametrize("method", METHODS)
def test_row_14_moments_with_a_reference_of_one_scan_are_refused(tiny_study: bc.Study, method: Method) -> None:
    moments = replace(bc.Moments.from_study(tiny_study), reference="site_03")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BatchSizeWarning)
        with pytest.raises(DataError, match="one scan in 'site_03'"):
            bc.fit(moments, method=method)


# ---------------------------------------------------------------- row 15: more covariates than scans


@pytest.fixture(scope="module")
def wide_table(table: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    return table.assign(**{f"covariate_{k}": rng.normal(size=len(table)) for k in range(6)})


COVARIATES = [f"covariate_{k}" for k in range(6)]
# Scans of the four sites in turn.
IN_TURN = [0, 30, 50, 60, 1, 31, 51, 61, 2, 32, 52]


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_row_15_more_covariates_than_a_batch_has_scans_are_fine(wide_table: pd.DataFrame, features: list[str]) -> None:
    fit = eb_of(wide_table, features, COVARIATES)
    assert fit.moments.scans.min() == 3 and np.isfinite(fit.harmonized["mean"]).all()


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
@pytest.mark.parametrize("scans", [6, 9, 10])
@pytest.mark.parametrize("method", METHODS)
def test_row_15_more_covariates_than_scans_are_named(
    wide_table: pd.DataFrame, features: list[str], scans: int, method: Method
) -> None:
    # Four batches and six covariates leave nothing of ten scans.
    rows = wide_table.iloc[IN_TURN[:scans]]
    study = bc.Study.from_dataframe(rows, batch="site", covariates=COVARIATES, features=features)
    with pytest.raises(DataError, match=rf"\(4 \+ 6\), found {scans} scans for the covariates 'covariate_0'"):
        bc.fit(study, method=method)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_row_15_one_scan_more_is_enough(wide_table: pd.DataFrame, features: list[str]) -> None:
    fit = eb_of(wide_table.iloc[IN_TURN], features, COVARIATES)
    assert np.isfinite(fit.harmonized["mean"]).all()


# ---------------------------------------------------------------- row 17: positive values that become negative


@pytest.fixture(scope="module")
def volumes() -> pd.DataFrame:
    """A site whose lesions are large and another whose lesions are small; temperatures may be negative."""
    rng = np.random.default_rng(0)
    large = np.arange(60) < 40
    lesion = np.exp(rng.normal(np.where(large, 3.0, 0.0), 1.0)[:, None] + 0.2 * rng.normal(size=(60, 2)))
    temperature = rng.normal(0, 5, 60) + 10 * large
    sites = np.where(large, "large", "small")
    return pd.DataFrame(lesion, columns=["lesion_0", "lesion_1"]).assign(temperature=temperature, site=sites)


NAMES_OF_VOLUMES = ["lesion_0", "lesion_1", "temperature"]


def test_row_17_negative_values_are_counted_and_named(volumes: pd.DataFrame) -> None:
    fit = eb_of(volumes, NAMES_OF_VOLUMES, None)
    with pytest.warns(NegativeValueWarning) as caught:
        found = fit.harmonized["mean"]
    lesions = found.sel(feature=["lesion_0", "lesion_1"])
    count = int((lesions < 0).sum())
    assert count > 0
    message = str(caught[0].message)
    assert message.startswith(f"{count} harmonized values of 2 features positive in the table")
    assert "'lesion_0', 'lesion_1'" in message and "'temperature'" not in message
    assert "make the study with transform='log'" in message


def test_row_17_a_feature_that_is_negative_in_one_scan_of_the_table_is_not_named(volumes: pd.DataFrame) -> None:
    assert len(volumes) > SOME_SCANS
    volumes = volumes.copy()
    volumes.loc[volumes.index[-1], "lesion_0"] = -1e-9
    fit = eb_of(volumes, NAMES_OF_VOLUMES, None)
    with pytest.warns(NegativeValueWarning, match="of 1 feature .*'lesion_1'"):
        assert (fit.harmonized["mean"].sel(feature="lesion_0") < 0).any()


def test_row_17_logarithms_have_no_negative_values(volumes: pd.DataFrame) -> None:
    # Any warning would be an error here.
    found = eb_of(volumes, ["lesion_0", "lesion_1"], None, transform="log").harmonized["mean"]
    assert (found > 0).all()


def test_row_17_features_that_are_negative_in_the_table_may_be_so(volumes: pd.DataFrame) -> None:
    # Any warning would be an error here.
    logs = volumes.assign(**{name: np.log(volumes[name]) for name in ("lesion_0", "lesion_1")})
    assert (eb_of(logs, NAMES_OF_VOLUMES, None).harmonized["mean"] < 0).any("obs").all()


# ---------------------------------------------------------------- row 19: a chain that did not converge


@pytest.fixture(scope="module")
def too_short(tiny_study: bc.Study) -> tuple[bc.Fit, list[str]]:
    """A fit of far too few draws, and what its ConvergenceWarnings said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit = bc.fit(tiny_study, chains=2, draws=20, tune=5, seed=2, progress_bar=False)
    return fit, [str(item.message) for item in caught if issubclass(item.category, ConvergenceWarning)]


def test_row_19_short_run_warns_once_with_the_verdict(too_short: tuple[bc.Fit, list[str]]) -> None:
    fit, said = too_short
    assert said == [fit.verdict] and not fit.converged


def test_row_19_warning_names_the_worst_parameter(too_short: tuple[bc.Fit, list[str]]) -> None:
    fit, (said,) = too_short
    rhat = fit.tree["diagnostics/rhat"].to_dataset()
    worst = max(rhat.data_vars, key=lambda name: float(rhat[name].max()))
    place = rhat[worst].isel(rhat[worst].argmax(...))
    labels = ", ".join(str(place[dim].values) for dim in rhat[worst].dims)
    assert f"R-hat above 1.02 for '{worst}[{labels}]'" in said


def test_row_19_warning_says_what_to_do(too_short: tuple[bc.Fit, list[str]]) -> None:
    assert "Sample longer (draws, tune) where figures just miss, raise target_accept" in too_short[1][0]


def test_row_19_verdict_is_in_the_saved_file(too_short: tuple[bc.Fit, list[str]], tmp_path: Path) -> None:
    too_short[0].save(tmp_path / "fit.nc", data=False)
    attrs = xr.load_datatree(tmp_path / "fit.nc", engine="h5netcdf").attrs
    assert (attrs["verdict"], attrs["converged"]) == (too_short[1][0], 0)
    assert not bc.load(tmp_path / "fit.nc").converged


# ---------------------------------------------------------------- row 20: interrupts while writing


@pytest.mark.parametrize("what", ["fit", "moments"])
def test_row_20_interrupt_while_writing_leaves_the_old_file(
    eb_fit: bc.Fit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    save = {"fit": eb_fit.save, "moments": partial(eb_fit.moments.save, min_scans=1)}[what]
    path = tmp_path / "file.nc"
    save(path)
    before = path.read_bytes()
    whole = xr.DataTree.to_netcdf

    def interrupted(self: xr.DataTree, filepath: Path, **options: Any) -> None:
        whole(self, filepath, **options)
        Path(filepath).write_bytes(before[:500])
        raise KeyboardInterrupt

    monkeypatch.setattr(xr.DataTree, "to_netcdf", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def site_alone_explains(extra: dict[str, object]) -> bc.Study:
    """A study whose two-scan site is the only one where `dose` varies."""
    simulation = bc.datasets.simulate((30, 20, 2), features=4, seed=0)
    table = simulation.table.assign(dose=0.0)
    table.loc[table.index[-1], "dose"] = 1.0
    return bc.Study.from_dataframe(table, batch="site", covariates="dose", features=simulation.features, **extra)


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
@pytest.mark.parametrize("reference", [None, "site_03"])
def test_row_06_covariate_that_explains_all_of_one_batch(reference: str | None) -> None:
    with pytest.raises(ConfoundedDesignError, match="'dose' explain all of 'site_03'"):
        bc.fit(site_alone_explains({"reference": reference}), method="eb")


# ---------------------------------------------------------------- slips of those who prepare tables


@pytest.mark.parametrize("label", ["", "  "])
def test_blank_labels_are_missing(table: pd.DataFrame, label: str) -> None:
    spoilt = table.assign(site=table["site"].where(table.index != table.index[4], label))
    with pytest.raises(DataError, match=rf"batch 'site', found 1 missing, in the rows '{table.index[4]}'"):
        bc.Study.from_dataframe(spoilt, batch="site", features="^feature")


def test_labels_in_two_spellings_are_named(table: pd.DataFrame) -> None:
    first = table["site"].iloc[0]
    spoilt = table.assign(site=table["site"].where(np.arange(len(table)) != 1, first.upper() + " "))
    with pytest.warns(bc.LabelWarning, match=rf"batch 'site' .*, found '{first.upper()} ' = '{first}'"):
        bc.Study.from_dataframe(spoilt, batch="site", features="^feature")


@pytest.mark.parametrize("written", ["{:.2f}", "{:.2f} ", "1999-01-{:.0f}"])
@pytest.mark.parametrize("comma", [False, True])
def test_numbers_and_dates_that_were_read_as_text_are_no_categories(
    table: pd.DataFrame, written: str, comma: bool
) -> None:
    text = table["age"].map(written.format)
    text = text.str.replace(".", ",") if comma else text
    with pytest.raises(DataError, match=r"covariate 'age', found text that reads as \d+ different numbers or dates"):
        bc.Study.from_dataframe(table.assign(age=text), batch="site", covariates="age", features="^feature")


def test_text_that_reads_as_few_numbers_is_a_category(table: pd.DataFrame) -> None:
    coded = table.assign(sex=table["sex"].map({"F": "1", "M": "2"}))
    study = bc.Study.from_dataframe(coded, batch="site", covariates="sex", features="^feature")
    assert study.covariates == ("sex[T.2]",)


def test_names_of_groups_may_be_many_numbers(table: pd.DataFrame) -> None:
    coded = table.assign(reader=(np.arange(len(table)) % 12).astype(str))
    study = bc.Study.from_dataframe(coded, batch="site", covariates="C(reader)", features="^feature")
    assert len(study.covariates) == 11


@pytest.mark.parametrize("name", ["age at scan (y)", "age-at-scan"])
def test_names_that_formulas_cannot_read_are_named_with_backticks(table: pd.DataFrame, name: str) -> None:
    renamed = table.rename(columns={"age": name})
    with pytest.raises(DataError, match=re.escape(f"Write `{name}`, or give a list")):
        bc.Study.from_dataframe(renamed, batch="site", covariates=f"{name} + sex", features="^feature")
    assert bc.Study.from_dataframe(renamed, batch="site", covariates=f"`{name}`", features="^feature").covariates == (
        name,
    )


@pytest.mark.parametrize("power", ["age**2", "age ^ 2"])
def test_powers_that_formulas_take_for_crossings_are_refused(table: pd.DataFrame, power: str) -> None:
    with pytest.raises(DataError, match=re.escape("Write I(age**2), or poly(age, 2)")):
        bc.Study.from_dataframe(table, batch="site", covariates=f"age + {power}", features="^feature")


@pytest.mark.parametrize("formula", ["I(age**2)", "age + I((age - 40)**2)", "(age + sex)**2"])
def test_powers_inside_functions_and_of_sums_are_read(table: pd.DataFrame, formula: str) -> None:
    study = bc.Study.from_dataframe(table, batch="site", covariates=formula, features="^feature")
    assert study.spec.formula == formula


def test_labels_of_batches_instead_of_their_column_are_refused(table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="names of columns, not their labels"):
        bc.Study.from_dataframe(table, batch=table["site"], features="^feature")


def test_features_by_a_slice_are_refused(table: pd.DataFrame) -> None:
    features: Any = slice(3, 5)
    with pytest.raises(DataError, match="found slice. Give names"):
        bc.Study.from_dataframe(table, batch="site", features=features)


def test_a_subject_for_a_batch_is_named(table: pd.DataFrame) -> None:
    named = table.assign(scan=np.arange(len(table)))
    study = bc.Study.from_dataframe(named, batch="scan", covariates="age", features="^feature")
    with pytest.raises(DataError, match="check 'scan': nearly every scan has a label of its own"):
        bc.fit(study, method="eb")


def test_a_folder_is_no_name_of_a_file(table: pd.DataFrame, tmp_path: Path) -> None:
    fit = eb_of(table, "^feature")
    with pytest.raises(IsADirectoryError, match="found the folder"):
        fit.save(tmp_path)
    assert list(tmp_path.parent.glob(".test*")) == []


def test_scans_that_are_fitted_again_are_named(table: pd.DataFrame) -> None:
    fit = eb_of(table.iloc[:50], "^feature")
    with pytest.warns(bc.BayesCombatWarning, match="found 5 of 18 with the batch and all measurements of a scan"):
        fit.update(table.iloc[45:63])
    fit.update(table.iloc[50:])


@pytest.mark.parametrize("change", [bc.Fit.adopt, bc.Fit.update])
def test_new_batches_that_look_like_known_ones_are_named(
    table: pd.DataFrame, change: Callable[[bc.Fit, pd.DataFrame], bc.Fit]
) -> None:
    fit = eb_of(table[table["site"] != "site_04"], "^feature")
    with pytest.warns(bc.LabelWarning, match="found 'site_03' = 'Site_03'"):
        change(fit, table[table["site"] == "site_04"].assign(site="Site_03"))


def test_a_level_in_another_spelling_is_guessed(table: pd.DataFrame) -> None:
    fit = eb_of(table, "^feature")
    with pytest.raises(UnseenLevelError, match="Did you mean 'F'"):
        fit.harmonize(table.head(3).assign(sex="f"))
