"""Residuals by robust location and scale, and which scans lie far out. Arrays only.

Medians and median absolute deviations: Rousseeuw and Croux (1993), doi:10.1080/01621459.1993.10476408.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from scipy.stats import norm, t

from bayescombat.regression import LeastSquares

__all__ = ["FALSE_ALARM", "FAR_VALUE", "Outlying", "Skewness", "residuals_of", "robust_scores"]

# Probability that a study of normal features has any scan, or any skewed feature, that is named.
FALSE_ALARM = 0.01
# Single values beyond so many standard deviations are named: no normal table of any size holds one.
FAR_VALUE = 10.0
# Single values count for no more than this in a scan's distance.
CAP = 5.0
# Batches of fewer scans have no scale of their own.
OWN_SCALE = 5
TO_SD = 1 / norm.ppf(0.75)
# Variance of the logarithm of a median absolute deviation, times the scans; and its efficiency.
LOG_MAD = 1.361
EFFICIENCY = 0.37
# Makes the median absolute deviation of so few normal scans unbiased (Croux and Rousseeuw 1992).
SMALL_SAMPLE = {5: 1.206, 6: 1.200, 7: 1.140, 8: 1.129, 9: 1.107}
# Components along which, and beside which, scans are measured; and how many scans each needs.
MOST_COMPONENTS = 10
SCANS_PER_COMPONENT = 10
# Spreads of distances below it are rounding error.
NOTHING = 1e-9
# So many features tell how far features go together.
MOST_FEATURES = 200
# L-skewness of an exponential is 1/3, of a normal with skewness 1 (gamma) about 0.16.
STRONG_SKEW = 0.15


def residuals_of(y: np.ndarray, x: np.ndarray, codes: np.ndarray, fit: LeastSquares) -> np.ndarray:
    """Return what cell means and slopes leave of the measurements, (obs, feature), NaN where missing.

    Parameters
    ----------
    y : ndarray, (obs, feature)
    x : ndarray, (obs, covariate)
        Design columns.
    codes : ndarray of int, (obs,)
        Positions of the cells.
    fit : LeastSquares
        Of these rows.
    """
    middle = x.mean(axis=0)
    residual = y - fit.cell_mean[codes]
    residual -= (x - middle) @ fit.beta.T
    residual += ((fit.center - middle) * fit.beta).sum(axis=1)
    return np.asarray(residual)


def robust_scores(residual: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return residuals from their batch's median and as they are, in units of its robust standard deviation.

    Scales of batches are drawn to those of all scans, as far as the batches turn out to be alike. Both results are
    (obs, feature), NaN where nothing tells: in batches of fewer than `OWN_SCALE` scans, and where cells are missing.
    """
    sizes = np.bincount(codes)
    known = np.flatnonzero(sizes >= OWN_SCALE)
    rows = [np.flatnonzero(codes == batch) for batch in known]
    middle = np.full_like(residual, np.nan)
    for members in rows:
        middle[members] = _median(residual[members])
    away = residual - middle
    overall = _scale(away, int((sizes[sizes >= OWN_SCALE]).sum()))
    flat = ~(overall > 0)
    if flat.any():
        overall[flat] = np.sqrt(_mean(away[:, flat] ** 2))
    away /= np.where(overall > 0, overall, np.nan)
    middle /= np.where(overall > 0, overall, np.nan)
    if len(known) > 1:
        own = np.stack([_scale(away[members], len(members)) for members in rows])
        drawn = _drawn(own, sizes[known], effective_features(away))
        for members, scale in zip(rows, drawn, strict=True):
            away[members] /= scale
            middle[members] /= scale
    return away, away + middle


def _drawn(own: np.ndarray, sizes: np.ndarray, features: float) -> np.ndarray:
    """Return scales of batches (batch, feature) drawn to one, and to the scale that the batch's features share."""
    with np.errstate(divide="ignore"):
        logs = np.where(own > 0, np.log(own), np.nan)
    error = LOG_MAD / sizes
    batch = np.nan_to_num(_median(logs.T))
    noise = error / features
    spread2 = max(float((batch**2 - noise).mean()), 0.0)
    batch = batch * spread2 / (spread2 + noise)
    rest = np.nan_to_num(logs - batch[:, None])
    spread2 = max(float((rest**2).mean() - error.mean()), 0.0)
    return np.asarray(np.exp(batch[:, None] + rest * (spread2 / (spread2 + error))[:, None]))


def effective_features(score: np.ndarray) -> float:
    """Return how many independent features would spread as much as these do together (Satterthwaite 1946)."""
    count = score.shape[1]
    some = score[:, np.unique(np.linspace(0, count - 1, min(count, MOST_FEATURES)).astype(int))]
    some = np.clip(np.nan_to_num(some), -CAP, CAP)
    some = some[:, some.any(axis=0)]
    if some.shape[1] < 2:
        return 1.0
    correlation = np.corrcoef(some, rowvar=False)
    squares = (correlation**2).sum() - len(correlation)
    shared = max(squares / (len(correlation) * (len(correlation) - 1)) - 1 / len(some), 0.0)
    return float(count / (1 + (count - 1) * shared))


@dataclass(frozen=True, eq=False)
class Outlying:
    """How far scans lie from their batch.

    Parameters
    ----------
    distance : ndarray, (obs,)
        Root mean square of the robust scores, each counted as `CAP` at most; NaN where nothing tells.
    ratio : ndarray, (obs,)
        Distance of the scan, along the components or beside them, from that of its batch's typical scan, over the
        limit: beyond one it lies far out. Zero where nothing tells.
    farthest : ndarray, (obs,)
        Largest absolute robust score; zero where nothing tells.
    feature : ndarray of int, (obs,)
        Position of its feature.
    """

    distance: np.ndarray
    ratio: np.ndarray
    farthest: np.ndarray
    feature: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray, codes: np.ndarray) -> Self:
        """Return how far out scans of batches (obs,) lie, given robust scores (obs, feature).

        Notes
        -----
        As in robust principal-component analysis (Hubert, Rousseeuw and Vanden Branden 2005,
        doi:10.1198/004017004000000563) there are two distances: along the first components, each in units of its
        spread, and in what they leave. Both are means of squares, whose cube roots are nearly normal (Wilson and
        Hilferty 1931, doi:10.1073/pnas.17.12.684). A scan is held against the median of its batch by the median
        absolute deviation over all scans; a share of `FALSE_ALARM` of studies of normal features has any beyond.
        """
        if not score.shape[1]:
            nothing = np.zeros(len(score))
            return cls(np.full(len(score), np.nan), nothing, nothing, nothing.astype(int))
        seen = np.isfinite(score)
        capped = np.clip(np.where(seen, score, 0.0), -CAP, CAP)
        size = np.abs(np.where(seen, score, 0.0))
        feature = size.argmax(axis=1)
        farthest = size[np.arange(len(size)), feature]
        told = seen.any(axis=1)
        distance = np.full(len(score), np.nan)
        distance[told] = np.sqrt((capped[told] ** 2).sum(axis=1) / seen[told].sum(axis=1))
        ratio = np.zeros(len(score))
        if told.sum() >= OWN_SCALE:
            along, beside = _distances(capped[told], seen[told])
            ratio[told] = np.maximum(_beyond(along, codes[told]), _beyond(beside, codes[told]))
        return cls(distance, ratio, farthest, feature)


def _distances(score: np.ndarray, seen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean squares of scans' scores (obs, feature) along the first components, and in what these leave."""
    count = min(MOST_COMPONENTS, len(score) // SCANS_PER_COMPONENT + 1, score.shape[1])
    wide = score.shape[1] > len(score)
    vectors = np.linalg.eigh(score @ score.T if wide else score.T @ score)[1][:, : -count - 1 : -1]
    axes = np.linalg.qr(score.T @ vectors)[0] if wide else vectors
    along = score @ axes
    rest = np.where(seen, score - along @ axes.T, 0.0)
    along = along - np.median(along, axis=0)
    spread = TO_SD * np.median(np.abs(along), axis=0)
    along = along / np.where(spread > 0, spread, np.inf)
    return (along**2).mean(axis=1), (rest**2).sum(axis=1) / seen.sum(axis=1)


def _beyond(squares: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return how far mean squares (obs,) lie above their batch's median, over the limit."""
    root, count = np.cbrt(squares), len(squares)
    for batch in np.unique(codes):
        root[codes == batch] -= np.median(root[codes == batch])
    scale = TO_SD * np.median(np.abs(root))
    limit = t.isf(FALSE_ALARM / 2 / count, EFFICIENCY * (count - 1))
    return np.asarray(root / (limit * scale) if scale > NOTHING else np.zeros(count))


@dataclass(frozen=True, eq=False)
class Skewness:
    """L-skewness of features (Hosking 1990, doi:10.1111/j.2517-6161.1990.tb01775.x): 0 if symmetric, within ±1.

    Parameters
    ----------
    value : ndarray, (feature,)
        NaN where fewer than ten scans tell.
    strong : ndarray of bool, (feature,)
        Which are beyond `STRONG_SKEW`, and beyond chance.
    """

    value: np.ndarray
    strong: np.ndarray

    @classmethod
    def of(cls, score: np.ndarray) -> Self:
        """Return the skewness of robust scores (obs, feature), which count as `FAR_VALUE` at most."""
        ordered = np.sort(np.clip(score, -FAR_VALUE, FAR_VALUE), axis=0)
        count, rank = np.isfinite(ordered).sum(axis=0), np.arange(len(ordered))[:, None]
        size, filled = np.maximum(count, 10), np.nan_to_num(ordered)
        first = filled.sum(axis=0) / size
        second = (rank * filled).sum(axis=0) / (size * (size - 1))
        third = (rank * (rank - 1) * filled).sum(axis=0) / (size * (size - 1) * (size - 2))
        spread = 2 * second - first
        told = (count >= 10) & (spread > 0)
        value = np.where(told, (6 * third - 6 * second + first) / np.where(spread > 0, spread, 1.0), np.nan)
        # Its variance in normal samples, after Hosking.
        error = np.sqrt(0.1866 / size + 0.8 / size**2)
        beyond = norm.isf(FALSE_ALARM / 2 / max(len(value), 1)) * error
        return cls(value, np.abs(np.nan_to_num(value)) > np.maximum(STRONG_SKEW, beyond))


def _scale(values: np.ndarray, size: int) -> np.ndarray:
    """Return the robust standard deviation about zero of values (obs, feature), NaN where there are none."""
    return np.asarray(TO_SD * SMALL_SAMPLE.get(size, size / (size - 0.8)) * _median(np.abs(values)))


def _median(values: np.ndarray) -> np.ndarray:
    """Return the medians of the columns; NaN of columns without numbers."""
    if not np.isnan(values).any():
        return np.asarray(np.median(values, axis=0))
    ordered, count = np.sort(values, axis=0), np.isfinite(values).sum(axis=0)
    low, high = np.maximum(count - 1, 0) // 2, np.minimum(count // 2, len(values) - 1)
    columns = np.arange(values.shape[1])
    return np.asarray((ordered[low, columns] + ordered[high, columns]) / 2)


def _mean(values: np.ndarray) -> np.ndarray:
    """Return the means of the columns; NaN of columns without numbers."""
    count = np.isfinite(values).sum(axis=0)
    return np.asarray(np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan))
