"""What harmonization leaves of covariates and of the order of scans; arrays only."""

import numpy as np
from scipy import stats

from bayescombat.evaluate.within import NOTHING, by_pattern, centred, patterns, pooled_slopes, recoded, within_slopes

__all__ = ["effect_ratio", "group_effects", "rank_agreement", "shared_variance", "typical_effect"]


def effect_ratio(found: np.ndarray, expected: np.ndarray, x: np.ndarray, batch: np.ndarray) -> float:
    r"""Return how large the effects of a covariate are, over all features, of what they are within batches.

    .. math:: \sum_v b_v' S b_v^w \Big/ \sum_v {b_v^w}' S b_v^w

    with slopes b found by an analysis that knows no batch, and :math:`b^w` those within batches: one where they agree,
    zero where the effect was erased, above where batch effects add to it.

    Parameters
    ----------
    found, expected : ndarray, (column, feature)
        Slopes.
    x : ndarray, (obs, column)
        The covariate's columns, whose cross-products S within batches weigh them.
    batch : ndarray of int, (obs,)
        Codes.
    """
    inner = centred(x, batch)
    weighed = inner.T @ inner @ expected
    size = float((expected * weighed).sum())
    return float((found * weighed).sum()) / size if size > NOTHING else 0.0


def group_effects(values: np.ndarray, x: np.ndarray, columns: np.ndarray, batch: np.ndarray | None) -> np.ndarray:
    """Return effects of groups in residual standard deviations, (column, feature).

    Parameters
    ----------
    values : ndarray, (obs, feature)
        NaN where a cell is missing.
    x : ndarray, (obs, column)
        All covariates.
    columns : ndarray of int
        Those that say which group a scan is of.
    batch : ndarray of int, (obs,), optional
        Codes, for effects within batches; without, batches are not known.

    Notes
    -----
    Cohen's d, adjusted for the other covariates (Nakagawa and Cuthill 2007, doi:10.1111/j.1469-185X.2007.00027.x). A
    feature that does not vary has the effect zero.
    """
    groups = np.zeros(len(x), dtype=np.int64) if batch is None else batch
    slopes = pooled_slopes(values, x) if batch is None else within_slopes(values, x, batch)

    def spread(y: np.ndarray, rows: np.ndarray) -> np.ndarray:
        group = recoded(groups[rows])
        inner = centred(x[rows], group)
        rest = centred(y, group)
        rest = rest - inner @ (np.linalg.pinv(inner, rcond=1e-10) @ rest)
        return np.asarray(np.sqrt((rest**2).sum(axis=0) / max(len(rows) - group.max() - 1 - x.shape[1], 1)))

    sd = by_pattern(values, spread)
    return np.where(sd**2 > NOTHING, slopes[columns] / np.where(sd**2 > NOTHING, sd, 1.0), 0.0)


def typical_effect(effects: np.ndarray) -> float:
    """Return the root mean square of effects (column, feature)."""
    return float(np.sqrt((effects**2).mean()))


def rank_agreement(before: np.ndarray, after: np.ndarray, batch: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """Return the rank correlation of values before and after, (feature,), of scans of the same batch and fold.

    Spearman's coefficient (1904, doi:10.2307/1412159) with ranks from zero to one in every batch and fold, pooled over
    these. A feature that does not vary has none of its order left: zero.
    """
    cell = batch * (fold.max() + 1) + fold
    one, other = (_ranks(np.round(values, 10), cell) for values in (before, after))
    size = np.sqrt((one**2).sum(axis=0) * (other**2).sum(axis=0))
    return np.where(size > 0, (one * other).sum(axis=0) / np.where(size > 0, size, 1.0), 0.0)


def _ranks(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return ranks in every group, from -1/2 to 1/2, with average ranks for ties; zero for missing cells."""
    found = np.zeros(values.shape)
    for code in np.unique(groups):
        mine = np.flatnonzero(groups == code)
        for rows, columns in patterns(values[mine]):
            part = np.ix_(mine[rows], columns)
            found[part] = stats.rankdata(values[part], axis=0) / (len(rows) + 1) - 0.5
    return found


def shared_variance(numbers: np.ndarray, predicted: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of variance that predictions explain, R², of deviations from the mean of each group.

    Below zero where predictions are worse than the mean. Groups are codes (obs,): one for all, or batches.
    """
    rest = centred((numbers - predicted)[:, None], groups)
    total = float((centred(numbers[:, None], groups) ** 2).sum())
    return 1 - float((rest**2).sum()) / total if total > 0 else 0.0
