"""Curves of age in simulated studies with known truth: error, and coverage of the 90 % bands, over the scans' ages."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd

import bayescombat as bc

SITES = (60, 40, 30, 20, 10)
FEATURES = 20
PLACES = 40
# Straight, and bent by up to one sigma in four ways; every shape in turn.
SHAPES = {
    "straight": lambda age: 0 * age,
    "parabola": lambda age: ((age - 45) / 25) ** 2,
    "plateau": lambda age: 2 / (1 + np.exp(-(age - 40) / 5)),
    "wave": lambda age: np.sin(age / 8),
    "gentle": lambda age: 0.4 * np.sin(age / 15),
}
DESIGNS: dict[str, dict[str, object]] = {
    "straight line": {"covariates": "age + sex"},
    "spline without penalty": {"covariates": "bs(age, df=9) + sex"},
    "smooth": {"covariates": "sex", "smooth": {"age": 10}},
}


@dataclass(frozen=True, eq=False)
class Case:
    """A simulated table whose features follow the shapes, in units of sigma, and what is true at some ages."""

    table: pd.DataFrame
    features: list[str]
    sigma: np.ndarray
    ages: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, seed: int, features: int = FEATURES) -> "Case":
        """Return the case of a seed."""
        simulation = bc.datasets.simulate(SITES, features=features, seed=seed)
        table, names = simulation.table.copy(), list(simulation.features)
        sigma, slope = (simulation.truth[name].values for name in ("sigma", "beta"))
        age = table["age"].to_numpy()
        ages = np.quantile(age, (np.arange(PLACES) + 0.5) / PLACES)
        shapes = [list(SHAPES.values())[v % len(SHAPES)] for v in range(features)]
        bends = np.column_stack([shape(age) for shape in shapes])
        truth = np.column_stack([shape(ages) for shape in shapes]) - bends.mean(axis=0)
        table[names] = table[names].to_numpy() + sigma * bends
        return cls(table, names, sigma, ages, sigma * truth + (ages[:, None] - age.mean()) * slope[0])

    def judged(self, design: str, **settings: object) -> pd.DataFrame:
        """Return mean square errors in units of sigma and whether bands hold the truth, a row for each shape."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", bc.BayesCombatWarning)
            study = bc.Study.from_dataframe(self.table, batch="site", features=self.features, **DESIGNS[design])
            effect = bc.fit(study, **settings).effect("age", at=self.ages)
        error = (effect["mean"].values - self.truth) / self.sigma
        inside = (effect["lower"].values <= self.truth) & (self.truth <= effect["upper"].values)
        shape = pd.Index([list(SHAPES)[v % len(SHAPES)] for v in range(len(self.features))], name="shape")
        found = {"error": (error**2).mean(axis=0), "coverage": inside.mean(axis=0)}
        return pd.DataFrame(found, index=shape).groupby(level="shape", sort=False).mean()


def judged(seed: int, nuts: bool) -> pd.DataFrame:
    """Return what every design makes of one simulated study."""
    case = Case.of(seed)
    parts = {f"EB, {design}": case.judged(design, method="eb") for design in DESIGNS}
    if nuts:
        settings = {"chains": 2, "draws": 500, "tune": 500, "seed": seed, "progress_bar": False}
        parts["NUTS, smooth"] = case.judged("smooth", **settings)
    return pd.concat(parts, names=["fit"])


def table(replicates: int = 40, nuts: int = 8) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage of 90 % bands, by shape and over all; NUTS in the first replicates."""
    found = pd.concat([judged(seed, seed < nuts) for seed in range(replicates)])
    by_shape = found.groupby(["fit", "shape"], sort=False).mean()
    overall = found.groupby("fit", sort=False).mean().assign(shape="all").set_index("shape", append=True)
    mean = pd.concat([by_shape, overall])
    return mean.assign(error=mean["error"] ** 0.5).rename(columns={"error": "rmse"}).unstack("fit")
