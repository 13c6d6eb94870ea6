"""The command line: ``bayescombat harmonize`` and the others."""

from bayescombat.cli.application import app, main

__all__ = ["app", "main"]
