"""Shifts and scales of the features of a batch, before and after they are drawn to what these have in common."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from bayescombat.columns import heard
from bayescombat.empirical import unshrunken
from bayescombat.fit import Fit
from bayescombat.fit.layout import averaged
from bayescombat.hidden import without_factors
from bayescombat.plots.canvas import (
    COLOURS,
    INK,
    RAW,
    height_of_rows,
    legend_above,
    new_picture,
    ratios,
    rows_of_batches,
)
from bayescombat.plots.choosing import chosen_batches, named_fits, scans_of
from bayescombat.repeated import fixed_effects

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = ["shrinkage"]

# Share of its row that the steps from unshrunken to shrunken take.
BAND = 0.7
# Of the unshrunken effects that a panel shows; the farthest few would push all others together.
SHOWN = 0.99


class Effects(NamedTuple):
    """Shifts in units of sigma and scales, (batch, feature), NaN where nothing tells of them; middles of the priors."""

    gamma: np.ndarray
    delta: np.ndarray
    gamma_middle: np.ndarray | None = None
    delta_middle: np.ndarray | None = None


def shrinkage(fits: Fit | Mapping[str, Fit], *, batches: Sequence[str] | None = None) -> "Picture":
    """Draw how far the shift and the scale of every feature are drawn to what its batch has in common.

    In the row of a batch a line for every feature leads from the unshrunken effect, above, to that of each fit. A black
    bar marks the middle of the prior that the batch has by that fit; shifts of features that share factors have none in
    common. The fewer scans, the more the lines close up.

    Parameters
    ----------
    fits : Fit, or mapping of names to fits
        Of one study. Unshrunken effects are those of least squares, from the moments of the first. With several batch
        variables a row is a level of one of them.
    batches : sequence of str, optional
        Which to draw, by default at most twelve of all sizes. The largest comes first.

    Returns
    -------
    matplotlib.figure.Figure
        With panels of gamma, in units of the sigma of least squares, and delta, and a ``description`` in words. One
        percent of the unshrunken effects may lie outside the panels. Where no scan tells of an effect there is none
        unshrunken, as of the scale of a batch of one scan.

    Raises
    ------
    DataError
        If fits differ in batches or features, batches are unknown, or the first fit was saved without its moments.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> picture = bc.plots.shrinkage({"EB": bc.fit(study, method="eb")})
    >>> [panel.get_xlabel() for panel in picture.axes]
    ['shift, gamma (σ)', 'scale, delta']
    """
    named = named_fits(fits)
    first = next(iter(named.values()))
    chosen = chosen_batches(first, batches)
    before, sigma = _unshrunken(first)
    steps = [before, *(_effects(fit, sigma) for fit in named.values())]
    picture = new_picture(9, height_of_rows(len(chosen), total=5, least=0.45, most=1) + 1.1)
    gamma, delta = picture.subplots(1, 2, sharey=True)
    labels = [scans_of(first)[batch] for batch in chosen]
    rows_of_batches((gamma, delta), labels)
    handles = _steps(gamma, [step.gamma[chosen] for step in steps], ["unshrunken", *named])
    _steps(delta, [step.delta[chosen] for step in steps], ["unshrunken", *named])
    for row, batch in enumerate(chosen):
        for place, step in zip(_places(len(steps)), steps, strict=True):
            for panel, middle in ((gamma, step.gamma_middle), (delta, step.delta_middle)):
                if middle is not None:
                    panel.vlines(
                        middle[batch], row + place - 0.09, row + place + 0.09, color=INK, linewidth=2, zorder=4
                    )
    gamma.set_xlim(*_limits([step.gamma[chosen] for step in steps]))
    ratios(delta, *_limits([np.log(step.delta[chosen]) for step in steps]))
    gamma.set_xlabel("shift, gamma (σ)", fontsize="small")
    delta.set_xlabel("scale, delta", fontsize="small")
    legend_above(picture, handles)
    picture.description = _told(labels, [step.gamma[chosen] for step in steps], list(named))
    return picture


def _unshrunken(fit: Fit) -> tuple[Effects, np.ndarray]:
    """Return the effects by least squares, NaN where no scan tells of them, and their sigma (feature,)."""
    with heard():
        moments, _ = without_factors(fit.learned, fit.asked.factors, fit.asked.despite_covariates)
        _, sigma, hats = unshrunken(moments, fixed_effects(moments))
    gamma, delta = np.where(hats.n > 0, hats.gamma, np.nan), np.sqrt(hats.delta2)
    if (still := moments.reference_levels) is not None:
        gamma[still], delta[still] = 0.0, 1.0
    # Batches that were adopted later have no moments here.
    known = {label: place for place, label in enumerate(moments.levels.labels)}
    place = np.array([known.get(str(label), -1) for label in fit.parameters["batch"].values])
    gamma, delta = (np.where(place[:, None] < 0, np.nan, values[place]) for values in (gamma, delta))
    return Effects(gamma, delta), sigma


def _effects(fit: Fit, sigma: np.ndarray) -> Effects:
    """Return the effects by a fit, the means of its draws."""
    parameters = fit.parameters

    def mean(values: xr.DataArray) -> np.ndarray:
        return np.asarray(averaged(values).transpose("batch", ...).values)

    gamma, delta = mean(parameters["gamma"]) / sigma, np.exp(mean(xr.ufuncs.log(parameters["delta"])))
    middles = [mean(parameters[name]) if name in parameters else None for name in ("gamma_mean", "log_delta_mean")]
    shift, log_scale = middles
    # A reference batch is drawn from nothing.
    if shift is not None and log_scale is not None:
        still = (gamma == 0).all(axis=1) & (delta == 1).all(axis=1)
        shift, log_scale = (np.where(still, np.nan, middle) for middle in (shift, log_scale))
    # Where features share factors, shifts are expected along the patterns of batches, not at their common mean.
    return Effects(gamma, delta, None if fit.loadings.size else shift, None if log_scale is None else np.exp(log_scale))


def _places(count: int) -> np.ndarray:
    return np.linspace(-BAND / 2, BAND / 2, count)


def _steps(axes: "Axes", steps: Sequence[np.ndarray], names: Sequence[str]) -> Sequence["Artist"]:
    """Draw the effects of each step (batch, feature) below those of the one before, with lines between."""
    from bayescombat.plots.picture import polylines

    axes.grid(visible=False, axis="y")
    colours, places = (RAW, *COLOURS), _places(len(steps))
    for row in range(len(steps[0])):
        along = np.stack([step[row] for step in steps], axis=1)
        polylines(axes, along, row + places, color=RAW, linewidth=0.5, alpha=0.35)
    handles, size = [], float(np.clip(500 / steps[0].shape[1], 5, 16))
    for k, (step, name) in enumerate(zip(steps, names, strict=True)):
        where = np.broadcast_to(np.arange(len(step))[:, None] + places[k], step.shape)
        color = colours[k % len(colours)]
        handles.append(axes.scatter(step, where, s=size, color=color, linewidths=0, alpha=0.7, label=name, zorder=3))
    return handles


def _limits(steps: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return what an axis shows: all that is shrunken, and nearly all that is not."""
    seen = steps[0][np.isfinite(steps[0])]
    tails = [(1 - SHOWN) / 2, (1 + SHOWN) / 2]
    ends = np.concatenate([np.quantile(seen, tails) if len(seen) else [], *(step.ravel() for step in steps[1:])])
    # By estimates of means alone every scale is one.
    margin = 0.03 * float(np.ptp(ends)) or 0.1
    return float(ends.min()) - margin, float(ends.max()) + margin


def _told(labels: Sequence[str], gamma: Sequence[np.ndarray], names: Sequence[str]) -> str:
    """Say how much the shifts of the largest and of the smallest batch spread over the features, before and after."""
    parts = []
    for row in dict.fromkeys((0, len(labels) - 1)):
        spread = [f"{np.nanstd(step[row]):.2f}" for step in gamma if np.isfinite(step[row]).any()]
        parts.append(f"{labels[row]}: {', '.join(spread)}")
    return (
        f"Effects of {len(labels)} batches on every feature, unshrunken and by {' and '.join(names)}. Standard "
        f"deviations of the shifts over the features, in sigma: {'; '.join(parts)}."
    )
