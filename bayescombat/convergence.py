"""R-hat and effective sample sizes of many parameters at once; arrays only.

Rank-normalised, as Vehtari et al. (2021), doi:10.1214/20-BA1221, define them. Chains are split into halves.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft
from scipy.special import ndtri

from bayescombat.blocks import side_by_side, slices

__all__ = ["Convergence", "convergence"]

# Numbers in one block of parameters. Memory of small arrays is used again, that of large ones fetched anew.
BLOCK = 2**14
# Where ArviZ takes tails to begin, so that its figures and these are the same; the paper says 0.05 and 0.95.
TAILS = (1 - 0.89, 0.89)


class Convergence(NamedTuple):
    """Figures of every parameter, (parameter,); no numbers where draws are not finite.

    Parameters
    ----------
    rhat : ndarray
        No number for one chain, and for what never moves.
    bulk, tail : ndarray
        Effective sample sizes.
    """

    rhat: np.ndarray
    bulk: np.ndarray
    tail: np.ndarray


def convergence(draws: np.ndarray) -> Convergence:
    """Return R-hat and effective sample sizes.

    Parameters
    ----------
    draws : ndarray, (chain, draw, parameter)
        At least four draws of every chain.
    """
    found = Convergence(*np.empty((3, draws.shape[-1])))

    def work(block: slice) -> None:
        for whole, part in zip(found, _of_block(draws[..., block]), strict=True):
            whole[block] = part

    side_by_side(work, slices(draws.shape[-1], BLOCK // draws[..., 0].size))
    return found


def _of_block(draws: np.ndarray) -> Convergence:
    chains, size = draws.shape[:2]
    values = np.ascontiguousarray(np.moveaxis(draws, -1, 0))
    finite = np.isfinite(values).all(axis=(1, 2))
    values = np.where(finite[:, None, None], values, 0.0)
    halves = _halved(values)
    ordered, scores = _ranked(halves)
    middle = ordered[:, [(ordered.shape[1] - 1) // 2, ordered.shape[1] // 2]].mean(axis=1)
    bulk = _effective(scores)
    every = ordered if size % 2 == 0 else np.sort(values.reshape(len(values), -1), axis=1)
    tails = [_effective(_halved((values <= _quantile(every, tail)[:, None, None]).astype(float))) for tail in TAILS]
    rhat = np.full(len(values), np.nan)
    if chains > 1:
        folded = _ranked(np.abs(halves - middle[:, None, None]))[1]
        rhat = np.fmax(_rhat(scores), _rhat(folded))
    return Convergence(*(np.where(finite, part, np.nan) for part in (rhat, bulk, np.minimum(*tails))))


def _halved(values: np.ndarray) -> np.ndarray:
    """Split chains into halves, without the draw in the middle of an odd number: (parameter, 2 chain, draw)."""
    half = values.shape[2] // 2
    return np.concatenate([values[..., :half], values[..., -half:]], axis=1)


def _ranked(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the values in order, (parameter, value), and the normal scores of their ranks, shaped like the values."""
    flat = values.reshape(len(values), -1)
    count = flat.shape[1]
    order = np.argsort(flat, axis=1)
    ordered = np.take_along_axis(flat, order, axis=1)
    by_rank = _scores(count)
    scores = np.empty_like(flat)
    np.put_along_axis(scores, order, np.broadcast_to(by_rank[::2], flat.shape), axis=1)
    tied = np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=1))
    for row in tied:
        starts = np.flatnonzero(np.diff(ordered[row], prepend=np.nan) != 0)
        sizes = np.diff(starts, append=count)
        scores[row, order[row]] = by_rank[np.repeat(2 * starts + sizes - 1, sizes)]
    return ordered, scores.reshape(values.shape)


@cache
def _scores(count: int) -> np.ndarray:
    """Return the normal scores of the ranks 1, 1.5, 2 and so on to the count; values that tie have a rank between."""
    return np.asarray(ndtri((np.arange(2, 2 * count + 1) / 2 - 3 / 8) / (count + 1 / 4)))


def _quantile(ordered: np.ndarray, probability: float) -> np.ndarray:
    """Return a quantile of values in order, between neighbours in proportion, (parameter,)."""
    place = probability * (ordered.shape[1] - 1)
    low = int(place)
    high = min(low + 1, ordered.shape[1] - 1)
    below, above, share = ordered[:, low], ordered[:, high], place - low
    # From the nearer one, so that neighbours that are equal give themselves.
    return np.asarray(below + share * (above - below) if share < 0.5 else above - (1 - share) * (above - below))


def _rhat(values: np.ndarray) -> np.ndarray:
    size = values.shape[2]
    between, within = size * values.mean(axis=2).var(axis=1, ddof=1), values.var(axis=2, ddof=1).mean(axis=1)
    ratio = np.divide(between, within, out=np.full(len(values), np.nan), where=within > 0)
    return np.asarray(np.sqrt((ratio + size - 1) / size))


def _effective(values: np.ndarray) -> np.ndarray:
    """Return effective sample sizes, by Geyer's initial monotone sequence of autocorrelations, (parameter,)."""
    chains, size = values.shape[1:]
    still = np.ptp(values, axis=(1, 2)) < 1e-15
    means = values.mean(axis=2, keepdims=True)
    length = next_fast_len(2 * size, real=True)
    spectrum = rfft(values - means, n=length, axis=2)
    power = (spectrum.real**2 + spectrum.imag**2).mean(axis=1)
    covariance = irfft(power, n=length, axis=1)[:, :size] / size
    within = covariance[:, :1] * size / (size - 1)
    total = covariance[:, :1] + means[..., 0].var(axis=1, ddof=1)[:, None]
    correlation = 1 - (within - covariance) / np.where(still[:, None], 1.0, total)
    correlation[:, 0] = 1
    last = max((size - 3) // 2, 0)
    even, odd = correlation[:, : 2 * last + 2 : 2], correlation[:, 1 : 2 * last + 2 : 2]
    pairs = even + odd
    ended = pairs <= 0
    count = np.where(ended.any(axis=1), ended.argmax(axis=1), last)[:, None]
    used = np.where(np.arange(last + 1) < count, np.minimum.accumulate(pairs, axis=1), 0.0)
    beyond = np.take_along_axis(even, count, axis=1)[:, 0]
    kept = (beyond > 0) | (np.take_along_axis(pairs, count, axis=1)[:, 0] >= 0)
    tau = np.maximum(2 * used.sum(axis=1) - 1 + np.where(kept, beyond, 0.0), 1 / np.log10(chains * size))
    return np.asarray(np.where(still, chains * size, chains * size / tau))
