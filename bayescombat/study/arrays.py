"""Arrays as a table: positions are what joins them, and labels must not contradict that."""

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescombat.columns import as_table, inferred, is_numeric, text_label
from bayescombat.errors import DataError, listing
from bayescombat.frames import as_pandas

__all__ = ["table_of_arrays"]


def table_of_arrays(
    y: Any,
    batch: Any,
    covariates: Any,
    features: Sequence[object] | None,
    obs: Any,
    remove: Any = None,
    subject: Any = None,
) -> tuple[pd.DataFrame, list[str], tuple[list[str], list[str]], list[str], list[str]]:
    """Return arrays as one table, and the names of its batch, covariate (kept, removed), feature and subject columns.

    The parameters are those of `Study.from_arrays`, which names the errors.

    Examples
    --------
    >>> table_of_arrays(np.eye(2), ["a", "b"], None, None, None)[0]
       feature_0  feature_1 batch
    0        1.0        0.0     a
    1        0.0        1.0     b
    """
    # What is no frame of pandas has no row labels that could contradict others.
    indexed = {"y": y, "batch": batch, "covariates": covariates, "remove": remove, "subject": subject}
    y, batch, covariates, remove, subject = (_as_pandas(given) for given in indexed.values())
    values = _features(y, features)
    labels = _batches(batch)
    kept, removed = _covariates(covariates, "covariate"), _covariates(remove, "removed")
    _check_names([*kept, *removed], "covariate")
    columns = kept | removed
    people = {} if subject is None else _subjects(subject)
    several = isinstance(batch, pd.DataFrame | Mapping)
    parts = {f"batch[{name!r}]" if several else "batch": column for name, column in labels.items()}
    parts |= {f"covariates[{name!r}]": column for name, column in kept.items()}
    parts |= {f"remove[{name!r}]": column for name, column in removed.items()}
    parts |= {f"subject[{name!r}]": column for name, column in people.items()}
    for name, part in parts.items():
        if len(part) != len(values):
            turned = " Are the scans of y its columns? Then give y.T." if len(part) == values.shape[1] else ""
            raise DataError(
                f"Expected one row per scan in every array: y has {len(values)}, {name} has {len(part)}. "
                f"Give rows for the same scans, in the same order.{turned}"
            )
    for role, given in list(indexed.items())[1:4]:
        if isinstance(given, Mapping):
            indexed |= {f"{role}[{name!r}]": column for name, column in given.items()}
    _check_indexes({name: part.index for name, part in indexed.items() if isinstance(part, pd.Series | pd.DataFrame)})
    rows = values.index if obs is None else pd.Index(as_pandas(obs))
    if len(rows) != len(values):
        raise DataError(
            f"Expected one label per scan in obs: y has {len(values)} rows, obs has {len(rows)}. "
            "Give one label per row of y."
        )
    others = [column.set_axis(values.index) for column in (*columns.values(), *labels.values(), *people.values())]
    table = pd.concat([values, *others], axis=1)
    table.columns = pd.Index([*values.columns, *columns, *labels, *people], dtype=object)
    table = as_table(table.set_axis(rows, axis=0))
    return table, list(labels), (list(kept), list(removed)), list(values.columns), list(people)


def _as_pandas(given: Any) -> Any:
    """Return frames and columns of other libraries, or a mapping of them, as pandas has them."""
    return {name: as_pandas(part) for name, part in given.items()} if isinstance(given, Mapping) else as_pandas(given)


def _features(y: Any, features: Sequence[object] | None) -> pd.DataFrame:
    """Return y as a frame with named columns."""
    if np.ndim(y) != 2:
        raise DataError(
            f"Expected y as scans × features (two dimensions), found {np.ndim(y)}. For one feature give y[:, None]."
        )
    if isinstance(features, str):
        raise DataError(f"Expected one name per column of y in features, found the text {features!r}. Give a list.")
    given = None if features is None else [text_label(name) for name in features]
    if isinstance(y, pd.DataFrame):
        own = [text_label(name) for name in y.columns]
        if given is not None and given != own:
            raise DataError(
                f"Expected the columns of y ({listing(own)}) as features, found {listing(given)}. "
                "Leave features out, or choose and rename the columns of y."
            )
        return y.set_axis(pd.Index(own, dtype=object), axis=1)
    frame = pd.DataFrame(y if isinstance(y, np.ndarray) else np.asarray(y), copy=False)
    names = [f"feature_{v}" for v in range(frame.shape[1])] if given is None else given
    if not names or len(names) != frame.shape[1]:
        raise DataError(
            f"Expected one name per column of y and at least one column, found {frame.shape[1]} columns and "
            f"{len(names)} names. Give y as scans × features, and a name for each feature."
        )
    return frame.set_axis(pd.Index(names, dtype=object), axis=1)


def _batches(batch: Any) -> dict[str, pd.Series]:
    """Return the batch labels as columns by name."""
    if not isinstance(batch, pd.DataFrame | Mapping):
        column = _labels(batch, "batch")
        return {column.name if isinstance(column.name, str) else "batch": column}
    named = [(text_label(name), column) for name, column in batch.items()]
    if not named:
        raise DataError("Expected at least one batch variable, found none. Give a column of batch labels.")
    _check_names([name for name, _ in named], "batch variable")
    return {name: _labels(column, f"batch[{name!r}]") for name, column in named}


def _labels(batch: Any, role: str) -> pd.Series:
    if isinstance(batch, str) or np.ndim(batch) != 1:
        raise DataError(
            f"Expected one label per scan (one dimension) in {role}, found "
            f"{f'the text {batch!r}' if isinstance(batch, str) else f'{np.ndim(batch)} dimensions'}. "
            "Give the labels themselves, for several batch variables as a DataFrame or a mapping of names to labels; "
            "for a table with batch columns use Study.from_dataframe."
        )
    # A list that went through numpy would turn 1 into "1" beside a text.
    return pd.Series(list(batch) if isinstance(batch, list | tuple) else batch)


def _subjects(subject: Any) -> dict[str, pd.Series]:
    """Return the subject labels as a column by name."""
    if isinstance(subject, str) or np.ndim(subject) != 1:
        raise DataError(
            f"Expected one label per scan (one dimension) in subject, found "
            f"{f'the text {subject!r}' if isinstance(subject, str) else f'{np.ndim(subject)} dimensions'}. "
            "Give the labels themselves; for a table with a subject column use Study.from_dataframe."
        )
    column = pd.Series(list(subject) if isinstance(subject, list | tuple) else subject)
    return {column.name if isinstance(column.name, str) else "subject": column}


def _check_names(names: Sequence[str], role: str) -> None:
    doubled = [name for name, count in Counter(names).items() if count > 1]
    if doubled:
        raise DataError(f"Expected every {role} once, found {listing(doubled)} again. Rename or drop it.")


def _covariates(covariates: Any, prefix: str) -> dict[str, pd.Series]:
    """Return the covariates as columns by name; those of an array are named by the prefix and a number."""
    columns = [(text_label(name), column) for name, column in _named(covariates, prefix)]
    other = [name for name, column in columns if np.ndim(column) != 1]
    if other:
        raise DataError(f"Expected one dimension in every covariate, found others in {listing(other)}. Split them.")
    _check_names([name for name, _ in columns], "covariate")
    series = {name: inferred(pd.Series(column)) for name, column in columns}
    text = [name for name, column in series.items() if not is_numeric(column)]
    if text:
        raise DataError(
            f"Expected covariates of numbers, found others: {listing(text)}. Use Study.from_dataframe with "
            "a formula, which codes categories, or code them yourself; fill in missing values."
        )
    return series


def _named(covariates: Any, prefix: str) -> Iterable[tuple[Hashable, Any]]:
    if covariates is None:
        return []
    if isinstance(covariates, pd.DataFrame | Mapping):
        return covariates.items()
    if np.ndim(covariates) == 2:
        return ((f"{prefix}_{k}", column) for k, column in enumerate(np.asarray(covariates).T))
    raise DataError(
        "Expected covariates as a DataFrame, a mapping of names to columns, or an array of scans × "
        f"covariates, found {type(covariates).__name__} of {np.ndim(covariates)} dimensions. "
        "For one covariate give {'age': values}."
    )


def _check_indexes(indexes: Mapping[str, pd.Index]) -> None:
    """Raise a DataError if tables name their rows differently: joining them by position may be wrong."""
    parts = list(indexes.items())
    for name, index in parts[1:]:
        first, rows = parts[0]
        if not index.equals(rows):
            raise DataError(
                f"Expected the same row labels in the same order in {first} and {name}, found different "
                f"ones ({listing(rows, 2)} and {listing(index, 2)}). Bring them into one order, for example "
                "with .loc, or give plain arrays (.to_numpy()) if the rows do match by position."
            )
