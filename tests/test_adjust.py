"""The harmonization equation: held against the same equation written out for every draw."""

import tracemalloc
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

import bayescombat as bc
from bayescombat import adjust as room
from bayescombat.adjust import Draws, adjust, adjusted_draws

SITES = ("site_01", "site_02", "site_03", "site_04")
NAMES = ("alpha", "beta", "gamma", "delta")


def stacked(fit: bc.Fit, name: str) -> np.ndarray:
    """Return a parameter with one draw axis, (draw, ...)."""
    values = fit.parameters[name]
    if fit.method == "eb":
        return values.values[None]
    values = values.transpose("chain", "draw", ...).values
    return values.reshape(-1, *values.shape[2:])


def every_draw(fit: bc.Fit, study: bc.Study, target: str | None = None) -> np.ndarray:
    """Harmonize a study by every draw, as the equation is printed: (draw, obs, feature)."""
    alpha, beta, gamma, delta = (stacked(fit, name) for name in NAMES)
    offset = study.x - fit.study.x.mean(axis=0)
    i = study.codes
    tables = []
    for s in range(len(alpha)):
        fixed = alpha[s] + offset @ beta[s].T
        noise = study.y - fixed - gamma[s][i]
        if target is None:
            tables.append(noise / delta[s][i] + fixed)
        else:
            t = study.batches.index(target)
            tables.append(noise * delta[s][t] / delta[s][i] + fixed + gamma[s][t])
    return np.array(tables)


def random_draws(n_draw: int, n_feature: int, n_batch: int = 3, n_covariate: int = 2) -> Draws:
    rng = np.random.default_rng(0)
    return Draws(
        alpha=rng.normal(size=(n_draw, n_feature)),
        beta=rng.normal(size=(n_draw, n_feature, n_covariate)),
        gamma=rng.normal(size=(n_draw, n_batch, n_feature)),
        delta=np.exp(0.2 * rng.normal(size=(n_draw, n_batch, n_feature))),
        sigma=np.exp(0.2 * rng.normal(size=(n_draw, n_feature))),
        center=rng.normal(size=n_covariate),
        kept=np.ones(n_covariate, dtype=bool),
        standing=np.zeros((n_draw, n_feature)),
    )


def random_rows(n_obs: int, n_feature: int, n_batch: int = 3, n_covariate: int = 2) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    y, x = rng.normal(size=(n_obs, n_feature)), rng.normal(size=(n_obs, n_covariate))
    return y, x, rng.integers(n_batch, size=(n_obs, 1))


# ---------------------------------------------------------------- against every draw


@pytest.mark.parametrize("target", [None, "site_02", "site_04"])
def test_mean_and_sd_are_those_of_every_draw(nuts_fit: bc.Fit, study: bc.Study, target: str | None) -> None:
    tables = every_draw(nuts_fit, study, target)
    found = nuts_fit.harmonize(study, target=target)
    np.testing.assert_allclose(found["mean"], tables.mean(axis=0), rtol=1e-9)
    moved = np.ones(len(study.codes), bool) if target is None else study.codes != study.batches.index(target)
    expected = tables.std(axis=0, ddof=1)
    np.testing.assert_allclose(found["sd"].values[moved], expected[moved], rtol=1e-9)


@pytest.mark.parametrize("target", [None, "site_02"])
def test_draws_are_every_draw(nuts_fit: bc.Fit, study: bc.Study, target: str | None) -> None:
    tables = every_draw(nuts_fit, study, target)
    found = nuts_fit.draws(len(tables), target=target)
    assert found.dims == ("draw", "obs", "feature")
    np.testing.assert_allclose(found, tables, rtol=1e-12)


def test_harmonized_is_the_mean_and_sd_of_all_draws(nuts_fit: bc.Fit) -> None:
    draws = nuts_fit.draws(2000)
    np.testing.assert_allclose(nuts_fit.harmonized["mean"], draws.mean("draw"), rtol=1e-9)
    np.testing.assert_allclose(nuts_fit.harmonized["sd"], draws.std("draw", ddof=1), rtol=1e-9)


def test_fewer_draws_are_some_of_all(nuts_fit: bc.Fit) -> None:
    some, every = nuts_fit.draws(7), nuts_fit.draws(2000)
    assert some["draw"].values[0] == 0 and some["draw"].values[-1] == 1999
    np.testing.assert_allclose(np.diff(some["draw"]), 1999 / 6, atol=1, err_msg="evenly spaced")
    xr.testing.assert_allclose(some, every.sel(draw=some["draw"]), rtol=1e-13)


@pytest.mark.parametrize("probability", [0.9, 0.5])
def test_bounds_are_quantiles_of_the_thinned_draws(nuts_fit: bc.Fit, study: bc.Study, probability: float) -> None:
    # At most 1,000 draws are used: of 2,000 every other one.
    thinned = every_draw(nuts_fit, study)[::2]
    found = nuts_fit.harmonize(study, probability=probability)
    low, high = (1 - probability) / 2, (1 + probability) / 2
    np.testing.assert_allclose(found["lower"], np.quantile(thinned, low, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found["upper"], np.quantile(thinned, high, axis=0), rtol=1e-12)
    assert found.attrs["probability"] == probability


def test_bounds_of_a_thousand_draws_use_every_one() -> None:
    draws, (y, x, levels) = random_draws(1000, 2), random_rows(10, 2)
    found, tables = adjust(draws, y, x, levels), adjusted_draws(draws, y, x, levels)
    np.testing.assert_allclose(found.lower, np.quantile(tables, 0.05, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.upper, np.quantile(tables, 0.95, axis=0), rtol=1e-12)


@pytest.mark.parametrize("target", [None, "site_02", "site_04"])
def test_empirical_bayes_shares_the_equation(eb_fit: bc.Fit, study: bc.Study, target: str | None) -> None:
    found = eb_fit.harmonize(study, target=target)
    assert set(found.data_vars) == {"mean"}
    np.testing.assert_allclose(found["mean"], every_draw(eb_fit, study, target)[0], rtol=1e-13)


@pytest.mark.parametrize("target", [None, "site_02"])
def test_new_rows_follow_the_equation_of_the_fit(nuts_fit: bc.Fit, target: str | None) -> None:
    # Covariates are measured from the average of the fitted rows, not of the new ones.
    table = bc.datasets.simulate((2, 5, 4, 3), features=8, seed=9).table
    found = nuts_fit.harmonize(table, target=target)
    rows = bc.Study.from_design(table, nuts_fit.moments.spec)
    np.testing.assert_allclose(found["mean"], every_draw(nuts_fit, rows, target).mean(axis=0), rtol=1e-9)


# ---------------------------------------------------------------- target and reference


@pytest.mark.parametrize("method", ["nuts", "eb"])
@pytest.mark.parametrize("target", SITES)
def test_rows_of_the_target_keep_every_bit(
    nuts_fit: bc.Fit, eb_fit: bc.Fit, study: bc.Study, target: str, method: str
) -> None:
    found = {"nuts": nuts_fit, "eb": eb_fit}[method].harmonize(study, target=target)
    own = study.codes == study.batches.index(target)
    assert found.attrs["target"] == target
    for name in set(found.data_vars) - {"sd"}:
        np.testing.assert_array_equal(found[name].values[own], study.y[own])
    if "sd" in found:
        np.testing.assert_array_equal(found["sd"].values[own], 0)
    assert (found["mean"].values[~own] != study.y[~own]).all()


def test_rows_of_the_target_keep_every_bit_in_draws(nuts_fit: bc.Fit, study: bc.Study) -> None:
    own = study.codes == 2
    found = nuts_fit.draws(5, target="site_03").values
    np.testing.assert_array_equal(found[:, own], np.broadcast_to(study.y[own], found[:, own].shape))


@pytest.fixture(scope="module")
def fits_to_a_reference(nuts_fit: bc.Fit, study_to_a_reference: bc.Study) -> dict[str, bc.Fit]:
    """Both estimators with a reference batch; the draws are those of `nuts_fit` under the other constraint."""
    eb = bc.fit(study_to_a_reference, method="eb")
    tree = eb.tree.copy()
    tree["posterior"] = xr.DataTree(bc.identify(nuts_fit.parameters, study_to_a_reference))
    tree.attrs |= {"method": "nuts"}
    return {"eb": eb, "nuts": bc.Fit(tree)}


@pytest.mark.parametrize("method", ["nuts", "eb"])
def test_rows_of_the_reference_keep_every_bit(
    fits_to_a_reference: dict[str, bc.Fit], study: bc.Study, method: str
) -> None:
    fit, own = fits_to_a_reference[method], study.codes == 1
    assert fit.harmonized.attrs["target"] == "site_02"
    for name in set(fit.harmonized.data_vars) - {"sd"}:
        np.testing.assert_array_equal(fit.harmonized[name].values[own], study.y[own])


@pytest.mark.parametrize("method", ["nuts", "eb"])
def test_other_rows_follow_the_equation_with_a_reference(
    fits_to_a_reference: dict[str, bc.Fit], study_to_a_reference: bc.Study, method: str
) -> None:
    fit = fits_to_a_reference[method]
    expected = every_draw(fit, study_to_a_reference).mean(axis=0)
    np.testing.assert_allclose(fit.harmonized["mean"], expected, rtol=1e-9)


@pytest.mark.parametrize("method", ["nuts", "eb"])
def test_a_target_overrides_the_reference(
    fits_to_a_reference: dict[str, bc.Fit], study_to_a_reference: bc.Study, method: str
) -> None:
    fit = fits_to_a_reference[method]
    found = fit.harmonize(study_to_a_reference, target="site_01")
    expected = every_draw(fit, study_to_a_reference, "site_01").mean(axis=0)
    np.testing.assert_allclose(found["mean"], expected, rtol=1e-9)
    own = study_to_a_reference.codes == 0
    np.testing.assert_array_equal(found["mean"].values[own], study_to_a_reference.y[own])


# ---------------------------------------------------------------- any rows, any block


@hypothesis_settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 62), min_size=1, max_size=20, unique=True))
def test_any_rows_are_those_of_the_whole(nuts_fit: bc.Fit, simulation: bc.datasets.Simulation, rows: list[int]) -> None:
    found, whole = nuts_fit.harmonize(simulation.table.iloc[rows]), nuts_fit.harmonized
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_allclose(found[name], whole[name].values[rows], rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("block", [1, 5_000, 200_000])
@pytest.mark.parametrize("target", [None, "site_02"])
def test_blocks_change_no_number(
    nuts_fit: bc.Fit, study: bc.Study, monkeypatch: pytest.MonkeyPatch, block: int, target: str | None
) -> None:
    whole, tables = nuts_fit.harmonize(study, target=target), nuts_fit.draws(200, target=target)
    monkeypatch.setattr(room, "BLOCK", block)
    found = nuts_fit.harmonize(study, target=target)
    for name in ("mean", "sd", "lower", "upper"):
        np.testing.assert_allclose(found[name], whole[name], rtol=0, atol=1e-12, err_msg=name)
    np.testing.assert_allclose(nuts_fit.draws(200, target=target), tables, rtol=1e-12)


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # All harmonized draws at once would take 128 MB, one block 1 MB, the results 0.5 MB.
    draws, rows = random_draws(1000, 4), random_rows(4000, 4)
    monkeypatch.setattr(room, "BLOCK", 2**17)
    tracemalloc.start()
    try:
        adjust(draws, *rows)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8e6


# ---------------------------------------------------------------- digits


@pytest.mark.parametrize("target", [None, (1,)])
def test_values_around_a_million_keep_their_digits(target: tuple[int, ...] | None) -> None:
    # Steps of 2**-20 are exact around 2**20, so that both tables are the same numbers.
    def stepped(values: np.ndarray) -> np.ndarray:
        return np.round(values * 2**20) / 2**20

    away = 2.0**20
    near, (y, x, levels) = random_draws(400, 3), random_rows(200, 3)
    given = ("beta", "gamma", "delta", "sigma", "center", "kept", "standing")
    options: dict[str, Any] = {name: getattr(near, name) for name in given}
    options |= {"target": target, "unmoved": target}
    alpha, y = stepped(near.alpha), stepped(y)
    expected = adjust(Draws(alpha, **options), y, x, levels)
    found = adjust(Draws(alpha + away, **options), y + away, x, levels)
    for name in ("mean", "lower", "upper"):
        np.testing.assert_allclose(getattr(found, name) - away, getattr(expected, name), rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.sd, expected.sd, rtol=0, atol=1e-9)


def test_covariates_far_from_zero_keep_their_digits() -> None:
    draws, (y, x, levels) = random_draws(400, 3), random_rows(200, 3)
    far = replace(draws, center=draws.center + 2000)
    expected, found = adjust(draws, y, x, levels), adjust(far, y, x + 2000, levels)
    np.testing.assert_allclose(found.mean, expected.mean, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.sd, expected.sd, rtol=0, atol=1e-10)
