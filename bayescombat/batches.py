"""Batch variables: the levels they have, and the cells (combinations of levels) that scans are in.

With one batch variable a cell is a batch. With several, a scan's cell has one level of each, and its label joins
theirs. Moments are kept by cell; effects belong to levels.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from bayescombat.columns import sorted_labels, text_label
from bayescombat.errors import DataError, UnseenBatchError, listing, suggestion

__all__ = ["SEPARATOR", "Levels", "cell_label", "cell_parts", "named_cell"]

SEPARATOR = " / "


def cell_label(parts: Sequence[str]) -> str:
    """Return the label of a cell.

    Raises
    ------
    DataError
        If there are several parts and the label could be split in another way.

    Examples
    --------
    >>> cell_label(["site a", "5.3"])
    'site a / 5.3'
    """
    label = SEPARATOR.join(parts)
    if len(parts) > 1 and cell_parts(label, parts) != tuple(parts):
        raise DataError(
            f"Expected batch labels that {SEPARATOR!r} can join, since there are several batch variables, "
            f"found {listing(parts)}. Rename them."
        )
    return label


def cell_parts(label: str, variables: Sequence[str]) -> tuple[str, ...]:
    """Return the levels of a cell, one for each batch variable.

    Examples
    --------
    >>> cell_parts("site a / 5.3", ["site", "software"]), cell_parts("a / b", ["site"])
    (('site a', '5.3'), ('a / b',))
    """
    return tuple(label.split(SEPARATOR)) if len(variables) > 1 else (label,)


def named_cell(given: Any, variables: Sequence[str], role: str) -> str:
    """Return the label of the cell that a reference or target names.

    Parameters
    ----------
    given : str, sequence of str, or mapping of str to str
        A label; with several batch variables one of each, in their order or by their names, or the label of a cell.
    variables : sequence of str
        Names of the batch variables.
    role : str
        What it is, for the error.

    Raises
    ------
    DataError
        If there is not one label of each batch variable.

    Examples
    --------
    >>> named_cell(2.0, ["site"], "target"), named_cell({"software": 5, "site": "a"}, ["site", "software"], "target")
    ('2', 'a / 5')
    """
    if isinstance(given, Mapping):
        found = {text_label(name): label for name, label in given.items()}
        if set(found) != set(variables):
            raise _not_one_each(variables, f"levels of {listing(found) or 'none'}", role)
        return cell_label([text_label(found[name]) for name in variables])
    if isinstance(given, str):
        parts: list[Any] = list(cell_parts(given, variables))
    else:
        parts = list(given) if isinstance(given, Sequence | np.ndarray) else [given]
    if len(parts) != len(variables):
        raise _not_one_each(variables, listing(parts) or "none", role)
    return cell_label([text_label(part) for part in parts])


def _not_one_each(variables: Sequence[str], found: str, role: str) -> DataError:
    example = ", ".join(f"{name!r}: ..." for name in variables)
    return DataError(
        f"Expected one level of each batch variable ({listing(variables)}) as {role}, found {found}. "
        f"Name one level of each: {role}={{{example}}}."
    )


@dataclass(frozen=True)
class Levels:
    """The levels of every batch variable.

    A variable of one level has no effect of its own and is not *active*.

    Parameters
    ----------
    names : mapping of str to tuple of str
        The levels of each batch variable, in order.

    Examples
    --------
    >>> levels = Levels.of(["site", "software"], ["a / 5", "a / 6", "b / 6"])
    >>> levels.labels
    ('site=a', 'site=b', 'software=5', 'software=6')
    >>> levels.positions(["b / 5"])
    array([[1, 2]])
    """

    names: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        """Refuse names and levels that make one label of two levels."""
        doubled = [label for label, count in Counter(self.labels).items() if count > 1]
        if doubled:
            raise DataError(
                f"Expected batch variables and levels that '=' can join, found two that make {listing(doubled)}. "
                "Rename the variables."
            )

    @classmethod
    def of(cls, variables: Sequence[str], cells: Iterable[str]) -> Self:
        """Return the levels that the cells have, sorted."""
        parts = list(zip(*(cell_parts(label, variables) for label in cells), strict=True))
        return cls({name: sorted_labels(found) for name, found in zip(variables, parts, strict=True)})

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the batch variables."""
        return tuple(self.names)

    @property
    def active(self) -> tuple[str, ...]:
        """Names of the variables of two or more levels."""
        return tuple(name for name, levels in self.names.items() if len(levels) > 1)

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many levels each active variable has."""
        return tuple(len(self.names[name]) for name in self.active)

    @property
    def owner(self) -> np.ndarray:
        """The number of each level's variable among the active ones, (batch,)."""
        return np.repeat(np.arange(len(self.sizes)), self.sizes)

    @property
    def suffixes(self) -> tuple[str, ...]:
        """What names in the model end in, for each active variable: nothing for the only one, else its number."""
        several = len(self.active) > 1
        return tuple(f"_{k}" if several else "" for k in range(1, len(self.active) + 1))

    @property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """The levels of each active variable, by the name of their dimension in the model."""
        return {f"batch{suffix}": self.names[name] for suffix, name in zip(self.suffixes, self.active, strict=True)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of all levels of the active variables, (batch,): with several, the variable's name goes first."""
        return tuple(self.label(name, level) for name in self.active for level in self.names[name])

    def label(self, variable: str, level: str) -> str:
        """Return the label of a level of an active variable."""
        return level if len(self.active) == 1 else f"{variable}={level}"

    def sort(self, cells: Iterable[str]) -> tuple[str, ...]:
        """Return distinct cells in the order of their levels."""
        places = [{level: i for i, level in enumerate(levels)} for levels in self.names.values()]

        def place(label: str) -> tuple[int, ...]:
            parts = cell_parts(label, self.variables)
            return tuple(known[part] for known, part in zip(places, parts, strict=True))

        return tuple(sorted(set(cells), key=place))

    def positions(self, cells: Sequence[str]) -> np.ndarray:
        """Return where the levels of each cell stand among the labels, (cell, active variable).

        Raises
        ------
        UnseenBatchError
            If a cell has a level that is not among these.
        """
        found = self.known(cells)
        if (found < 0).any():
            column = int(np.flatnonzero((found < 0).any(axis=0))[0])
            name = self.variables[column]
            parts = [cell_parts(label, self.variables)[column] for label in cells]
            unknown = sorted_labels(part for part, place in zip(parts, found[:, column], strict=True) if place < 0)
            raise UnseenBatchError(
                f"Expected rows of the known batches {listing(self.names[name])} in {name!r}, found "
                f"{listing(unknown)}.{suggestion(unknown[0], self.names[name])} Put the labels right, drop these rows, "
                "fit again with them (update, adopt), or harmonize with unseen='prior'."
            )
        starts = np.cumsum((0, *self.sizes))[:-1]
        columns = [self.variables.index(name) for name in self.active]
        return np.asarray(found[:, columns] + starts)

    def known(self, cells: Sequence[str]) -> np.ndarray:
        """Return where each variable's level stands among its own, (cell, variable); -1 for unknown ones."""
        places = [{level: i for i, level in enumerate(levels)} for levels in self.names.values()]
        parts = [cell_parts(label, self.variables) for label in cells]
        rows = [[known.get(part, -1) for known, part in zip(places, row, strict=True)] for row in parts]
        return np.array(rows, dtype=np.int64).reshape(len(rows), len(places))
