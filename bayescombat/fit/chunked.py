"""Empirical Bayes chunk by chunk: a pass over the chunks for what is not shrunken, another to harmonize.

Between the two stand the levels' effects of all features, from which the priors are learned: what is small.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import NamedTuple, get_args

import numpy as np
import xarray as xr

from bayescombat.adjust import Draws, adjust, of_features
from bayescombat.blocks import in_one_thread
from bayescombat.design import DesignSpec
from bayescombat.empirical import Compat, estimates_of, means_alone, unshrunken
from bayescombat.errors import BayesCombatError, DataError, check_choice
from bayescombat.estimation import check_compat, tree_of_estimates, warn_of_little_data
from bayescombat.fit.harmonization import coords_of, draws_of, levels_of
from bayescombat.fit.joining import Asked
from bayescombat.fit.layout import Layout
from bayescombat.identification import Aside, check_observed, joined_aside, told_apart, warn_of_set_aside
from bayescombat.moments import Moments
from bayescombat.regression import least_squares
from bayescombat.shrinkage import Hats, Shrinkage
from bayescombat.storage import progress, versions
from bayescombat.study import ChunkedStudy, Study, study_of_chunk

__all__ = ["check_in_chunks", "chunked_tree", "harmonized_chunks"]

# Along which axis the features stand; what may be the same for all of them has length one there.
AXES = {"n": 1, "center": 0, "alpha": 0, "beta": 0, "sigma": 0, "gamma": 1, "delta2": 1, "size": 1, "freedom": 1}
SHARED = ("n", "center", "size", "freedom")


class _Piece(NamedTuple):
    """What one chunk tells of its features, those apart that are set aside; arrays as their namesakes elsewhere."""

    kept: np.ndarray
    aside: Aside
    n: np.ndarray
    center: np.ndarray
    alpha: np.ndarray
    beta: np.ndarray
    sigma: np.ndarray
    hats: Hats


def chunked_tree(
    study: ChunkedStudy, shrinkage: Shrinkage, mean_only: bool, compat: Compat | None, progress_bar: bool
) -> xr.DataTree:
    """Return the tree of an empirical-Bayes fit, which holds neither rows nor moments.

    Parameters
    ----------
    study : ChunkedStudy
        Every chunk is read once.
    shrinkage, mean_only, compat, progress_bar
        As in `fit`.

    Raises
    ------
    DataError
        If ``compat="sva"`` and cells are missing: its divisors then hang on the whole table.
    """
    import dask

    check_choice("shrinkage", shrinkage, get_args(Shrinkage))
    check_choice("compat", compat, (*get_args(Compat), None))
    check_compat(_outline(study, np.ones(len(study.features), dtype=bool), study.scans[:, None]), compat)
    sva = compat == "sva"
    tasks = [
        dask.delayed(partial(_piece, rows=study.rows, features=study.features[chunk], sva=sva), pure=False)(values)
        for chunk, values in zip(study.chunks, study.y.to_delayed().ravel(), strict=True)
    ]
    with progress(progress_bar):
        pieces = list(dask.compute(*tasks))
    kept = np.concatenate([piece.kept for piece in pieces])
    warn_of_set_aside(joined_aside(piece.aside for piece in pieces), study.features)
    joined = _joined(pieces)
    moments = _outline(study, kept, joined.n)
    check_observed(moments)
    if sva and (joined.n != study.scans[:, None]).any():
        raise DataError(
            "Expected no missing cell for compat='sva' in chunks, found some: sva then divides by other numbers in all "
            "features, which one chunk does not know. Leave compat out, or fit in memory."
        )
    warn_of_little_data(moments, None, whole_run=sva and not mean_only)
    settings = {"shrinkage": shrinkage, "mean_only": mean_only, "compat": compat, "shared_factors": 0}
    at = moments.reference_levels
    alone: Shrinkage = "none" if len(moments.features) == 1 else shrinkage
    fixed = (joined.alpha, joined.beta, joined.sigma, joined.hats)
    estimates = estimates_of(*fixed, alone, means_alone(mean_only, sva, study.scans), sva, at)
    tree = tree_of_estimates(estimates, moments, settings)
    counts = np.bincount(moments.positions.ravel(), np.repeat(study.scans, moments.positions.shape[1]))
    layout = Layout(study.spec, study.levels, study.reference, moments.features, joined.center, counts.astype(np.int64))
    tree["layout"] = xr.DataTree(layout.to_dataset())
    tree.attrs |= {"formula": study.spec.formula, "versions": json.dumps(versions())} | Asked().attrs
    return tree


def harmonized_chunks(parameters: xr.Dataset, layout: Layout, study: ChunkedStudy, target: str | None) -> xr.Dataset:
    """Return ``mean`` (obs, feature) as a Dask array in the chunks and the precision of the study's values.

    Parameters
    ----------
    parameters : xarray.Dataset
        Estimates of the modelled features.
    layout : Layout
        How rows meet parameters.
    study : ChunkedStudy
        The rows.
    target : str, optional
        Label of the cell to harmonize to.
    """
    import dask
    import dask.array as da

    kept = layout.modelled
    draws, levels = draws_of(parameters, layout, target, slice(None), None), levels_of(layout, study)
    parts = []
    for chunk, values in zip(study.chunks, study.y.to_delayed().ravel(), strict=True):
        first, last = np.searchsorted(kept, [chunk.start, chunk.stop])
        some = partial(
            _harmonized,
            draws=of_features(draws, slice(first, last)),
            kept=kept[first:last] - chunk.start,
            rows=study.rows,
            features=study.features[chunk],
            levels=levels,
        )
        shape = (len(study.obs), chunk.stop - chunk.start)
        parts.append(da.from_delayed(dask.delayed(some, pure=False)(values), shape, study.y.dtype))
    mean = (("obs", "feature"), da.concatenate(parts, axis=1), {"units": "feature units"})
    return xr.Dataset({"mean": mean}, coords_of(study, kept), {"target": target or layout.reference or "pooled"})


def check_in_chunks(method: str, asked: Asked, spec: DesignSpec, unseen: str) -> None:
    """Raise a BayesCombatError if a fit cannot harmonize chunk by chunk."""
    if method != "eb" or asked.needs_cross or spec.subject is not None or unseen != "error":
        raise BayesCombatError(
            "Expected an empirical-Bayes fit without subjects, factors, covariance or unseen='prior' to harmonize a "
            "study in chunks, found another. Harmonize tables of some of the features or scans instead."
        )


def _piece(values: np.ndarray, rows: Study, features: Sequence[str], sva: bool) -> _Piece:
    """Return what one chunk of values (obs, feature) tells."""
    with in_one_thread():
        moments = Moments.from_study(study_of_chunk(values, rows, features))
        modelled, aside = told_apart(moments)
        fit = least_squares(modelled)
        alpha, sigma, hats = unshrunken(modelled, fit, sva)
        known = set(modelled.features)
        kept = np.array([name in known for name in features], dtype=bool)
        return _Piece(kept, aside, modelled.n, fit.center, alpha, fit.beta, sigma, hats)


def _harmonized(
    values: np.ndarray, draws: Draws, kept: np.ndarray, rows: Study, features: Sequence[str], levels: np.ndarray
) -> np.ndarray:
    """Return one chunk of values (obs, feature), harmonized, in their precision."""
    study = study_of_chunk(values, rows, features)
    with in_one_thread():
        whole = len(kept) == values.shape[1]
        y = study.transformed if whole else np.ascontiguousarray(study.transformed[:, kept])
        found = adjust(draws, y, study.x, levels).mean
    still = np.zeros(len(levels), dtype=bool) if draws.unmoved is None else (levels == draws.unmoved).all(axis=1)
    if whole and not (draws.log and still.any()):
        return found.astype(values.dtype, copy=False)
    out = values.copy()
    out[np.ix_(~still, kept)] = found[~still]
    return out


def _joined(pieces: list[_Piece]) -> _Piece:
    """Return what all chunks tell as one piece. The list is emptied on the way, to keep no number twice."""
    kept, sizes = np.concatenate([piece.kept for piece in pieces]), [len(piece.alpha) for piece in pieces]
    arrays = [_arrays(piece) for piece in pieces]
    pieces.clear()
    found = {}
    for name, axis in AXES.items():
        parts = [part.pop(name) for part in arrays]
        if name in SHARED and parts[0].shape[axis] == 1 and all(np.array_equal(part, parts[0]) for part in parts):
            found[name] = parts[0]
            continue
        shape = list(parts[0].shape)
        shape[axis] = sum(sizes)
        found[name] = np.empty(shape)
        start = 0
        for size in sizes:
            at = (slice(None),) * axis + (slice(start, start + size),)
            found[name][at] = parts.pop(0)
            start += size
    hats = Hats(*(found.pop(name) for name in ("gamma", "delta2", "size", "freedom")))
    return _Piece(kept, {}, **found, hats=hats)


def _arrays(piece: _Piece) -> dict[str, np.ndarray]:
    hats = piece.hats
    beside = {"gamma": hats.gamma, "delta2": hats.delta2, "size": hats.n, "freedom": hats.freedom}
    return {name: getattr(piece, name) for name in ("n", "center", "alpha", "beta", "sigma")} | beside


def _outline(study: ChunkedStudy, kept: np.ndarray, n: np.ndarray) -> Moments:
    """Return moments that know names and sizes only: what messages and labels are made of."""
    names = tuple(np.array(study.features, dtype=object)[kept].tolist())
    batches, covariates = len(study.batches), len(study.spec.covariates)
    nothing = np.broadcast_to(0.0, (batches, len(names)))
    shape = (batches, 1, covariates)
    sxx, sxy = np.zeros((*shape, covariates)), np.broadcast_to(0.0, (*nothing.shape, covariates))
    spec = replace(study.spec, features=names)
    arrays = (study.scans, n, np.zeros(shape), sxx, nothing, nothing, sxy, nothing)
    return Moments(*arrays, study.batches, spec, study.reference)
