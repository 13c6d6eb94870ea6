"""What a diagnosis says, in words with figures."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from bayescombat.diagnose.measuring import Measured
from bayescombat.errors import listing
from bayescombat.identification import thinly_observed
from bayescombat.study import Study

__all__ = [
    "SEVERITIES",
    "Finding",
    "Severity",
    "counted",
    "of_batches",
    "of_covariates",
    "of_features",
    "of_subjects",
    "percent",
    "several",
]

Severity = Literal["error", "look", "information"]
SEVERITIES: dict[Severity, str] = {
    "error": "Error will be raised by fit",
    "look": "Look at this",
    "information": "For information",
}
# Variances inflated so often leave a fifth of what the scans tell of a covariate.
INFLATED = 5.0
# More of what is left of a covariate in one batch is nearly all of it.
IN_ONE_BATCH = 0.8
FEW_SCANS = 5
FEW_BATCHES = 5
FEW_FEATURES = 10
MOSTLY_MISSING = 0.5


class Finding(NamedTuple):
    """One thing that was found.

    Parameters
    ----------
    kind : str
        What it is about, in a word or two.
    severity : {"error", "look", "information"}
    found : str
        What was found, with figures.
    advice : str
        What to do; empty if nothing.
    """

    kind: str
    severity: Severity
    found: str
    advice: str = ""


def of_batches(study: Study, found: Measured) -> list[Finding]:
    """Return what is to be said of the sizes of batches, and of how many there are."""
    labels, precision, scans = found.moments.levels.labels, found.precision, found.scans
    small = int(scans.argmin())
    shift, scale = precision.shift_error[small], precision.scale_error[small]
    n = int(scans[small])
    words = (
        f"The smallest batch is {labels[small]!r} with {counted(n, 'scan')}: of one feature these tell its shift to "
    )
    words += f"±{shift:.2g} sigma"
    words += f", its log scale to ±{scale:.2g}" if np.isfinite(scale) else ", nothing of its scale"
    if np.isfinite(precision.shift_spread):
        words += (
            f". Shifts of a typical batch spread by {precision.shift_spread:.2g} sigma over the features, so "
            f"{percent(precision.shift_kept[small])} of what a fit says of a shift is these scans and the rest prior"
        )
    if np.isfinite(precision.scale_spread) and np.isfinite(scale):
        words += (
            f"; log scales by {precision.scale_spread:.2g}, so {percent(precision.scale_kept[small])} of these is data"
        )
    tiny = scans < FEW_SCANS
    advice = "Prefer NUTS, whose intervals say how little is known; sharpen with more scans." if tiny.any() else ""
    if tiny.sum() > 1:
        words += f". {counted(int(tiny.sum()), 'batch', 'batches')} have fewer than {FEW_SCANS}: {_named(labels, tiny)}"
    items = [Finding("smallest batch", "look" if tiny.any() else "information", f"{words}.", advice)]
    for name, size in zip(found.moments.levels.active, found.moments.levels.sizes, strict=True):
        if size < FEW_BATCHES:
            items.append(
                Finding(
                    "few batches",
                    "look",
                    f"There are {size} batches{f' of {name!r}' if len(study.spec.batch) > 1 else ''}: how batches "
                    "differ is learned from these alone, so the priors themselves say much, for a new batch most.",
                    "Judge by NUTS how sure the priors are, and do not lean on them for new batches.",
                )
            )
    return items


def of_covariates(study: Study, found: Measured) -> list[Finding]:
    """Return how far batches go along with covariates."""
    inflation, items, left = found.inflation, [], []
    names = [study.covariates[column] for column in found.moments.spec.unpenalised]
    for k, name in enumerate(names):
        by_batches, by_all = inflation.by_batches[k], inflation.by_all[k]
        if not np.isfinite(by_batches):
            # An error says so, which names all such columns.
            continue
        times = f"{by_batches:.3g} times by batches alone, {_times(by_all)} by these and all other covariates"
        left.append(f"{percent(1 / by_batches)} of {name!r} (variance of its effect inflated {times})")
        most = int(inflation.share[:, k].argmax())
        share = inflation.share[most, k]
        alone = share > IN_ONE_BATCH and len(found.moments.levels.labels) > 2
        if by_batches >= INFLATED or alone:
            words = f"Batch and {name!r} go together: within batches is left {left.pop()}"
            words += f"; {percent(share)} of that is in {found.moments.levels.labels[most]!r}" if alone else ""
            advice = f"Add scans of batches in which {name!r} varies, or do not lean on its effect."
            items.append(Finding("aliasing", "look", f"{words}.", advice))
    if left:
        words = f"Of what the scans tell of covariates, within batches is left {several(left, 10)}."
        items.append(Finding("covariates", "information", words))
    return items


def of_features(study: Study, found: Measured) -> list[Finding]:
    """Return what is to be said of features: how many, constant ones, twins, skew, missing cells."""
    items = []
    count = int(found.estimable.sum())
    if count < FEW_FEATURES and found.refusal is None:
        items.append(
            Finding(
                "few features",
                "look",
                f"There {'is' if count == 1 else 'are'} {counted(count, 'feature')} to learn from: how effects of a "
                "batch spread over features is poorly known, and empirical Bayes takes it for known.",
                "Use NUTS, or harmonize more features together.",
            )
        )
    return [*items, *_aside(study, found), *_twin_features(study, found), *_skew(study, found), *_holes(study, found)]


def _aside(study: Study, found: Measured) -> list[Finding]:
    features, labels = np.array(study.features, dtype=object), found.moments.levels.labels
    inside = found.moments.constant_in_levels
    everywhere = np.fmin.reduce(study.y, axis=0) == np.fmax.reduce(study.y, axis=0)
    here = inside.any(axis=0) & ~everywhere
    items = []
    if everywhere.any():
        words = f"{counted(int(everywhere.sum()), 'feature')} constant in all scans: {listing(features[everywhere])}."
        items.append(
            Finding("constant features", "information", words, "They are returned as they came; drop them if unneeded.")
        )
    if here.any():
        at = inside[:, here].any(axis=1)
        words = f"{counted(int(here.sum()), 'feature')} constant inside a batch: {listing(features[here])}, in "
        words += f"{_named(labels, at)}."
        items.append(
            Finding(
                "constant in a batch",
                "look",
                words,
                "They are returned as they came, in all batches. To harmonize them, leave that batch out.",
            )
        )
    for reason, names in found.aside.items():
        if not reason.startswith("constant"):
            words = f"{counted(len(names), 'feature')} that a fit sets aside, {reason}: {listing(names)}."
            advice = "They are returned as they came. More scans that observe them, or fewer covariates, may help."
            items.append(Finding("set aside", "look", words, advice))
    return items


def _twin_features(study: Study, found: Measured) -> list[Finding]:
    first = found.twin_features
    twins = np.flatnonzero(first != np.arange(len(first)))
    if not len(twins):
        return []
    pairs = [f"{study.features[at]} = {study.features[first[at]]}" for at in twins]
    words = f"{counted(len(twins), 'feature')} repeating another but for unit and origin: {several(pairs)}."
    return [
        Finding("duplicate features", "look", words, "Drop one of each: what is learned from all features counts both.")
    ]


def _skew(study: Study, found: Measured) -> list[Finding]:
    strong, values = found.skewness.strong, found.skewness.value
    if not strong.any():
        return []
    names = np.array(study.features, dtype=object)[found.estimable]
    order = np.flatnonzero(strong)[np.argsort(-np.abs(values[strong]), kind="stable")]
    shown = [f"{names[at]} ({values[at]:+.2f})" for at in order]
    words = f"{counted(len(order), 'feature')} whose residuals are strongly skewed within batches (L-skewness): "
    words += f"{several(shown)}"
    helped, logs = int(found.less_skewed.sum()), study.spec.transform is not None
    advice = "The model is Gaussian: intervals of these are off, look at them by themselves."
    if helped:
        words += f". {'Without the logarithm' if logs else 'As logarithms'} {helped} of them would be less so"
        other = "without transform" if logs else 'with transform="log"'
        less = listing(np.array(study.features, dtype=object)[found.less_skewed])
        advice = f"Harmonize {less} in a study of their own {other}; .dataset['other_scale_helps'] has all of them."
    return [Finding("skew", "look", f"{words}.", advice)]


def _holes(study: Study, found: Measured) -> list[Finding]:
    missing = np.isnan(study.y)
    if not missing.any():
        return []
    features, labels = np.array(study.features, dtype=object), found.moments.levels.labels
    share = missing.mean(axis=0)
    by_batch = 1 - found.observed.sum(axis=1) / np.maximum(found.scans * len(features), 1)
    worst = int(by_batch.argmax())
    shown = percent(missing.mean())
    words = f"{missing.sum()} of {missing.size} cells are missing ({shown}), most in {labels[worst]!r} "
    words += f"({percent(by_batch[worst])})."
    items = [Finding("missing cells", "information", words, "What is missing must be missing at random.")]
    thin = thinly_observed(found.observed, found.scans, study.features, labels)
    if thin:
        words = f"{_capital('; '.join(thin))}."
        advice = "There the prior stands in for what was not observed: do not lean on it."
        items.append(Finding("missing in a batch", "look", words, advice))
    scarce = share > MOSTLY_MISSING
    if scarce.any():
        names = listing(features[scarce])
        words = f"{counted(int(scarce.sum()), 'feature')} missing in more than half of the scans: {names}."
        items.append(Finding("mostly missing", "look", words, "Ask why, and leave them out if it is not by chance."))
    return items


def of_subjects(study: Study) -> list[Finding]:
    """Return how many subjects have several scans, and how many of these travelled."""
    if study.subjects is None:
        return []
    batches: dict[str, set[int]] = {}
    scans: dict[str, int] = {}
    for subject, code in zip(study.subjects, study.codes.tolist(), strict=True):
        batches.setdefault(subject, set()).add(code)
        scans[subject] = scans.get(subject, 0) + 1
    repeated = sum(count > 1 for count in scans.values())
    travelling = sum(len(found) > 1 for found in batches.values())
    words = f"{counted(len(scans), 'subject')} in {len(study.subjects)} scans, {repeated} of them with several, "
    words += f"{travelling} in several batches."
    advice = "" if travelling else "Nobody travelled, so people and batches are told apart by their averages alone."
    return [Finding("subjects", "information", words, advice)]


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with what it counts."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def _named(labels: Sequence[str], which: np.ndarray) -> str:
    return listing(np.array(labels, dtype=object)[which])


def several(items: Sequence[str], most: int = 5) -> str:
    """Say some things, and how many more there are."""
    more = f"; and {len(items) - most} more" if len(items) > most else ""
    return "; ".join(items[:most]) + more


def percent(share: float) -> str:
    """Return a share as a percentage."""
    return f"{100 * share:.0f} %" if share >= 0.01 or share == 0 else "less than 1 %"


def _times(factor: float) -> str:
    return f"{factor:.3g} times" if np.isfinite(factor) else "without end"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
