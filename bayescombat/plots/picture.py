"""Picture: a figure that notebooks show, and that pyplot does not know. The one module that imports matplotlib."""

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

__all__ = ["Picture", "polylines"]


class Picture(Figure):
    """A matplotlib figure whose panels can be changed like those of any other, and that has a text in its place.

    Parameters
    ----------
    *args, **kwargs
        As of a matplotlib Figure.

    Examples
    --------
    >>> picture = Picture(figsize=(2, 1))
    >>> picture.description = "Nothing yet."
    >>> png, alternative = picture._repr_png_()
    >>> png[1:4], alternative
    (b'PNG', {'alt': 'Nothing yet.'})
    """

    description: str = ""
    """What is seen, in words: for those who do not see it, and for reports."""

    def _repr_png_(self) -> tuple[bytes, dict[str, str]]:
        """Return what a notebook shows. Matplotlib itself tells it of figures that pyplot made, and of these twice."""
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return buffer.getvalue(), {"alt": self.description}


def polylines(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draw many lines, (line, place) where x and y are put together, as one artist."""
    axes.add_collection(LineCollection(list(np.stack(np.broadcast_arrays(x, y), axis=-1)), **style))
