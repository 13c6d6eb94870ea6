"""The log-density of the model and its gradient, for any study; arrays only.

The equations are those of `bayescombat.model`, written out for one batch variable with the cell means integrated out,
and differentiated by hand.
"""

import math

import numpy as np
from numba import njit

from bayescombat.fused.elementary import exp
from bayescombat.fused.rows import (
    differences,
    marginal,
    normal,
    of_cells,
    precisions,
    residuals,
    shifted,
    squared,
    through_centring,
    to_features,
    to_slopes,
    uncentred,
)

__all__ = ["BLOCK", "HEAD", "expand", "log_density_and_gradient"]

# Numbers that come before the arrays of a study: sizes, then the constant of the density.
HEAD = 6
# Numbers that tell of the priors of one kind of batch effects.
BLOCK = 7


@njit(error_model="numpy")
def _hypers(positions, blocks, weights):
    """Return what the effects of batches are drawn from: means, log sds, and what z-scores these have."""
    batches = weights.shape[1]
    found, typical = np.empty((4, 2, batches)), np.empty(batches)
    mean, log_sd, score, root = found[0], found[1], found[2], found[3]
    for k in range(2):
        x = positions[k]
        total = 0.0
        for i in range(1, batches):
            total += x[i]
        norm = total / (math.sqrt(batches) + batches)
        scale, width = math.exp((1 - blocks[k, 6]) * x[0]), x[batches + 1]
        for i in range(batches - 1):
            mean[k, i] = scale * (x[i + 1] - norm)
        mean[k, batches - 1] = -scale * total / math.sqrt(batches)
        for i in range(batches):
            typical[i] = x[batches]
        uncentred(x[batches + 2 :], weights[k], typical, width, score[k], root[k])
        for i in range(batches):
            log_sd[k, i] = x[batches] + math.exp(width) * score[k, i]
    return mean, log_sd, score, root


@njit(error_model="numpy")
def _through_hyper(x, block, weight, mean, score, root, of_mean, of_log_sd, gradient):
    """Set the gradient of what one kind of effects is drawn from; return its log-density up to a constant."""
    batches, own, spread, width = mean.size, block[6], x[0], x[mean.size + 1]
    free, scale, precision = batches - 1, math.exp((1 - own) * spread), math.exp(-2 * own * spread)
    squares, moved, total = 0.0, of_mean[free] * mean[free], 0.0
    for i in range(free):
        squares += x[i + 1] * x[i + 1] * precision
        moved += of_mean[i] * mean[i]
        total += of_mean[i]
    gradient[0] = own * (squares - free) + (1 - own) * moved
    common = total / (math.sqrt(batches) + batches) + of_mean[free] / math.sqrt(batches)
    for i in range(free):
        gradient[i + 1] = scale * (of_mean[i] - common) - x[i + 1] * precision
    of_typical = np.empty(batches)
    of_width, density = through_centring(of_log_sd, score, root, weight, width, gradient[batches + 2 :], of_typical)
    gradient[batches], gradient[batches + 1] = 0.0, of_width
    for i in range(batches):
        gradient[batches] += of_typical[i]
    for k, place in enumerate((0, batches, batches + 1)):
        away = (x[place] - block[2 * k]) / block[2 * k + 1]
        density -= away * away / 2
        gradient[place] -= away / block[2 * k + 1]
    return density - own * spread * free - squares / 2


@njit(error_model="numpy")
def _unpacked(data):
    """Return the arrays of a study; `bayescombat.fused.packing` puts them together in this order."""
    batches, features, directions, width = int(data[1]), int(data[2]), int(data[3]), int(data[4])
    place = HEAD
    blocks = data[place : place + 2 * BLOCK].reshape((2, BLOCK))
    place += blocks.size
    of_sd = data[place : place + 2 * batches].reshape((2, batches))
    place += of_sd.size
    sds = data[place : place + 3]
    place += 3
    cells = data[place : place + 6 * batches * features].reshape((6, batches, features))
    place += cells.size
    sxy = data[place : place + batches * directions * features].reshape((batches, directions, features))
    place += sxy.size
    mean_x = data[place : place + batches * directions * width].reshape((batches, directions, width))
    place += mean_x.size
    sxx = data[place : place + mean_x.size * directions].reshape((batches, directions, directions, width))
    return blocks, of_sd, sds, cells, sxy, mean_x, sxx, data[place + sxx.size :]


@njit(error_model="numpy")
def _positioned(x, data):
    """Split a position into hyper-parameters, features and cells, as the model declares them."""
    batches, features, directions = int(data[1]), int(data[2]), int(data[3])
    hyper = 2 * batches + 2
    place = 2 * hyper
    hypers = x[:place].reshape((2, hyper))
    log_sigma, alpha = x[place : place + features], x[place + features : place + 2 * features]
    place += 2 * features
    beta = x[place : place + features * directions].reshape((features, directions))
    return hypers, log_sigma, alpha, beta, x[place + beta.size :].reshape((batches, features))


@njit(error_model="numpy")
def log_density_and_gradient(x, data, gradient):
    """Return the log-density at a position on the unconstrained scale; set its gradient."""
    blocks, of_sd, sds, cells, sxy, mean_x, sxx, _ = _unpacked(data)
    hypers, log_sigma, alpha, beta, partly = _positioned(x, data)
    of_hypers, of_log_sigma, of_alpha, of_beta, of_partly = _positioned(gradient, data)
    batches, directions, features = sxy.shape
    mean, log_sd, score, root = _hypers(hypers, blocks, of_sd)
    of_mean, of_log_sd = np.empty((2, batches)), np.empty((2, batches))
    density = data[5] + normal(log_sigma, sds[0], of_log_sigma) + normal(alpha, sds[1], of_alpha)
    density += normal(beta.reshape(beta.size), sds[2], of_beta.reshape(beta.size))
    of_slopes = np.zeros((directions, features))
    slopes, slope = np.empty((directions, features)), np.empty((directions, features))
    for k in range(directions):
        for v in range(features):
            slopes[k, v] = beta[v, k]
    sigma, variance = squared(log_sigma)
    row = np.empty((11, features))
    z, inverse, log_scale, precision, squares = row[0], row[1], row[2], row[3], row[4]
    away, share, known, excess, above, prior = row[5], row[6], row[7], row[8], row[9], row[10]
    for i in range(batches):
        weight, n, own, seen = cells[0, i], cells[1, i], cells[2, i], cells[3, i]
        level, spread = mean[1, i], log_sd[1, i]
        shifted(log_sigma, level, prior)
        uncentred(partly[i], weight, prior, spread, z, inverse)
        precisions(z, prior, math.exp(spread), seen, log_scale, precision)
        differences(cells[4, i], alpha, sigma, mean[0, i], away)
        for v in range(features):
            squares[v] = cells[5, i, v]
        residuals(slopes, mean_x[i], sxx[i], sxy[i], away, squares, slope)
        density += marginal(own, precision, variance, math.exp(2 * log_sd[0, i]), away, share, known, excess)
        density += of_cells(n, squares, precision, log_scale, share, excess, above)
        of_log_sd[1, i], part = through_centring(above, z, inverse, weight, spread, of_partly[i], prior)
        density += part
        of_mean[1, i], of_mean[0, i], of_log_sd[0, i] = to_features(
            prior, share, excess, away, known, sigma, mean[0, i], of_log_sigma, of_alpha
        )
        to_slopes(mean_x[i], slope, precision, away, known, of_slopes)
    for k in range(directions):
        for v in range(features):
            of_beta[v, k] += of_slopes[k, v]
    for k in range(2):
        density += _through_hyper(
            hypers[k], blocks[k], of_sd[k], mean[k], score[k], root[k], of_mean[k], of_log_sd[k], of_hypers[k]
        )
    return density


@njit(error_model="numpy")
def expand(x, data, out):
    """Set what a fit reports, in the order of `bayescombat.fused.packing.reported`."""
    blocks, of_sd, _, cells, sxy, mean_x, _, units = _unpacked(data)
    hypers, log_sigma, alpha, beta, partly = _positioned(x, data)
    batches, directions, features = sxy.shape
    mean, log_sd, _, _ = _hypers(hypers, blocks, of_sd)
    location, scale = units[:features], units[features : 2 * features]
    whitener = units[2 * features :].reshape((mean_x.shape[2], directions, directions))
    prior, z, inverse = np.empty(features), np.empty(features), np.empty(features)
    place = (1 + directions) * features
    for v in range(features):
        out[v] = location[v] + scale[v] * alpha[v]
        for c in range(directions):
            whole = 0.0
            for k in range(directions):
                whole += whitener[min(v, len(whitener) - 1), c, k] * beta[v, k]
            out[features + v * directions + c] = whole * scale[v]
        out[place + v] = scale[v] * math.exp(log_sigma[v])
    place += features
    for i in range(batches):
        level, spread = mean[1, i], log_sd[1, i]
        shifted(log_sigma, level, prior)
        uncentred(partly[i], cells[0, i], prior, spread, z, inverse)
        for v in range(features):
            out[place + v] = exp(level + math.exp(spread) * z[v])
        place += features
    for k in range(2):
        for i in range(batches):
            out[place + i] = mean[k, i]
            out[place + batches + i] = math.exp(log_sd[k, i])
        place += 2 * batches
    for k in range(2):
        out[place], out[place + 1] = math.exp(hypers[k, 0]), hypers[k, batches]
        out[place + 2] = math.exp(hypers[k, batches + 1])
        place += 3
