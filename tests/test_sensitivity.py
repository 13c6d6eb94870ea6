"""Other priors by weights on the draws: against fits with these priors, and where there is nothing to weight."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.errors import BayesCombatError

OVER = ("chain", "draw")


def fitted(priors: bc.Priors | None = None, seed: int = 1) -> bc.Fit:
    """Return a fit of four sites, one of two scans: little is known of how sites differ."""
    simulation = bc.datasets.simulate((30, 10, 3, 2), features=8, seed=0)
    study = bc.Study.from_dataframe(simulation.table, batch="site", covariates="age", features=simulation.features)
    return bc.fit(study, priors=priors, seed=seed, chains=2, draws=3000, tune=500, progress_bar=False, shared_factors=0)


@pytest.fixture(scope="module")
def fit() -> bc.Fit:
    return fitted()


@pytest.fixture(scope="module")
def moved(fit: bc.Fit) -> xr.Dataset:
    return bc.prior_sensitivity(fit)


@pytest.mark.parametrize(("prior", "times"), [("gamma_mean_median", 2.0), ("gamma_sd_median", 0.5)])
def test_weights_say_what_another_fit_says(fit: bc.Fit, moved: xr.Dataset, prior: str, times: float) -> None:
    default = bc.Priors()
    other = fitted(replace(default, **{prior: times * getattr(default, prior)}), seed=2).parameters["gamma"]
    one, found = fit.parameters["gamma"], moved.sel(prior=prior, median=times)
    away = (other.mean(OVER) - one.mean(OVER)) / one.std(OVER)
    # Of two fits of 4,000 effective draws each, means differ by .02 sd by chance, standard deviations by 1.5 %.
    np.testing.assert_allclose(found["gamma"], (away**2).mean("feature") ** 0.5, atol=0.03)
    ratio = np.exp(np.log(other.std(OVER) / one.std(OVER)).mean("feature"))
    np.testing.assert_allclose(found["gamma_sd"], ratio, atol=0.02)


def test_every_figure_is_a_number(moved: xr.Dataset) -> None:
    assert set(moved.data_vars) == {"gamma", "gamma_sd", "delta", "delta_sd", "beta", "beta_sd", "pareto_k"}
    assert all(np.isfinite(values).all() for values in moved.data_vars.values())


def test_a_reference_batch_does_not_move(study_to_a_reference: bc.Study) -> None:
    fit = bc.fit(study_to_a_reference, seed=1, chains=2, tune=500, progress_bar=False)
    moved = bc.prior_sensitivity(fit).sel(batch="site_02")
    assert (moved[["gamma", "delta"]].to_array() == 0).all()
    assert (moved[["gamma_sd", "delta_sd"]].to_array() == 1).all()


def test_a_saved_fit_says_the_same(fit: bc.Fit, moved: xr.Dataset, tmp_path: Path) -> None:
    fit.save(tmp_path / "fit.nc", data=False, moments=False)
    xr.testing.assert_identical(bc.prior_sensitivity(bc.load(tmp_path / "fit.nc")), moved)


def test_estimates_are_refused(eb_fit: bc.Fit) -> None:
    with pytest.raises(BayesCombatError, match="Expected a fit by NUTS"):
        bc.prior_sensitivity(eb_fit)


@pytest.mark.parametrize("factor", [1.0, 0.5, np.inf, np.nan])
def test_a_factor_that_changes_nothing_is_refused(fit: bc.Fit, factor: float) -> None:
    with pytest.raises(BayesCombatError, match="Expected factor above one"):
        bc.prior_sensitivity(fit, factor)
