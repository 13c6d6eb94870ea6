"""Every metric of every table: estimate, how sure it is, and what chance or the batches by themselves say."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy import stats

from bayescombat.evaluate.chance import STATISTICS, chance_shares, standardised
from bayescombat.evaluate.classification import CLASSIFIERS, balanced_accuracy, chance_accuracies, recalls
from bayescombat.evaluate.folds import Exchange
from bayescombat.evaluate.metrics import Numbers, groups_left_out, jackknife, preservation, removal, without_groups
from bayescombat.evaluate.preservation import group_effects, shared_variance, typical_effect
from bayescombat.evaluate.removal import batch_shares, location_tests, scale_tests
from bayescombat.evaluate.tables import Plan, Tables
from bayescombat.evaluate.travelling import intraclass_correlations
from bayescombat.evaluate.within import (
    centred,
    filled,
    from_folds,
    pooled_slopes,
    recoded,
    residuals,
    within_slopes,
)

__all__ = ["Measured", "Score", "measured"]

FALSE_DISCOVERIES = 0.05
TESTS = {"means that differ": location_tests, "spreads that differ": scale_tests}


class Score(NamedTuple):
    """One metric of one table, of each of its draws, and without groups of scans; NaN where there is no such number."""

    estimate: float
    sd: float = np.nan
    p: float = np.nan
    draws: np.ndarray = np.zeros(0)
    left_out: np.ndarray = np.zeros(0)


@dataclass(frozen=True, eq=False)
class Measured:
    """All metrics, by name.

    Parameters
    ----------
    kinds : dict of str
        "removal" or "preservation".
    scores : dict of Score
        Also by name of the table.
    expected : dict of float
        What chance says of removal, and batches by themselves of preservation.
    features : dict of ndarray, (..., feature)
        What is known of every feature: by what it is, and by batch variable and table, or by table.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    scores: dict[tuple[str, str], Score] = field(default_factory=dict)
    expected: dict[str, float] = field(default_factory=dict)
    features: dict[tuple[str, ...], np.ndarray] = field(default_factory=dict)

    def add(self, kind: str, metric: str, table: str, score: Score) -> None:
        """Note one score."""
        self.kinds[metric] = kind
        self.scores[metric, table] = score


def measured(
    plan: Plan,
    tables: Mapping[str, Tables],
    within: Mapping[str, np.ndarray],
    permutations: int,
    advance: Callable[[], None],
) -> Measured:
    """Return all metrics of the judged scans.

    Parameters
    ----------
    plan : Plan
        What is evaluated.
    tables : mapping of Tables
        Those of raw values first.
    within : mapping of ndarray, (obs,)
        Traits as `within_batches` predicts them.
    permutations : int
        Of labels, to say what chance does.
    advance : callable
        Called after every table, and for every batch variable.
    """
    scans, found = plan.of(plan.judged), Measured()
    raw = tables["raw"].values[0]
    for name, table in tables.items():
        for variable in scans.batch:
            _removed(found, name, table, scans, variable, permutations)
        _preserved(found, name, table, scans, raw)
        advance()
    for variable in scans.batch:
        _chance_of_removal(found, tables, raw, scans, variable, permutations)
        advance()
    _expected_of_preservation(found, scans, raw, within)
    return found


def _combined(numbers: np.ndarray, sampling: float = np.nan) -> Score:
    """Return the score of several tables, the first being the estimate and the others draws.

    The variance of draws is added to that of sampling (Rubin 1987, doi:10.1002/9780470316696).
    """
    estimate, draws = float(numbers[0]), numbers[1:]
    if len(draws) < 2:
        return Score(estimate, sampling)
    between = (1 + 1 / len(draws)) * np.var(draws, ddof=1)
    return Score(estimate, float(np.sqrt(np.nan_to_num(sampling) ** 2 + between)), draws=draws)


def _all_tables(of_one: Callable[[int, np.ndarray], dict[str, float]], count: int, scans: Plan) -> dict[str, Score]:
    """Return scores of statistics of a table by its number and the positions of scans."""
    everyone = np.arange(len(scans.fold))
    whole = [of_one(number, everyone) for number in range(count)]
    left_out = without_groups(lambda rows: of_one(0, rows), _groups(scans), whole[0])
    return {
        metric: _combined(np.array([one[metric] for one in whole]), jackknife(less))._replace(left_out=less)
        for metric, less in left_out.items()
    }


def _groups(scans: Plan) -> np.ndarray:
    return groups_left_out(scans.units, scans.cells, scans.seed)


def _accuracies(predicted: np.ndarray, truth: np.ndarray, scans: Plan) -> Score:
    """Return the score of balanced accuracy, whose interval is that of a beta posterior."""
    labels = recoded(truth)
    parts = [balanced_accuracy(one == truth, labels, scans.units) for one in predicted]
    hits = (predicted[0] == truth).astype(np.float64)

    def of_some(rows: np.ndarray) -> Numbers:
        return {"": float(recalls(hits[rows], labels[rows], scans.units[rows])[0].mean())}

    left_out = without_groups(of_some, _groups(scans), {"": parts[0][0]})[""]
    return _combined(np.array([estimate for estimate, _ in parts]), parts[0][1])._replace(left_out=left_out)


def _removed(found: Measured, name: str, table: Tables, scans: Plan, variable: str, permutations: int) -> None:
    count, labels = len(table.values), recoded(scans.batch[variable])
    exchange = Exchange.of(recoded(scans.units), scans.fold)
    for kind in CLASSIFIERS:
        predicted = table.batches[variable, kind]
        truth = scans.batch[variable]
        score = _accuracies(predicted, truth, scans)
        chance = chance_accuracies(predicted[0], truth, exchange, permutations, scans.seed)
        p = (1 + (chance >= score.estimate - 1e-12).sum()) / (1 + permutations)
        found.add("removal", f"{variable}: {kind}", name, score._replace(p=float(p)))
    fold = scans.learned_apart
    x, values = centred(scans.beside(variable), fold), [from_folds(one, fold) for one in table.values]

    def of_one(number: int, rows: np.ndarray) -> dict[str, float]:
        return removal(values[number][rows], x[rows], labels[rows], fold[rows], scans.seed)

    for metric, score in _all_tables(of_one, count, scans).items():
        found.add("removal", f"{variable}: {metric}", name, score)
    for metric, test in TESTS.items():
        adjusted = [stats.false_discovery_control(test(one, x, labels)) for one in values]
        shared = np.array([(one <= FALSE_DISCOVERIES).mean() for one in adjusted])
        found.add("removal", f"{variable}: {metric}", name, _combined(shared))
        found.features["false-discovery p", metric, variable, name] = adjusted[0]
    found.features["share of variance", variable, name] = batch_shares(values[0], x, labels, fold)


def _preserved(found: Measured, name: str, table: Tables, scans: Plan, raw: np.ndarray) -> None:
    def of_one(number: int, rows: np.ndarray) -> dict[str, float]:
        predicted = {trait: one[number][rows] for trait, one in table.traits.items()}
        return preservation(table.values[number][rows], raw[rows], scans.of(rows), predicted)

    scores = _all_tables(of_one, len(table.values), scans)
    for trait in scans.traits:
        if trait.levels:
            assert trait.values is not None
            truth = trait.values.astype(np.int64)
            scores[f"{trait.name}: balanced accuracy"] = _accuracies(table.traits[trait.name], truth, scans)
    owners = [f"{trait.name}: " for trait in scans.traits]
    for metric in sorted(scores, key=lambda metric: [not metric.startswith(owner) for owner in owners]):
        found.add("preservation", metric, name, scores[metric])
    found.features["slope", name] = pooled_slopes(table.values[0], scans.x)
    if len(np.unique(scans.units)) < len(scans.units):
        found.features["intraclass correlation", name] = intraclass_correlations(table.values[0], scans.units)


def _chance_of_removal(
    found: Measured, names: Iterable[str], raw: np.ndarray, scans: Plan, variable: str, permutations: int
) -> None:
    """Add what chance says of removal, and how often it says as much as was found."""
    labels = recoded(scans.batch[variable])
    for kind in CLASSIFIERS:
        found.expected[f"{variable}: {kind}"] = 1 / (labels.max() + 1)
    complete = residuals(filled(raw, scans.seed), scans.beside(variable), labels)
    shares = chance_shares(
        standardised(complete, labels),
        labels,
        scans.learned_apart,
        Exchange.of(recoded(scans.units), scans.fold),
        permutations,
        scans.seed,
    )
    for chance, statistic in zip(shares.T, STATISTICS, strict=True):
        metric = f"{variable}: share of {statistic}"
        found.expected[metric] = float(chance.mean())
        for name in names:
            score = found.scores[metric, name]
            p = (1 + (chance >= score.estimate).sum()) / (1 + permutations)
            found.scores[metric, name] = score._replace(p=float(p))
    for metric in TESTS:
        found.expected[f"{variable}: {metric}"] = 0.0


def _expected_of_preservation(found: Measured, scans: Plan, raw: np.ndarray, within: Mapping[str, np.ndarray]) -> None:
    """Add what raw values say that know nothing of differences between batches."""
    found.features["slope", "within batches"] = within_slopes(raw, scans.x, scans.cells)
    found.expected["order within batches"] = 1.0
    for trait in scans.traits:
        if len(trait.columns):
            found.expected[f"{trait.name}: effect"] = 1.0
        if trait.levels and len(trait.columns):
            effects = group_effects(raw, scans.x, trait.columns, scans.cells)
            found.expected[f"{trait.name}: effect size"] = typical_effect(effects)
        if trait.values is None:
            continue
        predicted = within[trait.name]
        if trait.levels:
            truth = trait.values.astype(np.int64)
            metric = f"{trait.name}: balanced accuracy"
            found.expected[metric] = balanced_accuracy(predicted == truth, truth, scans.units)[0]
        else:
            metric = f"{trait.name}: R² within batches"
            found.expected[metric] = shared_variance(trait.values, predicted, scans.cells)
