"""A batch that was not fitted: its draws are held against formulas, brute force and simulated truth."""

from dataclasses import astuple, fields, replace

import numpy as np
import pytest
from scipy import stats

from bayescombat.adoption import Evidence, NewBatch, Population, chains, from_data, from_prior

NAMES = [field.name for field in fields(NewBatch)]
SHARED = ("gamma_mean", "gamma_sd", "log_delta_mean", "log_delta_sd")
USUAL = {
    "gamma_mean_spread": 0.3,
    "gamma_sd_log_typical": np.log(0.5),
    "gamma_sd_spread": 0.3,
    "log_delta_mean_spread": 0.15,
    "log_delta_sd_log_typical": np.log(0.15),
    "log_delta_sd_spread": 0.3,
}
WIDE = {
    "gamma_mean_spread": 1.0,
    "gamma_sd_log_typical": np.log(0.7),
    "gamma_sd_spread": 0.8,
    "log_delta_mean_spread": 0.7,
    "log_delta_sd_log_typical": np.log(0.5),
    "log_delta_sd_spread": 0.8,
}


def population(draws: int, batches: int = 3, **values: float) -> Population:
    """Return the same population `draws` times, so that results are independent draws of one distribution."""
    return Population(**{name: np.full(draws, value) for name, value in (USUAL | values).items()}, batches=batches)


def repeated(draws: int, count: np.ndarray, mean: np.ndarray, squares: np.ndarray, weight: float = 1.0) -> Evidence:
    count = np.atleast_2d(count)
    return Evidence(count, weight * count, np.tile(mean, (draws, 1)), np.tile(squares, (draws, 1)))


def scans(
    n: int, gamma: np.ndarray, log_delta: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Simulate n scans of every feature: counts, means and sums of squares, of the shape of gamma."""
    delta = np.exp(log_delta)
    squares = delta**2 * rng.chisquare(n - 1, gamma.shape) if n > 1 else np.zeros(gamma.shape)
    return np.full(gamma.shape, n), gamma + delta / np.sqrt(n) * rng.standard_normal(gamma.shape), squares


def table(batch: NewBatch) -> dict[str, np.ndarray]:
    """Return numbers that have nearly normal distributions, each (draw,)."""
    logs = {"log_gamma_sd": np.log(batch.gamma_sd), "log_log_delta_sd": np.log(batch.log_delta_sd)}
    means = {"gamma_mean": batch.gamma_mean, "log_delta_mean": batch.log_delta_mean}
    return logs | means | {"gamma": batch.gamma[:, 0], "log_delta": batch.log_delta[:, 0]}


def same_distribution(one: NewBatch, other: NewBatch) -> None:
    for (name, a), b in zip(table(one).items(), table(other).values(), strict=True):
        assert stats.ks_2samp(a, b).pvalue > 1e-4, name


def close_in_mean_and_sd(values: np.ndarray, mean: float, sd: float) -> None:
    """Compare with a normal distribution, within 4.5 standard errors."""
    n = len(values)
    assert abs(values.mean() - mean) < 4.5 * sd / np.sqrt(n)
    assert abs(values.std() / sd - 1) < 4.5 / np.sqrt(2 * n)


def test_batch_never_seen_has_the_distribution_of_the_formulas() -> None:
    batch = from_prior(population(20_000, batches=3), 4, np.random.default_rng(0))
    assert batch.gamma.shape == batch.log_delta.shape == (20_000, 4)
    widened = np.sqrt(4 / 3)
    close_in_mean_and_sd(batch.gamma_mean, 0, 0.3 * widened)
    close_in_mean_and_sd(np.log(batch.gamma_sd), np.log(0.5), 0.3)
    close_in_mean_and_sd(batch.log_delta_mean, 0, 0.15 * widened)
    close_in_mean_and_sd(np.log(batch.log_delta_sd), np.log(0.15), 0.3)
    for v in range(4):
        close_in_mean_and_sd((batch.gamma[:, v] - batch.gamma_mean) / batch.gamma_sd, 0, 1)
        close_in_mean_and_sd((batch.log_delta[:, v] - batch.log_delta_mean) / batch.log_delta_sd, 0, 1)


def test_each_draw_has_the_population_of_its_own() -> None:
    spread = np.array([1e-6, 1.0])
    two = replace(population(2), gamma_mean_spread=spread, log_delta_mean_spread=spread[::-1])
    for batch in (
        from_prior(two, 2, np.random.default_rng(0)),
        from_data(two, repeated(2, np.full(2, 5), np.ones(2), np.ones(2)), np.random.default_rng(0)),
    ):
        assert abs(batch.gamma_mean[0]) < 1e-4 < abs(batch.gamma_mean[1])
        assert abs(batch.log_delta_mean[1]) < 1e-4 < abs(batch.log_delta_mean[0])


@pytest.mark.parametrize("features", [1, 20])
def test_without_scans_data_say_nothing(features: int) -> None:
    draws = 4000
    unread = np.full((draws, features), np.nan)
    nothing = Evidence(np.zeros((1, features), int), unread[:1], unread, unread)
    posterior = from_data(population(draws, **WIDE), nothing, np.random.default_rng(0))
    same_distribution(posterior, from_prior(population(draws, **WIDE), features, np.random.default_rng(1)))


def test_features_without_scans_follow_the_batch() -> None:
    draws = 4000
    count, mean, squares = np.array([0, 40, 40, 40, 40, 40]), np.full(6, 2.0), np.full(6, 160.0)
    mean[0] = squares[0] = np.nan
    with_it = from_data(population(draws, **WIDE), repeated(draws, count, mean, squares), np.random.default_rng(0))
    close_in_mean_and_sd((with_it.gamma[:, 0] - with_it.gamma_mean) / with_it.gamma_sd, 0, 1)
    close_in_mean_and_sd((with_it.log_delta[:, 0] - with_it.log_delta_mean) / with_it.log_delta_sd, 0, 1)
    seen = repeated(draws, count[1:], mean[1:], squares[1:])
    without = from_data(population(draws, **WIDE), seen, np.random.default_rng(1))
    for name in SHARED:
        assert stats.ks_2samp(getattr(with_it, name), getattr(without, name)).pvalue > 1e-4, name


def brute_force(values: dict[str, float], evidence: Evidence, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw from one posterior by weighing a million draws of the prior, gamma apart."""
    draws, features = 1_000_000, evidence.mean.shape[1]
    widened = np.sqrt(1 + 1 / 3)
    gamma_mean = rng.normal(0, values["gamma_mean_spread"] * widened, draws)
    gamma_sd = np.exp(rng.normal(values["gamma_sd_log_typical"], values["gamma_sd_spread"], draws))
    log_delta_mean = rng.normal(0, values["log_delta_mean_spread"] * widened, draws)
    log_delta_sd = np.exp(rng.normal(values["log_delta_sd_log_typical"], values["log_delta_sd_spread"], draws))
    log_weight, gammas, log_deltas = np.zeros(draws), [], []
    for v in range(features):
        n, precision = evidence.count[0, v], evidence.precision[0, v]
        r, q = evidence.mean[0, v], evidence.squares[0, v]
        log_delta = rng.normal(log_delta_mean, log_delta_sd)
        noise = np.exp(2 * log_delta) / precision
        log_weight += stats.norm.logpdf(r, gamma_mean, np.sqrt(noise + gamma_sd**2))
        log_weight += -(n - 1) * log_delta - q * np.exp(-2 * log_delta) / 2
        known = 1 / noise + 1 / gamma_sd**2
        gammas.append(rng.normal((r / noise + gamma_mean / gamma_sd**2) / known, 1 / np.sqrt(known)))
        log_deltas.append(log_delta)
    weight = np.exp(log_weight - log_weight.max())
    assert weight.sum() ** 2 / (weight**2).sum() > 10_000
    chosen = rng.choice(draws, 20_000, p=weight / weight.sum())
    shared = (part[chosen] for part in (gamma_mean, gamma_sd, log_delta_mean, log_delta_sd))
    return table(NewBatch(np.stack(gammas, 1)[chosen], np.stack(log_deltas, 1)[chosen], *shared))


@pytest.mark.parametrize("values", [pytest.param(USUAL, id="usual"), pytest.param(WIDE, id="wide")])
@pytest.mark.parametrize(("features", "n"), [(1, 1), (1, 5), (1, 50), (2, 1), (2, 50)])
def test_small_problems_agree_with_brute_force(values: dict[str, float], features: int, n: int) -> None:
    draws = 8000
    mean, squares = np.array([0.8, 0.1])[:features], (n - 1) * np.array([1.6, 1.1])[:features]
    # Precision that is not the count, as with a second batch variable.
    evidence = repeated(draws, np.full(features, n), mean, squares, weight=0.8)
    found = table(from_data(population(draws, **values), evidence, np.random.default_rng(0)))
    expected = brute_force(values, evidence, np.random.default_rng(1))
    for quantity, right in expected.items():
        mine, sd = found[quantity], right.std()
        # The draws, those resampled from the prior, and the effective number that these were resampled from.
        error = sd * np.sqrt(1 / draws + 1 / 20_000 + 1 / 10_000)
        assert abs(mine.mean() - right.mean()) < 4.5 * error, quantity
        kurtosis = stats.kurtosis(right, fisher=False)
        assert abs(mine.std() / sd - 1) < 4.5 * error / sd * np.sqrt((kurtosis - 1) / 4), quantity
        for level in (0.05, 0.5, 0.95):
            share = (mine < np.quantile(right, level)).mean()
            assert abs(share - level) < 4.5 * np.sqrt(level * (1 - level)) * error / sd, quantity


@pytest.mark.parametrize("n", [1, 2, 20])
def test_features_follow_their_own_posterior_where_all_else_is_known(n: int) -> None:
    """Against integration on a grid: gamma ~ Normal(0, 0.7) and log delta ~ Normal(0, 0.8), in 200,000 draws."""
    draws, features, mean, squares = 2000, 100, 1.5, 0.1 * (n - 1)
    spreads = {name: 1e-6 for name in USUAL}
    known = spreads | {"gamma_sd_log_typical": np.log(0.7), "log_delta_sd_log_typical": np.log(0.8)}
    evidence = repeated(draws, np.full(features, n), np.full(features, mean), np.full(features, squares))
    batch = from_data(population(draws, **known), evidence, np.random.default_rng(0))
    grid = np.linspace(-6, 6, 5001)
    log_weight = stats.norm.logpdf(grid, 0, 0.8) - (n - 1) * grid - squares * np.exp(-2 * grid) / 2
    log_weight += stats.norm.logpdf(mean, 0, np.sqrt(np.exp(2 * grid) / n + 0.7**2))
    weight = np.exp(log_weight - log_weight.max())
    share = np.exp(2 * grid) / (np.exp(2 * grid) + n * 0.7**2)
    for level in (0.02, 0.2, 0.5, 0.8, 0.98):
        bound = np.interp(level, weight.cumsum() / weight.sum(), grid)
        allowed = 4.5 * np.sqrt(level * (1 - level) / batch.gamma.size)
        assert abs((batch.log_delta < bound).mean() - level) < allowed
        bound = np.quantile(batch.gamma, level)
        below = weight @ stats.norm.cdf(bound, mean * (1 - share), 0.7 * np.sqrt(share)) / weight.sum()
        assert abs(below - level) < allowed


@pytest.mark.parametrize("n", [1, 3, 20])
def test_truth_ranks_uniformly_among_draws(n: int) -> None:
    """Simulation-based calibration (Talts et al. 2018, arXiv:1804.06788): 400 batches, 50 features, 19 draws each."""
    batches, features, draws = 400, 50, 19
    rng = np.random.default_rng(n)
    spreads = {name: value * np.exp(0.2 * rng.normal(size=batches)) for name, value in USUAL.items()}
    several = Population(**spreads, batches=10)
    truth = from_prior(several, features, rng)
    count, mean, squares = (np.repeat(part, draws, axis=0) for part in scans(n, truth.gamma, truth.log_delta, rng))
    several = Population(**{name: np.repeat(value, draws) for name, value in spreads.items()}, batches=10)
    found = from_data(several, Evidence(count, count, mean, squares), rng)
    for (name, value), right in zip(table(found).items(), table(truth).values(), strict=True):
        rank = (value.reshape(batches, draws) < right[:, None]).sum(axis=1)
        observed = np.bincount(rank, minlength=draws + 1)
        assert stats.chisquare(observed).pvalue > 1e-3, name
        # A shift is seen sooner in the mean rank.
        assert abs(rank.mean() / draws - 0.5) < 3.5 * np.sqrt((draws + 2) / (12 * draws * batches)), name


def test_many_more_sweeps_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, features, rng = 2000, 15, np.random.default_rng(0)
    count, mean, squares = scans(2, rng.normal(1, 0.7, features), rng.normal(0.4, 0.3, features), rng)
    evidence = repeated(draws, count, mean, squares)
    found = from_data(population(draws, **WIDE), evidence, rng)
    monkeypatch.setattr(chains, "SWEEPS", 120)
    same_distribution(found, from_data(population(draws, **WIDE), evidence, rng))


def test_five_thousand_scans_speak_for_themselves() -> None:
    draws, n, rng = 500, 5000, np.random.default_rng(0)
    gamma, log_delta = rng.normal(0.5, 0.5, 30), rng.normal(0.2, 0.2, 30)
    count, mean, squares = scans(n, gamma, log_delta, rng)
    batch = from_data(population(draws), repeated(draws, count, mean, squares), rng)
    sd = np.sqrt(squares / (n - 1))
    np.testing.assert_allclose(batch.gamma.mean(axis=0), mean, atol=0.01)
    np.testing.assert_allclose(batch.gamma.std(axis=0), sd / np.sqrt(n), rtol=0.2)
    np.testing.assert_allclose(batch.log_delta.mean(axis=0), np.log(sd), atol=0.005)
    np.testing.assert_allclose(batch.log_delta.std(axis=0), 1 / np.sqrt(2 * n), rtol=0.2)
    np.testing.assert_allclose(batch.gamma_mean.mean(), mean.mean(), atol=0.05)


@pytest.mark.parametrize("n", [10, 100])
@pytest.mark.parametrize(("shift", "scale"), [(5.0, 3.0), (-5.0, 0.2)])
def test_site_far_outside_the_population_is_found(n: int, shift: float, scale: float) -> None:
    draws, rng = 500, np.random.default_rng(0)
    count, mean, squares = scans(n, rng.normal(shift, 0.5, 100), rng.normal(np.log(scale), 0.1, 100), rng)
    batch = from_data(population(draws), repeated(draws, count, mean, squares), rng)
    assert abs(batch.gamma.mean() - mean.mean()) < 0.15 * scale
    assert abs(batch.log_delta.mean() - np.log(scale)) < 0.1


@pytest.mark.parametrize("features", [1, 200])
@pytest.mark.parametrize("n", [1, 2, 5000])
@pytest.mark.parametrize("values", [USUAL, WIDE, {**USUAL, "log_delta_sd_spread": 6.0, "gamma_sd_spread": 6.0}])
@pytest.mark.parametrize(("mean", "squares"), [(0.0, 0.0), (1e3, 1e-12), (-1e6, 1e12), (0.0, 1e100)])
def test_absurd_data_give_finite_draws(
    features: int, n: int, values: dict[str, float], mean: float, squares: float
) -> None:
    evidence = repeated(20, np.full(features, n), np.full(features, mean), np.full(features, squares * (n > 1)))
    batch = from_data(population(20, **values), evidence, np.random.default_rng(0))
    assert all(np.isfinite(part).all() for part in astuple(batch))


def test_same_seed_gives_the_same_bits_and_inputs_stay_as_they_were() -> None:
    rng = np.random.default_rng(0)
    several = population(300)
    evidence = Evidence(
        *scans(4, rng.normal(size=(300, 7)), rng.normal(size=(300, 7)), rng)[:1] * 2, *rng.random((2, 300, 7))
    )
    parts = [*vars(several).values(), *vars(evidence).values()]
    before = [np.copy(part) for part in parts]
    one, two = (from_data(several, evidence, np.random.default_rng(5)) for _ in range(2))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    for part, copy in zip(parts, before, strict=True):
        np.testing.assert_array_equal(part, copy)


def test_counts_may_be_given_once_for_all_draws() -> None:
    rng = np.random.default_rng(0)
    mean, squares, count = rng.normal(size=(50, 3)), rng.random((50, 3)), np.array([[2, 5, 0]])
    once = from_data(population(50), Evidence(count, count, mean, squares), np.random.default_rng(1))
    full = np.tile(count, (50, 1))
    each = from_data(population(50), Evidence(full, full, mean, squares), np.random.default_rng(1))
    for name in NAMES:
        np.testing.assert_array_equal(getattr(once, name), getattr(each, name))


def test_draws_are_worked_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    draws, rng = 3000, np.random.default_rng(0)
    level = np.repeat([-3.0, 3.0], draws // 2)[:, None]
    evidence = Evidence(np.full((1, 2), 50), np.full((1, 2), 50), np.tile(level, 2), np.full((draws, 2), 49.0))
    monkeypatch.setattr(chains, "BLOCK", 1000)
    batch = from_data(population(draws), evidence, rng)
    assert batch.gamma.shape == (draws, 2) and batch.gamma_mean.shape == (draws,)
    np.testing.assert_allclose(batch.gamma, np.tile(level, 2), atol=1)
