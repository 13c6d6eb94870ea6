"""Fit: what can be done with a fitted model."""

import json

import xarray as xr

from bayescombat.columns import warn
from bayescombat.errors import BayesCombatError, BayesCombatWarning, listing
from bayescombat.estimation import again
from bayescombat.fit.distance import distance_to_refit
from bayescombat.fit.extension import warn_of_constants
from bayescombat.fit.harmonizer import Harmonizer
from bayescombat.fit.joining import check_adoptable
from bayescombat.fit.trees import fitted_tree
from bayescombat.frames import Frame
from bayescombat.moments import Moments, check_same_design, merge
from bayescombat.study import Study
from bayescombat.study.reading import warn_of_spellings

__all__ = ["Fit"]


class Fit(Harmonizer):
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

    def update(self, data: Frame | Study | Moments) -> "Fit":
        """Fit again with more scans, of known or of new batches, without the rows that were fitted before.

        Parameters
        ----------
        data : frame (pandas, polars, ...), Study or Moments
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
        BayesCombatError
            If the fit is robust.

        Warns
        -----
        BayesCombatWarning
            If scans are among those that were fitted, in a fit that holds these.

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
        self._check_normal()
        new = data if isinstance(data, Moments) else self._study(data)
        self._warn_of_fitted(new)
        merged = merge([self.moments, self._moments_of(new)])
        return Fit(fitted_tree(merged, again(self.tree.attrs), self.asked))

    def adopt(self, data: Frame | Study | Moments) -> "Fit":
        """Add new batches to the fit, given the population that it knows, in about a second.

        Only the new batches' own parameters are estimated: for every posterior draw of everything else one draw of
        theirs, given it and the new scans (or the empirical-Bayes estimate, given the other estimates). What was
        fitted before, the pooled target included, stays as it is.

        Parameters
        ----------
        data : frame (pandas, polars, ...), Study or Moments
            Scans of batches that the fit does not know, or their moments, of the fit's design.

        Returns
        -------
        Fit
            A new one that knows these batches too. Its verdict says how far `update` may move their harmonized values,
            as estimated by empirical Bayes with as many shared factors, without what ``covariance`` does: a refit
            learns from the new scans, and averages over them.

        Raises
        ------
        DataError
            If there are scans of batches that the fit knows, or the new scans have another design or reference.
        BayesCombatError
            If hidden factors are removed, scans of subjects are repeated, or the fit is robust.

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
        self._check_normal()
        moments = self._moments_of(data)
        if moments.subjects is not None:
            raise BayesCombatError(
                "Expected scans that are independent given their batch, found a fit with subjects, whose new "
                "intercepts adopt does not know. Use update."
            )
        check_adoptable(self.hidden)
        extension, new = self.extensible.adopted(moments)
        warn_of_constants(self.layout, moments)
        tree = self.tree.copy()
        group = "posterior" if self.method == "nuts" else "empirical_bayes"
        tree[group] = xr.DataTree(extension.parameters)
        tree["layout"] = xr.DataTree(extension.layout.to_dataset())
        tree["moments"] = xr.DataTree(merge([self.moments, moments]).to_dataset())
        labels = [extension.layout.levels.label(*pair) for pair in new]
        distance = distance_to_refit(self.moments, moments, self.mean_only, self.loadings.shape[1])
        said = f"Adopted {listing(labels)}: {distance}."
        adopted = json.dumps([*self._adopted, *new])
        tree.attrs = dict(self.tree.attrs) | {"verdict": f"{self.verdict} {said}", "adopted": adopted}
        return Fit(tree)

    def _check_normal(self) -> None:
        """Raise a BayesCombatError if moments do not say all that the model wants to know."""
        if self.tree.attrs.get("robust"):
            raise BayesCombatError(
                "Expected a fit with normal noise, of which moments tell all, found robust=True, which looks at every "
                "value. Fit a study of all scans."
            )

    def _warn_of_fitted(self, new: Study | Moments) -> None:
        """Warn of scans that would count twice."""
        if isinstance(new, Moments) or "observed_data" not in self.tree:
            return
        old = self.study
        fitted = {(old.batches[code], row.tobytes()) for code, row in zip(old.codes, old.y, strict=True)}
        again = [(new.batches[code], row.tobytes()) in fitted for code, row in zip(new.codes, new.y, strict=True)]
        if any(again):
            warn(
                f"Expected new scans alone, found {sum(again)} of {len(again)} with the batch and all measurements of "
                f"a scan that was fitted: {listing(new.obs[again])}. They count twice: give update what is new.",
                BayesCombatWarning,
            )

    def _moments_of(self, data: Frame | Study | Moments) -> Moments:
        if isinstance(data, Moments):
            self._check_reference(data.reference)
            check_same_design(self.moments, data)
            new = data
        else:
            new = Moments.from_study(self._study(data), cross=self.moments.cross is not None)
        for name, known in self.layout.levels.names.items():
            warn_of_spellings("batch", name, [*known, *new.levels.names[name]])
        return new
