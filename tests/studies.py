"""Small studies that several test files take apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numba
import numpy as np
import pytest
import xarray as xr

import bayescombat as bc
from bayescombat.fused import density, expansion, sources


@contextmanager
def compiled_quickly() -> Iterator[None]:
    """Let machine code of PyMC models be made twice as fast, and run slower; what stays on disk is made before."""
    density(sources()), expansion(sources())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numba.core.config.OPT", type(numba.config.OPT)(0))
        yield


def small_study(
    scans: tuple[int, ...] = (12, 7, 5, 1), features: int = 4, covariates: str = "age", **roles: object
) -> bc.Study:
    simulation = bc.datasets.simulate(scans, features=features, seed=3)
    return bc.Study.from_dataframe(
        simulation.table, batch="site", covariates=covariates, features=simulation.features, **roles
    )


def without_cells(study: bc.Study) -> bc.Study:
    """Return the study with some cells missing, among them a feature in all of a batch and in all but one scan."""
    y = study.y.copy()
    y[[0, 3, 9], [1, 2, 0]] = np.nan
    y[study.codes == 1, 2] = np.nan
    y[np.flatnonzero(study.codes == 2)[1:], 3] = np.nan
    return replace(study, y=y)


def assert_same_posterior(one: xr.Dataset, other: xr.Dataset) -> None:
    """Check that draws of effective size 1,000 and more are of one distribution, by their means and spreads."""
    over = ("chain", "draw")
    for name in one.data_vars:
        # Then a mean is unsure by a thirtieth of the standard deviation; five times that.
        apart = abs(one[name].mean(over) - other[name].mean(over)) / other[name].std(over)
        assert float(apart.max()) < 5 * 2**0.5 / 1000**0.5, name
        ratio = one[name].std(over) / other[name].std(over)
        assert 0.8 < float(ratio.min()) and float(ratio.max()) < 1.25, name
