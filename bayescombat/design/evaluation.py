"""A formula evaluated by formulaic, and what its functions learned, as text."""

import ast
import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np
import pandas as pd
from formulaic import ModelSpec
from formulaic.errors import DataMismatchWarning
from formulaic.materializers import PandasMaterializer
from formulaic.parser.types import Factor

from bayescombat.design.covariates import unseen_level
from bayescombat.design.formulas import ParsedFormula
from bayescombat.design.splines import SPLINES, warn_outside
from bayescombat.errors import DataError, UnseenLevelError, listing

__all__ = ["State", "evaluate", "ranges", "read_state", "warn_of_extrapolation", "write_state"]


class State(TypedDict):
    """What the functions of a formula learned from a table, by expression."""

    transforms: dict[str, Any]
    levels: dict[str, Sequence[object]]


class Evaluated(NamedTuple):
    """Design columns (obs, covariate) without the intercept, their names, those to be removed, and the state."""

    matrix: np.ndarray
    names: tuple[str, ...]
    removed: tuple[str, ...]
    state: State


def evaluate(columns: Mapping[str, Any], parsed: ParsedFormula, state: State, rows: pd.Index) -> Evaluated:
    """Return the design columns, their names and the state afterwards.

    Parameters
    ----------
    columns : mapping of str to array-like, (obs,)
        Values of every column that the formula reads, by their names in the table.
    parsed : ParsedFormula
        The formula.
    state : State
        As learned before; what it lacks is learned now.
    rows : pandas.Index, (obs,)
        Names of the rows, for errors.

    Raises
    ------
    DataError
        If the formula cannot be evaluated or gives values that are not finite.
    UnseenLevelError
        If an expression gives levels that it did not give before.

    Examples
    --------
    >>> from bayescombat.design.formulas import parse
    >>> evaluate({"a": [1.0, 3.0]}, parse("center(a)"), State(transforms={}, levels={}), pd.RangeIndex(2))[:3]
    (array([[-1.],
           [ 1.]]), ('center(a)',), ())
    """
    found = _as_they_are(columns, parsed, state, rows) or _by_formulaic(columns, parsed, state, rows)
    _check_finite(found.matrix, found.names, rows)
    return found


def _as_they_are(columns: Mapping[str, Any], parsed: ParsedFormula, state: State, rows: pd.Index) -> Evaluated | None:
    """Return what formulaic would of a sum of columns of numbers, in far less time; None for any other formula."""
    terms = list(parsed.terms)[1:]
    if any(len(term.factors) > 1 or term.factors[0].eval_method.value != "lookup" for term in terms):
        return None
    names = tuple(parsed.columns[term.factors[0].expr] for term in terms)
    if any(getattr(columns[name], "dtype", None) != np.float64 for name in names):
        return None
    matrix = np.empty((len(rows), len(names)))
    for k, name in enumerate(names):
        matrix[:, k] = columns[name]
    removed = tuple(name for name, term in zip(names, terms, strict=True) if term in parsed.removed)
    return Evaluated(matrix, names, removed, state)


def _by_formulaic(columns: Mapping[str, Any], parsed: ParsedFormula, state: State, rows: pd.Index) -> Evaluated:
    frame = pd.DataFrame({alias: columns[name] for alias, name in parsed.columns.items()}, index=range(len(rows)))
    encoders = {
        expression: (Factor.Kind.CATEGORICAL, {"categories": levels}) for expression, levels in state["levels"].items()
    }
    spec = ModelSpec(
        parsed.terms,
        na_action="ignore",
        output="numpy",
        transform_state=state["transforms"],
        encoder_state=encoders,
    )
    # The context holds nothing of the caller's, so that a formula means the same wherever it is replayed.
    materializer = PandasMaterializer(frame, context=SPLINES)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # formulaic would code unknown levels as the reference level.
            warnings.simplefilter("error", DataMismatchWarning)
            result = materializer.get_model_matrix(spec)
    except DataMismatchWarning:
        raise _unseen(materializer, state, parsed, rows) from None
    except Exception as error:
        raise DataError(
            f"Expected a formula that can be evaluated, but it stopped ({parsed.readable(str(error))}). "
            "Put the formula or the columns right."
        ) from error
    names = tuple(parsed.readable(name) for name in result.model_spec.column_names[1:])
    matrix = np.ascontiguousarray(np.asarray(result, dtype=np.float64)[:, 1:])
    owners = [part.term for part in result.model_spec.structure for _ in part.columns]
    removed = tuple(name for name, term in zip(names, owners[1:], strict=True) if term in parsed.removed)
    return Evaluated(matrix, names, removed, _learned(result.model_spec))


def _learned(spec: ModelSpec) -> State:
    levels = {
        expression: encoder["categories"]
        for expression, (_, encoder) in spec.encoder_state.items()
        if "categories" in encoder
    }
    return State(transforms=spec.transform_state, levels=levels)


def _unseen(
    materializer: PandasMaterializer, state: State, parsed: ParsedFormula, rows: pd.Index
) -> DataError | UnseenLevelError:
    for expression, known in state["levels"].items():
        found = pd.Series(np.asarray(materializer.factor_cache[expression].values), dtype=object)
        unknown = ~found.isin(list(known)).to_numpy()
        if unknown.any():
            return unseen_level(parsed.readable(expression), found.to_numpy(), known, unknown, rows)
    return DataError("Expected only labels that the formula names as levels, found others. Name them all.")


def _check_finite(matrix: np.ndarray, names: Sequence[str], rows: pd.Index) -> None:
    bad = ~np.isfinite(matrix)
    if bad.any():
        raise DataError(
            f"Expected finite design columns, found NaN or infinity in "
            f"{listing(np.array(names)[bad.any(axis=0)])} in the rows {listing(rows[bad.any(axis=1)])}. The "
            "logarithm of zero or a division by zero gives such values: change the formula or the column."
        )


def warn_of_extrapolation(state: State, parsed: ParsedFormula) -> None:
    """Warn of values outside the range of splines, as they were counted when the formula was evaluated."""
    for expression, learned in state["transforms"].items():
        if learned.get("outside"):
            warn_outside(
                _argument(expression, parsed), parsed.readable(expression), learned["range"], learned["outside"]
            )


def ranges(state: State, parsed: ParsedFormula) -> dict[str, tuple[float, float]]:
    """Return the ranges that splines were learned on, by what they are splines of."""
    learned = {expression: found["range"] for expression, found in state["transforms"].items() if "range" in found}
    return {_argument(expression, parsed): (low, high) for expression, (low, high) in learned.items()}


def _argument(expression: str, parsed: ParsedFormula) -> str:
    call = ast.parse(expression, mode="eval").body
    assert isinstance(call, ast.Call)
    return parsed.readable(ast.unparse(call.args[0]))


def write_state(state: State) -> str:
    """Return a state as JSON text, the same text for the same state.

    Examples
    --------
    >>> text = write_state(State(transforms={"poly(a)": {"alpha": {0: np.float64(0.1)}}}, levels={}))
    >>> read_state(text)["transforms"]
    {'poly(a)': {'alpha': {0: 0.1}}}
    """
    return json.dumps(_plain(state), allow_nan=False)


def _plain(value: Any) -> Any:
    """Return what formulaic keeps in terms of JSON."""
    if isinstance(value, Mapping):
        # Pairs, since keys may be numbers; sorted, since formulaic evaluates in no fixed order.
        return {"map": [[key, _plain(value[key])] for key in sorted(value, key=str)]}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist()}
    if isinstance(value, np.generic):
        return value.item()
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def read_state(text: str) -> State:
    """Return the state that `write_state` wrote."""
    state: State = json.loads(text, object_hook=_rich)
    return state


def _rich(value: dict[str, Any]) -> Any:
    return dict(value["map"]) if "map" in value else np.array(value["array"])
