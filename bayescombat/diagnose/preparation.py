"""What a diagnosis says of how a table was prepared: codes among covariates, and features standardised beforehand."""

import numpy as np
import pandas as pd

from bayescombat.columns import inferred, is_numeric
from bayescombat.diagnose.findings import Finding, counted, several
from bayescombat.diagnose.scans import covariates_of
from bayescombat.study import Study

__all__ = ["codes_among_covariates", "of_preparation"]

# A code for what is not known is rare, and farther from all other values than twice the range of these.
APART = 2.0
RARE = 0.2
FEWEST_VALUES = 3
# How far means of batches may lie from each other, in standard deviations, where rounding alone parts them; of some
# features they do so by chance.
ROUNDING = 1e-3
MOST_FEATURES = 0.5


def of_preparation(study: Study) -> list[Finding]:
    """Return what is to be said of codes among covariates, and of features that look standardised by batch."""
    sources = covariates_of(study)
    items = []
    for name in sources:
        values = inferred(sources[name])
        codes = codes_among_covariates(values.to_numpy(dtype=float)) if is_numeric(values) else []
        if codes:
            items.append(_of_codes(str(name), values, codes))
    return [*items, *_standardised(study)]


def codes_among_covariates(values: np.ndarray) -> list[float]:
    """Return values of a covariate, at most one at either end, that look like codes for what is not known.

    Parameters
    ----------
    values : ndarray, (obs,)
        A covariate of numbers.

    Examples
    --------
    >>> codes_among_covariates(np.array([1.0, 2, 2, 1, 1, 2, 1, 2, 2, 9]))
    [9.0]
    >>> codes_among_covariates(np.array([8.0, 12, 15, 22, 31, 64]))
    []
    """
    distinct, counts = np.unique(values[~np.isnan(values)], return_counts=True)
    if len(distinct) < FEWEST_VALUES:
        return []
    ends = [(0, distinct[1] - distinct[0], np.ptp(distinct[1:]))]
    ends.append((-1, distinct[-1] - distinct[-2], np.ptp(distinct[:-1])))
    return [
        float(distinct[end]) for end, gap, rest in ends if gap > APART * rest and counts[end] <= RARE * counts.sum()
    ]


def _of_codes(name: str, values: pd.Series, codes: list[float]) -> Finding:
    numbers = values.to_numpy(dtype=float)
    others = numbers[~np.isin(numbers, codes)]
    shown = [f"{code:g} in {counted(int((numbers == code).sum()), 'scan')}" for code in codes]
    words = (
        f"{name!r} is {several(shown)}, where all others are {others.min():g} to {others.max():g}: it may be a code "
        "for what is not known, or a slip, and is taken for a number."
    )
    advice = f"Put it right or drop these scans; if the numbers are names of groups, write C({name})."
    return Finding("codes", "look", words, advice)


def _standardised(study: Study) -> list[Finding]:
    """Return whether most features have the same mean in every batch."""
    y = pd.DataFrame(study.y)
    means = y.groupby(study.codes).mean()
    alike = (means.max() - means.min()) < ROUNDING * y.std()
    if alike.mean() < MOST_FEATURES:
        return []
    words = (
        f"{counted(int(alike.sum()), 'feature')} with the same mean in every batch: the table looks as if it was "
        "centred or harmonized batch by batch before. With the batches went what their covariates differ in, which "
        "no fit can bring back."
    )
    return [Finding("standardised", "look", words, "Begin with the measurements as they came from the scanner.")]
