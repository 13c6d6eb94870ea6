"""Scans of the same subject in the same batch: how many there are, and their means."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import xarray as xr

from bayescombat.columns import sorted_labels
from bayescombat.study.scans import hold_read_only

__all__ = ["Subjects"]

ARRAYS = ("n", "mean_x", "mean_y")


@dataclass(frozen=True, eq=False)
class Subjects:
    """What a random intercept of every subject needs beside the batches' moments.

    A *pair* is a subject and a batch that has scans of it. Pairs stand in the order of subjects, then batches.

    Parameters
    ----------
    labels : tuple of str, (subject,)
        Labels of the subjects.
    subject, batch : ndarray of int, (pair,)
        Positions of the pair's subject among the labels, and of its batch among those of the moments.
    n : ndarray, (pair, 1 or feature)
        Scans that the feature was observed in.
    mean_x : ndarray, (pair, 1 or feature, covariate)
        Means of the design columns over the observed scans.
    mean_y : ndarray, (pair, feature)
        Means of the features; zero where nothing was observed.
    """

    labels: tuple[str, ...]
    subject: np.ndarray
    batch: np.ndarray
    n: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        hold_read_only(self, ("subject", "batch", *ARRAYS))

    @classmethod
    def of(cls, found: np.ndarray, codes: np.ndarray, y: np.ndarray, x: np.ndarray) -> Self:
        """Return the subjects of scans.

        Parameters
        ----------
        found : ndarray of str, (obs,)
            Labels of the scans' subjects.
        codes : ndarray of int, (obs,)
            Positions of their batches.
        y : ndarray, (obs, feature)
            Values; NaN where missing.
        x : ndarray, (obs, covariate)
            Design columns.
        """
        labels = sorted_labels(found)
        place = {label: i for i, label in enumerate(labels)}
        members = np.array([place[label] for label in found], dtype=np.int64)
        order = np.lexsort((codes, members))
        members, codes, y, x = members[order], codes[order], y[order], x[order]
        starts = _starts(members, codes)
        seen = ~np.isnan(y)
        weight = np.ones((len(y), 1)) if seen.all() else seen.astype(float)
        n = np.add.reduceat(weight, starts, axis=0)
        count = np.maximum(n, 1)
        mean_x = np.add.reduceat(weight[..., None] * x[:, None, :], starts, axis=0) / count[..., None]
        mean_y = np.add.reduceat(np.where(seen, y, 0.0), starts, axis=0) / count
        return cls(labels, members[starts], codes[starts], n, mean_x, mean_y)

    @property
    def starts(self) -> np.ndarray:
        """Where each subject's pairs begin, (subject,)."""
        return np.flatnonzero(np.diff(self.subject, prepend=-1))

    @property
    def nested(self) -> bool:
        """Whether every subject was scanned in one batch."""
        return len(self.subject) == len(self.labels)

    def total(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of values (pair, ...) over the pairs of every subject, (subject, ...)."""
        return np.asarray(np.add.reduceat(values, self.starts, axis=0))

    def select(self, keep: np.ndarray) -> Self:
        """Return the subjects of the features where `keep` (feature,) is true."""
        spread = ("mean_y",) if self.n.shape[1] == 1 else ARRAYS
        arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name)[:, keep]) for name in spread}
        return replace(self, **arrays)

    def among(self, wanted: Iterable[str]) -> Self:
        """Return those subjects alone whose labels are wanted."""
        chosen = set(wanted)
        return self._of_pairs(np.array([label in chosen for label in self.labels], dtype=bool)[self.subject])

    def of_batches(self, kept: Sequence[int]) -> Self:
        """Return the pairs of the batches at some positions, which are numbered anew."""
        places = np.full(max((*self.batch, *kept)) + 1, -1)
        places[list(kept)] = np.arange(len(kept))
        found = self._of_pairs(places[self.batch] >= 0)
        return replace(found, batch=places[found.batch])

    def _of_pairs(self, rows: np.ndarray) -> Self:
        known = np.isin(np.arange(len(self.labels)), self.subject[rows])
        arrays: dict[str, Any] = {name: getattr(self, name)[rows] for name in ("batch", *ARRAYS)}
        labels = tuple(label for label, mine in zip(self.labels, known, strict=True) if mine)
        return replace(self, labels=labels, subject=(np.cumsum(known) - 1)[self.subject[rows]], **arrays)

    def placed(self, places: Sequence[int]) -> Self:
        """Return the subjects with batch i at position `places[i]`."""
        return self.joined([replace(self, batch=np.asarray(places, dtype=np.int64)[self.batch])])

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """Return the subjects of all parts, whose batches are numbered alike; pairs in several parts become one."""
        labels = sorted_labels(label for part in parts for label in part.labels)
        place = {label: i for i, label in enumerate(labels)}
        member = np.concatenate(
            [np.array([place[label] for label in p.labels], dtype=np.int64)[p.subject] for p in parts]
        )
        batch = np.concatenate([part.batch for part in parts])
        wide = max(part.n.shape[1] for part in parts)
        order = np.lexsort((batch, member))
        n, mean_x, mean_y = (np.concatenate([_widened(p, name, wide) for p in parts])[order] for name in ARRAYS)
        member, batch = member[order], batch[order]
        starts = _starts(member, batch)
        first_x, first_y = mean_x[starts], mean_y[starts]
        of = np.cumsum(np.isin(np.arange(len(member)), starts)) - 1
        total = np.add.reduceat(n, starts, axis=0)
        count = np.maximum(total, 1)
        # Measured from the first part's mean, which a pair of one part keeps to the last bit.
        mean_x = first_x + np.add.reduceat(n[..., None] * (mean_x - first_x[of]), starts, axis=0) / count[..., None]
        mean_y = first_y + np.add.reduceat(n * (mean_y - first_y[of]), starts, axis=0) / count
        return cls(labels, member[starts], batch[starts], total, mean_x, mean_y)

    def to_variables(self) -> dict[str, xr.Variable]:
        """Return the arrays as variables of a Dataset, by names that begin with ``pair_``, and the labels."""
        feature = () if self.n.shape[1] == 1 else ("feature",)
        n, mean_x = (self.n, self.mean_x) if feature else (self.n[:, 0], self.mean_x[:, 0])
        return {
            "subject": xr.Variable("subject", list(self.labels)),
            "pair_subject": xr.Variable("pair", self.subject),
            "pair_batch": xr.Variable("pair", self.batch),
            "pair_n": xr.Variable(("pair", *feature), n),
            "pair_mean_x": xr.Variable(("pair", *feature, "covariate"), mean_x),
            "pair_mean_y": xr.Variable(("pair", "feature"), self.mean_y),
        }

    @classmethod
    def from_dataset(cls, data: xr.Dataset) -> Self | None:
        """Return the subjects held by a Dataset that has the variables of `to_variables`, if it has."""
        if "pair_subject" not in data:
            return None
        subject, batch = (data[f"pair_{name}"].values.astype(np.int64) for name in ("subject", "batch"))
        n, mean_x, mean_y = (np.array(data[f"pair_{name}"].values, dtype=float) for name in ARRAYS)
        if n.ndim == 1:
            n, mean_x = n[:, None], mean_x[:, None]
        return cls(tuple(str(label) for label in data["subject"].values), subject, batch, n, mean_x, mean_y)


def _starts(member: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return where pairs begin among scans or pairs that are sorted by them."""
    return np.flatnonzero((np.diff(member, prepend=-1) != 0) | (np.diff(batch, prepend=-1) != 0))


def _widened(subjects: Subjects, name: str, wide: int) -> np.ndarray:
    """Return an array with as many features in its axis as the widest part has."""
    values: np.ndarray = getattr(subjects, name)
    if name == "mean_y" or values.shape[1] == wide:
        return values
    return np.repeat(values, wide, axis=1)
