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
    of_sd = data[place : place + 2 * batches].reshape((2, batches))
    place += of_sd.size
    bases = data[place : place + 2 * batches * (batches - 1)].reshape((2, batches, batches - 1))
    place += bases.size
    owns = data[place : place + 4 * (batches - 1)].reshape((2, 2, batches - 1))
    place += owns.size
    sds = data[place : place + 3]
    place += 3
    level = data[place : place + 2 * batches * features].reshape((2, batches, features))
    place += level.size
    cells = data[place : place + 7 * batches * features].reshape((7, batches, features))
    place += cells.size
    sxy = data[place : place + batches * directions * features].reshape((batches, directions, features))
    place += sxy.size
    mean_x = data[place : place + batches * directions * width].reshape((batches, directions, width))
    place += mean_x.size
    sxx = data[place : place + mean_x.size * directions].reshape((batches, directions, directions, width))
    place += sxx.size
    units = data[place : place + 2 * features + width * directions * directions]
    return (blocks, of_sd, bases, owns), level, sds, cells, sxy, mean_x, sxx, units, _shared(data, place + units.size)


@njit(error_model="numpy")
def _shared(data, place):
    """Return the arrays of what features share, from a place on; those of batches are empty if they share nothing."""
    features, scores, axes, factors, squares = int(data[2]), int(data[5]), int(data[6]), int(data[7]), int(data[8])
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
    of_squares = data[place : place + squares * features].reshape((squares, features))
    place += of_squares.size
    on_squares = data[place : place + batches * squares * squares].reshape((batches, squares, squares))
    place += on_squares.size
    square_mean = data[place : place + batches * squares].reshape((batches, squares))
    place += square_mean.size
    weight = data[place : place + features]
    place += features
    rest = data[place : place + 2 * batches].reshape((2, batches))
    stretched = data[place + 2 * batches :].reshape((2, int(data[9]) if factors else 0, batches, scores))
    known, of_mean, base, freedom = of_scores[0], of_scores[1], rest[0], rest[1]
    of_features = patterns, loadings, of_squares, on_squares, square_mean
    return known, of_mean, of_shifts, of_noise, *of_features, base, freedom, stretched, weight


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
