"""Reading a table by the ending of its file's name."""

import gzip
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import pandas as pd

from bayescombat.columns import is_numeric, text_label
from bayescombat.errors import DataError, listing, suggestion
from bayescombat.tables.cells import not_numbers, row_labels, typed_objects
from bayescombat.tables.delimited import SEPARATORS, WITHOUT_NAME, check_names, dialect_of, read_numbers
from bayescombat.tables.endings import ending_of, needs
from bayescombat.tables.file import TableFile
from bayescombat.tables.netcdf import read_netcdf

__all__ = ["How", "read_table"]

MARKS = {b"\xef\xbb\xbf": "utf-8-sig", b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}
# A column of which so many cells are numbers was meant to be one.
MOSTLY = 0.9


@dataclass(frozen=True)
class How:
    """How a file is to be read, where it does not tell itself.

    Parameters
    ----------
    index : tuple of str
        Columns that make the label of a row together.
    separator, decimal, encoding : str, optional
        Of delimited text.
    sheet : str, optional
        Of an Excel file.

    Examples
    --------
    >>> How(separator=";").index
    ()
    """

    index: tuple[str, ...] = ()
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    sheet: str | None = None


def read_table(path: str | os.PathLike[str], how: How | None = None) -> TableFile:
    r"""Read a table.

    Parameters
    ----------
    path : path-like
        Its ending says what it is.
    how : How, optional
        What the file does not tell.

    Returns
    -------
    TableFile
        In whose table a column is of numbers if all its cells are; names such as 007 are none.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    DataError
        If the file is no table, or its names or rows cannot be told apart.
    ImportError
        If a library is not installed that the file needs.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "sites.csv").write_text("id,site,left\n007,a,2.50\n008,b,2.75\n")
    ...     table = read_table(Path(folder, "sites.csv")).table
    >>> list(table.index), table["left"].tolist()
    (['007', '008'], [2.5, 2.75])
    """
    source, how = Path(path).expanduser(), how or How()
    ending = ending_of(source)
    if not source.is_file():
        found = "a folder" if source.is_dir() else "no file"
        raise FileNotFoundError(f"Expected a table at {str(source)!r}, found {found}.{_neighbour(source)}")
    needs(ending)
    try:
        if ending == ".nc":
            table, whole = read_netcdf(source)
            if how.index:
                table = _called(whole, row_labels(whole, how.index, None), how)
            return TableFile(source, table, whole)
        if ending == ".parquet":
            return _read_parquet(source, how)
        if ending == ".xlsx":
            return _read_excel(source, how)
        return _read_delimited(source, ending, how)
    except DataError as error:
        if str(source) in str(error):
            raise
        raise type(error)(f"{source}: {error}") from error


def _neighbour(source: Path) -> str:
    """Return `` Did you mean ...?`` when a file beside it has a similar name."""
    if not source.parent.is_dir():
        return f" There is no folder {str(source.parent)!r}."
    return suggestion(source.name, [other.name for other in source.parent.iterdir()])


def _read_delimited(source: Path, ending: str, how: How) -> TableFile:
    data, encoding = _decoded(source, ending, how.encoding)
    usual = "\t" if ending.startswith(".tsv") else ","
    text = dialect_of(data, encoding, usual, how.separator)
    text, table = read_numbers(text, how.decimal)
    notes = []
    if how.separator is None and text.separator != usual:
        notes.append(f"{source} is divided by {SEPARATORS[text.separator]}, and read so.")
    if how.decimal is None and text.decimal == ",":
        notes.append(f"{source} has decimal commas, and is read so (--decimal . if they are something else).")
    first = text.names[0] if text.names[0] in text.nameless else None
    labels = row_labels(table, how.index, first)
    names = [name for name in table.columns if name not in text.nameless]
    table = _called(table[names], labels, how)
    return TableFile(source, table, pd.DataFrame(), text, notes=(*notes, *_nearly_numbers(table, source)))


def _decoded(source: Path, ending: str, encoding: str | None) -> tuple[bytes, str]:
    """Return the text in UTF-8, and what it was encoded by."""
    data = source.read_bytes()
    if ending.endswith(".gz"):
        try:
            data = gzip.decompress(data)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"Expected a file compressed by gzip, found something else ({error}).") from error
    known = encoding or next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return data.decode(known).removeprefix("\ufeff").encode(), known
    except LookupError as error:
        raise DataError(f"Expected the name of an encoding, such as utf-8 or cp1252, found {encoding!r}.") from error
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(
            f"Expected text in {known}, found the byte {data[error.start]:#04x} in line {line}, which is none. "
            "Say what it is: --encoding cp1252 for most files of Windows and of Excel; or save it as UTF-8."
        ) from error


def _read_parquet(source: Path, how: How) -> TableFile:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not by its path, which is taken for a part of a data set where a folder is named "site=1".
        with source.open("rb") as file:
            arrow = pq.read_table(file)
    except pa.ArrowInvalid as error:
        raise DataError(f"Expected a Parquet file, found something else ({error}).") from error
    check_names(arrow.column_names)
    frame = arrow.to_pandas()
    if how.index:
        table = frame if isinstance(frame.index, pd.RangeIndex) else frame.reset_index()
        table = _called(table, row_labels(table, how.index, None), how)
    elif isinstance(frame.index, pd.RangeIndex):
        table = frame.set_axis(row_labels(frame, (), None), axis=0)
    else:
        table = frame
    return TableFile(source, table, frame, arrow=arrow)


def _read_excel(source: Path, how: How) -> TableFile:
    try:
        with pd.ExcelFile(source, engine="openpyxl") as book:
            sheets = list(map(str, book.sheet_names))
            sheet = how.sheet or sheets[0]
            if sheet not in sheets:
                raise DataError(
                    f"Expected a sheet among {listing(sheets)}, found {sheet!r}.{suggestion(sheet, sheets)}"
                )
            cells = pd.read_excel(book, sheet_name=sheet, header=None, dtype=object, na_filter=False)
    except (BadZipFile, KeyError, OSError) as error:
        if isinstance(error, PermissionError):
            raise
        raise DataError(f"Expected an Excel file (.xlsx), found something else ({error}).") from error
    if not len(cells):
        raise DataError(f"Expected a table with a line of column names in the sheet {sheet!r}, found it empty.")
    header = [text_label(name) if name is not None else "" for name in cells.iloc[0]]
    _check_header(header, sheet)
    check_names(header)
    names = [name or WITHOUT_NAME.format(place) for place, name in enumerate(header, start=1)]
    whole = cells.iloc[1:].set_axis(names, axis=1).reset_index(drop=True)
    table = pd.DataFrame({name: typed_objects(whole[name]) for name in names})
    labels = row_labels(table, how.index, None if header[0] else names[0])
    named = [name for name, given in zip(names, header, strict=True) if given]
    notes = [f"{source}: {sheet!r} is read, the first of the sheets {listing(sheets)} (--sheet says another)."]
    table = _called(table[named], labels, how)
    whole = whole.set_axis(header, axis=1)
    said = (*(notes if len(sheets) > 1 and how.sheet is None else []), *_nearly_numbers(table, source))
    return TableFile(source, table, whole, notes=said)


def _check_header(header: list[str], sheet: str) -> None:
    """Raise a DataError if the first line is a title rather than names; it is one if most columns have none."""
    named = [name for name in header if name]
    if 2 * len(named) < len(header):
        raise DataError(
            f"Expected the names of {len(header)} columns in the first line of the sheet {sheet!r}, found "
            f"{len(named)}{f': {listing(named)}' if named else ''}. Delete the lines above the names, and columns "
            "without one."
        )


def _called(table: pd.DataFrame, labels: pd.Index, how: How) -> pd.DataFrame:
    """Return the table by its row labels; what was named to be labels is no measurement."""
    texts = {name: table[name].map(text_label) for name in how.index if is_numeric(table[name])}
    return table.assign(**texts).set_axis(labels, axis=0)


def _nearly_numbers(table: pd.DataFrame, source: Path) -> list[str]:
    """Say which columns would be of numbers but for a few cells."""
    notes = []
    for name, values in table.items():
        if is_numeric(values):
            continue
        other, known = not_numbers(values), int(values.notna().sum())
        if len(other) and len(other) <= (1 - MOSTLY) * known:
            notes.append(
                f"{source}: {name!r} is of numbers but for {len(other)} cell{'s' * (len(other) > 1)}, such as "
                f"{other.iloc[0]!r} in the row {str(other.index[0])!r}, and so is text. Mend or clear these if it is "
                "to be a number."
            )
    return notes
