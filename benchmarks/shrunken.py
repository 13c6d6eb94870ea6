"""The shrunken-site test on real tables: large sites cut to few scans, against the estimate from all their scans."""

import warnings
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from benchmarks.tables import TABLES

SCANS = (3, 5, 10)
LARGEST = 6
CASES = {"fcon1000": 75, "abide1_fs6": None}
NUTS: dict[str, object] = {"chains": 2, "draws": 500, "tune": 500, "seed": 1, "progress_bar": False}
METHODS: dict[str, dict[str, object]] = {
    "EB": {"method": "eb"},
    "EB, shared factors": {"method": "eb", "shared_factors": "auto"},
    "NUTS, no shared factors": NUTS | {"shared_factors": 0},
    "NUTS": NUTS,
}


@dataclass(frozen=True, eq=False)
class Case:
    """A study of which sites are cut, and what all its scans say."""

    study: bc.Study
    truth: xr.Dataset

    @classmethod
    def of(cls, name: str, features: int | None = None) -> "Case":
        """Return the case of a table by its name, or of its first features."""
        study = part(TABLES[name](), slice(None), features)
        return cls(study, bc.fit(study, method="eb", shrinkage="none").parameters)

    @property
    def sites(self) -> list[str]:
        """The largest sites."""
        size = np.bincount(self.study.codes)
        return [self.study.batches[i] for i in np.argsort(-size)[:LARGEST]]

    def cut(self, site: str, scans: int, seed: int) -> bc.Study:
        """Return the study with a site cut to a few scans."""
        study = self.study
        mine = np.flatnonzero(study.codes == study.batches.index(site))
        chosen = np.random.default_rng([seed, scans]).choice(mine, scans, replace=False)
        keep = np.ones(len(study.codes), dtype=bool)
        keep[np.setdiff1d(mine, chosen)] = False
        return part(study, keep)

    def errors(self, fit: bc.Fit, site: str) -> xr.DataArray:
        """Return errors of a site's mean at the average covariates of all scans, in units of sigma."""
        parameters, names = fit.parameters, self.truth["feature"].values
        moved = self.study.x.mean(axis=0) - fit.layout.center[0]
        found = parameters["alpha"] + parameters["gamma"].sel(batch=site)
        found = found + (parameters["beta"] * xr.DataArray(moved, dims="covariate")).sum("covariate")
        truth = self.truth["alpha"] + self.truth["gamma"].sel(batch=site)
        return ((found - truth) / self.truth["sigma"]).sel(feature=names)


def part(study: bc.Study, rows: np.ndarray | slice, features: int | None = None) -> bc.Study:
    """Return the study of some scans, or of its first features."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        return bc.Study.from_arrays(
            pd.DataFrame(study.y[rows, :features], columns=list(study.features[:features])),
            batch=np.array(study.batches)[study.codes[rows]],
            covariates=pd.DataFrame(study.x[rows], columns=list(study.covariates)),
        )


def judged(error: xr.DataArray) -> dict[str, float]:
    """Return the mean square error, and for draws whether 90 % intervals hold the truth, singly and on average."""
    if "draw" not in error.dims:
        return {"rmse": float((error**2).mean())}
    over = ("chain", "draw")
    low, high = error.quantile([0.05, 0.95], over)
    low_mean, high_mean = error.mean("feature").quantile([0.05, 0.95], over)
    return {
        "rmse": float((error.mean(over) ** 2).mean()),
        "single": float(((low < 0) & (high > 0)).mean()),
        "joint": float((low_mean < 0) & (high_mean > 0)),
    }


def measured(case: Case, site: str, scans: int, seed: int, methods: dict[str, dict[str, object]]) -> pd.DataFrame:
    """Return what every method makes of one cut site."""
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = case.cut(site, scans, seed)
        for method, arguments in methods.items():
            fit = bc.fit(study, **arguments)
            rows.append({"method": method, "scans": scans, **judged(case.errors(fit, site))})
    return pd.DataFrame(rows)


def of_case(name: str, cuts: int, methods: dict[str, dict[str, object]]) -> pd.DataFrame:
    """Return RMSE in units of sigma, and coverage of 90 % intervals, over the sites and cuts of one table."""
    case = Case.of(name, CASES[name])
    jobs = [(site, scans, seed) for seed in range(cuts) for scans in SCANS for site in case.sites]
    found = pd.concat([measured(case, *job, methods) for job in jobs])
    mean = found.groupby(["scans", "method"], sort=False).mean()
    return mean.assign(rmse=mean["rmse"] ** 0.5)


def table(cuts: int = 1, methods: dict[str, dict[str, object]] | None = None) -> pd.DataFrame:
    """Return RMSE and coverage on every table, six sites each, `cuts` cuts of every site for each number of scans."""
    return pd.concat({name: of_case(name, cuts, methods or METHODS) for name in CASES}, names=["table"])
