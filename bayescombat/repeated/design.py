"""The design of cell means and slopes where scans are repeated, over pairs of a subject and a batch. Arrays only."""

from dataclasses import dataclass, replace

import numpy as np

from bayescombat.additive import RIDGE, Additive
from bayescombat.moments import Moments, Subjects
from bayescombat.regression import LeastSquares
from bayescombat.reml import Slopes
from bayescombat.repeated.sums import Solved, Sums

__all__ = ["Design"]


@dataclass(frozen=True, eq=False)
class Design:
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

    @property
    def penalised(self) -> np.ndarray:
        """Which smooth the columns belong to, -1 for those that are free, (column,)."""
        spec, free = self.moments.spec, self.levels.shape[1] + len(self.moments.spec.unpenalised)
        owner = np.repeat(np.arange(len(spec.penalised)), [len(columns) for columns in spec.penalised])
        return np.concatenate([np.full(free, -1), owner.astype(int)])

    @classmethod
    def of(cls, moments: Moments) -> "Design":
        """Return the design of moments with subjects."""
        assert moments.subjects is not None
        additive = Additive(moments.positions, moments.n)
        # The first level of every later variable is measured from.
        kept = np.ones(additive.indicator.shape[1], dtype=bool)
        kept[moments.positions[:, 1:].min(axis=0)] = False
        return cls(moments, moments.subjects, additive.indicator[:, kept])

    def sums(self, fit: LeastSquares) -> Sums:
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
        right, coefficients = self._right(fit), np.zeros((len(fit.beta), design.shape[-1]))
        coefficients[:, self.levels.shape[1] :] = np.einsum("fpq,fq->fp", np.linalg.inv(fit.whitener), fit.beta)
        coefficients[:, self.penalised < 0] = 0
        ssr, free = self._squares(fit).sum(axis=0), np.zeros((1, design.shape[-1]))
        basis = np.linalg.eigh(design - (products / distinct[:, None, None, None]).sum(axis=0))[1]
        return Sums(distinct, count, products, cross, squares, design, ssr, freedom, right, coefficients, free, basis)

    def _right(self, fit: LeastSquares) -> np.ndarray:
        """Return the cross-products of the design with the residuals, (feature, column)."""
        moments = self.moments
        columns = self._columns(fit, moments.mean_x, np.arange(len(moments.n)))
        away = moments.n * self._away(fit)
        within = moments.sxy - (moments.sxx @ fit.beta[..., None])[..., 0]
        right = np.einsum("bfp,bf->fp", columns * np.ones((1, away.shape[1], 1)), away, optimize=True)
        right[:, self.levels.shape[1] :] += np.einsum("bfp,fpq->fq", within, _every(fit.whitener, within.shape[1]))
        return np.asarray(right)

    def swept(
        self, fit: LeastSquares, solved: Solved, sums: Sums
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return products, cross-products and squares of the design columns, less what levels explain.

        They are weighted; with them go the scans less the levels.
        """
        count = self.levels.shape[1]
        across = np.linalg.solve(solved.normal[:, :count, :count], solved.normal[:, :count, count:])
        products = solved.normal[:, count:, count:] - across.swapaxes(1, 2) @ solved.normal[:, :count, count:]
        right = solved.right[:, count:] - np.einsum("fpq,fp->fq", across, solved.right[:, :count])
        of_levels = np.linalg.solve(solved.normal[:, :count, :count], solved.right[:, :count, None])[..., 0]
        squares = solved.squares - (of_levels * solved.right[:, :count]).sum(axis=-1)
        unwhitened = _every(np.linalg.inv(fit.whitener), len(products))
        products = unwhitened.swapaxes(1, 2) @ products @ unwhitened
        right = np.einsum("fpq,fp->fq", unwhitened, right)
        explained = np.einsum("fpq,fq->fp", products, fit.beta)
        squares = squares + ((2 * right + explained) * fit.beta).sum(axis=-1)
        freedom = np.broadcast_to(sums.freedom + len(self.moments.spec.unpenalised), squares.shape)
        return products, right + explained, squares, freedom

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
        return products, moments.n.sum(axis=0) - (~unseen & (self.penalised < 0)).sum(axis=1)

    def _residual(self, fit: LeastSquares) -> np.ndarray:
        """Return the mean residuals of every pair, (pair, feature), zero where nothing was observed."""
        pairs = self.subjects
        found = pairs.mean_y - fit.cell_mean[pairs.batch] - ((pairs.mean_x - fit.center) * fit.beta).sum(axis=-1)
        return np.where(pairs.n > 0, found, 0.0)

    def generalised(self, fit: LeastSquares, solved: Solved, curves: Slopes | None) -> LeastSquares:
        """Return the fit at the ratios that were found."""
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
        covariance = self.levels @ solved.inverse[:, :count, :count] @ self.levels.T
        noise, shared = _split(
            covariance, seen, np.where(seen, fit.additive.leverage() / np.maximum(moments.n, 1), 0.0)
        )
        root = _every(fit.whitener, len(solved.variance))
        of_slopes = root @ solved.inverse[:, count:, count:] @ root.swapaxes(1, 2)
        return replace(
            moved,
            ssr=np.maximum(ssr, 0),
            freedom=self._freedom(solved, weight),
            precision=np.where(seen, 1 / noise, 0.0),
            taken=fit.taken if curves is None else curves.taken,
            variance=solved.variance,
            covariance=of_slopes * solved.variance[:, None, None],
            curves=curves,
            subject_sd=np.sqrt(solved.variance * solved.ratio),
            shared=shared,
        )

    def _squares(self, fit: LeastSquares) -> np.ndarray:
        """Return the sums of squares about cell means and slopes, intercepts not taken out, (batch, feature)."""
        moments, beta = self.moments, fit.beta
        within = moments.syy - 2 * (moments.sxy * beta).sum(axis=-1)
        within = within + (beta * (moments.sxx @ beta[..., None])[..., 0]).sum(axis=-1)
        return np.asarray(within + moments.n * self._away(fit) ** 2)

    def _away(self, fit: LeastSquares) -> np.ndarray:
        """Return the mean residuals of the batches, (batch, feature)."""
        moments = self.moments
        away = moments.mean_y - fit.cell_mean - ((moments.mean_x - fit.center) * fit.beta).sum(axis=-1)
        return np.where(moments.n > 0, away, 0.0)

    def _freedom(self, solved: Solved, weight: np.ndarray) -> np.ndarray:
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


def _every(values: np.ndarray, count: int) -> np.ndarray:
    """Return values with a feature axis of full length."""
    return np.broadcast_to(values, (count, *values.shape[1:]))


def _split(covariance: np.ndarray, seen: np.ndarray, least: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the variances of cell means about what they share (batch, feature), and of that, (feature,).

    No mean is known better than by as many scans without intercepts, of which it would have the variance `least`.
    """
    own = np.where(seen, np.einsum("fbb->fb", covariance).T, np.inf)
    known = np.broadcast_to(seen, own.shape).astype(float)
    pairs = np.maximum(known.sum(axis=0) * (known.sum(axis=0) - 1), 1)
    between = np.einsum("bf,fbc,cf->f", known, covariance, known, optimize=True)
    between -= np.where(known > 0, own, 0.0).sum(axis=0)
    most = np.maximum((own - least).min(axis=0), 0)
    shared = np.clip(between / pairs, 0, most)
    return own - shared, shared
