"""Metrics of removal and preservation against values by hand, other packages, and what they promise."""

from itertools import permutations

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.spatial.distance import pdist
from sklearn.metrics import balanced_accuracy_score, r2_score

from bayescombat.evaluate.chance import chance_shares, standardised, without_means
from bayescombat.evaluate.classification import (
    CLASSIFIERS,
    balanced_accuracy,
    chance_accuracies,
    predicted_labels,
    predicted_numbers,
)
from bayescombat.evaluate.distances import (
    _squared_norm,
    covariance_share,
    distances_within_folds,
    energy_share,
    rotated,
)
from bayescombat.evaluate.folds import NEVER, Exchange, dealt, held_out_folds
from bayescombat.evaluate.metrics import groups_left_out, jackknife, without_groups
from bayescombat.evaluate.preservation import effect_ratio, group_effects, rank_agreement, shared_variance
from bayescombat.evaluate.removal import batch_shares, component_shares, location_tests, principal_scores, scale_tests
from bayescombat.evaluate.travelling import intraclass_correlations, recognised
from bayescombat.evaluate.within import by_pattern, filled, pooled_slopes, residuals, within_slopes

BATCH = np.repeat([0, 1, 2], [14, 10, 6])
ONE_FOLD = np.zeros(30, dtype=int)
NONE = np.zeros((30, 0))


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(30, 5)) + BATCH[:, None] * [0.0, 0.5, 1.0, 2.0, 0.0]


@pytest.fixture
def x() -> np.ndarray:
    rng = np.random.default_rng(2)
    return np.column_stack([rng.normal(BATCH, 1.0), rng.integers(0, 2, 30)])


def with_holes(values: np.ndarray) -> np.ndarray:
    found = values.copy()
    found[[0, 3, 20], [1, 1, 4]] = np.nan
    return found


def with_dummies(x: np.ndarray, rows: np.ndarray) -> np.ndarray:
    return np.column_stack([np.eye(3)[BATCH[rows]], x[rows]])


# Least squares


def test_slopes_are_those_of_ordinary_least_squares(values: np.ndarray, x: np.ndarray) -> None:
    holed = with_holes(values)
    within, pooled = within_slopes(holed, x, BATCH), pooled_slopes(holed, x)
    for column in range(5):
        rows = np.flatnonzero(~np.isnan(holed[:, column]))
        y = holed[rows, column]
        np.testing.assert_allclose(within[:, column], sm.OLS(y, with_dummies(x, rows)).fit().params[3:])
        np.testing.assert_allclose(pooled[:, column], sm.OLS(y, sm.add_constant(x[rows])).fit().params[1:])


def test_residuals_keep_differences_between_batches_and_lose_covariates(x: np.ndarray) -> None:
    y = (x @ [2.0, -1.0] + 3.0 * BATCH)[:, None]
    rest = residuals(y, x, BATCH)
    np.testing.assert_allclose(np.ptp(rest[:, 0] - 3.0 * BATCH), 0.0, atol=1e-12)


def test_features_are_taken_by_the_scans_that_they_were_observed_in(values: np.ndarray) -> None:
    holed = with_holes(values)
    np.testing.assert_allclose(by_pattern(holed, lambda y, _: y.mean(axis=0)), np.nanmean(holed, axis=0))


def test_missing_cells_are_filled_by_values_of_the_feature(values: np.ndarray) -> None:
    holed = with_holes(values)
    found, again = filled(holed, 3), filled(holed + 1.0, 3)
    seen = ~np.isnan(holed)
    assert (found[seen] == holed[seen]).all()
    assert all(found[row, column] in values[:, column] for row, column in np.argwhere(~seen))
    np.testing.assert_allclose(again, found + 1.0)


# Shares of variance


def test_the_share_of_variance_by_hand() -> None:
    # Means 1 and 5, mean squares 16 between and 2 within, two scans each: variance between (16 - 2) / 2 = 7.
    y = np.array([[0.0], [2.0], [4.0], [6.0]])
    batch = np.array([0, 0, 1, 1])
    assert batch_shares(y, np.zeros((4, 0)), batch, np.zeros(4, dtype=int))[0] == pytest.approx(7 / 9)


def test_the_share_of_variance_does_not_hang_on_differences_between_folds(values: np.ndarray) -> None:
    fold = np.arange(30) % 3
    shifted = values + 5.0 * fold[:, None] * (BATCH[:, None] >= 0)
    found = batch_shares(shifted - np.stack([shifted[fold == k].mean(axis=0) for k in fold]), NONE, BATCH, fold)
    np.testing.assert_allclose(
        found, batch_shares(values - np.stack([values[fold == k].mean(axis=0) for k in fold]), NONE, BATCH, fold)
    )


def test_batches_that_differ_in_nothing_but_covariates_have_share_zero() -> None:
    rng = np.random.default_rng(0)
    batch, fold = np.repeat(np.arange(5), 12), np.arange(60) % 3
    x = rng.normal(batch, 0.7)[:, None]
    y = 2.0 * x + rng.normal(size=(60, 4000))
    assert batch_shares(y, x, batch, fold).mean() == pytest.approx(0.0, abs=0.01)
    assert batch_shares(y, x[:, :0], batch, fold).mean() > 0.5


def test_principal_components_share_what_batch_explains() -> None:
    rng = np.random.default_rng(0)
    batch = np.repeat([0, 1], 200)
    values = rng.normal(size=(400, 4)) * 0.1 + np.outer(batch * 2.0 - 1.0, [1.0, 1.0, 0.0, 0.0])
    scores, weight = principal_scores(values)
    squares = np.linalg.svd(values - values.mean(axis=0))[1] ** 2
    np.testing.assert_allclose(weight, squares / squares.sum())
    shares = component_shares(scores, batch, np.zeros(400, dtype=int))
    assert shares[0] > 0.99 and (abs(shares[1:]) < 0.02).all()


@pytest.mark.parametrize("constant", [0.0, 2.3])
def test_what_does_not_vary_differs_in_nothing(constant: float) -> None:
    flat = np.full((30, 3), constant)
    assert (batch_shares(flat, NONE, BATCH, ONE_FOLD) == 0).all()
    assert (location_tests(flat, NONE, BATCH) == 1).all()
    assert (scale_tests(flat, NONE, BATCH) == 1).all()
    assert covariance_share(flat, BATCH) == 0
    assert energy_share(distances_within_folds(flat, ONE_FOLD, 0), BATCH) == 0
    assert (rank_agreement(np.random.default_rng(0).normal(size=(30, 3)), flat, BATCH, ONE_FOLD) == 0).all()
    assert (intraclass_correlations(flat, np.arange(30) // 2) == 0).all()


# Tests


def test_tests_without_covariates_are_those_of_scipy(values: np.ndarray) -> None:
    holed = with_holes(values)
    for column in range(5):
        seen = ~np.isnan(holed[:, column])
        groups = [holed[seen & (BATCH == code), column] for code in range(3)]
        mean, spread = stats.f_oneway(*groups).pvalue, stats.levene(*groups, center="median").pvalue
        assert location_tests(holed, NONE, BATCH)[column] == pytest.approx(mean)
        assert scale_tests(holed, NONE, BATCH)[column] == pytest.approx(spread)


def test_the_test_of_means_keeps_its_level_where_covariates_differ_between_batches() -> None:
    rng = np.random.default_rng(3)
    batch = np.repeat(np.arange(4), 8)
    x = rng.normal(1.5 * batch, 1.0)[:, None]
    p = location_tests(x + rng.normal(size=(32, 5000)), x, batch)
    assert (p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (location_tests(x + rng.normal(size=(32, 5000)), x[:, :0], batch) < 0.05).mean() > 0.9


def test_the_test_of_spreads_finds_scales_and_no_shifts() -> None:
    rng = np.random.default_rng(4)
    batch = np.repeat([0, 1], 40)
    noise = rng.normal(size=(80, 200))
    assert (scale_tests(noise + 3.0 * batch[:, None], np.zeros((80, 0)), batch) < 0.05).mean() < 0.1
    assert (scale_tests(noise * (1 + 2 * batch[:, None]), np.zeros((80, 0)), batch) < 0.05).mean() > 0.99


# Covariances and distances


def test_the_squared_norm_is_that_of_its_definition() -> None:
    # The average of ((a - b)'(c - d))^2 / 4 over all four different scans is the trace of the squared covariance.
    values = np.random.default_rng(5).normal(size=(6, 3))
    every = [((values[a] - values[b]) @ (values[c] - values[d])) ** 2 / 4 for a, b, c, d in permutations(range(6), 4)]
    assert _squared_norm(values - values.mean(axis=0)) == pytest.approx(np.mean(every))


def test_the_share_of_covariances_without_bias() -> None:
    # Covariances I and 4 I of two features: half of 2 and 32 is 17, and the squared norm of 2.5 I is 12.5.
    rng = np.random.default_rng(6)
    batch = np.repeat([0, 1], 12)
    scale = np.where(batch == 1, 2.0, 1.0)[:, None]
    for width, expected in ((1.0, 0.0), (scale, 1 - 12.5 / 17)):
        found = [covariance_share(width * rng.normal(size=(24, 2)) + batch[:, None], batch) for _ in range(1500)]
        assert np.median(found) == pytest.approx(expected, abs=0.05)


def test_correlations_of_the_other_sign_are_another_covariance() -> None:
    rng = np.random.default_rng(7)
    batch = np.repeat([0, 1], 300)
    one, other = rng.normal(size=(2, 600))
    values = np.column_stack([one, np.where(batch == 0, one, -one) + 0.1 * other])
    assert covariance_share(values, batch) > 0.4


def test_the_share_of_distances_by_hand() -> None:
    # Between batches 10, 12, 8 and 10, within both 2: (10 - 2) / 10.
    y, batch = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1])
    assert energy_share(distances_within_folds(y, np.zeros(4, dtype=int), 0), batch) == pytest.approx(0.8)


def test_only_scans_of_the_same_fold_are_compared() -> None:
    y, batch = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([0, 0, 1, 1])
    shifted, fold = np.vstack([y, y + 100.0]), np.repeat([0, 1], 4)
    assert energy_share(distances_within_folds(shifted, fold, 0), np.tile(batch, 2)) == pytest.approx(0.8)


def test_fewer_columns_keep_all_distances() -> None:
    wide = np.random.default_rng(8).normal(size=(7, 40))
    assert rotated(wide).shape == (7, 7)
    np.testing.assert_allclose(pdist(rotated(wide)), pdist(wide))


# Chance


def test_means_of_the_other_folds_are_taken_out_by_hand() -> None:
    y, batch, fold = np.array([[1.0], [3.0], [8.0], [5.0]]), np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    # Batch 0: folds 0 and 1 have the means 2 and 8; batch 1 has no other fold.
    assert without_means(y, batch, fold)[:, 0].tolist() == [-7.0, -5.0, 6.0, 5.0]
    assert without_means(y, batch, np.zeros(4, dtype=int))[:, 0].tolist() == [-3.0, -1.0, 4.0, 0.0]


def test_chance_is_what_the_error_of_plain_means_leaves() -> None:
    rng = np.random.default_rng(9)
    batch, fold, units = np.repeat(np.arange(6), 20), np.arange(120) % 5, np.arange(120)
    values = rng.normal(size=(120, 300))
    found = chance_shares(standardised(values, batch), batch, fold, Exchange.of(units, fold), 20, seed=0)
    # A mean of 16 scans has the variance 1 / 16.
    assert found[:, 0].mean() == pytest.approx(1 / 17, abs=0.015)
    in_sample = np.zeros(120, dtype=int)
    assert chance_shares(values, batch, in_sample, Exchange.of(units, fold), 5, seed=0)[:, 0].max() < 0


# Classification


def test_balanced_accuracy_is_that_of_scikit_learn_and_its_sd_by_hand() -> None:
    labels = np.array([0, 0, 1, 1, 1])
    predicted = np.array([0, 1, 1, 1, 1])
    found, sd = balanced_accuracy(predicted == labels, labels, np.arange(5))
    assert found == pytest.approx(balanced_accuracy_score(labels, predicted)) == 0.75
    parts = stats.beta.var(1.5, 1.5) + stats.beta.var(3.5, 0.5)
    assert sd == pytest.approx(parts**0.5 / 2)


def test_scans_of_a_subject_count_once() -> None:
    hits, labels = np.array([1, 1, 1, 0, 1, 1], dtype=bool), np.array([0, 0, 0, 0, 1, 1])
    # Label 0: a subject with three hits, and one with none.
    assert balanced_accuracy(hits, labels, np.array([0, 0, 0, 1, 2, 3]))[0] == pytest.approx(0.75)


def test_chance_is_one_over_the_number_of_labels() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), [40, 10, 5, 5])
    exchange = Exchange.of(np.arange(60), np.arange(60) % 2)
    assert chance_accuracies(rng.integers(0, 4, 60), labels, exchange, 2000, 0).mean() == pytest.approx(0.25, abs=0.01)
    np.testing.assert_allclose(chance_accuracies(np.zeros(60, dtype=int), labels, exchange, 5, 0), 0.25)


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_classifiers_know_what_is_plain_and_guess_what_is_not(kind: str) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 40)
    noise = rng.normal(size=(80, 200))
    train, test = np.arange(80) % 2 == 0, np.arange(80) % 2 == 1
    plain = noise + 2.0 * labels[:, None]
    for values, low, high in ((plain, 0.95, 1.0), (noise, 0.2, 0.8), (0 * noise, 0.5, 0.5)):
        predicted = predicted_labels(CLASSIFIERS[kind], values[train], labels[train], values[test], seed=0)
        assert low <= balanced_accuracy_score(labels[test], predicted) <= high


def test_numbers_are_predicted_and_units_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    age = rng.normal(50, 10, 200)
    values = np.outer(age, [1.0, -0.5, 0.0]) + rng.normal(size=(200, 3))
    found = predicted_numbers(values[:100], age[:100], values[100:])
    assert r2_score(age[100:], found) > 0.98
    np.testing.assert_allclose(predicted_numbers(values[:100] * 1e6, age[:100], values[100:] * 1e6), found)


# Folds and exchanges


def test_folds_share_out_every_batch_and_keep_subjects_together() -> None:
    batch = np.repeat([0, 1], [20, 10])
    units = np.arange(30) // 2
    fold = held_out_folds(units, batch[:, None], 5, np.random.default_rng(0))
    assert (np.bincount(batch * 5 + fold) == np.repeat([4, 2], 5)).all()
    assert all(len(set(fold[units == unit])) == 1 for unit in range(15))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(1, 7), min_size=2, max_size=6), st.booleans())
def test_every_batch_can_be_learned_outside_every_fold(seed: int, sizes: list[int], travel: bool) -> None:
    rng = np.random.default_rng(seed)
    batch = np.repeat(np.arange(len(sizes)), sizes)
    units = rng.integers(0, 5, len(batch)) if travel else np.arange(len(batch))
    units = np.unique(units, return_inverse=True)[1]
    second = len(sizes) + rng.integers(0, 2, len(batch))
    levels = np.column_stack([batch, np.unique(second, return_inverse=True)[1] + len(sizes)])
    fold = held_out_folds(units, levels, 3, rng)
    for number in range(3):
        assert set(levels[fold != number].ravel()) == set(levels.ravel())
    assert (fold >= NEVER).all() and fold.max() < 3


def test_parts_are_equally_large() -> None:
    part = dealt(np.arange(103), np.repeat([0, 1], [90, 13])[:, None], 10, np.random.default_rng(0))
    assert np.ptp(np.bincount(part)) <= 1


def test_labels_change_places_within_folds_only_and_subjects_stay_whole() -> None:
    units = np.array([0, 0, 1, 1, 2, 3, 4, 4])
    fold = np.array([0, 0, 0, 0, 0, 0, 1, 1])
    labels = np.array([0, 0, 1, 1, 0, 1, 0, 1])
    exchange, rng = Exchange.of(units, fold), np.random.default_rng(0)
    found = np.array([exchange(labels, rng) for _ in range(200)])
    assert (found[:, 0] == found[:, 1]).all() and (found[:, 2] == found[:, 3]).all()
    assert (found[:, :4].sum(axis=1) == 2).all() and (found[:, 4:6].sum(axis=1) == 1).all()
    assert found[:, 0].mean() == pytest.approx(0.5, abs=0.15) and found[:, 6].mean() == pytest.approx(0.5, abs=0.15)


# Preservation


@pytest.mark.parametrize("size", [0.0, 0.5, 1.0, 2.0])
def test_the_ratio_of_effects_is_their_size(size: float, x: np.ndarray) -> None:
    slopes = np.random.default_rng(0).normal(size=(2, 6))
    assert effect_ratio(size * slopes, slopes, x, BATCH) == pytest.approx(size)


def test_effects_of_groups_are_slopes_in_residual_standard_deviations(values: np.ndarray, x: np.ndarray) -> None:
    holed, group = with_holes(values), np.array([1])
    within, pooled = group_effects(holed, x, group, BATCH), group_effects(holed, x, group, None)
    for column in range(5):
        rows = np.flatnonzero(~np.isnan(holed[:, column]))
        for found, design in ((within, with_dummies(x, rows)), (pooled, sm.add_constant(x[rows]))):
            fit = sm.OLS(holed[rows, column], design).fit()
            assert found[0, column] == pytest.approx(fit.params[-1] / fit.mse_resid**0.5)


def test_the_order_of_scans_is_looked_at_within_batches(values: np.ndarray) -> None:
    one_batch = rank_agreement(values, values[:, ::-1], ONE_FOLD, ONE_FOLD)
    expected = [stats.spearmanr(values[:, k], values[:, 4 - k]).statistic for k in range(5)]
    np.testing.assert_allclose(one_batch, expected)
    moved = np.exp(values) * (1 + BATCH[:, None]) - 7.0 * BATCH[:, None]
    np.testing.assert_allclose(rank_agreement(with_holes(values), with_holes(moved), BATCH, ONE_FOLD), 1.0)
    np.testing.assert_allclose(rank_agreement(values, -moved, BATCH, ONE_FOLD), -1.0)


def test_the_share_of_variance_predicted() -> None:
    rng = np.random.default_rng(0)
    numbers, predicted = rng.normal(size=(2, 30))
    everyone = np.zeros(30, dtype=int)
    own = r2_score(numbers, predicted + (numbers - predicted).mean())
    assert shared_variance(numbers, predicted, everyone) == pytest.approx(own)
    shifted = predicted + 9.0 * BATCH
    assert shared_variance(numbers, shifted, BATCH) == pytest.approx(shared_variance(numbers, predicted, BATCH))


def test_the_intraclass_correlation_of_shrout_and_fleiss() -> None:
    # Their Table 2: six targets, four judges, ICC(1,1) = .17.
    ratings = [9, 2, 5, 8, 6, 1, 3, 2, 8, 4, 6, 8, 7, 1, 2, 6, 10, 5, 6, 9, 6, 2, 4, 7]
    found = intraclass_correlations(np.array(ratings, dtype=float)[:, None], np.repeat(np.arange(6), 4))
    assert found[0] == pytest.approx(0.17, abs=0.005)


def test_scans_are_recognised_among_those_of_other_batches() -> None:
    # Scan 0 is nearest to 1, of its own batch, which does not count; then to 2, of its subject.
    y = np.array([[0.0], [0.1], [0.5], [3.0]])
    units, batch = np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])
    assert recognised(y, units, batch).tolist() == [1.0, 0.0, 0.0, 1.0]
    ties = recognised(np.zeros((4, 1)), units, batch)
    assert ties.tolist() == [0.5] * 4
    assert np.isnan(recognised(y, np.arange(4), batch)).all()


def test_the_jackknife_of_a_mean_is_its_standard_error() -> None:
    y = np.random.default_rng(0).normal(size=20)
    group = groups_left_out(np.arange(20), np.zeros(20, dtype=int), seed=0)
    found = without_groups(lambda rows: {"mean": y[rows].mean()}, group, {"mean": y.mean(), "never": 1.0})
    assert jackknife(found["mean"]) == pytest.approx(y.std(ddof=1) / 20**0.5)
    assert jackknife(found["never"]) == 0


# Properties of all


@pytest.mark.parametrize("holes", [False, True])
def test_metrics_do_not_hang_on_the_order_of_scans(values: np.ndarray, x: np.ndarray, holes: bool) -> None:
    y = with_holes(values) if holes else values
    order, fold = np.random.default_rng(0).permutation(30), np.arange(30) % 3
    other = np.exp(y)
    pairs = {
        "shares": lambda o: batch_shares(y[o], x[o], BATCH[o], fold[o]),
        "means": lambda o: location_tests(y[o], x[o], BATCH[o]),
        "spreads": lambda o: scale_tests(y[o], x[o], BATCH[o]),
        "slopes": lambda o: within_slopes(y[o], x[o], BATCH[o]),
        "ranks": lambda o: rank_agreement(y[o], other[o], BATCH[o], fold[o]),
        "icc": lambda o: intraclass_correlations(y[o], (np.arange(30) // 2)[o]),
    }
    for name, metric in pairs.items():
        np.testing.assert_allclose(metric(order), metric(np.arange(30)), atol=1e-9, err_msg=name)


def test_metrics_of_a_feature_do_not_hang_on_its_units(values: np.ndarray, x: np.ndarray) -> None:
    fold, scaled = np.arange(30) % 3, values * 1e3 - 50.0
    for metric in (
        lambda y: batch_shares(y, x, BATCH, fold),
        lambda y: location_tests(y, x, BATCH),
        lambda y: scale_tests(y, x, BATCH),
        lambda y: group_effects(y, x, np.array([1]), BATCH),
        lambda y: rank_agreement(y, np.exp(values), BATCH, fold),
        lambda y: intraclass_correlations(y, np.arange(30) // 2),
    ):
        np.testing.assert_allclose(metric(scaled), metric(values), rtol=1e-7)
