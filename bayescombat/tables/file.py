"""A table and the file that it came from."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from bayescombat.tables.delimited import Delimited

__all__ = ["TableFile"]


@dataclass(frozen=True, eq=False, repr=False)
class TableFile:
    """A table that was read, and what is needed to write its columns again as they were.

    Parameters
    ----------
    path : Path
        Where it was.
    table : pandas.DataFrame
        Rows are scans, called by their labels; columns are numbers where all their cells are.
    whole : pandas.DataFrame
        Every column as it is to be written again, columns of row labels included, where the file held cells rather
        than text.
    text : Delimited, optional
        The text of the file, where it was one.
    arrow : pyarrow.Table, optional
        The columns as they were, of a Parquet file.
    notes : tuple of str
        What was decided in reading.
    """

    path: Path
    table: pd.DataFrame
    whole: pd.DataFrame
    text: Delimited | None = None
    arrow: Any = None
    notes: tuple[str, ...] = ()
