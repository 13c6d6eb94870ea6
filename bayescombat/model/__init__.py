"""build_model(): the hierarchical ComBat model as a PyMC model."""

from bayescombat.model.model import build_model

__all__ = ["build_model"]
