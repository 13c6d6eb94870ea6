"""A batch that was not fitted: its own parameters, for every draw of the population. Arrays only.

Everything is in units of sigma.  For one draw of the population, and B fitted batches,

    gamma_mean   ~ Normal(0, gamma_mean_spread sqrt(1 + 1/B))
    log gamma_sd ~ Normal(gamma_sd_log_typical, gamma_sd_spread)
    gamma_v      ~ Normal(gamma_mean, gamma_sd)                   for feature v

and likewise for log delta.  The fitted means are deviations from their own average, which itself lies spread / sqrt(B)
from the middle of the population; a new batch deviates from that same average.

Without scans this is all there is.  With scans, every draw of the population has a posterior of its own, from which one
draw is taken by a short Markov chain, with gamma integrated out.
"""

from bayescombat.adoption.chains import from_data
from bayescombat.adoption.population import Evidence, NewBatch, Population, Shared, from_prior

__all__ = ["Evidence", "NewBatch", "Population", "Shared", "from_data", "from_prior"]
