"""The draws are of the posterior that the model says: ranks of truths from the priors are uniform."""

from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from arviz_stats.ecdf_utils import ecdf_pit

import bayescombat as bc
from bayescombat.fused import packed
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.standard import standardise
from benchmarks import calibration
from tests.studies import small_study

# Enough for the fault to be found out.
SIMULATIONS = 80
LEVEL = 0.01
SPOILED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "too low": lambda ranks: ranks**2,
    "too far out": lambda ranks: (1 + np.sign(2 * ranks - 1) * abs(2 * ranks - 1) ** 0.5) / 2,
    "too central": lambda ranks: 0.25 + ranks / 2,
}


def uniform(seed: int, size: int = 100) -> np.ndarray:
    return np.random.default_rng(seed).uniform(size=size)


def least(found: xr.Dataset) -> float:
    """Return the least p-value of all parameters times their number."""
    return float(calibration.uniformity(found)["p"].min()) * len(found.data_vars)


@pytest.mark.parametrize("kind", SPOILED)
def test_ranks_that_are_not_uniform_are_found_out(kind: str) -> None:
    assert calibration.p_value(SPOILED[kind](uniform(0))) < 0.001


def test_p_values_of_uniform_ranks_are_uniform() -> None:
    found = [calibration.p_value(uniform(seed)) for seed in range(400)]
    # A share of a half, of 400, has a standard error of 2.5 points.
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=4 * (level * (1 - level) / 400) ** 0.5)


def test_p_values_agree_with_the_bands_of_arviz() -> None:
    for seed in range(15):
        values = uniform(seed)
        if not 0.15 < (p := calibration.p_value(values)) < 0.25:
            _, share, lower, upper = ecdf_pit(values, 0.8, 1000)
            assert bool(((share < lower) | (share > upper)).any()) == (p < 0.2)


def test_moments_on_their_own_scale_are_what_a_fit_is_made_of() -> None:
    moments = estimable(Moments.from_study(small_study()))
    own = calibration.on_scale_of(standardise(moments), moments)
    here, by_default = packed(moments, bc.Priors(), standard=own), packed(moments, bc.Priors())
    np.testing.assert_allclose(here.data, by_default.data, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(here.start, by_default.start, rtol=1e-9, atol=1e-9)


@pytest.mark.slow
def test_ranks_of_truths_from_the_priors_are_uniform() -> None:
    found = calibration.ranks(SIMULATIONS)
    assert least(found) > LEVEL, calibration.uniformity(found)


@pytest.mark.slow
def test_priors_half_as_wide_are_found_out() -> None:
    found = calibration.ranks(SIMULATIONS, calibration.narrowed(bc.Priors()))
    assert least(found) < LEVEL, calibration.uniformity(found)
