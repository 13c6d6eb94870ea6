"""The reference: the batch, or with several batch variables the level of each, that others are harmonized to."""

from collections.abc import Sequence

import numpy as np

from bayescombat.batches import Levels, cell_parts
from bayescombat.errors import DataError, listing, suggestion

__all__ = ["check_reference"]


def check_reference(cell: str, levels: Levels, batches: Sequence[str], codes: np.ndarray) -> None:
    """Raise a DataError if levels of the reference are unknown or have one scan only.

    Parameters
    ----------
    cell : str
        As returned by `named_cell`. With several batch variables it need not hold scans itself: its levels do.
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
