"""Harmonized values in the containers of other packages."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.columns import text_label
from bayescombat.errors import BayesCombatError, DataError, listing
from bayescombat.fit import Fit
from bayescombat.study.annotated import check_annotated, dense, layer_of

if TYPE_CHECKING:
    from anndata import AnnData

__all__ = ["to_anndata"]


def to_anndata(
    harmonized: Fit | xr.Dataset,
    adata: "AnnData",
    *,
    layer: str = "harmonized",
    sd_layer: str | None = None,
    source: str | None = None,
) -> "AnnData":
    """Return an AnnData with harmonized values as a layer beside all that another one holds.

    Parameters
    ----------
    harmonized : Fit or xarray.Dataset
        A fit, whose own rows are taken, or what `Fit.harmonize` returns for others, as for those of
        ``adata.to_df().join(adata.obs)``.
    adata : anndata.AnnData
        What the study was made of, or the rows that were harmonized, in any order. It is left as it is, and shares its
        arrays with the result.
    layer : str
        Name of the layer of harmonized values; one of that name is replaced in the result.
    sd_layer : str, optional
        Name of a layer of their standard deviations, if there is to be one. Where nothing was harmonized it is zero.
    source : str, optional
        Layer that the study was made from, by default ``X``: variables that are no features of the study have the
        values that they have there.

    Returns
    -------
    anndata.AnnData
        The layers are dense, (obs, var), of float64; missing cells are NaN in both.

    Raises
    ------
    ImportError
        If anndata is not installed (``pip install 'pymc-combat[anndata]'``).
    DataError
        If names of observations or features do not meet those of the AnnData, or it is backed by a file.
    BayesCombatError
        If standard deviations are asked of estimates that have none.

    Examples
    --------
    >>> import anndata
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> measured = simulation.table[list(simulation.features)]
    >>> obs = simulation.table[["site", "age"]].set_axis([f"scan-{j}" for j in range(35)])
    >>> adata = anndata.AnnData(measured.to_numpy(), obs, pd.DataFrame(index=measured.columns))
    >>> fit = bc.fit(bc.Study.from_anndata(adata, batch="site", covariates="age"), method="eb")
    >>> bc.to_anndata(fit, adata).layers["harmonized"].shape
    (35, 3)
    """
    check_annotated(adata)
    if adata.isbacked:
        raise DataError(
            "Expected an AnnData in memory, found one that is backed by a file, to which nothing is written unasked. "
            "Read it: adata.to_memory()."
        )
    data = harmonized.harmonized if isinstance(harmonized, Fit) else harmonized
    _check_harmonized(data, sd_layer)
    rows, columns = _places(data, adata)
    values = dense(layer_of(adata, source), np.arange(adata.n_vars))
    layers = {layer: values}
    if sd_layer is not None:
        layers[sd_layer] = np.where(np.isnan(values), np.nan, 0.0)
    for name, part in zip(layers, ("mean", "sd"), strict=False):
        layers[name][:, columns] = data[part].transpose("obs", "feature").values[rows]
    return _with_layers(adata, layers)


def _check_harmonized(data: xr.Dataset, sd_layer: str | None) -> None:
    if not isinstance(data, xr.Dataset) or "mean" not in data:
        raise DataError(
            f"Expected a fit, or the Dataset that its harmonize returns, found {type(data).__name__}. "
            "Give bayescombat.fit(study) or fit.harmonize(rows)."
        )
    if sd_layer is not None and "sd" not in data:
        raise BayesCombatError(
            "Expected harmonized values with standard deviations for sd_layer, found estimates alone. Leave sd_layer "
            "out, or fit by NUTS or with uncertainty=True."
        )


def _places(data: xr.Dataset, adata: "AnnData") -> tuple[np.ndarray, np.ndarray]:
    """Return which harmonized row every observation is, (obs,), and which variable every feature is, (feature,)."""
    labels = pd.Index([text_label(label) for label in data["obs"].values], dtype=object)
    names = pd.Index(list(map(str, adata.obs_names)), dtype=object)
    lacking, foreign = names.difference(labels), labels.difference(names)
    if len(lacking) or len(foreign):
        raise DataError(
            f"Expected the same observations in the harmonized values and in the AnnData, found {len(lacking)} that "
            f"were not harmonized ({listing(lacking) or 'none'}) and {len(foreign)} that the AnnData does not have "
            f"({listing(foreign) or 'none'}). Give the AnnData that the study was made of, or a part of it "
            "(adata[mask]) and fit.harmonize of the same rows."
        )
    variables = pd.Index(list(map(str, adata.var_names)), dtype=object)
    features = pd.Index(data["feature"].values, dtype=object)
    if not features.isin(variables).all():
        raise DataError(
            f"Expected all harmonized features among the variables of the AnnData, found "
            f"{listing(features[~features.isin(variables)])} elsewhere. It has {listing(variables)}."
        )
    return labels.get_indexer(names), variables.get_indexer(features)


def _with_layers(adata: Any, layers: dict[str, np.ndarray]) -> "AnnData":
    """Return an AnnData that shares all arrays with another one, and has more layers."""
    from anndata import AnnData

    return AnnData(
        X=adata.X,
        obs=adata.obs.copy(deep=False),
        var=adata.var.copy(deep=False),
        uns=dict(adata.uns),
        obsm=dict(adata.obsm),
        varm=dict(adata.varm),
        obsp=dict(adata.obsp),
        varp=dict(adata.varp),
        raw=adata.raw,
        # To newer releases of anndata X is a layer too, called None.
        layers={name: part for name, part in adata.layers.items() if name is not None} | layers,
    )
