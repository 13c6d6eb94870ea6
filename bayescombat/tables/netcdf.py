"""netCDF files as tables, and tables as netCDF files."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.errors import DataError, listing
from bayescombat.storage import FORMAT

__all__ = ["beside_harmonized", "kind_in", "read_netcdf"]

ROWS, COLUMNS = "obs", "feature"
RESERVED = frozenset({ROWS, COLUMNS, "mean", "sd", "lower", "upper", "set_aside"})
WHAT_HOLDS_THEM = {
    "fit": "a fit. Rows are harmonized by it with: bayescombat apply {0} TABLE --out ...",
    "moments": "moments. They are fitted with: bayescombat harmonize {0} --save fit.nc",
}


def kind_in(path: str | os.PathLike[str]) -> str | None:
    """Return "fit" or "moments" if this package wrote the netCDF file as such, else None.

    Raises
    ------
    DataError
        If this is no netCDF file.
    """
    try:
        with xr.open_dataset(Path(path).expanduser(), engine="h5netcdf") as data:
            attrs = data.attrs
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise DataError(
            f"Expected a netCDF file (version 4) at {os.fspath(path)!r}, found something else ({error})."
        ) from error
    return str(attrs["kind"]) if attrs.get("format") == FORMAT and "kind" in attrs else None


def read_netcdf(path: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table that a Dataset holds, by its row labels, and the same with these as a column.

    Its variables along the rows are columns; of one along rows and features every feature is one. A Dataset that was
    harmonized has several of these, of which ``mean`` is taken.

    Raises
    ------
    DataError
        If there is no dim of rows, or it is not told which variable holds the features.
    """
    kind = kind_in(path)
    if kind in WHAT_HOLDS_THEM:
        raise DataError(f"Expected a table in {str(path)!r}, found {WHAT_HOLDS_THEM[kind].format(path)}")
    data = xr.load_dataset(path, engine="h5netcdf")
    rows = _rows(data, path)
    variables = {**data.coords, **data.data_vars}
    columns = {str(name): array.values for name, array in variables.items() if array.dims == (rows,) and name != rows}
    wide = [str(name) for name, array in data.data_vars.items() if set(array.dims) == {rows, COLUMNS}]
    if wide:
        if "mean" not in wide and len(wide) > 1:
            raise DataError(
                f"Expected one variable with the dims {rows!r} and {COLUMNS!r}, or one called 'mean', found "
                f"{listing(wide)}. Drop the others."
            )
        values = data["mean" if "mean" in wide else wide[0]].transpose(rows, COLUMNS)
        names = [str(name) for name in values[COLUMNS].values]
        columns |= dict(zip(names, values.values.T, strict=True))
    labels = data[rows].to_index() if rows in data.coords else pd.RangeIndex(1, data.sizes[rows] + 1)
    table = pd.DataFrame(columns, labels)
    return table, table.reset_index() if rows in data.coords else table


def _rows(data: xr.Dataset, path: Path) -> str:
    """Return the dim of rows: "obs", or the only one of variables with one dim."""
    if ROWS in data.dims:
        return ROWS
    single = dict.fromkeys(str(array.dims[0]) for array in data.data_vars.values() if len(array.dims) == 1)
    if len(single) != 1:
        raise DataError(
            f"Expected a Dataset with a dim {ROWS!r} in {str(path)!r}, found the dims {listing(data.dims) or 'none'}. "
            "Rename that of the rows."
        )
    return next(iter(single))


def beside_harmonized(harmonized: xr.Dataset, others: pd.DataFrame) -> tuple[xr.Dataset, list[str]]:
    """Return harmonized data with the other columns of their table as coordinates, and what could not be one.

    Parameters
    ----------
    harmonized : xarray.Dataset
        As `Fit.harmonize` returns it.
    others : pandas.DataFrame
        Columns by name, in the order of its rows.
    """
    lost = [str(name) for name in others.columns if str(name) in RESERVED or "/" in str(name)]
    columns = {str(name): (ROWS, _plain(others[name])) for name in others.columns if str(name) not in lost}
    return harmonized.assign_coords(columns), lost


def _plain(values: pd.Series) -> np.ndarray:
    """Return a column as a netCDF file can hold it."""
    if values.dtype.kind in "biuf" and isinstance(values.dtype, np.dtype):
        return values.to_numpy()
    return np.array(
        ["" if cell is None or cell is pd.NA or cell != cell else str(cell) for cell in values], dtype=object
    )
