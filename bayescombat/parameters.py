"""Draws or estimates -> alpha, beta, gamma, delta and sigma as a reader knows them, labelled."""

from collections.abc import Mapping

import numpy as np
import xarray as xr

from bayescombat.empirical import Estimates
from bayescombat.errors import DataError, listing
from bayescombat.identification import estimable
from bayescombat.moments import Moments, as_moments
from bayescombat.study import Study

__all__ = ["HYPERPARAMETERS", "estimated", "identify"]

HYPERPARAMETERS = ("gamma_mean", "gamma_sd", "log_delta_mean", "log_delta_sd")
DIMS = {
    "alpha": ("feature",),
    "beta": ("feature", "covariate"),
    "gamma": ("batch", "feature"),
    "delta": ("batch", "feature"),
    "sigma": ("feature",),
    **dict.fromkeys(HYPERPARAMETERS, ("batch",)),
}
ATTRS = {
    "alpha": ("feature units", "mean at the average covariates"),
    "beta": ("feature units per unit of the covariate", "slope of the covariate"),
    "gamma": ("feature units", "shift of the batch"),
    "delta": ("1", "scale of the batch, relative to sigma"),
    "sigma": ("feature units", "residual standard deviation"),
    "gamma_mean": ("sigma", "mean of the batch's shifts over the features"),
    "gamma_sd": ("sigma", "standard deviation of the batch's shifts over the features"),
    "log_delta_mean": ("log sigma", "mean of the batch's log scales over the features"),
    "log_delta_sd": ("log sigma", "standard deviation of the batch's log scales over the features"),
}


def identify(draws: xr.Dataset, data: Study | Moments, seed: int | None = None) -> xr.Dataset:
    r"""Return draws of a `build_model` model under the constraint that bayescombat reports.

    Where the cell means were integrated out, they are drawn from their exact conditional distribution. Then, with
    weights :math:`w_i = n_i / N` (or all weight on the reference batch),

    .. math::
        \alpha_v \leftarrow \sum_i w_i m_{iv}, \qquad \sigma_v \leftarrow \sqrt{\sum_i w_i s_{iv}^2}

    where :math:`m_{iv} = \alpha_v + \gamma_{iv}` and :math:`s_{iv} = \sigma_v \delta_{iv}`, so that
    :math:`\sum_i w_i \gamma_{iv} = 0` and :math:`\sum_i w_i \delta_{iv}^2 = 1`. The hyper-parameters, whose
    means sum to zero over the batches in the model, are measured from the same origin and in the same unit as they
    hold for the expected feature. No harmonized value depends on it.

    Parameters
    ----------
    draws : xarray.Dataset
        The posterior group of any sampler, (chain, draw, ...), with ``alpha, beta, sigma, delta`` and the four
        hyper-parameters; ``gamma`` is used where it is there.
    data : Study or Moments
        What the model was built from.
    seed : int, optional
        For the draws of the cell means.

    Returns
    -------
    xarray.Dataset
        ``alpha, beta, gamma, delta, sigma`` in feature units and the hyper-parameters in units of sigma.

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
    moments = estimable(as_moments(data))
    optional = {"gamma"} if moments.covariates else {"gamma", "beta"}
    missing = [name for name in DIMS if name not in draws and name not in optional]
    if missing:
        raise DataError(
            f"Expected draws of a bayescombat model, found none of {listing(missing)}. "
            "Sample bayescombat.build_model(...) and keep its deterministic variables."
        )
    draws = _ordered(draws, moments)
    parts = []
    streams = np.random.SeedSequence(seed).spawn(draws.sizes["chain"])
    for chain, stream in enumerate(streams):
        raw = {name: draws[name].isel(chain=chain).values for name in DIMS if name in draws}
        raw.setdefault("beta", np.zeros((draws.sizes["draw"], len(moments.features), 0)))
        if "gamma" not in raw:
            raw["gamma"] = _conditional_shifts(raw, moments, np.random.default_rng(stream))
        parts.append(_constrained(raw, moments))
    stacked = {name: np.stack([part[name] for part in parts]) for name in DIMS}
    leading = {"chain": draws["chain"].values, "draw": draws["draw"].values}
    return _labelled(stacked, moments, leading)


def _ordered(draws: xr.Dataset, moments: Moments) -> xr.Dataset:
    """Return the draws with dims and labels in the order of the moments."""
    labels = {"feature": moments.features, "batch": moments.batches, "covariate": moments.covariates}
    wrong = [dim for dim, names in labels.items() if dim in draws.dims and set(draws[dim].values) != set(names)]
    if wrong:
        raise DataError(
            f"Expected draws of the model of these data, found other labels on {listing(wrong)}. "
            "Give the study or moments that the model was built from."
        )
    named = {dim: list(names) for dim, names in labels.items() if dim in draws.dims}
    return draws.sel(named).transpose("chain", "draw", "batch", "feature", "covariate", ..., missing_dims="ignore")


def estimated(estimates: Estimates, moments: Moments) -> xr.Dataset:
    """Return empirical-Bayes estimates, labelled; names and units as those of the draws.

    Shrunken estimates keep the published target. The constraint on gamma holds for the unshrunken ones; that on delta
    up to their divisors, n - 1 within batches and N overall.
    """
    values = {name: getattr(estimates, name) for name in ("alpha", "beta", "gamma", "delta", "sigma")}
    return _labelled(values | estimates.hyper, moments, {})


def _conditional_shifts(raw: Mapping[str, np.ndarray], moments: Moments, rng: np.random.Generator) -> np.ndarray:
    """Draw gamma (draw, batch, feature) given everything else."""
    sigma = raw["sigma"][:, None, :]
    offset = moments.mean_x - moments.center
    observed = moments.mean_y - raw["alpha"][:, None, :]
    for k in range(offset.shape[-1]):
        observed -= offset[..., k] * raw["beta"][:, None, :, k]
    noise = (sigma * raw["delta"]) ** 2 / moments.n
    prior_mean = sigma * raw["gamma_mean"][..., None]
    prior_variance = (sigma * raw["gamma_sd"][..., None]) ** 2
    share = prior_variance / (prior_variance + noise)
    mean = prior_mean + share * (observed - prior_mean)
    return np.asarray(mean + np.sqrt(share * noise) * rng.standard_normal(mean.shape))


def _constrained(raw: Mapping[str, np.ndarray], moments: Moments) -> dict[str, np.ndarray]:
    """Return the same cell means and scales, told apart by the constraint."""
    gamma, delta = raw["gamma"], raw["delta"]
    if moments.reference is None:
        weights = moments.n / moments.n.sum(axis=0)
        shift = (weights * gamma).sum(axis=1)
        scale = np.sqrt((weights * delta**2).sum(axis=1))
    else:
        reference = moments.batches.index(moments.reference)
        shift, scale = gamma[:, reference], delta[:, reference]
    return (
        dict(raw)
        | _constrained_population(raw, moments)
        | {
            "alpha": raw["alpha"] + shift,
            "gamma": gamma - shift[:, None],
            "sigma": raw["sigma"] * scale,
            "delta": delta / scale[:, None],
        }
    )


def _constrained_population(raw: Mapping[str, np.ndarray], moments: Moments) -> dict[str, np.ndarray]:
    """Return the hyper-parameters measured from what the constraint makes zero and one, for a feature as expected."""
    gamma_mean, log_delta_mean = raw["gamma_mean"], raw["log_delta_mean"]
    if moments.reference is None:
        weights = moments.n.sum(axis=1) / moments.n.sum()
        shift = gamma_mean @ weights
        log_scale = np.log(np.exp(2 * (log_delta_mean + raw["log_delta_sd"] ** 2)) @ weights) / 2
    else:
        reference = moments.batches.index(moments.reference)
        shift, log_scale = gamma_mean[:, reference], log_delta_mean[:, reference]
    unit = np.exp(log_scale)[:, None]
    return {
        "gamma_mean": (gamma_mean - shift[:, None]) / unit,
        "gamma_sd": raw["gamma_sd"] / unit,
        "log_delta_mean": log_delta_mean - log_scale[:, None],
    }


def _labelled(values: Mapping[str, np.ndarray], moments: Moments, leading: Mapping[str, np.ndarray]) -> xr.Dataset:
    coords = dict(leading) | {
        "feature": list(moments.features),
        "batch": list(moments.batches),
        "covariate": list(moments.covariates),
    }
    data = {}
    for name, array in values.items():
        units, long_name = ATTRS[name]
        data[name] = ((*leading, *DIMS[name]), array, {"units": units, "long_name": long_name})
    return xr.Dataset(data, coords)
