"""How much better one harmonization is than another by one metric, and how sure that is; arrays only."""

from typing import NamedTuple

import numpy as np
from scipy import stats

from bayescombat.evaluate.metrics import jackknife

__all__ = ["PROBABILITY", "Gain", "gain", "losses", "nominal_probability", "reach"]

PROBABILITY = 0.95
GUESSES = ("logistic regression", "random forest", "linear SVM")
TARGETS = ("effect", "effect size")


class Gain(NamedTuple):
    """By how much the first of two is better, and the bounds of its interval; NaN where there are none."""

    estimate: float
    lower: float
    upper: float

    @property
    def surely(self) -> int:
        """1 if the first is better, -1 if the second is, 0 if the interval does not say."""
        return int(self.lower > 0) - int(self.upper < 0)


def reach(folds: int, groups: int, probability: float = PROBABILITY) -> float:
    r"""Return how many standard deviations of the jackknife an interval reaches to either side.

    The jackknife takes the fits as they are; other training scans would have given others. Nadeau and Bengio (2003),
    doi:10.1023/A:1024068626366, correct the variance of a mean over J folds, :math:`\sigma^2 / J`, to
    :math:`\sigma^2 (1/J + n_2 / n_1)` for that, with :math:`n_2` test and :math:`n_1` training scans. With
    :math:`n_2 / n_1 = 1 / (J - 1)` that is a factor of :math:`1 + J / (J - 1)`, by which the variance of the jackknife
    is multiplied here. Quantiles are those of Student's t, a degree of freedom less than there are groups.

    Parameters
    ----------
    folds : int
        Of cross-validation.
    groups : int
        Of the jackknife.
    probability : float
        Of the interval.
    """
    return float(np.sqrt(1 + folds / (folds - 1)) * stats.t.ppf((1 + probability) / 2, groups - 1))


def nominal_probability(folds: int, groups: int) -> float:
    """Return the probability at which a normal interval reaches as far as `reach` says."""
    return float(2 * stats.norm.cdf(reach(folds, groups)) - 1)


def losses(values: np.ndarray, metric: str, direction: str, reference: float) -> np.ndarray:
    """Return how bad values of a metric are: the smaller, the better.

    Parameters
    ----------
    values : ndarray
        Of the metric.
    metric : str
        Its name; what stands after the last colon says what it is.
    direction : {"removal", "preservation"}
        Of removal less is better; for what guesses batches down to chance, below which it is misled rather than
        ignorant. Of preservation more is better, except for effects and their sizes: there the reference is.
    reference : float
        Chance, or what scans say within batches.
    """
    meaning = metric.rpartition(": ")[2]
    if direction == "removal":
        return np.maximum(values, reference) if meaning in GUESSES else values
    return np.abs(values - reference) if meaning in TARGETS else -values


def gain(first: np.ndarray, second: np.ndarray, left_out: tuple[np.ndarray, np.ndarray], width: float) -> Gain:
    """Return by how much less the first loses than the second.

    Parameters
    ----------
    first, second : ndarray, ()
        Losses.
    left_out : pair of ndarray, (group,)
        The same with each group of subjects left out: those that both lose or win by the same scans drop out.
    width : float
        As `reach` returns it.
    """
    estimate = float(second - first)
    half = width * jackknife(left_out[1] - left_out[0])
    return Gain(estimate, estimate - half, estimate + half)
