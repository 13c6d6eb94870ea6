"""``harmonize``, ``apply`` and ``update``."""

from pathlib import Path
from typing import Annotated

from typer import Argument, BadParameter, Context, Exit

from bayescombat.batches import Levels
from bayescombat.cli.fits import (
    check_probability_of,
    check_rows,
    describe,
    fit_at,
    fitted,
    outputs_of,
    save,
    settings_of,
    silenced,
    trusted_code,
    write_rows,
)
from bayescombat.cli.flattening import flattened
from bayescombat.cli.modelling import Model, Sampling
from bayescombat.cli.options import (
    Columns,
    FitPath,
    Force,
    NewPath,
    Quiet,
    Reading,
    Rows,
    Saving,
    TablePath,
    UnseenBatches,
    flag,
    given,
    option,
)
from bayescombat.cli.paths import Output, check_outputs
from bayescombat.cli.reporting import check_plots, write_report
from bayescombat.cli.studies import read, study_by_design, study_of
from bayescombat.cli.voice import Voice, speaking
from bayescombat.fit import Fit
from bayescombat.moments import Moments
from bayescombat.study import Study
from bayescombat.tables import kind_in

__all__ = ["apply", "harmonize", "holds_moments", "update"]

ScansPath = Annotated[
    Path, Argument(help="A table of scans, or moments of them (.nc).", metavar="NEW", show_default=False)
]
ReportPath = Annotated[Path | None, option("Where a report of the fit goes (.html).", "--report", metavar="FILE")]


@flattened
def harmonize(
    context: Context,
    table: TablePath,
    columns: Columns,
    rows: Rows,
    saving: Saving,
    report: ReportPath = None,
    force: Force = False,
    quiet: Quiet = False,
    *,
    model: Model,
    sampling: Sampling,
    reading: Reading,
) -> None:
    """Fit a table and write it without the effects of its batches.

    All columns come out in their order; those that are not harmonized stay as they were, to the letter in a text file.
    The fit can be kept (--save) for new rows. TABLE may also be merged moments of sites; then there is a fit alone.

    bayescombat harmonize table.csv --batch site --covariates 'age + sex' --features '_thickness$' --out harmonized.csv
    --save fit.nc --report report.html
    """
    check_probability_of(rows)
    if report is not None and rows.target:
        raise BadParameter(
            "Expected --reference in place of --target beside --report, which says what values of the fit's own target "
            "are. Or harmonize to another batch later: bayescombat apply FIT TABLE --target ...",
            param_hint="--target",
        )
    outputs = outputs_of(rows, saving, report)
    check_outputs(outputs, force, [table])
    check_plots(report)
    with speaking(quiet) as voice:
        settings = settings_of(model, sampling, rows.uncertainty or rows.probability is not None, voice)
        if holds_moments(table):
            _check_moments_alone(columns, rows)
            found = fitted(Moments.load(table), settings, voice)
            describe(found, voice)
            save(found, saving, context.obj, voice)
        else:
            file = read(table, reading, voice)
            study = study_of(file, columns)
            check_rows(rows, file, study, Levels.of(study.spec.batch, study.batches))
            found = fitted(study, settings, voice)
            describe(found, voice)
            # The fit first: rows can be had of it again.
            save(found, saving, context.obj, voice)
            write_rows(found, study, file, rows, voice)
        write_report(found, report, context.obj, voice)
    raise Exit(_ended(trusted_code(found), voice))


def holds_moments(path: Path) -> bool:
    """Tell whether a file holds the moments of scans rather than a table."""
    return path.name.lower().endswith(".nc") and path.expanduser().is_file() and kind_in(path) == "moments"


def _check_moments_alone(columns: Columns, rows: Rows) -> None:
    used = given(columns)
    if used:
        raise BadParameter(
            f"Expected none of these for moments, whose design says what the columns are, found {used[0]}."
        )
    if rows.out is not None:
        raise BadParameter(
            "Expected --save alone for moments, which hold no rows, found --out. Sites harmonize their rows with: "
            "bayescombat apply FIT TABLE --out ...",
            param_hint="--out",
        )


def _ended(code: int, voice: Voice) -> int:
    if code:
        voice.caution("The fit did not converge: what was written is not to be trusted as it stands.")
    return code


@flattened
def apply(
    fit: FitPath,
    table: NewPath,
    rows: Rows,
    unseen: UnseenBatches = "error",
    force: Force = False,
    quiet: Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Harmonize any rows by a fit that was saved.

    The rows' batches have to be known to the fit, and its columns to be there.

    bayescombat apply fit.nc new.csv --out new_harmonized.csv
    """
    check_probability_of(rows)
    check_outputs([Output("--out", rows.out)], force, [table, fit])
    with speaking(quiet) as voice:
        found = fit_at(fit)
        file = read(table, reading, voice)
        study = study_by_design(file, found.layout.spec)
        check_rows(rows, file, study, found.layout.levels)
        write_rows(found, study, file, rows, voice, unseen=unseen)
    raise Exit(_ended(trusted_code(found), voice))


@flattened
def update(
    context: Context,
    fit: FitPath,
    new: ScansPath,
    rows: Rows,
    saving: Saving,
    adopt: Annotated[
        bool,
        flag("Estimate new batches alone, and leave what was fitted before as it is.", "--adopt"),
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Fit again with more scans, of known or new batches, without the rows of before.

    NEW is a table of the new scans, or a site's moments of them. The new fit holds no rows, with --adopt those that FIT
    holds; --out gets the new ones, harmonized by it. Earlier rows are to be harmonized again, unless there is a
    reference batch, or --adopt.

    bayescombat update fit.nc new.csv --save updated.nc
    """
    check_probability_of(rows)
    check_outputs([Output("--save", saving.save, (".nc",)), Output("--out", rows.out)], force, [new])
    with speaking(quiet) as voice:
        known = silenced(fit_at(fit), voice)
        if holds_moments(new):
            _check_moments_alone(Columns(), rows)
            found = _learned(known, Moments.load(new), adopt)
            describe(found, voice)
            save(found, saving, context.obj, voice)
        else:
            file = read(new, reading, voice)
            study = study_by_design(file, known.layout.spec)
            check_rows(rows, file, study, known.layout.levels)
            found = _learned(known, study, adopt)
            describe(found, voice)
            save(found, saving, context.obj, voice)
            write_rows(found, study, file, rows, voice)
    raise Exit(_ended(trusted_code(found), voice))


def _learned(known: Fit, new: Study | Moments, adopt: bool) -> Fit:
    return known.adopt(new) if adopt else known.update(new)
