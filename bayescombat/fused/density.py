"""The log-density of the model and its gradient, for any study; arrays only.

The equations are those of `bayescombat.model`, written out for one batch variable with the cell means integrated out,
and differentiated by hand.
"""

import math

import numpy as np

from bayescombat.fused.kernels import array_at, kernel
from bayescombat.fused.layout import positioned, unpacked
from bayescombat.fused.rows import (
    add,
    add_transposed,
    differences,
    given_data,
    marginal,
    normal,
    of_cells,
    precisions,
    residuals,
    shifted,
    squared,
    through_data,
    to_features,
    to_slopes,
)
from bayescombat.fused.sharing import (
    SQUARES,
    beside,
    of_shared_cells,
    shared_parts,
    stretch,
    taken_out,
    through_common,
    through_shared,
)

__all__ = ["hyper_parameters", "log_density_and_gradient"]


@kernel()
def hyper_parameters(positions, hyper):
    """Return what the effects of batches are drawn from: means and log sds, (kind, batch)."""
    _, bases, of_means, of_sds = hyper
    batches = bases.shape[1]
    mean, log_sd = np.zeros((2, batches)), np.empty((2, batches))
    for k in range(2):
        x = positions[k]
        along, _, _ = _given_data(x[1:batches], of_means[k], 0.0, x[0])
        away, _, _ = _given_data(x[batches + 2 :], of_sds[k], x[batches], x[batches + 1])
        for i in range(batches):
            for s in range(batches - 1):
                mean[k, i] += math.exp(x[0]) * bases[k, i, s] * along[s]
            log_sd[k, i] = x[batches] + math.exp(x[batches + 1]) * away[i]
    return mean, log_sd


@kernel()
def _given_data(x, known, mean, log_sd):
    """Return what `given_data` sets, where all values have one prior mean."""
    parts = np.empty((3, x.size))
    given_data(x, known, np.full(x.size, mean), log_sd, parts[0], parts[1], parts[2])
    return parts[0], parts[1], parts[2]


@kernel()
def _through_hyper(k, x, hyper, of_mean, of_log_sd, gradient):
    """Set the gradient of what one kind of effects is drawn from; return its log-density up to a constant."""
    blocks, bases, of_means, of_sds = hyper
    batches = of_mean.size
    of_along, of_zero, of_typical = np.zeros(batches - 1), np.empty(batches - 1), np.empty(batches)
    for s in range(batches - 1):
        for i in range(batches):
            of_along[s] += bases[k, i, s] * of_mean[i]
    score, left, away = _given_data(x[1:batches], of_means[k], 0.0, x[0])
    gradient[0], density = through_data(of_along, x[1:batches], score, left, away, x[0], gradient[1:batches], of_zero)
    typical, width = x[batches], x[batches + 1]
    score, left, away = _given_data(x[batches + 2 :], of_sds[k], typical, width)
    gradient[batches + 1], part = through_data(
        of_log_sd, x[batches + 2 :], score, left, away, width, gradient[batches + 2 :], of_typical
    )
    gradient[batches] = of_typical.sum()
    density += part
    for j, place in enumerate((0, batches, batches + 1)):
        gone = (x[place] - blocks[k, 2 * j]) / blocks[k, 2 * j + 1]
        density -= gone * gone / 2
        gradient[place] -= gone / blocks[k, 2 * j + 1]
    return density


@kernel(inline="always")
def log_density_and_gradient(x, data, gradient):
    """Return the log-density at a position on the unconstrained scale; set its gradient."""
    hyper, sds, shares, told, cells, sxy, mean_x, sxx, _, shared = unpacked(data)
    hypers, log_sigma, alpha, beta, partly, sampled, totals = positioned(x, data)
    of_hypers, of_log_sigma, of_alpha, of_beta, of_partly, of_sampled, of_totals = positioned(gradient, data)
    batches, _, features = sxy.shape
    mean, log_sd = hyper_parameters(hypers, hyper)
    of_mean, of_log_sd = np.empty((2, batches)), np.empty((2, batches))
    free, weight_of_squares, sharing = shared[-2], shared[-1][-1], len(shared[0]) > 0
    sampled = stretch(sampled.copy(), free[0], free[1])
    parts, scores, along, _, square = shared_parts(sampled, totals, mean, log_sd, shared)
    log_sigma, alpha, common = beside(log_sigma, alpha, mean, parts, shares)
    of_parts = np.empty_like(parts)
    density = data[10] + normal(log_sigma, sds[0], of_log_sigma) + normal(alpha, sds[1], of_alpha)
    density += normal(array_at(beta, 0, (beta.size,)), sds[2], array_at(of_beta, 0, (beta.size,)))
    of_slopes, slope, slopes = np.zeros(sxy.shape[1:]), np.empty(sxy.shape[1:]), np.zeros(sxy.shape[1:])
    add_transposed(beta, slopes)
    sigma, variance = squared(log_sigma)
    row = np.empty((14, features))
    z, left, gone, log_scale, precision, squares, away = row[0], row[1], row[2], row[3], row[4], row[5], row[6]
    known, excess, above, prior, scale, within, share = row[7], row[8], row[9], row[10], row[11], row[12], row[13]
    for i in range(batches):
        n, own, seen = cells[0, i], cells[1, i], cells[2, i]
        level, spread = mean[1, i], log_sd[1, i]
        shifted(log_sigma, level, prior)
        if sharing:
            add(parts[i, SQUARES], prior)
        given_data(partly[i], told[i], prior, spread, z, left, gone)
        precisions(z, prior, math.exp(spread), seen, log_scale, precision)
        differences(cells[3, i], alpha, sigma, mean[0, i], away)
        if sharing:
            taken_out(log_scale, sigma, parts[i], weight_of_squares, away, scale, precision, within)
        else:
            shifted(precision, 0.0, within)
        shifted(cells[4, i], 0.0, squares)
        residuals(slopes, mean_x[i], sxx[i], sxy[i], away, squares, slope)
        density += marginal(own, precision, variance, math.exp(2 * log_sd[0, i]), away, share, known, excess)
        if sharing:
            common_of = seen, parts[i], sigma, scale
            density += of_shared_cells(
                n, squares, within, log_scale, share, excess, away, known, common_of, of_parts[i], of_log_sigma, above
            )
        else:
            density += of_cells(n, squares, precision, log_scale, share, excess, above)
        of_log_sd[1, i], part = through_data(above, partly[i], z, left, gone, spread, of_partly[i], prior)
        density += part
        if sharing:
            add(prior, of_parts[i, SQUARES])
        of_mean[1, i], of_mean[0, i], of_log_sd[0, i] = to_features(
            prior, share, excess, away, known, sigma, mean[0, i], of_log_sigma, of_alpha
        )
        to_slopes(mean_x[i], slope, within, away, known, of_slopes)
    add_transposed(of_slopes, of_beta)
    through_common(shares, common, sigma, of_alpha, of_log_sigma, of_mean, of_parts)
    if sharing:
        scored = scores, along, square
        density += through_shared(sampled, scored, of_parts, log_sd, shared, of_sampled, of_totals, of_mean, of_log_sd)
        stretch(of_sampled, free[1], free[0])
    for k in range(2):
        density += _through_hyper(k, hypers[k], hyper, of_mean[k], of_log_sd[k], of_hypers[k])
    return density
