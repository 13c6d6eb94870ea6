"""``demo``: the packaged data, both ways, by commands that a user would type."""

import shlex
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from typer import Argument, Context, Exit, echo

from bayescombat.cli.fits import NOT_TO_BE_TRUSTED
from bayescombat.cli.options import Force
from bayescombat.cli.paths import Output, check_outputs
from bayescombat.datasets import load_openneuro
from bayescombat.storage import moved_into_place

__all__ = ["COMMANDS", "demo"]

TABLE = "openneuro.csv"
# Of 148 thicknesses the 60 or so of gyri, so that NUTS takes less of a visitor's time.
COLUMNS = "--batch site --covariates 'age + sex' --features '_G_.*_thickness$'"
COMMANDS = (
    f"diagnose {TABLE} {COLUMNS}",
    f"harmonize {TABLE} {COLUMNS} --method eb --out harmonized_eb.csv",
    f"harmonize {TABLE} {COLUMNS} --seed 1 --out harmonized.csv --uncertainty --save fit.nc --report report.html",
    f"apply fit.nc {TABLE} --target ds000115 --out as_of_ds000115.csv",
)


def demo(
    context: Context,
    folder: Annotated[
        Path | None,
        Argument(help="Where tables, fit and report go. Without one nothing is kept.", show_default=False),
    ] = None,
    force: Force = False,
) -> None:
    """Harmonize the packaged data, by empirical and by full Bayes, and show every command that does it.

    Cortical thickness of 490 people from six open studies.
    """
    with _inside(folder):
        check_outputs([Output("FOLDER", Path(TABLE))], force)
        with moved_into_place(TABLE) as beside:
            load_openneuro().to_csv(beside)
        code = 0
        for command in COMMANDS:
            code = max(code, _run(context, command, force))
            if code not in (0, NOT_TO_BE_TRUSTED):
                break
    if folder is None:
        echo("\nNothing was kept. To keep tables, fit and report: bayescombat demo FOLDER")
    if code:
        raise Exit(code)


@contextmanager
def _inside(folder: Path | None) -> Iterator[None]:
    """Work in a folder, made if need be; without one in a folder that goes away."""
    if folder is None:
        with TemporaryDirectory() as place, chdir(place):
            yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with chdir(folder):
        echo(f"$ cd {shlex.quote(str(folder))}")
        yield


def _run(context: Context, command: str, force: bool) -> int:
    """Show a command, run it, and return its exit code."""
    echo(f"\n$ bayescombat {command}")
    arguments = [*shlex.split(command), *(["--force"] if force else [])]
    assert context.parent is not None
    group = context.parent.command
    code = group.main(arguments, prog_name="bayescombat", standalone_mode=False)
    return int(code or 0)
