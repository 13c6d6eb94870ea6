"""Design columns, checked: named once, and the same for a row whichever others are there."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from bayescombat.errors import DataError, listing

__all__ = ["check_columns", "check_replay"]

# How far a design row may move, relative to its column, when it is computed without the other rows.
REPLAY_TOLERANCE = 1e-8


def check_replay(
    matrix_of: Callable[[pd.DataFrame], np.ndarray], table: pd.DataFrame, matrix: np.ndarray, names: Sequence[str]
) -> None:
    """Raise a DataError if a row's design depends on the other rows of the table.

    Parameters
    ----------
    matrix_of : callable
        Returns the design columns of rows.
    table : pandas.DataFrame
        All rows.
    matrix : ndarray, (obs, covariate)
        Their design columns.
    names : sequence of str, (covariate,)
    """
    # The ends change places, so that a row that looks at its neighbours finds others or none.
    ends = sorted({0, len(table) - 1}, reverse=True)
    away = np.abs(matrix_of(table.iloc[ends]) - matrix[ends])
    moved = (away > REPLAY_TOLERANCE * np.abs(matrix).max(axis=0)).any(axis=0)
    if moved.any():
        raise DataError(
            "Expected design columns that can be computed for one row alone, found "
            f"{listing(np.array(names)[moved])}, which change with the rows that are "
            "there. Use center(), scale(), poly() or a spline, which remember the table that they "
            "were learned on, or compute the column in the table first."
        )


def check_columns(names: Sequence[str], levels: Mapping[str, Sequence[object]]) -> None:
    """Raise a DataError if a category has one level, or if two design columns have one name."""
    single = [expression for expression, known in levels.items() if len(known) < 2]
    if single:
        raise DataError(
            f"Expected at least two levels in every categorical covariate, found one in {listing(single)}. "
            "Leave it out of the formula: it is the same for all scans."
        )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(
            f"Expected every design column once, found {listing(doubled)} more than once. "
            "Rename the columns of the table that lead to the same name."
        )
