"""Which scans are held out together, which are left out together, and what may be exchanged; arrays only."""

from dataclasses import dataclass

import numpy as np

__all__ = ["NEVER", "Exchange", "dealt", "held_out_folds"]

NEVER = -1


def dealt(units: np.ndarray, levels: np.ndarray, parts: int, rng: np.random.Generator) -> np.ndarray:
    """Return parts of about equal size (obs,), in which every level has about its share of units.

    Parameters
    ----------
    units : ndarray of int, (obs,)
        What stays together: codes of subjects, or a code of its own for every scan.
    levels : ndarray of int, (obs, batch variable)
        Codes of batch levels, other ones for every variable.
    parts : int
        How many parts.
    rng : Generator
        Which of them a unit gets, as far as sizes leave that open.
    """
    member = _membership(units, levels)
    sizes = np.bincount(units, minlength=len(member))
    rarest = np.where(member, member.sum(axis=0), len(member) + 1).argmin(axis=1)
    order = rng.permutation(len(member))
    order = order[np.argsort(rarest[order], kind="stable")]
    taken, held = np.zeros((parts, member.shape[1])), np.zeros(parts)
    part = np.zeros(len(member), dtype=np.int64)
    for unit in order:
        choice = np.lexsort((held, taken[:, rarest[unit]]))[0]
        part[unit] = choice
        taken[choice] += member[unit]
        held[choice] += sizes[unit]
    return np.asarray(part[units])


def held_out_folds(units: np.ndarray, levels: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return the fold that every scan is held out in (obs,); `NEVER` where a batch would be left without any.

    The parameters are those of `dealt`. Every level has a unit outside every fold, so that its effect can be learned
    from the other folds; the scans of a unit that no batch can spare are always learned from.
    """
    fold = dealt(units, levels, folds, rng)
    member = _membership(units, levels)
    of_unit = np.zeros(len(member), dtype=np.int64)
    of_unit[units] = fold
    for level in range(member.shape[1]):
        mine = np.flatnonzero(member[:, level])
        free = of_unit[mine]
        if len(mine) and (free >= 0).all() and len(np.unique(free)) == 1:
            of_unit[mine[0]] = NEVER
    return np.asarray(of_unit[units])


def _membership(units: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return whether units have scans at levels, (unit, level)."""
    member = np.zeros((units.max() + 1, levels.max() + 1), dtype=bool)
    member[units[:, None], levels] = True
    return member


@dataclass(frozen=True, eq=False)
class Exchange:
    """Exchanges of labels that change nothing if the labels mean nothing.

    Labels change places among the scans of a unit, and whole units change places with those of as many scans, within
    folds (restricted permutations: Winkler et al. 2015, doi:10.1016/j.neuroimage.2015.05.092).

    Parameters
    ----------
    blocks : tuple of ndarray of int, (unit, scan)
        Positions of the scans of the units that may change places.
    """

    blocks: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, units: np.ndarray, fold: np.ndarray) -> "Exchange":
        """Return the exchanges of scans (obs,), none of which is `NEVER` held out."""
        order = np.lexsort((units, fold))
        starts = np.flatnonzero(np.diff(units[order], prepend=-1) | np.diff(fold[order], prepend=-1))
        blocks: dict[tuple[int, int], list[np.ndarray]] = {}
        for rows in np.split(order, starts[1:]):
            blocks.setdefault((int(fold[rows[0]]), len(rows)), []).append(rows)
        return cls(tuple(np.array(found) for found in blocks.values()))

    def __call__(self, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the labels (obs,) after one random exchange."""
        found = labels.copy()
        for block in self.blocks:
            inner = rng.permuted(block, axis=1) if block.shape[1] > 1 else block
            found[block] = labels[rng.permutation(inner)]
        return found
