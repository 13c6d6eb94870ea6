"""NUTS for many features: in blocks, each a model of its own, side by side, into a Zarr store."""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import islice
from numbers import Integral
from pathlib import Path
from secrets import randbits
from threading import Event
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from threadpoolctl import threadpool_limits

from bayescombat.blocks import slices
from bayescombat.columns import Said, names_index, warn
from bayescombat.errors import BayesCombatError, ConvergenceWarning, check_probability, listing
from bayescombat.fit.block import Block, Found, Plan, blocks_of, fitted_block
from bayescombat.fit.blockstore import BlockStore
from bayescombat.identification import Aside, joined_aside, told_apart, warn_of_set_aside
from bayescombat.moments import Moments
from bayescombat.priors import Priors
from bayescombat.progress import bar
from bayescombat.settings import Settings
from bayescombat.storage import check_zarr
from bayescombat.study import ChunkedStudy, Study, study_of_chunk

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["fit_blocks"]

# Features that are looked at together before any is fitted.
AT_A_LOOK = 1000
SECONDS_BETWEEN_LOOKS = 0.1

type Submit = Callable[[Study, np.ndarray, Block], Future[tuple[Found, Said]]]


def fit_blocks(
    study: Study | ChunkedStudy,
    path: str | os.PathLike[str],
    block_size: int = 200,
    *,
    priors: Priors | None = None,
    draws: int = 1000,
    tune: int = 500,
    chains: int = 4,
    cores: int | None = None,
    seed: int | None = None,
    target_accept: float | None = None,
    probability: float | None = None,
    client: "Client | None" = None,
    progress_bar: bool = True,
) -> xr.DataTree:
    """Fit many features by NUTS, block by block, into a Zarr store.

    Every block of neighbouring features is a full model of its own, with its own priors of the batches, as `fit` makes
    it. Blocks run side by side, and of each are kept harmonized values and summaries of the parameters, no draws: what
    is in memory does not grow with the features. Interrupted, it goes on where it stopped when it is called again with
    the same study and settings.

    Parameters
    ----------
    study : Study or ChunkedStudy
        The table. A study in chunks is read twice, a block at a time; chunks as wide as blocks are read quickest.
    path : path-like
        Where the store, a folder, is to stand. It comes there once it is whole; until then finished blocks are kept
        beside it, in a folder whose name ends in ``.unfinished``. If it is there already, of the same study and
        settings, nothing is fitted.
    block_size : int
        Features of a block at most; blocks are as equal as can be. Some hundred tell well how batches differ.
    priors, draws, tune, chains, target_accept
        As in `fit`.
    cores : int, optional
        How many to use on this machine, by default all: as many blocks at a time, and if there are fewer, chains of
        each. Memory is that of so many blocks.
    seed : int, optional
        The same seed gives the same bits, whatever the cores, workers and interrupts. By default a new one; a store
        that is begun goes on with its own. That of a block is made of it and the name of the block's first feature.
    probability : float, optional
        Of the central interval of harmonized values from ``lower`` to ``upper``; by default there are no bounds.
    client : distributed.Client, optional
        A Dask cluster whose workers fit the blocks, one in every thread. They need not see the path.
    progress_bar : bool
        Whether to show how many blocks are finished.

    Returns
    -------
    xarray.DataTree
        The store, read as it is asked for, as ``xarray.open_datatree(path, engine="zarr", chunks={})`` opens it later:

        - ``harmonized``: ``mean, sd`` and perhaps ``lower, upper`` (obs, feature), as of `Fit.harmonize`;
        - ``parameters`` (summary, ...): of all parameters of a fit the ``mean`` and ``sd`` over the draws, ``rhat``,
          ``ess_bulk`` and ``ess_tail``. What is no feature's own, such as ``gamma_sd``, has the dimension ``block``;
        - ``blocks`` (block): ``first``, its first modelled feature; ``features``, how many it has; ``seed``,
          ``divergences``, ``verdict``, ``converged``.

    Raises
    ------
    DataError
        If the store holds blocks of another study; or as in `fit`.
    BayesCombatError
        If it holds blocks of other settings, or an argument is not one of those above.
    FileFormatError
        If something else is there.
    KeyboardInterrupt
        After an interrupt, once what is finished is kept.
    ImportError
        If zarr or Dask are not installed.

    Warns
    -----
    ConvergenceWarning
        If blocks did not converge: names them.
    BatchSizeWarning, FeatureWarning, NegativeValueWarning
        As in `fit`.

    Notes
    -----
    A block is the same, bit by bit, as ``fit`` of its features with its seed, which is how to get its draws. What needs
    all features of a scan at once, as ``shared_factors``, ``factors`` and ``covariance`` do, is left to `fit`. With
    subjects, smooths or several batch variables PyMC compiles every block anew.

    Examples
    --------
    >>> import tempfile, bayescombat as bc
    >>> simulation = bc.datasets.simulate((20, 15, 10), features=6)
    >>> study = bc.Study.from_dataframe(simulation.table, batch="site", features=simulation.features)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     tree = bc.fit_blocks(study, f"{folder}/out.zarr", 3, chains=2, draws=800, seed=1, progress_bar=False)
    ...     tree["harmonized"]["mean"].shape, tree["blocks"]["first"].values.tolist()
    ((45, 6), ['feature_0', 'feature_3'])
    """
    _check(study, block_size, cores, client)
    if probability is not None:
        check_probability(probability)
    settings = Settings(draws, tune, chains, cores, seed, target_accept, progress_bar)
    store = BlockStore(Path(path).expanduser())
    if seed is None:
        settings = replace(settings, seed=store.held().get("seed", randbits(32)))
    plan = Plan(settings, priors or Priors(), None if probability is None else float(probability), int(block_size))
    kept, aside, fingerprint = _looked_at(study)
    identity = plan.identity | {"study": fingerprint}
    store.check(identity)
    warn_of_set_aside(aside, study.features)
    blocks = blocks_of(kept, study.features, plan)
    missing = [block for block, there in zip(blocks, store.finished(len(blocks)), strict=True) if not there]
    labels = _labels(study.features, kept)
    told: set[str] = set()
    workers = _here(plan, len(missing)) if client is None else _there(plan, client)
    try:
        done = len(blocks) - len(missing)
        with bar("Blocks", len(blocks), shown=progress_bar, done=done) as advance, workers as crew:
            for block, found, said in _finished(study, kept, missing, *crew):
                store.create(found, labels, len(blocks), identity)
                store.write(block, found)
                advance()
                _pass_on(said, told)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_kept_words(store, len(blocks))) from None
    store.finish()
    tree = store.opened()
    _warn_of_blocks(tree["blocks"].to_dataset())
    return tree


def _check(study: object, block_size: object, cores: int | None, client: object) -> None:
    check_zarr()
    if not isinstance(study, Study | ChunkedStudy):
        raise BayesCombatError(
            f"Expected a Study or a ChunkedStudy, found {type(study).__name__}. Moments hold no rows to harmonize: "
            "fit them with bayescombat.fit."
        )
    if isinstance(block_size, bool) or not isinstance(block_size, Integral) or block_size < 1:
        raise BayesCombatError(f"Expected block_size to be a whole number of at least 1, found {block_size!r}.")
    if cores is not None and client is not None:
        raise BayesCombatError(
            f"Expected either cores of this machine or a client of a cluster, found cores={cores!r} and a client. With "
            "a client every thread of its workers fits one block. Leave cores out."
        )


def _looked_at(study: Study | ChunkedStudy) -> tuple[np.ndarray, Aside, str]:
    """Return which features can be modelled (feature,), why not the others, and what tells this study from any other.

    Errors are those of `told_apart`.
    """
    digest, rows = blake2b(digest_size=16), study.rows if isinstance(study, ChunkedStudy) else study
    subjects = () if rows.subjects is None else tuple(rows.subjects)
    for text in (study.spec.to_json(), study.reference, *study.batches, *study.obs, *subjects):
        digest.update(f"{text}\0".encode())
    for array in (study.x, study.codes):
        digest.update(np.ascontiguousarray(array))
    kept = np.zeros(len(study.features), dtype=bool)
    aside = []
    for piece in study.chunks if isinstance(study, ChunkedStudy) else slices(len(kept), AT_A_LOOK):
        some = _some(study, piece)
        digest.update(np.ascontiguousarray(some.y.T))
        modelled, others = told_apart(Moments.from_study(some))
        kept[piece] = np.isin(some.features, modelled.features)
        aside.append(others)
    return kept, joined_aside(aside), digest.hexdigest()


def _some(study: Study | ChunkedStudy, features: slice) -> Study:
    """Return the study of some of the features."""
    if isinstance(study, ChunkedStudy):
        values = np.asarray(study.y[:, features], dtype=float)
        return study_of_chunk(values, study.rows, study.features[features])
    return study.select(features)


def _labels(features: Sequence[str], kept: np.ndarray) -> dict[str, xr.Dataset]:
    """Return the coordinates along the features, of the group of harmonized values and of all other groups."""
    modelled = np.array(features, dtype=object)[kept].tolist()
    every = xr.Dataset(coords={"feature": names_index(features), "set_aside": ("feature", ~kept)})
    return {"harmonized": every, "": xr.Dataset(coords={"feature": names_index(modelled)})}


@contextmanager
def _here(plan: Plan, blocks: int) -> Iterator[tuple[Submit, Callable[[], int]]]:
    """Give what starts a block in a thread, and says how many may be under way; stop them at the end."""
    cores = plan.settings.cores or os.cpu_count() or 1
    at_once, stop = max(1, min(cores, blocks)), Event()
    shared = replace(plan, settings=replace(plan.settings, cores=cores // at_once))
    # Set here too, since threads that set and reset it by themselves would undo each other's limits.
    with threadpool_limits(1), ThreadPoolExecutor(at_once) as pool:
        try:
            yield partial(pool.submit, partial(fitted_block, plan=shared, stop=stop)), lambda: at_once
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)


@contextmanager
def _there(plan: Plan, client: "Client") -> Iterator[tuple[Submit, Callable[[], int]]]:
    """Give what starts a block on a cluster, and says how many may be under way; cancel them at the end."""
    pool = client.get_executor(pure=False)
    alone = replace(plan, settings=replace(plan.settings, cores=1))

    def submit(part: Study, kept: np.ndarray, block: Block) -> Future[tuple[Found, Said]]:
        future: Future[tuple[Found, Said]]
        future = pool.submit(fitted_block, client.scatter(part, hash=False), kept, block, alone)
        return future

    try:
        # One to wait for every thread, which is then never idle.
        yield submit, lambda: 2 * max(1, sum(client.nthreads().values()))
    finally:
        pool.shutdown(wait=False)


def _finished(
    study: Study | ChunkedStudy, kept: np.ndarray, blocks: Sequence[Block], submit: Submit, most: Callable[[], int]
) -> Iterator[tuple[Block, Found, Said]]:
    """Yield blocks as they are finished, in any order, with what they found and had to warn of."""
    waiting, under_way = iter(blocks), dict[Future[tuple[Found, Said]], Block]()

    def start() -> None:
        for block in islice(waiting, max(0, most() - len(under_way))):
            part = _some(study, block.features)
            under_way[submit(part, kept[block.features], block)] = block

    start()
    while under_way:
        # Not for good: where another thread is told of an interrupt, this one hears of it when it wakes.
        for future in wait(under_way, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED).done:
            block = under_way.pop(future)
            found, said = future.result()
            start()
            yield block, found, said


def _pass_on(said: Said, told: set[str]) -> None:
    """Warn of what a block had to say and no other said before; of convergence all blocks are told of together."""
    for message, category in said:
        if category is not ConvergenceWarning and message not in told:
            told.add(message)
            warn(message, category)


def _kept_words(store: BlockStore, count: int) -> str:
    finished = int(store.finished(count).sum())
    if not finished:
        return f"Interrupted before the first of {count} blocks was finished: nothing is kept."
    return (
        f"Interrupted: {finished} of {count} blocks are finished and kept in {str(store.beside)!r}. Call again with "
        "the same study, path and settings to go on."
    )


def _warn_of_blocks(blocks: xr.Dataset) -> None:
    bad = blocks["converged"].values == 0
    if bad.any():
        warn(
            f"{bad.sum()} of {len(bad)} blocks are not to be trusted as they stand, which begin at "
            f"{listing(blocks['first'].values[bad])}; tree['blocks']['verdict'] says why. Sample longer (draws, tune) "
            "or raise target_accept, into another store.",
            ConvergenceWarning,
        )
