"""transform="log": the logarithms are harmonized, and everything that comes out is on the natural scale."""

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.adjust import Draws, adjust, adjusted_draws


@pytest.fixture(scope="module")
def volumes() -> pd.DataFrame:
    """Skewed, positive features: exponentials of a simulated study, with strong site effects."""
    simulation = bc.datasets.simulate((30, 20, 10, 4), features=6, seed=2, gamma_sd=2.0)
    table = simulation.table.copy()
    names = list(simulation.features)
    table[names] = np.exp(4 * (table[names] - 2.5))
    return table


NAMES = [f"feature_{v}" for v in range(6)]
ROLES = {"batch": "site", "covariates": "age + sex", "features": NAMES}


@pytest.fixture(scope="module")
def log_study(volumes: pd.DataFrame) -> bc.Study:
    return bc.Study.from_dataframe(volumes, transform="log", **ROLES)


@pytest.fixture(scope="module")
def log_fit(log_study: bc.Study) -> bc.Fit:
    """A fit by NUTS: 2 chains of 1,000 draws."""
    return bc.fit(log_study, chains=2, tune=500, draws=1000, seed=1, progress_bar=False)


def test_empirical_bayes_is_the_exponential_of_harmonized_logarithms(
    volumes: pd.DataFrame, log_study: bc.Study
) -> None:
    logarithms = bc.Study.from_dataframe(volumes.assign(**np.log(volumes[NAMES])), **ROLES)
    expected = np.exp(bc.fit(logarithms, method="eb").harmonized["mean"])
    np.testing.assert_allclose(bc.fit(log_study, method="eb").harmonized["mean"], expected, rtol=1e-12)


def test_a_unit_changes_the_unit_alone(volumes: pd.DataFrame, log_study: bc.Study) -> None:
    scaled = bc.Study.from_dataframe(volumes.assign(**volumes[NAMES] * 1e6), transform="log", **ROLES)
    found = [bc.fit(study, method="eb").harmonized["mean"] for study in (scaled, log_study)]
    np.testing.assert_allclose(found[0], found[1] * 1e6, rtol=1e-10)


def test_nothing_negative_comes_out_where_the_plain_model_gives_negatives(
    volumes: pd.DataFrame, log_fit: bc.Fit
) -> None:
    with pytest.warns(bc.NegativeValueWarning, match="transform='log'"):
        bc.fit(bc.Study.from_dataframe(volumes, **ROLES), method="eb").harmonized  # noqa: B018
    for name in ("mean", "lower", "upper"):
        assert (log_fit.harmonized[name] > 0).all()
    assert (log_fit.draws(50) > 0).all()


def test_mean_and_sd_are_those_of_the_draws_on_the_natural_scale(log_fit: bc.Fit) -> None:
    # 2,000 draws, of which every second one is taken for the summary.
    draws = log_fit.draws(2000).values[::2]
    np.testing.assert_allclose(log_fit.harmonized["mean"], draws.mean(axis=0), rtol=1e-10)
    np.testing.assert_allclose(log_fit.harmonized["sd"], draws.std(axis=0, ddof=1), rtol=1e-8)


def test_intervals_are_transformed(log_fit: bc.Fit) -> None:
    draws = np.log(log_fit.draws(2000).values[::2])
    lower, upper = np.quantile(draws, [0.05, 0.95], axis=0)
    # Quantiles interpolate between draws, whose logarithms are a little closer together than their values.
    np.testing.assert_allclose(np.log(log_fit.harmonized["lower"]), lower, atol=1e-3)
    np.testing.assert_allclose(np.log(log_fit.harmonized["upper"]), upper, atol=1e-3)


def test_draws_are_exponentials_of_harmonized_logarithms() -> None:
    rng = np.random.default_rng(0)
    plain = {
        "alpha": rng.normal(size=(5, 2)),
        "beta": rng.normal(size=(5, 2, 1)),
        "gamma": rng.normal(size=(5, 3, 2)),
        "delta": np.exp(0.2 * rng.normal(size=(5, 3, 2))),
        "sigma": np.ones((5, 2)),
        "center": np.zeros(1),
        "kept": np.ones(1, dtype=bool),
        "standing": np.zeros((5, 2)),
    }
    y, x, levels = rng.normal(size=(7, 2)), rng.normal(size=(7, 1)), rng.integers(3, size=(7, 1))
    found = adjusted_draws(Draws(**plain, log=True), y, x, levels)
    np.testing.assert_allclose(found, np.exp(adjusted_draws(Draws(**plain), y, x, levels)), rtol=1e-12)
    np.testing.assert_allclose(adjust(Draws(**plain, log=True), y, x, levels).mean, found.mean(axis=0), rtol=1e-12)


def test_rows_of_the_target_keep_every_bit(log_fit: bc.Fit, volumes: pd.DataFrame) -> None:
    rows = volumes[volumes["site"] == "site_02"]
    found = log_fit.harmonize(rows, target="site_02")
    np.testing.assert_array_equal(found["mean"], rows[NAMES])
    assert (found["sd"] == 0).all()
    np.testing.assert_array_equal(log_fit.draws(2, rows, target="site_02")[1], rows[NAMES])


def test_features_set_aside_keep_every_bit(volumes: pd.DataFrame) -> None:
    study = bc.Study.from_dataframe(volumes.assign(one=0.1), transform="log", **ROLES | {"features": [*NAMES, "one"]})
    with pytest.warns(bc.FeatureWarning, match="'one'"):
        assert (bc.fit(study, method="eb").harmonized["mean"].sel(feature="one") == 0.1).all()


def test_parameters_say_that_their_unit_is_logarithmic(log_fit: bc.Fit) -> None:
    units = {name: log_fit.parameters[name].attrs["units"] for name in ("alpha", "gamma", "sigma", "beta", "delta")}
    assert units["alpha"] == units["gamma"] == units["sigma"] == "log feature units"
    assert units["beta"] == "log feature units per unit of the covariate" and units["delta"] == "1"


def test_the_transform_comes_back_from_the_file(log_fit: bc.Fit, volumes: pd.DataFrame, tmp_path: object) -> None:
    log_fit.save(f"{tmp_path}/fit.nc", data=False)
    found = bc.load(f"{tmp_path}/fit.nc").harmonize(volumes.tail(3))["mean"]
    np.testing.assert_array_equal(found, log_fit.harmonize(volumes.tail(3))["mean"])
