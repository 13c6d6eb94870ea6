"""Columns of a table as a study holds them: cells of batches, and measurements that can be modelled."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bayescombat.batches import cell_label
from bayescombat.columns import cells, labels, measurements, require, warn
from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, LabelWarning, listing

__all__ = [
    "batch_cells",
    "check_positive",
    "check_repeated",
    "measured",
    "positions",
    "subject_labels",
    "warn_of_spellings",
]

MOST_SHOWN = 5


def batch_cells(table: pd.DataFrame, variables: Sequence[str]) -> np.ndarray:
    """Return the label of each scan's cell: its batch, or with several batch variables its levels, joined.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans.
    variables : sequence of str
        Names of the batch columns.

    Returns
    -------
    ndarray of str objects, (obs,)

    Raises
    ------
    DataError
        If labels are missing, read the same, or hold the separator.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["a", "a", "b"], "software": [5, 6, 6]})
    >>> batch_cells(table, ["site", "software"])
    array(['a / 5', 'a / 6', 'b / 6'], dtype=object)
    """
    scans = list(zip(*(labels(table[name], "batch") for name in variables), strict=True))
    joined = {parts: cell_label(parts) for parts in dict.fromkeys(scans)}
    return np.array([joined[parts] for parts in scans], dtype=object)


def warn_of_spellings(role: str, name: str, found: Iterable[str]) -> None:
    """Warn of labels that differ in nothing but case and blanks.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_spellings("batch", "site", ["NYU", "NYU ", "Yale"])
    >>> print(str(caught[0].message).split(". ")[0])
    Expected labels of the batch 'site' that differ in more than case and blanks, found 'NYU' = 'NYU '
    """
    groups: dict[str, list[str]] = {}
    for label in dict.fromkeys(found):
        groups.setdefault("".join(label.split()).casefold(), []).append(label)
    alike = [" = ".join(map(repr, group)) for group in groups.values() if len(group) > 1]
    if alike:
        more = f"; and {len(alike) - MOST_SHOWN} more" if len(alike) > MOST_SHOWN else ""
        warn(
            f"Expected labels of the {role} {name!r} that differ in more than case and blanks, found "
            f"{'; '.join(alike[:MOST_SHOWN])}{more}. They are taken for different ones: if they are not, give them one "
            "spelling, for example with table[column].str.strip().",
            LabelWarning,
        )


def positions(found: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Return the position of each label among the known ones, (obs,)."""
    return pd.Index(list(known), dtype=object).get_indexer(pd.Index(found, dtype=object))


def measured(table: pd.DataFrame, design: DesignSpec, copy: bool = True) -> np.ndarray:
    """Return the measurements, in feature units, once they can be modelled as the design says.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans.
    design : DesignSpec
        Names the features and the transform.
    copy : bool
        As in `measurements`.

    Returns
    -------
    ndarray of float64, (obs, feature)
        NaN where a cell is missing.

    Raises
    ------
    DataError
        If values are no finite numbers, if all are missing, or if their logarithm does not exist.
    """
    y = measurements(table, design.features, copy)
    if np.isnan(y[0]).all() and np.isnan(y).all():
        raise DataError(
            f"Expected at least one measurement, found every cell of the features {listing(design.features)} missing "
            f"in all {len(y)} rows. Check which columns are the features, and how the table was joined."
        )
    check_positive(y, design, table.index)
    return y


def check_positive(y: np.ndarray, design: DesignSpec, rows: pd.Index) -> None:
    """Raise a DataError if the design takes logarithms of measurements (obs, feature) that have none."""
    if design.transform == "log" and (y <= 0).any():
        raise DataError(
            "Expected measurements above zero for transform='log', found "
            f"{cells(y <= 0, 'zero or negative', design.features, rows)}. Leave these features out, treat "
            "zeros as missing (NaN), or harmonize without transform."
        )


def subject_labels(table: pd.DataFrame, design: DesignSpec) -> np.ndarray | None:
    """Return the label of each scan's subject, (obs,), where the design names subjects.

    Raises
    ------
    DataError
        If the column is not there, or labels are missing.
    """
    if design.subject is None:
        return None
    require(table, [design.subject], "subject column")
    return np.asarray(labels(table[design.subject], "subject"), dtype=object)


def check_repeated(found: np.ndarray | None, name: str | None) -> None:
    """Raise a DataError if no subject has several scans."""
    if found is not None and len(set(found)) == len(found):
        raise DataError(
            f"Expected several scans of at least some subjects in {name!r}, found one scan per subject: "
            "a subject's intercept and the noise cannot be told apart. Leave the subject out."
        )
