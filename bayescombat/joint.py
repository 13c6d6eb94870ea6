"""Harmonized values whose residuals are changed across the features of a scan. Arrays only.

What ComBat leaves of a scan, its residual on the scale of the average, is a vector over the features. Hidden factors
are taken out of it, then its principal-component scores are brought to the target's location and scale; then covariates
and the target's own shift and scale are put back. A value hangs on all features of its scan, so means and standard
deviations are taken over draws, in blocks of scans.
"""

from dataclasses import dataclass, replace

import numpy as np

from bayescombat.adjust import Adjusted, Draws, adjusted_draws, blocks, of_target, predicted, rows_by_level
from bayescombat.covariance import Covariances
from bayescombat.hidden import HiddenFactors
from bayescombat.residuals import moved, patterns

__all__ = ["Joint", "jointly_adjusted", "jointly_adjusted_draws"]

# Arrays of the size of a block's draws that stand side by side.
ARRAYS = 8


@dataclass(frozen=True, eq=False)
class Joint:
    """What is done to a scan's residuals, in this order.

    Parameters
    ----------
    hidden : HiddenFactors, optional
        Factors to take out.
    covariances : Covariances, optional
        Of the batches, for each of the draws.
    seed : int, optional
        For the errors of the scores of hidden factors, which single estimates do not have.
    scans : tuple of str, (obs,)
        Labels of the scans: the errors of each are the same whichever others there are.
    """

    hidden: HiddenFactors | None = None
    covariances: Covariances | None = None
    seed: int | None = None
    scans: tuple[str, ...] = ()

    def errors(self, rows: np.ndarray, residual: np.ndarray) -> np.ndarray | float:
        """Return what the errors of some scans' scores add to their standardised residuals, (draw, obs, feature).

        Over the draws they add up to zero, so that means are as exact as without.
        """
        if self.hidden is None or self.seed is None:
            return 0.0
        axes, count = self.hidden.axes, len(residual)
        streams = [np.random.default_rng([self.seed, *self.scans[row].encode()]) for row in rows]
        noise = np.stack([rng.standard_normal((count, axes.loadings.shape[1])) for rng in streams], axis=1)
        noise -= noise.mean(axis=0)
        for seen, mine in patterns(residual[0]):
            noise[:, mine] = noise[:, mine] @ axes.error_root(seen).T
        return np.asarray(noise @ axes.write.T)


def jointly_adjusted(
    draws: Draws, joint: Joint, y: np.ndarray, x: np.ndarray, levels: np.ndarray, probability: float = 0.9
) -> Adjusted:
    """Harmonize scans of known batches; as `adjust.adjust`, with all figures from the draws that are given.

    Parameters
    ----------
    draws : Draws
        Parameters, at most as many draws as quantiles are taken of.
    joint : Joint
        What is done to residuals.
    y : ndarray, (obs, feature)
        Values on the scale that was modelled; what is missing (NaN) stays so.
    x : ndarray, (obs, covariate)
        Design columns.
    levels : ndarray of int, (obs, 1)
        Positions of the scans' batches.
    probability : float
        Of the central interval between lower and upper.
    """
    many, tails = len(draws.alpha) > 1, [(1 - probability) / 2, (1 + probability) / 2]
    mean = np.exp(y) if draws.log else y.copy()
    lower, upper, sd = (mean.copy(), mean.copy(), np.where(np.isnan(y), np.nan, 0.0)) if many else (mean,) * 3
    for place, of_place in rows_by_level(levels):
        if place == draws.unmoved:
            continue
        for block in blocks(len(of_place), ARRAYS * draws.alpha.size):
            rows = of_place[block]
            values = _values(draws, joint, y[rows], x[rows], place, rows)
            values = np.exp(values) if draws.log else values
            mean[rows] = values.mean(axis=0)
            if many:
                sd[rows] = values.std(axis=0, ddof=1)
                lower[rows], upper[rows] = np.quantile(values, tails, axis=0, overwrite_input=True)
    return Adjusted(mean, sd, lower, upper) if many else Adjusted(mean)


def jointly_adjusted_draws(
    draws: Draws,
    joint: Joint,
    y: np.ndarray,
    x: np.ndarray,
    levels: np.ndarray,
    rng: np.random.Generator | None = None,
) -> np.ndarray:
    """Return one harmonized table per draw, (draw, obs, feature); with a generator, missing values are drawn too."""
    out = np.empty((len(draws.alpha), *y.shape))
    for place, of_place in rows_by_level(levels):
        for block in blocks(len(of_place), ARRAYS * draws.alpha.size):
            rows = of_place[block]
            if place == draws.unmoved:
                values = np.repeat(y[rows][None], len(out), axis=0)
            else:
                values = _values(draws, joint, y[rows], x[rows], place, rows)
            if rng is not None:
                holes = np.isnan(y[rows])
                values[:, holes] = predicted(draws, x[rows] - draws.center, holes, rng).T
            out[:, rows] = np.exp(values) if draws.log else values
    return out


def _values(
    draws: Draws, joint: Joint, y: np.ndarray, x: np.ndarray, place: tuple[int, ...], rows: np.ndarray
) -> np.ndarray:
    """Return the harmonized values (draw, obs, feature) of scans with these levels, on the scale that was modelled."""
    pooled = replace(draws, target=None, unmoved=None, log=False)
    fixed = np.einsum("op,dvp->dov", (x - draws.center) * draws.kept, draws.beta, optimize=True)
    fixed += draws.alpha[:, None]
    levels = np.repeat(np.array(place)[None], len(y), axis=0)
    residual = adjusted_draws(pooled, y, x, levels)
    residual -= fixed
    residual -= draws.standing[:, None]
    if joint.hidden is not None:
        errors = joint.errors(rows, residual)
        residual = moved(residual, joint.hidden.axes, joint.hidden.unit, 0.0) + errors * joint.hidden.unit
    if joint.covariances is not None:
        target = None if draws.target is None else draws.target[0]
        gain, shift = joint.covariances.towards(place[0], target)
        residual = moved(residual, joint.covariances.axes, joint.covariances.unit, gain, shift)
    move, scale = of_target(draws)
    residual *= scale[:, None]
    return np.asarray(residual + fixed + move[:, None])
