"""What is to be drawn: fits, a feature and batches, checked."""

from collections.abc import Mapping, Sequence

import numpy as np

from bayescombat.errors import DataError, listing, suggestion
from bayescombat.fit import Fit
from bayescombat.fit.drawing import wanted_features
from bayescombat.fit.layout import averaged

__all__ = ["check_fit", "chosen_batches", "chosen_feature", "named_fits", "scans_of"]

MOST_BATCHES = 12


def check_fit(fit: object) -> None:
    """Raise a DataError if this is no fit."""
    if not isinstance(fit, Fit):
        raise DataError(f"Expected a Fit, found {type(fit).__name__}. Make one with bayescombat.fit(study).")


def named_fits(fits: Fit | Mapping[str, Fit]) -> dict[str, Fit]:
    """Return fits by their names, a single one by that of its method.

    Raises
    ------
    DataError
        If there is something else, or the fits differ in batches or features.
    """
    found = dict(fits) if isinstance(fits, Mapping) else {"": fits}
    if not found:
        raise DataError("Expected at least one fit, found none. Give for example {'EB': quick, 'NUTS': fit}.")
    for fit in found.values():
        check_fit(fit)
    if not isinstance(fits, Mapping):
        found = {"NUTS" if fits.method == "nuts" else "EB": fits}
    first, *others = found.values()
    for fit in others:
        for what in ("batch", "feature"):
            one, other = (list(some.parameters[what].values) for some in (first, fit))
            if one != other:
                differing = sorted(set(one) ^ set(other))
                raise DataError(
                    f"Expected fits of the same {what} labels in the same order, found "
                    f"{f'other ones: {listing(differing)}' if differing else 'another order'}. Fit one study by both "
                    "methods."
                )
    return {str(name): fit for name, fit in found.items()}


def chosen_feature(fit: Fit, feature: str | None) -> str:
    """Return the feature, by default the one that batches explain best.

    Raises
    ------
    DataError
        If it was not modelled.
    """
    if feature is not None and not isinstance(feature, str):
        raise DataError(f"Expected the name of one feature, found {feature!r}. Draw several one by one.")
    if feature is not None:
        wanted_features(fit.layout.features, feature)
        return feature
    parameters = fit.parameters
    score = averaged((parameters["gamma"] / parameters["sigma"]) ** 2)
    explained = fit.layout.scans @ score.transpose("batch", "feature").values
    return fit.layout.features[int(explained.argmax())]


def chosen_batches(fit: Fit, batches: Sequence[str] | None) -> np.ndarray:
    """Return positions of batches, the largest first; by default at most twelve, of all sizes.

    Raises
    ------
    DataError
        If one is unknown, or none is named.
    """
    labels = [str(label) for label in fit.parameters["batch"].values]
    if batches is None:
        order = np.argsort(-fit.layout.scans, kind="stable")
        return np.asarray(order[np.linspace(0, len(order) - 1, min(len(order), MOST_BATCHES)).round().astype(int)])
    named = [str(name) for name in np.atleast_1d(np.array(batches, dtype=object))]
    unknown = [name for name in named if name not in labels]
    if unknown or not named:
        raise DataError(
            f"Expected batches of the fit, found {listing(unknown) or 'none'}."
            f"{suggestion(unknown[0], labels) if unknown else ''} It has {listing(labels)}."
        )
    found = np.array([labels.index(name) for name in named])
    return found[np.argsort(-fit.layout.scans[found], kind="stable")]


def scans_of(fit: Fit) -> list[str]:
    """Return the label of every batch with its number of scans, (batch,)."""
    return [f"{label} ({count})" for label, count in zip(fit.parameters["batch"].values, fit.layout.scans, strict=True)]
