"""Which columns of a table are the features."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from bayescombat.columns import check_unique, names_index, require, text_label, warn
from bayescombat.errors import DataError, FeatureWarning, listing, suggestion

__all__ = ["chosen_features", "chosen_names", "warn_of_codes"]

# Whole numbers of which nearly every scan has its own are identifiers; few distinct ones are years or codes.
IDENTIFIER_SHARE = 0.95
CODE_SHARE = 0.05
CODES_AT_LEAST, CODES_AT_MOST = 10, 100


def chosen_features(
    table: pd.DataFrame, features: str | Iterable[object] | None, taken: Sequence[str]
) -> tuple[str, ...]:
    """Return the names of the features.

    Parameters
    ----------
    table : pandas.DataFrame
        Rows are scans.
    features : str, iterable of names, or None
        Names; or a regular expression that is searched for in the names of the columns; or None for every
        column of numbers (booleans are none). The last two leave out the columns in `taken`.
    taken : sequence of str
        Columns that have another role.

    Raises
    ------
    DataError
        If there are none, or if a named one is not in the table or has another role.

    Examples
    --------
    >>> table = pd.DataFrame({"site": ["a"], "left": [1.0], "right": [2.0], "note": ["x"]})
    >>> chosen_features(table, None, ["site"]), chosen_features(table, "^l", ["site"])
    (('left', 'right'), ('left',))
    """
    free = [name for name in table.columns if name not in taken]
    if features is None:
        names = [name for name in free if _is_measurement(table[name])]
        if not names:
            kinds = listing(dict.fromkeys(str(table[name].dtype) for name in free))
            raise DataError(
                f"Expected at least one column of numbers to harmonize, found none (other columns: {kinds}). "
                "Name the features, or convert columns with pandas.to_numeric."
            )
    elif not isinstance(features, Iterable):
        raise DataError(
            f"Expected names of the features or a regular expression, found {type(features).__name__}. Give "
            "names, such as table.columns[8:20]."
        )
    elif isinstance(features, str):
        names = _matching(features, free)
    else:
        names = [text_label(name) for name in features]
        if not names:
            raise DataError("Expected at least one feature, found an empty list. Name the columns to harmonize.")
        require(table, names, "feature")
        doubled = [name for name in names if name in taken]
        if doubled:
            raise DataError(
                f"Expected features that have no other role, found {listing(doubled)}, used as batch, "
                "covariate or subject too. Give each column one role."
            )
    return tuple(names)


def chosen_names(
    known: Sequence[str], features: str | Iterable[object] | None, taken: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and positions of the features, (feature,), where all that are known are measurements.

    Parameters
    ----------
    known : sequence of str
        Names of all measurements.
    features : str, iterable of names, or None
        As in `chosen_features`; None for all.
    taken : sequence of str
        Columns of the rows that have a role, none of which may be a feature too.

    Raises
    ------
    DataError
        As in `chosen_features`, or if a name is there twice.

    Examples
    --------
    >>> chosen_names(["left", "right"], ["right"], ["site"])
    (('right',), array([1]))
    """
    index = names_index(known)
    check_unique(index, "feature", "Rename or drop the doubled ones.")
    names = chosen_features(pd.DataFrame(columns=index), known if features is None else features, taken)
    return names, index.get_indexer(names_index(names))


def _is_measurement(values: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(values.dtype) and not pd.api.types.is_bool_dtype(values.dtype)


def _matching(pattern: str, names: Sequence[str]) -> list[str]:
    try:
        found = [name for name in names if re.search(pattern, name)]
    except re.error as error:
        raise DataError(
            f"Expected a regular expression for the features, found {pattern!r}: {error}. Any text is '.*', the end of "
            "a name '$': '_thickness$'. Give a list to choose features by their names."
        ) from error
    if not found:
        raise DataError(
            f"Expected features whose names match {pattern!r}, found none among {listing(names)}."
            f"{suggestion(pattern, names)} Give another pattern or a list of names."
        )
    return found


def warn_of_codes(y: np.ndarray, names: Sequence[str]) -> None:
    """Warn of features that look like identifiers, years or codes.

    Parameters
    ----------
    y : ndarray, (obs, feature)
        Values of features that nobody named; missing cells (NaN) say nothing.
    names : sequence of str, (feature,)

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     warn_of_codes(np.array([[7.0, 0.3], [8.0, 0.1], [9.0, 0.2]]), ["id", "thickness"])
    >>> "identifiers" in str(caught[0].message), "'thickness'" in str(caught[0].message)
    (True, False)
    """
    identifiers, codes = [], []
    whole = (np.isnan(y) | (y == np.rint(y))).all(axis=0)
    for v, name in enumerate(names):
        if not whole[v]:
            continue
        found = y[~np.isnan(y[:, v]), v]
        distinct = len(np.unique(found))
        if distinct > 1 and distinct >= IDENTIFIER_SHARE * len(found):
            identifiers.append(name)
        elif 1 < distinct <= max(CODES_AT_LEAST, min(CODE_SHARE * len(found), CODES_AT_MOST)):
            codes.append(name)
    looks = [
        f"{len(found)} {meaning}: {listing(found)}"
        for found, meaning in (
            (identifiers, "could be identifiers (whole numbers, nearly all different)"),
            (codes, "could be years or codes (few different whole numbers)"),
        )
        if found
    ]
    if looks:
        warn(
            f"Every column of numbers is taken as a feature; of these {'; '.join(looks)}. "
            "They are harmonized like the rest: to leave them out, name those that are features.",
            FeatureWarning,
        )
