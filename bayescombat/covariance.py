r"""How features vary together, brought to one form over batches: scores of principal components. Arrays only.

ComBat leaves batches whose features are correlated in ways of their own. CovBat (Chen et al. 2022,
doi:10.1002/hbm.25688) takes the principal components of the harmonized residuals of all batches, and brings the scores
of the first of them to a common location and scale. All of it follows from the features' cross-products.

By empirical Bayes locations and scales of the scores are those of the scans, as published. By NUTS they are unknown
like everything else: given a draw, a batch's scores have location zero, since its shifts are among the draws already,
and their scales are drawn, inverse-gamma given the sums of squares with a prior across the components as ComBat has one
across the features. The components themselves are taken once, at the posterior means: they are coordinates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from bayescombat.adjust import Draws
from bayescombat.factors import residual_products
from bayescombat.hidden import HiddenFactors
from bayescombat.moments import Moments
from bayescombat.residuals import PrincipalAxes

__all__ = ["Covariances", "covariances_of"]

# Directions of a batch's scatter below this share of the largest are rounding error.
NO_SCATTER = 1e-13


@dataclass(frozen=True, eq=False)
class Covariances:
    """Principal components and what the scores of every batch are like.

    Parameters
    ----------
    axes : PrincipalAxes
        The components that are harmonized.
    unit : ndarray, (feature,)
        What harmonized residuals are standardised by, in feature units.
    location, scale : ndarray, (draw, batch, component)
        Of the scores.
    pooled_location, pooled_scale : ndarray, (draw, component)
        What they are brought to: the average, or the reference batch's.
    """

    axes: PrincipalAxes
    unit: np.ndarray
    location: np.ndarray
    scale: np.ndarray
    pooled_location: np.ndarray
    pooled_scale: np.ndarray

    def towards(self, batch: int, target: int | None) -> tuple[np.ndarray, np.ndarray]:
        """Return gain and shift (draw, 1, component) of a batch's scores; without target to the pooled form."""
        location, scale = self.pooled_location, self.pooled_scale
        if target is not None:
            location, scale = self.location[:, target], self.scale[:, target]
        gain = scale / self.scale[:, batch]
        return gain[:, None], (location - gain * self.location[:, batch])[:, None]


def covariances_of(
    moments: Moments,
    draws: Draws,
    average: Draws,
    share: float,
    *,
    hidden: HiddenFactors | None = None,
    pooled: np.ndarray | None = None,
    reference: int | None = None,
    streams: Sequence[np.random.Generator] | None = None,
) -> Covariances:
    """Return how the features of harmonized residuals vary together.

    Parameters
    ----------
    moments : Moments
        Of the modelled features, with `cross`, in the order of the draws' batches.
    draws : Draws
        Parameters; an estimate is a single draw.
    average : Draws
        Their means, as a single draw, whichever draws are asked for: where components are taken.
    share : float
        Of the variance, that the components have to explain.
    hidden : HiddenFactors, optional
        What is taken out of the residuals beforehand.
    pooled : ndarray of bool, (batch,), optional
        Batches that components and average are learned from; by default all.
    reference : int, optional
        Position of the reference batch.
    streams : sequence of Generator, optional
        One for each draw, to draw scales with; without them locations and scales are those of the scans.
    """
    pooled = np.ones(len(moments.batches), dtype=bool) if pooled is None else pooled
    products = residual_products(moments, average.beta[0])
    axes, unit = _components(_scatter(moments, average, products, hidden), pooled, share)
    scores = _scores(_scatter(moments, draws, products, hidden), axes.vectors / unit[:, None])
    if streams is None:
        return _of_scans(axes, unit, scores, pooled, reference)
    return _drawn(axes, unit, scores, pooled, reference, streams)


@dataclass(frozen=True, eq=False)
class _Scatter:
    """Harmonized residuals of the batches.

    Parameters
    ----------
    n : ndarray, (batch,)
        Scans.
    means : ndarray, (draw, batch, feature)
        Their means.
    products : ndarray, (batch, feature, feature)
        Cross-products of residuals that are not yet in units of the batches' scales.
    delta : ndarray, (draw, batch, feature)
        These scales.
    project : ndarray, (feature, feature)
        What takes hidden factors out.
    """

    n: np.ndarray
    means: np.ndarray
    products: np.ndarray
    delta: np.ndarray
    project: np.ndarray


class _Scores(NamedTuple):
    """Of the scans: sizes (batch,), means and centred sums of squares (draw, batch, component)."""

    n: np.ndarray
    mean: np.ndarray
    squares: np.ndarray


def _scatter(moments: Moments, draws: Draws, products: np.ndarray, hidden: HiddenFactors | None) -> _Scatter:
    project = np.eye(len(moments.features))
    if hidden is not None:
        out = hidden.axes.write @ hidden.axes.read(np.ones(len(project), dtype=bool)).T
        project = project - hidden.unit[:, None] * out / hidden.unit
    means = moments.mean_y - draws.alpha[:, None] - draws.gamma
    offset = moments.mean_x - draws.center
    for k in range(offset.shape[-1]):
        means -= offset[..., k] * draws.beta[:, None, :, k]
    n = moments.scans.astype(float)
    return _Scatter(n, means / draws.delta @ project.T, products, draws.delta, project)


def _components(scatter: _Scatter, pooled: np.ndarray, share: float) -> tuple[PrincipalAxes, np.ndarray]:
    """Return the first principal components of the residuals' correlation over all scans, and their units."""
    n, means = scatter.n[pooled], scatter.means[0, pooled]
    turned = scatter.project / scatter.delta[0, pooled][:, None, :]
    total = (turned @ scatter.products[pooled] @ turned.swapaxes(1, 2)).sum(axis=0)
    away = means - n @ means / n.sum()
    covariance = (total + (n[:, None] * away).T @ away) / (n.sum() - 1)
    unit = np.sqrt(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), share, side="right")) + 1
    rest = np.maximum(1 - (vectors[:, :count] ** 2) @ values[:count], NO_SCATTER)
    return PrincipalAxes(vectors[:, :count], values[:count], rest), unit


def _scores(scatter: _Scatter, read: np.ndarray) -> _Scores:
    """Return what the residuals say of scores that are read by weights (feature, component)."""
    squares = np.empty((*scatter.means.shape[:2], read.shape[1]))
    turned = scatter.project.T @ read
    for i, products in enumerate(scatter.products):
        values, vectors = np.linalg.eigh(products)
        some = values > NO_SCATTER * max(values[-1], 0)
        root = (vectors[:, some] * np.sqrt(values[some])).T
        for d, delta in enumerate(scatter.delta[:, i]):
            squares[d, i] = ((root / delta @ turned) ** 2).sum(axis=0)
    return _Scores(scatter.n, scatter.means @ read, squares)


def _of_scans(
    axes: PrincipalAxes, unit: np.ndarray, scores: _Scores, pooled: np.ndarray, reference: int | None
) -> Covariances:
    """Return locations and scales as estimated from the scans; divisors are those of ComBat."""
    n, single = scores.n, scores.n < 2
    location = scores.mean.copy()
    scale = np.sqrt(scores.squares / np.maximum(n - 1, 1)[:, None])
    if reference is None:
        total = n[pooled].sum()
        pooled_location = (n[pooled, None] * location[:, pooled]).sum(axis=1) / total
        pooled_scale = np.sqrt(scores.squares[:, pooled].sum(axis=1) / total)
    else:
        pooled_location = location[:, reference]
        pooled_scale = np.sqrt(scores.squares[:, reference] / n[reference])
    # A single scan tells of no scale: it keeps its scores.
    location[:, single], scale[:, single] = pooled_location[:, None], pooled_scale[:, None]
    return Covariances(axes, unit, location, scale, pooled_location, pooled_scale)


def _drawn(
    axes: PrincipalAxes,
    unit: np.ndarray,
    scores: _Scores,
    pooled: np.ndarray,
    reference: int | None,
    streams: Sequence[np.random.Generator],
) -> Covariances:
    """Return scales drawn given the sums of squares around location zero, one set for each draw of the parameters."""
    n, single = scores.n[:, None], scores.n < 2
    squares = scores.squares + n * scores.mean**2
    average = squares[:, pooled].sum(axis=1, keepdims=True) / n[pooled].sum()
    ratio = squares / average
    mean = (ratio / n).mean(axis=2, keepdims=True)
    shape, rate = np.zeros_like(mean), np.zeros_like(mean)
    if ratio.shape[2] > 1:
        shape = 2 + mean**2 / (ratio / n).var(axis=2, ddof=1, keepdims=True)
        rate = mean * (shape - 1)
    shape = np.broadcast_to(shape + n / 2, ratio.shape)
    gamma = np.stack([stream.standard_gamma(of_draw) for stream, of_draw in zip(streams, shape, strict=True)])
    scale = np.sqrt(average * (rate + ratio / 2) / gamma)
    pooled_scale = np.sqrt((n[pooled] * scale[:, pooled] ** 2).sum(axis=1) / n[pooled].sum())
    if reference is not None:
        pooled_scale = scale[:, reference].copy()
    scale[:, single] = pooled_scale[:, None]
    zero = np.zeros_like(scale)
    return Covariances(axes, unit, zero, scale, zero[:, 0], pooled_scale)
