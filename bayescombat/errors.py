"""The errors and warnings of bayescombat.

Every message says what was expected, what was found and what to do. All errors derive from
`BayesCombatError`, all warnings from `BayesCombatWarning`, so that one name catches or silences them.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from numbers import Real

__all__ = [
    "BatchSizeWarning",
    "BayesCombatError",
    "BayesCombatWarning",
    "ConfoundedDesignError",
    "ConvergenceWarning",
    "DataError",
    "ExtrapolationWarning",
    "FeatureWarning",
    "FileFormatError",
    "LabelWarning",
    "NegativeValueWarning",
    "OverlapWarning",
    "PoolingWarning",
    "UnseenBatchError",
    "UnseenLevelError",
]


class BayesCombatError(ValueError):
    """Base of every error raised on purpose by bayescombat."""


class DataError(BayesCombatError):
    """The table cannot be used as it stands."""


class ConfoundedDesignError(BayesCombatError):
    """Batch and covariates cannot be told apart in this table."""


class UnseenBatchError(BayesCombatError):
    """Rows of a batch that the fit does not know."""


class UnseenLevelError(BayesCombatError):
    """Rows with a level of a categorical covariate that the fit does not know."""


class FileFormatError(BayesCombatError):
    """The file was not written by bayescombat, or by a version that this one cannot read."""


class BayesCombatWarning(UserWarning):
    """Base of every warning given by bayescombat."""


class BatchSizeWarning(BayesCombatWarning):
    """A batch is so small that part of its effect comes from the prior alone."""


class ConvergenceWarning(BayesCombatWarning):
    """The sampler's draws should not be trusted as they stand."""


class ExtrapolationWarning(BayesCombatWarning):
    """A covariate lies outside the range that a spline was learned on."""


class FeatureWarning(BayesCombatWarning):
    """Features that were set aside, or that look as if they were no measurements."""


class LabelWarning(BayesCombatWarning):
    """Labels that look like one label, spelled in several ways."""


class NegativeValueWarning(BayesCombatWarning):
    """Features that are positive in the table became negative."""


class OverlapWarning(BayesCombatWarning):
    """Batches whose covariates do not meet, so that the model extrapolates between them."""


class PoolingWarning(BayesCombatWarning):
    """There is too little to learn the shared priors from."""


def listing(names: Iterable[object], most: int = 5) -> str:
    """Name at most `most` things and say how many more there are."""
    items = [repr(str(name)) for name in names]
    shown = ", ".join(items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown


def suggestion(name: object, known: Iterable[object]) -> str:
    """Return `` Did you mean ...?`` when a known name is close but for its case, else an empty string."""
    folded = {str(item).casefold(): str(item) for item in known}
    close = get_close_matches(str(name).casefold(), folded, n=1)
    return f" Did you mean {folded[close[0]]!r}?" if close else ""


def check_choice(name: str, value: object, known: Iterable[object]) -> None:
    """Raise a BayesCombatError if an argument is not one of the known values."""
    *others, last = known
    if value not in (*others, last):
        raise BayesCombatError(
            f"Expected {name} to be {', '.join(map(repr, others))} or {last!r}, found {value!r}."
            f"{suggestion(value, (*others, last))}"
        )


def check_probability(probability: object) -> None:
    """Raise a BayesCombatError if an interval of this probability cannot be made."""
    if not isinstance(probability, Real) or not 0 < float(probability) < 1:
        raise BayesCombatError(f"Expected a probability between 0 and 1, found {probability!r}.")
