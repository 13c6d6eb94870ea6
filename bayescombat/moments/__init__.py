"""What the model learns from a table: sizes, means and centred cross-products per batch and feature."""

from bayescombat.moments.merging import check_same_design, merge
from bayescombat.moments.moments import Moments, as_moments
from bayescombat.moments.subjects import Subjects

__all__ = ["Moments", "Subjects", "as_moments", "check_same_design", "merge"]
