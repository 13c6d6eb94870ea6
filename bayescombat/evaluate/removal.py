"""What batch explains of every feature: shares of variance, and tests of location and scale; arrays only."""

from typing import NamedTuple

import numpy as np
from scipy import linalg, stats

from bayescombat.evaluate.within import NOTHING, by_pattern, centred, group_means, recoded, residuals

__all__ = ["batch_shares", "component_shares", "components", "location_tests", "principal_scores", "scale_tests"]

MOST_COMPONENTS = 10
# Share of scans that have to be left by means of batches in folds, for variances within these.
SPARED = 0.25


class Components(NamedTuple):
    """Mean squares (feature,) between batches of the same fold and within these, and their degrees of freedom."""

    between: np.ndarray
    within: np.ndarray
    freedom_between: float
    freedom_within: float
    size: float


def components(values: np.ndarray, x: np.ndarray, batch: np.ndarray, fold: np.ndarray) -> Components:
    r"""Return the mean squares of an analysis of covariance, batches being compared within folds.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        Complete.
    x : ndarray, (obs, column)
        Covariates, whose slopes are those within batches.
    batch, fold : ndarray of int, (obs,)
        Codes. Scans of one fold were harmonized by one fit.

    Notes
    -----
    Covariates that differ between batches make means of batches as unsure as their slopes are: with
    :math:`S_b, S_w` the cross-products of covariates between and within batches, the sum of squares between batches has
    the expectation :math:`\sigma^2 (\mathrm{df} + \mathrm{tr}\, S_w^{-1} S_b)` if batches do not differ. That sum is
    what the mean square is divided by.

    Where most batches have but a scan or so in a fold, variance is taken within batches over all folds, to which
    differences between folds add: then less is found between batches.
    """
    batch, cell = recoded(batch), recoded(batch + (batch.max() + 1) * fold)
    rest = residuals(values, x, batch)
    fold_of, first = recoded(fold), np.unique(cell, return_index=True)[1]
    sizes = np.bincount(cell)
    of_cell = fold_of[first]
    sums = _between(rest, cell, fold_of, of_cell, sizes)
    freedom = float(len(sizes) - len(np.unique(fold_of)))
    inner = centred(x, batch)
    rank = int(np.linalg.matrix_rank(inner)) if x.shape[1] else 0
    extra = 0.0
    if rank:
        outer = _between_products(x, cell, fold_of, of_cell, sizes)
        extra = float(np.trace(np.linalg.pinv(inner.T @ inner, rcond=1e-10, hermitian=True) @ outer))
    enough = len(values) - len(sizes) - rank >= SPARED * len(values)
    groups = cell if enough else batch
    freedom_within = float(len(values) - groups.max() - 1 - rank)
    within = (centred(rest, groups) ** 2).sum(axis=0) / max(freedom_within, 1.0)
    in_fold = np.bincount(of_cell, sizes)
    size = (in_fold - np.bincount(of_cell, sizes**2) / in_fold).sum() / max(freedom, 1.0)
    return Components(sums / max(freedom + extra, 1.0), within, freedom, freedom_within, float(size))


def _cell_means(
    values: np.ndarray, cell: np.ndarray, fold: np.ndarray, of_cell: np.ndarray, sizes: np.ndarray
) -> np.ndarray:
    """Return means of cells from the mean of their fold, times the roots of their sizes."""
    means, _ = group_means(values, cell)
    of_fold, _ = group_means(values, fold)
    return np.asarray((means - of_fold[of_cell]) * np.sqrt(sizes)[:, None])


def _between(values: np.ndarray, *groups: np.ndarray) -> np.ndarray:
    return np.asarray((_cell_means(values, *groups) ** 2).sum(axis=0))


def _between_products(values: np.ndarray, *groups: np.ndarray) -> np.ndarray:
    means = _cell_means(values, *groups)
    return np.asarray(means.T @ means)


def batch_shares(values: np.ndarray, x: np.ndarray, batch: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the share of every feature's variance that batch explains, (feature,), beyond covariates.

    The intraclass correlation of scans of the same batch, by the moments of one-way analysis of variance (Searle,
    Casella and McCulloch 1992, doi:10.1002/9780470316856): about zero where batches do not differ, at times below. A
    feature without any variance has share zero.
    """

    def shares(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        found = components(y, x[rows], batch[rows], fold[rows])
        variance = (found.between - found.within) / max(found.size, 1.0)
        total = found.within + np.maximum(variance, 0)
        return np.where(total > NOTHING, variance / np.where(total > NOTHING, total, 1.0), 0.0)

    return by_pattern(values, shares)


def principal_scores(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return scores on the leading principal components (obs, component), and their shares of all variance."""
    deviation = values - values.mean(axis=0)
    most = min(MOST_COMPONENTS, *deviation.shape)
    wide = deviation.shape[1] > deviation.shape[0]
    products = deviation @ deviation.T if wide else deviation.T @ deviation
    last = len(products) - 1
    squares, vectors = linalg.eigh(products, subset_by_index=(last - most + 1, last))
    squares, vectors = np.maximum(squares[::-1], 0.0), vectors[:, ::-1]
    scores = vectors * np.sqrt(squares) if wide else deviation @ vectors
    total = np.trace(products)
    return scores, squares / total if total > NOTHING * values.size else np.zeros(most)


def component_shares(scores: np.ndarray, batch: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the share of the variance of every principal component that batch explains, (component,).

    Averaged by the components' variances this is the batch's part of a principal variance component analysis
    (Boedigheimer et al. 2008, doi:10.1186/1471-2164-9-285).
    """
    return batch_shares(scores, np.zeros((len(scores), 0)), batch, fold)


def location_tests(values: np.ndarray, x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return p-values of equal means of the batches, given covariates, (feature,): analysis of covariance.

    Scans of all folds are taken together. Where batches lose the plain means of the other folds, what these are off by
    cancels over the folds: so it is not what is found, and the test is conservative.
    """

    def tests(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return _tail(components(y, x[rows], batch[rows], np.zeros_like(rows)))

    return by_pattern(values, tests)


def scale_tests(values: np.ndarray, x: np.ndarray, batch: np.ndarray) -> np.ndarray:
    """Return p-values of equal spread in the batches, given covariates, (feature,).

    Brown and Forsythe (1974), doi:10.1080/01621459.1974.10482955: the test of means for distances from the median of
    the batch.
    """

    def tests(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        group = recoded(batch[rows])
        rest = residuals(y, x[rows], group)
        apart = np.zeros_like(rest)
        for code in range(group.max() + 1):
            mine = group == code
            apart[mine] = np.abs(rest[mine] - np.median(rest[mine], axis=0))
        return _tail(components(apart, x[rows][:, :0], group, np.zeros_like(rows)))

    return by_pattern(values, tests)


def _tail(found: Components) -> np.ndarray:
    alike = found.within <= NOTHING
    ratio = found.between / np.where(alike, 1.0, found.within)
    p = stats.f.sf(ratio, max(found.freedom_between, 1.0), max(found.freedom_within, 1.0))
    return np.where(alike, np.where(found.between <= NOTHING, 1.0, 0.0), p)
