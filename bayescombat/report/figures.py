"""Pictures as SVG that a page holds: no font, no colour and no name of their own that the page does not know."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np

if TYPE_CHECKING:
    from bayescombat.plots.picture import Picture

__all__ = ["Figure", "figure_of"]

# Width of the page in inches, and dots to the inch of what is drawn as dots.
WIDTH, DPI = 7.2, 160
# Points of the largest text, which fits into panels of that width.
SIZE = 8.5
# Marks of one call beyond which they are drawn as dots: an SVG of thousands is slow to show.
MOST_MARKS = 150
STYLE = {"svg.fonttype": "none", "svg.hashsalt": "bayescombat", "text.parse_math": False}
# The colours of the pictures, which the page gives for light, dark and paper.
COLOURS = {
    "#000000": "currentColor",
    "#222222": "var(--ink)",
    "#767676": "var(--raw)",
    "#e4e4e4": "var(--line)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--vermilion)",
    "#009e73": "var(--green)",
    "#cc79a7": "var(--purple)",
    "#e69f00": "var(--orange)",
    "#56b4e9": "var(--sky)",
}
NAMESPACE = re.compile(r"^\{[^}]*\}")
COLOUR = re.compile("|".join(COLOURS))
REFERENCE = re.compile(r"url\(#([^)]*)\)")
FONT = re.compile(r"font-family:[^;]*;? ?")
# XML knows no other control characters than tab and ends of lines.
UNKNOWN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True)
class Figure:
    """A figure: its name in the page, what it shows, a text in its place, and its SVG.

    Parameters
    ----------
    name, caption, description, svg : str
    """

    name: str
    caption: str
    description: str
    svg: str


def figure_of(draw: "Callable[[], Picture]", name: str, caption: str) -> Figure:
    """Draw a picture as it looks by default, whatever the user's style is, and return it as a figure."""
    from matplotlib import style
    from matplotlib.text import Text

    with style.context(["default", STYLE]):
        picture = draw()
        picture.set_size_inches(WIDTH, picture.get_size_inches()[1])
        for text in picture.findobj(Text):
            # Panels are narrower than those that titles were made for.
            text.set_fontsize(min(text.get_fontsize(), SIZE))
        for panel in picture.axes:
            for marks in panel.collections:
                if max(np.shape(marks.get_offsets())[0], len(marks.get_paths())) > MOST_MARKS:
                    marks.set_rasterized(True)
        buffer = StringIO()
        picture.savefig(buffer, format="svg", dpi=DPI, transparent=True, metadata={"Date": None})
    svg = _of_the_page(UNKNOWN.sub("\ufffd", buffer.getvalue()), name, caption, picture.description)
    return Figure(name, caption, picture.description, svg)


def _of_the_page(svg: str, name: str, title: str, description: str) -> str:
    """Return an SVG as an element of a page, with a title and a description."""
    root = ElementTree.fromstring(svg)
    for child in list(root):
        if NAMESPACE.sub("", child.tag) in ("metadata", "defs") and not child.findall(".//*[@id]"):
            root.remove(child)
    for element in root.iter():
        element.tag = NAMESPACE.sub("", element.tag)
        element.attrib = {NAMESPACE.sub("", key): value for key, value in element.attrib.items()}
    # Matplotlib makes some names of places in memory.
    known = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    names = {old: f"{name}-{place}" for place, old in enumerate(dict.fromkeys(known))}
    for element in root.iter():
        for key, value in element.attrib.items():
            element.attrib[key] = _attribute(key, value, names)
    view = root.attrib["viewBox"]
    root.attrib = {"viewBox": view, "role": "img", "aria-labelledby": f"{name}-title {name}-desc"}
    for place, (tag, text) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = UNKNOWN.sub("\ufffd", text)
        root.insert(place, element)
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, names: Mapping[str, str]) -> str:
    """Return an attribute with the page's colours and fonts, and names that are this figure's."""
    if key == "id":
        return names[value]
    if key == "href" and value.startswith("#"):
        return f"#{names[value[1:]]}"
    if key == "style":
        return FONT.sub("", COLOUR.sub(lambda found: COLOURS[found[0]], value))
    return REFERENCE.sub(lambda found: f"url(#{names[found[1]]})", value)
