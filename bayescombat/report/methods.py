"""The methods of a fit, in words that an author can paste: what was done, and nothing that was not."""

from typing import NamedTuple

from bayescombat.evaluate import Evaluation
from bayescombat.report.computation import by_empirical_bayes, by_sampling, evaluated
from bayescombat.report.glance import sized
from bayescombat.report.held import Held
from bayescombat.report.hierarchy import hierarchy, priors, shared, unshrunken
from bayescombat.report.outcome import values
from bayescombat.report.pieces import counted, united
from bayescombat.report.references import Citing, Reference

__all__ = ["Methods", "methods_of"]


class Methods(NamedTuple):
    """Paragraphs of plain text, and what they cite, by BibTeX key."""

    paragraphs: list[str]
    references: dict[str, Reference]


def methods_of(held: Held, evaluation: Evaluation | None) -> Methods:
    """Return what was done."""
    cite = Citing()
    estimated = by_sampling(held, cite) if held.nuts else by_empirical_bayes(held)
    found = [
        [_opening(held, cite), _model(held, cite), *_covariates(held, cite)],
        [*hierarchy(held), *shared(held, cite)],
        [priors(held.fit)] if held.nuts else [],
        [*estimated, *values(held, cite)],
        [] if evaluation is None else evaluated(evaluation, cite),
    ]
    return Methods([" ".join(sentences) for sentences in found if sentences], cite.found)


def _opening(held: Held, cite: Citing) -> str:
    """Say what was removed from what, and by which method."""
    layout, compat = held.fit.layout, held.fit.settings.get("compat")
    batches = [f"{name} ({words})" for name, words in sized(held).items()]
    what = f"Effects of {united(batches)} on {counted(len(layout.features), 'feature')} of {held.scans:,} scans"
    if held.nuts:
        return (
            f"{what} were removed by a fully Bayesian form of ComBat {cite('johnson2007', 'reynolds2023')}, in which "
            "the parameters of all features and batches, and those of the distributions that they come from, are "
            "estimated together."
        )
    if unshrunken(held):
        return f"{what} were removed by ComBat {cite('johnson2007')} without empirical Bayes."
    if compat == "sva":
        return (
            f"{what} were removed by ComBat {cite('johnson2007')}, by the algorithm of the R package sva "
            f"{cite('leek2012')}, which was reproduced."
        )
    if compat == "longcombat":
        return f"{what} were removed by longitudinal ComBat {cite('beer2020')}, by its published algorithm."
    return f"{what} were removed by empirical-Bayes ComBat {cite('johnson2007')}."


def _model(held: Held, cite: Citing) -> str:
    """Say what the model is of one value."""
    spec, several = held.fit.layout.spec, len(held.fit.layout.levels.active) > 1
    parts = ["a mean"]
    parts += ["effects of covariates"] if spec.covariates else []
    parts += [f"a normal random intercept of the subject {cite('beer2020')}"] if spec.subject is not None else []
    parts += ["one shift for the level of every batch variable" if several else "a shift of the batch"]
    noise = "noise"
    if held.robust:
        noise = (
            "noise of Student’s t distribution with degrees of freedom that were estimated, the same for all features"
        )
    words = "The natural logarithm of a value" if held.logs else "A value"
    words += f" was modelled as the sum of {united([*parts, noise])}."
    if held.location_alone:
        return f"{words} Noise had the same standard deviation in all batches: location was adjusted, scale was not."
    scale = "the product of the scales of these levels" if several else "a scale of the batch"
    words += f" The {'scale' if held.robust else 'standard deviation'} of the noise was that of the feature times "
    together = " Effects of all variables were estimated together." if several else ""
    return f"{words}{scale}.{together}"


def _covariates(held: Held, cite: Citing) -> list[str]:
    """Say what was preserved and what was removed beside batches."""
    spec, found = held.fit.layout.spec, []
    if spec.formula:
        found.append(f"Effects of {_named(spec.formula)} were estimated along with those of the batches and preserved.")
    for smooth in spec.smooths:
        how = f"by restricted maximum likelihood {cite('patterson1971')}"
        how = "as a random effect whose standard deviation is log-normal over the features" if held.nuts else how
        found.append(
            f"The effect of {smooth.column} was preserved as a curve, a penalized cubic B-spline of "
            f"{len(smooth.weights)} basis functions {cite('eilers1996', 'wood2017')}; how smooth it is was estimated "
            f"for every feature, {how}."
        )
    if spec.remove:
        found.append(
            f"Effects of {_named(spec.remove)} were estimated along with all others and removed, so that values stand "
            f"at the average of what was removed {cite('wachinger2021')}."
        )
    if not spec.covariates:
        found.append(
            "No covariate was modelled, so that differences between batches in who was scanned count as their effects."
        )
    return found


def _named(formula: str) -> str:
    """Return what a formula is made of, as a text says it.

    Examples
    --------
    >>> _named("age + sex"), _named("bs(age, df=4)")
    ('age and sex', '‘bs(age, df=4)’ (a formula)')
    """
    terms = [term.strip() for term in formula.split("+")]
    return united(terms) if all(term.isidentifier() for term in terms) else f"‘{formula}’ (a formula)"
