"""The compiled density is the model's: in value, gradient, start and parameters, for whatever study it knows."""

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pymc as pm
import pytensor
import pytest
from numba import njit
from pytensor.compile.mode import Mode

import bayescombat as bc
from bayescombat.factors import factors_of
from bayescombat.fused import Packed, applies, compilation, packed
from bayescombat.fused.elementary import exp, log
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.repeated import fixed_effects
from bayescombat.scores import Sharing, sharing_of
from tests.studies import assert_same_posterior, small_study, without_cells

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.filterwarnings("ignore::bayescombat.errors.OverlapWarning")

# Interpreted graphs as they are: compiling or rewriting them would take longer than evaluating them.
INTERPRETED = Mode(linker="py", optimizer=None)
CONSTANT_OF_PYMC = 1e-7


# Rows of features that are shorter and longer than the vectors of a processor.
KINDS: dict[str, Callable[[], bc.Study]] = {
    "complete": small_study,
    "two covariates": lambda: small_study((9, 30, 2, 1, 3), 37, "age + sex"),
    "without covariates": lambda: small_study(covariates=""),
    "missing cells": lambda: without_cells(small_study(features=11)),
    "missing cells, without covariates": lambda: without_cells(small_study(covariates="")),
    "reference": lambda: small_study(reference="site_02"),
    "two batches of one feature": lambda: small_study((5, 5), 1, ""),
    "shared": lambda: small_study((12, 7, 5, 3), 9, "age + sex"),
    "shared, missing cells": lambda: without_cells(small_study((12, 7, 5, 3), 7)),
    "shared, without covariates": lambda: small_study((12, 1, 5), 6, ""),
}


class Forms(NamedTuple):
    """What two forms of one model are made of."""

    moments: Moments
    count: int
    sharing: Sharing | None

    def model(self, priors: bc.Priors | None = None) -> pm.Model:
        return bc.build_model(self.moments, priors, shared_factors=self.count)

    def packed(self, priors: bc.Priors | None = None) -> Packed:
        return packed(self.moments, priors or bc.Priors(), self.sharing)


def forms_of(kind: str) -> Forms:
    count = 2 if "shared" in kind else 0
    moments = estimable(Moments.from_study(KINDS[kind](), cross=count > 0))
    if not count:
        return Forms(moments, count, None)
    return Forms(moments, count, sharing_of(moments, fixed_effects(moments), factors_of(moments, count)))


def other_priors() -> bc.Priors:
    """Return priors of which none has its default scale, and no two have the same."""
    names = [field.name for field in fields(bc.Priors)]
    return bc.Priors(**{name: getattr(bc.Priors(), name) * (1.1 + 0.05 * i) for i, name in enumerate(names)})


def density_at(position: np.ndarray, study: Packed) -> tuple[int, float, np.ndarray]:
    """Return the status of the compiled function, the log-density and its gradient."""
    pointer = ctypes.POINTER(ctypes.c_double)
    value, gradient = np.empty(1), np.empty_like(position)
    arrays = [array.ctypes.data_as(pointer) for array in (position, gradient, value)]
    found = compilation.density(compilation.sources()).ctypes(len(position), *arrays, study.data.ctypes.data)
    return found, float(value[0]), gradient


def parameters_at(position: np.ndarray, study: Packed) -> dict[str, np.ndarray]:
    """Return what the compiled function says that a fit reports of a position."""
    pointer = ctypes.POINTER(ctypes.c_double)
    sizes = {dim: len(labels) for dim, labels in study.coords.items()}
    shapes = {name: tuple(sizes[dim] for dim in dims) for name, dims in study.reported.items()}
    ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
    out = np.full(ends[-1], np.nan)
    arrays = [array.ctypes.data_as(pointer) for array in (position, out)]
    function = compilation.expansion(compilation.sources()).ctypes
    assert function(len(position), len(out), *arrays, study.data.ctypes.data) == 0
    parts = np.split(out, ends[:-1])
    return {name: part.reshape(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}


def flat(point: dict[str, np.ndarray], model: pm.Model) -> np.ndarray:
    return np.concatenate([np.ravel(point[variable.name]) for variable in model.value_vars])


def random_points(model: pm.Model, count: int = 5) -> list[dict[str, np.ndarray]]:
    rng, start = np.random.default_rng(7), model.initial_point()
    return [
        {name: value + 0.3 * rng.standard_normal(np.shape(value)) for name, value in start.items()}
        for _ in range(count)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_density_and_gradient_are_those_of_the_model(kind: str) -> None:
    forms, priors = forms_of(kind), other_priors()
    model, study = forms.model(priors), forms.packed(priors)
    values = list(model.value_vars)
    outputs = [*model.logp(sum=False), *pytensor.grad(model.logp(), values)]
    function = pytensor.function(values, outputs, mode=INTERPRETED, on_unused_input="ignore")
    differences = []
    for point in random_points(model):
        *terms, gradient = np.split(np.array(function(**point), dtype=object), [len(outputs) - len(values)])
        expected = np.concatenate([np.ravel(part) for part in gradient])
        status, value, found = density_at(flat(point, model), study)
        assert status == 0
        np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-8)
        differences.append(value - sum(np.sum(term, dtype=float) for term in terms[0]))
    assert np.ptp(differences) <= 1e-8
    # PyMC keeps logarithms of whole numbers in single precision.
    assert np.abs(differences).max() <= CONSTANT_OF_PYMC * len(study.start)


@pytest.mark.parametrize("kind", KINDS)
def test_start_is_that_of_the_model(kind: str) -> None:
    forms = forms_of(kind)
    model = forms.model()
    expected = flat(model.initial_point(), model)
    np.testing.assert_allclose(forms.packed().start, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_those_of_the_model(kind: str) -> None:
    from bayescombat.sampling import reported

    forms = forms_of(kind)
    model, study = forms.model(), forms.packed()
    names = [name for name in reported(model) if forms.moments.covariates or name != "beta"]
    assert set(study.reported) == set(names)
    outputs = model.replace_rvs_by_values([model[name] for name in names])
    function = pytensor.function(list(model.value_vars), outputs, mode=INTERPRETED, on_unused_input="ignore")
    for point in random_points(model, 2):
        found = parameters_at(flat(point, model), study)
        for name, expected in zip(names, function(**point), strict=True):
            np.testing.assert_allclose(found[name], expected, rtol=1e-10, err_msg=name)


@pytest.mark.parametrize("kind", ["complete", "shared"])
def test_parameters_have_the_dims_of_the_model(kind: str) -> None:
    forms = forms_of(kind)
    model, study = forms.model(), forms.packed()
    assert study.reported == {name: tuple(model.named_vars_to_dims.get(name, ())) for name in study.reported}
    assert study.coords == {dim: list(model.coords[dim]) for dim in study.coords}


def test_no_number_is_a_status() -> None:
    study = forms_of("complete").packed()
    position = study.start.copy()
    position[-1] = np.nan
    assert density_at(study.start, study)[0] == 0
    assert density_at(position, study)[0] != 0


def test_machine_code_comes_from_disk_for_every_study() -> None:
    source = compilation.sources()
    compilation.density(source)
    assert compilation.density.__wrapped__(source).cache_hits == 1


FITTED = """
import hashlib, warnings
import bayescombat as bc
warnings.simplefilter("ignore")
simulation = bc.datasets.simulate((12, 9, 4, 1), features=12, factors=2, seed=1)
study = bc.Study.from_dataframe(simulation.table, batch="site", covariates="age", features=simulation.features)
fit = bc.fit(study, seed=1, chains=1, draws=50, tune=50, shared_factors=2, progress_bar=False)
print(hashlib.sha256(b"".join(fit.parameters[name].values.tobytes() for name in fit.parameters)).hexdigest())
"""


@pytest.mark.slow
def test_the_process_that_compiles_draws_the_same_bits_as_those_after_it(tmp_path: Path) -> None:
    command, environment = [sys.executable, "-c", FITTED], os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(command, env=environment, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    )
    assert first == second != ""


@pytest.mark.parametrize("kind", KINDS)
def test_it_applies_to_every_kind(kind: str) -> None:
    assert applies(forms_of(kind).moments)


def test_other_studies_keep_the_readable_model() -> None:
    study = small_study((12, 7, 5), features=2)
    table = bc.datasets.simulate((12, 7, 5), features=2, seed=3).table
    table["software"] = np.arange(len(table)) % 2
    table["person"] = np.arange(len(table)) // 2
    features = study.features
    others = [
        bc.Study.from_dataframe(table, batch=["site", "software"], features=features),
        bc.Study.from_dataframe(table, batch="site", features=features, smooth={"age": 5}),
        bc.Study.from_dataframe(table, batch="site", features=features, subject="person"),
    ]
    assert [applies(estimable(Moments.from_study(other))) for other in others] == [False] * 3


@njit
def _each(values, inverse):  # type: ignore[no-untyped-def]
    return np.array([log(value) if inverse else exp(value) for value in values])


def test_elementary_functions_are_exact_to_rounding() -> None:
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.uniform(-700, 700, 5000), rng.normal(size=5000), [0.0]])
    np.testing.assert_allclose(_each(x, False), np.exp(x), rtol=5e-16)
    positive = np.concatenate([np.exp(x), 1 + rng.normal(0, 1e-6, 1000), [1.0]])
    np.testing.assert_allclose(_each(positive, True), np.log(positive), rtol=1e-15, atol=1e-16)
    assert np.isnan(_each(np.array([np.nan]), False)[0])


@pytest.mark.slow
def test_posterior_is_that_of_the_readable_model(study: bc.Study) -> None:
    from bayescombat.sampling import sample
    from bayescombat.settings import Settings

    moments = estimable(Moments.from_study(study))
    sizes = len(moments.features), len(moments.levels.labels)
    settings = Settings(draws=2000, seed=1, progress_bar=False).resolved(*sizes)
    models = packed(moments, bc.Priors()), bc.build_model(moments)
    trees = [sample(model, settings)["posterior"].to_dataset() for model in models]
    assert_same_posterior(*trees)
