"""What the model fails to say of the data: against densities by hand, against refits, and where it is known to fail."""

from dataclasses import replace
from pathlib import Path

import arviz as az
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import stats

import bayescombat as bc
from bayescombat.adjust import Draws
from bayescombat.errors import BayesCombatError
from bayescombat.pointwise import log_densities, replicated, statistics
from tests.studies import small_study, without_cells

SCANS = (20, 12, 8, 3)


def fitted(study: bc.Study, **settings: object) -> bc.Fit:
    return bc.fit(study, seed=1, shared_factors=0, progress_bar=False, **settings)


@pytest.fixture(scope="module")
def fit() -> bc.Fit:
    return fitted(small_study(SCANS, features=5))


def draws(log: bool = False) -> tuple[Draws, np.ndarray, np.ndarray]:
    """Three draws of two features, two batch variables of two levels and a covariate; design columns and levels."""
    rng = np.random.default_rng(3)
    shape = {"alpha": (3, 2), "beta": (3, 2, 1), "gamma": (3, 4, 2), "delta": (3, 4, 2), "sigma": (3, 2)}
    parts = {name: np.exp(rng.normal(size=size) / 3) for name, size in shape.items()}
    whole = Draws(**parts, center=np.array([0.5]), kept=np.ones(1, dtype=bool), standing=np.zeros((3, 2)), log=log)
    return whole, rng.normal(size=(6, 1)), np.array([[0, 2], [0, 3], [1, 2], [1, 3], [0, 2], [1, 3]])


@pytest.mark.parametrize("log", [False, True])
def test_densities_are_those_of_the_textbook(log: bool) -> None:
    some, x, levels = draws(log)
    y = np.random.default_rng(1).normal(2, 1, size=(6, 2))
    found = log_densities(some, y, x, levels)
    for d in range(3):
        for j, (one, other) in enumerate(levels):
            mean = some.alpha[d] + (x[j] - 0.5) * some.beta[d, :, 0] + some.gamma[d, one] + some.gamma[d, other]
            sd = some.sigma[d] * some.delta[d, one] * some.delta[d, other]
            known = stats.lognorm(sd, scale=np.exp(mean)) if log else stats.norm(mean, sd)
            np.testing.assert_allclose(found[d, j], known.logpdf(np.exp(y[j]) if log else y[j]), rtol=1e-10)


def test_replicated_tables_are_drawn_from_these_densities() -> None:
    some, x, levels = draws()
    many = 20_000
    repeated = {name: np.repeat(getattr(some, name)[:1], many, axis=0) for name in ("alpha", "beta", "gamma", "delta")}
    one = replace(some, **repeated, sigma=np.repeat(some.sigma[:1], many, axis=0), standing=np.zeros((many, 2)))
    seen = np.ones((6, 2), dtype=bool)
    seen[2, 1] = False
    found = replicated(one, seen, x, levels, np.random.default_rng(0), 0.7)
    assert (np.isnan(found) == ~seen).all()
    level = 0.7 + some.gamma[0, 0] + some.gamma[0, 2] + some.alpha[0] + (x[0] - 0.5) * some.beta[0, :, 0]
    spread = some.sigma[0] * some.delta[0, 0] * some.delta[0, 2]
    np.testing.assert_allclose(found[:, 0].mean(axis=0), level, atol=4 * spread.max() / many**0.5)
    np.testing.assert_allclose(found[:, 0].std(axis=0), spread, rtol=4 / (2 * many) ** 0.5)


def test_statistics_are_those_of_pandas() -> None:
    values = np.random.default_rng(2).normal(1e6, 1, size=(3, 9, 2))
    values[:, [1, 4], 0] = np.nan
    codes = np.array([0, 0, 0, 1, 1, 1, 1, 2, 3])
    found = statistics(values, codes, 5)
    for table in range(3):
        groups = pd.DataFrame(values[table]).groupby(codes)
        for k, expected in enumerate((groups.mean(), groups.std(), groups.min(), groups.max())):
            np.testing.assert_allclose(found[k, table, :4], expected, rtol=1e-8)
    assert np.isnan(found[:, :, 4]).all()


def test_what_is_left_out_is_predicted_as_by_a_refit(fit: bc.Fit) -> None:
    found = bc.loo(fit, progress_bar=False)
    # One value of a large batch, and one of the smallest, which has more say in what is left.
    for row, feature in ((0, 0), (41, 2)):
        y = fit.study.y.copy()
        y[row, feature] = np.nan
        without = fitted(replace(fit.study, y=y), draws=2000)
        centre = without.parameters.stack(d=("chain", "draw")).isel(feature=feature)
        offset = fit.study.x[row] - without.layout.center[feature]
        mean = (
            centre["alpha"]
            + centre["gamma"][fit.study.codes[row]]
            + (centre["beta"] * offset[:, None]).sum("covariate")
        )
        sd = centre["sigma"] * centre["delta"][fit.study.codes[row]]
        exact = np.log(stats.norm(mean, sd).pdf(fit.study.y[row, feature]).mean())
        assert abs(exact - found.dataset["elpd"].values[row, feature]) < 0.06


def test_sums_are_the_same_by_value_scan_and_feature() -> None:
    study = without_cells(small_study((12, 7, 5), features=4))
    with pytest.warns(bc.FeatureWarning):
        fit = fitted(study, chains=2, draws=500)
    found = bc.loo(fit, progress_bar=False)
    each = {by: found.elpd(by) for by in ("value", "scan", "feature")}
    assert [one.n_data_points for one in each.values()] == [np.isfinite(study.y).sum(), 24, 4]
    np.testing.assert_allclose([one.elpd for one in each.values()], each["value"].elpd, rtol=1e-12)
    assert (np.isnan(found.dataset["elpd"].values) == np.isnan(study.y)).all()


@pytest.mark.filterwarnings("ignore:Estimated shape parameter")
def test_arviz_finds_the_same(fit: bc.Fit) -> None:
    found = bc.loo(fit, progress_bar=False).elpd("value")
    every = np.linspace(0, 3999, 1000).round().astype(int)
    flat = fit.parameters.stack(sample=("chain", "draw")).isel(sample=every).drop_vars(["sample", "chain", "draw"])
    parameters, study = flat.rename(sample="draw").expand_dims(chain=1), fit.study
    at = xr.DataArray(study.codes, dims="obs")
    offset = xr.DataArray(study.x - fit.layout.center, dims=("obs", "covariate"))
    mean = parameters["alpha"] + parameters["gamma"].isel(batch=at) + (parameters["beta"] * offset).sum("covariate")
    sd = parameters["sigma"] * parameters["delta"].isel(batch=at)
    mean, sd = (part.transpose("chain", "draw", "obs", "feature") for part in (mean, sd))
    log_likelihood = xr.Dataset({"y": (mean.dims, stats.norm(mean, sd).logpdf(study.y))})
    tree = xr.DataTree.from_dict({"posterior": parameters, "log_likelihood": log_likelihood})
    expected = az.loo(tree, reff=1.0)
    # The two take tails of slightly different length.
    assert abs(found.elpd - expected.elpd) < 0.2
    assert abs(found.p - expected.p) < 0.2


def test_the_better_model_is_found() -> None:
    simulation = bc.datasets.simulate((25, 20, 15), features=6, seed=2)
    roles = {"batch": "site", "features": simulation.features}
    studies = {
        name: bc.Study.from_dataframe(simulation.table, covariates=name, **roles) for name in ("age + sex", "sex")
    }
    left = {name: bc.loo(fitted(study, chains=2), progress_bar=False).elpd() for name, study in studies.items()}
    assert az.compare(left).index[0] == "age + sex"


@pytest.mark.slow
def test_a_curve_is_told_from_a_line() -> None:
    simulation = bc.datasets.simulate((40, 30, 20), features=3, seed=1)
    table, roles = simulation.table.copy(), {"batch": "site", "features": simulation.features}
    away = (table["age"] - table["age"].mean()) / 8
    table[list(simulation.features)] += 0.15 * np.square(away.to_numpy())[:, None]
    studies = {
        "line": bc.Study.from_dataframe(table, covariates="age", **roles),
        "curve": bc.Study.from_dataframe(table, smooth={"age": 6}, **roles),
    }
    left = {name: bc.loo(fitted(study, chains=2), progress_bar=False).elpd() for name, study in studies.items()}
    assert list(az.compare(left).index) == ["curve", "line"]


def test_logarithms_can_be_compared_with_values() -> None:
    rng = np.random.default_rng(4)
    site = np.repeat(["a", "b", "c"], 30)
    skewed = np.exp(rng.normal(0, 0.8, size=(90, 4)) + 0.5 * (site == "b")[:, None])
    table = pd.DataFrame(skewed, columns=list("wxyz")).assign(site=site)
    left = {}
    for transform in ("log", None):
        study = bc.Study.from_dataframe(table, batch="site", features=list("wxyz"), transform=transform)
        left[str(transform)] = bc.loo(fitted(study, chains=2), progress_bar=False).elpd()
    compared = az.compare(left, round_to="none")
    assert compared.index[0] == "log" and -compared["elpd_diff"].iloc[1] > 4 * compared["dse"].iloc[1]


@pytest.mark.filterwarnings("ignore::bayescombat.errors.ConvergenceWarning")
def test_where_a_value_decides_its_own_batch_it_is_said() -> None:
    study = small_study((12, 9, 2), features=3)
    y = study.y.copy()
    y[-1] += 40 * y.std(axis=0)
    found = bc.loo(fitted(replace(study, y=y), chains=2, target_accept=0.99), progress_bar=False)
    assert "'site_03'" in repr(found) and found.elpd().warning


@pytest.mark.filterwarnings("ignore::bayescombat.errors.BatchSizeWarning")
def test_heavy_tails_show_in_the_extremes() -> None:
    rng = np.random.default_rng(5)
    batch = np.repeat(["a", "b"], 60)
    y = rng.normal(size=(120, 8))
    y[:, 4:] = stats.t(1.5).rvs(size=(120, 4), random_state=rng)
    found = bc.predictive_check(fitted(bc.Study.from_arrays(y, batch=batch), chains=2), progress_bar=False)
    beyond = found["observed"].sel(statistic="highest") > found["upper"].sel(statistic="highest")
    assert int(beyond[:, 4:].sum()) >= 5 and int(beyond[:, :4].sum()) <= 2
    assert float(abs(found["p"].sel(statistic="sd")[:, :4] - 0.5).max()) < 0.25


def test_checks_are_the_same_every_time(fit: bc.Fit) -> None:
    xr.testing.assert_identical(
        bc.predictive_check(fit, 50, progress_bar=False), bc.predictive_check(fit, 50, progress_bar=False)
    )


def test_what_cannot_be_judged_is_said(fit: bc.Fit, tmp_path: Path) -> None:
    with pytest.raises(BayesCombatError, match="predict nothing by themselves"):
        bc.loo(bc.fit(fit.study, method="eb"))
    with pytest.raises(BayesCombatError, match="by"):
        bc.loo(fit, progress_bar=False).elpd("site")
    fit.save(tmp_path / "fit.nc", data=False)
    with pytest.raises(bc.DataError, match="rows"):
        bc.predictive_check(bc.load(tmp_path / "fit.nc"))


@pytest.mark.parametrize("n", [0, -1, 2.5, 5000])
def test_as_many_draws_are_asked_for_as_there_are(fit: bc.Fit, n: float) -> None:
    with pytest.raises(BayesCombatError, match="between 1 and the fit's 4000 draws"):
        bc.predictive_check(fit, n)  # type: ignore[arg-type]


def test_a_scan_without_a_value_is_no_observation() -> None:
    study = small_study((12, 9, 8), features=3)
    y = study.y.copy()
    y[4] = np.nan
    found = bc.loo(fitted(replace(study, y=y), chains=2, draws=500), progress_bar=False)
    assert found.elpd("scan").n_data_points == 28
