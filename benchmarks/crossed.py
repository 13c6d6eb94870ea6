"""Simulation with known truth and two batch variables: error and interval coverage by size of site."""

import warnings

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks.coverage import SITES

VERSIONS = ("5.3", "6.0", "7.1")


def simulated(seed: int, features: int) -> tuple[pd.DataFrame, tuple[str, ...], np.ndarray, np.ndarray]:
    """Return a table with site and software, its features, the harmonized truth (obs, feature), and sigma."""
    simulation = bc.datasets.simulate(SITES, features=features, seed=seed)
    rng = np.random.default_rng(seed)
    truth, table = simulation.truth, simulation.table.copy()
    site = pd.Index(truth["batch"].values).get_indexer(table["site"])
    version = rng.integers(len(VERSIONS), size=len(table))
    sigma = truth["sigma"].values
    shift = sigma * (rng.normal(0, 0.3, (len(VERSIONS), 1)) + rng.normal(0, 0.4, (len(VERSIONS), features)))
    scale = np.exp(rng.normal(0, 0.15, (len(VERSIONS), 1)) + rng.normal(0, 0.15, (len(VERSIONS), features)))
    mean = (truth["gamma"] + truth["alpha"]).transpose("batch", "feature").values[site] + shift[version]
    spread = (truth["delta"] * truth["sigma"]).transpose("batch", "feature").values[site] * scale[version]
    x = np.column_stack([table["age"], table["sex"] == "M"]).astype(float)
    predicted = (x - x.mean(axis=0)) @ truth["beta"].values
    noise = (truth["harmonized"].values - truth["alpha"].values - predicted) / sigma
    table[list(simulation.features)] = predicted + mean + spread * noise
    target = mean.mean(axis=0) + predicted + np.sqrt((spread**2).mean(axis=0)) * noise
    return table.assign(software=np.array(VERSIONS)[version]), simulation.features, target, sigma


def replicate(seed: int, features: int = 50, **settings: object) -> pd.DataFrame:
    """Return mean squared errors in units of sigma and coverage of one simulated study, by scans of the site."""
    table, features_, truth, sigma = simulated(seed, features)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(table, batch=["site", "software"], covariates="age + sex", features=features_)
        quick = bc.fit(study, method="eb").harmonized
        full = bc.fit(study, seed=seed, progress_bar=False, **settings).harmonized
    found = {
        "raw": ((study.y - truth) / sigma) ** 2,
        "eb": ((quick["mean"].values - truth) / sigma) ** 2,
        "nuts": ((full["mean"].values - truth) / sigma) ** 2,
        "coverage": (full["lower"].values <= truth) & (truth <= full["upper"].values),
    }
    size = table.groupby("site")["site"].transform("size")
    rows = pd.DataFrame({name: values.mean(axis=1) for name, values in found.items()})
    return rows.groupby(size.rename("scans").to_numpy()).mean().rename_axis("scans")


def table(replicates: int = 8) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % intervals, over replicates, by size of site."""
    mean = pd.concat([replicate(seed) for seed in range(replicates)]).groupby(level="scans").mean()
    mean[["raw", "eb", "nuts"]] **= 0.5
    return mean
