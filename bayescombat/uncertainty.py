"""How sure harmonized estimates are given the hyper-parameters: sd by quadrature, bounds and draws. Arrays only.

Shift and scale of every level have a posterior, independent of those of the others; all else is taken for known. With
several batch variables that of one level is given the estimates of the other variables' levels.
"""

from dataclasses import dataclass, replace

import numpy as np

from bayescombat.adjust import Adjusted, Draws, adjust, adjusted_draws, of_features, rows_by_level
from bayescombat.blocks import FEW_ROWS, column_blocks, side_by_side, slices
from bayescombat.conditional import Conditional, Expectations

__all__ = ["MOST_DRAWS", "Given", "conditional_draws", "with_uncertainty"]

MOST_DRAWS = 1000
# Features whose draws share a stream of random numbers, and features that quadrature takes at a time.
FEW_FEATURES = 16
SOME_FEATURES = 64

type Number = np.ndarray | float
type Moments = tuple[Number, Number, Number, Number, Number]

# The expectations of `_taken_out` and `_put_in` of no level.
NOTHING: Moments = (1.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True, eq=False)
class Given:
    """The posterior of the levels' effects given everything else.

    Parameters
    ----------
    conditional : Conditional
        In units of sigma.
    labels : tuple of str
        Of the levels, which their draws are the same by in every call.
    seed : int
        Of the draws.
    """

    conditional: Conditional
    labels: tuple[str, ...]
    seed: int

    def scores(self, block: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return uniform and normal scores for some features, (batch, feature, draw)."""
        shape = (MOST_DRAWS, block.stop - block.start)
        streams = [np.random.default_rng([self.seed, block.start, *label.encode()]) for label in self.labels]
        pairs = [(rng.random(shape).T, rng.standard_normal(shape).T) for rng in streams]
        uniform, normal = (np.stack(part) for part in zip(*pairs, strict=True))
        return uniform, normal


def with_uncertainty(
    found: Adjusted,
    draws: Draws,
    given: Given,
    y: np.ndarray,
    x: np.ndarray,
    levels: np.ndarray,
    probability: float | None,
) -> Adjusted:
    """Return harmonized estimates with sd and bounds beside them.

    Parameters
    ----------
    found : Adjusted
        The estimates, which stay as they are.
    draws : Draws
        The estimates of the parameters, as a single draw.
    given : Given
        Their posterior.
    y, x, levels
        As in `adjust`.
    probability : float, optional
        Of the interval between lower and upper; without it there are none.
    """
    sd = np.empty(y.shape) if draws.log else _spread(draws, given.conditional, y, x, levels)
    if probability is None and not draws.log:
        return Adjusted(found.mean, sd)
    lower, upper = np.empty(y.shape), np.empty(y.shape)

    def bounds(block: slice) -> None:
        drawn = _drawn(of_features(draws, block), given, block)
        adjusted = adjust(drawn, y[:, block].astype(float), x, levels, probability)
        if draws.log:
            sd[:, block] = adjusted.sd
        if probability is not None:
            lower[:, block], upper[:, block] = adjusted.lower, adjusted.upper

    side_by_side(bounds, slices(y.shape[1], FEW_FEATURES))
    return Adjusted(found.mean, sd) if probability is None else Adjusted(found.mean, sd, lower, upper)


def conditional_draws(
    draws: Draws,
    given: Given,
    every: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    levels: np.ndarray,
    rng: np.random.Generator | None,
    features: slice,
) -> np.ndarray:
    """Return a harmonized table for each of the draws of the numbers `every`, (draw, obs, feature), of some features.

    These begin at a multiple of `FEW_FEATURES`. The other parameters are those of `with_uncertainty` and
    `adjusted_draws`.
    """
    found = []
    for start in range(features.start, features.stop, FEW_FEATURES):
        block = slice(start, min(start + FEW_FEATURES, features.stop))
        some = _drawn(of_features(draws, block), given, block, every)
        found.append(adjusted_draws(some, y[:, block], x, levels, rng))
    return np.concatenate(found, axis=-1)


def _drawn(estimate: Draws, given: Given, block: slice, every: np.ndarray | slice = slice(None)) -> Draws:
    """Return draws of the parameters of some features, all but gamma and delta the same."""
    uniform, normal = (part[..., every] for part in given.scores(block))
    gamma, delta = given.conditional.of_features(block).draws(uniform, normal)
    gamma *= estimate.sigma[0][:, None]
    parts = (estimate.alpha, estimate.beta, estimate.sigma, estimate.standing)
    alpha, beta, sigma, standing = (np.repeat(part, gamma.shape[-1], axis=0) for part in parts)
    gamma, delta = np.moveaxis(gamma, -1, 0), np.moveaxis(delta, -1, 0)
    return replace(estimate, alpha=alpha, beta=beta, sigma=sigma, standing=standing, gamma=gamma, delta=delta)


def _spread(estimate: Draws, conditional: Conditional, y: np.ndarray, x: np.ndarray, levels: np.ndarray) -> np.ndarray:
    r"""Return the standard deviation of harmonized values, (obs, feature).

    They are :math:`\gamma_t + (\delta_t / \delta_i) (r - \gamma_i)` and something known, where r is what alpha and the
    covariates leave: quadratic in r, with coefficients that depend on batch and feature alone.
    """
    groups = [(place, rows) for place, rows in rows_by_level(levels) if place != estimate.unmoved]
    sigma, target = estimate.sigma[0], set(estimate.target or ())
    known = np.empty((len(groups), 3, y.shape[1]))
    sd, offset = np.where(np.isnan(y), np.nan, 0.0), x - estimate.center

    def coefficients(block: slice) -> None:
        origin = estimate.gamma[0, :, block] / sigma[block]
        found = conditional.of_features(block).expectations(origin)
        for k, (place, _) in enumerate(groups):
            for part, value in enumerate(_variances(found, set(place), target)):
                known[k, part, block] = value

    def values(block: slice) -> None:
        slopes = estimate.beta[0, block]
        for (place, scans), (ratio, both, constant) in zip(groups, known[..., block], strict=True):
            middle = estimate.alpha[0, block] + estimate.gamma[0, list(place), block].sum(axis=0)
            for rows in (scans[some] for some in slices(len(scans), FEW_ROWS)):
                away = (y[rows, block] - middle - np.einsum("op,fp->of", offset[rows], slopes)) / sigma[block]
                variance = (away * ratio + 2 * both) * away + constant
                sd[rows, block] = sigma[block] * np.sqrt(np.maximum(variance, 0))

    side_by_side(coefficients, slices(y.shape[1], SOME_FEATURES))
    side_by_side(values, column_blocks(y.shape[1], FEW_ROWS))
    return sd


def _variances(found: Expectations, mine: set[int], target: set[int]) -> tuple[Number, Number, Number]:
    """Return variance of the ratio, covariance and variance of the constant: y* = ratio × away + constant, (feature,).

    Given the levels of the scans and those of the target. Shifts are measured from their estimates.
    """
    inverse, along, inverse2, along2, square2 = _taken_out(found, mine - target)
    scale, put, scale2, put_scaled, put2 = _put_in(found, target - mine)
    # Of levels that are both, the scale cancels and the shift comes back as it is.
    _, stays, _, _, stays2 = _put_in(found, mine & target)
    ratio = scale * inverse
    constant = put + stays - scale * along - ratio * stays
    variance = scale2 * inverse2 - ratio**2
    covariance = put_scaled * inverse + ratio * stays - scale2 * (along2 + inverse2 * stays) - ratio * constant
    square = put2 + 2 * put * stays + stays2 + scale2 * (square2 + 2 * along2 * stays + inverse2 * stays2)
    square = square - 2 * (put_scaled * (along + inverse * stays) + scale * (along * stays + inverse * stays2))
    return variance, covariance, square - constant**2


def _taken_out(found: Expectations, levels: set[int]) -> Moments:
    """Return expectations of p, p s, p², p² s, p² s²: p the product of 1 / delta, s the sum of gamma of the levels."""
    p, ps, p2, p2s, p2s2 = NOTHING
    for at in sorted(levels):
        inverse, inverse2, gamma_inverse2 = found.of(at, 0, -1), found.of(at, 0, -2), found.of(at, 1, -2)
        p2s2 = p2s2 * inverse2 + 2 * p2s * gamma_inverse2 + p2 * found.of(at, 2, -2)
        p2, p2s = p2 * inverse2, p2s * inverse2 + p2 * gamma_inverse2
        p, ps = p * inverse, ps * inverse + p * found.of(at, 1, -1)
    return p, ps, p2, p2s, p2s2


def _put_in(found: Expectations, levels: set[int]) -> Moments:
    """Return expectations of p, s, p², p s, s²: p the product of delta, s the sum of gamma of the levels."""
    p, s, p2, ps, s2 = NOTHING
    for at in sorted(levels):
        gamma, delta = found.of(at, 1, 0), found.of(at, 0, 1)
        s2 = s2 + 2 * s * gamma + found.of(at, 2, 0)
        p, ps = p * delta, ps * delta + p * found.of(at, 1, 1)
        s, p2 = s + gamma, p2 * found.of(at, 0, 2)
    return p, s, p2, ps, s2
