"""Diagnosis: what is to be known of a study before anything is fitted."""

import textwrap
from dataclasses import dataclass

import xarray as xr

from bayescombat.batches import Levels
from bayescombat.diagnose.findings import SEVERITIES, Finding, of_batches, of_covariates, of_features, of_subjects
from bayescombat.diagnose.labelling import labelled
from bayescombat.diagnose.measuring import Measured, measured
from bayescombat.diagnose.preparation import of_preparation
from bayescombat.diagnose.robust import OWN_SCALE
from bayescombat.diagnose.scans import covariates_of, of_scans
from bayescombat.errors import DataError
from bayescombat.study import ChunkedStudy, Study
from bayescombat.study.overlap import gaps

__all__ = ["Diagnosis", "diagnose"]

WIDTH = 120
CHECKS = {
    "overlap": "covariates of batches that do not meet",
    "aliasing": "covariates that go along with batch",
    "outlying scans": "outlying scans",
    "far values": "far values",
    "skew": "skewed features",
    "constant features": "constant features",
    "constant in a batch": "features constant in a batch",
    "duplicate features": "duplicate features",
    "duplicate scans": "duplicate scans",
    "missing cells": "missing cells",
}


@dataclass(frozen=True, eq=False, repr=False)
class Diagnosis:
    """What was found of a study; made by `diagnose`. Printed, it is a report.

    Parameters
    ----------
    title : str
        What was looked at.
    findings : tuple of Finding
        Each with ``kind``, ``severity`` ("error", "look" or "information"), ``found`` and ``advice``; the gravest
        first.
    dataset : xarray.Dataset
        The figures, as `diagnose` describes them.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((30, 20, 20, 15, 10))
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> [finding.kind for finding in bc.diagnose(study).findings]
    ['smallest batch', 'not found']
    """

    title: str
    findings: tuple[Finding, ...]
    dataset: xr.Dataset

    def __repr__(self) -> str:
        """Return the report, the gravest findings first."""
        lines = [self.title]
        for severity, heading in SEVERITIES.items():
            items = [finding for finding in self.findings if finding.severity == severity]
            lines += ["", heading] if items else []
            for item in items:
                text = f"{item.found} {item.advice}".rstrip()
                lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
        return "\n".join(lines)


def diagnose(study: Study) -> Diagnosis:
    r"""Look a study over before anything is fitted, and say in words and figures what to look at.

    Parameters
    ----------
    study : Study
        The scans. Nothing of it is changed.

    Returns
    -------
    Diagnosis
        Its report is in order of gravity: errors that `fit` will raise, what to look at, and what is good to know. Its
        ``dataset`` holds the figures along ``batch`` (levels of all batch variables), ``feature``, ``obs`` and
        ``covariate`` (design columns without penalised ones):

        - ``scans`` (batch), ``observed`` (batch, feature);
        - ``shift_error``, ``scale_error`` (batch): expected standard deviations of a shift and a log scale given the
          scans alone, :math:`1/\sqrt{n}` and :math:`1/\sqrt{2(n-1)}`, in units of sigma and log sigma;
          ``shift_spread``, ``scale_spread``: how far these spread over the features of a typical batch; ``shift_kept``,
          ``scale_kept`` (batch): the data's share in an estimate, spread² / (spread² + error²). Spreads are left out
          where they are not known;
        - ``inflation_by_batches``, ``inflation_by_all`` (covariate): variance inflation by the batches alone, and by
          these and all other covariates; ``information_share`` (batch, covariate): where what is left within batches
          is; ``lowest``, ``highest`` (batch, covariate);
        - ``distance``, ``distance_ratio``, ``farthest``, ``farthest_feature``, ``duplicate_of``, ``exact_duplicate``
          (obs): scans far out have a ratio beyond 1, single values far out a farthest one beyond 10;
        - ``constant``, ``estimable``, ``skewness``, ``strongly_skewed``, ``other_scale_helps``,
          ``duplicate_feature_of`` (feature), ``constant_in_batch`` (batch, feature).

    Raises
    ------
    DataError
        If this is no study that holds its measurements, or one of a single batch.

    Notes
    -----
    Residuals are those of least squares, in robust standard deviations of their batch, which are drawn to each other as
    far as batches are alike. Of a scan two distances are taken, along ten principal components and beside them (Hubert,
    Rousseeuw and Vanden Branden 2005, doi:10.1198/004017004000000563), and held against their batch's medians; limits
    are such that of a hundred studies of normal features one names any scan (simulated: none to four). Batches of
    fewer than five scans are not judged. Features are strongly skewed from an L-skewness (Hosking 1990,
    doi:10.1111/j.2517-6161.1990.tb01775.x) of 0.15 on, about that of a gamma distribution with skewness 1.

    Scans repeat each other where all features are equal, or, from ten features on, within a hundredth of a standard
    deviation. Nothing is said where so few distinct values stand that scans would agree by chance.

    The data's share is that of a hierarchical model. Empirical Bayes as published learns the spreads with the errors in
    them, and shrinks shifts by about half at most.

    Examples
    --------
    >>> import bayescombat as bc
    >>> table = bc.datasets.load_openneuro()
    >>> features = "_G_.*_thickness$"
    >>> study = bc.Study.from_dataframe(table, batch="site", covariates="sex", features=features)
    >>> found = bc.diagnose(study)
    >>> [finding.kind for finding in found.findings if finding.severity == "look"]
    ['outlying scans']
    >>> round(found.dataset["shift_error"].sel(batch="ds003416").item(), 3)
    0.18
    """
    if not isinstance(study, Study):
        if isinstance(study, ChunkedStudy):
            raise DataError(
                "Expected a Study to diagnose, found a ChunkedStudy, whose measurements are read chunk by chunk: scans "
                "are judged by all their features at once. Diagnose a part of it that fits into memory, as a Study."
            )
        raise DataError(
            f"Expected a Study to diagnose, found {type(study).__name__}. "
            "Make one first: bayescombat.Study.from_dataframe(table, batch=..., covariates=...)."
        )
    _check_batches(study)
    found = measured(study)
    findings = [*_refusal(found), *_overlap(study), *of_batches(study, found), *of_covariates(study, found)]
    findings += [*of_preparation(study), *of_scans(study, found), *of_features(study, found), *of_subjects(study)]
    kinds = {finding.kind for finding in findings}
    clean = [words for kind, words in CHECKS.items() if kind not in kinds | _not_judged(found)]
    if clean:
        findings.append(Finding("not found", "information", f"Looked for and not found: {', '.join(clean)}."))
    order = list(SEVERITIES)
    ranked = sorted(findings, key=lambda finding: order.index(finding.severity))
    title = (
        f"Diagnosis of {study.y.shape[0]} scans × {study.y.shape[1]} features in "
        f"{len(found.moments.levels.labels)} batches"
    )
    return Diagnosis(title, tuple(ranked), labelled(study, found))


def _not_judged(found: Measured) -> set[str]:
    """Return what could not be looked for."""
    kinds: set[str] = set()
    if found.refusal is not None:
        kinds |= {"aliasing"}
    if not found.twins.judged:
        kinds |= {"duplicate scans"}
    if (found.moments.scans < OWN_SCALE).all():
        kinds |= {"outlying scans", "far values", "skew"}
    return kinds


def _check_batches(study: Study) -> None:
    """Raise a DataError if there is one batch."""
    if len(study.batches) < 2:
        raise DataError(
            f"Expected at least two batches to diagnose, found {study.batches[0]!r} alone: batches are held against "
            "each other. Diagnose the pooled table, or the sites that you have together."
        )


def _refusal(found: Measured) -> list[Finding]:
    return [] if found.refusal is None else [Finding("refused", "error", found.refusal)]


def _overlap(study: Study) -> list[Finding]:
    sources, levels = covariates_of(study), Levels.of(study.spec.batch, study.batches)
    found = gaps(sources, list(map(str, sources)), levels, study.batches, study.codes)
    return [Finding("overlap", "look", f"{gap.words}.", f"{gap.advice[:1].upper()}{gap.advice[1:]}") for gap in found]
