"""What of a design hangs on one column of the table alone."""

import numpy as np
import pandas as pd

from bayescombat.design.evaluation import State, evaluate, ranges, read_state, warn_of_extrapolation
from bayescombat.design.formulas import ParsedFormula, parse
from bayescombat.design.spec import DesignSpec
from bayescombat.errors import DataError, listing, suggestion

__all__ = ["effect_columns", "learned_grid"]

PLACES = 50


def effect_columns(spec: DesignSpec, name: str, values: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return the design columns that read one column of the table alone.

    Parameters
    ----------
    spec : DesignSpec
        The design.
    name : str
        A column that covariates are made of.
    values : pandas.Series, (at,)
        Values of it.

    Returns
    -------
    positions : ndarray of int, (column,)
        Where they stand among all design columns.
    matrix : ndarray, (at, column)

    Raises
    ------
    DataError
        If there is no such covariate, or if other design columns read it beside other columns.
    UnseenLevelError
        If a label is none of the levels.

    Examples
    --------
    >>> table = pd.DataFrame({"age": [20.0, 40.0, 60.0], "sex": ["F", "M", "F"]})
    >>> spec = DesignSpec.learn(table, batch="site", formula="sex + age + I(age**2)", features=["thickness"])
    >>> effect_columns(spec, "age", pd.Series([30.0]))
    (array([1, 2]), array([[ 30., 900.]]))
    """
    parsed = _terms(spec, name)
    given = next(column for column in spec.columns if column.name == name).values(values.rename(name))
    known = read_state(spec.state)
    own = {factor.expr for term in parsed.terms for factor in term.factors}
    state = State(
        transforms=known["transforms"], levels={key: found for key, found in known["levels"].items() if key in own}
    )
    matrix, names, _, state = evaluate({name: given}, parsed, state, values.index)
    warn_of_extrapolation(state, parsed)
    for smooth in spec.smooths:
        if smooth.column == name:
            smooth.warn_of_extrapolation(given)
            matrix, names = np.hstack([matrix, smooth.columns(given)]), (*names, *smooth.names)
    return np.array([spec.covariates.index(column) for column in names]), matrix


def learned_grid(spec: DesignSpec, name: str) -> pd.Series | None:
    """Return values that cover what the design learned of a column.

    They are even places over the range of its smooth or spline, or the levels of a category; None where the design
    knows neither. The errors are those of `effect_columns`.
    """
    _terms(spec, name)
    covered = ranges(read_state(spec.state), parse(spec.formula, spec.remove))
    covered |= {smooth.column: (smooth.low, smooth.high) for smooth in spec.smooths}
    if name in covered:
        return pd.Series(np.linspace(*covered[name], PLACES))
    levels = [column.levels for column in spec.columns if column.name == name and column.kind == "category"]
    return pd.Series(list(levels[0])) if levels else None


def _terms(spec: DesignSpec, name: str) -> ParsedFormula:
    """Return the terms of the formula that read one column alone, checked."""
    if name not in spec.sources:
        raise DataError(
            f"Expected a column that covariates are made of, found {name!r}.{suggestion(name, spec.sources)} "
            f"The design has {listing(spec.sources) or 'none'}."
        )
    parsed, others = parse(spec.formula, spec.remove).of(name)
    if others:
        raise DataError(
            f"Expected {name!r} to act by itself, found it in {listing(others)} together with other columns: its "
            "effect differs with theirs. Harmonize rows instead, or fit without the interaction."
        )
    return parsed
