"""bc.evaluate: what harmonizers are said to remove and to preserve, on studies whose truth is known."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.evaluate import classification, harmonizers
from tests.studies import small_study, without_cells

QUIET: dict = {"seed": 1, "permutations": 30, "progress_bar": False}
CLASSIFIERS = ["site: logistic regression", "site: random forest"]
SHARES = ["site: share of variance", "site: share of components", "site: share of distances"]
SCANS = (40, 40, 40, 40)


@pytest.fixture(autouse=True, scope="module")
def few_trees() -> Iterator[None]:
    """Grow small forests, which here are as good and take less time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(classification, "TREES", 15)
        yield


type Rows = Callable[[bc.Study], np.ndarray]


def study_of_sites(**roles: object) -> bc.Study:
    """Four sites whose ages differ, with strong effects of site, age and sex."""
    simulation = bc.datasets.simulate(
        SCANS, features=12, seed=5, site_age_sd=15.0, beta_sd=0.6, gamma_sd=0.8, log_delta_mean_sd=0.3
    )
    return bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="age + sex", features=simulation.features, **roles
    )


def constant(train: bc.Study) -> Rows:
    return lambda rows: np.broadcast_to(train.y.mean(axis=0), rows.y.shape)


def histograms_matched(train: bc.Study) -> Rows:
    """Every batch's distribution becomes the pooled one, whatever its covariates are."""
    pooled = np.sort(train.y, axis=0)
    places = np.linspace(0, 1, len(pooled))

    def harmonize(rows: bc.Study) -> np.ndarray:
        found = rows.y.copy()
        for code, label in enumerate(rows.batches):
            own = np.sort(train.y[train.codes == train.batches.index(label)], axis=0)
            mine = rows.codes == code
            for v in range(found.shape[1]):
                share = np.interp(found[mine, v], own[:, v], np.linspace(0, 1, len(own)))
                found[mine, v] = np.interp(share, places, pooled[:, v])
        return found

    return harmonize


def means_taken_out(train: bc.Study) -> Rows:
    """Location alone, covariates unknown."""
    means = {label: train.y[train.codes == code].mean(axis=0) for code, label in enumerate(train.batches)}
    return lambda rows: rows.y - np.array([means[rows.batches[code]] for code in rows.codes]) + train.y.mean(axis=0)


def covariates_erased(train: bc.Study) -> Rows:
    """The published ComBat, and then the effects of covariates go too."""
    fit = bc.fit(train, method="eb")
    beta = fit.parameters["beta"].values
    return lambda rows: fit.harmonize(rows)["mean"].values - (rows.x - train.x.mean(axis=0)) @ beta.T


def memorised(train: bc.Study) -> Rows:
    """Harmonized where the scan was learned from, raw where it was not."""
    known = dict(zip(train.obs, bc.fit(train, method="eb").harmonized["mean"].values, strict=True))
    return lambda rows: np.array([known.get(label, y) for label, y in zip(rows.obs, rows.y, strict=True)])


@pytest.fixture(scope="module")
def study() -> bc.Study:
    return study_of_sites()


@pytest.fixture(scope="module")
def found(study: bc.Study) -> bc.Evaluation:
    given = {
        "EB": bc.fit(study, method="eb"),
        "constant": constant,
        "histograms": histograms_matched,
        "erased": covariates_erased,
        "memorised": memorised,
    }
    return bc.evaluate(study, given, **QUIET)


@pytest.fixture(scope="module")
def in_sample(study: bc.Study) -> bc.Evaluation:
    given = {"EB": bc.fit(study, method="eb"), "memorised": memorised}
    return bc.evaluate(study, given, held_out=False, **QUIET)


# What good harmonization looks like


def test_raw_values_tell_the_batch_and_harmonized_ones_hardly_do(found: bc.Evaluation) -> None:
    table, data = found.table, found.dataset
    assert (table.loc[CLASSIFIERS, "raw"] > 0.7).all()
    assert (table.loc[CLASSIFIERS, "EB"] < 0.4).all()
    assert (data["p"].sel(metric=[*CLASSIFIERS, *SHARES], table="raw") == 1 / 31).all()
    assert (data["p"].sel(metric=CLASSIFIERS, table="constant") == 1).all()
    assert (table.loc[SHARES, "raw"] > 0.15).all()
    assert (table.loc[SHARES, "EB"] < 0.06).all()
    assert table.loc["site: means that differ", "raw"] > 0.8 and table.loc["site: means that differ", "EB"] == 0
    assert table.loc["site: spreads that differ", "raw"] > 0.5 > table.loc["site: spreads that differ", "EB"]
    assert table.loc["site: share of covariances", "raw"] > table.loc["site: share of covariances", "EB"] + 0.1


def test_chance_is_one_over_the_number_of_batches_and_what_plain_means_leave(found: bc.Evaluation) -> None:
    expected = found.table["expected"]
    assert (expected[CLASSIFIERS] == 0.25).all()
    # 32 of 40 scans are learned from.
    assert expected["site: share of variance"] == pytest.approx(1 / 33, abs=0.02)


def test_harmonization_preserves_covariates_and_order(found: bc.Evaluation) -> None:
    data = found.dataset.sel(table="EB")
    for metric in ("age: effect", "sex: effect"):
        assert float(data["lower"].sel(metric=metric)) < 1 < float(data["upper"].sel(metric=metric))
    assert float(data["estimate"].sel(metric="order within batches")) > 0.95
    table = found.table
    assert table.loc["age: R² of prediction", "EB"] > 0.4
    assert table.loc["sex: effect size", "EB"] == pytest.approx(table.loc["sex: effect size", "expected"], rel=0.1)


def test_slopes_of_features_stand_beside_those_within_batches(found: bc.Evaluation, study: bc.Study) -> None:
    data = found.dataset
    age = data["slope_within"].sel(column="age")
    error = {name: float(abs(data["slope"].sel(column="age", table=name) - age).mean()) for name in ("raw", "EB")}
    assert error["EB"] < 0.3 * error["raw"]
    assert data["slope"].dims == ("table", "column", "feature")


# Negative controls: removal metrics like each of them


def test_a_constant_is_caught_by_everything_that_should_be_preserved(found: bc.Evaluation) -> None:
    table = found.table["constant"]
    assert (table[CLASSIFIERS] == 0.25).all()
    assert (table[[*SHARES, "site: share of covariances", "site: means that differ"]] == 0).all()
    # A fold's constant is the mean of the others.
    assert (abs(table[["age: effect", "sex: effect", "order within batches"]]) < 0.02).all()
    assert table["age: R² of prediction"] <= 0 and table["sex: balanced accuracy"] == 0.5


def test_matched_histograms_are_caught_by_the_effects_of_covariates(found: bc.Evaluation) -> None:
    data = found.dataset.sel(table="histograms")
    removed = found.table.loc["site: share of variance"]
    assert removed["histograms"] < removed["raw"] / 2
    assert found.table.loc["order within batches", "histograms"] > 0.95
    assert float(data["upper"].sel(metric="age: effect")) < 0.9
    prediction = found.table.loc["age: R² of prediction"]
    assert prediction["histograms"] < prediction["EB"] - 0.1


def test_an_erased_covariate_is_caught(found: bc.Evaluation) -> None:
    table = found.table["erased"]
    assert (table[CLASSIFIERS] < 0.4).all() and (table[SHARES] < 0.06).all()
    assert abs(table["age: effect"]) < 0.1 and table["age: R² of prediction"] < 0.1
    assert table["sex: effect size"] < found.table.loc["sex: effect size", "EB"] / 2


def test_what_was_memorised_is_caught_by_holding_out(found: bc.Evaluation, in_sample: bc.Evaluation) -> None:
    assert (in_sample.table.loc[SHARES, "memorised"] < 0.02).all()
    np.testing.assert_allclose(found.table.loc[SHARES, "memorised"], found.table.loc[SHARES, "raw"], atol=1e-9)


def test_judged_in_sample_batches_are_more_alike_than_chance(found: bc.Evaluation, in_sample: bc.Evaluation) -> None:
    flattered = in_sample.table.loc[SHARES, "EB"]
    assert (flattered < found.table.loc[SHARES, "EB"]).all() and (flattered < 0).all()
    accuracy = in_sample.table.loc["site: logistic regression"]
    assert accuracy["EB"] < accuracy["expected"] < accuracy["raw"]
    assert "In-sample" in repr(in_sample) and "looks better than it is" in repr(in_sample)


def test_means_taken_out_without_covariates_are_caught(study: bc.Study) -> None:
    table = bc.evaluate(study, means_taken_out, **QUIET).table
    assert table.loc["age: effect", "harmonized"] < 0.9


# The result


def test_the_same_seed_gives_the_same_bits(study: bc.Study) -> None:
    fit = bc.fit(study, method="eb")
    one, other, another = (bc.evaluate(study, fit, **QUIET | {"seed": seed}).dataset for seed in (1, 1, 2))
    assert one.identical(other)
    assert not one["fold"].equals(another["fold"])


def test_a_feature_in_other_units_changes_nothing() -> None:
    study = study_of_sites()
    scale = np.where(np.arange(12) % 2 == 0, 1e4, 1e-3)
    found = [bc.evaluate(one, means_taken_out, **QUIET) for one in (study, replace(study, y=study.y * scale + 3.0))]
    for name in ("estimate", "sd", "expected", "slope", "mean_p"):
        np.testing.assert_allclose(*(one.dataset[name] for one in found), rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_seed_of_a_call_without_one_is_kept(study: bc.Study) -> None:
    found = bc.evaluate(study, constant, permutations=2, progress_bar=False)
    again = bc.evaluate(study, constant, permutations=2, progress_bar=False, seed=found.dataset.attrs["seed"])
    assert found.dataset.identical(again.dataset)


def test_one_table_stands_side_by_side(study: bc.Study) -> None:
    text = repr(bc.evaluate(study, bc.fit(study, method="eb"), **QUIET))
    words = " ".join(text.split())
    first = text.splitlines()[0]
    assert first.split() == [
        "REMOVAL",
        "raw",
        "harmonized",
        "chance",
        "|",
        "PRESERVATION",
        "raw",
        "harmonized",
        "within",
    ]
    assert max(map(len, text.splitlines())) <= 130
    assert "5 folds" in words and "empirical Bayes with the fit's own settings" in words and " nan" not in words


def test_the_dataset_is_labelled_and_can_be_kept(found: bc.Evaluation, tmp_path: object) -> None:
    data = found.dataset
    assert set(data["kind"].values) == {"removal", "preservation"}
    assert data["table"].values.tolist() == ["raw", "EB", "constant", "histograms", "erased", "memorised"]
    assert data["batch_share"].sizes == {"batch_variable": 1, "table": 6, "feature": 12}
    assert (np.bincount(data["fold"]) == 32).all()
    accuracies = data.sel(metric=CLASSIFIERS)
    assert (accuracies["lower"] >= 0).all() and (accuracies["upper"] <= 1).all()
    assert (data["lower"] <= data["upper"]).where(data["sd"].notnull(), True).all()
    data.to_netcdf(f"{tmp_path}/evaluation.nc")
    assert xr.load_dataset(f"{tmp_path}/evaluation.nc").equals(data)


def test_estimates_without_groups_give_the_jackknife_of_any_difference(found: bc.Evaluation) -> None:
    data = found.dataset
    spread = data["left_out"].std("group") * 19**0.5
    assert data.sizes["group"] == 20
    for metric in (*SHARES, "age: effect", "age: R² of prediction", "order within batches"):
        assert spread.sel(metric=metric).values == pytest.approx(data["sd"].sel(metric=metric).values)
    # Of accuracies the interval is that of a beta posterior, which is of the same size.
    raw = spread.sel(metric=CLASSIFIERS, table="raw") / data["sd"].sel(metric=CLASSIFIERS, table="raw")
    assert ((raw > 0.5) & (raw < 2)).all()
    assert data["left_out"].sel(metric="site: means that differ").isnull().all()


# Draws


def test_draws_make_intervals_wider_and_leave_estimates(study: bc.Study) -> None:
    fit = bc.fit(study, method="eb", uncertainty=True, seed=1)
    point, drawn = (
        bc.evaluate(study, fit, draws=draws, **QUIET).dataset.sel(table="harmonized") for draws in (None, 6)
    )
    effect = {"metric": "age: effect"}
    assert float(drawn["sd"].sel(effect)) > float(point["sd"].sel(effect))
    assert drawn["estimate"].equals(point["estimate"])
    assert float(drawn["drawn"].sel(effect).mean()) == pytest.approx(float(point["estimate"].sel(effect)), abs=0.1)
    # A rate of discoveries has no sampling distribution here; draws give it one.
    rate = {"metric": "site: means that differ"}
    assert np.isnan(point["sd"].sel(rate)) and drawn["sd"].sel(rate).notnull()


def test_a_function_may_return_draws(study: bc.Study) -> None:
    def noisy(train: bc.Study) -> Rows:
        rng = np.random.default_rng(0)
        return lambda rows: means_taken_out(train)(rows) + rng.normal(0, 0.05, (4, 1, 12))

    found = bc.evaluate(study, noisy, **QUIET).dataset.sel(table="harmonized", metric="site: share of variance")
    assert float(found["sd"]) > 0


# NUTS


def test_a_fit_by_nuts_is_refitted_as_it_says(
    tiny_study: bc.Study, tiny_fit: bc.Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harmonizers, "QUICK", {"chains": 2, "tune": 60, "draws": 30})
    with pytest.warns(bc.BatchSizeWarning, match="cannot be judged"):
        quick = bc.evaluate(tiny_study, tiny_fit, folds=2, draws=5, **QUIET)
    assert "2 chains of 30 after 60" in quick.dataset.attrs["design"]
    assert any(note.startswith("A refit of 'harmonized' should not be trusted") for note in quick.notes)
    metric = {"metric": "order within batches", "table": "harmonized"}
    assert float(quick.dataset["estimate"].sel(metric)) > 0.8
    with pytest.warns(bc.BatchSizeWarning):
        plain = bc.evaluate(tiny_study, tiny_fit, folds=2, refit="eb", **QUIET)
    assert "by empirical Bayes, although the fit is by NUTS" in plain.dataset.attrs["design"]
    with pytest.warns(bc.BatchSizeWarning):
        own = bc.evaluate(tiny_study, bc.fit(tiny_study, method="eb"), folds=2, **QUIET)
    xr.testing.assert_allclose(plain.dataset["estimate"], own.dataset["estimate"])


def test_draws_of_a_fit_as_it_stands(tiny_study: bc.Study, tiny_fit: bc.Fit) -> None:
    with pytest.warns(bc.BatchSizeWarning):
        found = bc.evaluate(tiny_study, tiny_fit, folds=2, draws=5, held_out=False, **QUIET)
    assert found.dataset.attrs["draws"] == 5 and "as it is, in-sample" in found.dataset.attrs["design"]


# Tables of every kind


def evaluated(study: bc.Study, **settings: object) -> bc.Evaluation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.evaluate(study, bc.fit(study, method="eb"), **QUIET | {"folds": 3} | settings)


def assert_whole(found: bc.Evaluation) -> None:
    """Check that every metric has an estimate of every table."""
    assert found.dataset["estimate"].notnull().all()
    for name in ("batch_share", "mean_p", "spread_p", "slope", "slope_within"):
        assert found.dataset[name].notnull().all(), name


def test_missing_cells_and_a_batch_of_one_scan() -> None:
    study = without_cells(small_study())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        fit = bc.fit(study, method="eb")
    with pytest.warns(bc.BatchSizeWarning, match="'site_04' cannot be judged"):
        found = bc.evaluate(study, fit, **QUIET | {"folds": 3})
    assert_whole(found)
    assert found.dataset["fold"].values[-1] == -1 and "nothing is said of 'site_04'" in repr(found)
    assert "missing cells are filled at random" in repr(found)


def test_constant_features_are_set_aside() -> None:
    study = small_study(scans=(12, 9, 8))
    y = study.y.copy()
    y[:, 1] = 0.0
    found = evaluated(replace(study, y=y))
    assert_whole(found)
    assert "Set aside 1 of 4 features" in found.notes[0] and "'feature_1'" in found.notes[0]
    assert "feature_1" not in found.dataset["feature"].values


def test_what_a_refit_sets_aside_is_said() -> None:
    study = small_study(scans=(12, 9, 3))
    y = study.y.copy()
    y[-3:-1, 2] = 2.5
    found = evaluated(replace(study, y=y))
    assert_whole(found)
    assert any("set aside 'feature_2'" in note and "are raw" in note for note in found.notes)


def test_sites_of_three_scans_and_more_folds_than_that() -> None:
    found = evaluated(small_study(scans=(3,) * 12), folds=5)
    assert_whole(found)
    assert (found.dataset["fold"] >= 0).all()


def test_several_batch_variables_are_looked_at_given_each_other() -> None:
    simulation = bc.datasets.simulate((20, 20, 20), features=6, seed=2)
    software = np.resize(["5", "6"], 60)
    table = simulation.table.assign(software=software)
    table[list(simulation.features)] += 3.0 * (software == "6")[:, None]
    study = bc.Study.from_dataframe(table, batch=["site", "software"], covariates="age", features=simulation.features)
    found = evaluated(study)
    assert_whole(found)
    shares = found.table.loc[["site: share of variance", "software: share of variance"]]
    assert (shares["raw"] > 0.1).all() and (shares["harmonized"] < shares["raw"] / 2).all()
    assert found.table.loc["software: logistic regression", "raw"] > 0.95


def test_several_batch_variables_by_their_names_of_levels() -> None:
    table = pd.DataFrame({"site": np.repeat(["a", "b"], 12), "day": ["x"] * 24, "f": np.arange(24.0) % 7})
    study = bc.Study.from_dataframe(table, batch=["site", "day"], features=["f"])
    found = evaluated(study)
    assert found.dataset["batch_variable"].values.tolist() == ["site"]


def test_a_study_on_the_log_scale() -> None:
    simulation = bc.datasets.simulate((20, 20, 20), features=5, seed=2)
    table = simulation.table.copy()
    table[list(simulation.features)] = np.exp(table[list(simulation.features)])
    kinds = [(simulation.table, None), (table, "log")]
    studies = [
        bc.Study.from_dataframe(one, batch="site", covariates="age", features=simulation.features, transform=transform)
        for one, transform in kinds
    ]
    found = [evaluated(study).dataset for study in studies]
    np.testing.assert_allclose(found[0]["estimate"], found[1]["estimate"], rtol=1e-6, atol=1e-9)
    with pytest.raises(bc.DataError, match="above zero"):
        bc.evaluate(studies[1], lambda train: lambda rows: rows.y - 100.0, **QUIET)


def test_a_reference_batch() -> None:
    assert_whole(evaluated(small_study(scans=(12, 9, 8), reference="site_02")))


def test_removed_covariates_and_curves() -> None:
    simulation = bc.datasets.simulate((30, 20, 20), features=5, seed=2)
    table = simulation.table.assign(motion=np.random.default_rng(0).normal(size=70))
    study = bc.Study.from_dataframe(
        table, batch="site", smooth={"age": 6}, remove="motion", features=simulation.features
    )
    found = evaluated(study)
    assert_whole(found)
    assert float(found.dataset["estimate"].sel(metric="age: effect", table="harmonized")) == pytest.approx(1, abs=0.15)
    assert "age: R² of prediction" in found.dataset["metric"]
    assert any("'motion'" in note for note in found.notes)


def travelling_study(**roles: object) -> tuple[bc.Study, np.ndarray]:
    """Twelve people who are scanned at each of three sites."""
    rng = np.random.default_rng(0)
    people, site = np.tile(np.arange(12), 3), np.repeat([0, 1, 2], 12)
    own, shifts = rng.normal(0, 2.0, (12, 8)), rng.normal(0, 3.0, (3, 8))
    y = own[people] + shifts[site] + rng.normal(0, 0.5, (36, 8))
    labels = np.array([f"p{k}" for k in people])
    return bc.Study.from_arrays(y, batch=site, **({"subject": labels} if roles.get("subject") else {})), labels


@pytest.mark.parametrize("modelled", [True, False])
def test_travelling_subjects_are_held_out_together_and_recognised_again(modelled: bool) -> None:
    study, labels = travelling_study(subject=modelled)
    found = evaluated(study, subject=None if modelled else labels)
    assert_whole(found)
    assert all(len(set(found.dataset["fold"].values[labels == label])) == 1 for label in set(labels))
    table = found.table.loc[["subjects: intraclass correlation", "subjects: recognised"]]
    assert (table["harmonized"] > 0.8).all() and (table["raw"] < 0.7).all()
    assert found.dataset["intraclass_correlation"].sizes == {"table": 2, "feature": 8}


def test_without_repeated_scans_nothing_is_said_of_subjects(found: bc.Evaluation) -> None:
    assert not any(metric.startswith("subjects") for metric in found.dataset["metric"].values)


# Covariates


def test_a_diagnosis_that_the_formula_does_not_name(study: bc.Study) -> None:
    rng = np.random.default_rng(0)
    dx = rng.integers(0, 2, len(study.obs))
    y = study.y + 1.5 * dx[:, None] * study.y.std(axis=0)
    ill = replace(study, y=y)
    found = bc.evaluate(ill, bc.fit(ill, method="eb"), covariates={"dx": np.where(dx, "case", "control")}, **QUIET)
    assert found.table.loc["dx: effect", "harmonized"] == pytest.approx(1, abs=0.1)
    assert found.table.loc["dx: balanced accuracy", "harmonized"] > 0.9
    assert found.dataset["column"].values.tolist() == ["age", "sex[T.M]", "dx[T.control]"]


def test_values_of_a_spline_can_be_given() -> None:
    simulation = bc.datasets.simulate((30, 20, 20), features=5, seed=2)
    study = bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="bs(age, df=4)", features=simulation.features
    )
    plain, told = evaluated(study), evaluated(study, covariates=simulation.table[["age"]])
    assert "age: effect" in plain.dataset["metric"] and "age: R² of prediction" not in plain.dataset["metric"]
    assert any("do not tell its values" in note for note in plain.notes)
    assert "age: R² of prediction" in told.dataset["metric"]


def test_interactions_are_not_compared() -> None:
    simulation = bc.datasets.simulate((30, 20, 20), features=5, seed=2)
    study = bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="age * sex", features=simulation.features
    )
    found = evaluated(study)
    assert any("'age' acts together" in note for note in found.notes)
    assert not any(metric.startswith("age") for metric in found.dataset["metric"].values)


# Refusals


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"folds": 1}, "folds to be a whole number of at least 2"),
        ({"permutations": 0}, "permutations to be a whole number"),
        ({"draws": 1}, "draws to be a whole number"),
        ({"probability": 1.0}, "probability between 0 and 1"),
        ({"refit": "never"}, "refit to be 'quick'"),
        ({"folds": 200}, "two batches or more whose scans can be held out in 200 folds"),
        ({"subject": ["a", "b"]}, "a subject for each of the 160 scans"),
        ({"covariates": [1, 2]}, "a DataFrame or a mapping"),
        ({"covariates": {"dx": [1, 2]}}, "for each of the 160 scans"),
        ({"covariates": {"dx": np.full(160, np.nan)}}, "a finite number of 'dx'"),
        ({"covariates": {"dx": np.repeat([0, 1], 80)}}, "to vary within batches"),
        (
            {"covariates": {"dx": pd.Series(np.arange(160.0), np.arange(160)[::-1])}},
            "in the order of the study's scans",
        ),
    ],
)
def test_arguments_are_checked(study: bc.Study, change: dict, words: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=words):
        bc.evaluate(study, constant, **QUIET | change)


@pytest.mark.parametrize(
    ("harmonizer", "words"),
    [
        (3, "as 'harmonized', found int"),
        ({"raw": constant}, "'raw' not among them"),
        ({}, "'raw' not among them"),
        (lambda train: lambda rows: rows.y[:3], "to return values"),
        (lambda train: lambda rows: rows.y * np.nan, "a finite harmonized value"),
    ],
)
def test_harmonizers_are_checked(study: bc.Study, harmonizer: object, words: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=words):
        bc.evaluate(study, harmonizer, **QUIET)


def test_what_fails_in_a_fold_says_which(study: bc.Study) -> None:
    def broken(train: bc.Study) -> Rows:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError) as caught:
        bc.evaluate(study, {"mine": broken}, **QUIET)
    assert "'mine' learning without the scans" in caught.value.__notes__[0]


def test_fits_of_other_studies_are_refused(study: bc.Study) -> None:
    fit = bc.fit(study, method="eb")
    with pytest.raises(bc.DataError, match="Expected a study with the features"):
        bc.evaluate(small_study(), fit, **QUIET)
    with pytest.raises(bc.DataError, match="whose reference is 'site_01'"):
        bc.evaluate(study_of_sites(reference="site_01"), fit, **QUIET)
    with pytest.raises(bc.BayesCombatError, match="Expected fits with draws"):
        bc.evaluate(study, fit, draws=5, **QUIET)
    with pytest.raises(bc.DataError, match="Expected a Study, found DataFrame"):
        bc.evaluate(pd.DataFrame(), fit, **QUIET)


def test_nothing_is_changed(study: bc.Study) -> None:
    before = study.y.copy(), study.x.copy(), study.codes.copy()
    fit = bc.fit(study, method="eb")
    tree = fit.tree.copy(deep=True)
    bc.evaluate(study, fit, **QUIET)
    for one, other in zip(before, (study.y, study.x, study.codes), strict=True):
        np.testing.assert_array_equal(one, other)
    assert fit.tree.identical(tree)
