"""Studies drawn from the model itself, with the truth beside the table."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from bayescombat.errors import DataError, listing

type Array = NDArray[np.float64]

COVARIATES = ["age", "sex[T.M]"]
# Effects are drawn per ten years of age, so that age matters about as much as sex.
COVARIATE_UNITS = np.array([10.0, 1.0])
SPREAD_OF_LOG_SPREADS = 0.3
VARIABLES = {
    "alpha": (("feature",), "feature units", "mean at the average covariates"),
    "beta": (("covariate", "feature"), "feature units per unit of the covariate", "covariate effect"),
    "gamma": (("batch", "feature"), "feature units", "shift of the batch"),
    "delta": (("batch", "feature"), "1", "scale of the batch"),
    "sigma": (("feature",), "feature units", "residual standard deviation"),
    "harmonized": (("obs", "feature"), "feature units", "value without the effect of the batch"),
    "subject_sd": (("feature",), "feature units", "standard deviation of the subjects' intercepts"),
}


@dataclass(frozen=True)
class Simulation:
    """A simulated study and its truth.

    Attributes
    ----------
    table : pandas.DataFrame
        One row per scan: columns ``site``, ``age`` (years), ``sex`` (``"F"`` or ``"M"``) and the features; with
        repeated scans ``subject`` too.
    truth : xarray.Dataset
        ``alpha``, ``sigma`` (feature), ``beta`` (covariate, feature), ``gamma``, ``delta`` (batch, feature)
        and ``harmonized`` (obs, feature), under the constraint of the pooled target.
    features : tuple of str
        Names of the feature columns.

    Examples
    --------
    >>> from bayescombat.datasets import simulate
    >>> simulation = simulate(scans=(4, 3), features=2)
    >>> list(simulation.table)
    ['site', 'age', 'sex', 'feature_0', 'feature_1']
    >>> simulation.features
    ('feature_0', 'feature_1')
    """

    table: pd.DataFrame
    truth: xr.Dataset
    features: tuple[str, ...]


def simulate(
    scans: Sequence[int] = (40, 30, 20, 10, 5, 3),
    *,
    features: int = 20,
    seed: int = 0,
    gamma_mean_sd: float = 0.3,
    gamma_sd: float = 0.5,
    log_delta_mean_sd: float = 0.15,
    log_delta_sd: float = 0.15,
    beta_sd: float = 0.3,
    site_age_sd: float = 8.0,
    factors: int = 0,
    factor_share: float = 0.4,
    factor_sd: float = 1.0,
    repeats: int = 1,
    subject_sd: float = 1.5,
    travelling: float = 0.2,
) -> Simulation:
    r"""Draw a study of several sites from the ComBat model.

    Scan :math:`j` of site :math:`i` has, for feature :math:`v`,

    .. math::
        y_{jv} = \alpha_v + (x_j - \bar x)' \beta_v + \gamma_{iv} + \delta_{iv} \sigma_v \varepsilon_{jv}

    with :math:`\gamma_{iv} / \sigma_v` and :math:`\log \delta_{iv}` normal, each site with its own mean and
    spread over the features. The draw is then rewritten, without changing any scan, so that
    :math:`\sum_i n_i \gamma_{iv} = 0` and :math:`\sum_i n_i \delta_{iv}^2 = N`: the constraint under which
    bayescombat reports its parameters. Features look like cortical thickness in mm.

    Parameters
    ----------
    scans : sequence of int
        Number of scans of each site.
    features : int
        Number of features.
    seed : int
        Seed of the generator. The same arguments give the same study.
    gamma_mean_sd : float
        Spread across sites of the mean shift, in units of sigma.
    gamma_sd : float
        Typical spread over features of one site's shifts, in units of sigma. A site's own value is log-normal
        around it, and so is that of `log_delta_sd`.
    log_delta_mean_sd : float
        Spread across sites of the mean log-scale.
    log_delta_sd : float
        Typical spread over features of one site's log-scales.
    beta_sd : float
        Spread over features of the effects of ten years of age and of sex, in units of sigma.
    site_age_sd : float
        Spread across sites of the mean age, in years. Within a site ages have a spread of 12 years.
    factors : int
        Factors that the features share, in their noise and in the sites' shifts. All features have positive loadings
        on the first.
    factor_share : float
        Share of the noise that is the factors'.
    factor_sd : float
        Spread of the sites along a factor, in units of sigma.
    repeats : int
        Scans of every subject, a year apart; the last one of a site may have fewer. With one there are no subjects.
    subject_sd : float
        Typical spread of the subjects' intercepts, in units of sigma; a feature's own is log-normal around it.
    travelling : float
        Share of the scans whose subjects change places, so that they were scanned at several sites.

    Returns
    -------
    Simulation
        The table, its truth and the names of the features.

    Raises
    ------
    DataError
        If there is no site, a site without scans, or no feature.

    Examples
    --------
    >>> from bayescombat.datasets import simulate
    >>> simulation = simulate(scans=(30, 10, 3), features=5, seed=1)
    >>> simulation.table.shape
    (43, 8)
    >>> dict(simulation.truth.sizes)
    {'feature': 5, 'covariate': 2, 'batch': 3, 'obs': 43}
    >>> shifts = simulation.truth["gamma"].transpose("feature", "batch").values
    >>> bool(abs(shifts @ [30, 10, 3]).max() < 1e-12)
    True
    """
    _check(scans, features)
    rng = np.random.default_rng(seed)
    counts = np.asarray(scans, dtype=np.int64)
    site = np.repeat(np.arange(len(counts)), counts)
    age, male = _people(rng, site, site_age_sd)
    subject, people = _subjects(seed, site, repeats, travelling)
    age, male = age[people] + _visits(subject), male[people]
    x = np.column_stack([age, male])

    sigma = 0.15 * np.exp(rng.normal(0.0, 0.3, features))
    grand_mean = rng.normal(2.5, 0.3, features)
    beta = rng.normal(0.0, beta_sd, (2, features)) * sigma / COVARIATE_UNITS[:, None]
    gamma = _site_effects(rng, len(counts), features, gamma_mean_sd, gamma_sd)
    loadings, shared = _loadings(seed, features, factors, factor_share)
    gamma = (gamma + factor_sd * shared.normal(size=(len(counts), factors)) @ loadings.T) * sigma
    scale = sigma * np.exp(_site_effects(rng, len(counts), features, log_delta_mean_sd, log_delta_sd))

    truth = _constrained(counts / counts.sum(), grand_mean + gamma, scale)
    truth["beta"] = beta
    fixed = truth["alpha"] + (x - x.mean(axis=0)) @ beta
    noise = np.sqrt(1 - (loadings**2).sum(axis=1)) * rng.normal(size=fixed.shape)
    noise = truth["sigma"] * (noise + shared.normal(size=(len(x), factors)) @ loadings.T)
    intercept = np.zeros_like(fixed)
    if repeats > 1:
        own = np.random.default_rng([seed, 3])
        truth["subject_sd"] = truth["sigma"] * subject_sd * np.exp(own.normal(0.0, SPREAD_OF_LOG_SPREADS, features))
        intercept = truth["subject_sd"] * own.normal(size=(subject.max() + 1, features))[subject]
    truth["harmonized"] = fixed + intercept + noise
    y = fixed + intercept + truth["gamma"][site] + truth["delta"][site] * noise
    return _labelled(site, age, male, y, truth, subject if repeats > 1 else None)


def _check(scans: Sequence[int], features: int) -> None:
    empty = [f"site {number}" for number, count in enumerate(scans, start=1) if count < 1]
    if empty:
        raise DataError(f"Expected at least one scan at every site, found none at {listing(empty)}. Drop these.")
    if len(scans) == 0 or features < 1:
        raise DataError(f"Expected at least one site and one feature, found {len(scans)} and {features}.")


def _people(rng: np.random.Generator, site: NDArray[np.int64], site_age_sd: float) -> tuple[Array, Array]:
    """Draw age in years and sex (1 for men), both depending on the site."""
    sites = site.max() + 1
    mean_age = rng.normal(40.0, site_age_sd, sites)
    share_of_men = rng.uniform(0.35, 0.65, sites)
    age = rng.normal(mean_age[site], 12.0).clip(5.0, 95.0).round(1)
    male = (rng.uniform(size=site.size) < share_of_men[site]).astype(np.float64)
    return age, male


def _subjects(
    seed: int, site: NDArray[np.int64], repeats: int, travelling: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the subject of every scan, and return it with the position of that subject's first scan."""
    if repeats == 1:
        return np.arange(len(site)), np.arange(len(site))
    rng = np.random.default_rng([seed, 2])
    within = np.arange(len(site)) - np.searchsorted(site, site)
    subject = np.cumsum(within % repeats == 0) - 1
    moving = np.flatnonzero(rng.uniform(size=len(site)) < travelling)
    subject[moving] = rng.permutation(subject[moving])
    _, first, subject = np.unique(subject, return_index=True, return_inverse=True)
    return subject, first[subject]


def _visits(subject: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many scans of the same subject came before each."""
    order = np.argsort(subject, kind="stable")
    visits = np.empty_like(subject)
    visits[order] = np.arange(len(subject)) - np.searchsorted(subject[order], subject[order])
    return visits


def _site_effects(rng: np.random.Generator, sites: int, features: int, mean_sd: float, typical_sd: float) -> Array:
    """Draw effects (batch, feature), each site with its own mean and its own spread."""
    mean = rng.normal(0.0, mean_sd, (sites, 1))
    sd = typical_sd * np.exp(rng.normal(0.0, SPREAD_OF_LOG_SPREADS, (sites, 1)))
    effects: Array = mean + sd * rng.normal(size=(sites, features))
    return effects


def _loadings(seed: int, features: int, factors: int, share: float) -> tuple[Array, np.random.Generator]:
    """Draw loadings (feature, factor) and return them with the generator of the scores."""
    rng = np.random.default_rng([seed, 1])
    drawn = rng.normal(size=(features, factors))
    drawn[:, :1] = np.abs(drawn[:, :1])
    size = np.sqrt((drawn**2).sum(axis=1, keepdims=True))
    return drawn * np.sqrt(share) / np.where(size > 0, size, 1), rng


def _constrained(weights: Array, mean: Array, scale: Array) -> dict[str, Array]:
    """Split cell means and cell scales (batch, feature) so that the pooled target is the reference."""
    alpha = weights @ mean
    sigma = np.sqrt(weights @ scale**2)
    return {"alpha": alpha, "sigma": sigma, "gamma": mean - alpha, "delta": scale / sigma}


def _labelled(
    site: NDArray[np.int64],
    age: Array,
    male: Array,
    y: Array,
    truth: dict[str, Array],
    subject: NDArray[np.int64] | None,
) -> Simulation:
    sites = int(site.max()) + 1
    labels = np.array([f"site_{number:0{max(2, len(str(sites)))}d}" for number in range(1, sites + 1)])
    features = tuple(f"feature_{number}" for number in range(y.shape[1]))
    people = pd.DataFrame({"site": labels[site], "age": age, "sex": np.where(male == 1.0, "M", "F")})
    if subject is not None:
        people.insert(1, "subject", subject)
    table = pd.concat([people, pd.DataFrame(y, columns=list(features))], axis=1)
    coords = {
        "feature": list(features),
        "covariate": COVARIATES,
        "batch": labels,
        "obs": table.index,
    }
    variables = {
        name: (dims, truth[name], {"units": units, "long_name": long_name})
        for name, (dims, units, long_name) in VARIABLES.items()
        if name in truth
    }
    return Simulation(table, xr.Dataset(variables, coords), features)
