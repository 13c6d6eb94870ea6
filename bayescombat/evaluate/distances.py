"""How batches differ across features: covariances, and distances between scans; arrays only."""

from collections.abc import Sequence

import numpy as np
from scipy.spatial.distance import cdist

from bayescombat.evaluate.within import NOTHING, centred, recoded

__all__ = ["FEWEST_FOR_COVARIANCE", "covariance_share", "distances_within_folds", "energy_share", "rotated"]

FEWEST_FOR_COVARIANCE = 4
MOST_ROWS = 500
# All covariance matrices together in 64 MiB of float64.
MOST_NUMBERS = 2**23

type Distances = Sequence[tuple[np.ndarray, np.ndarray]]


def rotated(values: np.ndarray) -> np.ndarray:
    """Return complete values in as few columns as keep all distances and products between scans, (obs, column)."""
    if values.shape[1] <= values.shape[0]:
        return values
    return np.asarray(np.linalg.qr(values.T, mode="r").T)


def covariance_share(values: np.ndarray, batch: np.ndarray) -> float:
    r"""Return the share of squared covariances that is differences between batches.

    .. math:: 1 - \mathrm{tr}\,\bar\Sigma^2 \Big/ \sum_i w_i \, \mathrm{tr}\,\Sigma_i^2

    with :math:`\bar\Sigma = \sum_i w_i \Sigma_i` and weights by scans: squared Frobenius distances of the batches'
    covariance matrices, about zero where these are the same.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        Complete, without the effects of covariates. Batches of fewer than four scans are left out.
    batch : ndarray of int, (obs,)
        Codes.

    Notes
    -----
    Products of covariance matrices are estimated without bias and without a distribution (Li and Chen 2012,
    doi:10.1214/12-AOS993); that of a matrix with itself in the form of Song et al. (2012),
    https://jmlr.org/papers/v13/song12a.html.
    """
    sizes = np.bincount(batch)
    batches = np.flatnonzero(sizes >= FEWEST_FOR_COVARIANCE)
    if len(batches) < 2:
        return 0.0
    inner = centred(values, batch)
    parts = [inner[batch == code] for code in batches]
    weight = sizes[batches] / sizes[batches].sum()
    own = np.array([_squared_norm(part) for part in parts])
    products = _products(parts)
    np.fill_diagonal(products, own)
    total = float(weight @ own)
    if total <= NOTHING * values.shape[1]:
        return 0.0
    return float((total - weight @ products @ weight) / total)


def _products(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the traces of products of covariance matrices (batch, batch) of centred values (obs, feature)."""
    if parts[0].shape[1] ** 2 * len(parts) <= MOST_NUMBERS:
        flat = np.stack([(part.T @ part).ravel() / (len(part) - 1) for part in parts])
        return np.asarray(flat @ flat.T)
    found = np.zeros((len(parts), len(parts)))
    for i, one in enumerate(parts):
        for j, other in enumerate(parts[:i]):
            product = ((one @ other.T) ** 2).sum() / ((len(one) - 1) * (len(other) - 1))
            found[i, j] = found[j, i] = product
    return found


def _squared_norm(values: np.ndarray) -> float:
    """Return the trace of the squared covariance matrix, estimated without bias from four scans or more."""
    n = len(values)
    gram = values @ values.T
    np.fill_diagonal(gram, 0.0)
    rows = gram.sum(axis=0)
    found = (gram**2).sum() + rows.sum() ** 2 / ((n - 1) * (n - 2)) - 2 / (n - 2) * (rows @ rows)
    return float(found / (n * (n - 3)))


def distances_within_folds(values: np.ndarray, fold: np.ndarray, seed: int) -> Distances:
    """Return for every fold the positions of its scans, at most 500 chosen at random, and their distances."""
    rng = np.random.default_rng(seed)
    found = []
    for code in np.unique(fold):
        rows = np.flatnonzero(fold == code)
        if len(rows) > MOST_ROWS:
            rows = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
        found.append((rows, cdist(values[rows], values[rows])))
    return found


def energy_share(distances: Distances, batch: np.ndarray, kept: np.ndarray | None = None) -> float:
    r"""Return by which share scans of different batches are farther apart than scans of the same batch.

    .. math:: \big(2 E|X - Y| - E|X - X'| - E|Y - Y'|\big) \big/ 2 E|X - Y|

    over all pairs of batches: their energy distance (Székely and Rizzo 2013, doi:10.1016/j.jspi.2013.03.018), which is
    zero only if distributions are the same. Only pairs of scans in the same fold count.

    Parameters
    ----------
    distances : sequence of (ndarray of int, ndarray)
        As `distances_within_folds` returns them.
    batch : ndarray of int, (obs,)
        Codes.
    kept : ndarray of bool, (obs,), optional
        Scans that count.
    """
    codes = recoded(batch)
    count = codes.max() + 1
    sums, pairs = np.zeros((count, count)), np.zeros((count, count))
    for rows, apart in distances:
        member = np.eye(count)[codes[rows]]
        if kept is not None:
            member = member * kept[rows][:, None]
        sums += member.T @ apart @ member
        size = member.sum(axis=0)
        pairs += np.outer(size, size) - np.diag(size)
    known = np.diag(pairs) > 0
    inner = np.diag(sums) / np.where(known, np.diag(pairs), 1.0)
    weight = pairs * np.outer(known, known) * (1 - np.eye(count))
    between = float((sums * (weight > 0)).sum())
    within = float((weight * (inner[:, None] + inner) / 2).sum())
    return (between - within) / between if between > NOTHING * max(weight.sum(), 1.0) else 0.0
