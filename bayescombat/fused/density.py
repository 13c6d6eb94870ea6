"""The log-density of the model and its gradient, for any study; arrays only.

The equations are those of `bayescombat.model`, written out for one batch variable with the cell means integrated out,
and differentiated by hand.
"""

import math

import numpy as np
from numba import njit

from bayescombat.fused.layout import positioned, unpacked
from bayescombat.fused.rows import (
    add,
    anchored,
    through_anchored,
    add_transposed,
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
from bayescombat.fused.sharing import (
    SQUARES,
    beside,
    of_shared_cells,
    shared_parts,
    stretched,
    taken_out,
    through_common,
    through_shared,
    through_stretched,
)

__all__ = ["hyper_parameters", "log_density_and_gradient"]


@njit(error_model="numpy")
def hyper_parameters(positions, hyper):
    """Return what the effects of batches are drawn from: means, log sds, and what z-scores these have."""
    _, weights, bases, owns = hyper
    batches = weights.shape[1]
    found, typical = np.zeros((4, 2, batches)), np.empty(batches)
    mean, log_sd, score, root = found[0], found[1], found[2], found[3]
    parts = np.empty((3, batches - 1))
    nothing = np.zeros(batches - 1)
    for k in range(2):
        x = positions[k]
        anchored(x[1:batches], owns[k, 0], owns[k, 1], nothing, x[0], parts[0], parts[1], parts[2])
        for s in range(batches - 1):
            along = math.exp(x[0]) * parts[0, s]
            for i in range(batches):
                mean[k, i] += bases[k, i, s] * along
        width = x[batches + 1]
        for i in range(batches):
            typical[i] = x[batches]
        uncentred(x[batches + 2 :], weights[k], typical, width, score[k], root[k])
        for i in range(batches):
            log_sd[k, i] = x[batches] + math.exp(width) * score[k, i]
    return mean, log_sd, score, root


@njit(error_model="numpy")
def _through_hyper(x, k, hyper, score, root, of_mean, of_log_sd, gradient):
    """Set the gradient of what one kind of effects is drawn from; return its log-density up to a constant."""
    blocks, weights, bases, owns = hyper
    block, weight, basis, own = blocks[k], weights[k], bases[k], owns[k]
    batches, spread, width = len(basis), x[0], x[len(basis) + 1]
    parts = np.empty((5, batches - 1))
    nothing = np.zeros(batches - 1)
    anchored(x[1:batches], own[0], own[1], nothing, spread, parts[0], parts[1], parts[2])
    for s in range(batches - 1):
        parts[3, s] = 0.0
        for i in range(batches):
            parts[3, s] += basis[i, s] * of_mean[i]
    gradient[0], density = through_anchored(
        parts[3], x[1:batches], parts[0], parts[1], parts[2], spread, gradient[1:batches], parts[4]
    )
    of_typical = np.empty(batches)
    of_width, part = through_centring(of_log_sd, score, root, weight, width, gradient[batches + 2 :], of_typical)
    density += part
    gradient[batches], gradient[batches + 1] = 0.0, of_width
    for i in range(batches):
        gradient[batches] += of_typical[i]
    for j, place in enumerate((0, batches, batches + 1)):
        away = (x[place] - block[2 * j]) / block[2 * j + 1]
        density -= away * away / 2
        gradient[place] -= away / block[2 * j + 1]
    return density


@njit(error_model="numpy")
def log_density_and_gradient(x, data, gradient):
    """Return the log-density at a position on the unconstrained scale; set its gradient."""
    hyper, levels, sds, cells, sxy, mean_x, sxx, _, shared = unpacked(data)
    hypers, log_sigma, alpha, beta, partly, sampled, totals = positioned(x, data)
    of_hypers, of_log_sigma, of_alpha, of_beta, of_partly, of_sampled, of_totals = positioned(gradient, data)
    batches, _, features = sxy.shape
    mean, log_sd, score, root = hyper_parameters(hypers, hyper)
    of_mean, of_log_sd = np.empty((2, batches)), np.empty((2, batches))
    weight_of_squares, sharing = shared[-1], len(shared[0]) > 0
    sampled = stretched(sampled, shared[-2])
    parts, scores, along, _, square = shared_parts(sampled, totals, mean, log_sd, shared)
    log_sigma, alpha, common = beside(log_sigma, alpha, mean, parts, levels)
    of_parts = np.empty_like(parts)
    density = data[10] + normal(log_sigma, sds[0], of_log_sigma) + normal(alpha, sds[1], of_alpha)
    density += normal(beta.reshape(beta.size), sds[2], of_beta.reshape(beta.size))
    of_slopes, slope, slopes = np.zeros(sxy.shape[1:]), np.empty(sxy.shape[1:]), np.zeros(sxy.shape[1:])
    add_transposed(beta, slopes)
    sigma, variance = squared(log_sigma)
    by = np.empty(features)
    row = np.empty((13, features))
    z, inverse, log_scale, precision, squares, away = row[0], row[1], row[2], row[3], row[4], row[5]
    known, excess, above, prior, scale, within, share = row[6], row[7], row[8], row[9], row[10], row[11], row[12]
    for i in range(batches):
        weight, n, own, seen = cells[0, i], cells[1, i], cells[2, i], cells[3, i]
        level, spread = mean[1, i], log_sd[1, i]
        shifted(log_sigma, level, prior)
        if sharing:
            add(parts[i, SQUARES], prior)
        anchored(partly[i], weight, cells[6, i], prior, spread, z, inverse, by)
        precisions(z, prior, math.exp(spread), seen, log_scale, precision)
        differences(cells[4, i], alpha, sigma, mean[0, i], away)
        if sharing:
            taken_out(log_scale, sigma, parts[i], weight_of_squares, away, scale, precision, within)
        else:
            within[:] = precision
        squares[:] = cells[5, i]
        residuals(slopes, mean_x[i], sxx[i], sxy[i], away, squares, slope)
        density += marginal(own, precision, variance, math.exp(2 * log_sd[0, i]), away, share, known, excess)
        if sharing:
            common_of = seen, parts[i], sigma, scale
            density += of_shared_cells(
                n, squares, within, log_scale, share, excess, away, known, common_of, of_parts[i], of_log_sigma, above
            )
        else:
            density += of_cells(n, squares, precision, log_scale, share, excess, above)
        of_log_sd[1, i], part = through_anchored(above, partly[i], z, inverse, by, spread, of_partly[i], prior)
        density += part
        if sharing:
            add(prior, of_parts[i, SQUARES])
        of_mean[1, i], of_mean[0, i], of_log_sd[0, i] = to_features(
            prior, share, excess, away, known, sigma, mean[0, i], of_log_sigma, of_alpha
        )
        to_slopes(mean_x[i], slope, within, away, known, of_slopes)
    add_transposed(of_slopes, of_beta)
    through_common(levels, common, sigma, of_alpha, of_log_sigma, of_mean, of_parts)
    if sharing:
        scored = scores, along, square
        density += through_shared(sampled, scored, of_parts, log_sd, shared, of_sampled, of_totals, of_mean, of_log_sd)
        through_stretched(of_sampled, shared[-2])
    for k in range(2):
        density += _through_hyper(
            hypers[k], k, hyper, score[k], root[k], of_mean[k], of_log_sd[k], of_hypers[k]
        )
    return density
