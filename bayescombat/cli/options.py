"""The options, in the groups that the help shows them in."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, BadParameter, Option

from bayescombat.fit.harmonizer import Unseen
from bayescombat.tables import How

__all__ = [
    "Columns",
    "FitPath",
    "Force",
    "NewPath",
    "Quiet",
    "Reading",
    "Rows",
    "Saving",
    "TablePath",
    "UnseenBatches",
    "flag",
    "given",
    "option",
]

COLUMNS, READING, OUTPUT = "What the columns are", "How the file is read", "Output"
TABLES = ".csv, .csv.gz, .tsv, .tsv.gz, .parquet, .xlsx or .nc"


def option(help_text: str, *names: str, panel: str = OUTPUT, **more: Any) -> Any:
    """Return an option with its help, in a group."""
    more.setdefault("show_default", False)
    return Option(*names, help=help_text, rich_help_panel=panel, **more)


def flag(help_text: str, *names: str, panel: str = OUTPUT) -> Any:
    """Return an option that takes no value."""
    return option(help_text, *names, panel=panel, metavar=" ")


def given(*groups: Any) -> list[str]:
    """Return the names of the options of these groups that say another thing than they do by default.

    Examples
    --------
    >>> given(Columns(batch=["site"]), Reading())
    ['--batch']
    """
    said = [(one.name, getattr(group, one.name), one.default) for group in groups for one in fields(group)]
    return [f"--{name.replace('_', '-')}" for name, value, default in said if value and value != default]


TablePath = Annotated[Path, Argument(help=f"A table, one row per scan: {TABLES}.", metavar="TABLE", show_default=False)]
NewPath = Annotated[Path, Argument(help=f"The rows: {TABLES}.", metavar="TABLE", show_default=False)]
FitPath = Annotated[Path, Argument(help="A fit, as --save writes it.", metavar="FIT", show_default=False)]
Force = Annotated[bool, flag("Write over files that are there already.", "--force")]
Quiet = Annotated[bool, flag("Say nothing but warnings and errors, and show no progress.", "--quiet", "-q")]
UnseenBatches = Annotated[
    Unseen,
    option(
        "What to do with rows of a batch that the fit does not know: refuse them, or draw its effects from the "
        "population of batches, whatever its rows say.",
        "--unseen",
        show_default=True,
    ),
]


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are."""

    batch: Annotated[
        list[str] | None,
        option(
            "Column of batches; several times for several batch variables.",
            "--batch",
            "-b",
            metavar="COLUMN",
            panel=COLUMNS,
        ),
    ] = None
    covariates: Annotated[
        str | None,
        option(
            "What is to be preserved, as a formula: 'age + sex', 'bs(age, df=5) * sex'.",
            "--covariates",
            "-c",
            metavar="FORMULA",
            panel=COLUMNS,
        ),
    ] = None
    features: Annotated[
        list[str] | None,
        option(
            "What is harmonized: a column, several with commas between them, or a regular expression that is searched "
            "for in the names, such as '_thickness$'. Several times for more. By default every column of numbers "
            "that has no other role.",
            "--features",
            "-f",
            metavar="NAMES",
            panel=COLUMNS,
        ),
    ] = None
    remove: Annotated[
        str | None,
        option(
            "Covariates whose effects are to be taken out, as a formula.", "--remove", metavar="FORMULA", panel=COLUMNS
        ),
    ] = None
    subject: Annotated[
        str | None,
        option("Column of subjects, where some have several scans.", "--subject", metavar="COLUMN", panel=COLUMNS),
    ] = None
    smooth: Annotated[
        list[str] | None,
        option(
            "A covariate to be preserved as a curve, and of how many basis functions: age=10.",
            "--smooth",
            metavar="NAME=SIZE",
            panel=COLUMNS,
        ),
    ] = None
    transform: Annotated[
        str | None,
        option("log, to harmonize ratios of positive features.", "--transform", metavar="log", panel=COLUMNS),
    ] = None
    reference: Annotated[
        list[str] | None,
        option(
            "Batch that the others are brought to, by default their average; with several batch variables one "
            "label of each, in the order of --batch.",
            "--reference",
            metavar="LABEL",
            panel=COLUMNS,
        ),
    ] = None


@dataclass(frozen=True)
class Reading:
    """How a file is read, where it does not tell itself."""

    index: Annotated[
        list[str] | None,
        option(
            "Column that names the rows, several times if several do together. By default the first one, if it has "
            "no name or holds texts that are all different.",
            "--index",
            metavar="COLUMN",
            panel=READING,
        ),
    ] = None
    sep: Annotated[
        str | None,
        option(
            "What divides the cells, 'tab' for tabs. By default what divides the first lines evenly.",
            "--sep",
            metavar="TEXT",
            panel=READING,
        ),
    ] = None
    decimal: Annotated[
        str | None,
        option("Decimal point or comma. By default as the numbers tell.", "--decimal", metavar="TEXT", panel=READING),
    ] = None
    encoding: Annotated[
        str | None,
        option(
            "Such as cp1252. By default UTF-8, or what the file is marked as.",
            "--encoding",
            metavar="NAME",
            panel=READING,
        ),
    ] = None
    sheet: Annotated[
        str | None, option("Of an Excel file, by default the first.", "--sheet", metavar="NAME", panel=READING)
    ] = None

    @property
    def how(self) -> How:
        """What reading is told.

        Raises
        ------
        BadParameter
            If cells cannot be divided so, or numbers.
        """
        separator = {"tab": "\t", "\\t": "\t"}.get(self.sep or "", self.sep)
        if separator is not None and (len(separator) != 1 or separator in '"\r\n'):
            raise BadParameter(f"Expected a single character or tab, found {self.sep!r}.", param_hint="--sep")
        if self.decimal not in (None, ".", ","):
            raise BadParameter(f"Expected a point or a comma, found {self.decimal!r}.", param_hint="--decimal")
        return How(tuple(self.index or ()), separator, self.decimal, self.encoding, self.sheet)


@dataclass(frozen=True)
class Rows:
    """What is written of harmonized rows."""

    out: Annotated[
        Path | None, option(f"Where the harmonized table goes: {TABLES}.", "--out", "-o", metavar="FILE")
    ] = None
    uncertainty: Annotated[
        bool,
        flag(
            "Add a column for each feature that ends in _sd: how unsure its values are. A netCDF file holds that "
            "anyway, if the fit tells it.",
            "--uncertainty",
            "-u",
        ),
    ] = False
    probability: Annotated[
        float | None,
        option(
            "Add the bounds of intervals of this probability, columns that end in _lower and _upper. In a netCDF "
            "file they are of 0.9 unless told otherwise.",
            "--probability",
            metavar="SHARE",
        ),
    ] = None
    target: Annotated[
        list[str] | None,
        option(
            "Batch to bring the rows to, whatever the fit's reference is; with several batch variables one label of "
            "each.",
            "--target",
            metavar="LABEL",
        ),
    ] = None

    @property
    def suffixes(self) -> list[str]:
        """What is written beside the mean."""
        return [*(["sd"] if self.uncertainty else []), *(["lower", "upper"] if self.probability else [])]


@dataclass(frozen=True)
class Saving:
    """Whether and how a fit is kept."""

    save: Annotated[
        Path | None, option("Where the fit goes (.nc), for apply, update and report.", "--save", metavar="FILE")
    ] = None
    no_data: Annotated[bool, flag("Save the fit without the rows.", "--no-data")] = False
    no_moments: Annotated[bool, flag("Save it without what it learned from, which update needs.", "--no-moments")] = (
        False
    )
