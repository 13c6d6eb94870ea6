"""How far what a fit says hangs on its priors: other priors by weights on its draws."""

from numbers import Real
from typing import Any

import numpy as np
import xarray as xr

from bayescombat.adjust import blocks
from bayescombat.criticism import largest_good_k
from bayescombat.errors import BayesCombatError
from bayescombat.estimation import priors_in
from bayescombat.fit import Fit
from bayescombat.fit.layout import stacked
from bayescombat.priors import Priors
from bayescombat.vocabulary import DIMS, DRAWN

__all__ = ["prior_sensitivity"]


def prior_sensitivity(fit: Fit, factor: float = 2.0) -> xr.Dataset:
    """Say how far the posterior moves if a prior expects more or less.

    With few batches the data say little of how batches differ, and the priors much. For each of these the draws are
    weighted to be those of a fit whose prior has its median times, or divided by, a factor; nothing is fitted again.

    Parameters
    ----------
    fit : Fit
        By NUTS.
    factor : float
        By how much the medians are multiplied and divided; more than one.

    Returns
    -------
    xarray.Dataset
        By ``prior``, a field of `Priors` that ends in ``_median``, and ``median``, what it is multiplied by.
        ``gamma, delta`` (batch) and ``beta`` (covariate): how far the posterior mean moves, root mean square over the
        features, in posterior standard deviations; ``gamma_sd, delta_sd, beta_sd``: the new standard deviation over the
        old one, geometric mean over the features. ``pareto_k``: above ``attrs["good_k"]`` the weights rest on few draws
        and the figures beside it are not to be trusted; fit with such priors instead.

    Raises
    ------
    BayesCombatError
        If the fit has no draws, or the factor is not above one.

    Notes
    -----
    Only what batches and smooths are drawn from, and ``nu`` of a robust fit, is looked at. Priors of single features
    are wide, and the data say all of them; that of subjects' intercepts is not looked at. Weighting follows Kallioinen
    et al. (2024), doi:10.1007/s11222-023-10366-5, who raise priors to powers; Pareto smoothing is that of Vehtari et
    al. (2024), arXiv:1507.02646.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> fit = bc.fit(study, chains=2, draws=500, seed=1, progress_bar=False)
    >>> moved = bc.prior_sensitivity(fit)["gamma"]
    >>> moved.dims
    ('prior', 'median', 'batch')
    """
    if not isinstance(fit, Fit) or fit.method != "nuts":
        raise BayesCombatError(
            f"Expected a fit by NUTS, found {'estimates by empirical Bayes' if isinstance(fit, Fit) else repr(fit)}. "
            "Make one with bayescombat.fit(study)."
        )
    if not isinstance(factor, Real) or not 1 < factor < np.inf:
        raise BayesCombatError(f"Expected factor above one, found {factor!r}. Leave it out for two.")
    parameters, changes = fit.parameters, np.array([1 / factor, factor])
    ratios = _log_ratios(parameters, priors_in(fit.tree.attrs), fit.mean_only, np.log(changes))
    weights, worst = _smoothed(np.concatenate(list(ratios.values())))
    coords = {"prior": [f"{name}_median" for name in ratios], "median": changes}
    coords |= {str(name): parameters[name] for name in ("batch", "covariate")}
    shape, found = (len(ratios), len(changes)), {}
    for name in ("gamma", "beta") if fit.mean_only else ("gamma", "delta", "beta"):
        values = stacked(parameters, name)
        if values.size:
            over = [dim for dim in DIMS[name] if dim != "feature"]
            moved, ratio = _moved(np.moveaxis(values, DIMS[name].index("feature") + 1, -1), weights)
            found[name] = (("prior", "median", *over), moved.reshape(*shape, -1), {"units": "posterior sd"})
            found[f"{name}_sd"] = (("prior", "median", *over), ratio.reshape(*shape, -1), {"units": "1"})
    found["pareto_k"] = (("prior", "median"), worst.reshape(shape), {"units": "1"})
    return xr.Dataset(found, coords, {"good_k": largest_good_k(weights.shape[1])})


def _log_ratios(parameters: xr.Dataset, priors: Priors, still: bool, moves: np.ndarray) -> dict[str, np.ndarray]:
    """Return by prior its logarithm with the median moved, less that as it is, (move, draw); not of held scales."""
    found = {}
    for name, variable in DRAWN.items():
        if variable not in parameters or (still and name.startswith("log_delta")):
            continue
        values = stacked(parameters, variable)
        values = values.reshape(len(values), -1)
        log_median, log_sd = np.log(getattr(priors, f"{name}_median")), getattr(priors, f"{name}_log_sd")
        away = (values if variable.endswith("log_typical") else np.log(values)) - log_median
        found[name] = ((2 * away - moves[:, None, None]) * moves[:, None, None]).sum(axis=-1) / (2 * log_sd**2)
    return found


def _smoothed(ratios: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return smoothed weights that sum to one, (change, draw), and how heavy the tail of the raw ones is, (change,)."""
    from arviz_stats.base.array import array_stats

    smooth: Any = array_stats.psislw
    log_weights, worst = smooth(-ratios)
    return np.exp(log_weights), np.asarray(worst)


def _moved(values: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return how far means of values (draw, place, feature) move by weights (change, draw), and the ratio of their sd.

    Both (change, place): of the first the root mean square, of the second the geometric mean over the features; what
    is the same in every draw does not move.
    """
    moved, ratio = (np.zeros((len(weights), values.shape[1])) for _ in range(2))
    for block in blocks(values.shape[-1], values[..., 0].size):
        part = values[..., block] - values[..., block].mean(axis=0)
        variance = (part**2).mean(axis=0)
        moves = variance > 0
        safe = np.where(moves, variance, 1.0)
        mean = np.tensordot(weights, part, axes=1)
        other = np.tensordot(weights, part**2, axes=1) - mean**2
        moved += np.where(moves, mean**2 / safe, 0.0).sum(axis=-1)
        ratio += np.log(np.where(moves, other / safe, 1.0)).sum(axis=-1) / 2
    return np.sqrt(moved / values.shape[-1]), np.exp(ratio / values.shape[-1])
