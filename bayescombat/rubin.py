"""Least squares on many tables at once, and their answers pooled by Rubin's rules; arrays only."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from bayescombat.blocks import observed_alike

__all__ = ["Answers", "Pooled", "least_squares", "pooled"]


class Answers(NamedTuple):
    """What each of several tables says, as if it were the only one.

    Parameters
    ----------
    estimate, variance : ndarray, (draw, term, feature)
        Coefficients, and the squares of their standard errors.
    freedom : ndarray, (feature,)
        Degrees of freedom of the residuals; infinite where normal quantiles are used.
    scans : ndarray of int, (feature,)
        How many scans were used.
    """

    estimate: np.ndarray
    variance: np.ndarray
    freedom: np.ndarray
    scans: np.ndarray


class Pooled(NamedTuple):
    """What all tables say together, (term, feature).

    Parameters
    ----------
    estimate, sd : ndarray
        Mean of the estimates, and its standard deviation.
    freedom : ndarray
        Of Student's t, as which the estimate is distributed about the truth.
    lost : ndarray
        Fraction of the information that is lost because the table is not known for certain.
    """

    estimate: np.ndarray
    sd: np.ndarray
    freedom: np.ndarray
    lost: np.ndarray

    def p(self) -> np.ndarray:
        """Return two-sided p-values of no effect."""
        return np.asarray(2 * stats.t.sf(np.abs(self.estimate) / self.sd, self.freedom))

    def bounds(self, probability: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the bounds of the central interval."""
        reach = stats.t.ppf((1 + probability) / 2, self.freedom) * self.sd
        return self.estimate - reach, self.estimate + reach


def pooled(answers: Answers) -> Pooled:
    r"""Pool answers by Rubin's rules.

    With m tables, W the mean of the variances and B the variance of the estimates, the estimate has the variance
    :math:`T = W + (1 + 1/m) B`. Its degrees of freedom are those of Barnard and Rubin (1999),
    doi:10.1093/biomet/86.4.948, the fraction of information that is lost that of Rubin (1987),
    doi:10.1002/9780470316696.

    Parameters
    ----------
    answers : Answers
        Of at least two tables.
    """
    count = len(answers.estimate)
    within = answers.variance.mean(axis=0)
    between = (1 + 1 / count) * answers.estimate.var(axis=0, ddof=1)
    total = within + between
    share = between / total
    with np.errstate(divide="ignore"):
        of_draws = (count - 1) / share**2
    complete = np.broadcast_to(answers.freedom, share.shape)
    finite = np.where(np.isfinite(complete), complete, 0.0)
    observed = np.where(np.isfinite(complete), (finite + 1) / (finite + 3) * finite * (1 - share), np.inf)
    # Sums of inverses, since either may be infinite.
    with np.errstate(divide="ignore"):
        freedom = 1 / (1 / of_draws + 1 / observed)
    ratio = between / within
    lost = (ratio + 2 / (freedom + 3)) / (ratio + 1)
    return Pooled(answers.estimate.mean(axis=0), np.sqrt(total), freedom, np.where(share > 0, lost, 0.0))


def least_squares(x: np.ndarray, y: np.ndarray) -> Answers:
    """Fit every feature of every table by ordinary least squares, each to the scans that it was observed in.

    Parameters
    ----------
    x : ndarray, (obs, term)
        Design.
    y : ndarray, (draw, obs, feature)
        Values; NaN where a cell is missing, in all draws alike.

    Returns
    -------
    Answers
        No numbers where a feature was observed in too few scans to tell the terms apart.
    """
    draws, _, features = y.shape
    shape = (draws, x.shape[1], features)
    estimate, variance = np.full(shape, np.nan), np.full(shape, np.nan)
    seen = ~np.isnan(y[0])
    freedom = seen.sum(axis=0) - x.shape[1]
    pattern = observed_alike(seen)
    for number in range(pattern.max() + 1):
        mine = np.flatnonzero(pattern == number)
        rows = seen[:, mine[0]]
        if freedom[mine[0]] < 1 or np.linalg.matrix_rank(x[rows]) < x.shape[1]:
            continue
        q, r = np.linalg.qr(x[rows])
        inverse = np.linalg.inv(r)
        values = y[:, rows][..., mine]
        scores = np.einsum("ok,dof->dkf", q, values, optimize=True)
        residuals = values - np.einsum("ok,dkf->dof", q, scores, optimize=True)
        noise = np.einsum("dof,dof->df", residuals, residuals) / freedom[mine[0]]
        estimate[..., mine] = np.einsum("tk,dkf->dtf", inverse, scores)
        variance[..., mine] = (inverse**2).sum(axis=1)[:, None] * noise[:, None]
    return Answers(estimate, variance, freedom.astype(float), seen.sum(axis=0))
