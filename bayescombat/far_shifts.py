"""Shifts that a fit takes for noise: what a batch's scans say against what the fit says. Arrays only.

Shifts of a batch are normal over the features a priori, its log scales too, so that scales have the heavier tail. Where
few scans of a batch agree on a shift of one feature that is far beyond its others, a large scale explains them better.
"""

from collections.abc import Sequence

import numpy as np

from bayescombat.errors import listing
from bayescombat.shrinkage import Hats

__all__ = ["said_of_far_shifts", "taken_for_noise"]

# How much of a shift is lost, in units of a feature's typical noise in the batch, and how much wider than the scans
# themselves the fit takes the noise to be. Shrinkage alone does neither.
LOST = 3.0
WIDER = 2.0


def taken_for_noise(hats: Hats, gamma: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """Tell which shifts a fit takes for noise although the scans agree on them, (batch, feature).

    Parameters
    ----------
    hats : Hats
        Effects before shrinkage.
    gamma, delta : ndarray, (batch, feature)
        Shifts in units of sigma, and scales, as the fit says.

    Examples
    --------
    >>> hats = Hats(np.array([[6.0, 0.1]]), np.ones((1, 2)), np.full((1, 1), 3), np.full((1, 1), 2))
    >>> taken_for_noise(hats, np.array([[0.2, 0.1]]), np.array([[3.7, 1.0]]))
    array([[ True, False]])
    """
    typical = np.exp(np.median(np.log(delta), axis=1, keepdims=True))
    lost = np.abs(hats.gamma) - np.abs(gamma) > LOST * np.maximum(typical, 1.0)
    return np.asarray(lost & (delta > WIDER * np.sqrt(hats.delta2)) & (hats.freedom > 0))


def said_of_far_shifts(
    hats: Hats,
    gamma: np.ndarray,
    delta: np.ndarray,
    batches: Sequence[str],
    features: Sequence[str],
) -> str:
    """Return what is to be said of shifts that are taken for noise; nothing if there are none."""
    found = taken_for_noise(hats, gamma, delta)
    if not found.any():
        return ""
    rows, columns = np.nonzero(found)
    order = np.argsort(-np.abs(hats.gamma[rows, columns]), kind="stable")
    cells = [
        f"{features[v]} of {batches[i]} ({hats.gamma[i, v]:.1f} by its scans, {gamma[i, v]:.1f} by the fit)"
        for i, v in zip(rows[order], columns[order], strict=True)
    ]
    return (
        "Shifts in units of sigma that the scans of a batch agree on and that the fit takes for noise, since they are "
        f"far beyond those of its other features: {listing(cells)}. Do not lean on these. Compare with mean_only=True "
        "or method='eb'."
    )
