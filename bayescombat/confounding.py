"""Whether covariates can be told from batches, and what they leave of the features; arrays only."""

import numpy as np

from bayescombat.blocks import with_each
from bayescombat.errors import ConfoundedDesignError, listing
from bayescombat.moments import Moments
from bayescombat.regression import least_squares, products_of_covariates
from bayescombat.shrinkage import LEAST_FREEDOM

__all__ = ["COLLINEAR", "NO_VARIATION", "confounded", "explained", "squares_of_covariates"]

# Shares of variance below these are rounding error.
NO_VARIATION = 1e-12
COLLINEAR = 1e-10
EXPLAINED = 1e-13


def confounded(moments: Moments) -> np.ndarray:
    """Return which features were observed in scans that cannot tell slopes from batches, (feature,).

    Raises
    ------
    ConfoundedDesignError
        If that is every feature.
    """
    if not moments.covariates or not moments.features:
        return np.zeros(len(moments.features), dtype=bool)
    # Penalised columns are told from anything by their penalty.
    free = moments.spec.unpenalised
    pooled, overall = squares_of_covariates(moments)
    within = np.einsum("fpp->fp", pooled)
    flat = within <= NO_VARIATION * overall
    scale = np.sqrt(np.where(within > 0, within, 1))
    values, vectors = np.linalg.eigh(pooled / (scale[:, :, None] * scale[:, None, :]))
    bad = flat.any(axis=1) | (values[:, 0] <= COLLINEAR)
    if not bad.all():
        return np.broadcast_to(bad, len(moments.features))
    if flat[0].any():
        raise _flat_error(moments, free[flat[0]])
    names = np.array(moments.covariates, dtype=object)[free[np.abs(vectors[0, :, 0]) > 1e-3]]
    raise ConfoundedDesignError(
        f"Expected covariates that can be told apart within batches, found {listing(names)} to be collinear within "
        f"every one of the batches {listing(moments.batches)}. Leave one of them out."
    )


def squares_of_covariates(moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Return what batches leave of unpenalised design columns, and the columns' sums of squares.

    Returns
    -------
    within : ndarray, (1 or feature, column, column)
        Cross-products of the columns, less what batches explain.
    overall : ndarray, (1 or feature, column)
        Sums of squares about the columns' means.
    """
    free = moments.spec.unpenalised
    offset = np.where((moments.n > 0)[..., None], moments.mean_x - moments.center, 0.0)
    overall = np.einsum("bfpp->fp", moments.sxx) + np.einsum("bfp,bfp->fp", moments.n[..., None] * offset, offset)
    return products_of_covariates(moments)[2][:, free[:, None], free], overall[:, free]


def explained(moments: Moments) -> np.ndarray:
    """Return which features have no residual variance, overall or in a batch of two or more scans, (feature,).

    Raises
    ------
    ConfoundedDesignError
        If that is so of every feature in one batch: a covariate varies in that batch alone.
    """
    if not moments.features:
        return np.zeros(0, dtype=bool)
    overall = np.empty(len(moments.features), dtype=bool)
    inside = np.empty((len(moments.levels.labels), len(overall)), dtype=bool)

    def work(block: slice) -> None:
        part = moments.of_features(block)
        fit = least_squares(part)
        overall[block] = fit.ssr.sum(axis=0) <= EXPLAINED * part.syy.sum(axis=0)
        squares, left = part.syy, fit.ssr
        if fit.additive.crossed:
            indicator = fit.additive.indicator
            squares = indicator.T @ (part.syy + part.n * (part.mean_y - part.mean_y.mean(axis=0)) ** 2)
            left = indicator.T @ fit.ssr
        inside[:, block] = (left <= EXPLAINED * squares) & (fit.additive.freedom() >= LEAST_FREEDOM)

    with_each(work, len(overall))
    whole = inside.all(axis=1) & ~overall.all() & bool(moments.covariates)
    if whole.any():
        raise _alone_error(moments, int(np.flatnonzero(whole)[0]))
    return np.asarray(overall | inside.any(axis=0))


def _flat_error(moments: Moments, flat: np.ndarray) -> ConfoundedDesignError:
    names = np.array(moments.covariates, dtype=object)[flat]
    column = int(flat[0])
    means = [
        f"{label!r} {value:.4g}" for label, value in zip(moments.batches, moments.mean_x[:, 0, column], strict=True)
    ]
    more = f" and {len(means) - 5} more" if len(means) > 5 else ""
    return ConfoundedDesignError(
        f"Expected covariates that vary within at least one batch, found {listing(names)} constant within every "
        f"batch (batch means of {names[0]!r}: {', '.join(means[:5])}{more}). Its effect cannot be told from "
        "batch. Leave it out, or add scans of batches in which it varies."
    )


def _alone_error(moments: Moments, level: int) -> ConfoundedDesignError:
    mine = (moments.positions == level).any(axis=1)
    within = np.einsum("bpp->bp", moments.sxx.mean(axis=1))
    here, there = within[mine].sum(axis=0), within[~mine].sum(axis=0)
    alone = (here > 0) & (there <= NO_VARIATION * here)
    names = np.array(moments.covariates, dtype=object)[alone if alone.any() else here > 0]
    return ConfoundedDesignError(
        f"Expected covariates that leave residual variance in every batch, found that {listing(names)} explain all "
        f"of {moments.levels.labels[level]!r}, whose scale cannot be told. Leave them out, or add scans of that batch "
        "or of others in which they vary."
    )
