"""Plausible harmonized tables, one for each draw of the parameters."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from numbers import Integral

import numpy as np
import xarray as xr

from bayescombat.adjust import adjusted_draws, of_features
from bayescombat.blocks import slices
from bayescombat.columns import names_index
from bayescombat.errors import BayesCombatError, DataError, listing, suggestion
from bayescombat.fit.given import UNCERTAINTY, given_of
from bayescombat.fit.harmonization import coords_of, draws_of, joint_of, levels_of, repeats_of, warn_of_unread
from bayescombat.fit.joining import Joining
from bayescombat.fit.layout import Layout
from bayescombat.joint import jointly_adjusted_draws
from bayescombat.moments import Moments
from bayescombat.study import Study
from bayescombat.uncertainty import FEW_FEATURES, MOST_DRAWS, conditional_draws

__all__ = ["harmonized_draws", "in_blocks", "spaced_draws", "wanted_features"]

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


def spaced_draws(parameters: xr.Dataset, n: int) -> np.ndarray:
    """Return the numbers of n draws that are evenly spaced over the chains, (draw,).

    Raises
    ------
    BayesCombatError
        If there are not so many; of estimates there are `MOST_DRAWS`.
    """
    total = parameters.sizes["chain"] * parameters.sizes["draw"] if "draw" in parameters.dims else MOST_DRAWS
    if not isinstance(n, Integral) or not 1 <= n <= total:
        raise BayesCombatError(f"Expected n between 1 and the fit's {total} draws, found {n!r}.")
    return np.linspace(0, total - 1, int(n)).round().astype(int)


def wanted_features(modelled: Sequence[str], features: str | Iterable[str] | None) -> np.ndarray:
    """Return which of the modelled features are asked for, (feature,); all by default.

    Raises
    ------
    DataError
        If one was not modelled, or none is asked for.
    """
    asked = modelled if features is None else [features] if isinstance(features, str) else list(features)
    known = set(modelled)
    unknown = [name for name in asked if name not in known]
    if unknown or not len(asked):
        raise DataError(
            f"Expected features that were modelled, found {listing(unknown) or 'none'}."
            f"{suggestion(unknown[0], modelled) if unknown else ''} Name some of {listing(modelled)}."
        )
    return np.isin(np.array(modelled, dtype=object), asked)


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
    sampled, every = "draw" in parameters.dims, spaced_draws(parameters, n)
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
