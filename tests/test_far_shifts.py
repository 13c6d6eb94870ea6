"""Shifts that a fit takes for noise are named, and others are not."""

import warnings
from pathlib import Path

import numpy as np
import pytest

import bayescombat as bc
from bayescombat.far_shifts import said_of_far_shifts, taken_for_noise
from bayescombat.shrinkage import Hats
from benchmarks.shrunken import Case

FEATURES = ("a", "b", "c", "d", "e")


def hats_of(gamma: list[float], scale: float = 1.0, scans: int = 3) -> Hats:
    """One batch of a few scans, whose features have these shifts and one scale."""
    shifts = np.array([gamma])
    return Hats(shifts, np.full(shifts.shape, scale**2), np.full((1, 1), scans), np.full((1, 1), scans - 1))


def found(hats: Hats, gamma: list[float], delta: list[float]) -> list[bool]:
    return taken_for_noise(hats, np.array([gamma]), np.array([delta]))[0].tolist()


def test_a_shift_that_is_lost_to_a_large_scale_is_found() -> None:
    assert found(hats_of([6, 1, 0, 0]), [0.2, 0.8, 0, 0], [3.7, 1, 1, 1]) == [True, False, False, False]


def test_a_shift_that_the_fit_keeps_is_not_found() -> None:
    assert found(hats_of([6, 1, 0, 0]), [5.5, 0.8, 0, 0], [3.7, 1, 1, 1]) == [False] * 4


def test_scans_that_spread_as_widely_as_the_fit_says_are_noise() -> None:
    assert found(hats_of([6, 1, 0, 0], scale=3.0), [0.2, 0.8, 0, 0], [3.7, 1, 1, 1]) == [False] * 4


def test_a_batch_whose_features_are_all_wide_has_no_far_shift() -> None:
    assert found(hats_of([6, 1, 0, 0]), [0.2, 0.8, 0, 0], [3.7, 3, 3, 3]) == [False] * 4


def test_one_scan_says_nothing_of_its_scale() -> None:
    hats = hats_of([6, 1, 0, 0], scale=np.nan, scans=1)
    assert found(hats, [0.2, 0.8, 0, 0], [3.7, 1, 1, 1]) == [False] * 4


def test_what_is_said_names_the_farthest_first_and_what_to_do() -> None:
    hats, gamma, delta = hats_of([5, 0, -7, 0, 0]), np.array([[0.3, 0, -0.1, 0, 0]]), np.array([[3.0, 1, 4, 1, 1]])
    said = said_of_far_shifts(hats, gamma, delta, ["USM"], FEATURES)
    assert "'c of USM (-7.0 by its scans, -0.1 by the fit)', 'a of USM (5.0 by its scans, 0.3 by the fit)'" in said
    assert "mean_only=True" in said
    assert said_of_far_shifts(hats, hats.gamma, delta, ["USM"], FEATURES) == ""


@pytest.mark.slow
def test_far_shifts_of_a_real_site_are_named_where_they_are_lost_and_nowhere_else(reference_data: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = Case.of("mriqc_abide").cut("USM", 3, 0)
        fit = bc.fit(study, chains=2, draws=400, shared_factors=0, seed=1, progress_bar=False)
        held = bc.fit(study, chains=2, draws=400, shared_factors=0, mean_only=True, seed=1, progress_bar=False)
        plain = bc.fit(study, method="eb", shrinkage="none")
    of_scans, of_fit = (one.parameters["gamma"] / one.parameters["sigma"] for one in (plain, fit))
    away = abs(of_scans - of_fit.mean(("chain", "draw"))).sel(batch="USM")
    named = [name for name in fit.layout.features if f"{name} of USM" in fit.verdict]
    assert named and all(float(away.sel(feature=name)) > 3 for name in named)
    assert "takes for noise" not in held.verdict
