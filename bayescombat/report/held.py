"""What a fit holds that a report is made of, whatever it was saved without."""

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
import xarray as xr

from bayescombat.columns import heard
from bayescombat.estimation import warn_of_little_data
from bayescombat.fit import Fit
from bayescombat.identification import told_apart, warn_of_set_aside
from bayescombat.moments import Moments
from bayescombat.repeated import fixed_effects
from bayescombat.study import Study

__all__ = ["Held"]


@dataclass(frozen=True, eq=False)
class Held:
    """A fit, with what is found of it once and said in several places.

    Parameters
    ----------
    fit : Fit
    study : Study, optional
        The rows, where the fit holds them.
    moments : Moments, optional
        What was learned from, features that were set aside included, where the fit holds them.
    aside : dict of str to list of str
        Features that were set aside, by reason.
    warned : tuple of str
        What the fit warned of, as far as what it holds tells of that.
    """

    fit: Fit
    study: Study | None
    moments: Moments | None
    aside: dict[str, list[str]]
    warned: tuple[str, ...]

    @classmethod
    def by(cls, fit: Fit) -> Self:
        """Return what a fit holds."""
        study = fit.study if "observed_data" in fit.tree else None
        modelled = set(fit.layout.features)
        left = [name for name in fit.layout.spec.features if name not in modelled]
        if "moments" not in fit.tree:
            return cls(fit, study, None, {"": left} if left else {}, ())
        with heard() as said:
            _, aside = told_apart(fit.moments)
            warn_of_set_aside(aside, fit.moments.features)
            kept, whole = fit.learned, fit.settings.get("compat") == "sva" and not fit.mean_only
            warn_of_little_data(kept, None if kept.subjects is None else fixed_effects(kept), whole_run=whole)
        known = {reason: [name for name in names if name not in modelled] for reason, names in aside.items()}
        rest = set(left).difference(*known.values())
        known |= {"": [name for name in left if name in rest]}
        given = {reason: names for reason, names in known.items() if names}
        return cls(fit, study, fit.moments, given, tuple(message for message, _ in said))

    @property
    def nuts(self) -> bool:
        """Whether there are draws."""
        return self.fit.method == "nuts"

    @property
    def sure(self) -> bool:
        """Whether harmonized values have an interval."""
        return self.nuts or bool(self.fit.settings.get("uncertainty"))

    @property
    def logs(self) -> bool:
        """Whether logarithms were modelled."""
        return self.fit.layout.spec.transform == "log"

    @property
    def scans(self) -> int:
        """How many scans there are, of batches that were adopted too."""
        layout = self.fit.layout
        return int(layout.scans.sum()) // len(layout.levels.sizes)

    @property
    def left(self) -> list[str]:
        """Names of the features that were set aside."""
        return [name for names in self.aside.values() for name in names]

    @property
    def missing(self) -> float:
        """Share of the cells of modelled features that are missing; NaN where nothing tells of it."""
        if self.study is not None:
            return float(np.isnan(self.study.y[:, self.fit.layout.modelled]).mean())
        if self.moments is None:
            return float("nan")
        kept = self.moments.select(np.isin(self.moments.features, self.fit.layout.features))
        observed = np.broadcast_to(kept.n, kept.mean_y.shape).sum()
        return float(1 - observed / (kept.scans.sum() * len(kept.features)))

    @property
    def adopted(self) -> list[str]:
        """Labels of the batches that were adopted later."""
        pairs = json.loads(self.fit.tree.attrs.get("adopted", "[]"))
        return [self.fit.layout.levels.label(*pair) for pair in pairs]

    @property
    def robust(self) -> bool:
        """Whether noise is Student's t."""
        return bool(self.fit.tree.attrs.get("robust"))

    @cached_property
    def location_alone(self) -> bool:
        """Whether no scale was adjusted: as it was asked, or since sva does so where a batch has one scan."""
        return self.fit.mean_only or (not self.nuts and bool((self.fit.parameters["delta"] == 1).all()))

    @property
    def factors(self) -> int:
        """How many factors the features share."""
        return int(self.fit.loadings.shape[1])

    @cached_property
    def harmonized(self) -> xr.Dataset | None:
        """The rows, harmonized; None where the fit holds none."""
        if self.study is None:
            return None
        with heard():
            return self.fit.harmonized
