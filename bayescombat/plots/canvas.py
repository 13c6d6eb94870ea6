"""What all pictures have in common: a figure, colours, rows of batches. Matplotlib is imported when one is made."""

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = [
    "COLOURS",
    "INK",
    "MARKERS",
    "PALE",
    "RAW",
    "alike",
    "bare",
    "check_matplotlib",
    "dodged",
    "estimates",
    "height_of_rows",
    "legend_above",
    "new_picture",
    "ratios",
    "round_ratios",
    "rows",
    "rows_of_batches",
    "shortened",
]

# Okabe and Ito's palette, which colour-blind readers can tell apart, without black and yellow.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "D", "^", "v", "P")
# Of what was before any harmonization; of lines to read along; of what is drawn to be read first.
RAW, PALE, INK = "#767676", "#E4E4E4", "#222222"
LONGEST_LABEL = 28
# Ticks of ratios within a power of ten: the fewest are taken of which enough are seen.
ROUND = ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7))
FEWEST_TICKS = 3


def new_picture(width: float, height: float) -> "Picture":
    """Return an empty figure of this size in inches.

    Raises
    ------
    ImportError
        If matplotlib is not installed.
    """
    check_matplotlib()
    from bayescombat.plots.picture import Picture

    return Picture(figsize=(width, height), layout="constrained")


def check_matplotlib() -> None:
    """Raise an ImportError if matplotlib is not installed."""
    if find_spec("matplotlib") is None:
        raise ImportError(
            "Expected matplotlib, found that it is not installed. Install it: pip install 'pymc-combat[plot]'."
        )


def height_of_rows(count: int, total: float = 4.5, least: float = 0.2, most: float = 0.75) -> float:
    """Return the inches that so many rows take: few are apart, many stay legible."""
    return count * float(np.clip(total / count, least, most))


def dodged(count: int, within: float = 0.5) -> np.ndarray:
    """Return where so many things of one row stand about its middle, from top to bottom."""
    return (np.arange(count) - (count - 1) / 2) * (within / count)


def bare(axes: "Axes", *sides: str) -> None:
    """Take the frame off the panel's sides, by default above and on the right."""
    axes.spines[list(sides or ("top", "right"))].set_visible(False)
    axes.tick_params(labelsize="small")


def rows(axes: "Axes", labels: Sequence[str]) -> None:
    """Make the panel one of rows with these labels, the first above, with a line to read along each."""
    bare(axes, "top", "right", "left")
    axes.set_yticks(range(len(labels)), [shortened(label) for label in labels])
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)


def rows_of_batches(panels: Sequence["Axes"], labels: Sequence[str]) -> None:
    """Make panels side by side ones of the same batches, whose labels stand beside the first."""
    for panel in panels:
        rows(panel, labels)
    for panel in panels[1:]:
        panel.tick_params(axis="y", labelleft=False)
    panels[0].set_ylabel("batch (scans)", fontsize="small")


def shortened(label: str) -> str:
    """Return a label that fits beside a row, with its beginning and its end.

    Examples
    --------
    >>> shortened("ABIDE II / Katholieke Universiteit Leuven (29)"), shortened("NYU (175)")
    ('ABIDE II / Kat…t Leuven (29)', 'NYU (175)')
    """
    if len(label) <= LONGEST_LABEL:
        return label
    head = LONGEST_LABEL // 2
    return f"{label[:head]}…{label[head + 1 - LONGEST_LABEL :]}"


def alike(numbers: Sequence[float]) -> list[str]:
    """Return numbers with as many decimals as the smallest needs to have two digits.

    Examples
    --------
    >>> alike([0.021, 0.1]), alike([3e5, 2.14e6])
    (['0.021', '0.100'], ['3e+05', '2.1e+06'])
    """
    positive = [number for number in numbers if number > 0] or [1.0]
    decimals = max(0, 1 - int(np.floor(np.log10(min(positive)))))
    plain = decimals < 6 and max(positive) < 1e5
    return [f"{number:.{decimals}f}" if plain else f"{number:.2g}" for number in numbers]


def ratios(axes: "Axes", low: float, high: float) -> None:
    """Make the axis below one of ratios, between these natural logarithms, with ticks at round numbers."""
    axes.set_xscale("log")
    axes.set_xlim(np.exp(low), np.exp(high))
    shown = round_ratios(low, high)
    axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
    axes.minorticks_off()


def round_ratios(low: float, high: float) -> list[float]:
    """Return round numbers between these natural logarithms: in even steps where there is no room for powers.

    Examples
    --------
    >>> round_ratios(np.log(0.02), np.log(30)), round_ratios(np.log(0.77), np.log(1.55))
    ([0.1, 1.0, 10.0], [0.8, 1.0, 1.2, 1.4])
    """
    for steps in ROUND:
        ticks = [step * 10.0**power for power in range(-9, 10) for step in steps]
        shown = [tick for tick in ticks if low <= np.log(tick) <= high]
        if len(shown) >= FEWEST_TICKS:
            return shown
    ends = np.exp([low, high])
    power = np.floor(np.log10(ends[1] - ends[0]))
    sizes = [step * 10.0**k for k in (power, power - 1) for step in (5, 2, 1)]
    even = [size * np.arange(np.ceil(ends[0] / size), np.floor(ends[1] / size) + 1) for size in sizes]
    return next([float(f"{tick:.12g}") for tick in found] for found in even if len(found) >= FEWEST_TICKS)


def estimates(
    axes: "Axes", centre: Any, bounds: tuple[Any, Any] | None, where: np.ndarray, color: str, marker: str, label: str
) -> "Artist":
    """Draw estimates in their rows, with intervals if there are any, and return what stands for them in a legend."""
    if bounds is not None:
        axes.hlines(where, *bounds, color=color, linewidth=1.4, alpha=0.8, zorder=3)
    return axes.scatter(centre, where, s=18, color=color, marker=marker, label=label, zorder=4)


def legend_above(picture: "Picture", handles: Sequence["Artist"]) -> None:
    """Say above all panels what colours and marks mean."""
    picture.legend(
        handles=list(handles), loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small"
    )
