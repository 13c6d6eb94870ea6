"""evaluate(): what a harmonization removed, and what it preserved."""

import json
from collections.abc import Mapping
from numbers import Integral
from secrets import randbits
from typing import Any

import numpy as np
import pandas as pd

from bayescombat.batches import Levels
from bayescombat.columns import heard, labels, warn
from bayescombat.errors import BatchSizeWarning, BayesCombatError, DataError, check_probability, listing
from bayescombat.evaluate.evaluation import Evaluation
from bayescombat.evaluate.folds import NEVER, held_out_folds
from bayescombat.evaluate.harmonizers import Harmonizer, Learner, Refit, learners_of
from bayescombat.evaluate.labelling import labelled
from bayescombat.evaluate.measuring import measured
from bayescombat.evaluate.tables import Plan, tables_of, within_batches
from bayescombat.evaluate.traits import Trait, traits_of
from bayescombat.fit import Fit
from bayescombat.identification import told_apart
from bayescombat.moments import Moments
from bayescombat.progress import bar
from bayescombat.study import Study

__all__ = ["evaluate"]


def evaluate(
    study: Study,
    harmonizer: Fit | Harmonizer | Mapping[str, Fit | Harmonizer],
    *,
    covariates: pd.DataFrame | Mapping[str, Any] | None = None,
    subject: Any = None,
    held_out: bool = True,
    refit: Refit = "quick",
    draws: int | None = None,
    folds: int = 5,
    permutations: int = 200,
    probability: float = 0.9,
    seed: int | None = None,
    progress_bar: bool = True,
) -> Evaluation:
    r"""Say what a harmonization removed of the batches, and what it preserved beside them.

    Every scan is judged as it comes out of a harmonization that was learned without it: the harmonizer learns from four
    folds of five, in which every batch is, and harmonizes the fifth. A subject's scans share a fold.

    Parameters
    ----------
    study : Study
        The scans.
    harmonizer : Fit, callable, or mapping of names to these
        What is evaluated; several stand in one table. A fit's method and arguments are applied anew in every fold. A
        callable is given the study of the training scans and returns a function, which is given a study of any scans
        and returns their values (obs, feature), or draws of them (draw, obs, feature): so any harmonizer can be held
        against the others.
    covariates : DataFrame or mapping of names to array-likes of (obs,), optional
        What else should be preserved, such as a diagnosis that the formula does not name, and values of what the
        formula has as splines. Numbers, or labels of groups (two numbers that are one apart are taken for such).
        The preserved covariates of the study are always looked at.
    subject : array-like of (obs,), optional
        Labels of subjects, if the study was made without. Their scans are held out together, and are compared.
    held_out : bool
        If False the harmonizer is judged by the scans that it learned from, as it stands. Then batches are more alike
        than those of new scans: a classifier falls below chance.
    refit : {"quick", "same", "eb"}
        How a fit by NUTS is repeated in every fold: with its own model and fewer draws (2 chains of 500 after 500 of
        warm-up); with all its settings; or by empirical Bayes, which is then what is evaluated. Other fits are always
        repeated as they are.
    draws : int, optional
        How many posterior draws of harmonized values are evaluated too; twenty are usual. Intervals then hold the
        uncertainty of harmonization. By default the estimate, or posterior mean, alone.
    folds : int
        How many.
    permutations : int
        How many exchanges of labels say what chance does.
    probability : float
        Of intervals.
    seed : int, optional
        The same seed gives the same bits on the same machine. By default a new one, kept in the result.
    progress_bar : bool
        Whether to show one.

    Returns
    -------
    Evaluation
        Its ``dataset`` has, by ``metric`` and ``table`` ("raw", and "harmonized" or the names given), ``estimate``,
        ``sd``, ``lower``, ``upper``, ``p``, and ``expected``: what chance says of removal, and what raw values say of
        preservation that know nothing of differences between batches. The coordinate ``kind`` says which of the two a
        metric is. For every feature there are ``batch_share``, ``mean_p`` and ``spread_p`` (batch_variable, table,
        feature), ``slope`` (table, column, feature) beside ``slope_within``, and ``intraclass_correlation`` where
        subjects have several scans. ``fold`` (obs) says when a scan was held out, -1 for never. NaN where there is no
        such number. ``left_out`` (metric, table, group) has estimates without each of twenty groups of subjects, the
        same in every table: the jackknife of a difference between tables is that of the differences of these. With
        draws there is ``drawn`` (metric, table, draw).

    Raises
    ------
    BayesCombatError
        If an argument is not one of those above, or draws are asked for of what has none.
    DataError
        If batches, covariates or scans do not tell what is asked, or the harmonizer's values cannot be used.

    Warns
    -----
    BatchSizeWarning
        If batches have a single scan, or subject: it is always learned from and never judged.

    Notes
    -----
    **Removal.** Batch is predicted by *logistic regression* and *random forest*, trained on harmonized training scans
    without the effects of covariates: batches of different covariates should differ by these. Balanced accuracy is the
    mean over batches of the share that is recognised (Brodersen et al. 2010, doi:10.1109/ICPR.2010.764). Its p is of
    exchanges of labels among held-out scans. *Shares* are of differences between held-out scans of the same fold, given
    covariates: of the variance of the median feature and of ten principal components (Boedigheimer et al. 2008,
    doi:10.1186/1471-2164-9-285), of squared covariances (Li and Chen 2012, doi:10.1214/12-AOS993), and of distances
    (Székely and Rizzo 2013, doi:10.1016/j.jspi.2013.03.018). *Means* and *spreads that differ* are those of features,
    found by analysis of covariance and by the test of Brown and Forsythe (1974, doi:10.1080/01621459.1974.10482955), at
    a false-discovery rate of 5 % (Benjamini and Hochberg 1995, doi:10.1111/j.2517-6161.1995.tb02031.x).

    Held-out scans of a batch share the error of its estimated effect, so that a good method leaves something. Chance is
    what plain means of the training scans would leave of batches that do not differ; a method that shrinks can leave
    less. In the tests of means and spreads the error cancels over the folds. Classifiers fall below chance by a method
    that takes the noise of training scans for an effect: what it takes out of them it adds to others. With many more
    features than scans the error makes components and covariances of its own: there only chance is a yardstick.

    **Preservation.** *Effect*: slopes in an analysis of harmonized values that knows no batch, over those of raw values
    within batches, for all features together; one is right. *R²* and *balanced accuracy*: covariates predicted from
    the features of held-out scans, by ridge and logistic regression. *Order*: Spearman's correlation with raw values
    among scans of the same batch and fold. *Intraclass correlation* (Shrout and Fleiss 1979,
    doi:10.1037/0033-2909.86.2.420) and *recognised* (Finn et al. 2015, doi:10.1038/nn.4135) are of subjects with
    several scans. *Effect size* is Cohen's d of groups.

    Intervals are normal. Those of accuracies are of beta posteriors, others of a jackknife over subjects (Efron and
    Stein 1981, doi:10.1214/aos/1176345462). Both take harmonization as it is, unless there are draws, whose variance is
    added (Rubin 1987, doi:10.1002/9780470316696). The estimate is always that of the posterior mean: a draw moves the
    training and the held-out scans of a batch by the same error, which a classifier finds, so that batches are told
    apart in every draw by more than in truth.

    Features that are constant overall, or inside a batch of several scans, are set aside. Where scans are looked at as
    a whole, missing cells are filled by other scans' values of the feature, chosen at random. A study on the log scale
    is evaluated on that scale. With several batch variables removal is of each, given the others as covariates are.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((30, 20, 20), features=5)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age + sex", features=simulation.features
    ... )
    >>> def overcorrected(train):
    ...     return lambda rows: rows.y * 0 + train.y.mean(axis=0)
    >>> given = {"EB": bc.fit(study, method="eb"), "constant": overcorrected}
    >>> found = bc.evaluate(study, given, seed=1, permutations=50, progress_bar=False)
    >>> found.table.loc[["site: random forest", "order within batches"], "constant"].round(2).tolist()
    [0.33, 0.0]
    """
    _check_numbers(study, folds, permutations, draws, probability)
    seed = randbits(32) if seed is None else int(seed)
    learners = learners_of(harmonizer, study, refit, held_out, draws)
    units = _units(study, subject)
    traits, x, said = traits_of(study, covariates)
    features, aside = _features(study)
    plan = Plan(
        study, features, x, _levels(study), units, _folds(study, units, folds, seed), tuple(traits), held_out, seed
    )
    steps = (folds + 1) * (1 + len(learners)) + len(plan.batch)
    with bar("Evaluation", steps, shown=progress_bar) as advance:
        tables = tables_of(plan, learners, advance)
        found = measured(plan, tables, within_batches(plan), permutations, advance)
    notes = [*aside, *_notes(plan), *said, *_of_learners(learners)]
    attrs = {
        "seed": seed,
        "probability": probability,
        "permutations": permutations,
        "draws": draws or 0,
        "design": _design(plan, folds, learners),
        "notes": json.dumps(notes),
    }
    columns = [*study.covariates, *_more_columns(traits, len(study.covariates))]
    return Evaluation(labelled(found, plan, list(tables), columns, probability, attrs))


def _check_numbers(study: Any, folds: Any, permutations: Any, draws: Any, probability: Any) -> None:
    if not isinstance(study, Study):
        raise DataError(
            f"Expected a Study, found {type(study).__name__}: rows are held out, so that all of them have to be there. "
            "Make one with bayescombat.Study.from_dataframe."
        )
    least = {"folds": (folds, 2), "permutations": (permutations, 1), "draws": (2 if draws is None else draws, 2)}
    for name, (value, bound) in least.items():
        if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < bound:
            raise BayesCombatError(f"Expected {name} to be a whole number of at least {bound}, found {value!r}.")
    check_probability(probability)


def _features(study: Study) -> tuple[np.ndarray, list[str]]:
    """Return the positions of the features that vary within batches, and what to say of the others."""
    with heard():
        kept, aside = told_apart(Moments.from_study(study))
    if not kept.features:
        raise DataError("Expected at least one feature that varies within batches, found none.")
    said = [
        f"Set aside {len(names)} of {len(study.features)} features, {reason}: {listing(names)}."
        for reason, names in aside.items()
    ]
    return np.flatnonzero(np.isin(study.features, kept.features)), said


def _levels(study: Study) -> dict[str, np.ndarray]:
    """Return the codes of every scan's level of each batch variable that has several."""
    levels = Levels.of(study.spec.batch, study.batches)
    known = levels.known(study.batches)
    return {name: known[study.codes, levels.variables.index(name)] for name in levels.active}


def _units(study: Study, subject: Any) -> np.ndarray:
    """Return codes of subjects (obs,), or of scans where none are named."""
    found = study.subjects if subject is None else labels(pd.Series(np.asarray(subject)).rename("subject"), "subject")
    if found is None:
        return np.arange(len(study.codes))
    if len(found) != len(study.codes):
        raise DataError(f"Expected a subject for each of the {len(study.codes)} scans, found {len(found)}.")
    return np.unique(np.asarray(found, dtype=str), return_inverse=True)[1].reshape(-1)


def _folds(study: Study, units: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold that every scan is held out in, checked."""
    codes = list(_levels(study).values())
    starts = np.cumsum([0, *(one.max() + 1 for one in codes)])[:-1]
    levels = np.stack([one + start for one, start in zip(codes, starts, strict=True)], axis=1)
    fold = held_out_folds(units, levels, folds, np.random.default_rng(seed))
    judged = fold != NEVER
    if len(np.unique(study.codes[judged])) < 2 or len(np.unique(fold[judged])) < folds:
        raise DataError(
            f"Expected two batches or more whose scans can be held out in {folds} folds, found {judged.sum()} such "
            f"scans of {len(np.unique(study.codes[judged]))} batches. A batch has to have two subjects: one to learn "
            "from, one to judge by. Lower folds, or leave small batches out."
        )
    lost = np.setdiff1d(study.codes, study.codes[judged])
    if len(lost):
        warn(
            f"{listing(np.array(study.batches, dtype=object)[lost])} cannot be judged: a batch of one scan, or one "
            "subject, is needed to learn from.",
            BatchSizeWarning,
        )
    return fold


def _notes(plan: Plan) -> list[str]:
    """Return what to say of scans and cells."""
    found = []
    never = int((plan.fold == NEVER).sum())
    if never:
        lost = np.setdiff1d(plan.cells, plan.cells[plan.judged])
        names = listing(np.array(plan.study.batches, dtype=object)[lost])
        scans = "1 scan is" if never == 1 else f"{never} scans are"
        found.append(
            f"{scans} always learned from and never judged, since a batch needs them"
            + (f"; nothing is said of {names}." if names else ".")
        )
    lacking = np.isnan(plan.study.y[:, plan.features]).sum()
    if lacking:
        found.append(f"{lacking} missing cells are filled at random where scans are looked at as a whole.")
    return found


def _of_learners(learners: list[Learner]) -> list[str]:
    """Return what is to be said of refits, the first of each kind, and how many more there are."""
    found: list[str] = []
    for learner in learners:
        for start in (f"A refit of {learner.name!r} should", f"A refit of {learner.name!r} set"):
            said = [message for message in learner.said if message.startswith(start)]
            more = f" So it is in {len(said) - 1} more." if len(said) > 1 else ""
            found.extend(message + more for message in said[:1])
    return found


def _design(plan: Plan, folds: int, learners: list[Learner]) -> str:
    """Return in words on which scans harmonizers were judged."""
    judged = f"{len(plan.judged)} scans, {len(plan.features)} features"
    how = "; ".join(f"{learner.name}: {learner.how}" for learner in learners)
    if plan.held_out:
        return f"Held out: {judged}, {folds} folds. {how}."
    return f"In-sample: {judged}, judged by what was learned from them, so that removal looks better than it is. {how}."


def _more_columns(traits: list[Trait], known: int) -> list[str]:
    """Return names of the columns that traits have beside those of the design."""
    more = [trait for trait in traits if len(trait.columns) and trait.columns[0] >= known]
    return [
        name
        for trait in more
        for name in ([f"{trait.name}[T.{level}]" for level in trait.levels[1:]] if trait.levels else [trait.name])
    ]
