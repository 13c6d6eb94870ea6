"""R-hat and effective sample sizes are ArviZ's, for chains of all sorts."""

import arviz as az
import numpy as np
import pytest
import xarray as xr

from bayescombat.convergence import BLOCK, Convergence, convergence

LEADING = ("chain", "draw")


def chains_of_all_sorts(chains: int, draws: int) -> np.ndarray:
    """Return chains that forget quickly, slowly or never, repeat themselves, or stay where they are."""
    rng = np.random.default_rng(0)
    persistence = np.concatenate([np.linspace(-0.9, 0.99, 30), np.zeros(6)])
    values = rng.normal(size=(chains, draws, len(persistence)))
    for draw in range(1, draws):
        values[:, draw] += persistence * values[:, draw - 1]
    values[:, :, 30] = np.cumsum(values[:, :, 30], axis=1)
    values[:, :, 31] = 0.1
    values[:, :, 32] = np.round(values[:, :, 32], 1)
    values[:, :, 33] = (-1.0) ** np.arange(draws)
    values[0, :, 34] += 5
    values[0, 0, 35] = np.nan
    return values


def expected(values: np.ndarray) -> Convergence:
    posterior = xr.Dataset({"x": ((*LEADING, "parameter"), values)})
    rhat = az.rhat(posterior)["x"].values if len(values) > 1 else np.full(values.shape[-1], np.nan)
    return Convergence(rhat, *(az.ess(posterior, method=method)["x"].values for method in ("bulk", "tail")))


@pytest.mark.parametrize(("chains", "draws"), [(4, 250), (2, 101), (1, 50), (3, 7), (2, 4)])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning", "ignore:divide by zero:RuntimeWarning")
def test_figures_are_those_of_arviz(chains: int, draws: int) -> None:
    values = chains_of_all_sorts(chains, draws)
    found = convergence(values)
    for name, figures in expected(values)._asdict().items():
        np.testing.assert_allclose(getattr(found, name), figures, rtol=1e-9, err_msg=name)


def test_blocks_do_not_show() -> None:
    values = chains_of_all_sorts(4, 250)
    together = convergence(np.tile(values, 5))
    assert 4 * 250 * 36 * 5 > 2 * BLOCK
    for name, figures in convergence(values)._asdict().items():
        np.testing.assert_array_equal(getattr(together, name), np.tile(figures, 5), err_msg=name)


def test_draws_stay_as_they_are() -> None:
    values = chains_of_all_sorts(2, 50)
    before = values.copy()
    convergence(values)
    np.testing.assert_array_equal(values, before)
