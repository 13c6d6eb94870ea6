"""Simulation with known truth: error and interval coverage by number of features and size of site."""

import warnings
from collections.abc import Mapping
from itertools import product

import numpy as np
import pandas as pd

import bayescombat as bc
from bayescombat.fit.given import given_of
from bayescombat.fit.layout import stacked

SITES = (1, 1, 2, 2, 3, 5, 10, 20, 40, 80)
SIZES = (1, 1, 2, 2, 3, 5, 10, 20, 50, 50)
SHORT: dict[str, object] = {"chains": 2, "tune": 500, "draws": 500, "progress_bar": False}
# Sites, how many studies, and how NUTS is run, by number of features.
STUDIES: dict[int, tuple[tuple[int, ...], int, dict[str, object]]] = {
    1: (SIZES, 60, SHORT),
    5: (SIZES, 24, SHORT),
    50: (SIZES, 6, SHORT),
    100: (SITES, 24, {"progress_bar": False}),
    500: (SIZES, 2, SHORT),
}
TAILS = (0.05, 0.95)
# What `covered` tells of.
MEASURES = ("values", "gamma", "average")


def shifts_of(fit: bc.Fit) -> np.ndarray:
    """Return draws of gamma in feature units, (draw, batch, feature); of estimates given the hyper-parameters."""
    parameters = fit.parameters
    if "draw" in parameters.dims:
        return stacked(parameters, "gamma")
    given = given_of(parameters, fit.layout, seed=0)
    assert given is not None
    drawn, _ = given.conditional.draws(*given.scores(slice(0, parameters.sizes["feature"])))
    return np.asarray(parameters["sigma"].values * np.moveaxis(drawn, -1, 0))


def errors(values: np.ndarray, simulation: bc.datasets.Simulation) -> np.ndarray:
    """Return the mean square error of the values of every site, in units of sigma, (batch,)."""
    truth = simulation.truth
    squares = ((values - truth["harmonized"].values) / truth["sigma"].values) ** 2
    return pd.Series(squares.mean(axis=1)).groupby(simulation.table["site"].to_numpy()).mean().to_numpy()


def covered(fit: bc.Fit, simulation: bc.datasets.Simulation) -> dict[str, np.ndarray]:
    """Return how often 90 % intervals hold the truth at every site, (batch,).

    Of harmonized ``values``, of ``gamma`` feature by feature, and of its ``average`` over the features in units of
    sigma.
    """
    truth, found = simulation.truth, fit.harmonized
    value = truth["harmonized"].values
    inside = (found["lower"].values <= value) & (value <= found["upper"].values)
    gamma, sigma = truth["gamma"].transpose("batch", "feature").values, truth["sigma"].values
    shifts = shifts_of(fit)
    low, high = np.quantile(shifts, TAILS, axis=0)
    low_average, high_average = np.quantile((shifts / sigma).mean(axis=2), TAILS, axis=0)
    average = (gamma / sigma).mean(axis=1)
    site = simulation.table["site"].to_numpy()
    return {
        "values": pd.Series(inside.mean(axis=1)).groupby(site).mean().to_numpy(),
        "gamma": ((low <= gamma) & (gamma <= high)).mean(axis=1),
        "average": (low_average <= average) & (average <= high_average),
    }


def judged(
    simulation: bc.datasets.Simulation, methods: Mapping[str, Mapping[str, object]], covariates: str = "age + sex"
) -> pd.DataFrame:
    """Return error and coverage at every site of a simulated study.

    Parameters
    ----------
    simulation : Simulation
        Table and truth.
    methods : mapping
        Arguments of `bayescombat.fit` by name.
    covariates : str
        What the fits are told of.

    Returns
    -------
    pandas.DataFrame
        A row for each method and site, ``raw`` the first: its ``scans``, the mean square ``error``, and where there
        are draws what `covered` returns.
    """
    scans = simulation.table["site"].value_counts().sort_index().to_numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = bc.Study.from_dataframe(
            simulation.table, batch="site", covariates=covariates, features=simulation.features
        )
        parts = [pd.DataFrame({"method": "raw", "scans": scans, "error": errors(study.y, simulation)})]
        for name, arguments in methods.items():
            fit = bc.fit(study, **arguments)
            found = pd.DataFrame({"method": name, "scans": scans})
            found["error"] = errors(fit.harmonized["mean"].values, simulation)
            parts.append(found.assign(**covered(fit, simulation)) if "sd" in fit.harmonized else found)
    return pd.concat(parts, ignore_index=True)


def replicate(
    seed: int, features: int = 100, sites: tuple[int, ...] = SITES, settings: Mapping[str, object] | None = None
) -> pd.DataFrame:
    """Return errors and coverage of one simulated study of the model itself, as `judged` does.

    Parameters
    ----------
    seed : int
        Of the simulation, and of both estimators.
    features : int
        Simulated features.
    sites : tuple of int
        Scans of every site.
    settings : mapping, optional
        For NUTS, passed to `bayescombat.fit`.
    """
    # Of one feature no prior can be learned that its effects would be given.
    sure = {"uncertainty": True, "seed": seed} if features > 1 else {}
    methods = {"EB": {"method": "eb", **sure}, "NUTS": {"seed": seed, "progress_bar": False, **(settings or {})}}
    return judged(bc.datasets.simulate(sites, features=features, seed=seed), methods)


def averaged(found: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return RMSE of every method, and coverage in percent of those that have draws, by a column."""
    mean = found.drop(columns="site", errors="ignore").groupby([by, "method"], sort=False).mean(numeric_only=True)
    mean["RMSE"] = mean["error"] ** 0.5
    mean[list(MEASURES)] *= 100
    wide = mean[["RMSE", *MEASURES]].unstack("method")
    order = [pair for pair in product(["RMSE", *MEASURES], found["method"].unique()) if not wide[pair].isna().all()]
    return wide[order]


def table(studies: Mapping[int, tuple[tuple[int, ...], int, dict[str, object]]] = STUDIES) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % intervals in percent, by features and size of site.

    Empirical Bayes by itself has no interval: its point, the mean of its draws, is what the RMSE is of.
    """
    parts = {}
    for features, (sites, count, settings) in studies.items():
        found = pd.concat([replicate(seed, features, sites, settings) for seed in range(count)])
        parts[features] = averaged(found.astype({"average": float}), "scans").sort_index()
    return pd.concat(parts, names=["features"])
