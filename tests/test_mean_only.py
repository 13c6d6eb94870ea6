"""NUTS without scale effects: scales are held whatever the data say, and the rest is as if there were none."""

import numpy as np
import pandas as pd
import pytest

import bayescombat as bc


def table_of(scales: tuple[float, ...], seed: int = 0) -> tuple[pd.DataFrame, list[str]]:
    """Return 40 scans of every site, whose noise is scaled as given, and its eight features."""
    rng = np.random.default_rng(seed)
    code = np.repeat(np.arange(len(scales)), 40)
    y = rng.normal(size=(len(scales), 8))[code] / 2 + np.array(scales)[code, None] * rng.normal(size=(len(code), 8))
    table = pd.DataFrame(y, columns=[f"f{v}" for v in range(8)])
    return table.assign(site=np.array(list("abcdef"))[code]), [*table.columns]


def fitted(study: bc.Study, **settings: object) -> bc.Fit:
    return bc.fit(study, seed=1, chains=2, draws=1000, tune=500, shared_factors=0, progress_bar=False, **settings)


@pytest.fixture(scope="module")
def study() -> bc.Study:
    table, features = table_of((0.5, 1.0, 2.0))
    return bc.Study.from_dataframe(table, batch="site", features=features)


@pytest.fixture(scope="module")
def fit(study: bc.Study) -> bc.Fit:
    return fitted(study, mean_only=True)


def test_data_of_other_scales_do_not_move_them(fit: bc.Fit) -> None:
    assert fit.converged
    np.testing.assert_allclose(fit.parameters["delta"], 1, atol=2e-4)


def test_harmonized_values_are_those_without_scales(fit: bc.Fit, study: bc.Study) -> None:
    other = bc.fit(study, method="eb", mean_only=True)
    away = (fit.harmonized["mean"] - other.harmonized["mean"]) / other.parameters["sigma"]
    # What estimators differ by where sites of 40 scans shrink little.
    assert float((away**2).mean() ** 0.5) < 0.03


def test_a_saved_fit_is_updated_without_scales(fit: bc.Fit) -> None:
    new, _ = table_of((3.0, 3.0, 3.0), seed=2)
    np.testing.assert_allclose(fit.update(new.head(40)).parameters["delta"], 1, atol=2e-4)


def test_left_out_values_tell_that_scales_differ(fit: bc.Fit, study: bc.Study) -> None:
    without, within = (bc.loo(one, progress_bar=False).elpd() for one in (fit, fitted(study)))
    assert within.elpd > without.elpd + 100


def test_it_is_judged_without_scales(fit: bc.Fit, study: bc.Study) -> None:
    found = bc.evaluate(study, fit, refit="eb", folds=2, permutations=20, seed=1, progress_bar=False).dataset
    assert float(found["estimate"].sel(metric="site: spreads that differ", table="harmonized")) == 1


def test_adopting_says_how_far_a_refit_without_scales_is(fit: bc.Fit) -> None:
    rng = np.random.default_rng(5)
    new = pd.DataFrame(3 * rng.normal(size=(40, 8)), columns=list(fit.layout.features)).assign(site="new")
    adopted, refitted = fit.adopt(new), fit.update(new)
    rows = new.head(40)
    away = adopted.harmonize(rows)["mean"] - refitted.harmonize(rows)["mean"]
    said = float(adopted.verdict.split("by about ")[1].split()[0])
    moved = float(((away / fit.parameters["sigma"].mean(("chain", "draw"))) ** 2).mean() ** 0.5)
    assert 0.5 * moved < said < 2 * moved


def test_sensitivity_leaves_held_priors_out(fit: bc.Fit) -> None:
    found = bc.prior_sensitivity(fit)
    assert list(found["prior"].values) == ["gamma_mean_median", "gamma_sd_median", "gamma_sd_spread_median"]
    assert set(found.data_vars) == {"gamma", "gamma_sd", "pareto_k"}


def test_other_priors_stay() -> None:
    priors = bc.Priors(gamma_sd_median=2.0, log_delta_sd_median=3.0)
    held = priors.mean_only()
    assert held.gamma_sd_median == 2
    assert held.log_delta_sd_median == bc.Priors().mean_only().log_delta_sd_median
    assert priors.log_delta_sd_median == 3
