"""Splines for formulas that continue as straight lines beyond the range they were learned on.

The bases are formulaic's; inside the range every value is exactly theirs.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from formulaic.transforms import basis_spline, natural_cubic_spline, stateful_transform

from bayescombat.columns import warn
from bayescombat.errors import ExtrapolationWarning

__all__ = ["SPLINES", "continued", "warn_outside"]

# Places within the outermost polynomial piece, as fractions of its width, at which the basis is evaluated
# to find its slope at the edge. Six places make that exact up to degree five, but for rounding.
PLACES = np.linspace(0, 0.75, 6)
WEIGHTS = np.linalg.solve(np.vander(PLACES, increasing=True).T, np.eye(len(PLACES))[1])


def continued(basis: Callable[..., Any]) -> Callable[..., Any]:
    """Return a spline of formulaic with linear continuation outside the training range.

    Parameters
    ----------
    basis : callable
        A stateful transform of formulaic that returns its columns by name and keeps its knots in the state.

    Returns
    -------
    callable
        Takes the arguments of `basis`. The first call learns the range: that of the values given, widened
        to the bounds of the spline if those were given. Later calls add to the state, under ``"outside"``,
        how many values lay outside the range. Who passes ``extrapolation=`` gets what that says instead.

    Examples
    --------
    >>> state = {}
    >>> spline = continued(basis_spline)
    >>> columns = spline(np.linspace(0, 10, 11), df=4, _state=state)
    >>> ends = spline(np.array([10.0, 11.0, 12.0]), df=4, _state=state)
    >>> bool(np.isclose(ends[4][2] - ends[4][1], ends[4][1] - ends[4][0])), state["outside"]
    (True, 2)
    """

    @stateful_transform  # type: ignore[untyped-decorator]
    def spline(x: Any, *args: Any, _state: dict[str, Any], **options: Any) -> Any:
        values = np.asarray(x, dtype=np.float64)
        if "range" not in _state:
            return _learned(basis, values, args, options, _state)
        low, high = _state["range"]
        below, above = values < low, values > high
        if "extrapolation" in options or not (below | above).any():
            return basis(values, *args, _state=_state, **options)
        _state["outside"] = int((below | above).sum())
        columns = basis(np.clip(values, low, high), *args, _state=_state, **options)
        knots = np.unique([low, high, *_state["knots"]])
        knots = knots[(knots >= low) & (knots <= high)]
        for rows, edge, inner in ((below, low, knots[1]), (above, high, knots[-2])):
            places = basis(edge + (inner - edge) * PLACES, *args, _state=_state, **options)
            for name, column in columns.items():
                slope = WEIGHTS @ places[name] / (inner - edge)
                column[rows] += slope * (values[rows] - edge)
        return columns

    return spline  # type: ignore[no-any-return]


def _learned(
    basis: Callable[..., Any],
    values: np.ndarray,
    args: tuple[Any, ...],
    options: dict[str, Any],
    state: dict[str, Any],
) -> Any:
    """Evaluate the basis for the first time and keep the range in the state."""
    if not np.isfinite(values).all():
        raise ValueError("a spline needs finite values")
    if values.min() == values.max():
        raise ValueError("a spline needs at least two distinct values")
    columns = basis(values, *args, _state=state, **options)
    low, high = float(state["lower_bound"]), float(state["upper_bound"])
    state["range"] = [min(low, float(values.min())), max(high, float(values.max()))]
    return columns


SPLINES = {"bs": continued(basis_spline), "cr": continued(natural_cubic_spline)}
SPLINES["cs"] = SPLINES["cr"]


def warn_outside(argument: str, spline: str, covered: Sequence[float], count: int) -> None:
    """Warn of values outside the range that a spline was learned on."""
    warn(
        f"{count} row{'s have' if count > 1 else ' has'} {argument!r} outside "
        f"the range {covered[0]:.6g} to {covered[1]:.6g} that {spline!r} was learned on. The spline "
        "continues there as a straight line: do not lean on these rows, or fit again with them.",
        ExtrapolationWarning,
    )
