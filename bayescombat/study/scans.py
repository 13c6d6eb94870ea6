"""What a study holds: measurements, design columns and batches of the same scans."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from bayescombat.design import DesignSpec
from bayescombat.study.conformity import check_conformity
from bayescombat.study.summary import summary

__all__ = ["Scans", "hold_read_only"]


@dataclass(frozen=True, eq=False, repr=False)
class Scans:
    """What a study holds; `Study` adds the doors that tables come in by, and says what the fields are."""

    y: np.ndarray
    x: np.ndarray
    codes: np.ndarray
    batches: tuple[str, ...]
    obs: pd.Index
    spec: DesignSpec
    reference: str | None = None
    subjects: np.ndarray | None = None
    sources: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        """Make the arrays read-only."""
        hold_read_only(self, ("y", "x", "codes", *([] if self.subjects is None else ["subjects"])))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the features."""
        return self.spec.features

    @property
    def covariates(self) -> tuple[str, ...]:
        """Names of the design columns."""
        return self.spec.covariates

    @property
    def transformed(self) -> np.ndarray:
        """Measurements on the scale that is modelled, (obs, feature): their logarithms, or `y` itself."""
        if self.spec.transform is None:
            return self.y
        logarithms = np.log(self.y)
        logarithms.setflags(write=False)
        return logarithms

    def conforming(self, design: DesignSpec) -> Self:
        """Return this study under another spec of the same design, so that moments of both can be merged.

        Raises
        ------
        DataError
            If features, covariates, what was learned from them, batch variables or transform differ.

        Examples
        --------
        >>> import bayescombat as bc
        >>> table = pd.DataFrame({"site": ["a", "a", "b", "b"], "thickness": [2.1, 2.4, 2.9, 2.7]})
        >>> design = bc.Study.from_dataframe(table, batch="site").spec
        >>> study = bc.Study.from_arrays(table[["thickness"]], batch=["a", "a", "b", "b"])
        >>> study.spec.batch, study.conforming(design).spec.batch
        (('batch',), ('site',))
        """
        check_conformity(self.spec, design)
        return replace(self, spec=design)

    def select(self, which: np.ndarray | slice) -> Self:
        """Return the study of some features: a slice over them, or where a mask (feature,) is true."""
        names = tuple(np.array(self.features, dtype=object)[which])
        return replace(self, y=np.ascontiguousarray(self.y[:, which]), spec=replace(self.spec, features=names))

    def __repr__(self) -> str:
        """Say how many scans, features and batches there are, and which covariates."""
        return summary(self.y, self.codes, self.batches, self.spec, self.reference, self.subjects)


def hold_read_only(owner: object, names: Iterable[str]) -> None:
    """Make arrays of a frozen object read-only, as views, so that the caller's own stay as they are."""
    for name in names:
        view = getattr(owner, name).view()
        view.setflags(write=False)
        object.__setattr__(owner, name, view)
