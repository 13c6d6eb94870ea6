"""Fit: a tree of parameters, and what can be done with it."""

import os
from functools import cached_property
from typing import Literal

import pandas as pd
import xarray as xr

from bayescombat.errors import BayesCombatError, DataError
from bayescombat.fit.harmonization import harmonized_dataset, harmonized_draws
from bayescombat.moments import Moments
from bayescombat.storage import write_tree
from bayescombat.study import Study

__all__ = ["Fit", "Method"]

Method = Literal["nuts", "eb"]


class Fit:
    """A fitted model: harmonized data, parameters, and what is needed to harmonize new rows.

    Parameters
    ----------
    tree : xarray.DataTree
        As `fit` makes it and `load` reads it. Group ``posterior`` holds the draws (chain, draw, ...) with
        ``sample_stats`` and ``diagnostics`` beside it; or ``empirical_bayes`` the estimates. ``moments`` holds what was
        learned from; ``observed_data`` and ``constant_data`` the rows, unless the fit has none.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> study = bc.Study.from_dataframe(
    ...     simulation.table, batch="site", covariates="age", features=simulation.features
    ... )
    >>> fit = bc.fit(study, method="eb")
    >>> fit
    Fit by empirical Bayes: 3 features, 3 batches, 35 scans
      Estimated: every fixed point stood still after at most ... passes.
    >>> fit.harmonize(simulation.table.head(2))["mean"].shape
    (2, 3)
    """

    def __init__(self, tree: xr.DataTree) -> None:
        self.tree = tree

    @property
    def method(self) -> Method:
        """Return "nuts" or "eb"."""
        method: Method = self.tree.attrs["method"]
        return method

    @property
    def verdict(self) -> str:
        """What the sampler's draws are worth, in words."""
        return str(self.tree.attrs["verdict"])

    @property
    def converged(self) -> bool:
        """Whether the verdict is good."""
        return bool(self.tree.attrs["converged"])

    @cached_property
    def moments(self) -> Moments:
        """What the fit learned from, features that were set aside included."""
        return Moments.from_dataset(self.tree["moments"].to_dataset())

    @property
    def parameters(self) -> xr.Dataset:
        """The draws (chain, draw, ...), or the empirical-Bayes estimates without those dims."""
        return self.tree["posterior" if self.method == "nuts" else "empirical_bayes"].to_dataset()

    @property
    def study(self) -> Study:
        """The rows that were fitted.

        Raises
        ------
        DataError
            If the fit holds none.
        """
        if "observed_data" not in self.tree:
            raise DataError(
                "Expected a fit that holds its rows, found one made of moments or saved without data. "
                "Give the rows: fit.harmonize(table)."
            )
        observed = self.tree["observed_data"].to_dataset()
        constant = self.tree["constant_data"].to_dataset()
        moments = self.moments
        return Study(
            observed["y"].values,
            constant["x"].values,
            constant["batch_index"].values,
            moments.batches,
            observed["obs"].to_index(),
            moments.spec,
            moments.reference,
        )

    @cached_property
    def harmonized(self) -> xr.Dataset:
        """The fitted rows, harmonized; see `harmonize`."""
        return harmonized_dataset(self.parameters, self.moments, self.study, None, 0.9)

    def harmonize(self, data: pd.DataFrame | Study, target: str | None = None, probability: float = 0.9) -> xr.Dataset:
        r"""Harmonize rows of known batches.

        .. math:: y^* = \alpha + x'\beta + \gamma_t + \frac{\delta_t}{\delta_i} (y - \alpha - x'\beta - \gamma_i)

        Parameters
        ----------
        data : pandas.DataFrame or Study
            Any rows of any of the fitted batches: a table with the columns that the study was made of (features that
            were set aside included), or a study of the same design. If the study came from arrays, the table's columns
            are ``batch`` and the names of features and covariates.
        target : str, optional
            The batch t to harmonize to, whose rows stay as they are. By default the study's reference batch, or the
            pooled average (:math:`\gamma_t = 0, \delta_t = 1`).
        probability : float
            Of the central interval from ``lower`` to ``upper``.

        Returns
        -------
        xarray.Dataset
            ``mean, sd, lower, upper`` (obs, feature), in feature units; ``mean`` alone for empirical Bayes. ``mean``
            and ``sd`` are exact over all draws; the bounds are quantiles of at most 1,000 of them. Features that were
            set aside come back as they were, with ``sd`` zero, and are marked by the coordinate ``set_aside``.

        Raises
        ------
        UnseenBatchError
            If rows or target are of a batch that the fit does not know.
        UnseenLevelError
            If rows have a level of a category that the fit does not know.
        DataError
            If columns are lacking or values cannot be used.

        Warns
        -----
        NegativeValueWarning
            If features that are positive in these rows become negative.
        ExtrapolationWarning
            If a covariate lies outside the range that a spline was learned on.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
        >>> fit = bc.fit(study, method="eb")
        >>> fit.harmonize(simulation.table.tail(4), target="site_01")["mean"].dims
        ('obs', 'feature')
        """
        return harmonized_dataset(self.parameters, self.moments, self._replayed(data), target, probability)

    def draws(self, n: int = 100, data: pd.DataFrame | Study | None = None, target: str | None = None) -> xr.DataArray:
        """Return plausible harmonized tables, one per posterior draw.

        Parameters
        ----------
        n : int
            How many, evenly spaced over the chains.
        data : pandas.DataFrame or Study, optional
            Rows of known batches; by default those that were fitted.
        target : str, optional
            As in `harmonize`.

        Returns
        -------
        xarray.DataArray
            (draw, obs, feature), in feature units.

        Raises
        ------
        BayesCombatError
            If the fit has fewer draws, or none since it is an empirical-Bayes estimate.

        Notes
        -----
        Given its batch, the features of a scan are modelled as independent. Where they are correlated, averages over
        features come out surer than they are; single features do not.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
        >>> fit = bc.fit(study, chains=2, draws=800, seed=1, progress_bar=False)
        >>> fit.draws(50).sizes
        Frozen({'draw': 50, 'obs': 35, 'feature': 3})
        """
        if self.method != "nuts":
            raise BayesCombatError(
                "Expected a fit by NUTS, found empirical-Bayes estimates, which have no draws. "
                "Use bayescombat.fit(study)."
            )
        study = self.study if data is None else self._replayed(data)
        return harmonized_draws(self.parameters, self.moments, study, target, n)

    def summary(self) -> pd.DataFrame:
        """Return a row for each batch: its scans, and the shifts and scales that were found.

        Returns
        -------
        pandas.DataFrame
            ``scans``; ``shift``, the mean over features of gamma in units of sigma; ``shift_rms``, its root mean
            square, to which the uncertainty of a small batch adds; ``scale``, the geometric mean over features of
            delta. For NUTS each has its posterior standard deviation beside it, ending in ``_sd``.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
        >>> list(bc.fit(study, method="eb").summary())
        ['scans', 'shift', 'shift_rms', 'scale']
        """
        parameters = self.parameters
        gamma = parameters["gamma"] / parameters["sigma"]
        found = {
            "shift": gamma.mean("feature"),
            "shift_rms": (gamma**2).mean("feature") ** 0.5,
            "scale": xr.ufuncs.exp(xr.ufuncs.log(parameters["delta"]).mean("feature")),
        }
        columns: dict[str, object] = {"scans": self.moments.scans}
        for name, values in found.items():
            over = [dim for dim in ("chain", "draw") if dim in values.dims]
            columns[name] = values.mean(over).values
            if over:
                columns[f"{name}_sd"] = values.std(over, ddof=1).values
        return pd.DataFrame(columns, index=pd.Index(self.moments.batches, name="batch"))

    def save(self, path: str | os.PathLike[str], data: bool = True) -> None:
        """Write the fit to one netCDF file, whole or not at all.

        Parameters
        ----------
        path : path-like
            An older file there is replaced once the new one is complete.
        data : bool
            Whether the file holds the fitted rows. Without them it holds parameters and moments, and harmonizes rows
            that it is given. Mind what moments tell: those of a site of one scan are that scan, those of a few scans
            come close to them.
        """
        tree = self.tree.copy()
        if not data:
            tree = tree.filter(lambda node: node.name not in ("observed_data", "constant_data"))
            tree.attrs = dict(self.tree.attrs)
        write_tree(tree, path, kind="fit")

    def __repr__(self) -> str:
        """Say what was fitted and what it is worth."""
        method = "NUTS" if self.method == "nuts" else "empirical Bayes"
        sizes, scans = self.parameters.sizes, self.moments.scans.sum()
        return (
            f"Fit by {method}: {sizes['feature']} features, {sizes['batch']} batches, {scans} scans\n  {self.verdict}"
        )

    def _replayed(self, data: pd.DataFrame | Study) -> Study:
        return Study.replay(data, self.moments.spec, self.moments.batches)
