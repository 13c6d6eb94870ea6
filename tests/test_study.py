"""The door for data: what a study holds, and what tables and arrays are refused in words."""

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from bayescombat.errors import (
    DataError,
    ExtrapolationWarning,
    FeatureWarning,
    OverlapWarning,
    UnseenBatchError,
    UnseenLevelError,
)
from bayescombat.study import Study

ROOT = Path(__file__).parents[1]
FEATURES = ["left", "right"]
FOUR = np.arange(8.0).reshape(4, 2)
SITES = ["a", "a", "b", "b"]
MISSING = [None, np.nan, pd.NA, pd.NaT]


def scans(n: int = 12, seed: int = 0) -> pd.DataFrame:
    """Sites a, b, c in turn; the ages and sexes of every site meet those of the others."""
    rng = np.random.default_rng(seed)
    half = np.arange(n) // 3 % 2
    return pd.DataFrame(
        {
            "site": np.array(["b", "c", "a"])[np.arange(n) % 3],
            "age": 40 + 20.0 * half + rng.normal(size=n),
            "sex": np.array(["F", "M"])[half],
            "left": rng.normal(2.5, 0.2, n),
            "right": rng.normal(2.5, 0.2, n),
            "note": "fine",
        },
        index=[f"scan-{j}" for j in range(n)],
    )


def study_of(table: pd.DataFrame, **changes: Any) -> Study:
    options = {"batch": "site", "covariates": "age + sex", "features": FEATURES}
    return Study.from_dataframe(table, **options | changes)


def with_cell(row: str, column: str, value: object) -> pd.DataFrame:
    table = scans().astype({column: object})
    table.loc[row, column] = value
    return table


# ---------------------------------------------------------------- what a study holds


def test_fields() -> None:
    table = scans()
    study = study_of(table, reference="c")
    assert study.batches == ("a", "b", "c") and study.codes.dtype == np.intp
    np.testing.assert_array_equal(np.array(study.batches)[study.codes], table["site"])
    np.testing.assert_array_equal(study.y, table[FEATURES])
    np.testing.assert_array_equal(study.x, np.column_stack([table["age"], table["sex"] == "M"]))
    assert (study.features, study.covariates) == (("left", "right"), ("age", "sex[T.M]"))
    assert (study.spec.batch, study.spec.formula, study.reference) == ("site", "age + sex", "c")
    assert list(study.obs) == list(table.index)


def test_arrays_are_float64_contiguous_and_read_only() -> None:
    study = study_of(scans())
    for array in (study.y, study.x):
        assert array.dtype == np.float64 and array.flags.c_contiguous
    for array in (study.y, study.x, study.codes):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_repr_says_what_there_is() -> None:
    table = scans(14)
    lines = repr(study_of(table, reference="c")).split("\n")
    assert lines == [
        "Study: 14 scans × 2 features",
        "  3 batches of 4 ('a') to 5 ('c') scans",
        "  covariates: 'age', 'sex[T.M]'",
        "  reference: 'c'",
    ]
    assert "covariates: none" in repr(study_of(table, covariates=None))


def test_import_needs_no_sampler() -> None:
    code = "import sys, bayescombat.study; sys.exit(bool({'pymc', 'pytensor', 'arviz'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)))
def test_rows_permute_everything_and_change_nothing(order: list[int]) -> None:
    table = scans()
    study, permuted = study_of(table), study_of(table.iloc[order])
    assert permuted.batches == study.batches and permuted.spec == study.spec
    for name in ("y", "x", "codes"):
        np.testing.assert_array_equal(getattr(permuted, name), getattr(study, name)[order])
    assert list(permuted.obs) == list(study.obs[order])


@settings(max_examples=25, deadline=None)
@given(st.permutations(["a", "b", "c"]), st.booleans())
def test_row_13_relabelling_permutes_the_batches_only(names: list[str], categorical: bool) -> None:
    table = scans()
    renamed = dict(zip("abc", names, strict=True))
    other = table.assign(site=table["site"].map(renamed))
    if categorical:
        other["site"] = pd.Categorical(other["site"], categories=["c", "unused", "a", "b"])
    study, relabelled = study_of(table), study_of(other)
    assert relabelled.batches == ("a", "b", "c")
    expected = [renamed[study.batches[code]] for code in study.codes]
    assert [relabelled.batches[code] for code in relabelled.codes] == expected
    np.testing.assert_array_equal(relabelled.y, study.y)
    np.testing.assert_array_equal(relabelled.x, study.x)


def test_row_12_table_is_never_mutated() -> None:
    table = scans().astype({"left": object, "sex": "category"})
    before = table.copy(deep=True)
    study = study_of(table, covariates="bs(age, df=4) + sex")
    Study.replay(table, study.spec, study.batches)
    pd.testing.assert_frame_equal(table, before)


def test_row_12_arrays_are_never_mutated_nor_shared() -> None:
    y, age = np.arange(8.0).reshape(4, 2), np.array([1.0, 2, 1, 2])
    study = Study.from_arrays(y, batch=["a", "a", "b", "b"], covariates={"age": age})
    y[0, 0] = age[0] = 99
    assert study.y[0, 0] == 0 and study.x[0, 0] == 1


def test_study_made_by_hand_leaves_the_array_of_its_maker_writable() -> None:
    made = study_of(scans())
    y = made.y.copy()
    Study(y, made.x, made.codes, made.batches, made.obs, made.spec)
    y[0, 0] = 1.0


# ---------------------------------------------------------------- batches


@pytest.mark.parametrize(
    ("labels", "batches"),
    [
        ([10, 9, 10, 9], ("9", "10")),
        ([10.0, 9.5, 10.0, 9.5], ("9.5", "10")),
        (["10", "9", "10", "9"], ("9", "10")),
        (["10", "9", "x", "9"], ("10", "9", "x")),
        ([True, False, True, False], ("False", "True")),
        (pd.array([2, 1, 2, 1], dtype="Int64"), ("1", "2")),
        (np.array([2, 1, 2, 1], dtype=np.float32), ("1", "2")),
        (pd.Categorical(["b", "a", "b", "a"], categories=["b", "x", "a"]), ("a", "b")),
        (np.array([1, 1.0, "b", "b"], dtype=object), ("1", "b")),
    ],
    ids=str,
)
def test_row_13_batch_labels_become_sorted_text(labels: Any, batches: tuple[str, ...]) -> None:
    study = Study.from_arrays(np.eye(4), batch=labels)
    assert study.batches == batches
    assert study.codes.min() == 0 and study.codes.max() == len(batches) - 1


def test_row_13_labels_that_read_the_same_are_refused() -> None:
    with pytest.raises(DataError, match=r"found 1 \(int\) and '1' \(str\), which read the same"):
        Study.from_arrays(np.eye(3), batch=[1, "1", 2])


@pytest.mark.parametrize("missing", MISSING)
def test_row_10_missing_batch_label(missing: object) -> None:
    with pytest.raises(DataError, match="batch 'site', found 1 missing, in the rows 'scan-4'"):
        study_of(with_cell("scan-4", "site", missing))


@pytest.mark.parametrize("dtype", ["category", "string", "Int64"])
def test_row_10_missing_batch_label_of_nullable_type(dtype: str) -> None:
    batch = pd.Series([1, 1, None, 2, 2], dtype="Int64").astype(dtype)
    with pytest.raises(DataError, match="found 1 missing, in the rows '2'"):
        Study.from_arrays(np.eye(5), batch=batch)


def test_row_07_one_batch_is_refused() -> None:
    with pytest.raises(DataError, match="at least two batches in 'site', found one: 'b'"):
        study_of(scans().query("site == 'b'"))


def test_row_07_one_feature_is_fine() -> None:
    assert study_of(scans(), features=["left"]).y.shape == (12, 1)


def test_row_01_batch_of_one_scan_is_fine() -> None:
    study = study_of(scans().iloc[[0, 3, 6, 7]])
    np.testing.assert_array_equal(np.bincount(study.codes), [3, 1])


def test_batch_column_that_is_not_there() -> None:
    with pytest.raises(DataError, match="'sites' among the columns.*Did you mean 'site'"):
        study_of(scans(), batch="sites")


def test_row_06_batch_as_covariate_is_refused() -> None:
    with pytest.raises(DataError, match="one role.*'site'"):
        study_of(scans(), covariates="age + site")


# ---------------------------------------------------------------- scans


def test_row_11_filtered_index_is_kept() -> None:
    table = scans().reset_index(drop=True).iloc[[7, 0, 3, 1, 11]]
    study = study_of(table, covariates=None)
    assert list(study.obs) == [7, 0, 3, 1, 11] and study.obs.dtype == np.int64
    np.testing.assert_array_equal(study.y, table[FEATURES])


def test_row_11_duplicate_index_is_refused() -> None:
    table = scans().rename(index={"scan-3": "scan-0", "scan-5": "scan-1"})
    with pytest.raises(DataError, match="every row label once, found 2 more than once: 'scan-0', 'scan-1'"):
        study_of(table)


def test_row_11_index_labels_that_read_the_same_are_refused() -> None:
    table = scans(3).set_axis(pd.Index([1, "1", 2], dtype=object))
    with pytest.raises(DataError, match="row label once, found 1"):
        study_of(table, covariates=None)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (pd.Index([1.5, 2.5, 3.5], name="scan"), ["1.5", "2.5", "3.5"]),
        (pd.Index(["x", "y", "z"], dtype="string", name="scan"), ["x", "y", "z"]),
        (pd.Index([1, "y", "z"], dtype=object, name="scan"), ["1", "y", "z"]),
        (pd.Index(pd.array([3, 1, 2], dtype="Int64"), name="scan"), [3, 1, 2]),
        (pd.MultiIndex.from_tuples([("s1", 1), ("s1", 2), ("s2", 1)]), ["s1/1", "s1/2", "s2/1"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_obs_are_integers_or_text(index: pd.Index, expected: list[object]) -> None:
    study = study_of(scans(3).set_axis(index), covariates=None)
    assert list(study.obs) == expected
    assert study.obs.name == index.name
    labelled = xr.DataArray(study.y, dims=("obs", "feature"), coords={"obs": ("obs", study.obs)})
    assert labelled["obs"].dtype in (np.dtype(object), np.dtype(np.int64))


def test_obs_of_several_named_levels_keep_the_names() -> None:
    index = pd.MultiIndex.from_tuples([("s1", 1), ("s1", 2), ("s2", 1)], names=["subject", "session"])
    assert study_of(scans(3).set_axis(index), covariates=None).obs.name == "subject/session"


@pytest.mark.parametrize("thing", ["scans.csv", Path("scans.csv"), np.eye(3), {"site": ["a"]}, None])
def test_what_is_no_table_is_refused(thing: Any) -> None:
    with pytest.raises(DataError, match=f"Expected a pandas DataFrame.*found {type(thing).__name__}"):
        Study.from_dataframe(thing, batch="site")


def test_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match="at least one row"):
        study_of(scans().iloc[:0])


def test_row_11_duplicate_column_names_are_refused() -> None:
    table = scans().rename(columns={"note": "left"})
    with pytest.raises(DataError, match="every column name once, found 1 more than once: 'left'"):
        study_of(table)


def test_columns_of_several_levels_are_refused() -> None:
    table = scans()
    table.columns = pd.MultiIndex.from_product([["x"], table.columns])
    with pytest.raises(DataError, match="plain column names, found 2 levels"):
        study_of(table)


def test_columns_may_be_numbers() -> None:
    table = scans().rename(columns={"site": 0, "age": 1, "left": 2, "right": 3})
    study = Study.from_dataframe(table, batch=0, covariates=[1], features=[3, 2])
    assert (study.spec.batch, study.covariates, study.features) == ("0", ("1",), ("3", "2"))
    np.testing.assert_array_equal(study.y, table[[3, 2]])


# ---------------------------------------------------------------- features


def test_features_by_pattern_leave_out_columns_with_other_roles() -> None:
    table = scans().rename(columns={"left": "left_thickness", "right": "right_thickness"})
    assert study_of(table, features="thick").features == ("left_thickness", "right_thickness")
    assert study_of(table.drop(columns="note"), features=".").features == (
        "left_thickness",
        "right_thickness",
    )


def test_features_by_names_keep_their_order() -> None:
    table = scans()
    np.testing.assert_array_equal(study_of(table, features=("right", "left")).y, table[["right", "left"]])


def test_all_numbers_without_other_roles_are_features_by_default() -> None:
    table = scans().assign(flag=True, big=lambda t: t["left"] * 1e6)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert study_of(table, features=None).features == ("left", "right", "big")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(12, dtype=np.int16),
        pd.array(np.arange(12), dtype="Int64"),
        pd.array(np.arange(12) / 2, dtype="Float64"),
        np.arange(12, dtype=np.float32),
        np.arange(12) % 2 == 0,
        pd.array(np.arange(12) % 2 == 0, dtype="boolean"),
        np.array(list(range(12)), dtype=object),
        pd.array(np.arange(12), dtype="int64[pyarrow]"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_row_11_features_of_every_numeric_type(values: Any) -> None:
    study = study_of(scans().assign(left=values), covariates=None)
    np.testing.assert_array_equal(study.y[:, 0], np.asarray(values).astype(float))


@pytest.mark.parametrize("kind", ["str", "object", "category", "datetime64[ns]", "mixed"])
def test_row_11_features_that_are_no_numbers_are_named(kind: str) -> None:
    values = {"datetime64[ns]": ["2001-01-01"] * 12, "mixed": [1.5, "x"] * 6}.get(kind, ["1.5"] * 12)
    column = pd.Series(values, index=scans().index).astype("object" if kind == "mixed" else kind)
    with pytest.raises(DataError, match="real numbers, found 1 of another kind.*'right'.*to_numeric"):
        study_of(scans().assign(right=column))


def test_row_11_complex_features_are_refused() -> None:
    with pytest.raises(DataError, match=r"real numbers, found 1 of another kind \('complex128'\): 'left'"):
        study_of(scans().assign(left=1j))


def test_row_11_infinite_features_are_named() -> None:
    table = scans()
    table.loc[["scan-2", "scan-5"], "right"] = [np.inf, -np.inf]
    with pytest.raises(DataError, match="2 infinite cells in the features 'right' and the rows 'scan-2', 'scan-5'"):
        study_of(table)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_row_02_missing_cells_are_counted_and_named(missing: object) -> None:
    table = with_cell("scan-2", "right", missing)
    with pytest.raises(DataError, match="1 missing cell in the features 'right' and the rows 'scan-2'.*impute"):
        study_of(table)


def test_row_02_many_missing_cells_name_five() -> None:
    table = scans()
    table.loc[table.index[:7], FEATURES] = np.nan
    with pytest.raises(DataError, match="14 missing cells.*'scan-4' and 2 more"):
        study_of(table)


def test_row_04_constant_features_come_through() -> None:
    assert (study_of(scans().assign(left=0.0)).y[:, 0] == 0).all()


@pytest.mark.parametrize("features", [["lefft"], ["left", "nothing"]])
def test_features_that_are_not_there(features: list[str]) -> None:
    with pytest.raises(DataError, match=f"Expected the feature '{features[-1]}' among the columns"):
        study_of(scans(), features=features)


def test_feature_that_is_not_there_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="Did you mean 'left'"):
        study_of(scans(), features=["lefft"])


def test_pattern_that_matches_nothing_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="match 'rihgt', found none.*Did you mean 'right'"):
        study_of(scans(), features="rihgt")


def test_pattern_that_is_none() -> None:
    with pytest.raises(DataError, match=r"regular expression for the features, found '\('"):
        study_of(scans(), features="(")


def test_no_features_are_refused() -> None:
    with pytest.raises(DataError, match="empty list"):
        study_of(scans(), features=[])


def test_no_numbers_are_refused() -> None:
    with pytest.raises(DataError, match="at least one column of numbers"):
        study_of(scans().drop(columns=FEATURES), features=None)


@pytest.mark.parametrize("column", ["site", "age", "sex"])
def test_features_with_another_role_are_refused(column: str) -> None:
    with pytest.raises(DataError, match=f"no other role, found '{column}'"):
        study_of(scans(), features=["left", column])


def test_features_named_twice_are_refused() -> None:
    with pytest.raises(DataError, match="one role.*'left'"):
        study_of(scans(), features=["left", "left"])


# ---------------------------------------------------------------- columns swept up


@pytest.mark.parametrize(
    ("values", "meaning"),
    [
        (np.arange(50_001, 50_301), "1 could be identifiers .*: 'extra'"),
        (np.r_[np.arange(290), [7] * 10].astype(float), "1 could be identifiers .*: 'extra'"),
        (2000 + np.arange(300) % 15, "1 could be years or codes .*: 'extra'"),
        (np.arange(300) % 2, "1 could be years or codes .*: 'extra'"),
    ],
)
def test_row_21_identifiers_and_codes_are_named(values: np.ndarray, meaning: str) -> None:
    with pytest.warns(FeatureWarning, match=meaning) as caught:
        study = study_of(scans(300).assign(extra=values), features=None)
    assert study.features == ("left", "right", "extra")
    assert len(caught) == 1 and caught[0].filename == __file__


@pytest.mark.parametrize(
    "values",
    [np.zeros(300), np.arange(300) / 7, np.arange(300) // 2, np.arange(300) % 16],
    ids=["constant", "fractions", "pairs", "sixteen values"],
)
def test_row_21_measurements_are_not_named(values: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study_of(scans(300).assign(extra=values), features=None)


@pytest.mark.parametrize("features", ["left|right|extra", ["left", "right", "extra"]])
def test_row_21_columns_asked_for_are_not_named(features: str | list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        study_of(scans().assign(extra=range(12)), features=features)


# ---------------------------------------------------------------- covariates, reference, subject


@pytest.mark.parametrize("missing", MISSING)
@pytest.mark.parametrize("column", ["age", "sex"])
def test_row_10_missing_covariate(column: str, missing: object) -> None:
    with pytest.raises(DataError, match=f"covariate '{column}', found 1 missing, in the rows 'scan-4'"):
        study_of(with_cell("scan-4", column, missing))


def test_covariates_may_be_a_list() -> None:
    assert study_of(scans(), covariates=["age", "sex"]).covariates == ("age", "sex[T.M]")


def test_covariate_that_is_not_there() -> None:
    with pytest.raises(DataError, match="covariate 'agee' among the columns.*Did you mean 'age'"):
        study_of(scans(), covariates="agee + sex")


@pytest.mark.parametrize("reference", [2, 2.0, "2"])
def test_reference_becomes_text(reference: object) -> None:
    table = scans().assign(site=lambda t: t["site"].map({"a": 1, "b": 2, "c": 3}))
    assert study_of(table, reference=reference).reference == "2"


def test_row_14_unknown_reference_names_the_known() -> None:
    with pytest.raises(DataError, match="the batches 'a', 'b', 'c' as reference, found 'B'"):
        study_of(scans(), reference="B")


def test_row_14_reference_of_one_scan_is_refused_with_the_reason() -> None:
    table = scans().query("site != 'a' or index == 'scan-2'")
    with pytest.raises(DataError, match="one scan in 'a'. Its scale cannot be estimated"):
        study_of(table, reference="a")


def test_row_16_one_scan_per_subject_is_refused_with_the_reason() -> None:
    table = scans().assign(subject=range(12))
    with pytest.raises(DataError, match="one scan per subject: a subject's intercept and the noise cannot"):
        study_of(table, subject="subject")


def test_row_16_repeated_scans_are_not_modelled_yet() -> None:
    table = scans().assign(subject=np.arange(12) // 2)
    with pytest.raises(DataError, match="12 scans of 6 subjects in 'subject'. Repeated scans are not modelled yet"):
        study_of(table, subject="subject")


@pytest.mark.parametrize("missing", MISSING)
def test_row_10_missing_subject(missing: object) -> None:
    table = with_cell("scan-4", "note", missing)
    with pytest.raises(DataError, match="subject 'note', found 1 missing, in the rows 'scan-4'"):
        study_of(table, subject="note")


def test_subject_column_that_is_not_there() -> None:
    with pytest.raises(DataError, match="subject column 'who' among"):
        study_of(scans(), subject="who")


# ---------------------------------------------------------------- overlap


def test_row_06_ranges_that_do_not_meet_are_named_with_figures() -> None:
    table = scans()
    table.loc[table["site"] == "c", "age"] = [7.0, 8.0, 9.0, 10.0]
    expected = "ranges of 'age' that overlap between batches, found 1 without: 'c \\(7 to 10\\)'"
    with pytest.warns(OverlapWarning, match=expected) as caught:
        study_of(table)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_row_06_ranges_that_touch_do_meet() -> None:
    study = Study.from_arrays(FOUR, batch=SITES, covariates={"age": [1, 2, 2, 3]})
    assert study.covariates == ("age",)


def test_row_06_a_covariate_that_is_the_same_everywhere_is_no_gap() -> None:
    assert study_of(scans().assign(age=40.0)).covariates == ("age", "sex[T.M]")


def test_row_06_single_scans_are_no_gap() -> None:
    table = scans().query("site != 'a' or index == 'scan-2'").copy()
    table.loc["scan-2", ["age", "sex"]] = [5.0, "F"]
    study_of(table)


@pytest.mark.parametrize("column", ["sex", "code", "flag"])
def test_row_06_batches_of_one_level_are_named(column: str) -> None:
    table = scans()
    table.loc[table["site"] == "a", "sex"] = "F"
    table = table.assign(code=(table["sex"] == "M").astype(int), flag=table["sex"] == "M")
    level = {"sex": "F", "code": "0", "flag": "False"}[column]
    expected = f"levels of '{column}' in every batch, found 1 with one: 'a \\(all {level}\\)'"
    with pytest.warns(OverlapWarning, match=expected):
        study_of(table, covariates=["age", column])


def test_row_06_one_warning_per_column_names_five_batches() -> None:
    table = scans(36).assign(site=lambda t: np.arange(len(t)) // 6)
    table["age"] = 10.0 * table["site"] + np.arange(36) % 3
    table["sex"] = np.where(table["site"] % 2, "F", "M")
    with pytest.warns(OverlapWarning) as caught:
        study_of(table)
    messages = [str(warning.message) for warning in caught]
    assert len(messages) == 2
    assert "'4 (40 to 42)' and 1 more" in messages[0] and "'4 (all M)' and 1 more" in messages[1]


def test_row_06_only_columns_of_the_formula_are_compared() -> None:
    table = scans().assign(age=lambda t: t["site"].map({"a": 1.0, "b": 2.0, "c": 3.0}))
    study_of(table, covariates="sex")


def test_row_06_columns_inside_functions_are_compared() -> None:
    table = scans()
    table.loc[table["site"] == "c", "age"] = [7.0, 8.0, 9.0, 10.0]
    with pytest.warns(OverlapWarning, match="'c \\(7 to 10\\)'"):
        study_of(table, covariates="np.log(age)")


# ---------------------------------------------------------------- arrays


def test_arrays_and_table_give_the_same_study() -> None:
    table = scans()
    expected = study_of(table, covariates=["age"], reference="b")
    study = Study.from_arrays(
        table[FEATURES].to_numpy(),
        batch=table["site"].to_numpy(),
        covariates={"age": table["age"].to_numpy()},
        features=FEATURES,
        obs=table.index,
        reference="b",
    )
    for name in ("y", "x", "codes"):
        np.testing.assert_array_equal(getattr(study, name), getattr(expected, name))
    assert (study.batches, study.features, study.covariates) == (
        expected.batches,
        expected.features,
        expected.covariates,
    )
    assert study.obs.equals(expected.obs) and study.reference == "b"


def test_arrays_of_pandas_give_the_same_spec_as_their_table() -> None:
    table = scans()
    study = Study.from_arrays(table[FEATURES], batch=table["site"], covariates=table[["age"]])
    assert study.spec == study_of(table, covariates=["age"]).spec
    assert list(study.obs) == list(table.index)


def test_arrays_get_default_names() -> None:
    study = Study.from_arrays([[1, 2.5], [2, 3], [3, 1]], batch=("a", "b", "a"), covariates=[[1], [1.5], [2]])
    assert (study.features, study.covariates) == (("feature_0", "feature_1"), ("covariate_0",))
    assert list(study.obs) == [0, 1, 2] and study.spec.batch == "batch"


def test_arrays_may_be_masked_only_where_nothing_is_masked() -> None:
    y = np.ma.masked_array(np.eye(3), mask=np.eye(3) > 0)
    with pytest.raises(DataError, match="3 missing cells"):
        Study.from_arrays(y, batch=["a", "b", "a"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": SITES[:3]}, "y has 4, batch has 3"),
        ({"covariates": np.ones((5, 1))}, r"y has 4, covariates\['covariate_0'\] has 5"),
        ({"covariates": {"age": [1, 2]}}, r"y has 4, covariates\['age'\] has 2"),
        ({"obs": ["x", "y"]}, "y has 4 rows, obs has 2"),
        ({"features": ["one"]}, "found 2 columns and 1 names"),
        ({"features": "feature"}, "found the text 'feature'"),
        ({"y": FOUR[:, 0]}, r"two dimensions\), found 1"),
        ({"y": FOUR[:, :0]}, "at least one column, found 0"),
        ({"y": FOUR.astype(str)}, "features of real numbers"),
        ({"y": FOUR * 1j}, "features of real numbers"),
        (
            {"y": np.where(FOUR == 3, np.nan, FOUR)},
            "1 missing cell in the features 'feature_1' and the rows '1'",
        ),
        ({"y": np.where(FOUR == 3, np.inf, FOUR)}, "1 infinite cell in the features 'feature_1'"),
        ({"batch": "site"}, "found the text 'site'"),
        ({"batch": FOUR}, "found 2 dimensions"),
        ({"batch": ["a", None, "b", "b"]}, "batch 'batch', found 1 missing, in the rows '1'"),
        ({"batch": ["a"] * 4}, "at least two batches"),
        ({"covariates": [1, 2, 1, 2]}, "found list of 1 dimensions"),
        ({"covariates": {"age": FOUR}}, "one dimension in every covariate, found others in 'age'"),
        ({"covariates": {"sex": list("MFMF")}}, "numbers, found others: 'sex'. Use Study.from_dataframe"),
        ({"covariates": {"age": [1, 2, np.nan, 1]}}, "covariate 'age', found 1 missing, in the rows '2'"),
        (
            {"covariates": {"feature_0": [1, 2, 1, 2]}},
            "column name once, found 1 more than once: 'feature_0'",
        ),
        ({"features": ["batch", "x"]}, "column name once, found 1 more than once: 'batch'"),
        ({"features": ["x", "x"]}, "column name once, found 1 more than once: 'x'"),
        ({"obs": ["x", "x", "y", "z"]}, "row label once, found 1 more than once: 'x'"),
        ({"covariates": pd.DataFrame(FOUR, columns=["a", "a"])}, "every covariate once, found 'a'"),
        ({"covariates": {1: [1, 2, 1, 2], "1": [2, 2, 1, 1]}}, "every covariate once, found '1'"),
        ({"reference": "c"}, "as reference, found 'c'"),
    ],
)
def test_row_11_arrays_are_refused_in_words(changes: dict[str, Any], message: str) -> None:
    options = {"y": FOUR, "batch": SITES} | changes
    with pytest.raises(DataError, match=message):
        Study.from_arrays(options.pop("y"), **options)


@pytest.mark.parametrize("which", ["batch", "covariates", "mapping"])
def test_row_11_indexes_that_disagree_are_refused(which: str) -> None:
    y = pd.DataFrame(FOUR, index=list("wxyz"), columns=FEATURES)
    batch = pd.Series(SITES, index=y.index)
    age = pd.DataFrame({"age": [1.0, 2, 1, 2]}, index=y.index)
    turned = list("zyxw")
    options: dict[str, Any] = {
        "batch": {"batch": batch.loc[turned], "covariates": age},
        "covariates": {"batch": batch, "covariates": age.loc[turned]},
        "mapping": {"batch": SITES, "covariates": {"age": age["age"].loc[turned]}},
    }[which]
    with pytest.raises(DataError, match="the same row labels in the same order in y and (batch|covariates)"):
        Study.from_arrays(y, **options)


def test_names_for_a_frame_must_be_its_own() -> None:
    y = pd.DataFrame(FOUR, columns=FEATURES)
    assert Study.from_arrays(y, batch=SITES, features=FEATURES).features == ("left", "right")
    with pytest.raises(DataError, match="the columns of y .* as features, found 'right', 'left'"):
        Study.from_arrays(y, batch=SITES, features=["right", "left"])


def test_row_06_arrays_are_checked_for_overlap() -> None:
    with pytest.warns(OverlapWarning, match="'a \\(1 to 2\\)', 'b \\(3 to 4\\)'"):
        Study.from_arrays(FOUR, batch=SITES, covariates={"age": [1, 2, 3, 4]})


# ---------------------------------------------------------------- rows of known batches


@pytest.mark.parametrize("rows", [[0], [5], [1, 4], [8, 2, 0]])
def test_row_08_any_rows_are_those_of_the_whole(rows: list[int]) -> None:
    table = scans()
    study = study_of(table, covariates="bs(age, df=4) + sex")
    some = Study.replay(table.iloc[rows], study.spec, study.batches)
    np.testing.assert_array_equal(some.y, study.y[rows])
    np.testing.assert_allclose(some.x, study.x[rows], rtol=1e-12)
    np.testing.assert_array_equal(some.codes, study.codes[rows])
    assert (some.batches, some.spec, some.reference) == (study.batches, study.spec, None)
    assert list(some.obs) == list(study.obs[rows])


def test_row_08_codes_follow_the_batches_given() -> None:
    table, study = scans(), study_of(scans())
    batches = ("x", "c", "b", "a")
    for data in (table, study):
        replayed = Study.replay(data, study.spec, batches)
        assert replayed.batches == batches
        np.testing.assert_array_equal(np.array(batches)[replayed.codes], table["site"])


@pytest.mark.parametrize("as_study", [False, True])
def test_row_08_unknown_batch_names_the_known(as_study: bool) -> None:
    table = scans()
    study = study_of(table)
    other = table.assign(site=table["site"].replace({"c": "bb"}))
    with pytest.raises(UnseenBatchError, match="batches 'a', 'b', 'c', found 4 rows of 'bb'.*fit again"):
        Study.replay(study_of(other) if as_study else other, study.spec, study.batches)


def test_row_13_labels_of_new_rows_may_have_another_type() -> None:
    table = scans().assign(site=lambda t: t["site"].map({"a": 1, "b": 2, "c": 10}))
    study = study_of(table)
    for kind in (float, str, "category", "Int64"):
        replayed = Study.replay(table.astype({"site": kind}), study.spec, study.batches)
        np.testing.assert_array_equal(replayed.codes, study.codes)


@pytest.mark.parametrize("column", ["site", "age", "left"])
def test_row_08_rows_lacking_a_column_are_refused(column: str) -> None:
    table = scans()
    study = study_of(table)
    with pytest.raises(DataError, match=f"'{column}' among the columns.*Did you mean '{column}_'"):
        Study.replay(table.rename(columns={column: f"{column}_"}), study.spec, study.batches)


@pytest.mark.parametrize("column", ["site", "age", "left"])
def test_row_10_missing_values_in_new_rows_are_refused(column: str) -> None:
    study = study_of(scans())
    with pytest.raises(DataError, match="'scan-4'"):
        Study.replay(with_cell("scan-4", column, None), study.spec, study.batches)


def test_row_09_new_rows_with_an_unseen_level() -> None:
    study = study_of(scans())
    with pytest.raises(UnseenLevelError, match="found 'X' in the rows 'scan-4'"):
        Study.replay(with_cell("scan-4", "sex", "X"), study.spec, study.batches)


def test_row_09_new_rows_outside_a_spline_warn_at_the_caller() -> None:
    study = study_of(scans(), covariates="bs(age)")
    with pytest.warns(ExtrapolationWarning, match="1 row has 'age' outside") as caught:
        Study.replay(scans().iloc[[0]].assign(age=99.0), study.spec, study.batches)
    assert caught[0].filename == __file__


def test_replay_gives_no_overlap_warning() -> None:
    table, study = scans(), study_of(scans())
    apart = table.assign(age=table["site"].map({"a": 1.0, "b": 2.0, "c": 3.0}), sex="F")
    Study.replay(apart, study.spec, study.batches)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ["left"]}, "the features 'left', 'right', found 'left'"),
        ({"features": ["right", "left"]}, "the features 'left', 'right', found 'right', 'left'"),
        ({"covariates": "age"}, r"the covariates 'age', 'sex\[T.M\]', found 'age'"),
    ],
)
def test_replayed_study_of_another_design_is_refused(changes: dict[str, Any], message: str) -> None:
    study, other = study_of(scans()), study_of(scans(), **changes)
    with pytest.raises(DataError, match=message):
        Study.replay(other, study.spec, study.batches)


@pytest.mark.parametrize("formula", ["center(age)", "bs(age)"])
def test_replayed_study_that_learned_something_else_is_refused(formula: str) -> None:
    study, other = study_of(scans(), covariates=formula), study_of(scans(seed=1), covariates=formula)
    with pytest.raises(DataError, match="same names with other levels, knots, means"):
        Study.replay(other, study.spec, study.batches)


def test_replayed_study_of_other_rows_and_the_same_design() -> None:
    study, other = study_of(scans()), study_of(scans(seed=1))
    np.testing.assert_array_equal(Study.replay(other, study.spec, study.batches).x, other.x)
