"""A study as the numbers that the compiled density reads, and where its chains start; arrays only."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np

from bayescombat.centring import (
    OFF_MODE,
    Known,
    Turned,
    known_of_sds,
    levels_at_start,
    parametrised,
    scores_at_start,
    spread_at_start,
)
from bayescombat.fused.layout import BLOCK, HEAD
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.scores import Sharing, Squares
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


def packed(
    moments: Moments, priors: Priors, sharing: Sharing | None = None, standard: Standardised | None = None
) -> Packed:
    """Put the moments of estimable features and the priors together.

    Parameters
    ----------
    moments : Moments
        Of one batch variable, without subjects and smooths.
    priors : Priors
        Scales of the priors.
    sharing : Sharing, optional
        What features share.
    standard : Standardised, optional
        The moments on the scale that the priors are meant on; by default on their own.
    """
    standard = standard or standardise(moments)
    start = starting_point(standard, priors)
    (effects,), squares = parametrised(moments, start, priors, sharing)
    shifts, scales = effects.shifts, effects.scales
    hypers = [
        _hyper("gamma", shifts, effects.shift_means, priors),
        _hyper("log_delta", scales, effects.scale_means, priors),
    ]
    blocks, bases, of_means, of_sds, positions = (np.array(part) for part in zip(*hypers, strict=True))
    cells = Known.of(1 / scales.noise, start.log_sigma + scales.estimate)
    shared = _Shared.of(moments, sharing, squares)
    sds = np.array([priors.log_sigma_sd, priors.alpha_sd, priors.beta_sd])
    arrays = [
        blocks,
        bases,
        of_means,
        of_sds,
        sds,
        np.stack([effects.of_alpha, effects.of_log_sigma]),
        np.stack(cells, axis=1),
        _cells(standard, moments, sharing),
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
    position = [positions.ravel(), shared.start, *levels_at_start(start, [effects]), start.beta.ravel()]
    position.append(np.full(cells.pull.size, OFF_MODE))
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


def _hyper(name: str, effects: Effects, means: Turned, priors: Priors) -> tuple[np.ndarray, ...]:
    """Return priors of one kind of effects, what is known of means and log spreads, and where they start."""
    fields = ("mean", "sd", "sd_spread")
    medians = [np.log(getattr(priors, f"{name}_{field}_median")) for field in fields]
    widths = [getattr(priors, f"{name}_{field}_log_sd") for field in fields]
    block = np.column_stack([medians, widths]).ravel()
    typical, width = spread_at_start(np.log(effects.sd), float(np.exp(medians[2])))
    known = known_of_sds(effects)
    means_at_start, sds_at_start = np.full(len(effects.mean) - 1, OFF_MODE), np.full(len(effects.mean), OFF_MODE)
    start = np.concatenate([[np.log(effects.spread)], means_at_start, [typical, np.log(width)], sds_at_start])
    return block, means.basis, np.stack(means.known), np.stack(known), start


class _Shared(NamedTuple):
    """What features share, as the density takes it: sizes, arrays, where scores start, and their priors' constant."""

    sizes: Sequence[int] = (0, 0, 0, 0, 0)
    arrays: Sequence[np.ndarray] = ()
    start: np.ndarray = np.zeros(0)
    constant: float = 0.0

    @classmethod
    def of(cls, moments: Moments, sharing: Sharing | None, squares: Squares | None) -> Self:
        """Return this of moments; empty where features share nothing."""
        if sharing is None or squares is None:
            return cls()
        factors, patterns = sharing.factors, sharing.patterns
        axes = factors.of_squares
        arrays = [
            sharing.known,
            sharing.of_mean,
            sharing.of_shifts,
            sharing.of_noise,
            patterns.axes.T,
            factors.loadings.T,
            axes.T,
            squares.of_axes,
            squares.of_mean,
            factors.of_squares_weight,
            np.maximum(moments.scans - 1, 1),
            np.log(sharing.sd),
            *sharing.stretch,
        ]
        scores = sharing.stretch.undone(scores_at_start(sharing))
        start = np.concatenate([scores.ravel(), np.full(squares.of_mean.size, OFF_MODE)])
        constant = sharing.stretch.log_volume - LOG_2PI / 2 * start.size
        sizes = scores.shape[1], patterns.axes.shape[1], factors.count, axes.shape[1], len(sharing.stretch.by)
        return cls(sizes, arrays, start, constant)


def _cells(standard: Standardised, moments: Moments, sharing: Sharing | None) -> np.ndarray:
    """Return what the data are in every cell, (kind, batch, feature)."""
    shape = standard.mean_y.shape
    n = np.broadcast_to(standard.n, shape)
    seen, freedom, own = n > 0, n, 1 / np.maximum(n, 1)
    if sharing is not None:
        freedom = sharing.factors.of_squares_weight * np.maximum(n - 1, 0)
        own = np.where(seen, sharing.factors.of_own(n, moments.scans), 1.0)
    return np.stack([freedom, own, seen, np.where(seen, standard.mean_y, 0.0), standard.syy])


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
