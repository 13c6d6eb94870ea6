"""What batches are drawn from: the priors and the posterior of it, and what a batch never seen is expected to be."""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import stats

from bayescombat.adoption import Population, from_prior
from bayescombat.batches import cell_label
from bayescombat.errors import BayesCombatError, DataError, listing
from bayescombat.estimation import priors_in
from bayescombat.fit import Fit
from bayescombat.fit.layout import stacked
from bayescombat.plots.canvas import COLOURS, INK, RAW, bare, legend_above, new_picture, ratios
from bayescombat.plots.choosing import check_fit
from bayescombat.priors import Priors
from bayescombat.vocabulary import DRAWN

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from bayescombat.plots.picture import Picture

__all__ = ["site_distribution"]

# What the scalars are that have these priors.
LABELS = {
    "gamma_mean": "spread of mean shifts\nover batches (σ)",
    "gamma_sd": "spread over the features\nof a typical batch (σ)",
    "gamma_sd_spread": "how that differs\nbetween batches (log)",
    "log_delta_mean": "spread of mean log scales\nover batches (log)",
    "log_delta_sd": "spread over the features\nof a typical batch (log)",
    "log_delta_sd_spread": "how that differs\nbetween batches (log)",
}
NEW_BATCH = "a batch never seen"
PRIOR_DRAWS, PLACES, BINS = 100_000, 200, 60
# Of the draws that a panel shows.
SHOWN_OF_POSTERIOR, SHOWN_OF_PRIOR = 0.99, 0.8


class NewBatch(NamedTuple):
    """Effects from those of a typical batch: shifts in units of its sigma, and log scales.

    Parameters
    ----------
    prior, posterior : ndarray
        Of a batch never seen, in any feature; drawn.
    fitted : ndarray, (batch,)
        Means of the fitted batches over the features.
    """

    prior: np.ndarray
    posterior: np.ndarray
    fitted: np.ndarray


def site_distribution(fit: Fit, *, batch_variable: str | None = None) -> "Picture":
    """Draw what is known of batches at large, before and after the data, and what a new one is expected to be.

    Above are shifts, below scales. On the left are the scalars that say how batches differ: between each other, over
    the features of a typical batch, and how much that differs in turn. On the right is a batch never seen, from a
    typical one: any of its features, as `harmonize` takes it by ``unseen="prior"``, and ticks where the fitted batches
    are on average over the features. Where features share factors the prior there is without the patterns that shifts
    follow, since these are learned from the data.

    Parameters
    ----------
    fit : Fit
        By NUTS.
    batch_variable : str, optional
        Needed if there are several.

    Returns
    -------
    matplotlib.figure.Figure
        With panels of prior and posterior, and a ``description`` in words, which says where a typical batch is. Scales
        that the priors hold at one have no panels.

    Raises
    ------
    BayesCombatError
        If the fit is by empirical Bayes, which knows no such distribution.
    DataError
        If there is no such batch variable, or one of several has to be named.
    ImportError
        If matplotlib is not installed.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> fit = bc.fit(study, chains=2, draws=800, seed=1, progress_bar=False)
    >>> len(bc.plots.site_distribution(fit).axes)
    8
    """
    check_fit(fit)
    variable = _variable(fit, batch_variable)
    k = fit.extensible.fitted.active.index(variable)
    priors = priors_in(fit.tree.attrs)
    shift, log_scale = _new_batch(fit, variable, k, priors)
    titles = ["Shifts"] if fit.mean_only else ["Shifts", "Scales"]
    picture = new_picture(10, 2.2 * len(titles) + 0.5)
    panels = picture.subplots(len(titles), 4, width_ratios=(1, 1, 1, 1.4), squeeze=False)
    for panel, (field, label) in zip(panels[:, :3].ravel(), LABELS.items(), strict=False):
        drawn = stacked(fit.parameters, DRAWN[field])[:, k]
        _scalar(panel, np.exp(drawn) if _logarithm(field) else drawn, _prior(priors, field), label)
    handles = _drawn(panels[0, 3], shift, "shift of a new batch in a feature,\nrelative to a typical one (σ)")
    if len(titles) > 1:
        _drawn(panels[1, 3], log_scale, "scale of a new batch in a feature,\nrelative to a typical one", of_ratios=True)
    for panel, title in zip(panels[:, 0], titles, strict=True):
        panel.set_title(title, loc="left", fontsize="medium", color=INK)
    legend_above(picture, handles)
    picture.description = _told(fit, variable, k, shift, log_scale)
    return picture


def _variable(fit: Fit, name: str | None) -> str:
    """Return the batch variable, checked."""
    if fit.method != "nuts":
        raise BayesCombatError(
            "Expected a fit by NUTS, found empirical-Bayes estimates, which know no distribution of batches. Use "
            "bayescombat.fit(study)."
        )
    known = fit.extensible.fitted.active
    if name is None and len(known) > 1:
        raise DataError(f"Expected the name of one of the batch variables {listing(known)}, found none. Name one.")
    if name is not None and name not in known:
        raise DataError(f"Expected a batch variable of several levels, one of {listing(known)}, found {name!r}.")
    return known[0] if name is None else name


def _prior(priors: Priors, field: str) -> stats.rv_continuous:
    """Return the log-normal distribution of which the priors have a median and a spread on the log scale."""
    return stats.lognorm(getattr(priors, f"{field}_log_sd"), scale=getattr(priors, f"{field}_median"))


def _logarithm(field: str) -> bool:
    return DRAWN[field].endswith("log_typical")


def _scalar(axes: "Axes", drawn: np.ndarray, prior: stats.rv_continuous, label: str) -> None:
    """Draw the density of a positive scalar, before and after."""
    high = max(float(np.quantile(drawn, SHOWN_OF_POSTERIOR)), float(prior.ppf(SHOWN_OF_PRIOR)))
    at = np.linspace(0, 1.05 * high, PLACES)[1:]
    axes.fill_between(at, prior.pdf(at), color=RAW, alpha=0.3, linewidth=0)
    # Of logarithms, so that nothing leaks below zero.
    axes.plot(at, stats.gaussian_kde(np.log(drawn))(np.log(at)) / at, color=COLOURS[0], linewidth=1.6)
    _density(axes, label)
    axes.set_xlim(0, at[-1])


def _density(axes: "Axes", label: str) -> None:
    bare(axes, "top", "right", "left")
    axes.set_yticks([])
    axes.set_ylim(bottom=0)
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(label, fontsize="small")


def _new_batch(fit: Fit, variable: str, k: int, priors: Priors) -> tuple[NewBatch, NewBatch]:
    """Return shifts and log scales of a batch never seen, and of those fitted."""
    extensible = fit.extensible
    levels = extensible.fitted
    cell = cell_label([NEW_BATCH if name == variable else levels.names[name][0] for name in levels.variables])
    extended = extensible.with_unseen([cell])
    parameters, labels = extended.parameters, [str(label) for label in extended.parameters["batch"].values]
    own = labels.index(extended.layout.levels.label(variable, NEW_BATCH))
    others = [labels.index(levels.label(variable, level)) for level in levels.names[variable]]
    typical, unit = (stacked(parameters, name) for name in ("gamma_typical", "delta_typical"))
    gamma, delta = (stacked(parameters, name) for name in ("gamma", "delta"))
    shifts = (gamma - typical[:, k, None]) / (stacked(parameters, "sigma") * unit.prod(axis=1))[:, None]
    log_scales = np.log(delta / unit[:, k, None])
    batch = from_prior(_prior_population(priors, len(others)), 1, np.random.default_rng(0))
    along = (batch.gamma, shifts), (batch.log_delta, log_scales)
    shift, log_scale = (
        NewBatch(before.ravel(), after[:, own].ravel(), after[:, others].mean(axis=(0, 2))) for before, after in along
    )
    return shift, log_scale


def _prior_population(priors: Priors, batches: int) -> Population:
    rng = np.random.default_rng(0)
    drawn = {field: _prior(priors, field).rvs(PRIOR_DRAWS, random_state=rng) for field in LABELS}
    parts = {DRAWN[field]: np.log(values) if _logarithm(field) else values for field, values in drawn.items()}
    return Population(**parts, batches=batches)


def _drawn(axes: "Axes", batch: NewBatch, label: str, of_ratios: bool = False) -> list["Artist"]:
    """Draw a new batch before and after, and the fitted ones as ticks."""
    reach = max(
        np.quantile(np.abs(batch.posterior), SHOWN_OF_POSTERIOR),
        np.quantile(np.abs(batch.prior), SHOWN_OF_PRIOR),
        1.05 * np.abs(batch.fitted).max(),
    )
    edges = np.linspace(-reach, reach, BINS + 1)
    at, width = (edges[1:] + edges[:-1]) / 2, edges[1] - edges[0]
    before, after = (np.histogram(part, edges)[0] / (len(part) * width) for part in (batch.prior, batch.posterior))
    at, fitted = (np.exp(at), np.exp(batch.fitted)) if of_ratios else (at, batch.fitted)
    handles = [
        axes.fill_between(at, before, color=RAW, alpha=0.3, linewidth=0, label="prior"),
        *axes.plot(at, after, color=COLOURS[0], linewidth=1.6, label="posterior"),
    ]
    _density(axes, label)
    high = axes.get_ylim()[1]
    ticks = axes.vlines(fitted, 0, 0.07 * high, color=INK, linewidth=1.4, zorder=4, label="fitted batches")
    if of_ratios:
        ratios(axes, -reach, reach)
    else:
        axes.set_xlim(-reach, reach)
    return [*handles, ticks]


def _told(fit: Fit, variable: str, k: int, shift: NewBatch, log_scale: NewBatch) -> str:
    """Say where a typical batch is, and how far from it nine in ten new ones are."""
    typical = float((stacked(fit.parameters, "gamma_typical")[:, k] / stacked(fit.parameters, "sigma")).mean())
    unit = float(np.exp(np.log(stacked(fit.parameters, "delta_typical")[:, k]).mean()))
    low, high = np.quantile(shift.posterior, (0.05, 0.95))
    least, most = np.exp(np.quantile(log_scale.posterior, (0.05, 0.95)))
    return (
        f"What the batches of {variable!r} are drawn from, before and after {len(shift.fitted)} were fitted. A typical "
        f"batch has a shift of {typical:.2f} sigma and a scale of {unit:.2f}. Of a batch never seen, nine in ten "
        f"shifts are expected between {low:.2f} and {high:.2f} sigma from there"
        f"{'' if fit.mean_only else f', and scales between {least:.2f} and {most:.2f} times that'}."
    )
