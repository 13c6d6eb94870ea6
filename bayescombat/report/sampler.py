"""What the estimation did: the sampler's figures, or how the estimates were found."""

import numpy as np
import xarray as xr

from bayescombat.report.held import Held
from bayescombat.report.pieces import Fact, Table, counted, number, percent
from bayescombat.verdict import (
    LARGEST_RHAT,
    LARGEST_SHARE_DIVERGENT,
    LARGEST_SHARE_TOO_DEEP,
    SMALLEST_BFMI,
    SMALLEST_ESS_PER_CHAIN,
    bfmi,
)
from bayescombat.vocabulary import ATTRS

__all__ = ["facts", "not_said", "of_parameters", "reading", "whole", "worst"]

# What stands still by definition, or by its priors, has no figures.
GROUPS = ("rhat", "ess_bulk", "ess_tail")


def facts(held: Held) -> list[Fact]:
    """Return what the sampler did; of estimates how they were found."""
    if not held.nuts:
        return [Fact("Estimates", held.fit.verdict)]
    stats, settings = held.fit.tree["sample_stats"].to_dataset(), held.fit.settings
    chains, draws = stats.sizes["chain"], stats.sizes["draw"]
    divergent, each = int(stats["diverging"].sum()), bfmi(stats)
    fewest = SMALLEST_ESS_PER_CHAIN * chains
    return [
        Fact("Draws", f"{counted(chains, 'chain')} of {draws:,}, after {settings['tune']:,} steps of warm-up each"),
        Fact("Largest R-hat", f"{number(worst(held)['rhat'], 3)} (at most {LARGEST_RHAT} is wanted)"),
        Fact("Smallest bulk effective sample size", _wanted(worst(held)["ess_bulk"], fewest)),
        Fact("Smallest tail effective sample size", _wanted(worst(held)["ess_tail"], fewest)),
        Fact("Divergences", f"{divergent:,} of {chains * draws:,} draws (at most {LARGEST_SHARE_DIVERGENT:.1%})"),
        Fact(
            "E-BFMI", f"{', '.join(number(value) for value in each)} by chain (at least {SMALLEST_BFMI:.1f} is wanted)"
        ),
        Fact(
            "Largest tree depth",
            f"reached by {percent(float(stats['reached_max_treedepth'].mean()))} of the draws "
            f"(at most {LARGEST_SHARE_TOO_DEEP:.0%})",
        ),
        Fact("Acceptance", f"{number(float(stats['mean_tree_accept'].mean()))}, tuned to {settings['target_accept']}"),
    ]


def reading(held: Held) -> str:
    """Say what the figures mean."""
    if held.nuts:
        return (
            "R-hat compares chains, and is one where they agree. An effective sample size is how many independent "
            "draws would tell as much. Divergences and a small E-BFMI say that parts of the posterior were missed."
        )
    return (
        "Empirical Bayes is closed form, or a fixed point of it: nothing is sampled, so that there is nothing to "
        "converge but that fixed point, and no R-hat."
    )


def not_said(held: Held) -> str:
    """Say what estimates do not tell; nothing of draws."""
    if held.nuts:
        return ""
    if held.sure:
        return (
            "Standard deviations, intervals and draws of harmonized values are conditional on the hyper-parameters, "
            "alpha, beta and sigma, which are taken for known. With few features or few batches they are too narrow."
        )
    return (
        "Nothing is said of how sure the estimates are: a batch of three scans is corrected by one number, as one of "
        'three hundred is. method="eb" with uncertainty=True, or method="nuts", says it.'
    )


def of_parameters(held: Held) -> Table | None:
    """Return the worst figures of every kind of parameter; None of estimates."""
    if not held.nuts:
        return None
    parts = _diagnostics(held)
    rows = []
    for name in map(str, parts["rhat"].data_vars):
        figures = [_extreme(parts[group][name].values, largest=group == "rhat") for group in GROUPS]
        size, meaning = f"{parts['rhat'][name].size:,}", ATTRS.get(name, ("", ""))[1]
        rows.append([name, meaning, size, number(figures[0], 3), *(whole(value) for value in figures[1:])])
    headings = ["Parameter", "Meaning", "Number", "Largest R\u2011hat", "Least bulk ESS", "Least tail ESS"]
    return Table("Convergence of every kind of parameter", headings, rows, words=(1,))


def worst(held: Held) -> dict[str, float]:
    """Return the largest R-hat and the smallest effective sample sizes of all parameters that are judged."""
    found = {}
    for group, data in _diagnostics(held).items():
        # Scales that are held at one by their priors are not judged.
        judged = [
            data[name].values.ravel()
            for name in data
            if not (held.fit.mean_only and str(name).startswith(("delta", "log_delta")))
        ]
        found[group] = _extreme(np.concatenate(judged), largest=group == "rhat")
    return found


def _diagnostics(held: Held) -> dict[str, xr.Dataset]:
    return {group: held.fit.tree[f"diagnostics/{group}"].to_dataset() for group in GROUPS}


def _extreme(values: np.ndarray, largest: bool) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.max() if largest else finite.min()) if finite.size else float("nan")


def whole(value: float) -> str:
    """Return a number without decimals; a dash where there is none."""
    return f"{value:,.0f}" if np.isfinite(value) else "–"


def _wanted(value: float, fewest: int) -> str:
    return f"{whole(value)} (at least {fewest:,} is wanted)"
