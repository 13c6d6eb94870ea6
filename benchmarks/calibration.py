"""Simulation-based calibration of NUTS: where the truth lies among the draws, when it comes from the priors."""

from dataclasses import asdict, dataclass, replace
from functools import cache

import numpy as np
import pandas as pd
import xarray as xr
from scipy.special import bdtr

import bayescombat as bc
from bayescombat.adoption import Population, from_prior
from bayescombat.fit.drawing import spaced_draws
from bayescombat.fused import packed
from bayescombat.identification import estimable
from bayescombat.moments import Moments
from bayescombat.progress import bar
from bayescombat.sampling import sample
from bayescombat.settings import Settings
from bayescombat.standard import Standardised, standardise
from bayescombat.vocabulary import HYPERPARAMETERS, POPULATION

SCANS = (20, 10, 5, 2, 1)
FEATURES = 6
SIMULATIONS = 500
# Draws that ranks are taken among: every tenth, of effective sizes that are seldom less than half of all draws.
KEPT = 99
SETTINGS = Settings(draws=500, tune=500, chains=2, cores=1, target_accept=0.99, progress_bar=False)
PARAMETERS = ("alpha", "beta", "gamma", "delta", "sigma", *HYPERPARAMETERS, *POPULATION)
NULL_DRAWS = 100_000
AT_ONCE = 10_000


@dataclass(frozen=True, eq=False)
class Prior:
    """Truths and the values that follow from them, all drawn from the textbook form of the model.

    Parameters
    ----------
    study : Study
        Whose scans and covariates every simulation has, and whose scale the priors are on.
    truth : xarray.Dataset
        Parameters under the constraint that a fit reports, the harmonized value of the first scan of every site, and
        the effects of a site that has no scans, (simulation, ...).
    y : ndarray, (simulation, obs, feature)
    """

    study: bc.Study
    truth: xr.Dataset
    y: np.ndarray


def design(scans: tuple[int, ...] = SCANS, features: int = FEATURES) -> bc.Study:
    """Return the study whose scans, ages and scale all simulations have."""
    simulation = bc.datasets.simulate(scans, features=features, seed=0)
    return bc.Study.from_dataframe(simulation.table, batch="site", covariates="age", features=simulation.features)


@cache
def prior_of(simulations: int, seed: int) -> Prior:
    """Draw truths and values from the priors by PyMC."""
    import pymc as pm

    study = design()
    with bc.build_model(study, likelihood="observations"):
        drawn = pm.sample_prior_predictive(simulations, random_seed=seed)
    raw = drawn["prior"].to_dataset()
    truth, raw = (part.isel(chain=0, drop=True) for part in (bc.identify(raw, study), raw))
    y = drawn["prior_predictive"]["y"].isel(chain=0).transpose("draw", "obs", "feature").values
    truth = truth.assign(_new_site(raw, truth, np.random.default_rng([seed, 1])))
    truth["harmonized"] = _harmonized(study, truth, y)
    return Prior(study, truth.rename(draw="simulation").drop_vars("simulation"), y)


def _new_site(raw: xr.Dataset, truth: xr.Dataset, rng: np.random.Generator) -> dict[str, xr.DataArray]:
    """Draw a site beside the fitted ones, as one more of a population without end, and return its effects."""
    sites = raw.sizes["batch"]

    def effects(name: str) -> xr.DataArray:
        def noise(*dims: str) -> xr.DataArray:
            return xr.DataArray(rng.standard_normal([raw.sizes[dim] for dim in dims]), dims=dims)

        # Fitted sites are measured from their own average, which the new one has no part in.
        away = noise("draw") - xr.DataArray(rng.standard_normal((raw.sizes["draw"], sites)).mean(axis=1), dims="draw")
        log_sd = raw[f"{name}_sd_log_typical"] + raw[f"{name}_sd_spread"] * noise("draw")
        return raw[f"{name}_mean_spread"] * away + np.exp(log_sd) * noise("draw", "feature")

    mean = raw["alpha"] + raw["sigma"] * effects("gamma")
    scale = raw["sigma"] * np.exp(effects("log_delta"))
    return {"new_gamma": mean - truth["alpha"], "new_delta": scale / truth["sigma"]}


def _harmonized(study: bc.Study, parameters: xr.Dataset, y: np.ndarray) -> xr.DataArray:
    """Return the first scan of every site, harmonized by every draw of the parameters, (..., batch, feature)."""
    first = np.searchsorted(study.codes, range(len(study.batches)))
    x = xr.DataArray((study.x - study.x.mean(axis=0))[first], dims=("batch", "covariate"))
    preserved = parameters["alpha"] + (x * parameters["beta"].drop_vars("covariate")).sum("covariate")
    value = xr.DataArray(y[..., first, :], dims=("draw", "batch", "feature")[-y.ndim :])
    return (value - preserved - parameters["gamma"]) / parameters["delta"] + preserved


def on_scale_of(like: Standardised, moments: Moments) -> Standardised:
    """Return moments on the scale of others, which priors that follow the data would not have."""
    own = standardise(moments)
    return replace(
        own,
        location=like.location,
        scale=like.scale,
        mean_y=(moments.mean_y - like.location) / like.scale,
        sxy=own.sxy * (own.scale / like.scale)[:, None],
        syy=moments.syy / like.scale**2,
    )


def posterior_of(
    study: bc.Study, like: Standardised | None, priors: bc.Priors, settings: Settings
) -> tuple[xr.Dataset, int]:
    """Return draws (draw, ...) of what `Prior` has the truth of, and how many diverged.

    Parameters
    ----------
    study : Study
    like : Standardised, optional
        The scale of the priors; by default that of the study, as by `bayescombat.fit`.
    priors : Priors
    settings : Settings
    """
    moments = estimable(Moments.from_study(study))
    standard = None if like is None else on_scale_of(like, moments)
    tree = sample(packed(moments, priors, standard=standard), settings)
    found = bc.identify(tree["posterior"].to_dataset(), moments, settings.seed)
    found = found.stack(every=("chain", "draw"), create_index=False)
    kept = spaced_draws(tree["posterior"].to_dataset(), KEPT)
    found = found.drop_vars(["chain", "draw"]).isel(every=kept, batch_variable=0, drop=True).rename(every="draw")
    found = found.assign(_expected_site(found, np.random.default_rng([settings.seed or 0, 2])))
    found["harmonized"] = _harmonized(study, found, study.y)
    return found, int(tree["sample_stats"]["diverging"].sum())


def _expected_site(found: xr.Dataset, rng: np.random.Generator) -> dict[str, xr.DataArray]:
    """Draw a site without scans as `unseen="prior"` does, before that cuts off scales that are out of all bounds."""
    scalars = {name: found[name].values for name in POPULATION}
    site = from_prior(Population(**scalars, batches=found.sizes["batch"]), found.sizes["feature"], rng)
    gamma, log_delta = (xr.DataArray(part, dims=("draw", "feature")) for part in (site.gamma, site.log_delta))
    unit = found["delta_typical"]
    return {
        "new_gamma": found["sigma"] * unit * gamma + found["gamma_typical"],
        "new_delta": unit * np.exp(log_delta),
    }


def ranks(
    simulations: int = SIMULATIONS,
    priors: bc.Priors | None = None,
    own_scale: bool = False,
    seed: int = 0,
    settings: Settings = SETTINGS,
    progress_bar: bool = False,
) -> xr.Dataset:
    """Return where the truth lies among draws of its posterior: uniform, if the sampler does what the model says.

    Parameters
    ----------
    simulations : int
        Studies drawn from the default priors.
    priors : Priors, optional
        Of the fit; others than the default ones have to be found out.
    own_scale : bool
        Whether the priors of the fit are on the scale of its own data, as by `bayescombat.fit`, and not on that of the
        simulation.
    seed : int
        Of simulations and fits.
    settings : Settings
        How to sample.
    progress_bar : bool

    Returns
    -------
    xarray.Dataset
        Ranks between 0 and 1 by the names of the parameters, (simulation, ...); ties with a draw are split at random.
        ``divergences`` (simulation) stands in the attributes.
    """
    prior = prior_of(simulations, seed)
    like = None if own_scale else standardise(estimable(Moments.from_study(prior.study)))
    rng, parts, divergences = np.random.default_rng([seed, 3]), [], []
    with bar("Calibration", simulations, shown=progress_bar) as advance:
        for number, y in enumerate(prior.y):
            own = replace(settings, seed=seed * 10**6 + number)
            found, diverged = posterior_of(replace(prior.study, y=y), like, priors or bc.Priors(), own)
            parts.append(_rank(found, prior.truth.isel(simulation=number), rng))
            divergences.append(diverged)
            advance()
    return xr.concat(parts, "simulation").assign_attrs(divergences=divergences)


def _rank(draws: xr.Dataset, truth: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    found = {}
    for name in (*PARAMETERS, "harmonized", "new_gamma", "new_delta"):
        below = (draws[name] < truth[name].squeeze(drop=True)).sum("draw")
        found[name] = (below + rng.uniform(size=below.shape)) / (draws.sizes["draw"] + 1)
    return xr.Dataset(found)


@cache
def _tails(size: int) -> np.ndarray:
    """Return how unlikely it is that so many ranks lie below a point or so few, (point, count)."""
    points, counts = np.arange(1, size)[:, None] / size, np.arange(size + 1)
    return np.minimum(bdtr(counts, size, points), 1 - np.where(counts > 0, bdtr(counts - 1, size, points), 0))


@cache
def _null(size: int) -> np.ndarray:
    """Return sorted least tails of uniform ranks."""
    rng, found = np.random.default_rng(0), []
    for _ in range(NULL_DRAWS // AT_ONCE):
        counts = rng.multinomial(size, np.full(size, 1 / size), AT_ONCE).cumsum(axis=1)[:, :-1]
        found.append(_tails(size)[np.arange(size - 1), counts].min(axis=1))
    return np.sort(np.concatenate(found))


def p_value(values: np.ndarray) -> float:
    """Return the probability that uniform ranks stray as far from the diagonal at any point as these do.

    That is the level of the narrowest simultaneous band that would hold their distribution function: Säilynoja,
    Bürkner and Vehtari (2022), doi:10.1007/s11222-022-10090-6.
    """
    size = len(values)
    bins = np.minimum((values * size).astype(int), size - 1)
    counts = np.bincount(bins, minlength=size).cumsum()[:-1]
    least = _tails(size)[np.arange(size - 1), counts].min()
    return float((1 + np.searchsorted(_null(size), least, side="right")) / (1 + NULL_DRAWS))


def uniformity(found: xr.Dataset) -> pd.DataFrame:
    """Return how uniform the ranks of every parameter are.

    Parameters
    ----------
    found : xarray.Dataset
        As by `ranks`.

    Returns
    -------
    pandas.DataFrame
        A row for each parameter: its ``entries``; the ``mean`` rank, and the coverage of central 50 and 90 % intervals
        in percent, each with a standard error, simulations being independent; and ``p``, the least p-value of an entry
        times their number (Bonferroni).
    """
    rows = {}
    for name, array in found.data_vars.items():
        values = array.values.reshape(array.sizes["simulation"], -1)
        row: dict[str, float] = {"entries": values.shape[1]}
        row |= _with_error("mean", values)
        for percent in (50, 90):
            row |= _with_error(f"in {percent} %", 100 * (abs(values - 0.5) < percent / 200))
        least = min(p_value(entry) for entry in values.T)
        rows[name] = row | {"p": min(1.0, values.shape[1] * least)}
    return pd.DataFrame(rows).T


def _with_error(name: str, values: np.ndarray) -> dict[str, float]:
    each = values.mean(axis=1)
    return {name: float(each.mean()), f"± {name}": float(each.std(ddof=1) / len(each) ** 0.5)}


def narrowed(priors: bc.Priors) -> bc.Priors:
    """Return priors that are half as wide, on the log scale where they are log-normal: a fit that has to be caught."""
    widths = {name: value / 2 for name, value in asdict(priors).items() if name.endswith("_log_sd")}
    return replace(priors, **widths)


def table(simulations: int = SIMULATIONS, progress_bar: bool = False) -> pd.DataFrame:
    """Return the uniformity of ranks: of the model as it stands, as `fit` scales it, and of a faulty fit."""
    found = {
        "exact": ranks(simulations, progress_bar=progress_bar),
        "as fit() scales": ranks(3 * simulations // 5, own_scale=True, progress_bar=progress_bar),
        "priors half as wide": ranks(simulations // 5, narrowed(bc.Priors()), progress_bar=progress_bar),
    }
    return pd.concat({kind: uniformity(part) for kind, part in found.items()}, names=["fit", "parameter"])
