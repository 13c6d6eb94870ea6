"""The application: its commands, and how it ends."""

import shlex
from typing import Annotated, Any

from typer import BadParameter, Exit, Option, Typer, echo
from typer.core import TyperCommand, TyperGroup

from bayescombat.cli.demonstrating import demo
from bayescombat.cli.evaluating import diagnose, evaluate
from bayescombat.cli.federating import merge, moments
from bayescombat.cli.harmonizing import apply, harmonize, update
from bayescombat.cli.reporting import report
from bayescombat.cli.voice import complain
from bayescombat.errors import BayesCombatError
from bayescombat.storage import versions

__all__ = ["app", "main"]

NAME = "bayescombat"
BAD_INPUT, INTERRUPTED = 1, 130
QUOTES = (
    "A value that holds blanks or * stands in quotation marks, such as 'age + sex'; several values follow their option "
    "each, or have commas between them where its help says so."
)
FIRST, THEN, TOGETHER = "Harmonize", "Look before and after", "Sites that keep their scans"


class Command(TyperCommand):
    """A command that takes no value in silence for another, and says what to do with one too many."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raise a BadParameter if an option of one value is given twice, and fail if values are left over."""
        values, left, found = self.make_parser(ctx).parse_args(list(args))
        if not values.get("help"):
            _check_once(found, ctx)
            if left:
                ctx.fail(f"Expected nothing more, found {' '.join(left)!r}. {QUOTES}")
        return super().parse_args(ctx, args)


def _check_once(found: list[Any], ctx: Any) -> None:
    for parameter in found:
        if parameter.param_type_name != "option" or parameter.multiple or parameter.is_flag:
            continue
        times = sum(other is parameter for other in found)
        if times > 1:
            raise BadParameter(
                f"Expected it once, found it {times} times. Say all of it in one value; a formula of two covariates is "
                "'age + sex'.",
                ctx=ctx,
                param_hint=parameter.opts[0],
            )


class Commands(TyperGroup):
    """The commands; what is wrong with the input is said in words, and anything else is a bug that shows itself."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Keep what was typed, for those who want to do it again."""
        ctx.obj = shlex.join([NAME, *args])
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run a command, and end with the code that says how it went."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise
        except (BayesCombatError, OSError, ImportError) as error:
            complain(str(error))
            raise Exit(BAD_INPUT) from error
        except KeyboardInterrupt as error:
            complain("Interrupted. Files are written whole or not at all.")
            raise Exit(INTERRUPTED) from error


app = Typer(
    name=NAME,
    cls=Commands,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        echo(f"{NAME} {versions()['pymc-combat']}")
        raise Exit


@app.callback(
    epilog="Exit codes: 0 well; 1 bad input; 2 the command cannot be understood; 3 fitted but not to be trusted "
    "(did not converge); 130 interrupted. 'bayescombat COMMAND --help' says more of each."
)
def _application(
    version: Annotated[
        bool, Option("--version", help="Say which version this is.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Remove batch and site effects from a table by ComBat, and say how sure every harmonized value is.

    bayescombat harmonize table.csv --batch site --covariates 'age + sex' --out harmonized.csv
    """


for panel, commands in (
    (FIRST, (harmonize, apply, update)),
    (THEN, (diagnose, evaluate, report, demo)),
    (TOGETHER, (moments, merge)),
):
    for command in commands:
        app.command(cls=Command, rich_help_panel=panel)(command)


def main() -> None:
    """Run the command line."""
    app(prog_name=NAME)
