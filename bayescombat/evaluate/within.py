"""Means, slopes and residuals within batches, with cells missing or not; arrays only."""

from collections.abc import Callable, Iterator

import numpy as np

from bayescombat.blocks import observed_alike

__all__ = [
    "by_pattern",
    "centred",
    "filled",
    "from_folds",
    "group_means",
    "patterns",
    "pooled_slopes",
    "recoded",
    "residuals",
    "within_slopes",
]

# Shares of a feature's variance below these are rounding error.
NOTHING = 1e-18


def recoded(codes: np.ndarray) -> np.ndarray:
    """Return codes (obs,) that count from zero without gaps."""
    return np.asarray(np.unique(codes, return_inverse=True)[1].reshape(-1))


def by_pattern(values: np.ndarray, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> np.ndarray:
    """Return what a function says of every feature, (..., feature), given only scans that it was observed in.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        NaN where a cell is missing.
    function : callable
        Of complete values (observed, feature) and the positions of these scans (observed,).
    """
    found = None
    for rows, columns in patterns(values):
        part = function(values[np.ix_(rows, columns)], rows)
        if found is None:
            found = np.zeros((*part.shape[:-1], values.shape[1]))
        found[..., columns] = part
    assert found is not None
    return found


def patterns(values: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the positions of scans and of features that were observed in just these, for every set of some scans."""
    seen = ~np.isnan(values)
    pattern = observed_alike(seen)
    for number in range(pattern.max() + 1):
        columns = np.flatnonzero(pattern == number)
        rows = np.flatnonzero(seen[:, columns[0]])
        if len(rows):
            yield rows, columns


def group_means(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the means of groups (group, feature), and how many scans they have (group,); codes have no gaps."""
    sizes = np.bincount(groups)
    order = np.argsort(groups, kind="stable")
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return np.add.reduceat(values[order], starts, axis=0) / sizes[:, None], sizes


def centred(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return values measured from the mean of their group, (obs, feature)."""
    groups = recoded(groups)
    means, _ = group_means(values, groups)
    return np.asarray(values - means[groups])


def from_folds(values: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return values measured from the mean of their fold, (obs, feature), with cells missing or not."""
    found = values.copy()
    for rows, columns in patterns(values):
        part = np.ix_(rows, columns)
        found[part] = centred(values[part], fold[rows])
    return found


def within_slopes(values: np.ndarray, x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return the slopes of columns x (obs, column) with an intercept for every batch, (column, feature).

    The estimate of analysis of covariance; what batch explains of a column tells nothing of its slope.
    """

    def slopes(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return np.asarray(np.linalg.pinv(centred(x[rows], batch[rows]), rcond=1e-10) @ centred(y, batch[rows]))

    return by_pattern(values, slopes) if x.shape[1] else np.zeros((0, values.shape[1]))


def pooled_slopes(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the slopes of an analysis that knows no batch, (column, feature)."""
    return within_slopes(values, x, np.zeros(len(x), dtype=np.int64))


def residuals(values: np.ndarray, x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return values (obs, feature) without what covariates explain within batches.

    Batches that differ in their covariates should differ in their values. What is left should not, if the covariates'
    effects are those that they have within batches.
    """
    if not x.shape[1]:
        return values
    return np.asarray(values - (x - x.mean(axis=0)) @ within_slopes(values, x, batch))


def filled(values: np.ndarray, seed: int, donors: np.ndarray | None = None) -> np.ndarray:
    """Return values with every missing cell filled by another scan's value of the feature, chosen at random.

    Such a cell says nothing of its batch, and neither does that it was missing. With the same seed, tables that lack
    the same cells are filled from the same scans.

    Parameters
    ----------
    values : ndarray, (obs, feature)
    seed : int
        Which scans are chosen.
    donors : ndarray, (obs, feature), optional
        Where they are chosen from; by default among the values themselves.
    """
    lacking = np.isnan(values)
    if not lacking.any():
        return values
    rng = np.random.default_rng(seed)
    source, found = values if donors is None else donors, values.copy()
    for column in np.flatnonzero(lacking.any(axis=0)):
        known = source[~np.isnan(source[:, column]), column]
        rows = lacking[:, column]
        found[rows, column] = rng.choice(known, rows.sum()) if len(known) else 0.0
    return found
