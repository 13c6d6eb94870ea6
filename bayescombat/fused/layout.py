"""Where the compiled density finds a study's numbers, and what a position holds; arrays only."""

from bayescombat.fused.kernels import array_at, kernel

__all__ = ["BLOCK", "HEAD", "positioned", "unpacked"]

# Numbers that come before the arrays of a study: sizes, then the constant of the density.
HEAD = 10
# Numbers that tell of the priors of one kind of batch effects.
BLOCK = 7


@kernel()
def unpacked(data):
    """Return the arrays of a study; `bayescombat.fused.packing` puts them together in this order."""
    batches, features, directions, width = int(data[1]), int(data[2]), int(data[3]), int(data[4])
    place = HEAD
    blocks = array_at(data, place, (2, BLOCK))
    place += blocks.size
    of_sd = array_at(data, place, (2, batches))
    place += of_sd.size
    sds = array_at(data, place, (3,))
    place += sds.size
    cells = array_at(data, place, (6, batches, features))
    place += cells.size
    sxy = array_at(data, place, (batches, directions, features))
    place += sxy.size
    mean_x = array_at(data, place, (batches, directions, width))
    place += mean_x.size
    sxx = array_at(data, place, (batches, directions, directions, width))
    place += sxx.size
    units = array_at(data, place, (2 * features + width * directions * directions,))
    return blocks, of_sd, sds, cells, sxy, mean_x, sxx, units, _shared(data, place + units.size)


@kernel()
def _shared(data, place):
    """Return the arrays of what features share, from a place on; those of batches are empty if they share nothing."""
    features, scores, axes, factors, squares = int(data[2]), int(data[5]), int(data[6]), int(data[7]), int(data[8])
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
    of_squares = array_at(data, place, (squares, features))
    place += of_squares.size
    square_mean = array_at(data, place, (squares,))
    weight = array_at(data, place + squares, (features if batches else 0,))
    rest = array_at(data, place + squares + weight.size, (3, batches))
    known, of_mean, base, freedom, share = of_scores[0], of_scores[1], rest[0], rest[1], rest[2]
    of_features = patterns, loadings, of_squares, square_mean
    return known, of_mean, of_shifts, of_noise, *of_features, base, freedom, share, weight


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
