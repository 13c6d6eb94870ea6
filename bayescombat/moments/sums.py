"""Rows to sizes, means and centred cross-products. Arrays only.

Every sum runs down its own column: a column's figures are the same bits whatever stands beside it, so that neither an
added feature nor the tables of other sites change them.
"""

from collections.abc import Sequence

import numpy as np

from bayescombat.blocks import column_blocks, side_by_side

__all__ = ["ARRAYS", "cell_sums", "cross_products", "exact_sum"]

ARRAYS = ("n", "mean_x", "sxx", "mean_y", "mean_y_low", "sxy", "syy")


def cell_sums(y: np.ndarray, x: np.ndarray, rows: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the moments of batches.

    Parameters
    ----------
    y : ndarray of float, (obs, feature)
        Measurements, NaN where missing; summed in double precision.
    x : ndarray, (obs, covariate)
        Design columns.
    rows : sequence of ndarray of int
        Positions of every batch's scans.

    Returns
    -------
    dict of ndarray
        By the names of `ARRAYS`. Where no cell is missing, ``n, mean_x, sxx`` have a feature axis of length one.
    """
    covariates = [_centred(np.array(x[r])) for r in rows]
    sums = _covariate_sums(covariates, rows)
    shape = (len(rows), y.shape[1])
    sums |= {name: np.empty(shape) for name in ("mean_y", "mean_y_low", "syy")}
    sums["sxy"] = np.empty((*shape, x.shape[1]))
    holed = {}

    def work(block: slice) -> None:
        for i, r in enumerate(rows):
            mean, low, dy = _centred(np.ascontiguousarray(y[r, block], dtype=float))
            if np.isnan(mean).any():
                values = np.ascontiguousarray(y[r, block], dtype=float)
                seen = ~np.isnan(values)
                mean, low, dy = _centred(values, seen)
                holed[i, block.start] = block, _of_observed(seen, *covariates[i][::2], sums["sxx"][i])
            sums["mean_y"][i, block], sums["mean_y_low"][i, block] = mean, low
            sums["syy"][i, block] = _squares(dy)
            sums["sxy"][i, block] = _products(dy, covariates[i][2])

    side_by_side(work, column_blocks(y.shape[1], max(map(len, rows), default=1)))
    if holed:
        sums |= {name: np.repeat(sums[name], y.shape[1], axis=1) for name in ("n", "mean_x", "sxx")}
        for (i, _), (block, found) in holed.items():
            for name, values in found.items():
                sums[name][i, block] = values
    return sums


def cross_products(y: np.ndarray) -> np.ndarray:
    """Return the centred cross-products of one batch's features (feature, feature_other), over what is observed.

    Where cells are missing, features are measured from their own means, and the scans that lack one of two add nothing.
    """
    seen = ~np.isnan(y)
    _, _, dy = _centred(y.copy()) if seen.all() else _centred(y, seen)
    return _products(dy, dy)


def exact_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _covariate_sums(
    covariates: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], rows: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """Return sizes and the covariates' moments in complete batches."""
    return {
        "n": np.array([[float(len(r))] for r in rows]),
        "mean_x": np.stack([mean for mean, _, _ in covariates])[:, None],
        "sxx": np.stack([_products(dx, dx) for _, _, dx in covariates])[:, None],
    }


def _centred(values: np.ndarray, seen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the column means, what they lose by rounding, and the centred columns, zero where nothing was seen.

    Columns are measured from their first value, so that a constant column centres to exact zeros. Where all were seen
    the centred columns take the place of the values.
    """
    if seen is None:
        first, count = values[0].copy(), np.float64(len(values))
        shifted = values
        shifted -= first
    else:
        first = np.take_along_axis(values, seen.argmax(axis=0)[None], axis=0)[0]
        first, count = np.where(seen.any(axis=0), first, 0.0), np.maximum(seen.sum(axis=0), 1)
        shifted = np.where(seen, values - first, 0.0)
    mean = _column_sums(shifted) / count
    shifted -= mean
    return *exact_sum(first, mean), shifted if seen is None else np.where(seen, shifted, 0.0)


def _products(columns: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the sums of products of every column with every other one, (column, other)."""
    pair, width = _at_least_two(columns), columns.shape[1]
    sums = [np.einsum("of,o->f", pair, np.ascontiguousarray(other))[:width] for other in others.T]
    return np.stack(sums, axis=-1) if sums else np.zeros((width, 0))


def _column_sums(columns: np.ndarray) -> np.ndarray:
    return np.asarray(_at_least_two(columns).sum(axis=0)[: columns.shape[1]])


def _squares(columns: np.ndarray) -> np.ndarray:
    pair = _at_least_two(columns)
    return np.asarray(np.einsum("of,of->f", pair, pair)[: columns.shape[1]])


def _at_least_two(columns: np.ndarray) -> np.ndarray:
    """Return the columns, one alone twice: NumPy adds up a single column in another order."""
    return np.repeat(columns, 2, axis=1) if columns.shape[1] == 1 else columns


def _of_observed(seen: np.ndarray, mean_x: np.ndarray, dx: np.ndarray, sxx: np.ndarray) -> dict[str, np.ndarray]:
    """Return sizes and covariates' moments over the scans that each feature was observed in."""
    count, holes = seen.sum(axis=0).astype(float), ~seen.all(axis=0)
    weight = np.ascontiguousarray(seen[:, holes], dtype=float)
    size = np.maximum(count[holes], 1)[:, None]
    offset = _products(weight, dx) / size
    pairs = (dx[:, :, None] * dx[:, None, :]).reshape(len(dx), -1)
    squares = _products(weight, pairs).reshape(weight.shape[1], *sxx.shape[1:])
    squares -= size[..., None] * offset[:, :, None] * offset[:, None, :]
    several = count[holes] > 1
    means, products = np.repeat(mean_x[None], len(count), axis=0), np.repeat(sxx, len(count), axis=0)
    means[holes] = np.where(count[holes, None] > 0, mean_x + offset, 0.0)
    products[holes] = np.where(several[:, None, None], squares, 0.0)
    return {"n": count, "mean_x": means, "sxx": products}
