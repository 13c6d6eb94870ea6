"""Options to a study."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from typer import BadParameter

from bayescombat.cli.options import Columns, Reading
from bayescombat.cli.voice import Voice
from bayescombat.columns import is_numeric, warn
from bayescombat.design import DesignSpec, formula_text, parse
from bayescombat.errors import DataError, FeatureWarning, listing, suggestion
from bayescombat.study import Study
from bayescombat.tables import TableFile, read_table
from bayescombat.tables.cells import not_numbers, numbers_rows

__all__ = [
    "batch_columns",
    "check_numbers",
    "label_of",
    "read",
    "smooth_sizes",
    "study_by_design",
    "study_of",
    "wanted",
]

A_PATTERN = " A pattern has a --features of its own: --features age --features '_thickness$'."


def read(path: Path, reading: Reading, voice: Voice) -> TableFile:
    """Read a table, and say what was decided about how."""
    file = read_table(path, reading.how)
    for note in file.notes:
        voice.remark(note)
    return file


def study_of(file: TableFile, columns: Columns) -> Study:
    """Return the study that a table holds.

    Raises
    ------
    BadParameter
        If no batch is named, or options cannot be understood.
    DataError
        If the table cannot be used as it stands.
    """
    batch, smooth = batch_columns(columns), smooth_sizes(columns)
    features = wanted(file.table, columns)
    table = file.table
    if features is not None:
        check_numbers(table, features)
    elif numbers_rows(table) and table.columns[0] not in _roles(columns):
        warn(
            f"The first column, {table.columns[0]!r}, has whole numbers that are all different: it is taken for the "
            "names of rows, and not harmonized. Name it in --features if it is a feature.",
            FeatureWarning,
        )
        table = table.iloc[:, 1:]
    _check_commas(batch, table)
    return Study.from_dataframe(
        table,
        batch=batch,
        covariates=columns.covariates,
        features=features,
        remove=columns.remove,
        reference=label_of(columns.reference),
        subject=columns.subject,
        transform=columns.transform,
        smooth=smooth,
    )


def _check_commas(batch: Sequence[str], table: pd.DataFrame) -> None:
    """Raise a BadParameter if a batch column is several with commas between them."""
    for text in batch:
        names = [name.strip() for name in text.split(",")]
        if text not in table and all(name in table for name in names):
            again = " ".join(f"--batch {shlex.quote(name)}" for name in names)
            raise BadParameter(f"Expected one column, found {text!r}. Say {again}.", param_hint="--batch")


def study_by_design(file: TableFile, design: DesignSpec, reference: str | Sequence[str] | None = None) -> Study:
    """Return the study that a table holds by a design that was learned elsewhere."""
    check_numbers(file.table, [name for name in design.features if name in file.table])
    return Study.from_design(file.table, design, reference=reference)


def batch_columns(columns: Columns) -> list[str]:
    """Return the names of the batch columns.

    Raises
    ------
    BadParameter
        If there are none.
    """
    if not columns.batch:
        raise BadParameter("Missing: which column holds the batches?", param_hint="--batch")
    return columns.batch


def label_of(labels: Sequence[str] | None) -> str | list[str] | None:
    """Return the label of a batch, or one of each batch variable."""
    return None if not labels else labels[0] if len(labels) == 1 else list(labels)


def smooth_sizes(columns: Columns) -> dict[str, int] | None:
    """Return the sizes of smooths by the names of their columns.

    Raises
    ------
    BadParameter
        If one is not said as NAME=SIZE.
    """
    sizes = {}
    for text in columns.smooth or []:
        name, _, size = text.rpartition("=")
        if not name or not size.isdecimal():
            raise BadParameter(f"Expected NAME=SIZE, such as age=10, found {text!r}.", param_hint="--smooth")
        sizes[name] = int(size)
    return sizes or None


def wanted(table: pd.DataFrame, columns: Columns) -> list[str] | None:
    """Return the names of the features that --features says, in the order of the table; None if it says nothing.

    Raises
    ------
    DataError
        If a name or a pattern is not to be found.
    """
    if not columns.features:
        return None
    roles = _roles(columns)
    chosen: dict[str, None] = {}
    for text in columns.features:
        chosen |= dict.fromkeys(_chosen(text, table, roles))
    return [name for name in table.columns if name in chosen]


def _roles(columns: Columns) -> set[str]:
    read_by_formulas = parse(formula_text(columns.covariates), formula_text(columns.remove)).columns.values()
    others = [*(columns.batch or []), *(smooth_sizes(columns) or {}), *([columns.subject] if columns.subject else [])]
    return {*read_by_formulas, *others}


def _chosen(text: str, table: pd.DataFrame, roles: set[str]) -> list[str]:
    """Return the columns that a name, several with commas between them, or a pattern says."""
    names = [text] if text in table else [name.strip() for name in text.split(",")]
    if any(name in table for name in names):
        missing = [name for name in names if name not in table]
        if missing:
            raise DataError(
                f"Expected the features {listing(missing)} among the columns of the table, found no such column."
                f"{suggestion(missing[0], table.columns) if missing[0].isidentifier() else A_PATTERN}"
            )
        return names
    free = [name for name in table.columns if name not in roles]
    try:
        found = [name for name in free if re.search(text, name)]
    except re.error as error:
        raise DataError(
            f"Expected names or a regular expression for --features, found {text!r} ({error}). "
            "For all names that end in _thickness write '_thickness$'."
        ) from error
    if not found:
        near = suggestion(text.strip("^$.*"), free) or f" The table has {listing(free)}."
        raise DataError(f"Expected columns whose names match --features {text!r}, found none.{near}")
    return found


def check_numbers(table: pd.DataFrame, features: Sequence[str]) -> None:
    """Raise a DataError that shows a cell, if a feature is not of numbers."""
    texts = [name for name in features if not is_numeric(table[name])]
    for name in texts:
        other = not_numbers(table[name])
        if len(other):
            more = f" and {len(other) - 1} cells more" if len(other) > 1 else ""
            also = f" So it is in {listing(texts[1:])}." if name == texts[0] and len(texts) > 1 else ""
            raise DataError(
                f"Expected numbers in the feature {name!r}, found {other.iloc[0]!r} in the row "
                f"{str(other.index[0])!r}{more}.{also} Mend or clear these cells, or leave the column out of "
                "--features; for decimal commas say --decimal , (comma)."
            )
    if texts:
        raise DataError(
            f"Expected numbers in the features, found names such as {str(table[texts[0]].iloc[0])!r} in "
            f"{listing(texts)}. Leave these columns out of --features."
        )
