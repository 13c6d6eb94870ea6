"""What the numbers of a fit mean, and what they do not."""

import numpy as np

from bayescombat.evaluate import Evaluation
from bayescombat.report.held import Held
from bayescombat.report.pieces import counted

__all__ = ["limits"]

FEWEST_BATCHES = 5
FEWEST_FEATURES = 10


def limits(held: Held, evaluation: Evaluation | None) -> list[str]:
    """Return what a reader should know before leaning on the fit, a sentence or two each."""
    return [*_of_intervals(held), *_of_estimates(held), *_of_the_study(held), *_of_what_is_done(held, evaluation)]


def _of_intervals(held: Held) -> list[str]:
    """Say what intervals are of."""
    if not held.sure:
        return []
    found = [
        "An interval says where a harmonized value lies, given the scan’s own measurement and the model: it holds how "
        "unsure the effects of its batch are. It does not hold the noise of the measurement itself, and is not where a "
        "second scan would fall."
    ]
    found.append(
        "Values of one batch share the error of its effects: their intervals are not independent. Means and tests of "
        "many scans need whole tables of draws (fit.draws, bayescombat.pool), not single intervals added up."
    )
    if not held.factors and len(held.fit.layout.features) > 1:
        found.append(
            "Features of a scan were taken for independent. They seldom are, so that averages over features come out "
            "surer than they are; what is said of single features holds."
        )
    if held.factors or held.fit.hidden is not None:
        found.append("Loadings of factors were taken for known, so that intervals are somewhat too narrow.")
    return found


def _of_estimates(held: Held) -> list[str]:
    """Say what is not known of estimates, and of later analyses of one harmonized table."""
    found = []
    if not held.nuts and held.sure:
        found.append(
            "Intervals take the hyper-parameters, means, slopes and residual variances for known. With few features or "
            "few batches they are too narrow."
        )
    if not held.sure:
        found.append(
            "One number stands for each value, whatever the size of its batch. An analysis of these numbers is as sure "
            "as if they had been measured, and finds too much, most of all at small sites and where groups differ "
            "between batches."
        )
    else:
        found.append(
            "An analysis of the harmonized means alone takes them for measured. Pooling it over draws "
            "(bayescombat.pool), or asking the model (fit.effect), carries the uncertainty on."
        )
    return found


def _of_the_study(held: Held) -> list[str]:
    """Say what no harmonization of such a study can tell."""
    layout = held.fit.layout
    found = [
        "What hangs together with batch cannot be told from it: where cases come from one batch and controls from "
        "another, or ages do not meet, their difference is divided by the model’s assumptions alone. A covariate that "
        "differs between batches and was left out is taken for an effect of theirs."
    ]
    if min(layout.levels.sizes) < FEWEST_BATCHES:
        found.append(
            f"There are {counted(min(layout.levels.sizes), 'batch', 'batches')}: how batches differ is learned from "
            "these alone, so that the priors have much to say."
        )
    if len(layout.features) < FEWEST_FEATURES:
        found.append(
            f"There {'is' if len(layout.features) == 1 else 'are'} {counted(len(layout.features), 'feature')} to learn "
            "from: how a batch’s effects spread over features is poorly known."
        )
    if held.missing and np.isfinite(held.missing):
        found.append("Cells are supposed to be missing at random, given batch and covariates.")
    noise = "Student’s t with the same tails for all features" if held.robust else "normal"
    scale = " on the scale of logarithms" if held.logs else ""
    found.append(f"Noise is supposed to be {noise}{scale}, and effects of covariates the same in all batches.")
    return found


def _of_what_is_done(held: Held, evaluation: Evaluation | None) -> list[str]:
    found = []
    if held.fit.asked.despite_covariates and held.fit.hidden is not None:
        found.append(
            "Hidden factors were removed whether or not they carry a preserved covariate: part of what is studied may "
            "have gone with them."
        )
    if held.adopted:
        found.append("Batches that were added after the fit did not change what it knows; a refit would.")
    if evaluation is None:
        found.append(
            "This report holds no evaluation: that batch effects are gone, and all else is not, was not tested."
        )
    return found
