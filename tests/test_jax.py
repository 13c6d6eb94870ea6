"""NUTS by JAX: the same posterior, and words where JAX is missing."""

import json
import sys

import pytest

import bayescombat as bc
from tests.studies import assert_same_posterior, small_study


def test_a_missing_jax_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jax", None)
    study = small_study(covariates="")
    with pytest.raises(bc.BayesCombatError, match=r"Expected JAX .* found none.*pip install 'pymc-combat\[jax\]'"):
        bc.fit(study, backend="jax")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")
def test_posterior_by_jax_is_that_of_the_compiled_density() -> None:
    pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[jax]'")
    study = small_study((30, 20, 10), 12)
    fits = [bc.fit(study, backend=backend, draws=2000, seed=1, progress_bar=False) for backend in ("numba", "jax")]
    assert [json.loads(fit.tree.attrs["settings"])["backend"] for fit in fits] == ["numba", "jax"]
    assert_same_posterior(*(fit.parameters for fit in fits))
