"""What the model learns from a table: sizes, means and centred cross-products per batch and feature.

The Gaussian ComBat likelihood depends on the data through these alone, so both estimators, the merging of
sites and federated work all start here. Everything is centred: nothing is ever a raw sum of squares, so
calendar years and values of 1e6 keep their digits.

The sizes and the moments of the covariates carry a feature axis of length one in a complete table and of
full length when cells are missing; broadcasting makes the algebra downstream the same for both.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Self

import numpy as np
import xarray as xr

from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, listing
from bayescombat.storage import read_tree, write_tree
from bayescombat.study import Study

__all__ = ["Moments", "as_moments", "merge"]

ARRAYS = ("n", "mean_x", "sxx", "mean_y", "mean_y_low", "sxy", "syy")


@dataclass(frozen=True, eq=False)
class Moments:
    """Sizes, means and centred cross-products of every batch.

    Parameters
    ----------
    n : ndarray, (batch, 1 or feature)
        Observed scans.
    mean_x : ndarray, (batch, 1 or feature, covariate)
        Means of the design columns.
    sxx : ndarray, (batch, 1 or feature, covariate, covariate)
        Centred cross-products of the design columns.
    mean_y : ndarray, (batch, feature)
        Means of the features, in feature units.
    mean_y_low : ndarray, (batch, feature)
        What `mean_y` loses by rounding: values of 1e6 merge as exactly as those of 1.
    sxy : ndarray, (batch, feature, covariate)
        Centred cross-products of features and design columns.
    syy : ndarray, (batch, feature)
        Centred sums of squares of the features. Exactly zero where a feature is constant in a batch.
    batches : tuple of str
        Labels of the batches.
    spec : DesignSpec
        How a table becomes features and design columns.
    reference : str, optional
        The reference batch.

    Notes
    -----
    Merging is the pairwise update of Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> moments = bc.Moments.from_study(study)
    >>> moments.n.ravel()
    array([20., 10.])
    """

    n: np.ndarray
    mean_x: np.ndarray
    sxx: np.ndarray
    mean_y: np.ndarray
    mean_y_low: np.ndarray
    sxy: np.ndarray
    syy: np.ndarray
    batches: tuple[str, ...]
    spec: DesignSpec
    reference: str | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only, as views, so that the caller's own stay as they are."""
        for name in ARRAYS:
            view = getattr(self, name).view()
            view.flags.writeable = False
            object.__setattr__(self, name, view)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.spec.features

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the design columns."""
        return self.spec.covariates

    @property
    def scans(self) -> np.ndarray:
        """Scans per batch (the most that any feature was observed in)."""
        return np.asarray(self.n.max(axis=1).astype(int))

    @property
    def center(self) -> np.ndarray:
        """Average covariates over all scans, (1 or feature, covariate)."""
        return np.asarray((self.n[..., None] * self.mean_x).sum(axis=0) / self.n.sum(axis=0)[..., None])

    @property
    def constant(self) -> np.ndarray:
        """Which features are constant overall or in a batch of two or more scans, (feature,)."""
        inside = (self.syy == 0) & (self.n >= 2)
        values = np.where(self.n > 0, self.mean_y, np.nan)
        overall = (self.syy == 0).all(axis=0) & (np.nanmax(values, axis=0) == np.nanmin(values, axis=0))
        return np.asarray(inside.any(axis=0) | overall)

    @classmethod
    def from_study(cls, study: Study) -> Self:
        """Return the moments of a study, in one pass over its rows."""
        n_batch, n_feature, n_covariate = len(study.batches), study.y.shape[1], study.x.shape[1]
        rows = [np.flatnonzero(study.codes == i) for i in range(n_batch)]
        n = np.array([[len(r)] for r in rows], dtype=float)
        mean_x = np.zeros((n_batch, 1, n_covariate))
        sxx = np.zeros((n_batch, 1, n_covariate, n_covariate))
        mean_y, mean_y_low, syy = (np.zeros((n_batch, n_feature)) for _ in range(3))
        sxy = np.zeros((n_batch, n_feature, n_covariate))
        # Matrix products of another width may round differently: features that will be set aside have
        # products of their own, so that adding one leaves every other number as it was, to the last bit.
        aside = np.zeros(n_feature, dtype=bool)
        for r in rows:
            aside |= (np.ptp(study.y[r], axis=0) == 0) if len(r) >= 2 else False
        parts = [np.flatnonzero(~aside), np.flatnonzero(aside)]
        for i, r in enumerate(rows):
            if not len(r):
                continue
            mean_x[i, 0], _, x = _centred(study.x[r])
            sxx[i, 0] = x.T @ x
            mean_y[i], mean_y_low[i], y = _centred(study.y[r])
            syy[i] = (y * y).sum(axis=0)
            for part in parts:
                sxy[i, part] = np.ascontiguousarray(y[:, part]).T @ x
        return cls(n, mean_x, sxx, mean_y, mean_y_low, sxy, syy, study.batches, study.spec, study.reference)

    def select(self, keep: np.ndarray) -> Self:
        """Return the moments of the features where `keep` (feature,) is true."""
        names = tuple(np.array(self.features, dtype=object)[keep])
        spread = ("mean_y", "mean_y_low", "sxy", "syy") if self.n.shape[1] == 1 else ARRAYS
        arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name)[:, keep]) for name in spread}
        return replace(self, **arrays, spec=replace(self.spec, features=names))

    def to_dataset(self) -> xr.Dataset:
        """Return the moments as a labelled Dataset, dims batch, feature, covariate and covariate_other."""
        compact = self.n.shape[1] == 1
        feature = () if compact else ("feature",)
        dims: dict[str, tuple[str, ...]] = {
            "n": ("batch", *feature),
            "mean_x": ("batch", *feature, "covariate"),
            "sxx": ("batch", *feature, "covariate", "covariate_other"),
            "mean_y": ("batch", "feature"),
            "mean_y_low": ("batch", "feature"),
            "sxy": ("batch", "feature", "covariate"),
            "syy": ("batch", "feature"),
        }
        values = {name: getattr(self, name) for name in ARRAYS}
        if compact:
            values |= {name: values[name][:, 0] for name in ("n", "mean_x", "sxx")}
        covariates = list(self.covariates)
        coords = {
            "batch": list(self.batches),
            "feature": list(self.features),
            "covariate": covariates,
            "covariate_other": covariates,
        }
        attrs = {"design": self.spec.to_json()}
        if self.reference is not None:
            attrs["reference"] = self.reference
        return xr.Dataset({name: (dims[name], values[name]) for name in ARRAYS}, coords, attrs)

    @classmethod
    def from_dataset(cls, data: xr.Dataset) -> Self:
        """Return the moments held by a Dataset that `to_dataset` made."""
        values = {name: np.array(data[name].values, dtype=float) for name in ARRAYS}
        if values["n"].ndim == 1:
            values |= {name: values[name][:, None] for name in ("n", "mean_x", "sxx")}
        return cls(
            **values,
            batches=tuple(str(label) for label in data["batch"].values),
            spec=DesignSpec.from_json(data.attrs["design"]),
            reference=data.attrs.get("reference"),
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments to a netCDF file, whole or not at all."""
        write_tree(xr.DataTree(self.to_dataset()), path, kind="moments")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read moments that `save` wrote.

        Raises
        ------
        FileFormatError
            If the file holds no moments.
        """
        return cls.from_dataset(read_tree(path, kind="moments").to_dataset())


def as_moments(data: Study | Moments) -> Moments:
    """Return the moments of a study, or moments as they are."""
    if isinstance(data, Moments):
        return data
    if isinstance(data, Study):
        return Moments.from_study(data)
    raise DataError(
        f"Expected a Study or Moments, found {type(data).__name__}. "
        "Make a study first: bayescombat.Study.from_dataframe(table, batch=..., covariates=...)."
    )


def merge(moments: Sequence[Moments]) -> Moments:
    """Merge moments of different scans into those of the pooled table.

    Parameters
    ----------
    moments : sequence of Moments
        Of different batches, or of different scans of the same batches; with equal design.

    Returns
    -------
    Moments
        Over all batches, in the order of their first appearance, with the reference batch that any of them has.

    Raises
    ------
    DataError
        If there is nothing to merge, or the designs or reference batches differ.

    Notes
    -----
    The pairwise update of Chan, Golub and LeVeque (1983), doi:10.1080/00031305.1983.10483115.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> bc.merge([bc.Moments.from_study(study), bc.Moments.from_study(study)]).n.ravel()
    array([40., 20.])
    """
    items = list(moments)
    if not items:
        raise DataError("Expected at least one Moments to merge, found none.")
    first = items[0]
    for other in items[1:]:
        _check_same_design(first, other)
    references = sorted({item.reference for item in items if item.reference is not None})
    if len(references) > 1:
        raise DataError(
            f"Expected one reference batch, found {listing(references)}. Make every part with the same reference."
        )
    batches = tuple(dict.fromkeys(label for item in items for label in item.batches))
    merged = reduce(_add, [_spread(item, batches) for item in items])
    return replace(merged, reference=references[0] if references else None)


def _check_same_design(first: Moments, other: Moments) -> None:
    if first.spec != other.spec:
        differing = [
            name
            for name in ("batch", "features", "formula", "covariates")
            if getattr(first.spec, name) != getattr(other.spec, name)
        ]
        raise DataError(
            "Expected moments of one design, found designs that differ in "
            f"{listing(differing or ['levels, knots or transforms learned from the table'])}. "
            "Learn the design once and use it for every part."
        )


def _centred(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the column means, what they lose by rounding, and the centred columns.

    Columns are measured from their first value, so that a constant column centres to exact zeros.
    """
    shifted = values - values[0]
    mean = shifted.mean(axis=0)
    return *_exact_sum(values[0], mean), shifted - mean


def _exact_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rounded sum and its rounding error (Knuth's two-sum)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _spread(moments: Moments, batches: tuple[str, ...]) -> Moments:
    """Return the moments over more batches; those without scans have size zero."""
    place = [batches.index(label) for label in moments.batches]
    arrays: dict[str, Any] = {}
    for name in ARRAYS:
        value = getattr(moments, name)
        arrays[name] = np.zeros((len(batches), *value.shape[1:]))
        arrays[name][place] = value
    return replace(moments, **arrays, batches=batches)


def _add(a: Moments, b: Moments) -> Moments:
    n = a.n + b.n
    share = b.n / np.maximum(n, 1)
    between = a.n * share
    dx = b.mean_x - a.mean_x
    dy = (b.mean_y - a.mean_y) + (b.mean_y_low - a.mean_y_low)
    mean_y, mean_y_low = _exact_sum(a.mean_y, share * dy + a.mean_y_low)
    return replace(
        a,
        n=n,
        mean_x=a.mean_x + share[..., None] * dx,
        sxx=a.sxx + b.sxx + between[..., None, None] * dx[..., :, None] * dx[..., None, :],
        # A batch that one side has no scans of keeps the other's mean as it is.
        mean_y=np.where(a.n == 0, b.mean_y, mean_y),
        mean_y_low=np.where(a.n == 0, b.mean_y_low, mean_y_low),
        sxy=a.sxy + b.sxy + between[..., None] * dx * dy[..., None],
        syy=a.syy + b.syy + between * dy**2,
    )
