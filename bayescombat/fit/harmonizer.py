"""Harmonizer: what a fit makes of rows."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import xarray as xr

from bayescombat.errors import BayesCombatError, DataError, check_choice
from bayescombat.fit.chunked import check_in_chunks, harmonized_chunks
from bayescombat.fit.contents import Contents
from bayescombat.fit.drawing import harmonized_draws, in_blocks, wanted_features
from bayescombat.fit.extension import Extension
from bayescombat.fit.given import check_known
from bayescombat.fit.harmonization import Target, harmonized_dataset, target_cell
from bayescombat.fit.joining import check_drawable
from bayescombat.frames import Frame
from bayescombat.study import ChunkedStudy, Study

__all__ = ["Harmonizer"]

Unseen = Literal["error", "prior"]


class Harmonizer(Contents):
    """What a fit makes of rows; `Fit` adds what it learns of more of them."""

    @cached_property
    def harmonized(self) -> xr.Dataset:
        """The fitted rows, harmonized; see `harmonize`."""
        return harmonized_dataset(self.parameters, self.layout, self.study, None, 0.9, *self._beside, self._given_seed)

    def harmonize(
        self,
        data: Frame | Study | ChunkedStudy,
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
        data : frame (pandas, polars, ...), Study or ChunkedStudy
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
        cell = target_cell(target, self.layout.levels)
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
        data: Frame | Study | None = None,
        target: Target | None = None,
        impute: bool = False,
        unseen: Unseen = "error",
    ) -> xr.DataArray:
        """Return plausible harmonized tables, one per posterior draw.

        Parameters
        ----------
        n : int
            How many, evenly spaced over the chains; of an empirical-Bayes fit with ``uncertainty`` at most 1,000.
        data : frame (pandas, polars, ...) or Study, optional
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
        study = self.study if data is None else self._study(data)
        parts = self._drawn(n, study, target, impute, unseen)
        return harmonized_draws(parts, study, self.layout.modelled)

    def draws_in_blocks(self, n: int = 100, features: str | Iterable[str] | None = None) -> Iterator[xr.DataArray]:
        """Yield plausible harmonized tables of the fitted rows, a block of features at a time.

        For tables of which `draws` would not fit into memory. Features that were set aside are not there.

        Parameters
        ----------
        n : int
            As in `draws`.
        features : str or iterable of str, optional
            Those that are wanted, by default all; they come in the order of the fit.

        Yields
        ------
        xarray.DataArray
            (draw, obs, feature), in feature units.

        Raises
        ------
        BayesCombatError
            As in `draws`.

        Examples
        --------
        >>> import bayescombat as bc
        >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
        >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
        >>> fit = bc.fit(study, method="eb", uncertainty=True)
        >>> [part.shape for part in fit.draws_in_blocks(50)]
        [(50, 35, 3)]
        """
        wanted = wanted_features(self.layout.features, features)
        return self._drawn(n, self.study, None, False, "error", wanted)

    def _drawn(
        self,
        n: int,
        study: Study,
        target: Target | None,
        impute: bool,
        unseen: Unseen,
        wanted: np.ndarray | None = None,
    ) -> Iterator[xr.DataArray]:
        if self.method != "nuts" and self._given_seed is None:
            raise BayesCombatError(
                "Expected a fit by NUTS, found empirical-Bayes estimates, which have no draws. "
                "Use bayescombat.fit(study), or method='eb' with uncertainty=True."
            )
        if impute and self.tree.attrs.get("robust"):
            raise BayesCombatError(
                "Expected normal noise for impute=True, found a robust fit, whose missing cells are not drawn. Leave "
                "impute out, or fit without robust."
            )
        cell, extension = target_cell(target, self.layout.levels), self._extension(study, unseen)
        seed = self.settings["seed"]
        return in_blocks(extension.parameters, extension.layout, study, cell, n, seed, impute, *self._beside, wanted)

    def _extension(self, study: Study, unseen: Unseen) -> Extension:
        """Return the parameters with whatever batches of the study may be drawn from the prior."""
        check_choice("unseen", unseen, get_args(Unseen))
        if unseen == "prior":
            check_drawable(self.asked, self.layout, study.batches)
            if self._given_seed is not None:
                check_known(self.layout, study.batches)
        return self.extensible if unseen == "error" else self.extensible.with_unseen(study.batches)

    def _study(self, data: Frame | Study) -> Study:
        spec = self.layout.spec
        if not isinstance(data, Study):
            return Study.from_design(data, spec)
        self._check_reference(data.reference)
        return data.conforming(spec)

    def _check_reference(self, reference: str | None) -> None:
        """Raise a DataError if rows ask for another target than the fit's, which they would not get."""
        if reference not in (None, self.layout.reference):
            raise DataError(
                f"Expected rows of the fit's reference, which is {self.layout.reference or 'the pooled average'!r}, "
                f"found the reference {reference!r}. Leave it out; harmonize(target={reference!r}) changes the target."
            )
