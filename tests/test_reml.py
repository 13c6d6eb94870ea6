"""Restricted maximum likelihood from cross-products against dense matrices and a general optimiser."""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.optimize import minimize

import bayescombat as bc
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.reml import Slopes, Swept, reml, restricted_deviance


@dataclass(frozen=True, eq=False)
class Dense:
    """Rows of one feature: indicators and unpenalised columns, and the penalised columns of every smooth."""

    fixed: np.ndarray
    bent: list[np.ndarray]
    y: np.ndarray

    def covariance(self, ratios: np.ndarray) -> np.ndarray:
        parts = [ratio * columns @ columns.T for ratio, columns in zip(ratios, self.bent, strict=True)]
        return np.eye(len(self.y)) + np.sum(parts, axis=0)

    def deviance(self, ratios: np.ndarray) -> float:
        """Minus twice the restricted log-likelihood at its best residual variance, but for constants."""
        covariance, x = self.covariance(ratios), self.fixed
        whitened = np.linalg.solve(covariance, x)
        slopes = np.linalg.solve(x.T @ whitened, whitened.T @ self.y)
        left = self.y - x @ slopes
        squares = left @ np.linalg.solve(covariance, left)
        determinants = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(x.T @ whitened)[1]
        return float(determinants + (len(self.y) - x.shape[1]) * np.log(squares))

    def slope(self, logs: np.ndarray) -> np.ndarray:
        """Derivatives of the deviance by the logarithms of the ratios."""
        covariance, x = self.covariance(np.exp(logs)), self.fixed
        inverse = np.linalg.inv(covariance)
        left = inverse - inverse @ x @ np.linalg.solve(x.T @ inverse @ x, x.T @ inverse)
        along, squares = left @ self.y, self.y @ left @ self.y
        freedom = len(self.y) - x.shape[1]
        parts = zip(np.exp(logs), self.bent, strict=True)
        return np.array(
            [r * (np.trace(z.T @ left @ z) - freedom * ((z.T @ along) ** 2).sum() / squares) for r, z in parts]
        )

    def best(self) -> np.ndarray:
        """Ratios found by a simplex search over their logarithms, from several starts."""
        starts = [np.full(len(self.bent), start) for start in (-5.0, -2.0, 0.0, 2.0)]
        options = {"xatol": 1e-7, "fatol": 1e-12, "maxiter": 4000, "maxfev": 4000}
        found = [
            minimize(lambda logs: self.deviance(np.exp(logs)), start, method="Nelder-Mead", options=options)
            for start in starts
        ]
        return np.exp(min(found, key=lambda result: result.fun).x)

    def predicted(self, ratios: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Generalised least squares, and the best linear unbiased predictions."""
        covariance, x = self.covariance(ratios), self.fixed
        whitened = np.linalg.solve(covariance, x)
        slopes = np.linalg.solve(x.T @ whitened, whitened.T @ self.y)
        left = np.linalg.solve(covariance, self.y - x @ slopes)
        return slopes, [ratio * columns.T @ left for ratio, columns in zip(ratios, self.bent, strict=True)]


def curved_study(
    smooth: dict[str, int], holes: bool = False, software: bool = False, scans: tuple[int, ...] = (40, 30, 20)
) -> bc.Study:
    """A study of six features, some curved in age and some in its companion, some straight."""
    simulation = bc.datasets.simulate(scans, features=6, seed=2)
    rng = np.random.default_rng(1)
    table = simulation.table.assign(bmi=rng.uniform(18, 35, len(simulation.table)))
    table["software"] = np.arange(len(table)) % 2
    sigma = simulation.truth["sigma"].values
    y = table[list(simulation.features)].to_numpy().copy()
    y += np.sin(table["age"].to_numpy() / 8)[:, None] * sigma * [1.5, 1.0, 0.0, 2.0, 0.0, 0.8]
    y += np.cos(table["bmi"].to_numpy() / 4)[:, None] * sigma * [0.5, 0.0, 1.0, 0.0, 0.0, 0.6]
    if holes:
        y[rng.random(y.shape) < 0.1] = np.nan
    table[list(simulation.features)] = y
    batch = ["site", "software"] if software else "site"
    return bc.Study.from_dataframe(table, batch=batch, covariates="sex", features=simulation.features, smooth=smooth)


def dense(study: bc.Study, feature: int) -> Dense:
    """The observed rows of one feature, with an indicator of every level but for what is aliased."""
    seen = np.isfinite(study.y[:, feature])
    positions = Moments.from_study(study).positions[study.codes]
    levels = (positions[:, :, None] == np.arange(positions.max() + 1)).any(axis=1).astype(float)
    levels = levels[:, : None if positions.shape[1] == 1 else -1]
    free = study.x[:, study.spec.unpenalised]
    bent = [study.x[seen][:, columns] for columns in study.spec.penalised]
    return Dense(np.column_stack([levels, free])[seen], bent, study.y[seen, feature])


KINDS = {
    "complete": {"smooth": {"age": 10}},
    "missing cells": {"smooth": {"age": 10}, "holes": True},
    "two batch variables": {"smooth": {"age": 8}, "software": True},
    "two batch variables, missing cells": {"smooth": {"age": 8}, "software": True, "holes": True},
    "two smooths": {"smooth": {"age": 8, "bmi": 6}},
    "two smooths, missing cells": {"smooth": {"age": 6, "bmi": 8}, "holes": True},
}


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> tuple[bc.Study, Slopes]:
    study = curved_study(**KINDS[request.param])
    curves = least_squares(Moments.from_study(study)).curves
    assert curves is not None
    return study, curves


def test_ratios_are_those_of_dense_matrices_and_a_general_optimiser(case: tuple[bc.Study, Slopes]) -> None:
    study, curves = case
    inside = 0
    for feature, ratios in enumerate(curves.ratios):
        rows = dense(study, feature)
        expected = rows.best()
        bends = ratios > 0
        # Where nothing bends the search ends anywhere below what can be told from zero.
        np.testing.assert_allclose(ratios[bends], expected[bends], rtol=2e-5)
        assert (expected[~bends] < 1e-3).all()
        assert rows.deviance(ratios) <= rows.deviance(expected) + 1e-8
        inside += bends.sum()
    assert inside >= 4


def test_slopes_are_the_best_linear_unbiased_predictions(case: tuple[bc.Study, Slopes]) -> None:
    study, curves = case
    free, penalised = study.spec.unpenalised, study.spec.penalised
    for feature, ratios in enumerate(curves.ratios):
        slopes, bent = dense(study, feature).predicted(ratios)
        np.testing.assert_allclose(curves.beta[feature, free], slopes[-len(free) :], rtol=1e-7, atol=1e-10)
        for columns, expected in zip(penalised, bent, strict=True):
            np.testing.assert_allclose(curves.beta[feature, columns], expected, rtol=1e-6, atol=1e-9)


def test_variance_and_covariance_are_those_of_dense_matrices(case: tuple[bc.Study, Slopes]) -> None:
    study, curves = case
    for feature, ratios in enumerate(curves.ratios):
        rows = dense(study, feature)
        covariance, x = rows.covariance(ratios), rows.fixed
        slopes, _ = rows.predicted(ratios)
        left = rows.y - x @ slopes
        variance = left @ np.linalg.solve(covariance, left) / (len(left) - x.shape[1])
        np.testing.assert_allclose(curves.variance[feature], variance, rtol=1e-8)
        # Henderson's equations, with a penalty that stands for a ratio of zero.
        every = np.column_stack([x, *rows.bent])
        penalty = np.concatenate(
            [
                np.zeros(x.shape[1]),
                *(np.full(part.shape[1], 1 / max(ratio, 1e-9)) for part, ratio in zip(rows.bent, ratios, strict=True)),
            ]
        )
        inverse = np.linalg.inv(every.T @ every + np.diag(penalty))
        order = np.concatenate([study.spec.unpenalised, *study.spec.penalised])
        count = len(order)
        np.testing.assert_allclose(
            curves.covariance[feature][np.ix_(order, order)], inverse[-count:, -count:], rtol=1e-5, atol=1e-7
        )
        taken = np.trace(inverse @ (every.T @ every)) - (x.shape[1] - len(study.spec.unpenalised))
        np.testing.assert_allclose(curves.taken[feature], taken, rtol=1e-5)


def test_deviance_is_that_of_dense_matrices_but_for_a_constant(case: tuple[bc.Study, Slopes]) -> None:
    study, curves = case
    rng = np.random.default_rng(0)
    tried = np.exp(rng.normal(-1, 2, (4, *curves.ratios.shape)))
    for feature in range(len(curves.ratios)):
        rows = dense(study, feature)
        straight = rows.deviance(np.zeros(curves.ratios.shape[1]))
        for ratios in tried:
            found = restricted_deviance(curves.swept, ratios)[feature]
            np.testing.assert_allclose(found, rows.deviance(ratios[feature]) - straight, atol=1e-7)


def rows_of_products(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(50, 7))
    y = x[:, :1] + x[:, 2:] @ (0.6 * rng.normal(size=(5, 9))) + rng.normal(size=(50, 9))
    return x - x.mean(axis=0), scale * (y - y.mean(axis=0))


def products_of(scale: float = 1.0) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, list[np.ndarray]]:
    x, y = rows_of_products(scale)
    columns = [np.array([2, 3, 6]), np.array([4, 5])]
    return (x.T @ x)[None], y.T @ x, (y**2).sum(axis=0), np.full(9, 49.0), columns


def test_ratios_stand_at_the_optimum_to_1e_8_in_their_logarithms() -> None:
    x, y = rows_of_products()
    *sums, columns = products_of()
    ratios = reml(*sums, columns)
    assert (ratios > 0).sum() >= 10
    for feature, found in enumerate(ratios):
        bends = np.flatnonzero(found > 0)
        rows = Dense(np.column_stack([np.ones(len(x)), x[:, :2]]), [x[:, columns[k]] for k in bends], y[:, feature])
        logs = np.log(found[bends])
        slope = rows.slope(logs)
        steps = 1e-5 * np.eye(len(bends))
        curvature = [(rows.slope(logs + step) - rows.slope(logs - step)) / 2e-5 for step in steps]
        # How far one Newton step would go.
        np.testing.assert_allclose(np.linalg.solve(np.array(curvature).reshape(-1, len(bends)), slope), 0, atol=1e-8)


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_ratios_do_not_hang_on_the_features_units(scale: float) -> None:
    *sums, columns = products_of()
    *scaled, _ = products_of(scale)
    np.testing.assert_allclose(reml(*scaled, columns), reml(*sums, columns), rtol=1e-7)


def test_features_do_not_touch_each_other() -> None:
    products, cross, squares, freedom, columns = products_of()
    whole = reml(products, cross, squares, freedom, columns)
    for v in range(len(cross)):
        alone = reml(products, cross[[v]], squares[[v]], freedom[[v]], columns)
        np.testing.assert_allclose(alone[0], whole[v], rtol=1e-8)


def test_columns_without_variation_bend_nothing() -> None:
    products, cross, squares, freedom, columns = products_of()
    still = np.isin(np.arange(7), columns[1])
    products, cross = np.where(still | still[:, None], 0.0, products), np.where(still, 0.0, cross)
    ratios = reml(products, cross, squares, freedom, columns)
    assert (ratios[:, 1] == 0).all()
    alone = reml(products[:, ~still][:, :, ~still], cross[:, ~still], squares, freedom, [np.arange(2, 5)])
    np.testing.assert_allclose(ratios[:, :1], alone, rtol=1e-8)
    beta = Slopes(Swept.of(products, cross, squares, freedom, columns), ratios).beta
    assert np.isfinite(beta).all() and (beta[:, columns[1]] == 0).all()
