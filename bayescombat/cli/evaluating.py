"""``diagnose`` and ``evaluate``."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
from typer import BadParameter, Exit

import bayescombat
from bayescombat.cli.fits import fit_at, fitted, settings_of
from bayescombat.cli.flattening import flattened
from bayescombat.cli.modelling import Model, Sampling
from bayescombat.cli.options import Columns, Force, Quiet, Reading, TablePath, given, option
from bayescombat.cli.paths import Output, check_outputs
from bayescombat.cli.studies import read, study_by_design, study_of
from bayescombat.cli.voice import Voice, as_options, speaking
from bayescombat.errors import OverlapWarning
from bayescombat.evaluate import Evaluation
from bayescombat.evaluate.harmonizers import Refit
from bayescombat.fit import Fit
from bayescombat.study import Study
from bayescombat.tables import TableFile, write_dataset, write_frame

__all__ = ["diagnose", "evaluate"]

JUDGING = "Evaluation"
REFUSED = 1


@flattened
def diagnose(
    table: TablePath,
    columns: Columns,
    out: Annotated[Path | None, option("Where the figures go (.nc).", "--out", "-o", metavar="FILE")] = None,
    force: Force = False,
    quiet: Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Look a table over before anything is fitted: what to put right, what to look at, what is good to know.

    Ends with 1 if a fit would be refused.

    bayescombat diagnose table.csv --batch site --covariates 'age + sex'
    """
    if out is not None:
        check_outputs([Output("--out", out, (".nc",))], force, [table])
    with speaking(quiet) as voice:
        file = read(table, reading, voice)
        # The findings say it too.
        warnings.simplefilter("ignore", OverlapWarning)
        found = bayescombat.diagnose(study_of(file, columns))
        voice.show(as_options(repr(found)))
        voice.warn()
        if out is not None:
            write_dataset(found.dataset, out)
            voice.say(f"Written: {out}")
    if any(finding.severity == "error" for finding in found.findings):
        raise Exit(REFUSED)


@dataclass(frozen=True)
class Judging:
    """How a harmonization is judged."""

    fit: Annotated[
        Path | None,
        option(
            "A fit that was saved: its method and settings are evaluated, on the columns that it names.",
            "--fit",
            metavar="FILE",
            panel=JUDGING,
        ),
    ] = None
    refit: Annotated[
        Refit,
        option(
            "How a fit by NUTS is repeated: with fewer draws, with all its settings, or by eb instead.",
            "--refit",
            panel=JUDGING,
            show_default=True,
        ),
    ] = "quick"
    folds: Annotated[
        int,
        option(
            "Parts that are held out in turn.", "--folds", metavar="NUMBER", min=2, panel=JUDGING, show_default=True
        ),
    ] = 5
    permutations: Annotated[
        int,
        option(
            "Exchanges of labels that say what chance does.",
            "--permutations",
            metavar="NUMBER",
            min=1,
            panel=JUDGING,
            show_default=True,
        ),
    ] = 200


@flattened
def evaluate(
    table: TablePath,
    columns: Columns,
    judging: Judging,
    out: Annotated[
        Path | None,
        option(
            "Where the figures go: a table of them (.csv, .tsv, .xlsx, .parquet) or all (.nc).",
            "--out",
            "-o",
            metavar="FILE",
        ),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    *,
    model: Model,
    sampling: Sampling,
    reading: Reading,
) -> None:
    """Say what a harmonization removes of the batches, and what it preserves, on scans that were held out.

    bayescombat evaluate table.csv --batch site --covariates 'age + sex' --method eb --out evaluation.csv
    """
    said = [name for name in given(columns, model, sampling) if name != "--seed"]
    if judging.fit is not None and said:
        raise BadParameter(f"Expected none of these beside --fit, which says them, found {said[0]}.")
    if out is not None:
        check_outputs([Output("--out", out)], force, [table])
    with speaking(quiet) as voice:
        file = read(table, reading, voice)
        study, known = _known(judging.fit, file) if judging.fit else _fitted(file, columns, model, sampling, voice)
        if not known.converged:
            voice.caution(known.verdict)
        found = bayescombat.evaluate(
            study,
            known,
            refit=judging.refit,
            folds=judging.folds,
            permutations=judging.permutations,
            seed=sampling.seed,
            progress_bar=voice.bars,
        )
        voice.show(repr(found))
        voice.warn()
        _write(found, out, voice)


def _known(path: Path, file: TableFile) -> tuple[Study, Fit]:
    known = fit_at(path)
    reference = known.layout.reference
    return study_by_design(file, known.layout.spec, reference), known


def _fitted(file: TableFile, columns: Columns, model: Model, sampling: Sampling, voice: Voice) -> tuple[Study, Fit]:
    study = study_of(file, columns)
    settings = settings_of(model, sampling, False, voice)
    if model.method == "eb":
        # The seed is then of the folds alone.
        settings.pop("seed", None)
    return study, fitted(study, settings, voice)


def _write(found: Evaluation, out: Path | None, voice: Voice) -> None:
    if out is None:
        return
    if out.name.lower().endswith(".nc"):
        write_dataset(found.dataset, out)
    else:
        write_frame(figures(found), out)
    voice.say(f"Written: {out}")


def figures(found: Evaluation) -> pd.DataFrame:
    """Return a row for every metric of every table."""
    data = found.dataset[["estimate", "sd", "lower", "upper", "p", "expected"]]
    frame = data.to_dataframe(dim_order=["metric", "table"]).reset_index()
    return frame[["metric", "kind", "table", *data.data_vars, "meaning"]]
