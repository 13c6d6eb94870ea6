"""The effects of the batches over all features, as a forest."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from bayescombat.errors import check_probability
from bayescombat.fit import Fit
from bayescombat.fit.effects import batch_effects
from bayescombat.fit.layout import averaged
from bayescombat.plots.canvas import (
    COLOURS,
    MARKERS,
    RAW,
    dodged,
    estimates,
    height_of_rows,
    legend_above,
    new_picture,
    rows_of_batches,
)
from bayescombat.plots.choosing import named_fits, scans_of

if TYPE_CHECKING:
    from bayescombat.plots.picture import Picture

__all__ = ["effects"]

# By the columns of `Fit.summary`: what they are, and the value of a batch without effects.
PANELS = {
    "shift": ("mean shift (σ)", 0.0),
    "shift_rms": ("RMS shift (σ)", 0.0),
    "scale": ("mean scale (ratio)", 1.0),
}

# What every panel shows about it, so that rounding is not seen as an effect.
LEAST = 0.05


def effects(fits: Fit | Mapping[str, Fit], *, probability: float = 0.9) -> "Picture":
    """Draw the shifts and scales of all batches, averaged over the features, as a forest.

    These are the figures of `Fit.summary`. Batches are ordered by their mean shift in the first fit.

    Parameters
    ----------
    fits : Fit, or mapping of names to fits
        Several, of one study, stand side by side. With several batch variables a row is a level of one of them, and
        each variable has its own order.
    probability : float
        Of the central interval of draws. Estimates by empirical Bayes have none.

    Returns
    -------
    matplotlib.figure.Figure
        With panels of the mean shift, the root mean square of the shifts and the mean scale, and a ``description`` in
        words.

    Raises
    ------
    DataError
        If fits differ in batches or features.
    BayesCombatError
        If the probability is none.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> [panel.get_xlabel() for panel in bc.plots.effects(bc.fit(study, method="eb")).axes]
    ['mean shift (σ)', 'RMS shift (σ)', 'mean scale (ratio)']
    """
    named = named_fits(fits)
    check_probability(probability)
    found = [batch_effects(fit.parameters) for fit in named.values()]
    centre = [{key: averaged(values).values for key, values in one.items()} for one in found]
    first = next(iter(named.values()))
    order = np.lexsort((-centre[0]["shift"], first.layout.levels.owner))
    picture = new_picture(9, height_of_rows(len(order), total=4, most=0.45) + 0.9)
    panels = picture.subplots(1, len(PANELS), sharey=True, width_ratios=(1.2, 1, 1))
    rows_of_batches(panels, [scans_of(first)[batch] for batch in order])
    places = dodged(len(named))
    for panel, (key, (label, nothing)) in zip(panels, PANELS.items(), strict=True):
        panel.axvline(nothing, color=RAW, linewidth=0.8, zorder=1)
        handles = []
        for k, name in enumerate(named):
            where, bounds = np.arange(len(order)) + places[k], _bounds(found[k][key].isel(batch=order), probability)
            style = COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)]
            handles.append(estimates(panel, centre[k][key][order], bounds, where, *style, name))
        low, high = panel.get_xlim()
        panel.set_xlim(min(low, nothing - LEAST), max(high, nothing + LEAST))
        panel.locator_params(axis="x", nbins=5)
        panel.set_xlabel(label, fontsize="small")
    if len(named) > 1:
        legend_above(picture, handles)
    picture.description = _told(named, centre[0], probability)
    return picture


def _bounds(values: xr.DataArray, probability: float) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the bounds of the central interval of draws, (batch,), of estimates none."""
    if "draw" not in values.dims:
        return None
    lower, upper = values.quantile([(1 - probability) / 2, (1 + probability) / 2], ("chain", "draw")).values
    return lower, upper


def _told(named: Mapping[str, Fit], centre: Mapping[str, np.ndarray], probability: float) -> str:
    first = next(iter(named.values()))
    labels = [str(label) for label in first.parameters["batch"].values]
    low, high = int(centre["shift"].argmin()), int(centre["shift"].argmax())
    drawn = any(fit.method == "nuts" for fit in named.values())
    intervals = f", with {100 * probability:g} % intervals of draws" if drawn else ""
    return (
        f"Shifts and scales of {len(labels)} batches, averaged over {len(first.layout.features)} features, by "
        f"{' and '.join(named)}{intervals}. Mean shifts go from {centre['shift'][low]:.2f} sigma ({labels[low]}) to "
        f"{centre['shift'][high]:.2f} sigma ({labels[high]}), mean scales from {centre['scale'].min():.2f} to "
        f"{centre['scale'].max():.2f}."
    )
