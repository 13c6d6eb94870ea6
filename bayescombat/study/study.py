"""The study: measurements, design columns and batches of the same scans."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from bayescombat.columns import as_table, labels, measurements, require, sorted_labels, text_label
from bayescombat.design import DesignSpec, formula_text, parse
from bayescombat.errors import DataError, UnseenBatchError, listing, suggestion
from bayescombat.study.arrays import table_of_arrays
from bayescombat.study.overlap import warn_of_gaps
from bayescombat.study.selection import chosen_features, warn_of_codes

__all__ = ["Study"]


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Scans of several batches, checked and ready for both estimators.

    Make one with `Study.from_dataframe` or `Study.from_arrays`. The arrays are read-only.

    Parameters
    ----------
    y : ndarray of float64, (obs, feature)
        Measurements, in feature units.
    x : ndarray of float64, (obs, covariate)
        Design columns as the formula gives them, neither centred nor scaled, without intercept.
    codes : ndarray of int, (obs,)
        Position of each scan's batch in `batches`.
    batches : tuple of str, (batch,)
        Labels of the batches.
    obs : pandas.Index, (obs,)
        Unique labels of the scans.
    spec : DesignSpec
        How a table becomes features and design columns.
    reference : str, optional
        The batch that the others are harmonized to; None for the pooled target.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "site": ["a", "a", "b", "b"],
    ...         "age": [20, 40, 30, 50],
    ...         "thickness": [2.1, 2.4, 2.9, 2.7],
    ...     }
    ... )
    >>> Study.from_dataframe(table, batch="site", covariates="age", features=["thickness"])
    Study: 4 scans × 1 feature
      2 batches of 2 ('a') to 2 ('b') scans
      covariates: 'age'
    """

    y: np.ndarray
    x: np.ndarray
    codes: np.ndarray
    batches: tuple[str, ...]
    obs: pd.Index
    spec: DesignSpec
    reference: str | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only, as views, so that the caller's own stay as they are."""
        for name in ("y", "x", "codes"):
            view = getattr(self, name).view()
            view.setflags(write=False)
            object.__setattr__(self, name, view)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.spec.features

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the design columns."""
        return self.spec.covariates

    @classmethod
    def from_dataframe(
        cls,
        table: pd.DataFrame,
        *,
        batch: str,
        covariates: str | Sequence[str] | None = None,
        features: str | Iterable[str] | None = None,
        reference: str | None = None,
        subject: str | None = None,
    ) -> Self:
        """Return the study that a table holds. The table is left as it is.

        Parameters
        ----------
        table : pandas.DataFrame
            One row per scan. Its index names the scans; several levels are joined by "/".
        batch : str
            Column of batch labels. Labels become text (1, 1.0 and "1" are the same batch) and are sorted
            as numbers if all are numbers.
        covariates : str or sequence of str, optional
            What is to be preserved: a formula such as ``"age + sex"`` or names of columns. Text columns
            are categories, their first level in sorted order being the reference level.
        features : str or iterable of str, optional
            Columns to harmonize: names; or one text, a regular expression to search for in the names; or
            None for every column of numbers that has no other role.
        reference : str, optional
            Batch to harmonize to; by default the pooled average.
        subject : str, optional
            Column of subject labels. Repeated scans are not modelled yet: naming a subject is an error.

        Raises
        ------
        DataError
            If the table cannot be used as it stands; the message names the columns and rows.

        Warns
        -----
        FeatureWarning
            If `features` is None and whole-numbered columns look like identifiers (at least 95 % of the
            values distinct) or like years or codes (at most 10 distinct values, or 5 %, up to 100).
        OverlapWarning
            If batches of two or more scans have covariates that no other batch has, or one level only.

        Examples
        --------
        >>> table = pd.DataFrame({"site": [1, 1, 2], "left": [2.0, 2.5, 3.1], "right": [2.1, 2.6, 3.2]})
        >>> Study.from_dataframe(table, batch="site").features
        ('left', 'right')
        """
        table = as_table(table)
        batch, formula = text_label(batch), formula_text(covariates)
        others = [] if subject is None else [text_label(subject)]
        require(table, [batch], "batch column")
        require(table, others, "subject column")
        names = chosen_features(table, features, [batch, *parse(formula).columns.values(), *others])
        for name in others:
            _refuse_subject(labels(table[name], "subject"), name)
        study = cls._learn(table, batch, formula, names, reference)
        if features is None:
            warn_of_codes(study.y, names)
        return study

    @classmethod
    def from_arrays(
        cls,
        y: Any,
        *,
        batch: Any,
        covariates: Any = None,
        features: Sequence[str] | None = None,
        obs: Any = None,
        reference: str | None = None,
    ) -> Self:
        """Return the study that arrays hold. The arrays are copied.

        Parameters
        ----------
        y : array-like or pandas.DataFrame, (obs, feature)
            Measurements. The columns of a DataFrame are the features, its index names the scans.
        batch : array-like, (obs,)
            Batch labels.
        covariates : pandas.DataFrame, mapping, or array-like of (obs, covariate), optional
            Numbers; a mapping gives a name and a column each, an array has ``covariate_0`` and so on. For
            categories and formulas use `Study.from_dataframe`.
        features : sequence of str, optional
            Names of the features; by default ``feature_0`` and so on.
        obs : array-like, (obs,), optional
            Unique labels of the scans; by default those of y, or 0, 1, ...
        reference : str, optional
            Batch to harmonize to; by default the pooled average.

        Raises
        ------
        DataError
            If lengths or row labels differ, a name is there twice, or values cannot be used.

        Warns
        -----
        OverlapWarning
            As in `Study.from_dataframe`.

        Examples
        --------
        >>> study = Study.from_arrays([[1.5], [2.5], [3.5], [5.5]], batch=["b", "b", "a", "a"])
        >>> study.batches, study.codes, study.features
        (('a', 'b'), array([1, 1, 0, 0]), ('feature_0',))
        """
        table, name, columns, names = table_of_arrays(y, batch, covariates, features, obs)
        return cls._learn(table, name, formula_text(columns), tuple(names), reference)

    @classmethod
    def replay(cls, data: "pd.DataFrame | Study", spec: DesignSpec, batches: Sequence[str]) -> Self:
        """Return rows of known batches, treated by a design that was learned before.

        Nothing is learned, so one batch or one row will do.

        Parameters
        ----------
        data : pandas.DataFrame or Study
            The rows. A table has the columns of batch, features and covariates that `spec` names.
        spec : DesignSpec
            The design.
        batches : sequence of str, (batch,)
            Known batches; the codes of the new study are positions here.

        Raises
        ------
        UnseenBatchError
            If rows belong to another batch.
        UnseenLevelError
            If rows have a level that the design does not know.
        DataError
            If columns are lacking or values cannot be used; if a given study has another design.

        Warns
        -----
        ExtrapolationWarning
            If a covariate lies outside the range that a spline was learned on.

        Examples
        --------
        >>> table = pd.DataFrame({"site": ["a", "a", "b", "b"], "thickness": [2.1, 2.4, 2.9, 2.7]})
        >>> study = Study.from_dataframe(table, batch="site")
        >>> Study.replay(table.tail(1), study.spec, study.batches).codes
        array([1])
        """
        if isinstance(data, Study):
            return cls._of_study(data, spec, batches)
        table = as_table(data)
        require(table, [spec.batch], "batch column")
        require(table, spec.sources, "covariate")
        require(table, spec.features, "feature")
        found = labels(table[spec.batch], "batch")
        codes = _positions(found, batches)
        y = measurements(table, spec.features)
        return cls(y, spec.matrix(table), codes, tuple(batches), table.index, spec)

    @classmethod
    def _of_study(cls, study: "Study", spec: DesignSpec, batches: Sequence[str]) -> Self:
        for name in ("features", "covariates"):
            expected, found = getattr(spec, name), getattr(study.spec, name)
            if expected != found:
                raise DataError(
                    f"Expected a study with the {name} {listing(expected)}, found {listing(found)}. "
                    "Give the table itself, with the columns that the design names."
                )
        if (study.spec.columns, study.spec.state) != (spec.columns, spec.state):
            raise DataError(
                "Expected a study of the same design, found design columns of the same names with other "
                "levels, knots, means or the like behind them. Give the table itself instead of the study."
            )
        codes = _positions(np.array(study.batches, dtype=object)[study.codes], batches)
        return cls(study.y, study.x, codes, tuple(batches), study.obs, spec)

    @classmethod
    def _learn(
        cls, table: pd.DataFrame, batch: str, formula: str, features: tuple[str, ...], reference: str | None
    ) -> Self:
        found = labels(table[batch], "batch")
        batches = sorted_labels(found)
        if len(batches) < 2:
            raise DataError(
                f"Expected at least two batches in {batch!r}, found one: {listing(batches)}. "
                "Check the column; rows of one known batch are harmonized by a fit that knows it."
            )
        codes = _positions(found, batches)
        if reference is not None:
            reference = _checked_reference(reference, batches, codes)
        spec = DesignSpec.learn(table, batch=batch, formula=formula, features=features)
        y = measurements(table, features)
        warn_of_gaps(table, spec.sources, codes, batches)
        return cls(y, spec.matrix(table), codes, batches, table.index, spec, reference)

    def __repr__(self) -> str:
        """Say how many scans, features and batches there are, and which covariates."""
        (n, v), sizes = self.y.shape, np.bincount(self.codes, minlength=len(self.batches))
        least, most = int(sizes.argmin()), int(len(sizes) - 1 - sizes[::-1].argmax())
        lines = [
            f"Study: {_count(n, 'scan')} × {_count(v, 'feature')}",
            f"{_count(len(sizes), 'batch', 'batches')} of {sizes[least]} ({self.batches[least]!r}) to "
            f"{sizes[most]} ({self.batches[most]!r}) scans",
            f"covariates: {listing(self.covariates, 10) or 'none'}",
        ]
        if self.reference is not None:
            lines.append(f"reference: {self.reference!r}")
        return "\n  ".join(lines)


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"


def _positions(found: np.ndarray, batches: Sequence[str]) -> np.ndarray:
    """Return the position of each label in `batches`, (obs,)."""
    codes = pd.Index(list(batches)).get_indexer(pd.Index(found))
    if (codes < 0).any():
        unknown = sorted_labels(found[codes < 0])
        raise UnseenBatchError(
            f"Expected rows of the known batches {listing(batches)}, found {(codes < 0).sum()} rows of "
            f"{listing(unknown)}.{suggestion(unknown[0], batches)} Put the labels right, drop these rows, "
            "or fit again with them."
        )
    return codes


def _checked_reference(reference: object, batches: Sequence[str], codes: np.ndarray) -> str:
    name = text_label(reference)
    if name not in batches:
        raise DataError(
            f"Expected one of the batches {listing(batches)} as reference, found {name!r}."
            f"{suggestion(name, batches)} Name one of them."
        )
    if (codes == batches.index(name)).sum() < 2:
        raise DataError(
            f"Expected a reference batch of at least two scans, found one scan in {name!r}. Its scale cannot "
            "be estimated from one scan, so nothing can be brought to it: choose a larger batch."
        )
    return name


def _refuse_subject(found: np.ndarray, name: str) -> None:
    if len(set(found)) == len(found):
        raise DataError(
            f"Expected several scans of at least some subjects in {name!r}, found one scan per subject: "
            "a subject's intercept and the noise cannot be told apart. Leave the subject out."
        )
    raise DataError(
        f"Expected one scan per subject, found {len(found)} scans of {len(set(found))} subjects in {name!r}. "
        "Repeated scans are not modelled yet: keep one scan per subject, or leave the subject out and "
        "treat the scans as independent, knowing that intervals are then too narrow."
    )
