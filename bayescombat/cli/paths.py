"""Where results go, looked at before anything long is done."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from typer import BadParameter

from bayescombat.errors import DataError
from bayescombat.tables import ENDINGS, ending_of, needs

__all__ = ["Output", "check_outputs"]


@dataclass(frozen=True)
class Output:
    """A file that is to be written.

    Parameters
    ----------
    option : str
        What names it on the command line.
    path : Path, optional
        None if it is not wanted.
    endings : tuple of str
        What its name may end in.
    """

    option: str
    path: Path | None
    endings: tuple[str, ...] = ENDINGS


def check_outputs(outputs: Iterable[Output], force: bool, inputs: Iterable[Path] = ()) -> None:
    """Raise an error if a file could not be written, or must not be.

    Parameters
    ----------
    outputs : iterable of Output
        What is to be written.
    force : bool
        Whether files that are there may be overwritten.
    inputs : iterable of Path
        Tables that are read, which no output may take the place of.

    Raises
    ------
    BadParameter
        If nothing is to be written, an ending is unknown, or two files are to be one.
    OSError
        If there is no such folder, something is there already, or may not be written.
    ImportError
        If a library is not installed that writes such a file.
    """
    outputs = list(outputs)
    taken = {_place(path): "the input" for path in inputs}
    wanted = [(output, output.path.expanduser()) for output in outputs if output.path is not None]
    if not wanted:
        names = " or ".join(output.option for output in outputs)
        raise BadParameter(f"Nothing would be written: give {names}.")
    for output, path in wanted:
        try:
            needs(ending_of(path, output.endings))
        except DataError as error:
            raise BadParameter(str(error), param_hint=output.option) from error
        other = taken.setdefault(_place(path), output.option)
        if other != output.option:
            raise BadParameter(f"Expected another file than {other}, found {str(path)!r}.", param_hint=output.option)
        _check_place(path, output.option, force)


def _place(path: Path) -> Path:
    return path.expanduser().resolve()


def _check_place(path: Path, name: str, force: bool) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Expected a folder {str(path.parent)!r} to write {path.name!r} into ({name}), found none. Make it first."
        )
    if path.is_dir():
        raise IsADirectoryError(f"Expected the name of a file for {name}, found the folder {str(path)!r}.")
    if path.exists() and not force:
        raise FileExistsError(
            f"Expected no file at {str(path)!r} ({name}), found one. Give another name, or --force to write over it."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"Expected a folder that may be written into for {name}, found {str(path.parent)!r}.")
