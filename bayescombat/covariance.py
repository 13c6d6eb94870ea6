r"""How features vary together, brought to one form over batches: scores of principal components. Arrays only.

ComBat leaves batches whose features are correlated in ways of their own. CovBat (Chen et al. 2022,
doi:10.1002/hbm.25688) takes the principal components of the harmonized residuals of all batches, and brings the scores
of the first of them to a common location and scale. All of it follows from the features' cross-products.

By empirical Bayes locations and scales of the scores are those of the scans, as published. By NUTS they are unknown
like everything else: given a draw, a batch's scores have location zero, since its shifts are among the draws already,
and their scales are drawn, inverse-gamma given the sums of squares with a prior across the components as ComBat has one
across the features. The components are those of a pooled covariance that is drawn too, as samples of as many scans
would have it.
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
        The components that are harmonized, as many for every draw.
    unit : ndarray, (draw, 1, feature)
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
        Their means, as a single draw, whichever draws are asked for: where the pooled covariance is taken.
    share : float
        Of the variance, that the components have to explain.
    hidden : HiddenFactors, optional
        What is taken out of the residuals beforehand.
    pooled : ndarray of bool, (batch,), optional
        Batches that components and average are learned from; by default all.
    reference : int, optional
        Position of the reference batch.
    streams : sequence of Generator, optional
        One for each draw, to draw components and scales with; without them all is that of the scans.
    """
    pooled = np.ones(len(moments.batches), dtype=bool) if pooled is None else pooled
    products = residual_products(moments, average.beta[0])
    covariance = _pooled(_scatter(moments, average, products, hidden), pooled)
    axes, unit = _components(covariance, share, int(moments.scans[pooled].sum()) - 1, streams)
    scores = _scores(_scatter(moments, draws, products, hidden), axes.vectors / unit.swapaxes(1, 2))
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


def _pooled(scatter: _Scatter, pooled: np.ndarray) -> np.ndarray:
    """Return the covariance of the residuals over all scans, (feature, feature)."""
    n, means = scatter.n[pooled], scatter.means[0, pooled]
    turned = scatter.project / scatter.delta[0, pooled][:, None, :]
    total = (turned @ scatter.products[pooled] @ turned.swapaxes(1, 2)).sum(axis=0)
    away = means - n @ means / n.sum()
    return np.asarray((total + (n[:, None] * away).T @ away) / (n.sum() - 1))


def _components(
    covariance: np.ndarray, share: float, freedom: int, streams: Sequence[np.random.Generator] | None
) -> tuple[PrincipalAxes, np.ndarray]:
    """Return the first principal components of the correlation, and the units (draw, 1, feature)."""
    unit = np.sqrt(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(unit, unit))
    values, vectors = np.maximum(values[::-1], 0), vectors[:, ::-1]
    count = int(np.searchsorted(np.cumsum(values) / values.sum(), share, side="right")) + 1
    first = vectors[:, :count]
    rest = np.maximum(1 - first**2 @ values[:count], NO_SCATTER)
    correlation = (first * values[:count]) @ first.T + np.diag(rest)
    if streams is None:
        return PrincipalAxes(first[None], correlation), unit[None, None]
    root = unit[:, None] * vectors * np.sqrt(values)
    found, units = np.empty((len(streams), len(unit), count)), np.empty((len(streams), 1, len(unit)))
    for number, stream in enumerate(streams):
        half = root @ _wishart_root(len(unit), freedom, stream)
        units[number, 0] = np.sqrt((half**2).sum(axis=1))
        half = half / units[number, 0][:, None]
        found[number] = np.linalg.eigh(half @ half.T)[1][:, ::-1][:, :count]
    return PrincipalAxes(found, correlation), units / np.sqrt(freedom)


def _wishart_root(size: int, freedom: int, rng: np.random.Generator) -> np.ndarray:
    """Return a root of a draw from the Wishart distribution around the identity, (size, size or freedom)."""
    root = np.tril(rng.standard_normal((size, min(size, freedom))), -1)
    diagonal = np.arange(root.shape[1])
    root[diagonal, diagonal] = np.sqrt(rng.chisquare(freedom - diagonal))
    return root


def _scores(scatter: _Scatter, read: np.ndarray) -> _Scores:
    """Return what the residuals say of scores that are read by weights (draw, feature, component)."""
    roots = []
    for products in scatter.products:
        values, vectors = np.linalg.eigh(products)
        some = values > NO_SCATTER * max(values[-1], 0)
        roots.append((vectors[:, some] * np.sqrt(values[some])).T)
    squares = np.empty((*scatter.means.shape[:2], read.shape[2]))
    for d, weights in enumerate(read):
        turned = scatter.project.T @ weights
        for i, root in enumerate(roots):
            squares[d, i] = ((root / scatter.delta[d, i] @ turned) ** 2).sum(axis=0)
    # No matrix product: a batch's bits would hang on how many others there are.
    return _Scores(scatter.n, np.einsum("...bv,...vs->...bs", scatter.means, read), squares)


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
