"""Whether repeated scans of a subject stay alike, and are known as its own; arrays only."""

import numpy as np
from scipy.spatial.distance import cdist

from bayescombat.evaluate.within import NOTHING, by_pattern, centred, group_means, recoded

__all__ = ["intraclass_correlations", "recognised"]


def intraclass_correlations(values: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return how alike scans of a subject are, beside those of others, (feature,).

    ICC(1) of Shrout and Fleiss (1979), doi:10.1037/0033-2909.86.2.420, with the average number of scans. Scans of
    subjects that have one are left out; a feature that does not vary has zero.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        NaN where a cell is missing.
    units : ndarray of int, (obs,)
        Codes of subjects.
    """

    def correlations(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        group = recoded(units[rows])
        repeated = np.bincount(group)[group] > 1
        group, y = recoded(group[repeated]), y[repeated]
        count = len(np.unique(group))
        if count < 2:
            return np.zeros(y.shape[1])
        means, sizes = group_means(y, group)
        total = sizes.sum()
        between = (sizes[:, None] * (means - y.mean(axis=0)) ** 2).sum(axis=0) / (count - 1)
        within = (centred(y, group) ** 2).sum(axis=0) / (total - count)
        size = (total - (sizes**2).sum() / total) / (count - 1)
        whole = between + (size - 1) * within
        return np.where(whole > NOTHING, (between - within) / np.where(whole > NOTHING, whole, 1.0), 0.0)

    return by_pattern(values, correlations)


def recognised(values: np.ndarray, units: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return for scans of travelling subjects whether the nearest scan of another batch is of the same subject.

    Identification as of fingerprints (Finn et al. 2015, doi:10.1038/nn.4135), by Euclidean distance. Where several are
    equally near, the share of them that are.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        Complete.
    units, batch : ndarray of int, (obs,)
        Codes.

    Returns
    -------
    ndarray, (obs,)
        NaN for scans of subjects that have none in another batch.
    """
    found = np.full(len(values), np.nan)
    for code in np.unique(batch):
        mine, others = np.flatnonzero(batch == code), np.flatnonzero(batch != code)
        mine = mine[np.isin(units[mine], units[others])]
        if not len(mine):
            continue
        apart = cdist(values[mine], values[others])
        nearest = apart <= apart.min(axis=1, keepdims=True) * (1 + 1e-9) + 1e-9
        same = units[mine][:, None] == units[others]
        found[mine] = (nearest & same).sum(axis=1) / nearest.sum(axis=1)
    return found
