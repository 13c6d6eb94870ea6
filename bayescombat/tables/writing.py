"""Writing a table by the ending of its file's name: what was harmonized anew, all else as it was."""

import csv
import gzip
import os
from collections.abc import Iterator, Mapping, Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.blocks import slices
from bayescombat.errors import DataError, listing
from bayescombat.storage import moved_into_place
from bayescombat.tables.delimited import Delimited
from bayescombat.tables.endings import ending_of, needs
from bayescombat.tables.file import TableFile
from bayescombat.tables.netcdf import beside_harmonized

__all__ = ["check_added", "suffixed", "write_dataset", "write_frame", "write_table"]

ROWS_AT_A_TIME = 1000
# Rows, that of the names included, and columns.
LARGEST_SHEET = 1_048_576, 16_384


def suffixed(features: Sequence[str], name: str) -> list[str]:
    """Return the names of the columns that hold, say, the ``sd`` of features."""
    return [f"{feature}_{name}" for feature in features]


def check_added(
    path: str | os.PathLike[str], file: TableFile, features: Sequence[str], names: Sequence[str] = ()
) -> None:
    """Raise a DataError if columns that are to be added are there already, or a sheet of Excel is too small."""
    columns = file.text.names if file.text is not None else list(map(str, file.whole.columns))
    size = len(file.table), len(columns) + len(features) * len(names)
    if ending_of(path) == ".xlsx" and (size[0] >= LARGEST_SHEET[0] or size[1] > LARGEST_SHEET[1]):
        raise DataError(
            f"Expected at most {LARGEST_SHEET[0] - 1:,} rows and {LARGEST_SHEET[1]:,} columns for an Excel file, found "
            f"{size[0]:,} and {size[1]:,}. Write another kind of file, such as .csv or .parquet."
        )
    known = set(columns)
    doubled = [added for name in names for added in suffixed(features, name) if added in known]
    if doubled:
        raise DataError(
            f"Expected no columns {listing(doubled)} in the table, which are to be added, found them there. "
            "Rename them, or write a netCDF file (.nc)."
        )


def write_table(
    path: str | os.PathLike[str], file: TableFile, harmonized: xr.Dataset, names: Sequence[str] = ()
) -> list[str]:
    r"""Write a table with its features harmonized, whole or not at all.

    Parameters
    ----------
    path : path-like
        Its ending says what is written: a netCDF file holds all of `harmonized`, the others the input's columns in
        their order.
    file : TableFile
        What was harmonized. Cells whose value did not change keep their text.
    harmonized : xarray.Dataset
        Of its rows, in their order.
    names : sequence of str
        Of ``sd, lower, upper``: what is added behind the last column, by names that end so.

    Returns
    -------
    list of str
        Columns that a netCDF file cannot hold, which are left out.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import TemporaryDirectory
    >>> from bayescombat.tables import read_table
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "sites.csv").write_text("id,site,left\n007,a,2.50\n008,b,2.75\n")
    ...     file = read_table(Path(folder, "sites.csv"))
    ...     mean = xr.DataArray([[2.6], [2.75]], dims=("obs", "feature"), coords={"feature": ["left"]})
    ...     _ = write_table(Path(folder, "harmonized.csv"), file, mean.to_dataset(name="mean"))
    ...     print(Path(folder, "harmonized.csv").read_text())
    id,site,left
    007,a,2.6
    008,b,2.75
    """
    ending = ending_of(path)
    needs(ending)
    if ending == ".nc":
        features = set(harmonized["feature"].values)
        others = file.table[[name for name in file.table.columns if name not in features]]
        data, lost = beside_harmonized(harmonized, others)
        write_dataset(data, path)
        return lost
    added = {
        column: harmonized[name].values[:, place]
        for name in names
        for place, column in enumerate(suffixed(list(map(str, harmonized["feature"].values)), name))
    }
    if ending == ".parquet" and file.arrow is not None:
        _write_arrow(path, file.arrow, harmonized, added)
    elif ending in (".parquet", ".xlsx") or file.text is None:
        write_frame(_frame(file, harmonized, added), path)
    else:
        _write_text(path, ending, file.text, _rows(file.text, file.table, harmonized, added), list(added))
    return []


def write_dataset(data: xr.Dataset, path: str | os.PathLike[str]) -> None:
    """Write a Dataset to a netCDF file, whole or not at all."""
    with moved_into_place(path) as beside:
        data.to_netcdf(beside, engine="h5netcdf")


def write_frame(frame: pd.DataFrame, path: str | os.PathLike[str]) -> None:
    """Write a table of any ending but that of a netCDF file, without its index, whole or not at all."""
    ending = ending_of(path)
    with moved_into_place(path) as beside:
        if ending == ".parquet":
            # What a spreadsheet mixes in a column is text to Parquet.
            mixed = [name for name in frame.columns if frame[name].dtype == object]
            frame.assign(**{name: _texts(frame[name]) for name in mixed}).to_parquet(beside, index=False)
        elif ending == ".xlsx":
            _write_sheet(frame, beside)
        else:
            text = frame.to_csv(sep=_usual(ending), index=False, lineterminator="\n")
            beside.write_bytes(_packed(text.encode(), ending))


def _write_sheet(frame: pd.DataFrame, path: Path) -> None:
    """Write an Excel file, whose texts are texts even where they look like formulas; it knows no time zones."""
    from openpyxl.utils.exceptions import IllegalCharacterError

    zoned = [name for name in frame.columns if isinstance(frame.dtypes[name], pd.DatetimeTZDtype)]
    frame = frame.assign(**{name: _texts(frame[name]) for name in zoned})
    try:
        with pd.ExcelWriter(path, engine="openpyxl") as book:
            frame.to_excel(book, index=False)
            for column in next(iter(book.sheets.values())).iter_cols():
                for cell in column:
                    if cell.data_type == "f":
                        cell.data_type = "s"
    except IllegalCharacterError as error:
        raise DataError(
            f"Expected text that an Excel file can hold, found control characters ({str(error)!r}). Take them out, or "
            "write another kind of file, such as .csv or .parquet."
        ) from error


def _usual(ending: str) -> str:
    return "\t" if ending.startswith(".tsv") else ","


def _packed(data: bytes, ending: str) -> bytes:
    return gzip.compress(data, mtime=0) if ending.endswith(".gz") else data


def _write_arrow(
    path: str | os.PathLike[str], arrow: Any, harmonized: xr.Dataset, added: Mapping[str, np.ndarray]
) -> None:
    """Write a Parquet file whose other columns are those of another one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, values in zip(map(str, harmonized["feature"].values), harmonized["mean"].values.T, strict=True):
        arrow = arrow.set_column(arrow.column_names.index(name), name, pa.array(values, from_pandas=True))
    for name, values in added.items():
        arrow = arrow.append_column(name, pa.array(values, from_pandas=True))
    with moved_into_place(path) as beside:
        pq.write_table(arrow, beside)


def _frame(file: TableFile, harmonized: xr.Dataset, added: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return all columns, row labels among them, with the features harmonized."""
    if file.text is not None:
        frame = file.table.reset_index(drop=True)
        if file.text.names[0] in file.text.nameless:
            frame = pd.concat([file.text.cells([0]).set_axis([""], axis=1), frame], axis=1)
    elif file.arrow is not None and not isinstance(file.whole.index, pd.RangeIndex):
        frame = file.whole.reset_index()
    else:
        frame = file.whole.reset_index(drop=True)
    mean = pd.DataFrame(harmonized["mean"].values, columns=list(map(str, harmonized["feature"].values)))
    frame = frame.assign(**{str(name): mean[name] for name in mean.columns})
    return pd.concat([frame, pd.DataFrame(dict(added))], axis=1)


def _texts(values: pd.Series) -> pd.Series:
    return values.map(lambda cell: None if cell is None or cell != cell else str(cell))


def _write_text(
    path: str | os.PathLike[str], ending: str, text: Delimited, rows: Iterator[tuple[str, ...]], added: Sequence[str]
) -> None:
    """Write delimited text, divided as it was unless the ending promises something else."""
    tabs = ending.startswith(".tsv") != (text.separator == "\t")
    buffer = StringIO(newline="")
    writer = csv.writer(buffer, delimiter=_usual(ending) if tabs else text.separator, lineterminator=text.newline)
    writer.writerow([*text.header, *added])
    writer.writerows(rows)
    with moved_into_place(path) as beside:
        beside.write_bytes(_packed(buffer.getvalue().encode(text.encoding), ending))


def _rows(
    text: Delimited, table: pd.DataFrame, harmonized: xr.Dataset, added: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, ...]]:
    """Yield the cells of every row as text: those that did not change as they were."""
    features = {str(name): place for place, name in enumerate(harmonized["feature"].values)}
    mean = harmonized["mean"].values
    before = table[list(features)].to_numpy(dtype=float, na_value=np.nan)
    same = (mean == before) | (np.isnan(mean) & np.isnan(before))
    kept = [k for k, name in enumerate(text.names) if name not in features or same[:, features[name]].any()]
    texts = text.cells(kept)
    for rows in slices(len(mean), ROWS_AT_A_TIME):
        columns: list[Sequence[str]] = []
        for name in text.names:
            old = texts[name].iloc[rows].tolist() if name in texts else None
            if name not in features:
                assert old is not None
                columns.append(old)
                continue
            place = features[name]
            new = _numbers(mean[rows, place], text.decimal)
            if old is not None:
                new = [a if keep else b for a, b, keep in zip(old, new, same[rows, place], strict=True)]
            columns.append(new)
        columns.extend(_numbers(values[rows], text.decimal) for values in added.values())
        yield from zip(*columns, strict=True)


def _numbers(values: np.ndarray, decimal: str) -> list[str]:
    """Return numbers with as many digits as tell them apart, and missing ones as nothing."""
    written = ["" if value != value else repr(value) for value in values.tolist()]
    return written if decimal == "." else [cell.replace(".", decimal) for cell in written]
