"""The study: measurements, design columns and batches of the same scans."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.columns import names_index, require
from bayescombat.study.annotated import check_annotated, dense, layer_of, marked_features, obs_table
from bayescombat.study.labelled import feature_names, labelled
from bayescombat.study.learning import Reference, Roles
from bayescombat.study.selection import chosen_names
from bayescombat.study.tables import FromTables

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["Study"]


class Study(FromTables):
    """Scans of several batches, checked and ready for both estimators.

    Make one with `Study.from_dataframe`, `Study.from_arrays`, `Study.from_xarray`, `Study.from_anndata` or
    `Study.from_design`. The arrays are read-only.

    Parameters
    ----------
    y : ndarray of float64, (obs, feature)
        Measurements, in feature units; NaN where a cell is missing.
    x : ndarray of float64, (obs, covariate)
        Design columns as the formula gives them, neither centred nor scaled, without intercept.
    codes : ndarray of int, (obs,)
        Position of each scan's batch in `batches`.
    batches : tuple of str, (batch,)
        Labels of the batches. With several batch variables a batch is a *cell*: scans that share the levels of
        all of them, whose labels are joined by " / ".
    obs : pandas.Index, (obs,)
        Unique labels of the scans.
    spec : DesignSpec
        How a table becomes features and design columns.
    reference : str, optional
        Label of the batch that the others are harmonized to; None for the pooled target.
    subjects : ndarray of str objects, (obs,), optional
        Labels of the scans' subjects, where repeated scans are modelled.
    sources : pandas.DataFrame, optional
        Covariates as they stand in the table, by labels of scans; a study that a file holds has none.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "site": ["a", "a", "b", "b"],
    ...         "age": [20, 40, 30, 50],
    ...         "thickness": [2.1, 2.4, 2.9, 2.7],
    ...     }
    ... )
    >>> Study.from_dataframe(table, batch="site", covariates="age", features=["thickness"])
    Study: 4 scans × 1 feature
      2 batches of 2 ('a') to 2 ('b') scans
      covariates: 'age'
    """

    @classmethod
    def from_xarray(
        cls,
        data: xr.DataArray | xr.Dataset,
        *,
        batch: str | Sequence[str],
        covariates: str | Sequence[str] | None = None,
        features: str | Iterable[str] | None = None,
        remove: str | Sequence[str] | None = None,
        reference: Reference | None = None,
        subject: str | None = None,
        transform: str | None = None,
        smooth: Mapping[str, int] | None = None,
    ) -> Self:
        """Return the study that a labelled array holds. The array is left as it is.

        Parameters
        ----------
        data : xarray.DataArray or xarray.Dataset
            Measurements with dims ``obs`` and ``feature``, whose coordinates along ``obs`` are the columns that batch,
            covariates and subjects are read from. Or a Dataset with one such variable, whose other variables along
            ``obs`` are columns too. A Dask array is computed: for one that is larger than memory there is
            `ChunkedStudy.from_xarray`.
        batch, covariates, remove, reference, subject, transform, smooth
            As in `Study.from_dataframe`, the columns being coordinates or variables along ``obs``.
        features : str or iterable of str, optional
            Labels of ``feature``; or one text, a regular expression to search for in them; by default all. Without
            labels features are called ``feature_0`` and so on.

        Raises
        ------
        DataError
            If there are other dims, coordinates are lacking, or values cannot be used.
        BayesCombatError
            If `transform` is unknown.

        Warns
        -----
        OverlapWarning
            As in `Study.from_dataframe`.

        Examples
        --------
        >>> values = xr.DataArray(
        ...     [[2.1, 3.0], [2.4, 3.3], [2.9, 3.2], [2.7, 3.4]],
        ...     {"site": ("obs", list("aabb")), "feature": ["left", "right"]},
        ...     ("obs", "feature"),
        ... )
        >>> Study.from_xarray(values, batch="site", features="left")
        Study: 4 scans × 1 feature
          2 batches of 2 ('a') to 2 ('b') scans
          covariates: none
        """
        values, rows = labelled(data)
        roles = Roles.of(batch, covariates, remove, reference, subject, transform, smooth)
        roles.check(rows)
        known = feature_names(values)
        names, positions = chosen_names(known, features, roles.columns)
        chosen = values if len(names) == len(known) else values.isel(feature=positions)
        return cls(*roles.parts(_beside(chosen.values, names, rows, roles), names))

    @classmethod
    def from_anndata(
        cls,
        adata: "AnnData",
        *,
        batch: str | Sequence[str],
        covariates: str | Sequence[str] | None = None,
        features: str | Iterable[str] | None = None,
        layer: str | None = None,
        remove: str | Sequence[str] | None = None,
        reference: Reference | None = None,
        subject: str | None = None,
        transform: str | None = None,
        smooth: Mapping[str, int] | None = None,
    ) -> Self:
        """Return the study that an AnnData holds. The AnnData is left as it is; see `to_anndata` for the way back.

        Parameters
        ----------
        adata : anndata.AnnData
            Observations are scans, by ``obs_names``; batch, covariates and subjects are columns of ``obs``. Counts are
            to be normalised, and their logarithms taken, before. It may be backed by a file.
        batch, covariates, remove, reference, subject, transform, smooth
            As in `Study.from_dataframe`, the columns being those of ``obs``.
        features : str or iterable of str, optional
            Names of variables; or the name of a column of ``var`` that is true for those to harmonize, such as
            ``"highly_variable"``; or a regular expression to search for in ``var_names``; by default all variables.
        layer : str, optional
            Layer that holds the measurements; by default ``X``. A sparse matrix is made dense a block at a time:
            a study holds every cell, eight bytes each.

        Raises
        ------
        ImportError
            If anndata is not installed (``pip install 'pymc-combat[anndata]'``).
        DataError
            If names of observations or variables are there twice, columns or the layer are lacking, or values cannot be
            used.
        BayesCombatError
            If `transform` is unknown.

        Warns
        -----
        OverlapWarning
            As in `Study.from_dataframe`.

        Examples
        --------
        >>> import anndata
        >>> obs = pd.DataFrame({"batch": list("aabb")}, index=["cell-1", "cell-2", "cell-3", "cell-4"])
        >>> var = pd.DataFrame({"highly_variable": [True, False, True]}, index=["G1", "G2", "G3"])
        >>> adata = anndata.AnnData(np.random.default_rng(0).normal(size=(4, 3)), obs, var)
        >>> Study.from_anndata(adata, batch="batch", features="highly_variable").features
        ('G1', 'G3')
        """
        check_annotated(adata)
        rows, stored = obs_table(adata), layer_of(adata, layer)
        roles = Roles.of(batch, covariates, remove, reference, subject, transform, smooth)
        roles.check(rows)
        names, positions = chosen_names(
            list(map(str, adata.var_names)), marked_features(adata, features), roles.columns
        )
        return cls(*roles.parts(_beside(dense(stored, positions), names, rows, roles), names, copy=False))


def _beside(values: np.ndarray, names: Sequence[str], rows: pd.DataFrame, roles: Roles) -> pd.DataFrame:
    """Return measurements (obs, feature) as a table beside those columns of the rows that have a role."""
    require(rows, roles.covariates, "covariate")
    measured = pd.DataFrame(values, index=rows.index, columns=names_index(names), copy=False)
    return pd.concat([measured, rows[roles.columns]], axis=1)
