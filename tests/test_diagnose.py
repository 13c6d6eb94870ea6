"""What is said of a study before a fit: every defect is planted and must be named, and nothing else."""

import ast
import time
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import bayescombat as bc

FEATURES = 20
ARRAYS_ONLY = ("information", "robust", "twins")


def study_of(table: pd.DataFrame, **roles: Any) -> bc.Study:
    roles = {"batch": "site", "covariates": "age + sex", "features": "^feature", **roles}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.Study.from_dataframe(table, **roles)


def diagnosis_of(table: pd.DataFrame, **roles: Any) -> bc.Diagnosis:
    return bc.diagnose(study_of(table, **roles))


def the(found: bc.Diagnosis, kind: str) -> str:
    """Return the words of the one finding of a kind."""
    words = [f"{finding.found} {finding.advice}" for finding in found.findings if finding.kind == kind]
    assert len(words) == 1, found
    return words[0]


def grave(found: bc.Diagnosis) -> list[str]:
    return [finding.kind for finding in found.findings if finding.severity != "information"]


@pytest.fixture
def table() -> pd.DataFrame:
    """Six clean sites; a copy that a test may spoil."""
    return bc.datasets.simulate((60, 40, 30, 30, 20, 12), features=FEATURES, seed=0).table


# ---------------------------------------------------------------- the report


def test_a_clean_study_has_nothing_to_look_at(table: pd.DataFrame) -> None:
    found = diagnosis_of(table)
    assert grave(found) == []
    assert [finding.kind for finding in found.findings] == ["smallest batch", "covariates", "not found"]


def test_the_report_puts_the_gravest_first(table: pd.DataFrame) -> None:
    table["age"] = table["site"].rank(method="dense")
    table.loc[1, "feature_3"] = 50.0
    report = repr(diagnosis_of(table))
    headings = ["Error will be raised by fit", "Look at this", "For information"]
    places = [report.index(heading) for heading in headings]
    assert places == sorted(places)
    assert max(map(len, report.splitlines())) <= 120


@pytest.mark.parametrize("roles", [{}, {"covariates": None}, {"smooth": {"age": 6}, "covariates": "sex"}])
def test_the_dataset_has_figures_with_units(table: pd.DataFrame, roles: dict[str, Any]) -> None:
    found = diagnosis_of(table, **roles).dataset
    assert set(found.dims) == {"batch", "feature", "obs", "covariate"}
    assert all({"units", "long_name"} <= set(part.attrs) for part in found.data_vars.values())
    assert not any(part.isnull().any() for part in found.data_vars.values() if part.dtype.kind == "f")


def test_nothing_is_changed_and_the_same_is_said_twice(table: pd.DataFrame) -> None:
    study = study_of(table)
    before = [study.y.copy(), study.x.copy(), study.codes.copy(), study.sources.copy()]
    once, again = bc.diagnose(study), bc.diagnose(study)
    assert repr(once) == repr(again)
    xr.testing.assert_identical(once.dataset, again.dataset)
    after = [study.y, study.x, study.codes, study.sources]
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_a_study_in_chunks_is_refused() -> None:
    values = xr.DataArray(np.eye(4), {"site": ("obs", list("aabb"))}, ("obs", "feature"))
    with pytest.raises(bc.DataError, match="Expected a Study to diagnose, found a ChunkedStudy"):
        bc.diagnose(bc.ChunkedStudy.from_xarray(values, batch="site"))


def test_what_is_no_study_is_refused(table: pd.DataFrame) -> None:
    with pytest.raises(bc.DataError, match="found DataFrame. Make one first"):
        bc.diagnose(table)


def test_a_site_alone_is_refused(table: pd.DataFrame) -> None:
    design = study_of(table).spec
    alone = bc.Study.from_design(table[table["site"] == "site_02"], design)
    with pytest.raises(bc.DataError, match="at least two batches to diagnose, found 'site_02' alone"):
        bc.diagnose(alone)


@pytest.mark.parametrize("module", ARRAYS_ONLY)
def test_numeric_modules_stay_numeric(module: str) -> None:
    path = Path(__file__).parents[1] / "bayescombat" / "diagnose" / f"{module}.py"
    found = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {getattr(node, "module", None) or node.names[0].name for node in found}
    assert not {"pandas", "xarray"} & {name.split(".")[0] for name in names}


def test_a_thousand_scans_of_300_features_take_less_than_two_seconds() -> None:
    simulation = bc.datasets.simulate((100,) * 10, features=300, seed=0)
    study = study_of(simulation.table)
    started = time.process_time()
    bc.diagnose(study)
    assert time.process_time() - started < 2


# ---------------------------------------------------------------- covariates and batches


@pytest.mark.parametrize("covariates", ["age + sex", "bs(age, df=4) + sex", "scale(age) + sex"])
def test_ages_that_meet_nobody_are_named(table: pd.DataFrame, covariates: str) -> None:
    there = table["site"] == "site_03"
    table.loc[there, "age"] = np.linspace(150, 160, there.sum())
    words = the(diagnosis_of(table, covariates=covariates), "overlap")
    assert "ranges of 'age'" in words and "'site_03 (150 to 160)'" in words


def test_a_single_class_is_named(table: pd.DataFrame) -> None:
    table.loc[table["site"] == "site_02", "sex"] = "F"
    assert "'site_02 (all F)'" in the(diagnosis_of(table), "overlap")


def test_without_the_table_design_columns_tell(table: pd.DataFrame) -> None:
    table.loc[table["site"] == "site_02", "sex"] = "F"
    found = bc.diagnose(replace(study_of(table), sources=None))
    assert "'site_02 (all 0)'" in the(found, "overlap")


def test_gaps_are_those_that_the_study_warned_of(table: pd.DataFrame) -> None:
    table.loc[table["site"] == "site_02", "sex"] = "F"
    with pytest.warns(bc.OverlapWarning) as caught:
        study = bc.Study.from_dataframe(table, batch="site", covariates="age + sex", features="^feature")
    words = the(bc.diagnose(study), "overlap")
    assert words.split(". ")[0] == str(caught[0].message).split(". ")[0]


def inflation_by_hand(columns: np.ndarray, k: int, others: np.ndarray) -> float:
    design = np.column_stack([np.ones(len(columns)), others])
    fitted = design @ np.linalg.lstsq(design, columns[:, k], rcond=None)[0]
    residual, total = columns[:, k] - fitted, columns[:, k] - columns[:, k].mean()
    return float(total @ total / (residual @ residual))


@pytest.mark.parametrize("batch", ["site", ["site", "software"]])
def test_inflation_is_that_of_regressions(table: pd.DataFrame, batch: Any) -> None:
    table["software"] = np.where(table["age"] + np.arange(len(table)) % 7 > 45, "new", "old")
    study = study_of(table, batch=batch)
    found = bc.diagnose(study).dataset
    dummies = pd.get_dummies(table[batch] if batch != "site" else table[["site"]]).to_numpy(dtype=float)
    for k, name in enumerate(study.covariates):
        by_batches = inflation_by_hand(study.x, k, dummies)
        by_all = inflation_by_hand(study.x, k, np.column_stack([dummies, np.delete(study.x, k, axis=1)]))
        figures = found.sel(covariate=name)
        assert float(figures["inflation_by_batches"]) == pytest.approx(by_batches, rel=1e-9)
        assert float(figures["inflation_by_all"]) == pytest.approx(by_all, rel=1e-9)


def test_a_covariate_that_goes_along_with_batch_is_named_with_its_inflation(table: pd.DataFrame) -> None:
    noise = np.random.default_rng(0).normal(size=len(table))
    table["age"] = 10 * table["site"].rank(method="dense") + 5 * noise
    found = diagnosis_of(table)
    inflation = float(found.dataset["inflation_by_batches"].sel(covariate="age"))
    words = the(found, "aliasing")
    assert inflation > 5 and f"inflated {inflation:.3g} times" in words
    assert f"is left {100 / inflation:.0f} % of 'age'" in words


def test_a_covariate_that_varies_in_one_batch_alone_is_named(table: pd.DataFrame) -> None:
    table["dx"] = np.where(table["site"] == "site_01", np.arange(len(table)) % 2, 0)
    found = diagnosis_of(table, covariates="age + dx")
    assert "100 % of that is in 'site_01'" in the(found, "aliasing")
    assert float(found.dataset["information_share"].sel(batch="site_01", covariate="dx")) == pytest.approx(1)


def test_what_fit_refuses_is_said_in_its_words_and_the_rest_is_looked_at(table: pd.DataFrame) -> None:
    table["scanner"] = table["site"].map({name: k % 2 for k, name in enumerate(sorted(set(table["site"])))})
    table.loc[100] = table.loc[3]
    study = study_of(table, covariates="scanner")
    with pytest.raises(bc.ConfoundedDesignError) as raised:
        bc.fit(study, method="eb")
    found = bc.diagnose(study)
    assert [(item.kind, item.found) for item in found.findings if item.severity == "error"] == [
        ("refused", str(raised.value))
    ]
    assert np.isinf(found.dataset["inflation_by_batches"].item())
    assert "3 = 100" in the(found, "duplicate scans")


def test_only_constant_features_are_an_error(table: pd.DataFrame) -> None:
    table = table.assign(**{f"feature_{v}": 1.0 for v in range(FEATURES)})
    assert "found none among" in the(diagnosis_of(table), "refused")


# ---------------------------------------------------------------- sizes


def test_errors_of_shift_and_scale_are_those_of_the_scans(table: pd.DataFrame) -> None:
    found = diagnosis_of(table).dataset
    n = found["scans"]
    np.testing.assert_array_equal(n, [60, 40, 30, 30, 20, 12])
    np.testing.assert_allclose(found["shift_error"], 1 / np.sqrt(n))
    np.testing.assert_allclose(found["scale_error"], 1 / np.sqrt(2 * (n - 1)))


def test_a_batch_of_one_scan_tells_nothing_of_its_scale() -> None:
    found = diagnosis_of(bc.datasets.simulate((30, 20, 20, 20, 1), features=FEATURES).table)
    words = the(found, "smallest batch")
    assert "'site_05' with 1 scan: of one feature these tell its shift to ±1 sigma, nothing of its scale" in words
    assert np.isinf(found.dataset["scale_error"].sel(batch="site_05"))
    assert float(found.dataset["scale_kept"].sel(batch="site_05")) == 0


def test_spreads_are_those_of_the_truth() -> None:
    simulation = bc.datasets.simulate((40,) * 10, features=300, seed=4)
    truth = simulation.truth
    found = diagnosis_of(simulation.table).dataset
    shifts = (truth["gamma"] / truth["sigma"]).std("feature").median()
    scales = np.log(truth["delta"]).std("feature").median()
    assert float(found["shift_spread"]) == pytest.approx(float(shifts), rel=0.1)
    assert float(found["scale_spread"]) == pytest.approx(float(scales), rel=0.15)


def test_shares_of_data_follow_from_spread_and_error(table: pd.DataFrame) -> None:
    found = diagnosis_of(table).dataset
    for name in ("shift", "scale"):
        spread2, error2 = found[f"{name}_spread"] ** 2, found[f"{name}_error"] ** 2
        np.testing.assert_allclose(found[f"{name}_kept"], spread2 / (spread2 + error2))


@pytest.mark.parametrize(("features", "said"), [(1, True), (9, True), (10, False)])
def test_few_features_are_said(features: int, said: bool) -> None:
    found = diagnosis_of(bc.datasets.simulate((30,) * 5, features=features).table)
    assert ("few features" in grave(found)) == said


def test_one_feature_has_no_spread() -> None:
    found = diagnosis_of(bc.datasets.simulate((30,) * 5, features=1).table)
    assert not {"shift_spread", "shift_kept"} & set(found.dataset)


@pytest.mark.parametrize(("batches", "said"), [(2, True), (4, True), (5, False)])
def test_few_batches_are_said(batches: int, said: bool) -> None:
    found = diagnosis_of(bc.datasets.simulate((30,) * batches, features=FEATURES).table)
    assert ("few batches" in grave(found)) == said


# ---------------------------------------------------------------- scans


def test_a_scan_far_out_in_all_features_is_named(table: pd.DataFrame) -> None:
    names = [f"feature_{v}" for v in range(FEATURES)]
    table.loc[70, names] += 3 * table[names].std() * np.where(np.arange(FEATURES) % 2, 1, -1)
    found = diagnosis_of(table)
    assert "1 scan far from the others" in the(found, "outlying scans")
    assert "70 of site_02" in the(found, "outlying scans")
    assert int((found.dataset["distance_ratio"] > 1).sum()) == 1


def test_a_batch_of_wide_scale_has_no_outlying_scans(table: pd.DataFrame) -> None:
    names, there = [f"feature_{v}" for v in range(FEATURES)], table["site"] == "site_05"
    mean = table.loc[there, names].mean()
    table.loc[there, names] = mean + 4 * (table.loc[there, names] - mean)
    assert "outlying scans" not in grave(diagnosis_of(table))


def test_a_single_value_far_out_is_named_with_its_feature(table: pd.DataFrame) -> None:
    table.loc[33, "feature_7"] = 30.0
    found = diagnosis_of(table)
    assert "33 (" in the(found, "far values") and "in feature_7" in the(found, "far values")
    assert found.dataset["farthest_feature"].sel(obs=33) == "feature_7"


def test_batches_of_few_scans_are_not_judged(table: pd.DataFrame) -> None:
    found = diagnosis_of(table.drop(index=table.index[table["site"] == "site_06"][4:]))
    assert "not judged, of fewer than 5 scans: 'site_06'" in the(found, "unjudged scans")
    assert int(found.dataset["distance"].isnull().sum()) == 4


@pytest.mark.parametrize("design", [{}, {"factors": 3}])
def test_false_alarms_of_outlying_scans_are_as_rare_as_said(design: dict[str, Any]) -> None:
    named = 0
    for seed in range(60):
        simulation = bc.datasets.simulate((40, 30, 20, 12, 8), features=30, seed=seed, **design)
        named += "outlying scans" in grave(diagnosis_of(simulation.table))
    # One in a hundred is aimed at, none to four were simulated: five of sixty would be a defect.
    assert named < 5


def test_a_scan_listed_twice_is_named(table: pd.DataFrame) -> None:
    table.loc[500] = table.loc[20]
    found = diagnosis_of(table)
    assert the(found, "duplicate scans").startswith("1 scan repeating another one, to the last digit: 20 = 500.")
    assert found.dataset["duplicate_of"].sel(obs=500) == "20"
    assert found.dataset["duplicate_of"].sel(obs=20) == ""


def test_duplicates_of_other_age_and_batch_are_called_out(table: pd.DataFrame) -> None:
    table.loc[500] = table.loc[20]
    table.loc[500, ["age", "site"]] = [77.0, "site_04"]
    words = the(diagnosis_of(table), "duplicate scans")
    assert f"batch site_01 and site_04, age {table.loc[20, 'age']:.4g} and 77" in words


def test_scans_that_rounding_tells_apart_are_named(table: pd.DataFrame) -> None:
    table.loc[500] = table.loc[20]
    table.loc[500, [f"feature_{v}" for v in range(FEATURES)]] += 1e-4
    found = diagnosis_of(table)
    assert "0 to the last digit, the others but for rounding: 20 = 500" in the(found, "duplicate scans")


def test_scans_that_are_alike_are_no_duplicates(table: pd.DataFrame) -> None:
    table.loc[500] = table.loc[20]
    table.loc[500, "feature_3"] += 0.1
    assert "duplicate scans" not in grave(diagnosis_of(table))


def test_duplicates_with_missing_cells_are_named(table: pd.DataFrame) -> None:
    table.loc[20, "feature_3"] = np.nan
    table.loc[500] = table.loc[20]
    assert "20 = 500" in the(diagnosis_of(table), "duplicate scans")


def test_coarse_features_agree_by_chance(table: pd.DataFrame) -> None:
    names = [f"feature_{v}" for v in range(FEATURES)]
    coarse = table.assign(**{name: (table[name] > table[name].median()).astype(float) for name in names})
    assert "duplicate scans" not in grave(diagnosis_of(coarse, features=names[:5]))


# ---------------------------------------------------------------- features


def test_constant_features_are_named_by_kind(table: pd.DataFrame) -> None:
    table["feature_4"] = 0.1
    table.loc[table["site"] == "site_02", "feature_5"] = 2.0
    found = diagnosis_of(table)
    assert "1 feature constant in all scans: 'feature_4'." in the(found, "constant features")
    assert "1 feature constant inside a batch: 'feature_5', in 'site_02'." in the(found, "constant in a batch")
    inside = found.dataset["constant_in_batch"].sel(feature="feature_5")
    assert list(inside["batch"].values[inside.values]) == ["site_02"]


@pytest.mark.parametrize("copy", [lambda y: y, lambda y: 1000 * y + 3, lambda y: 5 - 0.1 * y])
def test_duplicate_features_are_named(table: pd.DataFrame, copy: Any) -> None:
    table.loc[8, "feature_2"] = np.nan
    table["feature_again"] = copy(table["feature_2"])
    found = diagnosis_of(table)
    assert "feature_again = feature_2" in the(found, "duplicate features")
    assert int((found.dataset["duplicate_feature_of"] != "").sum()) == 1


def test_features_that_go_closely_together_are_no_duplicates(table: pd.DataFrame) -> None:
    noise = np.random.default_rng(0).normal(size=len(table))
    table["feature_again"] = table["feature_2"] + 1e-5 * noise
    assert "duplicate features" not in grave(diagnosis_of(table))


def skewed(table: pd.DataFrame) -> np.ndarray:
    site = table["site"].rank(method="dense").to_numpy()
    return np.exp(site / 5 + np.random.default_rng(1).normal(size=len(table)))


def test_skew_that_a_logarithm_helps_is_named(table: pd.DataFrame) -> None:
    table["feature_3"] = skewed(table)
    words = the(diagnosis_of(table), "skew")
    assert words.startswith("1 feature ") and "feature_3 (+0." in words
    assert 'transform="log"' in words


def test_no_logarithm_is_proposed_where_there_is_none(table: pd.DataFrame) -> None:
    table["feature_3"] = skewed(table) - 1
    words = the(diagnosis_of(table), "skew")
    assert "feature_3" in words and "log" not in words


def test_logarithms_that_were_taken_leave_no_skew(table: pd.DataFrame) -> None:
    table["feature_3"] = skewed(table)
    assert "skew" not in grave(diagnosis_of(table, transform="log"))


def test_logarithms_that_harm_are_named(table: pd.DataFrame) -> None:
    table["feature_3"] = 0.01 + np.random.default_rng(0).uniform(size=len(table))
    words = the(diagnosis_of(table, transform="log"), "skew")
    assert "feature_3 (-0." in words and "without transform" in words


def test_missing_cells_are_counted_and_thin_batches_named(table: pd.DataFrame) -> None:
    there = table.index[table["site"] == "site_03"]
    table.loc[there, "feature_1"] = np.nan
    table.loc[there[1:], "feature_2"] = np.nan
    found = diagnosis_of(table)
    assert f"59 of {table.shape[0] * FEATURES} cells are missing (2 %), most in 'site_03' (10 %)" in the(
        found, "missing cells"
    )
    words = the(found, "missing in a batch")
    assert "Never observed: 'feature_1' in 'site_03'; observed once: 'feature_2' in 'site_03'" in words
    np.testing.assert_array_equal(found.dataset["observed"].sel(batch="site_03")[:4], [30, 0, 1, 30])


def test_features_missing_in_most_scans_are_named(table: pd.DataFrame) -> None:
    table.loc[table.index % 3 > 0, "feature_1"] = np.nan
    assert "1 feature missing in more than half of the scans: 'feature_1'" in the(diagnosis_of(table), "mostly missing")


# ---------------------------------------------------------------- other studies


def test_subjects_are_counted() -> None:
    table = bc.datasets.simulate((30, 24, 24, 20, 20), features=FEATURES, repeats=2, seed=1).table
    by_subject = table.groupby("subject")
    repeated, travelling = int((by_subject.size() > 1).sum()), int((by_subject["site"].nunique() > 1).sum())
    words = the(diagnosis_of(table, subject="subject"), "subjects")
    assert f"{len(by_subject)} subjects in 118 scans, {repeated} of them with several, {travelling} in several" in words


def test_levels_of_several_batch_variables_are_looked_at(table: pd.DataFrame) -> None:
    table["software"] = np.where(np.arange(len(table)) % 3 > 0, "new", "old")
    table.loc[table["software"] == "old", "sex"] = "F"
    found = diagnosis_of(table, batch=["site", "software"])
    assert "in every batch of 'software', found 1 with one: 'old (all F)'" in the(found, "overlap")
    assert "There are 2 batches of 'software'" in the(found, "few batches")
    assert list(found.dataset["batch"].values[-2:]) == ["software=new", "software=old"]


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000))
def test_the_order_of_rows_changes_nothing(seed: int) -> None:
    table = bc.datasets.simulate((30, 20, 20, 15, 10), features=12, seed=seed).table
    shuffled = table.sample(frac=1, random_state=seed)
    one, other = diagnosis_of(table).dataset, diagnosis_of(shuffled).dataset
    xr.testing.assert_allclose(one, other.sel(obs=one["obs"]), rtol=1e-6, atol=1e-9)


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 1000), power=st.integers(-9, 9), origin=st.sampled_from([0.0, 1.0, -300.0]))
def test_units_of_features_change_nothing(seed: int, power: int, origin: float) -> None:
    table = bc.datasets.simulate((30, 20, 20, 15, 10), features=12, seed=seed).table
    other = table.assign(feature_3=10.0**power * (table["feature_3"] + origin))
    figures = ["distance", "distance_ratio", "farthest", "skewness", "shift_spread", "scale_kept"]
    one, two = diagnosis_of(table).dataset[figures], diagnosis_of(other).dataset[figures]
    xr.testing.assert_allclose(one, two, rtol=1e-6, atol=1e-9)


# ---------------------------------------------------------------- real tables


def test_fcon1000(reference_data: Path) -> None:
    table = pd.read_csv(reference_data / "fcon1000" / "fcon1000.csv.gz", index_col="sub_id")
    features = [name for name in table if name not in ("site", "age", "sex")]
    found = diagnosis_of(table, features=features)
    assert "found 3 with one: 'Bangor (all 1)', 'Leiden_2180 (all 1)', 'Pittsburgh (all 1)'" in the(found, "overlap")
    assert "'Pittsburgh' with 3 scans" in the(found, "smallest batch")
    assert "ICBM_sub10582 = ICBM_sub41546" in the(found, "duplicate scans")
    words = the(found, "duplicate features")
    assert "EstimatedTotalIntraCranialVol = eTIV" in words or "eTIV = EstimatedTotalIntraCranialVol" in words
    assert "4 features constant in all scans" in the(found, "constant features")
    assert "'5th-Ventricle'" in the(found, "constant in a batch")
    assert 1 - 1 / float(found.dataset["inflation_by_batches"].sel(covariate="age")) == pytest.approx(0.62, abs=0.005)


def test_openneuro6(reference_data: Path) -> None:
    table = pd.read_csv(reference_data / "openneuro6" / "openneuro6.csv.gz")
    others = ("sub_id", "site", "age", "sex", "split", "dup_features")
    found = diagnosis_of(table, features=[name for name in table if name not in others])
    words = the(found, "duplicate scans")
    assert words.startswith("28 scans repeating another one, to the last digit: ")
    assert "28 of 28 groups have equal measurements and different labels" in words
    doubled = found.dataset["duplicate_of"].values
    flagged = set(table.index[table["dup_features"] == 1].astype(str))
    assert {*doubled[doubled != ""], *table.index[doubled != ""].astype(str)} == flagged
    assert "34 features constant in all scans" in the(found, "constant features")
    assert "'ds003416 (5.4 to 7.9)'" in the(found, "overlap")


def test_mriqc_abide(reference_data: Path) -> None:
    table = pd.read_csv(reference_data / "mriqc_abide" / "mriqc_abide.csv.gz", index_col="subject_id")
    found = diagnosis_of(table, features=list(table.columns[table.columns.get_loc("cjv") :]))
    assert "found 4 with one: 'OHSU (all M)', 'SBL (all M)', 'TRINITY (all M)', 'USM (all M)'" in the(found, "overlap")
    assert "50279 = 50286" in the(found, "duplicate scans")
    assert "'size_x'" in the(found, "constant in a batch")
    assert 'transform="log"' in the(found, "skew")


@pytest.mark.parametrize("name", ["participant_id", "batch"])
def test_rows_may_have_a_name_of_their_own(name: str) -> None:
    simulation = bc.datasets.simulate((12, 10), features=3)
    table = simulation.table.set_axis(pd.Index([f"s{k}" for k in range(22)], name=name))
    found = diagnosis_of(table).dataset
    assert found["distance"].sel(obs="s3").size == 1


# ---------------------------------------------------------------- how the table was prepared


@pytest.mark.parametrize(("column", "code"), [("age", -9999.0), ("age", 999.0), ("sex", 9.0)])
def test_codes_for_what_is_not_known_are_named(table: pd.DataFrame, column: str, code: float) -> None:
    table["sex"] = table["sex"].map({"F": 1, "M": 2})
    table[column] = table[column].astype(float)
    table.loc[table.index[[3, 40, 100]], column] = code
    words = the(diagnosis_of(table), "codes")
    assert f"'{column}' is {code:g} in 3 scans, where all others are" in words
    assert f"C({column})" in words


def test_two_levels_in_numbers_are_no_codes(table: pd.DataFrame) -> None:
    table["sex"] = table["sex"].map({"F": 1, "M": 2})
    assert "codes" not in grave(diagnosis_of(table))


def test_features_that_were_standardised_in_every_batch_are_named(table: pd.DataFrame) -> None:
    features = list(table.filter(regex="^feature"))
    of_site = table.groupby("site")[features]
    table[features] = ((table[features] - of_site.transform("mean")) / of_site.transform("std")).round(4)
    assert f"{FEATURES} features with the same mean in every batch" in the(diagnosis_of(table), "standardised")


def test_features_that_were_standardised_over_all_scans_are_not_named(table: pd.DataFrame) -> None:
    features = list(table.filter(regex="^feature"))
    table[features] = (table[features] - table[features].mean()) / table[features].std()
    assert "standardised" not in grave(diagnosis_of(table))
