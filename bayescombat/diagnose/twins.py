"""Scans and features that stand in the table twice. Arrays only."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from bayescombat.blocks import observed_alike

__all__ = ["Twins", "twin_features"]

# Scans within this of each other in every feature, in standard deviations, are the same but for rounding.
NEAR = 0.01
# Rounding is looked for in tables of at least so many features.
ENOUGH_FEATURES = 10
# By chance fewer pairs of scans than this may agree in all features, were these independent.
BY_CHANCE = 0.01
SEARCHED = 8
SAME_COLUMN = 1e-7


@dataclass(frozen=True, eq=False)
class Twins:
    """Scans that are the same in all features.

    Parameters
    ----------
    first : ndarray of int, (obs,)
        Position of the first scan that this one repeats; its own where it repeats none.
    exact : ndarray of bool, (obs,)
        Whether it does so to the last digit.
    judged : bool
        Whether there are enough distinct values to tell.
    """

    first: np.ndarray
    exact: np.ndarray
    judged: bool

    @classmethod
    def of(cls, y: np.ndarray) -> Self:
        """Return the scans of measurements (obs, feature) that are the same."""
        alone = np.arange(len(y))
        scale = _spreads(y)
        varies = np.flatnonzero(scale > 0)
        seen = ~np.isnan(y)
        chosen, chance = _most_telling(y, varies)
        if chance > BY_CHANCE:
            return cls(alone, np.zeros(len(y), dtype=bool), False)
        reach = NEAR if len(varies) >= ENOUGH_FEATURES else 0.0
        places = np.where(seen[:, chosen], y[:, chosen], 0.0) / scale[chosen]
        pairs = cKDTree(places).query_pairs(reach, p=np.inf, output_type="ndarray")
        alike = [_alike(y, one, other, scale, reach) for one, other in pairs]
        pairs = pairs[np.array(alike, dtype=bool)] if len(pairs) else pairs
        first = _first(pairs, len(y))
        filled = np.nan_to_num(y, nan=np.inf)
        return cls(first, (first != alone) & (filled == filled[first]).all(axis=1), True)


def _alike(y: np.ndarray, one: int, other: int, scale: np.ndarray, reach: float) -> bool:
    """Tell whether two scans miss the same cells, and are within reach in all others."""
    apart = np.abs(y[one] - y[other])
    same = np.isnan(y[one]) == np.isnan(y[other])
    seen = np.isfinite(apart)
    return bool(same.all() and seen.any() and (apart[seen] <= reach * scale[seen]).all())


def _most_telling(y: np.ndarray, varies: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the features to search in, and how many pairs of scans would agree in these by chance."""
    few = varies[np.unique(np.linspace(0, len(varies) - 1, min(len(varies), 8 * SEARCHED)).astype(int))]
    agree = np.array([_agreement(y[:, v]) for v in few])
    best = np.argsort(agree, kind="stable")[:SEARCHED]
    return few[best], float(len(y) ** 2 / 2 * agree[best].prod())


def _agreement(values: np.ndarray) -> float:
    """Return the probability that two scans have one value."""
    _, counts = np.unique(values, return_counts=True, equal_nan=True)
    return float((counts**2).sum() / len(values) ** 2)


def twin_features(y: np.ndarray) -> np.ndarray:
    """Return the position of the first feature that each repeats but for unit and origin, its own for none, (feature,).

    Constant features repeat none. Features are fingerprinted by one fixed random direction over the scans, so that only
    neighbours are compared.
    """
    scans, features = y.shape
    seen = ~np.isnan(y)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, y, 0.0).sum(axis=0) / count
    centred = np.where(seen, y - mean, 0.0)
    size = np.sqrt((centred**2).sum(axis=0))
    told = (size > 1e-12 * np.sqrt(count) * np.abs(mean)) & (seen.sum(axis=0) >= 3)
    unit = centred / np.where(told, size, 1.0)
    along = np.abs(np.random.default_rng(0).standard_normal(scans) @ unit)
    # Rounding of sums must not part features that miss the same cells.
    order = np.lexsort((along, observed_alike(seen)))
    order = order[told[order]]
    pairs = []
    # Features that are the same are neighbours, or have neighbours in between that are the same.
    for one, other in zip(order[:-1], order[1:], strict=True):
        if along[other] - along[one] <= np.sqrt(scans) * SAME_COLUMN and (seen[:, one] == seen[:, other]).all():
            sign = 1.0 if unit[:, one] @ unit[:, other] > 0 else -1.0
            if np.abs(unit[:, one] - sign * unit[:, other]).max() <= SAME_COLUMN:
                pairs.append((one, other))
    return _first(np.array(pairs, dtype=int).reshape(-1, 2), features)


def _first(pairs: np.ndarray, count: int) -> np.ndarray:
    """Return the first of the group that pairs tie each of so many together with."""
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    groups = connected_components(graph, directed=False)[1]
    _, first = np.unique(groups, return_index=True)
    return np.asarray(first[groups])


def _spreads(y: np.ndarray) -> np.ndarray:
    """Return the standard deviations of the columns; zero of constant ones."""
    seen = ~np.isnan(y)
    low, high = np.where(seen, y, np.inf).min(axis=0), np.where(seen, y, -np.inf).max(axis=0)
    count = np.maximum(seen.sum(axis=0), 1)
    mean = np.where(seen, y, 0.0).sum(axis=0) / count
    return np.where(high > low, np.sqrt(np.where(seen, (y - mean) ** 2, 0.0).sum(axis=0) / count), 0.0)
