"""What a study of several batches is made of, its design learned from the same table."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayescombat.batches import Levels, named_cell
from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, listing
from bayescombat.study.overlap import warn_of_gaps
from bayescombat.study.reading import batch_cells, check_repeated, measured, positions, subject_labels
from bayescombat.study.reference import check_reference

__all__ = ["Asked", "Parts", "Reference", "learned_parts", "learned_rows"]

type Reference = str | Sequence[str] | Mapping[str, str]


class Asked(NamedTuple):
    """What a design is to be, in the words of `DesignSpec.learn`."""

    formula: str
    remove: str
    transform: str | None
    subject: str | None
    smooth: Mapping[str, int] | None = None


class Parts(NamedTuple):
    """The fields of a study, in their order."""

    y: np.ndarray
    x: np.ndarray
    codes: np.ndarray
    batches: tuple[str, ...]
    obs: pd.Index
    spec: DesignSpec
    reference: str | None
    subjects: np.ndarray | None
    sources: pd.DataFrame


def learned_parts(
    table: pd.DataFrame,
    variables: Sequence[str],
    features: Sequence[str],
    reference: Reference | None,
    asked: Asked,
    copy: bool = True,
) -> Parts:
    """Return the study of a table, checked; `copy` says whether measurements share no memory with it.

    The other parameters, and the errors, are those of `learned_rows`.
    """
    rows = learned_rows(table, variables, features, reference, asked)
    return Parts(measured(table, rows[4], copy), *rows, table[list(rows[4].sources)].copy())


def learned_rows(
    table: pd.DataFrame,
    variables: Sequence[str],
    features: Sequence[str],
    reference: Reference | None,
    asked: Asked,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...], pd.Index, DesignSpec, str | None, np.ndarray | None]:
    """Return the fields of a study without its measurements, checked.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans. It needs no columns of features.
    variables, features : sequence of str
        Names of the batch columns and of the features.
    reference : str, sequence of str, or mapping, optional
        Batch to harmonize to.
    asked : Asked
        What the design is to be.

    Raises
    ------
    DataError
        If there is one batch, the reference is none of them, no subject has several scans, or columns cannot be used.
    """
    cells = batch_cells(table, variables)
    levels = Levels.of(variables, dict.fromkeys(cells))
    batches = levels.sort(cells)
    if len(batches) < 2:
        raise DataError(
            f"Expected at least two batches in {listing(variables)}, found one: {listing(batches)}. "
            "Check the column; rows of one known batch are harmonized by a fit that knows it, and a site of a "
            "federated study uses Study.from_design."
        )
    codes = positions(cells, batches)
    name = None if reference is None else named_cell(reference, variables, "reference")
    if name is not None:
        check_reference(name, levels, batches, codes)
    spec, x = DesignSpec.learn_with_matrix(
        table,
        batch=variables,
        formula=asked.formula,
        features=features,
        transform=asked.transform,
        smooth=asked.smooth,
        subject=asked.subject,
        remove=asked.remove,
    )
    warn_of_gaps(table, spec.sources, levels, batches, codes)
    subjects = subject_labels(table, spec)
    check_repeated(subjects, asked.subject)
    return x, codes, batches, table.index, spec, name, subjects
