"""Whether intervals hold as often as they say: ranks of the truth in simulations, and coverage."""

from numbers import Real
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr
from scipy import stats

from bayescombat.errors import DataError, check_probability, listing
from bayescombat.plots.canvas import COLOURS, INK, MARKERS, RAW, bare, dodged, legend_above, new_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = ["calibration", "coverage"]

SIMULTANEOUS = 0.95
MOST_COLUMNS = 6
# Simulated tables that a band is found by.
TRIALS = 1000


def calibration(ranks: xr.Dataset | xr.DataArray) -> "Picture":
    """Draw how uniform ranks of the truth among posterior draws are: simulation-based calibration.

    For every entry of a variable there is the difference of the ranks' distribution function from that of uniform
    ranks, with the band that uniform ranks stay in from end to end with a probability of 95 %. A curve above zero on
    the left and below it on the right is of intervals too narrow, the reverse of intervals too wide, and one on a side
    of zero of a bias. Curves that leave the band are vermilion.

    Parameters
    ----------
    ranks : xarray.Dataset or xarray.DataArray
        Share of the draws below the truth, (simulation, ...), between 0 and 1, of simulations that are independent. Of
        few draws it is best spread at random between the two ranks that it lies between, or steps leave the band.

    Returns
    -------
    matplotlib.figure.Figure
        With a panel for every variable, and a ``description`` in words.

    Raises
    ------
    DataError
        If there is no dim ``simulation`` of ten or more, or there are ranks that do not lie between 0 and 1.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Bands are those of ArviZ, by simulation: Säilynoja, Bürkner and Vehtari (2022), doi:10.1007/s11222-022-10090-6. They
    hold for one curve; of many, one in twenty is expected to leave them, and entries of one simulation are not
    independent. On what ranks tell: Talts et al. (2018), arXiv:1804.06788.

    Examples
    --------
    >>> import numpy as np, xarray as xr
    >>> import bayescombat as bc
    >>> uniform = np.random.default_rng(0).random((100, 5))
    >>> picture = bc.plots.calibration(xr.Dataset({"alpha": (("simulation", "feature"), uniform)}))
    >>> picture.description
    'Ranks of the truth in 100 simulations. Of 5 curves 1 leave the band that one in twenty is expected to leave: ...'
    """
    found = _checked(ranks)
    columns = min(len(found), MOST_COLUMNS)
    lines = -(-len(found) // columns)
    picture = new_picture(max(2.0 * columns, 4.0), 1.7 * lines + 0.6)
    panels = picture.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
    for place in range(len(found), panels.size):
        panels.ravel()[place].remove()
        panels.ravel()[place - columns].tick_params(axis="x", labelbottom=True)
    size = len(next(iter(found.values())))
    points, lower, upper = _band(size)
    outside = {}
    for panel, (name, values) in zip(panels.ravel(), found.items(), strict=False):
        outside[name] = _differences(panel, values, points, lower, upper)
        panel.set_title(name, loc="left", fontsize="small")
    # Room for what is written below the curves.
    low, high = panels[0, 0].get_ylim()
    panels[0, 0].set_ylim(low - 0.12 * (high - low), high)
    picture.supxlabel("rank of the truth among the draws", fontsize="small")
    picture.supylabel("difference from uniform", fontsize="small")
    total = sum(values.shape[1] for values in found.values())
    picture.description = (
        f"Ranks of the truth in {size} simulations. Of {total} curves {sum(outside.values())} leave the band that one "
        f"in twenty is expected to leave: "
        + ", ".join(f"{name} {count} of {found[name].shape[1]}" for name, count in outside.items())
        + "."
    )
    return picture


def _checked(ranks: xr.Dataset | xr.DataArray) -> dict[str, np.ndarray]:
    """Return the ranks of every variable, (simulation, entry)."""
    if not isinstance(ranks, xr.Dataset | xr.DataArray):
        raise DataError(f"Expected ranks as an xarray.Dataset or DataArray, found {type(ranks).__name__}.")
    data = {str(ranks.name or "rank"): ranks} if isinstance(ranks, xr.DataArray) else dict(ranks.data_vars)
    lacking = [name for name, array in data.items() if array.sizes.get("simulation", 0) < 10 or not array.size]
    if lacking or not data:
        raise DataError(
            f"Expected ranks of ten or more simulations, with a dim 'simulation', found {listing(lacking) or 'none'}. "
            "Rename the dim, or simulate more."
        )
    found = {
        str(name): array.transpose("simulation", ...).values.reshape(array.sizes["simulation"], -1)
        for name, array in data.items()
    }
    gone = [name for name, values in found.items() if np.isnan(values).any()]
    if gone:
        raise DataError(f"Expected a rank of every simulation, found missing ones in {listing(gone)}. Leave these out.")
    bad = [name for name, values in found.items() if not ((values >= 0) & (values <= 1)).all()]
    if bad:
        raise DataError(
            f"Expected ranks between 0 and 1, found others in {listing(bad)}. Divide ranks by the number of draws."
        )
    return found


def _band(size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return points, and what the distribution function of uniform values lies between at them."""
    from arviz_stats.ecdf_utils import ecdf_pit

    band: Any = ecdf_pit
    points, _, lower, upper = band(np.linspace(0, 1, size), SIMULTANEOUS, TRIALS)
    return points, lower, upper


def _differences(axes: "Axes", values: np.ndarray, points: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> int:
    """Draw the curve of every entry, and return how many leave the band."""
    from bayescombat.plots.picture import polylines

    reached = np.stack([np.searchsorted(np.sort(one), points, side="right") for one in values.T]) / len(values)
    # Nothing lies below the first point or above the last one.
    reached[:, [0, -1]] = 0, 1
    outside = ((reached < lower) | (reached > upper)).any(axis=1)
    bare(axes)
    axes.fill_between(points, lower - points, upper - points, color=RAW, alpha=0.2, linewidth=0)
    axes.axhline(0, color=RAW, linewidth=0.6)
    width = 1.2 if len(reached) < 4 else 0.6
    for part, color in ((reached[~outside], COLOURS[0]), (reached[outside], COLOURS[1])):
        polylines(axes, points, part - points, color=color, linewidth=width, alpha=0.7)
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.autoscale_view(scalex=False)
    told = f"{outside.sum()} of {len(reached)} outside" if len(reached) > 1 else "outside" * int(outside.sum())
    axes.text(0.97, 0.03, told, transform=axes.transAxes, ha="right", va="bottom", fontsize="x-small", color=INK)
    return int(outside.sum())


def coverage(shares: pd.DataFrame, trials: int | pd.Series | pd.DataFrame, *, probability: float = 0.9) -> "Picture":
    """Draw how often intervals held the truth, by size of site or whatever the rows are, for several methods.

    Parameters
    ----------
    shares : pandas.DataFrame
        Share of the intervals that held the truth, between 0 and 1: a row for every size of site, say, a column for
        every method. Nothing is drawn where there is no number.
    trials : int, pandas.Series or pandas.DataFrame
        How many independent intervals the shares are of, for all, for every row, or for every row and column. Values of
        one site and feature share the error of their site's effect: all of them count for one, or the intervals drawn
        are too narrow.
    probability : float
        That the intervals were of.

    Returns
    -------
    matplotlib.figure.Figure
        With one panel, intervals of 95 %, and a ``description`` in words.

    Raises
    ------
    DataError
        If shares do not lie between 0 and 1, or trials are not positive or of other rows and columns.
    BayesCombatError
        If the probability is none.
    ImportError
        If matplotlib is not installed.

    Notes
    -----
    Intervals are Jeffreys': Brown, Cai and DasGupta (2001), doi:10.1214/ss/1009213286.

    Examples
    --------
    >>> import pandas as pd
    >>> import bayescombat as bc
    >>> shares = pd.DataFrame({"EB": [0.74, 0.85], "NUTS": [0.88, 0.91]}, index=pd.Index([1, 20], name="scans"))
    >>> bc.plots.coverage(shares, 200).axes[0].get_ylabel()
    'truth held by 90 % intervals (%)'
    """
    check_probability(probability)
    counts = _counted(shares, trials)
    held = shares.to_numpy(dtype=float)
    lower, upper = (
        np.asarray(stats.beta.ppf(tail, counts * held + 0.5, counts * (1 - held) + 0.5)) for tail in (0.025, 0.975)
    )
    picture = new_picture(max(5.0, 0.6 * len(shares) + 1.5), 3.6)
    axes = picture.subplots()
    bare(axes)
    axes.axhline(100 * probability, color=RAW, linewidth=0.8, zorder=1)
    for k, (method, shift) in enumerate(zip(shares.columns, dodged(shares.shape[1], 0.4), strict=True)):
        where, color = np.arange(len(shares)) + shift, COLOURS[k % len(COLOURS)]
        axes.vlines(where, 100 * lower[:, k], 100 * upper[:, k], color=color, linewidth=1.4, alpha=0.8, zorder=3)
        axes.scatter(
            where, 100 * held[:, k], s=22, marker=MARKERS[k % len(MARKERS)], color=color, label=str(method), zorder=4
        )
    axes.set_xticks(range(len(shares)), [str(label) for label in shares.index])
    axes.set_xlabel(str(shares.index.name or ""), fontsize="small")
    axes.set_ylabel(f"truth held by {100 * probability:g} % intervals (%)", fontsize="small")
    if shares.shape[1] > 1:
        legend_above(picture, axes.get_legend_handles_labels()[0])
    ranges = [f"{name} {100 * low:.0f} to {100 * high:.0f} %" for name, low, high in _ranges(shares)]
    picture.description = (
        f"How often intervals of {100 * probability:g} % held the truth, for {len(shares)} rows: {', '.join(ranges)}."
    )
    return picture


def _counted(shares: pd.DataFrame, trials: int | pd.Series | pd.DataFrame) -> np.ndarray:
    """Return the trials of every share, (row, column), checked."""
    numbers = isinstance(shares, pd.DataFrame) and all(map(pd.api.types.is_numeric_dtype, shares.dtypes))
    if not numbers or not shares.size:
        raise DataError(
            f"Expected shares as a DataFrame with a column of numbers for each method, found {type(shares).__name__}"
            f"{' that is empty or has others' if isinstance(shares, pd.DataFrame) else ''}. Make one of the shares."
        )
    if not isinstance(trials, Real | pd.Series | pd.DataFrame):
        raise DataError(
            f"Expected trials as a number, or a Series or DataFrame with the labels of the shares, found "
            f"{type(trials).__name__}. Label them."
        )
    held = shares.to_numpy(dtype=float)
    if ((held < 0) | (held > 1)).any():
        raise DataError("Expected shares between 0 and 1, found others. Divide percentages by 100.")
    if isinstance(trials, pd.DataFrame):
        trials = trials.reindex(index=shares.index, columns=shares.columns)
    elif isinstance(trials, pd.Series):
        trials = pd.concat([trials.reindex(shares.index)] * shares.shape[1], axis=1)
    counts = np.broadcast_to(np.asarray(trials, dtype=float), held.shape)
    if not (counts[~np.isnan(held)] > 0).all():
        raise DataError(
            "Expected a positive number of trials for every share, found others or none. Give them by the rows and "
            "columns of the shares."
        )
    return counts


def _ranges(shares: pd.DataFrame) -> list[tuple[str, float, float]]:
    return [(str(name), float(part.min()), float(part.max())) for name, part in shares.items()]
