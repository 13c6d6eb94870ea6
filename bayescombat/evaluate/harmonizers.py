"""What is evaluated: a fit, or any function that learns from scans how to harmonize scans."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np

from bayescombat.columns import heard
from bayescombat.errors import BayesCombatError, ConvergenceWarning, DataError, check_choice, listing
from bayescombat.estimation import again, shared_factors_in
from bayescombat.fit import Fit
from bayescombat.fit.trees import fitted_tree
from bayescombat.moments import Moments
from bayescombat.study import Study

__all__ = ["Harmonizer", "Learner", "Refit", "learners_of", "some_scans"]

type Rows = Callable[[Study], Any]
type Harmonizer = Callable[[Study], Rows]

Refit = Literal["quick", "same", "eb"]

QUICK = {"chains": 2, "tune": 500, "draws": 500}


def some_scans(study: Study, rows: np.ndarray) -> Study:
    """Return the study of some of the scans, whose positions are given, without batches that none of them is in."""
    codes = study.codes[rows]
    present = np.unique(codes)
    return replace(
        study,
        y=study.y[rows],
        x=study.x[rows],
        codes=np.searchsorted(present, codes),
        batches=tuple(study.batches[code] for code in present),
        obs=study.obs[rows],
        subjects=None if study.subjects is None else study.subjects[rows],
    )


@dataclass(frozen=True, eq=False)
class Learner:
    """A harmonizer by its name, and how it is learned anew.

    Parameters
    ----------
    name : str
        What it is called in the table.
    source : Fit or callable
        What was given.
    how : str
        How it is learned in every fold, in words.
    refit : {"quick", "same", "eb"}
        For a fit by NUTS.
    draws : int, optional
        Posterior draws; by default none.
    said : list of str
        What is to be said of refits, filled as they are made.
    """

    name: str
    source: Fit | Harmonizer
    how: str
    refit: Refit
    draws: int | None
    said: list[str]

    def learned(self, train: Study, seed: int) -> Callable[[Study], np.ndarray]:
        """Return what harmonizes scans to tables (1 + draws, obs, feature) after learning from others.

        The first table is the estimate, or the posterior mean.
        """
        if not isinstance(self.source, Fit):
            return self._by_callable(self.source(train))
        with heard() as found:
            fit = _refitted(self.source, train, self.refit, seed)
        for message, category in found:
            if category is ConvergenceWarning:
                figures = message.rpartition("(")[2].rstrip(")")
                self.said.append(f"A refit of {self.name!r} should not be trusted by its own diagnostics: {figures}.")
        aside = [name for name in self.source.layout.features if name not in set(fit.layout.features)]
        if aside:
            self.said.append(
                f"A refit of {self.name!r} set aside {listing(aside)}, which do not vary among a batch's training "
                "scans: there the scans that were held out are raw."
            )
        return self._by_fit(fit)

    def in_sample(self, study: Study) -> np.ndarray:
        """Return the tables of the scans that were learned from."""
        if isinstance(self.source, Fit):
            return self._by_fit(self.source)(study)
        return self._by_callable(self.source(study))(study)

    def _by_fit(self, fit: Fit) -> Callable[[Study], np.ndarray]:
        def tables(rows: Study) -> np.ndarray:
            with heard():
                mean = fit.harmonize(rows, probability=None)["mean"].values[None]
                if self.draws is None:
                    return np.asarray(mean)
                return np.concatenate([mean, fit.draws(self.draws, rows).values])

        return tables

    def _by_callable(self, harmonize: Rows) -> Callable[[Study], np.ndarray]:
        def tables(rows: Study) -> np.ndarray:
            found = np.asarray(harmonize(rows), dtype=np.float64)
            if found.shape[-2:] != rows.y.shape or found.ndim not in (2, 3):
                raise DataError(
                    f"Expected {self.name!r} to return values (obs, feature) or (draw, obs, feature) of "
                    f"{rows.y.shape[0]} scans and {rows.y.shape[1]} features, found the shape {found.shape}. "
                    "Return one row for every scan of the study that it is given."
                )
            if found.ndim == 2:
                return found[None]
            if self.draws is not None:
                found = found[: self.draws]
            return np.concatenate([found.mean(axis=0)[None], found])

        return tables


def learners_of(
    harmonizer: Fit | Harmonizer | Mapping[str, Fit | Harmonizer],
    study: Study,
    refit: Refit,
    held_out: bool,
    draws: int | None,
) -> list[Learner]:
    """Return what is evaluated, checked.

    Raises
    ------
    BayesCombatError
        If something is neither a fit nor callable, or has no draws although some were asked for.
    DataError
        If a fit is not one of this study's design.
    """
    check_choice("refit", refit, get_args(Refit))
    given = dict(harmonizer) if isinstance(harmonizer, Mapping) else {"harmonized": harmonizer}
    if not given or "raw" in given or not all(isinstance(name, str) for name in given):
        raise BayesCombatError(
            f"Expected names of harmonizers, 'raw' not among them, found {listing(given) or 'none'}. Raw values always "
            "stand in the table. Give for example {'EB': fit, 'mine': function}."
        )
    found = []
    for name, source in given.items():
        if isinstance(source, Fit):
            _check_fit(source, study, refit, draws if held_out else None)
        elif not callable(source):
            raise BayesCombatError(
                f"Expected a Fit, or a function of a training study that returns a function of a study, as {name!r}, "
                f"found {type(source).__name__}."
            )
        how = _words(source, refit) if held_out else "as it is, in-sample"
        found.append(Learner(name, source, how, refit, draws, []))
    return found


def _check_fit(fit: Fit, study: Study, refit: Refit, draws: int | None) -> None:
    study.conforming(fit.layout.spec)
    if fit.layout.reference != study.reference:
        raise DataError(
            f"Expected a fit of this study, found one to {fit.layout.reference or 'the pooled average'!r} for a study "
            f"whose reference is {study.reference or 'the pooled average'!r}. Fit the study, or give the fit's."
        )
    if draws is not None and (fit.method != "nuts" or refit == "eb") and not fit.settings.get("uncertainty"):
        raise BayesCombatError(
            "Expected fits with draws, found estimates of empirical Bayes. Leave draws out, or fit by NUTS, or by "
            "method='eb' with uncertainty=True."
        )


def _words(source: Fit | Harmonizer, refit: Refit) -> str:
    if not isinstance(source, Fit):
        return "called again in every fold"
    if source.method == "eb":
        return "refitted in every fold by empirical Bayes with the fit's own settings"
    if refit == "eb":
        return "refitted in every fold by empirical Bayes, although the fit is by NUTS"
    if refit == "same":
        return "refitted in every fold by NUTS with the fit's own settings"
    return (
        f"refitted in every fold by NUTS with the fit's own model and fewer draws: {QUICK['chains']} chains of "
        f"{QUICK['draws']} after {QUICK['tune']} of warm-up"
    )


def _refitted(fit: Fit, train: Study, refit: Refit, seed: int) -> Fit:
    """Return the fit that other scans give."""
    attrs, settings = dict(fit.tree.attrs), fit.settings
    shared = shared_factors_in(attrs) if fit.method == "nuts" else settings["shared_factors"]
    if fit.method == "nuts" and refit == "eb":
        chosen = {"shrinkage": "parametric", "mean_only": fit.mean_only, "compat": None, "shared_factors": shared}
        attrs |= {"method": "eb", "settings": json.dumps(chosen)}
    elif fit.method == "nuts":
        chosen = settings | {"seed": seed, "progress_bar": False} | (QUICK if refit == "quick" else {})
        attrs["settings"] = json.dumps(chosen)
    cross = str(shared) != "0" or fit.asked.needs_cross
    return Fit(fitted_tree(Moments.from_study(train, cross=cross), again(attrs, train), fit.asked))
