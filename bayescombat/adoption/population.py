"""What a new batch is drawn from, what its scans say, and what is drawn. Arrays only."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

__all__ = ["Evidence", "NewBatch", "Normal", "Population", "Priors", "Shared", "from_prior", "new_batch", "priors_of"]


@dataclass(frozen=True, eq=False)
class Population:
    """What the fitted batches say of batches at large.

    Parameters
    ----------
    gamma_mean_spread, log_delta_mean_spread : ndarray, (draw,)
        How much the batches' means spread across batches.
    gamma_sd_log_typical, log_delta_sd_log_typical : ndarray, (draw,)
        Logarithm of how much the effects of a typical batch differ between features.
    gamma_sd_spread, log_delta_sd_spread : ndarray, (draw,)
        How much that logarithm spreads across batches.
    batches : int
        How many were fitted.
    """

    gamma_mean_spread: np.ndarray
    gamma_sd_log_typical: np.ndarray
    gamma_sd_spread: np.ndarray
    log_delta_mean_spread: np.ndarray
    log_delta_sd_log_typical: np.ndarray
    log_delta_sd_spread: np.ndarray
    batches: int


@dataclass(frozen=True, eq=False)
class Shared:
    """What features share: shifts have ``patterns @ g`` added, and the mean of the scans' noise ``loadings @ f``.

    Parameters
    ----------
    patterns : ndarray, (feature, pattern)
        In units of the spread of the batch's shifts beside them, which the scores g have.
    loadings : ndarray, (feature, factor)
    scans : ndarray, (1 or draw, 1)
        Of the new batch, or how many would have as much noise of the factors in their mean.
    """

    patterns: np.ndarray
    loadings: np.ndarray
    scans: np.ndarray


@dataclass(frozen=True, eq=False)
class Evidence:
    """The new batch's scans, given each draw of alpha, the slopes and sigma; residuals are in units of sigma.

    Parameters
    ----------
    count : ndarray, (1 or draw, feature)
        Scans observed. Where it is zero, nothing else is read.
    precision : ndarray, (1 or draw, feature)
        Variance of a residual over the variance of their mean: the count, in a model without further terms.
    mean : ndarray, (draw, feature)
        Mean residual.
    squares : ndarray, (draw, feature)
        Sum of the squared residuals about their mean.
    shared : Shared, optional
        Where features share factors: `precision` is then that of what is beside their noise.
    """

    count: np.ndarray
    precision: np.ndarray
    mean: np.ndarray
    squares: np.ndarray
    shared: Shared | None = None


@dataclass(frozen=True, eq=False)
class NewBatch:
    """One draw of the new batch for every draw of the population, in units of sigma.

    Parameters
    ----------
    gamma, log_delta : ndarray, (draw, feature)
    gamma_mean, gamma_sd, log_delta_mean, log_delta_sd : ndarray, (draw,)
        Of the normal distributions that the batch's features share.
    """

    gamma: np.ndarray
    log_delta: np.ndarray
    gamma_mean: np.ndarray
    gamma_sd: np.ndarray
    log_delta_mean: np.ndarray
    log_delta_sd: np.ndarray


class Normal(NamedTuple):
    """Independent normal distributions."""

    mean: np.ndarray
    sd: np.ndarray

    def drawn(self, rng: np.random.Generator) -> np.ndarray:
        """Return a draw of each."""
        return np.asarray(self.mean + self.sd * rng.standard_normal(self.sd.shape))


class Priors(NamedTuple):
    """Of gamma_mean, (draw, 1), and of log gamma_sd, log_delta_mean and log log_delta_sd, (draw, 3)."""

    gamma_mean: Normal
    shared: Normal


def from_prior(population: Population, features: int, rng: np.random.Generator) -> NewBatch:
    """Draw a batch that was never seen, exactly, once for every draw of the population."""
    gamma_mean, shared = (prior.drawn(rng) for prior in priors_of(population))
    shape = (len(shared), features)
    log_delta = shared[:, 1:2] + np.exp(shared[:, 2:]) * rng.standard_normal(shape)
    gamma = gamma_mean + np.exp(shared[:, :1]) * rng.standard_normal(shape)
    return new_batch(gamma, log_delta, gamma_mean, shared)


def priors_of(population: Population) -> Priors:
    """Return the priors of a new batch."""
    widened = np.sqrt(1 + 1 / population.batches)
    gamma_mean_sd = (population.gamma_mean_spread * widened)[:, None]
    middle = population.gamma_sd_log_typical, np.zeros(len(gamma_mean_sd)), population.log_delta_sd_log_typical
    sd = population.gamma_sd_spread, population.log_delta_mean_spread * widened, population.log_delta_sd_spread
    return Priors(Normal(np.zeros_like(gamma_mean_sd), gamma_mean_sd), Normal(np.stack(middle, 1), np.stack(sd, 1)))


def new_batch(gamma: np.ndarray, log_delta: np.ndarray, gamma_mean: np.ndarray, shared: np.ndarray) -> NewBatch:
    """Return a new batch of what is drawn of it: (draw, feature), (draw, 1), and (draw, 3) as in the priors."""
    return NewBatch(gamma, log_delta, gamma_mean[:, 0], np.exp(shared[:, 0]), shared[:, 1], np.exp(shared[:, 2]))
