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
from typing import Any, Self

import numpy as np
import xarray as xr

from bayescombat.batches import Levels
from bayescombat.columns import names_index
from bayescombat.design import DesignSpec
from bayescombat.errors import DataError, FileFormatError, listing
from bayescombat.moments.subjects import Subjects
from bayescombat.moments.sums import ARRAYS, cell_sums, cross_products
from bayescombat.storage import read_tree, write_tree
from bayescombat.study import Study
from bayescombat.study.scans import hold_read_only

__all__ = ["Moments", "as_moments"]

MIN_SCANS = 5


@dataclass(frozen=True, eq=False)
class Moments:
    """Sizes, means and centred cross-products of every batch.

    Parameters
    ----------
    scans : ndarray of int, (batch,)
        Scans, whether every feature was observed in them or not.
    n : ndarray, (batch, 1 or feature)
        Scans that the feature was observed in.
    mean_x : ndarray, (batch, 1 or feature, covariate)
        Means of the design columns over the observed scans.
    sxx : ndarray, (batch, 1 or feature, covariate, covariate)
        Centred cross-products of the design columns.
    mean_y : ndarray, (batch, feature)
        Means of the features, in feature units (of their logarithms where the design takes logarithms); zero where
        nothing was observed.
    mean_y_low : ndarray, (batch, feature)
        What `mean_y` loses by rounding: values of 1e6 merge as exactly as those of 1.
    sxy : ndarray, (batch, feature, covariate)
        Centred cross-products of features and design columns.
    syy : ndarray, (batch, feature)
        Centred sums of squares of the features. Exactly zero where a feature is constant in a batch.
    batches : tuple of str
        Labels of the batches; with several batch variables, of the combinations of their levels.
    spec : DesignSpec
        How a table becomes features and design columns.
    reference : str, optional
        The reference batch.
    cross : ndarray, (batch, feature, feature), optional
        Centred cross-products of the features, where they were asked for: what factors are learned from.
    subjects : Subjects, optional
        Sizes and means of every subject's scans, where the design names subjects.

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
    >>> moments.scans
    array([20, 10])
    """

    scans: np.ndarray
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
    cross: np.ndarray | None = None
    subjects: Subjects | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        hold_read_only(self, self.held)

    @property
    def held(self) -> tuple[str, ...]:
        """Names of the arrays that there are."""
        return ("scans", *ARRAYS) if self.cross is None else ("scans", *ARRAYS, "cross")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.spec.features

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the design columns."""
        return self.spec.covariates

    @property
    def levels(self) -> Levels:
        """Levels of the batch variables."""
        return Levels.of(self.spec.batch, self.batches)

    @property
    def positions(self) -> np.ndarray:
        """Where the levels of each batch stand among all levels, (batch, batch variable)."""
        return self.levels.positions(self.batches)

    @property
    def reference_levels(self) -> np.ndarray | None:
        """Where the reference's levels stand among all levels, (batch variable,); None without a reference."""
        return None if self.reference is None else self.levels.positions([self.reference])[0]

    @property
    def center(self) -> np.ndarray:
        """Average covariates over all scans, (1 or feature, covariate)."""
        total = np.maximum(self.n.sum(axis=0), 1)
        return np.asarray((self.n[..., None] * self.mean_x).sum(axis=0) / total[..., None])

    @property
    def constant(self) -> np.ndarray:
        """Which features are constant overall or in a batch of two or more scans, (feature,)."""
        return np.asarray(self._same(np.ones(len(self.batches), dtype=bool)) | self.constant_inside)

    @property
    def constant_inside(self) -> np.ndarray:
        """Which features are constant in a batch of two or more scans, (feature,)."""
        columns = self.levels.known(self.batches).T
        return self._constant_in([column == level for column in columns for level in np.unique(column)]).any(axis=0)

    @property
    def constant_in_levels(self) -> np.ndarray:
        """Which features are constant in which levels of two or more scans, (level, feature); see `Levels.labels`."""
        positions = self.positions
        return self._constant_in([(positions == at).any(axis=1) for at in range(len(self.levels.labels))])

    def _constant_in(self, inside: Sequence[np.ndarray]) -> np.ndarray:
        found = [self._same(rows) & (self.n[rows].sum(axis=0) >= 2) for rows in inside]
        return np.array(found, dtype=bool).reshape(len(inside), len(self.features))

    def _same(self, rows: np.ndarray) -> np.ndarray:
        """Return which features have one value in all observed scans of some batches, (feature,)."""
        seen, mean = self.n[rows] > 0, self.mean_y[rows]
        highest, lowest = np.where(seen, mean, -np.inf).max(axis=0), np.where(seen, mean, np.inf).min(axis=0)
        return np.asarray((self.syy[rows] == 0).all(axis=0) & (highest <= lowest))

    @classmethod
    def from_study(cls, study: Study, cross: bool = False) -> Self:
        """Return the moments of a study, in one pass over its rows.

        Parameters
        ----------
        study : Study
            The rows.
        cross : bool
            Whether to keep the features' cross-products too, features × features numbers for every batch. Without them
            the features of a scan are modelled as independent.
        """
        y = study.transformed
        rows = [np.flatnonzero(study.codes == i) for i in range(len(study.batches))]
        sums = cell_sums(y, study.x, rows)
        scans = np.array([len(r) for r in rows])
        products = np.stack([cross_products(y[r]) for r in rows]) if cross else None
        subjects = None if study.subjects is None else Subjects.of(study.subjects, study.codes, y, study.x)
        return cls(
            scans,
            **sums,
            batches=study.batches,
            spec=study.spec,
            reference=study.reference,
            cross=products,
            subjects=subjects,
        )

    def select(self, keep: np.ndarray) -> Self:
        """Return the moments of the features where `keep` (feature,) is true."""
        names = tuple(np.array(self.features, dtype=object)[keep])
        spread = ("mean_y", "mean_y_low", "sxy", "syy") if self.n.shape[1] == 1 else ARRAYS
        arrays: dict[str, Any] = {name: np.ascontiguousarray(getattr(self, name)[:, keep]) for name in spread}
        cross = None if self.cross is None else np.ascontiguousarray(self.cross[:, keep][:, :, keep])
        subjects = None if self.subjects is None else self.subjects.select(keep)
        return replace(self, **arrays, spec=replace(self.spec, features=names), cross=cross, subjects=subjects)

    def of_features(self, block: slice) -> Self:
        """Return the moments of some features as views, without cross-products and subjects."""
        spread = ("mean_y", "mean_y_low", "sxy", "syy") if self.n.shape[1] == 1 else ARRAYS
        arrays: dict[str, Any] = {name: getattr(self, name)[:, block] for name in spread}
        return replace(
            self, **arrays, spec=replace(self.spec, features=self.features[block]), cross=None, subjects=None
        )

    def of_batches(self, kept: Sequence[int]) -> Self:
        """Return the moments of the batches at some positions."""
        arrays: dict[str, Any] = {name: getattr(self, name)[kept] for name in self.held}
        subjects = None if self.subjects is None else self.subjects.of_batches(kept)
        return replace(self, **arrays, batches=tuple(self.batches[i] for i in kept), subjects=subjects)

    def to_dataset(self) -> xr.Dataset:
        """Return the moments as a labelled Dataset, dims batch, feature, covariate and covariate_other."""
        compact = self.n.shape[1] == 1
        feature = () if compact else ("feature",)
        dims: dict[str, tuple[str, ...]] = {
            "scans": ("batch",),
            "n": ("batch", *feature),
            "mean_x": ("batch", *feature, "covariate"),
            "sxx": ("batch", *feature, "covariate", "covariate_other"),
            "mean_y": ("batch", "feature"),
            "mean_y_low": ("batch", "feature"),
            "sxy": ("batch", "feature", "covariate"),
            "syy": ("batch", "feature"),
        }
        values = {name: getattr(self, name) for name in dims}
        if compact:
            values |= {name: values[name][:, 0] for name in ("n", "mean_x", "sxx")}
        covariates = list(self.covariates)
        coords = {
            "batch": list(self.batches),
            "feature": names_index(self.features),
            "covariate": covariates,
            "covariate_other": covariates,
        }
        if self.cross is not None:
            dims["cross"], values["cross"] = ("batch", "feature", "feature_other"), self.cross
            coords["feature_other"] = list(self.features)
        attrs = {"design": self.spec.to_json()}
        if self.reference is not None:
            attrs["reference"] = self.reference
        data = xr.Dataset({name: (dims[name], values[name]) for name in dims}, coords, attrs)
        return data if self.subjects is None else data.assign(self.subjects.to_variables())

    @classmethod
    def from_dataset(cls, data: xr.Dataset) -> Self:
        """Return the moments held by a Dataset that `to_dataset` made."""
        values = {name: np.asarray(data[name].values, dtype=float) for name in ARRAYS}
        if values["n"].ndim == 1:
            values |= {name: values[name][:, None] for name in ("n", "mean_x", "sxx")}
        return cls(
            scans=np.array(data["scans"].values, dtype=np.int64),
            **values,
            batches=tuple(str(label) for label in data["batch"].values),
            spec=DesignSpec.from_json(data.attrs["design"]),
            reference=data.attrs.get("reference"),
            cross=np.array(data["cross"].values, dtype=float) if "cross" in data else None,
            subjects=Subjects.from_dataset(data),
        )

    def save(self, path: str | os.PathLike[str], min_scans: int = MIN_SCANS) -> None:
        """Write the moments to a netCDF file, whole or not at all.

        Parameters
        ----------
        path : path-like
            An older file there is replaced once the new one is complete.
        min_scans : int
            Fewest scans of a batch, and of a feature in it, that may leave the site; where the design names subjects,
            of each of its subjects too.

        Raises
        ------
        DataError
            If a batch has fewer.

        Notes
        -----
        What the file tells: column names and whatever the design learned; and of every batch the number of scans and,
        over its scans, the means of covariates and features, their variances, and the covariances of covariates with
        each other and with features. No noise is added: this is no differential privacy. `min_scans` guards against the
        plainest disclosure, no more. From the moments follow the values of all scans of a batch, where the covariates
        are known, once it has little more scans than design columns; the only scan of a category in a batch of any
        size; the covariates of a scan that alone lacks a feature; and, from files with and without a scan, that scan.
        So `min_scans` should be well above the number of design columns. The features' cross-products, if kept, tell
        more. Where the design names subjects, the file holds their labels and the means of each one's scans in a batch,
        of a single scan that scan itself.
        """
        fewest = np.where(self.n > 0, self.n, np.inf).min(axis=1)
        if self.subjects is not None:
            least = np.where(self.subjects.n > 0, self.subjects.n, np.inf).min(axis=1)
            np.minimum.at(fewest, self.subjects.batch, least)
        small = np.minimum(fewest, self.scans) < min_scans
        if small.any():
            raise DataError(
                f"Expected at least {min_scans} observed scans of every batch and feature before moments leave the "
                f"site, found fewer in {listing(np.array(self.batches)[small])}. Moments of few scans come close to "
                "the scans themselves: leave these batches or features out, or, if they may be shared, "
                f"save with min_scans={max(1, int(np.minimum(fewest, self.scans).min()))}."
            )
        write_tree(xr.DataTree(self.to_dataset()), path, kind="moments")

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read moments that `save` wrote.

        Raises
        ------
        FileFormatError
            If the file holds no moments, or numbers that cannot be any.
        """
        moments = cls.from_dataset(read_tree(path, kind="moments").to_dataset())
        least = {"n": 0, "syy": 0, "pair_n": 0}
        values = {name: getattr(moments, name) for name in ARRAYS}
        if moments.subjects is not None:
            values |= {name: part.values for name, part in moments.subjects.to_variables().items() if name != "subject"}
        sound = {name: np.isfinite(v) & (v >= least.get(name, -np.inf)) for name, v in values.items()}
        broken = [name for name in sound if not sound[name].all()]
        if broken:
            raise FileFormatError(
                f"Expected finite moments in {os.fspath(path)!r}, and no negative sizes and squares, found others in "
                f"{listing(broken)}. Have them saved again."
            )
        return moments


def as_moments(data: Study | Moments, cross: bool = False) -> Moments:
    """Return the moments of a study, with cross-products if asked for, or moments as they are."""
    if isinstance(data, Moments):
        return data
    if isinstance(data, Study):
        return Moments.from_study(data, cross)
    raise DataError(
        f"Expected a Study or Moments, found {type(data).__name__}. "
        "Make a study first: bayescombat.Study.from_dataframe(table, batch=..., covariates=...); "
        "a file of moments is read by bayescombat.Moments.load."
    )
