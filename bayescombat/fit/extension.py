"""Batches that were not fitted: drawn from the population of batches, or estimated given it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from bayescombat.adoption import Evidence, NewBatch, Population, Shared, from_data, from_prior
from bayescombat.batches import Levels, cell_parts
from bayescombat.columns import warn
from bayescombat.errors import DataError, FeatureWarning, UnseenBatchError, listing
from bayescombat.factors import Loadings
from bayescombat.fit.layout import Layout, stacked
from bayescombat.moments import Moments
from bayescombat.shared import shared_new_batch
from bayescombat.shrinkage import Hats, Shrinkage, evidence_of, shrunken
from bayescombat.vocabulary import HYPERPARAMETERS, POPULATION

__all__ = ["Extension", "warn_of_constants"]

MOST_SPREADS = 3.0


@dataclass(frozen=True, eq=False)
class Extension:
    """Parameters that levels can be added to.

    Parameters
    ----------
    parameters : xarray.Dataset
        Draws (chain, draw, ...) or estimates.
    layout : Layout
        How rows meet them.
    fitted : Levels
        Levels that the population was learned from, without those added later.
    settings : mapping
        Of the fit: the seed, or shrinkage, mean_only and compat.
    loadings : ndarray, (feature, factor)
        Of the features on the factors of their noise.
    patterns : mapping of str to ndarray, (feature, pattern)
        Of the features on the patterns that the shifts of a batch variable's levels share.
    """

    parameters: xr.Dataset
    layout: Layout
    fitted: Levels
    settings: Mapping[str, Any]
    loadings: np.ndarray
    patterns: Mapping[str, np.ndarray]

    def with_unseen(self, cells: Sequence[str]) -> "Extension":
        """Return this with every unknown level of the cells, drawn from the population.

        The draws of one label are the same in every call. Empirical Bayes knows no distribution across batches: it
        takes an unknown batch for an average one.
        """
        extended, variables = self, self.layout.levels.variables
        known = self.layout.levels.known(cells) >= 0
        parts = [cell_parts(label, variables) for label in cells]
        for k, variable in enumerate(variables):
            for level in sorted({part[k] for part, row in zip(parts, known, strict=True) if not row[k]}):
                self._check_active(variable, level)
                effects = self._from_prior(variable, level) if self._sampled else self._average(variable)
                extended = extended._extended(variable, level, effects)
        return extended

    def adopted(self, moments: Moments) -> tuple["Extension", list[tuple[str, str]]]:
        """Return this with the new levels that the moments hold, estimated given the population; and them.

        Raises
        ------
        DataError
            If there are scans of a batch that is known, or of levels of two variables that are not.
        """
        variable, new = self._new_levels(moments)
        kept = moments.select(np.isin(moments.features, self.layout.features))
        column = self.layout.levels.variables.index(variable)
        parts = [cell_parts(label, self.layout.levels.variables) for label in moments.batches]
        extended = self
        for level in new:
            self._check_active(variable, level)
            rows = [row for row, part in enumerate(parts) if part[column] == level]
            evidence = self._evidence(kept, rows, variable)
            effects = (self._from_data if self._sampled else self._shrunken)(variable, level, evidence)
            extended = extended._extended(variable, level, effects)
        extended = replace(extended, layout=extended.layout.with_scans(moments))
        return extended, [(variable, level) for level in new]

    @property
    def _sampled(self) -> bool:
        return "draw" in self.parameters.dims

    def _stacked(self, name: str) -> np.ndarray:
        """Return a parameter with one draw axis; without a population, batches are expected where the average is."""
        if name.endswith("_typical") and name not in self.parameters:
            shape = (1, len(self.fitted.active), self.parameters.sizes["feature"])
            return np.zeros(shape) if name == "gamma_typical" else np.ones(shape)
        return stacked(self.parameters, name)

    def _place(self, variable: str) -> int:
        return self.fitted.active.index(variable)

    def _check_active(self, variable: str, level: str) -> None:
        if variable not in self.fitted.active:
            raise UnseenBatchError(
                f"Expected {self.fitted.names[variable][0]!r} in {variable!r}, found {level!r}. The fit knows one "
                f"level of {variable!r}, so nothing of how its levels differ: fit again with scans of both (update)."
            )

    def _new_levels(self, moments: Moments) -> tuple[str, list[str]]:
        """Return the one batch variable that these moments have unknown levels of, and the levels."""
        levels = self.layout.levels
        unknown = levels.known(moments.batches) < 0
        if not unknown.any(axis=1).all():
            known = np.array(moments.batches)[~unknown.any(axis=1)]
            raise DataError(
                f"Expected scans of batches that the fit does not know, found scans of {listing(known)}. "
                "Drop them, or use update, which refits with more scans of known batches too."
            )
        columns = np.flatnonzero(unknown.any(axis=0))
        if len(columns) > 1:
            several = listing(np.array(levels.variables)[columns])
            raise DataError(
                f"Expected new levels of one batch variable, found some of {several}. Their effects cannot be told "
                "apart given the others: adopt one after the other, or use update."
            )
        column = int(columns[0])
        return levels.variables[column], list(moments.levels.names[levels.variables[column]])

    def _rng(self, variable: str, level: str) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([self.settings["seed"], *f"{variable}={level}".encode()]))

    def _population(self, variable: str) -> Population:
        scalars = {name: self._stacked(name)[:, self._place(variable)] for name in POPULATION}
        return Population(**scalars, batches=len(self.fitted.names[variable]))

    def _from_prior(self, variable: str, level: str) -> dict[str, np.ndarray]:
        population, rng = self._population(variable), self._rng(variable, level)
        batch = from_prior(population, self.parameters.sizes["feature"], rng)
        patterns = self._widened_patterns(variable)
        if patterns.shape[1]:
            scores = rng.standard_normal((len(batch.gamma_sd), patterns.shape[1]))
            along = batch.gamma_sd[:, None] * (scores @ patterns.T)
            batch = replace(batch, gamma=batch.gamma + along)
        # A spread that is itself log-normal leaves 1 / delta without a mean.
        typical = np.hypot(population.log_delta_mean_spread, np.exp(population.log_delta_sd_log_typical))
        limit = MOST_SPREADS * typical[:, None]
        return self._reported(replace(batch, log_delta=np.clip(batch.log_delta, -limit, limit)), variable)

    def _from_data(self, variable: str, level: str, evidence: Evidence) -> dict[str, np.ndarray]:
        return self._reported(from_data(self._population(variable), evidence, self._rng(variable, level)), variable)

    def _reported(self, batch: NewBatch, variable: str) -> dict[str, np.ndarray]:
        """Return a new batch in feature units, from the origin that the fit reports effects from."""
        k = self._place(variable)
        typical, unit = self._stacked("gamma_typical")[:, k], self._stacked("delta_typical")
        shift, log_scale = self._origin_of_priors()
        scale = np.exp(log_scale.sum(axis=1))
        found = {
            "gamma": self._stacked("sigma") * unit.prod(axis=1) * batch.gamma + typical,
            "delta": np.exp(batch.log_delta) * unit[:, k],
            "gamma_mean": batch.gamma_mean / scale - shift[:, k],
            "gamma_sd": batch.gamma_sd / scale,
            "log_delta_mean": batch.log_delta_mean - log_scale[:, k],
            "log_delta_sd": batch.log_delta_sd,
        }
        leading = self.parameters.sizes["chain"], self.parameters.sizes["draw"]
        return {name: values.reshape(*leading, *values.shape[1:]) for name, values in found.items()}

    def _origin_of_priors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return what reported hyper-parameters are measured from, (draw, variable): the fitted ones sum to zero."""
        labels = list(self.parameters["batch"].values)
        parts = [
            [labels.index(self.fitted.label(name, level)) for level in self.fitted.names[name]]
            for name in self.fitted.active
        ]
        gamma_mean, log_delta_mean = self._stacked("gamma_mean"), self._stacked("log_delta_mean")
        shift = np.stack([-gamma_mean[:, part].mean(axis=1) for part in parts], axis=1)
        return shift, np.stack([-log_delta_mean[:, part].mean(axis=1) for part in parts], axis=1)

    def _evidence(self, moments: Moments, rows: Sequence[int], variable: str) -> Evidence:
        """Return what scans say of one level, given every draw of everything else; in units of the population."""
        typical, unit = self._stacked("gamma_typical"), self._stacked("delta_typical")
        sigma, beta, k = self._stacked("sigma") * unit.prod(axis=1), self._stacked("beta"), self._place(variable)
        origin = self._stacked("alpha") + typical[:, k]
        weights, means, squares, scales = [], [], [], []
        for row in rows:
            gamma, delta = self._of_others(moments.batches[row], variable, unit)
            offset = moments.mean_x[row] - self.layout.center
            residual = moments.mean_y[row] - origin - gamma - (offset * beta).sum(axis=-1)
            ssr = moments.syy[row] - 2 * (moments.sxy[row] * beta).sum(axis=-1)
            ssr = ssr + (beta * (moments.sxx[row] @ beta[..., None])[..., 0]).sum(axis=-1)
            weights.append(np.broadcast_to(moments.n[row] / delta**2, residual.shape))
            means.append(residual / sigma)
            squares.append(np.maximum(ssr, 0) / (sigma * delta) ** 2)
            scales.append(delta)
        precision = np.sum(weights, axis=0)
        share = weights / np.where(precision > 0, precision, 1)
        mean = (share * means).sum(axis=0)
        within = [s + w * (m - mean) ** 2 for s, w, m in zip(squares, weights, means, strict=True)]
        count = np.broadcast_to(moments.n[list(rows)].sum(axis=0), mean.shape[1:])[None]
        evidence = Evidence(count, precision, mean, np.sum(within, axis=0))
        if not self.loadings.shape[1]:
            return evidence
        return self._beside_factors(evidence, moments, rows, variable, share * np.array(scales))

    def _beside_factors(
        self, evidence: Evidence, moments: Moments, rows: Sequence[int], variable: str, of_noise: np.ndarray
    ) -> Evidence:
        """Return what scans of one level say where features share factors.

        `of_noise` (cell, draw, feature) is how much of the noise of each cell's mean is in that of the level. That its
        factors have in common is taken for the same in all features, as it is where no cells are missing.
        """
        scans, n = moments.scans[list(rows)], np.broadcast_to(moments.n[list(rows)], of_noise[:, 0].shape)
        own = Loadings(self.loadings).of_own(n, scans)
        own = np.where(np.isfinite(own), own, 0.0)
        variance = (of_noise**2 * own[:, None]).sum(axis=0)
        seen = variance > 0
        common = (of_noise**2 / scans[:, None, None]).sum(axis=0)
        effective = 1 / common.mean(axis=1, where=seen, keepdims=True)
        precision = np.divide(1.0, variance, out=np.zeros(variance.shape), where=seen)
        shared = Shared(self._widened_patterns(variable), self.loadings, effective)
        return replace(evidence, precision=precision, shared=shared)

    def _widened_patterns(self, variable: str) -> np.ndarray:
        """Return the patterns as they are about the average of the fitted levels, which is not that of all levels."""
        return np.asarray(self.patterns[variable] * np.sqrt(1 + 1 / len(self.fitted.names[variable])))

    def _of_others(self, cell: str, variable: str, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return shift and scale, relative to typical ones, of a cell's levels of the other variables."""
        labels = list(self.parameters["batch"].values)
        gamma, delta = np.zeros_like(unit[:, 0]), np.ones_like(unit[:, 0])
        for name, part in zip(
            self.layout.levels.variables, cell_parts(cell, self.layout.levels.variables), strict=True
        ):
            if name == variable or name not in self.fitted.active:
                continue
            at = labels.index(self.layout.levels.label(name, part))
            gamma = gamma + self._stacked("gamma")[:, at]
            delta = delta * self._stacked("delta")[:, at] / unit[:, self._place(name)]
        return gamma, delta

    def _shrunken(self, variable: str, level: str, evidence: Evidence) -> dict[str, np.ndarray]:
        """Return the empirical-Bayes estimate of one level, given all else."""
        settings, count = self.settings, evidence.count
        shrinkage: Shrinkage = settings["shrinkage"] if evidence.mean.shape[1] > 1 else "none"
        delta2 = np.where(evidence.squares > 0, evidence.squares / np.maximum(count - 1, 1), np.nan)
        hats = Hats(evidence.mean, delta2, count, count - 1)
        mean_only = settings["mean_only"] or bool((self._stacked("delta") == 1).all())
        if evidence.shared is not None:
            return self._shrunken_along(hats, evidence, variable, mean_only)
        gamma, delta2, hyper, _ = shrunken(hats, shrinkage, mean_only, settings["compat"] == "sva")
        sigma = self._stacked("sigma")[0]
        found = {"gamma": sigma * gamma[0], "delta": np.sqrt(delta2[0])}
        found |= {name: values[0] for name, values in hyper.items()}
        if not settings.get("uncertainty"):
            return found
        told = {name: values[0] for name, values in evidence_of(hats, mean_only).items()}
        return found | told | {"gamma_unshrunken": sigma * told["gamma_unshrunken"]}

    def _shrunken_along(self, hats: Hats, evidence: Evidence, variable: str, mean_only: bool) -> dict[str, np.ndarray]:
        """Return the empirical-Bayes estimate of a level whose features share factors."""
        assert evidence.shared is not None
        sigma, (shift, unit) = self._stacked("sigma")[0], self._middle(variable)
        whole = np.prod([self._middle(name)[1] for name in self.fitted.active], axis=0)
        fitted, k = self._of_fitted(variable), self._place(variable)
        known = {name: fitted[name].values for name in ("gamma_sd", "log_delta_sd")}
        known |= {name: fitted[name].values[[k]] for name in ("gamma_mean_spread", "log_delta_mean_spread")}
        away = replace(hats, gamma=(hats.gamma - shift) / whole, delta2=hats.delta2 / unit**2)
        own = np.divide(1.0, evidence.precision, out=np.full(hats.gamma.shape, np.inf), where=evidence.precision > 0)
        scans, factors = evidence.shared.scans[:, 0], Loadings(self.loadings)
        found = shared_new_batch(away, own, scans, factors, self.patterns[variable], known, mean_only)
        return found | {"gamma": sigma * (shift + whole * found["gamma"]), "delta": unit * found["delta"]}

    def _middle(self, variable: str) -> tuple[np.ndarray, np.ndarray]:
        """Return shift, in units of sigma, and scale that levels deviate from: their average, not the reference."""
        if self.layout.reference is None:
            return np.zeros(1), np.ones(1)
        fitted = self._of_fitted(variable)
        scans_of = dict(zip(self.layout.levels.labels, self.layout.scans, strict=True))
        share = np.array([scans_of[label] for label in fitted["batch"].values])[:, None]
        share = share / share.sum()
        shift = (share * fitted["gamma"].values / fitted["sigma"].values).sum(axis=0)
        return shift, np.sqrt((share * fitted["delta"].values ** 2).sum(axis=0))

    def _of_fitted(self, variable: str) -> xr.Dataset:
        """Return the parameters of the fitted levels of a variable."""
        return self.parameters.sel(batch=[self.fitted.label(variable, level) for level in self.fitted.names[variable]])

    def _average(self, variable: str) -> dict[str, np.ndarray]:
        some = self._of_fitted(variable)
        names = [name for name in (*HYPERPARAMETERS, "gamma_unshrunken") if name in some]
        return {
            "gamma": some["gamma"].mean("batch").values,
            "delta": np.exp(np.log(some["delta"].values).mean(axis=some["delta"].dims.index("batch"))),
            **{name: some[name].mean("batch").values for name in names},
        }

    def _extended(self, variable: str, level: str, effects: Mapping[str, np.ndarray]) -> "Extension":
        layout = self.layout.with_level(variable, level)
        labels = layout.levels.labels
        at = labels.index(layout.levels.label(variable, level))
        arrays = {}
        for name, array in self.parameters.data_vars.items():
            values = array.values
            if "batch" in array.dims:
                values = np.insert(values, at, effects[str(name)], axis=array.dims.index("batch"))
            arrays[name] = (array.dims, values, array.attrs)
        coords = {name: values for name, values in self.parameters.coords.items() if name != "batch"}
        parameters = xr.Dataset(arrays, coords | {"batch": list(labels)}, self.parameters.attrs)
        return replace(self, parameters=parameters, layout=layout)


def warn_of_constants(layout: Layout, moments: Moments) -> None:
    """Warn of modelled features that are constant in new batches of two or more scans."""
    names = np.array(layout.features, dtype=object)
    constant = moments.select(np.isin(moments.features, names)).constant_inside
    if constant.any():
        warn(
            f"Constant in new batches of two or more scans: {listing(names[constant])}. Update would set these "
            "features aside everywhere; adopted, their values there are shrunken towards the other batches'. "
            "Leave these scans out, or do not use these features of them.",
            FeatureWarning,
        )
