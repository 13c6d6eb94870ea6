"""Simulation with known truth: sites that were not fitted, drawn from the prior or adopted from a few scans."""

import warnings

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks.coverage import SITES

NEW = (10,) * 6
SHOWN = (0, 1, 3, 10)


def truth_of(simulation: bc.datasets.Simulation, fitted: np.ndarray) -> np.ndarray:
    """Return every scan harmonized to the pooled target of the fitted scans, (obs, feature)."""
    truth, table = simulation.truth, simulation.table
    site = pd.Index(truth["batch"].values).get_indexer(table["site"])
    mean = (truth["gamma"] + truth["alpha"]).transpose("batch", "feature").values
    scale = (truth["delta"] * truth["sigma"]).transpose("batch", "feature").values
    weight = np.bincount(site[fitted], minlength=len(mean)) / fitted.sum()
    x = np.column_stack([table["age"], table["sex"] == "M"]).astype(float)
    predicted = (x - x.mean(axis=0)) @ truth["beta"].values
    noise = (table[list(simulation.features)].to_numpy() - predicted - mean[site]) / scale[site]
    return np.asarray(weight @ mean + predicted + np.sqrt(weight @ scale**2) * noise)


def replicate(seed: int, features: int = 100, **settings: object) -> pd.DataFrame:
    """Return errors and coverage of 90 % intervals over the new sites of one simulated study, by scans shown."""
    simulation = bc.datasets.simulate((*SITES, *NEW), features=features, seed=seed)
    table, sigma = simulation.table, simulation.truth["sigma"].values
    sites = sorted(table["site"].unique())
    fitted = table["site"].isin(sites[: len(SITES)]).to_numpy()
    truth = truth_of(simulation, fitted)[~fitted]
    rows = table[~fitted]
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(
            table[fitted], batch="site", covariates="age + sex", features=simulation.features
        )
        full = bc.fit(study, seed=seed, progress_bar=False, **settings)
        quick = bc.fit(study, method="eb")
        for shown in SHOWN:
            some = rows.groupby("site").head(shown)
            nuts, eb = (fit.adopt(some) if shown else fit for fit in (full, quick))
            value = nuts.harmonize(rows, unseen="prior")
            covered = (value["lower"].values <= truth) & (truth <= value["upper"].values)
            errors = {
                "raw": rows[list(simulation.features)].to_numpy() - truth,
                "eb": eb.harmonize(rows, unseen="prior")["mean"].values - truth,
                "nuts": value["mean"].values - truth,
            }
            squares = {name: float(((error / sigma) ** 2).mean()) for name, error in errors.items()}
            found.append({"shown": shown, **squares, "coverage": float(covered.mean())})
    return pd.DataFrame(found).set_index("shown")


def table(replicates: int = 12) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % intervals, over replicates, by scans shown of a new site."""
    parts = [replicate(seed) for seed in range(replicates)]
    mean = pd.concat(parts).groupby(level="shown").mean()
    mean[["raw", "eb", "nuts"]] **= 0.5
    return mean
