"""What every draw expects of every value: its density, and what else might have been seen. Arrays only."""

from collections.abc import Iterator

import numpy as np
from scipy.special import gammaln

from bayescombat.adjust import Draws, of_place, rows_by_level

__all__ = ["STATISTICS", "log_densities", "replicated", "statistics"]

# What predictive checks look at, in every batch and feature.
STATISTICS = ("mean", "sd", "lowest", "highest")


def log_densities(
    draws: Draws, y: np.ndarray, x: np.ndarray, levels: np.ndarray, nu: np.ndarray | None = None
) -> np.ndarray:
    """Return the logarithm of the density of every value, (draw, obs, feature); no number where it is missing.

    Parameters
    ----------
    draws : Draws
        Parameters.
    y : ndarray, (obs, feature)
        Values on the scale that was modelled; the densities are those of their exponentials where that is logarithms.
    x : ndarray, (obs, covariate)
        Design columns.
    levels : ndarray of int, (obs, variable)
        Positions of the scans' levels.
    nu : ndarray, (draw,), optional
        Degrees of freedom of Student's t; by default noise is normal.
    """
    found = np.empty((len(draws.alpha), *y.shape))
    for rows, mean, sd in _expected(draws, x, levels):
        away = (y[rows] - mean) / sd[:, None]
        found[:, rows] = _of_noise(away, nu) - np.log(sd)[:, None]
    return found - y if draws.log else found


def replicated(
    draws: Draws,
    seen: np.ndarray,
    x: np.ndarray,
    levels: np.ndarray,
    rng: np.random.Generator,
    intercepts: np.ndarray | float = 0.0,
    nu: np.ndarray | None = None,
) -> np.ndarray:
    """Return tables that might have been seen instead, (draw, obs, feature), with the same cells missing.

    Parameters
    ----------
    draws, x, levels, nu
        As in `log_densities`.
    seen : ndarray of bool, (obs, feature)
        Which cells are not missing.
    rng : Generator
        Source of the noise.
    intercepts : ndarray, (draw, obs, feature), optional
        What scans have of their subjects.
    """
    found = np.empty((len(draws.alpha), *seen.shape))
    for rows, mean, sd in _expected(draws, x, levels):
        noise = rng.standard_normal(mean.shape)
        if nu is not None:
            noise /= np.sqrt(rng.chisquare(nu[:, None, None], mean.shape) / nu[:, None, None])
        found[:, rows] = mean + sd[:, None] * noise
    found += intercepts
    found[:, ~seen] = np.nan
    return np.exp(found) if draws.log else found


def _of_noise(away: np.ndarray, nu: np.ndarray | None) -> np.ndarray:
    """Return the log-density of noise in units of its scale, (draw, obs, feature)."""
    if nu is None:
        return np.asarray(-(np.log(2 * np.pi) + away**2) / 2)
    tails = nu[:, None, None]
    constant = gammaln((tails + 1) / 2) - gammaln(tails / 2) - np.log(np.pi * tails) / 2
    return np.asarray(constant - (tails + 1) / 2 * np.log1p(away**2 / tails))


def statistics(values: np.ndarray, codes: np.ndarray, batches: int) -> np.ndarray:
    """Return the `STATISTICS` of every batch, (statistic, ..., batch, feature); no number where there is no value.

    Parameters
    ----------
    values : ndarray, (..., obs, feature)
        One table or several.
    codes : ndarray of int, (obs,)
        Batch of every scan.
    batches : int
        How many there are.
    """
    found = np.full((len(STATISTICS), *values.shape[:-2], batches, values.shape[-1]), np.nan)
    for batch in range(batches):
        mine = values[..., codes == batch, :]
        count = np.isfinite(mine).sum(axis=-2)
        some = np.where(np.isfinite(mine), mine, 0.0)
        mean = np.divide(some.sum(axis=-2), count, out=np.full(count.shape, np.nan), where=count > 0)
        squares = (np.where(np.isfinite(mine), mine - mean[..., None, :], 0.0) ** 2).sum(axis=-2)
        variance = np.divide(squares, count - 1, out=np.full(count.shape, np.nan), where=count > 1)
        found[0, ..., batch, :], found[1, ..., batch, :] = mean, np.sqrt(variance)
        found[2, ..., batch, :] = np.fmin.reduce(mine, axis=-2, initial=np.nan)
        found[3, ..., batch, :] = np.fmax.reduce(mine, axis=-2, initial=np.nan)
    return found


def _expected(draws: Draws, x: np.ndarray, levels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield the rows of every combination of levels, their means (draw, row, feature) and sds (draw, feature)."""
    for place, rows in rows_by_level(levels):
        gamma, delta = of_place(draws, place)
        mean = np.einsum("op,dfp->dof", x[rows] - draws.center, draws.beta, optimize=True)
        mean += (draws.alpha + gamma)[:, None]
        yield rows, mean, draws.sigma * delta
