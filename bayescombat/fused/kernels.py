"""The log-density of the model and its gradient as one compiled function, for any study; arrays only.

The equations are those of `bayescombat.model`, written out for one batch variable with the cell means integrated out.
Data come in by a pointer, so that machine code is made once for all studies and kept on disk. Numba looks whether this
file has changed, not whether one that it imports has: whatever is compiled stands here.

Rows of a table are one batch's values over the features, and loops along a row are kept to few arrays each, so that the
compiler turns them into vector instructions. The elementary functions of the C library would prevent that, hence
`_exp` and `_log`.
"""

import math
from functools import cache
from typing import Any

import numpy as np
from numba import carray, cfunc, njit, types
from numba.extending import intrinsic

__all__ = ["BLOCK", "HEAD", "density", "expansion", "log_density_and_gradient"]

# Numbers that come before the arrays of a study: sizes, then constants.
HEAD = 6
# Numbers that tell of the priors of one kind of batch effects.
BLOCK = 7

# No flag here lets the compiler assume that numbers are finite.
FAST = {"reassoc", "nsz", "arcp", "contract"}
LOG2_E = 1 / math.log(2)
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding it leaves the nearest whole number in the last bits of a double.
SHIFT = 1.5 * 2.0**52
SHIFT_BITS = int(np.float64(SHIFT).view(np.int64))
ROOT_HALF_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))
LARGEST_EXPONENT = 708.0
POINTER = types.CPointer(types.float64)


@intrinsic
def _bits(typing: Any, number: Any) -> Any:
    """Return the bits of a double as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.int64)
    )


@intrinsic
def _number(typing: Any, bits: Any) -> Any:
    """Return the double that has these bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.float64)
    )


@njit(error_model="numpy", fastmath={"contract"})
def _exp(x: float) -> float:
    """Return the exponential, to 1e-15 of itself; beyond the range of doubles its nearest value within."""
    x = min(max(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    shifted = x * LOG2_E + SHIFT
    power = shifted - SHIFT
    r = (x - power * LN2_HIGH) - power * LN2_LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r + 1
    p = p * r + 1
    return p * _number((_bits(shifted) + 1023) << 52)


@njit(error_model="numpy", fastmath={"contract"})
def _log(x: float) -> float:
    """Return the logarithm of a positive normal number, to 1e-15."""
    bits = _bits(x)
    power = (bits - ROOT_HALF_BITS) >> 52
    m = _number(bits - (power << 52))
    exponent = _number(power + SHIFT_BITS) - SHIFT
    r = (m - 1) / (m + 1)
    s = r * r
    p = 1 / 21
    p = p * s + 1 / 19
    p = p * s + 1 / 17
    p = p * s + 1 / 15
    p = p * s + 1 / 13
    p = p * s + 1 / 11
    p = p * s + 1 / 9
    p = p * s + 1 / 7
    p = p * s + 1 / 5
    p = p * s + 1 / 3
    p = p * s
    return exponent * LN2_HIGH + (2 * r + (2 * r * p + exponent * LN2_LOW))


@njit(error_model="numpy", fastmath=FAST)
def _add_product(total, to, sign, coefficient, of, values, row):
    """Add coefficient × values to a row of the total; one coefficient for the whole row, or one for each feature."""
    if coefficient.shape[1] == 1:
        factor = sign * coefficient[of, 0]
        for v in range(values.shape[1]):
            total[to, v] += factor * values[row, v]
    else:
        for v in range(values.shape[1]):
            total[to, v] += sign * coefficient[of, v] * values[row, v]


@njit(error_model="numpy", fastmath=FAST)
def _normal(values, sd, gradient):
    """Return the log-density of Normal(0, sd) up to its constant; set the gradient."""
    square = 0.0
    for i in range(values.size):
        square += values[i] * values[i]
        gradient[i] = -values[i] / (sd * sd)
    return -square / (2 * sd * sd)


@njit(error_model="numpy", fastmath=FAST)
def _uncentred(partly, weight, mean, log_sd, score, root):
    """Set the z-scores of partly centred values, and the inverse of the standard deviation they are sampled with."""
    for v in range(partly.size):
        root[v] = _exp(-weight[v] * log_sd)
    for v in range(partly.size):
        score[v] = (partly[v] - weight[v] * mean[v]) * root[v]


@njit(error_model="numpy", fastmath=FAST)
def _through_centring(above, score, root, weight, log_sd, of_partly, of_mean):
    """Take the gradient of values back to what they are made of.

    Set that of the partly centred values and of the prior means; return that of the log prior sd, and the log-density
    of the partly centred values up to its constant.
    """
    sd = math.exp(log_sd)
    of_log_sd, density = 0.0, 0.0
    for v in range(above.size):
        of_score = above[v] * sd - score[v]
        of_partly[v] = of_score * root[v]
        of_log_sd += score[v] * (above[v] * sd - weight[v] * of_score) - weight[v]
        density -= score[v] * score[v] / 2 + weight[v] * log_sd
    for v in range(above.size):
        of_mean[v] = above[v] - weight[v] * of_partly[v]
    return of_log_sd, density


@njit(error_model="numpy")
def _hyper(x, block, weight, mean, log_sd, score, root):
    """Set the mean and the log standard deviation of every batch's effects, from their part of the position."""
    batches = mean.size
    spread, partly = x[0], x[1:batches]
    total = partly.sum()
    norm = total / (math.sqrt(batches) + batches)
    scale = math.exp((1 - block[6]) * spread)
    mean[: batches - 1] = scale * (partly - norm)
    mean[batches - 1] = -scale * total / math.sqrt(batches)
    typical = np.full(batches, x[batches])
    _uncentred(x[batches + 2 :], weight, typical, x[batches + 1], score, root)
    log_sd[:] = typical + math.exp(x[batches + 1]) * score


@njit(error_model="numpy")
def _through_hyper(x, block, weight, mean, score, root, of_mean, of_log_sd, gradient):
    """Set the gradient of that part of the position; return its log-density up to a constant."""
    batches = mean.size
    own, spread, typical, width = block[6], x[0], x[batches], x[batches + 1]
    scale = math.exp((1 - own) * spread)
    squares = (x[1:batches] ** 2).sum() * math.exp(-2 * own * spread)
    free = batches - 1
    density = -own * spread * free - squares / 2
    gradient[0] = own * (squares - free) + (1 - own) * (of_mean * mean).sum()
    common = of_mean[:free].sum() / (math.sqrt(batches) + batches) + of_mean[free] / math.sqrt(batches)
    gradient[1:batches] = scale * (of_mean[:free] - common) - x[1:batches] * math.exp(-2 * own * spread)
    of_typical = np.empty(batches)
    of_width, part = _through_centring(of_log_sd, score, root, weight, width, gradient[batches + 2 :], of_typical)
    density += part
    gradient[batches] = of_typical.sum()
    gradient[batches + 1] = of_width
    for k, place in enumerate((0, batches, batches + 1)):
        away = (x[place] - block[2 * k]) / block[2 * k + 1]
        density -= away * away / 2
        gradient[place] -= away / block[2 * k + 1]
    return density


@njit(error_model="numpy")
def _hypers(positions, blocks, weights):
    """Return what the effects of batches are drawn from, (gamma or log delta, batch)."""
    mean, log_sd, score, root = np.empty(weights.shape), np.empty(weights.shape), np.empty(weights.shape), np.empty(weights.shape)
    for k in range(2):
        _hyper(positions[k], blocks[k], weights[k], mean[k], log_sd[k], score[k], root[k])
    return mean, log_sd, score, root


@njit(error_model="numpy", fastmath=FAST)
def _squared(log_sigma):
    """Return sigma and its square."""
    sigma, square = np.empty(log_sigma.size), np.empty(log_sigma.size)
    for v in range(log_sigma.size):
        sigma[v] = _exp(log_sigma[v])
    for v in range(log_sigma.size):
        square[v] = sigma[v] * sigma[v]
    return sigma, square


@njit(error_model="numpy", fastmath=FAST)
def _shifted(values, shift, out):
    for v in range(values.size):
        out[v] = values[v] + shift


@njit(error_model="numpy", fastmath=FAST)
def _differences(mean_y, alpha, sigma, gamma_mean, away):
    """Set how far a batch's means are from expected at average covariates."""
    for v in range(mean_y.size):
        away[v] = mean_y[v] - alpha[v] - sigma[v] * gamma_mean


@njit(error_model="numpy", fastmath=FAST)
def _residuals(beta, mean_x, sxx, sxy, mean, squares, slope):
    """Take the slopes out of a batch's means and sums of squares; set half the latter's slope, downwards."""
    for k in range(beta.shape[0]):
        for v in range(mean.size):
            slope[k, v] = sxy[k, v]
        for j in range(beta.shape[0]):
            _add_product(slope, k, -1.0, sxx[k], j, beta, j)
        for v in range(mean.size):
            squares[v] -= beta[k, v] * (sxy[k, v] + slope[k, v])
        if mean_x.shape[1] == 1:
            for v in range(mean.size):
                mean[v] -= mean_x[k, 0] * beta[k, v]
        else:
            for v in range(mean.size):
                mean[v] -= mean_x[k, v] * beta[k, v]


@njit(error_model="numpy", fastmath=FAST)
def _precisions(score, expected, sd, seen, log_scale, precision):
    """Set the log scales of a batch's cells, and the precision of a scan; zero where there is none."""
    for v in range(score.size):
        log_scale[v] = expected[v] + sd * score[v]
    for v in range(score.size):
        precision[v] = seen[v] * _exp(-2 * log_scale[v])


@njit(error_model="numpy", fastmath=FAST)
def _marginal(own, precision, variance, factor, away, share, known, excess):
    """Integrate a batch's shifts out of the means of its cells; return that part of the log-density.

    Set the share of the prior in what the means vary (`share`), their precision (`known`), and how far their squares
    exceed expectation (`excess`).
    """
    density = 0.0
    for v in range(own.size):
        total = own[v] + factor * variance[v] * precision[v]
        share[v] = 1 - own[v] / total
        known[v] = precision[v] / total
    for v in range(own.size):
        excess[v] = away[v] * away[v] * known[v]
        density -= _log(own[v] + factor * variance[v] * precision[v]) + excess[v]
    return density / 2


@njit(error_model="numpy", fastmath=FAST)
def _of_cells(n, squares, precision, log_scale, share, excess, above):
    """Set the gradient of the likelihood by the log scales; return the part of sums of squares."""
    density = 0.0
    for v in range(n.size):
        explained = squares[v] * precision[v]
        density -= n[v] * log_scale[v] + explained / 2
        above[v] = explained - n[v] + share[v] + excess[v] * (1 - share[v])
    return density


@njit(error_model="numpy", fastmath=FAST)
def _to_features(of_mean, share, excess, away, known, sigma, gamma_mean, of_log_sigma, of_alpha):
    """Add a batch's gradient to that of the features; return its sums: by log delta, gamma's mean and log sd."""
    of_log_delta, of_gamma_mean, of_gamma_log_sd = 0.0, 0.0, 0.0
    for v in range(share.size):
        pull = away[v] * known[v]
        of_alpha[v] += pull
        of_gamma_mean += pull * sigma[v]
    for v in range(share.size):
        spread = share[v] * (excess[v] - 1)
        of_gamma_log_sd += spread
        of_log_delta += of_mean[v]
        of_log_sigma[v] += of_mean[v] + spread + away[v] * known[v] * sigma[v] * gamma_mean
    return of_log_delta, of_gamma_mean, of_gamma_log_sd


@njit(error_model="numpy", fastmath=FAST)
def _to_slopes(mean_x, slope, precision, away, known, of_beta):
    """Add a batch's gradient by the slopes, (direction, feature)."""
    for v in range(away.size):
        away[v] *= known[v]
    for k in range(of_beta.shape[0]):
        for v in range(away.size):
            of_beta[k, v] += precision[v] * slope[k, v]
        if mean_x.shape[1] == 1:
            for v in range(away.size):
                of_beta[k, v] += mean_x[k, 0] * away[v]
        else:
            for v in range(away.size):
                of_beta[k, v] += mean_x[k, v] * away[v]


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
    density = data[5] + _normal(log_sigma, sds[0], of_log_sigma) + _normal(alpha, sds[1], of_alpha)
    density += _normal(beta.reshape(beta.size), sds[2], of_beta.reshape(beta.size))
    slopes, of_slopes, slope = beta.T.copy(), np.zeros((directions, features)), np.empty((directions, features))
    sigma, variance = _squared(log_sigma)
    row = np.empty((11, features))
    z, inverse, log_scale, precision, squares = row[0], row[1], row[2], row[3], row[4]
    away, share, known, excess, above, prior = row[5], row[6], row[7], row[8], row[9], row[10]
    for i in range(batches):
        weight, n, own, seen = cells[0, i], cells[1, i], cells[2, i], cells[3, i]
        level, spread = mean[1, i], log_sd[1, i]
        _shifted(log_sigma, level, prior)
        _uncentred(partly[i], weight, prior, spread, z, inverse)
        _precisions(z, prior, math.exp(spread), seen, log_scale, precision)
        _differences(cells[4, i], alpha, sigma, mean[0, i], away)
        for v in range(features):
            squares[v] = cells[5, i, v]
        _residuals(slopes, mean_x[i], sxx[i], sxy[i], away, squares, slope)
        density += _marginal(own, precision, variance, math.exp(2 * log_sd[0, i]), away, share, known, excess)
        density += _of_cells(n, squares, precision, log_scale, share, excess, above)
        of_log_sd[1, i], part = _through_centring(above, z, inverse, weight, spread, of_partly[i], prior)
        density += part
        of_mean[1, i], of_mean[0, i], of_log_sd[0, i] = _to_features(
            prior, share, excess, away, known, sigma, mean[0, i], of_log_sigma, of_alpha
        )
        _to_slopes(mean_x[i], slope, precision, away, known, of_slopes)
    for k in range(directions):
        of_beta[:, k] += of_slopes[k]
    for k in range(2):
        density += _through_hyper(
            hypers[k], blocks[k], of_sd[k], mean[k], score[k], root[k], of_mean[k], of_log_sd[k], of_hypers[k]
        )
    return density


@njit(error_model="numpy")
def expand(x, data, out):
    """Set what a fit reports, in the order of `bayescombat.fused.packing.reported`."""
    blocks, of_sd, _, cells, sxy, _, _, units = _unpacked(data)
    hypers, log_sigma, alpha, beta, partly = _positioned(x, data)
    batches, directions, features = sxy.shape
    mean, log_sd, _, _ = _hypers(hypers, blocks, of_sd)
    location, scale = units[:features], units[features : 2 * features]
    whitener = units[2 * features :].reshape((-1, directions, directions))
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
        _shifted(log_sigma, level, prior)
        _uncentred(partly[i], cells[0, i], prior, spread, z, inverse)
        for v in range(features):
            out[place + v] = _exp(level + math.exp(spread) * z[v])
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


@intrinsic
def _doubles(typing: Any, pointer: Any) -> Any:
    """Return a pointer to anything as one to doubles."""
    return types.CPointer(types.float64)(types.voidptr), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.CPointer(types.float64))
    )


@njit(error_model="numpy")
def _study(pointer):
    """Return the numbers of a study, of which the first says how many there are."""
    doubles = _doubles(pointer)
    return carray(doubles, (int(carray(doubles, (1,))[0]),))


@njit(error_model="numpy", fastmath=FAST)
def _finite(values):
    # Zero times what is not finite is no number.
    total = 0.0
    for i in range(values.size):
        total += 0 * values[i]
    return total == 0


@cache
def density() -> Any:
    """Return the log-density and its gradient as a C function, compiled or from disk."""

    signature = types.int64(types.uint64, POINTER, POINTER, POINTER, types.voidptr)
    return cfunc(signature, cache=True, error_model="numpy")(_density)


@cache
def expansion() -> Any:
    """Return what sets the reported parameters of a position as a C function, compiled or from disk."""
    signature = types.int64(types.uint64, types.uint64, POINTER, POINTER, types.voidptr)
    return cfunc(signature, cache=True, error_model="numpy")(_expansion)


def _density(dimension, position, gradient, value, study):
    """Return zero, or one where the density or its gradient is no number."""
    size = int(dimension)
    slopes = carray(gradient, (size,))
    found = log_density_and_gradient(carray(position, (size,)), _study(study), slopes)
    value[0] = found
    return 0 if _finite(slopes) and math.isfinite(found) else 1


def _expansion(dimension, count, position, out, study):
    expand(carray(position, (int(dimension),)), _study(study), carray(out, (int(count),)))
    return 0
