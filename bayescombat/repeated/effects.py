r"""Repeated scans: a random intercept for every subject and feature, by restricted maximum likelihood. Arrays only.

    y_jv = cell mean_iv + x_j' beta_v + eta_sv + sigma_v eps_jv,     eta_sv ~ Normal(0, subject_sd_v)

for scan j of subject s in batch i.  Given the ratio of the two variances everything follows from sums over subjects,
which are few wherever subjects have the same number of scans; the ratio is found for all features at once.
"""

from dataclasses import replace

import numpy as np

from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares, least_squares
from bayescombat.reml import Slopes, Swept, reml
from bayescombat.repeated.design import Design
from bayescombat.repeated.sums import likeliest_ratio

__all__ = ["fixed_effects"]

# Of the smooths' variance to the residual one: below, nothing bends.
LEAST_RATIO = 1e-12
CYCLE_TOLERANCE = 1e-8
MOST_CYCLES = 200


def fixed_effects(moments: Moments) -> LeastSquares:
    """Fit cell means and slopes, every feature by itself: by least squares, generalised where scans are repeated.

    Parameters
    ----------
    moments : Moments
        Of features that vary within batches, and between the scans of a subject.

    Notes
    -----
    Restricted maximum likelihood (Patterson and Thompson 1971, doi:10.1093/biomet/58.3.545), in the profile over the
    ratio of the two variances, as for the first step of longitudinal ComBat (Beer et al. 2020,
    doi:10.1016/j.neuroimage.2020.117129). With smooths the smoothness and that ratio are found in turn until neither
    moves.
    """
    ordinary = least_squares(moments)
    if moments.subjects is None:
        return ordinary
    design = Design.of(moments)
    sums, curves = design.sums(ordinary), ordinary.curves
    if curves is None:
        return design.generalised(ordinary, sums.solved(likeliest_ratio(sums)), None)
    ratio, owner = np.zeros(len(ordinary.beta)), design.penalised
    for _ in range(MOST_CYCLES):
        before = ratio, curves.ratios
        bends = np.maximum(curves.ratios, LEAST_RATIO)[:, owner]
        sums = replace(sums, penalty=np.where(owner < 0, 0.0, 1 / bends))
        ratio = likeliest_ratio(sums)
        solved = sums.solved(ratio)
        products, cross, squares, freedom = design.swept(ordinary, solved, sums)
        ratios = reml(products, cross, squares, freedom, moments.spec.penalised)
        curves = Slopes(Swept.of(products, cross, squares, freedom, moments.spec.penalised), ratios)
        moved = (np.abs(_log(now) - _log(then)).max() for now, then in zip((ratio, ratios), before, strict=True))
        if max(moved) <= CYCLE_TOLERANCE:
            break
    return design.generalised(ordinary, solved, curves)


def _log(ratio: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(ratio, LEAST_RATIO)))
