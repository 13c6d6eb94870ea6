"""Frames and columns of other libraries, as pandas has them."""

from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from narwhals.exceptions import DuplicateError
from narwhals.stable.v2.typing import IntoDataFrame

from bayescombat.errors import DataError

__all__ = ["Frame", "as_pandas"]

type Frame = IntoDataFrame


def as_pandas(given: Any) -> Any:
    """Return a frame, or a column, of another library as pandas has it; all else as it is.

    Column by column, so that no library is needed beside the one that the frame is of.

    Parameters
    ----------
    given : object
        A frame or a column of polars, pyarrow, modin or another library that narwhals knows. Rows of frames without an
        index are 0, 1, ...; nulls become NaN or None, enumerations become categories in their order, and other
        categories become text, since the order of theirs is that of their appearance.

    Returns
    -------
    pandas.DataFrame or pandas.Series or object
        The values are copied where the library holds them in another form.

    Raises
    ------
    DataError
        If the frame is still to be computed, or has column names twice.

    Examples
    --------
    >>> import polars as pl
    >>> as_pandas(pl.DataFrame({"site": ["a", "b"], "thickness": [2.5, None]}))
      site  thickness
    0    a        2.5
    1    b        NaN
    >>> as_pandas([2.5, 3.0])
    [2.5, 3.0]
    """
    if isinstance(given, pd.DataFrame | pd.Series | np.ndarray):
        return given
    try:
        found = nw.from_native(given, pass_through=True, allow_series=True)
    except DuplicateError as error:
        raise DataError(f"Expected every column name once: {error} Rename or drop the duplicates.") from error
    if isinstance(found, nw.LazyFrame):
        raise DataError(
            f"Expected a frame that is in memory, found one that is still to be computed ({type(given).__module__}). "
            "Compute it first, with its .collect() or .compute()."
        )
    if not isinstance(found, nw.DataFrame | nw.Series):
        return given
    if found.implementation.is_pandas_like():
        return found.to_pandas()
    if isinstance(found, nw.Series):
        return _column(found)
    columns = {column.name: _column(column) for column in found.iter_columns()}
    return pd.DataFrame(columns, index=pd.RangeIndex(len(found)))


def _column(column: Any) -> pd.Series:
    kind = column.dtype
    if isinstance(kind, nw.Enum):
        values: Any = pd.Categorical(column.to_list(), categories=list(kind.categories))
    elif kind.is_decimal():
        values = column.cast(nw.Float64()).to_numpy()
    elif kind.is_numeric() or kind.is_temporal():
        values = column.to_numpy()
    elif kind == nw.Boolean and not column.is_null().any():
        values = column.to_numpy()
    else:
        # Lists, from which pandas makes what it makes of a user's own: numbers and text would become texts by way of
        # NumPy, and None would become "None".
        values = column.to_list()
    return pd.Series(values, name=column.name)
