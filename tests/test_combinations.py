"""Every cell of the table in docs/combinations.md does what it says.

A capability is a function that changes how the table, the study, the fit or the harmonization is made, and a check of
what it promises. A cell is run by putting two of them together, so that no cell has code of its own.
"""

import inspect
import re
import warnings
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import combaters
import numpy as np
import pandas as pd
import pymc as pm
import pytensor
import pytest
import xarray as xr
from pytensor.compile.mode import Mode
from scipy import stats

import bayescombat as bc
from bayescombat.hidden import without_factors
from bayescombat.residuals import moved
from tests.studies import compiled_quickly

# Of four features a scan with two holes tells of no factor.
pytestmark = pytest.mark.filterwarnings("ignore:Too few features observed:bayescombat.FeatureWarning")
DOCUMENT = Path(__file__).parents[1] / "docs" / "combinations.md"
# Interpreted graphs: compiling them would take longer than evaluating them.
INTERPRETED = Mode(linker="py", optimizer="fast_compile")

SITES = ("site_01", "site_02", "site_03")
NEWCOMERS = {"update": "site_04", "adopt": "site_05", "unseen": "site_06"}
SIMULATION = bc.datasets.simulate((14, 12, 10, 9, 9, 9), features=4, seed=4)
FEATURES = list(SIMULATION.features)
LABELS_OF_REFERENCE = {"site": "site_02", "software": "6"}
# Every site has scans of both, so that knots do not hang on which sites there are.
AGES = (38.0, 56.0)
CURVED = ("feature_0", "feature_2")

# What the first fit depends on; everything else is done with a fit.
OF_THE_FIT = {"missing", "log", "several", "reference", "federated", "sva", "shrinkage"}
OF_THE_FIT |= {"remove", "factors", "covariance"}
# These change a cell by the others of its scan.
JOINT = {"factors", "covariance"}
OF_EMPIRICAL_BAYES = {"EB", "sva", "shrinkage", "uncertain"}
OF_THE_FIT |= {"smooth", "subject", "shared", "uncertain"}
# A fit by NUTS compiles for seconds: these are all there are, and a cell takes the smallest that has what it needs.
UPDATED_WORLD = {"missing", "log", "several", "smooth"}
WORLDS = [
    {"several", "reference", "shared"},
    UPDATED_WORLD,
    {"missing", "log", "reference", "federated", "smooth", "shared"},
]
WORLDS += [{"missing", "log", "reference", "federated", "remove", ability} for ability in sorted(JOINT)]
WORLDS += [{"missing", "log", "several", "reference", "federated", "smooth", "remove", "subject"}]
# Pairs that ask nothing, by the letter of the reason.
MEANINGLESS = {
    **{frozenset({"textbook", other}): "a" for other in ("unseen", "update", "adopt", "stripped", "impute")},
    **{frozenset({"textbook", other}): "b" for other in ("sva", "shrinkage", "EB", "uncertain")},
    frozenset({"NUTS", "EB"}): "c",
    **{frozenset({"textbook", other}): "d" for other in JOINT},
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation() -> Iterator[None]:
    with compiled_quickly():
        yield


class Case(NamedTuple):
    """Capabilities that are used together."""

    abilities: frozenset[str]
    shrinkage: str = "parametric"

    def __contains__(self, ability: object) -> bool:
        return ability in self.abilities

    def __str__(self) -> str:
        kind = [] if self.shrinkage == "parametric" else [self.shrinkage]
        return " + ".join([*sorted(self.abilities), *kind])

    @property
    def method(self) -> str:
        asked = "impute" in self and not self.abilities & OF_EMPIRICAL_BAYES
        return "nuts" if "NUTS" in self or asked else "eb"

    @property
    def core(self) -> "Case":
        """What the first fit is made by."""
        return Case(self.abilities & OF_THE_FIT | ({"NUTS"} if self.method == "nuts" else set()), self.shrinkage)

    def without(self, *abilities: str) -> "Case":
        return self._replace(abilities=self.abilities - set(abilities))


class Outcome(NamedTuple):
    """What a case led to: the first fit, the fits after update and adopt, and rows harmonized by the last."""

    case: Case
    first: bc.Fit
    updated: bc.Fit
    fit: bc.Fit
    rows: pd.DataFrame
    found: xr.Dataset
    draws: xr.DataArray | None
    unseen: str

    @property
    def fitted_sites(self) -> list[str]:
        return [*SITES, NEWCOMERS["update"]] if "update" in self.case else [*SITES]

    def of(self, sites: Iterable[str]) -> np.ndarray:
        return self.rows["site"].isin(list(sites)).to_numpy()


# ---------------------------------------------------------------- from capabilities to harmonized rows


@cache
def whole_table(
    missing: bool, log: bool, several: bool, remove: bool, factors: bool, smooth: bool, subject: bool, shared: bool
) -> pd.DataFrame:
    """Every scan, newcomers included. Newcomers, the second software and people in motion measure far too much.

    For a smooth some features follow a parabola of age. Subjects have two scans, but one who was at three sites.
    """
    data = SIMULATION.table.copy()
    data["subject"] = data["site"] + "-" + (data.groupby("site").cumcount() // 2).astype(str)
    data.loc[data["site"].isin(SITES) & (data.groupby("site").cumcount() == 0), "subject"] = "traveller"
    data["motion"] = np.random.default_rng(5).gamma(2.0, size=len(data))
    data["software"] = np.resize(["5", "6", "6", "5", "6"], len(data))
    sigma = SIMULATION.truth["sigma"].values
    y = data[FEATURES].to_numpy().copy()
    y[data["site"].isin(NEWCOMERS.values())] += 3 * sigma
    if several:
        y[data["software"] == "6"] += 5 * sigma
    if remove:
        y += 2 * sigma * data[["motion"]].to_numpy()
    if smooth:
        data["age"] = data["age"].clip(*AGES)
        y += parabola(data["age"]).to_numpy()[:, None] * sigma * np.isin(FEATURES, CURVED)
    if subject:
        _, people = np.unique(data["subject"], return_inverse=True)
        y += 1.5 * sigma * np.random.default_rng(7).normal(size=(people.max() + 1, len(FEATURES)))[people]
    if factors or shared:
        y += sigma * np.random.default_rng(6).normal(size=(len(y), 1))
    # Far enough from zero to stay positive when harmonized, and of a spread that logarithms matter for.
    y = 10 + 4 * (y - 2.5)
    if log:
        y = np.exp(y)
    if missing:
        y[np.random.default_rng(2).random(y.shape) < 0.1] = np.nan
    data[FEATURES] = y
    return data


def parabola(age: Any) -> Any:
    return 6 * ((age - AGES[0]) / (AGES[1] - AGES[0]) - 0.5) ** 2 * 4


def rows_of(case: Case, sites: Iterable[str], holes: bool = False) -> pd.DataFrame:
    kinds = ("log", "several", "remove", "factors", "smooth", "subject", "shared")
    data = whole_table("missing" in case or holes, *(kind in case for kind in kinds))
    return data[data["site"].isin(list(sites))]


def study_of(case: Case, sites: Iterable[str]) -> bc.Study:
    variables = ["site", "software"] if "several" in case else ["site"]
    return bc.Study.from_dataframe(
        rows_of(case, sites),
        batch=variables,
        covariates="sex" if "smooth" in case else "age + sex",
        smooth={"age": 6} if "smooth" in case else None,
        subject="subject" if "subject" in case else None,
        features=FEATURES,
        reference=[LABELS_OF_REFERENCE[name] for name in variables] if "reference" in case else None,
        transform="log" if "log" in case else None,
        remove="motion" if "remove" in case else None,
    )


def has_cross(case: Case) -> bool:
    return bool(case.abilities & (JOINT | {"shared"}))


def moments_of(case: Case, rows: pd.DataFrame, study: bc.Study) -> bc.Moments:
    return bc.Moments.from_study(bc.Study.from_design(rows, study.spec), cross=has_cross(case))


def data_of(case: Case, sites: Iterable[str]) -> bc.Study | bc.Moments:
    """The study, or moments that every site computed for itself."""
    study = study_of(case, sites)
    if "federated" not in case:
        return study
    labels = LABELS_OF_REFERENCE if "several" in case else LABELS_OF_REFERENCE["site"]
    reference = labels if "reference" in case else None
    parts = [
        bc.Study.from_design(rows, study.spec, reference=reference)
        for _, rows in rows_of(case, sites).groupby("site", sort=False)
    ]
    return bc.merge([bc.Moments.from_study(part, cross=has_cross(case)) for part in parts])


def newcomer(case: Case, ability: str) -> pd.DataFrame | bc.Moments:
    rows = rows_of(case, [NEWCOMERS[ability]])
    return moments_of(case, rows, study_of(case, SITES)) if "federated" in case else rows


@cache
def first_fit(case: Case, sites: tuple[str, ...] = SITES) -> bc.Fit:
    options: dict[str, Any] = {"compat": "sva"} if "sva" in case else {}
    if "shrinkage" in case:
        options["shrinkage"] = case.shrinkage
    options |= {"factors": 1} if "factors" in case else {}
    options |= {"covariance": True} if "covariance" in case else {}
    options |= {"shared_factors": 1} if "shared" in case else {}
    options |= {"uncertainty": True, "seed": 3} if "uncertain" in case else {}
    if case.method == "nuts":
        options |= {"chains": 2, "tune": 100, "draws": 100, "seed": 3, "progress_bar": False}
    with warnings.catch_warnings():
        # So few draws cannot converge, and need not.
        warnings.simplefilter("ignore", bc.ConvergenceWarning)
        return bc.fit(data_of(case, sites), method=case.method, **options)


@cache
def updated_fit(case: Case) -> bc.Fit:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", bc.ConvergenceWarning)
        return first_fit(case).update(newcomer(case, "update"))


def stripped(fit: bc.Fit, folder: Path) -> bc.Fit:
    fit.save(folder / "fit.nc", data=False, moments=False)
    return bc.load(folder / "fit.nc")


def run(case: Case, folder: Path) -> Outcome:
    first = fit = first_fit(case.core)
    if "stripped" in case:
        fit = stripped(first, folder)
    if "update" in case:
        fit = fit.update(newcomer(case, "update")) if "stripped" in case else updated_fit(case.core)
    updated = fit
    if "adopt" in case:
        fit = fit.adopt(newcomer(case, "adopt"))
    rows = rows_of(case, [*SITES, *(site for ability, site in NEWCOMERS.items() if ability in case)])
    unseen = "prior" if "unseen" in case else "error"
    draws = None
    if "impute" in case:
        rows = rows_of(case, rows["site"].unique(), holes=True)
        draws = fit.draws(40, rows, impute=True, unseen=unseen)
    return Outcome(case, first, updated, fit, rows, fit.harmonize(rows, unseen=unseen), draws, unseen)


# ---------------------------------------------------------------- what every capability promises


def on_the_fitted_scale(case: Case, values: Any) -> np.ndarray:
    return np.log(values) if "log" in case else np.asarray(values)


def assert_same(case: Case, found: Any, expected: Any) -> None:
    one, other = (on_the_fitted_scale(case, values) for values in (found, expected))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


def covariates_of(case: Case, rows: pd.DataFrame) -> np.ndarray:
    """The design columns, by hand where there is no smooth."""
    if "smooth" in case:
        return study_of(case, SITES).spec.matrix(rows)
    removed = [rows["motion"]] if "remove" in case else []
    return np.column_stack([rows["age"], rows["sex"] == "M", *removed]).astype(float)


def kept_of(case: Case) -> np.ndarray:
    if "smooth" in case:
        return study_of(case, SITES).spec.kept
    return np.array([True, True, False] if "remove" in case else [True, True])


def center_of(case: Case, sites: Iterable[str]) -> np.ndarray:
    """Average covariates of every feature over the scans that it was observed in, (feature, covariate)."""
    rows = rows_of(case, sites)
    x, there = covariates_of(case, rows), rows[FEATURES].notna().to_numpy().astype(float)
    return (there.T @ x) / there.sum(axis=0)[:, None]


def explained(case: Case, outcome: Outcome, rows: pd.DataFrame, part: np.ndarray) -> np.ndarray:
    """What some covariates explain by the (mean) slopes, measured from the average, (obs, feature)."""
    beta = outcome.fit.parameters["beta"]
    beta = beta.mean([dim for dim in beta.dims if dim in ("chain", "draw")]).values
    offset = covariates_of(case, rows)[:, None] - center_of(case, outcome.fitted_sites)
    return ((offset * beta)[..., part]).sum(axis=-1)


def parameters_without_factors(case: Case, outcome: Outcome) -> xr.Dataset:
    """Parameters of a fit to the moments that scans have without their factors."""
    moments, _ = without_factors(outcome.updated.moments, 1, False)
    options = {"compat": "sva"} if "sva" in case else {}
    return bc.fit(moments, method="eb", shrinkage=case.shrinkage, **options).parameters


def effects_by_hand(
    case: Case, rows: pd.DataFrame, y: np.ndarray, slopes: np.ndarray | None = None, ratio: Any = (0.0,) * 4
) -> dict[str, np.ndarray]:
    """Least squares on indicators, feature by feature: differences from the first level of every variable.

    Covariates are taken out before where their slopes are given, else with the indicators. They are generalised where
    the ratios of the subjects' variance to the residual one are given.
    """
    levels = pd.get_dummies(rows[["site", "software"] if "several" in case else ["site"]], drop_first=True, dtype=float)
    covariates, names = covariates_of(case, rows), ["age", "sex", *(["motion"] if "remove" in case else [])]
    if "smooth" in case:
        names = list(study_of(case, SITES).spec.covariates)
    if slopes is not None:
        y, covariates, names = y - covariates @ slopes.T, covariates[:, :0], []
    x = np.column_stack([levels, covariates, np.ones(len(rows))])
    same = (rows["subject"].to_numpy()[:, None] == rows["subject"].to_numpy()).astype(float)
    found = []
    for column, own in zip(y.T, ratio, strict=True):
        seen = ~np.isnan(column)
        root = np.linalg.cholesky(np.eye(seen.sum()) + own * same[np.ix_(seen, seen)])
        white = np.linalg.solve(root, np.column_stack([x[seen], column[seen]]))
        found.append(np.linalg.lstsq(white[:, :-1], white[:, -1], rcond=None)[0][:-1])
    return dict(zip([*levels.columns, *names], np.transpose(found), strict=True))


def widths(outcome: Outcome, sites: Iterable[str]) -> float:
    """Average width of the intervals at some sites."""
    bounds = (on_the_fitted_scale(outcome.case, outcome.found[name].values) for name in ("lower", "upper"))
    lower, upper = bounds
    return float(np.nanmean((upper - lower)[outcome.of(sites)]))


def check_missing(outcome: Outcome, folder: Path) -> None:
    """Missing cells stay missing, all others are finite, and one more hole changes no other cell, or no other scan."""
    seen = outcome.rows[FEATURES].notna().to_numpy()
    assert not seen.all()
    for name in outcome.found.data_vars:
        np.testing.assert_array_equal(np.isfinite(outcome.found[name]), seen, err_msg=name)
    holed = outcome.rows.copy()
    holed.iloc[3, holed.columns.get_loc(FEATURES[1])] = np.nan
    again = outcome.fit.harmonize(holed, unseen=outcome.unseen)["mean"].values
    expected = outcome.found["mean"].values.copy()
    assert np.isfinite(expected[3, 1])
    expected[3, 1] = np.nan
    if outcome.case.abilities & JOINT:
        np.testing.assert_array_equal(np.isnan(again[3]), np.isnan(expected[3]))
        again[3] = expected[3]
    if {"stripped", "subject"} <= outcome.case.abilities:
        # Nobody is known there but by these rows.
        same = (holed["subject"] == holed["subject"].iloc[3]).to_numpy() & np.isfinite(expected[:, 1])
        again[same, 1] = expected[same, 1]
    np.testing.assert_allclose(again, expected, rtol=1e-12)


def check_log(outcome: Outcome, folder: Path) -> None:
    """Values and bounds are positive; empirical Bayes is that of the logarithms."""
    seen = outcome.rows[FEATURES].notna().to_numpy()
    for name in set(outcome.found) - {"sd"}:
        assert (outcome.found[name].values[seen] > 0).all()
    if outcome.draws is not None:
        assert (outcome.draws > 0).all()
    if outcome.case.method == "eb":
        expected = run(outcome.case.without("log"), folder).found["mean"]
        np.testing.assert_allclose(np.log(outcome.found["mean"]), expected, rtol=0, atol=1e-10)


def check_several(outcome: Outcome, folder: Path) -> None:
    """What the second variable does is taken out of the fitted rows too."""
    case, fitted = outcome.case, outcome.of(outcome.fitted_sites)
    rows = outcome.rows[fitted]
    before = effects_by_hand(case, rows, on_the_fitted_scale(case, rows[FEATURES].to_numpy()))
    after = effects_by_hand(case, rows, on_the_fitted_scale(case, outcome.found["mean"].values[fitted]))
    assert np.abs(after["software_6"]).mean() < 1 / 3 * np.abs(before["software_6"]).mean()


def check_reference(outcome: Outcome, folder: Path) -> None:
    """Rows of the reference keep every bit but for what is removed of all, and no others do."""
    still = (outcome.rows["site"] == LABELS_OF_REFERENCE["site"]).to_numpy()
    if "several" in outcome.case:
        still = still & (outcome.rows["software"] == LABELS_OF_REFERENCE["software"]).to_numpy()
    raw, found = outcome.rows[FEATURES].to_numpy(), outcome.found["mean"].values
    if outcome.case.abilities & {"remove", "factors"}:
        check_rows_of_the_reference(outcome, still)
        return
    np.testing.assert_array_equal(found[still], raw[still])
    assert still.any() and not np.isclose(found[~still], raw[~still], rtol=1e-9).any()
    if outcome.draws is not None:
        there = np.isfinite(raw[still])
        assert (outcome.draws.values[:, still][:, there] == raw[still][there]).all()


def check_rows_of_the_reference(outcome: Outcome, still: np.ndarray) -> None:
    """What rows of the reference lose is what is removed: by empirical Bayes and without factors that alone."""
    case, rows = outcome.case, outcome.rows[still]
    labels = LABELS_OF_REFERENCE if "several" in case else {"": LABELS_OF_REFERENCE["site"]}
    names = [f"{name}={label}" if name else label for name, label in labels.items()]
    p = outcome.fit.parameters.sel(batch=names)
    assert (p["gamma"] == 0).all() and (p["delta"] == 1).all()
    raw, found = rows[FEATURES].to_numpy(), outcome.found["mean"].values[still]
    assert not np.isclose(found, raw, rtol=1e-9).any()
    if case.method == "eb" and "factors" not in case:
        lost = on_the_fitted_scale(case, raw) - on_the_fitted_scale(case, found)
        removed = explained(case, outcome, rows, ~kept_of(case))
        np.testing.assert_allclose(lost, np.where(np.isnan(raw), np.nan, removed), rtol=0, atol=1e-9)


def check_unseen(outcome: Outcome, folder: Path) -> None:
    """By NUTS an unknown batch is less sure than fitted ones; by empirical Bayes it is an average one."""
    case, new = outcome.case, outcome.of([NEWCOMERS["unseen"]])
    if case.method == "nuts":
        assert widths(outcome, [NEWCOMERS["unseen"]]) > 1.5 * widths(outcome, outcome.fitted_sites)
        return
    p, rows, several = outcome.fit.parameters, outcome.rows[new], "several" in case
    sites = p.sel(batch=[f"site={site}" if several else site for site in outcome.fitted_sites])
    gamma, delta = sites["gamma"].mean("batch").values, np.exp(np.log(sites["delta"]).mean("batch")).values
    if several:
        others = p.sel(batch=[f"software={label}" for label in rows["software"]])
        gamma, delta = gamma + others["gamma"].values, delta * others["delta"].values
    kept = p["alpha"].values + explained(case, outcome, rows, kept_of(case))
    expected = kept + explained(case, outcome, rows, ~kept_of(case))
    y = on_the_fitted_scale(case, rows[FEATURES].to_numpy())
    if "subject" in case:
        intercept = intercepts_by_hand(rows, y - expected - gamma, delta, p)
        kept, expected = kept + intercept, expected + intercept
    residual = (y - expected - gamma) / delta
    if "factors" in case:
        hidden = outcome.fit.hidden
        residual = moved(residual, hidden.axes, hidden.unit, 0.0)
    by_hand = kept + residual
    np.testing.assert_allclose(on_the_fitted_scale(case, outcome.found["mean"].values[new]), by_hand, rtol=0, atol=1e-9)


def intercepts_by_hand(rows: pd.DataFrame, left: np.ndarray, delta: np.ndarray, p: xr.Dataset) -> np.ndarray:
    """Best predictions of the intercepts of the scans' subjects from these rows alone, by dense matrices."""
    same = (rows["subject"].to_numpy()[:, None] == rows["subject"].to_numpy()).astype(float)
    scale = np.broadcast_to(delta, left.shape) * p["sigma"].values
    found = np.empty_like(left)
    for v, spread in enumerate(p["subject_sd"].values):
        seen = ~np.isnan(left[:, v])
        shared = spread**2 * same[:, seen]
        found[:, v] = shared @ np.linalg.solve(shared[seen] + np.diag(scale[seen, v] ** 2), left[seen, v])
    return found


def check_update(outcome: Outcome, folder: Path) -> None:
    """It is the fit to everything at once: the same estimates, or the same moments to the last bit."""
    case, everything = outcome.case.core.without("federated"), tuple(outcome.fitted_sites)
    if case.method == "nuts":
        expected = bc.Moments.from_study(study_of(case, everything), cross=has_cross(case))
        xr.testing.assert_equal(outcome.updated.moments.to_dataset(), expected.to_dataset())
        assert outcome.updated.tree.attrs["settings"] == outcome.first.tree.attrs["settings"]
        return
    rows = rows_of(outcome.case, everything)
    expected = first_fit(case, everything).harmonize(rows)["mean"]
    assert_same(case, outcome.fit.harmonize(rows)["mean"], expected)


def check_adopt(outcome: Outcome, folder: Path) -> None:
    """What was fitted keeps every bit, and the new batch comes near to where a refit would bring it."""
    case, known = outcome.case, outcome.rows[outcome.of(outcome.fitted_sites)]
    xr.testing.assert_identical(outcome.fit.harmonize(known), outcome.updated.harmonize(known))
    new, rows = outcome.of([NEWCOMERS["adopt"]]), rows_of(case, [NEWCOMERS["adopt"]])
    found = on_the_fitted_scale(case, outcome.fit.harmonize(rows)["mean"])
    assert new.sum() == len(rows)
    if case.method == "nuts" and "covariance" in case:
        # No unseen batch has a covariance: the estimate of empirical Bayes stands in.
        refit = first_fit(Case(case.core.abilities - {"NUTS"})).adopt(newcomer(case, "adopt")).harmonize(rows)["mean"]
        refit, raw = on_the_fitted_scale(case, refit), on_the_fitted_scale(case, rows[FEATURES].to_numpy())
        assert np.nanmean(np.abs(found - refit)) < 1 / 3 * np.nanmean(np.abs(raw - refit))
        return
    if case.method == "nuts":
        drawn = outcome.updated.harmonize(rows, unseen="prior")
        assert widths(outcome, [NEWCOMERS["adopt"]]) < widths(outcome._replace(found=drawn, rows=rows), rows["site"])
        return
    everything = (*outcome.fitted_sites, NEWCOMERS["adopt"])
    refit = on_the_fitted_scale(case, first_fit(case.core.without("federated"), everything).harmonize(rows)["mean"])
    raw = on_the_fitted_scale(case, rows[FEATURES].to_numpy())
    assert np.nanmean(np.abs(found - refit)) < 1 / 3 * np.nanmean(np.abs(raw - refit))


def check_federated(outcome: Outcome, folder: Path) -> None:
    """The pooled fit, and no rows."""
    with pytest.raises(bc.DataError, match="found one made of moments"):
        _ = outcome.first.study
    pooled = outcome.case.without("federated")
    if outcome.case.method == "eb":
        assert_same(pooled, outcome.found["mean"], run(pooled, folder).found["mean"])
    else:
        expected = bc.Moments.from_study(study_of(pooled, SITES), cross=has_cross(pooled))
        xr.testing.assert_identical(outcome.first.moments.to_dataset(), expected.to_dataset())


def check_stripped(outcome: Outcome, folder: Path) -> None:
    """The same harmonized values to the last bit, from a file without rows and moments."""
    assert {"observed_data", "constant_data", "moments"}.isdisjoint(outcome.fit.tree.children)
    xr.testing.assert_identical(outcome.found, outcome.first.harmonize(outcome.rows, unseen=outcome.unseen))


def check_impute(outcome: Outcome, folder: Path) -> None:
    """Missing cells are filled, differently in every draw; all others are what they are without it."""
    assert outcome.draws is not None
    seen = outcome.rows[FEATURES].notna().to_numpy()
    plain = outcome.fit.draws(40, outcome.rows, unseen=outcome.unseen).values
    np.testing.assert_array_equal(outcome.draws.values[:, seen], plain[:, seen])
    assert np.isnan(plain[:, ~seen]).all() and np.isfinite(outcome.draws).all()
    assert (outcome.draws.values[:, ~seen].std(axis=0) > 0).all()


def check_sva(outcome: Outcome, folder: Path) -> None:
    """The fit is that of combaters, which is exact sva; without shrinkage, which sva lacks, it is the plain fit."""
    case, fit = outcome.case, outcome.updated
    if "factors" in case:
        xr.testing.assert_identical(fit.parameters, parameters_without_factors(case, outcome))
        return
    if "covariance" in case:
        plain = run(case.without("covariance"), folder).updated
        xr.testing.assert_equal(fit.parameters, plain.parameters)
        return
    rows = rows_of(case, outcome.fitted_sites)
    found = on_the_fitted_scale(case, fit.harmonize(rows)["mean"])
    if "remove" in case:
        found = found + explained(case, outcome, rows, ~kept_of(case))
    if case.shrinkage == "none":
        expected = on_the_fitted_scale(case, run(case.without("sva"), folder).updated.harmonize(rows)["mean"])
        expected = expected + (explained(case, outcome, rows, ~kept_of(case)) if "remove" in case else 0)
    else:
        options = {"ref_batch": LABELS_OF_REFERENCE["site"]} if "reference" in case else {}
        y = on_the_fitted_scale(case, rows[FEATURES].to_numpy())
        # combaters divides by the prior variance of the reference's scales, which is exactly zero without this.
        y = y + 1e-11 * np.random.default_rng(0).standard_normal(y.shape)
        par_prior = case.shrinkage == "parametric"
        expected = combaters.combat(
            y, rows["site"].to_numpy(), covariates_of(case, rows), par_prior=par_prior, **options
        )["adjusted"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


def check_shrinkage(outcome: Outcome, folder: Path) -> None:
    """Without shrinkage shifts are least squares; the nonparametric ones are averages of these over features."""
    case, p = outcome.case, outcome.fit.parameters
    if "factors" in case:
        xr.testing.assert_identical(p, parameters_without_factors(case, outcome))
    elif case.shrinkage == "none":
        rows = rows_of(case, outcome.fitted_sites)
        slopes = p["beta"].values if "smooth" in case else None
        ratio = (p["subject_sd"] ** 2 / p["sigma"] ** 2).values if "subject" in case else np.zeros(len(FEATURES))
        expected = effects_by_hand(case, rows, on_the_fitted_scale(case, rows[FEATURES].to_numpy()), slopes, ratio)
        gamma = p["gamma"].assign_coords(batch=[str(label).replace("=", "_") for label in p["batch"].values])
        for label, difference in expected.items():
            variable, _, level = label.partition("_")
            if variable not in ("site", "software"):
                continue
            first = {"site": SITES[0], "software": "5"}[variable]
            name, origin = (f"{variable}_{at}" if "several" in case else at for at in (level, first))
            found = gamma.sel(batch=name) - gamma.sel(batch=origin)
            np.testing.assert_allclose(found, difference, rtol=0, atol=1e-9)
    else:
        plain = run(case._replace(shrinkage="none"), folder).fit.parameters
        one, other = (q["gamma"] / q["sigma"] for q in (p, plain))
        assert (one >= other.min("feature") - 1e-12).all() and (one <= other.max("feature") + 1e-12).all()
        assert float(one.std("feature").mean()) < float(other.std("feature").mean())


def check_smooth(outcome: Outcome, folder: Path) -> None:
    """The parabola is found and kept, straight lines stay nearly straight, and rows are harmonized one by one."""
    effect = outcome.fit.effect("age")
    places = effect["at"].values
    curve = parabola(places)
    # What a straight line leaves of it, in units of sigma.
    bend = curve - np.polyval(np.polyfit(places, curve, 1), places)
    size = 4 * SIMULATION.truth["sigma"].values
    for name, unit in zip(FEATURES, size, strict=True):
        found = effect["mean"].sel(feature=name).values / unit
        found = found - np.polyval(np.polyfit(places, found, 1), places)
        expected = bend if name in CURVED else 0.0
        assert np.sqrt(((found - expected) ** 2).mean()) < 1 / 3 * bend.std()
    if "lower" in effect:
        assert (effect["lower"] < effect["mean"]).all() and (effect["mean"] < effect["upper"]).all()
    assert ("lower" in effect) == (outcome.case.method == "nuts" or "stripped" not in outcome.case)
    if outcome.case.abilities & JOINT or {"stripped", "subject"} <= outcome.case.abilities:
        return
    some = outcome.fit.harmonize(outcome.rows.iloc[4:7], unseen=outcome.unseen)["mean"]
    np.testing.assert_allclose(some, outcome.found["mean"][4:7], rtol=1e-12)


def check_subject(outcome: Outcome, folder: Path) -> None:
    """Subjects differ in the harmonized rows of the fitted sites as much as they should, and more than by noise."""
    case, fitted = outcome.case, outcome.of(outcome.fitted_sites)
    rows, p = outcome.rows[fitted], outcome.fit.parameters
    spread = p["subject_sd"].mean([dim for dim in ("chain", "draw") if dim in p["subject_sd"].dims])
    assert (spread > 0.4 * 4 * SIMULATION.truth["sigma"].values).all()
    values = on_the_fitted_scale(case, outcome.found["mean"].values[fitted])
    groups = pd.DataFrame(values).groupby(rows["subject"].to_numpy())
    within = (groups.transform("mean") - values)[groups[0].transform("size").to_numpy() > 1]
    assert np.nanstd(within) < np.nanstd(groups.mean())


def check_shared(outcome: Outcome, folder: Path) -> None:
    """All features load on the factor that their noise shares, and batches differ along patterns."""
    loadings = outcome.fit.loadings
    assert loadings.shape == (4, 1) and (loadings > 0.3).all()
    assert outcome.fit.patterns.shape[0] == 4 and (outcome.fit.patterns**2).sum() > 0


def check_nuts(outcome: Outcome, folder: Path) -> None:
    """Every value that moved has a spread and lies between its bounds."""
    found, raw = outcome.found, outcome.rows[FEATURES].to_numpy()
    moved = np.isfinite(raw) & (found["mean"].values != raw)
    assert moved.any() and outcome.fit.method == "nuts"
    assert (found["sd"].values[moved] > 0).all()
    assert (found["lower"].values[moved] < found["upper"].values[moved]).all()


def check_eb(outcome: Outcome, folder: Path) -> None:
    """There is one estimate, and no draws of it unless they are asked for."""
    beside = ["sd", "lower", "upper"] if "uncertain" in outcome.case else []
    assert outcome.fit.method == "eb" and list(outcome.found) == ["mean", *beside]


def check_uncertain(outcome: Outcome, folder: Path) -> None:
    """The estimates are those of a plain fit; every value that moved has a spread between bounds."""
    found, raw, case = outcome.found, outcome.rows[FEATURES].to_numpy(), outcome.case
    plain = run(case.without("uncertain", "impute"), folder)
    rows = outcome.rows
    np.testing.assert_array_equal(found["mean"], plain.fit.harmonize(rows)["mean"])
    moved = np.isfinite(raw) & (np.abs(found["mean"].values - raw) > 1e-9 * np.abs(raw))
    if {"remove", "reference"} <= case.abilities:
        moved &= (outcome.rows["site"] != LABELS_OF_REFERENCE["site"]).to_numpy()[:, None]
    assert moved.any() and (found["sd"].values[moved] > 0).all()
    assert (found["lower"].values[moved] < found["upper"].values[moved]).all()


def check_remove(outcome: Outcome, folder: Path) -> None:
    """The slope of what is removed is gone from the fitted rows."""
    case, fitted = outcome.case, outcome.of(outcome.fitted_sites)
    rows = outcome.rows[fitted]
    before = effects_by_hand(case, rows, on_the_fitted_scale(case, rows[FEATURES].to_numpy()))["motion"]
    after = effects_by_hand(case, rows, on_the_fitted_scale(case, outcome.found["mean"].values[fitted]))["motion"]
    assert (np.abs(after) < 1 / 4 * np.abs(before)).all()


def residuals_of(outcome: Outcome, fit: bc.Fit, rows: pd.DataFrame) -> np.ndarray:
    """Harmonized residuals by empirical Bayes, without what is fitted of them."""
    found = on_the_fitted_scale(outcome.case, fit.harmonize(rows)["mean"])
    fitted = fit.parameters["alpha"].values + explained(outcome.case, outcome, rows, kept_of(outcome.case))
    return np.asarray(found - fitted)


def check_factors(outcome: Outcome, folder: Path) -> None:
    """One factor is gone: by empirical Bayes, complete scans have the score zero; by NUTS it varies far less."""
    case, hidden = outcome.case, outcome.fit.hidden
    rows = outcome.rows[outcome.rows[FEATURES].notna().all(axis=1) & outcome.of(outcome.fitted_sites)]
    assert hidden.loadings.shape == (4, 1) and len(rows) > 10
    weights = hidden.axes.read(np.ones(4, dtype=bool)) / hidden.unit[:, None]
    if case.method == "eb":
        assert np.abs(residuals_of(outcome, outcome.fit, rows) @ weights).max() < 1e-8
        return
    x = np.column_stack([pd.get_dummies(rows["site"], dtype=float), covariates_of(case, rows)])
    values = [rows[FEATURES].to_numpy(), outcome.fit.harmonize(rows)["mean"].values]
    scores = [on_the_fitted_scale(case, part) @ weights for part in values]
    raw, found = (score - x @ np.linalg.lstsq(x, score, rcond=None)[0] for score in scores)
    assert found.std() < 1 / 4 * raw.std()


def check_covariance(outcome: Outcome, folder: Path) -> None:
    """Values move; by empirical Bayes, in a complete table, scores of all fitted sites get one spread."""
    case, plain = outcome.case, outcome.fit.tree.copy()
    plain.attrs = dict(outcome.fit.tree.attrs) | {"covariance": 0.0}
    rows = rows_of(case, outcome.fitted_sites)
    others = (rows["site"] != LABELS_OF_REFERENCE["site"]).to_numpy() if "reference" in case else slice(None)
    found, before = outcome.fit.harmonize(rows)["mean"].values, bc.Fit(plain).harmonize(rows)["mean"].values
    assert np.nanmax(np.abs(found - before)[others]) > 1e-3
    if case.method == "nuts" or "missing" in case:
        return
    residual = residuals_of(outcome, bc.Fit(plain), rows)
    away = residual - residual.mean(axis=0)
    unit = residual.std(axis=0, ddof=1)
    _, size, axes = np.linalg.svd(away / unit, full_matrices=False)
    count = int(np.flatnonzero(np.cumsum(size**2) / (size**2).sum() > 0.95)[0]) + 1
    scores = residuals_of(outcome, outcome.fit, rows) / unit @ axes[:count].T
    sites = [site for site in outcome.fitted_sites if "reference" not in case or site != LABELS_OF_REFERENCE["site"]]
    spreads = np.array([scores[rows["site"] == site].std(axis=0, ddof=1) for site in sites])
    np.testing.assert_allclose(spreads, np.repeat(spreads[:1], len(sites), axis=0), rtol=1e-7)


def run_textbook(case: Case) -> None:
    """Build the textbook form and check it as far as the other capability says."""
    study = data_of(case, SITES)
    with bc.build_model(study, likelihood="observations", shared_factors=int("shared" in case)) as model:
        if "NUTS" in case:
            sampled = pm.sample(
                10,
                tune=5,
                chains=1,
                cores=1,
                random_seed=1,
                progressbar=False,
                nuts={"max_treedepth": 3},
                compile_kwargs={"mode": INTERPRETED},
                compute_convergence_checks=False,
            )["posterior"]
        else:
            sampled = pm.sample_prior_predictive(3, random_seed=1, compile_kwargs={"mode": INTERPRETED})["prior"]
    assert isinstance(study, bc.Study)
    check_density_of_rows(model, case, study)
    draws = bc.identify(sampled.to_dataset(), study)
    assert all(np.isfinite(draws[name]).all() for name in draws)
    if "reference" in case:
        at = draws.sel(batch=LABELS_OF_REFERENCE["site"])
        assert (at["gamma"] == 0).all() and (at["delta"] == 1).all()


def check_density_of_rows(model: pm.Model, case: Case, study: bc.Study) -> None:
    """Every observed cell is normal as the model's equation says, and no other cell is there."""
    names = ["alpha", "beta", "gamma", "delta", "sigma"]
    outputs = [model.logp(vars=[model["y"]], sum=False)[0], *model.replace_rvs_by_values([model[k] for k in names])]
    evaluate = pytensor.function(model.value_vars, outputs, mode=INTERPRETED, on_unused_input="ignore")
    rng, start = np.random.default_rng(7), model.initial_point()
    point = {name: value + 0.3 * rng.standard_normal(np.shape(value)) for name, value in start.items()}
    density, alpha, beta, gamma, delta, sigma = evaluate(*(point[variable.name] for variable in model.value_vars))
    rows = rows_of(case, SITES)
    y, x = on_the_fitted_scale(case, rows[FEATURES].to_numpy()), covariates_of(case, rows)
    seen = np.isfinite(y)
    labels, shift, scale = list(model.coords["batch"]), 0.0, sigma
    for variable in ["site", "software"] if "several" in case else ["site"]:
        prefix = f"{variable}=" if "several" in case else ""
        at = [labels.index(f"{prefix}{label}") for label in rows[variable]]
        shift, scale = shift + gamma[at], scale * delta[at]
    center = (seen.T.astype(float) @ x) / seen.sum(axis=0)[:, None]
    mean = alpha + np.einsum("ovp,vp->ov", x[:, None] - center, beta) + shift
    if "subject" in case:
        people = list(model.coords["subject"])
        mean = mean + point["intercept"][[people.index(label) for label in rows["subject"]]]
    expected = stats.norm.logpdf(y, mean, np.broadcast_to(scale, mean.shape))[seen]
    np.testing.assert_allclose(np.ravel(density), expected, rtol=1e-9)


CHECKS: dict[str, Callable[[Outcome, Path], None]] = {
    "missing": check_missing,
    "log": check_log,
    "several": check_several,
    "reference": check_reference,
    "unseen": check_unseen,
    "update": check_update,
    "adopt": check_adopt,
    "federated": check_federated,
    "stripped": check_stripped,
    "impute": check_impute,
    "sva": check_sva,
    "shrinkage": check_shrinkage,
    "NUTS": check_nuts,
    "EB": check_eb,
    "remove": check_remove,
    "factors": check_factors,
    "covariance": check_covariance,
    "smooth": check_smooth,
    "subject": check_subject,
    "shared": check_shared,
    "uncertain": check_uncertain,
}


def attempt(case: Case, folder: Path) -> None:
    """Run a case and check every one of its capabilities."""
    if "textbook" in case:
        run_textbook(case)
        return
    outcome = run(case, folder)
    for ability in case.abilities:
        CHECKS[ability](outcome, folder)


# ---------------------------------------------------------------- the table


def documented() -> list[tuple[frozenset[str], str]]:
    """Every cell below the diagonal of the one table whose first header is empty."""
    lines = DOCUMENT.read_text().splitlines()
    start = next(i for i, line in enumerate(lines) if re.match(r"\|\s*\|", line))
    header, _, *rows = ([part.strip() for part in line.strip("| ").split("|")] for line in _block(lines[start:]))
    return [
        (frozenset({name, other}), cell)
        for name, *cells in rows
        for other, cell in zip(header, cells, strict=False)
        if cell
    ]


def _block(lines: list[str]) -> list[str]:
    """The lines of one table."""
    end = next((i for i, line in enumerate(lines) if not line.startswith("|")), len(lines))
    return lines[:end]


def reasons() -> dict[str, str]:
    """Every numbered reason, and the words of the error in it."""
    found = re.findall(r"^(\d+)\. (.*(?:\n +.*)*)", DOCUMENT.read_text(), re.M)
    return {number: re.search(r'"(.+?)"', " ".join(text.split())).group(1) for number, text in found}


def refused_parts(abilities: Iterable[str]) -> list[frozenset[str]]:
    refused = {pair for pair, said in CELLS if said.startswith("no ")}
    return [pair for pair in map(frozenset, combinations(abilities, 2)) if pair in refused]


def cases(pair: frozenset[str]) -> list[Case]:
    """How a pair is run: by empirical Bayes, by a fit of NUTS that is there, or both."""
    kinds = ("nonparametric", "none") if "shrinkage" in pair else ("parametric",)
    if "textbook" in pair:
        return [Case(pair)]
    found = []
    if "NUTS" not in pair and ("impute" not in pair or "uncertain" in pair):
        found += [Case(pair, kind) for kind in kinds]
    if not pair & OF_EMPIRICAL_BAYES:
        worlds = [UPDATED_WORLD] if "update" in pair else WORLDS
        large_enough = [world for world in worlds if pair & OF_THE_FIT <= world and not refused_parts(pair | world)]
        large_enough = sorted(large_enough, key=len)
        found += [Case(pair | world | {"NUTS"}) for world in large_enough[:1]]
    return found


CELLS = documented()
REASONS = reasons()
SUPPORTED = [(pair, case) for pair, said in CELLS if said == "yes" for case in cases(pair) or [None]]
# What PyMC compiles for a minute each; another world that it has to compile stays among the quick tests.
LONG_COMPILED = [
    {"NUTS", "several", "shared"},
    {"NUTS", "several", "update"},
    {"NUTS", "shared", "smooth"},
    {"NUTS", "subject"},
]
REFUSED = [(pair, said) for pair, said in CELLS if said.startswith("no ")]
TRIPLES = [
    "subject reference missing",
    "missing smooth adopt",
    "missing unseen log",
    "missing adopt log",
    "update federated missing",
    "several missing log",
]
TRIPLED = [case for triple in TRIPLES for case in cases(frozenset(triple.split()))]


def marks_of(case: Case | None) -> list[pytest.MarkDecorator]:
    """Mark what takes long to compile as slow."""
    slow = case is not None and any(abilities <= case.abilities for abilities in LONG_COMPILED)
    return [pytest.mark.slow] if slow else []


def name_of(value: object) -> str:
    return " x ".join(sorted(value)) if isinstance(value, frozenset) else str(value)


def test_the_table_has_one_cell_for_every_pair_and_no_other() -> None:
    expected = {frozenset(pair) for pair in combinations([*CHECKS, "textbook"], 2)}
    assert len(CELLS) == len(expected)
    assert {pair for pair, _ in CELLS} == expected


def test_every_cell_says_yes_or_no_or_nothing() -> None:
    assert [said for _, said in CELLS if not re.fullmatch(r"yes|no \d+|– [a-z]", said)] == []


def test_every_reason_is_that_of_a_cell_or_of_a_table() -> None:
    assert {said.removeprefix("no ") for _, said in REFUSED} | set(SITUATIONS) == set(REASONS)


def test_cells_that_ask_nothing_are_those_with_a_letter() -> None:
    assert {pair: said.removeprefix("– ") for pair, said in CELLS if said.startswith("–")} == MEANINGLESS
    letters = re.findall(r"^- \*\*([a-z])\*\*", DOCUMENT.read_text(), re.M)
    assert letters == sorted(set(MEANINGLESS.values()))


def test_the_textbook_form_is_a_model_and_takes_nothing_of_a_fit() -> None:
    # What makes letters a and b true.
    model = bc.build_model(study_of(Case(frozenset()), SITES), likelihood="observations")
    assert not any(hasattr(model, name) for name in ("harmonize", "update", "adopt", "draws", "save"))
    options = set(inspect.signature(bc.build_model).parameters)
    assert options.isdisjoint({"method", "shrinkage", "mean_only", "compat", "factors", "covariance", "uncertainty"})


def test_a_fit_has_one_estimator() -> None:
    # What makes letter c true.
    with pytest.raises(bc.BayesCombatError, match="Expected method to be 'nuts' or 'eb'"):
        bc.fit(study_of(Case(frozenset()), SITES), method=["nuts", "eb"])


@pytest.mark.parametrize(
    ("pair", "case"), [pytest.param(pair, case, marks=marks_of(case)) for pair, case in SUPPORTED], ids=name_of
)
def test_yes(pair: frozenset[str], case: Case | None, tmp_path: Path) -> None:
    assert pair not in MEANINGLESS and case is not None, f"nobody wrote how {name_of(pair)} is run"
    attempt(case, tmp_path)


@pytest.mark.parametrize(("pair", "said"), REFUSED, ids=name_of)
def test_no(pair: frozenset[str], said: str, tmp_path: Path) -> None:
    words = re.escape(REASONS[said.removeprefix("no ")])
    for kind in ("nonparametric", "none") if "shrinkage" in pair else ("parametric",):
        with pytest.raises(bc.BayesCombatError, match=words):
            attempt(Case(pair, kind), tmp_path)


@pytest.mark.parametrize("case", [pytest.param(case, marks=marks_of(case)) for case in TRIPLED], ids=name_of)
def test_three_at_a_time(case: Case, tmp_path: Path) -> None:
    attempt(case, tmp_path)


# ---------------------------------------------------------------- refusals that depend on the table


def site_and_software(**columns: Any) -> bc.Fit:
    """A fit by empirical Bayes with two batch variables, some columns of its table replaced."""
    rows = rows_of(Case(frozenset({"several"})), SITES).assign(**columns)
    return bc.fit(bc.Study.from_dataframe(rows, batch=["site", "software"], features=FEATURES), method="eb")


def adopt_known() -> None:
    first_fit(Case(frozenset())).adopt(rows_of(Case(frozenset()), [SITES[0], NEWCOMERS["adopt"]]))


def adopt_two_at_once() -> None:
    new = rows_of(Case(frozenset({"several"})), [NEWCOMERS["adopt"]])
    site_and_software().adopt(new.assign(software="7"))


def unseen_level_of_a_variable_of_one() -> None:
    rows = rows_of(Case(frozenset({"several"})), SITES)
    site_and_software(software="5").harmonize(rows, unseen="prior")


def adopted_level_of_a_variable_of_one() -> None:
    rows = rows_of(Case(frozenset({"several"})), SITES)
    site_and_software(software="5").adopt(rows[rows["software"] == "6"])


def aliased() -> None:
    site_and_software(software=lambda rows: rows["site"] == SITES[0])


def fitted_rows_of_moments() -> None:
    _ = first_fit(Case(frozenset({"federated"}))).harmonized


SITUATIONS: dict[str, list[Callable[[], None]]] = {
    "6": [adopt_known],
    "7": [adopt_two_at_once],
    "8": [unseen_level_of_a_variable_of_one, adopted_level_of_a_variable_of_one],
    "9": [aliased],
    "10": [fitted_rows_of_moments],
}


@pytest.mark.parametrize(
    ("number", "refused"),
    [(number, refused) for number, found in SITUATIONS.items() for refused in found],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_no_for_this_table(number: str, refused: Callable[[], None]) -> None:
    with pytest.raises(bc.BayesCombatError, match=re.escape(REASONS[number])):
        refused()


# ---------------------------------------------------------------- what the less obvious ones mean


def test_a_reference_of_several_variables_need_hold_no_scan() -> None:
    rows = rows_of(Case(frozenset({"several"})), SITES)
    rows = rows[(rows["site"] != "site_02") | (rows["software"] != "6")]
    study = bc.Study.from_dataframe(
        rows, batch=["site", "software"], features=FEATURES, reference={"software": "6", "site": "site_02"}
    )
    fit = bc.fit(study, method="eb")
    gamma = fit.parameters["gamma"].sel(batch=["site=site_02", "software=6"])
    assert (gamma == 0).all() and fit.harmonized.attrs["target"] == "site_02 / 6"
    new = rows.head(3).assign(site="site_02", software="6")
    np.testing.assert_array_equal(fit.harmonize(new)["mean"], new[FEATURES])


@pytest.mark.parametrize("method", ["eb", "nuts"])
def test_an_unseen_batch_is_the_same_before_and_after_another_was_adopted(method: str) -> None:
    case = Case(frozenset(UPDATED_WORLD | ({"NUTS"} if method == "nuts" else set())))
    fit, rows = first_fit(case), rows_of(case, [NEWCOMERS["unseen"]])
    adopted = fit.adopt(newcomer(case, "adopt"))
    xr.testing.assert_identical(adopted.harmonize(rows, unseen="prior"), fit.harmonize(rows, unseen="prior"))


def test_updating_an_adopted_fit_is_the_fit_to_everything() -> None:
    case = Case(frozenset({"missing"}))
    fit = first_fit(case).adopt(newcomer(case, "adopt")).update(newcomer(case, "update"))
    everything = (*SITES, NEWCOMERS["update"], NEWCOMERS["adopt"])
    rows = rows_of(case, everything)
    assert_same(case, fit.harmonize(rows)["mean"], first_fit(case, everything).harmonize(rows)["mean"])
    assert "Adopted" not in fit.verdict


def test_a_feature_that_a_new_site_never_measured_changes_no_other_without_shrinkage() -> None:
    case = Case(frozenset({"missing"}), "none")
    new = rows_of(case, [NEWCOMERS["adopt"]])
    fit = bc.fit(study_of(case, SITES), method="eb", shrinkage="none")
    whole = fit.adopt(new).harmonize(new)["mean"]
    holed = fit.adopt(new.assign(feature_2=np.nan)).harmonize(new)["mean"]
    others = [name for name in FEATURES if name != "feature_2"]
    np.testing.assert_allclose(holed.sel(feature=others), whole.sel(feature=others), rtol=1e-12)
    np.testing.assert_array_equal(np.isfinite(holed), new[FEATURES].notna())


def test_a_feature_that_a_new_site_never_measured_is_less_sure_there_by_nuts() -> None:
    case = Case(frozenset(UPDATED_WORLD | {"NUTS"}))
    new = rows_of(case, [NEWCOMERS["adopt"]])
    fits = [first_fit(case).adopt(rows) for rows in (new, new.assign(feature_2=np.nan))]
    bounds = [np.log(fit.harmonize(new)[["lower", "upper"]].sel(feature="feature_2")) for fit in fits]
    measured, unmeasured = (float((part["upper"] - part["lower"]).mean()) for part in bounds)
    assert unmeasured > 1.5 * measured
