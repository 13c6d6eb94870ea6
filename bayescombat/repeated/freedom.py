"""What scans of subjects can tell: whether noise, intercepts and batches are told apart. Arrays only."""

from typing import NamedTuple

import numpy as np

from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.repeated.design import Design

__all__ = ["Freedom", "freedom_of"]

# Shares of a column's sum of squares below this are rounding error.
NO_RANK = 1e-10


class Freedom(NamedTuple):
    """What is left to tell of noise and of intercepts.

    Parameters
    ----------
    noise : ndarray, (1 or feature,)
        Scans less what batches, covariates and subjects explain by themselves.
    intercepts : ndarray, (1 or feature,)
        What subjects explain by themselves beside batches and covariates.
    unexplained : ndarray, (feature,)
        Share of the residual sum of squares that subjects, whatever their intercepts, do not explain.
    """

    noise: np.ndarray
    intercepts: np.ndarray
    unexplained: np.ndarray


def freedom_of(moments: Moments) -> Freedom:
    """Return what is left of the degrees of freedom once subjects are fitted like batches.

    Parameters
    ----------
    moments : Moments
        With subjects; of features whose batches and covariates can be told apart.
    """
    fit, design = least_squares(moments), Design.of(moments)
    sums, free = design.sums(fit), design.penalised < 0
    size = sums.size[:, None]
    # The scans less the means of their subjects.
    within = sums.design - (sums.products / size[..., None, None]).sum(axis=0)
    unit = np.sqrt(np.einsum("fpp->fp", sums.design)[:, free])
    scaled = (part[:, free][:, :, free] / (unit[:, :, None] * unit[:, None, :]) for part in (sums.design, within))
    (overall, _), (values, vectors) = map(np.linalg.eigh, scaled)
    known = values > NO_RANK
    rank, subjects = known.sum(axis=1), sums.count.sum(axis=0)
    right = (sums.right - (sums.cross / size[..., None]).sum(axis=0))[:, free] / unit
    along = np.einsum("fpq,fp->fq", vectors * np.ones((len(right), 1, 1)), right)
    explained = (np.where(known, along**2, 0.0) / np.where(known, values, 1.0)).sum(axis=1)
    left = sums.ssr - (sums.squares / size).sum(axis=0) - explained
    return Freedom(
        sums.freedom + free.sum() - subjects - rank,
        subjects + rank - (overall > NO_RANK).sum(axis=1),
        np.maximum(left, 0) / sums.ssr,
    )
