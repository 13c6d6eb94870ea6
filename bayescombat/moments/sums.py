"""Rows to sizes, means and centred cross-products. Arrays only.

Every sum runs down its own column: a column's figures are the same bits whatever stands beside it, so that neither an
added feature nor the tables of other sites change them.
"""

import numpy as np

__all__ = ["ARRAYS", "cell_sums", "cross_products", "exact_sum", "joined"]

ARRAYS = ("n", "mean_x", "sxx", "mean_y", "mean_y_low", "sxy", "syy")


def cell_sums(y: np.ndarray, x: np.ndarray) -> dict[str, np.ndarray]:
    """Return the moments of one batch.

    Parameters
    ----------
    y : ndarray, (obs, feature)
        Measurements, NaN where missing.
    x : ndarray, (obs, covariate)
        Design columns.

    Returns
    -------
    dict of ndarray
        By the names of `ARRAYS`. Where no cell is missing, ``n, mean_x, sxx`` have a feature axis of length one.
    """
    seen = ~np.isnan(y)
    whole = bool(seen.all())
    mean_x, _, dx = _centred(x)
    mean_y, low, dy = _centred(y) if whole else _centred(y, seen)
    sums = {
        "n": np.array([float(len(x))]),
        "mean_x": mean_x[None],
        "sxx": _products(dx, dx)[None],
        "mean_y": mean_y,
        "mean_y_low": low,
        "sxy": _products(dy, dx),
        "syy": (dy * dy).sum(axis=0),
    }
    return sums if whole else sums | _of_observed(seen, mean_x, dx, sums["sxx"])


def cross_products(y: np.ndarray) -> np.ndarray:
    """Return the centred cross-products of one batch's features (feature, feature_other), over what is observed.

    Where cells are missing, features are measured from their own means, and the scans that lack one of two add nothing.
    """
    seen = ~np.isnan(y)
    _, _, dy = _centred(y) if seen.all() else _centred(y, seen)
    return _products(dy, dy)


def joined(cells: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the moments of all batches, with a whole feature axis if any batch has one."""
    stacked = {}
    for name in ARRAYS:
        parts = [cell[name] for cell in cells]
        shape = np.broadcast_shapes(*(part.shape for part in parts))
        stacked[name] = np.stack([np.broadcast_to(part, shape) for part in parts])
    return stacked


def exact_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _centred(values: np.ndarray, seen: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the column means, what they lose by rounding, and the centred columns, zero where nothing was seen.

    Columns are measured from their first value, so that a constant column centres to exact zeros.
    """
    if seen is None:
        first, count = values[0], np.float64(len(values))
        shifted = values - first
    else:
        first = np.take_along_axis(values, seen.argmax(axis=0)[None], axis=0)[0]
        first, count = np.where(seen.any(axis=0), first, 0.0), np.maximum(seen.sum(axis=0), 1)
        shifted = np.where(seen, values - first, 0.0)
    mean = shifted.sum(axis=0) / count
    shifted -= mean
    return *exact_sum(first, mean), shifted if seen is None else np.where(seen, shifted, 0.0)


def _products(columns: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the sums of products of every column with every other one, (column, other)."""
    sums = [np.einsum("of,o->f", columns, np.ascontiguousarray(other)) for other in others.T]
    return np.stack(sums, axis=-1) if sums else np.zeros((columns.shape[1], 0))


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
