"""The harmonizations that are compared, each of which remembers what it did."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np

import bayescombat as bc
from bayescombat.columns import heard

__all__ = ["METHODS", "PAIRS", "Remembered"]

NUTS = {"method": "nuts", "chains": 4, "tune": 500, "draws": 500, "progress_bar": False}
METHODS: Mapping[str, Mapping[str, object]] = {
    "EB": {"method": "eb"},
    "EB, factors": {"method": "eb", "shared_factors": "auto"},
    "NUTS, independent": NUTS | {"shared_factors": 0},
    "NUTS": NUTS,
}
# The same model by both estimators: the published comparison, and that of models whose features share factors.
PAIRS = (("EB", "NUTS, independent"), ("EB, factors", "NUTS"))

type Rows = Callable[[bc.Study], np.ndarray]
type Key = tuple[tuple[object, ...], tuple[object, ...]]


@dataclass(eq=False)
class Remembered:
    """A harmonizer for `bayescombat.evaluate` that never fits, and never harmonizes, the same scans twice.

    Parameters
    ----------
    settings : mapping
        Arguments of `bayescombat.fit`.
    seed : int
        Of all its fits.
    seconds : list of float
        Of the processor, for every fit.
    said : list of (str, type)
        What fits warned of, and by which warning.
    """

    settings: Mapping[str, object]
    seed: int
    seconds: list[float] = field(default_factory=list)
    said: list[tuple[str, type[Warning]]] = field(default_factory=list)
    _known: dict[Key, np.ndarray] = field(default_factory=dict)

    def __call__(self, train: bc.Study) -> Rows:
        """Return what harmonizes scans (obs, feature) after learning from others."""
        fitted = cache(lambda: self._fitted(train))

        def harmonize(rows: bc.Study) -> np.ndarray:
            key = (tuple(train.obs), tuple(rows.obs))
            if key not in self._known:
                with heard():
                    self._known[key] = fitted().harmonize(rows, probability=None)["mean"].values
            return self._known[key]

        return harmonize

    def notes(self) -> list[str]:
        """Return in words what fits warned of: the first of every kind, and how many there were."""
        kinds = {category: [message for message, kind in self.said if kind is category] for _, category in self.said}
        return [
            f"{len(said)} of {len(self.seconds)} fits should not be trusted by their own diagnostics; the first: "
            + said[0].rpartition("(")[2].rstrip(")")
            if category is bc.ConvergenceWarning
            else said[0] + (f" ({len(said)} such warnings)" if len(said) > 1 else "")
            for category, said in kinds.items()
        ]

    def _fitted(self, train: bc.Study) -> bc.Fit:
        seed = {"seed": self.seed} if self.settings["method"] == "nuts" else {}
        started = time.process_time()
        with heard() as found:
            fit = bc.fit(train, **self.settings, **seed)
        self.seconds.append(time.process_time() - started)
        self.said.extend(found)
        return fit
