"""Hidden factors: found, refused where they carry a covariate, and taken out."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import bayescombat as bc
from bayescombat.hidden import HiddenFactors, without_factors
from bayescombat.joint import Joint
from bayescombat.residuals import PrincipalAxes, RegressionAxes, moved

SITES = ("site_1", "site_2", "site_3", "site_4")
# Of the hidden factor at every site.
MEANS, SPREADS = np.array([-1.0, -0.3, 0.4, 1.0]), np.array([0.5, 1.0, 1.5, 2.0])
LEAVE = {"method": "eb", "shrinkage": "none", "mean_only": True}


def confounded(seed: int, scans: int = 100, features: int = 20, factor: Any = None) -> tuple[pd.DataFrame, np.ndarray]:
    """Four sites whose hidden factor has a mean and a spread of its own; and the slopes of age in every feature."""
    rng = np.random.default_rng(seed)
    site = np.repeat(np.arange(4), scans)
    age = rng.normal(40 + 3 * site, 12.0)
    sigma, slope = np.exp(0.3 * rng.normal(size=features)), 0.02 * rng.normal(size=features)
    score = MEANS[site] + SPREADS[site] * rng.normal(size=len(site)) if factor is None else factor(age, rng)
    noise = np.outer(score, 0.7 * rng.normal(size=features)) + rng.normal(size=(len(site), features))
    shift, scale = 0.5 * rng.normal(size=(4, features)), np.exp(0.2 * rng.normal(size=(4, features)))
    y = 20 + np.outer(age, slope) + sigma * (shift[site] + scale[site] * noise)
    table = pd.DataFrame(y, columns=[f"feature_{v}" for v in range(features)])
    return table.assign(site=np.array(SITES)[site], age=age), slope


def study_of(table: pd.DataFrame, **options: Any) -> bc.Study:
    return bc.Study.from_dataframe(table, **({"batch": "site", "covariates": "age", "features": "^feature"} | options))


def residuals(study: bc.Study, values: np.ndarray) -> np.ndarray:
    x = np.column_stack([np.ones(len(values)), study.x])
    return values - x @ np.linalg.lstsq(x, values, rcond=None)[0]


def classified(values: np.ndarray, codes: np.ndarray, train: np.ndarray) -> float:
    """Share of held-out scans whose site a quadratic discriminant, learned on the others, tells."""
    common = np.diag(values[train].var(axis=0))
    scores = []
    for code in np.unique(codes):
        some = values[train & (codes == code)]
        normal = stats.multivariate_normal(some.mean(axis=0), np.cov(some.T) + 0.01 * common)
        scores.append(normal.logpdf(values[~train]))
    return float((np.argmax(scores, axis=0) == codes[~train]).mean())


# ---------------------------------------------------------------- what it is for


@pytest.mark.parametrize("seed", [0, 1])
def test_sites_cannot_be_told_apart_once_their_hidden_factor_is_removed(seed: int) -> None:
    # Held out: neither fit nor classifier knows the second half. Chance is a quarter, its standard error 0.018.
    table, slope = confounded(seed, scans=300)
    train = np.arange(len(table)) % 2 == 0
    fits = [bc.fit(study_of(table[train]), method="eb", factors=factors) for factors in (0, "auto")]
    everyone = bc.Study.from_design(table, fits[0].layout.spec)
    plain, removed = (fit.harmonize(everyone)["mean"].values for fit in fits)
    share = [classified(residuals(everyone, values), everyone.codes, train) for values in (plain, removed)]
    assert fits[1].hidden.loadings.shape[1] == 1
    assert share[0] > 0.30 and share[1] < 0.25 + 3 * 0.018
    assert_slopes(everyone, removed, slope)


@pytest.mark.slow
def test_sites_cannot_be_told_apart_by_nuts_either() -> None:
    table, slope = confounded(2, scans=300)
    train = np.arange(len(table)) % 2 == 0
    options: dict[str, Any] = {"chains": 2, "seed": 1, "progress_bar": False}
    fit = bc.fit(study_of(table[train]), factors=1, **options)
    everyone = bc.Study.from_design(table, fit.layout.spec)
    plain = bc.fit(study_of(table[train]), **options).harmonize(everyone)["mean"].values
    removed = fit.harmonize(everyone)["mean"].values
    share = [classified(residuals(everyone, values), everyone.codes, train) for values in (plain, removed)]
    assert share[0] > 0.30 and share[1] < 0.25 + 3 * 0.018
    assert_slopes(everyone, removed, slope)


def assert_slopes(study: bc.Study, values: np.ndarray, slope: np.ndarray) -> None:
    """The slopes of age within sites are the true ones, to four standard errors of a regression of the raw values."""
    x = np.column_stack([np.eye(4)[study.codes], study.x])
    _, squares, *_ = np.linalg.lstsq(x, study.y, rcond=None)
    error = np.sqrt(squares / (len(x) - 5) * np.linalg.inv(x.T @ x)[4, 4])
    found = np.linalg.lstsq(x, values, rcond=None)[0][4]
    assert (np.abs(found - slope) < 4 * error).all()
    assert np.corrcoef(found, slope)[0, 1] > 0.9


def test_removal_leaves_the_slopes_of_preserved_covariates() -> None:
    study = study_of(confounded(3)[0])
    x = np.column_stack([np.eye(4)[study.codes], study.x])
    fits = [bc.fit(study, factors=count, factors_despite_covariates=True, **LEAVE) for count in (0, 2)]
    slopes = [np.linalg.lstsq(x, fit.harmonized["mean"].values, rcond=None)[0][4] for fit in fits]
    np.testing.assert_allclose(slopes[1], slopes[0], rtol=0, atol=1e-12)


# ---------------------------------------------------------------- covariates that a factor carries


def curved(age: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An effect of age that grows with age, along one pattern."""
    return np.exp((age - 44) / 15)


def driven(age: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A hidden factor that age drives in part."""
    return (age - 44) / 12 + rng.normal(size=len(age))


@pytest.mark.parametrize("factor", [curved, driven])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_factors_that_carry_a_preserved_covariate_are_refused(factor: Any, seed: int) -> None:
    study = study_of(confounded(seed, factor=factor)[0])
    with pytest.raises(bc.BayesCombatError, match=r"factor 1 goes along with 'age'.* explain \d\d% of its variance"):
        bc.fit(study, method="eb", factors="auto")


def test_what_would_have_been_lost() -> None:
    # The curve of age along its pattern over the features: there without removal, gone with it.
    table, _ = confounded(0, factor=curved)
    study = study_of(table)
    x = np.column_stack([np.eye(4)[study.codes], study.x])
    curve = curved(table["age"].to_numpy(), np.random.default_rng(0))
    curve = curve - x @ np.linalg.lstsq(x, curve, rcond=None)[0]
    before, after = (
        curve @ bc.fit(study, method="eb", factors=count, factors_despite_covariates=True).harmonized["mean"].values
        for count in (0, 1)
    )
    assert np.linalg.norm(after) < 0.2 * np.linalg.norm(before)


@pytest.mark.parametrize("seed", range(6))
def test_factors_that_have_nothing_to_do_with_covariates_are_not_refused(seed: int) -> None:
    fit = bc.fit(study_of(confounded(seed)[0]), method="eb", factors="auto")
    assert fit.hidden.loadings.shape[1] == 1


@pytest.mark.slow
def test_factors_and_covariates_that_look_alike_by_chance_are_seldom_refused() -> None:
    refused = 0
    for seed in range(20):
        for count in (1, 2, 3):
            simulation = bc.datasets.simulate((60, 50, 40), features=30, factors=count, seed=seed)
            study = study_of(simulation.table, covariates="age + sex")
            try:
                bc.fit(study, method="eb", factors="auto")
            except bc.BayesCombatError:
                refused += 1
    assert refused <= 6


def test_a_spline_leaves_nothing_of_a_curve_to_carry() -> None:
    study = study_of(confounded(0, factor=curved)[0], covariates="bs(age, df=5)")
    assert bc.fit(study, method="eb", factors="auto").hidden is None


def test_covariates_that_are_removed_may_be_carried() -> None:
    table, _ = confounded(0, factor=driven)
    assert bc.fit(study_of(table, covariates=None, remove="age"), method="eb", factors=1).hidden is not None


# ---------------------------------------------------------------- the algebra


def test_moments_without_factors_are_those_of_rows_without_factors() -> None:
    table, _ = confounded(4)
    study = study_of(table)
    moments = bc.Moments.from_study(study, cross=True)
    cleaned, hidden = without_factors(moments, 1, False)
    # The scales of the last pass are those of empirical Bayes on what was cleaned, to its tolerance.
    relative = bc.fit(cleaned, method="eb").parameters["delta"].values
    x = np.column_stack([np.eye(4)[study.codes], study.x])
    fitted = x @ np.linalg.lstsq(x, study.y, rcond=None)[0]
    unit = hidden.unit * relative[study.codes]
    weighted = hidden.loadings / (1 - hidden.loadings**2)
    scores = ((study.y - fitted) / unit) @ weighted / (weighted.T @ hidden.loadings)
    left = study.y - fitted - unit * (scores @ hidden.loadings.T)
    beta = np.linalg.lstsq(x, study.y, rcond=None)[0][4:].T
    explained = (moments.sxx @ beta[..., None])[..., 0]
    squares = np.stack([(left[study.codes == code] ** 2).sum(axis=0) for code in range(4)])
    np.testing.assert_array_equal(cleaned.mean_y, moments.mean_y)
    np.testing.assert_allclose(cleaned.sxy, explained, rtol=1e-10)
    np.testing.assert_allclose(cleaned.syy - (beta * explained).sum(axis=-1), squares, rtol=1e-3)


def test_scores_are_generalised_least_squares_on_what_was_observed() -> None:
    rng = np.random.default_rng(0)
    loadings = rng.uniform(-0.6, 0.6, (8, 2))
    residual = rng.normal(size=(5, 8))
    residual[1, [0, 3]] = residual[4, 7] = np.nan
    unit, unique = np.exp(rng.normal(size=8)), 1 - (loadings**2).sum(axis=1)
    found = moved(residual, RegressionAxes(loadings, 6), unit, 0.0)
    for row, values in zip(found, residual, strict=True):
        seen = np.isfinite(values)
        root = np.sqrt(unique[seen])
        score = np.linalg.lstsq(loadings[seen] / root[:, None], (values / unit)[seen] / root, rcond=None)[0]
        np.testing.assert_allclose(row[seen], (values - unit * (loadings @ score))[seen], rtol=0, atol=1e-12)
        assert np.isnan(row[~seen]).all()


@pytest.mark.parametrize("seen", [np.ones(6, dtype=bool), np.array([True, True, False, True, True, True])])
def test_errors_of_scores_have_the_covariance_of_generalised_least_squares(seen: np.ndarray) -> None:
    loadings = 0.6 * np.random.default_rng(1).uniform(-1, 1, (6, 1))
    joint = Joint(HiddenFactors(loadings, np.ones(6)), seed=3, scans=("a", "b"))
    residual = np.where(seen, 0.0, np.nan) * np.ones((4000, 2, 6))
    found = joint.errors(np.array([0, 1]), residual)
    precision = (loadings[seen] ** 2 / (1 - loadings[seen] ** 2)).sum()
    expected = loadings @ loadings.T / precision
    assert np.abs(found.mean(axis=0)).max() < 1e-12
    for scan in (0, 1):
        np.testing.assert_allclose(np.cov(found[:, scan].T), expected, atol=0.1 * expected.max())
    assert abs(np.corrcoef(found[:, :, 0].T)[0, 1]) < 0.1
    np.testing.assert_allclose(joint.errors(np.array([1]), residual[:, 1:]), found[:, 1:], rtol=1e-9, atol=1e-15)


@pytest.mark.slow
def test_intervals_know_how_unsure_scores_are() -> None:
    """What a scan has beside the factor is covered nearly as it should be; without the scores' errors 64 % were."""
    covered = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        site = np.repeat(np.arange(4), (60, 40, 20, 10))
        share, noise = np.bincount(site) / len(site), rng.normal(size=(len(site), 20))
        shift, scale = 0.5 * rng.normal(size=(4, 20)), np.exp(0.2 * rng.normal(size=(4, 20)))
        score = MEANS[site] + SPREADS[site] * rng.normal(size=len(site))
        scale /= np.sqrt(share @ scale**2)
        y = 20 + shift[site] + scale[site] * (np.outer(score, 0.7 * rng.normal(size=20)) + noise)
        found = bc.fit(bc.Study.from_arrays(y, batch=site), factors=1, chains=2, seed=1, progress_bar=False).harmonized
        within = [bc.Study.from_arrays(y, batch=site).y[site == i].mean(axis=0) for i in range(4)]
        center = share @ np.array(within)
        truth = center + noise
        covered.append((found["lower"].values <= truth) & (truth <= found["upper"].values))
    assert np.mean(covered) > 0.75


def test_components_of_scans_with_holes_are_conditional_expectations() -> None:
    rng = np.random.default_rng(0)
    vectors = np.linalg.qr(rng.normal(size=(6, 6)))[0][:, :2]
    covariance = (vectors * [2.0, 1.0]) @ vectors.T + 0.4 * np.eye(6)
    axes = PrincipalAxes(vectors, covariance)
    seen = np.array([True, True, False, True, False, True])
    values = rng.normal(size=6)
    filled = covariance[:, seen] @ np.linalg.inv(covariance[np.ix_(seen, seen)]) @ values[seen]
    np.testing.assert_allclose(values @ axes.read(seen), vectors.T @ filled, rtol=0, atol=1e-12)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_auto_finds_as_many_as_there_are(count: int) -> None:
    simulation = bc.datasets.simulate((150, 150, 100), features=30, factors=count, seed=1)
    study = study_of(simulation.table, covariates="age + sex")
    assert bc.fit(study, method="eb", factors="auto", factors_despite_covariates=True).hidden.loadings.shape == (
        30,
        count,
    )


def test_auto_of_independent_features_changes_nothing() -> None:
    simulation = bc.datasets.simulate((60, 50, 40), features=12, seed=2)
    study = study_of(simulation.table, covariates="age + sex")
    fit = bc.fit(study, method="eb", factors="auto")
    assert fit.hidden is None
    np.testing.assert_array_equal(fit.harmonized["mean"], bc.fit(study, method="eb").harmonized["mean"])


def test_rows_of_the_reference_lose_factors_and_nothing_else() -> None:
    table, _ = confounded(5)
    fit = bc.fit(study_of(table, reference="site_2"), method="eb", factors=1)
    still = (table["site"] == "site_2").to_numpy()
    change = (fit.study.y - fit.harmonized["mean"].values)[still]
    along = fit.hidden.unit * fit.hidden.loadings[:, 0]
    np.testing.assert_allclose(change, np.outer(change @ along / (along @ along), along), rtol=0, atol=1e-10)
    assert np.linalg.matrix_rank(change, tol=1e-8) == 1


@pytest.mark.parametrize("seed", [5, 6])
def test_a_reference_and_the_same_target_are_as_near_as_without_factors(seed: int) -> None:
    table, _ = confounded(seed)
    away = []
    for count in (0, 1):
        pooled = bc.fit(study_of(table), method="eb", factors=count)
        fit = bc.fit(study_of(table, reference="site_2"), method="eb", factors=count)
        values = fit.harmonized["mean"].values - pooled.harmonize(table, target="site_2")["mean"].values
        away.append(np.sqrt(((values / study_of(table).y.std(axis=0)) ** 2).mean()))
    assert away[1] < 1.5 * away[0]


# ---------------------------------------------------------------- what it goes with


def test_missing_cells_change_little() -> None:
    table, _ = confounded(7)
    names = [name for name in table if name.startswith("feature")]
    holes = np.random.default_rng(0).random((len(table), len(names))) < 0.05
    whole = bc.fit(study_of(table), method="eb", factors=1).harmonized["mean"].values
    fit = bc.fit(study_of(table.assign(**table[names].mask(holes))), method="eb", factors=1)
    found = fit.harmonized["mean"].values
    np.testing.assert_array_equal(np.isnan(found), holes)
    away = (found - whole)[~holes] / np.broadcast_to(fit.hidden.unit, found.shape)[~holes]
    moved = (whole - fit.study.y)[~holes] / np.broadcast_to(fit.hidden.unit, found.shape)[~holes]
    assert np.sqrt((away**2).mean()) < 0.1 * np.sqrt((moved**2).mean())


def test_scans_of_too_few_features_are_named() -> None:
    table, _ = confounded(7)
    fit = bc.fit(study_of(table), method="eb", factors=1)
    few = table.head(4).copy()
    few.iloc[0, 2:20] = np.nan
    with pytest.warns(bc.FeatureWarning, match="in 1 scans to tell what their hidden factors are"):
        found = fit.harmonize(few)["mean"]
    assert np.isfinite(found[0, :2]).all()


def test_an_update_is_the_fit_to_everything() -> None:
    table, _ = confounded(8)
    old = table["site"] != "site_4"
    whole = bc.fit(study_of(table), method="eb", factors="auto")
    updated = bc.fit(study_of(table[old]), method="eb", factors="auto").update(table[~old])
    np.testing.assert_allclose(updated.harmonize(table)["mean"], whole.harmonized["mean"], rtol=0, atol=1e-9)


def test_a_file_without_moments_removes_them_too(tmp_path: Path) -> None:
    table, _ = confounded(8)
    fit = bc.fit(study_of(table, transform="log"), method="eb", factors=1)
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    np.testing.assert_array_equal(bc.load(tmp_path / "fit.nc").harmonize(table)["mean"], fit.harmonized["mean"])
    # Logarithms are what factors are found in.
    logarithms = table.assign(**np.log(table.filter(like="feature")))
    expected = bc.fit(study_of(logarithms), method="eb", factors=1).harmonized["mean"]
    np.testing.assert_allclose(np.log(fit.harmonized["mean"]), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factors": -1}, "Expected factors to be 'auto' or a whole number of at least 0, found -1"),
        ({"factors": 1.5}, "Expected factors to be"),
        ({"factors": True}, "Expected factors to be"),
        ({"factors": 7}, "Expected at least three features for every factor to be removed, found 20 features for 7"),
        ({"factors": 1, "shared_factors": 1}, "Expected either shared_factors, .* or factors"),
    ],
)
def test_what_cannot_be_asked_for(options: dict[str, Any], message: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=message):
        bc.fit(study_of(confounded(0)[0]), method="eb", **options)


def test_moments_without_cross_products_are_refused() -> None:
    moments = bc.Moments.from_study(study_of(confounded(0)[0]))
    with pytest.raises(bc.BayesCombatError, match="which factors is learned from, found moments without"):
        bc.fit(moments, method="eb", factors=1)
