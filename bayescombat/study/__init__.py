"""The only door for data: tables and arrays in, a checked `Study` out."""

from bayescombat.study.study import Study

__all__ = ["Study"]
