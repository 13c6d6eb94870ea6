"""How a fit was computed and evaluated, in words that an author can paste."""

import json

import numpy as np
import xarray as xr

from bayescombat.evaluate import Evaluation
from bayescombat.report.held import Held
from bayescombat.report.pieces import counted, number
from bayescombat.report.references import Citing
from bayescombat.report.sampler import whole, worst
from bayescombat.verdict import bfmi

__all__ = ["UNKNOWN", "by_empirical_bayes", "by_sampling", "evaluated", "fitted_versions"]

# What stands for the version of a package that was imported from its sources.
UNKNOWN = "not installed"
COMPILERS = {"jax": "JAX", "numba": "Numba"}


def fitted_versions(held: Held) -> dict[str, str]:
    """Return the versions that the fit was made with."""
    found: dict[str, str] = json.loads(held.fit.tree.attrs.get("versions", "{}"))
    return found


def by_sampling(held: Held, cite: Citing) -> list[str]:
    """Say how the posterior was sampled, and what the draws are worth."""
    settings, stats = held.fit.settings, held.fit.tree["sample_stats"].to_dataset()
    chains, draws = stats.sizes["chain"], stats.sizes["draw"]
    sizes = (
        "Every value stood in the likelihood."
        if held.robust
        else "The likelihood was computed from sizes, means and cross-products, which are sufficient for it."
    )
    each = " each" if chains > 1 else ""
    found = [
        f"Computations were done in {_package(held)}. The model is written in PyMC{_version(held, 'pymc')} "
        f"{cite('abrilpla2023')}; its posterior was sampled with the No-U-Turn sampler {cite('hoffman2014')} of nutpie"
        f"{_version(held, 'nutpie')}, the density being compiled by {COMPILERS[settings['backend']]}: "
        f"{counted(chains, 'chain')} of {draws:,} draws{each}, after "
        f"{settings['tune']:,} steps of warm-up, with a target acceptance of {settings['target_accept']:g} and the "
        f"seed {settings['seed']}.",
        sizes,
    ]
    if chains * draws < settings["draws"] * settings["chains"]:
        asked = f"{counted(settings['chains'], 'chain')} of {settings['draws']:,}"
        found.append(f"Sampling was interrupted: {asked} draws had been asked for.")
    return [*found, _converged(held, stats, cite)]


def _converged(held: Held, stats: xr.Dataset, cite: Citing) -> str:
    """Say what diagnostics say of the draws."""
    figures, divergent = worst(held), int(stats["diverging"].sum())
    rhat = f"R-hat at most {number(figures['rhat'], 3)}" if np.isfinite(figures["rhat"]) else "R-hat not known"
    bulk, tail = (whole(figures[name]) for name in ("ess_bulk", "ess_tail"))
    said = (
        f"{rhat}, bulk effective sample size at least {bulk}, tail effective sample size at least {tail} "
        f"{cite('vehtari2021')}, {counted(divergent, 'divergent transition')}, E-BFMI at least "
        f"{number(float(bfmi(stats).min()))} {cite('betancourt2016')}"
    )
    if held.fit.converged:
        return f"Chains were judged to have converged: {said}."
    return f"The draws did not meet the criteria of convergence and should not be relied on: {said}."


def by_empirical_bayes(held: Held) -> list[str]:
    """Say what the estimates were computed with."""
    numpy = _version(held, "numpy")
    found = [f"Computations were done in {_package(held)} with NumPy{numpy}."]
    if held.sure:
        found.append(f"Draws given the estimates have the seed {held.fit.settings['seed']}.")
    if not held.fit.converged:
        found.append("The estimates of some batches had not come to a standstill and should not be relied on.")
    return found


def _package(held: Held) -> str:
    return f"bayescombat{_version(held, 'pymc-combat')} (Python package pymc-combat)"


def _version(held: Held, name: str) -> str:
    found = fitted_versions(held).get(name, UNKNOWN)
    return "" if found == UNKNOWN else f" {found}"


def evaluated(evaluation: Evaluation, cite: Citing) -> list[str]:
    """Say how removal and preservation were evaluated, and what was found."""
    data = evaluation.dataset
    folds, judged = int(data["fold"].max()) + 1, int((data["fold"] >= 0).sum())
    design, _, how = str(data.attrs["design"]).partition(". ")
    where = f"on scans that were held out in turn ({judged:,} scans in {folds} folds; {how.rstrip('.')})"
    if design.startswith("In-sample"):
        where = f"on the scans that were learned from ({judged:,}), which makes removal look better than it is"
    found = [f"Removal of batch effects and preservation of all else were evaluated {where}."]
    for metric in map(str, data["metric"].values):
        variable, _, kind = metric.partition(": ")
        if kind == "share of variance":
            what = f"The share of the median feature’s variance that {variable} explains beyond covariates"
            what += f" {cite('boedigheimer2008')}"
        elif kind == "logistic regression":
            what = f"The balanced accuracy {cite('brodersen2010')} of a logistic regression that predicts {variable}"
        elif kind == "effect":
            what = f"The effect of {variable} in an analysis without batch, relative to that within batches,"
        else:
            continue
        found.append(f"{what} was {_before_and_after(data.sel(metric=metric), kind)}.")
    return found


def _before_and_after(one: xr.Dataset, kind: str) -> str:
    """Return the estimates of a metric in raw and in harmonized values, with what is expected of it."""
    raw, *others = (number(float(value)) for value in one["estimate"].values)
    names = [str(name) for name in one["table"].values[1:]]
    after = (
        others[0]
        if len(others) == 1
        else ", ".join(f"{value} ({name})" for value, name in zip(others, names, strict=True))
    )
    expected = "" if kind == "effect" else f" (chance {number(float(one['expected']))})"
    return f"{raw} before and {after} after harmonization{expected}"
