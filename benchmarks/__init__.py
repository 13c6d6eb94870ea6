"""Figures that the documentation quotes, each from a command that anyone can run: ``python -m benchmarks``."""
