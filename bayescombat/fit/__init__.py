"""fit(), fit_blocks(), load() and Fit."""

from bayescombat.fit.blocked import fit_blocks
from bayescombat.fit.fitted import Fit
from bayescombat.fit.fitting import fit, load

__all__ = ["Fit", "fit", "fit_blocks", "load"]
