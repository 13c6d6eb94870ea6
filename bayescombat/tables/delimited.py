"""Delimited text: how it is divided, its cells as text, and as numbers."""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO, TextIOWrapper
from itertools import islice

import numpy as np
import pandas as pd

from bayescombat.columns import is_numeric
from bayescombat.errors import DataError, listing
from bayescombat.tables.cells import MISSING, guarded

__all__ = ["SEPARATORS", "WITHOUT_NAME", "Delimited", "check_names", "dialect_of", "read_numbers"]

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
LINES_TO_LOOK_AT = 20
DECIMAL_COMMA = re.compile(r"\s*[+-]?\d*,\d+([eE][+-]?\d+)?\s*")
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2}(,\d{3})+\s*")
WITHOUT_NAME = "column {} without a name"


@dataclass(frozen=True, eq=False, repr=False)
class Delimited:
    r"""The text of a delimited file, and how it is divided.

    Parameters
    ----------
    data : bytes
        UTF-8, without a byte-order mark.
    separator, decimal : str
        Between cells, and inside numbers.
    header : tuple of str
        The first line. A table that R wrote may have one name fewer than columns.
    width : int
        Cells of every other line.
    newline : str
        What ended its lines.
    encoding : str
        What it was encoded by.
    spaced : bool
        Whether blanks follow the separators, which then belong to these.

    Examples
    --------
    >>> text = dialect_of(b"id;left\n007;2,50\n008;2,75\n", "utf-8", ",", None)
    >>> text, table = read_numbers(text, None)
    >>> text.separator, text.decimal, table["left"].tolist()
    (';', ',', [2.5, 2.75])
    >>> text.cells([0, 1]).iloc[0].tolist()
    ['007', '2,50']
    """

    data: bytes
    separator: str
    decimal: str
    header: tuple[str, ...]
    width: int
    newline: str
    encoding: str
    spaced: bool

    @cached_property
    def names(self) -> list[str]:
        """Names of all columns; those without one are called by their place."""
        header = ["", *self.header] if self.width > len(self.header) else self.header
        return [name or WITHOUT_NAME.format(place) for place, name in enumerate(header, start=1)]

    @cached_property
    def nameless(self) -> frozenset[str]:
        """Names that were given to columns without one."""
        return frozenset(self.names) - set(self.header)

    def cells(self, places: Sequence[int]) -> pd.DataFrame:
        """Return some columns as the text that stands there, (obs, column), in the order of the file."""
        return self._read(usecols=sorted(places), dtype=str, na_filter=False)

    def numbers(self) -> pd.DataFrame:
        """Return all columns, as numbers where all their cells are numbers."""
        table = self._read(decimal=self.decimal, na_values=list(MISSING), low_memory=False)
        whole = [place for place, name in enumerate(table.columns) if _could_be_names(table[name])]
        texts = self.cells(whole)
        return table.assign(**{str(name): texts[name] for name in texts.columns if guarded(texts[name])})

    def _read(self, **options: object) -> pd.DataFrame:
        table: pd.DataFrame = pd.read_csv(
            BytesIO(self.data),
            sep=self.separator,
            names=self.names,
            header=0,
            index_col=False,
            skipinitialspace=self.spaced,
            **options,
        )  # type: ignore[call-overload]
        return table


def dialect_of(data: bytes, encoding: str, usual: str, separator: str | None) -> Delimited:
    """Return a text with how it is divided, checked.

    Parameters
    ----------
    data : bytes
        UTF-8, without a byte-order mark.
    encoding : str
        What it was encoded by in the file.
    usual : str
        Separator that the file's ending promises.
    separator : str, optional
        As the user says; by default as the text tells.

    Raises
    ------
    DataError
        If there is nothing, a name stands twice, or lines have cells without a name or lack some.
    """
    if not data.strip():
        raise DataError("Expected a table with a line of column names, found an empty file.")
    with _wide_cells():
        if separator is None:
            separator = _separator(data, usual)
        spaced = _spaced(data, separator)
        lines = _lines(data, separator, spaced)
        header = next(lines)[1]
        check_names(header)
        width = _width(header, lines, separator)
    newline = "\r\n" if b"\r\n" in data[: data.find(b"\n") + 1] else "\n"
    return Delimited(data, separator, ".", tuple(header), width, newline, encoding, spaced)


@contextmanager
def _wide_cells() -> Iterator[None]:
    """Let a cell be as long as a line is that is not divided, for all who read at the time."""
    usual = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(usual)


def read_numbers(text: Delimited, decimal: str | None) -> tuple[Delimited, pd.DataFrame]:
    """Return the columns as numbers where they are, and the text with what divides its numbers.

    Parameters
    ----------
    text : Delimited
        The text.
    decimal : str, optional
        What divides numbers; by default a comma if some columns have numbers with one, and none with points.
    """
    if decimal is not None:
        text = replace(text, decimal=decimal)
        return text, text.numbers()
    table = text.numbers()
    if _has_decimal_commas(table):
        text = replace(text, decimal=",")
        table = text.numbers()
    return text, table


def _lines(data: bytes, separator: str, spaced: bool, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every line that has any, with its number."""
    text = TextIOWrapper(BytesIO(data), encoding="utf-8", newline="")
    reader = csv.reader(text, delimiter=separator, skipinitialspace=spaced, strict=strict)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise DataError(
            f"Expected delimited text, found line {reader.line_num}, which cannot be read ({error}). Look for a "
            "quotation mark that is not closed, or for another separator (--sep)."
        ) from error


def _separator(data: bytes, usual: str) -> str:
    """Return what divides the first lines into the most cells, as many in all of them."""
    found = {}
    for candidate in (usual, *(other for other in SEPARATORS if other != usual)):
        widths = [len(cells) for _, cells in islice(_lines(data, candidate, False, strict=False), LINES_TO_LOOK_AT)]
        even = len(set(widths[1:])) <= 1 and (len(widths) == 1 or widths[1] - widths[0] in (0, 1))
        found[candidate] = (even and widths[0] > 1, widths[0])
    return max(found, key=lambda candidate: found[candidate])


def _spaced(data: bytes, separator: str) -> bool:
    """Tell whether every name but the first follows a blank."""
    names = next(_lines(data, separator, False, strict=False))[1][1:]
    return bool(names) and all(name.startswith(" ") for name in names)


def check_names(header: Sequence[str]) -> None:
    """Raise a DataError if a name stands twice; columns may lack one."""
    named = [name for name in header if name]
    doubled = [name for name in dict.fromkeys(named) if named.count(name) > 1] if len(set(named)) < len(named) else []
    if doubled:
        raise DataError(
            f"Expected every column name once, found {len(doubled)} more than once: {listing(doubled)}. "
            "Rename or drop the duplicates."
        )


def _width(header: Sequence[str], lines: Iterator[tuple[int, list[str]]], separator: str) -> int:
    """Return how many cells every line has: as many as there are names, or one more, which then names the row."""
    width, ends = len(header), False
    for count, (number, cells) in enumerate(lines):
        if not count and len(cells) == width + 1:
            width += 1
        if len(cells) != width:
            raise DataError(
                f"Expected {width} cells in every line, found {len(cells)} in line {number}. The table is read as "
                f"divided by {SEPARATORS.get(separator, repr(separator))}: say what divides it (--sep), put cells "
                "that hold it into quotation marks, mend the line, or delete what stands above the names."
            )
        ends = ends or cells[-1] != ""
    if width > len(header) and not ends:
        raise DataError(
            f"Expected as many column names as columns, found {len(header)} names, and lines that end in "
            f"{separator!r}. Let the first line end in it too."
        )
    return width


def _could_be_names(values: pd.Series) -> bool:
    """Tell whether a column of numbers has whole ones only, so that they could be names such as 007."""
    if not is_numeric(values) or values.dtype == bool:
        return False
    numbers = values.to_numpy(dtype=float)
    known = numbers[~np.isnan(numbers)]
    return bool(len(known)) and bool((known == np.rint(known)).all())


def _has_decimal_commas(table: pd.DataFrame) -> bool:
    """Tell whether numbers are written with decimal commas: some columns are, and none with decimal points."""
    texts = [values.dropna().astype(str) for _, values in table.items() if not is_numeric(values)]
    candidates = [cells for cells in texts if len(cells) and _all(DECIMAL_COMMA, cells)]
    if all(_all(THOUSANDS, cells) for cells in candidates):
        return False
    with np.errstate(invalid="ignore"):
        return not any((values % 1 > 0).any() for _, values in table.items() if values.dtype.kind == "f")


def _all(pattern: re.Pattern[str], cells: pd.Series) -> bool:
    """Tell whether all cells are like the pattern, or whole numbers."""
    return all(pattern.fullmatch(cell) or cell.strip().isdecimal() for cell in cells)
