"""A study as the numbers that the compiled density reads, and where its chains start; arrays only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from bayescombat.centring import (
    OFF_MODE,
    anchored,
    as_sampled,
    beside_sharing,
    known_of_sds,
    scores_at_start,
    share_of_data,
    shares_of_level,
    told_squares,
    turned_means,
    spread_at_start,
)
from bayescombat.fused.layout import BLOCK, HEAD
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.scores import Sharing
from bayescombat.standard import Effects, Standardised, Start, standardise, starting_point

__all__ = ["Packed", "applies", "packed"]

LOG_2PI = float(np.log(2 * np.pi))


@dataclass(frozen=True, eq=False)
class Packed:
    """A study for the compiled density.

    Parameters
    ----------
    data : ndarray, (number,)
        Sizes, priors, moments and units, as `bayescombat.fused.density` takes them apart.
    start : ndarray, (position,)
        Where chains start, on the unconstrained scale.
    reported : dict
        Names of the parameters that draws hold, in order, with their dims.
    coords : dict
        Labels of the dims.
    """

    data: np.ndarray
    start: np.ndarray
    reported: dict[str, tuple[str, ...]]
    coords: dict[str, list[Any]]


def applies(moments: Moments) -> bool:
    """Whether the compiled density knows all that these moments have."""
    return moments.subjects is None and not moments.spec.smooths and len(moments.levels.active) == 1


def packed(moments: Moments, priors: Priors, sharing: Sharing | None = None) -> Packed:
    """Put the moments of estimable features and the priors together.

    Parameters
    ----------
    moments : Moments
        Of one batch variable, without subjects and smooths.
    priors : Priors
        Scales of the priors.
    sharing : Sharing, optional
        What features share.
    """
    standard = standardise(moments)
    start = starting_point(standard, priors)
    scales = start.log_delta[0]
    shifts, of_shifts, of_scales = beside_sharing(start.gamma[0], scales, sharing, priors)
    mean_estimate = shifts.mean if sharing is None else sharing.mean_estimate - sharing.mean_estimate.mean()
    noises = [shifts.noise, scales.noise]
    freedom = np.maximum(moments.scans - 1, 1)
    if sharing is not None:
        noises[1] = scales.noise / sharing.factors.of_squares_weight
        of_squares, on_squares, of_scales = told_squares(sharing.factors, scales.sd, scales.noise, freedom)
    hypers = [_hyper("gamma", shifts, mean_estimate, noises[0], of_shifts, priors), _hyper("log_delta", scales, scales.mean, noises[1], of_scales, priors)]
    blocks, weights, bases, owns, positions = (np.array(part) for part in zip(*hypers, strict=True))
    level = np.stack([shares_of_level(shifts.sd, noises[0]), shares_of_level(scales.sd, noises[1])])
    log_sigma = start.log_sigma + scales.mean @ level[1]
    alpha = start.alpha + np.exp(start.log_sigma) * (shifts.mean @ level[0])
    cells, of_cells = _cells(standard, start, moments, sharing)
    shared = _Shared() if sharing is None else _Shared.of(moments, sharing, of_squares, on_squares)
    sds = np.array([priors.log_sigma_sd, priors.alpha_sd, priors.beta_sd])
    arrays = [
        blocks,
        weights,
        bases,
        owns,
        sds,
        level,
        cells,
        standard.sxy.swapaxes(1, 2),
        standard.mean_x.swapaxes(1, 2),
        np.moveaxis(standard.sxx, 1, -1),
        standard.location,
        standard.scale,
        standard.whitener,
        *shared.arrays,
    ]
    numbers = np.concatenate([np.ravel(array) for array in arrays])
    features, directions = start.beta.shape
    sizes = [len(standard.n), features, directions, standard.n.shape[1], *shared.sizes]
    constant = _of_priors(blocks, sds, start) + _of_cells(standard, sharing) + shared.constant
    head = [HEAD + numbers.size, *sizes, constant]
    position = [positions.ravel(), shared.start, log_sigma, alpha, start.beta.ravel(), of_cells.ravel()]
    return Packed(
        data=np.concatenate([head, numbers]),
        start=np.concatenate(position),
        reported=_reported(moments, sharing),
        coords=_coords(moments, sharing),
    )


def _coords(moments: Moments, sharing: Sharing | None) -> dict[str, list[Any]]:
    coords: dict[str, list[Any]] = {
        "feature": list(moments.features),
        "batch": list(moments.levels.labels),
        "covariate": list(moments.covariates),
    }
    if sharing is not None:
        coords["factor"] = list(range(sharing.factors.count))
    return coords


def _reported(moments: Moments, sharing: Sharing | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the parameters that draws hold, in order, with their dims."""
    dims: dict[str, tuple[str, ...]] = {
        "alpha": ("feature",),
        "beta": ("feature", "covariate"),
        "sigma": ("feature",),
        "delta": ("batch", "feature"),
    }
    if not moments.covariates:
        del dims["beta"]
    for name in ("gamma", "log_delta"):
        dims |= {f"{name}_mean": ("batch",), f"{name}_sd": ("batch",)}
    for name in ("gamma", "log_delta"):
        dims |= dict.fromkeys((f"{name}_mean_spread", f"{name}_sd_log_typical", f"{name}_sd_spread"), ())
    if sharing is not None:
        dims |= {"batch_pattern": ("batch", "feature"), "noise_factor": ("batch", "factor")}
    return dims


def _hyper(name: str, effects: Effects, estimate, noise, known: np.ndarray, priors: Priors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return priors of one kind of effects, how far the batches' log spreads are centred, and where they start.

    `known` is what the data tell of the means of the batches.
    """
    fields = ("mean", "sd", "sd_spread")
    medians = [np.log(getattr(priors, f"{name}_{field}_median")) for field in fields]
    widths = [getattr(priors, f"{name}_{field}_log_sd") for field in fields]
    basis, information = turned_means(effects.sd, noise, known)
    own = np.stack([information, information * (basis.T @ estimate)])
    log_sd = np.log(effects.sd)
    typical, width = spread_at_start(log_sd, float(np.exp(medians[2])))
    weight = share_of_data(known_of_sds(effects), width)
    block = np.column_stack([medians, widths]).ravel()
    means = anchored(basis.T @ effects.mean, 0.0, effects.spread, *own)
    partly = as_sampled(log_sd, typical, width, weight)
    return block, weight, basis, own, np.concatenate([[np.log(effects.spread)], means, [typical, np.log(width)], partly])


class _Shared(NamedTuple):
    """What features share, as the density takes it: sizes, arrays, where scores start, and their priors' constant."""

    sizes: Sequence[int] = (0, 0, 0, 0, 0)
    arrays: Sequence[np.ndarray] = ()
    start: np.ndarray = np.zeros(0)
    constant: float = 0.0

    @classmethod
    def of(cls, moments: Moments, sharing: Sharing, of_squares, on_squares) -> Self:
        """Return this of moments; empty where features share nothing."""
        factors, patterns = sharing.factors, sharing.patterns
        freedom, axes = np.maximum(moments.scans - 1, 1), factors.of_squares
        arrays = [
            sharing.known,
            sharing.of_mean,
            sharing.of_shifts,
            sharing.of_noise,
            patterns.axes.T,
            factors.loadings.T,
            axes.T,
            of_squares,
            on_squares,
            factors.of_squares_weight,
            np.log(sharing.sd),
            freedom,
            sharing.stretched,
        ]
        scores = scores_at_start(sharing)
        more, by = sharing.stretched
        inner = np.eye(len(by)) + np.einsum("kbs,lbs->kl", by, more)
        scores = scores - np.einsum("k,kbs->bs", np.linalg.solve(inner, np.einsum("kbs,bs->k", by, scores)), more)
        start = np.concatenate([scores.ravel(), np.full(len(freedom) * axes.shape[1], OFF_MODE)])
        constant = -LOG_2PI / 2 * start.size
        constant += np.linalg.slogdet(inner)[1]
        sizes = scores.shape[1], patterns.axes.shape[1], factors.count, axes.shape[1], len(by)
        return cls(sizes, arrays, start, float(constant))


def _cells(
    standard: Standardised, start: Start, moments: Moments, sharing: Sharing | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known of every cell, (kind, batch, feature), and where the log scales start."""
    scales, shape = start.log_delta[0], standard.mean_y.shape
    n = np.broadcast_to(standard.n, shape)
    seen, freedom, own, known = n > 0, n, 1 / np.maximum(n, 1), np.ones(1)
    if sharing is not None:
        known = sharing.factors.of_squares_weight
        freedom, own = known * np.maximum(n - 1, 0), np.where(seen, sharing.factors.of_own(n, moments.scans), 1.0)
    told = known / scales.noise
    pull = told * (start.log_sigma + scales.estimate)
    level = start.log_sigma + scales.mean[:, None]
    partly = anchored(start.log_sigma + scales.effect, level, scales.sd[:, None], told, pull)
    return np.stack([told, freedom, own, seen, np.where(seen, standard.mean_y, 0.0), standard.syy, pull]), partly


def _of_priors(blocks: np.ndarray, sds: np.ndarray, start: Start) -> float:
    """Return what the log-density has of constants by the priors' normal densities, but for those of scores."""
    features, directions = start.beta.shape
    batches = len(start.gamma[0].mean)
    count = features * np.array([1, 1, directions])
    log_sds = np.log(blocks[:, 1:BLOCK:2]).sum() + (count * np.log(sds)).sum()
    return float(-log_sds - LOG_2PI / 2 * (count.sum() + 4 * (batches + 1) + batches * features))


def _of_cells(standard: Standardised, sharing: Sharing | None) -> float:
    """Return what the log-density has of constants by the cells."""
    n = np.broadcast_to(standard.n, standard.mean_y.shape)
    n = n[n > 0]
    if sharing is not None:
        return -LOG_2PI / 2 * n.size
    return float(-LOG_2PI / 2 * n.sum() - np.log(n).sum() / 2)


def _without_sum(values: np.ndarray) -> np.ndarray:
    """Return values that sum to zero as one number less, of the same length as a vector."""
    root = np.sqrt(len(values))
    return np.asarray(values[:-1] - values[-1] * root / (root + len(values)))
