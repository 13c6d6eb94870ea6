"""What batches leave of covariates, and what scans of a batch tell of its effects. Arrays only."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import polygamma

from bayescombat.additive import Additive
from bayescombat.confounding import COLLINEAR, NO_VARIATION, squares_of_covariates
from bayescombat.empirical import unshrunken
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares
from bayescombat.shrinkage import LEAST_FREEDOM

__all__ = ["Inflation", "Precision"]


@dataclass(frozen=True, eq=False)
class Inflation:
    """How far batches inflate the variances of slopes (Marquardt 1970, doi:10.1080/00401706.1970.10488699).

    Parameters
    ----------
    by_batches : ndarray, (column,)
        Of unpenalised design columns, 1 / (1 - R2) on the batches alone: infinite where a column is constant within
        every batch.
    by_all : ndarray, (column,)
        The same on batches and all other unpenalised columns.
    share : ndarray, (level, column)
        Which part of what is left of a column within batches is in which level. The levels of one batch variable add
        up to one, or to zero where nothing is left.
    """

    by_batches: np.ndarray
    by_all: np.ndarray
    share: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> Self:
        """Return what batches do to the slopes; the moments need no features."""
        products, overall = (part[0] for part in squares_of_covariates(moments))
        within = products.diagonal()
        left = np.where(within > NO_VARIATION * overall, within / np.where(overall > 0, overall, 1), 0.0)
        own = moments.sxx[:, 0].diagonal(axis1=1, axis2=2)[:, moments.spec.unpenalised]
        total = own.sum(axis=0)
        share = _indicator(moments).T @ (own / np.where(total > 0, total, 1))
        with np.errstate(divide="ignore"):
            return cls(1 / left, 1 / (left * _unexplained(products, left > 0)), share)


def _unexplained(products: np.ndarray, varies: np.ndarray) -> np.ndarray:
    """Return which part of every column the others leave, (column,), given cross-products (column, column)."""
    unit = np.sqrt(np.where(varies, products.diagonal(), 1.0))
    correlation = np.where(varies[:, None] & varies, products / np.outer(unit, unit), 0.0)
    left = np.ones(len(unit))
    for column in np.flatnonzero(varies):
        others = np.arange(len(unit)) != column
        inverse = np.linalg.pinv(correlation[others][:, others], rcond=COLLINEAR, hermitian=True)
        left[column] = 1 - correlation[column, others] @ inverse @ correlation[others, column]
    return np.where(left > COLLINEAR, left, 0.0)


@dataclass(frozen=True, eq=False)
class Precision:
    """What the scans of every level tell of its effects on one feature, and how far such effects spread.

    Parameters
    ----------
    shift_error : ndarray, (level,)
        Expected standard deviation of a shift in units of sigma: 1 / sqrt(n).
    scale_error : ndarray, (level,)
        Of a log scale: 1 / sqrt(2 (n - 1)); infinite where nothing tells of it.
    shift_spread, scale_spread : float
        Standard deviation of shifts, in units of sigma, and of log scales over the features of a typical batch, less
        what errors add to it: the prior that both estimators learn from the features. NaN with one feature.
    """

    shift_error: np.ndarray
    scale_error: np.ndarray
    shift_spread: float = np.nan
    scale_spread: float = np.nan

    @classmethod
    def of(cls, moments: Moments, fit: LeastSquares | None) -> Self:
        """Return what scans tell; without a fit, how far effects spread is not known."""
        additive = Additive(moments.positions, moments.scans[:, None].astype(float))
        n, freedom = additive.size, additive.freedom()
        if fit is None or len(moments.features) < 2:
            return cls(_error(n), _error(2 * freedom))
        hats = unshrunken(moments, fit)[2]
        n, freedom = np.broadcast_to(hats.n, hats.gamma.shape), np.broadcast_to(fit.freedom, fit.ssr.shape)
        freedom = additive.indicator.T @ freedom
        shift = np.where(n > 0, hats.gamma, np.nan)
        delta2 = np.where(freedom >= LEAST_FREEDOM, hats.delta2, np.nan)
        noise = np.where(np.isfinite(delta2), delta2, 1.0) / np.maximum(n, 1)
        half = np.maximum(freedom, LEAST_FREEDOM) / 2
        with np.errstate(divide="ignore"):
            scale = np.log(np.where(delta2 > 0, delta2, np.nan)) / 2
        return cls(
            _error(n), _error(2 * freedom), _spread(shift, noise, n), _spread(scale, polygamma(1, half) / 4, freedom)
        )

    @property
    def shift_kept(self) -> np.ndarray:
        """Which part of a shift comes from the batch's own scans, not from the prior, (level,)."""
        return _kept(self.shift_spread, self.shift_error)

    @property
    def scale_kept(self) -> np.ndarray:
        """The same of a log scale, (level,)."""
        return _kept(self.scale_spread, self.scale_error)


def _indicator(moments: Moments) -> np.ndarray:
    return Additive(moments.positions, moments.scans[:, None].astype(float)).indicator


def _error(information: np.ndarray) -> np.ndarray:
    """Return standard errors of the typical feature, (level,), from information (level, 1 or feature)."""
    typical = np.median(information, axis=1)
    with np.errstate(divide="ignore"):
        return np.asarray(1 / np.sqrt(np.where(typical >= LEAST_FREEDOM, typical, 0.0)))


def _spread(values: np.ndarray, noise: np.ndarray, information: np.ndarray) -> float:
    """Return the standard deviation of values (level, feature) over the features, in the median of the larger levels.

    Errors of known variance are taken out; NaN where no level has two values.
    """
    seen = np.isfinite(values)
    count = seen.sum(axis=1)
    told = count >= 2
    if not told.any():
        return np.nan
    size = np.maximum(count, 1)
    mean = np.where(seen, values, 0.0).sum(axis=1) / size
    squares = (np.where(seen, values - mean[:, None], 0.0) ** 2).sum(axis=1) / np.maximum(count - 1, 1)
    excess = squares - np.where(seen, noise, 0.0).sum(axis=1) / size
    typical = np.median(information, axis=1)
    larger = told & (typical >= np.median(typical[told]))
    return float(np.sqrt(max(np.median(excess[larger]), 0.0)))


def _kept(spread: float, error: np.ndarray) -> np.ndarray:
    """Return the data's share in what is known, NaN where the spread is not known."""
    return np.where(np.isnan(spread), np.nan, spread**2 / (spread**2 + np.where(spread > 0, error, 1.0) ** 2))
