"""Where the compiled density finds a study's numbers, and what a position holds; arrays only."""

from numba import njit

__all__ = ["BLOCK", "HEAD", "positioned", "unpacked"]

# Numbers that come before the arrays of a study: sizes, then the constant of the density.
HEAD = 11
# Numbers that tell of the priors of one kind of batch effects.
BLOCK = 6


@njit(error_model="numpy")
def unpacked(data):
    """Return the arrays of a study; `bayescombat.fused.packing` puts them together in this order."""
    batches, features, directions, width = int(data[1]), int(data[2]), int(data[3]), int(data[4])
    place = HEAD
    blocks = data[place : place + 2 * BLOCK].reshape((2, BLOCK))
    place += blocks.size
    bases = data[place : place + 2 * batches * (batches - 1)].reshape((2, batches, batches - 1))
    place += bases.size
    of_means = data[place : place + 4 * (batches - 1)].reshape((2, 2, batches - 1))
    place += of_means.size
    of_sds = data[place : place + 4 * batches].reshape((2, 2, batches))
    place += of_sds.size
    sds = data[place : place + 3]
    place += 3
    shares = data[place : place + 2 * batches * features].reshape((2, batches, features))
    place += shares.size
    of_cells = data[place : place + shares.size].reshape((batches, 2, features))
    place += of_cells.size
    cells = data[place : place + 5 * batches * features].reshape((5, batches, features))
    place += cells.size
    sxy = data[place : place + batches * directions * features].reshape((batches, directions, features))
    place += sxy.size
    mean_x = data[place : place + batches * directions * width].reshape((batches, directions, width))
    place += mean_x.size
    sxx = data[place : place + mean_x.size * directions].reshape((batches, directions, directions, width))
    place += sxx.size
    units = data[place : place + 2 * features + width * directions * directions]
    hyper = blocks, bases, of_means, of_sds
    return hyper, sds, shares, of_cells, cells, sxy, mean_x, sxx, units, _shared(data, place + units.size)


@njit(error_model="numpy")
def _shared(data, place):
    """Return the arrays of what features share, from a place on; those of batches are empty if they share nothing."""
    features, scores, axes = int(data[2]), int(data[5]), int(data[6])
    factors, axes_of_squares = int(data[7]), int(data[8])
    batches = int(data[1]) if factors else 0
    of_scores = data[place : place + 2 * batches * scores].reshape((2, batches, scores))
    place += of_scores.size
    of_shifts = data[place : place + batches * axes * scores].reshape((batches, axes, scores))
    place += of_shifts.size
    of_noise = data[place : place + batches * factors * scores].reshape((batches, factors, scores))
    place += of_noise.size
    patterns = data[place : place + axes * features].reshape((axes, features))
    place += patterns.size
    loadings = data[place : place + factors * features].reshape((factors, features))
    place += loadings.size
    squares = data[place : place + axes_of_squares * features].reshape((axes_of_squares, features))
    place += squares.size
    of_axes = data[place : place + batches * axes_of_squares**2].reshape((batches, axes_of_squares, axes_of_squares))
    place += of_axes.size
    on_squares = data[place : place + batches * axes_of_squares].reshape((batches, axes_of_squares))
    place += on_squares.size
    size = features if factors else 0
    weight, freedom = data[place : place + size], data[place + size : place + size + batches]
    place += size + batches
    base = data[place : place + batches]
    stretch = data[place + batches :].reshape((2, int(data[9]), batches * scores))
    known, of_mean = of_scores[0], of_scores[1]
    of_squares = squares, of_axes, on_squares, freedom, weight
    return known, of_mean, of_shifts, of_noise, patterns, loadings, base, stretch, of_squares


@njit(error_model="numpy")
def positioned(x, data):
    """Split a position into hyper-parameters, features, cells and scores, as the model declares them."""
    batches, features, directions = int(data[1]), int(data[2]), int(data[3])
    scores, squares = int(data[5]), int(data[8])
    place = 4 * batches + 4
    hypers = x[:place].reshape((2, place // 2))
    sampled = x[place : place + batches * scores].reshape((batches, scores))
    place += sampled.size
    totals = x[place : place + batches * squares].reshape((batches, squares))
    place += totals.size
    log_sigma, alpha = x[place : place + features], x[place + features : place + 2 * features]
    place += 2 * features
    beta = x[place : place + features * directions].reshape((features, directions))
    return hypers, log_sigma, alpha, beta, x[place + beta.size :].reshape((batches, features)), sampled, totals
