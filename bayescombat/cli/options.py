"""The options, in the groups that the help shows them in."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from typer import Argument, Option

from bayescombat.empirical import Compat
from bayescombat.fit.contents import Method
from bayescombat.fit.harmonizer import Unseen
from bayescombat.shrinkage import Shrinkage
from bayescombat.tables import How

__all__ = [
    "Columns",
    "FitPath",
    "Force",
    "Model",
    "NewPath",
    "Quiet",
    "Reading",
    "Rows",
    "Sampling",
    "Saving",
    "TablePath",
    "UnseenBatches",
    "option",
]

COLUMNS, READING, MODEL, SAMPLING, OUTPUT = (
    "What the columns are",
    "How the file is read",
    "Model",
    "Sampling, for --method nuts",
    "Output",
)
TABLES = ".csv, .csv.gz, .tsv, .tsv.gz, .parquet, .xlsx or .nc"


def option(help_text: str, *names: str, panel: str = OUTPUT, **more: Any) -> Any:
    """Return an option with its help, in a group."""
    return Option(*names, **{"help": help_text, "rich_help_panel": panel, "show_default": False} | more)


TablePath = Annotated[Path, Argument(help=f"A table, one row per scan: {TABLES}.", show_default=False)]
NewPath = Annotated[Path, Argument(help=f"The rows: {TABLES}.", metavar="TABLE", show_default=False)]
FitPath = Annotated[Path, Argument(help="A fit, as --save writes it.", metavar="FIT", show_default=False)]
Force = Annotated[bool, option("Write over files that are there already.", "--force")]
Quiet = Annotated[bool, option("Say nothing but warnings and errors, and show no progress.", "--quiet", "-q")]
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
        option("Column of batches; several times for several batch variables.", "--batch", "-b", panel=COLUMNS),
    ] = None
    covariates: Annotated[
        str | None,
        option("What is to be preserved, as a formula: 'age + sex', 'bs(age, df=5) * sex'.", "--covariates", "-c",
               metavar="FORMULA", panel=COLUMNS),
    ] = None  # fmt: skip
    features: Annotated[
        list[str] | None,
        option(
            "What is harmonized: a column, several with commas between them, or a regular expression that is searched "
            "for in the names, such as '_thickness$'. Several times for more. By default every column of numbers "
            "that has no other role.",
            "--features", "-f", metavar="NAMES", panel=COLUMNS,
        ),
    ] = None  # fmt: skip
    remove: Annotated[
        str | None,
        option("Covariates whose effects are to be taken out, as a formula.", "--remove", metavar="FORMULA",
               panel=COLUMNS),
    ] = None  # fmt: skip
    subject: Annotated[
        str | None, option("Column of subjects, where some have several scans.", "--subject", panel=COLUMNS)
    ] = None
    smooth: Annotated[
        list[str] | None,
        option("A covariate to be preserved as a curve, and of how many basis functions: age=10.", "--smooth",
               metavar="NAME=SIZE", panel=COLUMNS),
    ] = None  # fmt: skip
    transform: Annotated[
        str | None, option("log, to harmonize ratios of positive features.", "--transform", panel=COLUMNS)
    ] = None
    reference: Annotated[
        list[str] | None,
        option("Batch that the others are brought to, by default their average; with several batch variables one "
               "label of each, in the order of --batch.", "--reference", panel=COLUMNS),
    ] = None  # fmt: skip

    @property
    def given(self) -> list[str]:
        """The options that were used."""
        return [f"--{name}" for name, value in vars(self).items() if value]


@dataclass(frozen=True)
class Reading:
    """How a file is read, where it does not tell itself."""

    index: Annotated[
        list[str] | None,
        option("Column that names the rows, several times if several do together. By default the first one, if it has "
               "no name or holds texts that are all different.", "--index", panel=READING),
    ] = None  # fmt: skip
    sep: Annotated[
        str | None,
        option("What divides the cells, 'tab' for tabs. By default what divides the first lines evenly.", "--sep",
               panel=READING),
    ] = None  # fmt: skip
    decimal: Annotated[
        str | None,
        option("Decimal point or comma. By default as the numbers tell.", "--decimal", panel=READING),
    ] = None
    encoding: Annotated[
        str | None, option("Such as cp1252. By default UTF-8, or what the file is marked as.", "--encoding",
                           panel=READING)
    ] = None  # fmt: skip
    sheet: Annotated[str | None, option("Of an Excel file, by default the first.", "--sheet", panel=READING)] = None

    @property
    def how(self) -> How:
        """What reading is told."""
        separator = {"tab": "\t", "\\t": "\t"}.get(self.sep or "", self.sep)
        return How(tuple(self.index or ()), separator, self.decimal, self.encoding, self.sheet)


@dataclass(frozen=True)
class Model:
    """What is fitted."""

    method: Annotated[
        Method,
        option("Full Bayes by NUTS, or empirical Bayes, in closed form and at once.", "--method", "-m", panel=MODEL,
               show_default=True),
    ] = "nuts"  # fmt: skip
    mean_only: Annotated[
        bool, option("Adjust means alone, and leave scales as they are.", "--mean-only", panel=MODEL)
    ] = False
    robust: Annotated[
        bool, option("Noise of heavy tails, so that outlying values count less. NUTS only, and slow.", "--robust",
                     panel=MODEL)
    ] = False  # fmt: skip
    shared_factors: Annotated[
        str | None,
        option("How many factors the features share in their noise: a number or auto. By default auto for NUTS and 0 "
               "for eb.", "--shared-factors", metavar="NUMBER", panel=MODEL),
    ] = None  # fmt: skip
    factors: Annotated[
        str | None,
        option("How many hidden factors to remove: a number or auto. By default none.", "--factors", metavar="NUMBER",
               panel=MODEL),
    ] = None  # fmt: skip
    factors_despite_covariates: Annotated[
        bool, option("Remove them even if they carry a preserved covariate.", "--factors-despite-covariates",
                     panel=MODEL)
    ] = False  # fmt: skip
    covariance: Annotated[
        float | None,
        option("Harmonize how features vary together too (CovBat), by the principal components that explain this share "
               "of their variance; 0.95 is usual.", "--covariance", metavar="SHARE", panel=MODEL),
    ] = None  # fmt: skip
    shrinkage: Annotated[Shrinkage | None, option("For eb, by default parametric.", "--shrinkage", panel=MODEL)] = None
    compat: Annotated[
        Compat | None, option("For eb: reproduce this R package to the digit.", "--compat", panel=MODEL)
    ] = None


@dataclass(frozen=True)
class Sampling:
    """How NUTS samples."""

    draws: Annotated[
        int | None,
        option("Draws kept of every chain, by default 1000, or 2000 where features of few batches share factors.",
               "--draws", min=4, panel=SAMPLING),
    ] = None  # fmt: skip
    tune: Annotated[int | None, option("Steps of warm-up, by default 500.", "--tune", min=1, panel=SAMPLING)] = None
    chains: Annotated[int | None, option("By default 4.", "--chains", min=1, panel=SAMPLING)] = None
    cores: Annotated[
        int | None, option("Chains sampled at a time, by default as many as there are cores.", "--cores", min=1,
                           panel=SAMPLING)
    ] = None  # fmt: skip
    seed: Annotated[
        int | None,
        option("The same seed gives the same numbers, on the same machine. Also for eb with --uncertainty.", "--seed",
               min=0, panel=SAMPLING),
    ] = None  # fmt: skip
    target_accept: Annotated[
        float | None,
        option("Acceptance that steps are tuned to, by default 0.9, and 0.99 below 20 features.", "--target-accept",
               panel=SAMPLING),
    ] = None  # fmt: skip


@dataclass(frozen=True)
class Rows:
    """What is written of harmonized rows."""

    out: Annotated[Path | None, option(f"Where the harmonized table goes: {TABLES}.", "--out", "-o")] = None
    uncertainty: Annotated[
        bool,
        option("Add a column for each feature that ends in _sd: how unsure its values are. A netCDF file holds that "
               "anyway, if the fit tells it.", "--uncertainty", "-u"),
    ] = False  # fmt: skip
    probability: Annotated[
        float | None,
        option("Add the bounds of intervals of this probability, columns that end in _lower and _upper. In a netCDF "
               "file they are of 0.9 unless told otherwise.", "--probability"),
    ] = None  # fmt: skip
    target: Annotated[
        list[str] | None,
        option("Batch to bring the rows to, whatever the fit's reference is; with several batch variables one label of "
               "each.", "--target"),
    ] = None  # fmt: skip

    @property
    def suffixes(self) -> list[str]:
        """What is written beside the mean."""
        return [*(["sd"] if self.uncertainty else []), *(["lower", "upper"] if self.probability else [])]


@dataclass(frozen=True)
class Saving:
    """Whether and how a fit is kept."""

    save: Annotated[Path | None, option("Where the fit goes (.nc), for apply, update and report.", "--save")] = None
    no_data: Annotated[bool, option("Save the fit without the rows.", "--no-data")] = False
    no_moments: Annotated[bool, option("Save it without what it learned from, which update needs.", "--no-moments")] = (
        False
    )
