"""Harmonized tables of scans that were held out, and what is predicted from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Self

import numpy as np

from bayescombat.errors import DataError, listing
from bayescombat.evaluate.classification import CLASSIFIERS, predicted_labels, predicted_numbers
from bayescombat.evaluate.folds import NEVER
from bayescombat.evaluate.harmonizers import Learner, some_scans
from bayescombat.evaluate.traits import Trait
from bayescombat.evaluate.within import filled, within_slopes
from bayescombat.study import Study

__all__ = ["Plan", "Tables", "tables_of", "within_batches"]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is evaluated on which scans.

    Parameters
    ----------
    study : Study
        All scans.
    features : ndarray of int, (feature,)
        Positions of the features that are evaluated.
    x : ndarray, (obs, column)
        Covariates.
    batch : dict of ndarray of int, (obs,)
        Codes of every batch variable's levels.
    units : ndarray of int, (obs,)
        Codes of subjects, or of scans.
    fold : ndarray of int, (obs,)
        As `held_out_folds` returns it.
    traits : tuple of Trait
        What should be preserved.
    held_out : bool
        Whether harmonizers learn from other scans than they are judged by.
    seed : int
        Of everything that is random.
    """

    study: Study
    features: np.ndarray
    x: np.ndarray
    batch: dict[str, np.ndarray]
    units: np.ndarray
    fold: np.ndarray
    traits: tuple[Trait, ...]
    held_out: bool
    seed: int

    @property
    def cells(self) -> np.ndarray:
        """Codes of the batches (obs,), combinations of levels where there are several variables."""
        return self.study.codes

    @property
    def judged(self) -> np.ndarray:
        """Positions of the scans that are held out in some fold."""
        return np.flatnonzero(self.fold != NEVER)

    @property
    def learned_apart(self) -> np.ndarray:
        """Which scans were harmonized by the same fit (obs,)."""
        return self.fold if self.held_out else np.zeros_like(self.fold)

    def beside(self, variable: str) -> np.ndarray:
        """Return what is known beside a batch variable (obs, column): covariates, and levels of the other variables."""
        others = [np.eye(codes.max() + 1)[codes][:, 1:] for name, codes in self.batch.items() if name != variable]
        return np.hstack([self.x, *others])

    def of(self, rows: np.ndarray) -> Self:
        """Return the plan of some of the scans."""
        traits = tuple(
            replace(trait, values=None if trait.values is None else trait.values[rows]) for trait in self.traits
        )
        return replace(
            self,
            study=some_scans(self.study, rows),
            x=self.x[rows],
            batch={name: codes[rows] for name, codes in self.batch.items()},
            units=self.units[rows],
            fold=self.fold[rows],
            traits=traits,
        )

    def standardised(self, tables: np.ndarray, study: Study) -> np.ndarray:
        """Return tables of some scans (table, obs, feature) on the scale that is modelled, in units of raw features.

        These units are the standard deviation within batches. Cells that the study lacks are missing.
        """
        tables = np.where(np.isnan(study.y), np.nan, tables)[..., self.features]
        if study.spec.transform is not None:
            tables = np.log(np.where(tables > 0, tables, np.nan))
        raw = self.study.transformed[:, self.features]
        if (np.isnan(tables) != np.isnan(study.y[:, self.features])).any() or np.isinf(tables).any():
            raise DataError(
                "Expected a finite harmonized value of every observed cell"
                f"{', above zero' if study.spec.transform else ''}, found others. Let the harmonizer return one."
            )
        observed = ~np.isnan(raw)
        count = np.maximum(observed.sum(axis=0), 1)
        mean = np.where(observed, raw, 0).sum(axis=0) / count
        return np.asarray((tables - mean) / self._spread(raw, observed))

    def _spread(self, raw: np.ndarray, observed: np.ndarray) -> np.ndarray:
        member = np.eye(self.cells.max() + 1)[self.cells]
        sizes = member.T @ observed
        first = np.take_along_axis(raw, observed.argmax(axis=0)[None], axis=0)
        values = np.where(observed, raw - first, 0.0)
        means = (member.T @ values) / np.maximum(sizes, 1)
        squares = (np.where(observed, values - means[self.cells], 0.0) ** 2).sum(axis=0)
        return np.asarray(np.sqrt(squares / np.maximum(sizes.sum(axis=0) - (sizes > 0).sum(axis=0), 1)))


@dataclass(frozen=True, eq=False)
class Tables:
    """What one harmonizer made of the judged scans; the first table is the estimate, the others are draws.

    Parameters
    ----------
    values : ndarray, (table, obs, feature)
        Standardised values.
    batches : dict of ndarray of int, (table, obs)
        Batch levels as predicted, by batch variable and classifier.
    traits : dict of ndarray, (table, obs)
        Traits as predicted.
    """

    values: np.ndarray
    batches: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    traits: dict[str, np.ndarray] = field(default_factory=dict)


type Parts = Iterator[tuple[int, np.ndarray, np.ndarray]]


def tables_of(plan: Plan, learners: Sequence[Learner], advance: Callable[[], None]) -> dict[str, Tables]:
    """Return the tables of raw values and of every learner, by name; `advance` is called once a fold and name."""
    found = {"raw": _predictions(plan, _raw_parts(plan), advance)}
    for learner in learners:
        parts = _held_out_parts(plan, learner) if plan.held_out else _in_sample_parts(plan, learner)
        found[learner.name] = _predictions(plan, parts, advance)
    return found


def _raw_parts(plan: Plan) -> Parts:
    return _split(plan, plan.standardised(plan.study.y[None], plan.study))


def _in_sample_parts(plan: Plan, learner: Learner) -> Parts:
    return _split(plan, plan.standardised(learner.in_sample(plan.study), plan.study))


def _split(plan: Plan, values: np.ndarray) -> Parts:
    """Yield every fold with the tables of its training and of its held-out scans."""
    for fold in range(plan.fold.max() + 1):
        yield fold, values[:, plan.fold != fold], values[:, plan.fold == fold]


def _held_out_parts(plan: Plan, learner: Learner) -> Parts:
    for fold in range(plan.fold.max() + 1):
        train, test = (some_scans(plan.study, np.flatnonzero(part)) for part in (plan.fold != fold, plan.fold == fold))
        try:
            harmonize = learner.learned(train, plan.seed + fold)
            tables = [plan.standardised(harmonize(part), part) for part in (train, test)]
        except Exception as error:
            labels = listing(test.obs, 3)
            error.add_note(f"This was {learner.name!r} learning without the scans {labels} (fold {fold + 1}).")
            raise
        yield fold, tables[0], tables[1]


def _predictions(plan: Plan, parts: Parts, advance: Callable[[], None]) -> Tables:
    """Return the tables of the judged scans, and what is predicted of them."""
    found: Tables | None = None
    for fold, train, test in parts:
        apart = plan.fold == fold
        mine = np.flatnonzero(apart[plan.judged])
        if found is None:
            found = _empty(plan, len(train))
        found.values[:, mine] = test
        for number in range(len(train)):
            one = filled(train[number], plan.seed)
            other = filled(test[number], plan.seed, one)
            for (variable, kind), predicted in found.batches.items():
                labels = plan.batch[variable]
                known = _without_covariates(one, other, plan.beside(variable), labels, apart)
                labelled = predicted_labels(CLASSIFIERS[kind], known[0], labels[~apart], known[1], plan.seed)
                predicted[number, mine] = labelled
            for name, numbers in found.traits.items():
                trait = next(trait for trait in plan.traits if trait.name == name)
                numbers[number, mine] = _predicted(trait, one, other, apart, plan.seed)
        advance()
    assert found is not None
    return found


def _empty(plan: Plan, tables: int) -> Tables:
    size = (tables, len(plan.judged))
    batches = {(name, kind): np.zeros(size, dtype=np.int64) for name in plan.batch for kind in CLASSIFIERS}
    traits = {trait.name: np.zeros(size) for trait in plan.traits if trait.values is not None}
    return Tables(np.zeros((*size, len(plan.features))), batches, traits)


def _without_covariates(
    train: np.ndarray, test: np.ndarray, x: np.ndarray, batch: np.ndarray, apart: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return complete values without what x (obs, column) explains within the batches of the training scans."""
    slopes = within_slopes(train, x[~apart], batch[~apart])
    middle = x[~apart].mean(axis=0)
    return train - (x[~apart] - middle) @ slopes, test - (x[apart] - middle) @ slopes


def _predicted(trait: Trait, train: np.ndarray, test: np.ndarray, apart: np.ndarray, seed: int) -> np.ndarray:
    """Return the trait of the scans that are held apart."""
    assert trait.values is not None
    known = trait.values[~apart]
    if not trait.levels:
        return predicted_numbers(train, known, test)
    return predicted_labels(CLASSIFIERS["logistic regression"], train, known.astype(np.int64), test, seed)


def within_batches(plan: Plan) -> dict[str, np.ndarray]:
    """Return traits of the judged scans (obs,) as raw values tell them without differences between batches.

    Features are measured from the mean that their batch has in the training scans; numbers too, and are predicted as
    deviations from it.
    """
    found: dict[str, np.ndarray] = {t.name: np.zeros(len(plan.fold)) for t in plan.traits if t.values is not None}
    for fold, train, test in _raw_parts(plan):
        apart = plan.fold == fold
        one, other = filled(train[0], plan.seed), filled(test[0], plan.seed, train[0])
        one, other = _from_batch_means(one, other, plan.cells[~apart], plan.cells[apart])
        for trait in plan.traits:
            if trait.values is None:
                continue
            deviation = trait
            if not trait.levels:
                numbers, both = trait.values[:, None].copy(), (plan.cells[~apart], plan.cells[apart])
                numbers[~apart], numbers[apart] = _from_batch_means(numbers[~apart], numbers[apart], *both)
                deviation = replace(trait, values=numbers[:, 0])
            found[trait.name][apart] = _predicted(deviation, one, other, apart, plan.seed)
    return {name: predicted[plan.judged] for name, predicted in found.items()}


def _from_batch_means(
    train: np.ndarray, test: np.ndarray, batch: np.ndarray, of_test: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return values less the means of their batch in the training scans, or of all of these if it is not there."""
    size = max(batch.max(), of_test.max()) + 1
    member = np.eye(size)[batch]
    count = member.sum(axis=0)
    means = np.where(count[:, None] > 0, (member.T @ train) / np.maximum(count, 1)[:, None], train.mean(axis=0))
    return train - means[batch], test - means[of_test]
