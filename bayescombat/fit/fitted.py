"""Fit: what can be done with a fitted model."""

import json
from functools import cached_property
from typing import Literal, get_args

import pandas as pd
import xarray as xr

from bayescombat.errors import BayesCombatError, DataError, check_choice, listing
from bayescombat.estimation import again
from bayescombat.fit.chunked import check_in_chunks, harmonized_chunks
from bayescombat.fit.contents import Contents
from bayescombat.fit.distance import distance_to_refit
from bayescombat.fit.extension import Extension, warn_of_constants
from bayescombat.fit.given import check_known
from bayescombat.fit.harmonization import Target, harmonized_dataset, harmonized_draws, target_cell
from bayescombat.fit.joining import check_adoptable, check_drawable
from bayescombat.fit.trees import fitted_tree
from bayescombat.moments import Moments, check_same_design, merge
from bayescombat.study import ChunkedStudy, Study

__all__ = ["Fit"]

Unseen = Literal["error", "prior"]


class Fit(Contents):
    """A fitted model: harmonized data, parameters, and what is needed to harmonize new rows.

    Parameters
    ----------
    tree : xarray.DataTree
        As `fit` makes it and `load` reads it. Group ``posterior`` holds the draws (chain, draw, ...) with
        ``sample_stats`` and ``diagnostics`` beside it; or ``empirical_bayes`` the estimates. ``layout`` holds what rows
        are read by, ``moments`` what was learned from; ``observed_data`` and ``constant_data`` the rows. The last three
        may be absent.

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

    @cached_property
    def harmonized(self) -> xr.Dataset:
        """The fitted rows, harmonized; see `harmonize`."""
        return harmonized_dataset(self.parameters, self.layout, self.study, None, 0.9, *self._beside, self._given_seed)

    def harmonize(
        self,
        data: pd.DataFrame | Study | ChunkedStudy,
        target: Target | None = None,
        probability: float | None = 0.9,
        unseen: Unseen = "error",
    ) -> xr.Dataset:
        r"""Harmonize rows.

        .. math:: y^* = \alpha + x_k'\beta_k + \gamma_t + \frac{\delta_t}{\delta_i} (y - \alpha - x'\beta - \gamma_i)

        where :math:`x_k` are the preserved covariates: those of the study's ``remove`` are taken out, and measured from
        their average over the scans (of each feature, where cells are missing). Where the study names subjects, their
        intercepts are part of :math:`\alpha`: of a fitted subject as its fitted scans say, of another as these rows do.

        Parameters
        ----------
        data : pandas.DataFrame, Study or ChunkedStudy
            Any rows of any of the fitted batches: a table with the columns that the study was made of (features that
            were set aside included), or a study of the same design. If the study came from arrays, the table's columns
            are ``batch`` and the names of features and covariates. Levels of several batch variables need not have
            been seen together.
        target : str, sequence of str, or mapping of str to str, optional
            The batch t to harmonize to, whose rows stay as they are but for what is removed. By default the study's
            reference batch, or the pooled average (:math:`\gamma_t = 0, \delta_t = 1`). With several batch variables,
            one label of each, in their order or by their names.
        probability : float, optional
            Of the central interval from ``lower`` to ``upper``; None for no bounds, which take most of the time.
        unseen : {"error", "prior"}
            What to do with rows of a batch that the fit does not know. ``"prior"`` draws its effects from the
            population of batches: one batch for every posterior draw, whatever its rows say. The intervals are as wide
            as batches differ; scales beyond three typical spreads are cut, since mean and sd would not exist. `adopt`
            and `update` learn from the rows. Empirical Bayes, which has no such distribution, takes the batch for an
            average one.

        Returns
        -------
        xarray.Dataset
            ``mean, sd, lower, upper`` (obs, feature), in feature units; ``mean`` alone for empirical Bayes, unless
            ``uncertainty`` was asked for: its ``mean`` is the estimate all the same, its ``sd`` is by quadrature, and
            the attribute ``uncertainty`` says what it is given. By NUTS ``mean`` and ``sd`` are exact over all draws;
            the bounds are quantiles of at most 1,000 of them. Where the study takes logarithms all four are on the
            natural scale, and there, with subjects, and with ``factors`` or ``covariance`` all are from these draws;
            the estimate of empirical Bayes is the exponential of the harmonized logarithm. Missing cells stay missing.
            Features that were set aside come back as they were, with ``sd`` zero, and are marked by the coordinate
            ``set_aside``. Of a study in chunks there is ``mean`` alone, a Dask array, computed when it is asked for or
            by `write_zarr`; nothing is said of values that become negative.

        Raises
        ------
        UnseenBatchError
            If rows or target are of a batch that the fit does not know.
        BayesCombatError
            If such rows are to be drawn by ``unseen="prior"`` although covariance is harmonized.
        UnseenLevelError
            If rows have a level of a category that the fit does not know.
        DataError
            If columns are lacking or values cannot be used.

        Warns
        -----
        NegativeValueWarning
            If features that are positive in these rows become negative.
        FeatureWarning
            If too few features of a scan were observed to tell what its hidden factors are.
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
        cell = target_cell(target, self.layout)
        if isinstance(data, ChunkedStudy):
            check_in_chunks(self.method, self.asked, self.layout.spec, unseen)
            self._check_reference(data.reference)
            return harmonized_chunks(self.parameters, self.layout, data.conforming(self.layout.spec), cell)
        study = self._study(data)
        extension = self._extension(study, unseen)
        return harmonized_dataset(
            extension.parameters, extension.layout, study, cell, probability, *self._beside, self._given_seed
        )

    def draws(
        self,
        n: int = 100,
        data: pd.DataFrame | Study | None = None,
        target: Target | None = None,
        impute: bool = False,
        unseen: Unseen = "error",
    ) -> xr.DataArray:
        """Return plausible harmonized tables, one per posterior draw.

        Parameters
        ----------
        n : int
            How many, evenly spaced over the chains; of an empirical-Bayes fit with ``uncertainty`` at most 1,000.
        data : pandas.DataFrame or Study, optional
            Rows; by default those that were fitted.
        target : str, sequence of str, or mapping of str to str, optional
            As in `harmonize`.
        impute : bool
            Fill missing cells with draws from their posterior predictive on the harmonized scale, by the fit's seed:
            what the scan may have had, given its preserved covariates. Those of features that were set aside stay
            missing.
        unseen : {"error", "prior"}
            As in `harmonize`.

        Returns
        -------
        xarray.DataArray
            (draw, obs, feature), in feature units.

        Raises
        ------
        BayesCombatError
            If the fit has fewer draws, or none since it is an empirical-Bayes estimate without ``uncertainty``.

        Notes
        -----
        Without shared factors the features of a scan are modelled as independent given its batch. Where they are
        correlated, averages over features come out surer than they are; single features do not. Missing cells are
        drawn as independent of the others with ``covariance`` too, and with ``factors`` hold none of them.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
        >>> fit = bc.fit(study, chains=2, draws=800, seed=1, progress_bar=False)
        >>> fit.draws(50).sizes
        Frozen({'draw': 50, 'obs': 35, 'feature': 3})
        """
        if self.method != "nuts" and self._given_seed is None:
            raise BayesCombatError(
                "Expected a fit by NUTS, found empirical-Bayes estimates, which have no draws. "
                "Use bayescombat.fit(study), or method='eb' with uncertainty=True."
            )
        study, cell = self.study if data is None else self._study(data), target_cell(target, self.layout)
        extension = self._extension(study, unseen)
        seed = self._settings["seed"]
        return harmonized_draws(extension.parameters, extension.layout, study, cell, n, seed, impute, *self._beside)

    def update(self, data: pd.DataFrame | Study | Moments) -> "Fit":
        """Fit again with more scans, of known or of new batches, without the rows that were fitted before.

        Parameters
        ----------
        data : pandas.DataFrame, Study or Moments
            The new scans alone, or their moments, of the fit's design. Merged with the moments that the fit holds they
            are what a table of all scans would have given.

        Returns
        -------
        Fit
            A new one, by the same method with the same settings, priors and seed. It holds no rows: give it those to
            harmonize. By empirical Bayes it equals the fit to everything at once to rounding; by NUTS it has the
            same posterior.

        Raises
        ------
        DataError
            If the fit was saved without its moments, or the new scans have another design or reference.

        Notes
        -----
        The pooled target moves with the scans that it averages over, so that earlier harmonized values are not those of
        the updated fit. A reference batch does not move.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> old = simulation.table[simulation.table["site"] != "site_03"]
        >>> new = simulation.table[simulation.table["site"] == "site_03"]
        >>> study = bc.Study.from_dataframe(old, batch="site", covariates="age", features=simulation.features)
        >>> bc.fit(study, method="eb").update(new)
        Fit by empirical Bayes: 3 features, 3 batches, 35 scans
          Estimated: every fixed point stood still after at most ... passes.
        """
        merged = merge([self.moments, self._moments_of(data)])
        return Fit(fitted_tree(merged, again(self.tree.attrs), self.asked))

    def adopt(self, data: pd.DataFrame | Study | Moments) -> "Fit":
        """Add new batches to the fit, given the population that it knows, in about a second.

        Only the new batches' own parameters are estimated: for every posterior draw of everything else one draw of
        theirs, given it and the new scans (or the empirical-Bayes estimate, given the other estimates). What was
        fitted before, the pooled target included, stays as it is.

        Parameters
        ----------
        data : pandas.DataFrame, Study or Moments
            Scans of batches that the fit does not know, or their moments, of the fit's design.

        Returns
        -------
        Fit
            A new one that knows these batches too. Its verdict says how far `update` may move their harmonized values,
            as estimated in closed form, without what ``covariance`` does: a refit learns from the new scans, and
            averages over them.

        Raises
        ------
        DataError
            If there are scans of batches that the fit knows, or the new scans have another design or reference.
        BayesCombatError
            If hidden factors are removed, or scans of subjects are repeated.

        Warns
        -----
        FeatureWarning
            If features are constant in new batches of two or more scans.

        Notes
        -----
        The population's draws are not weighted by how well they predict the new scans, which cuts the feedback from the
        new batch to the others (Plummer 2015, doi:10.1007/s11222-014-9503-z).

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> old = simulation.table[simulation.table["site"] != "site_03"]
        >>> new = simulation.table[simulation.table["site"] == "site_03"]
        >>> study = bc.Study.from_dataframe(old, batch="site", covariates="age", features=simulation.features)
        >>> bc.fit(study, method="eb").adopt(new).harmonize(new)["mean"].shape
        (5, 3)
        """
        moments = self._moments_of(data)
        if moments.subjects is not None:
            raise BayesCombatError(
                "Expected scans that are independent given their batch, found a fit with subjects, whose new "
                "intercepts adopt does not know. Use update."
            )
        check_adoptable(self.hidden)
        extension, new = self._extensible.adopted(moments)
        warn_of_constants(self.layout, moments)
        tree = self.tree.copy()
        group = "posterior" if self.method == "nuts" else "empirical_bayes"
        tree[group] = xr.DataTree(extension.parameters)
        tree["layout"] = xr.DataTree(extension.layout.to_dataset())
        tree["moments"] = xr.DataTree(merge([self.moments, moments]).to_dataset())
        labels = [extension.layout.levels.label(*pair) for pair in new]
        said = f"Adopted {listing(labels)}: {distance_to_refit(self.moments, moments)}."
        adopted = json.dumps([*self._adopted, *new])
        tree.attrs = dict(self.tree.attrs) | {"verdict": f"{self.verdict} {said}", "adopted": adopted}
        return Fit(tree)

    def _extension(self, study: Study, unseen: Unseen) -> Extension:
        """Return the parameters with whatever batches of the study may be drawn from the prior."""
        check_choice("unseen", unseen, get_args(Unseen))
        if unseen == "prior":
            check_drawable(self.asked, self.layout, study.batches)
            if self._given_seed is not None:
                check_known(self.layout, study.batches)
        return self._extensible if unseen == "error" else self._extensible.with_unseen(study.batches)

    def _study(self, data: pd.DataFrame | Study) -> Study:
        spec = self.layout.spec
        if not isinstance(data, Study):
            return Study.from_design(data, spec)
        self._check_reference(data.reference)
        return data.conforming(spec)

    def _moments_of(self, data: pd.DataFrame | Study | Moments) -> Moments:
        if not isinstance(data, Moments):
            return Moments.from_study(self._study(data), cross=self.moments.cross is not None)
        self._check_reference(data.reference)
        check_same_design(self.moments, data)
        return data

    def _check_reference(self, reference: str | None) -> None:
        """Raise a DataError if rows ask for another target than the fit's, which they would not get."""
        if reference not in (None, self.layout.reference):
            raise DataError(
                f"Expected rows of the fit's reference, which is {self.layout.reference or 'the pooled average'!r}, "
                f"found the reference {reference!r}. Leave it out; harmonize(target={reference!r}) changes the target."
            )
