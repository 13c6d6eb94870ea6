"""A block of features: which there are, how they are fitted, and what is kept of the fit."""

import ctypes
import gc
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from threading import Event
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from bayescombat.blocks import in_one_thread
from bayescombat.columns import Said, heard
from bayescombat.estimation import by_nuts
from bayescombat.fit.harmonization import harmonized_dataset
from bayescombat.fit.layout import Layout
from bayescombat.identification import check_observed
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.settings import Settings
from bayescombat.study import Study

__all__ = ["Block", "Found", "Plan", "blocks_of", "fitted_block"]

# What a block found, by groups of the store.
type Found = Mapping[str, xr.Dataset]


@dataclass(frozen=True)
class Plan:
    """How blocks are made and fitted.

    Parameters
    ----------
    settings : Settings
        Of every block, but for its seed; the seed is that of all.
    priors : Priors
        Of every block.
    probability : float, optional
        Of the interval of harmonized values.
    block_size : int
        Modelled features of a block at most.
    """

    settings: Settings
    priors: Priors
    probability: float | None
    block_size: int

    @property
    def seed(self) -> int:
        """The seed of all blocks."""
        assert self.settings.seed is not None
        return self.settings.seed

    @property
    def identity(self) -> dict[str, Any]:
        """What the numbers hang on, by name."""
        settings = {
            name: value for name, value in asdict(self.settings).items() if name not in ("cores", "progress_bar")
        }
        own = {"block_size": self.block_size, "probability": self.probability}
        return settings | own | {f"priors.{name}": value for name, value in asdict(self.priors).items()}


@dataclass(frozen=True)
class Block:
    """Features that are fitted together.

    Parameters
    ----------
    number : int
        Among the blocks.
    features : slice
        Where they stand in the table, with those beside them that are set aside.
    modelled : slice
        Where they stand among the features that are modelled.
    seed : int
        Of this block.
    """

    number: int
    features: slice
    modelled: slice
    seed: int

    def place(self, group: str) -> dict[str, slice]:
        """Return where the block stands along the dimensions of a group of the store."""
        number = slice(self.number, self.number + 1)
        return {"feature": self.features if group == "harmonized" else self.modelled, "block": number}


def blocks_of(kept: np.ndarray, features: Sequence[str], plan: Plan) -> list[Block]:
    """Return the fewest blocks of neighbours, as equal as can be.

    The seed of a block is made of that of all and the name of its first feature, so that it hangs on no other block.

    Parameters
    ----------
    kept : ndarray of bool, (feature,)
        Which features are modelled.
    features : sequence of str
        Names of all.
    plan : Plan
        Size and seed.
    """
    modelled = np.flatnonzero(kept)
    parts = np.array_split(modelled, -(-len(modelled) // plan.block_size))
    starts = [0, *(int(part[0]) for part in parts[1:]), len(kept)]
    ends = np.cumsum([0, *map(len, parts)]).tolist()
    blocks = []
    for number, part in enumerate(parts):
        own = np.random.SeedSequence([plan.seed, *features[part[0]].encode()])
        places = slice(*starts[number : number + 2]), slice(*ends[number : number + 2])
        blocks.append(Block(number, *places, int(own.generate_state(1)[0])))
    return blocks


def fitted_block(
    part: Study, kept: np.ndarray, block: Block, plan: Plan, stop: Event | None = None
) -> tuple[Found, Said]:
    """Return what is kept of the fit of one block, and what there was to warn of.

    Parameters
    ----------
    part : Study
        Of the block's features.
    kept : ndarray of bool, (feature,)
        Which of them are modelled.
    block : Block
        Which block it is.
    plan : Plan
        How it is fitted.
    stop : Event, optional
        What says when to give up.
    """
    with in_one_thread(), heard() as said:
        found = _found(part, kept, block, plan, stop)
    _give_back()
    return found, said


def _give_back() -> None:
    """Give the memory of the draws back, so that it does not grow with the blocks.

    Trees hold themselves in circles, which Python frees late; and glibc keeps for itself much of what is freed.
    """
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


def _found(part: Study, kept: np.ndarray, block: Block, plan: Plan, stop: Event | None) -> Found:
    moments = Moments.from_study(part)
    modelled = moments.select(kept)
    check_observed(modelled)
    tree = by_nuts(modelled, plan.priors, replace(plan.settings, seed=block.seed, progress_bar=False), stop=stop)
    posterior, layout = tree["posterior"].to_dataset(), Layout.of(moments, modelled)
    learned = None if part.subjects is None else moments
    return {
        "harmonized": harmonized_dataset(posterior, layout, part, None, plan.probability, learned=learned),
        "parameters": _by_block(_summaries(posterior, tree)),
        "blocks": _account(tree, block, modelled.features),
    }


def _summaries(posterior: xr.Dataset, tree: xr.DataTree) -> xr.Dataset:
    """Return what is kept of every parameter, (summary, ...)."""
    over = ("chain", "draw")
    found = {"mean": posterior.mean(over, keep_attrs=True), "sd": posterior.std(over, ddof=1, keep_attrs=True)}
    found |= {name: tree[f"diagnostics/{name}"].to_dataset() for name in ("rhat", "ess_bulk", "ess_tail")}
    names = pd.Index(list(found), name="summary")
    return xr.concat(
        list(found.values()), names, data_vars="all", coords="minimal", compat="override", combine_attrs="override"
    )


def _account(tree: xr.DataTree, block: Block, features: Sequence[str]) -> xr.Dataset:
    """Return what is to be said of the block as a whole, (block,)."""
    known = {
        "first": features[0],
        "features": len(features),
        "seed": block.seed,
        "divergences": int(tree["sample_stats"]["diverging"].sum()),
        "verdict": tree.attrs["verdict"],
        "converged": tree.attrs["converged"],
    }
    kinds = {name: object if isinstance(value, str) else np.int64 for name, value in known.items()}
    return xr.Dataset({name: ("block", np.array([value], dtype=kinds[name])) for name, value in known.items()})


def _by_block(data: xr.Dataset) -> xr.Dataset:
    """Return the data with a dimension for blocks where there is none for features."""
    common = {name: array.expand_dims("block") for name, array in data.data_vars.items() if "feature" not in array.dims}
    return data.assign(common)
