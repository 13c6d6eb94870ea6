"""Penalised B-splines of numeric columns, as one unpenalised column and several whose penalty is the identity.

A curve of K cubic B-splines with equally spaced knots is penalised by the squares of the second differences of its
coefficients (Eilers and Marx 1996, doi:10.1214/ss/1038425655). What goes without penalty is the straight lines. The
rest is written in columns whose penalty is their coefficients' sum of squares, so that these are a random effect
(Currie and Durbán 2002, doi:10.1191/1471082x02st039ob; Wood 2017, doi:10.1201/9781315370279).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.interpolate import BSpline

from bayescombat.columns import inferred, is_numeric, text_label
from bayescombat.design.covariates import Column
from bayescombat.design.formulas import ParsedFormula
from bayescombat.design.splines import warn_outside
from bayescombat.errors import DataError, listing

__all__ = ["FEWEST_VALUES", "Smooth", "check_apart", "check_variety", "smooth_sizes"]

DEGREE = 3
# One knot within the range: without it there is a single cubic, whose smoothness a penalty hardly tells.
LEAST_SIZE = DEGREE + 2
FEWEST_VALUES = 4


@dataclass(frozen=True)
class Smooth:
    """A penalised spline of one column.

    Parameters
    ----------
    column : str
        Column of the table.
    low, high : float
        Range that it was learned on, which the knots divide evenly.
    weights : tuple of tuple of float, (basis function, penalised column)
        The penalised columns in terms of the B-splines. Over the range they are orthogonal to each other and to
        straight lines, the smoothest first; their mean squares add up to one, so that coefficients of standard
        deviation tau bend a line by tau, root mean square.

    Examples
    --------
    >>> ages = np.array([20.0, 30.0, 60.0, 80.0])
    >>> smooth = Smooth.learn(Column("age", "number"), ages, 5)
    >>> smooth.names
    ('s(age)[linear]', 's(age)[1]', 's(age)[2]', 's(age)[3]')
    >>> smooth.columns(ages)[:, 0]
    array([20., 30., 60., 80.])
    """

    column: str
    low: float
    high: float
    weights: tuple[tuple[float, ...], ...]

    @classmethod
    def learn(cls, column: Column, values: Any, size: int) -> Self:
        """Return the smooth of a column with `size` B-splines over the range of its values (obs,).

        Raises
        ------
        DataError
            If the column holds categories, or one value only.
        """
        if column.kind == "category":
            raise DataError(
                f"Expected numbers in the smooth column {column.name!r}, found labels. Convert it with "
                "pandas.to_numeric, or put it into the formula as a category."
            )
        numbers = np.asarray(values, dtype=np.float64)
        low, high = float(numbers.min()), float(numbers.max())
        if low == high:
            raise DataError(
                f"Expected both ends of the range of the smooth column {column.name!r}, found one value, {low:.6g}. "
                "Leave it out of smooth, or add rows."
            )
        return cls(column.name, low, high, tuple(map(tuple, _weights(size).tolist())))

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Self:
        """Return the smooth that a design file holds."""
        weights = np.array(content["weights"], dtype=np.float64)
        if weights.ndim != 2 or len(weights) < LEAST_SIZE or not content["low"] < content["high"]:
            raise ValueError(f"no smooth of {content['column']!r}")
        return cls(content["column"], content["low"], content["high"], tuple(map(tuple, weights.tolist())))

    @property
    def label(self) -> str:
        """What the smooth is called."""
        return f"s({self.column})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the design columns: the column itself, then the penalised ones."""
        return tuple(f"{self.label}[{part}]" for part in ("linear", *range(1, len(self.weights[0]) + 1)))

    def columns(self, values: Any) -> np.ndarray:
        """Return the design columns of some values (obs,): beyond the range they continue as straight lines."""
        numbers = np.asarray(values, dtype=np.float64)
        place = (numbers - self.low) / (self.high - self.low)
        inside = np.clip(place, 0.0, 1.0)
        spline = BSpline(_knots(len(self.weights)), np.array(self.weights), DEGREE)
        penalised = spline(inside)
        if (place != inside).any():
            slopes = spline(np.array([0.0, 1.0]), nu=1)
            penalised += (place - inside)[:, None] * np.where((place > 0.5)[:, None], slopes[1], slopes[0])
        return np.column_stack([numbers, penalised])

    def warn_of_extrapolation(self, values: Any) -> None:
        """Warn of values outside the range."""
        numbers = np.asarray(values, dtype=np.float64)
        outside = int(((numbers < self.low) | (numbers > self.high)).sum())
        if outside:
            warn_outside(self.column, self.label, (self.low, self.high), outside)


def _knots(size: int) -> np.ndarray:
    """Return the knots of `size` B-splines over the range from zero to one."""
    return np.arange(-DEGREE, size + 1) / (size - DEGREE)


def _weights(size: int) -> np.ndarray:
    """Return the penalised columns in terms of the B-splines, (basis function, penalised column)."""
    segments = size - DEGREE
    nodes, density = np.polynomial.legendre.leggauss(DEGREE + 1)
    places = ((np.arange(segments)[:, None] + (nodes + 1) / 2) / segments).ravel()
    basis = BSpline(_knots(size), np.eye(size), DEGREE)
    at = basis(places)
    products = (at * np.tile(density / (2 * segments), segments)[:, None]).T @ at
    difference = np.diff(np.eye(size), n=2, axis=0)
    # Of all coefficients with given second differences the shortest; lines are then taken out over the range.
    weights: np.ndarray = np.linalg.solve(difference @ difference.T, difference).T
    lines = np.column_stack([np.ones(size), np.arange(size)])
    slopes: np.ndarray = np.linalg.solve(lines.T @ products @ lines, lines.T @ products @ weights)
    weights = weights - lines @ slopes
    values, vectors = np.linalg.eigh(weights.T @ products @ weights)
    weights = weights @ vectors[:, ::-1] / np.sqrt(values.sum())
    # A sign that does not hang on the eigenvectors' own.
    return np.asarray(weights * np.where(basis(1.0) @ weights < 0, -1.0, 1.0))


def smooth_sizes(smooth: Mapping[str, int] | None) -> dict[str, int]:
    """Return the sizes of the bases by the names of their columns, checked.

    Raises
    ------
    DataError
        If this is no mapping, or a size is no whole number of at least five.

    Examples
    --------
    >>> smooth_sizes({"age": 10})
    {'age': 10}
    """
    if smooth is None:
        return {}
    if not isinstance(smooth, Mapping):
        raise DataError(
            f"Expected smooth as a mapping of columns to numbers of basis functions, found {type(smooth).__name__}. "
            "Give for example smooth={'age': 10}."
        )
    for name, size in smooth.items():
        if isinstance(size, bool) or not isinstance(size, Integral) or int(size) < LEAST_SIZE:
            raise DataError(
                f"Expected a whole number of at least {LEAST_SIZE} basis functions in smooth of {text_label(name)!r}, "
                f"found {size!r}. Ten are usual: more cost time and hardly change a curve, since it is penalised."
            )
    return {text_label(name): int(size) for name, size in smooth.items()}


def check_apart(parsed: ParsedFormula, sizes: Mapping[str, int]) -> None:
    """Raise a DataError if a smooth column stands in the formula as itself too."""
    alone = [parsed.readable(str(term)) for term in parsed.terms]
    doubled = [name for name in sizes if name in alone or f"`{name}`" in alone]
    if doubled:
        raise DataError(
            f"Expected smooth columns that do not stand in the formula as themselves, found {listing(doubled)} in "
            "both. Leave them out of the formula: a smooth holds the straight line."
        )


def check_variety(table: pd.DataFrame, sizes: Mapping[str, int]) -> None:
    """Raise a DataError if a smooth column of numbers has too few distinct values to tell of a curve."""
    for name in sizes:
        values = inferred(table[name])
        count = values.nunique()
        if is_numeric(values) and count < FEWEST_VALUES:
            raise DataError(
                f"Expected at least {FEWEST_VALUES} distinct values in the smooth column {name!r}, found {count}. "
                "Put it into the formula instead: as a number, or as a category by C()."
            )
