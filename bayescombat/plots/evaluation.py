"""The table of an evaluation, as a picture."""

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayescombat.errors import DataError
from bayescombat.evaluate import Evaluation
from bayescombat.plots.canvas import (
    COLOURS,
    INK,
    MARKERS,
    PALE,
    RAW,
    dodged,
    estimates,
    height_of_rows,
    legend_above,
    new_picture,
    rows,
)

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = ["evaluation"]

TITLES = {
    "removal": "Removal: bars, chance",
    "preservation": "Preservation: bars, within batches",
}


def evaluation(found: Evaluation) -> "Picture":
    """Draw what a harmonization removed and what it preserved.

    Every metric is a row with its estimates and their intervals: of raw values, of each harmonizer, and as a bar what
    is expected of it. On the left that is chance, on the right what raw values say within batches.

    Parameters
    ----------
    found : Evaluation
        As by `evaluate`.

    Returns
    -------
    matplotlib.figure.Figure
        With panels of removal and of preservation, and a ``description`` in words.

    Raises
    ------
    DataError
        If this is no evaluation.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((30, 20, 20), features=5)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age + sex", features=simulation.features
    ... )
    >>> eb = bc.fit(study, method="eb")
    >>> found = bc.evaluate(study, eb, folds=2, permutations=20, seed=1, progress_bar=False)
    >>> [label.get_text() for label in bc.plots.evaluation(found).legends[0].get_texts()]
    ['raw', 'harmonized', 'expected']
    """
    if not isinstance(found, Evaluation):
        raise DataError(
            f"Expected an Evaluation, found {type(found).__name__}. Make one with bayescombat.evaluate(study, fit)."
        )
    data = found.dataset
    parts = {kind: data.isel(metric=np.flatnonzero(data["kind"].values == kind)) for kind in TITLES}
    several = data.sizes["table"]
    tallest = max(part.sizes["metric"] for part in parts.values())
    least = 0.16 * several
    picture = new_picture(10, height_of_rows(tallest, total=3.5, least=least, most=max(0.5, least)) + 1.3)
    panels = picture.subplots(1, 2)
    for panel, (kind, part) in zip(panels, parts.items(), strict=True):
        handles = _metrics(panel, part, tallest)
        panel.set_title(TITLES[kind], loc="left", fontsize="medium", color=INK)
    panels[0].set_xlabel("share, or accuracy", fontsize="small")
    panels[1].set_xlabel("ratio, share, correlation or accuracy", fontsize="small")
    legend_above(picture, handles)
    picture.description = _told(found)
    return picture


def _metrics(axes: "Axes", part: xr.Dataset, tallest: int) -> list["Artist"]:
    """Draw the metrics of one kind, a row each, and return what stands in the legend."""
    names = [str(name) for name in part["metric"].values]
    rows(axes, names)
    # Rows of both panels are equally high.
    axes.set_ylim(tallest - 0.5, -0.5)
    for value in (0, 1):
        axes.axvline(value, color=PALE, linewidth=0.8, zorder=1)
    places, handles = dodged(part.sizes["table"], 0.6), []
    for k, table in enumerate(part["table"].values):
        one, where = part.isel(table=k), np.arange(len(names)) + places[k]
        style = (RAW, *COLOURS)[k % (len(COLOURS) + 1)], MARKERS[k % len(MARKERS)]
        handles.append(estimates(axes, one["estimate"], (one["lower"], one["upper"]), where, *style, str(table)))
    middle = np.arange(len(names))
    handles.append(
        axes.vlines(part["expected"], middle - 0.36, middle + 0.36, color=INK, linewidth=2, label="expected")
    )
    return handles


def _told(found: Evaluation) -> str:
    """Say the share of variance that batches explain, and the effects of covariates, of every table."""
    table = found.table.drop(columns=["kind"])
    shown = table[table.index.str.endswith((": share of variance", ": effect"))]
    lines = [
        f"{metric}, {', '.join(f'{name} {value:.2f}' for name, value in row.dropna().items())}"
        for metric, row in shown.iterrows()
    ]
    return f"Removal beside preservation, {found.dataset.attrs['design']} {'; '.join(lines)}."
