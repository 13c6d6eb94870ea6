"""What sections of a report are made of, and how numbers are written there."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Fact", "Table", "counted", "cut", "number", "numbers", "percent", "united"]

# Names longer than this are cut in tables, so that one of them cannot fill a page.
LONGEST_NAME = 80
MOST_ROWS = 100


@dataclass(frozen=True)
class Fact:
    """One thing, and what it is.

    Parameters
    ----------
    name, value : str
    """

    name: str
    value: str


@dataclass(frozen=True)
class Table:
    """A table; the first cell of a row says what the row is of.

    Parameters
    ----------
    caption : str
    columns : sequence of str
        Headings.
    rows : sequence of sequence of str
    words : collection of int
        Columns of words, which are aligned on the left as the first is.
    more : str
        What was left out of it; empty where nothing was.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = ()
    more: str = ""


def cut(rows: Sequence[Sequence[str]], most: int = MOST_ROWS, total: int | None = None) -> tuple[list[list[str]], str]:
    """Return the first rows, their names shortened, and how many more there are.

    Examples
    --------
    >>> cut([["a", "1"], ["b", "2"], ["c", "3"]], most=1)
    ([['a', '1']], 'and 2 more')
    """
    shown = [[named(row[0]), *row[1:]] for row in rows[:most]]
    left = (len(rows) if total is None else total) - len(shown)
    return shown, f"and {left:,} more" if left > 0 else ""


def named(name: str) -> str:
    """Return a name that fits into a table."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…"


def number(value: float, decimals: int = 2) -> str:
    """Return a number with so many decimals and a minus sign that is as wide as a plus; a dash where there is none.

    Examples
    --------
    >>> number(-0.251), number(-0.001), number(float("nan"))
    ('−0.25', '0.00', '–')
    """
    if not np.isfinite(value):
        return "–"
    text = f"{value:.{decimals}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")


def numbers(values: Sequence[float]) -> list[str]:
    """Return numbers of one column with as many decimals as the largest of them needs to have three digits.

    Examples
    --------
    >>> numbers([5.4, 31.25]), numbers([1200.0, 3.5]), numbers([float("nan"), 0.0123])
    (['5.4', '31.2'], ['1200', '4'], ['–', '0.0123'])
    """
    finite = np.abs([value for value in values if np.isfinite(value)])
    largest = float(finite.max()) if len(finite) else 0.0
    decimals = int(np.clip(2 - np.floor(np.log10(largest)), 0, 8)) if largest > 0 else 0
    return [number(value, decimals) for value in values]


def percent(share: float) -> str:
    """Return a share as a percentage, with a decimal below ten."""
    if not np.isfinite(share):
        return "–"
    shown = 100 * share
    return f"{shown:.0f} %" if shown >= 10 or shown == 0 else f"{shown:.1f} %" if shown >= 0.05 else "below 0.1 %"


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts.

    Examples
    --------
    >>> counted(1, "batch", "batches"), counted(2000, "draw")
    ('1 batch', '2,000 draws')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def united(names: Sequence[str], most: int = 20) -> str:
    """Return names as one would say them.

    Examples
    --------
    >>> united(["age"]), united(["age", "sex", "motion"]), united(["a", "b", "c"], most=2)
    ('age', 'age, sex and motion', 'a, b and 1 more')
    """
    shown = [named(name) for name in names]
    if len(shown) > most:
        return f"{', '.join(shown[:most])} and {len(shown) - most:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}" if shown else ""
