"""What is removed and preserved on fcon1000: raw, empirical Bayes, and what the latter seems to do in-sample."""

import time
import warnings
from typing import Any

import numpy as np
import pandas as pd

import bayescombat as bc
from bayescombat.evaluate.classification import predicted_labels, predicted_numbers
from bayescombat.evaluate.folds import held_out_folds
from bayescombat.evaluate.harmonizers import some_scans
from benchmarks.tables import TABLES

FOLDS = 5


def linear_svm(seed: int) -> Any:
    """Return a support vector machine with a linear kernel, one against one."""
    from sklearn.svm import SVC

    return SVC(kernel="linear", C=0.01)


def plain_figures(seed: int = 0) -> pd.DataFrame:
    """Return plain accuracy of a linear SVM for the site, and R² of ridge regression for age, of held-out scans.

    Covariates stay in, and sites weigh by their scans, so that the figures can be held against published ones.
    """
    study = TABLES["fcon1000"]()
    age = study.x[:, study.covariates.index("age")]
    units, levels = np.arange(len(age)), study.codes[:, None]
    fold = held_out_folds(units, levels, FOLDS, np.random.default_rng(seed))
    tables = {"raw": lambda train, rows: rows.y, "EB": _held_out, "EB in-sample": _in_sample(study)}
    found = {}
    for name, harmonized in tables.items():
        right, predicted = np.zeros(len(age), dtype=bool), np.full(len(age), age.mean())
        for number in range(FOLDS):
            apart = fold == number
            train, test = (some_scans(study, np.flatnonzero(part)) for part in (~apart, apart))
            one, other = (harmonized(train, part) for part in (train, test))
            sites = predicted_labels(linear_svm, one, study.codes[~apart], other, seed)
            right[apart] = sites == study.codes[apart]
            predicted[apart] = predicted_numbers(one, age[~apart], other)
        r2 = 1 - ((age - predicted) ** 2).sum() / ((age - age.mean()) ** 2).sum()
        found[name] = {"site accuracy, linear SVM": right.mean(), "age R²": r2}
    found["majority"] = {"site accuracy, linear SVM": np.bincount(study.codes).max() / len(age), "age R²": 0.0}
    return pd.DataFrame(found).T


def _held_out(train: bc.Study, rows: bc.Study) -> np.ndarray:
    with warnings.catch_warnings():
        # A site of three has two training scans, which may be alike.
        warnings.simplefilter("ignore", bc.FeatureWarning)
        return np.asarray(bc.fit(train, method="eb").harmonize(rows)["mean"].values)


def _in_sample(study: bc.Study) -> Any:
    whole = bc.fit(study, method="eb").harmonized["mean"]
    return lambda train, rows: whole.sel(obs=np.asarray(rows.obs)).values


def evaluations(seed: int = 1) -> dict[str, bc.Evaluation]:
    """Return evaluations of empirical Bayes, held out and in-sample."""
    study = TABLES["fcon1000"]()
    fit = bc.fit(study, method="eb")
    kinds = {"EB": True, "EB in-sample": False}
    return {
        name: bc.evaluate(study, {name: fit}, seed=seed, held_out=held_out, progress_bar=False)
        for name, held_out in kinds.items()
    }


def table() -> pd.DataFrame:
    """Return every metric of raw values and of empirical Bayes held out and in-sample, and the seconds it took."""
    started = time.process_time()
    found = evaluations()
    seconds = (time.process_time() - started) / len(found)
    columns = [found["EB"].table[["raw", "EB"]], found["EB in-sample"].table["EB in-sample"]]
    whole = pd.concat([*columns, found["EB"].table["expected"]], axis=1)
    plain = plain_figures()
    for metric in plain:
        whole.loc[f"plain: {metric}"] = {name: plain.loc[name, metric] for name in ("raw", "EB", "EB in-sample")} | {
            "expected": plain.loc["majority", metric]
        }
    whole.loc["processor seconds of one evaluation"] = {"EB": seconds}
    return whole
