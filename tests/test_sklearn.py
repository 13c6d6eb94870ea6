"""ComBat in scikit-learn: its own checks, folds, what is handed over beside X, and the how-to with its leak."""

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, LeaveOneGroupOut, cross_val_predict, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils.estimator_checks import check_estimator, estimator_checks_generator

import bayescombat as bc
from bayescombat.sklearn import ComBat

HOW_TO = Path(__file__).parents[1] / "docs" / "sklearn.md"
NO_LABELS = "Expected labels of batches in ComBat"


def even_or_odd(X: Any) -> np.ndarray:
    """Labels of two batches for any numbers, of every row by itself."""
    return (np.floor(7 * np.asarray(X, dtype=float)[:, 0]) % 2).astype(int)


CHECKS = list(estimator_checks_generator(ComBat(batch=even_or_odd)))


@pytest.fixture
def routing() -> Iterator[None]:
    with sklearn.config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(scope="module")
def table(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    """The simulation without its site of three scans."""
    return simulation.table[simulation.table["site"] != "site_04"]


@pytest.fixture(scope="module")
def X(table: pd.DataFrame, simulation: bc.datasets.Simulation) -> pd.DataFrame:
    return table[list(simulation.features)]


@pytest.fixture(scope="module")
def beside(table: pd.DataFrame) -> dict[str, Any]:
    return {"batch": table["site"], "covariates": table[["age", "sex"]]}


@pytest.fixture(scope="module")
def expected(table: pd.DataFrame, X: pd.DataFrame) -> np.ndarray:
    study = bc.Study.from_dataframe(table, batch="site", covariates="age + sex", features=list(X))
    return bc.fit(study, method="eb").harmonized["mean"].values


# ---------------------------------------------------------------- scikit-learn's own checks


@pytest.mark.filterwarnings("ignore::bayescombat.BayesCombatWarning", "ignore::sklearn.exceptions.SkipTestWarning")
@pytest.mark.parametrize(("estimator", "check"), CHECKS, ids=[check.func.__name__ for _, check in CHECKS])
def test_scikit_learn_checks(estimator: ComBat, check: Any) -> None:
    check(estimator)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.SkipTestWarning")
def test_without_labels_nothing_but_their_lack_fails_a_check() -> None:
    found = check_estimator(ComBat(), on_fail=None, on_skip=None)
    failed = [one for one in found if one["status"] == "failed"]
    assert 0 < len(failed) < len(found)
    # Some checks wrap what was raised.
    reasons = {one["check_name"]: f"{one['exception']!r} {one['exception'].__context__!r}" for one in failed}
    assert [name for name, reason in reasons.items() if NO_LABELS not in reason] == []


# ---------------------------------------------------------------- the same values as without scikit-learn


def test_beside_x(X: pd.DataFrame, beside: dict[str, Any], expected: np.ndarray) -> None:
    np.testing.assert_array_equal(ComBat().fit_transform(X, **beside), expected)


def test_columns_of_x(table: pd.DataFrame, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(ComBat(batch="site", covariates="age + sex").fit_transform(table), expected)


def test_arrays(X: pd.DataFrame, table: pd.DataFrame, expected: np.ndarray) -> None:
    covariates = np.column_stack([table["age"], table["sex"] == "M"]).astype(float)
    found = ComBat().fit_transform(X.to_numpy(), batch=table["site"].tolist(), covariates=covariates)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_formula_reads_columns_beside_x_and_leaves_the_others_out(X: pd.DataFrame, table: pd.DataFrame) -> None:
    combat = ComBat(batch="site", covariates="age").fit(X, covariates=table)
    assert combat.fit_.layout.spec.sources == ("age",)
    assert combat.fit_.layout.spec.features == tuple(X)


def test_columns_to_be_removed_are_not_preserved_too(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    design = ComBat(remove="age").fit(X, **beside).fit_.layout.spec
    assert dict(zip(design.covariates, design.kept, strict=True)) == {"sex[T.M]": True, "age": False}


def test_settings_reach_the_fit(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    combat = ComBat(shrinkage="nonparametric", mean_only=True, reference="site_02", smooth={"age": 5})
    fit = combat.fit(X, **beside).fit_
    assert (fit.settings["shrinkage"], fit.settings["mean_only"], fit.layout.reference) == (
        "nonparametric",
        True,
        "site_02",
    )
    assert fit.layout.spec.smooths[0].column == "age"
    np.testing.assert_allclose(combat.transform(X, **beside)[30:50], X[30:50], rtol=0, atol=1e-12)


def test_several_batch_variables(X: pd.DataFrame, table: pd.DataFrame) -> None:
    several = table[["site"]].assign(software=np.arange(len(table)) % 2)
    both = table.assign(software=several["software"])
    study = bc.Study.from_dataframe(both, batch=["site", "software"], features=list(X))
    expected = bc.fit(study, method="eb").harmonized["mean"].values
    np.testing.assert_array_equal(ComBat().fit_transform(X, batch=several), expected)
    columns = both[[*X, "site", "software"]]
    np.testing.assert_array_equal(ComBat(batch=["site", "software"]).fit_transform(columns), expected)


@pytest.mark.filterwarnings("ignore::bayescombat.BayesCombatWarning")
def test_nuts_gives_the_draws_of_the_seed_without_a_bar(
    tiny_fit: bc.Fit, tiny_simulation: bc.datasets.Simulation, capfd: pytest.CaptureFixture[str]
) -> None:
    columns = tiny_simulation.table[[*tiny_simulation.features, "site", "age"]]
    settings: dict[str, Any] = {"chains": 2, "tune": 100, "draws": 100, "random_state": 3}
    combat = ComBat("nuts", batch="site", covariates="age", **settings).fit(columns)
    assert capfd.readouterr() == ("", "")
    found, expected = combat.harmonize(columns), tiny_fit.harmonize(columns)
    assert list(found) == ["mean", "sd", "lower", "upper"]
    np.testing.assert_array_equal(found["sd"], expected["sd"])
    np.testing.assert_array_equal(combat.transform(columns), expected["mean"])


def test_a_random_state_gives_seeds_in_turn(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    def seeds() -> list[int]:
        combat = ComBat(uncertainty=True, random_state=np.random.RandomState(0))
        return [combat.fit(X, **beside).fit_.settings["seed"] for _ in range(2)]

    assert seeds() == seeds()
    assert len(set(seeds())) == 2


def test_harmonize_says_how_sure_it_is(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    found = (
        ComBat(uncertainty=True, random_state=1).fit(X, **beside).harmonize(X.tail(3), **_rows(beside, slice(-3, None)))
    )
    assert list(found) == ["mean", "sd", "lower", "upper"]
    assert list(found["obs"].values) == list(X.index[-3:])
    assert (found["sd"] > 0).all()


def _rows(beside: dict[str, Any], rows: Any) -> dict[str, Any]:
    return {name: part.iloc[rows] for name, part in beside.items()}


# ---------------------------------------------------------------- frames in and out


def test_missing_cells_stay_missing(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    holed = X.copy()
    holed.iloc[3, 2] = holed.iloc[40, 0] = np.nan
    found = ComBat().fit_transform(holed, **beside)
    np.testing.assert_array_equal(np.isnan(found), holed.isna())


def test_polars_in_and_out(table: pd.DataFrame, X: pd.DataFrame, expected: np.ndarray) -> None:
    frame = pl.DataFrame(
        {name: table[name].to_numpy() for name in [*X, "age"]}
        | {name: table[name].tolist() for name in ("site", "sex")}
    )
    inside = ComBat(batch="site", covariates="age + sex").set_output(transform="polars").fit_transform(frame)
    assert isinstance(inside, pl.DataFrame)
    assert inside.columns == list(X)
    np.testing.assert_array_equal(inside.to_numpy(), expected)
    beside = {"batch": frame["site"], "covariates": frame[["age", "sex"]]}
    np.testing.assert_array_equal(ComBat().fit_transform(frame[list(X)], **beside), expected)


def test_polars_nulls_are_missing_cells(table: pd.DataFrame, X: pd.DataFrame) -> None:
    columns = {name: [None, *table[name].tolist()[1:]] for name in X}
    found = ComBat().fit_transform(pl.DataFrame(columns), batch=table["site"].tolist())
    assert np.isnan(found[0]).all()
    assert np.isfinite(found[1:]).all()


def test_pandas_out_keeps_rows_and_names(table: pd.DataFrame, X: pd.DataFrame) -> None:
    combat = ComBat(batch="site", covariates="age + sex").set_output(transform="pandas")
    found = combat.fit_transform(table)
    assert list(found) == list(X) == list(combat.get_feature_names_out())
    pd.testing.assert_index_equal(found.index, table.index)


def test_inputs_stay_as_they_are(table: pd.DataFrame) -> None:
    before = table.copy()
    ComBat(batch="site", covariates="age + sex").fit_transform(table)
    pd.testing.assert_frame_equal(table, before)


def test_rows_may_be_drawn_with_replacement(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    rows = np.random.default_rng(0).integers(len(X), size=len(X))
    drawn = ComBat().fit_transform(X.iloc[rows], **_rows(beside, rows))
    alone = ComBat().fit_transform(X.to_numpy()[rows], **{name: part.iloc[rows] for name, part in beside.items()})
    np.testing.assert_array_equal(drawn, alone)


# ---------------------------------------------------------------- folds


def test_what_is_learned_is_of_the_training_scans_alone(
    routing: None, X: pd.DataFrame, beside: dict[str, Any], table: pd.DataFrame
) -> None:
    train, test = next(KFold(3, shuffle=True, random_state=0).split(X))
    model = make_pipeline(StandardScaler(), ComBat(), FunctionTransformer()).set_output(transform="pandas")
    model.fit(X.iloc[train], table["sex"].iloc[train], batch=beside["batch"].iloc[train])
    found = model.transform(X.iloc[test], batch=beside["batch"].iloc[test])
    scaled = StandardScaler().set_output(transform="pandas").fit(X.iloc[train]).transform(X)
    study = bc.Study.from_arrays(scaled.iloc[train], batch=table["site"].iloc[train])
    rows = scaled.iloc[test].assign(site=table["site"])
    np.testing.assert_array_equal(found, bc.fit(study, method="eb").harmonize(rows)["mean"])


def test_cross_validation_is_the_loop_over_folds(
    routing: None, X: pd.DataFrame, beside: dict[str, Any], table: pd.DataFrame
) -> None:
    y, folds = table["sex"], KFold(3, shuffle=True, random_state=0)
    classifier = LogisticRegression()
    found = cross_val_score(make_pipeline(ComBat(), classifier), X, y, cv=folds, params=beside, error_score="raise")
    scores = []
    for train, test in folds.split(X):
        combat = ComBat().fit(X.iloc[train], **_rows(beside, train))
        classifier.fit(combat.transform(X.iloc[train], **_rows(beside, train)), y.iloc[train])
        scores.append(classifier.score(combat.transform(X.iloc[test], **_rows(beside, test)), y.iloc[test]))
    np.testing.assert_array_equal(found, scores)


def test_columns_of_x_work_with_named_scorers_and_predictions_without_routing(
    table: pd.DataFrame, X: pd.DataFrame
) -> None:
    columns, y = table[[*X, "site", "age"]], table["sex"] == "M"
    model = make_pipeline(ComBat(batch="site", covariates="age"), LogisticRegression())
    folds = KFold(3, shuffle=True, random_state=0)
    scores = cross_val_score(model, columns, y, cv=folds, scoring="accuracy", error_score="raise")
    predicted = cross_val_predict(model, columns, y, cv=folds)
    assert [np.mean(predicted[test] == y.iloc[test]) for _, test in folds.split(X)] == pytest.approx(scores)


def test_grid_search_chooses_settings(
    routing: None, X: pd.DataFrame, beside: dict[str, Any], table: pd.DataFrame
) -> None:
    model = make_pipeline(ComBat(), LogisticRegression())
    grid = {"combat__shrinkage": ["parametric", "none"]}
    search = GridSearchCV(model, grid, cv=KFold(3, shuffle=True, random_state=0), error_score="raise")
    search.fit(X, table["sex"], **beside)
    assert search.best_estimator_[0].fit_.settings["shrinkage"] == search.best_params_["combat__shrinkage"]
    for shrinkage, score in zip(("parametric", "none"), search.cv_results_["mean_test_score"], strict=True):
        model.set_params(combat__shrinkage=shrinkage)
        assert score == cross_val_score(model, X, table["sex"], cv=search.cv, params=beside).mean()


def test_metadata_may_have_other_names(routing: None, X: pd.DataFrame, table: pd.DataFrame) -> None:
    combat = (
        ComBat().set_fit_request(batch="site", covariates=False).set_transform_request(batch="site", covariates=False)
    )
    found = make_pipeline(combat, FunctionTransformer()).fit(X, site=table["site"]).transform(X, site=table["site"])
    np.testing.assert_array_equal(found, ComBat().fit_transform(X, batch=table["site"]))


def _fitted_elsewhere(combat: ComBat, X: pd.DataFrame, beside: dict[str, Any]) -> ComBat:
    return combat.fit(X, **beside)


@pytest.mark.slow
def test_estimators_travel_between_processes(X: pd.DataFrame, beside: dict[str, Any], expected: np.ndarray) -> None:
    [combat] = Parallel(n_jobs=2)([delayed(_fitted_elsewhere)(ComBat(), X, beside)])
    np.testing.assert_array_equal(combat.transform(X, **beside), expected)


def test_clones_are_not_fitted(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    combat = ComBat(shrinkage="none", smooth={"age": 5}).fit(X, **beside)
    copy = clone(combat)
    assert copy.get_params() == combat.get_params()
    assert not hasattr(copy, "fit_")
    assert "ComBat" in combat._repr_html_()


def test_a_site_that_is_left_out_goes_by_the_policy(table: pd.DataFrame, X: pd.DataFrame) -> None:
    columns, y = table[[*X, "site"]], table["sex"]
    model = make_pipeline(ComBat(batch="site"), LogisticRegression())

    def scored() -> np.ndarray:
        return cross_val_score(model, columns, y, cv=LeaveOneGroupOut(), groups=table["site"], error_score="raise")

    with pytest.raises(bc.UnseenBatchError, match="site_01"):
        scored()
    model.set_params(combat__unseen="prior")
    assert np.isfinite(scored()).all()


def test_unseen_batches_are_what_the_fit_makes_of_them(simulation: bc.datasets.Simulation, X: pd.DataFrame) -> None:
    whole = simulation.table[[*X, "site"]]
    known, new = whole[whole["site"] != "site_04"], whole[whole["site"] == "site_04"]
    combat = ComBat(batch="site", unseen="prior").fit(known)
    np.testing.assert_array_equal(combat.transform(new), combat.fit_.harmonize(new, unseen="prior")["mean"])


def test_a_batch_of_one_training_scan_is_fitted(table: pd.DataFrame, X: pd.DataFrame) -> None:
    few = pd.concat([table, table.tail(1).assign(site="alone")]).reset_index(drop=True)
    combat = ComBat(batch="site")
    with pytest.warns(bc.BatchSizeWarning, match="alone"):
        found = combat.fit_transform(few[[*X, "site"]])
    assert np.isfinite(found).all()


# ---------------------------------------------------------------- errors


def test_labels_are_asked_for_in_words(X: pd.DataFrame, table: pd.DataFrame) -> None:
    with pytest.raises(bc.BayesCombatError, match=rf"{NO_LABELS}.fit.*enable_metadata_routing=True.*batch='site'"):
        ComBat().fit(X)
    model = make_pipeline(ComBat(), LogisticRegression()).fit(X, table["sex"], combat__batch=table["site"])
    with pytest.raises(bc.BayesCombatError, match=rf"{NO_LABELS}.transform.*enable_metadata_routing=True"):
        model.predict(X)


def test_scorers_that_hand_nothing_on_are_named(
    routing: None, X: pd.DataFrame, beside: dict[str, Any], table: pd.DataFrame
) -> None:
    model = make_pipeline(ComBat(), LogisticRegression())
    with pytest.raises(bc.BayesCombatError, match=rf"{NO_LABELS}.transform.*named scorers, cross_val_predict"):
        cross_val_score(model, X, table["sex"], scoring="accuracy", params=beside, error_score="raise")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"batch": ["a", "b"]}, "one row per scan in batch: X has 60, batch has 2"),
        ({"batch": "site"}, "found the text 'site'.*ComBat\\(batch='site'\\)"),
        ({"batch": np.ones((60, 2))}, "found 2 dimensions"),
        ({"batch": [1] * 60}, "at least two batches"),
        ({"covariates": {"age": np.ones(60)}}, "found dict"),
        ({"covariates": np.ones(60)}, "found ndarray"),
        ({"covariates": np.ones((59, 1))}, "covariates has 59"),
    ],
)
def test_what_cannot_be_read_beside_x_is_named(
    X: pd.DataFrame, beside: dict[str, Any], given: dict[str, Any], message: str
) -> None:
    with pytest.raises(bc.DataError, match=message):
        ComBat().fit(X, **beside | given)


def test_rows_in_another_order_are_an_error_and_labels_without_any_in_common_are_not(
    X: pd.DataFrame, table: pd.DataFrame
) -> None:
    with pytest.raises(bc.DataError, match="same row labels in the same order in X and batch"):
        ComBat().fit(X, batch=table["site"].iloc[::-1])
    renamed = table["site"].set_axis([f"scan {k}" for k in range(len(table))])
    assert ComBat().fit(X, batch=renamed).fit_.layout.spec.batch == ("site",)


def test_labels_are_given_once(table: pd.DataFrame) -> None:
    with pytest.raises(bc.BayesCombatError, match="labels of batches once"):
        ComBat(batch="site").fit(table, batch=table["site"])
    with pytest.raises(bc.DataError, match="'age' in X and beside it"):
        ComBat(covariates="age").fit(
            table.drop(columns=["site", "sex"]), batch=table["site"], covariates=table[["age"]]
        )


def test_a_covariate_by_the_name_of_labels_is_an_error_unless_it_is_the_same(
    X: pd.DataFrame, table: pd.DataFrame
) -> None:
    with pytest.raises(bc.DataError, match="labels of batches under the name 'batch'"):
        ComBat().fit(X, batch=table["site"].tolist(), covariates=table[["age"]].rename(columns={"age": "batch"}))
    combat = ComBat().fit(X, batch=table["site"], covariates=table[["site", "age"]])
    assert combat.fit_.layout.spec.sources == ("age",)


def test_columns_that_are_nowhere_are_named(X: pd.DataFrame, table: pd.DataFrame) -> None:
    with pytest.raises(bc.DataError, match="'scanner'"):
        ComBat(batch="scanner").fit(X)
    combat = ComBat().fit(X, batch=table["site"], covariates=table[["age"]])
    with pytest.raises(bc.DataError, match="'age' among the columns"):
        combat.transform(X, batch=table["site"])


def test_labels_left_in_x_as_text_are_no_features(table: pd.DataFrame) -> None:
    with pytest.raises(bc.DataError, match="features of real numbers.*'sex'"):
        ComBat(batch="site").fit(table)


def test_levels_that_were_not_there_are_an_error(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    combat = ComBat().fit(X, **beside)
    with pytest.raises(bc.UnseenLevelError, match="'unknown'"):
        combat.transform(X, batch=beside["batch"], covariates=beside["covariates"].assign(sex="unknown"))


def test_a_policy_that_is_none_is_an_error_at_once(X: pd.DataFrame, beside: dict[str, Any]) -> None:
    with pytest.raises(bc.BayesCombatError, match="unseen to be 'error' or 'prior'"):
        ComBat(unseen="drop").fit(X, **beside)  # type: ignore[arg-type]


# ---------------------------------------------------------------- the how-to


@pytest.fixture(scope="module")
def how_to() -> dict[str, Any]:
    """What the blocks of the how-to leave behind, and what they printed."""
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in re.findall(r"^```python\n(.*?)^```", HOW_TO.read_text(), re.S | re.M):
            exec(compile(block, str(HOW_TO), "exec"), names)
    return names | {"printed": printed.getvalue()}


def test_the_how_to_prints_what_it_says(how_to: dict[str, Any]) -> None:
    said = "".join(re.findall(r"^```text\n(.*?)^```", HOW_TO.read_text(), re.S | re.M)).split()
    found = how_to["printed"].split()
    assert len(found) == len(said)
    for one, other in zip(found, said, strict=True):
        # Another library of linear algebra may decide otherwise about a scan or two.
        if re.fullmatch(r"\d\.\d\d,?", other):
            assert float(one.rstrip(",")) == pytest.approx(float(other.rstrip(",")), abs=0.02)
        else:
            assert one == other


def test_the_how_to_leaks_before_splitting_and_not_inside_the_fold(how_to: dict[str, Any]) -> None:
    # Ten outcomes: the standard error of a mean is .02.
    assert how_to["wrong"] > 0.62
    assert how_to["right"] == pytest.approx(0.5, abs=0.06)
