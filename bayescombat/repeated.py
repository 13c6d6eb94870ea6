r"""Repeated scans: a random intercept for every subject and feature, by restricted maximum likelihood. Arrays only.

    y_jv = cell mean_iv + x_j' beta_v + eta_sv + sigma_v eps_jv,     eta_sv ~ Normal(0, subject_sd_v)

for scan j of subject s in batch i.  Given the ratio of the two variances everything follows from sums over subjects,
which are few wherever subjects have the same number of scans; the ratio is found for all features at once.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize.elementwise import find_root

from bayescombat.additive import RIDGE, Additive
from bayescombat.moments import Moments, Subjects
from bayescombat.regression import LeastSquares, least_squares

__all__ = ["fixed_effects"]

# Of the logarithm of the ratio of variances: below, subjects are taken for alike.
GRID = np.linspace(-12.0, 12.0, 25)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums over subjects of the residuals of ordinary least squares, by how many scans a subject has.

    Parameters
    ----------
    size : ndarray, (size,)
        Numbers of scans that occur.
    count : ndarray, (size, 1 or feature)
        Subjects of that size.
    products : ndarray, (size, 1 or feature, column, column)
        Of the subjects' totals of the design, with each other.
    cross : ndarray, (size, feature, column)
        With the totals of the residuals.
    squares : ndarray, (size, feature)
        Of the totals of the residuals.
    design : ndarray, (1 or feature, column, column)
        Cross-products of the design over all scans.
    ssr : ndarray, (feature,)
        Residual sum of squares over all scans.
    freedom : ndarray, (1 or feature,)
        Scans less columns.
    """

    size: np.ndarray
    count: np.ndarray
    products: np.ndarray
    cross: np.ndarray
    squares: np.ndarray
    design: np.ndarray
    ssr: np.ndarray
    freedom: np.ndarray

    def of(self, features: np.ndarray) -> "_Sums":
        """Return the sums of some features."""

        def some(values: np.ndarray, axis: int) -> np.ndarray:
            return values if values.shape[axis] == 1 else np.take(values, features, axis=axis)

        return _Sums(
            self.size,
            some(self.count, 1),
            some(self.products, 1),
            self.cross[:, features],
            self.squares[:, features],
            some(self.design, 0),
            self.ssr[features],
            some(self.freedom, 0),
        )

    def solved(self, ratio: np.ndarray) -> "_Solved":
        """Return generalised least squares at a ratio of variances, (feature,)."""
        weight = ratio / (1 + ratio * self.size[:, None])
        products = self.products * np.ones((1, len(ratio), 1, 1))
        normal = self.design - np.einsum("kf,kfpq->fpq", weight, products)
        right = -np.einsum("kf,kfp->fp", weight, self.cross)
        inverse = np.linalg.inv(normal)
        change = np.einsum("fpq,fq->fp", inverse, right)
        squares = self.ssr - (weight * self.squares).sum(axis=0) - (right * change).sum(axis=-1)
        return _Solved(ratio, normal, inverse, change, squares / self.freedom)

    def criterion(self, ratio: np.ndarray) -> np.ndarray:
        """Return minus twice the restricted log-likelihood, up to a constant, (feature,)."""
        found = self.solved(ratio)
        volume = np.linalg.slogdet(found.normal)[1]
        volume = volume + (self.count * np.log1p(ratio * self.size[:, None])).sum(axis=0)
        return np.asarray(self.freedom * np.log(found.variance) + volume)

    def slope(self, log_ratio: np.ndarray) -> np.ndarray:
        """Return the derivative of the criterion by the ratio, (feature,)."""
        ratio = np.exp(log_ratio)
        found = self.solved(ratio)
        shrunken, products = 1 / (1 + ratio * self.size[:, None]), self.products * np.ones((1, len(ratio), 1, 1))
        fitted = np.einsum("fpq,kfpq->kf", found.inverse, products)
        trace = (shrunken * self.size[:, None] * self.count - shrunken**2 * fitted).sum(axis=0)
        change = found.change
        moved = np.einsum("fp,kfpq,fq->kf", change, products, change, optimize=True)
        left = self.squares - 2 * np.einsum("kfp,fp->kf", self.cross, change) + moved
        return np.asarray(trace - (shrunken**2 * left).sum(axis=0) / found.variance)


@dataclass(frozen=True, eq=False)
class _Solved:
    """Generalised least squares: the change of the coefficients (feature, column) from ordinary ones."""

    ratio: np.ndarray
    normal: np.ndarray
    inverse: np.ndarray
    change: np.ndarray
    variance: np.ndarray


def fixed_effects(moments: Moments) -> LeastSquares:
    """Fit cell means and slopes, every feature by itself: by least squares, generalised where scans are repeated.

    Parameters
    ----------
    moments : Moments
        Of features that vary within batches, and between the scans of a subject.

    Notes
    -----
    Restricted maximum likelihood (Patterson and Thompson 1971, doi:10.1093/biomet/58.3.545), in the profile over the
    ratio of the two variances, as for the first step of longitudinal ComBat (Beer et al. 2020,
    doi:10.1016/j.neuroimage.2020.117129).
    """
    ordinary = least_squares(moments)
    if moments.subjects is None:
        return ordinary
    design = _Design.of(moments)
    sums = design.sums(ordinary)
    return design.generalised(ordinary, sums.solved(_ratio(sums)))


def _ratio(sums: _Sums) -> np.ndarray:
    """Return the ratio of variances at which the restricted likelihood is highest, (feature,)."""
    features = np.arange(len(sums.ssr))
    criterion = np.stack([sums.criterion(np.full(len(features), np.exp(place))) for place in GRID])
    best = criterion.argmin(axis=0)
    inside = np.flatnonzero((best > 0) & (best < len(GRID) - 1))
    log_ratio = GRID[best]
    if len(inside):

        def slope(place: np.ndarray, feature: np.ndarray) -> np.ndarray:
            return sums.of(feature.astype(int)).slope(place)

        found = find_root(slope, (GRID[best[inside] - 1], GRID[best[inside] + 1]), args=(inside,))
        log_ratio[inside] = np.where(found.success, found.x, log_ratio[inside])
    return np.where(best == 0, 0.0, np.exp(log_ratio))


@dataclass(frozen=True, eq=False)
class _Design:
    """The design of cell means and slopes, over pairs of a subject and a batch.

    Parameters
    ----------
    moments : Moments
        The scans.
    subjects : Subjects
        Their subjects.
    levels : ndarray, (batch, column)
        Columns that the cell means are made of.
    """

    moments: Moments
    subjects: Subjects
    levels: np.ndarray

    @classmethod
    def of(cls, moments: Moments) -> "_Design":
        assert moments.subjects is not None
        additive = Additive(moments.positions, moments.n)
        # The first level of every later variable is measured from.
        kept = np.ones(additive.indicator.shape[1], dtype=bool)
        kept[moments.positions[:, 1:].min(axis=0)] = False
        return cls(moments, moments.subjects, additive.indicator[:, kept])

    def sums(self, fit: LeastSquares) -> _Sums:
        """Return the sums over subjects of the residuals of ordinary least squares."""
        subjects, total = self.subjects, self._totals(fit)
        size = subjects.total(subjects.n)
        residual = subjects.total(subjects.n * self._residual(fit))
        distinct = np.unique(size[size > 0])
        parts = []
        for scans in distinct:
            mine = (size == scans).astype(float)
            weighted = total * mine[..., None]
            parts.append(
                (
                    mine.sum(axis=0),
                    np.einsum("sfp,sfq->fpq", weighted, total, optimize=True),
                    np.einsum("sfp,sf->fp", weighted * np.ones((1, residual.shape[1], 1)), residual, optimize=True),
                    (mine * residual**2).sum(axis=0),
                )
            )
        count, products, cross, squares = (np.stack(part) for part in zip(*parts, strict=True))
        design, freedom = self._products(fit)
        return _Sums(distinct, count, products, cross, squares, design, fit.ssr.sum(axis=0), freedom)

    def _columns(self, fit: LeastSquares, mean_x: np.ndarray, batch: np.ndarray) -> np.ndarray:
        """Return the design of means (place, 1 or feature, column): levels, then whitened covariates."""
        offset = np.einsum("nfp,fpq->nfq", mean_x - fit.center, fit.whitener)
        levels = np.repeat(self.levels[batch][:, None], offset.shape[1], axis=1)
        return np.concatenate([levels, offset], axis=-1)

    def _totals(self, fit: LeastSquares) -> np.ndarray:
        """Return the totals of the design over every subject's scans, (subject, 1 or feature, column)."""
        pairs = self.subjects
        return pairs.total(pairs.n[..., None] * self._columns(fit, pairs.mean_x, pairs.batch))

    def _products(self, fit: LeastSquares) -> tuple[np.ndarray, np.ndarray]:
        """Return the cross-products of the design over all scans, and the scans less the columns."""
        moments, count = self.moments, self.levels.shape[1]
        columns = self._columns(fit, moments.mean_x, np.arange(len(moments.n)))
        products = np.einsum("bf,bfp,bfq->fpq", moments.n, columns, columns, optimize=True)
        within = moments.sxx.sum(axis=0)
        products[:, count:, count:] += fit.whitener.swapaxes(1, 2) @ within @ fit.whitener
        diagonal = np.einsum("fpp->fp", products)
        unseen = diagonal == 0
        diagonal += np.where(unseen, 1.0, RIDGE * diagonal)
        return products, moments.n.sum(axis=0) - (~unseen).sum(axis=1)

    def _residual(self, fit: LeastSquares) -> np.ndarray:
        """Return the mean residuals of every pair, (pair, feature), zero where nothing was observed."""
        pairs = self.subjects
        found = pairs.mean_y - fit.cell_mean[pairs.batch] - ((pairs.mean_x - fit.center) * fit.beta).sum(axis=-1)
        return np.where(pairs.n > 0, found, 0.0)

    def generalised(self, fit: LeastSquares, solved: _Solved) -> LeastSquares:
        """Return the fit at the ratio that was found."""
        moments, pairs, count = self.moments, self.subjects, self.levels.shape[1]
        slopes = np.einsum("fpq,fq->fp", fit.whitener, solved.change[:, count:])
        change = self.levels @ solved.change[:, :count].T
        seen = moments.n > 0
        moved = replace(fit, beta=fit.beta + slopes, cell_mean=np.where(seen, fit.cell_mean + change, 0.0))
        residual = self._residual(moved)
        weight = solved.ratio / (1 + solved.ratio * pairs.total(pairs.n))
        intercept = (weight * pairs.total(pairs.n * residual))[pairs.subject]
        ssr = self._squares(moved)
        np.add.at(ssr, pairs.batch, pairs.n * intercept * (intercept - 2 * residual))
        covariance = np.einsum("bp,fpq,cq->fbc", self.levels, solved.inverse[:, :count, :count], self.levels)
        noise, shared = _split(covariance, seen)
        return replace(
            moved,
            ssr=np.maximum(ssr, 0),
            freedom=self._freedom(solved, weight),
            precision=np.where(seen, 1 / noise, 0.0),
            variance=solved.variance,
            subject_sd=np.sqrt(solved.variance * solved.ratio),
            shared=shared,
        )

    def _squares(self, fit: LeastSquares) -> np.ndarray:
        """Return the sums of squares about cell means and slopes, intercepts not taken out, (batch, feature)."""
        moments, beta = self.moments, fit.beta
        within = moments.syy - 2 * (moments.sxy * beta).sum(axis=-1)
        within = within + (beta * (moments.sxx @ beta[..., None])[..., 0]).sum(axis=-1)
        away = moments.mean_y - fit.cell_mean - ((moments.mean_x - fit.center) * beta).sum(axis=-1)
        return np.asarray(within + moments.n * np.where(moments.n > 0, away, 0.0) ** 2)

    def _freedom(self, solved: _Solved, weight: np.ndarray) -> np.ndarray:
        """Return the expected sums of squares in units of the residual variance, but for the slopes."""
        pairs, count = self.subjects, self.levels.shape[1]
        inverse = np.linalg.inv(solved.normal[:, :count, :count])
        # What a cell mean takes of a scan's variance, and what the subject's intercept does.
        own = np.einsum("bp,fpq,bq->bf", self.levels, inverse, self.levels, optimize=True)
        n = np.broadcast_to(self.moments.n, own.shape).copy()
        freedom = n - n * own
        levels = pairs.total(pairs.n[..., None] * self.levels[pairs.batch][:, None, :])
        taken = np.einsum("sfp,fpq->sfq", levels * np.ones((1, len(inverse), 1)), inverse, optimize=True)
        toward = np.einsum("nfq,nq->nf", taken[pairs.subject], self.levels[pairs.batch], optimize=True)
        every = (taken * levels).sum(axis=-1)
        mine = weight[pairs.subject]
        np.add.at(freedom, pairs.batch, -pairs.n * mine * (1 - 2 * toward + mine * every[pairs.subject]))
        return np.asarray(np.maximum(freedom, 0))


def _split(covariance: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances of cell means about what they share (batch, feature), and of that, (feature,)."""
    own = np.where(seen, np.einsum("fbb->fb", covariance).T, np.inf)
    known = np.broadcast_to(seen, own.shape).astype(float)
    pairs = np.maximum(known.sum(axis=0) * (known.sum(axis=0) - 1), 1)
    between = np.einsum("bf,fbc,cf->f", known, covariance, known, optimize=True)
    between -= np.where(known > 0, own, 0.0).sum(axis=0)
    shared = np.clip(between / pairs, 0, own.min(axis=0) * 0.99)
    return own - shared, shared
