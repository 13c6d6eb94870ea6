"""What the command line says: findings to standard output, all else to standard error."""

import re
import shutil
import sys
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from typer import echo

from bayescombat.errors import BayesCombatWarning, ConvergenceWarning

__all__ = ["Voice", "as_options", "complain", "speaking"]

MOST_COLUMNS = 100
# How the library speaks of its arguments.
ARGUMENT = re.compile(
    r"\b(compat|covariance|factors|mean_only|method|min_scans|robust|shared_factors|shrinkage|transform|uncertainty|"
    r"unseen)=(['\"]\w+['\"]|True\b|\d+(\.\d+)?)"
)
# How it speaks of what it calls.
CALLS = {
    "target_accept": "--target-accept",
    "(draws, tune)": "(--draws, --tune)",
    "bayescombat.diagnose": "bayescombat diagnose",
    "Study.from_design": "--design",
    "Moments.from_study(study, cross=True)": "bayescombat moments --cross",
}


class Voice:
    """Says what a command found, unless it is to be quiet, and keeps warnings to say each of them once.

    Parameters
    ----------
    quiet : bool
        Whether to say nothing but warnings.
    """

    def __init__(self, quiet: bool) -> None:
        self.quiet = quiet
        self._unsaid: list[str] = []
        self._said: set[str] = set()

    @property
    def bars(self) -> bool:
        """Whether somebody looks on as long work goes on."""
        return not self.quiet and sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Say what was found."""
        if not self.quiet:
            echo(_wrapped(text, sys.stdout.isatty()))

    def show(self, table: str) -> None:
        """Show what is laid out already."""
        if not self.quiet:
            echo(table)

    def remark(self, text: str) -> None:
        """Say what goes on."""
        if not self.quiet:
            echo(_wrapped(text, sys.stderr.isatty()), err=True)

    def caution(self, text: str) -> None:
        """Say what has to be heard, quiet or not."""
        self._unsaid.append(text)
        self.warn()

    def keep(self, message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
        """Keep a warning, as `warnings.showwarning`; that of convergence is the verdict, where that is said."""
        if self.quiet or not issubclass(category, ConvergenceWarning):
            self._unsaid.append(
                str(message) if issubclass(category, BayesCombatWarning) else f"{category.__name__}: {message}"
            )

    def warn(self) -> None:
        """Say the warnings that were not said yet."""
        for text in self._unsaid:
            if text not in self._said:
                self._said.add(text)
                echo(_paragraph("! ", as_options(text), sys.stderr.isatty()), err=True)
        self._unsaid.clear()


@contextmanager
def speaking(quiet: bool) -> Iterator[Voice]:
    """Give a voice, which hears every warning and has said them all at the end."""
    voice = Voice(quiet)
    with warnings.catch_warnings():
        warnings.simplefilter("always", BayesCombatWarning)
        warnings.showwarning = voice.keep
        try:
            yield voice
        finally:
            voice.warn()


def as_options(text: str) -> str:
    """Return what the library says with its arguments as options.

    Examples
    --------
    >>> as_options("harmonize with unseen='prior', or raise target_accept")
    'harmonize with --unseen prior, or raise --target-accept'
    """
    text = ARGUMENT.sub(_option, text)
    for words, said in CALLS.items():
        text = text.replace(f" {words}", f" {said}")
    return text


def _option(found: re.Match[str]) -> str:
    name, _, value = found[0].partition("=")
    said = "" if value == "True" else " " + value.strip("'\"")
    return f"--{name.replace('_', '-')}{said}"


def complain(text: str) -> None:
    """Say what went wrong."""
    echo(_paragraph("Error: ", as_options(text), sys.stderr.isatty()), err=True)


def _wrapped(text: str, terminal: bool) -> str:
    return "\n".join(
        _paragraph(line[: len(line) - len(line.lstrip())], line.lstrip(), terminal) for line in text.splitlines()
    )


def _paragraph(start: str, text: str, terminal: bool) -> str:
    """Return a text that starts with a mark or a margin, in lines that fit where somebody reads them."""
    if not terminal:
        return f"{start}{text}"
    width = min(MOST_COLUMNS, shutil.get_terminal_size().columns)
    return textwrap.fill(
        text, width, initial_indent=start, subsequent_indent=" " * len(start), break_on_hyphens=False,
        break_long_words=False,
    ) or start  # fmt: skip
