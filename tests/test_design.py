"""Formulas become design columns, are replayed on new rows and survive JSON, bit for bit."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import formulaic
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import BSpline

from bayescombat.design import DesignSpec, evaluation, spec
from bayescombat.errors import (
    BayesCombatError,
    DataError,
    ExtrapolationWarning,
    FileFormatError,
    UnseenLevelError,
)
from bayescombat.study import Study

ROOT = Path(__file__).parents[1]
FORMULAS = [
    "age + sex",
    "age * sex + I(age**2)",
    "bs(age, df=5)",
    "bs(age, df=4, include_intercept=True):sex",
    "cr(age, df=4, constraints='center') + sex",
    "cs(age, df=3) + cc(`scan year`, df=3)",
    "poly(age, 3) + scale(`scan year`)",
    "center(`scan year`) + np.log(age) + C(group, contr.sum)",
    "C(np.round(age / 20)) + C(smoker) + C(count, Treatment(2))",
    "standardize(age):C(sex, Treatment('M')) + hashed(sex, levels=3)",
]


def people(n: int = 40, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "site": rng.choice(["a", "b"], n),
            "age": rng.uniform(20, 80, n),
            "sex": rng.choice(["F", "M"], n),
            "scan year": rng.integers(1999, 2024, n),
            "smoker": rng.choice([True, False], n),
            "count": rng.integers(1, 4, n),
            "group": pd.Categorical(rng.choice(["low", "mid", "high"], n), ["low", "mid", "high", "never"]),
        },
        index=[f"scan-{j}" for j in range(n)],
    )


def learn(table: pd.DataFrame, formula: str | list[str]) -> DesignSpec:
    return DesignSpec.learn(table, batch="site", formula=formula, features=["thickness"])


def one_column(values: object, name: str = "age") -> pd.DataFrame:
    return pd.DataFrame({name: values})


# ---------------------------------------------------------------- columns of the design


@pytest.mark.parametrize("formula", ["age + sex", "~ age + sex", " ~age+sex ", "0 + age + sex", "age + sex - 1"])
def test_intercept_is_implied_and_removed(formula: str) -> None:
    table = people()
    spec = learn(table, formula)
    assert spec.covariates == ("age", "sex[T.M]")
    expected = np.column_stack([table["age"], table["sex"] == "M"])
    np.testing.assert_array_equal(spec.matrix(table), expected)


@pytest.mark.parametrize("formula", ["", "1", "0", "~", "~ 1", []])
def test_no_covariates_give_no_columns(formula: str | list[str]) -> None:
    table = people()
    spec = learn(table, formula)
    assert spec.covariates == () and spec.sources == ()
    assert spec.matrix(table).shape == (len(table), 0)


@pytest.mark.parametrize("formula", FORMULAS)
def test_matrix_is_that_of_formulaic(formula: str) -> None:
    table = people()
    used = table.assign(group=table["group"].cat.remove_unused_categories()).astype({"scan year": float})
    expected = formulaic.model_matrix(formula, used, context={}).to_numpy(dtype=float)[:, 1:]
    matrix = learn(table, formula).matrix(table)
    assert matrix.dtype == np.float64 and matrix.flags.c_contiguous
    np.testing.assert_array_equal(matrix, expected)


def test_list_of_columns_is_quoted() -> None:
    table = people().rename(columns={"age": "age (y)", "smoker": "C", "count": "1", "sex": "lambda"})
    spec = learn(table, ["age (y)", "C", "1", "lambda", "scan year"])
    assert spec.covariates == ("age (y)", "C", "1", "lambda[T.M]", "scan year")
    np.testing.assert_array_equal(spec.matrix(table)[:, [0, 2]], table[["age (y)", "1"]])


def test_columns_that_are_one_name_in_python_stay_apart() -> None:
    table = people().assign(scan_year=0.5)
    spec = learn(table, "bs(`scan year`) * scale(`scan year`) + `scan year` + I(scan_year + age)")
    assert spec.sources == ("scan year", "scan_year", "age")
    assert spec.covariates[:4] == (
        "bs(scan year)[1]",
        "bs(scan year)[2]",
        "bs(scan year)[3]",
        "scale(scan year)",
    )
    np.testing.assert_array_equal(spec.matrix(table)[:, 4], table["scan year"])
    np.testing.assert_array_equal(spec.matrix(table)[:, 5], table["age"] + 0.5)


def test_columns_with_numbers_for_names() -> None:
    table = pd.DataFrame({0: [1.0, 2.0, 4.0]})
    spec = learn(table, [0])
    assert spec.covariates == ("0",)
    np.testing.assert_array_equal(spec.matrix(table), [[1], [2], [4]])


@pytest.mark.parametrize(
    "values",
    [
        pd.array([30, 40, 55], dtype="Int64"),
        pd.array([30, 40, 55], dtype="Float64"),
        np.array([30, 40, 55], dtype=np.int8),
        np.array([30, 40, 55], dtype=object),
        pd.array([30, 40, 55], dtype="int64[pyarrow]"),
    ],
    ids=lambda values: str(values.dtype),
)
def test_numbers_of_every_type_are_float64(values: object) -> None:
    table = one_column(values)
    # 55 squared does not fit into eight bits.
    spec = learn(table, "age + I(age**2)")
    np.testing.assert_array_equal(spec.matrix(table), [[30, 900], [40, 1600], [55, 3025]])


def test_row_05_calendar_years_keep_their_digits() -> None:
    table = one_column([2001.0, 2001.0000001, 2015.0], "year")
    np.testing.assert_array_equal(learn(table, "year").matrix(table)[:, 0], table["year"])


@pytest.mark.parametrize("dtype", [bool, "boolean", object])
def test_row_11_booleans_are_zero_and_one(dtype: object) -> None:
    table = one_column(pd.Series([True, False, True], dtype=dtype), "smoker")
    spec = learn(table, "smoker")
    assert spec.covariates == ("smoker",)
    np.testing.assert_array_equal(spec.matrix(table)[:, 0], [1, 0, 1])


@pytest.mark.parametrize("dtype", [object, "str", "string", "category"])
def test_text_is_categorical_with_sorted_levels(dtype: str) -> None:
    table = one_column(pd.Series(["z", "b", "z", "a"], dtype=dtype), "group")
    spec = learn(table, "group")
    assert spec.covariates == ("group[T.b]", "group[T.z]")
    np.testing.assert_array_equal(spec.matrix(table), [[0, 1], [1, 0], [0, 1], [0, 0]])


def test_row_10_unused_categories_are_ignored_and_the_order_kept() -> None:
    values = pd.Categorical(["b", "a", "b"], categories=["unused", "b", "a"])
    spec = learn(one_column(values, "group"), "group")
    assert spec.covariates == ("group[T.a]",)
    assert spec.columns[0].levels == ("b", "a")


def test_categories_may_be_numbers() -> None:
    table = one_column(pd.Categorical([3, 1, 2, 3], categories=[3, 2, 1]), "group")
    spec = learn(table, "group + C(group, Treatment(2))")
    assert spec.covariates[:2] == ("group[T.2]", "group[T.1]")
    replayed = spec.matrix(one_column([1.0, 3.0], "group"))
    np.testing.assert_array_equal(replayed[:, :2], [[0, 1], [0, 0]])


def test_numbers_as_groups_keep_short_names() -> None:
    table = people().assign(count=lambda t: t["count"].astype("Int64"))
    spec = learn(table, "C(count) + C(smoker)")
    assert spec.covariates == ("C(count)[T.2]", "C(count)[T.3]", "C(smoker)[T.True]")


# ---------------------------------------------------------------- learned once, replayed


@pytest.mark.parametrize("formula", FORMULAS)
def test_json_gives_an_equal_spec_and_the_same_bits(formula: str) -> None:
    table = people()
    spec = learn(table, formula)
    again = DesignSpec.from_json(json.dumps(json.loads(spec.to_json())))
    assert again == spec and hash(again) == hash(spec)
    assert again.matrix(table).tobytes() == spec.matrix(table).tobytes()


@pytest.mark.parametrize("formula", FORMULAS)
def test_single_rows_are_those_of_the_whole_table(formula: str) -> None:
    table = people()
    spec = learn(table, formula)
    rows = [spec.matrix(table.iloc[[j]])[0] for j in range(len(table))]
    np.testing.assert_allclose(rows, spec.matrix(table), rtol=1e-12, atol=1e-12)


def test_replay_uses_what_was_learned() -> None:
    spec = learn(people(), "center(age)")
    middle = people()["age"].mean()
    np.testing.assert_allclose(spec.matrix(one_column([middle, middle + 2])), [[0], [2]], atol=1e-12)


def test_text_does_not_depend_on_the_process() -> None:
    code = (
        "import pandas as pd; from bayescombat.design import DesignSpec;"
        "t = pd.DataFrame({'a': [1., 2, 4], 'b': [2., 1, 5], 'g': list('xyx')});"
        "print(DesignSpec.learn(t, batch='s', formula='poly(a, 2) + scale(b) + bs(a) + g:center(b)',"
        " features=['f']).to_json())"
    )
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(texts) == 1


def test_specs_differ_by_what_was_learned() -> None:
    table = people()
    assert learn(table, "center(age)") == learn(table.copy(), "center(age)")
    assert learn(table, "center(age)") != learn(table.assign(age=table["age"] + 1), "center(age)")
    assert learn(table, "age") == learn(table.assign(age=table["age"] + 1), "age")


def test_new_rows_may_have_other_types() -> None:
    spec = learn(people(), "age + C(count) + C(smoker) + sex")
    row = pd.DataFrame({"age": ["41"], "count": [2.0], "smoker": [1], "sex": ["M"]})
    row["age"] = pd.Series([41], dtype=object)
    row["sex"] = row["sex"].astype("category")
    np.testing.assert_array_equal(spec.matrix(row), [[41, 1, 0, 1, 1]])


def test_context_of_the_caller_is_not_seen() -> None:
    weight = 2.0  # noqa: F841
    with pytest.raises(DataError, match="'weight' among the columns"):
        learn(people(), "I(age * weight)")


def test_formulas_that_need_the_other_rows_are_refused() -> None:
    formula = "I(np.where(lag(age) > 0, 1, 0))"
    with pytest.raises(DataError, match=f"{re.escape(formula)}.*change with the rows"):
        learn(people(), formula)


def test_a_sum_of_numbers_is_what_formulaic_makes_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    table, roles = people(), {"batch": "site", "formula": "age + count", "remove": "`scan year`", "features": ["left"]}
    found = DesignSpec.learn(table, **roles)
    monkeypatch.setattr(evaluation, "_as_they_are", lambda *_: None)
    expected = DesignSpec.learn(table, **roles)
    assert found == expected
    assert found.removed == ("scan year",)
    np.testing.assert_array_equal(found.matrix(table), expected.matrix(table))


def test_a_formula_is_evaluated_twice_to_learn_a_study(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []

    def counted(columns: dict[str, object], parsed: object, state: object, index: pd.Index) -> object:
        rows.append(len(index))
        return evaluation.evaluate(columns, parsed, state, index)

    monkeypatch.setattr(spec, "evaluate", counted)
    table = people().assign(thickness=2.5)
    Study.from_dataframe(table, batch="site", covariates="age + sex", features=["thickness"])
    assert rows == [len(table), 2]


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("I(age - age.mean())", "age.mean"),
        ("I(age / np.max(age))", "np.max"),
        ("I(age.rank())", "age.rank"),
        ("age + np.savetxt('out', age)", "np.savetxt"),
        ("age + age.to_csv('out')", "age.to_csv"),
        ("I(np.add.reduce(age))", "np.add.reduce"),
    ],
)
def test_formulas_that_reach_beyond_arithmetic_are_refused(
    formula: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"elementwise functions of numpy.*'{re.escape(found)}'"):
        learn(people(), formula)
    assert list(tmp_path.iterdir()) == []


def test_table_is_left_alone() -> None:
    table = people()
    before = table.copy(deep=True)
    learn(table, "bs(age) + C(count) + group").matrix(table)
    pd.testing.assert_frame_equal(table, before)


@settings(max_examples=25, deadline=None)
@given(st.permutations(range(12)), st.integers(0, 5))
def test_rows_permute(order: list[int], seed: int) -> None:
    table = people(12, seed)
    formula = "bs(age, df=4) * smoker + poly(`scan year`, 2)"
    spec = learn(table, formula)
    np.testing.assert_array_equal(spec.matrix(table.iloc[order]), spec.matrix(table)[order])


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=5, max_size=30, unique=True))
def test_any_numbers_survive_json(values: list[float]) -> None:
    table = one_column(values)
    spec = learn(table, "scale(age) + poly(age, 2)")
    assert DesignSpec.from_json(spec.to_json()).matrix(table).tobytes() == spec.matrix(table).tobytes()


# ---------------------------------------------------------------- outside the range of a spline


def spline_slope(spec: DesignSpec, key: str, edge: float, degree: int = 3) -> np.ndarray:
    """Slopes of the columns of a B-spline, from another implementation."""
    state = dict(json.loads(spec.state)["map"])["transforms"]["map"]
    knots = dict(dict(state)[key]["map"])["knots"]
    count = len(knots) - degree - 1
    basis = [BSpline(np.array(knots), np.eye(count)[i], degree) for i in range(1, count)]
    return np.array([float(b.derivative()(edge)) for b in basis])


@pytest.mark.parametrize("degree", [1, 2, 3, 5])
@pytest.mark.parametrize("shift", [0.0, 2000.0])
def test_row_09_bspline_continues_with_value_and_slope(degree: int, shift: float) -> None:
    ages = np.linspace(20, 60, 41) ** 1.01 + shift
    spec = learn(one_column(ages), f"bs(age, df=6, degree={degree})")
    for edge, direction in ((ages[0], -1), (ages[-1], 1)):
        outside = edge + direction * np.array([1e-9, 1.0, 10.0, 1000.0])
        with pytest.warns(ExtrapolationWarning):
            continued = spec.matrix(one_column(outside))
        slope = spline_slope(spec, f"bs(age, df=6, degree={degree})", edge, degree)
        line = spec.matrix(one_column([edge])) + np.subtract.outer(outside, edge)[:, None] * slope
        np.testing.assert_allclose(continued, line, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("spline", ["cr", "cs"])
def test_row_09_natural_spline_continues_as_natural_splines_do(spline: str) -> None:
    table = people()
    formula = f"{spline}(age, df=4, constraints='center')"
    rows = one_column([5.0, 30.0, 95.0])
    own = formulaic.model_matrix(formula, table, context={}).model_spec.get_model_matrix(rows).to_numpy()[:, 1:]
    with pytest.warns(ExtrapolationWarning, match="2 rows have 'age' outside"):
        np.testing.assert_allclose(learn(table, formula).matrix(rows), own, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("formula", ["bs(age, df=5)", "cr(age, df=4)", "bs(age, knots=[40, 50]):sex"])
def test_row_09_continuation_is_straight_and_smooth_at_the_edge(formula: str) -> None:
    table = people(200)
    spec = learn(table, formula)
    low, high = table["age"].min(), table["age"].max()
    for edge, step in ((low, -1.0), (high, 1.0)):
        at = [edge, edge + 1e-6 * step, edge - 1e-6 * step, edge + 3 * step, edge + 6 * step]
        with pytest.warns(ExtrapolationWarning):
            value, near, inside, far, farther = spec.matrix(pd.DataFrame({"age": at, "sex": "M"}))
        np.testing.assert_allclose(farther - far, far - value, atol=1e-10)
        np.testing.assert_allclose(near, value, atol=1e-6)
        np.testing.assert_allclose((near - value) / 1e-6, (value - inside) / 1e-6, atol=1e-4)
        assert np.abs(farther - far).max() > 1e-3


def test_row_09_warning_names_column_range_and_rows() -> None:
    table = people().rename(columns={"age": "age (y)"})
    spec = learn(table, "bs(`age (y)`, lower_bound=10, upper_bound=90)")
    rows = one_column([9.0, 15.0, 91.0, 50.0, 120.0], "age (y)")
    expected = "3 rows have 'age (y)' outside the range 10 to 90"
    with pytest.warns(ExtrapolationWarning, match=re.escape(expected)) as caught:
        spec.matrix(rows)
    assert len(caught) == 1 and caught[0].filename == __file__


def test_row_09_rows_inside_keep_their_bits_beside_rows_outside() -> None:
    table = people()
    spec = learn(table, "bs(age, df=5)")
    rows = pd.concat([table, one_column([200.0])])
    with pytest.warns(ExtrapolationWarning):
        assert spec.matrix(rows)[:-1].tobytes() == spec.matrix(table).tobytes()


def test_row_09_only_the_spline_continues_linearly() -> None:
    spec = learn(people(), "age + I(age**2) + bs(age, df=4)")
    with pytest.warns(ExtrapolationWarning):
        np.testing.assert_array_equal(spec.matrix(one_column([100.0]))[0, :2], [100, 10_000])


def test_row_09_polynomials_just_replay() -> None:
    spec = learn(people(), "age + I(age**2)")
    np.testing.assert_array_equal(spec.matrix(one_column([100.0])), [[100, 10_000]])


def test_row_09_cyclic_splines_wrap() -> None:
    table = one_column(np.linspace(0, 12, 25), "month")
    spec = learn(table, "cc(month, df=4)")
    np.testing.assert_allclose(spec.matrix(one_column([14.5], "month")), spec.matrix(one_column([2.5], "month")))


def test_row_09_an_explicit_extrapolation_stands() -> None:
    spec = learn(people(), "bs(age, extrapolation='clip')")
    ends = spec.matrix(one_column([people()["age"].max(), 200.0]))
    np.testing.assert_array_equal(ends[0], ends[1])


def test_row_09_values_beyond_bounds_seen_in_training_are_known() -> None:
    table = people()
    spec = learn(table, "cr(age, df=4, lower_bound=30, upper_bound=70)")
    spec.matrix(table)
    with pytest.warns(ExtrapolationWarning):
        spec.matrix(one_column([table["age"].max() + 1]))


# ---------------------------------------------------------------- what is refused


def test_row_09_unseen_level_of_a_column() -> None:
    spec = learn(people(), "age + sex")
    rows = pd.DataFrame({"age": [30.0, 40.0], "sex": ["M", "X"]}, index=["new-1", "new-2"])
    with pytest.raises(UnseenLevelError, match="'F', 'M' in the covariate 'sex', found 'X' in the rows 'new-2'"):
        spec.matrix(rows)


@pytest.mark.parametrize(("column", "value"), [("count", 7), ("count", 1.5), ("smoker", 2)])
def test_row_09_unseen_level_of_numbers_as_groups(column: str, value: float) -> None:
    spec = learn(people(), f"C({column})")
    with pytest.raises(UnseenLevelError, match=f"'C\\({column}\\)', found '{value}' in the rows '0'"):
        spec.matrix(one_column([value], column))


def test_row_09_unseen_level_of_an_expression() -> None:
    spec = learn(people(), "C(np.round(age / 20))")
    with pytest.raises(UnseenLevelError, match=r"'C\(np.round\(age / 20\)\)', found '10' in the rows '1'"):
        spec.matrix(one_column([50.0, 200.0]))


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT])
@pytest.mark.parametrize("column", ["age", "sex"])
def test_row_10_missing_covariate(column: str, missing: object) -> None:
    table = people(5).astype({column: object})
    table.loc["scan-3", column] = missing
    with pytest.raises(DataError, match=f"covariate '{column}', found 1 missing, in the rows 'scan-3'"):
        learn(table, "age + sex")


def test_row_10_missing_covariate_of_nullable_type_in_new_rows() -> None:
    spec = learn(people(), "age")
    with pytest.raises(DataError, match="found 2 missing, in the rows '0', '1'"):
        spec.matrix(one_column(pd.array([None, None], dtype="Int64")))


def test_row_11_infinite_covariate() -> None:
    with pytest.raises(DataError, match="'age', found 1 infinite, in the rows '1'"):
        learn(one_column([30.0, np.inf, 40.0]), "age")


def test_formula_that_gives_infinity_names_columns_and_rows() -> None:
    with pytest.raises(DataError, match=r"infinity in 'np.log\(age\)' in the rows '1'"):
        learn(one_column([30.0, 0.0, 40.0]), "np.log(age) + age")


def test_formula_that_gives_infinity_on_new_rows() -> None:
    spec = learn(people(), "np.log(age)")
    with pytest.raises(DataError, match=r"NaN or infinity in 'np.log\(age\)' in the rows '0'"):
        spec.matrix(one_column([-1.0]))


@pytest.mark.parametrize("action", ["learn", "matrix"])
def test_missing_column_is_named_with_a_suggestion(action: str) -> None:
    table, other = people(), people().rename(columns={"age": "Age"})
    spec = learn(table, "age")
    with pytest.raises(DataError, match="'age' among the columns.*Did you mean 'Age'"):
        learn(other, "age") if action == "learn" else spec.matrix(other)


@pytest.mark.parametrize("formula", ["(age", "age +", "age sex", "bs(age", "2 * age"])
def test_formula_that_cannot_be_parsed_is_shown(formula: str) -> None:
    with pytest.raises(DataError, match=f"found {re.escape(repr(formula))}, which cannot be parsed") as caught:
        learn(people(), formula)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("formula", ["thickness ~ age", "age | sex"])
def test_formula_with_other_parts_is_refused(formula: str) -> None:
    with pytest.raises(DataError, match="one right-hand side"):
        learn(people().assign(thickness=1.0), formula)


@pytest.mark.parametrize("formula", ["Q('age')", "abs(age)", "C(open('x'))", "foo(age)"])
def test_unknown_functions_are_refused(formula: str) -> None:
    with pytest.raises(DataError, match="Expected functions of formulaic or numpy"):
        learn(people(), formula)


def test_private_attributes_are_refused() -> None:
    with pytest.raises(DataError, match="elementwise functions.*'age.__class__'"):
        learn(people(), "I(age.__class__)")


@pytest.mark.parametrize("formula", ["bs(age, df=1)", "C(sex, Treatment('X'))", "cr(age)", "I(sex + 1)"])
def test_formula_that_cannot_be_evaluated_is_a_data_error(formula: str) -> None:
    with pytest.raises(DataError, match="can be evaluated, but it stopped"):
        learn(people(), formula)


def test_spline_of_a_constant_is_refused() -> None:
    with pytest.raises(DataError, match="at least two distinct values"):
        learn(one_column([30.0, 30.0]), "bs(age)")


def test_labels_outside_the_levels_that_a_formula_names() -> None:
    with pytest.raises(DataError, match="only labels that the formula names"):
        learn(people(), "C(sex, levels=['M'])")


def test_category_of_one_level_is_refused() -> None:
    with pytest.raises(DataError, match="at least two levels.*'sex at birth'"):
        learn(people().assign(**{"sex at birth": "F"}), "age + `sex at birth`")


def test_design_columns_of_one_name_are_refused() -> None:
    with pytest.raises(DataError, match=r"'sex\[T.M\]' more than once"):
        learn(people().assign(**{"sex[T.M]": 0.5}), ["sex", "sex[T.M]"])


@pytest.mark.parametrize("values", [pd.to_datetime(["2001-01-01", "2002-01-01"]), [1j, 2j]])
def test_dates_and_complex_numbers_are_refused(values: object) -> None:
    with pytest.raises(DataError, match="Expected numbers or labels in the covariate 'age'"):
        learn(one_column(values), "age")


def test_text_where_numbers_were_learned() -> None:
    spec = learn(people(), "age")
    with pytest.raises(DataError, match=r"Expected numbers in the covariate 'age'.*to_numeric"):
        spec.matrix(one_column(["thirty"]))


@pytest.mark.parametrize(
    ("batch", "features"),
    [("age", ["t"]), ("site", ["age"]), ("site", ["t", "t"]), (["site", "age"], ["t"]), (["site", "t"], ["t"])],
)
def test_columns_with_two_roles_are_refused(batch: str | list[str], features: list[str]) -> None:
    with pytest.raises(DataError, match="Expected every column in one role"):
        DesignSpec.learn(people(), batch=batch, formula="age", features=features)


def test_backticks_in_names_are_refused() -> None:
    with pytest.raises(DataError, match="without backticks"):
        learn(people(), ["a`b"])


def altered(**changes: object) -> str:
    content = json.loads(learn(people(), "age").to_json())
    return json.dumps({name: value for name, value in (content | changes).items() if value is not None})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "nonsense",
        altered(version=99),
        altered(columns=None),
        altered(features=1),
        altered(batch="site"),
        altered(batch=[1]),
        altered(transform="sqrt"),
    ],
)
def test_text_that_is_no_design(text: str) -> None:
    with pytest.raises(FileFormatError, match="Expected a design of version 2"):
        DesignSpec.from_json(text)


def test_text_without_a_transform_is_no_design() -> None:
    content = json.loads(learn(people(), "age").to_json())
    del content["transform"]
    with pytest.raises(FileFormatError, match="KeyError: 'transform'"):
        DesignSpec.from_json(json.dumps(content))


# ---------------------------------------------------------------- batch columns, transform


@pytest.mark.parametrize(
    ("batch", "names"),
    [("site", ("site",)), (["site"], ("site",)), (["site", "software"], ("site", "software")), (0, ("0",))],
)
def test_batch_is_one_name_or_several(batch: Any, names: tuple[str, ...]) -> None:
    spec = DesignSpec.learn(people(), batch=batch, formula="age", features=["thickness"])
    assert spec.batch == names and DesignSpec.from_json(spec.to_json()).batch == names


@pytest.mark.parametrize(
    ("batch", "message"), [([], "at least one batch column"), (["a", "b", "a"], "once, found 'a'")]
)
def test_batch_columns_that_cannot_be_are_refused(batch: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        DesignSpec.learn(people(), batch=batch, formula="age", features=["thickness"])


@pytest.mark.parametrize(
    ("features", "message"), [("thickness", "a list of the names.*'thickness'"), ([], "empty list")]
)
def test_features_that_are_no_list_of_names_are_refused(features: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        DesignSpec.learn(people(), batch="site", formula="age", features=features)


def test_transform_is_kept() -> None:
    spec = DesignSpec.learn(people(), batch="site", formula="age", features=["thickness"], transform="log")
    assert spec.transform == "log" and DesignSpec.from_json(spec.to_json()).transform == "log"
    assert learn(people(), "age").transform is None


def test_unknown_transform_names_the_known() -> None:
    with pytest.raises(BayesCombatError, match="transform to be 'log' or None, found 'sqrt'"):
        DesignSpec.learn(people(), batch="site", formula="age", features=["thickness"], transform="sqrt")


@pytest.mark.parametrize("changes", [{"batch": ["site", "software"]}, {"batch": "center"}, {"transform": "log"}])
def test_specs_differ_by_batch_columns_and_transform(changes: dict[str, Any]) -> None:
    options = {"batch": "site", "formula": "age", "features": ["thickness"]}
    assert DesignSpec.learn(people(), **options) != DesignSpec.learn(people(), **options | changes)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("formula", FORMULAS)
def test_saved_design_equals_the_original_and_gives_the_same_bits(formula: str, tmp_path: Path) -> None:
    table = people()
    spec = learn(table, formula)
    spec.save(tmp_path / "design.json")
    first, second = (DesignSpec.load(tmp_path / "design.json") for _ in range(2))
    assert first == second == spec
    assert first.matrix(table).tobytes() == second.matrix(table).tobytes() == spec.matrix(table).tobytes()


def test_saved_design_is_text_that_people_can_read(tmp_path: Path) -> None:
    table = people().rename(columns={"sex": "Größe"})
    learn(table, ["Größe"]).save(tmp_path / "design.json")
    lines = (tmp_path / "design.json").read_bytes().decode("utf-8").split("\n")
    assert lines[0] == "{" and '  "formula": "`Größe`",' in lines and lines[-1] == ""


def test_saving_replaces_an_older_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    learn(people(), "age").save(path)
    learn(people(), "sex").save(str(path))
    assert DesignSpec.load(path).formula == "sex"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_that_fails_leaves_the_older_file_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    learn(people(), "age").save(path)
    # A name that UTF-8 cannot hold stops the writing.
    broken = DesignSpec.learn(people(), batch="site", formula="age", features=["\ud800"])
    with pytest.raises(UnicodeEncodeError):
        broken.save(path)
    assert DesignSpec.load(path).formula == "age"
    assert list(tmp_path.iterdir()) == [path]


def test_saving_into_no_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="Expected a folder .*nowhere.* to write into"):
        learn(people(), "age").save(tmp_path / "nowhere" / "design.json")


def test_design_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="text file of bayescombat at .*design.json"):
        DesignSpec.load(tmp_path / "design.json")


def test_half_a_design_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    learn(people(), "bs(age)").save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(FileFormatError, match=r"Expected a design of version 2 as JSON, found the file .*design\.json"):
        DesignSpec.load(path)


def test_file_that_is_no_text_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "design.json"
    path.write_bytes(b"\x89HDF\r\n\x1a\n\xff")
    with pytest.raises(FileFormatError, match="text file of bayescombat at .*design.json"):
        DesignSpec.load(path)


def test_made_up_table_of_levels_and_ends_gives_the_design_of_the_real_one() -> None:
    real = people(200)
    made_up = pd.DataFrame({"age": [real["age"].min(), real["age"].max()], "sex": ["M", "F"]})
    formula = "bs(age, knots=[40, 60]) + sex"
    assert learn(made_up, formula) == learn(real, formula)
    assert learn(made_up, formula).matrix(real).tobytes() == learn(real, formula).matrix(real).tobytes()
