"""Did the sampler do its work? Figures per parameter, and one verdict in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from bayescombat.convergence import convergence
from bayescombat.errors import listing

__all__ = ["Verdict", "bfmi", "verdict_of"]

# The largest R-hat of thousands of parameters exceeds the usual 1.01 by chance alone.
LARGEST_RHAT = 1.02
SMALLEST_ESS_PER_CHAIN = 100
LARGEST_SHARE_DIVERGENT = 1 / 1000
SMALLEST_BFMI = 0.3
LARGEST_SHARE_TOO_DEEP = 0.05
# What a reference batch has at zero or one in every draw.
STILL = ("gamma", "delta", "gamma_mean", "log_delta_mean")
OF_SCALES = ("delta", "log_delta")
ADVICE = (
    "Sample longer (draws, tune) where figures just miss, raise target_accept where nothing but divergences is wrong. "
    "Where that does not mend it the table is at fault: bayescombat.diagnose says what is odd about scans and features."
)
# Scales of batches that differ so many times are no scales of noise: values far out, or of another order of magnitude.
UNLIKE = 10.0


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the sampler's draws are worth.

    Parameters
    ----------
    converged : bool
        Whether the draws may be used as they stand.
    words : str
        One sentence or two, in words and figures.
    rhat, ess_bulk, ess_tail : xarray.Dataset
        Per parameter.
    """

    converged: bool
    words: str
    rhat: xr.Dataset
    ess_bulk: xr.Dataset
    ess_tail: xr.Dataset


def verdict_of(
    posterior: xr.Dataset, stats: xr.Dataset, asked: int, reference: Sequence[str] = (), held: bool = False
) -> Verdict:
    """Judge the draws by R-hat, effective sample sizes, divergences, E-BFMI and tree depth.

    Parameters
    ----------
    posterior : xarray.Dataset
        Parameters, (chain, draw, ...).
    stats : xarray.Dataset
        Sampler statistics, (chain, draw).
    asked : int
        Draws that were asked for, of all chains together.
    reference : sequence of str
        The reference batch, or one level of each batch variable, whose gamma and delta never move.
    held : bool
        Whether scales are held at one by their priors: what they differ by is not judged.

    Notes
    -----
    Rank-normalised R-hat and effective sample sizes are those of Vehtari et al. (2021), doi:10.1214/20-BA1221; E-BFMI
    is that of Betancourt (2016), arXiv:1604.00695.
    """
    chains = stats.sizes["chain"]
    draws = chains * stats.sizes["draw"]
    known = posterior[[name for name in posterior.data_vars if posterior[name].size]]
    rhat, bulk, tail = _figures_of_parameters(known)
    judged = [name for name in known if not (held and str(name).startswith(OF_SCALES))]
    judged_rhat, judged_bulk, judged_tail = (part[judged] for part in (rhat, bulk, tail))
    found = _not_finite(known)
    if draws < asked:
        found.append(f"sampling was interrupted after {draws} of {asked} draws")
    if chains < 2:
        found.append("one chain cannot show whether it converged; use four")
    else:
        found += _worst("R-hat", judged_rhat, LARGEST_RHAT, True, reference)
    fewest = SMALLEST_ESS_PER_CHAIN * chains
    found += _worst("bulk effective sample size", judged_bulk, fewest, False, reference)
    found += _worst("tail effective sample size", judged_tail, fewest, False, reference)
    found += _of_the_sampler(stats)
    figures = _figures(judged_rhat, judged_bulk, judged_tail, stats)
    if found:
        unlike = "" if held else _of_unlike_scales(known)
        words = f"Not to be trusted as it stands: {'; '.join(found)}. {unlike}{ADVICE} ({figures})"
    else:
        words = f"Converged: {figures}."
    return Verdict(not found, words, rhat, bulk, tail)


def _figures_of_parameters(posterior: xr.Dataset) -> list[xr.Dataset]:
    """Return R-hat, bulk and tail effective sample sizes, shaped like the parameters."""
    arrays = {str(name): array.transpose("chain", "draw", ...) for name, array in posterior.data_vars.items()}
    flat = [array.values.reshape(*array.shape[:2], -1) for array in arrays.values()]
    found = [convergence(values) for values in flat]
    return [
        xr.Dataset(
            {
                name: (array.dims[2:], values[kind].reshape(array.shape[2:]))
                for (name, array), values in zip(arrays.items(), found, strict=True)
            },
            {name: coord for name, coord in posterior.coords.items() if name not in ("chain", "draw")},
        )
        for kind in range(3)
    ]


def _not_finite(posterior: xr.Dataset) -> list[str]:
    broken = [str(name) for name, array in posterior.data_vars.items() if not np.isfinite(array.values).all()]
    return [f"draws of {listing(broken)} are not finite"] if broken else []


def _of_unlike_scales(posterior: xr.Dataset) -> str:
    """Return which features have scales that differ too much between batches, and what to do; nothing if none have."""
    if "delta" not in posterior:
        return ""
    scale = posterior["delta"].median(("chain", "draw")).transpose("feature", ...)
    values = scale.values.reshape(scale.sizes["feature"], -1)
    ratio = values.max(axis=1) / values.min(axis=1)
    order = np.argsort(-ratio, kind="stable")
    names = [f"{scale['feature'].values[v]} ({ratio[v]:.0f} times)" for v in order if ratio[v] > UNLIKE]
    if not names:
        return ""
    return (
        f"Scales of batches differ more than {UNLIKE:.0f} times in {listing(names, 20)}: look for values far out in "
        "these features first; harmonize those that are positive in a study of their own with transform='log', and "
        "leave the others out. "
    )


def _of_the_sampler(stats: xr.Dataset) -> list[str]:
    found = []
    divergent = int(stats["diverging"].sum())
    if divergent > LARGEST_SHARE_DIVERGENT * stats["diverging"].size:
        found.append(f"{divergent} of {stats['diverging'].size} draws diverged")
    too_deep = float(stats["reached_max_treedepth"].mean())
    if too_deep > LARGEST_SHARE_TOO_DEEP:
        found.append(f"{too_deep:.0%} of the draws reached the largest tree depth")
    each = bfmi(stats)
    if each.min() < SMALLEST_BFMI:
        found.append(f"E-BFMI is {each.min():.2f} in chain {int(each.argmin())} (at least {SMALLEST_BFMI} is wanted)")
    return found


def bfmi(stats: xr.Dataset) -> np.ndarray:
    """Return the energy Bayesian fraction of missing information of every chain, (chain,)."""
    energy = stats["energy"].values
    return np.asarray((np.diff(energy, axis=1) ** 2).mean(axis=1) / energy.var(axis=1))


def _worst(name: str, values: xr.Dataset, limit: float, above: bool, reference: Sequence[str]) -> list[str]:
    """Return a sentence that names the parameters beyond the limit, the worst first; or nothing.

    A figure that is no number is beyond any limit, except where the reference batch stands still by definition.
    """
    beyond = []
    for variable, array in values.data_vars.items():
        if variable in STILL and reference:
            array = array.drop_sel(batch=list(reference))
        flat = np.nan_to_num(array.values.ravel(), nan=np.inf if above else 0.0)
        for index in np.flatnonzero(flat > limit if above else flat < limit):
            position = np.unravel_index(index, array.shape)
            place = [str(array[dim].values[i]) for dim, i in zip(array.dims, position, strict=True)]
            beyond.append((flat[index], f"{variable}[{', '.join(place)}]" if place else str(variable)))
    if not beyond:
        return []
    beyond.sort(key=lambda item: item[0], reverse=above)
    relation = f"above {limit}" if above else f"below {limit}"
    return [f"{name} {relation} for {listing([label for _, label in beyond])} (worst {beyond[0][0]:.4g})"]


def _figures(rhat: xr.Dataset, bulk: xr.Dataset, tail: xr.Dataset, stats: xr.Dataset) -> str:
    def flat(values: xr.Dataset) -> np.ndarray:
        all_of_them = np.concatenate([array.values.ravel() for array in values.data_vars.values()])
        return all_of_them[np.isfinite(all_of_them)]

    parts = []
    if flat(rhat).size:
        parts.append(f"R-hat at most {flat(rhat).max():.3f}")
    parts += [
        f"{name} ESS at least {flat(values).min():.0f}"
        for name, values in (("bulk", bulk), ("tail", tail))
        if flat(values).size
    ]
    parts.append(f"{int(stats['diverging'].sum())} divergences")
    parts.append(f"E-BFMI at least {bfmi(stats).min():.2f}")
    return ", ".join(parts)
