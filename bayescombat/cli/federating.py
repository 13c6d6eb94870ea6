"""``moments`` and ``merge``: sites that keep their scans."""

import re
from pathlib import Path
from typing import Annotated

import pandas as pd
from typer import Argument, BadParameter

from bayescombat.cli.flattening import flattened
from bayescombat.cli.options import Columns, Force, Quiet, Reading, TablePath, flag, given, option
from bayescombat.cli.paths import Output, check_outputs
from bayescombat.cli.studies import (
    batch_columns,
    label_of,
    read,
    smooth_sizes,
    study_by_design,
    study_of,
    wanted,
)
from bayescombat.cli.voice import speaking
from bayescombat.design import DesignSpec
from bayescombat.errors import DataError
from bayescombat.moments import Moments
from bayescombat.moments import merge as merged
from bayescombat.study import Study
from bayescombat.tables import TableFile

__all__ = ["merge", "moments"]

FEDERATED = "Sites that keep their scans"
# What a regular expression has and a name that is to be taken as it is has not.
PATTERN = re.compile(r"[\^$*+?()\[\]{}|\\]")

DesignPath = Annotated[
    Path | None,
    option(
        "The coordinator's design (.json), which says what the columns are.",
        "--design",
        metavar="FILE",
        panel=FEDERATED,
    ),
]
NewDesignPath = Annotated[
    Path | None,
    option(
        "Where the design that this table gives goes (.json). Without --out the table may be a made-up one, which "
        "lists every level and both ends of the ranges; it needs no rows of real scans, and cells of batches and "
        "features may be blank.",
        "--save-design",
        metavar="FILE",
        panel=FEDERATED,
    ),
]


@flattened
def moments(
    table: TablePath,
    columns: Columns,
    design: DesignPath = None,
    save_design: NewDesignPath = None,
    min_scans: Annotated[
        int,
        option(
            "Fewest scans of a batch, and of a feature in it, that may leave the site.",
            "--min-scans",
            metavar="NUMBER",
            min=0,
            panel=FEDERATED,
            show_default=True,
        ),
    ] = 5,
    cross: Annotated[
        bool,
        flag(
            "Keep how the features vary together too, as --shared-factors, --factors and --covariance need. It "
            "tells more of the scans.",
            "--cross",
            panel=FEDERATED,
        ),
    ] = False,
    out: Annotated[Path | None, option("Where the moments go (.nc).", "--out", "-o", metavar="FILE")] = None,
    force: Force = False,
    quiet: Quiet = False,
    *,
    reading: Reading,
) -> None:
    """Compute what a fit needs to know of a site's scans, or write the design that all sites read theirs by.

    The coordinator writes the design, every site its moments; the coordinator merges and fits them.

    bayescombat moments made_up.csv --batch site --covariates 'age + sex' --features '_thickness$' --save-design
    design.json

    bayescombat moments my_site.csv --design design.json --out my_site.nc
    """
    check_outputs([Output("--out", out, (".nc",)), Output("--save-design", save_design, (".json",))], force, [table])
    if design is not None:
        _check_design_alone(columns, save_design)
    with speaking(quiet) as voice:
        frame = read(table, reading, voice)
        if out is None:
            spec = _learned(frame.table, columns)
        else:
            study = _by_design(frame, design, columns) if design else study_of(frame, columns)
            spec = study.spec
            Moments.from_study(study, cross=cross).save(out, min_scans=min_scans)
            voice.say(f"Written: {out} (moments of {_scans(study)})")
        if save_design is not None:
            spec.save(save_design)
            voice.say(f"Written: {save_design} (the design of {len(spec.features)} features)")
        voice.warn()


def _check_design_alone(columns: Columns, save_design: Path | None) -> None:
    others = [name for name in given(columns) if name != "--reference"]
    others += ["--save-design"] if save_design is not None else []
    if others:
        raise BadParameter(f"Expected none of these beside --design, which says them, found {others[0]}.")


def _by_design(file: TableFile, design: Path, columns: Columns) -> Study:
    return study_by_design(file, DesignSpec.load(design), label_of(columns.reference))


def _scans(study: Study) -> str:
    count = len(study.batches)
    return f"{len(study.obs)} scans in {count} batch{'es' * (count > 1)}, {len(study.features)} features"


def _learned(table: pd.DataFrame, columns: Columns) -> DesignSpec:
    """Return the design of a table that need not hold scans."""
    if columns.reference:
        raise BadParameter(
            "Expected --reference with --out, since a design knows no batches: every site says it for its moments.",
            param_hint="--reference",
        )
    return DesignSpec.learn(
        table,
        batch=batch_columns(columns),
        formula=columns.covariates,
        features=_names(table, columns),
        transform=columns.transform,
        subject=columns.subject,
        smooth=smooth_sizes(columns),
        remove=columns.remove,
    )


def _names(table: pd.DataFrame, columns: Columns) -> list[str]:
    """Return the names of features, which the table need not have where they are said one by one."""
    if not columns.features:
        raise BadParameter("Missing: which columns will be the features?", param_hint="--features")
    named = [name.strip() for text in columns.features for name in text.split(",")]
    if any(name in table for name in named) or any(PATTERN.search(text) for text in columns.features):
        return wanted(table, columns) or []
    return named


def merge(
    files: Annotated[
        list[Path],
        Argument(
            help="Moments of sites, as the command moments writes them.", metavar="MOMENTS...", show_default=False
        ),
    ],
    out: Annotated[Path, option("Where the merged moments go (.nc).", "--out", "-o", metavar="FILE")],
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Merge the moments of several sites into those of the pooled table.

    bayescombat merge site_a.nc site_b.nc --out all.nc
    """
    check_outputs([Output("--out", out, (".nc",))], force, files)
    places = [path.expanduser().resolve() for path in files]
    doubled = [path for path, place in zip(files, places, strict=True) if places.count(place) > 1]
    if doubled:
        raise DataError(f"Expected every file once, found {str(doubled[0])!r} twice: its scans would count twice.")
    with speaking(quiet) as voice:
        found = merged([Moments.load(path) for path in files])
        # Whoever merges has them already.
        found.save(out, min_scans=0)
        voice.say(f"Written: {out} (moments of {int(found.scans.sum())} scans in {len(found.batches)} batches)")
