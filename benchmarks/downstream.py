"""Simulation with known truth: type-I error and power of a group comparison after harmonization, at 5 %."""

import warnings

import numpy as np
import pandas as pd
from scipy import stats

import bayescombat as bc
from bayescombat.rubin import least_squares

SITES = (20, 18, 15, 12, 10, 8, 6, 5, 4, 3)
# Share of patients by site, for the two kinds of sites that alternate.
DESIGNS = {"balanced": (0.5, 0.5), "unbalanced": (0.25, 0.75), "confounded": (0.0, 0.85)}
EFFECT = 0.5
METHODS = ("raw", "EB, two steps", "EB draws, pooled", "NUTS draws, pooled", "NUTS, in the model", "least squares")


def study_of(design: str, seed: int, features: int = 100) -> tuple[bc.Study, pd.DataFrame]:
    """Return a study with patients, of whom every second feature tells by half a sigma, and its table."""
    simulation = bc.datasets.simulate(SITES, features=features, seed=seed)
    table, rng = simulation.table, np.random.default_rng([seed, 7])
    site = pd.Categorical(table["site"]).codes
    patient = np.zeros(len(table), dtype=bool)
    for number, count in enumerate(SITES):
        share = DESIGNS[design][number % 2]
        # At least one of either kind, unless all are to be alike.
        some = min(max(round(share * count), 1), count - 1) if share else 0
        patient[np.flatnonzero(site == number)[rng.permutation(count)[:some]]] = True
    table["dx"] = np.where(patient, "patient", "control")
    names, sigma = list(simulation.features), simulation.truth["sigma"].values
    table[names[::2]] += EFFECT * np.outer(patient, sigma[::2])
    return bc.Study.from_dataframe(table, batch="site", covariates="age + sex + dx", features=names), table


def p_values(study: bc.Study, seed: int) -> dict[str, np.ndarray]:
    """Return the p-values of the difference between patients and controls, (feature,), by method."""
    x = np.column_stack([np.ones(len(study.x)), study.x])
    place = 1 + study.covariates.index("dx[T.patient]")
    estimates = bc.fit(study, method="eb", uncertainty=True, seed=seed)
    draws = bc.fit(study, seed=seed, progress_bar=False)

    def plain(y: np.ndarray) -> np.ndarray:
        found = least_squares(x, y[None])
        score = found.estimate[0, place] / found.variance[0, place] ** 0.5
        return np.asarray(2 * stats.t.sf(np.abs(score), found.freedom))

    def pooled(fit: bc.Fit) -> np.ndarray:
        return np.asarray(bc.pool(fit, "value ~ age + sex + dx", n=200)["p"].sel(term="dx[T.patient]").values)

    def inside(fit: bc.Fit) -> np.ndarray:
        return np.asarray(fit.effect("dx", at=["patient"], against="control")["p"].values[0])

    found = (
        plain(study.y),
        plain(estimates.harmonize(study, probability=None)["mean"].values),
        pooled(estimates),
        pooled(draws),
        inside(draws),
        inside(estimates),
    )
    return dict(zip(METHODS, found, strict=True))


def table(replicates: int = 20) -> pd.DataFrame:
    """Return the share of features with p below 5 %, without an effect (type I) and with one of half a sigma (power).

    ``least squares`` is the model with the sites as covariates and one variance, which is exact but for scales. The
    last row says how much a share of type I errors is unsure by simulation, were it 5 %.
    """
    rows = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        for design in DESIGNS:
            found = [p_values(study_of(design, seed)[0], seed) for seed in range(replicates)]
            for method in METHODS:
                below = np.array([one[method] < 0.05 for one in found])
                rows[design, method] = {"type I": below[:, 1::2].mean(), "power": below[:, ::2].mean()}
    unsure = (0.05 * 0.95 / (replicates * 50)) ** 0.5
    return pd.concat([pd.DataFrame(rows).T, pd.DataFrame({"type I": {("", "standard error"): unsure}})])
