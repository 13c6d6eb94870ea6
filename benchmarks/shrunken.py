"""The shrunken-site test on real tables: large sites cut to few scans, against the estimate from all their scans."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import bayescombat as bc
from bayescombat.progress import bar
from benchmarks.coverage import TAILS, shifts_of
from benchmarks.tables import TABLES

SCANS = (1, 2, 3, 5, 10, 20)
LARGEST = 6
CASES = {"fcon1000": 75, "abide1_fs6": None, "mriqc_abide": None}
NUTS: dict[str, object] = {"chains": 2, "draws": 400, "tune": 400, "seed": 1, "progress_bar": False}
COLUMNS = ["table", "site", "scans", "cut", "method", "single", "mean", "in 90 %", "mean in 90 %"]
RAW, DRAWS = "no correction", "EB, draws"
type Methods = Mapping[str, Mapping[str, object]]
QUICK: Methods = {
    "no shrinkage": {"method": "eb", "shrinkage": "none"},
    # Beside the point estimate, of which there is no interval.
    "EB": {"method": "eb", "uncertainty": True, "seed": 1},
    "EB, shared factors": {"method": "eb", "shared_factors": "auto"},
}
SAMPLED: Methods = {
    "NUTS, independent": NUTS | {"shared_factors": 0},
    "NUTS": NUTS,
    "NUTS, mean_only": NUTS | {"shared_factors": 0, "mean_only": True},
}
# Cuts of every site for each number of scans.
CUTS, CUTS_BY_NUTS = 3, 1


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

    def errors(self, fit: bc.Fit, site: str, shift: xr.DataArray) -> xr.DataArray:
        """Return errors of a site's mean, given its shift, at the average covariates of all scans; units of sigma."""
        parameters = fit.parameters
        moved = self.study.x.mean(axis=0) - fit.layout.center[0]
        found = parameters["alpha"] + shift
        found = found + (parameters["beta"] * xr.DataArray(moved, dims="covariate")).sum("covariate")
        truth = self.truth["alpha"] + self.truth["gamma"].sel(batch=site)
        # Of features that the fit has too: two scans may happen to have one value, which sets it aside.
        return (found - truth) / self.truth["sigma"]


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
    """Return mean square errors, and for draws whether 90 % intervals hold the truth, by feature and on average."""
    over = [dim for dim in ("chain", "draw") if dim in error.dims]
    found = {"single": float((error.mean(over) ** 2).mean()), "mean": float(error.mean() ** 2)}
    if not over:
        return found
    low, high = error.quantile(TAILS, over)
    low_mean, high_mean = error.mean("feature").quantile(TAILS, over)
    found["in 90 %"] = 100 * float(((low < 0) & (high > 0)).mean())
    found["mean in 90 %"] = 100 * float((low_mean < 0) & (high_mean > 0))
    return found


def measured(case: Case, site: str, scans: int, seed: int, methods: Methods) -> Iterator[dict[str, object]]:
    """Yield what every method makes of one cut site."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.BayesCombatWarning)
        study = case.cut(site, scans, seed)
        for method, arguments in methods.items():
            fit = bc.fit(study, **arguments)
            shift = fit.parameters["gamma"].sel(batch=site)
            yield {"method": method, **judged(case.errors(fit, site, shift))}
            if method == "no shrinkage":
                yield {"method": RAW, **judged(case.errors(fit, site, 0 * shift))}
            if "uncertainty" in arguments:
                drawn = shifts_of(fit)[:, study.batches.index(site)]
                drawn = xr.DataArray(drawn, dims=("draw", "feature"), coords={"feature": shift["feature"]})
                yield {"method": DRAWS, **judged(case.errors(fit, site, drawn))}


def of_case(name: str, cuts: int, methods: Methods, store: Path | None = None) -> pd.DataFrame:
    """Return what methods make of every cut of one table, a row for each cut and method.

    Parameters
    ----------
    name : str
        Of the table.
    cuts : int
        Cuts of each of six sites for each number of scans.
    methods : mapping
        Arguments of `bayescombat.fit` by name.
    store : path, optional
        A file to keep rows in; an interrupted run goes on from it.
    """
    case = Case.of(name, CASES[name])
    known = pd.read_csv(store) if store is not None and store.exists() else pd.DataFrame()
    rows = known.to_dict("records")
    done = {(row["table"], row["site"], row["scans"], row["cut"], row["method"]) for row in rows}
    jobs = [(site, scans, cut) for cut in range(cuts) for scans in SCANS for site in case.sites]
    with bar(name, len(jobs), shown=True) as advance:
        for site, scans, cut in jobs:
            job = {"table": name, "site": site, "scans": scans, "cut": cut}
            left = {method: methods[method] for method in methods if (*job.values(), method) not in done}
            found = [job | row for row in measured(case, site, scans, cut, left)]
            rows += found
            if store is not None and found:
                pd.DataFrame(found, columns=COLUMNS).to_csv(store, mode="a", header=not store.exists(), index=False)
            advance()
    result = pd.DataFrame(rows)
    return result[result["table"] == name]


def summarised(rows: pd.DataFrame) -> pd.DataFrame:
    """Return RMSE in units of sigma and coverage in percent over the cuts, each with a standard error.

    Cuts are taken for independent, although there are only as many sites as there are.
    """
    groups = rows.groupby(["table", "scans", "method"], sort=False)[COLUMNS[5:]]
    mean, error = groups.mean(), groups.std().div(groups.count() ** 0.5)
    found = {"cuts": groups.size()}
    for name, label in (("single", "RMSE"), ("mean", "RMSE of the mean")):
        found[label] = mean[name] ** 0.5
        found[f"± {label}"] = error[name] / (2 * found[label])
    for name in COLUMNS[7:]:
        found[name], found[f"± {name}"] = mean[name], error[name]
    return pd.DataFrame(found)


def table(cuts: int = CUTS, cuts_by_nuts: int = CUTS_BY_NUTS, store: Path | None = None) -> pd.DataFrame:
    """Return error and coverage on every table, six sites each: of a site's mean, by feature and over the features."""
    plans = (cuts, QUICK), (cuts_by_nuts, SAMPLED)
    rows = pd.concat([of_case(name, *plan, store) for name in CASES for plan in plans])
    # What is kept in a file comes back with every plan.
    rows = rows.drop_duplicates(COLUMNS[:5])
    parts = {"all": rows, "those that NUTS had": rows[rows["cut"] < cuts_by_nuts]}
    found = pd.concat({kind: summarised(part) for kind, part in parts.items()}, names=["of cuts"])
    return found.sort_index(level=["of cuts", "table", "scans"], sort_remaining=False)
