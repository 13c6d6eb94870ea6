"""What features share in the density: shifts along patterns, noise along factors, and what these do to scales.

Arrays only. The equations are those of `bayescombat.model.sharing`.
"""

import math

import numpy as np

from bayescombat.fused.elementary import exp
from bayescombat.fused.kernels import FAST, array_at, kernel

__all__ = [
    "SHIFT",
    "SQUARES",
    "beside",
    "of_shared_cells",
    "shared_parts",
    "stretch",
    "taken_out",
    "through_common",
    "through_shared",
]

# What is shared by the cells of a batch: shift in units of sigma, noise in units of the cell's scale, and what is added
# to the logarithm of the scale that sums of squares are seen with.
SHIFT, NOISE, SQUARES = 0, 1, 2


@kernel(fastmath=FAST)
def _add_along(scores, axes, out):
    """Add scores (axis,) times axes (axis, feature)."""
    for k in range(axes.shape[0]):
        factor = scores[k]
        for v in range(axes.shape[1]):
            out[v] += factor * axes[k, v]


@kernel(fastmath=FAST)
def _onto(values, axes, out):
    """Set axes (axis, feature) times values (feature,)."""
    for k in range(axes.shape[0]):
        total = 0.0
        for v in range(axes.shape[1]):
            total += values[v] * axes[k, v]
        out[k] = total


@kernel()
def _from_mean(values):
    """Measure values (batch, axis) from their mean over the batches."""
    batches, axes = values.shape
    for k in range(axes):
        total = 0.0
        for i in range(batches):
            total += values[i, k]
        for i in range(batches):
            values[i, k] -= total / batches


@kernel()
def stretch(values, along, by):
    """Return values (batch, score), to each of them added `along` (direction, value) times how far all are `by`."""
    flat, far = array_at(values, 0, (values.size,)), np.empty(len(by))
    _onto(flat, by, far)
    _add_along(far, along, flat)
    return values


@kernel()
def shared_parts(sampled, totals, mean, log_sd, shared):
    """Return what the cells of a batch share, (batch, kind, feature), and the scores it is made of.

    These are scores (batch, score), what they do to shifts along the axes of the patterns (batch, axis) and to the
    noise (batch, factor), and scores of sums of squares (batch, score).
    """
    known, of_mean, of_shifts, of_noise, patterns, loadings, base, _, of_squares = shared
    batches, count = known.shape
    score, along = np.empty((batches, count)), np.zeros((batches, len(patterns)))
    scans = np.zeros((batches, len(loadings)))
    for i in range(batches):
        for s in range(count):
            root = math.exp(-known[i, s] * (log_sd[0, i] - base[i]))
            score[i, s] = sampled[i, s] * root - mean[0, i] * of_mean[i, s]
        gamma_sd = math.exp(log_sd[0, i])
        for k in range(len(patterns)):
            for s in range(count):
                along[i, k] += gamma_sd * of_shifts[i, k, s] * score[i, s]
        for k in range(len(loadings)):
            for s in range(count):
                scans[i, k] += of_noise[i, k, s] * score[i, s]
    centred = along.copy()
    _from_mean(centred)
    parts = np.zeros((batches, 3, loadings.shape[1]))
    for i in range(batches):
        _add_along(centred[i], patterns, parts[i, SHIFT])
        _add_along(scans[i], loadings, parts[i, NOISE])
    return parts, score, along, scans, _squares(totals, mean[1], of_squares, parts)


@kernel()
def _squares(totals, mean, of_squares, parts):
    """Set what is shared in the log sums of squares; return its scores (batch, score)."""
    axes, of_axes, of_mean, freedom, _ = of_squares
    score, along = np.empty_like(of_mean), np.empty(len(axes))
    for i in range(len(score)):
        for s in range(len(axes)):
            score[i, s] = totals[i, s] - mean[i] * of_mean[i, s]
        _onto(score[i], of_axes[i], along)
        _add_along(along, axes, parts[i, SQUARES])
        for k in range(len(axes)):
            for v in range(axes.shape[1]):
                parts[i, SQUARES, v] -= axes[k, v] * axes[k, v] / (2 * freedom[i])
    return score


@kernel()
def beside(log_sigma, alpha, mean, parts, shares):
    """Return log sigma and alpha beside what batches have in common, as these know them, and that, (kind, feature)."""
    common = np.zeros((2, alpha.size))
    for i in range(mean.shape[1]):
        for k in range(2):
            for v in range(alpha.size):
                common[k, v] += shares[k, i, v] * mean[k, i]
    for i in range(len(parts)):
        for v in range(alpha.size):
            common[0, v] += shares[0, i, v] * (parts[i, SHIFT, v] + parts[i, NOISE, v])
            common[1, v] += shares[1, i, v] * parts[i, SQUARES, v]
    own, level = np.empty(alpha.size), np.empty(alpha.size)
    for v in range(alpha.size):
        own[v] = log_sigma[v] - common[1, v]
        level[v] = alpha[v] - math.exp(own[v]) * common[0, v]
    return own, level, common


@kernel(fastmath=FAST)
def taken_out(log_scale, sigma, part, weight, away, scale, precision, within):
    """Take what is shared out of a batch's means; set its scale, and the precisions of means and sums of squares."""
    for v in range(sigma.size):
        scale[v] = exp(log_scale[v] - part[SQUARES, v])
    for v in range(sigma.size):
        within[v] = weight[v] * precision[v]
    for v in range(sigma.size):
        precision[v] *= exp(2 * part[SQUARES, v])
    for v in range(sigma.size):
        away[v] -= sigma[v] * part[SHIFT, v] + scale[v] * part[NOISE, v]


@kernel(fastmath=FAST)
def of_shared_cells(n, squares, within, log_scale, share, excess, away, known, shared, of_part, of_log_sigma, above):
    """Set the gradient by the log scales, and by what is shared, through a batch's cells.

    Return the part of the log-density that sums of squares and the scales of the means have.
    """
    seen, part, sigma, scale = shared
    density = 0.0
    for v in range(n.size):
        density -= n[v] * log_scale[v] + seen[v] * (log_scale[v] - part[SQUARES, v]) + squares[v] * within[v] / 2
    for v in range(n.size):
        of_part[SHIFT, v] = away[v] * known[v] * sigma[v]
        of_part[NOISE, v] = away[v] * known[v] * scale[v]
    for v in range(n.size):
        of_log_sigma[v] += of_part[SHIFT, v] * part[SHIFT, v]
    for v in range(n.size):
        above[v] = seen[v] * (excess[v] - 1) * (1 - share[v]) + of_part[NOISE, v] * part[NOISE, v]
    for v in range(n.size):
        of_part[SQUARES, v] = -above[v]
    for v in range(n.size):
        above[v] += squares[v] * within[v] - n[v]
    return density


@kernel()
def through_common(shares, common, sigma, of_alpha, of_log_sigma, of_mean, of_parts):
    """Take the gradient by the features through what batches have in common."""
    for v in range(sigma.size):
        of_log_sigma[v] -= of_alpha[v] * sigma[v] * common[0, v]
    for i in range(of_mean.shape[1]):
        for v in range(sigma.size):
            of_mean[0, i] -= shares[0, i, v] * of_alpha[v] * sigma[v]
            of_mean[1, i] -= shares[1, i, v] * of_log_sigma[v]
    for i in range(len(of_parts)):
        for v in range(sigma.size):
            of_parts[i, SHIFT, v] -= shares[0, i, v] * of_alpha[v] * sigma[v]
            of_parts[i, NOISE, v] -= shares[0, i, v] * of_alpha[v] * sigma[v]
            of_parts[i, SQUARES, v] -= shares[1, i, v] * of_log_sigma[v]


@kernel()
def through_shared(sampled, scored, of_parts, log_sd, shared, of_sampled, of_totals, of_mean, of_log_sd):
    """Take the gradient by what is shared back to what scores are sampled as; return the log-density of these."""
    known, on_mean, of_shifts, of_noise, patterns, loadings, base, _, of_squares = shared
    score, along, square = scored
    batches, density = len(score), _through_squares(square, of_squares, of_parts, of_totals, of_mean[1])
    of_along, of_scans = np.empty((batches, len(patterns))), np.empty((batches, len(loadings)))
    for i in range(batches):
        _onto(of_parts[i, SHIFT], patterns, of_along[i])
        _onto(of_parts[i, NOISE], loadings, of_scans[i])
    _from_mean(of_along)
    for i in range(batches):
        gamma_sd = math.exp(log_sd[0, i])
        for k in range(len(patterns)):
            of_log_sd[0, i] += of_along[i, k] * along[i, k]
        for s in range(score.shape[1]):
            of_score = -score[i, s]
            for k in range(len(patterns)):
                of_score += gamma_sd * of_shifts[i, k, s] * of_along[i, k]
            for k in range(len(loadings)):
                of_score += of_noise[i, k, s] * of_scans[i, k]
            width = known[i, s] * (log_sd[0, i] - base[i])
            of_sampled[i, s] = of_score * math.exp(-width)
            of_log_sd[0, i] -= known[i, s] * (sampled[i, s] * of_sampled[i, s] + 1)
            of_mean[0, i] -= of_score * on_mean[i, s]
            density -= score[i, s] * score[i, s] / 2 + width
    return density


@kernel()
def _through_squares(score, of_squares, of_parts, of_totals, of_mean):
    """Do the same for what is shared in the log sums of squares, but for what that does to spreads."""
    axes, of_axes, on_mean, _, _ = of_squares
    density, of_along = 0.0, np.empty(len(axes))
    for i in range(len(score)):
        _onto(of_parts[i, SQUARES], axes, of_along)
        of_totals[i] = -score[i]
        _add_along(of_along, of_axes[i], of_totals[i])
        for s in range(len(axes)):
            of_mean[i] -= of_totals[i, s] * on_mean[i, s]
            density -= score[i, s] * score[i, s] / 2
    return density
