"""What the model fails to say of the data: predictions of what was left out, and of what else might have been seen."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import xarray as xr

from bayescombat.adjust import MOST_DRAWS_FOR_QUANTILES, blocks, of_features
from bayescombat.columns import names_index
from bayescombat.errors import BayesCombatError, check_choice, check_probability
from bayescombat.fit import Fit
from bayescombat.fit.drawing import spaced_draws
from bayescombat.fit.harmonization import draws_of, levels_of
from bayescombat.fit.layout import stacked
from bayescombat.pointwise import STATISTICS, log_densities, replicated, statistics
from bayescombat.progress import bar
from bayescombat.study import Study

if TYPE_CHECKING:
    from arviz_stats import ELPDData

__all__ = ["LeftOut", "largest_good_k", "loo", "predictive_check"]

By = Literal["value", "scan", "feature"]


@dataclass(frozen=True, eq=False)
class LeftOut:
    """How well every value is predicted by all others.

    Parameters
    ----------
    dataset : xarray.Dataset
        ``elpd``, the expected logarithm of the value's predictive density, ``pareto_k``, how far that can be trusted,
        and ``p``, the effective number of parameters, (obs, feature), for features that were modelled; no number where
        a cell is missing. ``batch`` (obs).
    draws : int
        How many posterior draws they are from.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 15, 10), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> fit = bc.fit(study, chains=2, draws=500, seed=1, progress_bar=False)
    >>> bc.loo(fit, progress_bar=False).elpd(by="feature").n_data_points
    3
    """

    dataset: xr.Dataset
    draws: int

    @property
    def good_k(self) -> float:
        """The largest ``pareto_k`` at which ``elpd`` can be trusted with so many draws."""
        return largest_good_k(self.draws)

    def elpd(self, by: By = "scan") -> "ELPDData":
        """Return what ArviZ compares models by: ``az.compare({"one": one.elpd(), "other": other.elpd()})``.

        Parameters
        ----------
        by : {"scan", "feature", "value"}
            What is taken for one observation. The features of a scan are correlated, so that standard errors are
            honest by scan; ``"feature"`` shows which features a model suits.

        Returns
        -------
        arviz_stats.ELPDData
            With the sums over an observation's values, and the worst ``pareto_k`` of these.
        """
        from arviz_stats import ELPDDataLOO

        check_choice("by", by, get_args(By))
        data = self.dataset.stack(value=("obs", "feature")).reset_index("value").dropna("value", subset=["elpd"])
        if by != "value":
            over = "feature" if by == "scan" else "obs"
            found = self.dataset
            sums = {name: found[name].sum(over, min_count=1) for name in ("elpd", "p")}
            data = xr.Dataset(sums | {"pareto_k": found["pareto_k"].max(over)}).dropna("obs" if by == "scan" else by)
        each, worst = data["elpd"], data["pareto_k"]
        return ELPDDataLOO(
            elpd=float(each.sum()),
            se=float((each.size * each.var(ddof=1)) ** 0.5),
            p=float(data["p"].sum()),
            n_samples=self.draws,
            n_data_points=each.size,
            scale="log",
            warning=bool((worst > self.good_k).any()),
            good_k=self.good_k,
            elpd_i=each,
            pareto_k=worst,
        )

    def __repr__(self) -> str:
        """Say how much was left out, and of how much of it the figures can be trusted."""
        data, values = self.dataset, int(self.dataset["elpd"].count())
        said = f"{values} values, each predicted by all others: elpd {float(data['elpd'].sum()):.1f}"
        bad = (data["pareto_k"] > self.good_k).where(data["pareto_k"].notnull()).groupby("batch").mean(...)
        if not bad.any():
            return f"{said}\n  Every Pareto k is at most {self.good_k:.2f}: all of it can be trusted."
        worst = bad.to_series().sort_values(ascending=False).head(3)
        some = ", ".join(f"{100 * share:.1f} % in {name!r}" for name, share in worst.items() if share)
        return f"{said}\n  Not to be trusted, Pareto k above {self.good_k:.2f}: {some}"


def largest_good_k(draws: int) -> float:
    """Return the Pareto k up to which importance sampling from so many draws can be trusted."""
    return float(min(1 - 1 / np.log10(draws), 0.7))


def loo(fit: Fit, *, progress_bar: bool = True) -> LeftOut:
    """Say how well every value is predicted by all others.

    The density of a value given all others is estimated from draws given all of them, by importance sampling with
    smoothed weights, a block of features at a time. Where a value has much say in its own batch, as in one of few
    scans, that fails, and ``pareto_k`` tells.

    Parameters
    ----------
    fit : Fit
        By NUTS, with its rows.
    progress_bar : bool
        Whether to show one.

    Returns
    -------
    LeftOut
        ``elpd``, ``pareto_k`` and ``p`` of every value, and sums for ``az.compare``.

    Raises
    ------
    BayesCombatError
        If the fit has no draws; if scans of subjects are repeated or hidden factors removed, since then values are not
        independent given the parameters.
    DataError
        If the fit was saved without its rows.

    Notes
    -----
    Pareto-smoothed importance sampling by ArviZ: Vehtari, Gelman and Gabry (2017), doi:10.1007/s11222-016-9696-4. At
    most 1,000 evenly spaced draws are used. With ``transform="log"`` densities are those of the values themselves, so
    that models of values and of their logarithms can be compared. Shared factors have no say in the density of a single
    value.

    Examples
    --------
    >>> import arviz as az
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 15, 10), features=3)
    >>> roles = {"batch": "site", "features": simulation.features}
    >>> studies = {
    ...     "age": bc.Study.from_dataframe(simulation.table, covariates="age", **roles),
    ...     "none": bc.Study.from_dataframe(simulation.table, **roles),
    ... }
    >>> fits = {name: bc.fit(study, chains=2, draws=500, seed=1, progress_bar=False) for name, study in studies.items()}
    >>> left = {name: bc.loo(fit, progress_bar=False).elpd() for name, fit in fits.items()}
    >>> list(az.compare(left).index)
    ['age', 'none']
    """
    from arviz_stats.base.array import array_stats

    left_out: Any = array_stats.loo
    _check(fit)
    study, layout = fit.study, fit.layout
    if study.subjects is not None:
        raise BayesCombatError(
            "Expected scans that are independent given their batch, found a fit with subjects, whose scans predict "
            "each other. Use predictive_check."
        )
    parameters = fit.parameters
    total = parameters.sizes["chain"] * parameters.sizes["draw"]
    every = spaced_draws(parameters, min(MOST_DRAWS_FOR_QUANTILES, total))
    draws, nu = draws_of(parameters, layout, None, every, None), _tails(parameters, every)
    levels, y = levels_of(layout, study), study.transformed[:, layout.modelled]
    ess = fit.tree["diagnostics/ess_bulk"].to_dataset()
    fresh = float(np.mean([np.nanmean(values) for values in ess.data_vars.values()]))
    found = np.full((3, *y.shape), np.nan)
    parts = blocks(y.shape[1], 4 * len(every) * len(y))
    with bar("Left out", len(parts), shown=progress_bar) as advance:
        for block in parts:
            part = np.moveaxis(log_densities(of_features(draws, block), y[:, block], study.x, levels, nu), 0, -1)
            seen = np.isfinite(y[:, block])
            figures = left_out(part[seen][:, None], r_eff=min(fresh / len(every), 1.0))
            for whole, values in zip(found[..., block], figures, strict=True):
                whole[seen] = values
            advance()
    coords = {
        "obs": np.asarray(study.obs),
        "feature": names_index(layout.features),
        "batch": ("obs", np.array(study.batches, dtype=object)[study.codes]),
    }
    names = ("elpd", "pareto_k", "p")
    data = {name: (("obs", "feature"), values) for name, values in zip(names, found, strict=True)}
    return LeftOut(xr.Dataset(data, coords), len(every))


def predictive_check(fit: Fit, n: int = 500, probability: float = 0.9, *, progress_bar: bool = True) -> xr.Dataset:
    """Compare the values of every batch with what the fitted model says they might have been.

    For each of n draws a table is drawn with the same scans, covariates and missing cells. What the model does not
    know, such as heavy tails, shows as values beyond what replicated tables have.

    Parameters
    ----------
    fit : Fit
        By NUTS, with its rows.
    n : int
        How many draws, evenly spaced over the chains.
    probability : float
        Of the central interval from ``lower`` to ``upper``.
    progress_bar : bool
        Whether to show one.

    Returns
    -------
    xarray.Dataset
        ``observed``, ``lower`` and ``upper`` of the replicated ones, and ``p``, the share of these that are above what
        was observed (half of those that equal it), (statistic, batch, feature), for the statistics ``mean, sd, lowest,
        highest`` of a batch's values, in feature units. No number where a batch has no value, or one and the statistic
        needs two. With several batch variables a batch is a combination of levels.

    Raises
    ------
    BayesCombatError
        If the fit has no draws or too few, or hidden factors are removed.
    DataError
        If the fit was saved without its rows.

    Notes
    -----
    Posterior predictive p-values (Gelman, Meng and Stern 1996, Statistica Sinica 6, 733) are drawn to one half where
    the statistic is one that the model fits, as means and standard deviations are: extremes say more. Subjects are
    replicated as new ones. By the fit's seed the result is the same every time.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 15, 10), features=3)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> fit = bc.fit(study, chains=2, draws=500, seed=1, progress_bar=False)
    >>> found = bc.predictive_check(fit, progress_bar=False)
    >>> found["p"].sizes
    Frozen({'statistic': 4, 'batch': 3, 'feature': 3})
    """
    _check(fit)
    check_probability(probability)
    study, layout, parameters = fit.study, fit.layout, fit.parameters
    every = spaced_draws(parameters, n)
    draws = draws_of(parameters, layout, None, every, None)
    levels, y = levels_of(layout, study), study.y[:, layout.modelled]
    nu, count = _tails(parameters, every), len(study.batches)
    subject_sd = stacked(parameters, "subject_sd")[every] if study.subjects is not None else None
    tails = [(1 - probability) / 2, (1 + probability) / 2]
    observed = statistics(y, study.codes, count)
    lower, upper, p = (np.full(observed.shape, np.nan) for _ in range(3))
    parts = blocks(y.shape[1], 8 * len(every) * len(y))
    with bar("Replicated", len(parts), shown=progress_bar) as advance:
        for block in parts:
            rng = np.random.default_rng([fit.settings["seed"], block.start])
            some, seen = of_features(draws, block), np.isfinite(y[:, block])
            intercepts = 0.0 if subject_sd is None else _new_intercepts(study, subject_sd[:, block], rng)
            tables = replicated(some, seen, study.x, levels, rng, intercepts, nu)
            drawn, mine = statistics(tables, study.codes, count), observed[..., block]
            lower[..., block], upper[..., block] = np.quantile(drawn, tails, axis=1)
            share = (drawn > mine[:, None]).mean(axis=1) + (drawn == mine[:, None]).mean(axis=1) / 2
            p[..., block] = np.where(np.isfinite(mine), share, np.nan)
            advance()
    dims, units = ("statistic", "batch", "feature"), {"units": "feature units"}
    coords = {"statistic": list(STATISTICS), "batch": list(study.batches), "feature": names_index(layout.features)}
    data = {"observed": (dims, observed, units), "lower": (dims, lower, units), "upper": (dims, upper, units)}
    return xr.Dataset(data | {"p": (dims, p)}, coords, {"draws": n, "probability": probability})


def _check(fit: Fit) -> None:
    if fit.method != "nuts":
        raise BayesCombatError(
            "Expected a fit by NUTS, found empirical-Bayes estimates, which predict nothing by themselves. Use "
            "bayescombat.fit(study)."
        )
    if fit.hidden is not None:
        raise BayesCombatError(
            "Expected a fit whose parameters describe the values, found one with hidden factors removed, which "
            "describes them without these. Fit with factors=0."
        )


def _new_intercepts(study: Study, sd: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return what scans have of subjects that were never seen, one for each that was: (draw, obs, feature)."""
    assert study.subjects is not None
    names, member = np.unique(study.subjects.astype(str), return_inverse=True)
    return np.asarray((sd[:, None] * rng.standard_normal((len(sd), len(names), sd.shape[1])))[:, member])


def _tails(parameters: xr.Dataset, every: np.ndarray) -> np.ndarray | None:
    return stacked(parameters, "nu")[every] if "nu" in parameters else None
