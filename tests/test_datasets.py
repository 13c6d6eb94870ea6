"""The shipped dataset and the simulator."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from bayescombat.datasets import Simulation, load_openneuro, simulate
from bayescombat.errors import DataError

SCANS = (40, 7, 3, 1)


@pytest.fixture(scope="module")
def openneuro() -> pd.DataFrame:
    return load_openneuro()


@pytest.fixture(scope="module")
def simulation() -> Simulation:
    return simulate(SCANS, features=6, seed=3)


def design_of(table: pd.DataFrame) -> np.ndarray:
    return np.column_stack([table["age"], table["sex"] == "M"]).astype(float)


def test_openneuro_has_the_documented_people(openneuro: pd.DataFrame) -> None:
    assert openneuro.shape == (490, 3 + 245)
    assert list(openneuro.columns[:3]) == ["site", "age", "sex"]
    assert openneuro.index.name == "sub_id"
    assert openneuro.index.is_unique
    counts = openneuro["site"].value_counts().sort_index()
    assert counts.to_dict() == {
        "ds000115": 99,
        "ds000222": 79,
        "ds003416": 31,
        "ds003469": 81,
        "ds003653": 87,
        "ds003826": 113,
    }
    assert openneuro["sex"].value_counts().to_dict() == {"F": 281, "M": 209}
    assert not openneuro.isna().any(axis=None)


def test_openneuro_keeps_constant_features(openneuro: pd.DataFrame) -> None:
    features = openneuro.drop(columns=["site", "age", "sex"])
    assert all(pd.api.types.is_numeric_dtype(kind) for kind in features.dtypes)
    constant = features.nunique() == 1
    assert constant.sum() == 34
    assert (features.loc[:, constant] == 0).all(axis=None)


def test_openneuro_holds_nobody_twice(openneuro: pd.DataFrame) -> None:
    assert not openneuro.drop(columns=["site", "age", "sex"]).duplicated().any()


def test_openneuro_ages_are_as_documented(openneuro: pd.DataFrame) -> None:
    children = openneuro["site"] == "ds003416"
    assert openneuro.loc[children, "age"].agg(["min", "max"]).tolist() == [5.4, 6.8]
    assert openneuro.loc[~children, "age"].min() > 11


def test_loading_twice_gives_separate_tables(openneuro: pd.DataFrame) -> None:
    changed = load_openneuro()
    changed["age"] = 0.0
    assert openneuro["age"].min() > 5


def test_simulated_truth_meets_the_constraint(simulation: Simulation) -> None:
    weights = xr.DataArray(np.array(SCANS) / sum(SCANS), dims="batch")
    truth = simulation.truth
    assert abs((weights * truth["gamma"]).sum("batch")).max() < 1e-12
    assert abs((weights * truth["delta"] ** 2).sum("batch") - 1).max() < 1e-12


def test_simulated_shapes_and_names(simulation: Simulation) -> None:
    table, truth = simulation.table, simulation.truth
    assert list(table) == ["site", "age", "sex", *simulation.features]
    assert table["site"].value_counts(sort=False).tolist() == list(SCANS)
    assert dict(truth.sizes) == {"feature": 6, "covariate": 2, "batch": 4, "obs": 51}
    assert list(truth["covariate"].values) == ["age", "sex[T.M]"]
    assert list(truth["batch"].values) == ["site_01", "site_02", "site_03", "site_04"]
    assert list(truth["feature"].values) == list(simulation.features)
    assert all({"units", "long_name"} <= set(variable.attrs) for variable in truth.data_vars.values())


def test_covariates_are_named_as_formulaic_names_them(simulation: Simulation) -> None:
    formulaic = pytest.importorskip("formulaic")
    matrix = formulaic.model_matrix("age + sex", simulation.table)
    assert list(matrix.columns[1:]) == list(simulation.truth["covariate"].values)


def test_harmonized_truth_follows_from_the_table(simulation: Simulation) -> None:
    truth = simulation.truth
    site = simulation.table["site"].to_numpy()
    y = simulation.table[list(simulation.features)].to_numpy()
    design = design_of(simulation.table)
    fixed = truth["alpha"].values + (design - design.mean(axis=0)) @ truth["beta"].values
    gamma, delta = truth["gamma"].sel(batch=site).values, truth["delta"].sel(batch=site).values
    expected = (y - fixed - gamma) / delta + fixed
    np.testing.assert_allclose(truth["harmonized"].values, expected, rtol=0, atol=1e-12)


def test_simulated_scans_follow_the_parameters() -> None:
    big = simulate((20_000, 10_000), features=3, seed=5)
    truth = big.truth
    design = design_of(big.table)
    residuals = truth["harmonized"].values - truth["alpha"].values
    residuals -= (design - design.mean(axis=0)) @ truth["beta"].values
    np.testing.assert_allclose(residuals.std(axis=0), truth["sigma"].values, rtol=0.02)
    assert abs(residuals.mean(axis=0) / truth["sigma"].values).max() < 0.03
    assert abs(np.corrcoef(residuals, rowvar=False) - np.eye(3)).max() < 0.03


def test_alpha_is_the_mean_of_the_feature() -> None:
    many = simulate((400,) * 5, features=10, seed=8)
    means = many.table[list(many.features)].mean().to_numpy()
    error = (means - many.truth["alpha"].values) / many.truth["sigma"].values
    assert abs(error).max() < 5 / np.sqrt(2_000)


def test_same_seed_same_study() -> None:
    first, second, other = simulate(seed=1), simulate(seed=1), simulate(seed=2)
    pd.testing.assert_frame_equal(first.table, second.table)
    xr.testing.assert_identical(first.truth, second.truth)
    assert not first.table["feature_0"].equals(other.table["feature_0"])


@pytest.mark.parametrize(
    ("keyword", "spread"),
    [
        ("gamma_mean_sd", lambda truth: (truth["gamma"] / truth["sigma"]).mean("feature").std("batch")),
        ("gamma_sd", lambda truth: (truth["gamma"] / truth["sigma"]).std("feature").median("batch")),
        ("log_delta_mean_sd", lambda truth: np.log(truth["delta"]).mean("feature").std("batch")),
        ("log_delta_sd", lambda truth: np.log(truth["delta"]).std("feature").median("batch")),
        ("beta_sd", lambda truth: (truth["beta"].isel(covariate=1) / truth["sigma"]).std("feature")),
    ],
)
@pytest.mark.parametrize("size", [0.1, 0.4])
def test_each_keyword_sets_its_spread(keyword: str, spread, size: float) -> None:
    quiet = {"gamma_mean_sd": 0.0, "gamma_sd": 0.0, "log_delta_mean_sd": 0.0, "log_delta_sd": 0.0}
    truth = simulate((5,) * 200, features=100, seed=4, **(quiet | {keyword: size})).truth
    assert float(spread(truth)) == pytest.approx(size, rel=0.2)


def test_site_age_sd_moves_the_sites_apart() -> None:
    together = simulate((50,) * 50, features=1, site_age_sd=0.0).table
    apart = simulate((50,) * 50, features=1, site_age_sd=10.0).table
    assert together.groupby("site")["age"].mean().std() < 3
    assert apart.groupby("site")["age"].mean().std() > 6


def test_many_sites_have_labels_that_sort() -> None:
    labels = simulate((1,) * 100, features=1).truth["batch"].values
    assert labels[0] == "site_001"
    assert list(labels) == sorted(labels)


@pytest.mark.parametrize(
    ("scans", "features", "message"),
    [((3, 0, 2), 4, "none at 'site 2'"), ((), 4, "found 0 and 4"), ((3,), 0, "found 1 and 0")],
)
def test_empty_studies_are_refused(scans: tuple[int, ...], features: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        simulate(scans, features=features)
