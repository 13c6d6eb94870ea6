"""Files, netCDF and text: written beside and moved into place, so that a crash never leaves half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import xarray as xr

from bayescombat.errors import FileFormatError

__all__ = [
    "check_zarr",
    "marks",
    "moved_into_place",
    "progress",
    "read_text",
    "read_tree",
    "versions",
    "write_text",
    "write_tree",
    "write_zarr",
]

FORMAT = "bayescombat"
FORMAT_VERSION = 1
KINDS = {"fit": ("a fit", "bayescombat.load"), "moments": ("moments", "bayescombat.Moments.load")}
PACKAGES = ("pymc-combat", "pymc", "nutpie", "arviz", "numpy", "scipy", "xarray", "pandas", "formulaic")


def versions() -> dict[str, str]:
    """Return the versions of this package and of those that its numbers depend on."""
    return {name: _version(name) for name in PACKAGES}


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def marks(kind: str) -> dict[str, str | int]:
    """Return the attributes that tell files of this package, and of this version of its format, from others."""
    return {"format": FORMAT, "format_version": FORMAT_VERSION, "kind": kind}


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
    marked.attrs |= marks(kind)
    with moved_into_place(path) as beside:
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


def write_zarr(data: xr.Dataset, path: str | os.PathLike[str], *, progress_bar: bool = True) -> None:
    """Write a Dataset to a Zarr store (a folder), whole or not at all.

    What is still to be computed, as the harmonized values of a study in chunks are, is computed chunk by chunk on the
    way: by Dask's threads, or by the workers of a `dask.distributed` client if there is one.

    Parameters
    ----------
    data : xarray.Dataset
        What is written.
    path : path-like
        Where no file and no folder is. All workers must see its folder.
    progress_bar : bool
        Whether to show one; a distributed client has its dashboard.

    Raises
    ------
    FileExistsError
        If something is there already.
    FileNotFoundError
        If there is no folder to write into.
    ImportError
        If zarr is not installed.

    Notes
    -----
    The store is written beside its place and moved there once it is complete: after an interrupt there is none.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> data = xr.Dataset({"mean": (("obs", "feature"), [[1.0, 2.0]])})
    >>> with TemporaryDirectory() as folder:
    ...     write_zarr(data, f"{folder}/harmonized.zarr")
    ...     float(xr.open_zarr(f"{folder}/harmonized.zarr", consolidated=False)["mean"].sum())
    3.0
    """
    check_zarr()
    target = Path(path).expanduser()
    if target.exists():
        raise FileExistsError(
            f"Expected nothing at {str(target)!r}, found {'a folder' if target.is_dir() else 'a file'}. "
            "Give another path, or remove it first."
        )
    with moved_into_place(target) as beside, progress(progress_bar and bool(data.chunks)):
        data.to_zarr(beside, mode="w-", zarr_format=2, consolidated=False)


def check_zarr() -> None:
    """Raise an ImportError if zarr is not installed."""
    if find_spec("zarr") is None:
        raise ImportError("Expected zarr, found that it is not installed. Install it: pip install 'pymc-combat[dask]'.")


@contextmanager
def progress(shown: bool) -> Iterator[None]:
    """Show a bar while Dask computes on this machine."""
    if not shown:
        yield
        return
    from dask.diagnostics import ProgressBar

    with ProgressBar():
        yield


def write_text(text: str, path: str | os.PathLike[str]) -> None:
    """Write a text file in UTF-8, whole or not at all.

    Parameters
    ----------
    text : str
        What the file is to hold.
    path : path-like
        An older file there is replaced only once the new one is complete.
    """
    with moved_into_place(path) as beside:
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
def moved_into_place(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a path beside the target to write to; what is there at the end becomes the target."""
    target = Path(path).expanduser()
    if not target.parent.is_dir():
        raise FileNotFoundError(f"Expected a folder {str(target.parent)!r} to write into, found none. Make it first.")
    if target.is_dir():
        raise IsADirectoryError(
            f"Expected the name of a file to write, found the folder {str(target)!r}. Name a file in it."
        )
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
