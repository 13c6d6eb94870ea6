"""The only door for data: tables and arrays in, a checked `Study` out."""

from bayescombat.study.chunked import ChunkedStudy, study_of_chunk
from bayescombat.study.study import Study

__all__ = ["ChunkedStudy", "Study", "study_of_chunk"]
