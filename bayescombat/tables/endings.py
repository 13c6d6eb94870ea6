"""What a file holds, by the ending of its name."""

import os
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from bayescombat.errors import DataError, listing

__all__ = ["ENDINGS", "ending_of", "needs"]

# The longer ones first, so that ".csv.gz" is not taken for ".gz".
ENDINGS = (".csv.gz", ".tsv.gz", ".csv", ".tsv", ".parquet", ".xlsx", ".nc")
LIBRARIES = {".parquet": "pyarrow", ".xlsx": "openpyxl"}


def ending_of(path: str | os.PathLike[str], known: Iterable[str] = ENDINGS) -> str:
    """Return the ending of a file's name, in lower case.

    Raises
    ------
    DataError
        If it is none of the known ones.

    Examples
    --------
    >>> ending_of("sites/thickness.CSV.gz"), ending_of("fit.nc")
    ('.csv.gz', '.nc')
    """
    name, endings = Path(path).name.lower(), list(known)
    for ending in endings:
        if name.endswith(ending):
            return ending
    more = " Save an old Excel file as .xlsx first." if name.endswith(".xls") else ""
    raise DataError(
        f"Expected a file whose name ends in {listing(endings, len(endings))}, found {os.fspath(path)!r}. "
        f"The ending says what kind of file it is.{more}"
    )


def needs(ending: str) -> None:
    """Raise an ImportError if files with this ending need a library that is not installed."""
    library = LIBRARIES.get(ending)
    if library is not None and find_spec(library) is None:
        raise ImportError(
            f"Expected {library} for files that end in {ending!r}, found that it is not installed. "
            "Install it: pip install 'pymc-combat[tables]'; or use .csv."
        )
