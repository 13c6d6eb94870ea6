"""Warnings where the covariates of batches do not meet: there the model extrapolates between batches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayescombat.batches import Levels
from bayescombat.columns import inferred, is_numeric, labels, warn
from bayescombat.errors import OverlapWarning, listing

__all__ = ["warn_of_gaps"]


def warn_of_gaps(
    table: pd.DataFrame, columns: Sequence[str], levels: Levels, batches: Sequence[str], codes: np.ndarray
) -> None:
    """Warn, once per column and batch variable, of batches of two or more scans that meet the others in no value.

    With several batch variables the levels of each are compared: effects belong to levels, and a combination of
    levels may be small without harm.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans.
    columns : sequence of str
        Covariates as they stand in the table. Of numbers with more than two distinct values the ranges are
        compared; of all other columns, whether a batch holds one level only while others hold more.
    levels : Levels
        Levels of the batch variables, each with at least one scan.
    batches : sequence of str, (batch,)
        Labels of the batches (cells of the batch variables).
    codes : ndarray of int, (obs,)
        Position of each scan's batch.

    Examples
    --------
    >>> import warnings
    >>> table = pd.DataFrame({"age": [8, 9, 10, 40, 50, 60]})
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     levels = Levels.of(["site"], ["a", "b"])
    ...     warn_of_gaps(table, ["age"], levels, ["a", "b"], np.array([0, 0, 0, 1, 1, 1]))
    >>> print(str(caught[0].message).split(". ")[0])
    Expected ranges of 'age' that overlap between batches, found 2 without: 'a (8 to 10)', 'b (40 to 60)'
    """
    found = levels.known(batches)[codes]
    for variable in levels.active:
        groups = _Groups(
            levels.names[variable],
            found[:, levels.variables.index(variable)],
            f" of {variable!r}" if len(levels.variables) > 1 else "",
        )
        for name in columns:
            values = inferred(table[name])
            if is_numeric(values) and values.nunique() > 2:
                _warn_of_ranges(name, values.to_numpy(dtype=np.float64), groups)
            else:
                _warn_of_single_levels(name, labels(values, "covariate"), groups)


class _Groups(NamedTuple):
    """The levels of one batch variable, which of them each scan has, and how messages name the variable."""

    names: Sequence[str]
    codes: np.ndarray
    place: str

    @property
    def several(self) -> np.ndarray:
        """Which levels have two or more scans, (batch,)."""
        return np.bincount(self.codes) >= 2

    def ends(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the lowest and the highest of the values (obs,) in every level, (batch,)."""
        low, high = np.full(len(self.names), np.inf), np.full(len(self.names), -np.inf)
        np.minimum.at(low, self.codes, values)
        np.maximum.at(high, self.codes, values)
        return low, high


def _warn_of_ranges(name: str, values: np.ndarray, groups: _Groups) -> None:
    low, high = groups.ends(values)
    meets = (low[:, None] <= high) & (high[:, None] >= low)
    alone = (meets.sum(axis=1) == 1) & groups.several
    ranges = [f"{batch} ({low[i]:.6g} to {high[i]:.6g})" for i, batch in enumerate(groups.names) if alone[i]]
    if ranges:
        warn(
            f"Expected ranges of {name!r} that overlap between batches{groups.place}, found {len(ranges)} without: "
            f"{listing(ranges)}. Only extrapolation tells their batch effect from the effect of {name!r}: "
            "add scans that overlap, or do not lean on these batches.",
            OverlapWarning,
        )


def _warn_of_single_levels(name: str, found: np.ndarray, groups: _Groups) -> None:
    positions, distinct = pd.factorize(found)
    low, high = groups.ends(positions)
    single = (low == high) & groups.several
    only = [f"{batch} (all {distinct[int(low[i])]})" for i, batch in enumerate(groups.names) if single[i]]
    if only and len(distinct) > 1:
        warn(
            f"Expected several levels of {name!r} in every batch{groups.place}, found {len(only)} with one: "
            f"{listing(only)}. What {name!r} does there is taken from the other batches: add scans of other "
            "levels, or do not lean on these batches.",
            OverlapWarning,
        )
