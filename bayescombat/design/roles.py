"""Which columns of a table are batches, features and covariates: named plainly, and each in one role."""

from collections import Counter
from collections.abc import Iterable, Sequence

from bayescombat.columns import text_label
from bayescombat.errors import DataError, listing

__all__ = ["batch_names", "check_roles", "feature_names"]


def batch_names(batch: object) -> tuple[str, ...]:
    """Return the names of the batch columns.

    Parameters
    ----------
    batch : str or sequence of str
        One name, or several.

    Raises
    ------
    DataError
        If there are none, or one is there twice.

    Examples
    --------
    >>> batch_names("site"), batch_names(["site", "software"])
    (('site',), ('site', 'software'))
    """
    given = batch if isinstance(batch, Iterable) and not isinstance(batch, str) else [batch]
    names = tuple(text_label(name) for name in given)
    if not names:
        raise DataError("Expected at least one batch column, found an empty list. Name the column of batch labels.")
    doubled = _doubled(names)
    if doubled:
        raise DataError(
            f"Expected every batch column once, found {listing(doubled)} more than once. Name "
            "each once; what is asked for are names of columns, not their labels."
        )
    return names


def feature_names(features: Sequence[object]) -> tuple[str, ...]:
    """Return the names of the features as text.

    Raises
    ------
    DataError
        If there are none, or if they are one text.

    Examples
    --------
    >>> feature_names(["left", 1])
    ('left', '1')
    """
    if isinstance(features, str):
        raise DataError(f"Expected a list of the names of features, found the text {features!r}. Give [{features!r}].")
    names = tuple(name if type(name) is str else text_label(name) for name in features)
    if not names:
        raise DataError("Expected at least one feature, found an empty list. Name the columns to harmonize.")
    return names


def check_roles(batch: Sequence[str], features: Sequence[str], sources: Iterable[str], subject: str | None) -> None:
    """Raise a DataError if a column has two roles or is named twice."""
    doubled = _doubled([*batch, *features, *sources, *([] if subject is None else [subject])])
    if doubled:
        raise DataError(
            "Expected every column in one role (batch, feature, covariate or subject), found more than one for "
            f"{listing(doubled)}. Name each once."
        )


def _doubled(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
