"""Cells that are numbers, texts or nothing; and what rows are called by."""

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from bayescombat.columns import is_numeric, require, text_label
from bayescombat.errors import DataError, listing

__all__ = ["MISSING", "guarded", "not_numbers", "numbers_rows", "row_labels", "typed_objects"]

# What stands for no value, beside what pandas takes for it.
MISSING = ("", " ", "  ", "n.a.", "N.A.", ".")
NO_VALUE = frozenset(
    (*MISSING, "NA", "N/A", "n/a", "#N/A", "#NA", "NaN", "nan", "-nan", "-NaN", "null", "NULL", "None", "<NA>")
)
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")
# 007 is a name; 0, 0.7 and -0.7 are numbers.
NAME = re.compile(r"\s*[+-]?0\d.*")


def guarded(texts: pd.Series) -> bool:
    """Tell whether a column that could be numbers holds names such as 007, which are to be left as they are.

    Examples
    --------
    >>> guarded(pd.Series(["007", "12"])), guarded(pd.Series(["0", "0.5"]))
    (True, False)
    """
    return any(NAME.fullmatch(text) is not None for text in texts)


def typed_objects(values: pd.Series) -> pd.Series:
    """Return a column of a spreadsheet as what its cells are: numbers, also those kept as text, or what it was.

    Examples
    --------
    >>> typed_objects(pd.Series(["1.5", 2, "n/a"], dtype=object)).tolist()
    [1.5, 2.0, nan]
    >>> typed_objects(pd.Series(["007", "12"], dtype=object)).tolist()
    ['007', '12']
    """
    absent = np.array([value is None or value != value or _is_blank(value) for value in values], dtype=bool)
    there = values[~absent]
    if len(there) and all(_is_number(value) for value in there):
        numbers = values.where(~absent, np.nan).astype(float)
        whole = not absent.any() and bool((numbers == np.rint(numbers)).all()) and bool((numbers.abs() < 2**53).all())
        return numbers.astype(np.int64) if whole else numbers
    if not len(there):
        return pd.Series(np.full(len(values), np.nan), values.index, name=values.name)
    return values.where(~absent, None).infer_objects()


def _is_blank(value: object) -> bool:
    return isinstance(value, str) and value in NO_VALUE


def _is_number(value: object) -> bool:
    if isinstance(value, str):
        return NUMBER.fullmatch(value) is not None and NAME.fullmatch(value) is None
    return isinstance(value, int | float | np.number) and not isinstance(value, bool | np.bool_)


def not_numbers(values: pd.Series) -> pd.Series:
    """Return the cells of a column that are neither numbers nor missing, as text.

    Examples
    --------
    >>> not_numbers(pd.Series(["1.5", "2.5mm", None], index=["a", "b", "c"])).to_dict()
    {'b': '2.5mm'}
    """
    if is_numeric(values):
        return pd.Series(dtype=object)
    there = values[values.notna()].astype(str)
    return there[[NUMBER.fullmatch(text) is None for text in there]]


def numbers_rows(table: pd.DataFrame) -> bool:
    """Tell whether the first column has whole numbers that are all different, as those of subjects are.

    Examples
    --------
    >>> numbers_rows(pd.DataFrame({"sub_id": [50002, 50003], "age": [20, 20]}))
    True
    >>> numbers_rows(pd.DataFrame({"thickness": [2.5, 2.75], "age": [20, 30]}))
    False
    """
    values = table.iloc[:, 0]
    return is_numeric(values) and values.dtype.kind in "iuf" and values.is_unique and bool((values % 1 == 0).all())


def row_labels(table: pd.DataFrame, names: Sequence[str], unnamed: str | None) -> pd.Index:
    """Return what the rows are called by.

    Parameters
    ----------
    table : pandas.DataFrame
        With a plain index.
    names : sequence of str
        Columns that make a row's label together; if there are none, the first column, if it has no name or is of
        texts or whole numbers that are all different; else rows are numbered from 1.
    unnamed : str, optional
        Name that was given to a first column without one.

    Raises
    ------
    DataError
        If there is no such column, or two rows are called the same.

    Examples
    --------
    >>> table = pd.DataFrame({"id": ["007", "008"], "age": [20.5, 30]})
    >>> list(row_labels(table, [], None)), list(row_labels(table.drop(columns="id"), [], None))
    (['007', '008'], [1, 2])
    """
    if not names:
        first = table.columns[0]
        texts = table[first]
        if first == unnamed or not is_numeric(texts) or numbers_rows(table):
            labels = pd.Index([text_label(value) for value in texts], dtype=object)
            if labels.is_unique and not texts.isna().any():
                return labels.rename(None if first == unnamed else first)
        return pd.RangeIndex(1, len(table) + 1)
    require(table, names, "column of row labels")
    parts = zip(*([text_label(value) for value in table[name]] for name in names), strict=True)
    labels = pd.Index(["/".join(part) for part in parts], dtype=object, name="/".join(names))
    if not labels.is_unique:
        doubled = labels[labels.duplicated()].unique()
        raise DataError(
            f"Expected every label of {listing(names)} once, found {len(doubled)} in several rows: {listing(doubled)}. "
            "Name more columns that tell the rows apart, such as the session."
        )
    return labels
