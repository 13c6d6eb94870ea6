"""Evaluation: the metrics, and how they are printed."""

import json
import textwrap
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr

__all__ = ["Evaluation"]

WIDTH = 120
EXPECTED = {"removal": "chance", "preservation": "within"}


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """What a harmonization removed and what it preserved; made by `evaluate`.

    Parameters
    ----------
    dataset : xarray.Dataset
        All metrics, as `evaluate` describes them.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((30, 20, 20), features=5)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age + sex", features=simulation.features
    ... )
    >>> found = bc.evaluate(study, bc.fit(study, method="eb"), seed=1, permutations=50, progress_bar=False)
    >>> bool(found.table.loc["site: share of variance", "raw"] > 0.2)
    True
    """

    dataset: xr.Dataset

    @property
    def notes(self) -> list[str]:
        """What has to be said of these figures."""
        notes: list[str] = json.loads(self.dataset.attrs["notes"])
        return notes

    @property
    def table(self) -> pd.DataFrame:
        """A row for each metric: ``kind``, the estimate of every table, and what is ``expected`` of it."""
        data = self.dataset
        found = pd.DataFrame(data["estimate"].values, data["metric"].to_index(), data["table"].to_index())
        found.insert(0, "kind", data["kind"].values)
        found["expected"] = data["expected"].values
        return found

    def __repr__(self) -> str:
        """Put removal and preservation side by side, and say how they were found."""
        parts = [self._part(kind) for kind in EXPECTED]
        height = max(map(len, parts))
        blank = [[" " * len(part[0])] * (height - len(part)) for part in parts]
        sides = zip(parts[0] + blank[0], parts[1] + blank[1], strict=True)
        lines = [f"{left}  |  {right}".rstrip() for left, right in sides]
        told = [self.dataset.attrs["design"], *self.notes]
        return "\n".join(
            [*lines, *(line for note in told for line in textwrap.wrap(note, WIDTH, subsequent_indent="  "))]
        )

    def _part(self, kind: str) -> list[str]:
        """Return the lines of one half of the table, all equally long."""
        data = self.dataset.isel(metric=np.flatnonzero(self.dataset["kind"].values == kind))
        several = data.sizes["table"] > 2
        rows = [[kind.upper(), *map(str, data["table"].values), EXPECTED[kind]]]
        for place, metric in enumerate(data["metric"].values):
            one = data.isel(metric=place)
            cells = [_cell(one.isel(table=k), interval=k > 0 and not several) for k in range(data.sizes["table"])]
            rows.append([str(metric), *cells, _number(float(one["expected"]))])
        widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
        return [
            "  ".join(
                [row[0].ljust(widths[0]), *(text.rjust(width) for text, width in zip(row[1:], widths[1:], strict=True))]
            )
            for row in rows
        ]


def _cell(score: xr.Dataset, interval: bool) -> str:
    text = _number(float(score["estimate"]))
    if not interval or np.isnan(float(score["sd"])):
        return text
    return f"{text} ({_number(float(score['lower']))}, {_number(float(score['upper']))})"


def _number(value: float) -> str:
    """Return a number with two digits after the point, without a zero before it."""
    if np.isnan(value):
        return "–"
    text = f"{value:.2f}"
    text = text.removeprefix("-") if float(text) == 0 else text
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text
