"""Table files of any common kind: what is not harmonized comes out as it went in."""

from bayescombat.tables.endings import ENDINGS, ending_of, needs
from bayescombat.tables.file import TableFile
from bayescombat.tables.netcdf import kind_in
from bayescombat.tables.reading import How, read_table
from bayescombat.tables.writing import check_added, suffixed, write_dataset, write_frame, write_table

__all__ = [
    "ENDINGS",
    "How",
    "TableFile",
    "check_added",
    "ending_of",
    "kind_in",
    "needs",
    "read_table",
    "suffixed",
    "write_dataset",
    "write_frame",
    "write_table",
]
