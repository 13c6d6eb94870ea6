"""Small studies that several test files take apart."""

from dataclasses import replace

import numpy as np

import bayescombat as bc


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
