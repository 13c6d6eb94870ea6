"""A small open dataset, and a simulator whose truth is known."""

from .openneuro import load_openneuro
from .simulation import Simulation, simulate

__all__ = ["Simulation", "load_openneuro", "simulate"]
