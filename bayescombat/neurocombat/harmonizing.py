"""neuroCombat's calling convention and return value."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from bayescombat.columns import as_table, inferred, is_numeric, labels, measurements, require, text_label
from bayescombat.empirical import Compat
from bayescombat.errors import DataError, UnseenBatchError, listing, suggestion
from bayescombat.fit import fit
from bayescombat.frames import Frame, as_pandas
from bayescombat.neurocombat.estimates import effects_of, priors_of
from bayescombat.shrinkage import Shrinkage
from bayescombat.study import Study

__all__ = ["neurocombat", "neurocombat_from_training"]


def neurocombat(
    dat: Any,
    covars: Frame | Mapping[str, Any],
    batch_col: str,
    categorical_cols: str | Sequence[str] | None = None,
    continuous_cols: str | Sequence[str] | None = None,
    eb: bool = True,
    parametric: bool = True,
    mean_only: bool = False,
    ref_batch: Any = None,
) -> dict[str, Any]:
    """Harmonize by empirical Bayes, with the arguments and the return value of the Python package neuroCombat.

    ``from bayescombat import neurocombat as neuroCombat`` moves a script over. `Study` and `fit` do the same and more:
    new rows, standard deviations, full Bayes.

    Parameters
    ----------
    dat : array-like or frame, (feature, scan)
        Measurements, features in rows; NaN where a cell is missing. Its own labels are not looked at.
    covars : frame or mapping, (scan, column)
        The columns named below, in the order of the scans.
    batch_col : str
        Column of batch labels.
    categorical_cols, continuous_cols : str or sequence of str, optional
        Columns to be preserved, as categories and as numbers.
    eb : bool
        Whether effects are shrunken.
    parametric : bool
        Whether they are shrunken towards normal and inverse-gamma priors, or to the other features' own.
    mean_only : bool
        Adjust the location alone.
    ref_batch : optional
        Label of the batch to harmonize to; by default the pooled average.

    Returns
    -------
    dict
        ``data``
            Harmonized values, ndarray of (feature, scan).
        ``estimates``
            ``gamma_hat``, ``delta_hat`` (a list), ``gamma.star``, ``delta.star`` (batch, feature): shifts and squared
            scales before and after shrinkage, in units of the pooled standard deviation. ``gamma_bar``, ``t2``,
            ``a_prior``, ``b_prior`` (batch): what they are shrunken towards; of one feature alone ``t2`` is NaN, and
            the last two are infinite where scales do not vary, None by ``mean_only``. ``var.pooled`` (feature, 1),
            ``stand.mean`` and ``mod.mean`` (feature, scan): the pooled variance, the grand mean, and what covariates
            add to it. ``batches``: the labels.
        ``info``
            ``batch_levels``, ``ref_level``, ``n_batch``, ``n_sample``, ``sample_per_batch``, ``batch_info`` (positions
            of every batch's scans) and ``design`` (scan, column).

    Raises
    ------
    DataError
        If columns are lacking, lengths differ, or values cannot be used; if `ref_batch` is none of the batches.
    ConfoundedDesignError
        If batch and covariates cannot be told apart.

    Warns
    -----
    BatchSizeWarning, FeatureWarning, NegativeValueWarning, OverlapWarning, PoolingWarning
        As `fit` and `Study.from_dataframe` do.

    Notes
    -----
    Values are those of neuroCombat 0.2.12 (Fortin et al. 2018, doi:10.1016/j.neuroimage.2017.11.024), which are those
    of sva, but for its rounding of continuous covariates, and of measurements in a DataFrame, to single precision. They
    differ where neuroCombat fails. Missing cells stay missing and spoil no others; the scale of a batch of one scan is
    left alone; in either case the estimates are those of `fit` without ``compat``, unless by ``mean_only``. Features
    that are constant, overall or in a batch, come back as they are and influence no others (in the estimates their
    variance is one, their effects are none). An unknown `ref_batch` is an error, and with a known one ``batches`` are
    labels too, not positions.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> table = simulation.table
    >>> found = bc.neurocombat(
    ...     table[list(simulation.features)].T, table, "site", categorical_cols="sex", continuous_cols="age"
    ... )
    >>> found["data"].shape, found["estimates"]["gamma.star"].shape, found["info"]["n_batch"]
    ((3, 35), (3, 3), 3)
    """
    table = as_table(pd.DataFrame(dict(covars)) if isinstance(covars, Mapping) else covars)
    y = _measurements(dat, len(table))
    batch, categorical, continuous = text_label(batch_col), _names(categorical_cols), _names(continuous_cols)
    require(table, [batch], "batch column")
    require(table, categorical + continuous, "covariate")
    levels, codes = _coded(table[batch], "batch")
    reference = None if ref_batch is None else _position(ref_batch, levels)
    covariates = _covariates(table, categorical, continuous)
    study = Study.from_arrays(
        y.T,
        batch=[levels[code] for code in codes],
        covariates=covariates,
        reference=None if reference is None else text_label(levels[reference]),
    )
    sizes = np.bincount(codes)
    # Where neuroCombat fails, sva has its quirks: it gives up all scales for a batch of one scan, and one missing cell
    # widens every feature.
    as_sva = mean_only or (sizes.min() > 1 and not np.isnan(study.y).any())
    compat: Compat | None = "sva" if as_sva else None
    shrinkage: Shrinkage = "none" if not eb else "parametric" if parametric else "nonparametric"
    fitted = fit(study, method="eb", compat=compat, mean_only=mean_only, shrinkage=shrinkage)
    order = np.array([fitted.layout.levels.labels.index(text_label(level)) for level in levels])
    indicators = (codes[:, None] == np.arange(len(levels))).astype(float)
    if reference is not None:
        indicators[:, reference] = 1.0
    batches = np.array(levels, dtype=object)
    info = {
        "batch_levels": batches,
        "ref_level": reference,
        "n_batch": len(levels),
        "n_sample": len(table),
        "sample_per_batch": sizes,
        "batch_info": [np.flatnonzero(codes == i).tolist() for i in range(len(levels))],
        "design": np.column_stack([indicators, *covariates.values()]),
    }
    estimates = priors_of(fitted, order) | effects_of(fitted, study, order) | {"batches": batches}
    return {"data": fitted.harmonized["mean"].values.T.copy(), "estimates": estimates, "info": info}


def neurocombat_from_training(dat: Any, batch: Any, estimates: Mapping[str, Any]) -> dict[str, Any]:
    """Harmonize new scans by estimates that `neurocombat`, or neuroCombat, returned, as neuroCombatFromTraining does.

    It knows no covariates of the new scans: all of them are taken for average scans of the training. `Fit.harmonize`
    takes their own, which is right where these differ.

    Parameters
    ----------
    dat : array-like or frame, (feature, scan)
        Measurements of the features of the training, in its order.
    batch : array-like, (scan,)
        Their batches, all of them of the training.
    estimates : mapping
        ``neurocombat(...)["estimates"]``.

    Returns
    -------
    dict
        ``data``, the harmonized values (feature, scan), and ``estimates`` as they were given.

    Raises
    ------
    UnseenBatchError
        If a batch is not one of the training.
    DataError
        If numbers of scans or features differ.

    Examples
    --------
    >>> import bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 10, 5), features=3)
    >>> table = simulation.table
    >>> measured = table[list(simulation.features)].T
    >>> training = bc.neurocombat(measured, table, "site")
    >>> again = bc.neurocombat_from_training(measured, table["site"], training["estimates"])
    >>> bool(abs(again["data"] - training["data"]).max() < 1e-12)
    True
    """
    found = [text_label(label) for label in as_pandas(batch)]
    known = [text_label(label) for label in estimates["batches"]]
    unknown = sorted(set(found) - set(known))
    if unknown:
        raise UnseenBatchError(
            f"Expected batches of the training, {listing(known)}, found {listing(unknown)}."
            f"{suggestion(unknown[0], known)} Fit again with these scans, or use bayescombat.fit and Fit.adopt."
        )
    y, scale = _measurements(dat, len(found)), np.sqrt(estimates["var.pooled"])
    if len(y) != len(scale):
        raise DataError(
            f"Expected the {len(scale)} features of the training as rows, found {len(y)}. Give the same features in "
            "the same order."
        )
    at = [known.index(label) for label in found]
    gamma, delta = (np.asarray(estimates[name])[at].T for name in ("gamma.star", "delta.star"))
    mean = estimates["stand.mean"][:, :1] + np.mean(estimates["mod.mean"], axis=1, keepdims=True)
    return {"data": (y - mean - scale * gamma) / np.sqrt(delta) + mean, "estimates": estimates}


def _names(columns: str | Sequence[str] | None) -> list[str]:
    if columns is None or isinstance(columns, str):
        return [] if columns is None else [columns]
    return [text_label(name) for name in columns]


def _measurements(dat: Any, scans: int) -> np.ndarray:
    """Return measurements (feature, scan) as an array, checked for their number of scans."""
    given = as_pandas(dat)
    if isinstance(given, pd.DataFrame):
        names = list(map(str, range(given.shape[1])))
        given = measurements(given.set_axis(names, axis=1), names)
    given = np.asarray(given)
    if given.ndim != 2 or given.shape[1] != scans:
        raise DataError(
            f"Expected dat as features × scans with a column for each of the {scans} scans, found the shape "
            f"{' × '.join(map(str, given.shape))}. Transpose a table whose rows are scans: dat.T."
        )
    return given


def _coded(column: pd.Series, role: str) -> tuple[list[Any], np.ndarray]:
    """Return the distinct labels of a column in the order of neuroCombat, and the position of every scan's, (scan,)."""
    labels(column, role)
    values = column.tolist()
    try:
        levels = sorted(set(values))
    except TypeError:
        levels = sorted(set(values), key=text_label)
    place = {level: i for i, level in enumerate(levels)}
    return levels, np.array([place[value] for value in values])


def _position(level: Any, levels: Sequence[Any]) -> int:
    """Return which of the batches the reference is."""
    known = [text_label(other) for other in levels]
    if text_label(level) not in known:
        raise DataError(
            f"Expected ref_batch among the batches {listing(known)}, found {text_label(level)!r}."
            f"{suggestion(level, known)} Name one of them."
        )
    return known.index(text_label(level))


def _covariates(table: pd.DataFrame, categorical: Sequence[str], continuous: Sequence[str]) -> dict[str, np.ndarray]:
    """Return columns of the design by name: every level but the first of categories, then numbers."""
    columns: dict[str, np.ndarray] = {}
    for name in categorical:
        levels, codes = _coded(table[name], "covariate")
        columns |= {f"{name}[{level}]": (codes == k).astype(float) for k, level in enumerate(levels) if k}
    for name in continuous:
        values = inferred(table[name])
        if not is_numeric(values):
            raise DataError(
                f"Expected numbers in the continuous covariate {name!r}, found {values.dtype}. "
                "Name it in categorical_cols, or convert it with pandas.to_numeric."
            )
        columns[name] = values.to_numpy(dtype=np.float64, na_value=np.nan)
    return columns
