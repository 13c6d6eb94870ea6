"""Small benchmarks by pytest-benchmark, which show a slow-down between two commits: `make bench-compare`.

They use what any commit has: the public face, and the compiled log-density. Seconds are those of the processor, on
which other work on the machine has less of a say.
"""

import ctypes
import os
import subprocess
import sys
import time
import warnings

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import bayescombat as bc
from bayescombat.fused import density, packed, sources

pytestmark = pytest.mark.benchmark(timer=time.process_time)


def seconds_of_other_processes() -> float:
    times = os.times()
    return times.children_user + times.children_system


def study_of_noise(scans: int, features: int, batches: int) -> bc.Study:
    rng, codes = np.random.default_rng(0), np.arange(scans) % batches
    y = rng.standard_normal((scans, features)) + rng.normal(0, 0.5, (batches, features))[codes]
    return bc.Study.from_arrays(y, batch=codes, covariates={"age": rng.normal(50, 10, scans)})


@pytest.fixture(scope="module")
def draws() -> bc.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.ConvergenceWarning)
        return bc.fit(study_of_noise(200, 100, 5), draws=250, tune=250, chains=2, seed=1, progress_bar=False)


@pytest.mark.benchmark(timer=seconds_of_other_processes)
def test_import(benchmark: BenchmarkFixture) -> None:
    command = [sys.executable, "-c", "import bayescombat"]
    benchmark.pedantic(subprocess.run, (command,), {"check": True}, rounds=3, warmup_rounds=1)


def test_moments(benchmark: BenchmarkFixture) -> None:
    benchmark(bc.Moments.from_study, study_of_noise(1_000, 2_000, 10))


def test_study(benchmark: BenchmarkFixture) -> None:
    assert benchmark(study_of_noise, 100, 1_000, 5).y.shape == (100, 1_000)


def test_empirical_bayes_and_harmonize(benchmark: BenchmarkFixture) -> None:
    study = study_of_noise(100, 1_000, 5)
    assert benchmark(lambda: bc.fit(study, method="eb").harmonized["mean"].values).shape == (100, 1_000)


def test_gradient(benchmark: BenchmarkFixture) -> None:
    study = packed(bc.Moments.from_study(study_of_noise(1_000, 100, 10)), bc.Priors())
    pointer = ctypes.POINTER(ctypes.c_double)
    arrays = [study.start.copy(), np.empty_like(study.start), np.empty(1)]
    arguments = [array.ctypes.data_as(pointer) for array in arrays]
    call = density(sources()).ctypes
    assert benchmark(call, len(study.start), *arguments, study.data.ctypes.data) == 0


def test_harmonize_draws(benchmark: BenchmarkFixture, draws: bc.Fit) -> None:
    rows = study_of_noise(200, 100, 5)
    assert benchmark(lambda: draws.harmonize(rows)["mean"].values).shape == (200, 100)
