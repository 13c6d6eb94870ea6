"""Pictures of fits, evaluations and calibration. They need matplotlib: ``pip install 'pymc-combat[plot]'``.

Every function returns a matplotlib figure, which a notebook shows where it is the last thing in a cell, and which a
script saves: ``bc.plots.sites(fit).savefig("sites.pdf")``. None shows anything by itself, and pyplot knows of none, so
that nothing has to be closed. Panels are those of matplotlib: ``picture.axes``. ``picture.description`` says in words
what is seen.

What ArviZ draws of any sample is left to it; `Fit.tree` of a fit by NUTS is what it reads::

    import arviz as az

    az.plot_trace(fit.tree, var_names=["gamma_mean"])
    az.plot_rank(fit.tree, var_names=["gamma_mean", "gamma_sd"]).savefig("ranks.png")
"""

from bayescombat.plots.calibration import calibration, coverage
from bayescombat.plots.effects import effects
from bayescombat.plots.evaluation import evaluation
from bayescombat.plots.population import site_distribution
from bayescombat.plots.shrinkage import shrinkage
from bayescombat.plots.sites import harmonized, sites

__all__ = [
    "calibration",
    "coverage",
    "effects",
    "evaluation",
    "harmonized",
    "shrinkage",
    "site_distribution",
    "sites",
]
