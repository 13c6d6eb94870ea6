"""Missing cells: every feature is fitted to the scans that it was observed in, and only to them."""

from pathlib import Path

import combaters
import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.moments.sums import ARRAYS, cell_sums
from benchmarks import replicates

COMBATERS = {
    "parametric": {},
    "nonparametric": {"par_prior": False},
    "mean-only": {"mean_only": True},
    "reference": {"ref_batch": "site_02"},
}


@pytest.fixture(scope="module")
def simulation() -> bc.datasets.Simulation:
    return bc.datasets.simulate((25, 20, 15, 10), features=40, seed=4)


def with_holes(simulation: bc.datasets.Simulation, share: float, seed: int = 0) -> pd.DataFrame:
    """Return the table with this share of its cells missing at random, one cell at the least."""
    table, features = simulation.table.copy(), list(simulation.features)
    holes = np.random.default_rng(seed).random((len(table), len(features))) < share
    holes[3, 1] = True
    table[features] = table[features].mask(holes)
    return table


def study_of(table: pd.DataFrame, simulation: bc.datasets.Simulation, **roles: object) -> bc.Study:
    roles = {"batch": "site", "covariates": "age + sex", "features": simulation.features} | roles
    return bc.Study.from_dataframe(table, **roles)


# ---------------------------------------------------------------- moments


def test_moments_are_those_of_the_observed_scans(simulation: bc.datasets.Simulation) -> None:
    study = study_of(with_holes(simulation, 0.2), simulation)
    moments = bc.Moments.from_study(study)
    for i, batch in enumerate(study.batches):
        for v in range(0, 40, 7):
            rows = (study.codes == study.batches.index(batch)) & ~np.isnan(study.y[:, v])
            alone = cell_sums(study.y[:, [v]], study.x, [np.flatnonzero(rows)])
            for name in ARRAYS[:3]:
                np.testing.assert_allclose(getattr(moments, name)[i, v], alone[name][0, 0], rtol=1e-12, err_msg=name)
            for name in ("mean_y", "sxy", "syy"):
                np.testing.assert_allclose(getattr(moments, name)[i, v], alone[name][0, 0], rtol=1e-11, err_msg=name)


def test_a_complete_table_keeps_the_compact_form(simulation: bc.datasets.Simulation) -> None:
    moments = bc.Moments.from_study(study_of(simulation.table, simulation))
    assert moments.n.shape == (4, 1) and moments.sxx.shape == (4, 1, 2, 2)


def test_scans_are_counted_whether_observed_or_not(simulation: bc.datasets.Simulation) -> None:
    assert bc.Moments.from_study(study_of(with_holes(simulation, 0.2), simulation)).scans.tolist() == [25, 20, 15, 10]


def test_moments_of_parts_with_and_without_holes_merge(simulation: bc.datasets.Simulation) -> None:
    table = with_holes(simulation, 0.1)
    table.loc[table["site"] == "site_02", list(simulation.features)] = simulation.table[list(simulation.features)]
    pooled = study_of(table, simulation)
    parts = [bc.Moments.from_study(bc.Study.from_design(rows, pooled.spec)) for _, rows in table.groupby("site")]
    assert {part.n.shape[1] for part in parts} == {1, 40}
    merged, expected = bc.merge(parts), bc.Moments.from_study(pooled)
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(merged, name), getattr(expected, name), err_msg=name)


def test_moments_with_holes_come_back_from_their_file(simulation: bc.datasets.Simulation, tmp_path: Path) -> None:
    moments = bc.Moments.from_study(study_of(with_holes(simulation, 0.1), simulation))
    moments.save(tmp_path / "moments.nc")
    loaded = bc.Moments.load(tmp_path / "moments.nc")
    for name in ("scans", *ARRAYS):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(moments, name), err_msg=name)


# ---------------------------------------------------------------- empirical Bayes


@pytest.mark.parametrize("share", [0.001, 0.01, 0.05, 0.2])
@pytest.mark.parametrize("mode", COMBATERS)
def test_sva_mode_equals_combaters(simulation: bc.datasets.Simulation, share: float, mode: str) -> None:
    table = with_holes(simulation, share)
    reference = COMBATERS[mode].get("ref_batch")
    study = study_of(table, simulation, reference=reference)
    other = combaters.combat(study.y, table["site"].to_numpy(), study.x, **COMBATERS[mode])
    shrinkage = "nonparametric" if mode == "nonparametric" else "parametric"
    fit = bc.fit(study, method="eb", compat="sva", shrinkage=shrinkage, mean_only=mode == "mean-only")
    np.testing.assert_allclose(fit.harmonized["mean"], other["adjusted"], rtol=0, atol=1e-8)


@pytest.mark.parametrize("shrinkage", ["parametric", "nonparametric", "none"])
def test_scans_without_any_value_are_as_if_absent(simulation: bc.datasets.Simulation, shrinkage: str) -> None:
    table = simulation.table.copy()
    empty = np.arange(len(table)) % 7 == 2
    table.loc[empty, list(simulation.features)] = np.nan
    whole = bc.fit(study_of(table, simulation), method="eb", shrinkage=shrinkage)
    short = bc.fit(study_of(table[~empty], simulation), method="eb", shrinkage=shrinkage)
    np.testing.assert_allclose(whole.harmonized["mean"][~empty], short.harmonized["mean"], rtol=0, atol=1e-12)


def test_without_shrinkage_a_feature_is_that_of_its_observed_scans(simulation: bc.datasets.Simulation) -> None:
    table = with_holes(simulation, 0.15)
    found = bc.fit(study_of(table, simulation), method="eb", shrinkage="none").harmonized["mean"]
    for name in simulation.features[::9]:
        seen = table[table[name].notna()]
        with pytest.warns(bc.PoolingWarning):
            alone = bc.fit(study_of(seen, simulation, features=[name]), method="eb").harmonized["mean"]
        np.testing.assert_allclose(found.sel(feature=name, obs=seen.index), alone[:, 0], rtol=0, atol=1e-11)


@pytest.mark.parametrize("shrinkage", ["parametric", "nonparametric"])
def test_a_cell_without_scans_takes_no_part_in_the_priors(simulation: bc.datasets.Simulation, shrinkage: str) -> None:
    table = simulation.table.copy()
    table.loc[table["site"] == "site_03", "feature_5"] = np.nan
    with pytest.warns(bc.FeatureWarning, match="never observed: 'feature_5' in 'site_03'"):
        holed = bc.fit(study_of(table, simulation), method="eb", shrinkage=shrinkage).parameters
    others = [name for name in simulation.features if name != "feature_5"]
    without = bc.fit(study_of(table, simulation, features=others), method="eb", shrinkage=shrinkage).parameters
    found = holed["gamma"].sel(batch="site_03", feature=others)
    np.testing.assert_allclose(found, without["gamma"].sel(batch="site_03"), rtol=0, atol=1e-12)


def test_rows_of_a_batch_that_lacked_the_feature_follow_the_prior(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.copy()
    table.loc[table["site"] == "site_03", "feature_5"] = np.nan
    with pytest.warns(bc.FeatureWarning, match="never observed"):
        fit = bc.fit(study_of(table, simulation), method="eb")
    here = fit.parameters.sel(batch="site_03", feature="feature_5")
    assert float(here["gamma"] / fit.parameters["sigma"].sel(feature="feature_5")) == pytest.approx(
        float(here["gamma_mean"])
    )
    later = fit.harmonize(simulation.table[simulation.table["site"] == "site_03"])["mean"].sel(feature="feature_5")
    assert np.isfinite(later).all()


# ---------------------------------------------------------------- what comes out


def test_missing_cells_stay_missing_and_nothing_else_is(simulation: bc.datasets.Simulation) -> None:
    table = with_holes(simulation, 0.1)
    found = bc.fit(study_of(table, simulation), method="eb").harmonized["mean"]
    np.testing.assert_array_equal(np.isnan(found), table[list(simulation.features)].isna())


def test_a_feature_seen_in_one_batch_alone_is_set_aside(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.copy()
    table.loc[table["site"] != "site_01", "feature_2"] = np.nan
    with pytest.warns(bc.FeatureWarning, match="too few scans or batches: 'feature_2'"):
        found = bc.fit(study_of(table, simulation), method="eb").harmonized
    np.testing.assert_array_equal(found["mean"].sel(feature="feature_2"), table["feature_2"])


def test_a_feature_whose_scans_confound_a_covariate_is_set_aside(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.copy()
    # In each site the feature was observed in one sex only.
    sex = np.where(table["site"].isin(["site_01", "site_02"]), "F", "M")
    table.loc[table["sex"] != sex, "feature_2"] = np.nan
    with pytest.warns(bc.FeatureWarning, match="covariates confounded: 'feature_2'"):
        fit = bc.fit(study_of(table, simulation), method="eb")
    assert fit.parameters.sizes["feature"] == 39


def test_a_batch_in_which_nothing_was_observed_is_refused(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.copy()
    table.loc[table["site"] == "site_03", list(simulation.features)] = np.nan
    with pytest.raises(bc.DataError, match="observed values in every batch, found none .* 'site_03'. Drop these"):
        bc.fit(study_of(table, simulation), method="eb")


@pytest.fixture(scope="module")
def holed_fit(simulation: bc.datasets.Simulation) -> bc.Fit:
    """A fit by NUTS to 6 features with a tenth of the cells missing; 2 chains of 500 draws."""
    study = study_of(with_holes(simulation, 0.1), simulation, features=simulation.features[:6])
    return bc.fit(study, chains=2, tune=500, draws=500, seed=2, progress_bar=False)


def test_nuts_leaves_missing_cells_missing(holed_fit: bc.Fit) -> None:
    holes = np.isnan(holed_fit.study.y)
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_array_equal(np.isnan(holed_fit.harmonized[name]), holes, err_msg=name)


def test_draws_leave_missing_cells_missing(holed_fit: bc.Fit) -> None:
    holes = np.isnan(holed_fit.study.y)
    np.testing.assert_array_equal(np.isnan(holed_fit.draws(3)), np.broadcast_to(holes, (3, *holes.shape)))


def test_imputing_changes_the_missing_cells_alone(holed_fit: bc.Fit) -> None:
    seen = ~np.isnan(holed_fit.study.y)
    filled = holed_fit.draws(5, impute=True)
    np.testing.assert_array_equal(filled.values[:, seen], holed_fit.draws(5).values[:, seen])
    assert np.isfinite(filled).all()


def test_imputed_cells_are_posterior_predictive_draws(holed_fit: bc.Fit) -> None:
    study, draws = holed_fit.study, holed_fit.parameters.stack(sample=("chain", "draw"))
    row, column = (int(part[0]) for part in np.nonzero(np.isnan(study.y)))
    feature = study.features[column]
    center = holed_fit.layout.center[holed_fit.layout.features.index(feature)]
    mean = draws["alpha"].sel(feature=feature) + ((study.x[row] - center) @ draws["beta"].sel(feature=feature).values)
    filled = holed_fit.draws(1000, impute=True).values[:, row, column]
    variance = float(mean.var() + (draws["sigma"].sel(feature=feature) ** 2).mean())
    # 1,000 draws: four standard errors.
    assert abs(filled.mean() - float(mean.mean())) <= 4 * (variance / 1000) ** 0.5
    assert abs(filled.var() / variance - 1) <= 4 * (2 / 1000) ** 0.5


def test_imputing_repeats(holed_fit: bc.Fit) -> None:
    np.testing.assert_array_equal(holed_fit.draws(3, impute=True), holed_fit.draws(3, impute=True))


def test_imputing_to_a_target_takes_the_targets_shift_and_scale(holed_fit: bc.Fit) -> None:
    study, draws = holed_fit.study, holed_fit.parameters.stack(sample=("chain", "draw"))
    row, column = (int(part[0]) for part in np.nonzero(np.isnan(study.y)))
    feature = study.features[column]
    here = draws.sel(feature=feature, batch="site_04")
    center = holed_fit.layout.center[holed_fit.layout.features.index(feature)]
    slopes = (study.x[row] - center) @ draws["beta"].sel(feature=feature).values
    mean = here["alpha"] + slopes + here["gamma"]
    filled = holed_fit.draws(1000, target="site_04", impute=True).values[:, row, column]
    variance = float(mean.var() + ((here["delta"] * here["sigma"]) ** 2).mean())
    assert abs(filled.mean() - float(mean.mean())) <= 4 * (variance / 1000) ** 0.5
    assert abs(filled.var() / variance - 1) <= 4 * (2 / 1000) ** 0.5


# ---------------------------------------------------------------- real data


def test_replicates_of_mtbls79_agree_better_after_than_before(reference_data: Path) -> None:
    found = replicates.agreement("eb")
    assert found["after"].median() > found["before"].median() + 0.1
    assert (found["after"] > found["before"]).mean() > 0.9
