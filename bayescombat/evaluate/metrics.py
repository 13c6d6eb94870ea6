"""The metrics of one table that stand for themselves, by name; those of classifiers are added in `measuring`."""

from collections.abc import Callable, Mapping

import numpy as np

from bayescombat.evaluate.distances import covariance_share, distances_within_folds, energy_share, rotated
from bayescombat.evaluate.folds import dealt
from bayescombat.evaluate.preservation import (
    effect_ratio,
    group_effects,
    rank_agreement,
    shared_variance,
    typical_effect,
)
from bayescombat.evaluate.removal import batch_shares, component_shares, principal_scores
from bayescombat.evaluate.tables import Plan
from bayescombat.evaluate.travelling import intraclass_correlations, recognised
from bayescombat.evaluate.within import NOTHING, filled, pooled_slopes, recoded, residuals, within_slopes

__all__ = ["GROUPS", "Numbers", "groups_left_out", "jackknife", "preservation", "removal", "without_groups"]

GROUPS = 20

type Numbers = dict[str, float]


def removal(values: np.ndarray, x: np.ndarray, batch: np.ndarray, fold: np.ndarray, seed: int) -> Numbers:
    """Return how far batches still differ, by four shares that are zero if they do not.

    Parameters
    ----------
    values : ndarray, (obs, feature)
        Standardised; NaN where a cell is missing.
    x : ndarray, (obs, column)
        What may differ between batches.
    batch, fold : ndarray of int, (obs,)
        Codes. Scans of one fold were harmonized by one fit.
    seed : int
        Of what missing cells are filled by.
    """
    batch = recoded(batch)
    complete = residuals(filled(values, seed), x, batch)
    scores, weight = principal_scores(complete)
    of_components = component_shares(scores, batch, fold)
    complete = rotated(complete)
    return {
        "share of variance": float(np.median(batch_shares(values, x, batch, fold))),
        "share of components": float(weight @ of_components / max(weight.sum(), NOTHING)),
        "share of covariances": covariance_share(complete, batch),
        "share of distances": energy_share(distances_within_folds(complete, fold, seed), batch),
    }


def preservation(values: np.ndarray, raw: np.ndarray, scans: Plan, predicted: Mapping[str, np.ndarray]) -> Numbers:
    """Return what is left of covariates, of the order of scans, and of subjects with several of them.

    Parameters
    ----------
    values, raw : ndarray, (obs, feature)
        Standardised, harmonized and raw; NaN where a cell is missing.
    scans : Plan
        Of just these scans.
    predicted : mapping of ndarray, (obs,)
        Traits as predicted, by name.
    """
    batch, everyone = scans.cells, np.zeros_like(scans.cells)
    slopes, expected = pooled_slopes(values, scans.x), within_slopes(raw, scans.x, batch)
    found: Numbers = {}
    for trait in scans.traits:
        name, columns = trait.name, trait.columns
        if len(columns):
            found[f"{name}: effect"] = effect_ratio(slopes[columns], expected[columns], scans.x[:, columns], batch)
        if trait.levels and len(columns):
            found[f"{name}: effect size"] = typical_effect(group_effects(values, scans.x, columns, None))
        if trait.values is not None and not trait.levels:
            found[f"{name}: R² of prediction"] = shared_variance(trait.values, predicted[name], everyone)
            found[f"{name}: R² within batches"] = shared_variance(trait.values, predicted[name], batch)
    found["order within batches"] = float(rank_agreement(raw, values, batch, scans.learned_apart).mean())
    return found | _of_subjects(values, scans)


def _of_subjects(values: np.ndarray, scans: Plan) -> Numbers:
    """Return how alike repeated scans of a subject are, and how often they are known for its own."""
    if len(np.unique(scans.units)) == len(scans.units):
        return {}
    found = {"subjects: intraclass correlation": float(np.mean(intraclass_correlations(values, scans.units)))}
    known = recognised(rotated(filled(values, scans.seed)), scans.units, scans.cells)
    if not np.isnan(known).all():
        found["subjects: recognised"] = float(np.nanmean(known))
    return found


def groups_left_out(units: np.ndarray, cells: np.ndarray, seed: int) -> np.ndarray:
    """Return twenty groups of subjects (obs,), or as many as there are subjects, with about their share of every batch.

    The same scans make the same groups, whatever the table: so differences between tables can be taken group by group.
    """
    return dealt(recoded(units), cells[:, None], GROUPS, np.random.default_rng(seed))


def without_groups(
    statistic: Callable[[np.ndarray], Numbers], group: np.ndarray, whole: Numbers
) -> dict[str, np.ndarray]:
    """Return statistics with each group of scans left out in turn, (group,) each.

    Parameters
    ----------
    statistic : callable
        Of the positions of the scans that are kept.
    group : ndarray of int, (obs,)
        As `groups_left_out` returns them.
    whole : dict of float
        The statistics of all; what a group's absence makes impossible to compute keeps that value.
    """
    found = [statistic(np.flatnonzero(group != number)) for number in np.unique(group)]
    return {name: np.array([one.get(name, value) for one in found]) for name, value in whole.items()}


def jackknife(left_out: np.ndarray) -> float:
    r"""Return the standard deviation of a statistic over other samples of scans, harmonized as these were.

    .. math:: \Big(\frac{G - 1}{G} \sum_g (\hat\theta_{(g)} - \bar\theta)^2\Big)^{1/2}

    by the delete-a-group jackknife (Efron and Stein 1981, doi:10.1214/aos/1176345462; Shao and Wu 1989,
    doi:10.1214/aos/1176347263).

    Parameters
    ----------
    left_out : ndarray, (group,)
        The statistic as `without_groups` returns it, or the difference of two tables.
    """
    return float(np.sqrt((len(left_out) - 1) * np.var(left_out)))
