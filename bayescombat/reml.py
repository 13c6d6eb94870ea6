"""Smoothness by restricted maximum likelihood, from cross-products; arrays only.

A feature's values are ``x'b + z'v + error`` with free slopes b of some design columns, and coefficients v of the
others, normal with standard deviation tau_k for the columns of smooth k.  What does not hang on covariates (levels,
intercept) was taken out of the products before.  With ratios ``tau_k² / sigma²`` the restricted likelihood (Patterson
and Thompson 1971, doi:10.1093/biomet/58.3.545; for smoothing Wood 2011, doi:10.1111/j.1467-9868.2010.00749.x) depends
on the data through these products alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.special import softmax

__all__ = ["Slopes", "Swept", "inverse_root", "reml", "restricted_deviance"]

# Logarithms of a ratio times the largest eigenvalue: below them nothing bends, above them nothing is penalised.
GRID = np.linspace(np.log(1e-6), np.log(1e10), 75)
# In a log ratio: of one search, and of several smooths in turn.
TOLERANCE = 1e-11
CYCLE_TOLERANCE = 1e-9
MOST_STEPS = 100
MOST_CYCLES = 1000
LEAST_SHARE = 1e-15


@dataclass(frozen=True, eq=False)
class Swept:
    """Products of the penalised columns, without what the unpenalised ones explain.

    Parameters
    ----------
    fixed : ndarray of int, (unpenalised column,)
    penalised : sequence of ndarray of int
        Positions of every smooth's columns among all.
    root : ndarray, (1 or feature, unpenalised column, unpenalised column)
        ``root @ root.T`` is the inverse of the unpenalised columns' products.
    along : ndarray, (1 or feature, unpenalised column, penalised column)
        Slopes of the penalised columns on the unpenalised ones.
    products : ndarray, (1 or feature, penalised column, penalised column)
    slopes : ndarray, (feature, unpenalised column)
        Where nothing bends.
    cross : ndarray, (feature, penalised column)
    squares : ndarray, (feature,)
        Of the residuals where nothing bends.
    freedom : ndarray, (feature,)
        Their degrees of freedom.
    """

    fixed: np.ndarray
    penalised: Sequence[np.ndarray]
    root: np.ndarray
    along: np.ndarray
    products: np.ndarray
    slopes: np.ndarray
    cross: np.ndarray
    squares: np.ndarray
    freedom: np.ndarray

    @classmethod
    def of(
        cls,
        products: np.ndarray,
        cross: np.ndarray,
        squares: np.ndarray,
        freedom: np.ndarray,
        penalised: Sequence[np.ndarray],
    ) -> Self:
        """Sweep the unpenalised columns out; the parameters are those of `reml`."""
        bent = np.concatenate(penalised)
        fixed = np.setdiff1d(np.arange(products.shape[-1]), bent)
        own, between = products[:, fixed[:, None], fixed], products[:, fixed[:, None], bent]
        root = inverse_root(own)
        along = root @ (root.swapaxes(1, 2) @ between)
        left = products[:, bent[:, None], bent] - between.swapaxes(1, 2) @ along
        explained = (root.swapaxes(1, 2) @ cross[:, fixed, None])[..., 0]
        return cls(
            fixed=fixed,
            penalised=penalised,
            root=root,
            along=along,
            products=(left + left.swapaxes(1, 2)) / 2,
            slopes=(root @ explained[..., None])[..., 0],
            cross=cross[:, bent] - (along.swapaxes(1, 2) @ cross[:, fixed, None])[..., 0],
            squares=np.maximum(squares - (explained**2).sum(axis=1), LEAST_SHARE * squares + np.finfo(float).tiny),
            freedom=np.maximum(freedom - len(fixed), 1.0),
        )

    @property
    def owner(self) -> np.ndarray:
        """Which smooth each penalised column belongs to, (penalised column,)."""
        return np.repeat(np.arange(len(self.penalised)), [len(columns) for columns in self.penalised])

    def scaled(self, ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the roots of the columns' ratios (feature, column), and one plus the products scaled by them."""
        roots = np.sqrt(ratios)[:, self.owner]
        inner = roots[:, :, None] * self.products * roots[:, None, :]
        diagonal = np.arange(len(self.owner))
        inner[:, diagonal, diagonal] += 1
        return roots, inner

    def whitener(self) -> np.ndarray:
        """Return a change of columns, (1 or feature, column, direction): unpenalised directions first.

        It makes the unpenalised columns orthonormal, takes them out of the penalised ones, and turns each smooth's
        columns so that they are orthogonal to each other, which leaves a penalty by their sum of squares as it is.
        """
        turn = np.zeros(self.products.shape)
        starts = np.cumsum([0, *(len(columns) for columns in self.penalised)])
        for start, end in zip(starts, starts[1:], strict=False):
            turn[:, start:end, start:end] = np.linalg.eigh(self.products[:, start:end, start:end])[1]
        count, bent = len(self.fixed), np.concatenate(self.penalised)
        found = np.zeros((len(self.root), count + len(bent), count + len(bent)))
        found[:, self.fixed[:, None], np.arange(count)] = self.root
        found[:, self.fixed[:, None], np.arange(count, count + len(bent))] = -self.along @ turn
        found[:, bent[:, None], np.arange(count, count + len(bent))] = turn
        return found


@dataclass(frozen=True, eq=False)
class Slopes:
    """Coefficients of all design columns, given the ratios.

    Parameters
    ----------
    swept : Swept
        What they were learned from.
    ratios : ndarray, (feature, smooth)
        Squares of the smooths' standard deviations over the residual variance.

    Examples
    --------
    >>> products, cross = np.diag([4.0, 2.0])[None], np.array([[8.0, 3.0]])
    >>> swept = Swept.of(products, cross, np.array([30.0]), np.array([9.0]), [np.array([1])])
    >>> Slopes(swept, np.array([[0.5]])).beta
    array([[2.  , 0.75]])
    """

    swept: Swept
    ratios: np.ndarray

    @property
    def beta(self) -> np.ndarray:
        """Expected coefficients, (feature, column): free slopes, and best predictions of the penalised ones."""
        swept, (roots, inner) = self.swept, self.swept.scaled(self.ratios)
        bent = roots * np.linalg.solve(inner, (roots * swept.cross)[..., None])[..., 0]
        found = np.empty((len(bent), len(swept.fixed) + len(swept.owner)))
        found[:, np.concatenate(swept.penalised)] = bent
        found[:, swept.fixed] = swept.slopes - (swept.along @ bent[..., None])[..., 0]
        return found

    @property
    def variance(self) -> np.ndarray:
        """Residual variance, (feature,)."""
        roots, inner = self.swept.scaled(self.ratios)
        weighted = roots * self.swept.cross
        explained = (weighted * np.linalg.solve(inner, weighted[..., None])[..., 0]).sum(axis=1)
        return np.asarray(np.maximum(self.swept.squares - explained, 0) / self.swept.freedom)

    @property
    def taken(self) -> np.ndarray:
        """Effective degrees of freedom of the coefficients, (feature,)."""
        _, inner = self.swept.scaled(self.ratios)
        kept = np.trace(np.linalg.inv(inner), axis1=1, axis2=2)
        return np.asarray(len(self.swept.fixed) + len(self.swept.owner) - kept)

    @property
    def covariance(self) -> np.ndarray:
        """Covariance of the coefficients given the data, the ratios and a residual variance of one.

        (feature, column, column), as of Marra and Wood (2012), doi:10.1111/j.1467-9469.2011.00760.x.
        """
        swept, (roots, inner) = self.swept, self.swept.scaled(self.ratios)
        bent = roots[:, :, None] * np.linalg.inv(inner) * roots[:, None, :]
        mixed = -swept.along @ bent
        free = swept.root @ swept.root.swapaxes(1, 2) - mixed @ swept.along.swapaxes(1, 2)
        fixed, columns = swept.fixed, np.concatenate(swept.penalised)
        found = np.empty((len(bent), len(fixed) + len(columns), len(fixed) + len(columns)))
        found[:, fixed[:, None], fixed], found[:, columns[:, None], columns] = free, bent
        found[:, fixed[:, None], columns], found[:, columns[:, None], fixed] = mixed, mixed.swapaxes(1, 2)
        return found

    def mean_squares(self, k: int) -> np.ndarray:
        """Mean squares and products of the coefficients' errors where the ratio of smooth k is unsure too.

        (feature, column, column): averaged over this ratio by its restricted likelihood, under a prior that is flat in
        the smooth's standard deviation (Gelman 2006, doi:10.1214/06-BA117A).
        """
        top = np.einsum("fpp->fp", self.swept.products[:, self.swept.owner == k][:, :, self.swept.owner == k]).sum(
            axis=1
        )
        logs = GRID[::2, None] - np.log(np.where(top > 0, top, 1.0))
        tried = []
        for log in logs:
            ratios = self.ratios.copy()
            ratios[:, k] = np.exp(log)
            tried.append(Slopes(self.swept, ratios))
        deviance = np.array([restricted_deviance(self.swept, slopes.ratios) for slopes in tried])
        weights = softmax((logs - deviance) / 2, axis=0)
        found, beta = 0.0, self.beta
        for weight, slopes in zip(weights, tried, strict=True):
            away = slopes.beta - beta
            squares = slopes.variance[:, None, None] * slopes.covariance + away[:, :, None] * away[:, None, :]
            found = found + weight[:, None, None] * squares
        return np.asarray(found)


def inverse_root(products: np.ndarray) -> np.ndarray:
    """Return roots of the inverses of products (feature, column, column): each, times its transpose, is one."""
    scale = np.sqrt(np.einsum("fpp->fp", products))
    correlation = products / (scale[:, :, None] * scale[:, None, :])
    return np.asarray(np.linalg.inv(np.linalg.cholesky(correlation)).swapaxes(1, 2) / scale[:, :, None])


def reml(
    products: np.ndarray,
    cross: np.ndarray,
    squares: np.ndarray,
    freedom: np.ndarray,
    penalised: Sequence[np.ndarray],
) -> np.ndarray:
    """Return the ratios of variances under which the restricted likelihood is largest.

    Parameters
    ----------
    products : ndarray, (1 or feature, column, column)
        Cross-products of the design columns, less what levels or an intercept explain.
    cross : ndarray, (feature, column)
        Their cross-products with the features.
    squares : ndarray, (feature,)
        Sums of squares of the features.
    freedom : ndarray, (feature,)
        Degrees of freedom that levels or an intercept leave, the columns not yet counted.
    penalised : sequence of ndarray of int
        Positions of the columns of every smooth. The unpenalised columns must not be collinear; the others may be.

    Returns
    -------
    ndarray, (feature, smooth)
        ``tau² / sigma²``; exactly zero where a straight line is likeliest, or a curve of less than a millionth of a
        degree of freedom.

    Notes
    -----
    One smooth is a search on a grid and safeguarded Newton steps along the eigenvectors of its products. Several are
    taken in turn until none moves.

    Examples
    --------
    >>> products, cross = np.diag([4.0, 2.0])[None], np.array([[8.0, 6.0], [8.0, 1.0]])
    >>> reml(products, cross, np.array([40.0, 40.0]), np.array([9.0, 9.0]), [np.array([1])]).round(4)
    array([[10.],
           [ 0.]])
    """
    swept = Swept.of(products, cross, squares, freedom, penalised)
    ratios = np.zeros((len(cross), len(penalised)))
    for _ in range(MOST_CYCLES if len(penalised) > 1 else 1):
        before = ratios.copy()
        for k in range(len(penalised)):
            ratios[:, k] = _best(*_given_others(swept, ratios, k), swept.freedom)
        moved = np.abs(np.log(np.where(ratios > 0, ratios, 1)) - np.log(np.where(before > 0, before, 1)))
        if (((ratios > 0) == (before > 0)) & (moved <= CYCLE_TOLERANCE)).all():
            break
    return ratios


def restricted_deviance(swept: Swept, ratios: np.ndarray) -> np.ndarray:
    """Return minus twice the restricted log-likelihood (feature,) of ratios, less that of a straight line.

    The residual variance is at its best for each of the two.
    """
    roots, inner = swept.scaled(ratios)
    weighted = roots * swept.cross
    explained = (weighted * np.linalg.solve(inner, weighted[..., None])[..., 0]).sum(axis=1) / swept.squares
    return np.asarray(np.linalg.slogdet(inner)[1] + swept.freedom * np.log(np.maximum(1 - explained, LEAST_SHARE)))


def _given_others(swept: Swept, ratios: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return eigenvalues (1 or feature, column) of one smooth's products, and the squares along its eigenvectors.

    The others are taken out as far as their ratios let them; squares are relative to what is left of the feature.
    """
    mine, others = np.flatnonzero(swept.owner == k), np.flatnonzero(swept.owner != k)
    products, cross, squares = swept.products[:, mine[:, None], mine], swept.cross[:, mine], swept.squares
    if len(others):
        roots, inner = swept.scaled(ratios)
        roots, inner = roots[:, others], inner[:, others[:, None], others]
        between = roots[:, :, None] * swept.products[:, others[:, None], mine]
        theirs = roots * swept.cross[:, others]
        found = np.linalg.solve(inner, np.concatenate([between, theirs[..., None]], axis=2))
        products = products - between.swapaxes(1, 2) @ found[..., :-1]
        cross = cross - (between.swapaxes(1, 2) @ found[..., -1:])[..., 0]
        squares = np.maximum(squares - (theirs * found[..., -1]).sum(axis=1), LEAST_SHARE * squares)
    values, vectors = np.linalg.eigh(products)
    along = (vectors.swapaxes(1, 2) @ cross[..., None])[..., 0]
    return np.maximum(values, 0), along**2 / squares[:, None]


def _best(values: np.ndarray, along: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Return the ratio of the least deviance, (feature,): the best of a grid, then Newton steps around it."""
    top = np.broadcast_to(values[:, -1], freedom.shape)
    scale = np.where(top > 0, top, 1.0)
    best, place = np.zeros(freedom.shape), np.full(freedom.shape, -1)
    for i, step in enumerate(GRID):
        ratio = (np.exp(step) / scale)[:, None]
        bent = 1 + ratio * values
        explained = (ratio * along / bent).sum(axis=1)
        deviance = np.log(bent).sum(axis=1) + freedom * np.log1p(-np.minimum(explained, 1 - LEAST_SHARE))
        better = deviance < best
        best, place = np.where(better, deviance, best), np.where(better, i, place)
    found = np.zeros(freedom.shape)
    inner = place > 0
    if inner.any():
        some = values if len(values) == 1 else values[inner]
        low, high = GRID[place[inner] - 1], GRID[np.minimum(place[inner] + 1, len(GRID) - 1)]
        move = np.log(scale[inner])
        found[inner] = np.exp(_newton(some, along[inner], freedom[inner], low - move, high - move))
    return found


def _newton(
    values: np.ndarray, along: np.ndarray, freedom: np.ndarray, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Return where the deviance's slope in the log ratio is zero between low and high, (feature,)."""
    at = (low + high) / 2
    for _ in range(MOST_STEPS):
        ratio = np.exp(at)[:, None]
        bent = 1 + ratio * values
        share = ratio * values / bent
        left = np.maximum(1 - (ratio * along / bent).sum(axis=1), LEAST_SHARE)
        first = -(ratio * along / bent**2).sum(axis=1) / left
        second = -(ratio * along * (1 - ratio * values) / bent**3).sum(axis=1) / left
        slope = share.sum(axis=1) + freedom * first
        curvature = (share * (1 - share)).sum(axis=1) + freedom * (second - first**2)
        low, high = np.where(slope < 0, at, low), np.where(slope < 0, high, at)
        step = np.where(curvature > 0, at - slope / np.where(curvature > 0, curvature, 1), np.inf)
        new = np.where((step > low) & (step < high), step, (low + high) / 2)
        moved = np.abs(new - at).max()
        at = new
        if moved <= TOLERANCE:
            break
    return np.asarray(at)
