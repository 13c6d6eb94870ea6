"""diagnose() and Diagnosis: what is to be known of a study before it is fitted."""

from bayescombat.diagnose.diagnosing import Diagnosis, diagnose

__all__ = ["Diagnosis", "diagnose"]
