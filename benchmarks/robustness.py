"""Simulation with known truth that departs from the model: what still holds of error and interval coverage."""

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks.coverage import SHORT, SITES, TAILS, averaged, judged, shifts_of

FEATURES = 50
REPLICATES = 6
# The site of ten scans.
FAR_SITE = 6
FAR = 3.0
FAR_CELLS = 0.05
BEND = 0.3
ROBUST_FEATURES = 10
SMALL = 5
KINDS = f"1 to {SMALL} scans", f"10 to {max(SITES)} scans"

type Simulation = bc.datasets.Simulation


def rebuilt(
    simulation: Simulation,
    noise: np.ndarray | None = None,
    shift: np.ndarray | float = 0.0,
    log_scale: np.ndarray | float = 0.0,
    beyond: np.ndarray | float = 0.0,
) -> Simulation:
    """Return a simulation with other noise and site effects, its truth under the same constraint.

    Parameters
    ----------
    simulation : Simulation
    noise : ndarray, (obs, feature), optional
        In place of the normal noise, with variance one.
    shift, log_scale : ndarray, (batch, feature)
        Added to the effects of the sites; the former in units of sigma.
    beyond : ndarray, (obs, feature)
        What is to be preserved beside the effects of the covariates, in units of sigma.
    """
    truth, table, names = simulation.truth, simulation.table, list(simulation.features)
    alpha, sigma, beta = (truth[name].values for name in ("alpha", "sigma", "beta"))
    site = pd.Index(truth["batch"].values).get_indexer(table["site"])
    x = np.column_stack([table["age"], table["sex"] == "M"]).astype(float)
    slopes = (x - x.mean(axis=0)) @ beta
    if noise is None:
        noise = (truth["harmonized"].values - alpha - slopes) / sigma
    preserved = slopes + sigma * beyond
    mean = alpha + truth["gamma"].transpose("batch", "feature").values + sigma * shift
    scale = sigma * truth["delta"].transpose("batch", "feature").values * np.exp(log_scale)
    weight = np.bincount(site) / len(site)
    alpha, sigma = weight @ mean, np.sqrt(weight @ scale**2)
    dims = ("batch", "feature")
    truth = truth.assign(
        alpha=("feature", alpha),
        sigma=("feature", sigma),
        gamma=(dims, mean - alpha),
        delta=(dims, scale / sigma),
        harmonized=(("obs", "feature"), alpha + preserved + sigma * noise),
    )
    y = pd.DataFrame(mean[site] + preserved + scale[site] * noise, table.index, names)
    return replace(simulation, table=table.assign(**y), truth=truth)


def heavy_tails(seed: int, features: int = FEATURES) -> Simulation:
    """Return a study whose noise is Student's t with three degrees of freedom."""
    simulation, rng = _plain(seed, features)
    return rebuilt(simulation, noise=rng.standard_t(3, _rows(simulation)) / 3**0.5)


def _skew(seed: int) -> Simulation:
    simulation, rng = _plain(seed)
    return rebuilt(simulation, noise=rng.exponential(size=_rows(simulation)) - 1)


def _far_site(seed: int) -> Simulation:
    simulation, _ = _plain(seed)
    shift, log_scale = np.zeros((2, len(SITES), 1))
    shift[FAR_SITE], log_scale[FAR_SITE] = FAR, np.log(2)
    return rebuilt(simulation, shift=shift, log_scale=log_scale)


def _far_cells(seed: int) -> Simulation:
    simulation, rng = _plain(seed)
    shape = len(SITES), FEATURES
    sign, far = rng.choice([-1, 1], shape), rng.uniform(size=shape) < FAR_CELLS
    found = rebuilt(simulation, shift=FAR * sign * far)
    return replace(found, truth=found.truth.assign(far=(("batch", "feature"), far)))


def _bent(seed: int) -> Simulation:
    simulation, rng = _plain(seed)
    bend = ((simulation.table["age"].to_numpy() - 40) / 12) ** 2
    return rebuilt(simulation, beyond=np.outer(bend - bend.mean(), rng.normal(0, BEND, FEATURES)))


def _plain(seed: int, features: int = FEATURES) -> tuple[Simulation, np.random.Generator]:
    return bc.datasets.simulate(SITES, features=features, seed=seed), np.random.default_rng([seed, 5])


def _rows(simulation: Simulation) -> tuple[int, int]:
    return len(simulation.table), len(simulation.features)


@dataclass(frozen=True)
class Departure:
    """A way to depart from the model: what is simulated, and what the fits are told of.

    Parameters
    ----------
    simulated : callable
        From a seed to a simulation.
    covariates : str
        Of the fits.
    odd : int, optional
        A site that is judged by itself.
    """

    simulated: Callable[[int], Simulation]
    covariates: str = "age + sex"
    odd: int | None = None


DEPARTURES = {
    "none": Departure(lambda seed: _plain(seed)[0]),
    "noise with heavy tails": Departure(heavy_tails),
    "skew noise": Departure(_skew),
    "a site far out": Departure(_far_site, odd=FAR_SITE),
    "cells far out": Departure(_far_cells),
    "curved age, fitted as a line": Departure(_bent),
    "age left out": Departure(lambda seed: _plain(seed)[0], covariates="sex"),
    "correlated features": Departure(lambda seed: bc.datasets.simulate(SITES, features=FEATURES, seed=seed, factors=2)),
}


def methods_of(seed: int) -> dict[str, dict[str, object]]:
    """Return the arguments of `bayescombat.fit` by name."""
    return {
        "EB": {"method": "eb", "uncertainty": True, "seed": seed},
        "NUTS": {"seed": seed, **SHORT},
        "NUTS, independent": {"seed": seed, "shared_factors": 0, **SHORT},
    }


def replicate(departure: Departure, seed: int) -> pd.DataFrame:
    """Return error and coverage of one study, as `benchmarks.coverage.judged` does, with the kind of each site."""
    found = judged(departure.simulated(seed), methods_of(seed), departure.covariates)
    kind = np.where(found["scans"] <= SMALL, *KINDS)
    site = found.groupby("method").cumcount()
    return found.assign(sites=np.where(site == departure.odd, "the one far out", kind))


def of_far_cells(replicates: int = REPLICATES) -> pd.DataFrame:
    """Return how often, in percent, 90 % intervals hold the shifts of cells that are far out, and those of the others.

    By method and kind of site, with the number of cells.
    """
    parts = []
    for seed in range(replicates):
        simulation = _far_cells(seed)
        gamma, far = (simulation.truth[name].transpose("batch", "feature").values for name in ("gamma", "far"))
        study = bc.Study.from_dataframe(
            simulation.table, batch="site", covariates="age + sex", features=simulation.features
        )
        kind = np.where(np.bincount(study.codes) <= SMALL, *KINDS)
        for name in ("EB", "NUTS"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", bc.BayesCombatWarning)
                low, high = np.quantile(shifts_of(bc.fit(study, **methods_of(seed)[name])), TAILS, axis=0)
            cells = {"method": name, "far": far.ravel(), "sites": np.repeat(kind, FEATURES)}
            parts.append(pd.DataFrame(cells | {"gamma": 100.0 * ((low <= gamma) & (gamma <= high)).ravel()}))
    return pd.concat(parts).groupby(["far", "sites", "method"])["gamma"].agg(["mean", "size"])


def robust(seed: int = 0) -> pd.DataFrame:
    """Return error and coverage where noise has heavy tails, with and without `robust`, of few features."""
    plain = {"seed": seed, "shared_factors": 0, **SHORT}
    methods = {"NUTS, independent": plain, "NUTS, robust": plain | {"robust": True}}
    return judged(heavy_tails(seed, ROBUST_FEATURES), methods)


def table(replicates: int = REPLICATES, names: Iterable[str] = DEPARTURES) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % intervals in percent, by departure and kind of site."""
    parts = {}
    for name in names:
        found = pd.concat([replicate(DEPARTURES[name], seed) for seed in range(replicates)])
        parts[name] = averaged(found.astype({"average": float}), "sites").sort_index()
    return pd.concat(parts, names=["departure"])
