"""report(): a fit as one file that a browser shows and an author can paste from."""

import base64
import hashlib
import os
from functools import cache
from importlib.resources import files
from typing import Any

from bayescombat.diagnose.findings import SEVERITIES
from bayescombat.errors import DataError
from bayescombat.evaluate import Evaluation
from bayescombat.fit import Fit
from bayescombat.plots.canvas import check_matplotlib
from bayescombat.plots.choosing import check_fit
from bayescombat.report import attention, effects, glance, judged, reproduction, sampler
from bayescombat.report.computation import UNKNOWN
from bayescombat.report.held import Held
from bayescombat.report.limits import limits
from bayescombat.report.methods import methods_of
from bayescombat.report.pictures import pictures_of
from bayescombat.report.pieces import counted, united
from bayescombat.storage import moved_into_place, versions

__all__ = ["report"]

# What findings of each gravity are called here, where the fit is made already.
GRAVITIES = {**SEVERITIES, "error": "Wrong"}


def report(
    fit: Fit, path: str | os.PathLike[str], *, evaluation: Evaluation | None = None, call: str | None = None
) -> None:
    """Write a fit as one page of HTML, whole or not at all.

    The page holds all that it shows, figures included, and asks the network for nothing. It has the study at a glance,
    what to look at in words, what the draws are worth, an evaluation, effects of the batches with their uncertainty,
    the features that were changed most, a methods paragraph with citations that an author can paste, how to make the
    same fit again, and what the numbers do not mean.

    Parameters
    ----------
    fit : Fit
        Any. Of one that holds no rows, or no moments, the page says what is not there and why.
    path : path-like
        Where to write to, such as ``"report.html"``. An older file there is replaced once the new one is complete.
    evaluation : Evaluation, optional
        What `bayescombat.evaluate` found of the fit; without it the page says how to get one.
    call : str, optional
        How the fit was made, such as the command that was typed, which the page repeats as it is.

    Raises
    ------
    DataError
        If this is no fit or no evaluation, or the evaluation is one of other features.
    FileNotFoundError
        If there is no folder to write into.
    ImportError
        If matplotlib, which draws the figures, is not installed: ``pip install 'pymc-combat[plot]'``.

    Notes
    -----
    A fit that holds its rows is harmonized, which takes as long as `Fit.harmonized` does, and `bayescombat.diagnose`
    looks its rows over. All names, labels and formulas are shown as text, whatever they hold.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bc.report(bc.fit(study, method="eb"), f"{folder}/report.html")
    ...     Path(folder, "report.html").read_text(encoding="utf-8")[:15]
    '<!doctype html>'
    """
    check_fit(fit)
    judged.check_evaluation(evaluation, fit)
    if call is not None and not isinstance(call, str):
        raise DataError(f"Expected call as text, found {type(call).__name__}. Give what was typed.")
    check_matplotlib()
    # The place is looked at before the page is made, which takes seconds.
    with moved_into_place(path) as beside:
        beside.write_text(_page(fit, evaluation, call), encoding="utf-8", newline="\n")


def _page(fit: Fit, evaluation: Evaluation | None, call: str | None) -> str:
    """Return the page."""
    # jinja2 is imported when the first report is made.
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("bayescombat.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    style, script = (Markup(_text(name)) for name in ("report.css", "report.js"))
    context = _context(Held.by(fit), evaluation, call)
    # What the package itself wrote; all else is escaped.
    drawn = {name: Markup(figure.svg) for name, figure in context["pictures"].figures.items()}
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("report.html").render(
        context, style=style, script=script, digest=digest, drawn=drawn
    )


@cache
def _text(name: str) -> str:
    return files("bayescombat.report").joinpath(name).read_text(encoding="utf-8")


def _context(held: Held, evaluation: Evaluation | None, call: str | None) -> dict[str, Any]:
    """Return what the page is made of."""
    found, methods = attention.items(held), methods_of(held, evaluation)
    layout = held.fit.layout
    sizes = [f"{size} batches of {name}" for name, size in zip(layout.levels.active, layout.levels.sizes, strict=True)]
    title = f"{counted(len(layout.features), 'feature')} harmonized across {united(sizes)}"
    return {
        "title": title,
        "lede": _lede(held),
        "banner": attention.banner(held, found),
        "facts": glance.facts(held),
        "batches": glance.of_batches(held),
        "covariates": glance.of_covariates(held),
        "aside": glance.of_what_was_set_aside(held),
        "findings": {
            heading: [item for item in found if item.severity == severity] for severity, heading in GRAVITIES.items()
        },
        "without_rows": attention.without_rows(held),
        "nuts": held.nuts,
        "sampler": sampler,
        "held": held,
        "evaluation": evaluation,
        "judged": judged,
        "effects": effects,
        "pictures": pictures_of(held, evaluation),
        "methods": methods,
        "versions": reproduction.of_versions(held),
        "reproduction": reproduction.facts(held),
        "python": reproduction.equivalent_call(held),
        "call": call,
        "limits": limits(held, evaluation),
        "made_by": "" if versions()["pymc-combat"] == UNKNOWN else versions()["pymc-combat"],
    }


def _lede(held: Held) -> str:
    method = "Full Bayes, sampled by NUTS" if held.nuts else "Empirical Bayes"
    return f"{method}: {held.scans:,} scans, harmonized to {glance.target(held)}."
