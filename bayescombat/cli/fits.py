"""Options to a fit, and what is told and written of it."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from typer import BadParameter

from bayescombat.batches import Levels
from bayescombat.cli.modelling import Model, Sampling
from bayescombat.cli.options import Rows, Saving
from bayescombat.cli.paths import Output
from bayescombat.cli.studies import label_of
from bayescombat.cli.voice import Voice, as_options
from bayescombat.errors import DataError
from bayescombat.fit import Fit, fit, load
from bayescombat.fit.harmonization import target_cell
from bayescombat.moments import Moments
from bayescombat.study import Study
from bayescombat.tables import TableFile, check_added, write_table

__all__ = [
    "NOT_TO_BE_TRUSTED",
    "check_rows",
    "check_probability_of",
    "describe",
    "fit_at",
    "fitted",
    "outputs_of",
    "save",
    "settings_of",
    "silenced",
    "trusted_code",
    "write_rows",
]

NOT_TO_BE_TRUSTED = 3
USUAL_PROBABILITY = 0.9


def settings_of(model: Model, sampling: Sampling, uncertainty: bool, voice: Voice) -> dict[str, Any]:
    """Return the arguments of `bayescombat.fit` that the options say; what was not said is left to it.

    Raises
    ------
    BadParameter
        If a number of factors is neither a number nor "auto".
    """
    settings: dict[str, Any] = {
        "method": model.method,
        "mean_only": model.mean_only,
        "robust": model.robust,
        "factors_despite_covariates": model.factors_despite_covariates,
        "covariance": model.covariance or False,
        "shared_factors": _count(model.shared_factors, "--shared-factors"),
        "factors": _count(model.factors, "--factors") or 0,
    }
    given = {**vars(sampling), "shrinkage": model.shrinkage, "compat": model.compat}
    settings |= {name: value for name, value in given.items() if value is not None}
    if model.method == "nuts":
        settings["progress_bar"] = voice.bars
    elif uncertainty:
        settings["uncertainty"] = True
    return settings


def _count(text: str | None, option: str) -> Any:
    if text is None or text == "auto":
        return text
    if not text.isdecimal():
        raise BadParameter(f"Expected a number or auto, found {text!r}.", param_hint=option)
    return int(text)


def fit_at(path: Path) -> Fit:
    """Return a fit that was saved.

    Raises
    ------
    DataError
        If the path is that of something else, by its ending.
    """
    if path.is_file() and path.suffix.lower() != ".nc":
        raise DataError(
            f"Expected a fit, as --save writes it (.nc), found {str(path)!r}. Where a command takes a fit and a table, "
            "the fit comes first."
        )
    return load(path)


def fitted(data: Study | Moments, settings: dict[str, Any], voice: Voice) -> Fit:
    """Fit, and say that it takes its time where it does."""
    if settings["method"] == "nuts":
        voice.remark("Sampling by NUTS. Ctrl-C ends it with the draws so far.")
    return fit(data, **settings)


def silenced(known: Fit, voice: Voice) -> Fit:
    """Return a fit that, fitted again, shows its progress if somebody looks on now."""
    if known.method != "nuts":
        return known
    tree = known.tree.copy()
    tree.attrs = dict(known.tree.attrs) | {"settings": json.dumps(known.settings | {"progress_bar": voice.bars})}
    return Fit(tree)


def describe(found: Fit, voice: Voice) -> None:
    """Say what was fitted, what it is worth, and what was warned of."""
    voice.say(as_options(repr(found)))
    voice.warn()


def save(found: Fit, saving: Saving, call: str, voice: Voice) -> None:
    """Save a fit if that is wanted, with the command that made it where the rows stay with it."""
    if saving.save is None:
        return
    tree = found.tree.copy()
    tree.attrs = dict(found.tree.attrs) | ({"call": call} if "observed_data" in tree else {})
    Fit(tree).save(saving.save, data=not saving.no_data, moments=not saving.no_moments)
    parts = [*(["rows"] if saving.no_data else []), *(["moments"] if saving.no_moments else [])]
    voice.say(f"Written: {saving.save}{f' (the fit, without its {" and ".join(parts)})' if parts else ' (the fit)'}")


def check_probability_of(rows: Rows) -> None:
    """Raise an error if there is no interval of this probability."""
    if rows.probability is not None and not 0 < rows.probability < 1:
        raise BadParameter(f"Expected a number between 0 and 1, found {rows.probability}.", param_hint="--probability")


def check_rows(rows: Rows, file: TableFile, study: Study, levels: Levels) -> None:
    """Raise an error, before anything long is done, if rows could not be harmonized or written as asked for.

    Parameters
    ----------
    rows : Rows
        What is asked for.
    file : TableFile
        The table of the rows.
    study : Study
        The same as a study.
    levels : Levels
        Those of the batches that are fitted.
    """
    target_cell(label_of(rows.target), levels)
    if rows.out is not None and not rows.out.name.lower().endswith(".nc"):
        check_added(rows.out, file, study.features, rows.suffixes)


def write_rows(found: Fit, study: Study, file: TableFile, rows: Rows, voice: Voice, **options: Any) -> None:
    """Harmonize the rows of a study, and write the table that they came from.

    Parameters
    ----------
    found : Fit
        The fit.
    study : Study
        The rows.
    file : TableFile
        Their table.
    rows : Rows
        Where to, and what.
    voice : Voice
        Says what was written.
    **options
        Of `Fit.harmonize`.

    Raises
    ------
    DataError
        If the fit does not say how sure it is, and is asked to.
    """
    if rows.out is None:
        return
    netcdf = rows.out.name.lower().endswith(".nc")
    probability = rows.probability or (USUAL_PROBABILITY if netcdf else None)
    data: xr.Dataset = found.harmonize(study, target=label_of(rows.target), probability=probability, **options)
    lacking = [name for name in rows.suffixes if name not in data]
    if lacking:
        raise DataError(
            "Expected a fit that says how sure it is for --uncertainty or --probability, found empirical Bayes "
            "without. Fit again with --uncertainty, or --method nuts."
        )
    lost = write_table(rows.out, file, data, rows.suffixes)
    voice.warn()
    voice.say(f"Written: {rows.out} ({_account(data, file.table, [] if netcdf else rows.suffixes)})")
    if lost:
        voice.remark(f"{rows.out}: columns that a netCDF file cannot hold are left out: {', '.join(lost)}.")


def _account(data: xr.Dataset, table: pd.DataFrame, suffixes: list[str]) -> str:
    aside = int(data["set_aside"].sum())
    count = data.sizes["feature"]
    parts = [f"{data.sizes['obs']} rows", f"{count - aside} columns harmonized"]
    parts += [f"{aside} set aside and as they were"] if aside else []
    others = len(set(table.columns) - set(data["feature"].values))
    parts += [f"{others} others as they were"] if others else []
    return "; ".join([*parts, *(f"{count} columns _{name} added" for name in suffixes)])


def outputs_of(rows: Rows, saving: Saving, report: Path | None) -> list[Output]:
    """Return the files that are to be written."""
    return [
        Output("--out", rows.out),
        Output("--save", saving.save, (".nc",)),
        Output("--report", report, (".html",)),
    ]


def trusted_code(found: Fit) -> int:
    """Return the exit code that says whether a fit is to be trusted."""
    return 0 if found.converged else NOT_TO_BE_TRUSTED
