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

from bayescombat.design import DesignSpec
from bayescombat.errors import (
    BayesCombatError,
    DataError,
    ExtrapolationWarning,
    FeatureWarning,
    OverlapWarning,
    UnseenLevelError,
)
from bayescombat.study import Study

ROOT = Path(__file__).parents[1]
FEATURES = ["left", "right"]
FOUR = np.arange(8.0).reshape(4, 2)
SITES = ["a", "a", "b", "b"]
MISSING = [None, np.nan, pd.NA, pd.NaT]
ENTRIES = pytest.mark.parametrize("entry", ["dataframe", "arrays", "design"])


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


def enter(entry: str, table: pd.DataFrame, transform: str | None = None) -> Study:
    """Bring a table in by one of the ways."""
    if entry == "dataframe":
        return study_of(table, covariates=None, transform=transform)
    if entry == "arrays":
        return Study.from_arrays(table[FEATURES], batch=table["site"], transform=transform)
    design = DesignSpec.learn(scans(), batch="site", formula="", features=FEATURES, transform=transform)
    return Study.from_design(table, design)


# ---------------------------------------------------------------- what a study holds


def test_fields() -> None:
    table = scans()
    study = study_of(table, reference="c")
    assert study.batches == ("a", "b", "c") and study.codes.dtype == np.intp
    np.testing.assert_array_equal(np.array(study.batches)[study.codes], table["site"])
    np.testing.assert_array_equal(study.y, table[FEATURES])
    np.testing.assert_array_equal(study.x, np.column_stack([table["age"], table["sex"] == "M"]))
    assert (study.features, study.covariates) == (("left", "right"), ("age", "sex[T.M]"))
    assert (study.spec.batch, study.spec.formula, study.reference) == (("site",), "age + sex", "c")
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
    Study.from_design(table, study.spec)
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
    with pytest.raises(DataError, match=f"Expected a DataFrame.*found {type(thing).__name__}"):
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
    assert (study.spec.batch, study.covariates, study.features) == (("0",), ("1",), ("3", "2"))
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


def test_row_11_many_infinite_cells_name_five_rows() -> None:
    table = scans()
    table.loc[table.index[:7], FEATURES] = np.inf
    with pytest.raises(DataError, match="14 infinite cells.*'scan-4' and 2 more"):
        study_of(table)


@pytest.mark.parametrize("missing", MISSING)
def test_row_02_missing_cells_come_through_and_change_nothing_else(missing: object) -> None:
    study = study_of(with_cell("scan-2", "right", missing))
    expected = scans()[FEATURES].to_numpy().copy()
    expected[2, 1] = np.nan
    np.testing.assert_array_equal(study.y, expected)


@pytest.mark.parametrize(
    "values",
    [
        pd.array([1.5, None] * 6, dtype="Float64"),
        pd.array([1, None] * 6, dtype="Int64"),
        pd.array([True, None] * 6, dtype="boolean"),
        pd.array([1, None] * 6, dtype="int64[pyarrow]"),
        np.array([1, None] * 6, dtype=object),
        np.array([True, pd.NA] * 6, dtype=object),
    ],
    ids=lambda values: f"{values.dtype} {type(values[0]).__name__}",
)
def test_row_02_missing_cells_of_every_type(values: Any) -> None:
    study = study_of(scans().assign(left=values), covariates=None)
    np.testing.assert_array_equal(study.y[:, 0], [float(values[0]), np.nan] * 6)


@pytest.mark.parametrize("dtype", [float, object, "Float64", "Int64"])
def test_row_02_feature_that_is_all_missing_comes_through(dtype: Any) -> None:
    study = study_of(scans().assign(left=pd.Series([None] * 12, index=scans().index, dtype=dtype)))
    assert np.isnan(study.y[:, 0]).all() and not np.isnan(study.y[:, 1]).any()


@ENTRIES
def test_row_02_study_without_any_measurement_is_refused(entry: str) -> None:
    table = scans().assign(left=np.nan, right=np.nan)
    with pytest.raises(DataError, match="one measurement, found every cell of the features 'left', 'right' missing"):
        enter(entry, table)


def test_row_04_constant_features_come_through() -> None:
    assert (study_of(scans().assign(left=0.0)).y[:, 0] == 0).all()


def test_row_02_infinity_beside_a_missing_cell_is_still_refused() -> None:
    table = scans()
    table.loc[["scan-2", "scan-5"], "right"] = [np.nan, np.inf]
    with pytest.raises(DataError, match="1 infinite cell in the features 'right' and the rows 'scan-5'"):
        study_of(table)


@pytest.mark.parametrize("features", [["lefft"], ["left", "nothing"]])
def test_features_that_are_not_there(features: list[str]) -> None:
    with pytest.raises(DataError, match=f"Expected the feature '{features[-1]}' among the columns"):
        study_of(scans(), features=features)


def test_feature_that_is_not_there_gets_a_suggestion() -> None:
    with pytest.raises(DataError, match="Did you mean 'left'"):
        study_of(scans(), features=["lefft"])


def test_pattern_of_a_shell_is_told_how_it_is_written() -> None:
    with pytest.raises(DataError, match=r"Any text is '\.\*', the end of a name '\$'"):
        Study.from_dataframe(pd.DataFrame({"site": SITES, "left": [1.0, 2, 3, 5]}), batch="site", features="*left")


def test_measurements_with_scans_as_columns_are_told_to_be_turned() -> None:
    with pytest.raises(DataError, match=r"y has 2, batch has 4\. .* Then give y\.T\."):
        Study.from_arrays(FOUR.T, batch=SITES)


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


@pytest.mark.parametrize(
    ("values", "meaning"),
    [(np.arange(300.0), "could be identifiers"), (2000.0 + np.arange(300) % 8, "could be years or codes")],
)
def test_row_21_missing_cells_hide_no_code(values: np.ndarray, meaning: str) -> None:
    values[:200] = np.nan
    with pytest.warns(FeatureWarning, match=f"{meaning}.*: 'extra'"):
        study_of(scans(300).assign(extra=values), features=None)


@pytest.mark.parametrize("known", [0, 1])
def test_row_21_feature_of_one_value_or_none_is_no_code(known: int) -> None:
    values = np.full(300, np.nan)
    values[:known] = 7.0
    assert "extra" in study_of(scans(300).assign(extra=values), features=None).features


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
    assert list(study.obs) == [0, 1, 2] and study.spec.batch == ("batch",)


@pytest.mark.parametrize("dtype", [float, int])
def test_row_02_masked_cells_of_arrays_are_missing(dtype: type) -> None:
    y = np.ma.masked_array(np.ones((3, 3), dtype), mask=np.eye(3) > 0)
    study = Study.from_arrays(y, batch=["a", "b", "a"])
    np.testing.assert_array_equal(study.y, np.where(np.eye(3) > 0, np.nan, 1.0))


def test_row_02_arrays_of_objects_may_hold_none() -> None:
    study = Study.from_arrays([[1.5, None], [2, 3]], batch=["a", "b"])
    np.testing.assert_array_equal(study.y, [[1.5, np.nan], [2, 3]])


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
        ({"y": np.where(FOUR == 3, np.inf, FOUR)}, "1 infinite cell in the features 'feature_1'"),
        ({"batch": "site"}, "found the text 'site'"),
        ({"batch": FOUR}, "found 2 dimensions"),
        ({"batch": ["a", None, "b", "b"]}, "batch 'batch', found 1 missing, in the rows '1'"),
        ({"batch": ["a"] * 4}, "at least two batches"),
        ({"batch": {}}, "at least one batch variable, found none"),
        ({"batch": {"site": SITES, "software": [5, 6]}}, r"y has 4, batch\['software'\] has 2"),
        ({"batch": {"site": "a"}}, r"in batch\['site'\], found the text 'a'"),
        ({"batch": {1: SITES, "1": SITES}}, "every batch variable once, found '1'"),
        ({"batch": pd.DataFrame({"s": SITES, "t": ["x", None, "y", "y"]})}, "batch 't', found 1 missing"),
        ({"batch": {"feature_0": SITES}}, "column name once, found 1 more than once: 'feature_0'"),
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


@pytest.mark.parametrize("which", ["batch", "batches", "covariates", "mapping"])
def test_row_11_indexes_that_disagree_are_refused(which: str) -> None:
    y = pd.DataFrame(FOUR, index=list("wxyz"), columns=FEATURES)
    batch = pd.Series(SITES, index=y.index)
    age = pd.DataFrame({"age": [1.0, 2, 1, 2]}, index=y.index)
    turned = list("zyxw")
    options: dict[str, Any] = {
        "batch": {"batch": batch.loc[turned], "covariates": age},
        "batches": {"batch": {"site": batch.loc[turned]}},
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


# ---------------------------------------------------------------- several batch variables


def two(n: int = 12, **columns: Any) -> pd.DataFrame:
    """Scans with a second batch variable, each of whose levels is at every site."""
    return scans(n).assign(**{"software": np.array([5, 6])[np.arange(n) // 6 % 2]} | columns)


def test_cells_of_several_batch_columns() -> None:
    table = two()
    study = study_of(table, batch=["site", "software"])
    assert study.spec.batch == ("site", "software")
    assert study.batches == ("a / 5", "a / 6", "b / 5", "b / 6", "c / 5", "c / 6")
    found = [study.batches[code] for code in study.codes]
    assert found == [f"{site} / {software}" for site, software in zip(table["site"], table["software"], strict=True)]
    assert study.codes.dtype == np.intp


def test_cells_are_sorted_by_the_numbers_of_each_variable() -> None:
    batch = {"site": [10, 9, 10, 9], "software": ["9", "10", "10", "9"]}
    assert Study.from_arrays(FOUR, batch=batch).batches == ("9 / 9", "9 / 10", "10 / 9", "10 / 10")


def test_cells_without_scans_are_no_batches() -> None:
    study = Study.from_arrays(FOUR, batch={"site": SITES, "software": [5, 5, 6, 6]})
    assert study.batches == ("a / 5", "b / 6")


@pytest.mark.parametrize("batch", ["site", ["site"], ("site",)])
def test_one_batch_column_in_a_list_changes_nothing(batch: Any) -> None:
    study, expected = study_of(scans(), batch=batch), study_of(scans())
    assert (study.batches, study.spec) == (expected.batches, expected.spec)
    np.testing.assert_array_equal(study.codes, expected.codes)


def test_labels_of_one_batch_column_may_hold_the_separator() -> None:
    study = Study.from_arrays(FOUR, batch=["a / b", "a", "a / b", "a"], reference="a / b")
    assert (study.batches, study.reference) == (("a", "a / b"), "a / b")


def test_labels_of_several_batch_columns_with_the_separator_are_refused() -> None:
    with pytest.raises(DataError, match="that ' / ' can join.*found .*'x / y'.*Rename"):
        study_of(two(software=["x / y", "z"] * 6), batch=["site", "software"])


def test_one_variable_of_several_levels_is_enough() -> None:
    study = study_of(two(software=5), batch=["software", "site"])
    assert study.batches == ("5 / a", "5 / b", "5 / c")


def test_row_07_one_cell_is_refused() -> None:
    table = two(software=5).query("site == 'b'")
    with pytest.raises(DataError, match="two batches in 'site', 'software', found one: 'b / 5'"):
        study_of(table, batch=["site", "software"])


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([], "at least one batch column, found an empty list"),
        (["site", "site"], "every batch column once, found 'site'"),
        (["site", "softwares"], "batch column 'softwares' among the columns.*Did you mean 'software'"),
        (["site", "age"], "one role.*'age'"),
    ],
)
def test_batch_columns_that_cannot_be_are_refused(batch: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        study_of(two(), batch=batch)


def test_batch_columns_are_no_features() -> None:
    assert study_of(two(), batch=["site", "software"], features=None).features == ("left", "right")


def test_row_10_missing_label_in_the_second_batch_column() -> None:
    table = two().astype({"software": object})
    table.loc["scan-4", "software"] = None
    with pytest.raises(DataError, match="batch 'software', found 1 missing, in the rows 'scan-4'"):
        study_of(table, batch=["site", "software"])


@pytest.mark.parametrize("kind", ["frame", "mapping", "lists"])
def test_arrays_of_several_batch_variables_give_the_study_of_their_table(kind: str) -> None:
    table = two()
    batch = table[["site", "software"]]
    given = {"frame": batch, "mapping": dict(batch.items()), "lists": batch.to_dict("list")}[kind]
    study = Study.from_arrays(table[FEATURES], batch=given, covariates=table[["age"]])
    expected = study_of(table, batch=["site", "software"], covariates=["age"])
    assert (study.batches, study.spec) == (expected.batches, expected.spec)
    np.testing.assert_array_equal(study.codes, expected.codes)


def test_arrays_of_one_named_batch_variable_keep_its_name() -> None:
    assert Study.from_arrays(FOUR, batch={"scanner": SITES}).spec.batch == ("scanner",)


# ---------------------------------------------------------------- reference among several batch variables


@pytest.mark.parametrize(
    "reference",
    [
        "a / 5",
        ["a", 5],
        ("a", "5"),
        np.array(["a", "5"]),
        {"site": "a", "software": 5.0},
        {"software": "5", "site": "a"},
    ],
)
def test_row_14_reference_names_a_level_of_each(reference: Any) -> None:
    assert study_of(two(), batch=["site", "software"], reference=reference).reference == "a / 5"


def test_row_14_reference_cell_need_not_hold_scans() -> None:
    batch = {"site": SITES, "software": [5, 5, 6, 6]}
    assert Study.from_arrays(FOUR, batch=batch, reference=["a", 6]).reference == "a / 6"


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("a", "each batch variable \\('site', 'software'\\) as reference, found 'a'. Name one level of each"),
        ("a / 5 / 6", "found 'a', '5', '6'. Name one level of each: reference={'site': ..., 'software': ...}"),
        (["a"], "found 'a'. Name one"),
        (["a", 5, 6], "found 'a', '5', '6'. Name one"),
        ({"site": "a"}, "found levels of 'site'. Name one"),
        ({"site": "a", "softwares": 5}, "found levels of 'site', 'softwares'. Name one"),
        (["a", 7], "the batches '5', '6' of 'software' as reference, found '7'"),
        ({"software": 5, "site": "x"}, "the batches 'a', 'b', 'c' of 'site' as reference, found 'x'"),
    ],
    ids=str,
)
def test_row_14_references_that_name_no_level_of_each_are_refused(reference: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        study_of(two(), batch=["site", "software"], reference=reference)


def test_row_14_reference_level_of_one_scan_is_refused() -> None:
    table = two(software=[7, 5, 6] + [5, 6, 5] * 3)
    with pytest.raises(DataError, match="reference batch of 'software' of at least two scans, found one scan in '7'"):
        study_of(table, batch=["site", "software"], reference=["a", 7], covariates=None)


@pytest.mark.parametrize("reference", [["b"], {"site": "b"}])
def test_reference_of_one_batch_variable_may_be_named_like_several(reference: Any) -> None:
    assert study_of(scans(), reference=reference).reference == "b"


# ---------------------------------------------------------------- overlap among several batch variables


def test_row_06_gaps_are_found_in_each_batch_variable_by_name() -> None:
    table = two()
    table.loc[table["software"] == 5, "age"] -= 1000.0
    with pytest.warns(OverlapWarning, match="ranges of 'age' .*between batches of 'software', found 2") as caught:
        study_of(table, batch=["site", "software"], covariates="age")
    assert len(caught) == 1 and caught[0].filename == __file__


def test_row_06_single_levels_are_found_in_each_batch_variable_by_name() -> None:
    table = two(sex=lambda t: np.where(t["software"] == 5, "F", "M"))
    with pytest.warns(OverlapWarning, match="levels of 'sex' in every batch of 'software', found 2 with one"):
        study_of(table, batch=["site", "software"], covariates="sex")


def test_row_06_cells_that_do_not_meet_are_no_gap_where_levels_do() -> None:
    table = pd.DataFrame(
        {
            "site": list("aaaabbbb"),
            "software": [5, 5, 6, 6] * 2,
            "age": [20.0, 21, 80, 81, 60, 61, 40, 41],
            "left": np.arange(8.0),
        }
    )
    study = Study.from_dataframe(table, batch=["site", "software"], covariates="age", features=["left"])
    assert len(study.batches) == 4


def test_row_06_batch_variable_of_one_level_is_no_gap() -> None:
    study_of(two(software=5), batch=["site", "software"])


# ---------------------------------------------------------------- transform


@ENTRIES
def test_log_is_kept_beside_measurements_in_natural_units(entry: str) -> None:
    table = scans()
    table.loc["scan-3", "left"] = np.nan
    study = enter(entry, table, "log")
    assert study.spec.transform == "log"
    np.testing.assert_array_equal(study.y, table[FEATURES])
    np.testing.assert_array_equal(study.transformed, np.log(table[FEATURES].to_numpy()))
    with pytest.raises(ValueError, match="read-only"):
        study.transformed[0] = 0


def test_without_transform_measurements_are_modelled_as_they_are() -> None:
    study = study_of(scans().assign(left=-1.0))
    assert study.spec.transform is None
    np.testing.assert_array_equal(study.transformed, study.y)
    with pytest.raises(ValueError, match="read-only"):
        study.transformed[0] = 0


@ENTRIES
def test_log_of_what_is_not_above_zero_is_refused_with_count_and_names(entry: str) -> None:
    table = scans()
    table.loc[["scan-2", "scan-5"], "right"] = [0.0, -1.5]
    table.loc["scan-3", "left"] = np.nan
    expected = "2 zero or negative cells in the features 'right' and the rows 'scan-2', 'scan-5'. Leave.*missing"
    with pytest.raises(DataError, match=expected):
        enter(entry, table, "log")


@pytest.mark.parametrize("zero", [0.0, -0.0])
def test_log_of_zero_alone_is_refused(zero: float) -> None:
    with pytest.raises(DataError, match="1 zero or negative cell in the features 'left' and the rows 'scan-4'"):
        study_of(with_cell("scan-4", "left", zero), transform="log")


@pytest.mark.parametrize("entry", ["dataframe", "arrays"])
def test_unknown_transform_is_refused(entry: str) -> None:
    with pytest.raises(BayesCombatError, match="transform to be 'log' or None, found 'sqrt'"):
        enter(entry, scans(), "sqrt")


# ---------------------------------------------------------------- repr


def test_repr_says_what_is_missing() -> None:
    table = scans()
    table.loc["scan-3", "left"] = np.nan
    assert repr(study_of(table)).split("\n")[1] == "  4.2 % of the cells missing"
    assert "missing" not in repr(study_of(scans()))


def test_repr_of_few_missing_cells_does_not_say_none() -> None:
    y = np.ones((3000, 1))
    y[0] = np.nan
    assert "less than 0.1 % of the cells missing" in repr(Study.from_arrays(y, batch=["a", "b"] * 1500))


def test_repr_says_the_transform() -> None:
    assert "  transform: log" in repr(study_of(scans(), transform="log")).split("\n")
    assert "transform" not in repr(study_of(scans()))


def test_repr_has_a_line_for_each_of_several_batch_variables() -> None:
    assert repr(study_of(two(14), batch=["site", "software"], reference=["a", 5])).split("\n") == [
        "Study: 14 scans × 2 features",
        "  'site': 3 batches of 4 ('a') to 5 ('c') scans",
        "  'software': 2 batches of 6 ('6') to 8 ('5') scans",
        "  covariates: 'age', 'sex[T.M]'",
        "  reference: 'a / 5'",
    ]


# ---------------------------------------------------------------- rows by a design learned elsewhere


@pytest.mark.parametrize("rows", [[0], [5], [1, 4], [8, 2, 0]])
def test_row_08_any_rows_are_those_of_the_whole(rows: list[int]) -> None:
    table = scans()
    study = study_of(table, covariates="bs(age, df=4) + sex")
    some = Study.from_design(table.iloc[rows], study.spec)
    np.testing.assert_array_equal(some.y, study.y[rows])
    np.testing.assert_allclose(some.x, study.x[rows], rtol=1e-12)
    assert some.batches == tuple(sorted(set(table["site"].iloc[rows])))
    assert [some.batches[code] for code in some.codes] == list(table["site"].iloc[rows])
    assert (some.spec, some.reference) == (study.spec, None)
    assert list(some.obs) == list(study.obs[rows])


def test_row_08_site_of_one_batch_and_one_level_has_the_columns_of_the_design(tmp_path: Path) -> None:
    table = scans()
    study = study_of(table, covariates="bs(age, df=4) * sex")
    study.spec.save(tmp_path / "design.json")
    men = (table["site"] == "b") & (table["sex"] == "M")
    site = Study.from_design(table[men], DesignSpec.load(tmp_path / "design.json"))
    assert (site.batches, site.covariates) == (("b",), study.covariates)
    np.testing.assert_array_equal(site.x, study.x[men.to_numpy()])


def test_row_08_batches_that_nobody_knew_are_found_by_a_design() -> None:
    table, design = two(), study_of(two(), batch=["site", "software"]).spec
    site = Study.from_design(table.assign(site="new", software=lambda t: t["software"] + 4), design)
    assert site.batches == ("new / 9", "new / 10")


@pytest.mark.parametrize("column", ["site", "age", "left"])
def test_row_08_rows_lacking_a_column_are_refused(column: str) -> None:
    table = scans()
    study = study_of(table)
    with pytest.raises(DataError, match=f"'{column}' among the columns.*Did you mean '{column}_'"):
        Study.from_design(table.rename(columns={column: f"{column}_"}), study.spec)


@pytest.mark.parametrize("column", ["site", "age"])
def test_row_10_missing_values_in_new_rows_are_refused(column: str) -> None:
    study = study_of(scans())
    with pytest.raises(DataError, match="'scan-4'"):
        Study.from_design(with_cell("scan-4", column, None), study.spec)


def test_row_02_missing_cells_of_new_rows_come_through() -> None:
    study = Study.from_design(with_cell("scan-4", "left", None), study_of(scans()).spec)
    assert np.argwhere(np.isnan(study.y)).tolist() == [[4, 0]]


def test_row_09_new_rows_with_an_unseen_level() -> None:
    study = study_of(scans())
    with pytest.raises(UnseenLevelError, match="found 'X' in the rows 'scan-4'"):
        Study.from_design(with_cell("scan-4", "sex", "X"), study.spec)


def test_row_09_new_rows_outside_a_spline_warn_at_the_caller() -> None:
    study = study_of(scans(), covariates="bs(age)")
    with pytest.warns(ExtrapolationWarning, match="1 row has 'age' outside") as caught:
        Study.from_design(scans().iloc[[0]].assign(age=99.0), study.spec)
    assert caught[0].filename == __file__


def test_row_06_rows_by_a_design_give_no_overlap_warning() -> None:
    table, study = scans(), study_of(scans())
    apart = table.assign(age=table["site"].map({"a": 1.0, "b": 2.0, "c": 3.0}), sex="F")
    assert len(Study.from_design(apart, study.spec).batches) == 3


@pytest.mark.parametrize(
    ("batch", "reference", "expected"),
    [("site", "elsewhere", "elsewhere"), ("site", 7.0, "7"), (["site", "software"], ["x", 7], "x / 7")],
)
def test_row_14_reference_of_a_design_may_be_at_another_site(batch: Any, reference: Any, expected: str) -> None:
    design = study_of(two(), batch=batch).spec
    assert Study.from_design(two().iloc[[0]], design, reference=reference).reference == expected


def test_row_14_reference_of_a_design_names_one_level_of_each() -> None:
    design = study_of(two(), batch=["site", "software"]).spec
    with pytest.raises(DataError, match="found 'elsewhere'. Name one level of each"):
        Study.from_design(two(), design, reference="elsewhere")


def test_study_is_no_table() -> None:
    study = study_of(scans())
    with pytest.raises(DataError, match="Expected a DataFrame.*found Study"):
        Study.from_design(study, study.spec)  # type: ignore[arg-type]


# ---------------------------------------------------------------- studies of one design


def test_study_of_other_rows_and_the_same_design_conforms() -> None:
    study, other = study_of(scans()), study_of(scans(seed=1), reference="b")
    conforming = other.conforming(study.spec)
    assert conforming.spec is study.spec and conforming.reference == "b"
    for name in ("y", "x", "codes"):
        np.testing.assert_array_equal(getattr(conforming, name), getattr(other, name))


def test_study_of_arrays_conforms_to_a_batch_column_of_another_name() -> None:
    table, study = scans(), study_of(scans(), covariates="age")
    other = Study.from_arrays(table[FEATURES], batch=list(table["site"]), covariates=table[["age"]])
    assert other.spec.batch == ("batch",)
    assert other.conforming(study.spec).spec == study.spec


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": ["left"]}, "the features 'left', 'right', found 'left'"),
        ({"features": ["right", "left"]}, "the features 'left', 'right', found 'right', 'left'"),
        ({"covariates": "age"}, r"the covariates 'age', 'sex\[T.M\]', found 'age'"),
        ({"covariates": None}, r"the covariates 'age', 'sex\[T.M\]', found none"),
        ({"batch": "site"}, "the batch variables 'site', 'software', found 'site'"),
        ({"batch": ["software", "site"]}, "the batch variables 'site', 'software', found 'software', 'site'"),
        ({"transform": "log"}, "transform=None, found transform='log'"),
    ],
    ids=str,
)
def test_study_of_another_design_does_not_conform(changes: dict[str, Any], message: str) -> None:
    study = study_of(two(), batch=["site", "software"])
    with pytest.raises(DataError, match=message):
        study_of(two(), **{"batch": ["site", "software"]} | changes).conforming(study.spec)


@pytest.mark.parametrize("formula", ["center(age)", "bs(age)"])
def test_study_that_learned_something_else_does_not_conform(formula: str) -> None:
    study, other = study_of(scans(), covariates=formula), study_of(scans(seed=1), covariates=formula)
    with pytest.raises(DataError, match="same names with other levels, knots, means"):
        other.conforming(study.spec)


def test_a_covariate_whose_name_needs_backticks_is_told_so() -> None:
    table = pd.DataFrame({"site": list("aabb"), "egfr-mut": [0, 1, 0, 1], "left": [1.5, 2.5, 3.0, 4.0]})
    with pytest.raises(DataError, match="Did you mean 'egfr-mut'. In a formula such a name stands in backticks"):
        Study.from_dataframe(table, batch="site", covariates="egfr-mut", features=["left"])
    study = Study.from_dataframe(table, batch="site", covariates="`egfr-mut`", features=["left"])
    assert len(study.covariates) == 1
