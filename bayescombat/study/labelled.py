"""Labelled arrays as measurements, and a table of what is known of their scans."""

import pandas as pd
import xarray as xr

from bayescombat.columns import as_table, text_label
from bayescombat.errors import DataError, listing

__all__ = ["DIMS", "feature_names", "labelled"]

DIMS = ("obs", "feature")


def labelled(data: xr.DataArray | xr.Dataset) -> tuple[xr.DataArray, pd.DataFrame]:
    """Return measurements (obs, feature), and a table of all that stands along ``obs``.

    Parameters
    ----------
    data : xarray.DataArray or xarray.Dataset
        Measurements with coordinates along ``obs``; or a Dataset with one variable of measurements, whose coordinates
        and other variables along ``obs`` are the columns.

    Raises
    ------
    DataError
        If there are other dims, or not one variable of measurements.

    Examples
    --------
    >>> values = xr.DataArray([[1.5], [2.5]], {"site": ("obs", ["a", "b"])}, ("obs", "feature"))
    >>> labelled(values)[1]
      site
    0    a
    1    b
    """
    if isinstance(data, xr.Dataset):
        found = [name for name, variable in data.data_vars.items() if set(variable.dims) == set(DIMS)]
        if len(found) != 1:
            raise DataError(
                f"Expected one variable with dims 'obs' and 'feature' in the Dataset, found "
                f"{listing(found) or f'none (its dims are {listing(data.dims)})'}. Keep the one to harmonize and the "
                "columns of scans, as in data[['thickness', 'site']]; rename dims with data.rename; a Dataset of "
                "columns alone is a table: Study.from_dataframe(data.to_dataframe(), ...)."
            )
        along = data.variables
        data = data[found[0]]
    elif isinstance(data, xr.DataArray) and set(data.dims) == set(DIMS):
        along = data.coords.variables
    else:
        words = f"dims {listing(data.dims)}" if isinstance(data, xr.DataArray) else type(data).__name__
        raise DataError(
            f"Expected an xarray.DataArray with dims 'obs' and 'feature', or a Dataset that has one, found {words}. "
            "Rename its dims, or stack those of an image: values.stack(feature=('x', 'y', 'z'))."
        )
    columns = {str(name): part.values for name, part in along.items() if part.dims == ("obs",) and name != "obs"}
    index = data.indexes.get("obs", pd.RangeIndex(data.sizes["obs"]))
    return data.transpose(*DIMS), as_table(pd.DataFrame(columns, index=index))


def feature_names(values: xr.DataArray) -> list[str]:
    """Return the labels of the features as text, or ``feature_0`` and so on where there are none."""
    if "feature" in values.indexes:
        return [text_label(name) for name in values.indexes["feature"]]
    return [f"feature_{v}" for v in range(values.sizes["feature"])]
