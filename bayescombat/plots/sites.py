"""Values of a feature before and after harmonization: by batch, and scan by scan."""

from typing import TYPE_CHECKING

import numpy as np

from bayescombat.fit import Fit
from bayescombat.frames import Frame
from bayescombat.plots.canvas import COLOURS, INK, RAW, alike, bare, height_of_rows, new_picture, rows_of_batches
from bayescombat.plots.values import Values, values_of
from bayescombat.study import Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = ["harmonized", "sites"]

# Share of its row that the scans of a batch take, and points of an inch.
BAND, POINTS = 0.72, 72
MOST_COLOURED = 6


def sites(
    fit: Fit, feature: str | None = None, *, data: Frame | Study | None = None, at_average: bool = True
) -> "Picture":
    """Draw every scan of a feature by batch, before and after harmonization.

    A batch is a row, ordered by their raw means; its scans stand in the order of their values, each with its interval
    where the fit says how sure it is, and a bar at their mean. On the right is half the width of the median interval:
    the fewer scans, the wider.

    Parameters
    ----------
    fit : Fit
        Any. With several batch variables a row is a combination of their levels.
    feature : str, optional
        By default the one that batches explain best.
    data : frame (pandas, polars, ...) or Study, optional
        Rows; by default those that were fitted.
    at_average : bool
        Whether to move every scan, before and after, to the average of the preserved covariates, by the slopes of the
        fit: harmonization leaves batches apart that differ in age, and what is left of them is then seen. If False the
        values stand as they are.

    Returns
    -------
    matplotlib.figure.Figure
        With the panels before and after, and a ``description`` in words.

    Raises
    ------
    DataError
        If the feature was not modelled, or the fit holds no rows and none are given.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> picture = bc.plots.sites(bc.fit(study, method="eb", uncertainty=True, seed=1), "feature_0")
    >>> [panel.get_title(loc="left") for panel in picture.axes]
    ['Before harmonization', 'After: estimate and 90 % interval']
    """
    values = values_of(fit, feature, data, at_average)
    counts = np.bincount(values.codes, minlength=len(values.batches))
    order = _by_mean(values)
    high = height_of_rows(len(order))
    picture = new_picture(9, high + 1.1)
    before, after = picture.subplots(1, 2, sharex=True, sharey=True)
    rows_of_batches((before, after), [f"{values.batches[code]} ({counts[code]})" for code in order])
    if at_average:
        for panel in (before, after):
            panel.axvline(values.average, color=RAW, linewidth=0.8, zorder=1)
    for row, code in enumerate(order):
        own = np.flatnonzero(values.codes == code)
        each = high / len(order) * POINTS * BAND / max(len(own), 1)
        _scans(before, row, values.raw[own], None, RAW, each)
        _scans(after, row, values.after[own], _bounds(values, own), COLOURS[0], each)
    before.set_title("Before harmonization", loc="left", fontsize="medium", color=RAW)
    told = f"After: estimate and {values.interval}" if values.interval else "After: estimate"
    after.set_title(told, loc="left", fontsize="medium", color=COLOURS[0])
    if values.lower is not None:
        _widths(after, values, order)
    where = " at the average covariates" if at_average and fit.layout.spec.kept.any() else ""
    picture.supxlabel(f"{values.feature}{where} (feature units)", fontsize="small")
    picture.description = _told(values, where)
    return picture


def _by_mean(values: Values) -> np.ndarray:
    """Return the batches in the order of their raw means, those without scans last."""
    sums, counts = (
        np.bincount(values.codes, part, len(values.batches)) for part in (values.raw, np.ones_like(values.raw))
    )
    return np.argsort(np.where(counts > 0, -sums / np.maximum(counts, 1), np.inf), kind="stable")


def _bounds(values: Values, own: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    if values.lower is None or values.upper is None:
        return None
    return values.lower[own], values.upper[own]


def _scans(
    axes: "Axes",
    row: int,
    values: np.ndarray,
    bounds: tuple[np.ndarray, np.ndarray] | None,
    color: str,
    each: float,
) -> None:
    """Draw the scans of one batch, sorted, with its mean; each has so many points of an inch."""
    if not len(values):
        return
    order = np.argsort(values)
    place = row + np.linspace(1, -1, len(values)) * BAND / 2 * (len(values) > 1)
    if bounds is not None:
        lower, upper = bounds
        axes.hlines(place, lower[order], upper[order], color=color, linewidth=np.clip(each / 2, 0.4, 1.4), alpha=0.4)
    axes.scatter(values[order], place, s=float(np.clip(1.5 * each, 2.4, 4.5)) ** 2, color=color, linewidths=0, zorder=3)
    axes.vlines(values.mean(), row - 0.44, row + 0.44, color=INK, linewidth=1.6, zorder=4)


def _widths(axes: "Axes", values: Values, order: np.ndarray) -> None:
    """Write beside every row how wide the intervals of its scans are."""
    assert values.lower is not None and values.upper is not None
    half = (values.upper - values.lower) / 2
    medians = {row: np.median(half[values.codes == code]) for row, code in enumerate(order) if code in values.codes}
    for (row, _), text in zip(medians.items(), alike(list(medians.values())), strict=True):
        where = axes.get_yaxis_transform()
        axes.text(1.02, row, f"± {text}", transform=where, va="center", fontsize="small", color=COLOURS[0])


def _told(values: Values, where: str) -> str:
    means = [
        [part[values.codes == code].mean() for code in np.unique(values.codes)] for part in (values.raw, values.after)
    ]
    before, after = (float(np.std(part)) for part in means)
    return (
        f"{len(values.raw)} scans of {values.feature!r} in {len(np.unique(values.codes))} batches{where}, before and "
        f"after harmonization. The means of the batches have a standard deviation of {before:.3g} before and "
        f"{after:.3g} after."
    )


def harmonized(fit: Fit, feature: str | None = None, *, data: Frame | Study | None = None) -> "Picture":
    """Draw harmonized values of a feature, each with its interval, against the raw ones.

    A scan on the diagonal keeps its value. Parallel to it batches were shifted; steeper or flatter they were rescaled.
    Colours are for the batches, or for the six that were moved most where there are many.

    Parameters
    ----------
    fit : Fit
        Any. With several batch variables colours are for combinations of their levels.
    feature : str, optional
        By default the one that batches explain best.
    data : frame (pandas, polars, ...) or Study, optional
        Rows; by default those that were fitted.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel, and a ``description`` in words.

    Raises
    ------
    DataError
        If the feature was not modelled, or the fit holds no rows and none are given.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> picture = bc.plots.harmonized(bc.fit(study, method="eb"), "feature_0")
    >>> picture.axes[0].get_ylabel()
    'feature_0 harmonized (feature units)'
    """
    values = values_of(fit, feature, data, at_average=False)
    picture = new_picture(7, 5)
    axes = picture.subplots()
    bare(axes)
    coloured = _most_moved(values)
    others = ~np.isin(values.codes, coloured)
    if others.any():
        count = len(np.unique(values.codes[others]))
        _against(axes, values, others, RAW, 0.5, f"{count} others ({others.sum()})")
    for color, code in zip(COLOURS, coloured, strict=False):
        own = values.codes == code
        _against(axes, values, own, color, 0.9, f"{values.batches[code]} ({own.sum()})")
    axes.axline((values.average, values.average), slope=1, color=INK, linewidth=0.8, linestyle=(0, (5, 4)), zorder=4)
    axes.set_xlabel(f"{values.feature} as measured (feature units)", fontsize="small")
    axes.set_ylabel(f"{values.feature} harmonized (feature units)", fontsize="small")
    title = "batch (scans)" if others.any() or len(coloured) > 1 else None
    picture.legend(loc="outside right upper", title=title, frameon=False, fontsize="small", title_fontsize="small")
    if values.interval:
        axes.set_title(f"Estimate and {values.interval}", loc="left", fontsize="medium", color=INK)
    moved = np.abs(values.after - values.raw)
    picture.description = (
        f"Harmonized against raw values of {values.feature!r}, {len(moved)} scans of {len(np.unique(values.codes))} "
        f"batches: moved by {np.median(moved):.3g} in the median and by {moved.max():.3g} at most."
    )
    return picture


def _most_moved(values: Values) -> np.ndarray:
    """Return the batches that are told apart by colours, in their order."""
    codes = np.unique(values.codes)
    if len(codes) <= MOST_COLOURED:
        return codes
    moved = [abs((values.after - values.raw)[values.codes == code].mean()) for code in codes]
    return np.sort(codes[np.argsort(moved)[-MOST_COLOURED:]])


def _against(axes: "Axes", values: Values, own: np.ndarray, color: str, opacity: float, label: str) -> None:
    """Draw some scans, harmonized against raw."""
    if (bounds := _bounds(values, own)) is not None:
        axes.vlines(values.raw[own], *bounds, color=color, linewidth=0.8, alpha=opacity / 2.5)
    axes.scatter(
        values.raw[own], values.after[own], s=9, color=color, linewidths=0, alpha=opacity, label=label, zorder=3
    )
