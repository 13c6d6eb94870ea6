"""AnnData as measurements, and a table of what is known of their cells or samples."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from bayescombat.blocks import slices
from bayescombat.columns import as_table
from bayescombat.errors import DataError, listing, suggestion

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["check_annotated", "dense", "layer_of", "marked_features", "obs_table"]

# Numbers in one block of a sparse matrix that is made dense: 8 MiB of float64.
BLOCK = 2**20


def check_annotated(adata: Any) -> None:
    """Raise an error if this is no AnnData whose rows and columns can be told apart by their names.

    Raises
    ------
    ImportError
        If anndata is not installed.
    DataError
        If it is something else, or names of observations or variables are there twice.
    """
    try:
        from anndata import AnnData
    except ImportError as error:
        raise ImportError(
            "Expected anndata for an AnnData, found that it is not installed. "
            "Install it: pip install 'pymc-combat[anndata]'."
        ) from error
    if not isinstance(adata, AnnData):
        raise DataError(
            f"Expected an AnnData, found {type(adata).__name__}. For tables there is Study.from_dataframe, for "
            "labelled arrays Study.from_xarray."
        )
    for role, names in (("obs", adata.obs_names), ("var", adata.var_names)):
        if not names.is_unique:
            doubled = names[names.duplicated()].unique()
            raise DataError(
                f"Expected every name in {role}_names once, found {len(doubled)} more than once: {listing(doubled)}. "
                f"Make them unique: adata.{role}_names_make_unique()."
            )


def obs_table(adata: "AnnData") -> pd.DataFrame:
    """Return the columns of obs as a table whose rows have the names of the observations."""
    return as_table(adata.obs)


def layer_of(adata: "AnnData", layer: str | None) -> Any:
    """Return a layer, or X, (obs, var), as it is stored.

    Raises
    ------
    DataError
        If there is no such layer, or it holds no real numbers.
    """
    known = [name for name in adata.layers.keys() if name is not None]
    if layer is not None and layer not in known:
        raise DataError(
            f"Expected the layer {layer!r}, found no such layer.{suggestion(layer, known)} There is "
            f"{listing(known) or 'none'}; layer=None is X."
        )
    stored: Any = adata.X if layer is None else adata.layers[layer]
    if stored is None:
        raise DataError(f"Expected measurements in X, found none. Name a layer: {listing(known) or 'none'}.")
    if np.dtype(stored.dtype).kind not in "biuf":
        raise DataError(f"Expected real numbers in {layer or 'X'!r}, found values of {stored.dtype}. Convert them.")
    return stored


def marked_features(adata: "AnnData", features: str | Iterable[object] | None) -> str | Iterable[object]:
    """Return features as names or a regular expression, given these, the name of a column of var, or None for all.

    Raises
    ------
    DataError
        If the column of var does not say yes or no of every variable.
    """
    if features is None:
        return list(map(str, adata.var_names))
    if not isinstance(features, str) or features not in adata.var.columns:
        return features
    marks: Any = adata.var[features]
    if not pd.api.types.is_bool_dtype(marks.dtype) or marks.isna().any():
        raise DataError(
            f"Expected true or false in the column {features!r} of var, which says what the features are, found "
            f"{marks.dtype}{' with missing values' if marks.isna().any() else ''}. Convert it, or give the names."
        )
    return list(map(str, adata.var_names[marks.to_numpy(dtype=bool)]))


def dense(stored: Any, wanted: np.ndarray) -> np.ndarray:
    """Return some columns of a matrix, sparse, dense or on disk, as a new array.

    Parameters
    ----------
    stored : array-like or sparse matrix, (obs, var)
        What `layer_of` returns.
    wanted : ndarray of int, (feature,)
        Positions of the columns.

    Returns
    -------
    ndarray of float64, (obs, feature)
        C-contiguous. Beside it there are blocks of bounded size.

    Examples
    --------
    >>> from scipy import sparse
    >>> dense(sparse.csr_array([[0, 1, 2], [3, 0, 0]]), np.array([2, 0]))
    array([[2., 0.],
           [0., 3.]])
    """
    scans, columns = stored.shape
    values = np.empty((scans, len(wanted)))
    # Compressed by columns, a sparse matrix is read by columns: every block of rows would take a pass over it all.
    if getattr(stored, "format", None) == "csc":
        for some in slices(len(wanted), max(1, BLOCK // scans)):
            values[:, some] = _plain(stored[:, wanted[some]])
        return values
    whole = np.array_equal(wanted, np.arange(columns))
    for some in slices(scans, max(1, BLOCK // columns)):
        block = _plain(stored[some])
        values[some] = block if whole else block[:, wanted]
    return values


def _plain(block: Any) -> np.ndarray:
    return np.asarray(block.toarray() if hasattr(block, "toarray") else block)
