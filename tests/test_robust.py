"""Noise with heavy tails: its density, what it does about outlying scans, and what it cannot do."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from pytensor.compile.mode import Mode
from scipy import stats

import bayescombat as bc
from bayescombat.errors import BayesCombatError, DataError
from bayescombat.pointwise import log_densities, replicated
from tests.studies import small_study, without_cells
from tests.test_criticism import draws

INTERPRETED = Mode(linker="py", optimizer=None)
NU = np.array([2.5, 6.0, 40.0])


@pytest.mark.parametrize("holes", [False, True])
def test_density_is_that_of_students_t(holes: bool) -> None:
    study = small_study((12, 7, 5), features=4)
    study = without_cells(study) if holes else study
    model = bc.build_model(study, likelihood="observations", robust=True)
    point = model.initial_point()
    names = ["alpha", "beta", "gamma", "sigma", "delta", "nu"]
    inputs = model.replace_rvs_by_values([model[name] for name in names])
    alpha, beta, gamma, sigma, delta, nu = model.compile_fn(
        inputs, inputs=model.value_vars, mode=INTERPRETED, on_unused_input="ignore"
    )(point)
    found = model.compile_logp(vars=[model["y"]], mode=INTERPRETED)(point)
    centre = bc.Moments.from_study(study).center
    offset = study.x[:, None, :] - centre
    mean = alpha + gamma[study.codes] + (offset * beta).sum(axis=-1)
    expected = stats.t(nu, mean, (sigma * delta)[study.codes]).logpdf(study.y)
    np.testing.assert_allclose(found, np.nansum(expected), rtol=1e-10)


def test_left_out_values_know_of_the_tails() -> None:
    some, x, levels = draws()
    y = np.random.default_rng(1).normal(2, 3, size=(6, 2))
    normal = log_densities(some, y, x, levels)
    found = log_densities(some, y, x, levels, NU)
    # The normal density tells how many scales a value is away; the t density of that many follows.
    sd = (some.sigma[:, None] * some.delta[:, levels].prod(axis=2))[:, :, :]
    away = np.sqrt(-2 * (normal + np.log(sd) + np.log(2 * np.pi) / 2))
    np.testing.assert_allclose(found, stats.t(NU[:, None, None]).logpdf(away) - np.log(sd), rtol=1e-9)


def test_replicated_tables_have_the_tails() -> None:
    some, x, levels = draws()
    seen = np.ones((6, 2), dtype=bool)
    many = np.stack([replicated(some, seen, x, levels, np.random.default_rng(k), nu=NU) for k in range(4000)])
    middle = np.median(many, axis=0)
    sd = some.sigma[:, None] * some.delta[:, levels].prod(axis=2)
    beyond = (np.abs(many - middle) > 3 * sd).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(beyond, 2 * stats.t(NU).sf(3), rtol=0.2)


@pytest.mark.parametrize("settings", [{"method": "eb"}, {"shared_factors": 1}, {"factors": 1}, {"covariance": True}])
def test_what_needs_moments_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BayesCombatError, match="for robust=True"):
        bc.fit(small_study((12, 7, 5), features=12), robust=True, **settings)
    with pytest.raises(BayesCombatError, match="for robust=True"):
        bc.fit(bc.Moments.from_study(small_study((12, 7, 5))), robust=True)
    with pytest.raises(DataError, match="likelihood='observations' for robust"):
        bc.build_model(small_study((12, 7, 5)), robust=True)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayescombat.errors.ConvergenceWarning")
def test_outlying_scans_have_less_say() -> None:
    clean = small_study((30, 25, 15), features=6)
    y = clean.y.copy()
    y[[2, 33, 60]] += 8 * y.std(axis=0)
    spoiled = replace(clean, y=y)
    truth = bc.fit(clean, seed=1, progress_bar=False).parameters
    settings: dict[str, Any] = {"seed": 1, "progress_bar": False, "shared_factors": 0}
    plain, robust = bc.fit(spoiled, **settings), bc.fit(spoiled, robust=True, **settings)

    def error(fit: bc.Fit) -> float:
        away = (fit.parameters["gamma"] - truth["gamma"]).mean(("chain", "draw")) / truth["sigma"].mean(
            ("chain", "draw")
        )
        return float((away**2).mean() ** 0.5)

    assert error(robust) < 0.5 * error(plain)
    assert float(robust.parameters["nu"].mean()) < 8
    compared = [bc.loo(fit, progress_bar=False).elpd().elpd for fit in (plain, robust)]
    assert compared[1] > compared[0] + 20
    with pytest.raises(BayesCombatError, match="found robust=True"):
        robust.adopt(bc.Moments.from_study(clean))
    with pytest.raises(BayesCombatError, match="found robust=True"):
        robust.update(bc.Moments.from_study(clean))
