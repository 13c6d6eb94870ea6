"""The doors for tables and arrays."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from bayescombat.batches import Levels, named_cell
from bayescombat.columns import as_table, require
from bayescombat.design import DesignSpec, formula_text
from bayescombat.errors import DataError
from bayescombat.frames import Frame
from bayescombat.study.arrays import table_of_arrays
from bayescombat.study.learning import Asked, Reference, Roles, learned_parts
from bayescombat.study.reading import batch_cells, measured, positions, subject_labels
from bayescombat.study.scans import Scans
from bayescombat.study.selection import chosen_features, warn_of_codes

__all__ = ["FromTables"]


class FromTables(Scans):
    """Scans, and the doors for tables and arrays; `Study` adds those for labelled arrays and AnnData."""

    @classmethod
    def from_dataframe(
        cls,
        table: Frame,
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
        table : frame (pandas, polars, ...)
            One row per scan. Its index names the scans; several levels are joined by "/". Frames of polars, pyarrow and
            other libraries that narwhals knows will do, where rows without an index are 0, 1, ...
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
        >>> import pandas as pd
        >>> import bayescombat as bc
        >>> table = pd.DataFrame({"site": [1, 1, 2], "left": [2.0, 2.5, 3.1], "right": [2.1, 2.6, 3.2]})
        >>> bc.Study.from_dataframe(table, batch="site").features
        ('left', 'right')
        >>> bc.Study.from_dataframe(table.assign(software=[5, 6, 6]), batch=["site", "software"])
        Study: 3 scans × 2 features
          'site': 2 batches of 1 ('2') to 2 ('1') scans
          'software': 2 batches of 1 ('5') to 2 ('6') scans
          covariates: none
        >>> bc.Study.from_dataframe(table.assign(motion=[0.1, 0.4, 0.2]), batch="site", remove="motion")
        Study: 3 scans × 2 features
          2 batches of 1 ('2') to 2 ('1') scans
          covariates: none
          removed: 'motion'
        """
        table = as_table(table)
        roles = Roles.of(batch, covariates, remove, reference, subject, transform, smooth)
        roles.check(table)
        names = chosen_features(table, features, roles.columns)
        study = cls(*roles.parts(table, names))
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
            the scans. Here and below frames and columns of other libraries will do too.
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
        >>> import bayescombat as bc
        >>> study = bc.Study.from_arrays([[1.5], [2.5], [3.5], [5.5]], batch=["b", "b", "a", "a"])
        >>> study.batches, study.codes, study.features
        (('a', 'b'), array([1, 1, 0, 0]), ('feature_0',))
        """
        table, variables, columns, names, others = table_of_arrays(y, batch, covariates, features, obs, remove, subject)
        kept, removed = (formula_text(part) for part in columns)
        asked = Asked(kept, removed, transform, others[0] if others else None)
        return cls(*learned_parts(table, variables, names, reference, asked, copy))

    @classmethod
    def from_design(cls, table: Frame, design: DesignSpec, *, reference: Reference | None = None) -> Self:
        """Return the study that a table holds by a design that was learned elsewhere.

        Nothing is learned from the table, so one batch or one row will do. This is how a site of a federated study
        reads its scans.

        Parameters
        ----------
        table : frame (pandas, polars, ...)
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
        >>> import pandas as pd
        >>> import bayescombat as bc
        >>> made_up = pd.DataFrame({"age": [18, 95]})
        >>> design = bc.DesignSpec.learn(made_up, batch="site", formula="age", features=["thickness"])
        >>> bc.Study.from_design(pd.DataFrame({"site": ["b"], "age": [40], "thickness": [2.5]}), design)
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
