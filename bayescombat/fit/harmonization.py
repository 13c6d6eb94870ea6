"""Rows and parameters in, labelled harmonized data out."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from bayescombat.adjust import MOST_DRAWS_FOR_QUANTILES, Draws, adjust
from bayescombat.batches import Levels, cell_parts, named_cell
from bayescombat.blocks import FEW_ROWS, column_blocks, side_by_side, slices
from bayescombat.columns import names_index, warn
from bayescombat.errors import (
    FeatureWarning,
    NegativeValueWarning,
    UnseenBatchError,
    check_probability,
    listing,
    suggestion,
)
from bayescombat.fit.given import UNCERTAINTY, given_of
from bayescombat.fit.joining import Joining
from bayescombat.fit.layout import Layout, stacked
from bayescombat.intercepts import Repeats
from bayescombat.joint import Joint, jointly_adjusted
from bayescombat.moments import Moments, Subjects
from bayescombat.study import ChunkedStudy, Study
from bayescombat.uncertainty import with_uncertainty

__all__ = [
    "Target",
    "coords_of",
    "draws_of",
    "harmonized_dataset",
    "joint_of",
    "levels_of",
    "repeats_of",
    "target_cell",
    "warn_of_unread",
]

# Scans that tell of most features that they are not positive in a table.
SOME_SCANS = 32

type Target = str | Sequence[str] | Mapping[str, str]


def harmonized_dataset(
    parameters: xr.Dataset,
    layout: Layout,
    study: Study,
    target: str | None,
    probability: float | None,
    joining: Joining | None = None,
    learned: Moments | None = None,
    seed: int | None = None,
) -> xr.Dataset:
    """Return ``mean, sd, lower, upper`` (obs, feature); ``mean`` alone where there is one draw and nothing else.

    Parameters
    ----------
    parameters : xarray.Dataset
        Draws (chain, draw, ...) or estimates, of the modelled features.
    layout : Layout
        How rows meet parameters.
    study : Study
        The rows.
    target : str, optional
        Label of the cell to harmonize to, as `target_cell` returns it.
    probability : float, optional
        Of the interval from lower to upper, without which there is none.
    joining : Joining, optional
        What is done to residuals across features.
    learned : Moments, optional
        What the fit learned from, and knows its subjects by.
    seed : int, optional
        For draws given estimates, where these are asked to say how sure they are.
    """
    if probability is not None:
        check_probability(probability)
    kept, levels = layout.modelled, levels_of(layout, study)
    y = study.transformed if len(kept) == study.y.shape[1] else np.ascontiguousarray(study.transformed[:, kept])
    if joining is None:
        draws = draws_of(parameters, layout, target, slice(None), joining)
        draws = replace(draws, repeats=repeats_of(parameters, layout, study, learned))
        adjusted = adjust(draws, y, study.x, levels, probability)
    else:
        warn_of_unread(joining, y)
        every = _spaced(parameters)
        draws = draws_of(parameters, layout, target, every, joining)
        joint = joint_of(joining, draws, parameters, layout, study, every)
        adjusted = jointly_adjusted(draws, joint, y, study.x, levels, probability or 0.5)
    given = given_of(parameters, layout, seed)
    if given is not None:
        adjusted = with_uncertainty(adjusted, draws, given, y, study.x, levels, probability)
    if not draws.log:
        _warn_of_negatives(y, adjusted.mean, np.array(study.features, dtype=object)[kept])
    still = (levels == draws.unmoved).all(axis=1) if draws.unmoved is not None else np.zeros(len(levels), dtype=bool)
    data = {}
    for name in ("mean", "sd", "lower", "upper"):
        values = getattr(adjusted, name)
        if values is None or (probability is None and name in ("lower", "upper")):
            continue
        if len(kept) < study.y.shape[1] or (still.any() and (draws.log or joining is not None)):
            whole = np.where(np.isnan(study.y), np.nan, 0.0) if name == "sd" else study.y.copy()
            whole[np.ix_(~still, kept)] = values[~still]
            values = whole
        data[name] = (("obs", "feature"), values, {"units": "feature units"})
    attrs: dict[str, str | float] = {"target": target or layout.reference or "pooled"}
    if adjusted.lower is not None and probability is not None:
        attrs["probability"] = probability
    if seed is not None:
        attrs["uncertainty"] = UNCERTAINTY
    return xr.Dataset(data, coords_of(study, kept), attrs)


def _spaced(parameters: xr.Dataset) -> np.ndarray:
    """Return the numbers of at most a thousand evenly spaced draws, as quantiles are taken of."""
    total = parameters.sizes.get("chain", 1) * parameters.sizes.get("draw", 1)
    return np.arange(0, total, -(-total // MOST_DRAWS_FOR_QUANTILES))


def warn_of_unread(joining: Joining, y: np.ndarray) -> None:
    """Warn of scans of which too few features were observed to tell what their hidden factors are."""
    if joining.hidden is not None and joining.hidden.unread(y).any():
        warn(
            f"Too few features observed in {int(joining.hidden.unread(y).sum())} scans to tell what their hidden "
            f"factors are (fewer than {joining.hidden.axes.fewest}): there nothing of them is removed. Drop these "
            "scans, or do not lean on them.",
            FeatureWarning,
        )


def levels_of(layout: Layout, study: Study | ChunkedStudy) -> np.ndarray:
    """Return the positions of the scans' levels, (obs, batch variable)."""
    return np.asarray(layout.levels.positions(study.batches)[study.codes])


def coords_of(study: Study | ChunkedStudy, kept: np.ndarray) -> dict[str, object]:
    """Return the coordinates of harmonized values, given which features are modelled."""
    aside = np.ones(len(study.features), dtype=bool)
    aside[kept] = False
    return {
        "obs": ("obs", np.asarray(study.obs)),
        "feature": names_index(study.features),
        "set_aside": ("feature", aside),
    }


def draws_of(
    parameters: xr.Dataset,
    layout: Layout,
    target: str | None,
    every: np.ndarray | slice,
    joining: Joining | None,
) -> Draws:
    """Return the parameters as arrays with one draw axis."""
    kept = layout.spec.kept
    removing = not kept.all() or (joining is not None and joining.hidden is not None)
    still = None if removing else target or layout.reference
    at, unmoved = (
        None if cell is None else tuple(layout.levels.positions([cell])[0].tolist()) for cell in (target, still)
    )
    names = ("alpha", "beta", "gamma", "delta", "sigma")
    alpha, beta, gamma, delta, sigma = (stacked(parameters, name)[every] for name in names)
    common, standing = np.median(layout.center, axis=0), np.zeros_like(alpha)
    if len(layout.center) > 1:
        # With missing cells each feature has an average of its own: measure them all from one.
        from_own = (common - layout.center) * beta
        alpha, standing = alpha + from_own.sum(axis=-1), -from_own[..., ~kept].sum(axis=-1)
    log = layout.spec.transform == "log"
    return Draws(alpha, beta, gamma, delta, sigma, common, kept, standing, at, unmoved, log)


def joint_of(
    joining: Joining, draws: Draws, parameters: xr.Dataset, layout: Layout, study: Study, every: np.ndarray
) -> Joint:
    """Return what is done to the residuals of the study's scans."""
    joint = joining.of(draws, _average(parameters, layout, joining), layout, every)
    return replace(joint, scans=tuple(map(str, study.obs)))


def _average(parameters: xr.Dataset, layout: Layout, joining: Joining) -> Draws:
    """Return the posterior means, as a single draw."""
    leading = [dim for dim in ("chain", "draw") if dim in parameters.dims]
    return draws_of(parameters.mean(leading), layout, None, slice(None), joining)


def repeats_of(
    parameters: xr.Dataset,
    layout: Layout,
    study: Study,
    learned: Moments | None,
    every: np.ndarray | slice = slice(None),
    seed: int | None = None,
) -> Repeats | None:
    """Return what intercepts of the rows' subjects are predicted from: scans that were fitted, else these rows."""
    if study.subjects is None:
        return None
    subjects, cells = _subjects(layout, study, learned)
    place = {label: i for i, label in enumerate(subjects.labels)}
    member = np.array([place[label] for label in study.subjects])
    subject_sd, gamma, delta = (stacked(parameters, name)[every] for name in ("subject_sd", "gamma", "delta"))
    if "gamma_unshrunken" in parameters:
        gamma, delta = stacked(parameters, "gamma_unshrunken")[every], np.ones_like(delta)
    noise = None if seed is None else _noise(subjects.labels, seed, subject_sd.shape)
    levels = layout.levels.positions(cells)[subjects.batch]
    return Repeats(member, subjects, levels, subject_sd, gamma, delta, noise)


def _subjects(layout: Layout, study: Study, learned: Moments | None) -> tuple[Subjects, list[str]]:
    """Return the subjects of the rows, and the cells that they count batches by."""
    assert study.subjects is not None
    known = None if learned is None or learned.subjects is None else learned.subjects.among(study.subjects)
    cells = [*([] if learned is None else learned.batches)]
    cells += [label for label in study.batches if label not in set(cells)]
    new = np.ones(len(study.subjects), dtype=bool)
    parts = []
    if known is not None and known.labels:
        new = ~np.isin(study.subjects, known.labels)
        parts.append(known.select(np.isin(study.features, layout.features)))
    if new.any():
        codes = np.array([cells.index(label) for label in study.batches])[study.codes]
        y = study.transformed[:, layout.modelled]
        parts.append(Subjects.of(study.subjects[new], codes[new], y[new], study.x[new]))
    return Subjects.joined(parts), cells


def _noise(labels: Sequence[str], seed: int, shape: tuple[int, ...]) -> np.ndarray:
    """Return normal scores (draw, subject, feature), of a subject the same whichever others there are."""
    seeds = [np.random.SeedSequence([seed, *label.encode()]) for label in labels]
    return np.stack([np.random.default_rng(item).standard_normal(shape) for item in seeds], axis=1)


def target_cell(target: Target | None, levels: Levels) -> str | None:
    """Return the label of the cell that a target names, if any, checked.

    Raises
    ------
    DataError
        If there is not one label of each batch variable.
    UnseenBatchError
        If one is not that of a fitted batch.
    """
    if target is None:
        return None
    cell = named_cell(target, levels.variables, "target")
    for variable, part in zip(levels.variables, cell_parts(cell, levels.variables), strict=True):
        if part not in levels.names[variable]:
            raise UnseenBatchError(
                f"Expected a target among the fitted batches {listing(levels.names[variable])}, found {part!r}."
                f"{suggestion(part, levels.names[variable])} Name one of them."
            )
    return cell


def _warn_of_negatives(y: np.ndarray, mean: np.ndarray, names: np.ndarray) -> None:
    negative = np.zeros(len(names), dtype=bool)

    def look(block: slice) -> None:
        # What is missing is below nothing.
        found = np.fmin.reduce(mean[:, block], axis=0) < 0
        for scans in slices(len(y), SOME_SCANS):
            if found.any():
                found &= ~(np.fmin.reduce(y[scans, block], axis=0) <= 0)
        negative[block] = found

    side_by_side(look, column_blocks(len(names), FEW_ROWS))
    if negative.any():
        count, features = int((mean[:, negative] < 0).sum()), int(negative.sum())
        warn(
            f"{count} harmonized value{'s' * (count > 1)} of {features} feature{'s' * (features > 1)} positive in the "
            f"table {'are' if count > 1 else 'is'} negative: "
            f"{listing(names[negative])}. If they cannot be negative, make the study with transform='log'.",
            NegativeValueWarning,
        )
