"""What can be learned from the moments: the design must be estimable, features must vary."""

import numpy as np

from bayescombat.columns import warn
from bayescombat.empirical import least_squares
from bayescombat.errors import ConfoundedDesignError, DataError, FeatureWarning, listing
from bayescombat.moments import Moments

__all__ = ["estimable"]

# Shares of variance below these are rounding error.
NO_VARIATION = 1e-12
COLLINEAR = 1e-10
EXPLAINED = 1e-13


def estimable(moments: Moments) -> Moments:
    """Return the moments of the features that batch effects can be learned for.

    Features that are constant overall, or inside a batch of two or more scans, and features that batch and
    covariates explain exactly, are set aside with a warning.

    Raises
    ------
    DataError
        If there are too few batches or scans, or every feature was set aside.
    ConfoundedDesignError
        If batch and covariates cannot be told apart.
    """
    _check_size(moments)
    _check_reference(moments)
    _check_confounding(moments)
    constant = moments.constant
    _warn_set_aside(moments, constant, "constant overall or inside a batch of two or more scans")
    varying = moments.select(~constant)
    explained = _explained(varying)
    _warn_set_aside(varying, explained, "explained exactly by batch and covariates")
    kept = varying.select(~explained)
    if not kept.features:
        raise DataError(
            f"Expected at least one feature that varies within batches, found none among {listing(moments.features)}."
        )
    return kept


def _check_size(moments: Moments) -> None:
    scans = moments.scans
    if (scans > 0).sum() < 2:
        raise DataError(
            f"Expected scans of at least two batches, found {listing(np.array(moments.batches)[scans > 0])}. "
            "There is nothing to harmonize; merge the moments of other batches first."
        )
    if (scans == 0).any():
        raise DataError(
            f"Expected scans of every batch, found none of {listing(np.array(moments.batches)[scans == 0])}."
        )
    needed = len(scans) + len(moments.covariates)
    if scans.sum() <= needed:
        raise DataError(
            f"Expected more scans than batches and covariates together ({len(scans)} + {len(moments.covariates)}), "
            f"found {scans.sum()} scans for the covariates {listing(moments.covariates)}. "
            "Leave covariates out or add scans."
        )


def _check_reference(moments: Moments) -> None:
    reference, batches = moments.reference, moments.batches
    if reference is None:
        return
    if reference not in batches:
        raise DataError(
            f"Expected one of the batches {listing(batches)} as reference, found {reference!r}. "
            "Merge the moments of that batch too, or make every part with another reference."
        )
    if moments.scans[batches.index(reference)] < 2:
        raise DataError(
            f"Expected a reference batch of at least two scans, found one scan in {reference!r}. Its scale cannot "
            "be estimated from one scan, so nothing can be brought to it: choose a larger batch."
        )


def _check_confounding(moments: Moments) -> None:
    pooled = moments.sxx.sum(axis=0)
    offset = moments.mean_x - moments.center
    total = pooled + np.einsum("bf,bfp,bfq->fpq", moments.n, offset, offset)
    within, overall = np.einsum("fpp->fp", pooled), np.einsum("fpp->fp", total)
    flat = (within <= NO_VARIATION * overall).any(axis=0)
    if flat.any():
        names = np.array(moments.covariates, dtype=object)[flat]
        column = int(np.flatnonzero(flat)[0])
        means = [
            f"{label!r} {value:.4g}" for label, value in zip(moments.batches, moments.mean_x[:, 0, column], strict=True)
        ]
        more = f" and {len(means) - 5} more" if len(means) > 5 else ""
        raise ConfoundedDesignError(
            f"Expected covariates that vary within at least one batch, found {listing(names)} constant within every "
            f"batch (batch means of {names[0]!r}: {', '.join(means[:5])}{more}). Its effect cannot be told from "
            "batch. Leave it out, or add scans of batches in which it varies."
        )
    for pooled_one in pooled:
        _check_rank(moments, pooled_one)


def _check_rank(moments: Moments, pooled: np.ndarray) -> None:
    if not len(pooled):
        return
    scale = np.sqrt(np.diag(pooled))
    values, vectors = np.linalg.eigh(pooled / np.outer(scale, scale))
    if values[0] > COLLINEAR:
        return
    involved = np.abs(vectors[:, 0]) > 1e-3
    names = np.array(moments.covariates, dtype=object)[involved]
    raise ConfoundedDesignError(
        f"Expected covariates that can be told apart within batches, found {listing(names)} to be collinear within "
        f"every one of the batches {listing(moments.batches)}. Leave one of them out."
    )


def _explained(moments: Moments) -> np.ndarray:
    """Return which features have no residual variance, overall or in a batch of two or more scans, (feature,).

    Raises
    ------
    ConfoundedDesignError
        If that is so of every feature in one batch: a covariate varies in that batch alone.
    """
    if not moments.features:
        return np.zeros(0, dtype=bool)
    ssr = least_squares(moments).ssr
    overall = ssr.sum(axis=0) <= EXPLAINED * moments.syy.sum(axis=0)
    inside = (ssr <= EXPLAINED * moments.syy) & (moments.n >= 2)
    whole = inside.all(axis=1) & ~overall.all()
    if whole.any():
        batch = int(np.flatnonzero(whole)[0])
        within = np.einsum("bpp->bp", moments.sxx[:, 0])
        alone = (within[batch] > 0) & (np.delete(within, batch, axis=0) <= NO_VARIATION * within[batch]).all(axis=0)
        names = np.array(moments.covariates, dtype=object)[alone if alone.any() else within[batch] > 0]
        raise ConfoundedDesignError(
            f"Expected covariates that leave residual variance in every batch, found that {listing(names)} explain all "
            f"of {moments.batches[batch]!r}, whose scale cannot be told. Leave them out, or add scans of that batch or "
            "of others in which they vary."
        )
    return np.asarray(overall | inside.any(axis=0))


def _warn_set_aside(moments: Moments, mask: np.ndarray, reason: str) -> None:
    if mask.any():
        names = np.array(moments.features, dtype=object)[mask]
        warn(
            f"Set aside {mask.sum()} of {len(mask)} features, {reason}: {listing(names)}. "
            "What is set aside is returned as it came and influences nothing else.",
            FeatureWarning,
        )
