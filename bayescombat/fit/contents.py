"""Contents: a tree of parameters, read."""

import json
import os
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.batches import Levels
from bayescombat.errors import DataError
from bayescombat.estimation import priors_in
from bayescombat.fit.effects import batch_effects, effect_dataset, fitted_moments, places
from bayescombat.fit.extension import Extension
from bayescombat.fit.joining import Asked, Joining
from bayescombat.fit.layout import Layout
from bayescombat.fit.trees import study_of
from bayescombat.hidden import HiddenFactors
from bayescombat.moments import Moments
from bayescombat.storage import write_tree
from bayescombat.study import Study

__all__ = ["Contents", "Method"]

Method = Literal["nuts", "eb"]


class Contents:
    """What a fit holds; `Fit` adds what can be done with it."""

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
    def layout(self) -> Layout:
        """How rows meet the parameters: design, levels of the batch variables, reference, average covariates."""
        return Layout.from_dataset(self.tree["layout"].to_dataset())

    @cached_property
    def moments(self) -> Moments:
        """What the fit learned from, features that were set aside included.

        Raises
        ------
        DataError
            If the fit was saved without.
        """
        if "moments" not in self.tree:
            raise DataError(
                "Expected a fit that holds its moments, found one saved without. It harmonizes rows; to update it or "
                "to adopt a batch, use the file that the moments were kept in."
            )
        return Moments.from_dataset(self.tree["moments"].to_dataset())

    @property
    def parameters(self) -> xr.Dataset:
        """The draws (chain, draw, ...), or the empirical-Bayes estimates without those dims."""
        return self.tree["posterior" if self.method == "nuts" else "empirical_bayes"].to_dataset()

    @property
    def loadings(self) -> np.ndarray:
        """Loadings of the modelled features on the factors that their noise shares, (feature, factor)."""
        return self._factors("loadings")

    @property
    def patterns(self) -> np.ndarray:
        """Loadings of a new batch's shifts on the patterns of batches, in units of gamma_sd, (feature, pattern).

        Those of several batch variables stand side by side; ``tree["factors"]`` names the variable of each.
        """
        return self._factors("patterns")

    def _factors(self, name: str) -> np.ndarray:
        if "factors" not in self.tree:
            return np.zeros((len(self.layout.features), 0))
        return np.asarray(self.tree["factors"][name].values)

    @property
    def asked(self) -> Asked:
        """What was asked to be done to residuals across features."""
        return Asked.again(self.tree.attrs)

    @property
    def hidden(self) -> HiddenFactors | None:
        """The factors that are taken out of harmonized residuals, if any are."""
        if "hidden_factors" not in self.tree:
            return None
        group = self.tree["hidden_factors"]
        return HiddenFactors(np.asarray(group["loadings"].values), np.asarray(group["unit"].values))

    @property
    def study(self) -> Study:
        """The rows that were fitted.

        Raises
        ------
        DataError
            If the fit holds none.
        """
        return study_of(self.tree, self.layout)

    @property
    def _beside(self) -> tuple[Joining | None, Moments | None]:
        """What harmonization needs beside the parameters."""
        known = self.layout.spec.subject is not None and "moments" in self.tree
        return self._joining, self.moments if known else None

    @property
    def _given_seed(self) -> int | None:
        """Seed of what is drawn given estimates; None where there is no such thing, or it was not asked for."""
        return self.settings["seed"] if self.settings.get("uncertainty") else None

    @property
    def settings(self) -> dict[str, Any]:
        """What the method was told, by the names of the arguments of `bayescombat.fit`."""
        settings: dict[str, Any] = json.loads(self.tree.attrs["settings"])
        return settings

    @property
    def mean_only(self) -> bool:
        """Whether the location alone was to be adjusted."""
        if self.method == "eb":
            return bool(self.settings["mean_only"])
        return priors_in(self.tree.attrs).scales_held

    @property
    def _adopted(self) -> list[list[str]]:
        """Batch variable and level of what was adopted."""
        pairs: list[list[str]] = json.loads(self.tree.attrs.get("adopted", "[]"))
        return pairs

    @property
    def learned(self) -> Moments:
        """What was fitted, of the modelled features: without batches that were adopted later."""
        return fitted_moments(self.moments, self.layout, self._adopted)

    @property
    def extensible(self) -> Extension:
        """The parameters, to which batches can be added."""
        adopted, names = self._adopted, self.layout.levels.names
        fitted = {name: tuple(level for level in names[name] if [name, level] not in adopted) for name in names}
        levels, patterns = Levels(fitted), self.patterns
        owner = self.tree["factors"]["batch_variable"].values if patterns.shape[1] else np.zeros(0)
        of_variables = {name: patterns[:, owner == name] for name in levels.active}
        return Extension(self.parameters, self.layout, levels, self.settings, self.loadings, of_variables)

    @property
    def _joining(self) -> Joining | None:
        """What is done to residuals across features, if anything is."""
        share = self.asked.share
        if self.hidden is None and not share:
            return None
        seed = self.settings["seed"] if self.method == "nuts" else None
        if not share:
            return Joining(self.hidden, seed=seed)
        adopted = tuple(self.layout.levels.label(*pair) for pair in self._adopted)
        return Joining(self.hidden, share, self.moments, adopted, seed)

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
        columns: dict[str, object] = {"scans": self.layout.scans}
        for name, values in batch_effects(self.parameters).items():
            over = [dim for dim in ("chain", "draw") if dim in values.dims]
            columns[name] = values.mean(over).values
            if over:
                columns[f"{name}_sd"] = values.std(over, ddof=1).values
        return pd.DataFrame(columns, index=pd.Index(self.layout.levels.labels, name="batch"))

    def effect(self, name: str, at: Any = None, probability: float = 0.9, *, against: Any = None) -> xr.Dataset:
        r"""Return what one covariate does to every feature: a curve with its band.

        .. math:: f_v(a) = (x(a) - \bar x_v)' \beta_v

        over the design columns x that read this covariate alone, such as those of its smooth. Their averages are those
        over the scans that the feature was observed in: over these the effect has average zero. Measured `against` a
        value b it is :math:`f_v(a) - f_v(b)`: what differs between groups, estimated together with the batches, and so
        with all that is unsure of them.

        Parameters
        ----------
        name : str
            A column of the table that covariates are made of.
        at : array-like of (at,), optional
            Values of it. By default 50 even places over the range that its smooth or spline was learned on, or that the
            fit's rows have; of a category its levels.
        probability : float
            Of the band from ``lower`` to ``upper``, at each place by itself.
        against : optional
            Value of it, such as the level of the controls, that the others are compared with.

        Returns
        -------
        xarray.Dataset
            ``mean, sd, lower, upper`` (at, feature), in feature units, of logarithms if the study takes logarithms.
            With `against` also ``p``, two-sided, of no difference, and ``p_fdr``, adjusted for the false discovery rate
            over the features; for NUTS from a normal posterior of this mean and sd.
            For NUTS over all draws. For empirical Bayes given how smooth the curve is found to be, with quantiles of
            Student's t; ``mean`` alone if the fit was saved without its moments. Features that were set aside are not
            there.

        Raises
        ------
        DataError
            If there is no such covariate, it interacts with others, or nothing tells of its range.
        UnseenLevelError
            If `at` has a level that the fit does not know.

        Warns
        -----
        ExtrapolationWarning
            If `at` lies outside the range of a spline.

        Notes
        -----
        The covariance of the estimated coefficients of a smooth is that of Marra and Wood (2012),
        doi:10.1111/j.1467-9469.2011.00760.x, with residuals of one variance.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(
        ...     simulation.table, batch="site", features=simulation.features, smooth={"age": 8}
        ... )
        >>> bc.fit(study, method="eb").effect("age")["lower"].sizes
        Frozen({'at': 50, 'feature': 3})
        """
        moments = None
        if self.method == "eb" and "moments" in self.tree:
            moments = self.learned
        shown = places(self.layout, name, at, self.tree)
        return effect_dataset(self.parameters, self.layout, moments, name, shown, probability, against)

    def save(self, path: str | os.PathLike[str], data: bool = True, moments: bool = True) -> None:
        """Write the fit to one netCDF file, whole or not at all.

        Parameters
        ----------
        path : path-like
            An older file there is replaced once the new one is complete.
        data : bool
            Whether the file holds the fitted rows, and the command that made it if there was one. Without them it holds
            parameters and moments, and harmonizes rows that it is given.
        moments : bool
            Whether the file holds the moments, which `update` and `adopt` need, and every use of a fit with
            ``covariance``. Mind what they tell of a site of few
            scans: see `Moments.save`. Without them the parameters still tell something: from empirical-Bayes
            estimates, whose shrinkage can be undone, follow the means of every batch, and of a batch of one scan its
            values.

        Raises
        ------
        DataError
            If a fit with ``covariance`` is to be saved without moments.
        """
        if self.asked.share and not moments:
            raise DataError(
                "Expected moments=True for a fit with covariance, which is harmonized by what the moments say of every "
                "batch, found moments=False. Save them, or fit without covariance."
            )
        without = [] if data else ["observed_data", "constant_data"]
        without += [] if moments else ["moments"]
        tree = self.tree.filter(lambda node: node.name not in without)
        # The command that made a fit names files and columns, as its rows do.
        tree.attrs = {name: value for name, value in self.tree.attrs.items() if data or name != "call"}
        write_tree(tree, path, kind="fit")

    def __repr__(self) -> str:
        """Say what was fitted and what it is worth."""
        method = "NUTS" if self.method == "nuts" else "empirical Bayes"
        sizes = self.layout.levels.sizes
        features, batches = len(self.layout.features), " + ".join(map(str, sizes))
        scans = int(self.layout.scans.sum()) // len(sizes)
        factors = self.loadings.shape[1]
        sharing = f" that share {factors} factor{'s' * (factors > 1)}" if factors else ""
        return f"Fit by {method}: {features} features{sharing}, {batches} batches, {scans} scans\n  {self.verdict}"
