"""The reference: the batch, or with several batch variables the level of each, that others are harmonized to."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from bayescombat.batches import Levels, cell_label, cell_parts
from bayescombat.columns import text_label
from bayescombat.errors import DataError, listing, suggestion

__all__ = ["check_reference", "reference_cell"]


def reference_cell(reference: Any, variables: Sequence[str]) -> str:
    """Return the label of the cell that a reference names.

    Parameters
    ----------
    reference : str, sequence of str, or mapping of str to str
        A label; with several batch variables one of each, in their order or by their names.
    variables : sequence of str
        Names of the batch variables.

    Raises
    ------
    DataError
        If there is not one label of each batch variable.

    Examples
    --------
    >>> reference_cell(2.0, ["site"]), reference_cell({"software": 5, "site": "a"}, ["site", "software"])
    ('2', 'a / 5')
    """
    if isinstance(reference, Mapping):
        given = {text_label(name): label for name, label in reference.items()}
        if set(given) != set(variables):
            raise _not_one_each(variables, f"levels of {listing(given) or 'none'}")
        return cell_label([text_label(given[name]) for name in variables])
    one = isinstance(reference, str) or not isinstance(reference, Sequence | np.ndarray)
    parts = [reference] if one else list(reference)
    if len(parts) != len(variables):
        raise _not_one_each(variables, listing(parts) or "none")
    return cell_label([text_label(part) for part in parts])


def _not_one_each(variables: Sequence[str], found: str) -> DataError:
    example = ", ".join(f"{name!r}: ..." for name in variables)
    return DataError(
        f"Expected one level of each batch variable ({listing(variables)}) as reference, found {found}. "
        f"Name one level of each: reference={{{example}}}."
    )


def check_reference(cell: str, levels: Levels, batches: Sequence[str], codes: np.ndarray) -> None:
    """Raise a DataError if levels of the reference are unknown or have one scan only.

    Parameters
    ----------
    cell : str
        As returned by `reference_cell`. With several batch variables it need not hold scans itself: its levels do.
    levels : Levels
        Levels of the batch variables.
    batches : sequence of str, (batch,)
        Labels of the cells that hold scans.
    codes : ndarray of int, (obs,)
        Position of each scan's cell.

    Examples
    --------
    >>> cells = ["a / 5", "b / 6"]
    >>> check_reference("a / 6", Levels.of(["site", "software"], cells), cells, np.array([0, 0, 1, 1]))
    """
    found = levels.known(batches)[codes]
    places = levels.known([cell])[0]
    parts = cell_parts(cell, levels.variables)
    for v, (variable, name) in enumerate(zip(levels.variables, parts, strict=True)):
        place = f" of {variable!r}" if len(parts) > 1 else ""
        known = levels.names[variable]
        if places[v] < 0:
            raise DataError(
                f"Expected one of the batches {listing(known)}{place} as reference, found {name!r}."
                f"{suggestion(name, known)} Name one of them."
            )
        if (found[:, v] == places[v]).sum() < 2:
            raise DataError(
                f"Expected a reference batch{place} of at least two scans, found one scan in {name!r}. Its scale "
                "cannot be estimated from one scan, so nothing can be brought to it: choose a larger batch."
            )
