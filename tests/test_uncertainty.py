"""How sure empirical Bayes is given its hyper-parameters: against quadrature, against limits, and what it promises."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from scipy import integrate, stats

import bayescombat as bc
from bayescombat.conditional import Conditional
from bayescombat.fit.given import UNCERTAINTY
from tests.studies import small_study, without_cells

TAU2, MEAN = 0.3, -0.2
# Scans, shift in spreads of the prior, mean and variance of the prior of delta squared.
CELLS = [
    (1, 0.5, 1.0, 0.2),
    (1, 4.0, 0.8, 3.0),
    (2, -1.0, 1.2, 0.01),
    (3, 8.0, 1.0, 0.3),
    (10, 2.0, 1.5, 5.0),
    (200, -6.0, 1.0, 0.1),
    (20_000, 3.0, 1.0, 0.1),
]


def cell(n: float, away: float, m: float, v: float, delta2_hat: float = 1.3) -> Conditional:
    """One batch and feature."""
    one = [np.array([[value]]) for value in (MEAN + away * TAU2**0.5, delta2_hat, float(n), max(n - 1.0, 0.0))]
    return Conditional(*one, *(np.array([[value]]) for value in (MEAN, TAU2, m, v)))


def log_density(n: float, away: float, m: float, v: float, delta2_hat: float = 1.3) -> Callable[[float], float]:
    """Marginal posterior of log delta squared: the densities of its prior, of the shift and of the squared scale."""
    gamma_hat, a = MEAN + away * TAU2**0.5, 2 + m**2 / v
    freedom = max(n - 1, 0)

    def value(u: float) -> float:
        delta2 = math.exp(u)
        prior = -(a + 1) * u - m * (a - 1) / delta2 + u
        spread = TAU2 + delta2 / n
        shift = -math.log(spread) / 2 - (gamma_hat - MEAN) ** 2 / (2 * spread)
        return prior + shift - freedom * u / 2 - freedom * delta2_hat / (2 * delta2)

    return value


def given_delta(n: float, away: float, u: float) -> tuple[float, float]:
    """Mean and variance of gamma, by the textbook's precisions."""
    data, prior = n * np.exp(-u), 1 / TAU2
    mean = (data * (MEAN + away * TAU2**0.5) + prior * MEAN) / (data + prior)
    return mean, 1 / (data + prior)


def by_quadrature(n: float, away: float, m: float, v: float) -> Callable[[Callable[[float], float]], float]:
    """Return how to take expectations of functions of log delta squared with scipy's adaptive rule."""
    log_p = log_density(n, away, m, v)
    places = np.linspace(-12, 14, 1301)
    values = np.array([log_p(u) for u in places])
    width = 1 / np.sqrt(n / 2 + 2)
    marks = places[values.argmax()] + width * np.array([-30, -12, -6, -3, -1, 0, 1, 3, 6, 12, 30])
    pieces = [(marks[0] - 3, marks[0]), *zip(marks[:-1], marks[1:], strict=True), (marks[-1], marks[-1] + 8)]

    def integral(function: Callable[[float], float]) -> float:
        def weighed(u: float) -> float:
            return math.exp(log_p(u) - values.max()) * function(u)

        return sum(integrate.quad(weighed, *ends, epsrel=1e-10)[0] for ends in pieces)

    total = integral(lambda u: 1.0)
    return lambda function: integral(function) / total


@pytest.mark.parametrize(("n", "away", "m", "v"), CELLS)
def test_expectations_are_those_of_adaptive_quadrature(n: int, away: float, m: float, v: float) -> None:
    origin = 0.1
    found, expected = cell(n, away, m, v).expectations(np.array([[origin]])), by_quadrature(n, away, m, v)

    def shift(u: float) -> tuple[float, float]:
        mean, variance = given_delta(n, away, u)
        return mean - origin, (mean - origin) ** 2 + variance

    for power in (-2, -1, 0, 1, 2):
        for gamma in (0, 1, 2):
            oracle = expected(lambda u, p=power, g=gamma: math.exp(u * p / 2) * (1.0, *shift(u))[g])
            assert found.of(0, gamma, power)[0] == pytest.approx(oracle, rel=1e-6), (gamma, power)


@pytest.mark.parametrize(("n", "away", "m", "v"), CELLS)
def test_draws_invert_the_distribution_function(n: int, away: float, m: float, v: float) -> None:
    uniform = np.array([[[0.001, 0.05, 0.3, 0.5, 0.77, 0.95, 0.999]]])
    _, delta = cell(n, away, m, v).draws(uniform, np.zeros_like(uniform))
    log_p, places = log_density(n, away, m, v), 2 * np.log(delta[0, 0])
    unit = log_p(float(np.median(places)))
    pairs = zip(places[:-1], places[1:], strict=True)
    masses = [integrate.quad(lambda u: np.exp(log_p(u) - unit), *pair, epsrel=1e-11)[0] for pair in pairs]
    np.testing.assert_allclose(masses / np.sum(masses), np.diff(uniform[0, 0]) / 0.998, atol=1e-6)


def test_draws_of_gamma_are_normal_given_delta() -> None:
    rng = np.random.default_rng(0)
    n, away, m, v = CELLS[3]
    gamma, delta = cell(n, away, m, v).draws(rng.random((1, 1, 20_000)), rng.standard_normal((1, 1, 20_000)))
    mean, variance = given_delta(n, away, 2 * np.log(delta[0, 0]))
    assert stats.kstest((gamma[0, 0] - mean) / np.sqrt(variance), "norm").pvalue > 0.001


def test_draws_have_the_expectations() -> None:
    rng = np.random.default_rng(1)
    for case in CELLS:
        one = cell(*case)
        gamma, delta = one.draws(rng.random((1, 1, 40_000)), rng.standard_normal((1, 1, 40_000)))
        found = one.expectations(np.zeros((1, 1)))
        for power in (-1, 1):
            values = gamma[0, 0] * delta[0, 0] ** power
            assert values.mean() == pytest.approx(found.of(0, 1, power)[0], abs=5 * values.std() / 200)


def test_many_scans_leave_the_error_of_a_mean() -> None:
    n = 10**6
    found = cell(n, 1.0, 1.0, 0.3, delta2_hat=0.7).expectations(np.zeros((1, 1)))
    variance = found.of(0, 2, 0) - found.of(0, 1, 0) ** 2
    np.testing.assert_allclose(np.sqrt(variance), np.sqrt(0.7 / n), rtol=1e-3)
    np.testing.assert_allclose(found.of(0, 0, 2), 0.7, rtol=1e-5)


def test_without_scans_there_is_the_prior() -> None:
    m, v = 1.2, 0.4
    found = cell(0, 0.0, m, v).expectations(np.zeros((1, 1)))
    a = 2 + m**2 / v
    np.testing.assert_allclose(found.of(0, 0, 2), m, rtol=1e-6)
    np.testing.assert_allclose(found.of(0, 0, -2), a / (m * (a - 1)), rtol=1e-6)
    np.testing.assert_allclose([found.of(0, 1, 0), found.of(0, 2, 0)], [[MEAN], [MEAN**2 + TAU2]], rtol=1e-9)


def test_a_prior_that_is_a_point_leaves_a_point() -> None:
    rng = np.random.default_rng(0)
    one = cell(5, 1.0, 0.9, 0.0)
    gamma, delta = one.draws(rng.random((1, 1, 100)), rng.standard_normal((1, 1, 100)))
    np.testing.assert_allclose(delta, np.sqrt(0.9), rtol=1e-15)
    assert one.expectations(np.zeros((1, 1))).of(0, 0, -2)[0] == pytest.approx(1 / 0.9, rel=1e-15)
    assert gamma.std() > 0


# ---------------------------------------------------------------- fits

SITES = (14, 9, 5, 2, 1)
KINDS: dict[str, dict[str, Any]] = {
    "pooled": {},
    "reference": {"reference": "site_02"},
    "log": {"transform": "log"},
    "remove": {"remove": "sex", "covariates": "age", "reference": "site_02"},
    "smooth": {"covariates": "sex", "smooth": {"age": 6}},
}
pytestmark = pytest.mark.filterwarnings(
    "ignore::bayescombat.BatchSizeWarning", "ignore::bayescombat.FeatureWarning", "ignore::bayescombat.OverlapWarning"
)


def study_of(kind: str = "pooled", features: int = 20) -> bc.Study:
    if kind == "missing":
        return without_cells(study_of(features=features))
    roles = {"covariates": "age"} | KINDS[kind]
    simulation = bc.datasets.simulate(SITES, features=features, seed=5)
    return bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features, **roles)


def crossed_study() -> bc.Study:
    simulation = bc.datasets.simulate(SITES, features=20, seed=5)
    table = simulation.table.assign(software=np.resize(["5", "6", "6", "7"], len(simulation.table)))
    return bc.Study.from_dataframe(table, batch=["site", "software"], covariates="age", features=simulation.features)


def uncertain(study: bc.Study | bc.Moments, seed: int = 1, **options: Any) -> bc.Fit:
    return bc.fit(study, method="eb", uncertainty=True, seed=seed, **options)


@pytest.mark.parametrize("kind", [*KINDS, "missing"])
@pytest.mark.parametrize("mean_only", [False, True])
def test_estimates_keep_every_bit(kind: str, mean_only: bool) -> None:
    study = study_of(kind)
    plain, found = bc.fit(study, method="eb", mean_only=mean_only), uncertain(study, mean_only=mean_only)
    for name, values in plain.parameters.items():
        np.testing.assert_array_equal(found.parameters[name], values)
    np.testing.assert_array_equal(found.harmonized["mean"], plain.harmonized["mean"])
    assert list(found.harmonized) == ["mean", "sd", "lower", "upper"]


def test_estimates_of_many_features_keep_every_bit() -> None:
    y = 10 + np.random.default_rng(0).normal(size=(12, 5_100))
    study = bc.Study.from_arrays(y, batch=np.repeat(["a", "b", "c"], 4))
    plain, found = bc.fit(study, method="eb"), uncertain(study).harmonize(study, probability=None)
    np.testing.assert_array_equal(found["mean"], plain.harmonized["mean"])
    assert (found["sd"] > 0).all()


def test_sd_is_that_of_the_model_by_hand() -> None:
    study = study_of()
    fit = uncertain(study)
    p, moments = fit.parameters, fit.moments
    sigma, gamma, v = p["sigma"].values, p["gamma"].transpose("batch", "feature").values, 3
    cell_mean = moments.mean_y[:, v] - (moments.mean_x[:, 0] - moments.center[0]) @ p["beta"].values[v]
    gamma_hat = (cell_mean - p["alpha"].values[v]) / sigma[v]
    beta = p["beta"].values[v]
    ssr = moments.syy[:, v] - 2 * moments.sxy[:, v] @ beta + np.einsum("bpq,p,q->b", moments.sxx[:, 0], beta, beta)
    u = np.linspace(-9, 9, 40_001)
    for row in np.flatnonzero(np.isin(study.codes, [0, 2, 4]))[::4]:
        i = study.codes[row]
        n, a = SITES[i], 2 + p["delta2_mean"].values[i] ** 2 / max(p["delta2_variance"].values[i], 1e-300)
        if n == 1:
            continue
        tau2, mean = p["gamma_sd"].values[i] ** 2, p["gamma_mean"].values[i]
        log_p = stats.invgamma.logpdf(np.exp(u), a, scale=p["delta2_mean"].values[i] * (a - 1)) + u
        log_p += stats.norm.logpdf(gamma_hat[i], mean, np.sqrt(tau2 + np.exp(u) / n))
        log_p += stats.chi2.logpdf(ssr[i] / sigma[v] ** 2 * np.exp(-u), n - 1) - u
        weight = np.exp(log_p - log_p.max())
        weight /= weight.sum()
        precision = n * np.exp(-u) + 1 / tau2
        centre = (n * np.exp(-u) * gamma_hat[i] + mean / tau2) / precision
        residual = (study.y[row, v] - p["alpha"].values[v] - (study.x[row] - moments.center[0, 0]) @ beta) / sigma[v]
        value = (residual - centre) * np.exp(-u / 2)
        second = (weight * ((residual - centre) ** 2 + 1 / precision) * np.exp(-u)).sum()
        expected = sigma[v] * np.sqrt(second - (weight * value).sum() ** 2)
        assert fit.harmonized["sd"].values[row, v] == pytest.approx(expected, rel=1e-6)
    assert gamma.shape == (5, 20)


def test_of_shifts_alone_sd_has_a_closed_form() -> None:
    study = study_of("missing")
    fit = uncertain(study, mean_only=True)
    n = np.array([np.isfinite(study.y[study.codes == i]).sum(axis=0) for i in range(5)])
    expected = fit.parameters["sigma"].values / np.sqrt(n + 1 / fit.parameters["gamma_sd"].values[:, None] ** 2)
    seen = np.isfinite(study.y)
    np.testing.assert_allclose(fit.harmonized["sd"].values[seen], expected[study.codes][seen], rtol=1e-9)


@pytest.mark.parametrize("target", [None, "site_01", "site_04"])
@pytest.mark.parametrize("kind", [*KINDS, "missing"])
def test_draws_have_sd_and_bounds(kind: str, target: str | None) -> None:
    study = study_of(kind)
    fit = uncertain(study)
    found, draws = fit.harmonize(study, target=target, probability=0.8), fit.draws(1000, target=target)
    moved = found["sd"].values > 1e-12
    assert moved.mean() > 0.4
    ratio = draws.std("draw").values[moved] / found["sd"].values[moved]
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ((ratio > 0.75) & (ratio < 1.25)).all()
    lower, upper = np.quantile(draws.values[:, moved], [0.1, 0.9], axis=0)
    np.testing.assert_allclose(lower, found["lower"].values[moved], rtol=1e-9)
    np.testing.assert_allclose(upper, found["upper"].values[moved], rtol=1e-9)


@pytest.mark.parametrize("target", [None, ("site_01", "6"), ("site_03", "5")])
def test_draws_have_the_sd_of_several_batch_variables(target: tuple[str, str] | None) -> None:
    study = crossed_study()
    fit = uncertain(study)
    found, draws = fit.harmonize(study, target=target, probability=None), fit.draws(1000, target=target)
    moved = found["sd"].values > 1e-12
    ratio = draws.std("draw").values[moved] / found["sd"].values[moved]
    assert ratio.mean() == pytest.approx(1, abs=0.01)
    assert ((ratio > 0.75) & (ratio < 1.3)).all()
    np.testing.assert_array_equal(draws.std("draw").values[~moved] < 1e-12, True)


@pytest.mark.parametrize("kind", ["reference", "remove"])
def test_the_reference_is_known(kind: str) -> None:
    study = study_of(kind)
    own = study.codes == 1
    found = uncertain(study).harmonized
    assert (found["sd"].values[own] < 1e-12).all() and (found["sd"].values[~own] > 1e-3).all()
    np.testing.assert_allclose(found["lower"].values[own], found["mean"].values[own], rtol=1e-12)


def test_small_sites_are_less_sure() -> None:
    fit = uncertain(study_of(features=40))
    spread = fit.harmonized["sd"].mean("feature").groupby(xr.DataArray(fit.study.codes, dims="obs", name="site")).mean()
    assert (np.diff(spread) > 0).all()


def test_missing_cells_stay_missing_or_are_drawn() -> None:
    study = study_of("missing")
    fit = uncertain(study)
    for name in fit.harmonized:
        np.testing.assert_array_equal(np.isfinite(fit.harmonized[name]), np.isfinite(study.y))
    draws = fit.draws(50, impute=True)
    assert np.isfinite(draws).all() and (draws.std("draw").values[np.isnan(study.y)] > 0).all()


def test_features_that_are_set_aside_are_sure() -> None:
    y = 10 + np.random.default_rng(0).normal(size=(12, 20)).astype(np.float32)
    y[:, 7] = 3
    batch, others = np.repeat(["a", "b", "c"], 4), np.arange(20) != 7
    fit, alone = (uncertain(bc.Study.from_arrays(part, batch=batch)) for part in (y, y[:, others]))
    found, draws = fit.harmonized, fit.draws(5)
    assert (found["sd"][:, 7] == 0).all() and (draws[..., 7] == 3).all()
    for name in ("lower", "upper"):
        np.testing.assert_array_equal(found[name].values[:, 7], 3)
    for name in found:
        np.testing.assert_allclose(found[name].values[:, others], alone.harmonized[name], rtol=1e-6)


# ---------------------------------------------------------------- seeds, rows, names


def test_the_same_seed_gives_the_same_bits() -> None:
    study = study_of()
    one, same, other = uncertain(study), uncertain(study), uncertain(study, seed=2)
    xr.testing.assert_identical(one.harmonized, same.harmonized)
    xr.testing.assert_identical(one.draws(7), same.draws(7))
    np.testing.assert_array_equal(one.harmonized["sd"], other.harmonized["sd"])
    assert (one.harmonized["lower"] != other.harmonized["lower"]).all()


def test_a_seed_that_was_not_given_is_kept(tmp_path: Path) -> None:
    fit = bc.fit(study_of(), method="eb", uncertainty=True)
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    xr.testing.assert_identical(bc.load(tmp_path / "fit.nc").harmonize(fit.study), fit.harmonized)


def test_any_rows_are_those_of_the_whole() -> None:
    fit = uncertain(study_of())
    table = bc.datasets.simulate(SITES, features=20, seed=5).table
    rows = [30, 2, 17, 24]
    found = fit.harmonize(table.iloc[rows])
    for name in found:
        np.testing.assert_allclose(found[name], fit.harmonized[name].values[rows], rtol=1e-12)


def test_sd_hangs_on_no_order_and_no_name() -> None:
    study = study_of()
    order, renamed = np.random.default_rng(0).permutation(20), {"site_01": "zebra", "site_04": "ant"}
    table = bc.datasets.simulate(SITES, features=20, seed=5).table.replace({"site": renamed})
    features = [study.features[v] for v in order]
    other = bc.Study.from_dataframe(table, batch="site", covariates="age", features=features)
    found = uncertain(other).harmonized["sd"].values
    np.testing.assert_allclose(found, uncertain(study).harmonized["sd"].values[:, order], rtol=1e-9)


def test_without_interval_there_is_none(nuts_fit: bc.Fit, study: bc.Study) -> None:
    for fit, rows in ((uncertain(study_of()), study_of()), (nuts_fit, study)):
        found, whole = fit.harmonize(rows, probability=None), fit.harmonize(rows)
        assert list(found) == ["mean", "sd"] and "probability" not in found.attrs
        xr.testing.assert_equal(found, whole[["mean", "sd"]])


def test_what_it_is_given_is_said(nuts_fit: bc.Fit) -> None:
    fit = uncertain(study_of())
    assert fit.harmonized.attrs["uncertainty"] == fit.draws(2).attrs["uncertainty"] == UNCERTAINTY
    assert "uncertainty" not in nuts_fit.harmonized.attrs
    assert "uncertainty" not in bc.fit(study_of(), method="eb").harmonized.attrs


# ---------------------------------------------------------------- later scans


def test_update_is_the_fit_to_everything() -> None:
    simulation = bc.datasets.simulate(SITES, features=20, seed=5)
    old = simulation.table[simulation.table["site"] != "site_03"]
    new = simulation.table[simulation.table["site"] == "site_03"]
    study = bc.Study.from_dataframe(old, batch="site", covariates="age", features=simulation.features)
    found = uncertain(study).update(new).harmonize(simulation.table)
    expected = uncertain(study_of()).harmonized
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-8)


def test_an_adopted_site_is_as_unsure_as_its_scans_say() -> None:
    simulation = bc.datasets.simulate(SITES, features=20, seed=5)
    old = simulation.table[simulation.table["site"] != "site_03"]
    new = simulation.table[simulation.table["site"] == "site_03"]
    study = bc.Study.from_dataframe(old, batch="site", covariates="age", features=simulation.features)
    fit = uncertain(study)
    adopted = fit.adopt(new)
    xr.testing.assert_identical(adopted.harmonize(old), fit.harmonized.assign_coords(obs=old.index))
    found = adopted.harmonize(new)["sd"].mean()
    assert float(found) == pytest.approx(float(uncertain(study_of()).harmonize(new)["sd"].mean()), rel=0.15)


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shrinkage": "none"}, "Expected shrinkage='parametric' without compat and shared_factors for uncertainty"),
        ({"shrinkage": "nonparametric"}, "Without parametric priors there is no posterior"),
        ({"compat": "sva"}, "found shrinkage='parametric', compat='sva'"),
        ({"shared_factors": 1}, "shared factors tie the features together"),
        ({"factors": 1}, "Expected neither factors, covariance nor a study in chunks for uncertainty"),
        ({"covariance": True}, "Expected neither factors, covariance nor a study in chunks for uncertainty"),
    ],
)
def test_what_has_no_such_posterior_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(bc.BayesCombatError, match=re.escape(words)):
        uncertain(study_of(), **options)


def test_nuts_has_no_switch() -> None:
    with pytest.raises(bc.BayesCombatError, match="which always says how sure it is"):
        bc.fit(study_of(), uncertainty=True)


def test_subjects_are_refused() -> None:
    simulation = bc.datasets.simulate((12, 8), features=4, repeats=2, seed=1)
    study = bc.Study.from_dataframe(simulation.table, batch="site", subject="subject", features=simulation.features)
    with pytest.raises(bc.BayesCombatError, match="found a study with subjects"):
        uncertain(study)


@pytest.mark.filterwarnings("ignore::bayescombat.PoolingWarning")
def test_one_feature_is_refused() -> None:
    with pytest.raises(bc.BayesCombatError, match="found one to model: 'feature_0'"):
        uncertain(small_study(features=1))


def test_an_unknown_batch_is_refused() -> None:
    fit = uncertain(study_of())
    rows = bc.datasets.simulate(SITES, features=20, seed=5).table.assign(site="elsewhere")
    with pytest.raises(bc.BayesCombatError, match=r"Expected batches that the fit knows, found 'elsewhere'"):
        fit.harmonize(rows, unseen="prior")


@pytest.mark.parametrize("n", [0, 1001])
def test_there_are_a_thousand_draws(n: int) -> None:
    with pytest.raises(bc.BayesCombatError, match="between 1 and the fit's 1000 draws"):
        uncertain(study_of()).draws(n)
