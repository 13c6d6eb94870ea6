"""What harmonized values are, and what became of all that was not harmonized, in words that an author can paste."""

import numpy as np

from bayescombat.report.held import Held
from bayescombat.report.hierarchy import TOO_FEW, chosen, enough_to_look
from bayescombat.report.pieces import counted, percent, united
from bayescombat.report.references import Citing

__all__ = ["values"]

UNTOLD = "which batch effects could not be learned for"


def values(held: Held, cite: Citing) -> list[str]:
    """Say what harmonized values are, of cells and features that are not, and of batches that came later."""
    return [
        _target(held),
        *_across(held, cite),
        _values(held),
        *_missing(held, cite),
        *_aside(held),
        *_adopted(held, cite),
    ]


def _target(held: Held) -> str:
    reference, spec = held.fit.layout.reference, held.fit.layout.spec
    words = "Values were harmonized to the average of the batches, weighted by their scans"
    if reference is not None:
        own = "whose values were left as they were"
        if spec.removed or held.fit.hidden is not None:
            own += " but for what was removed from all scans"
        words = f"Values were harmonized to the batch {reference}, {own}"
    return f"{words}; subjects’ intercepts were left in." if spec.subject is not None else f"{words}."


def _across(held: Held, cite: Citing) -> list[str]:
    """Say what was done to the residuals of a scan across its features."""
    asked, hidden, found = held.fit.asked, held.fit.hidden, []
    auto = asked.factors == "auto"
    if auto and hidden is None:
        none = f"parallel analysis found none {cite('horn1965')}" if enough_to_look(held) else TOO_FEW
        found.append(f"Hidden factors were to be removed; {none}.")
    if hidden is not None:
        how = chosen(hidden.loadings, auto, cite)
        carried = ", after a test that they do not carry a preserved covariate"
        if asked.despite_covariates:
            carried = ", whether or not they go along with a preserved covariate"
        if not held.fit.layout.spec.kept.any():
            carried = ""
        count = hidden.loadings.shape[1]
        found.append(
            f"{counted(count, 'hidden factor')} of the residuals ({how}), with loadings by principal-axis factoring of "
            f"their pooled correlation, taken for known, {'was' if count == 1 else 'were'} removed by Bartlett "
            f"scores{carried}."
        )
    if asked.share:
        drawn = "; the scales of scores were drawn for every posterior draw" if held.nuts else ""
        found.append(
            f"Covariances were harmonized by CovBat {cite('chen2022')}, on the scores of the principal components that "
            f"explain {100 * asked.share:g} % of the variance{drawn}."
        )
    return found


def _values(held: Held) -> str:
    back = ", as exponentials of harmonized logarithms" if held.logs else ""
    if not held.sure:
        return f"Harmonized values are estimates{back}, without a standard error."
    if not held.nuts:
        return (
            f"Harmonized values are the estimates{back}; their standard deviations and intervals are those of the "
            "posterior of shifts and scales given the hyper-parameters, means, slopes and residual variances, which "
            "were taken for known."
        )
    asked = held.fit.asked
    some = held.logs or held.fit.layout.spec.subject is not None or held.fit.hidden is not None or asked.share
    which = "over at most 1,000 draws" if some else "over all draws"
    return (
        f"Harmonized values are posterior means, with posterior standard deviations {which} and intervals (of 90 % "
        f"unless stated otherwise) between quantiles of {'these' if some else 'at most 1,000 of them'}."
    )


def _missing(held: Held, cite: Citing) -> list[str]:
    missing = held.missing
    if not np.isfinite(missing) or missing == 0:
        return []
    return [
        f"{percent(missing)} of the cells were missing and stayed so; every feature was fitted to the scans that it "
        f"was observed in, which supposes cells missing at random given batch and covariates {cite('rubin1976')}."
    ]


def _aside(held: Held) -> list[str]:
    found = []
    for reason, names in held.aside.items():
        were = "was" if len(names) == 1 else "were"
        found.append(f"{counted(len(names), 'feature')}, {reason or UNTOLD}, {were} left as measured.")
    return found


def _adopted(held: Held, cite: Citing) -> list[str]:
    if not held.adopted:
        return []
    how = f"for every posterior draw of all else, which they did not change {cite('plummer2015')}"
    how = how if held.nuts else "given the other estimates, which they did not change"
    many = "The batches" if len(held.adopted) > 1 else "The batch"
    were = "were" if len(held.adopted) > 1 else "was"
    found = [f"{many} {united(held.adopted)} {were} added after the fit, with effects estimated {how}."]
    if held.fit.layout.reference is None:
        found.append("The average that values were harmonized to is that of the other batches.")
    return found
