"""A Zarr store that is filled block by block, beside its place until it is whole."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from bayescombat.errors import BayesCombatError, DataError, FileFormatError
from bayescombat.fit.block import Block, Found
from bayescombat.storage import marks, moved_into_place, versions

__all__ = ["BlockStore"]

KIND = "blocks"
# Of every block, written last; and what it is until then.
MARK = "converged"
NOT_YET = -1


@dataclass(frozen=True, eq=False)
class BlockStore:
    """Where blocks are written to.

    Parameters
    ----------
    path : Path
        Where the store stands once it is whole. Until then it stands beside, in a folder of this name with
        ``.unfinished`` at its end.
    """

    path: Path

    @property
    def beside(self) -> Path:
        """Where the store is while blocks are missing."""
        return self.path.with_name(f"{self.path.name}.unfinished")

    @property
    def whole(self) -> bool:
        """Whether nothing is missing."""
        return self.path.exists()

    def held(self) -> dict[str, Any]:
        """Return the identity of the blocks that are there: study and settings. Empty if there are none.

        Raises
        ------
        FileFormatError
            If something else is there.
        FileNotFoundError
            If there is no folder to write into.
        """
        import zarr

        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"Expected a folder {str(self.path.parent)!r} to write into, found none. Make it first."
            )
        for place in (self.path, self.beside):
            if not place.exists():
                continue
            try:
                attrs = dict(zarr.open_group(place, mode="r").attrs)
            except (OSError, ValueError) as error:
                raise _foreign(place) from error
            if any(attrs.get(name) != value for name, value in marks(KIND).items()):
                raise _foreign(place)
            held: dict[str, Any] = json.loads(str(attrs["identity"]))
            return held
        return {}

    def check(self, identity: Mapping[str, Any]) -> None:
        """Raise an error if blocks are there that are of another study or of other settings.

        Raises
        ------
        DataError
            If they are of another study.
        BayesCombatError
            If settings differ.
        """
        held = self.held()
        if not held:
            return
        if held["study"] != identity["study"]:
            raise DataError(
                f"Expected blocks of this study at {str(self.path)!r}, found those of another, or of other rows or "
                "features. Give another path, or remove what is there."
            )
        other = [f"{name}={held[name]!r}, not {value!r}" for name, value in identity.items() if held[name] != value]
        if other:
            raise BayesCombatError(
                f"Expected blocks of the same settings at {str(self.path)!r}, found {'; '.join(other)}. Ask for the "
                "same to go on, give another path, or remove what is there."
            )

    def finished(self, count: int) -> np.ndarray:
        """Return which of so many blocks are there, (block,)."""
        if self.whole or not self.beside.exists():
            return np.full(count, self.whole)
        import zarr

        found = np.asarray(zarr.open_group(self.beside, mode="r")[f"blocks/{MARK}"])
        return np.asarray(found != NOT_YET)

    def create(self, first: Found, labels: Mapping[str, xr.Dataset], blocks: int, identity: Mapping[str, Any]) -> None:
        """Make a store of the right shapes that holds no block yet, unless there is one.

        Parameters
        ----------
        first : mapping of str to xarray.Dataset
            What some block found: names, dimensions, units.
        labels : mapping of str to xarray.Dataset
            Coordinates along the features by group; under no name those of all other groups.
        blocks : int
            How many blocks there are.
        identity : mapping
            What `check` asks for.
        """
        if self.beside.exists():
            return
        said = {"identity": json.dumps(identity), "versions": json.dumps(versions())}
        with moved_into_place(self.beside) as folder:
            xr.Dataset(attrs=marks(KIND) | said).to_zarr(folder, mode="w-", zarr_format=2, consolidated=False)
            for group, found in first.items():
                empty = _empty(found, labels.get(group, labels[""]), blocks)
                empty.to_zarr(folder, group=group, mode="w-", zarr_format=2, consolidated=False, compute=False)

    def write(self, block: Block, found: Found) -> None:
        """Write what a block found, and then that it is finished: what is there in part is never taken for whole."""
        import zarr

        store: Any = zarr.open_group(self.beside, mode="r+")
        for group, data in found.items():
            place = block.place(group)
            for name, array in data.data_vars.items():
                if name != MARK:
                    where = tuple(place.get(str(dim), slice(None)) for dim in array.dims)
                    store[f"{group}/{name}"][where] = array.values
        store[f"blocks/{MARK}"][block.number] = found["blocks"][MARK].values[0]

    def finish(self) -> None:
        """Move the store, now that nothing is missing, into its place."""
        if not self.whole:
            os.replace(self.beside, self.path)

    def opened(self) -> xr.DataTree:
        """Return the whole store, read as it is asked for."""
        return xr.open_datatree(self.path, engine="zarr", consolidated=False, chunks={})


def _empty(found: xr.Dataset, labels: xr.Dataset, blocks: int) -> xr.Dataset:
    """Return a Dataset for all features and blocks like that of one block; its numbers take no memory."""
    import dask.array as da

    sizes = {"feature": labels.sizes["feature"], "block": blocks}
    widths = {"feature": -(-sizes["feature"] // blocks), "block": 1}
    data: dict[Any, Any] = {}
    for name, array in found.data_vars.items():
        shape, chunks = ([of.get(str(dim), n) for dim, n in array.sizes.items()] for of in (sizes, widths))
        if array.dtype == float:
            values: Any = da.full(shape, np.nan, chunks=chunks)
        else:
            values = np.full(shape, NOT_YET if array.dtype.kind == "i" else "", dtype=array.dtype)
        data[name] = (array.dims, values, array.attrs)
    empty = xr.Dataset(data, attrs=found.attrs)
    coords = {**found.coords, **labels.coords, "block": range(blocks)}
    return empty.assign_coords({name: coords[name] for name in coords if name in empty.dims or name == "set_aside"})


def _foreign(place: Path) -> FileFormatError:
    found = "another folder" if place.is_dir() else "a file"
    return FileFormatError(
        f"Expected nothing, or blocks of this version of bayescombat, at {str(place)!r}, found {found}. Give another "
        "path, or remove it first."
    )
