"""What a study of several batches is made of, its design learned from the same table."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import pandas as pd

from bayescombat.batches import Levels, named_cell
from bayescombat.columns import require, text_label
from bayescombat.design import DesignSpec, batch_names, check_variety, check_written, formula_text, parse, smooth_sizes
from bayescombat.errors import DataError, listing
from bayescombat.study.overlap import warn_of_gaps
from bayescombat.study.reading import (
    batch_cells,
    check_repeated,
    measured,
    positions,
    subject_labels,
    warn_of_spellings,
)
from bayescombat.study.reference import check_reference

__all__ = ["Asked", "Parts", "Reference", "Roles", "learned_parts", "learned_rows"]

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


class Roles(NamedTuple):
    """What columns of a table are to be."""

    variables: Sequence[str]
    reference: Reference | None
    asked: Asked

    @classmethod
    def of(
        cls,
        batch: str | Sequence[str],
        covariates: str | Sequence[str] | None,
        remove: str | Sequence[str] | None,
        reference: Reference | None,
        subject: str | None = None,
        transform: str | None = None,
        smooth: Mapping[str, int] | None = None,
    ) -> Self:
        """Return the roles that the arguments of `Study.from_dataframe` give."""
        person = None if subject is None else text_label(subject)
        asked = Asked(formula_text(covariates), formula_text(remove), transform, person, smooth_sizes(smooth))
        return cls(batch_names(batch), reference, asked)

    @property
    def covariates(self) -> list[str]:
        """Columns that covariates are made of, but for smooths."""
        return list(parse(self.asked.formula, self.asked.remove).columns.values())

    @property
    def columns(self) -> list[str]:
        """Columns that have a role, once each."""
        others = [] if self.asked.subject is None else [self.asked.subject]
        return list(dict.fromkeys([*self.variables, *self.covariates, *(self.asked.smooth or ()), *others]))

    def check(self, table: pd.DataFrame) -> None:
        """Raise a DataError if columns lack or formulas cannot be meant, or if smooths do not vary."""
        require(table, self.variables, "batch column")
        require(table, [] if self.asked.subject is None else [self.asked.subject], "subject column")
        for formula in (self.asked.formula, self.asked.remove):
            check_written(formula, table.columns)
        sizes = self.asked.smooth or {}
        require(table, sizes, "smooth column")
        check_variety(table, sizes)

    def parts(self, table: pd.DataFrame, features: Sequence[str], copy: bool = True) -> Parts:
        """Return what a study is made of; the errors are those of `learned_rows`."""
        return learned_parts(table, self.variables, features, self.reference, self.asked, copy)


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
    for variable, names in levels.names.items():
        warn_of_spellings("batch", variable, names)
    for column in spec.columns:
        warn_of_spellings("covariate", column.name, map(text_label, column.levels))
    warn_of_gaps(table, spec.sources, levels, batches, codes)
    subjects = subject_labels(table, spec)
    check_repeated(subjects, asked.subject)
    return x, codes, batches, table.index, spec, name, subjects
