"""What is left of batches that do not differ, once plain means were taken out; arrays only."""

import numpy as np

from bayescombat.evaluate.distances import covariance_share, distances_within_folds, energy_share, rotated
from bayescombat.evaluate.folds import Exchange
from bayescombat.evaluate.removal import batch_shares, component_shares, principal_scores
from bayescombat.evaluate.within import NOTHING, centred, recoded

__all__ = ["STATISTICS", "chance_shares", "standardised", "without_means"]

STATISTICS = ("variance", "components", "covariances", "distances")
# Enough features to tell what the median one is.
MOST_FEATURES = 500


def chance_shares(
    values: np.ndarray, batch: np.ndarray, fold: np.ndarray, exchange: Exchange, permutations: int, seed: int
) -> np.ndarray:
    """Return shares of batches that do not differ, (permutation, statistic) in the order of `STATISTICS`.

    Labels of batches change places among scans that have no batch effect, and every fold then loses the plain means of
    the other folds. What is left is the error of these means, with the sizes of batches and folds as they are: no
    method can be asked to leave less unless it shrinks.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        Complete and `standardised`.
    batch, fold : ndarray of int, (obs,)
        Codes.
    exchange : Exchange
        Of labels.
    permutations, seed : int
        How many, and which.
    """
    rng = np.random.default_rng(seed)
    some = values[:, np.sort(rng.permutation(values.shape[1])[:MOST_FEATURES])]
    values, none = rotated(values), np.zeros((len(values), 0))
    found = np.zeros((permutations, len(STATISTICS)))
    for row in found:
        labels = exchange(batch, rng)
        rest = centred(without_means(values, labels, fold), fold)
        scores, weight = principal_scores(rest)
        row[0] = np.median(batch_shares(without_means(some, labels, fold), none, labels, fold))
        row[1] = weight @ component_shares(scores, labels, fold) / max(weight.sum(), NOTHING)
        row[2] = covariance_share(rest, labels)
        row[3] = energy_share(distances_within_folds(rest, fold, seed), labels)
    return found


def standardised(values: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return complete values without shifts and scales of batches, (obs, feature)."""
    batch = recoded(batch)
    rest = centred(values, batch)
    for code in range(batch.max() + 1):
        mine = batch == code
        spread = np.sqrt((rest[mine] ** 2).sum(axis=0) / max(mine.sum() - 1, 1))
        if mine.sum() > 2:
            rest[mine] /= np.where(spread > 0, spread, 1.0)
    return rest


def without_means(values: np.ndarray, batch: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return values less the mean that their batch has in the other folds; in its own, where there is but one fold."""
    batch, fold = recoded(batch), recoded(fold)
    folds, width = fold.max() + 1, batch.max() + 1
    sums = np.zeros((folds, width, values.shape[1]))
    np.add.at(sums, (fold, batch), values)
    counts = np.zeros((folds, width))
    np.add.at(counts, (fold, batch), 1)
    if folds > 1:
        sums, counts = sums.sum(axis=0) - sums, counts.sum(axis=0) - counts
    means = sums / np.maximum(counts, 1)[..., None]
    return np.asarray(values - means[fold, batch])
