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
    >>> shown, told = picture._repr_mimebundle_()
    >>> shown["image/png"][1:4], told["image/png"]["alt"]
    (b'PNG', 'Nothing yet.')
    """

    description: str = ""
    """What is seen, in words: for those who do not see it, and for reports."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what a notebook shows, with what is seen in words.

        Once pyplot is imported, notebooks draw every matplotlib figure themselves; the words of a bundle they keep.
        """
        buffer = BytesIO()
        self.savefig(buffer, format="png")
        return {"image/png": buffer.getvalue()}, {"image/png": {"alt": self.description}}


def polylines(axes: Axes, x: np.ndarray, y: np.ndarray, **style: Any) -> None:
    """Draw many lines, (line, place) where x and y are put together, as one artist."""
    axes.add_collection(LineCollection(list(np.stack(np.broadcast_arrays(x, y), axis=-1)), **style))
