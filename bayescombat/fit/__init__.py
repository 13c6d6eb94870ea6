"""fit(), load() and Fit."""

from bayescombat.fit.fitted import Fit
from bayescombat.fit.fitting import fit, load

__all__ = ["Fit", "fit", "load"]
