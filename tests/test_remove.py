"""Covariates to be removed: modelled with those that are preserved, and taken out."""

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.adjust import Draws, adjust, adjusted_draws

SIMULATION = bc.datasets.simulate((40, 25, 15), features=4, seed=2)
FEATURES = list(SIMULATION.features)
PLAIN: dict[str, Any] = {"method": "eb", "shrinkage": "none", "mean_only": True}


def table(missing: bool = False) -> pd.DataFrame:
    """The simulation with motion, which hangs together with age and makes every feature larger."""
    rng = np.random.default_rng(5)
    data = SIMULATION.table.copy()
    data["motion"] = rng.gamma(2.0, size=len(data)) + 0.02 * data["age"]
    data["software"] = np.resize(["5", "6", "6"], len(data))
    y = data[FEATURES].to_numpy() + 0.3 * data["motion"].to_numpy()[:, None] + 0.2 * (data[["software"]] == "6").values
    if missing:
        y[rng.random(y.shape) < 0.15] = np.nan
    data[FEATURES] = y
    return data


def study_of(data: pd.DataFrame, **options: Any) -> bc.Study:
    options = {"covariates": "age + sex", "remove": "motion + software"} | options
    return bc.Study.from_dataframe(data, batch="site", features=FEATURES, **options)


def slopes(data: pd.DataFrame, y: np.ndarray) -> np.ndarray:
    """Least squares of a table on site, age, sex, motion and software: the last four rows, (covariate, feature)."""
    x = pd.get_dummies(data[["age", "motion", "site", "sex", "software"]], drop_first=True, dtype=float)
    x = x[["age", "sex_M", "motion", "software_6", *(name for name in x if name.startswith("site"))]]
    return np.linalg.lstsq(np.column_stack([x, np.ones(len(x))]), y, rcond=None)[0][:4]


# ---------------------------------------------------------------- the design


def test_the_design_knows_what_is_removed() -> None:
    spec = study_of(table()).spec
    assert set(spec.covariates) == {"age", "motion", "sex[T.M]", "software[T.6]"}
    assert set(spec.removed) == {"motion", "software[T.6]"}
    assert [name for name, kept in zip(spec.covariates, spec.kept, strict=True) if kept] == ["age", "sex[T.M]"]
    assert spec == bc.DesignSpec.from_json(spec.to_json())
    assert spec != study_of(table(), covariates="age + sex + motion + software", remove=None).spec


def test_a_design_of_version_1_removes_nothing() -> None:
    spec = study_of(table(), remove=None).spec
    content = json.loads(spec.to_json()) | {"version": 1}
    del content["remove"], content["removed"]
    old = bc.DesignSpec.from_json(json.dumps(content))
    assert old == spec and old.kept.all()


def test_removed_columns_that_the_design_lacks_are_no_design() -> None:
    content = json.loads(study_of(table()).spec.to_json()) | {"removed": ["weight"]}
    with pytest.raises(bc.FileFormatError, match="'weight'"):
        bc.DesignSpec.from_json(json.dumps(content))


def test_a_spline_to_be_removed_is_learned_once() -> None:
    data = table()
    spec = study_of(data, remove="bs(motion, df=4)").spec
    assert len(spec.removed) == 4 and all("motion" in name for name in spec.removed)
    replayed = bc.DesignSpec.from_json(spec.to_json()).matrix(data.iloc[[3, 7]])
    np.testing.assert_array_equal(replayed, spec.matrix(data)[[3, 7]])


@pytest.mark.parametrize("remove", ["motion + age", "`age`", ["age"], "age*motion"])
def test_a_covariate_in_both_formulas_is_named(remove: Any) -> None:
    with pytest.raises(bc.DataError, match=r"preserved or to be removed, found 'age' in both"):
        study_of(table(), remove=remove)


def test_removing_one_formula_takes_nothing_from_the_other() -> None:
    assert study_of(table(), remove="motion - age").spec.removed == ("motion",)


def test_a_removed_covariate_may_be_confounded_with_batch() -> None:
    data = table()
    data["scanner"] = data["site"].map({"site_01": 1.0, "site_02": 2.0, "site_03": 4.0})
    with pytest.warns(bc.OverlapWarning):
        study = study_of(data, remove="scanner")
    with pytest.raises(bc.ConfoundedDesignError, match="'scanner' constant within every"):
        bc.fit(study, method="eb")


def test_what_is_removed_is_no_feature() -> None:
    study = bc.Study.from_dataframe(table().drop(columns="sex"), batch="site", covariates="age", remove="motion")
    assert study.features == tuple(FEATURES)
    assert "removed: 'motion'" in repr(study)


def test_arrays_and_tables_are_the_same_study() -> None:
    data = table()
    y, batch = data[FEATURES].to_numpy(), data["site"].to_numpy()
    kept, removed = data[["age"]].to_numpy(), data[["motion"]].to_numpy()
    arrays = bc.Study.from_arrays(y, batch=batch, covariates=kept, remove=removed)
    assert (arrays.spec.covariates, arrays.spec.removed) == (("covariate_0", "removed_0"), ("removed_0",))
    expected = bc.fit(study_of(data, covariates="age", remove="motion"), method="eb").harmonized["mean"]
    np.testing.assert_array_equal(bc.fit(arrays, method="eb").harmonized["mean"], expected)


def test_arrays_with_one_name_for_both_are_refused() -> None:
    data = table()
    with pytest.raises(bc.DataError, match="Expected every covariate once, found 'age' again"):
        bc.Study.from_arrays(data[FEATURES], batch=data["site"], covariates=data[["age"]], remove=data[["age"]])


def test_studies_that_remove_other_covariates_do_not_merge() -> None:
    data = table()
    one, other = study_of(data), study_of(data, covariates="age + sex + motion", remove="software")
    with pytest.raises(bc.DataError, match="differ in 'formula', 'remove'"):
        bc.merge([one, other])
    with pytest.raises(bc.DataError, match="Expected a study with the"):
        bc.fit(one, method="eb").harmonize(other)


# ---------------------------------------------------------------- the values


def test_removed_slopes_are_gone_and_preserved_ones_stay() -> None:
    data = table()
    before = slopes(data, data[FEATURES].to_numpy())
    after = slopes(data, bc.fit(study_of(data), **PLAIN).harmonized["mean"].values)
    np.testing.assert_allclose(after[:2], before[:2], rtol=0, atol=1e-12)
    np.testing.assert_allclose(after[2:], 0, rtol=0, atol=1e-12)
    assert np.abs(before[2:]).min() > 0.05


def test_harmonized_values_stand_at_the_average_of_what_is_removed() -> None:
    # Of every feature, over the scans that it was observed in.
    data = table(missing=True)
    found = bc.fit(study_of(data), **PLAIN).harmonized["mean"].values
    np.testing.assert_allclose(np.nanmean(found, axis=0), data[FEATURES].mean(), rtol=1e-12)
    assert (np.isnan(found) == data[FEATURES].isna().to_numpy()).all()


@pytest.mark.parametrize("missing", [False, True])
def test_the_equation_by_hand(missing: bool) -> None:
    data = table(missing)
    fit = bc.fit(study_of(data), method="eb")
    study, p = fit.study, fit.parameters
    seen = np.isfinite(study.y).astype(float)
    offset = study.x[:, None] - ((seen.T @ study.x) / seen.sum(axis=0)[:, None])
    fixed = p["alpha"].values + (offset * p["beta"].values).sum(axis=-1)
    kept = p["alpha"].values + (offset * study.spec.kept * p["beta"].values).sum(axis=-1)
    gamma, delta = p["gamma"].values, p["delta"].values
    noise = (study.y - fixed - gamma[study.codes]) / delta[study.codes]
    np.testing.assert_allclose(fit.harmonized["mean"], kept + noise, rtol=0, atol=1e-12)
    np.testing.assert_allclose(
        fit.harmonize(data, target="site_02")["mean"], kept + gamma[1] + noise * delta[1], rtol=0, atol=1e-12
    )


def test_rows_of_the_reference_lose_what_is_removed_and_nothing_else() -> None:
    data = table()
    fit = bc.fit(study_of(data, reference="site_02"), method="eb")
    still = (data["site"] == "site_02").to_numpy()
    offset, beta = (fit.study.x - fit.study.x.mean(axis=0))[still], fit.parameters["beta"].values
    removed = offset[:, ~fit.study.spec.kept] @ beta[:, ~fit.study.spec.kept].T
    found, raw = fit.harmonized["mean"].values[still], data[FEATURES].to_numpy()[still]
    np.testing.assert_allclose(found, raw - removed, rtol=0, atol=1e-12)
    assert np.abs(removed).max() > 0.1


def test_adopting_says_how_far_an_update_would_move_values() -> None:
    data = table()
    new = data[data["site"] == "site_03"]
    fit = bc.fit(study_of(data[data["site"] != "site_03"]), method="eb")
    adopted, updated = fit.adopt(new), fit.update(new)
    moved = adopted.harmonize(new)["mean"].values - updated.harmonize(new)["mean"].values
    sigma = adopted.parameters["sigma"].values
    said = float(re.search(r"about (\S+) sigma", adopted.verdict).group(1))
    assert said == pytest.approx(np.sqrt(((moved / sigma) ** 2).mean()), rel=0.06)


# ---------------------------------------------------------------- draws


def random_draws(n: int = 50) -> Draws:
    rng = np.random.default_rng(0)
    return Draws(
        alpha=rng.normal(size=(n, 3)),
        beta=rng.normal(size=(n, 3, 2)),
        gamma=rng.normal(size=(n, 2, 3)),
        delta=np.exp(0.2 * rng.normal(size=(n, 2, 3))),
        sigma=np.exp(0.2 * rng.normal(size=(n, 3))),
        center=rng.normal(size=2),
        kept=np.array([True, False]),
        standing=rng.normal(size=(n, 3)),
    )


@pytest.mark.parametrize("target", [None, (1,)])
def test_mean_and_sd_are_exact_over_the_draws(target: tuple[int, ...] | None) -> None:
    draws, rng = replace(random_draws(), target=target), np.random.default_rng(1)
    y, x, levels = rng.normal(size=(9, 3)), rng.normal(size=(9, 2)), rng.integers(2, size=(9, 1))
    offset = x - draws.center
    gamma, delta = draws.gamma[:, levels[:, 0]], draws.delta[:, levels[:, 0]]
    fixed = draws.alpha[:, None] + np.einsum("op,dvp->dov", offset, draws.beta)
    kept = draws.alpha[:, None] + offset[:, 0, None] * draws.beta[:, None, :, 0] + draws.standing[:, None]
    noise = (y - fixed - gamma) / delta
    expected = kept + (noise if target is None else draws.gamma[:, 1:] + noise * draws.delta[:, 1:])
    np.testing.assert_allclose(adjusted_draws(draws, y, x, levels), expected, rtol=0, atol=1e-12)
    found = adjust(draws, y, x, levels)
    np.testing.assert_allclose(found.mean, expected.mean(axis=0), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.sd, expected.std(axis=0, ddof=1), rtol=1e-9)


def test_predictions_of_missing_cells_do_not_know_what_is_removed() -> None:
    draws, y, levels = random_draws(), np.full((2, 3), np.nan), np.zeros((2, 1), dtype=int)
    x = np.array([[0.5, -3.0], [0.5, 40.0]])
    found = [adjusted_draws(draws, y[[i]], x[[i]], levels[[i]], np.random.default_rng(4)) for i in (0, 1)]
    np.testing.assert_array_equal(*found)
    moved = adjusted_draws(draws, y[[0]], x[[0]] + [[1.0, 0.0]], levels[[0]], np.random.default_rng(4))
    np.testing.assert_allclose(moved - found[0], draws.beta[:, None, :, 0], rtol=0, atol=1e-12)
