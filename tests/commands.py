"""The command line in this process. Its commands are made once, where typer's own runner makes them for every call."""

import sys
from typing import NamedTuple

from typer.main import get_command
from typer.testing import CliRunner

from bayescombat.cli import app

COMMAND = get_command(app)


class Ended(NamedTuple):
    """How a command ended, and what it said: both streams as they came, and each."""

    exit_code: int
    output: str
    stdout: str
    stderr: str


def run(*arguments: object, columns: int = 300) -> Ended:
    """Run a command on a terminal of so many columns; what it raises is raised here."""
    with CliRunner(env={"COLUMNS": str(columns)}).isolation() as (out, err, both):
        try:
            COMMAND.main([str(argument) for argument in arguments], prog_name="bayescombat")
        except SystemExit as end:
            code = int(end.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
        return Ended(code, *(stream.getvalue().decode() for stream in (both, out, err)))
