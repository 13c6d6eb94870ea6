r"""The harmonization equation, the one formula that both estimators share. Arrays only.

.. math:: y^* = \alpha + x'\beta + \gamma_t + \frac{\delta_t}{\delta_i} (y - \alpha - x'\beta - \gamma_i)

with :math:`\gamma_t = 0, \delta_t = 1` for the pooled target.  For one draw it is affine in (1, x, y) with coefficients
that depend on batch and feature alone, so the posterior mean and standard deviation of any number of scans follow from
the mean and covariance of p + 2 coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

__all__ = ["Adjusted", "Draws", "adjust", "adjusted_draws"]

# Numbers in one block of work: 64 MiB of float64.
BLOCK = 2**23
MOST_DRAWS_FOR_QUANTILES = 1000


@dataclass(frozen=True, eq=False)
class Draws:
    """Parameters, in feature units; an estimate is a single draw.

    Parameters
    ----------
    alpha : ndarray, (draw, feature)
    beta : ndarray, (draw, feature, covariate)
    gamma, delta : ndarray, (draw, batch, feature)
    center : ndarray, (covariate,)
        The average covariates that alpha refers to.
    target : int, optional
        Position of the batch to harmonize to; None for the pooled target.
    unmoved : int, optional
        Position of the batch whose values are what they are harmonized to.
    """

    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    center: np.ndarray
    target: int | None = None
    unmoved: int | None = None


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Harmonized values, (obs, feature); the last three are absent where there is a single draw."""

    mean: np.ndarray
    sd: np.ndarray | None = None
    lower: np.ndarray | None = None
    upper: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class _Affine:
    """Coefficients of one batch: y* = origin + (1, x - center, y - middle) @ coefficients."""

    origin: np.ndarray
    middle: np.ndarray
    coefficients: np.ndarray


def adjust(draws: Draws, y: np.ndarray, x: np.ndarray, codes: np.ndarray, probability: float = 0.9) -> Adjusted:
    """Harmonize scans of known batches.

    Parameters
    ----------
    draws : Draws
        Parameters.
    y : ndarray, (obs, feature)
        Values, in feature units.
    x : ndarray, (obs, covariate)
        Design columns.
    codes : ndarray of int, (obs,)
        Positions of the scans' batches.
    probability : float
        Of the central interval between lower and upper.
    """
    many = len(draws.alpha) > 1
    # Rows of the batch that is the target keep their values.
    mean, lower, upper, sd = y.copy(), y.copy(), y.copy(), np.zeros_like(y)
    # A product of coefficients needs several arrays of its size.
    for block in _blocks(y.shape[1], 10 * draws.beta[:, 0].size + 20 * len(draws.alpha)):
        some = _features(draws, block)
        for batch, rows in _rows(codes):
            if batch == draws.unmoved:
                continue
            affine, values, offset = _affine(some, batch), y[rows, block], x[rows] - some.center
            mean[rows, block], sd[rows, block] = _mean_and_sd(affine, values, offset)
            if many:
                lower[rows, block], upper[rows, block] = _interval(affine, values, offset, probability)
    return Adjusted(mean, sd, lower, upper) if many else Adjusted(mean)


def adjusted_draws(draws: Draws, y: np.ndarray, x: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Return one harmonized table per draw, (draw, obs, feature)."""
    out = np.empty((len(draws.alpha), *y.shape))
    for block in _blocks(y.shape[1], 4 * len(draws.alpha) * len(y)):
        some = _features(draws, block)
        for batch, rows in _rows(codes):
            if batch == draws.unmoved:
                out[:, rows, block] = y[rows, block]
                continue
            values = _applied(_affine(some, batch), y[rows, block], x[rows] - some.center)
            out[:, rows, block] = np.moveaxis(values, 2, 0)
    return out


def _affine(draws: Draws, batch: int) -> _Affine:
    """Return the coefficients of one batch, (draw, feature, covariate + 2).

    Features are measured from the middle of their batch and of the target, so that values around 1e6 keep
    their digits.
    """
    alpha, gamma = draws.alpha, draws.gamma[:, batch]
    ratio, shift = 1 / draws.delta[:, batch], np.zeros_like(alpha)
    if draws.target is not None:
        ratio, shift = draws.delta[:, draws.target] * ratio, draws.gamma[:, draws.target]
    origin = alpha.mean(axis=0)
    middle = origin + (gamma + (alpha - origin)).mean(axis=0)
    constant = (alpha - origin) + shift + ratio * (middle - alpha - gamma)
    slopes = draws.beta * (1 - ratio)[..., None]
    return _Affine(origin, middle, np.concatenate([constant[..., None], slopes, ratio[..., None]], axis=-1))


def _mean_and_sd(affine: _Affine, y: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact mean and standard deviation over the draws, (obs, feature)."""
    mean = affine.coefficients.mean(axis=0)
    centred = np.moveaxis(affine.coefficients - mean, 1, 0)
    covariance = centred.swapaxes(1, 2) @ centred / max(len(affine.coefficients) - 1, 1)
    known = np.concatenate([np.ones((len(y), 1)), offset], axis=1)
    away = y - affine.middle
    variance = np.einsum("op,oq,fpq->of", known, known, covariance[:, :-1, :-1], optimize=True)
    variance += 2 * away * (known @ covariance[:, :-1, -1].T) + away**2 * covariance[:, -1, -1]
    values = affine.origin + (known @ mean[:, :-1].T + away * mean[:, -1])
    return values, np.sqrt(np.maximum(variance, 0))


def _applied(affine: _Affine, y: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the harmonized values of every draw, (obs, feature, draw)."""
    constant, slopes, ratio = (np.moveaxis(part, 0, -1) for part in _parts(affine.coefficients))
    values = np.tensordot(offset, slopes, axes=(1, 1))
    values += constant
    values += (y - affine.middle)[..., None] * ratio
    values += affine.origin[:, None]
    return np.asarray(values)


def _parts(coefficients: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return coefficients[..., 0], coefficients[..., 1:-1], coefficients[..., -1]


def _interval(affine: _Affine, y: np.ndarray, offset: np.ndarray, probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds of the central interval, from at most a thousand evenly spaced draws."""
    step = -(-len(affine.coefficients) // MOST_DRAWS_FOR_QUANTILES)
    thinned = _Affine(affine.origin, affine.middle, affine.coefficients[::step])
    tails = [(1 - probability) / 2, (1 + probability) / 2]
    lower, upper = np.empty_like(y), np.empty_like(y)
    for rows in _blocks(len(y), 4 * y.shape[1] * len(thinned.coefficients)):
        values = _applied(thinned, y[rows], offset[rows])
        lower[rows], upper[rows] = np.quantile(values, tails, axis=-1, overwrite_input=True)
    return lower, upper


def _features(draws: Draws, block: slice) -> Draws:
    return replace(
        draws,
        alpha=draws.alpha[:, block],
        beta=draws.beta[:, block],
        gamma=draws.gamma[..., block],
        delta=draws.delta[..., block],
    )


def _rows(codes: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for batch in np.unique(codes):
        yield int(batch), np.flatnonzero(codes == batch)


def _blocks(total: int, each: int) -> Iterator[slice]:
    """Yield slices over `total` things of `each` numbers, in blocks of bounded size."""
    step = max(1, BLOCK // max(each, 1))
    for start in range(0, total, step):
        yield slice(start, start + step)
