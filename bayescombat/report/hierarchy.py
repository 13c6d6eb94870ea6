"""What effects of batches come from, or are shrunken to, in words that an author can paste."""

import numpy as np

from bayescombat.estimation import priors_in
from bayescombat.factors import FEWEST_FEATURES, most_factors
from bayescombat.fit import Fit
from bayescombat.report.held import Held
from bayescombat.report.pieces import counted
from bayescombat.report.references import Citing

__all__ = ["TOO_FEW", "chosen", "enough_to_look", "hierarchy", "priors", "shared", "unshrunken"]

TOO_FEW = f"with fewer than {FEWEST_FEATURES} features none were looked for"


def hierarchy(held: Held) -> list[str]:
    """Say what effects of batches are drawn from, or shrunken to; and how intercepts of subjects are."""
    found = [_drawn(held)] if held.nuts else [_shrunken(held), *_left(held)]
    if held.fit.layout.spec.subject is not None:
        how = "log-normal over the features" if held.nuts else "that of restricted maximum likelihood, by feature"
        found.append(f"The standard deviation of subjects’ intercepts was {how}.")
    return found


def _drawn(held: Held) -> str:
    words = "In units of a feature’s residual standard deviation sigma, the shifts of a batch were normal over features"
    if not held.fit.mean_only:
        words += ", and so were the logarithms of its scales"
    return (
        f"{words}, with a mean and a standard deviation of the batch’s own; across batches the means were normal about "
        "zero and the standard deviations log-normal, with parameters that were estimated as well."
    )


def _shrunken(held: Held) -> str:
    """Say how estimates of empirical Bayes are shrunken."""
    settings, alone = held.fit.settings, held.location_alone
    if held.factors:
        return _generalized(alone)
    if unshrunken(held):
        why = "" if settings["shrinkage"] == "none" else ", as there was one feature alone"
        return f"Effects of batches are least-squares estimates, which were not shrunken{why}."
    if settings["shrinkage"] == "nonparametric":
        return (
            "Effects of a batch were shrunken without a parametric prior: those of a feature are averages of the "
            "estimates of the other features, weighted by how well each explains the feature’s values."
        )
    sva = settings["compat"] == "sva"
    if alone:
        words = (
            "The shifts of a batch were shrunken to a normal distribution over features, whose mean and variance were "
            "estimated by the method of moments."
        )
        if sva and not settings["mean_only"]:
            words += " As in sva no scale was adjusted, since a batch had one scan."
        return f"{words} As in sva all batches were shrunken as if each had one scan." if sva else words
    until = "until the relative change fell below 0.0001, as in sva" if sva else "until they stood still"
    return (
        "The shifts of a batch were shrunken to a normal distribution over features, its squared scales to an "
        "inverse-gamma distribution, whose parameters were estimated by the method of moments; the conditional "
        f"posterior means of either given the other were iterated {until}."
    )


def _left(held: Held) -> list[str]:
    """Say that scales were left as they were where one scan tells nothing of them."""
    single = held.fit.layout.scans == 1
    scales = held.fit.parameters["delta"].transpose("batch", "feature").values[single]
    if held.location_alone or not single.any() or (scales != 1).any():
        return []
    return ["Scales of batches of one scan were not adjusted."]


def unshrunken(held: Held) -> bool:
    """Tell whether estimates are those of least squares: as it was asked, or since one feature tells no others."""
    return held.fit.settings["shrinkage"] == "none" or len(held.fit.layout.features) == 1


def _generalized(mean_only: bool) -> str:
    what = "The shifts of a batch were" if mean_only else "The log scales of a batch, and its shifts given these, were"
    return (
        f"{what} estimated by generalized least squares for all features together, shrunken to normal distributions "
        "over features whose spreads were found by expectation-maximization."
    )


def shared(held: Held, cite: Citing) -> list[str]:
    """Say what the features of a scan share in the model."""
    settings = held.fit.settings
    auto = str(held.fit.tree.attrs.get("shared_factors", settings.get("shared_factors", 0))) == "auto"
    if held.factors:
        how = chosen(held.fit.loadings, auto, cite)
        return [
            f"The noise of the features of a scan shared {counted(held.factors, 'factor')} ({how}), with loadings from "
            "principal-axis factoring of the pooled correlation of residuals within batches, taken for known.",
            "The shifts of a batch varied together along patterns over the features, which were learned from the "
            f"effects of the other batches and drawn to the form of the noise {cite('chen1979')}.",
        ]
    if not held.sure:
        return []
    none = f"; parallel analysis found no shared factor {cite('horn1965')}" if auto and enough_to_look(held) else ""
    return [f"The features of a scan were taken for independent given all this{none}."]


def chosen(loadings: np.ndarray, auto: bool, cite: Citing) -> str:
    """Say why there are as many factors as loadings (feature, factor)."""
    if not auto:
        return "a number chosen beforehand"
    features, count = loadings.shape
    most = most_factors(features)
    limit = f", at most {most}" if count == most else ""
    return f"as many as parallel analysis found{limit}; {cite.plain('horn1965')}"


def enough_to_look(held: Held) -> bool:
    """Tell whether there are as many features as parallel analysis needs."""
    return len(held.fit.layout.features) >= FEWEST_FEATURES


def priors(fit: Fit) -> str:
    """Say what the priors are, with their numbers."""
    given, spec = priors_in(fit.tree.attrs), fit.layout.spec

    def log_normal(name: str) -> str:
        return f"{getattr(given, f'{name}_median'):g} ({getattr(given, f'{name}_log_sd'):g})"

    parts = [f"feature means normal about the feature’s average with standard deviation {given.alpha_sd:g}"]
    if len(spec.unpenalised):
        parts.append(f"slopes normal about zero with standard deviation {given.beta_sd:g}")
    parts.append(
        "the logarithm of sigma normal about that of the residual standard deviation with standard deviation "
        f"{given.log_sigma_sd:g}"
    )
    spreads = [
        f"spread across batches of their mean shifts {log_normal('gamma_mean')}",
        f"standard deviation over features of a typical batch’s shifts {log_normal('gamma_sd')}",
        f"spread of its logarithm across batches {log_normal('gamma_sd_spread')}",
    ]
    if not fit.mean_only:
        spreads += [
            f"spread across batches of their mean log scales {log_normal('log_delta_mean')}",
            f"standard deviation over features of a typical batch’s log scales {log_normal('log_delta_sd')}",
            f"spread of its logarithm across batches {log_normal('log_delta_sd_spread')}",
        ]
    if spec.subject is not None:
        spreads += [
            f"standard deviation of subjects’ intercepts in a typical feature {log_normal('subject_sd')}",
            f"spread of its logarithm over features {log_normal('subject_sd_spread')}",
        ]
    if spec.smooths:
        spreads += [
            f"how far a curve bends in a typical feature, root mean square over its range, {log_normal('smooth_sd')}",
            f"spread of its logarithm over features {log_normal('smooth_sd_spread')}",
        ]
    if fit.tree.attrs.get("robust"):
        spreads.append(f"degrees of freedom of the noise {log_normal('nu')}")
    whitened = ", covariates being whitened within batches" if len(spec.unpenalised) else ""
    return (
        "Priors, in units of a feature’s residual standard deviation within batches"
        f"{whitened}: {'; '.join(parts)}. Log-normal priors, by median and, in brackets, standard deviation of the "
        f"logarithm: {'; '.join(spreads)}."
    )
