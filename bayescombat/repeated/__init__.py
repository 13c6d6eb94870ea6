"""Least squares with an intercept for every subject, by restricted maximum likelihood; arrays only."""

from bayescombat.repeated.effects import fixed_effects

__all__ = ["fixed_effects"]
