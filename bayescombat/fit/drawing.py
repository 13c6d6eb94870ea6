"""Plausible harmonized tables, one for each draw of the parameters."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import numpy as np
import xarray as xr

from bayescombat.adjust import adjusted_draws, of_features
from bayescombat.blocks import slices
from bayescombat.columns import names_index
from bayescombat.errors import BayesCombatError
from bayescombat.fit.given import UNCERTAINTY, given_of
from bayescombat.fit.harmonization import coords_of, draws_of, joint_of, levels_of, repeats_of, warn_of_unread
from bayescombat.fit.joining import Joining
from bayescombat.fit.layout import Layout
from bayescombat.joint import jointly_adjusted_draws
from bayescombat.moments import Moments
from bayescombat.study import Study
from bayescombat.uncertainty import FEW_FEATURES, MOST_DRAWS, conditional_draws

__all__ = ["harmonized_draws", "in_blocks"]

# Numbers in one block: 256 MiB of float64.
BLOCK = 2**25


def harmonized_draws(parts: Iterator[xr.DataArray], study: Study, modelled: np.ndarray) -> xr.DataArray:
    """Return all blocks of `in_blocks` as one array (draw, obs, feature), with the features that were set aside."""
    first = next(parts)
    values, place = np.repeat(study.y[None], first.sizes["draw"], axis=0), 0
    for part in chain([first], parts):
        some = modelled[place : place + part.sizes["feature"]]
        values[:, :, some], place = part.values, place + len(some)
    coords = coords_of(study, modelled) | {"draw": first["draw"].values}
    return xr.DataArray(values, coords, first.dims, first.name, first.attrs)


def in_blocks(
    parameters: xr.Dataset,
    layout: Layout,
    study: Study,
    target: str | None,
    n: int,
    seed: int,
    impute: bool = False,
    joining: Joining | None = None,
    learned: Moments | None = None,
    wanted: np.ndarray | None = None,
) -> Iterator[xr.DataArray]:
    """Yield n evenly spaced harmonized tables (draw, obs, feature), a block of the modelled features at a time.

    Missing cells are drawn from their posterior predictive if asked for. Where values hang on all features of a scan
    there is one block. `wanted` says which of the modelled features are given; by default all. The other parameters
    are those of `harmonized_dataset`.
    """
    sampled = "draw" in parameters.dims
    total = parameters.sizes["chain"] * parameters.sizes["draw"] if sampled else MOST_DRAWS
    if not 1 <= n <= total:
        raise BayesCombatError(f"Expected n between 1 and the fit's {total} draws, found {n!r}.")
    every = np.linspace(0, total - 1, n).round().astype(int)
    levels, rng = levels_of(layout, study), np.random.default_rng(seed) if impute else None
    draws = draws_of(parameters, layout, target, every if sampled else slice(None), joining)
    y = np.ascontiguousarray(study.transformed[:, layout.modelled])
    still = np.zeros(len(y), dtype=bool) if draws.unmoved is None else (levels == draws.unmoved).all(axis=1)
    attrs = {"units": "feature units", "long_name": "harmonized value"}
    attrs |= {"target": target or layout.reference or "pooled"} | ({} if sampled else {"uncertainty": UNCERTAINTY})

    def labelled(found: np.ndarray, some: slice) -> xr.DataArray:
        # What keeps its value keeps it to the last bit, logarithm or not.
        own = study.y[:, layout.modelled[some]][still]
        found[:, still] = np.where(np.isnan(own), found[:, still], own)
        coords = {"draw": every, "obs": np.asarray(study.obs), "feature": names_index(layout.features[some])}
        array = xr.DataArray(found, coords, ("draw", "obs", "feature"), "harmonized", attrs)
        return array if wanted is None else array[:, :, wanted[some]]

    if joining is not None:
        warn_of_unread(joining, y)
        joint = joint_of(joining, draws, parameters, layout, study, every)
        yield labelled(jointly_adjusted_draws(draws, joint, y, study.x, levels, rng), slice(None))
        return
    if sampled:
        draws = replace(draws, repeats=repeats_of(parameters, layout, study, learned, every, seed))
    given = None if sampled else given_of(parameters, layout, seed)
    # Blocks begin where draws given estimates begin a stream of random numbers.
    for some in slices(len(layout.features), FEW_FEATURES * max(1, BLOCK // (FEW_FEATURES * n * len(y)))):
        if wanted is not None and not wanted[some].any():
            continue
        if given is None:
            found = adjusted_draws(of_features(draws, some), y[:, some], study.x, levels, rng)
        else:
            found = conditional_draws(draws, given, every, y, study.x, levels, rng, some)
        yield labelled(found, some)
