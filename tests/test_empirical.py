"""Empirical Bayes against published implementations, and the corrected default against its own equations."""

from pathlib import Path

import combaters
import numpy as np
import pandas as pd
import pytest

import bayescombat as bc
from bayescombat.empirical import empirical_bayes
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from benchmarks import parity


@pytest.mark.parametrize("configuration", parity.TESTDATA)
def test_sva_mode_equals_the_r_reference_on_neurocombat_testdata(configuration: str, reference_data: Path) -> None:
    assert parity.difference_on_testdata(configuration) <= 1e-9


@pytest.mark.parametrize("configuration", parity.BLADDERBATCH)
def test_sva_mode_equals_sva_on_bladderbatch(configuration: str, reference_data: Path) -> None:
    assert parity.difference_on_bladderbatch(configuration) <= 1e-8


@pytest.mark.parametrize("configuration", parity.FCON1000)
def test_sva_mode_equals_r_neurocombat_on_fcon1000(configuration: str, reference_data: Path) -> None:
    assert parity.difference_on_fcon1000(configuration) <= 1e-8


def simulated(
    seed: int = 0, scans: tuple[int, ...] = (20, 12, 8, 5), features: int = 30
) -> tuple[bc.Study, pd.DataFrame]:
    simulation = bc.datasets.simulate(scans, features=features, seed=seed)
    table = simulation.table.assign(sex=(simulation.table["sex"] == "M").astype(float))
    return (
        bc.Study.from_arrays(
            table[list(simulation.features)], batch=table["site"].to_numpy(), covariates=table[["age", "sex"]]
        ),
        table,
    )


@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parametric", [True, False])
@pytest.mark.parametrize("mean_only", [True, False])
def test_sva_mode_equals_combaters(seed: int, parametric: bool, mean_only: bool) -> None:
    study, table = simulated(seed)
    other = combaters.combat(study.y, table["site"].to_numpy(), table[["age", "sex"]].to_numpy(), parametric, mean_only)
    shrinkage = "parametric" if parametric else "nonparametric"
    found = bc.fit(study, method="eb", compat="sva", shrinkage=shrinkage, mean_only=mean_only).harmonized["mean"]
    np.testing.assert_allclose(found, other["adjusted"], atol=1e-10)


def test_sva_mode_turns_mean_only_for_a_batch_of_one_scan() -> None:
    study, table = simulated(scans=(20, 12, 1))
    other = combaters.combat(study.y, table["site"].to_numpy(), table[["age", "sex"]].to_numpy())
    with pytest.warns(bc.BatchSizeWarning, match="mean-only"):
        fit = bc.fit(study, method="eb", compat="sva")
    np.testing.assert_allclose(fit.harmonized["mean"], other["adjusted"], atol=1e-10)


def test_default_stands_at_the_fixed_point_of_both_conditional_means() -> None:
    study, _ = simulated()
    moments = Moments.from_study(study)
    fit, estimates = least_squares(moments), empirical_bayes(moments)
    n = moments.n
    gamma_hat = (fit.cell_mean - estimates.alpha) / estimates.sigma
    delta2_hat = fit.ssr / ((n - 1) * estimates.sigma**2)
    gamma, delta2 = estimates.gamma / estimates.sigma, estimates.delta**2
    tau2, mean = gamma_hat.var(axis=1, ddof=1, keepdims=True), gamma_hat.mean(axis=1, keepdims=True)
    m, v = delta2_hat.mean(axis=1, keepdims=True), delta2_hat.var(axis=1, ddof=1, keepdims=True)
    a, b = (2 * v + m**2) / v, (m * v + m**3) / v
    squares = (n - 1) * delta2_hat + n * (gamma_hat - gamma) ** 2
    np.testing.assert_allclose(gamma, (tau2 * n * gamma_hat + delta2 * mean) / (tau2 * n + delta2), atol=1e-10)
    np.testing.assert_allclose(delta2, (squares / 2 + b) / (n / 2 + a - 1), rtol=1e-10)


def test_sva_mode_stops_short_of_the_fixed_point_that_the_default_reaches() -> None:
    study, _ = simulated()
    published, corrected = (
        bc.fit(study, method="eb", compat=compat).harmonized["mean"] / study.y.std() for compat in ("sva", None)
    )
    gap = float(np.abs(published - corrected).max())
    assert 0 < gap <= 1e-3


def test_default_mean_only_shrinks_by_the_size_of_the_batch() -> None:
    study, _ = simulated()
    moments = Moments.from_study(study)
    fit, estimates = least_squares(moments), empirical_bayes(moments, mean_only=True)
    gamma_hat = (fit.cell_mean - estimates.alpha) / estimates.sigma
    tau2, mean = gamma_hat.var(axis=1, ddof=1, keepdims=True), gamma_hat.mean(axis=1, keepdims=True)
    expected = (tau2 * moments.n * gamma_hat + mean) / (tau2 * moments.n + 1)
    np.testing.assert_allclose(estimates.gamma / estimates.sigma, expected, atol=1e-12)
    np.testing.assert_array_equal(estimates.delta, 1)


def test_nonparametric_weights_are_those_of_the_plain_likelihood() -> None:
    study, _ = simulated(features=6)
    moments = Moments.from_study(study)
    fit, estimates = least_squares(moments), empirical_bayes(moments, "nonparametric")
    residual = (study.y - estimates.alpha - (study.x - moments.center[0]) @ estimates.beta.T) / estimates.sigma
    for i in range(len(moments.batches)):
        rows = residual[study.codes == i]
        gamma_hat = rows.mean(axis=0)
        delta2_hat = rows.var(axis=0, ddof=1)
        for g in range(6):
            others = np.arange(6) != g
            density = np.exp(-((rows[:, [g]] - gamma_hat[others]) ** 2) / (2 * delta2_hat[others]))
            weight = (density / np.sqrt(2 * np.pi * delta2_hat[others])).prod(axis=0)
            expected = (weight @ gamma_hat[others]) / weight.sum()
            assert estimates.gamma[i, g] / estimates.sigma[g] == pytest.approx(expected, rel=1e-9)
            expected = (weight @ delta2_hat[others]) / weight.sum()
            assert estimates.delta[i, g] ** 2 == pytest.approx(expected, rel=1e-9)
    assert fit.beta.shape == (6, 2)


def test_nonparametric_survives_batches_where_plain_likelihoods_underflow() -> None:
    study, _ = simulated(scans=(900, 800), features=20)
    estimates = empirical_bayes(Moments.from_study(study), "nonparametric")
    assert np.isfinite(estimates.gamma).all()
    assert np.isfinite(estimates.delta).all()


def test_least_squares_equal_numpys() -> None:
    study, _ = simulated()
    fit = least_squares(Moments.from_study(study))
    design = np.concatenate([np.eye(len(study.batches))[study.codes], study.x - study.x.mean(axis=0)], axis=1)
    expected, *_ = np.linalg.lstsq(design, study.y)
    np.testing.assert_allclose(fit.cell_mean, expected[: len(study.batches)], rtol=1e-10)
    np.testing.assert_allclose(fit.beta.T, expected[len(study.batches) :], rtol=1e-8, atol=1e-12)
    squares = (study.y - design @ expected) ** 2
    for i in range(len(study.batches)):
        np.testing.assert_allclose(fit.ssr[i], squares[study.codes == i].sum(axis=0), rtol=1e-9)


def test_unshrunk_reference_batch_matches_location_and_scale_exactly() -> None:
    simulation = bc.datasets.simulate((30, 20), features=4)
    study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features, reference="site_01")
    harmonized = bc.fit(study, method="eb", shrinkage="none").harmonized["mean"].values
    reference, other = harmonized[study.codes == 0], harmonized[study.codes == 1]
    np.testing.assert_allclose(other.mean(axis=0), reference.mean(axis=0), rtol=1e-12)
    # sva's scale of the reference has divisor n, that of the other batch n - 1.
    ratio = other.std(axis=0, ddof=1) / reference.std(axis=0, ddof=0)
    np.testing.assert_allclose(ratio, 1, rtol=1e-12)
