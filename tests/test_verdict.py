"""The verdict on the draws, from draws made up for the purpose: nothing here is sampled."""

import numpy as np
import pytest
import xarray as xr

from bayescombat.verdict import Verdict, verdict_of

CHAINS, DRAWS = 4, 500
LEADING = ("chain", "draw")
LABELS = {"feature": ["left", "right"], "batch": ["a", "b", "c"]}
PLACES = {"alpha": ("feature",), "gamma": ("batch", "feature"), "gamma_sd": ("batch",)}


@pytest.fixture
def posterior() -> xr.Dataset:
    """Independent normal draws: as good as draws can be."""
    return independent(CHAINS, DRAWS)


@pytest.fixture
def stats() -> xr.Dataset:
    return statistics(CHAINS, DRAWS)


def independent(chains: int, draws: int) -> xr.Dataset:
    rng = np.random.default_rng(0)
    data = {}
    for name, dims in PLACES.items():
        shape = (chains, draws, *(len(LABELS[dim]) for dim in dims))
        data[name] = ((*LEADING, *dims), rng.normal(size=shape))
    return xr.Dataset(data, LABELS)


def statistics(chains: int, draws: int) -> xr.Dataset:
    never = np.zeros((chains, draws), dtype=bool)
    energy = np.random.default_rng(1).normal(size=never.shape)
    return xr.Dataset(
        {
            "diverging": (LEADING, never.copy()),
            "reached_max_treedepth": (LEADING, never.copy()),
            "energy": (LEADING, energy),
        }
    )


def slow(size: int, persistence: float) -> np.ndarray:
    """Return chains that forget where they were only slowly, (chain, draw)."""
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(CHAINS, size)) * np.sqrt(1 - persistence**2)
    values = np.empty_like(noise)
    values[:, 0] = rng.normal(size=CHAINS)
    for draw in range(1, size):
        values[:, draw] = persistence * values[:, draw - 1] + noise[:, draw]
    return values


def reasons(verdict: Verdict) -> list[str]:
    """Return what is wrong, without advice and figures."""
    lead, _, rest = verdict.words.partition(": ")
    assert lead == "Not to be trusted as it stands" and not verdict.converged
    return rest.partition(". Sample longer")[0].split("; ")


def test_good_draws_have_converged(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    assert found.converged
    assert found.words.startswith("Converged: R-hat at most 1.0")


def test_figures_of_every_parameter(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    for figures in (found.rhat, found.ess_bulk, found.ess_tail):
        assert {name: figures[name].dims for name in figures.data_vars} == PLACES
    assert float(abs(found.rhat["gamma"] - 1).max()) < 0.02
    # Independent draws are worth about as many as they are.
    assert float(abs(found.ess_bulk["gamma"] / (CHAINS * DRAWS) - 1).max()) < 0.3


def test_verdict_has_the_worst_figures(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    largest = max(float(values.max()) for values in found.rhat.data_vars.values())
    smallest = min(float(values.min()) for values in found.ess_bulk.data_vars.values())
    least = min(float(values.min()) for values in found.ess_tail.data_vars.values())
    assert f"R-hat at most {largest:.3f}, bulk ESS at least {smallest:.0f}, tail ESS at least {least:.0f}" in (
        found.words
    )


def test_a_stuck_chain_is_named_by_its_parameter(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["gamma"][2, :, 1, 0] = 5.0
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS))
    assert any(reason.startswith("R-hat above 1.02 for 'gamma[b, left]' (worst ") for reason in found)


def test_a_chain_elsewhere_is_named_by_its_parameter(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["gamma_sd"][3, :, 2] += 4
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS))
    assert any(reason.startswith("R-hat above 1.02 for 'gamma_sd[c]' (worst ") for reason in found)


def test_the_worst_parameters_come_first(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["alpha"][0, :, 0] += 1
    posterior["alpha"][0, :, 1] += 3
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS))
    assert any(reason.startswith("R-hat above 1.02 for 'alpha[right]', 'alpha[left]' (") for reason in found)


def test_many_bad_parameters_are_counted(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = reasons(verdict_of(posterior + 9 * (posterior["chain"] == 1), stats, asked=CHAINS * DRAWS))
    rhat = next(reason for reason in found if reason.startswith("R-hat"))
    assert rhat.count("[") == 5 and "and 6 more" in rhat


def test_few_draws_have_a_small_effective_size() -> None:
    # Sixty draws of each chain cannot be worth a hundred.
    found = reasons(verdict_of(independent(CHAINS, 60), statistics(CHAINS, 60), asked=CHAINS * 60))
    assert any(reason.startswith("bulk effective sample size below 400 for ") for reason in found)


def test_slow_chains_have_a_small_effective_size(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["gamma"][:, :, 0, 1] = slow(DRAWS, persistence=0.9)
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS))
    assert any(
        reason.startswith("bulk effective sample size below 400 for 'gamma[a, right]' (worst ") for reason in found
    )


@pytest.mark.parametrize(("chains", "draws", "enough"), [(2, 300, True), (8, 75, False)])
def test_effective_sizes_are_asked_for_each_chain(chains: int, draws: int, enough: bool) -> None:
    found = verdict_of(independent(chains, draws), statistics(chains, draws), asked=chains * draws)
    assert (f"bulk effective sample size below {100 * chains}" not in found.words) == enough


@pytest.mark.parametrize("divergent", [3, 100])
def test_divergences_are_counted(posterior: xr.Dataset, stats: xr.Dataset, divergent: int) -> None:
    stats["diverging"][1, :divergent] = True
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    assert reasons(found) == [f"{divergent} of 2000 draws diverged"]
    assert f"{divergent} divergences" in found.words


def test_one_divergence_in_a_thousand_is_let_pass(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    stats["diverging"][1, :2] = True
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    assert found.converged and "2 divergences" in found.words


def test_low_energy_fraction_names_the_chain(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    stats["energy"][2] = slow(DRAWS, persistence=0.97)[0]
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS))
    assert len(found) == 1 and found[0].startswith("E-BFMI is 0.") and "in chain 2 " in found[0]


def test_tree_depth_is_told(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    stats["reached_max_treedepth"][:, : DRAWS // 10] = True
    assert reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS)) == [
        "10% of the draws reached the largest tree depth"
    ]


def test_rare_deep_trees_are_let_pass(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    stats["reached_max_treedepth"][:, : DRAWS // 25] = True
    assert verdict_of(posterior, stats, asked=CHAINS * DRAWS).converged


def test_one_chain_cannot_tell(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = verdict_of(posterior.isel(chain=[0]), stats.isel(chain=[0]), asked=DRAWS)
    assert "; ".join(reasons(found)) == "one chain cannot show whether it converged; use four"


def test_one_chain_has_no_figure_that_is_not_a_number(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = verdict_of(posterior.isel(chain=[0]), stats.isel(chain=[0]), asked=DRAWS)
    assert "nan" not in found.words


def test_interrupted_sampling_is_told(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    found = reasons(verdict_of(posterior, stats, asked=CHAINS * 1000))
    assert found == [f"sampling was interrupted after {CHAINS * 500} of {CHAINS * 1000} draws"]


def test_bad_verdicts_say_what_to_do(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    verdict = verdict_of(posterior, stats, asked=CHAINS * 1000).words
    assert "Sample longer (draws, tune) where figures just miss, raise target_accept" in verdict


def test_draws_that_are_no_numbers_are_not_trusted(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["alpha"][1, 100, 0] = np.nan
    assert not verdict_of(posterior, stats, asked=CHAINS * DRAWS).converged


def test_a_reference_batch_does_not_spoil_the_verdict(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    # The shifts of a reference batch are zero in every draw.
    posterior["gamma"][:, :, 1] = 0.0
    reference = str(posterior["batch"].values[1])
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS, reference=[reference])
    assert found.converged and "nan" not in found.words


def test_a_parameter_that_never_moves_is_not_trusted(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    posterior["gamma"][:, :, 1] = 0.0
    found = "; ".join(reasons(verdict_of(posterior, stats, asked=CHAINS * DRAWS)))
    assert "R-hat above 1.02 for 'gamma[" in found


def test_parameters_without_values_are_left_out(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    # A study without covariates has slopes of no covariate.
    posterior["beta"] = ((*LEADING, "feature", "covariate"), np.zeros((CHAINS, DRAWS, 2, 0)))
    found = verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    assert found.converged and "beta" not in found.rhat


def test_draws_are_left_as_they_are(posterior: xr.Dataset, stats: xr.Dataset) -> None:
    before = posterior.copy(deep=True), stats.copy(deep=True)
    verdict_of(posterior, stats, asked=CHAINS * DRAWS)
    xr.testing.assert_identical(posterior, before[0])
    xr.testing.assert_identical(stats, before[1])


def test_features_of_unlike_scales_are_named_before_the_general_advice(
    posterior: xr.Dataset, stats: xr.Dataset
) -> None:
    scale = np.exp(0.01 * np.random.default_rng(3).normal(size=(CHAINS, DRAWS, 3, 2)))
    scale[:, :, 1, 0] *= 40
    posterior["delta"] = ((*LEADING, "batch", "feature"), scale)
    assert "40 times" not in verdict_of(posterior, stats, asked=CHAINS * DRAWS).words
    stats["diverging"][0, :100] = True
    words = verdict_of(posterior, stats, asked=CHAINS * DRAWS).words
    assert "Scales of batches differ more than 10 times in 'left (40 times)': look for values far out" in words
    assert "Scales of batches" not in verdict_of(posterior, stats, asked=CHAINS * DRAWS, held=True).words
