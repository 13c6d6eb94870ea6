"""Features that share factors: their cross-products, how many factors there are, what both estimators make of them."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.adoption import Evidence, Population, Shared, from_data
from bayescombat.errors import BayesCombatError, DataError
from bayescombat.factors import by_default, factors_of
from bayescombat.identification import estimable
from bayescombat.mixed import Levels, Mixed, mixed
from bayescombat.moments import Moments
from bayescombat.patterns import learned_patterns
from bayescombat.settings import Settings

SCANS = (40, 35, 30, 25, 20, 15, 10, 3)


def study_of(simulation: bc.datasets.Simulation, **roles: object) -> bc.Study:
    roles = {"batch": "site", "covariates": "age + sex", "features": simulation.features} | roles
    return bc.Study.from_dataframe(simulation.table, **roles)


@pytest.fixture(scope="module")
def simulation() -> bc.datasets.Simulation:
    return bc.datasets.simulate(SCANS, features=24, seed=4, factors=2, factor_share=0.5)


@pytest.fixture(scope="module")
def study(simulation: bc.datasets.Simulation) -> bc.Study:
    return study_of(simulation)


@pytest.fixture(scope="module")
def moments(study: bc.Study) -> Moments:
    return Moments.from_study(study, cross=True)


@pytest.fixture(scope="module")
def sampled(study: bc.Study) -> bc.Fit:
    """A fit by NUTS with two shared factors: 2 chains of 1,000 draws."""
    return bc.fit(study, chains=2, tune=700, draws=1000, seed=1, progress_bar=False, shared_factors=2)


# ---------------------------------------------------------------- cross-products


def test_cross_products_are_those_of_centred_features(study: bc.Study, moments: Moments) -> None:
    for i in range(len(study.batches)):
        rows = study.y[study.codes == i]
        centred = rows - rows.mean(axis=0)
        np.testing.assert_allclose(moments.cross[i], centred.T @ centred, atol=1e-12)


def test_cross_products_of_parts_merge_to_those_of_the_whole(study: bc.Study, moments: Moments) -> None:
    odd = np.arange(len(study.codes)) % 2 == 1
    table = pd.DataFrame(study.y, columns=list(study.features)).assign(
        site=np.array(study.batches)[study.codes], age=study.x[:, 0], sex=np.where(study.x[:, 1] == 1, "M", "F")
    )
    parts = [Moments.from_study(bc.Study.from_design(table[rows], study.spec), cross=True) for rows in (odd, ~odd)]
    np.testing.assert_allclose(bc.merge(parts).cross, moments.cross, atol=1e-10)


def test_cross_products_come_back_from_a_file(moments: Moments, tmp_path: Path) -> None:
    moments.save(tmp_path / "moments.nc", min_scans=1)
    assert (bc.Moments.load(tmp_path / "moments.nc").cross == moments.cross).all()


def test_moments_with_and_without_cross_products_do_not_merge(study: bc.Study, moments: Moments) -> None:
    with pytest.raises(DataError, match="all hold the features' cross-products, or none"):
        bc.merge([moments, Moments.from_study(study)])


# ---------------------------------------------------------------- loadings


def test_factors_are_found_where_they_are() -> None:
    simulation = bc.datasets.simulate((400, 300, 300), features=20, seed=2, factors=2, factor_share=0.5)
    found = factors_of(estimable(Moments.from_study(study_of(simulation), cross=True)))
    drawn = np.random.default_rng([2, 1]).normal(size=(20, 2))
    drawn[:, 0] = np.abs(drawn[:, 0])
    truth = drawn * np.sqrt(0.5) / np.sqrt((drawn**2).sum(axis=1, keepdims=True))
    assert found.count == 2
    np.testing.assert_allclose(found.loadings @ found.loadings.T, truth @ truth.T, atol=0.12)


@pytest.mark.parametrize("seed", range(5))
def test_independent_features_have_no_factors(seed: int) -> None:
    simulation = bc.datasets.simulate((60, 40, 30), features=30, seed=seed)
    assert factors_of(estimable(Moments.from_study(study_of(simulation), cross=True))).count == 0


def test_auto_finds_no_more_factors_than_may_be_asked_for() -> None:
    simulation = bc.datasets.simulate((400, 300, 300), features=10, seed=1, factors=5, factor_share=0.9)
    moments = estimable(Moments.from_study(study_of(simulation), cross=True))
    assert factors_of(moments).count == 3


def test_factors_are_the_same_where_a_tenth_of_the_cells_is_missing(study: bc.Study, moments: Moments) -> None:
    y = study.y.copy()
    y[np.random.default_rng(0).random(y.shape) < 0.1] = np.nan
    holed = factors_of(estimable(Moments.from_study(replace(study, y=y), cross=True)), 2).loadings
    whole = factors_of(estimable(moments), 2).loadings
    assert np.abs(holed @ holed.T - whole @ whole.T).max() < 0.2


# ---------------------------------------------------------------- empirical Bayes


@pytest.fixture(scope="module")
def problem() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    batches, features = 6, 9
    return {
        "estimate": rng.normal(size=(batches, features)),
        "variance": rng.uniform(0.05, 0.3, (batches, features)),
        "site": rng.normal(size=(features, 2)) / 2,
        "noise": rng.normal(size=(batches, features, 2)) / 4,
    }


def test_effects_are_those_of_the_normal_distribution_of_everything(problem: dict[str, np.ndarray]) -> None:
    found = mixed(Levels.of(**problem, typical=0.1))
    shared = np.column_stack([np.ones(9), problem["site"]])
    for i in range(6):
        effect = shared @ np.diag(found.spread**2) @ shared.T + found.sd[i] ** 2 * np.eye(9)
        noise = np.diag(problem["variance"][i]) + problem["noise"][i] @ problem["noise"][i].T
        expected = effect @ np.linalg.solve(effect + noise, problem["estimate"][i])
        np.testing.assert_allclose(found.effect[i], expected, atol=1e-10)


def test_what_is_not_known_follows_from_the_other_features(problem: dict[str, np.ndarray]) -> None:
    variance = problem["variance"].copy()
    variance[2, 4] = np.inf
    changed = problem["estimate"].copy()
    changed[2, 4] = 1e6
    one = mixed(Levels.of(**(problem | {"variance": variance}), typical=0.1))
    other = mixed(Levels.of(**(problem | {"variance": variance, "estimate": changed}), typical=0.1))
    assert (one.effect == other.effect).all()
    assert one.effect[2, 4] != 0


def test_spreads_are_found_where_they_are_known() -> None:
    rng = np.random.default_rng(5)
    site = rng.normal(size=(60, 1))
    effect = rng.normal(0, 0.5, (400, 1)) + 0.8 * rng.normal(size=(400, 1)) @ site.T + rng.normal(0, 0.3, (400, 60))
    noise = np.broadcast_to(0.4 * np.ones((60, 1)), (400, 60, 1))
    estimate = effect + (noise @ rng.normal(size=(400, 1, 1)))[..., 0] + rng.normal(0, 0.2, effect.shape)
    found = mixed(Levels.of(estimate, np.full(effect.shape, 0.04), noise, site, typical=0.1))
    np.testing.assert_allclose(found.sd.mean(), 0.3, atol=0.02)
    np.testing.assert_allclose(found.spread[1], 0.8, atol=0.08)


def test_patterns_are_found_where_batches_have_them() -> None:
    """Effects vary along one direction that is not among the loadings of the first guess."""
    rng = np.random.default_rng(6)
    direction, guess = rng.normal(size=(2, 30))
    direction /= np.linalg.norm(direction)
    effect = 3 * rng.normal(size=(60, 1)) * direction + rng.normal(0, 0.3, (60, 30))
    errors = np.full(effect.shape, 0.01), np.zeros((*effect.shape, 0))
    first = mixed(Levels.of(effect + rng.normal(0, 0.1, effect.shape), *errors, guess[:, None], typical=0.1))
    patterns = learned_patterns(first, guess[:, None])
    covariance = patterns.of_features[0] @ patterns.of_features[0].swapaxes(0, 1)
    found = np.linalg.eigh(covariance)[1][:, -1]
    centred = direction - direction.mean()
    assert abs(found @ centred) / np.linalg.norm(centred) > 0.98


def test_a_batch_has_no_say_in_its_own_pattern() -> None:
    rng = np.random.default_rng(7)
    estimate, site = rng.normal(size=(5, 12)), rng.normal(size=(12, 1))
    changed = estimate.copy()
    changed[2] *= -1
    errors = np.full(estimate.shape, 0.1), np.zeros((5, 12, 0))
    # With one spread for all, a change of sign changes nothing but the batch itself.
    one, other = (
        learned_patterns(mixed(Levels.of(values, *errors, site, typical=0.1)), site) for values in (estimate, changed)
    )
    own = [patterns.of_features @ patterns.of_features.swapaxes(1, 2) for patterns in (one, other)]
    np.testing.assert_allclose(own[0], own[1], atol=1e-10)
    far = learned_patterns(replace_effect(mixed(Levels.of(estimate, *errors, site, typical=0.1)), 2), site)
    rebuilt = far.of_features @ far.of_features.swapaxes(1, 2)
    assert np.abs(rebuilt[2] - own[0][2]).max() < 0.02 * np.abs(own[0][2]).max()
    assert np.abs(rebuilt[1] - own[0][1]).max() > 0.2 * np.abs(own[0][1]).max()


def replace_effect(found: Mixed, batch: int) -> Mixed:
    """Return what was found, with three times the effects of one batch."""
    effect = found.effect.copy()
    effect[batch] = found.mean[batch] + 3 * (effect[batch] - found.mean[batch])
    return replace(found, effect=effect)


def test_shared_factors_bring_small_sites_closer_to_the_truth() -> None:
    errors = {0: [], 2: []}
    for seed in range(10):
        simulation = bc.datasets.simulate(
            SCANS, features=40, seed=seed, factors=2, factor_share=0.5, factor_sd=0.1, site_age_sd=2.0
        )
        truth = simulation.truth["gamma"].sel(batch="site_08") / simulation.truth["sigma"]
        for count, found in errors.items():
            parameters = bc.fit(study_of(simulation, covariates=None), method="eb", shared_factors=count).parameters
            away = parameters["gamma"].sel(batch="site_08") / simulation.truth["sigma"] - truth
            found.append(float((away**2).mean()))
    assert np.mean(errors[2]) < 0.85 * np.mean(errors[0])


def test_a_reference_batch_does_not_move(simulation: bc.datasets.Simulation) -> None:
    study = study_of(simulation, reference="site_02")
    fit = bc.fit(study, method="eb", shared_factors=2)
    here = fit.parameters.sel(batch="site_02")
    assert (here["gamma"] == 0).all() and (here["delta"] == 1).all()
    pooled = bc.fit(study_of(simulation), method="eb", shared_factors=2)
    moved = pooled.harmonize(simulation.table, target="site_02")["mean"]
    np.testing.assert_allclose(fit.harmonized["mean"], moved, atol=1e-10)


def test_mean_only_leaves_scales(study: bc.Study) -> None:
    assert (bc.fit(study, method="eb", mean_only=True, shared_factors=2).parameters["delta"] == 1).all()


def test_update_of_shared_factors_equals_fitting_everything_at_once(
    simulation: bc.datasets.Simulation, study: bc.Study
) -> None:
    rows = simulation.table["site"] == "site_05"
    old = bc.Study.from_dataframe(
        simulation.table[~rows], batch="site", covariates="age + sex", features=simulation.features
    )
    updated = bc.fit(old, method="eb", shared_factors="auto").update(simulation.table[rows])
    whole = bc.fit(study, method="eb", shared_factors="auto")
    assert updated.loadings.shape == whole.loadings.shape
    for name in ("alpha", "gamma", "delta"):
        np.testing.assert_allclose(updated.parameters[name], whole.parameters[name], atol=1e-10)


def test_auto_without_factors_is_the_fit_of_independent_features() -> None:
    study = study_of(bc.datasets.simulate((30, 20, 10), features=15, seed=1))
    one, other = (bc.fit(study, method="eb", shared_factors=count).parameters for count in ("auto", 0))
    assert one.identical(other)


# ---------------------------------------------------------------- by default

QUICK = {"chains": 1, "tune": 10, "draws": 4, "seed": 1, "progress_bar": False}


def has_factors(data: bc.Study | Moments, **options: object) -> bool:
    with warnings.catch_warnings():
        # So few draws cannot converge, and need not.
        warnings.simplefilter("ignore", bc.ConvergenceWarning)
        fit = bc.fit(data, **options)
    return "factors" in fit.tree.children


def test_features_share_factors_by_default_in_full_bayes(study: bc.Study) -> None:
    assert has_factors(study, **QUICK)


def test_empirical_bayes_is_the_published_one_by_default(study: bc.Study) -> None:
    assert not has_factors(study, method="eb")


def test_independent_features_share_nothing_by_default() -> None:
    assert not has_factors(study_of(bc.datasets.simulate((30, 20, 10), features=15, seed=1)), **QUICK)


def test_few_features_share_nothing_by_default(simulation: bc.datasets.Simulation) -> None:
    assert not has_factors(study_of(simulation, features=simulation.features[:9]), **QUICK)


def test_moments_without_cross_products_share_nothing_by_default(study: bc.Study) -> None:
    assert not has_factors(Moments.from_study(study), **QUICK)


def test_hidden_factors_that_are_removed_are_not_shared_by_default(study: bc.Study) -> None:
    assert not has_factors(study, factors=1, **QUICK)


def test_several_batch_variables_and_subjects_share_nothing_by_default(simulation: bc.datasets.Simulation) -> None:
    table = simulation.table.assign(
        software=np.arange(len(simulation.table)) % 2, person=np.arange(len(simulation.table)) // 2
    )
    roles = {"covariates": "age", "features": simulation.features}
    crossed = bc.Study.from_dataframe(table, batch=["site", "software"], **roles)
    repeated = bc.Study.from_dataframe(table, batch="site", subject="person", **roles)
    for data in (crossed, repeated):
        assert by_default(data) == 0


def test_draws_are_twice_as_many_by_default_where_features_of_few_batches_share_factors() -> None:
    assert [Settings().resolved(24, 19, sharing=sharing).draws for sharing in (False, True)] == [1000, 2000]
    assert Settings().resolved(24, 20, sharing=True).draws == 1000
    assert Settings(draws=300).resolved(24, 19, sharing=True).draws == 300


# ---------------------------------------------------------------- full Bayes


def test_a_fit_with_shared_factors_holds_loadings_and_patterns(sampled: bc.Fit, tmp_path: Path) -> None:
    sampled.save(tmp_path / "fit.nc")
    again = bc.load(tmp_path / "fit.nc")
    assert again.loadings.shape == (24, 2)
    assert (again.patterns == sampled.patterns).all() and again.patterns.shape[0] == 24
    assert (again.harmonized["mean"].values == sampled.harmonized["mean"].values).all()


def test_averages_over_features_are_as_unsure_as_the_factors_make_them(sampled: bc.Fit) -> None:
    shift = (sampled.parameters["gamma"] / sampled.parameters["sigma"]).sel(batch="site_08")
    over = ("chain", "draw")
    if_independent = float((shift.var(over).sum() / shift.sizes["feature"] ** 2) ** 0.5)
    assert float(shift.mean("feature").std(over)) > 2 * if_independent


def test_an_unseen_batch_varies_along_the_factors(sampled: bc.Fit, simulation: bc.datasets.Simulation) -> None:
    rows = simulation.table.head(5).assign(site="new")
    drawn = sampled.draws(300, rows, unseen="prior").isel(obs=0)
    loadings = sampled.loadings
    along = (drawn / sampled.parameters["sigma"].mean(("chain", "draw"))).values @ loadings
    across = np.linalg.svd(loadings)[0][:, 2:]
    beside = (drawn / sampled.parameters["sigma"].mean(("chain", "draw"))).values @ across
    size = (loadings**2).sum(axis=0)
    assert (along.var(axis=0) / size).min() > 1.5 * beside.var(axis=0).mean()


@pytest.fixture(scope="module")
def newcomer(simulation: bc.datasets.Simulation) -> pd.DataFrame:
    """Five scans of a site that lies far off along the first factor, and little off beside it."""
    rows = simulation.table[simulation.table["site"] == "site_05"].head(5).assign(site="new")
    drawn = np.random.default_rng([4, 1]).normal(size=(24, 2))
    along = np.abs(drawn[:, 0]) / np.sqrt((drawn**2).sum(axis=1))
    names = list(simulation.features)
    return rows.assign(
        **{n: rows[n] + 2 * a * s for n, a, s in zip(names, along, simulation.truth["sigma"].values, strict=True)}
    )


@pytest.mark.parametrize("method", ["nuts", "eb"])
def test_an_adopted_batch_is_near_to_where_a_refit_brings_it(
    method: str, sampled: bc.Fit, study: bc.Study, newcomer: pd.DataFrame
) -> None:
    fit = sampled if method == "nuts" else bc.fit(study, method="eb", shared_factors=2)
    refit = bc.fit(study, method="eb", shared_factors=2).update(newcomer).harmonize(newcomer)["mean"].values
    found = fit.adopt(newcomer).harmonize(newcomer)["mean"].values
    raw = newcomer[list(study.features)].to_numpy()
    assert np.abs(found - refit).mean() < 1 / 4 * np.abs(raw - refit).mean()


def test_an_adopted_batch_of_no_new_scans_is_the_fitted_one_by_empirical_bayes(study: bc.Study) -> None:
    """A copy of a fitted batch gets its estimate, but that it had no say in what batches are like."""
    fit = bc.fit(study, method="eb", shared_factors=2)
    rows = study.codes == 0
    table = pd.DataFrame(study.y[rows], columns=list(study.features)).assign(
        site="copy", age=study.x[rows, 0], sex=np.where(study.x[rows, 1] == 1, "M", "F")
    )
    adopted = fit.adopt(table).parameters
    away = (adopted["gamma"].sel(batch="copy") - adopted["gamma"].sel(batch="site_01")) / adopted["sigma"]
    assert np.abs(away).max() < 0.1
    assert np.abs(np.log(adopted["delta"].sel(batch="copy") / adopted["delta"].sel(batch="site_01"))).max() < 0.05


def test_adopting_under_a_reference_is_adopting_and_measuring_from_it(
    simulation: bc.datasets.Simulation, newcomer: pd.DataFrame
) -> None:
    fits = [
        bc.fit(study_of(simulation, **roles), method="eb", shared_factors=2) for roles in ({}, {"reference": "site_01"})
    ]
    plain, referred = (fit.adopt(newcomer) for fit in fits)
    away = referred.harmonize(newcomer)["mean"] - plain.harmonize(newcomer, target="site_01")["mean"]
    # Shrunken shifts do not add up to zero exactly, from which batches are taken to deviate.
    assert float(np.abs(away / plain.parameters["sigma"]).mean()) < 0.01


def test_scores_of_an_adopted_batch_have_their_exact_posterior() -> None:
    """With scales and spreads known all is normal: gamma is a regression on the mean residuals."""
    rng, draws, features, scans = np.random.default_rng(0), 6000, 12, 4
    loadings, patterns = 0.6 * rng.uniform(-1, 1, (features, 2)), 2 * rng.uniform(-1, 1, (features, 3))
    tiny = np.full(draws, 1e-3)
    population = Population(tiny * 500, np.full(draws, np.log(0.3)), tiny, tiny, np.log(tiny), tiny, 8)
    mean = rng.normal(size=features)
    own = 1 / scans - (loadings**2).sum(axis=1) / scans
    shared = Shared(patterns, loadings, np.array([[scans]]))
    squares = np.full((draws, features), scans - 1.0)
    evidence = Evidence(np.full((1, features), scans), 1 / own[None], np.tile(mean, (draws, 1)), squares, shared)
    found = from_data(population, evidence, rng)
    general = (0.5 * np.sqrt(1 + 1 / 8)) ** 2
    effect = general + 0.3**2 * (patterns @ patterns.T + np.eye(features))
    total = effect + loadings @ loadings.T / scans + np.diag(own)
    expected = effect @ np.linalg.solve(total, mean)
    covariance = effect - effect @ np.linalg.solve(total, effect)
    sd = np.sqrt(np.diagonal(covariance))
    np.testing.assert_allclose(found.gamma.mean(axis=0), expected, atol=5 * sd.max() / np.sqrt(draws))
    np.testing.assert_allclose(found.gamma.std(axis=0), sd, rtol=0.05)
    np.testing.assert_allclose(found.gamma.mean(axis=1).std(), np.sqrt(covariance.mean()), rtol=0.05)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("asked", [-1, 1.5, True, "many"])
def test_shared_factors_are_a_number_or_auto(study: bc.Study, asked: object) -> None:
    with pytest.raises(BayesCombatError, match=f"'auto' or a whole number of at least 0, found {asked!r}"):
        bc.fit(study, method="eb", shared_factors=asked)


def test_factors_need_three_features_each(study: bc.Study) -> None:
    with pytest.raises(BayesCombatError, match="three features for every shared factor, found 24 for 9"):
        bc.fit(study, method="eb", shared_factors=9)


def test_factors_need_cross_products(study: bc.Study) -> None:
    with pytest.raises(BayesCombatError, match=r"found moments without. Make them by .*cross=True"):
        bc.fit(Moments.from_study(study), method="eb", shared_factors=2)


@pytest.mark.parametrize("arguments", [{"shrinkage": "none"}, {"compat": "sva"}], ids=str)
def test_other_kinds_of_empirical_bayes_know_no_factors(study: bc.Study, arguments: dict[str, object]) -> None:
    with pytest.raises(BayesCombatError, match="'parametric' and no compat where features share factors"):
        bc.fit(study, method="eb", shared_factors=2, **arguments)


def test_the_textbook_form_has_independent_features(study: bc.Study) -> None:
    with pytest.raises(DataError, match="the textbook form has independent features"):
        bc.build_model(study, likelihood="observations", shared_factors=2)
