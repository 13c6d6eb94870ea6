"""How to make the same fit again: data, versions, seed, and a call in Python."""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from bayescombat.estimation import priors_in, shared_factors_in
from bayescombat.priors import Priors
from bayescombat.report.computation import fitted_versions
from bayescombat.report.held import Held
from bayescombat.report.pieces import Fact
from bayescombat.storage import versions

__all__ = ["equivalent_call", "facts", "of_versions"]

# Names of more features than this are not written out.
MOST_NAMES = 12
# Bits of the result do not hang on these.
NOT_TOLD = ("cores", "progress_bar")


def facts(held: Held) -> list[Fact]:
    """Return what was given: rows, formula, seed and settings."""
    spec, settings = held.fit.layout.spec, held.fit.settings
    found = [Fact("Table", f"{held.scans:,} scans × {len(spec.features):,} features")]
    if held.study is not None:
        checksum = hashlib.sha256(held.study.y.tobytes()).hexdigest()
        found.append(Fact("SHA-256 of the rows’ values, fit.study.y.tobytes()", checksum))
    found.append(Fact("Formula", spec.formula or "none"))
    found += [Fact("Formula of what is removed", spec.remove)] if spec.remove else []
    seed = settings.get("seed")
    found.append(Fact("Seed", str(seed) if seed is not None else "none: nothing is drawn"))
    shown = {name: value for name, value in settings.items() if name not in ("seed", "progress_bar")}
    found.append(Fact("Settings", ", ".join(f"{name}={value!r}" for name, value in shown.items())))
    return found


def of_versions(held: Held) -> list[Fact]:
    """Return the versions that the fit was made with, and where another one made this report."""
    now, found = versions(), []
    for name, version in fitted_versions(held).items():
        here = now.get(name, version)
        found.append(Fact(name, version if here == version else f"{version} (this report: {here})"))
    return found


def equivalent_call(held: Held) -> str:
    """Return Python that fits the same table again."""
    parts = [
        "import bayescombat as bc",
        "",
        *_features(held),
        _call("study = bc.Study.from_dataframe", "table", _of_study(held)),
        _call("fit = bc.fit", "study", _of_fit(held)),
    ]
    if held.adopted:
        parts.append(f"fit = fit.adopt(scans)  # the scans of {', '.join(map(repr, held.adopted))}")
    return "\n".join(parts)


def _features(held: Held) -> list[str]:
    names = list(held.fit.layout.spec.features)
    if len(names) <= MOST_NAMES:
        return []
    return [f"features = [{names[0]!r}, {names[1]!r}, ...]  # {len(names):,} names: fit.layout.spec.features", ""]


def _of_study(held: Held) -> dict[str, str]:
    """Return the arguments of the study, as code."""
    spec, reference = held.fit.layout.spec, held.fit.layout.reference
    names = list(spec.features)
    given: dict[str, Any] = {"batch": spec.batch[0] if len(spec.batch) == 1 else list(spec.batch)}
    given |= {"covariates": spec.formula} if spec.formula else {}
    given |= {"remove": spec.remove} if spec.remove else {}
    given |= {"smooth": {smooth.column: len(smooth.weights) for smooth in spec.smooths}} if spec.smooths else {}
    given |= {"subject": spec.subject} if spec.subject is not None else {}
    given |= {"transform": spec.transform} if spec.transform is not None else {}
    given |= {"reference": reference} if reference is not None else {}
    code = {name: repr(value) for name, value in given.items()}
    return code | {"features": repr(names) if len(names) <= MOST_NAMES else "features"}


def _of_fit(held: Held) -> dict[str, str]:
    """Return the arguments of the fit, as code; those of empirical Bayes that are the default are left out."""
    fit = held.fit
    settings, asked = fit.settings, fit.asked
    if held.nuts:
        given = {name: value for name, value in settings.items() if name not in NOT_TOLD}
        given |= {"shared_factors": shared_factors_in(fit.tree.attrs)} if asked.factors == 0 else {}
        given |= {"mean_only": True} if fit.mean_only else {}
        given |= {"robust": True} if held.robust else {}
        code = {"method": "'nuts'"} | {name: repr(value) for name, value in given.items()} | _priors(held)
    else:
        default = {"shrinkage": "parametric", "mean_only": False, "compat": None, "shared_factors": 0}
        given = {name: value for name, value in settings.items() if default.get(name, None) != value}
        code = {"method": "'eb'"} | {name: repr(value) for name, value in given.items()}
    code |= {"factors": repr(asked.factors)} if asked.factors != 0 else {}
    code |= {"factors_despite_covariates": "True"} if asked.despite_covariates else {}
    return code | ({"covariance": repr(asked.share)} if asked.share else {})


def _priors(held: Held) -> dict[str, str]:
    """Return the priors that are not the default, as code."""
    given = priors_in(held.fit.tree.attrs)
    default = Priors().mean_only() if held.fit.mean_only else Priors()
    differing = {name: value for name, value in asdict(given).items() if value != getattr(default, name)}
    words = ", ".join(f"{name}={value!r}" for name, value in differing.items())
    return {"priors": f"bc.Priors({words})"} if differing else {}


def _call(function: str, first: str, arguments: Mapping[str, str]) -> str:
    lines = [f"    {first},", *(f"    {name}={value}," for name, value in arguments.items())]
    return "\n".join([f"{function}(", *lines, ")"])
