"""Draws or estimates -> alpha, beta, gamma, delta and sigma as a reader knows them, labelled."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayescombat.additive import Additive
from bayescombat.blocks import side_by_side, slices
from bayescombat.columns import names_index
from bayescombat.empirical import Estimates
from bayescombat.errors import DataError, listing
from bayescombat.factors import Loadings, factors_of
from bayescombat.identification import estimable
from bayescombat.intercepts import nested_information
from bayescombat.moments import Moments, Subjects, as_moments
from bayescombat.study import Study
from bayescombat.vocabulary import ATTRS, DIMS, HYPERPARAMETERS, POPULATION

__all__ = ["estimated", "identify", "labelled"]

# Numbers in an array of some draws, few enough for the processor's cache.
AT_ONCE = 2**17
# What a model need not have.
OPTIONAL = (
    "gamma_typical",
    "delta_typical",
    "noise_factor",
    "subject_sd",
    "smooth_sd",
    "nu",
    "smooth_sd_log_typical",
    "smooth_sd_spread",
)


def identify(draws: xr.Dataset, data: Study | Moments, seed: int | None = None) -> xr.Dataset:
    r"""Return draws of a `build_model` model under the constraint that bayescombat reports.

    Where the cell means were integrated out, they are drawn from their exact conditional distribution. Then, with
    weights :math:`w_i = n_i / N` (or all weight on the reference batch),

    .. math::
        \alpha_v \leftarrow \sum_i w_i m_{iv}, \qquad \sigma_v \leftarrow \sqrt{\sum_i w_i s_{iv}^2}

    where :math:`m_{iv} = \alpha_v + \gamma_{iv}` and :math:`s_{iv} = \sigma_v \delta_{iv}`, so that
    :math:`\sum_i w_i \gamma_{iv} = 0` and :math:`\sum_i w_i \delta_{iv}^2 = 1`. The hyper-parameters, whose
    means sum to zero over the batches in the model, are measured from the same origin and in the same unit as they
    hold for the expected feature. No harmonized value depends on it. With several batch variables the shifts of each
    sum to zero, the squared scales of each have the same average over the scans, and their product has average one.

    Parameters
    ----------
    draws : xarray.Dataset
        The posterior group of any sampler, (chain, draw, ...), with the model's deterministic variables and its scalar
        ones; ``gamma`` is used where it is there.
    data : Study or Moments
        What the model was built from.
    seed : int, optional
        For the draws of the cell means.

    Returns
    -------
    xarray.Dataset
        ``alpha, beta, gamma, delta, sigma`` in feature units and the hyper-parameters in units of sigma; and what a
        batch never seen is drawn from: ``gamma_typical`` and ``delta_typical``, where it is expected, and six scalars
        for every batch variable that say how batches differ.

    Raises
    ------
    DataError
        If a variable is missing.

    Examples
    --------
    >>> import pymc as pm
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> with bc.build_model(study, likelihood="observations"):
    ...     prior = pm.sample_prior_predictive(10, random_seed=1)["prior"].to_dataset()
    >>> draws = bc.identify(prior, study)
    >>> share = prior["batch"].copy(data=[20 / 35, 10 / 35, 5 / 35])
    >>> bool((abs((share * draws["gamma"]).sum("batch") / draws["sigma"]) < 1e-10).all())
    True
    """
    moments = estimable(as_moments(data, cross="noise_factor" in draws))
    draws = _ordered(draws, moments)
    factors = factors_of(moments, draws.sizes["factor"]) if "noise_factor" in draws else None
    chains, size = draws.sizes["chain"], draws.sizes["draw"]
    streams = np.random.SeedSequence(seed).spawn(chains)

    def found(chain: int, some: slice, rng: np.random.Generator) -> dict[str, np.ndarray]:
        raw = _gathered(draws.isel(chain=chain, draw=some), moments)
        if "gamma" not in raw:
            raw["gamma"] = _conditional_shifts(raw, moments, factors, rng)
        return {name: values for name, values in _constrained(raw, moments).items() if name in DIMS}

    shapes = {name: values.shape[1:] for name, values in found(0, slice(0), np.random.default_rng()).items()}
    stacked = {name: np.empty((chains, size, *shape)) for name, shape in shapes.items()}

    def work(some_chains: slice) -> None:
        for chain in range(chains)[some_chains]:
            rng = np.random.default_rng(streams[chain])
            for some in slices(size, AT_ONCE // moments.mean_y.size):
                for name, values in found(chain, some, rng).items():
                    stacked[name][chain, some] = values

    side_by_side(work, slices(chains, 1))
    return labelled(stacked, moments, {"chain": draws["chain"].values, "draw": draws["draw"].values})


def _gathered(draws: xr.Dataset, moments: Moments) -> dict[str, np.ndarray]:
    """Return the draws of one chain, those of several batch variables side by side.

    Raises
    ------
    DataError
        If a variable is missing.
    """
    suffixes = moments.levels.suffixes
    needed = {name: [name] for name in ("alpha", "beta", "sigma", "delta")}
    needed |= {
        name: [name] if name in draws else [f"{name}{suffix}" for suffix in suffixes]
        for name in (*HYPERPARAMETERS, *POPULATION)
    }
    needed |= {name: [name] for name in OPTIONAL if name in draws}
    if f"batch_pattern{suffixes[0]}" in draws:
        needed["batch_pattern"] = [f"batch_pattern{suffixes[0]}"]
    if "gamma" in draws:
        needed["gamma"] = ["gamma"]
    elif len(suffixes) > 1:
        needed["later"] = [f"gamma{suffix}" for suffix in suffixes[1:]]
    if not moments.covariates:
        del needed["beta"]
    missing = [name for parts in needed.values() for name in parts if name not in draws]
    if missing:
        raise DataError(
            f"Expected draws of a bayescombat model, found none of {listing(missing)}. "
            "Sample bayescombat.build_model(...) and keep its deterministic and scalar variables."
        )
    raw = {name: [draws[part].values for part in parts] for name, parts in needed.items()}
    joined = {name: np.concatenate(parts, axis=1) if parts[0].ndim > 1 else parts[0] for name, parts in raw.items()}
    joined |= {name: np.column_stack(raw[name]) for name in POPULATION}
    joined.setdefault("beta", np.zeros((draws.sizes["draw"], len(moments.features), 0)))
    return joined


def _ordered(draws: xr.Dataset, moments: Moments) -> xr.Dataset:
    """Return the draws with dims and labels in the order of the moments."""
    levels = moments.levels
    of_batches = levels.dims | {"batch": levels.labels, "cell": moments.batches}
    labels = {"feature": moments.features, "covariate": moments.covariates} | of_batches
    wrong = [dim for dim, names in labels.items() if dim in draws.dims and set(draws[dim].values) != set(names)]
    if wrong:
        raise DataError(
            f"Expected draws of the model of these data, found other labels on {listing(wrong)}. "
            "Give the study or moments that the model was built from."
        )
    named = {dim: list(names) for dim, names in labels.items() if dim in draws.dims}
    order = ("chain", "draw", *of_batches, "batch_variable")
    order += ("feature", "covariate", "factor", "smooth")
    return draws.sel(named).transpose(*order, ..., missing_dims="ignore")


def estimated(estimates: Estimates, moments: Moments) -> xr.Dataset:
    """Return empirical-Bayes estimates, labelled; names and units as those of the draws.

    Shrunken estimates keep the published target. The constraint on gamma holds for the unshrunken ones; that on delta
    up to their divisors, n - 1 within batches and N overall.
    """
    names = ("alpha", "beta", "gamma", "delta", "sigma", "subject_sd", "gamma_unshrunken", "smooth_sd")
    values = {name: getattr(estimates, name) for name in names if getattr(estimates, name) is not None}
    return labelled(values | estimates.hyper | estimates.evidence, moments, {})


def _conditional_shifts(
    raw: Mapping[str, np.ndarray], moments: Moments, factors: Loadings | None, rng: np.random.Generator
) -> np.ndarray:
    """Draw gamma (draw, batch, feature) given everything else, which includes the shifts of later variables."""
    additive = Additive(moments.positions, moments.n)
    later = raw.get("later", np.zeros((len(raw["alpha"]), 0, len(moments.features))))
    first = slice(len(additive.size) - later.shape[1])
    offset = moments.mean_x - moments.center
    observed = moments.mean_y - raw["alpha"][:, None, :]
    for k in range(offset.shape[-1]):
        observed -= offset[..., k] * raw["beta"][:, None, :, k]
    delta = raw["delta"]
    if additive.crossed:
        observed -= later[:, additive.positions[:, 1:] - first.stop].sum(axis=2)
        delta = delta[:, additive.positions].prod(axis=2)
    sigma = raw["sigma"][:, None, :]
    information, expected = moments.n, raw["gamma_mean"][:, first, None]
    if factors is not None:
        observed -= sigma * delta * (raw["noise_factor"] @ factors.loadings.T)
        expected = expected + raw["batch_pattern"]
        information = 1 / factors.of_own(moments.n, moments.scans)
    precision = information / (sigma * delta) ** 2
    weighted = precision * observed
    if moments.subjects is not None:
        precision, weighted = _of_nested_subjects(raw, moments, moments.subjects)
    if additive.crossed:
        member = additive.indicator[:, first]
        precision, weighted = (np.einsum("cl,dcv->dlv", member, values) for values in (precision, weighted))
    mean = sigma * expected
    variance = (sigma * raw["gamma_sd"][:, first, None]) ** 2
    known = 1 + variance * precision
    drawn = (mean + variance * weighted) / known + np.sqrt(variance / known) * rng.standard_normal(weighted.shape)
    return np.concatenate([drawn, later], axis=1)


def _of_nested_subjects(
    raw: Mapping[str, np.ndarray], moments: Moments, subjects: Subjects
) -> tuple[np.ndarray, np.ndarray]:
    """Return what subjects with one batch each tell of the shifts: precision, and times the shift."""
    found = []
    offset = subjects.mean_x - moments.center
    for v in range(len(moments.features)):
        mine, own = slice(v, v + 1), min(v, offset.shape[1] - 1)
        slopes = raw["beta"][:, v] @ offset[:, own].T
        residual = subjects.mean_y[:, v] - raw["alpha"][:, mine] - slopes
        scale = raw["sigma"][:, mine] * raw["delta"][:, subjects.batch, v]
        one = subjects.select(np.arange(len(moments.features)) == v)
        spread = raw["subject_sd"][:, mine]
        found.append(nested_information(one, len(moments.batches), residual[..., None], scale[..., None], spread))
    precision, weighted = (np.concatenate(part, axis=-1) for part in zip(*found, strict=True))
    return precision, weighted


def _constrained(raw: Mapping[str, np.ndarray], moments: Moments) -> dict[str, np.ndarray]:
    """Return the same means and scales of all cells, told apart by the constraint."""
    owner = moments.levels.owner
    shift, scale = _origin(raw["gamma"], raw["delta"], moments, owner)
    return dict(raw) | {
        "alpha": raw["alpha"] + shift.sum(axis=1),
        "gamma": raw["gamma"] - shift[:, owner],
        "sigma": raw["sigma"] * scale.prod(axis=1),
        "delta": raw["delta"] / scale[:, owner],
        "gamma_typical": raw.get("gamma_typical", 0.0) - shift,
        "delta_typical": raw.get("delta_typical", 1.0) / scale,
        **_constrained_population(raw, moments, owner),
    }


def _origin(gamma: np.ndarray, delta: np.ndarray, moments: Moments, owner: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return what becomes zero and one of every variable's shifts and scales, (draw, variable, feature)."""
    at = moments.reference_levels
    if at is not None:
        return gamma[:, at], delta[:, at]
    additive = Additive(moments.positions, moments.n)
    weight = additive.size / additive.weight.sum(axis=0)
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    shift = np.add.reduceat(weight * gamma, starts, axis=1)
    scale = np.sqrt(np.add.reduceat(weight * delta**2, starts, axis=1))
    if additive.crossed:
        cells = (delta / scale[:, owner])[:, additive.positions].prod(axis=2)
        left = np.sqrt((additive.share() * cells**2).sum(axis=1, keepdims=True))
        scale *= left ** (1 / len(starts))
    return shift, scale


def _constrained_population(
    raw: Mapping[str, np.ndarray], moments: Moments, owner: np.ndarray
) -> dict[str, np.ndarray]:
    """Return the hyper-parameters measured from what the constraint makes zero and one, for a feature as expected."""
    gamma_mean, log_delta_mean = raw["gamma_mean"], raw["log_delta_mean"]
    at = moments.reference_levels
    if at is None:
        size = Additive(moments.positions, moments.n).size.sum(axis=1)
        weights, starts = size / moments.n.sum(), np.flatnonzero(np.diff(owner, prepend=-1))
        shift = np.add.reduceat(gamma_mean * weights, starts, axis=1)
        squares = np.exp(2 * (log_delta_mean + raw["log_delta_sd"] ** 2)) * weights
        log_scale = np.log(np.add.reduceat(squares, starts, axis=1)) / 2
    else:
        shift, log_scale = gamma_mean[:, at], log_delta_mean[:, at]
    unit = np.exp(log_scale.sum(axis=1))[:, None]
    return {
        "gamma_mean": (gamma_mean - shift[:, owner]) / unit,
        "gamma_sd": raw["gamma_sd"] / unit,
        "log_delta_mean": log_delta_mean - log_scale[:, owner],
    }


def labelled(values: Mapping[str, np.ndarray], moments: Moments, leading: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Return arrays by the names of the parameters as a Dataset with units."""
    levels = moments.levels
    coords = dict(leading) | {
        "feature": names_index(moments.features),
        "batch": list(levels.labels),
        "covariate": list(moments.covariates),
    }
    if "gamma_typical" in values:
        coords["batch_variable"] = list(levels.active)
    if "smooth_sd" in values:
        coords["smooth"] = [smooth.column for smooth in moments.spec.smooths]
    data = {}
    for name, array in values.items():
        units, long_name = ATTRS[name]
        if moments.spec.transform == "log":
            units = units.replace("feature units", "log feature units")
        data[name] = ((*leading, *DIMS[name]), array, {"units": units, "long_name": long_name})
    return xr.Dataset(data, coords)
