"""Files, netCDF and text: written beside and moved into place, so that a crash never leaves half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import xarray as xr

from bayescombat.errors import FileFormatError

__all__ = ["read_text", "read_tree", "versions", "write_text", "write_tree"]

FORMAT = "bayescombat"
FORMAT_VERSION = 1
KINDS = {"fit": ("a fit", "bayescombat.load"), "moments": ("moments", "bayescombat.Moments.load")}
PACKAGES = ("pymc-combat", "pymc", "nutpie", "arviz", "numpy", "scipy", "xarray", "pandas", "formulaic")


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that its numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write_tree(tree: xr.DataTree, path: str | os.PathLike[str], kind: str) -> None:
    """Write a tree to one netCDF file, whole or not at all.

    Parameters
    ----------
    tree : xarray.DataTree
        Attributes must be strings or numbers.
    path : path-like
        An older file there is replaced only once the new one is complete.
    kind : str
        What the file holds; `read_tree` asks for it.
    """
    marked = tree.copy()
    marked.attrs |= {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    with _moved_into_place(path) as beside:
        marked.to_netcdf(beside, engine="h5netcdf")


def read_tree(path: str | os.PathLike[str], kind: str) -> xr.DataTree:
    """Read a tree that `write_tree` wrote, into memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is not one of ours, holds something else, or is of a newer version.
    """
    source = _existing(path, "a netCDF file")
    try:
        tree = xr.load_datatree(source, engine="h5netcdf")
    except PermissionError:
        raise
    except (OSError, ValueError, KeyError) as error:
        raise FileFormatError(
            f"Expected a netCDF file of bayescombat at {str(source)!r}, found something else ({error})."
        ) from error
    found = tree.attrs.get("kind") if tree.attrs.get("format") == FORMAT else None
    if found != kind:
        raise FileFormatError(
            f"Expected {str(source)!r} to hold {KINDS[kind][0]} of bayescombat, found "
            f"{'. Read it with '.join(KINDS[found]) if found in KINDS else 'a file of another program'}."
        )
    if tree.attrs["format_version"] > FORMAT_VERSION:
        raise FileFormatError(
            f"{str(source)!r} has format version {tree.attrs['format_version']}, this bayescombat reads up to "
            f"{FORMAT_VERSION}. Update bayescombat (package pymc-combat)."
        )
    return tree


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Parameters
    ----------
    text : str
        What the file is to hold.
    path : path-like
        An older file there is replaced only once the new one is complete.
    """
    with _moved_into_place(path) as beside:
        beside.write_text(text, encoding="utf-8", newline="\n")


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a text file that `write_text` wrote.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file holds no text in UTF-8.
    """
    source = _existing(path, "a text file")
    try:
        return source.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(
            f"Expected a text file of bayescombat at {str(source)!r}, found something else ({error})."
        ) from error


@contextmanager
def _moved_into_place(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside the target to write to; what is there at the end becomes the target."""
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder {str(target.parent)!r} to write into, found none. Make it first.")
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        beside = Path(folder) / target.name
        yield beside
        os.replace(beside, target)


def _existing(path: str | os.PathLike[str], kind: str) -> Path:
    source = Path(path).expanduser()
    if not source.is_file():
        found = "a folder" if source.is_dir() else "none"
        raise FileNotFoundError(f"Expected {kind} of bayescombat at {str(source)!r}, found {found}.")
    return source
