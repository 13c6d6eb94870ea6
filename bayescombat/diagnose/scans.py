"""What a diagnosis says of scans: those far out, and those that stand in the table twice."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from bayescombat.columns import inferred, is_numeric, text_label
from bayescombat.diagnose.findings import Finding, counted, several
from bayescombat.diagnose.measuring import Measured
from bayescombat.diagnose.robust import FALSE_ALARM, FAR_VALUE, OWN_SCALE
from bayescombat.errors import listing
from bayescombat.study import Study

__all__ = ["covariates_of", "of_scans"]

type Groups = Mapping[int, list[int]]


def covariates_of(study: Study) -> pd.DataFrame:
    """Return the covariates of the scans as the table had them; else the unpenalised design columns."""
    if study.sources is not None:
        return study.sources.loc[study.obs]
    free = study.spec.unpenalised
    return pd.DataFrame(study.x[:, free], study.obs, [study.covariates[column] for column in free])


def of_scans(study: Study, found: Measured) -> list[Finding]:
    """Return which scans lie far out, and which repeat others."""
    return [*_outlying(study, found), *_far_values(study, found), *_twins(study, found)]


def _outlying(study: Study, found: Measured) -> list[Finding]:
    outlying = found.outlying
    order = np.argsort(-outlying.ratio, kind="stable")
    order = order[outlying.ratio[order] > 1]
    small = np.array(found.moments.batches, dtype=object)[found.moments.scans < OWN_SCALE]
    unjudged = f"ot judged, of fewer than {OWN_SCALE} scans: {listing(small)}." if len(small) else ""
    if not len(order):
        return [Finding("unjudged scans", "information", f"Outlying scans: n{unjudged}")] if unjudged else []
    names = np.array(study.features, dtype=object)[found.estimable]
    shown = [
        f"{study.obs[at]} of {study.batches[study.codes[at]]} ({outlying.ratio[at]:.2g} times the limit, rms "
        f"{outlying.distance[at]:.2g}, {outlying.farthest[at]:.2g} in {names[outlying.feature[at]]})"
        for at in order
    ]
    words = (
        f"{counted(len(order), 'scan')} far from the others of their batch, in its robust standard deviations: "
        f"{several(shown)}. Of {1 / FALSE_ALARM:.0f} studies of normal features about one names any scan."
        f"{' N' + unjudged if unjudged else ''}"
    )
    advice = "Look at these scans, and leave out what failed; .dataset has all distances."
    return [Finding("outlying scans", "look", words, advice)]


def _far_values(study: Study, found: Measured) -> list[Finding]:
    outlying = found.outlying
    order = np.argsort(-outlying.farthest, kind="stable")
    order = order[outlying.farthest[order] > FAR_VALUE]
    if not len(order):
        return []
    names = np.array(study.features, dtype=object)[found.estimable]
    shown = [f"{study.obs[at]} ({outlying.farthest[at]:.3g} in {names[outlying.feature[at]]})" for at in order]
    words = (
        f"{counted(len(order), 'scan')} with a value more than {FAR_VALUE:.0f} robust standard deviations from the "
        f"median of its batch, the farthest in {several(shown)}."
    )
    return [Finding("far values", "look", words, "Check these values; treat what failed as missing (NaN).")]


def _twins(study: Study, found: Measured) -> list[Finding]:
    twins = found.twins
    groups: dict[int, list[int]] = {}
    for at in np.flatnonzero(twins.first != np.arange(len(twins.first))):
        groups.setdefault(int(twins.first[at]), []).append(int(at))
    if not groups:
        return []
    differ = {first: _differences(study, [first, *others]) for first, others in groups.items()}
    shown = [
        f"{' = '.join(str(study.obs[at]) for at in (first, *others))}{f' ({differ[first]})' if differ[first] else ''}"
        for first, others in sorted(groups.items(), key=lambda item: not differ[item[0]])
    ]
    repeated, contrary = sum(map(len, groups.values())), sum(bool(words) for words in differ.values())
    exact = int(twins.exact.sum())
    how = "to the last digit" if exact == repeated else f"{exact} to the last digit, the others but for rounding"
    words = f"{counted(repeated, 'scan')} repeating another one, {how}: {several(shown)}."
    advice = "Keep one of each."
    if contrary:
        words += f" {contrary} of {len(groups)} groups have equal measurements and different labels."
        advice = "Find out which row is right and keep that; where nobody knows, drop all."
    return [Finding("duplicate scans", "look", words, advice)]


def _differences(study: Study, rows: list[int]) -> str:
    """Say in what batch, subject and covariates of rows differ; nothing if they do not."""
    columns = {"batch": [study.batches[study.codes[at]] for at in rows]}
    if study.subjects is not None:
        columns["subject"] = [str(study.subjects[at]) for at in rows]
    sources = covariates_of(study).iloc[rows]
    for name in sources:
        values = inferred(sources[name])
        columns[str(name)] = [f"{value:.4g}" if is_numeric(values) else text_label(value) for value in values]
    return ", ".join(f"{name} {' and '.join(found)}" for name, found in columns.items() if len(set(found)) > 1)
