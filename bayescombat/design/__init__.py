"""Formula to design columns: learned once on a table, replayed on any rows, kept as JSON."""

from bayescombat.design.effects import effect_columns, learned_grid
from bayescombat.design.formulas import check_written, formula_text, parse
from bayescombat.design.roles import batch_names
from bayescombat.design.smooths import Smooth, check_variety, smooth_sizes
from bayescombat.design.spec import DesignSpec

__all__ = [
    "DesignSpec",
    "Smooth",
    "batch_names",
    "check_variety",
    "check_written",
    "effect_columns",
    "formula_text",
    "learned_grid",
    "parse",
    "smooth_sizes",
]
