"""A study as the numbers that the compiled density reads, and where its chains start; arrays only."""

from dataclasses import dataclass

import numpy as np

from bayescombat.centring import as_sampled, known_of_means, known_of_sds, share_of_data, spread_at_start
from bayescombat.fused.density import BLOCK, HEAD
from bayescombat.moments import Moments
from bayescombat.priors import Priors
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
    coords: dict[str, list[str]]


def applies(moments: Moments) -> bool:
    """Whether the compiled density knows all that these moments have; it knows no shared factors."""
    return moments.subjects is None and not moments.spec.smooths and len(moments.levels.active) == 1


def packed(moments: Moments, priors: Priors) -> Packed:
    """Put the moments of estimable features and the priors together.

    Parameters
    ----------
    moments : Moments
        Of one batch variable, without subjects and smooths.
    priors : Priors
        Scales of the priors.
    """
    standard = standardise(moments)
    start = starting_point(standard, priors)
    hypers = [_hyper("gamma", start.gamma[0], priors), _hyper("log_delta", start.log_delta[0], priors)]
    blocks, weights, positions = (np.array(part) for part in zip(*hypers, strict=True))
    cells, of_cells = _cells(standard, start)
    sds = np.array([priors.log_sigma_sd, priors.alpha_sd, priors.beta_sd])
    arrays = [
        blocks,
        weights,
        sds,
        cells,
        standard.sxy.swapaxes(1, 2),
        standard.mean_x.swapaxes(1, 2),
        np.moveaxis(standard.sxx, 1, -1),
        standard.location,
        standard.scale,
        standard.whitener,
    ]
    numbers = np.concatenate([np.ravel(array) for array in arrays])
    features, directions = start.beta.shape
    sizes = len(standard.n), features, directions, standard.n.shape[1]
    head = [HEAD + numbers.size, *sizes, _constant(standard, blocks, sds, positions.size + of_cells.size)]
    position = [positions.ravel(), start.log_sigma, start.alpha, start.beta.ravel(), of_cells.ravel()]
    coords = {"feature": moments.features, "batch": moments.levels.labels, "covariate": moments.covariates}
    return Packed(
        data=np.concatenate([head, numbers]),
        start=np.concatenate(position),
        reported=_reported(moments),
        coords={dim: list(labels) for dim, labels in coords.items()},
    )


def _reported(moments: Moments) -> dict[str, tuple[str, ...]]:
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
    return dims


def _hyper(name: str, effects: Effects, priors: Priors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return priors of one kind of effects, how far the batches' log spreads are centred, and where they start."""
    fields = ("mean", "sd", "sd_spread")
    medians = [np.log(getattr(priors, f"{name}_{field}_median")) for field in fields]
    widths = [getattr(priors, f"{name}_{field}_log_sd") for field in fields]
    own = float(share_of_data(known_of_means(effects), effects.spread_low).min())
    log_sd = np.log(effects.sd)
    typical, width = spread_at_start(log_sd, float(np.exp(medians[2])))
    weight = share_of_data(known_of_sds(effects), width)
    block = np.append(np.column_stack([medians, widths]).ravel(), own)
    means = _without_sum(effects.mean / effects.spread ** (1 - own))
    partly = as_sampled(log_sd, typical, width, weight)
    return block, weight, np.concatenate([[np.log(effects.spread)], means, [typical, np.log(width)], partly])


def _cells(standard: Standardised, start: Start) -> tuple[np.ndarray, np.ndarray]:
    """Return what is known of every cell, (kind, batch, feature), and where the log scales start."""
    scales, shape = start.log_delta[0], standard.mean_y.shape
    weight = share_of_data(1 / scales.noise, scales.sd_low[:, None])
    n = np.broadcast_to(standard.n, shape)
    own, seen = 1 / np.maximum(n, 1), n > 0
    level = start.log_sigma + scales.mean[:, None]
    partly = as_sampled(start.log_sigma + scales.effect, level, scales.sd[:, None], weight)
    return np.stack([weight, n, own, seen, np.where(seen, standard.mean_y, 0.0), standard.syy]), partly


def _constant(standard: Standardised, blocks: np.ndarray, sds: np.ndarray, normals: int) -> float:
    """Return what the log-density has of constants: those of the priors' normal densities, and those of the cells."""
    features, directions = standard.sxy.shape[1:]
    count = features * np.array([1, 1, directions])
    log_sds = np.log(blocks[:, 1:BLOCK:2]).sum() + (count * np.log(sds)).sum()
    n = np.broadcast_to(standard.n, standard.mean_y.shape)
    n = n[n > 0]
    return float(-log_sds - LOG_2PI / 2 * (normals + count.sum() + n.sum()) - np.log(n).sum() / 2)


def _without_sum(values: np.ndarray) -> np.ndarray:
    """Return values that sum to zero as one number less, of the same length as a vector."""
    root = np.sqrt(len(values))
    return np.asarray(values[:-1] - values[-1] * root / (root + len(values)))
