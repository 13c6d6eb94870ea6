"""Simulation with known truth: intervals of empirical Bayes given its hyper-parameters, beside those of NUTS."""

import warnings

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.fit.given import given_of

# Studies of few and of many sites in which the same sizes stand.
SITES = {3: ((1, 10, 50), (2, 5, 20), (3, 20, 50)), 10: ((1, 1, 2, 2, 3, 5, 10, 20, 50, 50),)}
REPLICATES = {5: 20, 50: 8, 500: 2}
PROBABILITY = 0.9
SHORT = {"chains": 2, "tune": 500, "draws": 500, "progress_bar": False}


def _means_of_estimates(fit: bc.Fit) -> np.ndarray:
    """Return draws of the sites' means given the hyper-parameters, (draw, batch, feature)."""
    parameters = fit.parameters
    given = given_of(parameters, fit.layout, seed=0)
    assert given is not None
    gamma, _ = given.conditional.draws(*given.scores(slice(0, parameters.sizes["feature"])))
    return np.asarray(parameters["alpha"].values + parameters["sigma"].values * np.moveaxis(gamma, -1, 0))


def _means_of_draws(fit: bc.Fit) -> np.ndarray:
    means = (fit.parameters["alpha"] + fit.parameters["gamma"]).transpose("chain", "draw", "batch", "feature")
    return np.asarray(means.values.reshape(-1, *means.shape[2:]))


def _covered(lower: np.ndarray, upper: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the share of the features that intervals cover, in every row."""
    return np.asarray(((lower <= truth) & (truth <= upper)).mean(axis=1))


def replicate(sites: tuple[int, ...], features: int, seed: int) -> pd.DataFrame:
    """Return coverage of the 90 % intervals in one simulated study, by what is covered, estimator and size of site.

    Parameters
    ----------
    sites : tuple of int
        Scans of every site.
    features : int
        Simulated features.
    seed : int
        Of the simulation, and of both estimators.
    """
    simulation = bc.datasets.simulate(sites, features=features, seed=seed)
    truth: xr.Dataset = simulation.truth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(
            simulation.table, batch="site", covariates="age + sex", features=simulation.features
        )
        quick = bc.fit(study, method="eb", uncertainty=True, seed=seed)
        full = bc.fit(study, seed=seed, **SHORT)
    cell_means = (truth["alpha"] + truth["gamma"]).transpose("batch", "feature").values
    size = np.array(sites)
    tails = [(1 - PROBABILITY) / 2, (1 + PROBABILITY) / 2]
    parts = []
    for name, fit, means in (("EB", quick, _means_of_estimates(quick)), ("NUTS", full, _means_of_draws(full))):
        found = fit.harmonized
        values = _covered(found["lower"].values, found["upper"].values, truth["harmonized"].values)
        of_cells = _covered(*np.quantile(means, tails, axis=0), cell_means)
        parts += [
            pd.DataFrame({"what": "harmonized values", "by": name, "scans": size[study.codes], "covered": values})
        ]
        parts += [pd.DataFrame({"what": "means of the sites", "by": name, "scans": size, "covered": of_cells})]
    return pd.concat(parts).groupby(["what", "by", "scans"])["covered"].mean().to_frame()


def table(replicates: dict[int, int] = REPLICATES) -> pd.DataFrame:
    """Return coverage of 90 % intervals in percent: a column for each size of site, a row for all else."""
    parts = []
    for features, count in replicates.items():
        for batches, studies in SITES.items():
            for sites in studies:
                found = pd.concat([replicate(sites, features, seed) for seed in range(count)])
                parts.append(found.assign(batches=batches, features=features).reset_index())
    index = ["what", "batches", "features", "by"]
    return 100 * pd.concat(parts).pivot_table(index=index, columns="scans", values="covered", aggfunc="mean")
