"""Formula to design columns: learned once on a table, replayed on any rows, kept as JSON.

formulaic evaluates the formula. Everything that it learned from the table (levels, knots, means and the
like) is kept as text, so that a design from a file gives the same bits as the one that was saved.
"""

import ast
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
import pandas as pd

from bayescombat.columns import as_table, require, warn
from bayescombat.design.covariates import Column
from bayescombat.design.evaluation import State, evaluate, read_state, write_state
from bayescombat.design.formulas import ParsedFormula, formula_text, parse
from bayescombat.errors import DataError, ExtrapolationWarning, FileFormatError, listing

__all__ = ["DesignSpec"]

FORMAT_VERSION = 1
# How far a design row may move, relative to its column, when it is computed without the other rows.
REPLAY_TOLERANCE = 1e-8


@dataclass(frozen=True)
class DesignSpec:
    """What was learned from the table that a study was made of: enough to treat new rows the same way.

    Use `DesignSpec.learn`; two specs are equal if they treat all rows the same.

    Parameters
    ----------
    batch : str
        Name of the batch column.
    features : tuple of str
        Names of the features.
    formula : str
        Right-hand side, "" without covariates.
    covariates : tuple of str
        Names of the design columns, without intercept.
    columns : tuple of Column
        How each column that the formula reads enters it.
    state : str
        JSON: levels, knots, ranges, means and the like that the functions of the formula learned.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["a", "b", "b"], "age": [20, 40, 60], "sex": ["F", "M", "F"]})
    >>> spec = DesignSpec.learn(table, batch="site", formula="center(age) + sex", features=["thickness"])
    >>> spec.covariates
    ('center(age)', 'sex[T.M]')
    >>> DesignSpec.from_json(spec.to_json()).matrix(table.iloc[[1]])
    array([[0., 1.]])
    """

    batch: str
    features: tuple[str, ...]
    formula: str
    covariates: tuple[str, ...]
    columns: tuple[Column, ...]
    state: str

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the table that the formula reads."""
        return tuple(column.name for column in self.columns)

    @classmethod
    def learn(
        cls,
        table: pd.DataFrame,
        *,
        batch: str,
        formula: str | Sequence[object] | None,
        features: Sequence[str],
    ) -> Self:
        """Learn a design from a table.

        Parameters
        ----------
        table : pandas.DataFrame
            Rows are scans. Only the columns that the formula reads are used.
        batch : str
            Name of the batch column.
        formula : str, sequence of column names, or None
            Covariates. The intercept is always implied and always removed; ``0 +`` changes nothing.
        features : sequence of str
            Names of the features.

        Raises
        ------
        DataError
            If a column is missing or has two roles, if the formula cannot be evaluated, gives values that
            are not finite, or gives rows that depend on which other rows are there.
        """
        text = formula_text(formula)
        parsed = parse(text)
        names = parsed.columns.values()
        _check_roles(batch, features, names)
        table = _sources(table, names)
        columns = tuple(Column.learn(table[name], grouping=name in parsed.grouping) for name in names)
        values = {column.name: column.values(table[column.name]) for column in columns}
        matrix, covariates, state = evaluate(values, parsed, State(transforms={}, levels={}), table.index)
        _check_columns(covariates, {parsed.readable(name): known for name, known in state["levels"].items()})
        spec = cls(batch, tuple(features), text, covariates, columns, write_state(state))
        spec._check_replay(table, matrix)
        return spec

    def matrix(self, table: pd.DataFrame) -> np.ndarray:
        """Return the design columns of any rows.

        Parameters
        ----------
        table : pandas.DataFrame
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
        parsed = parse(self.formula)
        table = _sources(table, self.sources)
        values = {column.name: column.values(table[column.name]) for column in self.columns}
        matrix, names, state = evaluate(values, parsed, read_state(self.state), table.index)
        if names != self.covariates:
            raise DataError(
                f"Expected the design columns {listing(self.covariates)}, found {listing(names)}: the "
                f"formula {self.formula!r} gives other columns for other rows. Compute such columns "
                "in the table first."
            )
        for expression, learned in state["transforms"].items():
            if learned.get("outside"):
                _warn_outside(expression, learned, parsed)
        return matrix

    def to_json(self) -> str:
        """Return the spec as JSON text."""
        return json.dumps({"version": FORMAT_VERSION, **asdict(self), "state": json.loads(self.state)})

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the spec that `to_json` wrote.

        Raises
        ------
        FileFormatError
            If the text is nothing that `to_json` wrote, or is of a later version.
        """
        try:
            content = json.loads(text)
            if content["version"] != FORMAT_VERSION:
                raise ValueError("another version")
            return cls(
                batch=content["batch"],
                features=tuple(content["features"]),
                formula=content["formula"],
                covariates=tuple(content["covariates"]),
                columns=tuple(Column(c["name"], c["kind"], tuple(c["levels"])) for c in content["columns"]),
                state=json.dumps(content["state"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise FileFormatError(
                f"Expected a design of version {FORMAT_VERSION} as JSON, found a text that cannot be read as "
                f"one ({type(error).__name__}: {error}). Save it again with this version of bayescombat."
            ) from error

    def _check_replay(self, table: pd.DataFrame, matrix: np.ndarray) -> None:
        """Raise a DataError if a row's design depends on the other rows of the table."""
        for row in {0, len(table) - 1}:
            alone = self.matrix(table.iloc[[row]])[0]
            moved = np.abs(alone - matrix[row]) > REPLAY_TOLERANCE * np.abs(matrix).max(axis=0)
            if moved.any():
                raise DataError(
                    "Expected design columns that can be computed for one row alone, found "
                    f"{listing(np.array(self.covariates)[moved])}, which change with the rows that are "
                    "there. Use center(), scale(), poly() or a spline, which remember the table that they "
                    "were learned on, or compute the column in the table first."
                )


def _sources(table: pd.DataFrame, names: Iterable[str]) -> pd.DataFrame:
    table = as_table(table)
    require(table, names, "covariate")
    return table.loc[:, list(names)]


def _check_roles(batch: str, features: Sequence[str], sources: Iterable[str]) -> None:
    """Raise a DataError if a column has two roles or is named twice."""
    doubled = [name for name, count in Counter([batch, *features, *sources]).items() if count > 1]
    if doubled:
        raise DataError(
            "Expected every column in one role (batch, feature or covariate), found more than one for "
            f"{listing(doubled)}. Name each once."
        )


def _check_columns(names: Sequence[str], levels: Mapping[str, Sequence[object]]) -> None:
    """Raise a DataError if a category has one level, or if two design columns have one name."""
    single = [expression for expression, known in levels.items() if len(known) < 2]
    if single:
        raise DataError(
            f"Expected at least two levels in every categorical covariate, found one in {listing(single)}. "
            "Leave it out of the formula: it is the same for all scans."
        )
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(
            f"Expected every design column once, found {listing(doubled)} more than once. "
            "Rename the columns of the table that lead to the same name."
        )


def _warn_outside(expression: str, learned: Mapping[str, Any], parsed: ParsedFormula) -> None:
    call = ast.parse(expression, mode="eval").body
    assert isinstance(call, ast.Call)
    low, high = learned["range"]
    count, argument = learned["outside"], parsed.readable(ast.unparse(call.args[0]))
    warn(
        f"{count} row{'s have' if count > 1 else ' has'} {argument!r} outside "
        f"the range {low:.6g} to {high:.6g} that {parsed.readable(expression)!r} was learned on. The spline "
        "continues there as a straight line: do not lean on these rows, or fit again with them.",
        ExtrapolationWarning,
    )
