"""Least squares with an intercept for every subject, by restricted maximum likelihood; arrays only."""

from bayescombat.repeated.effects import fixed_effects
from bayescombat.repeated.freedom import Freedom, freedom_of

__all__ = ["Freedom", "fixed_effects", "freedom_of"]
