"""netCDF files: written beside and moved into place, so that a crash never leaves half a file."""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory

import xarray as xr

from bayescombat.errors import FileFormatError

__all__ = ["read_tree", "versions", "write_tree"]

FORMAT = "bayescombat"
FORMAT_VERSION = 1
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
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder {str(target.parent)!r} to write into, found none. Make it first.")
    marked = tree.copy()
    marked.attrs |= {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as folder:
        complete = Path(folder) / target.name
        marked.to_netcdf(complete, engine="h5netcdf")
        os.replace(complete, target)


def read_tree(path: str | os.PathLike[str], kind: str) -> xr.DataTree:
    """Read a tree that `write_tree` wrote, into memory.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    FileFormatError
        If the file is not one of ours, holds something else, or is of a newer version.
    """
    source = Path(path).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"Expected a netCDF file of bayescombat at {str(source)!r}, found none.")
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
            f"Expected {str(source)!r} to hold a {kind} of bayescombat, "
            f"found {'a ' + str(found) if found else 'a file of another program'}."
        )
    if tree.attrs["format_version"] > FORMAT_VERSION:
        raise FileFormatError(
            f"{str(source)!r} has format version {tree.attrs['format_version']}, this bayescombat reads up to "
            f"{FORMAT_VERSION}. Update bayescombat (package pymc-combat)."
        )
    return tree
