"""``report``, and the report that ``harmonize`` writes."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from typer import Option

import bayescombat
from bayescombat.cli.fits import fit_at
from bayescombat.cli.options import FitPath, Force, Quiet, flag, option
from bayescombat.cli.paths import Output, check_outputs
from bayescombat.cli.voice import Voice, speaking
from bayescombat.errors import DataError
from bayescombat.fit import Fit

__all__ = ["check_plots", "report", "write_report"]


def report(
    fit: FitPath,
    out: Annotated[
        Path, Option("--out", "-o", metavar="FILE", help="Where the report goes (.html).", show_default=False)
    ],
    evaluate: Annotated[
        bool,
        flag(
            "Evaluate the harmonization too, on scans that were held out. The fit has to hold its rows.", "--evaluate"
        ),
    ] = False,
    seed: Annotated[int | None, option("Of the evaluation.", "--seed", metavar="NUMBER", min=0)] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Write a report of a fit: one page with pictures, for a browser.

    bayescombat report fit.nc --out report.html
    """
    check_outputs([Output("--out", out, (".html",))], force, [fit])
    check_plots(out)
    with speaking(quiet) as voice:
        found = fit_at(fit)
        evaluation = None
        if evaluate:
            if "observed_data" not in found.tree:
                raise DataError(
                    "Expected a fit that holds its rows for --evaluate, found one made of moments or saved without. "
                    "With the table at hand: bayescombat evaluate TABLE --fit FIT"
                )
            evaluation = bayescombat.evaluate(found.study, found, seed=seed, progress_bar=voice.bars)
        call = found.tree.attrs.get("call")
        bayescombat.report(found, out, evaluation=evaluation, call=None if call is None else str(call))
        voice.warn()
        voice.say(f"Written: {out}")


def check_plots(path: Path | None) -> None:
    """Raise an ImportError if there is to be a report, and nothing to draw its pictures."""
    if path is not None and find_spec("matplotlib") is None:
        raise ImportError(
            "Expected matplotlib for the pictures of a report, found that it is not installed. Install it: "
            "pip install 'pymc-combat[plot]'."
        )


def write_report(found: Fit, path: Path | None, call: str, voice: Voice) -> None:
    """Write the report of a fit if that is wanted, with the command that made it."""
    if path is None:
        return
    bayescombat.report(found, path, call=call)
    voice.warn()
    voice.say(f"Written: {path}")
