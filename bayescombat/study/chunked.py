"""The study of a table that is larger than memory: rows are held, measurements are chunks of features."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.batches import Levels
from bayescombat.columns import check_finite, require
from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, listing
from bayescombat.study.conformity import check_conformity
from bayescombat.study.labelled import feature_names, labelled
from bayescombat.study.learning import Reference, Roles, learned_rows
from bayescombat.study.reading import check_positive
from bayescombat.study.study import Study

if TYPE_CHECKING:
    from dask.array import Array

__all__ = ["ChunkedStudy", "study_of_chunk"]


@dataclass(frozen=True, eq=False, repr=False)
class ChunkedStudy:
    """Scans whose measurements are a Dask array: read chunk by chunk, never all at once.

    Make one with `ChunkedStudy.from_xarray`. It is for empirical Bayes: see `fit`.

    Parameters
    ----------
    y : dask.array.Array of float32 or float64, (obs, feature)
        Measurements in feature units, NaN where a cell is missing; every chunk holds all scans of some features.
    x, codes, batches, obs, spec, reference
        As in `Study`.

    Examples
    --------
    >>> import dask.array as da
    >>> rng = np.random.default_rng(0)
    >>> values = xr.DataArray(
    ...     da.from_array(rng.normal(size=(6, 4)).astype(np.float32), chunks=(6, 2)),
    ...     {"site": ("obs", list("aaabbb")), "age": ("obs", [20, 40, 60, 30, 50, 70])},
    ...     ("obs", "feature"),
    ... )
    >>> ChunkedStudy.from_xarray(values, batch="site", covariates="age")
    ChunkedStudy: 6 scans × 4 features of float32 in 2 chunks
      2 batches, covariates: 'age'
    """

    y: "Array"
    x: np.ndarray
    codes: np.ndarray
    batches: tuple[str, ...]
    obs: pd.Index
    spec: DesignSpec
    reference: str | None = None

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.spec.features

    @property
    def scans(self) -> np.ndarray:
        """How many scans every batch has, (batch,)."""
        return np.bincount(self.codes, minlength=len(self.batches))

    @property
    def levels(self) -> Levels:
        """Levels of the batch variables."""
        return Levels.of(self.spec.batch, self.batches)

    @property
    def chunks(self) -> list[slice]:
        """Which features every chunk has."""
        ends = np.cumsum(self.y.chunks[1]).tolist()
        return [slice(start, end) for start, end in zip([0, *ends], ends, strict=False)]

    @classmethod
    def from_xarray(
        cls,
        values: xr.DataArray | xr.Dataset,
        *,
        batch: str | Sequence[str],
        covariates: str | Sequence[str] | None = None,
        remove: str | Sequence[str] | None = None,
        reference: Reference | None = None,
        transform: str | None = None,
    ) -> Self:
        """Return the study that a labelled array holds.

        Parameters
        ----------
        values : xarray.DataArray or xarray.Dataset, (obs, feature)
            Measurements, best in chunks of some thousand features and all scans, as `xarray.open_zarr` gives them. Its
            coordinates along ``obs`` are the columns that batch and covariates are read from. Voxels of images are one
            dimension: ``values.stack(feature=("x", "y", "z"))``. Scans in several chunks are joined by Dask, which
            takes memory: better store them together. Or a Dataset with one such variable, as in `Study.from_xarray`.
        batch, covariates, remove, reference, transform
            As in `Study.from_dataframe`.

        Raises
        ------
        ImportError
            If Dask is not installed.
        DataError
            If there are other dimensions, coordinates are lacking, or values cannot be used. That measurements are
            finite is checked when they are read.

        Warns
        -----
        OverlapWarning
            As in `Study.from_dataframe`.

        Examples
        --------
        >>> values = xr.DataArray(np.eye(4), {"site": ("obs", list("aabb"))}, ("obs", "feature"))
        >>> ChunkedStudy.from_xarray(values, batch="site").features
        ('feature_0', 'feature_1', 'feature_2', 'feature_3')
        """
        values, table = labelled(values)
        roles = Roles.of(batch, covariates, remove, reference, transform=transform)
        roles.check(table)
        require(table, roles.covariates, "covariate")
        rows = learned_rows(table, roles.variables, feature_names(values), reference, roles.asked)
        return cls(_in_chunks(values), *rows[:-1])

    @property
    def rows(self) -> Study:
        """The same without features: what goes along with every chunk."""
        nothing, spec = np.empty((len(self.obs), 0)), replace(self.spec, features=())
        return Study(nothing, self.x, self.codes, self.batches, self.obs, spec, self.reference)

    def conforming(self, design: DesignSpec) -> Self:
        """Return this study under another spec of the same design; see `Study.conforming`."""
        check_conformity(self.spec, design)
        return replace(self, spec=design)

    def __repr__(self) -> str:
        """Say how many scans, features, chunks and batches there are, and which covariates."""
        scans, features = self.y.shape
        return (
            f"ChunkedStudy: {scans} scans × {features} features of {self.y.dtype} in {self.y.numblocks[1]} chunks\n"
            f"  {len(self.batches)} batches, covariates: {listing(self.spec.covariates) or 'none'}"
        )


def study_of_chunk(values: np.ndarray, rows: Study, features: Sequence[str]) -> Study:
    """Return the study of one chunk (obs, feature), its values checked.

    Raises
    ------
    DataError
        If values are infinite, or have no logarithm although one is to be taken.
    """
    spec = replace(rows.spec, features=tuple(features))
    check_finite(values, features, rows.obs)
    check_positive(values, spec, rows.obs)
    # Logarithms are taken in double precision, plain values are converted as they are added up.
    y = values if spec.transform is None else values.astype(float)
    return replace(rows, y=y, spec=spec)


def _in_chunks(values: xr.DataArray) -> "Array":
    """Return the measurements as floats in chunks of equal width that hold all scans."""
    try:
        import dask.array as da
    except ImportError as error:
        raise ImportError(
            "Expected Dask for a study in chunks, found that it is not installed. "
            "Install it: pip install 'pymc-combat[dask]'."
        ) from error
    if not (np.issubdtype(values.dtype, np.floating) or np.issubdtype(values.dtype, np.integer)):
        raise DataError(f"Expected real numbers, found values of {values.dtype}. Convert them with .astype.")
    y: Any = da.asarray(values.data)
    if y.dtype not in (np.float32, np.float64):
        y = y.astype(np.float32 if y.dtype == np.float16 else np.float64)
    return y.rechunk({0: -1, 1: max(y.chunks[1]) if y.numblocks[1] > 1 else "auto"})
