"""Fixtures that several test files share. Fits by NUTS compile for seconds, so each is made once."""

import os
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import bayescombat as bc

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def simulation() -> bc.datasets.Simulation:
    """Four sites of 30, 20, 10 and 3 scans with 8 features, and their truth."""
    return bc.datasets.simulate((30, 20, 10, 3), features=8, seed=0)


@pytest.fixture(scope="session")
def study(simulation: bc.datasets.Simulation) -> bc.Study:
    """The study of `simulation`, with age and sex as covariates and the pooled target."""
    return bc.Study.from_dataframe(simulation.table, batch="site", covariates="age + sex", features=simulation.features)


@pytest.fixture(scope="session")
def study_to_a_reference(simulation: bc.datasets.Simulation) -> bc.Study:
    """The study of `simulation`, with site_02 as reference."""
    return bc.Study.from_dataframe(
        simulation.table, batch="site", covariates="age + sex", features=simulation.features, reference="site_02"
    )


@pytest.fixture(scope="session")
def nuts_fit(study: bc.Study) -> bc.Fit:
    """The one fit by NUTS that converges: 2 chains of 1,000 draws, without any warning."""
    return bc.fit(study, chains=2, tune=500, draws=1000, seed=1, progress_bar=False)


@pytest.fixture(scope="session")
def eb_fit(study: bc.Study) -> bc.Fit:
    """The empirical-Bayes fit of `study`."""
    return bc.fit(study, method="eb")


@pytest.fixture(scope="session")
def tiny_simulation() -> bc.datasets.Simulation:
    """Three sites, one of a single scan, with 3 features."""
    return bc.datasets.simulate((12, 8, 1), features=3, seed=0)


@pytest.fixture(scope="session")
def tiny_study(tiny_simulation: bc.datasets.Simulation) -> bc.Study:
    """The study of `tiny_simulation`, with age as covariate."""
    return bc.Study.from_dataframe(
        tiny_simulation.table, batch="site", covariates="age", features=tiny_simulation.features
    )


@pytest.fixture(scope="session")
def fit_tiny() -> Callable[[bc.Study], bc.Fit]:
    """Return a function that fits a tiny study by NUTS with few draws and a fixed seed.

    Its 2 chains of 100 draws are real but too few, and are made for tests of plumbing alone: warnings of the
    package are silenced.
    """

    def fit(study: bc.Study) -> bc.Fit:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bc.BayesCombatWarning)
            return bc.fit(study, chains=2, tune=100, draws=100, seed=3, progress_bar=False)

    return fit


@pytest.fixture(scope="session")
def tiny_fit(tiny_study: bc.Study, fit_tiny: Callable[[bc.Study], bc.Fit]) -> bc.Fit:
    """The tiny study by NUTS; its draws are too few to be trusted."""
    return fit_tiny(tiny_study)


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of the published data sets and reference outputs, which the repository does not hold.

    The environment variable BAYESCOMBAT_DATA names it; by default it is ``../shared/data``. Tests that ask for it
    are skipped where it is absent.
    """
    folder = Path(os.environ.get("BAYESCOMBAT_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no folder of reference data: name it in the environment variable BAYESCOMBAT_DATA")
    return folder
