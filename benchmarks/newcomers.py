"""New sites on fcon1000, each left out in turn: adopted from few scans, against the fit to everything."""

import json
import re
import warnings

import numpy as np
import pandas as pd

import bayescombat as bc
from benchmarks.tables import read_fcon1000, study_of

SHOWN = (0, 1, 3, 5, 10, None)
ROLES = {"batch": "site", "covariates": "age + I(age**2) + sex", "features": "hickness"}


def of_site(site: str, full: dict[str, bc.Fit], seed: int = 0, **settings: object) -> pd.DataFrame:
    """Return errors of one site's harmonized scans against the full fits, a row for each number of scans shown.

    Parameters
    ----------
    site : str
        The site that is left out.
    full : dict of Fit
        Fits to everything without shared factors, by method; fits with them are held against these too.
    seed : int
        Which scans are shown.
    **settings
        Of the fits by NUTS.

    Returns
    -------
    pandas.DataFrame
        Mean squares in units of sigma by ``scans`` shown (0: drawn from the prior, "all"), and what `Fit.adopt` said to
        expect of a refit.
    """
    table = read_fcon1000()
    mine = table[table["site"] == site]
    order = np.random.default_rng(seed).permutation(len(mine))
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        rest = study_of(table[table["site"] != site], **ROLES)
        fits = {}
        for suffix, shared in (("", 0), (", shared factors", "auto")):
            fits[f"nuts{suffix}"] = bc.fit(rest, progress_bar=False, shared_factors=shared, **settings)
            fits[f"eb{suffix}"] = bc.fit(rest, method="eb", shared_factors=shared)
        for shown in (count for count in SHOWN if count is None or count <= len(mine)):
            row: dict[str, object] = {"scans": "all" if shown is None else shown}
            some = mine.iloc[order[:shown]]
            for method, fit in fits.items():
                adopted = fit.adopt(some) if len(some) else fit
                whole = full[method.split(",")[0]]
                expected = whole.harmonize(mine)["mean"].to_pandas()
                found = adopted.harmonize(mine, unseen="prior")["mean"].to_pandas()
                sigma = whole.parameters["sigma"]
                sigma = sigma.mean([dim for dim in ("chain", "draw") if dim in sigma.dims]).to_pandas()
                away = (found - expected)[sigma.index] / sigma
                row[method] = float((away**2).to_numpy().mean())
                if method == "nuts" and len(some):
                    row["said"] = _said(adopted) ** 2
            rows.append(row)
    return pd.DataFrame(rows).assign(site=site)


def _said(fit: bc.Fit) -> float:
    found = re.search(r"about ([\d.e-]+) sigma", fit.verdict)
    assert found is not None, json.dumps(fit.verdict)
    return float(found[1])


def table(sites: list[str] | None = None) -> pd.DataFrame:
    """Return RMSE in units of sigma over the sites, by scans shown."""
    whole = read_fcon1000()
    settings: dict[str, object] = {"chains": 2, "draws": 500, "tune": 500, "seed": 1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = study_of(whole, **ROLES)
        nuts = bc.fit(study, progress_bar=False, shared_factors=0, **settings)
        full = {"nuts": nuts, "eb": bc.fit(study, method="eb")}
    parts = [of_site(site, full, **settings) for site in sites or sorted(whole["site"].unique())]
    found = pd.concat(parts)
    mean = (
        found.groupby("scans", sort=False)[
            [*(f"{kind}{suffix}" for suffix in ("", ", shared factors") for kind in full), "said"]
        ].mean()
        ** 0.5
    )
    return mean.assign(sites=found.groupby("scans", sort=False).size())
