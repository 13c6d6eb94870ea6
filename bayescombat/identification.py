"""What can be learned from the moments: the design must be estimable, features must vary."""

from collections.abc import Iterable, Sequence

import numpy as np

from bayescombat.additive import Additive
from bayescombat.batches import Levels, cell_parts
from bayescombat.columns import warn
from bayescombat.confounding import confounded, explained
from bayescombat.errors import ConfoundedDesignError, DataError, FeatureWarning, listing
from bayescombat.moments import Moments
from bayescombat.regression import products_of_covariates
from bayescombat.repeated import freedom_of
from bayescombat.shrinkage import LEAST_FREEDOM

__all__ = [
    "Aside",
    "check_observed",
    "estimable",
    "joined_aside",
    "thinly_observed",
    "told_apart",
    "warn_of_set_aside",
]

type Aside = dict[str, list[str]]


# Share of batches of one scan from which labels are suspected to be none of batches.
MOSTLY_SINGLE = 0.9
# Beyond this ratio of variances restricted maximum likelihood does not look.
ALIKE = 1e-10


def estimable(moments: Moments) -> Moments:
    """Return the moments of the features that batch effects can be learned for.

    Features that are constant overall, or inside a batch of two or more scans, features that batch and covariates
    explain exactly, and features observed in too few scans are set aside with a warning; where scans are repeated, so
    are those that do not tell subjects' intercepts from batches and noise.

    Raises
    ------
    DataError
        If there are too few batches, scans or subjects, or every feature was set aside.
    ConfoundedDesignError
        If batch and covariates, or batch variables, cannot be told apart.
    """
    kept, aside = told_apart(moments)
    warn_of_set_aside(aside, moments.features)
    check_observed(kept)
    return kept


def check_observed(moments: Moments) -> None:
    """Raise a DataError if batches have no observed values."""
    empty = moments.n.sum(axis=1) == 0
    if empty.any():
        raise DataError(
            "Expected observed values in every batch, found none of any feature that can be fitted in "
            f"{listing(np.array(moments.batches)[empty])}. Drop these scans."
        )


def thinly_observed(
    observed: np.ndarray, scans: np.ndarray, features: Sequence[str], labels: Sequence[str]
) -> list[str]:
    """Return in words which features are never, or once, observed in a batch of more scans.

    Parameters
    ----------
    observed : ndarray of int, (batch, feature)
        Scans that a feature was observed in.
    scans : ndarray of int, (batch,)
        Scans of the batch.
    features, labels : sequence of str
        Names of the features and of the batches.
    """
    names, batches, found = np.array(features, dtype=object), np.array(labels, dtype=object), []
    for count, words in ((0, "never observed"), (1, "observed once")):
        hit = (observed == count) & (scans[:, None] > count)
        if hit.any():
            found.append(f"{words}: {listing(names[hit.any(axis=0)])} in {listing(batches[hit.any(axis=1)])}")
    return found


def told_apart(moments: Moments) -> tuple[Moments, Aside]:
    """Return the moments of the features that batch effects can be learned for, and by reasons the names of the others.

    There may be no such feature. Errors are those of `estimable`.
    """
    _check_size(moments)
    _check_reference(moments)
    _check_aliasing(moments)
    _check_subjects(moments)
    aside: Aside = {}
    kept = _without(moments, _scarce(moments), "observed in too few scans or batches", aside)
    kept = _without(kept, confounded(kept), "whose scans leave covariates confounded", aside)
    kept = _without(kept, kept.constant, "constant overall or inside a batch of two or more scans", aside)
    kept = _without(kept, explained(kept), "explained exactly by batch and covariates", aside)
    return _repeated(kept, aside), aside


def joined_aside(parts: Iterable[Aside]) -> Aside:
    """Return by reasons the names of the features that were set aside in several parts of a table.

    Examples
    --------
    >>> joined_aside([{"constant": ["left"]}, {}, {"constant": ["right"]}])
    {'constant': ['left', 'right']}
    """
    joined: Aside = {}
    for part in parts:
        for reason, names in part.items():
            joined.setdefault(reason, []).extend(names)
    return joined


def warn_of_set_aside(aside: Aside, features: Sequence[str]) -> None:
    """Warn of features that were set aside, reason by reason.

    Raises
    ------
    DataError
        If they are all of `features`.
    """
    left = len(features)
    for reason, names in aside.items():
        warn(
            f"Set aside {len(names)} of {left} features, {reason}: {listing(names)}. "
            "What is set aside is returned as it came and influences nothing else.",
            FeatureWarning,
        )
        left -= len(names)
    if not left:
        raise DataError(
            f"Expected at least one feature that varies within batches, found none among {listing(features)}."
        )


def _check_size(moments: Moments) -> None:
    scans, batches = moments.scans, np.array(moments.batches)
    if not moments.levels.active or (scans > 0).sum() < 2:
        raise DataError(
            f"Expected scans of at least two batches, found {listing(batches[scans > 0])}. "
            "There is nothing to harmonize; merge the moments of other batches first."
        )
    groups = _groups(moments.levels)
    names = np.array(moments.covariates, dtype=object)[moments.spec.unpenalised]
    if scans.sum() <= groups + len(names):
        raise DataError(
            f"Expected more scans than batches and covariates together ({groups} + {len(names)}), "
            f"found {scans.sum()} scans for the covariates {listing(names)}. "
            f"Leave covariates out or add scans{_of_labels(scans, moments.spec.batch)}."
        )


def _of_labels(scans: np.ndarray, variables: Sequence[str]) -> str:
    """Return what to look at where batches of one scan are the rule; nothing if they are not."""
    if (scans[scans > 0] == 1).mean() < MOSTLY_SINGLE:
        return ""
    return f", and check {listing(variables)}: nearly every scan has a label of its own, as a subject or a date has"


def _groups(levels: Levels) -> int:
    """Return how many means the batch variables add up to."""
    return sum(levels.sizes) - len(levels.sizes) + 1


def _check_reference(moments: Moments) -> None:
    if moments.reference is None:
        return
    levels = moments.levels
    parts = cell_parts(moments.reference, levels.variables)
    for name, part in zip(levels.variables, parts, strict=True):
        if part not in levels.names[name]:
            raise DataError(
                f"Expected one of the batches {listing(levels.names[name])} as reference, found {part!r}. "
                "Merge the moments of that batch too, or make every part with another reference."
            )
    additive = Additive(moments.positions, moments.scans[:, None])
    freedom = additive.freedom()[:, 0]
    for level in levels.positions([moments.reference])[0]:
        if freedom[level] < LEAST_FREEDOM:
            single = additive.size[level, 0] < 2
            raise DataError(
                f"Expected a reference batch of at least two scans{'' if single else ' that tell of its scale'}, found "
                f"{'one scan' if single else 'none to spare'} in {levels.labels[level]!r}. Its scale cannot be "
                "estimated, so nothing can be brought to it: choose a larger batch."
            )


def _check_subjects(moments: Moments) -> None:
    """Raise a DataError if the scans do not tell subjects' intercepts from noise."""
    subjects = moments.subjects
    if subjects is None:
        return
    count = len(subjects.labels)
    if count == moments.scans.sum():
        raise DataError(
            f"Expected several scans of at least some subjects in {moments.spec.subject!r}, found one scan per "
            "subject: a subject's intercept and the noise cannot be told apart. Leave the subject out."
        )


def _repeated(moments: Moments, aside: Aside) -> Moments:
    """Return the moments of the features that tell subjects' intercepts from batches and from noise.

    Raises
    ------
    DataError
        If that is no feature.
    """
    subjects = moments.subjects
    if subjects is None or not moments.features:
        return moments
    found = freedom_of(moments)
    for bad, words in ((found.noise < 1, "noise"), (found.intercepts < 1, "batches")):
        if bad.all():
            raise DataError(
                "Expected more scans than batches, subjects and covariates explain by themselves, and more subjects "
                f"than batches and covariates explain, found {moments.scans.sum()} scans of {len(subjects.labels)} "
                f"subjects in {len(moments.batches)} batches, which do not tell subjects' intercepts from {words}. "
                "Leave the subject or covariates out, or add scans."
            )
    untold = np.broadcast_to((found.noise < 1) | (found.intercepts < 1), len(moments.features))
    alike = found.unexplained <= ALIKE
    kept = _without(moments, untold, "whose scans do not tell subjects' intercepts from noise or from batches", aside)
    return _without(kept, alike[~untold], "alike in all scans of every subject", aside)


def _check_aliasing(moments: Moments) -> None:
    """Raise a ConfoundedDesignError if the effects of two batch variables cannot be told apart."""
    levels, positions = moments.levels, moments.positions
    additive, _, _ = products_of_covariates(moments)
    if not additive.crossed or np.linalg.matrix_rank(additive.indicator) == _groups(levels):
        return
    labels = np.array(levels.labels, dtype=object)
    for k, second in enumerate(levels.active):
        for j, first in enumerate(levels.active[:k]):
            parts = _connected(positions[:, [j, k]])
            if len(parts) > 1:
                found = [" with ".join(listing(labels[part], 3) for part in pair) for pair in parts]
                raise ConfoundedDesignError(
                    f"Expected batch variables that can be told apart, found {second!r} aliased with {first!r}: "
                    f"{'; '.join(found[:4])}; and no scan that connects them. Give one of the two, or add scans that "
                    "share a level of each."
                )
    raise ConfoundedDesignError(
        f"Expected batch variables that can be told apart, found that together {listing(levels.active)} are aliased: "
        "the levels of one are fixed by those of the others. Leave one of them out."
    )


def _connected(pairs: np.ndarray) -> list[tuple[list[int], list[int]]]:
    """Return the levels of two variables in groups that share cells."""
    parts: list[tuple[set[int], set[int]]] = []
    for first, second in pairs.tolist():
        touched = [part for part in parts if first in part[0] or second in part[1]]
        joined = ({first}.union(*(part[0] for part in touched)), {second}.union(*(part[1] for part in touched)))
        parts = [part for part in parts if part not in touched] + [joined]
    return [(sorted(first), sorted(second)) for first, second in parts]


def _scarce(moments: Moments) -> np.ndarray:
    """Return which features have too few observed scans, in all or in the reference batch, (feature,)."""
    n = moments.n
    additive, _, _ = products_of_covariates(moments)
    groups = additive.leverage().sum(axis=0)
    # Leverages add up to a whole number but for rounding.
    needed = np.rint(groups) + len(moments.spec.unpenalised)
    scarce = (n.sum(axis=0) <= needed) | ((n > 0).sum(axis=0) < 2)
    at = moments.reference_levels
    if at is not None:
        scarce = scarce | (additive.freedom()[at] < LEAST_FREEDOM).any(axis=0)
    return np.broadcast_to(scarce, len(moments.features))


def _without(moments: Moments, mask: np.ndarray, reason: str, aside: Aside) -> Moments:
    """Return the moments without some features, whose names are noted."""
    if not mask.any():
        return moments
    aside[reason] = list(np.array(moments.features, dtype=object)[mask])
    return moments.select(~mask)
