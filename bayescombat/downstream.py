"""What harmonized data say of a question, with what is unsure of the harmonization."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from inspect import Parameter, signature
from typing import Any, NamedTuple, Self

import formulaic
import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import false_discovery_control

from bayescombat.columns import as_table, names_index, warn
from bayescombat.design import formula_text, parse
from bayescombat.errors import (
    BayesCombatError,
    ConvergenceWarning,
    DataError,
    check_probability,
    listing,
    suggestion,
)
from bayescombat.fit import Fit
from bayescombat.fit.drawing import wanted_features
from bayescombat.fit.layout import Layout
from bayescombat.frames import Frame
from bayescombat.rubin import Answers, Pooled, least_squares, pooled
from bayescombat.study import Study

__all__ = ["pool"]

type Model = Callable[[str, pd.DataFrame], Any]
type Answering = Callable[[xr.DataArray], tuple[tuple[str, ...], Answers]]

ATTRS = {
    "estimate": "mean of the estimates of all harmonized tables",
    "sd": "its standard deviation, the uncertainty of harmonization included",
    "lower": "lower bound of the central interval",
    "upper": "upper bound of the central interval",
    "freedom": "degrees of freedom",
    "p": "two-sided p-value of no effect",
    "p_fdr": "p-value adjusted for the false discovery rate over the features",
    "information_lost": "fraction of the information that is lost to harmonization",
}


def pool(
    fit: Fit,
    formula: str,
    data: Frame | None = None,
    *,
    feature: str | Iterable[str] | None = None,
    model: Model | None = None,
    n: int = 100,
    probability: float = 0.95,
) -> xr.Dataset:
    """Answer a question on many plausible harmonized tables, and pool the answers.

    To take harmonized values for measurements makes p-values too small: batch effects were estimated, and what is
    unsure of them is shared by all scans of a batch. Here the formula is fitted to each of n posterior draws of the
    harmonized table. How far the answers differ is what harmonization left unsure, and is added to the variance.

    Parameters
    ----------
    fit : Fit
        By NUTS, or by empirical Bayes with ``uncertainty=True``, which takes alpha and beta for known and is too sure
        where covariates differ between batches.
    formula : str
        Such as ``"thickness ~ dx + age"``. One of its names is a feature of the fit, or stands for every one of
        `feature` in turn, where it is neither a feature nor a column of the data.
    data : frame (pandas, polars, ...), optional
        Columns that the formula reads, with a row for every fitted scan, found by its label; others are ignored. By
        default the covariates of the study that enter its design as themselves. Rows without a value are left out.
    feature : str or iterable of str, optional
        Which features the formula's free name stands for; by default all that were modelled.
    model : callable, optional
        What fits the formula to a table, as ``statsmodels.formula.api`` has it: ``smf.logit``, for which the feature
        may stand on the right, or ``functools.partial(smf.mixedlm, groups="subject")``. By default least squares of
        the feature, by which thousands of features take seconds.
    n : int
        How many draws, at least two.
    probability : float
        Of the central interval from ``lower`` to ``upper``.

    Returns
    -------
    xarray.Dataset
        ``estimate, sd, lower, upper, freedom, p, p_fdr, information_lost`` (feature, term), in feature units per unit
        of the term, or as `model` has it; and ``scans`` (feature), how many were used. ``p_fdr`` is adjusted over the
        features of the result, for every term by itself.

    Raises
    ------
    BayesCombatError
        If the fit has no draws or too few; if scans of subjects are repeated and no `model` knows of it.
    DataError
        If the formula cannot be read, names no feature or several, or cannot be estimated; if rows are lacking.

    Warns
    -----
    ConvergenceWarning
        If fits of `model` say that they did not converge.

    Notes
    -----
    Rubin's rules (1987), doi:10.1002/9780470316696, with the degrees of freedom of Barnard and Rubin (1999),
    doi:10.1093/biomet/86.4.948; the false discovery rate of Benjamini and Hochberg (1995),
    doi:10.1111/j.2517-6161.1995.tb02031.x. A question that the harmonization knew nothing of (a covariate that was not
    preserved) has been shrunken towards no effect wherever it differs between batches; see
    doi:10.1093/biostatistics/kxv027 for what else is wrong with the analysis in two steps.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 15, 10), features=4)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> fit = bc.fit(study, method="eb", uncertainty=True)
    >>> bc.pool(fit, "value ~ age")["estimate"].sizes
    Frozen({'feature': 4, 'term': 2})
    """
    check_probability(probability)
    if not isinstance(n, int) or n < 2:
        raise BayesCombatError(f"Expected n to be a whole number of at least 2, found {n!r}: one draw cannot differ.")
    study = fit.study
    table = _covariates(study) if data is None else _aligned(data, study)
    question = _Question.of(formula, table, fit.layout, feature)
    answer = _linear(question, table, study) if model is None else _by_model(question, table, model)
    terms, parts = zip(*map(answer, fit.draws_in_blocks(n, question.features)), strict=True)
    answers = Answers(*(np.concatenate(some, axis=-1) for some in zip(*parts, strict=True)))
    _check_estimated(answers, question)
    return _labelled(pooled(answers), answers, terms[0], question, n, probability)


class _Question(NamedTuple):
    """A formula, the name in it that stands for a feature, and the features that it stands for."""

    formula: str
    name: str
    features: tuple[str, ...]

    @classmethod
    def of(cls, formula: str, table: pd.DataFrame, layout: Layout, feature: str | Iterable[str] | None) -> Self:
        """Return the question that a formula asks of these features, checked."""
        modelled, known = layout.features, set(layout.spec.features)
        left, tilde, right = formula.partition("~")
        if not tilde or not left.strip():
            raise DataError(f"Expected a formula with a response, such as 'thickness ~ dx + age', found {formula!r}.")
        names = dict.fromkeys(name for side in (left, right) for name in parse(formula_text(side)).columns.values())
        own = [name for name in names if name in modelled]
        free = [name for name in names if name not in modelled and name not in table.columns]
        aside = [name for name in free if name in known]
        if aside:
            raise DataError(
                f"Expected features that were modelled in {formula!r}, found {listing(aside)}, set aside by the fit. "
                "Ask another feature."
            )
        # What all names have in common is no mistyped one of them.
        common = bool(free) and all(free[0] in name for name in modelled)
        if free and feature is None and not common and suggestion(free[0], modelled):
            raise DataError(
                f"Expected a feature, or a name unlike those of features, in {formula!r}, found {free[0]!r}."
                f"{suggestion(free[0], modelled)} To ask it of every feature, give feature=fit.layout.features."
            )
        if len(own) + len(free) != 1:
            found = listing([*own, *free]) or "none"
            near = next(filter(None, (suggestion(name, table.columns) for name in free)), "")
            raise DataError(
                f"Expected one name in {formula!r} that is a feature or stands for one, found {found}."
                f"{near} The data have {listing(table.columns)}; give "
                "data=table for others."
            )
        if own:
            return cls(formula, own[0], (own[0],))
        # In the order of the fit, which draws come in.
        wanted = np.array(modelled, dtype=object)[wanted_features(modelled, feature)]
        return cls(formula, free[0], tuple(wanted))


def _covariates(study: Study) -> pd.DataFrame:
    """Return the covariates that enter the design as themselves: numbers, and categories with all their columns."""
    columns: dict[str, Any] = {}
    design = pd.DataFrame(study.x, columns=list(study.covariates))
    for column in study.spec.columns:
        dummies = [f"{column.name}[T.{level}]" for level in column.levels[1:]]
        if column.name in design:
            columns[column.name] = design[column.name].to_numpy()
        elif dummies and set(dummies) <= set(design):
            codes = (design[dummies].to_numpy() * np.arange(1, len(dummies) + 1)).sum(axis=1).astype(int)
            columns[column.name] = pd.Categorical.from_codes(codes, categories=pd.Index(column.levels))
    return pd.DataFrame(columns, index=study.obs)


def _aligned(data: Frame, study: Study) -> pd.DataFrame:
    """Return the rows of the fitted scans, in their order."""
    table = as_table(data)
    missing = study.obs.difference(table.index)
    if len(missing):
        raise DataError(
            f"Expected a row for each of the {len(study.obs)} fitted scans, found none for {listing(missing)}. Give "
            "the table that the study was made of, with its index, or with more columns."
        )
    return table.loc[study.obs]


def _linear(question: _Question, table: pd.DataFrame, study: Study) -> Answering:
    """Return what answers by least squares."""
    left, _, right = question.formula.partition("~")
    if left.strip().strip("`") != question.name:
        raise DataError(
            f"Expected the feature alone on the left of {question.formula!r}, found {left.strip()!r} there and "
            f"{question.name!r} elsewhere. Give a model, such as model=statsmodels.formula.api.ols."
        )
    if study.subjects is not None:
        raise BayesCombatError(
            "Expected one scan of every subject for least squares, found a study with subjects, whose scans are not "
            "independent. Give model=functools.partial(statsmodels.formula.api.mixedlm, groups=<column>)."
        )
    matrix = formulaic.model_matrix(right, table, na_action="drop")
    kept, x = table.index.get_indexer(matrix.index), np.asarray(matrix, dtype=float)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise DataError(
            f"Expected terms of {question.formula!r} that can be told apart, found that of {listing(matrix.columns)} "
            f"some explain others in the {len(x)} rows. Leave one out."
        )
    return lambda part: (tuple(matrix.columns), least_squares(x, part.values[:, kept]))


def _by_model(question: _Question, table: pd.DataFrame, model: Model) -> Answering:
    """Return what answers by a model of statsmodels, fitted to every feature of every draw."""

    def answer(part: xr.DataArray) -> tuple[tuple[str, ...], Answers]:
        features = []
        for values in np.moveaxis(part.values, -1, 0):
            tables = (table.assign(**{question.name: one}) for one in values)
            features.append([_fitted(model(question.formula, one)) for one in tables])
        stopped = [not one.converged for draws in features for one in draws]
        if any(stopped):
            warn(
                f"{sum(stopped)} of {len(stopped)} fits of {question.formula!r} did not converge, by their own "
                "account. Simplify the formula, or do not lean on the result.",
                ConvergenceWarning,
            )
        estimate, variance = (
            np.array([[getattr(one, name) for one in draws] for draws in features]).transpose(1, 2, 0)
            for name in ("estimate", "variance")
        )
        freedom, scans = (
            np.array([min(getattr(one, name) for one in draws) for draws in features]) for name in ("freedom", "scans")
        )
        return features[0][0].terms, Answers(estimate, variance, freedom, scans)

    return answer


class _Fitted(NamedTuple):
    """What one fit of statsmodels found."""

    terms: tuple[str, ...]
    estimate: np.ndarray
    variance: np.ndarray
    freedom: float
    scans: int
    converged: bool


def _fitted(model: Any) -> _Fitted:
    known = signature(model.fit).parameters
    # Models that are fitted in steps print so, unless told not to; some, such as robust ones, cannot be told.
    told = "disp" in known or any(one.kind is Parameter.VAR_KEYWORD for one in known.values())
    result = model.fit(**{"disp": 0} if told else {})
    if not isinstance(result.params, pd.Series):
        raise BayesCombatError(
            f"Expected a model of statsmodels whose parameters have names, found {type(model).__name__}, whose have "
            "none. Choose another model."
        )
    freedom = float(result.df_resid) if getattr(result, "use_t", False) else np.inf
    said: Mapping[str, Any] = getattr(result, "mle_retvals", None) or {}
    converged = said.get("converged", getattr(result, "converged", True))
    estimate, variance = result.params.to_numpy(), np.diag(result.cov_params())
    return _Fitted(tuple(result.params.index), estimate, variance, freedom, int(result.nobs), bool(converged))


def _check_estimated(answers: Answers, question: _Question) -> None:
    """Raise a DataError if some feature has no answer."""
    lacking = ~np.isfinite(answers.estimate).all(axis=(0, 1)) | ~np.isfinite(answers.variance).all(axis=(0, 1))
    if lacking.any():
        names = np.array(question.features, dtype=object)[lacking]
        raise DataError(
            f"Expected scans enough to estimate every term of {question.formula!r}, found too few with a value of "
            f"{listing(names)}. Name other features, or simplify the formula."
        )


def _labelled(
    found: Pooled, answers: Answers, terms: Sequence[str], question: _Question, n: int, probability: float
) -> xr.Dataset:
    p = found.p()
    lower, upper = found.bounds(probability)
    values = {
        "estimate": found.estimate,
        "sd": found.sd,
        "lower": lower,
        "upper": upper,
        "freedom": found.freedom,
        "p": p,
        "p_fdr": false_discovery_control(p, axis=1),
        "information_lost": found.lost,
    }
    data: dict[str, Any] = {
        name: (("feature", "term"), value.T, {"long_name": ATTRS[name]}) for name, value in values.items()
    }
    data["scans"] = ("feature", answers.scans, {"long_name": "scans that were used"})
    coords = {"feature": names_index(question.features), "term": list(terms)}
    return xr.Dataset(data, coords, {"formula": question.formula, "draws": n, "probability": probability})
