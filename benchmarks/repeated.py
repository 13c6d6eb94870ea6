"""Repeated scans: seconds for 500 subjects × 4 scans × 100 features, and harmonized values against a known truth."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd

import bayescombat as bc

SITES = (60, 40, 24, 12, 8)
TRAVELLING = (0.0, 0.5)


def study(
    scans: tuple[int, ...], features: int, travelling: float, repeats: int, seed: int
) -> tuple[bc.Study, np.ndarray]:
    """Return a simulated study of repeated scans, and its scans without batch effects in units of sigma."""
    made = bc.datasets.simulate(scans, features=features, repeats=repeats, travelling=travelling, seed=seed)
    names = list(made.features)
    sigma = made.truth["sigma"].values
    # Units of sigma, far from zero, where harmonized values would be called negative.
    rows = made.table.assign(**{name: made.table[name] / unit + 100 for name, unit in zip(names, sigma, strict=True)})
    data = bc.Study.from_dataframe(rows, batch="site", covariates="age", features=names, subject="subject")
    return data, made.truth["harmonized"].values / sigma + 100


def without_subjects(data: bc.Study) -> bc.Study:
    """Return the study with its scans taken for independent."""
    return replace(data, subjects=None, spec=replace(data.spec, subject=None))


def seconds(travelling: float) -> dict[str, float]:
    """Return the seconds of fit and harmonization, compilation included, for ten sites of 200 scans."""
    data, _ = study((200,) * 10, 100, travelling, repeats=4, seed=0)
    found = {}
    for method, options in {"eb": {}, "nuts": {"seed": 1, "progress_bar": False}}.items():
        started = time.perf_counter()
        fit = bc.fit(data, method=method, **options)
        fitted = time.perf_counter()
        assert np.isfinite(fit.harmonized["mean"]).all()
        found |= {f"{method} fit (s)": fitted - started, f"{method} harmonize (s)": time.perf_counter() - fitted}
    return found


def accuracy(travelling: float, seeds: range = range(8), nuts: bool = True) -> dict[str, float]:
    """Return root mean squared errors in units of sigma, and the coverage of the 90 % intervals."""
    errors: dict[str, list[float]] = {}
    covered = []
    for seed in seeds:
        data, truth = study(SITES, 20, travelling, repeats=3, seed=seed)
        found = {
            "raw": data.y,
            "EB without subjects": bc.fit(without_subjects(data), method="eb").harmonized["mean"].values,
            "EB as published": bc.fit(data, method="eb", compat="longcombat").harmonized["mean"].values,
            "EB": bc.fit(data, method="eb").harmonized["mean"].values,
        }
        if nuts:
            values = bc.fit(data, chains=2, seed=1, progress_bar=False).harmonized
            found["NUTS"] = values["mean"].values
            covered.append(((values["lower"].values <= truth) & (truth <= values["upper"].values)).mean())
        for name, mean in found.items():
            errors.setdefault(f"RMSE {name}", []).append(((mean - truth) ** 2).mean())
    figures = {name: float(np.sqrt(np.mean(values))) for name, values in errors.items()}
    return figures | ({"coverage of 90 %": float(np.mean(covered))} if nuts else {})


def table() -> pd.DataFrame:
    """Return a column for subjects with one site each, and one where half of the scans change places."""
    columns = {f"{share:.0%} travelling": accuracy(share) | seconds(share) for share in TRAVELLING}
    return pd.DataFrame(columns).rename_axis("what")
