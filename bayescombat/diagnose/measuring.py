"""All figures of a diagnosis, by position."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bayescombat.additive import Additive
from bayescombat.columns import heard
from bayescombat.diagnose.information import Inflation, Precision
from bayescombat.diagnose.robust import Outlying, Skewness, residuals_of, robust_scores
from bayescombat.diagnose.twins import Twins, twin_features
from bayescombat.errors import BayesCombatError
from bayescombat.identification import Aside, check_observed, told_apart, warn_of_set_aside
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.repeated import fixed_effects
from bayescombat.study import Study

__all__ = ["Measured", "measured"]


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of a study.

    Parameters
    ----------
    moments : Moments
        Of all features.
    refusal : str, optional
        The error that a fit will raise.
    aside : dict of str to list of str
        Features that a fit sets aside, by reason.
    estimable : ndarray of bool, (feature,)
        Features that residuals were looked at of; if a fit is refused, by batches alone.
    scans : ndarray of int, (level,)
    observed : ndarray of int, (level, feature)
        Scans that a feature was observed in.
    inflation : Inflation
    precision : Precision
    outlying : Outlying
    skewness : Skewness
        Of the estimable features.
    less_skewed : ndarray of bool, (feature,)
        Which strongly skewed features are less so with the logarithm, or, where that was taken, without it.
    twins : Twins
    twin_features : ndarray of int, (feature,)
        Position of the first feature that each repeats, its own for none.
    """

    moments: Moments
    refusal: str | None
    aside: Aside
    estimable: np.ndarray
    scans: np.ndarray
    observed: np.ndarray
    inflation: Inflation
    precision: Precision
    outlying: Outlying
    skewness: Skewness
    less_skewed: np.ndarray
    twins: Twins
    twin_features: np.ndarray


def measured(study: Study) -> Measured:
    """Measure a study; nothing of it is changed."""
    y, moments = study.transformed, Moments.from_study(study)
    kept, aside, refusal = _kept(moments)
    rows = study
    if kept is None:
        rows = _batches_alone(study)
        kept, _, _ = _kept(Moments.from_study(rows))
    names = () if kept is None else kept.features
    estimable = np.isin(np.array(study.features, dtype=object), names)
    additive = Additive(moments.positions, moments.scans[:, None].astype(float))
    fit = None if kept is None or rows is not study else fixed_effects(kept)
    centred = np.full((len(y), int(estimable.sum())), np.nan)
    score = centred
    if kept is not None:
        score, centred = _scores(rows.select(estimable), kept)
    skewness = Skewness.of(centred)
    strong = np.zeros(len(estimable), dtype=bool)
    strong[estimable] = skewness.strong
    observed = np.broadcast_to(additive.indicator.T @ moments.n, (len(additive.size), y.shape[1]))
    nothing = study.select(slice(0))
    return Measured(
        moments=moments,
        refusal=refusal,
        aside=aside,
        estimable=estimable,
        scans=additive.size[:, 0].astype(int),
        observed=observed.astype(int),
        inflation=Inflation.of(Moments.from_study(nothing)),
        precision=Precision.of(moments if fit is None or kept is None else kept, fit),
        outlying=Outlying.of(score, study.codes),
        skewness=skewness,
        less_skewed=_less_skewed(rows, strong, skewness.value[skewness.strong]),
        twins=Twins.of(y),
        twin_features=twin_features(y),
    )


def _kept(moments: Moments) -> tuple[Moments | None, Aside, str | None]:
    """Return the moments that a fit learns from, what it sets aside and the error that it raises instead."""
    with heard():
        try:
            kept, aside = told_apart(moments)
            warn_of_set_aside(aside, moments.features)
            check_observed(kept)
        except BayesCombatError as error:
            return None, {}, str(error)
    return kept, aside, None


def _batches_alone(study: Study) -> Study:
    """Return the study without covariates, subjects and reference."""
    spec = replace(study.spec, covariates=(), smooths=(), removed=(), subject=None)
    return replace(study, x=np.empty((len(study.x), 0)), spec=spec, reference=None, subjects=None)


def _scores(study: Study, moments: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Return robust scores of a study's features (obs, feature), from medians and as residuals are."""
    residual = residuals_of(study.transformed, study.x, study.codes, least_squares(moments))
    return robust_scores(residual, study.codes)


def _less_skewed(study: Study, strong: np.ndarray, values: Sequence[float]) -> np.ndarray:
    """Return which strongly skewed features, of such skewness, are less so on the other scale, (feature,)."""
    found = np.zeros(len(strong), dtype=bool)
    if study.spec.transform is None:
        positive = (np.isnan(study.y) | (study.y > 0)).all(axis=0)
        values, strong = np.asarray(values)[positive[strong]], strong & positive
    if strong.any():
        other = study.select(strong)
        other = replace(other, spec=replace(other.spec, transform="log" if study.spec.transform is None else None))
        skewness = Skewness.of(_scores(other, Moments.from_study(other))[1])
        found[strong] = np.abs(np.nan_to_num(skewness.value, nan=1.0)) < np.abs(values)
    return found
