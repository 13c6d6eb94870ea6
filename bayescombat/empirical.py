"""Empirical Bayes: from moments to estimates, in closed form or by a fixed point per batch. Arrays only.

The published algorithm is that of Johnson, Li and Rabinovic (2007), doi:10.1093/biostatistics/kxj037, as the
R package sva runs it.  Residuals sum to zero within each batch, so the sizes, means and sums of squares of the
batches are all that it needs of the data.  Where cells are missing, every feature is fitted to the scans that it was
observed in.  With several batch variables the least squares are joint and additive, the log scales likewise, and each
variable's levels are shrunken as batches are.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from bayescombat.additive import Additive
from bayescombat.blocks import with_each
from bayescombat.moments import Moments
from bayescombat.regression import LeastSquares, least_squares
from bayescombat.repeated import fixed_effects
from bayescombat.shrinkage import LEAST_FREEDOM, MOST_ITERATIONS, TOLERANCE, Hats, Shrinkage, evidence_of, shrunken

__all__ = [
    "Compat",
    "Estimates",
    "empirical_bayes",
    "estimates_of",
    "independent_empirical_bayes",
    "means_alone",
    "unshrunken",
]

Compat = Literal["sva", "longcombat"]


@dataclass(frozen=True, eq=False)
class Estimates:
    """Empirical-Bayes estimates, in feature units except for the hyper-parameters (units of sigma).

    Parameters
    ----------
    alpha, sigma : ndarray, (feature,)
    beta : ndarray, (feature, covariate)
    gamma, delta : ndarray, (batch, feature)
    hyper : dict of ndarray, (batch,)
        ``gamma_mean, gamma_sd, log_delta_mean, log_delta_sd`` of the parametric priors, else empty.
    iterations : ndarray, (batch,)
        Passes of the fixed point; zero where the estimate has a closed form.
    subject_sd : ndarray, (feature,), optional
        Standard deviation of the subjects' intercepts, where scans are repeated.
    gamma_unshrunken : ndarray, (batch, feature), optional
        What intercepts are predicted from by longitudinal ComBat as published.
    smooth_sd : ndarray, (feature, smooth)
        Standard deviations of the smooths' coefficients.
    evidence : dict of ndarray
        What the posterior given the hyper-parameters is made of, where it is asked for: see `evidence_of`.
    """

    alpha: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    gamma: np.ndarray
    delta: np.ndarray
    hyper: dict[str, np.ndarray]
    iterations: np.ndarray
    subject_sd: np.ndarray | None = None
    gamma_unshrunken: np.ndarray | None = None
    smooth_sd: np.ndarray | None = None
    evidence: dict[str, np.ndarray] = field(default_factory=dict)


def empirical_bayes(
    moments: Moments,
    shrinkage: Shrinkage = "parametric",
    mean_only: bool = False,
    compat: Compat | None = None,
    fit: LeastSquares | None = None,
    uncertainty: bool = False,
) -> Estimates:
    """Return the empirical-Bayes estimates of every feature in the moments.

    Parameters
    ----------
    moments : Moments
        Of features that vary within every batch.
    shrinkage : {"parametric", "nonparametric", "none"}
        Normal and inverse-gamma priors, the empirical distribution of the other features, or no shrinkage.
    mean_only : bool
        Shift only: delta is one.
    compat : {"sva", "longcombat"}, optional
        Reproduce an R package: what is known to be wrong with it too.
    fit : LeastSquares, optional
        The fixed effects, where they are known already.
    uncertainty : bool
        Whether to keep what the posterior given the hyper-parameters is made of.

    Notes
    -----
    Where scans are repeated, the published algorithm (Beer et al. 2020, doi:10.1016/j.neuroimage.2020.117129) takes
    the shifts for as sure as if all scans were independent, and divides sums of squares by n - 1 although subjects'
    intercepts took their part: shifts are shrunken too little and scales come out too small.
    """
    fit, sva = fixed_effects(moments) if fit is None else fit, compat == "sva"
    mean_only = means_alone(mean_only, sva, moments.scans)
    if compat == "longcombat":
        fit = replace(fit, precision=moments.n, freedom=np.maximum(moments.n - 1, 0))
    alpha, sigma, hats = unshrunken(moments, fit, sva)
    unshrunken_gamma = sigma * hats.gamma if compat == "longcombat" else None
    found = estimates_of(alpha, fit.beta, sigma, hats, shrinkage, mean_only, sva, moments.reference_levels, uncertainty)
    return replace(found, subject_sd=fit.subject_sd, gamma_unshrunken=unshrunken_gamma, smooth_sd=fit.smooth_sd)


def means_alone(asked: bool, sva: bool, scans: np.ndarray) -> bool:
    """Tell whether no scale is adjusted, given the scans (batch,): if that is asked, and in sva if a batch has one."""
    return asked or (sva and bool((scans < 2).any()))


def estimates_of(
    alpha: np.ndarray,
    beta: np.ndarray,
    sigma: np.ndarray,
    hats: Hats,
    shrinkage: Shrinkage,
    mean_only: bool,
    sva: bool = False,
    reference: np.ndarray | None = None,
    uncertainty: bool = False,
) -> Estimates:
    """Return the estimates in place of what is not shrunken.

    The shrinkage's arguments are those of `empirical_bayes`; `reference` holds the positions of levels that stay.
    """
    evidence = evidence_of(hats, mean_only) if uncertainty else {}
    gamma, delta, hyper, iterations = shrunken(hats, shrinkage, mean_only, sva, in_place=True)
    if reference is not None:
        gamma[reference], delta[reference], iterations[reference] = 0.0, 1.0, 0
    gamma *= sigma
    np.sqrt(delta, out=delta)
    if uncertainty:
        evidence["gamma_unshrunken"] *= sigma
    return Estimates(alpha, beta, sigma, gamma, delta, hyper, iterations, evidence=evidence)


def independent_empirical_bayes(
    moments: Moments,
    shrinkage: Shrinkage = "parametric",
    mean_only: bool = False,
    compat: Compat | None = None,
    uncertainty: bool = False,
) -> Estimates:
    """Return the estimates of very many features without subjects and smooths, in blocks up to the shrinkage.

    The parameters are those of `empirical_bayes`; of `compat` there is sva.
    """
    sva, features = compat == "sva", len(moments.features)
    additive, holes = Additive(moments.positions, moments.n), bool((moments.n != moments.scans[:, None]).any())
    levels = len(additive.size)
    hats = Hats(np.empty((levels, features)), np.empty((levels, features)), additive.size, additive.size - 1)
    alpha, sigma, beta = np.empty(features), np.empty(features), np.empty((features, len(moments.covariates)))

    def work(block: slice) -> None:
        part = moments.of_features(block)
        fit = least_squares(part)
        alpha[block], sigma[block], found = unshrunken(part, fit, sva, holes)
        beta[block], hats.gamma[:, block], hats.delta2[:, block] = fit.beta, found.gamma, found.delta2

    with_each(work, features)
    at = moments.reference_levels
    mean_only = means_alone(mean_only, sva, moments.scans)
    return estimates_of(alpha, beta, sigma, hats, shrinkage, mean_only, sva, at, uncertainty)


def unshrunken(
    moments: Moments, fit: LeastSquares, sva: bool = False, holes: bool | None = None
) -> tuple[np.ndarray, np.ndarray, Hats]:
    """Return alpha, sigma and the levels' effects before shrinkage; `holes` says whether any cell is missing."""
    additive, n = fit.additive, moments.n
    holes = bool((n != moments.scans[:, None]).any()) if holes is None else holes
    # sva weights batches by all scans, and takes a variance with one degree of freedom less, if any cell is missing.
    weights = moments.scans[:, None] / moments.scans.sum() if sva else additive.share()
    lost = 1 if sva and holes else 0
    origin, gamma = additive.effects(fit.cell_mean)
    repeated = fit.subject_sd is not None
    alpha = (weights * fit.cell_mean).sum(axis=0)
    variance = fit.variance if repeated else fit.ssr.sum(axis=0) / (n.sum(axis=0) - lost)
    if moments.reference is not None and not additive.crossed:
        at = moments.batches.index(moments.reference)
        alpha, variance = fit.cell_mean[at], _of_reference(fit, at) if repeated else fit.ssr[at] / (n[at] - lost)
    gamma, delta2 = gamma + (origin - alpha), _scales(fit, variance)
    still = moments.reference_levels
    if still is not None and additive.crossed:
        owner = moments.levels.owner
        alpha, gamma = origin + gamma[still].sum(axis=0), gamma - gamma[still[owner]]
        own = np.where(np.isnan(delta2[still]), 1.0, delta2[still])
        variance, delta2 = variance * own.prod(axis=0), delta2 / own[owner]
    sigma = np.sqrt(variance)
    size, freedom = (additive.indicator.T @ part for part in (fit.precision, fit.freedom))
    return alpha, sigma, Hats(gamma / sigma, delta2, size, freedom if repeated else size - 1)


def _of_reference(fit: LeastSquares, at: int) -> np.ndarray:
    """Return the residual variance of the reference batch (feature,): the common one where intercepts leave it none."""
    freedom = fit.freedom[at]
    told = freedom >= LEAST_FREEDOM
    return np.where(told, fit.ssr[at] / np.where(told, freedom, 1), fit.variance)


def _scales(fit: LeastSquares, variance: np.ndarray) -> np.ndarray:
    """Return the levels' squared scales (level, feature), NaN where nothing tells of them.

    With several variables log scales add up: each variable's are fitted to the squares given the others', in turn,
    and have the same average over the scans.
    """
    additive = fit.additive
    indicator = additive.indicator
    total = indicator.T @ fit.freedom
    told = np.broadcast_to(total >= LEAST_FREEDOM, (len(total), fit.ssr.shape[1]))
    squares = fit.ssr / variance
    if not additive.crossed:
        return np.where(told, squares / np.where(total > 0, total, 1), np.nan)
    scales = np.ones((len(total), fit.ssr.shape[1]))
    columns, freedom = additive.positions.T, total[np.unique(additive.positions[:, 0])].sum(axis=0)
    for _ in range(MOST_ITERATIONS):
        before = scales.copy()
        for k, column in enumerate(columns):
            mine = np.unique(column)
            others = np.delete(scales[additive.positions], k, axis=1).prod(axis=1)
            found = indicator[:, mine].T @ (squares / others) / np.where(total > 0, total, 1)[mine]
            scales[mine] = np.where(told[mine], found, 1.0)
        levels = [np.unique(column) for column in columns]
        averages = [(additive.size[mine] * scales[mine]).sum(axis=0) / freedom for mine in levels]
        for mine, average in zip(levels, averages, strict=True):
            scales[mine] *= np.prod(averages, axis=0) ** (1 / len(levels)) / average
        if np.abs(scales / before - 1).max() <= TOLERANCE:
            break
    return np.where(told, scales, np.nan)
