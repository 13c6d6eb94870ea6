"""What scikit-learn hands over as one table: X, and beside it labels of batches and covariates."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from bayescombat.columns import require, text_label
from bayescombat.errors import DataError, listing
from bayescombat.frames import as_pandas

__all__ = ["Rows", "is_frame"]

# What labels without a name of their own are called.
BATCH = "batch"


def is_frame(data: object) -> bool:
    """Tell whether this is a table with named columns, of pandas, polars or another library that narwhals knows."""
    return bool(nw.dependencies.is_into_dataframe(data))


@dataclass(frozen=True)
class Rows:
    """Rows of X and what came beside them.

    Parameters
    ----------
    values : pandas.DataFrame, (obs, column)
        X, its columns by the names that scikit-learn knows them by.
    beside : pandas.DataFrame, (obs, column)
        Labels of batches and covariates.
    batch : tuple of str
        Which of `beside` are labels of batches.
    """

    values: pd.DataFrame
    beside: pd.DataFrame
    batch: tuple[str, ...]

    @classmethod
    def of(cls, X: Any, values: pd.DataFrame, batch: Any, covariates: Any) -> "Rows":
        """Return the rows, checked to be of the same scans; `X` is what `values` were made of.

        Raises
        ------
        DataError
            If batch or covariates have another form or length than X, or the same labels of rows in another order.

        Examples
        --------
        >>> X = [[1.5], [2.5]]
        >>> rows = Rows.of(X, pd.DataFrame(X, columns=["x0"]), ["a", "b"], None)
        >>> rows.table(["x0"], ["batch"])
            x0 batch
        0  1.5     a
        1  2.5     b
        """
        parts = {"batch": _labels(batch), "covariates": _covariates(covariates)}
        given = {role: part for role, part in parts.items() if part is not None}
        for role, part in given.items():
            if len(part) != len(values):
                raise DataError(
                    f"Expected one row per scan in {role}: X has {len(values)}, {role} has {len(part)}. Give rows for "
                    "the same scans, in the same order, as arrays or frames: of these scikit-learn takes folds."
                )
        _check_order({"X": X, "batch": batch, "covariates": covariates})
        labels = given.get("batch", pd.DataFrame())
        _check_names(labels, given.get("covariates", pd.DataFrame()))
        columns = {name: part[name] for part in list(given.values())[::-1] for name in part.columns}
        beside = pd.DataFrame({name: column.set_axis(values.index) for name, column in columns.items()}, values.index)
        return cls(values, beside, tuple(labels.columns))

    def called(self, batch: Sequence[str]) -> "Rows":
        """Return the rows with their one column of labels by the name that it had when the fit was made."""
        if len(batch) != 1 or len(self.batch) != 1:
            return self
        return replace(self, beside=self.beside.rename(columns={self.batch[0]: batch[0]}), batch=tuple(batch))

    def features(self, roles: Collection[str]) -> list[str]:
        """Return the names of the columns of X that have no other role.

        Raises
        ------
        DataError
            If a column with a role is in X and beside it.
        """
        doubled = [name for name in self.values.columns if name in roles and name in self.beside.columns]
        if doubled:
            raise DataError(
                f"Expected every column once, found {listing(doubled)} in X and beside it. Drop it from X, where it "
                "would be harmonized, or do not give it beside X."
            )
        return [name for name in self.values.columns if name not in roles]

    def table(self, features: Sequence[str], roles: Sequence[str]) -> pd.DataFrame:
        """Return the features, and the columns that have a role, wherever these are.

        Raises
        ------
        DataError
            If there is no such column.
        """
        others = self.values[[name for name in self.values.columns if name not in self.beside.columns]]
        everything = pd.concat([self.beside, others], axis=1)
        require(everything, roles, "batch or covariate")
        return pd.concat([self.values[list(features)], everything[list(dict.fromkeys(roles))]], axis=1)


def _check_order(parts: Mapping[str, Any]) -> None:
    """Raise a DataError if labels of rows contradict each other: joining by position would then be wrong."""
    indexed = [(name, part.index) for name, part in parts.items() if isinstance(part, pd.Series | pd.DataFrame)]
    for (first, rows), (name, index) in combinations(indexed, 2):
        if (index.isin(rows) & (index.to_numpy() != rows.to_numpy())).any():
            raise DataError(
                f"Expected the same row labels in the same order in {first} and {name}, found different ones "
                f"({listing(rows, 2)} and {listing(index, 2)}). Bring them into one order, for example with .loc, or "
                "give plain arrays (.to_numpy()) if the rows do match by position."
            )


def _check_names(labels: pd.DataFrame, covariates: pd.DataFrame) -> None:
    """Raise a DataError if a covariate goes by the name of labels and is something else."""
    for name in labels.columns.intersection(covariates.columns):
        if [*map(text_label, labels[name])] != [*map(text_label, covariates[name])]:
            raise DataError(
                f"Expected the labels of batches under the name {str(name)!r}, found other values in the covariates "
                "too. Rename that covariate, or give the labels as a named series."
            )


def _labels(batch: Any) -> pd.DataFrame | None:
    """Return labels of batches as columns by name."""
    if batch is None or is_frame(batch):
        return None if batch is None else _with_text_names(as_pandas(batch))
    if isinstance(batch, str) or np.ndim(batch) != 1:
        found = f"the text {batch!r}" if isinstance(batch, str) else f"{np.ndim(batch)} dimensions"
        raise DataError(
            f"Expected one label per scan (one dimension) in batch, found {found}. Give the labels themselves, for "
            "several batch variables as a frame; a column of X is named in the constructor: ComBat(batch='site')."
        )
    column = pd.Series(as_pandas(batch))
    return column.to_frame(column.name if isinstance(column.name, str) else BATCH)


def _covariates(covariates: Any) -> pd.DataFrame | None:
    """Return covariates as columns by name; those of an array are covariate_0 and so on."""
    if covariates is None or is_frame(covariates):
        return None if covariates is None else _with_text_names(as_pandas(covariates))
    if isinstance(covariates, Mapping) or np.ndim(covariates) != 2:
        raise DataError(
            "Expected covariates as a frame, or as an array of scans × covariates, found "
            f"{type(covariates).__name__}. Of a mapping scikit-learn takes no folds: give a frame, for one covariate "
            "table[['age']]."
        )
    values = pd.DataFrame(np.asarray(covariates))
    return values.set_axis([f"covariate_{k}" for k in range(values.shape[1])], axis=1)


def _with_text_names(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.set_axis([text_label(name) for name in frame.columns], axis=1)
