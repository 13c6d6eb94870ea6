"""Columns of the table as covariates: numbers or categories, as a formula is given them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from bayescombat.columns import inferred, is_numeric, labels, text_label
from bayescombat.errors import DataError, UnseenLevelError, listing, suggestion

__all__ = ["Column", "Level", "unseen_level"]

# Numbers with points, commas or colons, and dates.
NUMBER_OR_DATE = re.compile(r"[+-]?\d+([.,:/-]\d*)*([eE][+-]?\d+)?")
# Fewer levels may be codes of groups, such as 1 and 2, or years.
MANY_LEVELS = 10
MOSTLY = 0.9

type Level = str | int | float | bool


@dataclass(frozen=True)
class Column:
    """How a column of the table enters a formula.

    Parameters
    ----------
    name : str
        Name in the table.
    kind : {"number", "integer", "boolean", "category"}
        Numbers are float64, except that integers and booleans inside ``C()`` keep their type, since there
        they are names of groups.
    levels : tuple
        Levels of a category, the reference level first.

    Examples
    --------
    >>> Column.learn(pd.Series(["M", "F"], name="sex"), grouping=False)
    Column(name='sex', kind='category', levels=('F', 'M'))
    """

    name: str
    kind: str
    levels: tuple[Level, ...] = ()

    @classmethod
    def learn(cls, values: pd.Series, *, grouping: bool) -> Self:
        """Return how this column enters a formula; `grouping` columns stand inside ``C()``.

        Raises
        ------
        DataError
            If labels are missing, or if the column holds dates, complex numbers, or text that reads as many numbers.
        """
        name = str(values.name)
        values = inferred(values)
        if is_numeric(values):
            kinds = {"b": "boolean", "i": "integer", "u": "integer"} if grouping else {}
            return cls(name, kinds.get(values.dtype.kind, "number"))
        if values.dtype.kind in "mMc":
            raise DataError(
                f"Expected numbers or labels in the covariate {name!r}, found {values.dtype}. "
                "Convert it to a number first, for example to years."
            )
        found = labels(values, "covariate")
        if not isinstance(values.dtype, pd.CategoricalDtype):
            levels = sorted(set(found))
            if not grouping:
                _check_categories(name, levels)
            return cls(name, "category", tuple(levels))
        return cls(name, "category", tuple(map(_level, values.cat.remove_unused_categories().cat.categories)))

    def values(self, values: pd.Series) -> Any:
        """Return the values as a formula is given them, (obs,).

        Raises
        ------
        DataError
            If values are missing, infinite or no numbers where numbers were learned.
        UnseenLevelError
            If a label is none of the levels.
        """
        return self._categories(values) if self.kind == "category" else self._numbers(values)

    def _categories(self, values: pd.Series) -> Any:
        found = labels(values, "covariate")
        known = pd.Index([text_label(level) for level in self.levels], dtype=object)
        codes = known.get_indexer(pd.Index(found, dtype=object))
        if (codes < 0).any():
            raise unseen_level(self.name, found, self.levels, codes < 0, values.index)
        return pd.Categorical.from_codes(codes, categories=pd.Index(self.levels))

    def _numbers(self, values: pd.Series) -> np.ndarray:
        values = inferred(values)
        if not is_numeric(values) and values.notna().any():
            raise DataError(
                f"Expected numbers in the covariate {self.name!r}, found {values.dtype}. "
                "Convert the column with pandas.to_numeric."
            )
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
        for bad, kind in ((np.isnan(numbers), "missing"), (np.isinf(numbers), "infinite")):
            if bad.any():
                raise DataError(
                    f"Expected a finite number in every row of the covariate {self.name!r}, found "
                    f"{bad.sum()} {kind}, in the rows {listing(values.index[bad])}. "
                    "Fill in the values or drop these rows."
                )
        if self.kind == "integer" and (numbers == np.rint(numbers)).all():
            return numbers.astype(np.int64)
        if self.kind == "boolean" and np.isin(numbers, (0, 1)).all():
            return numbers.astype(bool)
        return numbers


def unseen_level(
    name: str, found: np.ndarray, known: Sequence[object], unknown: np.ndarray, rows: pd.Index
) -> UnseenLevelError:
    """Return the error for labels that were not there when the design was learned.

    Parameters
    ----------
    name : str
        Column or expression.
    found : ndarray, (obs,)
        Labels of all rows.
    known : sequence
        Levels of the design.
    unknown : ndarray of bool, (obs,)
        Which rows have none of them.
    rows : pandas.Index, (obs,)
        Names of the rows.
    """
    labels_known, others = (list(dict.fromkeys(map(text_label, part))) for part in (known, found[unknown]))
    return UnseenLevelError(
        f"Expected the levels {listing(labels_known)} in the covariate {name!r}, found {listing(others)} in the rows "
        f"{listing(rows[unknown])}.{suggestion(others[0], labels_known)} "
        "Give these rows a known level, drop them, or fit again with them."
    )


def _check_categories(name: str, levels: Sequence[str]) -> None:
    """Raise a DataError if the levels of a text column look like numbers or dates that were read as text."""
    read = [NUMBER_OR_DATE.fullmatch(level.strip()) is not None for level in levels]
    if len(levels) < MANY_LEVELS or np.mean(read) < MOSTLY:
        return
    numbers, other = (
        [level for level, said in zip(levels, read, strict=True) if said is kind] for kind in (True, False)
    )
    found = f"{listing(numbers)}{f', and {listing(other)}' if other else ''}"
    raise DataError(
        f"Expected numbers or categories in the covariate {name!r}, found text that reads as {len(numbers)} "
        f"different numbers or dates: {found}. "
        "Make it numeric: pandas.read_csv(..., decimal=',', na_values=[...]) or pandas.to_numeric, dates as years. If "
        f"these are names of groups, write C({name})."
    )


def _level(value: Any) -> Level:
    """Return a category as something that JSON can hold."""
    plain = value.item() if isinstance(value, np.generic) else value
    return plain if isinstance(plain, str | int | float) else str(plain)
