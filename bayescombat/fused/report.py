"""The parameters that a fit reports, of a position; arrays only."""

import math

import numpy as np

from bayescombat.fused.density import hyper_parameters
from bayescombat.fused.elementary import exp
from bayescombat.fused.kernels import array_at, kernel
from bayescombat.fused.layout import positioned, unpacked
from bayescombat.fused.rows import add, given_data, shifted
from bayescombat.fused.sharing import SHIFT, SQUARES, beside, shared_parts, stretch

__all__ = ["expand"]


@kernel(inline="always")
def expand(x, data, out):
    """Set what a fit reports, in the order of `bayescombat.fused.packing.reported`."""
    hyper, _, shares, told, _, sxy, mean_x, _, units, shared = unpacked(data)
    hypers, log_sigma, alpha, beta, partly, sampled, totals = positioned(x, data)
    batches, directions, features = sxy.shape
    mean, log_sd = hyper_parameters(hypers, hyper)
    sampled = stretch(sampled.copy(), shared[-2][0], shared[-2][1])
    parts, _, _, scans, _ = shared_parts(sampled, totals, mean, log_sd, shared)
    log_sigma, alpha, _ = beside(log_sigma, alpha, mean, parts, shares)
    location, scale = array_at(units, 0, (features,)), array_at(units, features, (features,))
    whitener = array_at(units, 2 * features, (mean_x.shape[2], directions, directions))
    row = np.empty((5, features))
    prior, z, left, away, log_scale = row[0], row[1], row[2], row[3], row[4]
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
        if len(parts):
            add(parts[i, SQUARES], prior)
        given_data(partly[i], told[i], prior, spread, z, left, away)
        for v in range(features):
            log_scale[v] = level + math.exp(spread) * z[v]
        for v in range(features):
            out[place + v] = exp(log_scale[v])
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
    for i in range(len(parts)):
        for v in range(features):
            out[place + v] = parts[i, SHIFT, v]
        place += features
    for i in range(len(parts)):
        for k in range(scans.shape[1]):
            out[place + k] = scans[i, k]
        place += scans.shape[1]
