"""Accuracy by cross-validation of an outcome that features tell nothing of, harmonized before and after splitting."""

import warnings
from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import bayescombat as bc
from bayescombat.sklearn import ComBat

# Share of cases at every second site, and at the others; an outcome is drawn for every scan by itself.
DESIGNS = {"balanced": (0.5, 0.5), "unbalanced": (0.25, 0.75), "confounded": (0.1, 0.9)}
SCANS, FEATURES = (20,) * 10, 500
SEX = "sex, as it is"

type Folds = Sequence[tuple[np.ndarray, np.ndarray]]


def simulated(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return measurements (obs, feature) that differ between sites alone, and the sites (obs,)."""
    simulation = bc.datasets.simulate(SCANS, features=FEATURES, seed=seed, beta_sd=0.0)
    return simulation.table[list(simulation.features)].to_numpy(), simulation.table["site"].to_numpy()


def real() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return cortical thickness (obs, feature) of the packaged data, the sites and who is a man (obs,)."""
    table = bc.datasets.load_openneuro()
    return table.filter(regex="_thickness$").to_numpy(), table["site"].to_numpy(), table["sex"].to_numpy() == "M"


def drawn_outcome(site: np.ndarray, design: str, rng: np.random.Generator) -> np.ndarray:
    """Return an outcome (obs,) that hangs on the site alone."""
    share = np.array(DESIGNS[design])[pd.factorize(site, sort=True)[0] % 2]
    return rng.random(len(site)) < share


def scores(X: np.ndarray, site: np.ndarray, y: np.ndarray, folds: Folds) -> dict[str, np.ndarray]:
    """Return decisions (obs,) about scans that were not learned from, by when they were harmonized and how."""
    scans = pd.DataFrame(X).add_prefix("feature_").assign(site=site)
    told = scans.assign(outcome=y.astype(float))
    plain, preserving = ComBat(batch="site"), ComBat(batch="site", covariates="outcome")
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01))
    tables = {
        "raw": (X, model),
        "before, outcome preserved": (preserving.fit_transform(told), model),
        "before": (plain.fit_transform(scans), model),
        "inside": (scans, make_pipeline(plain, model)),
        "inside, outcome told": (told, make_pipeline(preserving, model)),
    }
    return {
        way: np.asarray(cross_val_predict(steps, values, y, cv=folds, method="decision_function"))
        for way, (values, steps) in tables.items()
    }


def judged(decision: np.ndarray, y: np.ndarray, site: np.ndarray, folds: Folds) -> dict[str, float]:
    """Return the share of right decisions, and of pairs of a case and a control of one site that are told apart.

    Pairs are of one fold, since folds have models of their own. Without a leak, and without anything to be found, the
    second share is a half, whatever is known of the site.
    """
    right = total = 0
    for _, test in folds:
        some, case = decision[test], y[test]
        pairs = case[:, None] & ~case & (site[test][:, None] == site[test])
        right, total = right + int(((some[:, None] > some) & pairs).sum()), total + int(pairs.sum())
    return {"accuracy": float(((decision > 0) == y).mean()), "within sites": right / total}


def replicate(data: str, design: str, seed: int) -> pd.DataFrame:
    """Return what one outcome, or one split of the real one, comes to, by way."""
    if data == "simulated":
        X, site = simulated(seed)
    else:
        X, site, sex = real()
    y = sex if design == SEX else drawn_outcome(site, design, np.random.default_rng([seed, 1]))
    folds = list(StratifiedKFold(5, shuffle=True, random_state=seed).split(X, site))
    return pd.DataFrame({way: judged(found, y, site, folds) for way, found in scores(X, site, y, folds).items()}).T


def table(replicates: int = 40, data: Sequence[str] = ("simulated", "openneuro")) -> pd.DataFrame:
    """Return mean shares and their standard errors over outcomes, or over splits where the outcome is the real sex."""
    rows = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        for source in data:
            for design in (*DESIGNS, *([SEX] if source == "openneuro" else [])):
                found = pd.concat(
                    {seed: replicate(source, design, seed) for seed in range(replicates)}, names=["seed", "way"]
                )
                mean, error = (found.groupby(level="way", sort=False).agg(what) for what in ("mean", "sem"))
                rows[source, design] = mean.join(error.add_suffix(", standard error"))
    return pd.concat(rows, names=["data", "outcome"])
