"""A fit as one page of HTML: what was done, whether it can be trusted, and words that an author can paste."""

from bayescombat.report.reporting import report

__all__ = ["report"]
