"""What the density does to one batch's row of features, in loops that become vector instructions; arrays only.

Each loop writes few arrays, since the compiler has to prove that none of them overlap.
"""

import math

import numpy as np

from bayescombat.fused.elementary import exp, log
from bayescombat.fused.kernels import FAST, kernel

__all__ = [
    "add",
    "add_transposed",
    "differences",
    "finite",
    "given_data",
    "marginal",
    "normal",
    "of_cells",
    "precisions",
    "residuals",
    "shifted",
    "squared",
    "through_data",
    "to_features",
    "to_slopes",
]


@kernel(fastmath=FAST)
def _add_product(total, to, sign, coefficient, of, values, row):
    """Add coefficient × values to a row of the total; one coefficient for the whole row, or one for each feature."""
    if coefficient.shape[1] == 1:
        factor = sign * coefficient[of, 0]
        for v in range(values.shape[1]):
            total[to, v] += factor * values[row, v]
    else:
        for v in range(values.shape[1]):
            total[to, v] += sign * coefficient[of, v] * values[row, v]


@kernel(fastmath=FAST)
def normal(values, sd, gradient):
    """Return the log-density of Normal(0, sd) up to its constant; set the gradient."""
    square = 0.0
    for i in range(values.size):
        square += values[i] * values[i]
        gradient[i] = -values[i] / (sd * sd)
    return -square / (2 * sd * sd)


@kernel(fastmath=FAST)
def given_data(x, known, mean, log_sd, score, left, away):
    """Set the z-scores of values that are sampled as z-scores given the data.

    Set beside them the share that the prior has in the values' precision (`left`), and how far from the prior mean the
    values are expected (`away`). `known` is the information of the data, and that times its estimate.
    """
    sd, square = math.exp(log_sd), math.exp(2 * log_sd)
    for v in range(x.size):
        left[v] = 1 / (1 + square * known[0, v])
        away[v] = square * (known[1, v] - known[0, v] * mean[v])
    for v in range(x.size):
        away[v] *= left[v]
        score[v] = away[v] / sd + math.sqrt(left[v]) * x[v]


@kernel(fastmath=FAST)
def through_data(above, x, score, left, away, log_sd, of_x, of_mean):
    """Take the gradient of values back to what they are made of.

    Set that of what they are sampled as and of the prior means; return that of the log prior sd, and the log-density
    of what they are sampled as up to its constant.
    """
    sd = math.exp(log_sd)
    of_log_sd, density = 0.0, 0.0
    for v in range(x.size):
        of_x[v] = math.sqrt(left[v]) * (above[v] * sd - score[v])
    for v in range(x.size):
        of_mean[v] = above[v] * left[v] + score[v] * (1 - left[v]) / sd
    for v in range(x.size):
        own = math.sqrt(left[v]) * x[v]
        of_value = left[v] * (2 * away[v] + sd * own)
        of_score = away[v] / sd * (2 * left[v] - 1) - (1 - left[v]) * own
        of_log_sd += above[v] * of_value - score[v] * of_score - (1 - left[v])
        density += log(left[v]) - score[v] * score[v]
    return of_log_sd, density / 2


@kernel(fastmath=FAST)
def squared(log_sigma):
    """Return sigma and its square."""
    sigma, square = np.empty(log_sigma.size), np.empty(log_sigma.size)
    for v in range(log_sigma.size):
        sigma[v] = exp(log_sigma[v])
    for v in range(log_sigma.size):
        square[v] = sigma[v] * sigma[v]
    return sigma, square


@kernel(fastmath=FAST)
def shifted(values, shift, out):
    """Set the values moved by a shift."""
    for v in range(values.size):
        out[v] = values[v] + shift


@kernel(fastmath=FAST)
def add(values, to):
    """Add values to others."""
    for v in range(values.size):
        to[v] += values[v]


@kernel()
def add_transposed(values, to):
    """Add values to others whose axes are in the other order."""
    for i in range(values.shape[0]):
        for k in range(values.shape[1]):
            to[k, i] += values[i, k]


@kernel(fastmath=FAST)
def differences(mean_y, alpha, sigma, gamma_mean, away):
    """Set how far a batch's means are from expected at average covariates."""
    for v in range(mean_y.size):
        away[v] = mean_y[v] - alpha[v] - sigma[v] * gamma_mean


@kernel(fastmath=FAST)
def residuals(beta, mean_x, sxx, sxy, mean, squares, slope):
    """Take the slopes out of a batch's means and sums of squares; set half the latter's slope, downwards."""
    directions = beta.shape[0]
    shared = mean_x.shape[1] == 1
    for k in range(directions):
        if shared:
            own = sxx[k, k, 0]
            for v in range(mean.size):
                slope[k, v] = sxy[k, v] - own * beta[k, v]
        else:
            for v in range(mean.size):
                slope[k, v] = sxy[k, v] - sxx[k, k, v] * beta[k, v]
        for j in range(directions):
            if j != k:
                _add_product(slope, k, -1.0, sxx[k], j, beta, j)
        if shared:
            at = mean_x[k, 0]
            for v in range(mean.size):
                squares[v] -= beta[k, v] * (sxy[k, v] + slope[k, v])
                mean[v] -= at * beta[k, v]
        else:
            for v in range(mean.size):
                squares[v] -= beta[k, v] * (sxy[k, v] + slope[k, v])
                mean[v] -= mean_x[k, v] * beta[k, v]


@kernel(fastmath=FAST)
def precisions(score, expected, sd, seen, log_scale, precision):
    """Set the log scales of a batch's cells, and the precision of a scan; zero where there is none."""
    for v in range(score.size):
        log_scale[v] = expected[v] + sd * score[v]
    for v in range(score.size):
        precision[v] = seen[v] * exp(-2 * log_scale[v])


@kernel(fastmath=FAST)
def marginal(own, precision, variance, factor, away, share, known, excess):
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
        density -= log(own[v] + factor * variance[v] * precision[v]) + excess[v]
    return density / 2


@kernel(fastmath=FAST)
def of_cells(n, squares, precision, log_scale, share, excess, above):
    """Set the gradient of the likelihood by the log scales; return the part of sums of squares."""
    density = 0.0
    for v in range(n.size):
        explained = squares[v] * precision[v]
        density -= n[v] * log_scale[v] + explained / 2
        above[v] = explained - n[v] + share[v] + excess[v] * (1 - share[v])
    return density


@kernel(fastmath=FAST)
def to_features(of_mean, share, excess, away, known, sigma, gamma_mean, of_log_sigma, of_alpha):
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


@kernel(fastmath=FAST)
def to_slopes(mean_x, slope, precision, away, known, of_beta):
    """Add a batch's gradient by the slopes, (direction, feature)."""
    for v in range(away.size):
        away[v] *= known[v]
    for k in range(of_beta.shape[0]):
        if mean_x.shape[1] == 1:
            at = mean_x[k, 0]
            for v in range(away.size):
                of_beta[k, v] += precision[v] * slope[k, v] + at * away[v]
        else:
            for v in range(away.size):
                of_beta[k, v] += precision[v] * slope[k, v] + mean_x[k, v] * away[v]


@kernel(fastmath=FAST)
def finite(values):
    """Whether all values are finite."""
    # Zero times what is not finite is no number.
    total = 0.0
    for i in range(values.size):
        total += 0 * values[i]
    return total == 0
