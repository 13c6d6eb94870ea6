"""Where the compiled density finds a study's numbers, and what a position holds; arrays only."""

from bayescombat.fused.kernels import array_at, kernel

__all__ = ["BLOCK", "HEAD", "positioned", "unpacked"]

# Numbers that come before the arrays of a study: sizes, then the constant of the density.
HEAD = 11
# Numbers that tell of the priors of one kind of batch effects.
BLOCK = 6


@kernel()
def unpacked(data):
    """Return the arrays of a study; `bayescombat.fused.packing` puts them together in this order."""
    batches, features, directions, width = int(data[1]), int(data[2]), int(data[3]), int(data[4])
    place = HEAD
    blocks = array_at(data, place, (2, BLOCK))
    place += blocks.size
    bases = array_at(data, place, (2, batches, batches - 1))
    place += bases.size
    of_means = array_at(data, place, (2, 2, batches - 1))
    place += of_means.size
    of_sds = array_at(data, place, (2, 2, batches))
    place += of_sds.size
    sds = array_at(data, place, (3,))
    place += sds.size
    shares = array_at(data, place, (2, batches, features))
    place += shares.size
    of_cells = array_at(data, place, (batches, 2, features))
    place += of_cells.size
    cells = array_at(data, place, (5, batches, features))
    place += cells.size
    sxy = array_at(data, place, (batches, directions, features))
    place += sxy.size
    mean_x = array_at(data, place, (batches, directions, width))
    place += mean_x.size
    sxx = array_at(data, place, (batches, directions, directions, width))
    place += sxx.size
    units = array_at(data, place, (2 * features + width * directions * directions,))
    hyper = blocks, bases, of_means, of_sds
    return hyper, sds, shares, of_cells, cells, sxy, mean_x, sxx, units, _shared(data, place + units.size)


@kernel()
def _shared(data, place):
    """Return the arrays of what features share, from a place on; those of batches are empty if they share nothing."""
    features, scores, axes = int(data[2]), int(data[5]), int(data[6])
    factors, axes_of_squares = int(data[7]), int(data[8])
    batches = int(data[1]) if factors else 0
    of_scores = array_at(data, place, (2, batches, scores))
    place += of_scores.size
    of_shifts = array_at(data, place, (batches, axes, scores))
    place += of_shifts.size
    of_noise = array_at(data, place, (batches, factors, scores))
    place += of_noise.size
    patterns = array_at(data, place, (axes, features))
    place += patterns.size
    loadings = array_at(data, place, (factors, features))
    place += loadings.size
    squares = array_at(data, place, (axes_of_squares, features))
    place += squares.size
    of_axes = array_at(data, place, (batches, axes_of_squares, axes_of_squares))
    place += of_axes.size
    on_squares = array_at(data, place, (batches, axes_of_squares))
    place += on_squares.size
    size = features if factors else 0
    weight, freedom = array_at(data, place, (size,)), array_at(data, place + size, (batches,))
    place += size + batches
    base = array_at(data, place, (batches,))
    stretch = array_at(data, place + batches, (2, int(data[9]), batches * scores))
    known, of_mean = of_scores[0], of_scores[1]
    of_squares = squares, of_axes, on_squares, freedom, weight
    return known, of_mean, of_shifts, of_noise, patterns, loadings, base, stretch, of_squares


@kernel()
def positioned(x, data):
    """Split a position into hyper-parameters, features, cells and scores, as the model declares them."""
    batches, features, directions = int(data[1]), int(data[2]), int(data[3])
    scores, squares = int(data[5]), int(data[8])
    hypers = array_at(x, 0, (2, 2 * batches + 2))
    place = hypers.size
    sampled = array_at(x, place, (batches, scores))
    place += sampled.size
    totals = array_at(x, place, (batches, squares))
    place += totals.size
    log_sigma, alpha = array_at(x, place, (features,)), array_at(x, place + features, (features,))
    place += 2 * features
    beta = array_at(x, place, (features, directions))
    partly = array_at(x, place + beta.size, (batches, features))
    return hypers, log_sigma, alpha, beta, partly, sampled, totals
