"""What follows from harmonized data: by hand, by statsmodels, and as the model itself says."""

from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import xarray as xr

import bayescombat as bc
from bayescombat.errors import BayesCombatError, ConvergenceWarning, DataError
from bayescombat.fit import drawing
from bayescombat.rubin import Answers, least_squares, pooled
from tests.studies import small_study, without_cells

GIVEN: dict[str, Any] = {"method": "eb", "uncertainty": True, "seed": 1}


def table_of_patients(scans: tuple[int, ...] = (30, 20, 12, 6), features: int = 12) -> tuple[pd.DataFrame, list[str]]:
    """Return a table where patients are more frequent in some sites than in others."""
    simulation = bc.datasets.simulate(scans, features=features, seed=4)
    table, rng = simulation.table, np.random.default_rng(2)
    share = pd.Categorical(table["site"]).codes / (2 * len(scans)) + 0.25
    table["dx"] = np.where(rng.random(len(table)) < share, "patient", "control")
    table["case"] = (table["dx"] == "patient").astype(int)
    table["score"] = rng.normal(size=len(table))
    return table, list(simulation.features)


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return table_of_patients()[0]


@pytest.fixture(scope="module")
def fit(table: pd.DataFrame) -> bc.Fit:
    features = table_of_patients()[1]
    study = bc.Study.from_dataframe(table, batch="site", covariates="age + dx", features=features)
    return bc.fit(study, seed=1, shared_factors=0, progress_bar=False)


def test_answers_are_pooled_as_by_hand() -> None:
    answers = Answers(
        np.array([1.0, 2.0, 3.0])[:, None, None], np.full((3, 1, 1), 0.5), np.array([20.0]), np.array([22])
    )
    found = pooled(answers)
    # W = 1/2, B = 1, T = 11/6, of which B's share is 8/11.
    assert found.estimate.item() == 2
    np.testing.assert_allclose(found.sd.item() ** 2, 11 / 6, rtol=1e-12)
    of_draws, observed = 2 * (11 / 8) ** 2, 21 / 23 * 20 * 3 / 11
    freedom = of_draws * observed / (of_draws + observed)
    np.testing.assert_allclose(found.freedom.item(), freedom, rtol=1e-12)
    np.testing.assert_allclose(found.lost.item(), (8 / 3 + 2 / (freedom + 3)) / (11 / 3), rtol=1e-12)


def test_answers_that_agree_lose_nothing() -> None:
    answers = Answers(np.ones((5, 1, 2)), np.full((5, 1, 2), 0.25), np.array([17.0, np.inf]), np.array([20, 20]))
    found = pooled(answers)
    assert (found.sd == 0.5).all() and (found.lost == 0).all()
    # Barnard and Rubin's degrees of freedom are fewer than those of the residuals even then.
    np.testing.assert_allclose(found.freedom[0], [18 / 20 * 17, np.inf])


def test_least_squares_is_that_of_statsmodels() -> None:
    rng = np.random.default_rng(1)
    x = np.column_stack([np.ones(15), rng.normal(size=(15, 2))])
    y = rng.normal(size=(2, 15, 3))
    y[:, [0, 4], 1] = np.nan
    found = least_squares(x, y)
    for draw in range(2):
        for feature in range(3):
            data = pd.DataFrame({"y": y[draw, :, feature], "a": x[:, 1], "b": x[:, 2]})
            expected = smf.ols("y ~ a + b", data).fit()
            np.testing.assert_allclose(found.estimate[draw, :, feature], expected.params, rtol=1e-10)
            np.testing.assert_allclose(found.variance[draw, :, feature], expected.bse**2, rtol=1e-10)
            assert (found.freedom[feature], found.scans[feature]) == (expected.df_resid, expected.nobs)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.filterwarnings("ignore::bayescombat.errors.FeatureWarning")
def test_all_features_at_once_are_what_statsmodels_finds_one_by_one(holes: bool) -> None:
    study = small_study((12, 9, 8), features=4)
    fit = bc.fit(without_cells(study) if holes else study, **GIVEN)
    once = bc.pool(fit, "value ~ age", n=5)
    each = bc.pool(fit, "value ~ age", n=5, model=smf.ols)
    xr.testing.assert_allclose(once, each, rtol=1e-9)
    assert holes == (len(set(once["scans"].values)) > 1)


def test_draws_pooled_say_what_the_model_says(fit: bc.Fit) -> None:
    # For shifts that are known up to their posterior the two are one: the variance of the slope within batches is that
    # of least squares over all, and what the shifts add.
    found = bc.pool(fit, "value ~ age + dx", n=1000).sel(term="dx[T.patient]")
    inside = fit.effect("dx", at=["patient"], against="control").isel(at=0)
    apart = (found["estimate"] - inside["mean"]) / inside["sd"]
    assert float(abs(apart).max()) < 0.35
    ratio = found["sd"] / inside["sd"]
    assert 0.85 < float(ratio.min()) and float(ratio.max()) < 1.25
    plain = bc.pool(bc.fit(fit.study, **GIVEN), "value ~ age + dx").sel(term="dx[T.patient]")
    assert float((plain["sd"] / inside["sd"]).mean()) < float(ratio.mean())


def test_more_is_lost_where_batch_tells_more_of_the_question(fit: bc.Fit, table: pd.DataFrame) -> None:
    # Age differs between the simulated sites, the score does not.
    lost = bc.pool(fit, "value ~ age + score", table)["information_lost"].mean("feature")
    assert float(lost.sel(term="age")) > 2 * float(lost.sel(term="score")) > 0


def test_rows_are_found_by_their_labels(fit: bc.Fit, table: pd.DataFrame) -> None:
    more = pd.concat([table.sample(frac=1, random_state=1), table.head(2).set_axis([1000, 1001])])
    xr.testing.assert_identical(bc.pool(fit, "value ~ dx", more), bc.pool(fit, "value ~ dx", table))


def test_covariates_of_the_study_need_no_table(fit: bc.Fit, table: pd.DataFrame) -> None:
    xr.testing.assert_allclose(bc.pool(fit, "value ~ age * dx"), bc.pool(fit, "value ~ age * dx", table), rtol=1e-9)


def test_rows_without_a_value_are_left_out(fit: bc.Fit, table: pd.DataFrame) -> None:
    holes = table.assign(score=table["score"].where(table.index > 9))
    assert (bc.pool(fit, "value ~ score", holes)["scans"] == len(table) - 10).all()


def test_a_feature_may_explain(fit: bc.Fit, table: pd.DataFrame) -> None:
    name = fit.layout.features[1]
    found = bc.pool(fit, f"case ~ {name} + age", table, model=smf.logit, n=8)
    estimates = [
        smf.logit(f"case ~ {name} + age", table.assign(**{name: values})).fit(disp=0).params[name]
        for values in fit.draws(8).sel(feature=name).values
    ]
    np.testing.assert_allclose(found["estimate"].sel(term=name).item(), np.mean(estimates), rtol=1e-10)
    assert np.isfinite(found["freedom"].values).all()


def test_subjects_need_a_model_that_knows_of_them(table: pd.DataFrame) -> None:
    table = table.assign(person=np.arange(len(table)) // 2)
    features = table_of_patients()[1][:2]
    study = bc.Study.from_dataframe(table, batch="site", features=features, subject="person")
    with pytest.raises(BayesCombatError, match="mixedlm"):
        bc.pool(bc.fit(study, method="eb"), "value ~ age", table)


@pytest.mark.filterwarnings("ignore")
def test_subjects_may_have_intercepts(fit: bc.Fit, table: pd.DataFrame) -> None:
    mixed = partial(smf.mixedlm, groups="person")
    table = table.assign(person=np.arange(len(table)) // 2)
    found = bc.pool(fit, "value ~ age", table, feature=fit.layout.features[0], model=mixed, n=3)
    assert list(found["term"].values) == ["Intercept", "age", "person Var"]


def by_person(formula: str, data: pd.DataFrame) -> Any:
    """Return a model whose scans of a person hang together."""
    return smf.gee(formula, "person", data)


@pytest.mark.parametrize("model", [smf.rlm, by_person])
def test_models_that_cannot_be_told_to_be_quiet_are_fitted(fit: bc.Fit, table: pd.DataFrame, model: Any) -> None:
    table = table.assign(person=np.arange(len(table)) // 2)
    name = fit.layout.features[0]
    found = bc.pool(fit, "value ~ age", table, feature=name, model=model, n=2)
    each = [
        model("value ~ age", table.assign(value=values)).fit().params
        for values in fit.draws(2).sel(feature=name).values
    ]
    np.testing.assert_allclose(found["estimate"].values[0], np.mean(each, axis=0), rtol=1e-10)


@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::statsmodels.tools.sm_exceptions.PerfectSeparationWarning")
@pytest.mark.filterwarnings("ignore:overflow")
def test_fits_that_did_not_converge_are_counted(fit: bc.Fit, table: pd.DataFrame) -> None:
    split = table.assign(high=(fit.study.y[:, 0] > np.median(fit.study.y[:, 0])).astype(int), same=fit.study.y[:, 0])
    with pytest.warns(ConvergenceWarning, match="did not converge"):
        bc.pool(fit, f"high ~ same + {fit.layout.features[1]}", split, model=smf.logit, n=2)


def test_false_discoveries_are_counted_over_the_features(fit: bc.Fit) -> None:
    found = bc.pool(fit, "value ~ age")
    p = np.sort(found["p"].sel(term="age").values)
    expected = np.minimum.accumulate((p * len(p) / np.arange(1, len(p) + 1))[::-1])[::-1]
    np.testing.assert_allclose(np.sort(found["p_fdr"].sel(term="age").values), np.minimum(expected, 1))


def test_some_features_are_as_among_all(fit: bc.Fit) -> None:
    some = fit.layout.features[3:5]
    every = bc.pool(fit, "value ~ dx").sel(feature=list(some)).drop_vars("p_fdr")
    xr.testing.assert_identical(bc.pool(fit, "value ~ dx", feature=some[::-1]).drop_vars("p_fdr"), every)


@pytest.mark.parametrize("settings", [GIVEN, {"chains": 1, "draws": 20, "tune": 50, "seed": 1, "progress_bar": False}])
@pytest.mark.filterwarnings("ignore::bayescombat.errors.ConvergenceWarning")
def test_draws_are_the_same_in_narrow_blocks(settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fit = bc.fit(small_study((12, 7, 5), features=40), **settings)
    whole = fit.draws(10)
    monkeypatch.setattr(drawing, "BLOCK", 1)
    parts = list(fit.draws_in_blocks(10))
    assert [part.sizes["feature"] for part in parts] == [16, 16, 8]
    xr.testing.assert_identical(xr.concat(parts, "feature"), whole.drop_vars("set_aside"))


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("age + dx", "with a response"),
        ("value ~ agee", "one name in"),
        ("age ~ dx", "found none"),
        ("feature_0 ~ feature_1", "found 'feature_0', 'feature_1'"),
        ("age ~ value", "alone on the left"),
        ("np.log(value) ~ age", "alone on the left"),
        ("value ~ age + I(2 * age)", "can be told apart"),
    ],
)
def test_what_cannot_be_asked_is_said(fit: bc.Fit, formula: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        bc.pool(fit, formula)


def test_what_cannot_be_answered_is_said(fit: bc.Fit, table: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="Did you mean 'feature_1'"):
        bc.pool(fit, "value ~ age", feature="feature1")
    with pytest.raises(DataError, match="none for '3'"):
        bc.pool(fit, "value ~ score", table.drop(index=3))
    with pytest.raises(BayesCombatError, match="which have no draws"):
        bc.pool(bc.fit(fit.study, method="eb"), "value ~ age")
    with pytest.raises(BayesCombatError, match="at least 2"):
        bc.pool(fit, "value ~ age", n=1)
    sparse = fit.study.y.copy()
    sparse[8:, 0] = np.nan
    rare = bc.fit(bc.Study.from_arrays(sparse, batch=np.arange(68) % 2), **GIVEN)
    parts = pd.DataFrame({"part": np.arange(68) // 8})
    with pytest.raises(DataError, match="too few with a value of 'feature_0'"):
        bc.pool(rare, "value ~ C(part)", parts)


@pytest.mark.parametrize("method", ["nuts", "eb"])
def test_effects_against_a_level_are_differences_of_curves(fit: bc.Fit, method: str) -> None:
    fit = fit if method == "nuts" else bc.fit(fit.study, method="eb")
    both = fit.effect("dx", at=["control", "patient"])
    found = fit.effect("dx", at=["control", "patient"], against="control")
    np.testing.assert_allclose(found["mean"].diff("at"), both["mean"].diff("at"), rtol=1e-9)
    same = found.sel(at="control")
    assert (same["sd"] == 0).all() and (same["p"] == 1).all()
    assert "p" not in both


def test_effects_of_estimates_are_tested_as_by_least_squares(fit: bc.Fit, table: pd.DataFrame) -> None:
    name = fit.layout.features[2]
    expected = smf.ols(f"{name} ~ C(site) + age + dx", table).fit().pvalues["dx[T.patient]"]
    found = bc.fit(fit.study, method="eb").effect("dx", at=["patient"], against="control")
    np.testing.assert_allclose(found["p"].sel(feature=name).item(), expected, rtol=1e-8)


def test_features_that_were_set_aside_or_misspelt_are_not_taken_for_all(table: pd.DataFrame) -> None:
    features = table_of_patients()[1][:3]
    study = bc.Study.from_dataframe(table.assign(still=1.0), batch="site", features=[*features, "still"])
    with pytest.warns(bc.FeatureWarning):
        fit = bc.fit(study, **GIVEN)
    with pytest.raises(DataError, match="set aside by the fit"):
        bc.pool(fit, "still ~ age", table)
    with pytest.raises(DataError, match="Did you mean 'feature_0'"):
        bc.pool(fit, "feature_00 ~ age", table)


def test_blocks_of_draws_are_of_features_that_are_known(fit: bc.Fit) -> None:
    assert [part.sizes["feature"] for part in fit.draws_in_blocks(5, "feature_3")] == [1]
    with pytest.raises(DataError, match="Did you mean 'feature_3'"):
        fit.draws_in_blocks(5, ["feature3"])


@pytest.mark.parametrize("probability", [None, "x", 0, 1.5])
def test_an_interval_has_a_probability(fit: bc.Fit, probability: Any) -> None:
    asks = [lambda: bc.pool(fit, "value ~ age", probability=probability), lambda: fit.effect("age", None, probability)]
    asks += [
        lambda: bc.predictive_check(fit, 5, probability),
        lambda: bc.evaluate(fit.study, fit, probability=probability),
    ]
    for ask in asks:
        with pytest.raises(BayesCombatError, match="between 0 and 1"):
            ask()


@pytest.mark.parametrize("against", [["control"], np.nan])
def test_one_value_is_compared_with(fit: bc.Fit, against: Any) -> None:
    with pytest.raises(DataError, match="one value of 'dx'"):
        fit.effect("dx", against=against)


def test_what_all_features_have_in_their_names_stands_for_all(table: pd.DataFrame) -> None:
    names = [f"lh_{name}_thickness" for name in "abc"]
    renamed = table.rename(columns=dict(zip(table.filter(regex="^feature"), names, strict=False)))
    study = bc.Study.from_dataframe(renamed, batch="site", covariates="age", features=names)
    fit = bc.fit(study, method="eb", uncertainty=True, seed=1)
    assert bc.pool(fit, "thickness ~ age", n=5).sizes["feature"] == 3
    with pytest.raises(DataError, match="Did you mean 'lh_a_thickness'"):
        bc.pool(fit, "lh_aa_thickness ~ age", n=5)
