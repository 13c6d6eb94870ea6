"""Formula to design columns: learned once on a table, replayed on any rows, kept as JSON.

formulaic evaluates the formula. Everything that it learned from the table (levels, knots, means and the
like) is kept as text, so that a design from a file gives the same bits as the one that was saved.
"""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
import pandas as pd

from bayescombat.columns import as_table, require
from bayescombat.design.checks import check_columns, check_replay
from bayescombat.design.covariates import Column
from bayescombat.design.evaluation import State, evaluate, read_state, warn_of_extrapolation, write_state
from bayescombat.design.formulas import formula_text, parse
from bayescombat.design.roles import batch_names, check_roles, feature_names
from bayescombat.design.smooths import Smooth, check_apart, smooth_sizes
from bayescombat.errors import DataError, FileFormatError, check_choice, listing
from bayescombat.frames import Frame
from bayescombat.storage import read_text, write_text

__all__ = ["DesignSpec"]

# Version 1 knew neither smooths nor anything to remove, and reads the same otherwise.
FORMAT_VERSION = 2
READABLE = (1, FORMAT_VERSION)
TRANSFORMS = ("log", None)


@dataclass(frozen=True)
class DesignSpec:
    """What was learned from the table that a study was made of: enough to treat new rows the same way.

    Use `DesignSpec.learn`; two specs are equal if they treat all rows the same.

    Parameters
    ----------
    batch : tuple of str
        Names of the batch columns.
    features : tuple of str
        Names of the features.
    formula : str
        Right-hand side, "" without covariates.
    covariates : tuple of str
        Names of the design columns, without intercept.
    columns : tuple of Column
        How each column that the formula reads enters it, and smooth columns.
    state : str
        JSON: levels, knots, ranges, means and the like that the functions of the formula learned.
    transform : {"log", None}
        What is modelled: the logarithms of the features, or the features themselves.
    subject : str, optional
        Name of the column of subjects, where their repeated scans are modelled.
    smooths : tuple of Smooth
        Penalised splines, whose columns follow those of the formula.
    remove : str
        Right-hand side of what is modelled beside `formula` and taken out, "" where nothing is.
    removed : tuple of str
        Those of `covariates` that come from `remove`.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["a", "b", "b"], "age": [20, 40, 60], "sex": ["F", "M", "F"]})
    >>> spec = DesignSpec.learn(table, batch="site", formula="center(age) + sex", features=["thickness"])
    >>> spec.covariates
    ('center(age)', 'sex[T.M]')
    >>> DesignSpec.from_json(spec.to_json()).matrix(table.iloc[[1]])
    array([[0., 1.]])
    """

    batch: tuple[str, ...]
    features: tuple[str, ...]
    formula: str
    covariates: tuple[str, ...]
    columns: tuple[Column, ...]
    state: str
    transform: str | None = None
    subject: str | None = None
    smooths: tuple[Smooth, ...] = ()
    remove: str = ""
    removed: tuple[str, ...] = ()

    @property
    def kept(self) -> np.ndarray:
        """Which design columns are preserved, (covariate,)."""
        return np.array([name not in self.removed for name in self.covariates], dtype=bool)

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the table that covariates are made of."""
        return tuple(column.name for column in self.columns)

    @property
    def penalised(self) -> tuple[np.ndarray, ...]:
        """Positions of every smooth's penalised columns among the design columns."""
        ends = len(self.covariates) - np.cumsum([len(smooth.names) for smooth in reversed(self.smooths)])
        starts = ends[::-1].tolist()
        return tuple(
            np.arange(start + 1, start + len(smooth.names)) for start, smooth in zip(starts, self.smooths, strict=True)
        )

    @property
    def unpenalised(self) -> np.ndarray:
        """Positions of all other design columns."""
        return np.setdiff1d(np.arange(len(self.covariates)), np.concatenate([[], *self.penalised]))

    @classmethod
    def learn(
        cls,
        table: Frame,
        *,
        batch: str | Sequence[str],
        formula: str | Sequence[object] | None,
        features: Sequence[str],
        transform: str | None = None,
        subject: str | None = None,
        smooth: Mapping[str, int] | None = None,
        remove: str | Sequence[object] | None = None,
    ) -> Self:
        """Learn a design from a table.

        A coordinator of a federated study may have no data. A small made-up table will do, if it lists every level of
        the categories and both ends of the ranges; sites then get the design by `save`. Knots of splines are best given
        as numbers, as in ``bs(age, knots=[40, 60])``: otherwise they are quantiles of the made-up rows. Those of
        `smooth` divide the range evenly.

        Parameters
        ----------
        table : frame (pandas, polars, ...)
            Rows are scans. Only the columns that the formula reads are used.
        batch, features : str or sequence of str
            Names of the batch columns and of the features, of which the table needs none.
        formula : str, sequence of column names, or None
            Covariates. The intercept is always implied and always removed; ``0 +`` changes nothing.
        transform : {"log"}, optional
            ``"log"`` models the logarithms of the features.
        subject : str, optional
            Name of the column of subjects, which the table need not have.
        smooth : mapping of str to int, optional
            Numeric columns and how many basis functions the penalised spline of each has, at least five.
        remove : str, sequence of column names, or None
            Covariates too, but taken out of the harmonized values.

        Raises
        ------
        BayesCombatError
            If `transform` is unknown.
        DataError
            If a column is missing or has two roles, if a formula cannot be evaluated, gives values that are not finite,
            or rows that depend on which others are there; if the formulas share a term; or if a smooth column holds
            labels or one value, stands in a formula as itself, or has too small a basis.

        Examples
        --------
        >>> made_up = pd.DataFrame({"age": [18, 95], "sex": ["F", "M"]})
        >>> spec = DesignSpec.learn(made_up, batch="site", formula="age + sex", features=["thickness"])
        >>> site_of_men = pd.DataFrame({"age": [40, 50], "sex": ["M", "M"]})
        >>> spec.matrix(site_of_men)
        array([[40.,  1.],
               [50.,  1.]])
        """
        return cls.learn_with_matrix(table, batch, formula, features, transform, subject, smooth, remove)[0]

    @classmethod
    def learn_with_matrix(
        cls,
        table: Frame,
        batch: str | Sequence[str],
        formula: str | Sequence[object] | None,
        features: Sequence[str],
        transform: str | None,
        subject: str | None,
        smooth: Mapping[str, int] | None,
        remove: str | Sequence[object] | None,
    ) -> tuple[Self, np.ndarray]:
        """Return what `learn` returns, and the design columns of the table (obs, covariate) as `matrix` gives them."""
        check_choice("transform", transform, TRANSFORMS)
        text, removal, sizes = formula_text(formula), formula_text(remove), smooth_sizes(smooth)
        parsed = parse(text, removal)
        check_apart(parsed, sizes)
        names = dict.fromkeys([*parsed.columns.values(), *sizes])
        variables, chosen = batch_names(batch), feature_names(features)
        check_roles(variables, chosen, names, subject)
        table = _sources(table, names)
        columns = tuple(Column.learn(table[name], grouping=name in parsed.grouping) for name in names)
        values = {column.name: column.values(table[column.name]) for column in columns}
        matrix, covariates, removed, state = evaluate(values, parsed, State(transforms={}, levels={}), table.index)
        kinds = {column.name: column for column in columns}
        smooths = tuple(Smooth.learn(kinds[name], values[name], size) for name, size in sizes.items())
        covariates = (*covariates, *(name for smooth in smooths for name in smooth.names))
        check_columns(covariates, {parsed.readable(name): known for name, known in state["levels"].items()})
        learned = (text, covariates, columns, write_state(state), transform, subject, smooths, removal, removed)
        spec = cls(variables, chosen, *learned)
        matrix = _beside(matrix, smooths, values)
        check_replay(spec._evaluated, table, matrix, covariates)
        return spec, matrix

    def matrix(self, table: Frame) -> np.ndarray:
        """Return the design columns of any rows.

        Parameters
        ----------
        table : frame (pandas, polars, ...)
            Rows are scans; has the columns named in `sources`.

        Returns
        -------
        ndarray of float64, (obs, covariate)
            As the formula gives them, neither centred nor scaled. Splines continue linearly outside the
            range that they were learned on, with an ExtrapolationWarning.

        Raises
        ------
        DataError
            If a column is missing, or values are missing or not finite.
        UnseenLevelError
            If a categorical column has a level that was not there when the design was learned.
        """
        return self._evaluated(_sources(table, self.sources))

    def _evaluated(self, table: pd.DataFrame) -> np.ndarray:
        """Return the design columns of rows of the sources alone."""
        parsed = parse(self.formula, self.remove)
        values = {column.name: column.values(table[column.name]) for column in self.columns}
        matrix, names, _, state = evaluate(values, parsed, read_state(self.state), table.index)
        expected = self.covariates[: len(self.covariates) - sum(len(smooth.names) for smooth in self.smooths)]
        if names != expected:
            raise DataError(
                f"Expected the design columns {listing(expected)}, found {listing(names)}: the formula "
                f"{self.formula!r} gives other columns for other rows. Compute such columns in the table first."
            )
        warn_of_extrapolation(state, parsed)
        for smooth in self.smooths:
            smooth.warn_of_extrapolation(values[smooth.column])
        return _beside(matrix, self.smooths, values)

    def to_json(self) -> str:
        """Return the spec as JSON text."""
        # asdict copies piece by piece, which takes its time over many names of features.
        fields = asdict(replace(self, features=())) | {"features": self.features}
        return json.dumps({"version": FORMAT_VERSION, **fields, "state": json.loads(self.state)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that `to_json` wrote.

        Raises
        ------
        FileFormatError
            If the text is nothing that `to_json` wrote, or is of a later version.
        """
        return cls._read(text, "a text")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the spec to a text file (JSON, UTF-8), whole or not at all.

        This is what the coordinator of a federated study gives to its sites, so that levels of categories, knots
        and the like come from it and never from a site. The file holds no rows, but it does hold names of
        columns, levels, and learned numbers such as means, ranges and knots.

        Parameters
        ----------
        path : path-like
            An older file there is replaced.

        Raises
        ------
        FileNotFoundError
            If the folder does not exist.

        Examples
        --------
        >>> from tempfile import TemporaryDirectory
        >>> made_up = pd.DataFrame({"age": [18, 95], "sex": ["F", "M"]})
        >>> spec = DesignSpec.learn(made_up, batch="site", formula="age + sex", features=["thickness"])
        >>> with TemporaryDirectory() as folder:
        ...     spec.save(f"{folder}/design.json")
        ...     DesignSpec.load(f"{folder}/design.json") == spec
        True
        """
        write_text(json.dumps(json.loads(self.to_json()), indent=2, ensure_ascii=False) + "\n", path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Return the spec that `save` wrote: the same design columns, bit for bit.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        FileFormatError
            If the file holds nothing that `save` wrote, or is of a later version.
        """
        return cls._read(read_text(path), f"the file {os.fspath(path)!r}")

    @classmethod
    def _read(cls, text: str, source: str) -> Self:
        """Return the spec that a text holds; `source` says in errors where the text is from."""
        try:
            content = json.loads(text)
            if content["version"] not in READABLE:
                raise ValueError("another version")
            check_choice("transform", content["transform"], TRANSFORMS)
            spec = cls(
                batch=batch_names(_texts(content["batch"])),
                features=feature_names(_texts(content["features"])),
                formula=content["formula"],
                covariates=_texts(content["covariates"]),
                columns=tuple(Column(c["name"], c["kind"], tuple(c["levels"])) for c in content["columns"]),
                state=json.dumps(content["state"]),
                transform=content["transform"],
                subject=content.get("subject"),
                smooths=tuple(map(Smooth.read, content.get("smooths", []))),
                remove=content.get("remove", ""),
                removed=_texts(content.get("removed", [])),
            )
            check_roles(spec.batch, spec.features, spec.sources, spec.subject)
            read = {*parse(spec.formula, spec.remove).columns.values(), *(smooth.column for smooth in spec.smooths)}
            lacking = (read - set(spec.sources)) | (set(spec.removed) - set(spec.covariates))
            if lacking or set(read_state(spec.state)) != set(State.__annotations__):
                raise ValueError(f"nothing of {listing(lacking) or 'what was learned'}")
            return spec
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"Expected a design of version {FORMAT_VERSION} as JSON, found {source}, which cannot be read as "
                f"one ({type(error).__name__}: {error}). Save it again with this version of bayescombat."
            ) from error


def _sources(table: Frame, names: Iterable[str]) -> pd.DataFrame:
    table = as_table(table)
    require(table, names, "covariate")
    return table.loc[:, list(names)]


def _texts(names: object) -> tuple[str, ...]:
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TypeError(f"{names!r} is no list of names")
    return tuple(names)


def _beside(matrix: np.ndarray, smooths: Sequence[Smooth], values: Mapping[str, Any]) -> np.ndarray:
    """Return the columns of the formula and those of the smooths, (obs, covariate)."""
    return np.hstack([matrix, *(smooth.columns(values[smooth.column]) for smooth in smooths)]) if smooths else matrix
