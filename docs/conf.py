"""How the documentation site is built: ``make docs``, where warnings are errors."""

import re
from importlib.metadata import version as installed

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.writers.html5 import HTML5Translator

project = "bayescombat"
author = copyright = "The bayescombat developers"
release = version = installed("pymc-combat")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_templates"]
default_role = "obj"

autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
# Notebooks are kept with their outputs, which the tests hold to what the code does.
nb_execution_mode = "off"
suppress_warnings = ["mystnb.unknown_mime_type"]

html_theme = "pydata_sphinx_theme"
html_title = "bayescombat"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_math_renderer = "mathml"
html_theme_options = {
    "show_toc_level": 2,
    "navbar_align": "left",
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_sidebars = {page: [] for page in ("index", "comparison", "faq", "changelog")}
copybutton_exclude = ".linenos, .gp, .go"


def mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """Return an equation as MathML, which browsers show without a script.

    What the converter takes for a letter and is a relation, for an operator and is a name, or leaves without a space is
    put right.
    """
    found: str = convert(node.astext(), display=display)
    for wrong, right in (
        ("<mi>&#x0007E;</mi>", "<mo>&#x0223C;</mo>"),
        ("<mo>Normal</mo>", "<mi>Normal</mi>"),
        ("<mi>log</mi>", '<mi>log</mi><mspace width="0.17em" />'),
    ):
        found = found.replace(wrong, right)
    return found


def inline_math(self: HTML5Translator, node: nodes.math) -> None:
    """Write an equation in a line."""
    self.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def displayed_math(self: HTML5Translator, node: nodes.math_block) -> None:
    """Write an equation of its own."""
    self.body.append(f'<div class="math">{mathml(node, "block")}</div>')
    raise nodes.SkipNode


def link_notebooks(app: Sphinx, page: str, source: list[str]) -> None:
    """Make links to notebooks, from each other and from pages, links of pages.

    The tutorials are a link to the folder of the notebooks, so that their files lie outside of the documentation.
    """
    folder = "" if page.startswith("tutorials/") else r"\.\./notebooks/"
    source[0] = re.sub(rf"\[([^\]\n]+)\]\({folder}(\w+)\.ipynb\)", r"{doc}`\1 </tutorials/\2>`", source[0])


def setup(app: Sphinx) -> None:
    """Register how equations are written, and links between notebooks."""
    app.add_html_math_renderer("mathml", (inline_math, None), (displayed_math, None))
    app.connect("source-read", link_notebooks)
