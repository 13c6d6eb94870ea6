"""Columns of a table as labels or numbers: what every way into the package asks of them.

Nothing here changes the table it is given.
"""

import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
import pandas as pd

from bayescombat.blocks import FEW_ROWS, column_blocks, side_by_side
from bayescombat.errors import BayesCombatWarning, DataError, listing, suggestion
from bayescombat.frames import as_pandas

__all__ = [
    "Said",
    "as_table",
    "cells",
    "check_finite",
    "check_unique",
    "heard",
    "inferred",
    "is_numeric",
    "labels",
    "measurements",
    "names_index",
    "require",
    "scan_labels",
    "sorted_labels",
    "text_label",
    "warn",
]

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?")
PACKAGE = os.path.dirname(__file__) + os.sep


type Said = list[tuple[str, type[BayesCombatWarning]]]

_heard: ContextVar[Said | None] = ContextVar("heard", default=None)


def warn(message: str, category: type[BayesCombatWarning]) -> None:
    """Warn at the line of the caller outside the package, unless somebody asked to hear it instead."""
    said = _heard.get()
    if said is None:
        warnings.warn(message, category, skip_file_prefixes=(PACKAGE,))
    else:
        said.append((message, category))


@contextmanager
def heard() -> Iterator[Said]:
    """Put what this thread has to warn of on a list: `warnings.catch_warnings` would be for all threads at once.

    Examples
    --------
    >>> with heard() as said:
    ...     warn("One scan.", BayesCombatWarning)
    >>> said
    [('One scan.', <class 'bayescombat.errors.BayesCombatWarning'>)]
    """
    said: Said = []
    token = _heard.set(said)
    try:
        yield said
    finally:
        _heard.reset(token)


def as_table(table: Any) -> pd.DataFrame:
    """Return the table with unique text names for its columns and unique labels for its rows.

    Parameters
    ----------
    table : pandas.DataFrame or another frame
        Rows are scans; see `as_pandas`.

    Returns
    -------
    pandas.DataFrame
        A new frame; the values of one of pandas are shared with `table`, not copied.

    Raises
    ------
    DataError
        If this is no frame, is empty, or has duplicate names.

    Examples
    --------
    >>> list(as_table(pd.DataFrame({0: [1.5], "site": ["a"]})).columns)
    ['0', 'site']
    """
    table = as_pandas(table)
    if not isinstance(table, pd.DataFrame):
        raise DataError(
            f"Expected a DataFrame (pandas, polars, pyarrow) with one row per scan, found {type(table).__name__}. "
            "Read a file with pandas.read_csv; for arrays there is Study.from_arrays."
        )
    if not len(table):
        raise DataError("Expected at least one row (scan) in the table, found none. Check what was filtered.")
    if isinstance(table.columns, pd.MultiIndex):
        raise DataError(
            f"Expected plain column names, found {table.columns.nlevels} levels of names. "
            "Join them first, for example with table.columns.map('_'.join)."
        )
    names = table.columns
    if names.dtype != object or names.inferred_type != "string":
        names = pd.Index([text_label(name) for name in names], dtype=object)
    check_unique(names, "column name", "Rename or drop the duplicates.")
    return table.set_axis(names, axis=1).set_axis(scan_labels(table.index), axis=0)


def names_index(names: Sequence[str]) -> pd.Index:
    """Return names as the index of a dim: it shares the texts, which an array of many would copy."""
    return pd.Index(names, dtype=object)


def require(table: pd.DataFrame, names: Iterable[str], role: str) -> None:
    """Raise a DataError if the table lacks any of these columns."""
    missing = [name for name in names if name not in table.columns]
    if missing:
        near = suggestion(missing[0], table.columns)
        quoted = role.startswith("covariate") and any(
            repr(name) in near for name in table.columns if not str(name).isidentifier()
        )
        raise DataError(
            f"Expected the {role} {listing(missing)} among the columns of the table, found no such column."
            f"{near}{' In a formula such a name stands in backticks.' * quoted} The table has {listing(table.columns)}."
        )


def scan_labels(labels: Any) -> pd.Index:
    """Return unique row labels: integers as they are, everything else as text.

    Examples
    --------
    >>> scan_labels(pd.MultiIndex.from_tuples([("sub-1", 1), ("sub-1", 2)]))
    Index(['sub-1/1', 'sub-1/2'], dtype='object')
    """
    index = labels if isinstance(labels, pd.Index) else pd.Index(labels)
    if isinstance(index, pd.MultiIndex):
        name = "/".join(map(str, index.names)) if None not in index.names else None
        index = pd.Index(["/".join(map(str, parts)) for parts in index], dtype=object, name=name)
    elif pd.api.types.is_integer_dtype(index.dtype):
        index = pd.Index(index.to_numpy(dtype=np.int64), name=index.name)
    else:
        index = pd.Index([str(item) for item in index], dtype=object, name=index.name)
    check_unique(index, "row label", "Make them unique, for example with table.reset_index(drop=True).")
    return index


def check_unique(index: pd.Index, role: str, remedy: str) -> None:
    """Raise a DataError if a name is there twice."""
    if not index.is_unique:
        doubled = index[index.duplicated()].unique()
        raise DataError(
            f"Expected every {role} once, found {len(doubled)} more than once: {listing(doubled)}. {remedy}"
        )


def inferred(values: pd.Series) -> pd.Series:
    """Return a column of Python objects as the type that its values have; other columns as they are."""
    if values.dtype != object:
        return values
    there = values.notna()
    if pd.api.types.is_bool_dtype(values[there].infer_objects().dtype) and not there.all():
        return values.where(there, None).astype("boolean")
    return values.where(there, np.nan).infer_objects()


def is_numeric(values: pd.Series) -> bool:
    """Tell whether a column holds real numbers or booleans."""
    return pd.api.types.is_numeric_dtype(values.dtype) and values.dtype.kind != "c"


def text_label(value: object) -> str:
    """Return a label as text: 1, 1.0 and "1" are the same label.

    Examples
    --------
    >>> text_label(1.0), text_label(np.int8(1)), text_label("1"), text_label(1.5), text_label(True)
    ('1', '1', '1', '1.5', 'True')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def labels(values: pd.Series, role: str) -> np.ndarray:
    """Return the labels of a column as text.

    Parameters
    ----------
    values : pandas.Series
        Any type; its index names the rows in errors.
    role : str
        What the column is, for errors.

    Returns
    -------
    ndarray of str objects, (obs,)

    Raises
    ------
    DataError
        If a label is missing or blank, or if two different labels of the column become the same text.

    Examples
    --------
    >>> labels(pd.Series([2.0, 1.0]), "batch")
    array(['2', '1'], dtype=object)
    """
    codes, found = pd.factorize(values)
    blank = [at for at, value in enumerate(found) if isinstance(value, str) and not value.strip()]
    absent = values.index[(codes < 0) | np.isin(codes, blank)]
    if len(absent):
        raise DataError(
            f"Expected a label in every row of the {role} {values.name!r}, found {len(absent)} missing, "
            f"in the rows {listing(absent)}. Fill in the labels or drop these rows."
        )
    first: dict[str, object] = {}
    for value in found:
        other = first.setdefault(text_label(value), value)
        if other is not value:
            raise DataError(
                f"Expected labels of one kind in the {role} {values.name!r}, found {other!r} "
                f"({type(other).__name__}) and {value!r} ({type(value).__name__}), which read the same. "
                "Make them one label, or rename one of the two."
            )
    return np.array(list(first), dtype=object)[codes]


def sorted_labels(names: Iterable[str]) -> tuple[str, ...]:
    """Return the distinct labels in the order of their numbers if all are numbers, else of their text.

    Examples
    --------
    >>> sorted_labels(["10", "9", "10"]), sorted_labels(["10", "9", "a"])
    (('9', '10'), ('10', '9', 'a'))
    """
    distinct = sorted(set(names))
    if all(NUMBER.fullmatch(name) for name in distinct):
        distinct.sort(key=float)
    return tuple(distinct)


def measurements(table: pd.DataFrame, features: Sequence[str], copy: bool = True) -> np.ndarray:
    """Return the features as numbers.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans; has all `features` as columns.
    features : sequence of str
        Columns to take, in this order.
    copy : bool
        Whether to share no memory with the table, even where it holds the columns as they are asked for.

    Returns
    -------
    ndarray of float64, (obs, feature)
        C-contiguous; in feature units, NaN where a cell is missing (NaN,
        None or pandas.NA).

    Raises
    ------
    DataError
        If a column holds anything but real numbers, or an infinity.

    Examples
    --------
    >>> measurements(pd.DataFrame({"a": [1, None], "b": [True, False]}), ["b", "a"])
    array([[ 1.,  1.],
           [ 0., nan]])
    """
    at = table.columns.get_indexer(pd.Index(list(features), dtype=object))
    together = bool((np.diff(at) == 1).all())
    # Neighbouring columns are one view of the table, columns here and there a copy.
    frame = table.iloc[:, at[0] : at[0] + len(at)] if together else table.iloc[:, at]
    kinds = list(frame.dtypes)
    if any(map(pd.api.types.is_object_dtype, set(kinds))):
        objects = [name for name, kind in zip(features, kinds, strict=True) if pd.api.types.is_object_dtype(kind)]
        frame = frame.assign(**{name: inferred(frame[name]) for name in objects})
        kinds = list(frame.dtypes)
    unfit = {kind for kind in set(kinds) if not is_numeric(pd.Series(dtype=kind))}
    if unfit:
        other = [name for name, kind in zip(features, kinds, strict=True) if kind in unfit]
        found = listing(dict.fromkeys(str(table[name].dtype) for name in other))
        raise DataError(
            f"Expected features of real numbers, found {len(other)} of another kind ({found}): "
            f"{listing(other)}. Convert them with pandas.to_numeric, or leave them out of the features."
        )
    plain = all(isinstance(kind, np.dtype) for kind in set(kinds))
    given = frame.to_numpy() if plain else frame.to_numpy(dtype=np.float64, na_value=np.nan)
    shared = not copy and given.dtype == np.float64 and given.flags.c_contiguous
    values = given if shared else np.empty(given.shape)
    suspects = np.zeros(len(features), dtype=bool)

    def fill(block: slice) -> None:
        if not shared:
            values[:, block] = given[:, block]
        with np.errstate(over="ignore", invalid="ignore"):
            suspects[block] = ~np.isfinite(values[:, block].sum(axis=0))

    side_by_side(fill, column_blocks(given.shape[1], FEW_ROWS))
    if suspects.any():
        check_finite(values, features, frame.index)
    return values


def check_finite(values: np.ndarray, features: Sequence[str], rows: pd.Index) -> None:
    """Raise a DataError if measurements (obs, feature) are infinite, NaN being no value."""
    infinite = np.isinf(values)
    if infinite.any():
        raise DataError(
            f"Expected finite measurements, found {cells(infinite, 'infinite', features, rows)}. "
            "Drop these rows or features, or put right how they were computed."
        )


def cells(bad: np.ndarray, kind: str, features: Sequence[str], rows: pd.Index) -> str:
    """Say how many cells these are, and in which features and rows.

    Parameters
    ----------
    bad : ndarray of bool, (obs, feature)
        The cells.
    kind : str
        What they are.
    features : sequence of str, (feature,)
    rows : pandas.Index, (obs,)

    Examples
    --------
    >>> cells(np.eye(2) > 0, "infinite", ["left", "right"], pd.Index(["scan-0", "scan-1"]))
    "2 infinite cells in the features 'left', 'right' and the rows 'scan-0', 'scan-1'"
    """
    count = int(bad.sum())
    return (
        f"{count} {kind} cell{'s' if count > 1 else ''} in the features "
        f"{listing(np.array(features, dtype=object)[bad.any(axis=0)])} and the rows {listing(rows[bad.any(axis=1)])}"
    )
