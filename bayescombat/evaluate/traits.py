"""What should be preserved: covariates of the study, or others that are given, as numbers or groups."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from bayescombat.columns import heard, inferred, is_numeric, labels
from bayescombat.design import effect_columns, learned_grid
from bayescombat.errors import DataError, listing
from bayescombat.evaluate.within import centred
from bayescombat.study import Study

__all__ = ["Trait", "traits_of"]

# Shares of a column's variance below these are rounding error.
ALIASED = 1e-10


@dataclass(frozen=True, eq=False)
class Trait:
    """A covariate that is looked for after harmonization.

    Parameters
    ----------
    name : str
        What it is called.
    values : ndarray, (obs,), optional
        Numbers, or codes of `levels`; None where the design columns do not tell them.
    levels : tuple of str
        Of groups; none for numbers.
    columns : ndarray of int
        Its columns among those that slopes are estimated of.
    """

    name: str
    values: np.ndarray | None
    levels: tuple[str, ...]
    columns: np.ndarray


def traits_of(study: Study, covariates: Any) -> tuple[list[Trait], np.ndarray, list[str]]:
    """Return the traits, the columns x (obs, column) whose slopes are estimated together, and what to say of them.

    Parameters
    ----------
    study : Study
        Its preserved covariates are traits; what is removed, and interactions, are columns alone.
    covariates : DataFrame, mapping of names to array-likes of (obs,), or None
        More traits, or the values of those that the design has in another form.

    Raises
    ------
    DataError
        If values are missing, of another length, or do not vary within batches.
    """
    given = _given(study, covariates)
    traits, said, x = [], [], study.x
    kept = [name for name in study.spec.sources if name not in given]
    for name in [*kept, *given]:
        found = _of_design(study, name) if name in study.spec.sources else None
        if name in study.spec.sources and found is None:
            said.append(f"{name!r} acts together with other covariates, or is removed: its effects are not compared.")
        if name not in given:
            if found is not None:
                traits.append(found)
            continue
        values, levels = _coded(given[name], name)
        columns = np.zeros(0, dtype=np.int64) if found is None else found.columns
        if name not in study.spec.sources:
            more = values[:, None] if not levels else np.eye(len(levels))[values.astype(int)][:, 1:]
            _check_variation(study, x, more, name)
            columns = np.arange(x.shape[1], x.shape[1] + more.shape[1])
            x = np.hstack([x, more])
        traits.append(Trait(name, values, levels, columns))
    unknown = [trait.name for trait in traits if trait.values is None]
    if unknown:
        said.append(
            f"The design columns of {listing(unknown)} do not tell its values, so that it is not predicted: give "
            f"covariates={{{unknown[0]!r}: values}}."
        )
    return traits, x, said


def _given(study: Study, covariates: Any) -> dict[str, pd.Series]:
    if covariates is None:
        return {}
    if not isinstance(covariates, pd.DataFrame | Mapping):
        raise DataError(
            "Expected covariates as a DataFrame or a mapping of names to values, found "
            f"{type(covariates).__name__}. Give for example {{'age': table['age']}}."
        )
    found = {}
    for name, values in covariates.items():
        series = pd.Series(values).rename(str(name))
        if len(series) != len(study.codes):
            raise DataError(
                f"Expected a value of {str(name)!r} for each of the {len(study.codes)} scans, found {len(series)}."
            )
        if isinstance(values, pd.Series) and not series.index.astype(str).equals(pd.Index(study.obs).astype(str)):
            raise DataError(
                f"Expected the rows of {str(name)!r} in the order of the study's scans, found other labels. Take "
                "table.loc[study.obs], or give the values without their labels."
            )
        found[str(name)] = series
    return found


def _coded(series: pd.Series, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return numbers and no levels, or codes and levels."""
    series = inferred(series)
    if is_numeric(series) and series.dtype.kind != "b":
        numbers = series.to_numpy(dtype=np.float64, na_value=np.nan)
        if not np.isfinite(numbers).all():
            raise DataError(
                f"Expected a finite number of {name!r} for every scan, found {(~np.isfinite(numbers)).sum()} others. "
                "Leave these scans out of the study."
            )
        return _two_groups(numbers)
    levels, codes = np.unique(labels(series.astype(object), "covariate"), return_inverse=True)
    return codes.reshape(-1).astype(np.float64), tuple(map(str, levels))


def _two_groups(numbers: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return numbers and no levels; or, if they are two that are one apart, such as 0 and 1, codes and levels."""
    found = np.unique(numbers)
    if len(found) == 2 and found[1] - found[0] == 1:
        return numbers - found[0], tuple(f"{value:g}" for value in found)
    return numbers, ()


def _check_variation(study: Study, x: np.ndarray, more: np.ndarray, name: str) -> None:
    """Raise a DataError if batches and other covariates explain a trait."""
    inner, others = centred(more, study.codes), centred(x, study.codes)
    rest = inner - others @ (np.linalg.pinv(others, rcond=1e-10) @ inner)
    if not more.size or (rest**2).sum() <= ALIASED * ((more - more.mean(axis=0)) ** 2).sum():
        raise DataError(
            f"Expected {name!r} to vary within batches beyond the study's covariates, found that it does not. Nothing "
            "tells its effect from theirs: leave it out."
        )


def _of_design(study: Study, name: str) -> Trait | None:
    """Return what the design has of a column of the table; None if others act with it, or it is removed."""
    spec = study.spec
    levels = next(column.levels for column in spec.columns if column.name == name)
    try:
        grid = learned_grid(spec, name)
        places = pd.Series([1.0]) if grid is None else grid
        with heard():
            positions, at_places = effect_columns(spec, name, places)
    except DataError:
        return None
    if not len(positions) or not spec.kept[positions].all():
        return None
    x = study.x[:, positions]
    if levels:
        apart = np.abs(x[:, None, :] - at_places).sum(axis=2)
        return Trait(name, apart.argmin(axis=1).astype(np.float64), tuple(map(str, levels)), positions)
    straight = {name, *(smooth.names[0] for smooth in spec.smooths if smooth.column == name)}
    known = [k for k, position in enumerate(positions) if spec.covariates[position] in straight]
    if not known:
        return Trait(name, None, (), positions)
    return Trait(name, *_two_groups(x[:, known[0]]), positions)
