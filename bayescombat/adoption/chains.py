"""A new batch drawn from its posterior, by short Markov chains with gamma integrated out. Arrays only."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from bayescombat.adoption.population import Evidence, NewBatch, Normal, Population, Priors, Shared, new_batch, priors_of
from bayescombat.blocks import slices

__all__ = ["from_data"]

# Against sweep 400, for 1 to 5 scans of 5 to 150 features: 2,000 chains differ at sweep 5 by up to 0.20 in the worst of
# eight distribution functions, at 10 by 0.10, at 20 by 0.055 (and by chance 0.04); in populations of usual spread from
# sweep 10 by chance alone. Only 1,000 features of one scan each, in populations of wide spread, want 40.
SWEEPS = 20
# The first sweeps ask only whether a move leads up, not for the way back, which from afar is hardly ever found.
UPHILL = 4
# Parts of a Newton step, in turn: whole ones forget at once, halves come back from tails that whole ones overshoot.
STRIDES = (1.0, 1.0, 0.5)
# Numbers in an array of work, few enough for several such arrays to stay in a cache.
BLOCK = 2**14
# Beyond it a log scale means nothing, and squares of its exponential would leave the range of float64.
LOG_LIMIT = 100.0
# What moves believe of a misfit, lest their matrices become singular; whether they are taken is decided without it.
MOST_MISFIT = 1e8
# Of a feature without scans: so imprecise a mean that log delta cancels from the likelihood.
NO_PRECISION = 1e-200


class _Fit(NamedTuple):
    """How log scales fit the evidence, (draw, feature).

    `share` is the part of noise in the variance of a mean, `surprise` the square of the mean's z-score.
    """

    log_likelihood: np.ndarray
    slope: np.ndarray
    information: np.ndarray
    share: np.ndarray
    surprise: np.ndarray


class _Chains(NamedTuple):
    """Where the chains are: (draw, feature), (draw, 1), (draw, 3) as in the priors, and (draw, score).

    `scores` are those of the patterns, and then those of the factors of the scans' mean noise.
    """

    log_delta: np.ndarray
    gamma_mean: np.ndarray
    shared: np.ndarray
    scores: np.ndarray


class _Moves(NamedTuple):
    stride: float
    both_ways: bool
    rng: np.random.Generator


def from_data(population: Population, evidence: Evidence, rng: np.random.Generator) -> NewBatch:
    """Draw a new batch from its posterior, once for every draw of the population, independently.

    Notes
    -----
    A sweep moves the log scale of each feature; then their mean and spread given these; then, with the z-scores of the
    log scales held where they are, mean and spread again, together with gamma_sd.  Where scans are many the former does
    the work, where they are few the latter: the interweaving of Yu and Meng (2011), doi:10.1198/jcgs.2011.203main.
    Moves are noisy Newton steps, taken by the rule of Metropolis and Hastings.

    Where features share factors, the scores are drawn with gamma_mean in every sweep. That the scores tell of the level
    of the scales, and that sums of squares of correlated features vary together, is left out.
    """
    priors, evidence = priors_of(population), _readable(evidence)
    draws, features = evidence.mean.shape
    parts = []
    for rows in slices(draws, BLOCK // features):
        block = Priors(*(Normal(*(part[rows] for part in prior)) for prior in priors))
        parts.append(_ended(block, _part(evidence, rows), rng))
    return new_batch(*(np.concatenate(part) for part in zip(*parts, strict=True)))


def _part(evidence: Evidence, rows: slice) -> Evidence:
    """Return the evidence of some draws."""
    count, precision, mean, squares = (
        getattr(evidence, name)[rows] for name in ("count", "precision", "mean", "squares")
    )
    shared = evidence.shared
    if shared is not None and len(shared.scans) > 1:
        shared = replace(shared, scans=shared.scans[rows])
    return Evidence(count, precision, mean, squares, shared)


def _readable(evidence: Evidence) -> Evidence:
    """Return the evidence in full shape, with nothing in it that is not to be read."""
    count = np.broadcast_to(np.asarray(evidence.count, float), evidence.mean.shape)
    parts = (evidence.precision, NO_PRECISION), (evidence.mean, 0.0), (evidence.squares, 0.0)
    precision, mean, squares = (np.where(count > 0, value, otherwise) for value, otherwise in parts)
    return Evidence(count, precision, mean, squares, evidence.shared)


def _ended(priors: Priors, evidence: Evidence, rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """Return gamma, log delta, gamma_mean and what else is shared, at the end of the chains."""
    chains = _start(priors.shared, evidence, rng)
    for sweep in range(SWEEPS):
        stride = 1.0 if sweep < UPHILL else STRIDES[sweep % len(STRIDES)]
        chains = _swept(chains, priors, evidence, _Moves(stride, sweep >= UPHILL, rng))
    means = Normal(chains.gamma_mean, np.exp(chains.shared[:, :1]))
    gamma = _means(chains.log_delta, _beside(evidence, chains.scores), means).drawn(rng)
    if evidence.shared is not None:
        gamma += _of_patterns(chains, evidence.shared) @ evidence.shared.patterns.T
    return gamma, chains.log_delta, chains.gamma_mean, chains.shared


def _start(prior: Normal, evidence: Evidence, rng: np.random.Generator) -> _Chains:
    """Return spreads from the prior, and log scales between the data's and their average."""
    shared = np.clip(prior.drawn(rng), -LOG_LIMIT / 2, LOG_LIMIT / 2)
    # One more scan, of variance one, so that features of one scan have an estimate too.
    estimate = np.log((evidence.squares + 1) / np.maximum(evidence.count, 1)) / 2
    information = 2 * np.maximum(evidence.count - 1, 0)
    between = np.exp(-2 * shared[:, 2:])
    shared[:, 1] = (information * estimate).sum(axis=1) / (information.sum(axis=1) + 1 / prior.sd[:, 1] ** 2)
    log_delta = (information * estimate + between * shared[:, 1:2]) / (information + between)
    count = 0 if evidence.shared is None else _design(evidence.shared).shape[1]
    return _Chains(log_delta, np.zeros_like(between), shared, np.zeros((len(shared), count)))


def _swept(chains: _Chains, priors: Priors, evidence: Evidence, moves: _Moves) -> _Chains:
    """Move every chain once."""
    log_gamma_sd, middle, log_spread = chains.shared[:, :1], chains.shared[:, 1:2], chains.shared[:, 2:]
    gamma_sd = np.exp(log_gamma_sd)
    known = 1 / (np.exp(2 * chains.log_delta) / evidence.precision + gamma_sd**2)
    if evidence.shared is None:
        total = known.sum(axis=1, keepdims=True) + 1 / priors.gamma_mean.sd**2
        gamma_mean = Normal((known * evidence.mean).sum(axis=1, keepdims=True) / total, total**-0.5).drawn(moves.rng)
    else:
        gamma_mean, scores = _scored(known, chains, priors.gamma_mean, evidence, evidence.shared, moves.rng)
        chains, evidence = chains._replace(scores=scores), _beside(evidence, scores)
    within = Normal(middle, np.exp(log_spread))
    log_delta = _moved(chains.log_delta, within, evidence, Normal(gamma_mean, gamma_sd), moves)
    # The log scales are evidence in their turn, of their own mean and log spread.
    mean = log_delta.mean(axis=1, keepdims=True)
    count = np.full_like(mean, log_delta.shape[1])
    scales = Evidence(count, count, mean, ((log_delta - mean) ** 2).sum(axis=1, keepdims=True))
    middle_prior, spread_prior = (Normal(*(part[:, [i]] for part in priors.shared)) for i in (1, 2))
    log_spread = _moved(log_spread, spread_prior, scales, middle_prior, moves)
    middle = _means(log_spread, scales, middle_prior).drawn(moves.rng)
    shared = np.concatenate([log_gamma_sd, middle, log_spread], axis=1)
    return _moved_together(_Chains(log_delta, gamma_mean, shared, chains.scores), priors.shared, evidence, moves)


def _scored(
    known: np.ndarray, chains: _Chains, gamma_mean: Normal, evidence: Evidence, shared: Shared, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw gamma_mean (draw, 1) and the scores (draw, score) together, given the precisions of the mean residuals."""
    design = np.column_stack([np.ones(len(shared.loadings)), _design(shared)])
    gamma_sd, scale = np.exp(chains.shared[:, :1]), np.exp(chains.shared[:, 1:2])
    counts = shared.patterns.shape[1], shared.loadings.shape[1]
    # Of the scans' mean noise at the batch's level of scale.
    variances = (
        np.repeat(one, count, axis=1) for one, count in zip((gamma_sd**2, scale**2 / shared.scans), counts, strict=True)
    )
    variance = np.concatenate([gamma_mean.sd**2, *variances], axis=1)
    precision = np.einsum("dv,vp,vq->dpq", known, design, design, optimize=True)
    diagonal = np.einsum("dpp->dp", precision)
    diagonal += 1 / variance
    root = np.linalg.cholesky(precision)
    right = np.linalg.solve(root, ((known * evidence.mean) @ design)[..., None])
    drawn = np.linalg.solve(root.swapaxes(1, 2), right + rng.standard_normal(right.shape))[..., 0]
    return drawn[:, :1], drawn[:, 1:]


def _design(shared: Shared) -> np.ndarray:
    """Return how features follow the scores, (feature, score)."""
    return np.concatenate([shared.patterns, shared.loadings], axis=1)


def _beside(evidence: Evidence, scores: np.ndarray) -> Evidence:
    """Return the evidence without what scores (draw, score) explain of the mean residuals."""
    if evidence.shared is None:
        return evidence
    return replace(evidence, mean=evidence.mean - scores @ _design(evidence.shared).T)


def _of_patterns(chains: _Chains, shared: Shared | None) -> np.ndarray:
    """Return the scores of the patterns, (draw, pattern)."""
    return chains.scores[:, : 0 if shared is None else shared.patterns.shape[1]]


def _means(log_scale: np.ndarray, evidence: Evidence, prior: Normal) -> Normal:
    """Return the distribution of means whose scales are known."""
    noise = np.exp(2 * log_scale) / evidence.precision
    share = noise / (noise + prior.sd**2)
    return Normal(evidence.mean + share * (prior.mean - evidence.mean), prior.sd * np.sqrt(share))


def _fit(log_scale: np.ndarray, evidence: Evidence, means: Normal) -> _Fit:
    """Return how log scales fit, with the means integrated over their prior.

    The information is halfway between the expected and the observed, which agree where the fit is good; it is never
    negative, and a Newton step with it never runs away.
    """
    square, freedom = np.exp(2 * log_scale), evidence.count - 1
    noise = square / evidence.precision
    variance = noise + means.sd**2
    share, misfit = noise / variance, evidence.squares / square
    surprise = (evidence.mean - means.mean) ** 2 / variance
    log_likelihood = -freedom * log_scale - (misfit + np.log(variance) + surprise) / 2
    misfit, surprise = np.minimum(misfit, MOST_MISFIT), np.minimum(surprise, MOST_MISFIT)
    slope = misfit - freedom + share * (surprise - 1)
    information = misfit + freedom + share**2 * (surprise + 1)
    return _Fit(log_likelihood, slope, information, share, surprise)


def _moved(log_scale: np.ndarray, prior: Normal, evidence: Evidence, means: Normal, moves: _Moves) -> np.ndarray:
    """Move log scales, each on its own; `means` is the prior of the means."""

    def newton(value: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        fit = _fit(value, evidence, means)
        away = (value - prior.mean) / prior.sd
        precision = fit.information + 1 / prior.sd**2
        # Logarithms: no slope is to be believed for more than one.
        step = np.clip((fit.slope - away / prior.sd) / precision, -1, 1)
        return fit.log_likelihood - away**2 / 2, value + moves.stride * step, precision

    density, centre, precision = newton(log_scale)
    noise = moves.rng.standard_normal(log_scale.shape)
    proposal = centre + noise / np.sqrt(precision)
    proposal = np.where(np.abs(proposal) < LOG_LIMIT, proposal, log_scale)
    if not moves.both_ways:
        return proposal
    new_density, back, new_precision = newton(proposal)
    gain = new_density - density
    gain += (np.log(new_precision / precision) + noise**2 - new_precision * (log_scale - back) ** 2) / 2
    return np.where(gain > -moves.rng.standard_exponential(gain.shape), proposal, log_scale)


def _moved_together(chains: _Chains, prior: Normal, evidence: Evidence, moves: _Moves) -> _Chains:
    """Move all that is shared but gamma_mean, with the z-scores of the log scales held where they are."""
    z_score = (chains.log_delta - chains.shared[:, 1:2]) / np.exp(chains.shared[:, 2:])
    # A single scan knows gamma_sd² + delta² alone, which is a ridge; with more scans delta is known by itself.
    log_bend = np.clip(4 * (evidence.count.mean(axis=1) - 1), 0, 20)
    of_patterns = _of_patterns(chains, evidence.shared)
    patterns, squares = of_patterns.shape[1], (of_patterns**2).sum(axis=1)

    def newton(position: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shared, turn = _straight(position, log_bend)
        away = np.exp(shared[:, 2:]) * z_score
        fit = _fit(shared[:, 1:2] + away, evidence, Normal(chains.gamma_mean, np.exp(shared[:, :1])))
        slope, information = _by_shared(fit, away)
        # Scores of patterns are evidence of gamma_sd in their turn.
        surprise = np.minimum(squares * np.exp(-2 * shared[:, 0]), MOST_MISFIT)
        slope[:, 0] += surprise - patterns
        information[:, 0, 0] += surprise + patterns
        step = (shared - prior.mean) / prior.sd
        information[:, range(3), range(3)] += 1 / prior.sd**2
        information = turn.swapaxes(1, 2) @ information @ turn
        uphill = np.linalg.solve(information, turn.swapaxes(1, 2) @ (slope - step / prior.sd)[..., None])
        centre = position + moves.stride * uphill[..., 0] / np.maximum(np.abs(uphill).max(axis=1), 1)
        density = fit.log_likelihood.sum(axis=1) - (step**2).sum(axis=1) / 2
        density -= patterns * shared[:, 0] + squares * np.exp(-2 * shared[:, 0]) / 2
        return density, centre, np.linalg.cholesky(information).swapaxes(1, 2)

    position = _bent(chains.shared, log_bend)
    density, centre, root = newton(position)
    noise = moves.rng.standard_normal(centre.shape)
    proposal = centre + np.linalg.solve(root, noise[..., None])[..., 0]
    shared = _straight(np.clip(proposal, -LOG_LIMIT, LOG_LIMIT), log_bend)[0]
    log_delta = shared[:, 1:2] + np.exp(shared[:, 2:]) * z_score
    taken = (np.abs(proposal).max(axis=1) < LOG_LIMIT) & (np.abs(log_delta).max(axis=1) < LOG_LIMIT)
    new_density, back, new_root = newton(np.where(taken[:, None], proposal, position))
    gain = new_density - density
    if moves.both_ways:
        away = (new_root @ (position - back)[..., None])[..., 0]
        gain += ((noise**2).sum(axis=1) - (away**2).sum(axis=1)) / 2
        gain += np.log(np.einsum("sii->si", new_root) / np.einsum("sii->si", root)).sum(axis=1)
    taken &= gain > -moves.rng.standard_exponential(gain.shape)
    before = chains.log_delta, chains.shared
    log_delta, shared = (np.where(taken[:, None], *pair) for pair in zip((log_delta, shared), before, strict=True))
    return _Chains(log_delta, chains.gamma_mean, shared, chains.scores)


def _bent(shared: np.ndarray, log_bend: np.ndarray) -> np.ndarray:
    """Return coordinates of unit volume that follow log(gamma_sd² + bend delta²), and so a ridge where bend is one."""
    ratio = shared[:, 0] - shared[:, 1]
    return np.stack([shared[:, 1] + np.logaddexp(2 * ratio, log_bend) / 2, ratio, shared[:, 2]], axis=1)


def _straight(position: np.ndarray, log_bend: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what is shared, (draw, 3), and its derivatives by the coordinates of `_bent`, (draw, 3, 3)."""
    total, ratio, log_spread = position.T
    middle = total - np.logaddexp(2 * ratio, log_bend) / 2
    turn = np.zeros((len(position), 3, 3))
    turn[:, :2, 0] = turn[:, 2, 2:] = 1
    turn[:, 1, 1] = -expit(2 * ratio - log_bend)
    turn[:, 0, 1] = 1 + turn[:, 1, 1]
    return np.stack([middle + ratio, middle, log_spread], axis=1), turn


def _by_shared(fit: _Fit, away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return slope and information with respect to what is shared, by the chain rule: (draw, 3), (draw, 3, 3)."""
    signal, weight = 1 - fit.share, 1 + fit.surprise
    both, bend = signal * fit.share * weight, fit.information * away
    slopes = signal * (fit.surprise - 1), fit.slope, fit.slope * away
    entries = signal**2 * weight, both, both * away, fit.information, bend, bend * away
    slope, information = (np.stack([part.sum(axis=1) for part in parts], axis=1) for parts in (slopes, entries))
    return slope, information[:, [[0, 1, 2], [1, 3, 4], [2, 4, 5]]]
