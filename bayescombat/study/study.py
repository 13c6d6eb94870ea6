"""The study: measurements, design columns and batches of the same scans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from bayescombat.batches import Levels, named_cell
from bayescombat.columns import as_table, require, text_label
from bayescombat.design import DesignSpec, batch_names, check_variety, formula_text, parse, smooth_sizes
from bayescombat.errors import DataError
from bayescombat.study.arrays import table_of_arrays
from bayescombat.study.conformity import check_conformity
from bayescombat.study.learning import Asked, Reference, learned_parts
from bayescombat.study.reading import batch_cells, measured, positions, subject_labels
from bayescombat.study.selection import chosen_features, warn_of_codes
from bayescombat.study.summary import summary

__all__ = ["Study"]


@dataclass(frozen=True, eq=False, repr=False)
class Study:
    """Scans of several batches, checked and ready for both estimators.

    Make one with `Study.from_dataframe`, `Study.from_arrays` or `Study.from_design`. The arrays are read-only.

    Parameters
    ----------
    y : ndarray of float64, (obs, feature)
        Measurements, in feature units; NaN where a cell is missing.
    x : ndarray of float64, (obs, covariate)
        Design columns as the formula gives them, neither centred nor scaled, without intercept.
    codes : ndarray of int, (obs,)
        Position of each scan's batch in `batches`.
    batches : tuple of str, (batch,)
        Labels of the batches. With several batch variables a batch is a *cell*: scans that share the levels of
        all of them, whose labels are joined by " / ".
    obs : pandas.Index, (obs,)
        Unique labels of the scans.
    spec : DesignSpec
        How a table becomes features and design columns.
    reference : str, optional
        Label of the batch that the others are harmonized to; None for the pooled target.
    subjects : ndarray of str objects, (obs,), optional
        Labels of the scans' subjects, where repeated scans are modelled.
    sources : pandas.DataFrame, optional
        Covariates as they stand in the table, by labels of scans; a study that a file holds has none.

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
    subjects: np.ndarray | None = None
    sources: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only, as views, so that the caller's own stay as they are."""
        for name in ("y", "x", "codes", *([] if self.subjects is None else ["subjects"])):
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

    @property
    def transformed(self) -> np.ndarray:
        """Measurements on the scale that is modelled, (obs, feature): their logarithms, or `y` itself."""
        if self.spec.transform is None:
            return self.y
        logarithms = np.log(self.y)
        logarithms.setflags(write=False)
        return logarithms

    @classmethod
    def from_dataframe(
        cls,
        table: pd.DataFrame,
        *,
        batch: str | Sequence[str],
        covariates: str | Sequence[str] | None = None,
        features: str | Iterable[str] | None = None,
        remove: str | Sequence[str] | None = None,
        reference: Reference | None = None,
        subject: str | None = None,
        transform: str | None = None,
        smooth: Mapping[str, int] | None = None,
    ) -> Self:
        """Return the study that a table holds. The table is left as it is.

        Parameters
        ----------
        table : pandas.DataFrame
            One row per scan. Its index names the scans; several levels are joined by "/".
        batch : str or sequence of str
            Column of batch labels, or several, whose effects add up. Labels become text (1, 1.0 and "1" are the
            same batch) and are sorted as numbers if all are numbers.
        covariates : str or sequence of str, optional
            What is to be preserved: a formula such as ``"age + sex"`` or names of columns. Text columns
            are categories, their first level in sorted order being the reference level.
        features : str or iterable of str, optional
            Columns to harmonize: names; or one text, a regular expression to search for in the names; or
            None for every column of numbers that has no other role. Cells may be missing.
        remove : str or sequence of str, optional
            What is to go: covariates like the others, modelled jointly with them, whose effects are taken out of the
            harmonized values (Wachinger et al. 2021, doi:10.1016/j.media.2020.101879). All scans then stand at the
            average of what is removed; rows of a reference batch keep their batch effect and lose that of these
            covariates. What both formulas explain goes to neither in particular: its effect is split as in any
            regression.
        reference : str, sequence of str, or mapping, optional
            Batch to harmonize to; by default the pooled average. With several batch columns one label of each, in
            their order or by their names; no scan need have all of them.
        subject : str, optional
            Column of subject labels. Each subject then has an intercept for every feature, which harmonization leaves
            as it is. Some subjects need to have several scans.
        transform : {"log"}, optional
            ``"log"`` harmonizes ratios: the logarithms of the features are modelled, so that shifts are factors,
            scales are exponents, and harmonized values are positive. Every value has to be above zero. By default
            the features are modelled as they are.
        smooth : mapping of str to int, optional
            Numeric columns to be preserved as curves, and how many basis functions each curve has (at least five, ten
            are usual): penalised B-splines, of which every feature learns how smooth they are, down to a straight
            line. They must not stand in `covariates` as themselves.

        Raises
        ------
        BayesCombatError
            If `transform` is unknown.
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
        >>> Study.from_dataframe(table.assign(software=[5, 6, 6]), batch=["site", "software"])
        Study: 3 scans × 2 features
          'site': 2 batches of 1 ('2') to 2 ('1') scans
          'software': 2 batches of 1 ('5') to 2 ('6') scans
          covariates: none
        >>> Study.from_dataframe(table.assign(motion=[0.1, 0.4, 0.2]), batch="site", remove="motion")
        Study: 3 scans × 2 features
          2 batches of 1 ('2') to 2 ('1') scans
          covariates: none
          removed: 'motion'
        """
        table = as_table(table)
        variables, formula = batch_names(batch), formula_text(covariates)
        others = [] if subject is None else [text_label(subject)]
        require(table, variables, "batch column")
        require(table, others, "subject column")
        sizes, removal = smooth_sizes(smooth), formula_text(remove)
        require(table, sizes, "smooth column")
        check_variety(table, sizes)
        taken = [*variables, *parse(formula, removal).columns.values(), *sizes, *others]
        names = chosen_features(table, features, taken)
        asked = Asked(formula, removal, transform, others[0] if others else None, sizes)
        study = cls(*learned_parts(table, variables, names, reference, asked))
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
        remove: Any = None,
        reference: Reference | None = None,
        subject: Any = None,
        transform: str | None = None,
        copy: bool = True,
    ) -> Self:
        """Return the study that arrays hold.

        Parameters
        ----------
        y : array-like or pandas.DataFrame, (obs, feature)
            Measurements; NaN where a cell is missing. The columns of a DataFrame are the features, its index names
            the scans.
        batch : array-like of (obs,), mapping, or pandas.DataFrame
            Batch labels. For several batch variables a mapping of names to labels, or a DataFrame.
        covariates : pandas.DataFrame, mapping, or array-like of (obs, covariate), optional
            Numbers; a mapping gives a name and a column each, an array has ``covariate_0`` and so on. For
            categories and formulas use `Study.from_dataframe`.
        features : sequence of str, optional
            Names of the features; by default ``feature_0`` and so on.
        obs : array-like, (obs,), optional
            Unique labels of the scans; by default those of y, or 0, 1, ...
        remove : pandas.DataFrame, mapping, or array-like of (obs, covariate), optional
            Covariates to be removed, given as `covariates` are; an array has ``removed_0`` and so on.
        reference : str, sequence of str, or mapping, optional
            Batch to harmonize to, as in `Study.from_dataframe`; by default the pooled average.
        subject : array-like, (obs,), optional
            Labels of the subjects, as in `Study.from_dataframe`.
        transform : {"log"}, optional
            As in `Study.from_dataframe`.
        copy : bool
            Whether to copy `y`. If False, a C-contiguous array of float64 is shared, which halves the memory that a
            large study takes, and must not be changed while the study or a fit of it is in use.

        Raises
        ------
        BayesCombatError
            If `transform` is unknown.
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
        table, variables, columns, names, others = table_of_arrays(y, batch, covariates, features, obs, remove, subject)
        kept, removed = (formula_text(part) for part in columns)
        asked = Asked(kept, removed, transform, others[0] if others else None)
        return cls(*learned_parts(table, variables, names, reference, asked, copy))

    @classmethod
    def from_design(cls, table: pd.DataFrame, design: DesignSpec, *, reference: Reference | None = None) -> Self:
        """Return the study that a table holds by a design that was learned elsewhere.

        Nothing is learned from the table, so one batch or one row will do. This is how a site of a federated study
        reads its scans.

        Parameters
        ----------
        table : pandas.DataFrame
            Has the columns of batches, features and covariates that `design` names.
        design : DesignSpec
            The design.
        reference : str, sequence of str, or mapping, optional
            Batch to harmonize to, as in `Study.from_dataframe`. It need not be in this table.

        Raises
        ------
        UnseenLevelError
            If rows have a level that the design does not know.
        DataError
            If columns are lacking or values cannot be used.

        Warns
        -----
        ExtrapolationWarning
            If a covariate lies outside the range that a spline was learned on.

        Examples
        --------
        >>> made_up = pd.DataFrame({"age": [18, 95]})
        >>> design = DesignSpec.learn(made_up, batch="site", formula="age", features=["thickness"])
        >>> Study.from_design(pd.DataFrame({"site": ["b"], "age": [40], "thickness": [2.5]}), design)
        Study: 1 scan × 1 feature
          1 batch of 1 ('b') to 1 ('b') scans
          covariates: 'age'
        """
        if not isinstance(design, DesignSpec):
            raise DataError(
                f"Expected a DesignSpec, found {type(design).__name__}. Take it from a study (study.spec), or read its "
                "file: bayescombat.DesignSpec.load(path)."
            )
        table = as_table(table)
        require(table, design.batch, "batch column")
        require(table, design.sources, "covariate")
        require(table, design.features, "feature")
        cells = batch_cells(table, design.batch)
        batches = Levels.of(design.batch, dict.fromkeys(cells)).sort(cells)
        name = None if reference is None else named_cell(reference, design.batch, "reference")
        y = measured(table, design)
        codes, subjects = positions(cells, batches), subject_labels(table, design)
        sources = table[list(design.sources)].copy()
        return cls(y, design.matrix(table), codes, batches, table.index, design, name, subjects, sources)

    def conforming(self, design: DesignSpec) -> Self:
        """Return this study under another spec of the same design, so that moments of both can be merged.

        Raises
        ------
        DataError
            If features, covariates, what was learned from them, batch variables or transform differ.

        Examples
        --------
        >>> table = pd.DataFrame({"site": ["a", "a", "b", "b"], "thickness": [2.1, 2.4, 2.9, 2.7]})
        >>> design = Study.from_dataframe(table, batch="site").spec
        >>> study = Study.from_arrays(table[["thickness"]], batch=["a", "a", "b", "b"])
        >>> study.spec.batch, study.conforming(design).spec.batch
        (('batch',), ('site',))
        """
        check_conformity(self.spec, design)
        return replace(self, spec=design)

    def select(self, which: np.ndarray | slice) -> Self:
        """Return the study of some features: a slice over them, or where a mask (feature,) is true."""
        names = tuple(np.array(self.features, dtype=object)[which])
        return replace(self, y=np.ascontiguousarray(self.y[:, which]), spec=replace(self.spec, features=names))

    def __repr__(self) -> str:
        """Say how many scans, features and batches there are, and which covariates."""
        return summary(self.y, self.codes, self.batches, self.spec, self.reference, self.subjects)
