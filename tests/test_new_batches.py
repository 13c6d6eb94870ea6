"""Batches that were not fitted: drawn from the prior, merged in by update, or adopted given the population."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.errors import DataError, UnseenBatchError

SITES = (30, 25, 20, 18, 15, 12, 10, 12)
NEW = "site_08"


@pytest.fixture(scope="module")
def simulation() -> bc.datasets.Simulation:
    return bc.datasets.simulate(SITES, features=20, seed=3)


@pytest.fixture(scope="module")
def old(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    return simulation.table[simulation.table["site"] != NEW]


@pytest.fixture(scope="module")
def new(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    return simulation.table[simulation.table["site"] == NEW]


def study_of(table: pd.DataFrame, simulation: bc.datasets.Simulation, **roles: object) -> bc.Study:
    roles = {"batch": "site", "covariates": "age + sex", "features": simulation.features} | roles
    return bc.Study.from_dataframe(table, **roles)


@pytest.fixture(scope="module")
def fit(old: pd.DataFrame, simulation: bc.datasets.Simulation) -> bc.Fit:
    """A fit by NUTS to all sites but one: 2 chains of 1,000 draws."""
    return bc.fit(study_of(old, simulation), chains=2, tune=500, draws=1000, seed=1, progress_bar=False)


@pytest.fixture(scope="module")
def updated(fit: bc.Fit, new: pd.DataFrame) -> bc.Fit:
    return fit.update(new)


@pytest.fixture(scope="module")
def adopted(fit: bc.Fit, new: pd.DataFrame) -> bc.Fit:
    return fit.adopt(new)


@pytest.fixture(scope="module")
def quick(old: pd.DataFrame, simulation: bc.datasets.Simulation) -> bc.Fit:
    return bc.fit(study_of(old, simulation), method="eb")


# ---------------------------------------------------------------- unseen="prior"


def test_an_unknown_batch_is_an_error_by_default(fit: bc.Fit, new: pd.DataFrame) -> None:
    with pytest.raises(UnseenBatchError, match="found 'site_08'.*unseen='prior'"):
        fit.harmonize(new)


def test_shift_and_scale_of_a_new_batch_have_the_moments_of_their_prior(fit: bc.Fit, new: pd.DataFrame) -> None:
    """The spread of a harmonized value over the draws follows from the hierarchical priors alone."""
    draws = fit.parameters.isel(batch_variable=0).stack(sample=("chain", "draw"))
    rng = np.random.default_rng(0)
    size = draws.sizes["sample"]
    normal = {name: rng.standard_normal(size) for name in ("mu", "tau", "g", "lam", "omega", "t")}
    widened = (1 + 1 / 7) ** 0.5
    mu = draws["gamma_mean_spread"].values * widened * normal["mu"]
    tau = np.exp(draws["gamma_sd_log_typical"].values + draws["gamma_sd_spread"].values * normal["tau"])
    lam = draws["log_delta_mean_spread"].values * widened * normal["lam"]
    omega = np.exp(draws["log_delta_sd_log_typical"].values + draws["log_delta_sd_spread"].values * normal["omega"])
    one = draws.isel(feature=4)
    typical = one["sigma"].values * one["delta_typical"].values
    gamma = one["gamma_typical"].values + typical * (mu + tau * normal["g"])
    limit = 3 * np.hypot(draws["log_delta_mean_spread"], np.exp(draws["log_delta_sd_log_typical"])).values
    delta = one["delta_typical"].values * np.exp(np.clip(lam + omega * normal["t"], -limit, limit))
    row = new.iloc[[0]]
    offset = np.array([row["age"].item(), float(row["sex"].item() == "M")]) - fit.layout.center[0]
    predicted = one["alpha"].values + offset @ one["beta"].values
    expected = predicted + (row["feature_4"].item() - predicted - gamma) / delta
    found = fit.draws(size, row, unseen="prior").values[:, 0, 4]
    # Two samples of 2,000: five standard errors of a difference.
    sd = expected.std()
    assert abs(found.mean() - expected.mean()) <= 5 * sd * (2 / size) ** 0.5
    for share in (0.05, 0.25, 0.75, 0.95):
        assert (
            abs(np.mean(found <= np.quantile(expected, share)) - share) <= 5 * (share * (1 - share) * 2 / size) ** 0.5
        )


def test_intervals_of_an_unknown_batch_are_wider_than_those_of_a_known_one(fit: bc.Fit, new: pd.DataFrame) -> None:
    unknown = fit.harmonize(new, unseen="prior")["sd"]
    known = fit.harmonize(new.assign(site="site_07"))["sd"]
    assert float(unknown.mean()) > 2 * float(known.mean())


def test_an_unknown_batch_is_the_same_in_every_call(fit: bc.Fit, new: pd.DataFrame) -> None:
    whole, part = fit.harmonize(new, unseen="prior"), fit.harmonize(new.head(2), unseen="prior")
    for name in ("mean", "sd", "lower", "upper"):
        # Matrix products of another size may round differently.
        np.testing.assert_allclose(part[name], whole[name].isel(obs=slice(2)), rtol=1e-12)


def test_unknown_batches_differ_from_one_another(fit: bc.Fit, new: pd.DataFrame) -> None:
    one, other = (fit.harmonize(new.assign(site=site), unseen="prior")["mean"] for site in ("x", "y"))
    assert (one != other).all()


def test_rows_of_known_batches_are_as_they_were(fit: bc.Fit, old: pd.DataFrame, simulation: object) -> None:
    together = fit.harmonize(simulation.table, unseen="prior")
    xr_known = together.sel(obs=old.index)
    np.testing.assert_array_equal(xr_known["lower"], fit.harmonize(old)["lower"])


def test_empirical_bayes_takes_an_unknown_batch_for_an_average_one(quick: bc.Fit, new: pd.DataFrame) -> None:
    parameters = quick.parameters
    gamma, delta = parameters["gamma"].mean("batch"), np.exp(np.log(parameters["delta"]).mean("batch"))
    offset = np.column_stack([new["age"], new["sex"] == "M"]) - quick.layout.center
    predicted = parameters["alpha"].values + offset @ parameters["beta"].values.T
    expected = predicted + (new[list(parameters["feature"].values)] - predicted - gamma.values) / delta.values
    np.testing.assert_allclose(quick.harmonize(new, unseen="prior")["mean"], expected, rtol=1e-12)


def test_a_policy_that_does_not_exist_is_refused(quick: bc.Fit, new: pd.DataFrame) -> None:
    with pytest.raises(bc.BayesCombatError, match="unseen to be 'error' or 'prior', found 'guess'"):
        quick.harmonize(new, unseen="guess")


# ---------------------------------------------------------------- update


@pytest.mark.parametrize("share", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(3))
def test_update_equals_fitting_everything_at_once(simulation: bc.datasets.Simulation, share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    table, names = simulation.table.copy(), list(simulation.features)
    table[names] = table[names].mask(rng.random((len(table), len(names))) < share)
    # Some scans of known sites come later, and a whole site.
    late = (table["site"] == NEW) | (rng.random(len(table)) < 0.3)
    late &= ~table.index.isin(table.groupby("site").head(6).index) | (table["site"] == NEW)
    first = study_of(table[~late], simulation)
    found = bc.fit(first, method="eb").update(table[late]).harmonize(table)["mean"]
    expected = bc.fit(bc.Study.from_design(table, first.spec), method="eb").harmonized["mean"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_update_keeps_the_settings(old: pd.DataFrame, new: pd.DataFrame, simulation: bc.datasets.Simulation) -> None:
    study = study_of(old, simulation)
    fit = bc.fit(study, method="eb", shrinkage="nonparametric", mean_only=True)
    whole = bc.fit(study_of(simulation.table, simulation), method="eb", shrinkage="nonparametric", mean_only=True)
    found = fit.update(new)
    np.testing.assert_allclose(found.harmonize(new)["mean"], whole.harmonize(new)["mean"], rtol=0, atol=1e-10)


def test_update_takes_moments(quick: bc.Fit, new: pd.DataFrame) -> None:
    moments = bc.Moments.from_study(bc.Study.from_design(new, quick.layout.spec))
    assert quick.update(moments).parameters.identical(quick.update(new).parameters)


def test_update_by_nuts_has_the_posterior_of_everything(updated: bc.Fit, simulation: bc.datasets.Simulation) -> None:
    # A whole new site leaves the moments of the others as they are, to the last bit; so the draws are the same.
    whole = bc.fit(study_of(simulation.table, simulation), chains=2, tune=500, draws=1000, seed=1, progress_bar=False)
    np.testing.assert_allclose(updated.parameters["gamma"], whole.parameters["gamma"], rtol=0, atol=1e-6)


def test_update_leaves_the_old_fit(quick: bc.Fit, new: pd.DataFrame) -> None:
    before = quick.parameters.copy(deep=True)
    quick.update(new)
    assert quick.parameters.identical(before) and quick.moments.batches == quick.layout.levels.labels


def test_update_refuses_scans_of_another_design(quick: bc.Fit, new: pd.DataFrame) -> None:
    other = bc.Study.from_dataframe(
        pd.concat([new, new.assign(site="x").set_axis(new.index + 1000)]), batch="site", features="feature_"
    )
    with pytest.raises(DataError, match="covariates"):
        quick.update(other)


def test_an_updated_fit_holds_no_rows(quick: bc.Fit, new: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="holds its rows"):
        quick.update(new).harmonized  # noqa: B018


# ---------------------------------------------------------------- adopt


def test_adopt_leaves_every_other_batch_as_it_was(fit: bc.Fit, adopted: bc.Fit, old: pd.DataFrame) -> None:
    assert adopted.harmonize(old).identical(fit.harmonize(old))


def test_adopt_comes_close_to_update(fit: bc.Fit, adopted: bc.Fit, updated: bc.Fit, new: pd.DataFrame) -> None:
    one, other = adopted.harmonize(new), updated.harmonize(new)
    sigma = fit.parameters["sigma"].mean(("chain", "draw"))
    rms = lambda values: float((values**2).mean() ** 0.5)  # noqa: E731
    away = rms((one["mean"] - other["mean"]) / sigma)
    raw = rms((new[list(sigma["feature"].values)] - other["mean"].values).to_numpy() / sigma.values)
    assert away < 0.2 and away < raw / 3
    assert float((one["sd"] / other["sd"]).mean()) == pytest.approx(1, abs=0.25)


def test_adopt_says_how_far_update_is(fit: bc.Fit, adopted: bc.Fit, updated: bc.Fit, new: pd.DataFrame) -> None:
    said = float(adopted.verdict.split("by about ")[1].split(" sigma")[0])
    sigma = fit.parameters["sigma"].mean(("chain", "draw"))
    away = (adopted.harmonize(new)["mean"] - updated.harmonize(new)["mean"]) / sigma
    assert 0.5 < said / float((away**2).mean() ** 0.5) < 2
    assert "Adopted 'site_08'" in adopted.verdict


def test_what_adopt_says_is_the_distance_by_empirical_bayes(
    quick: bc.Fit, new: pd.DataFrame, simulation: bc.datasets.Simulation
) -> None:
    adopted = quick.adopt(new)
    said = float(adopted.verdict.split("by about ")[1].split(" sigma")[0])
    away = adopted.harmonize(new)["mean"] - quick.update(new).harmonize(new)["mean"]
    expected = float(((away / quick.parameters["sigma"]) ** 2).mean() ** 0.5)
    assert said == pytest.approx(expected, rel=0.06)


def test_the_distance_knows_what_features_share(new: pd.DataFrame, simulation: bc.datasets.Simulation) -> None:
    noise = np.random.default_rng(8).normal(size=len(simulation.table))
    table = simulation.table.copy()
    table[list(simulation.features)] += 0.5 * noise[:, None] * simulation.truth["sigma"].values
    old, late = table.drop(index=new.index), table.loc[new.index]
    study = bc.Study.from_dataframe(old, batch="site", covariates="age + sex", features=simulation.features)
    fit = bc.fit(study, method="eb", shared_factors=1)
    adopted = fit.adopt(late)
    said = float(adopted.verdict.split("by about ")[1].split(" sigma")[0])
    away = adopted.harmonize(late)["mean"] - fit.update(late).harmonize(late)["mean"]
    assert said == pytest.approx(float(((away / fit.parameters["sigma"]) ** 2).mean() ** 0.5), rel=0.06)


def test_adopt_by_empirical_bayes_is_the_shrunken_estimate_given_the_rest(quick: bc.Fit, new: pd.DataFrame) -> None:
    parameters = quick.parameters
    offset = np.column_stack([new["age"], new["sex"] == "M"]) - quick.layout.center
    residual = new[list(parameters["feature"].values)].to_numpy() - parameters["alpha"].values
    residual = (residual - offset @ parameters["beta"].values.T) / parameters["sigma"].values
    n, gamma_hat, delta2_hat = len(new), residual.mean(axis=0), residual.var(axis=0, ddof=1)
    here = quick.adopt(new).parameters.sel(batch=NEW)
    gamma, delta2 = here["gamma"].values / parameters["sigma"].values, here["delta"].values ** 2
    tau2, mean = gamma_hat.var(ddof=1), gamma_hat.mean()
    m, v = delta2_hat.mean(), delta2_hat.var(ddof=1)
    a, b = (2 * v + m**2) / v, (m * v + m**3) / v
    squares = (n - 1) * delta2_hat + n * (gamma_hat - gamma) ** 2
    np.testing.assert_allclose(gamma, (tau2 * n * gamma_hat + delta2 * mean) / (tau2 * n + delta2), atol=1e-10)
    np.testing.assert_allclose(delta2, (squares / 2 + b) / (n / 2 + a - 1), rtol=1e-10)


def test_one_scan_is_adopted_with_wide_intervals(fit: bc.Fit, adopted: bc.Fit, new: pd.DataFrame) -> None:
    one = fit.adopt(new.head(1)).harmonize(new)["sd"].mean()
    assert float(adopted.harmonize(new)["sd"].mean()) < float(one)
    assert float(one) < float(fit.harmonize(new, unseen="prior")["sd"].mean())


def test_update_after_adopt_is_update(quick: bc.Fit, new: pd.DataFrame, simulation: bc.datasets.Simulation) -> None:
    table = simulation.table
    more = table[table["site"] == "site_02"].head(4).assign(site="site_09")
    late = quick.adopt(new).update(more.set_axis(more.index + 1000))
    at_once = quick.update(new).update(more.set_axis(more.index + 1000))
    np.testing.assert_allclose(late.harmonize(table)["mean"], at_once.harmonize(table)["mean"], rtol=0, atol=1e-10)


def test_batches_are_adopted_one_after_the_other_or_together(fit: bc.Fit, new: pd.DataFrame) -> None:
    other = new.assign(site="x")
    both = pd.concat([new, other.set_axis(other.index + 1000)])
    together, apart = fit.adopt(both), fit.adopt(new).adopt(other)
    np.testing.assert_array_equal(together.parameters["gamma"], apart.parameters["gamma"])
    assert together.layout.levels.labels[-2:] == (NEW, "x")


def test_priors_of_an_adopted_batch_have_the_origin_of_the_others(adopted: bc.Fit, updated: bc.Fit) -> None:
    for name in ("gamma_mean", "log_delta_mean", "gamma_sd", "log_delta_sd"):
        one = adopted.parameters[name].sel(batch=NEW)
        other = updated.parameters[name].sel(batch=NEW)
        # The pooled target of the update holds the new scans too, a tenth of all.
        assert abs(float(one.mean() - other.mean())) <= float(other.std()) + 0.1, name


def test_a_known_batch_is_not_adopted(quick: bc.Fit, old: pd.DataFrame) -> None:
    with pytest.raises(DataError, match="does not know, found scans of .*'site_01'.*update"):
        quick.adopt(old)


def test_an_adopted_fit_comes_back_from_its_file(adopted: bc.Fit, new: pd.DataFrame, tmp_path: Path) -> None:
    adopted.save(tmp_path / "fit.nc")
    loaded = bc.load(tmp_path / "fit.nc")
    assert loaded.harmonize(new).identical(adopted.harmonize(new))
    assert loaded.harmonized.identical(adopted.harmonized)
    assert loaded.summary().equals(adopted.summary())


def test_adopt_repeats(fit: bc.Fit, adopted: bc.Fit, new: pd.DataFrame) -> None:
    assert fit.adopt(new).parameters.identical(adopted.parameters)


def test_adopt_needs_the_moments(quick: bc.Fit, new: pd.DataFrame, tmp_path: Path) -> None:
    quick.save(tmp_path / "fit.nc", data=False, moments=False)
    with pytest.raises(DataError, match="holds its moments"):
        bc.load(tmp_path / "fit.nc").adopt(new)


# ---------------------------------------------------------------- new levels of one of several batch variables


@pytest.fixture(scope="module")
def crossed(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    return simulation.table.assign(coil=np.random.default_rng(1).choice(["p", "q"], len(simulation.table)))


@pytest.fixture(scope="module")
def crossed_fits(crossed: pd.DataFrame, simulation: bc.datasets.Simulation) -> tuple[bc.Fit, bc.Fit]:
    """A fit to all sites but one that has adopted the last, and a fit to all."""
    rows = crossed["site"] == NEW
    fit = bc.fit(study_of(crossed[~rows], simulation, batch=["site", "coil"]), method="eb")
    whole = bc.fit(study_of(crossed, simulation, batch=["site", "coil"]), method="eb")
    return fit.adopt(crossed[rows]), whole


def test_a_new_level_of_one_variable_is_adopted_given_the_other(
    crossed: pd.DataFrame, crossed_fits: tuple[bc.Fit, bc.Fit]
) -> None:
    rows, (adopted, whole) = crossed["site"] == NEW, crossed_fits
    away = adopted.harmonize(crossed[rows])["mean"] - whole.harmonize(crossed[rows])["mean"]
    assert float(((away / whole.parameters["sigma"]) ** 2).mean() ** 0.5) < 0.2


def test_adopted_scans_count_for_their_levels_of_every_variable(crossed_fits: tuple[bc.Fit, bc.Fit]) -> None:
    adopted, whole = crossed_fits
    counts = adopted.summary()["scans"]
    assert counts.to_dict() == whole.summary()["scans"].to_dict()


def test_new_levels_of_two_variables_at_once_are_refused(
    crossed: pd.DataFrame, simulation: bc.datasets.Simulation
) -> None:
    fit = bc.fit(study_of(crossed, simulation, batch=["site", "coil"]), method="eb")
    with pytest.raises(DataError, match="new levels of one batch variable, found some of 'site', 'coil'"):
        fit.adopt(crossed.head(5).assign(site="x", coil="r"))


def test_a_new_level_of_a_variable_of_one_level_is_refused(
    crossed: pd.DataFrame, simulation: bc.datasets.Simulation
) -> None:
    fit = bc.fit(study_of(crossed.assign(coil="p"), simulation, batch=["site", "coil"]), method="eb")
    with pytest.raises(UnseenBatchError, match="knows one level of 'coil'"):
        fit.harmonize(crossed, unseen="prior")


def test_warnings_of_the_distance_stay_inside(quick: bc.Fit, new: pd.DataFrame) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        quick.adopt(new.head(1))


# ---------------------------------------------------------------- what does not fit, said


@pytest.mark.parametrize("action", ["update", "adopt", "harmonize"])
def test_rows_do_not_change_the_reference(
    quick: bc.Fit, new: pd.DataFrame, simulation: bc.datasets.Simulation, action: str
) -> None:
    study = bc.Study.from_design(new, quick.layout.spec, reference=NEW)
    with pytest.raises(DataError, match=f"reference, which is 'the pooled average', found the reference '{NEW}'"):
        getattr(quick, action)(study)


@pytest.mark.parametrize("action", ["update", "adopt"])
@pytest.mark.parametrize(
    "roles",
    [{"covariates": "age"}, {"batch": ["site", "sex"], "covariates": "age"}, {"features": ["feature_0"]}],
    ids=str,
)
def test_moments_of_another_design_are_refused(
    quick: bc.Fit, simulation: bc.datasets.Simulation, roles: dict[str, object], action: str
) -> None:
    other = bc.Moments.from_study(study_of(simulation.table, simulation, **roles))
    with pytest.raises(DataError, match="Expected moments of one design, found designs that differ in"):
        getattr(quick, action)(other)


def test_an_adopted_level_may_be_called_like_that_of_a_variable_of_one_level(
    simulation: bc.datasets.Simulation,
) -> None:
    table = simulation.table.assign(coil=NEW)
    rows = table["site"] == NEW
    adopted = bc.fit(study_of(table[~rows], simulation, batch=["site", "coil"]), method="eb").adopt(table[rows])
    with pytest.raises(UnseenBatchError, match="knows one level of 'coil'"):
        adopted.harmonize(table[rows].assign(coil="other"), unseen="prior")


def test_scans_that_update_would_refuse_are_adopted_and_it_is_said(quick: bc.Fit, new: pd.DataFrame) -> None:
    twice = pd.concat([new.head(1), new.head(1)], ignore_index=True)
    with pytest.warns(bc.FeatureWarning, match="Constant in new batches of two or more scans: 'feature_0'"):
        adopted = quick.adopt(twice)
    assert "update would refuse these scans (Expected at least one feature that varies" in adopted.verdict


def test_a_feature_that_is_constant_in_an_adopted_batch_is_named(quick: bc.Fit, new: pd.DataFrame) -> None:
    with pytest.warns(bc.FeatureWarning, match="Constant in new batches of two or more scans: 'feature_1'. Update"):
        adopted = quick.adopt(new.assign(feature_1=2.0))
    assert adopted.verdict.endswith("(root mean square) and set aside 1 more features.")


def test_an_unseen_batch_is_no_target(quick: bc.Fit, new: pd.DataFrame) -> None:
    with pytest.raises(UnseenBatchError, match=f"a target among the fitted batches .* found '{NEW}'"):
        quick.harmonize(new, target=NEW, unseen="prior")
