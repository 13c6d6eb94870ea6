"""Simulation with known truth: error and interval coverage by size of site."""

import warnings

import numpy as np
import pandas as pd

import bayescombat as bc

SITES = (1, 1, 2, 2, 3, 5, 10, 20, 40, 80)


def replicate(seed: int, features: int = 100, **settings: object) -> pd.DataFrame:
    """Return errors and coverage of one simulated study, a row for each site size.

    Parameters
    ----------
    seed : int
        Of the simulation and of the sampler.
    features : int
        Simulated features.
    **settings
        Passed to `bayescombat.fit`.

    Returns
    -------
    pandas.DataFrame
        Mean squares of the errors in units of sigma (``raw, eb, nuts``) and the share of values that the 90 % interval
        covers, by ``scans``.
    """
    simulation = bc.datasets.simulate(SITES, features=features, seed=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(
            simulation.table, batch="site", covariates="age + sex", features=simulation.features
        )
        quick = bc.fit(study, method="eb").harmonized
        full = bc.fit(study, seed=seed, progress_bar=False, **settings).harmonized
    truth = simulation.truth["harmonized"].values
    sigma = simulation.truth["sigma"].values
    covered = (full["lower"].values <= truth) & (truth <= full["upper"].values)
    found = {
        "raw": ((study.y - truth) / sigma) ** 2,
        "eb": ((quick["mean"].values - truth) / sigma) ** 2,
        "nuts": ((full["mean"].values - truth) / sigma) ** 2,
        "coverage": covered,
    }
    size = np.bincount(study.codes)[study.codes]
    rows = pd.DataFrame({name: values.mean(axis=1) for name, values in found.items()})
    return rows.groupby(pd.Index(size, name="scans")).mean()


def table(replicates: int = 24) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % intervals, over replicates, by size of site."""
    parts = [replicate(seed) for seed in range(replicates)]
    mean = pd.concat(parts).groupby(level="scans").mean()
    mean[["raw", "eb", "nuts"]] **= 0.5
    return mean
