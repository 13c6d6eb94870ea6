"""What a fit needs beside its parameters to harmonize rows: design, levels, reference and average covariates."""

import json
import math
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import xarray as xr

from bayescombat.additive import Additive
from bayescombat.batches import Levels
from bayescombat.columns import names_index
from bayescombat.design import DesignSpec
from bayescombat.moments import Moments

__all__ = ["Layout", "averaged", "stacked"]


@dataclass(frozen=True, eq=False)
class Layout:
    """How rows meet parameters.

    Parameters
    ----------
    spec : DesignSpec
        How a table becomes features and design columns.
    levels : Levels
        Of the batch variables.
    reference : str, optional
        The reference batch, or combination of levels.
    features : tuple of str
        Those that were modelled; the others of the design were set aside.
    center : ndarray, (1 or feature, covariate)
        The average covariates that alpha refers to; with missing cells each feature has its own.
    scans : ndarray of int, (batch,)
        Scans of every level.
    """

    spec: DesignSpec
    levels: Levels
    reference: str | None
    features: tuple[str, ...]
    center: np.ndarray
    scans: np.ndarray

    @classmethod
    def of(cls, moments: Moments, kept: Moments) -> Self:
        """Return the layout of a fit to `kept`, the modelled part of `moments`."""
        scans = Additive(moments.positions, moments.scans[:, None]).size[:, 0].astype(np.int64)
        return cls(moments.spec, moments.levels, moments.reference, kept.features, kept.center, scans)

    def with_level(self, variable: str, level: str) -> Self:
        """Return the layout with one more level, of no scans yet, which comes last of its variable."""
        names = dict(self.levels.names)
        names[variable] = (*names[variable], level)
        levels = Levels(names)
        counts = dict(zip(self.levels.labels, self.scans, strict=True)) | {levels.label(variable, level): 0}
        return replace(self, levels=levels, scans=np.array([counts[label] for label in levels.labels]))

    def with_scans(self, moments: Moments) -> Self:
        """Return the layout with more scans, of levels that it has."""
        scans = self.scans.copy()
        np.add.at(scans, self.levels.positions(moments.batches), moments.scans[:, None])
        return replace(self, scans=scans)

    def to_dataset(self) -> xr.Dataset:
        """Return the layout as a Dataset, dims batch, covariate and, where averages differ, feature."""
        alike = len(self.center) == 1
        dims = ("covariate",) if alike else ("feature", "covariate")
        attrs = {"design": self.spec.to_json(), "levels": json.dumps(dict(self.levels.names))}
        if self.reference is not None:
            attrs["reference"] = self.reference
        coords = {
            "feature": names_index(self.features),
            "batch": list(self.levels.labels),
            "covariate": list(self.spec.covariates),
        }
        center = self.center[0] if alike else self.center
        return xr.Dataset({"center": (dims, center), "scans": ("batch", self.scans)}, coords, attrs)

    @classmethod
    def from_dataset(cls, data: xr.Dataset) -> Self:
        """Return the layout held by a Dataset that `to_dataset` made."""
        names = {name: tuple(levels) for name, levels in json.loads(data.attrs["levels"]).items()}
        spec = DesignSpec.from_json(data.attrs["design"])
        features = tuple(map(str, data["feature"].values))
        if features == spec.features:
            # The texts of the coordinate serve both.
            spec = replace(spec, features=features)
        return cls(
            spec=spec,
            levels=Levels(names),
            reference=data.attrs.get("reference"),
            features=features,
            center=np.atleast_2d(data["center"].values),
            scans=data["scans"].values,
        )

    @property
    def modelled(self) -> np.ndarray:
        """Positions of the modelled features among all of the design."""
        if self.features == self.spec.features:
            return np.arange(len(self.features))
        modelled = set(self.features)
        return np.flatnonzero([name in modelled for name in self.spec.features])


def stacked(parameters: xr.Dataset, name: str) -> np.ndarray:
    """Return a parameter with one draw axis, (draw, ...); an estimate is one draw."""
    array = parameters[name]
    leading = [dim for dim in ("chain", "draw") if dim in array.dims]
    values = array.transpose(*leading, ...).values
    shape = values.shape[len(leading) :]
    return np.asarray(values.reshape(math.prod(values.shape[: len(leading)]), *shape))


def averaged(values: xr.DataArray) -> xr.DataArray:
    """Return the mean over the draws; an estimate as it is."""
    return values.mean([dim for dim in ("chain", "draw") if dim in values.dims])
