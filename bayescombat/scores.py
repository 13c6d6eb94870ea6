"""What features share, as scores that the data tell apart: how the model is parametrised. Arrays only."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayescombat.factors import Loadings
from bayescombat.mixed import Mixed
from bayescombat.moments import Moments
from bayescombat.patterns import Patterns
from bayescombat.regression import LeastSquares
from bayescombat.shared import Found, found_of

__all__ = ["CrossedSharing", "Sharing", "SharingOfLevels", "Squares", "Stretch", "sharing_of", "squares_of"]

# Directions are stretched of which the features' levels, being open, take this share of what is known.
LEAST_STRETCH = 0.5


class Stretch(NamedTuple):
    """How scores of all batches are stretched along a few directions.

    Parameters
    ----------
    along, by : ndarray, (direction, batch, score)
        Products of scores with the latter are how many times the former is added to them.
    """

    along: np.ndarray
    by: np.ndarray

    @property
    def inner(self) -> np.ndarray:
        """Products that tell volume and inverse, (direction, direction)."""
        return np.asarray(np.eye(len(self.by)) + np.einsum("kbs,lbs->kl", self.by, self.along))

    def undone(self, scores: np.ndarray) -> np.ndarray:
        """Return the scores (batch, score) that these are when stretched."""
        far = np.linalg.solve(self.inner, np.einsum("kbs,bs->k", self.by, scores))
        return np.asarray(scores - np.einsum("k,kbs->bs", far, self.along))

    @property
    def log_volume(self) -> float:
        """Logarithm of how many times the volume there is once scores are stretched."""
        return float(np.linalg.slogdet(self.inner)[1])


@dataclass(frozen=True, eq=False)
class Sharing:
    """What features share, and scores for it that data tell apart.

    A score is standard normal beforehand; given the spreads that empirical Bayes finds, the scores of a batch are
    independent given its data too.

    Parameters
    ----------
    factors : Loadings
        Of the noise of a scan.
    patterns : Patterns
        Of the shifts of a batch.
    of_shifts : ndarray, (batch, axis, score)
        How the shifts of a batch along the axes of the patterns follow its scores, in units of their spread.
    of_noise : ndarray, (batch, factor, score)
        How the mean noise of its scans along the factors does.
    score : ndarray, (batch, score)
        Expected scores.
    of_mean : ndarray, (batch, score)
        How much lower a score is expected for a higher mean of the batch's shifts.
    known : ndarray, (batch, score)
        Share of the data in what is known of a score, as far as it is one of shifts.
    information : ndarray, (batch,)
        What the data tell of the mean of the batch's shifts.
    mean, sd : ndarray, (batch,)
        Of the shifts, beside the patterns.
    own : ndarray, (batch, feature)
        Variance of the unshrunken shifts beside what features share.
    mean_estimate : ndarray, (batch,)
        Of the mean, before it is drawn to that of the others.
    stretch : Stretch
        What makes scores alike in how well they are known: what all batches have in common is left to the features'
        levels, so that the data tell of differences alone.
    """

    factors: Loadings
    patterns: Patterns
    of_shifts: np.ndarray
    of_noise: np.ndarray
    score: np.ndarray
    of_mean: np.ndarray
    known: np.ndarray
    information: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    own: np.ndarray
    mean_estimate: np.ndarray
    stretch: Stretch

    @property
    def of_variables(self) -> "list[Sharing]":
        """Of the one batch variable, itself."""
        return [self]


@dataclass(frozen=True, eq=False)
class SharingOfLevels:
    """What features share in the effects of one of several batch variables.

    Parameters
    ----------
    factors, patterns, mean, sd, information
        As in `Sharing`, of the variable's levels.
    of_shifts : ndarray, (level, axis, score)
        How the shifts of a level along the axes of the patterns follow all scores, in units of their spread.
    of_mean : ndarray, (level, score)
        How much lower a score is expected for a higher mean of the level's shifts.
    own : ndarray, (level, feature)
        Variance of the level's unshrunken shifts beside what features share.
    mean_estimate : ndarray, (level,)
        Of the mean, before it is drawn to that of the others.
    """

    factors: Loadings
    patterns: Patterns
    of_shifts: np.ndarray
    of_mean: np.ndarray
    information: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    own: np.ndarray
    mean_estimate: np.ndarray


@dataclass(frozen=True, eq=False)
class CrossedSharing:
    """What features share with several batch variables, where noise belongs to cells and patterns to levels.

    A score is standard normal beforehand; given the spreads that empirical Bayes finds, all scores are independent
    given the data too.

    Parameters
    ----------
    factors : Loadings
        Of the noise of a scan.
    of_variables : list of SharingOfLevels
    of_noise : ndarray, (cell, factor, score)
        How the mean noise of a cell's scans along the factors follows the scores.
    score : ndarray, (score,)
        Expected scores.
    """

    factors: Loadings
    of_variables: list[SharingOfLevels]
    of_noise: np.ndarray
    score: np.ndarray


def sharing_of(moments: Moments, fit: LeastSquares, factors: Loadings) -> Sharing | CrossedSharing:
    """Return what features share, as empirical Bayes finds it; arguments as in `shared_empirical_bayes`."""
    found = found_of(moments, fit, factors)
    if not fit.additive.crossed:
        return _of_one_variable(moments, factors, found)
    return _of_several_variables(moments, factors, found)


def _of_one_variable(moments: Moments, factors: Loadings, found: Found) -> Sharing:
    (shifts,), (patterns,) = found.shifts, found.patterns
    sd = shifts.sd
    own, noise = found.errors
    loadings = np.concatenate([sd[:, None, None] * patterns.of_features, noise], axis=2)
    weighted = loadings / (sd[:, None] ** 2 + own)[..., None]
    values, turn = np.linalg.eigh(weighted.swapaxes(1, 2) @ loadings)
    values, axes = np.maximum(values, 0), patterns.each.shape[2]
    of_mean = (turn.swapaxes(1, 2) @ weighted.sum(axis=1)[..., None])[..., 0]
    information = (1 / (sd[:, None] ** 2 + own)).sum(axis=1) - (of_mean**2 / (1 + values)).sum(axis=1)
    # Scores of patterns come in units of their spread, those of noise as they are.
    score = shifts.scores[:, 1:].copy()
    score[:, :axes] /= sd[:, None]
    return Sharing(
        factors=factors,
        patterns=patterns,
        of_shifts=patterns.each @ turn[:, :axes],
        of_noise=turn[:, axes:] / np.sqrt(np.maximum(moments.scans, 1))[:, None, None],
        score=(turn.swapaxes(1, 2) @ score[..., None])[..., 0],
        of_mean=of_mean / (1 + values),
        known=values / (1 + values) * (turn[:, :axes] ** 2).sum(axis=1),
        information=information,
        mean_estimate=_undrawn(shifts, information),
        mean=shifts.mean,
        sd=sd,
        own=own,
        stretch=_stretch(loadings @ turn, 1 / (sd[:, None] ** 2 + own), 1 + values),
    )


def _undrawn(shifts: Mixed, information: np.ndarray) -> np.ndarray:
    """Return the levels' means before they are drawn to each other."""
    return np.asarray(shifts.mean * (1 + 1 / (shifts.spread[0] ** 2 * information)))


def _stretch(loadings: np.ndarray, weight: np.ndarray, precision: np.ndarray) -> Stretch:
    """Return how to stretch scores that are known by a precision (batch, score) each if the features' levels are.

    Features follow them by loadings (batch, feature, score), beside what is known by a weight (batch, feature).
    """
    root = np.sqrt(precision)
    lost = (weight / np.sqrt(weight.sum(axis=0)))[..., None] * loadings / root[:, None]
    batches, features, scores = lost.shape
    axes, size, _ = np.linalg.svd(lost.swapaxes(1, 2).reshape(-1, features), full_matrices=False)
    kept = size**2 > LEAST_STRETCH
    axes, size = axes[:, kept].T.reshape(-1, batches, scores), size[kept]
    return Stretch((1 / np.sqrt(1 - size**2) - 1)[:, None, None] * axes / root, axes * root)


class Squares(NamedTuple):
    """What features share in the log sums of squares of cells, as scores that the data tell apart.

    A score is standard normal beforehand.

    Parameters
    ----------
    of_axes : ndarray, (cell, axis, score)
        How the axes of the factors' squares follow the scores.
    of_mean : ndarray, (cell, score)
        How much lower a score is expected for a higher mean of the cell's log scales.
    information : ndarray, (cell,)
        What the data tell of that mean.
    """

    of_axes: np.ndarray
    of_mean: np.ndarray
    information: np.ndarray


def squares_of(moments: Moments, factors: Loadings, spreads: list[np.ndarray]) -> Squares:
    """Return what features share in log sums of squares, given the spreads of log scales (level,) of every variable."""
    freedom = np.broadcast_to(np.maximum(moments.n - 1, 0), moments.mean_y.shape)
    spread2 = (np.concatenate(spreads)[moments.positions] ** 2).sum(axis=1)
    own = 1 / factors.of_squares_weight
    weight = 2 * freedom / (2 * freedom * spread2[:, None] + own)
    unit = np.sqrt(2 * np.maximum(moments.scans - 1, 1))[:, None, None]
    loadings = factors.of_squares / unit
    weighted = loadings * weight[..., None]
    values, turn = np.linalg.eigh(weighted.swapaxes(1, 2) @ loadings)
    general = (turn.swapaxes(1, 2) @ weighted.sum(axis=1)[..., None])[..., 0]
    of_mean = general / (1 + np.maximum(values, 0))
    return Squares(turn / unit, of_mean, weight.sum(axis=1) - (general * of_mean).sum(axis=1))


class _Told(NamedTuple):
    """What the data tell of scores, and of the levels' means: information, of both and of the two together."""

    scores: np.ndarray
    means: np.ndarray
    both: np.ndarray
    right: np.ndarray


def _of_several_variables(moments: Moments, factors: Loadings, found: Found) -> CrossedSharing:
    owners = [column - column.min() for column in moments.positions.T]
    design, rows, of_cells = _design(owners, found)
    told = _told(owners, design, found)
    values, turn = np.linalg.eigh(told.scores)
    values = np.maximum(values, 0)
    both = turn.T @ told.both
    of_mean = (both / (1 + values)[:, None]).T
    information = np.diagonal(told.means) - (both * of_mean.T).sum(axis=0)
    score = turn.T @ told.right / (1 + values)
    cuts = np.cumsum([len(one.mean) for one in found.shifts])[:-1]
    parts = zip(
        found.patterns,
        found.shifts,
        found.pooled,
        rows,
        np.split(of_mean, cuts),
        np.split(information, cuts),
        strict=True,
    )
    of_variables = []
    for patterns, shifts, (own, _), mine, of_means, known in parts:
        of_shifts = patterns.each @ turn[mine]
        estimate = _undrawn(shifts, known)
        one = SharingOfLevels(factors, patterns, of_shifts, of_means, known, shifts.mean, shifts.sd, own, estimate)
        of_variables.append(one)
    of_noise = turn[of_cells] / np.sqrt(np.maximum(moments.scans, 1))[:, None, None]
    return CrossedSharing(factors, of_variables, of_noise, score)


def _design(owners: list[np.ndarray], found: Found) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Return how cells follow all scores (feature, cell, score), and where those of levels and of cells stand."""
    sizes = [one.each.shape[::2] for one in found.patterns]
    shapes = [*sizes, found.errors[1].shape[::2]]
    ends = np.cumsum([0, *(rows * columns for rows, columns in shapes)])
    *rows, of_cells = (
        np.arange(start, end).reshape(shape) for start, end, shape in zip(ends[:-1], ends[1:], shapes, strict=True)
    )
    cells = np.arange(len(owners[0]))
    design = np.zeros((len(found.sigma), len(cells), ends[-1]))
    for patterns, shifts, owner, mine in zip(found.patterns, found.shifts, owners, rows, strict=True):
        loadings = shifts.sd[:, None, None] * patterns.of_features
        design[:, cells[:, None], mine[owner]] = np.moveaxis(loadings[owner], 1, 0)
    design[:, cells[:, None], of_cells] = np.moveaxis(found.errors[1], 1, 0)
    return design, rows, of_cells


def _told(owners: list[np.ndarray], design: np.ndarray, found: Found) -> _Told:
    """Return what the data tell, what shifts have beside the scores being integrated out feature by feature."""
    member = np.concatenate([owner[:, None] == np.arange(owner.max() + 1) for owner in owners], axis=1).astype(float)
    mean, sd = (np.concatenate([getattr(one, name) for one in found.shifts]) for name in ("mean", "sd"))
    weight = (1 / found.errors[0]).T[..., None]
    inner = member.T @ (weight * member) + np.diag(1 / sd**2)
    away = (found.residual - (member @ mean)[:, None]).T[..., None]
    columns = np.concatenate([design, np.broadcast_to(member, (len(design), *member.shape)), away], axis=2)
    weighted = weight * columns
    left = weighted - (weight * member) @ np.linalg.solve(inner, member.T @ weighted)
    count = design.shape[2]
    products = np.tensordot(columns[..., :-1], left, ([0, 1], [0, 1]))
    return _Told(products[:count, :count], products[count:, count:-1], products[:count, count:-1], products[:count, -1])
