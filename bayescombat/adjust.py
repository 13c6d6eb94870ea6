r"""The harmonization equation, the one formula that both estimators share. Arrays only.

.. math:: y^* = \alpha + x_k'\beta_k + \gamma_t + \frac{\delta_t}{\delta_i} (y - \alpha - x'\beta - \gamma_i)

with :math:`x_k` the preserved covariates, without those to be removed; :math:`\gamma_t = 0, \delta_t = 1` for the
pooled target; with several batch variables :math:`\gamma_i` is the sum and :math:`\delta_i` the product over the levels
that a scan has; a subject's intercept is part of :math:`\alpha`. For one draw it is affine in (1, x, y) with
coefficients that depend on batch and feature alone, so the posterior mean and standard deviation of any number of scans
follow from the mean and covariance of p + 2 coefficients.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bayescombat.blocks import FEW_ROWS, column_blocks, side_by_side, slices
from bayescombat.intercepts import Intercepts, Repeats, predicted_intercepts, scores

__all__ = [
    "Adjusted",
    "Draws",
    "MOST_DRAWS_FOR_QUANTILES",
    "adjust",
    "adjusted_draws",
    "blocks",
    "of_features",
    "of_place",
    "of_target",
    "predicted",
    "rows_by_level",
]

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
    sigma : ndarray, (draw, feature)
    center : ndarray, (covariate,)
        The average covariates that alpha refers to.
    kept : ndarray of bool, (covariate,)
        Which covariates are preserved; the others are removed.
    standing : ndarray, (draw, feature)
        What the removed covariates explain at the values that harmonized scans stand at.
    target : tuple of int, optional
        Positions of the levels to harmonize to, one of each batch variable; None for the pooled target.
    unmoved : tuple of int, optional
        Positions of the levels whose scans keep their values; None where covariates are removed of all.
    log : bool
        Whether values are logarithms; results are then on the natural scale.
    repeats : Repeats, optional
        What the intercepts of the scans' subjects are predicted from.
    """

    alpha: np.ndarray
    beta: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    sigma: np.ndarray
    center: np.ndarray
    kept: np.ndarray
    standing: np.ndarray
    target: tuple[int, ...] | None = None
    unmoved: tuple[int, ...] | None = None
    log: bool = False
    repeats: Repeats | None = None


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Harmonized values, (obs, feature); the last three are absent where there is a single draw and nothing else."""

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


def adjust(draws: Draws, y: np.ndarray, x: np.ndarray, levels: np.ndarray, probability: float | None = 0.9) -> Adjusted:
    """Harmonize scans of known batches.

    Parameters
    ----------
    draws : Draws
        Parameters.
    y : ndarray, (obs, feature)
        Values on the scale that was modelled; what is missing (NaN) stays so.
    x : ndarray, (obs, covariate)
        Design columns.
    levels : ndarray of int, (obs, variable)
        Positions of the scans' levels.
    probability : float, optional
        Of the central interval between lower and upper; None for neither, since quantiles take most of the time.
    """
    if len(draws.alpha) == 1:
        return Adjusted(_estimated(draws, y, x, levels))
    if draws.repeats is not None:
        draws = _thinned(draws)
    # Rows of the batch that is the target keep their values.
    mean = np.exp(y) if draws.log else y.copy()
    lower, upper, sd = mean.copy(), mean.copy(), np.where(np.isnan(y), np.nan, 0.0)
    exact = not draws.log and draws.repeats is None
    groups = list(rows_by_level(levels))

    def work(block: slice) -> None:
        some = of_features(draws, block)
        intercepts = _intercepts(some)
        for place, rows in groups:
            if place == draws.unmoved:
                continue
            affine, values, offset = _affine(some, place), y[rows, block], x[rows] - some.center
            mine = None if intercepts is None else intercepts.of(rows)
            if probability is not None or not exact:
                found = _summary(affine, values, offset, probability or 0.5, draws.log, mine)
                lower[rows, block], upper[rows, block], *moments = found
            mean[rows, block], sd[rows, block] = _mean_and_sd(affine, values, offset) if exact else moments

    # A product of coefficients needs several arrays of its size.
    side_by_side(work, blocks(y.shape[1], _numbers(draws)))
    return Adjusted(mean, sd) if probability is None else Adjusted(mean, sd, lower, upper)


def _estimated(draws: Draws, y: np.ndarray, x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Return the harmonized values of a single draw in the precision of y, read and written once, (obs, feature)."""
    out, offset, groups = np.empty_like(y), x - draws.center, list(rows_by_level(levels))

    def work(block: slice) -> None:
        some = of_features(draws, block)
        intercepts = _intercepts(some)
        for place, scans in groups:
            affine = _affine(some, place)
            mean = np.ascontiguousarray(affine.coefficients[0].T)
            for rows in (scans[some] for some in slices(len(scans), FEW_ROWS)):
                values = y[rows, block].astype(float, copy=False)
                if place != draws.unmoved:
                    values -= affine.middle
                    values = _mean(affine, values, offset[rows], mean)
                    if intercepts is not None:
                        values += _left(affine)[:, 0] * intercepts.mean[0, intercepts.member[rows]]
                out[rows, block] = np.exp(values) if draws.log else values

    side_by_side(work, column_blocks(y.shape[1], FEW_ROWS))
    return out


def adjusted_draws(
    draws: Draws, y: np.ndarray, x: np.ndarray, levels: np.ndarray, rng: np.random.Generator | None = None
) -> np.ndarray:
    """Return one harmonized table per draw, (draw, obs, feature); with a generator, missing values are drawn too."""
    out = np.empty((len(draws.alpha), *y.shape))
    for block in blocks(y.shape[1], 4 * len(draws.alpha) * len(y)):
        some = of_features(draws, block)
        intercepts = _intercepts(some)
        for place, rows in rows_by_level(levels):
            values, offset = y[rows, block], x[rows] - some.center
            eta = np.zeros(1) if intercepts is None else intercepts.of(rows).drawn()
            if place == draws.unmoved:
                found = np.repeat(values[..., None], len(draws.alpha), axis=-1)
            else:
                affine = _affine(some, place)
                found = _applied(affine, values, offset) + _left(affine) * eta
            if rng is not None:
                holes = np.isnan(values)
                found[holes] = predicted(some, offset, holes, rng) + np.broadcast_to(eta, found.shape)[holes]
            out[:, rows, block] = np.moveaxis(np.exp(found) if draws.log else found, 2, 0)
    return out


def predicted(draws: Draws, offset: np.ndarray, holes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw harmonized values of new scans from their posterior predictive, (hole, draw).

    Parameters
    ----------
    draws : Draws
        Parameters.
    offset : ndarray, (obs, covariate)
        Design columns, measured from the average.
    holes : ndarray of bool, (obs, feature)
        Which values to draw.
    rng : Generator
        Source of the noise.
    """
    row, feature = np.nonzero(holes)
    gamma, delta = of_target(draws)
    mean = (draws.alpha + gamma)[:, feature]
    mean = mean + np.einsum("hp,dhp->dh", offset[row] * draws.kept, draws.beta[:, feature])
    return np.asarray((mean + (delta * draws.sigma)[:, feature] * rng.standard_normal(mean.shape)).T)


def of_target(draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift and the scale of the target, (draw, feature), at the average of what is removed."""
    if draws.target is None:
        return draws.standing, np.ones_like(draws.alpha)
    gamma, delta = of_place(draws, draws.target)
    return gamma + draws.standing, delta


def of_place(draws: Draws, place: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift and the scale of scans with these levels, (draw, feature)."""
    at = list(place)
    return draws.gamma[:, at].sum(axis=1), draws.delta[:, at].prod(axis=1)


def _affine(draws: Draws, place: tuple[int, ...]) -> _Affine:
    """Return the coefficients of scans with these levels, (draw, feature, covariate + 2).

    Features are measured from the middle of their batch and of the target, so that values around 1e6 keep
    their digits.
    """
    alpha = draws.alpha
    gamma, delta = of_place(draws, place)
    shift, scale = of_target(draws)
    ratio = scale / delta
    origin = alpha.mean(axis=0)
    middle = origin + (gamma + (alpha - origin)).mean(axis=0)
    constant = (alpha - origin) + shift + ratio * (middle - alpha - gamma)
    slopes = draws.beta * (draws.kept - ratio[..., None])
    return _Affine(origin, middle, np.concatenate([constant[..., None], slopes, ratio[..., None]], axis=-1))


def _mean(affine: _Affine, away: np.ndarray, offset: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return the mean over the draws, in place of y - middle, given the coefficients, (covariate + 2, feature)."""
    away *= mean[-1]
    # No matrix product: a scan's bits would hang on how many others are adjusted with it.
    away += np.einsum("op,pf->of", offset, mean[1:-1])
    away += affine.origin + mean[0]
    return away


def _mean_and_sd(affine: _Affine, y: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the exact mean and standard deviation over the draws, (obs, feature)."""
    mean = affine.coefficients.mean(axis=0)
    centred = np.moveaxis(affine.coefficients - mean, 1, 0)
    covariance = centred.swapaxes(1, 2) @ centred / max(len(affine.coefficients) - 1, 1)
    known = np.concatenate([np.ones((len(y), 1)), offset], axis=1)
    away = y - affine.middle
    variance = np.einsum("op,oq,fpq->of", known, known, covariance[:, :-1, :-1], optimize=True)
    variance += 2 * away * (known @ covariance[:, :-1, -1].T) + away**2 * covariance[:, -1, -1]
    return _mean(affine, away, offset, mean.T), np.sqrt(np.maximum(variance, 0))


def _applied(affine: _Affine, y: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """Return the harmonized values of every draw, (obs, feature, draw)."""
    coefficients = np.moveaxis(affine.coefficients, 0, -1)
    values = np.tensordot(offset, coefficients[:, 1:-1], axes=(1, 1))
    values += coefficients[:, 0]
    values += (y - affine.middle)[..., None] * coefficients[:, -1]
    values += affine.origin[:, None]
    return np.asarray(values)


def _left(affine: _Affine) -> np.ndarray:
    """Return how much of an intercept rescaling takes away, and has to be given back, (feature, draw)."""
    return np.asarray(1 - affine.coefficients[..., -1].T)


def _summary(
    affine: _Affine, y: np.ndarray, offset: np.ndarray, probability: float, log: bool, intercepts: Intercepts | None
) -> tuple[np.ndarray, ...]:
    """Return the bounds of the central interval, mean and sd, from at most a thousand evenly spaced draws."""
    thinned = _Affine(affine.origin, affine.middle, affine.coefficients[:: _step(len(affine.coefficients))])
    tails = [(1 - probability) / 2, (1 + probability) / 2]
    lower, upper, mean, sd = (np.empty_like(y) for _ in range(4))
    for rows in blocks(len(y), 4 * y.shape[1] * len(thinned.coefficients)):
        values = _applied(thinned, y[rows], offset[rows])
        if intercepts is not None:
            mine, left = intercepts.of(rows), _left(thinned)
            values += left * mine.expected()
            spread = left * mine.spread()
            mean[rows] = values.mean(axis=-1)
            sd[rows] = np.sqrt(values.var(axis=-1, ddof=1) + (spread**2).mean(axis=-1))
            values += spread * scores(values.shape[-1])
        if log:
            np.exp(values, out=values)
            mean[rows], sd[rows] = values.mean(axis=-1), values.std(axis=-1, ddof=1)
        # Sorted first, since to look for a few places at once takes several times as long.
        values.sort(axis=-1)
        lower[rows], upper[rows] = np.quantile(values, tails, axis=-1, overwrite_input=True)
    return lower, upper, mean, sd


def _step(count: int) -> int:
    return -(-count // MOST_DRAWS_FOR_QUANTILES)


def _thinned(draws: Draws) -> Draws:
    """Return at most a thousand evenly spaced draws."""
    every = slice(None, None, _step(len(draws.alpha)))
    assert draws.repeats is not None
    names = ("alpha", "beta", "gamma", "delta", "sigma", "standing")
    return replace(draws, **{name: getattr(draws, name)[every] for name in names}, repeats=draws.repeats.draws(every))


def _intercepts(draws: Draws) -> Intercepts | None:
    if draws.repeats is None:
        return None
    return predicted_intercepts(draws.repeats, draws.alpha, draws.beta, draws.sigma, draws.center)


def _numbers(draws: Draws) -> int:
    """Return how many numbers the work on one feature takes: several arrays of the size of its coefficients."""
    people = 0 if draws.repeats is None else 2 * len(draws.repeats.subjects.labels)
    return 10 * int(draws.beta[:, 0].size) + (20 + people) * len(draws.alpha)


def of_features(draws: Draws, block: slice) -> Draws:
    """Return the parameters of some features."""
    return replace(
        draws,
        alpha=draws.alpha[:, block],
        beta=draws.beta[:, block],
        gamma=draws.gamma[..., block],
        delta=draws.delta[..., block],
        sigma=draws.sigma[:, block],
        repeats=None if draws.repeats is None else draws.repeats.features(block),
        standing=draws.standing[:, block],
    )


def rows_by_level(levels: np.ndarray) -> Iterator[tuple[tuple[int, ...], np.ndarray]]:
    """Yield the scans of every combination of levels."""
    places, codes = np.unique(levels, axis=0, return_inverse=True)
    for code, place in enumerate(places):
        yield tuple(place.tolist()), np.flatnonzero(codes == code)


def blocks(total: int, each: int) -> list[slice]:
    """Return slices over `total` things of `each` numbers, in blocks of bounded size."""
    return slices(total, BLOCK // max(each, 1))
