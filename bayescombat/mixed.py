"""Effects of batches on correlated features, from unshrunken estimates: generalised least squares. Arrays only.

Estimates of a batch's effects on its features, shifts or log scales, are taken for

    estimate_v = mean + site_v' g + effect_v + noise_v' f + error_v

with scores g and f, and ``mean``, ``g`` and ``effect`` normal across batches and features, f standard normal.  Given
the spreads everything is linear and normal; the spreads are found by expectation-maximisation (Dempster, Laird and
Rubin 1977, doi:10.1111/j.2517-6161.1977.tb01600.x).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Self

import numpy as np

__all__ = ["MOST_PASSES", "Batches", "Levels", "Mixed", "in_turn", "mixed"]

MOST_PASSES = 2000
TOLERANCE = 1e-4
# Effects of several variables, in units of sigma, stand still below it.
STILL = 1e-10
# Batches' spreads are taken for as alike as if each had this many features more of the common spread.
ALIKE = 10.0
LEAST_SPREAD = 1e-3


@dataclass(frozen=True, eq=False)
class Mixed:
    """What estimates say of the effects.

    Parameters
    ----------
    effect : ndarray, (batch, feature)
        Expected effects.
    mean : ndarray, (batch,)
        Expected mean over the features, beside the factors.
    sd : ndarray, (batch,)
        Spread of the effects over the features, beside the factors.
    spread : ndarray, (1 + factor,)
        Spread of the batches: of their means, and along the factors. Those that were given are left out.
    passes : int
        Of the expectation-maximisation.
    scores, unsure : ndarray, (batch, score[, score])
        Expected mean and scores, of effects and of noise, and their covariance.
    of_effect : ndarray, (batch, feature, score)
        How the expected effects but for their mean follow the scores.
    own : ndarray, (batch,)
        Variance of the effects given the scores, on average over the features.
    """

    effect: np.ndarray
    mean: np.ndarray
    sd: np.ndarray
    spread: np.ndarray
    passes: int
    scores: np.ndarray
    unsure: np.ndarray
    of_effect: np.ndarray
    own: np.ndarray

    @classmethod
    def of(cls, data: "_Data", found: "_Expected", spread: np.ndarray, sd2: np.ndarray, passes: int) -> Self:
        """Return what is expected given the spreads."""
        of_effect = -found.share[..., None] * data.design
        of_effect[:, :, 1 : data.count] += data.design[:, :, 1 : data.count]
        own = sd2 * (1 - found.share.mean(axis=1))
        scores = found.scores, found.covariance
        return cls(found.effect, found.scores[:, 0], np.sqrt(sd2), np.sqrt(spread), passes, *scores, of_effect, own)


class Batches(NamedTuple):
    """What fitted batches say of one more: variances of means and scores, and that beside them in a typical one."""

    spread: np.ndarray
    sd2: float

    @classmethod
    def of(cls, spread: np.ndarray, sd: np.ndarray) -> Self:
        """Return these from standard deviations of scores, and those beside them (batch,)."""
        return cls(
            np.maximum(spread, LEAST_SPREAD) ** 2, float(np.exp(2 * np.log(np.maximum(sd, LEAST_SPREAD)).mean()))
        )


def mixed(levels: "Levels") -> Mixed:
    """Estimate the effects of the levels of one batch variable."""
    estimate = levels.data.estimate
    return in_turn([levels], [estimate], lambda *_: estimate)[0]


def in_turn(
    levels: "Sequence[Levels]", start: Sequence[np.ndarray], estimate: Callable[[int, Sequence[np.ndarray]], np.ndarray]
) -> list[Mixed]:
    """Estimate the effects of several batch variables, each given the others', until nothing moves.

    Parameters
    ----------
    levels : sequence of Levels
        Of every variable.
    start : sequence of ndarray, (level, feature)
        Effects that are given first.
    estimate : callable
        Returns the unshrunken estimates of the variable at a position, given the effects of all.

    Notes
    -----
    Where estimates are linear in the effects of the others, the effects are the posterior means given the spreads, as
    the Gauss-Seidel method has them. A variable's spreads are found as if the effects of the others were known: the
    expectation-maximisation is a variational one, of variables that are independent given the data.
    """
    levels, effects = list(levels), list(start)
    passes, moved = 0, np.inf
    while moved > TOLERANCE and passes < MOST_PASSES:
        passes, moved = passes + 1, 0.0
        for k, one in enumerate(levels):
            levels[k], effects[k], by = one.given(estimate(k, effects)).passed()
            moved = max(moved, by)
    gains, sweeps, moved = [_Gain.of(one.data, one.spread, one.sd2) for one in levels], 0, np.inf
    while moved > STILL and sweeps < MOST_PASSES and effects[1:]:
        sweeps, before = sweeps + 1, list(effects)
        for k, one in enumerate(levels):
            levels[k] = one.given(estimate(k, effects))
            effects[k] = gains[k].effect(levels[k].data, *gains[k].scores(levels[k].data))
        moved = max(np.abs(new - old).max() for new, old in zip(effects, before, strict=True))
    return [one.found(max(passes, sweeps)) for one in levels]


@dataclass(frozen=True, eq=False)
class _Data:
    """Estimates (batch, feature), zero where not known, their variances, and all loadings (batch, feature, score).

    The first `count` scores are those of the effects.
    """

    estimate: np.ndarray
    variance: np.ndarray
    known: np.ndarray
    design: np.ndarray
    count: int

    @classmethod
    def of(cls, estimate: np.ndarray, variance: np.ndarray, noise: np.ndarray, site: np.ndarray) -> Self:
        known = np.isfinite(variance)
        of_effects = np.broadcast_to(site, (*estimate.shape, site.shape[-1]))
        design = np.concatenate([np.ones((*estimate.shape, 1)), of_effects, noise], axis=2)
        return cls(np.where(known, estimate, 0.0), variance, known, design, 1 + site.shape[-1])


@dataclass(frozen=True, eq=False)
class Levels:
    """Levels of a batch variable, and the spreads of their effects as far as they have been found.

    Parameters
    ----------
    data : _Data
        Their unshrunken estimates.
    spread, sd2 : ndarray, (score,) and (batch,)
        Variances of the means and scores of the effects, and of the effects beside them.
    typical, batches
        As in `of`.
    """

    data: _Data
    spread: np.ndarray
    sd2: np.ndarray
    typical: float
    batches: Batches | None

    @classmethod
    def of(
        cls,
        estimate: np.ndarray,
        variance: np.ndarray,
        noise: np.ndarray,
        site: np.ndarray,
        typical: float,
        batches: Batches | None = None,
        known: bool = False,
    ) -> Self:
        """Return levels whose spreads are as expected beforehand.

        Parameters
        ----------
        estimate : ndarray, (batch, feature)
            Unshrunken estimates; nothing is read where their variance is infinite.
        variance : ndarray, (batch, feature)
            Of their errors beside what the noise factors explain.
        noise : ndarray, (batch, feature, score)
            Loadings of the errors.
        site : ndarray, (feature, factor) or (batch, feature, factor)
            Loadings of the effects.
        typical : float
            Expected beforehand of every variance across features or batches, with the weight of one of them.
        batches : optional
            What other batches say; by default these say it of each other.
        known : bool
            Whether the scores of `site` spread as the effects beside them do, rather than by spreads to be found.
        """
        data = _Data.of(estimate, variance, noise, site)
        spread = np.full(1 if known else data.count, typical) if batches is None else batches.spread
        return cls(data, spread, np.full(len(estimate), typical), typical, batches)

    def given(self, estimate: np.ndarray) -> Self:
        """Return these with other estimates."""
        return replace(self, data=replace(self.data, estimate=np.where(self.data.known, estimate, 0.0)))

    def expected(self) -> "_Expected":
        """Return what is expected given the spreads."""
        return _expected(self.data, self.spread, self.sd2)

    def passed(self) -> tuple[Self, np.ndarray, float]:
        """Return these after a pass of expectation-maximisation, the effects before, and how far spreads moved."""
        told, found = self.data.known.any(axis=1), self.expected()
        # One more feature, and one more batch, as expected beforehand keep spreads off zero.
        sd2 = (found.squares + self.typical) / (found.size + 1)
        spread, middle = self.spread, None if self.batches is None else np.log(self.batches.sd2)
        if middle is None:
            middle = (found.information * np.log(sd2)).sum() / found.information.sum()
            spread = (found.scores2[told, : len(spread)].sum(axis=0) + self.typical) / (told.sum() + 1)
        sd2 = _drawn_together(sd2, found.size, middle)
        moved = max(np.abs(np.log(sd2 / self.sd2)).max(), np.abs(np.log(spread / self.spread)).max())
        return replace(self, spread=spread, sd2=sd2), found.effect, float(moved)

    def found(self, passes: int) -> Mixed:
        """Return what the estimates say of the effects."""
        return Mixed.of(self.data, self.expected(), self.spread, self.sd2, passes)


class _Expected(NamedTuple):
    """Given the spreads: scores (batch, score), their squares and covariance; effects (batch, feature).

    `share` is how far the data, rather than the spread, say what of an effect is beside the scores. `squares` sums the
    squares of what has the spread of the batch, `size` says how many these are, and `information` how many are known.
    """

    scores: np.ndarray
    scores2: np.ndarray
    covariance: np.ndarray
    effect: np.ndarray
    share: np.ndarray
    squares: np.ndarray
    size: np.ndarray
    information: np.ndarray


def _drawn_together(sd2: np.ndarray, count: np.ndarray, middle: float) -> np.ndarray:
    """Return the batches' variances (batch,), each of so many squares, drawn to the middle of their logarithms."""
    return np.asarray(np.exp((count * np.log(sd2) + ALIKE * middle) / (count + ALIKE)))


class _Gain(NamedTuple):
    """What estimates are weighted by, given the spreads: errors with spreads, loadings, and scores' covariance."""

    share: np.ndarray
    weighted: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, data: _Data, spread: np.ndarray, sd2: np.ndarray) -> Self:
        weight = 1 / (sd2[:, None] + data.variance)
        weighted = data.design * weight[..., None]
        precision = weighted.swapaxes(1, 2) @ data.design
        diagonal, prior = np.arange(data.design.shape[2]), np.ones((len(sd2), data.design.shape[2]))
        prior[:, : len(spread)], prior[:, len(spread) : data.count] = spread, sd2[:, None]
        precision[:, diagonal, diagonal] += 1 / prior
        return cls(sd2[:, None] * weight, weighted, np.linalg.inv(precision))

    def scores(self, data: _Data) -> tuple[np.ndarray, np.ndarray]:
        """Return expected scores (batch, score), and what they leave of the estimates (batch, feature)."""
        scores = (self.covariance @ (self.weighted.swapaxes(1, 2) @ data.estimate[..., None]))[..., 0]
        return scores, data.estimate - (data.design @ scores[..., None])[..., 0]

    def effect(self, data: _Data, scores: np.ndarray, rest: np.ndarray) -> np.ndarray:
        """Return expected effects (batch, feature), given what `scores` returns."""
        along = (data.design[:, :, : data.count] @ scores[:, : data.count, None])[..., 0]
        return np.asarray(along + self.share * rest)


def _expected(data: _Data, spread: np.ndarray, sd2: np.ndarray) -> _Expected:
    """Return what is expected given the spreads of the first scores; the effects' others spread as the batch does."""
    gain = _Gain.of(data, spread, sd2)
    (scores, rest), share, covariance = gain.scores(data), gain.share, gain.covariance
    diagonal, patterns = np.arange(data.design.shape[2]), slice(len(spread), data.count)
    unsure = ((data.design @ covariance) * data.design).sum(axis=2)
    own = share**2 * (rest**2 + unsure) + sd2[:, None] * (1 - share)
    second = scores**2 + covariance[:, diagonal, diagonal]
    squares = own.sum(axis=1, where=data.known) + second[:, patterns].sum(axis=1)
    size = data.known.sum(axis=1) + (data.count - len(spread))
    known = 1 - covariance[:, diagonal, diagonal][:, patterns] / sd2[:, None]
    information = (share**2).sum(axis=1) + (known**2).sum(axis=1)
    return _Expected(scores, second, covariance, gain.effect(data, scores, rest), share, squares, size, information)
