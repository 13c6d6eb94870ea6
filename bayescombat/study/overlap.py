"""Where the covariates of batches do not meet: there the model extrapolates between batches."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from bayescombat.batches import Levels
from bayescombat.columns import inferred, is_numeric, labels, warn
from bayescombat.errors import OverlapWarning, listing

__all__ = ["Gap", "gaps", "warn_of_gaps"]


class Gap(NamedTuple):
    """Batches of two or more scans that meet the others in no value of a covariate, or hold one level of it.

    Parameters
    ----------
    column : str
        The covariate as it stands in the table.
    variable : str
        The batch variable, if there are several; else empty.
    is_range : bool
        Whether ranges do not meet; else the batches hold a single level.
    batches : tuple of str
        Labels of the batches.
    held : tuple of str
        What each of them holds.
    """

    column: str
    variable: str
    is_range: bool
    batches: tuple[str, ...]
    held: tuple[str, ...]

    @property
    def words(self) -> str:
        """What is expected, what was found, and what that does."""
        place = f" of {self.variable!r}" if self.variable else ""
        found = listing(f"{batch} ({held})" for batch, held in zip(self.batches, self.held, strict=True))
        if self.is_range:
            return (
                f"Expected ranges of {self.column!r} that overlap between batches{place}, found {len(self.batches)} "
                f"without: {found}. Only extrapolation tells their batch effect from the effect of {self.column!r}"
            )
        return (
            f"Expected several levels of {self.column!r} in every batch{place}, found {len(self.batches)} with one: "
            f"{found}. What {self.column!r} does there is taken from the other batches"
        )

    @property
    def advice(self) -> str:
        """What to do."""
        more = "that overlap" if self.is_range else "of other levels"
        return f"add scans {more}, or do not lean on these batches."


def warn_of_gaps(
    table: pd.DataFrame, columns: Sequence[str], levels: Levels, batches: Sequence[str], codes: np.ndarray
) -> None:
    """Warn, once per column and batch variable, of batches whose covariates do not meet those of the others.

    The parameters are those of `gaps`.

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
    for gap in gaps(table, columns, levels, batches, codes):
        warn(f"{gap.words}: {gap.advice}", OverlapWarning)


def gaps(
    table: pd.DataFrame, columns: Sequence[str], levels: Levels, batches: Sequence[str], codes: np.ndarray
) -> list[Gap]:
    """Return, for each column and batch variable, the batches that meet the others in no value.

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
    """
    known, found = levels.known(batches)[codes], []
    for variable in levels.active:
        named = levels.names[variable], variable if len(levels.variables) > 1 else ""
        places = known[:, levels.variables.index(variable)]
        for name in columns:
            values = inferred(table[name])
            if is_numeric(values) and values.nunique() > 2:
                held = _ranges_apart(values.to_numpy(dtype=np.float64), places)
                is_range = True
            else:
                held = _single_levels(labels(values, "covariate"), places)
                is_range = False
            if held:
                at = tuple(named[0][i] for i in held)
                found.append(Gap(name, named[1], is_range, at, tuple(held.values())))
    return found


def _ranges_apart(values: np.ndarray, codes: np.ndarray) -> dict[int, str]:
    low, high = _ends(values, codes)
    meets = (low[:, None] <= high) & (high[:, None] >= low)
    alone = (meets.sum(axis=1) == 1) & (np.bincount(codes) >= 2)
    return {int(i): f"{low[i]:.6g} to {high[i]:.6g}" for i in np.flatnonzero(alone)}


def _single_levels(found: np.ndarray, codes: np.ndarray) -> dict[int, str]:
    positions, distinct = pd.factorize(found)
    if len(distinct) < 2:
        return {}
    low, high = _ends(positions, codes)
    single = (low == high) & (np.bincount(codes) >= 2)
    return {int(i): f"all {distinct[int(low[i])]}" for i in np.flatnonzero(single)}


def _ends(values: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest of the values (obs,) in every level, (level,)."""
    low, high = np.full(codes.max() + 1, np.inf), np.full(codes.max() + 1, -np.inf)
    np.minimum.at(low, codes, values)
    np.maximum.at(high, codes, values)
    return low, high
