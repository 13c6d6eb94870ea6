"""Tables in blocks of columns that stay in a core's cache, several at a time in threads. Arrays only.

What is computed of a column must not hang on the block that it stands in: see `moments/sums.py`.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

import numpy as np

__all__ = ["FEW_ROWS", "column_blocks", "in_one_thread", "observed_alike", "side_by_side", "slices", "with_each"]

_alone: ContextVar[bool] = ContextVar("alone", default=False)

# Numbers of one array of a block: 512 KiB of float64, of which a couple fit into a core's second cache.
BLOCK = 2**16
NARROWEST = 64
# Long pieces of few rows are quicker to read and write than short ones of many.
FEW_ROWS = 8
SOME_ROWS = 64


def slices(count: int, each: int) -> list[slice]:
    """Return slices over so many things, of `each` and a rest; `each` is at least one.

    Examples
    --------
    >>> slices(5, 2)
    [slice(0, 2, None), slice(2, 4, None), slice(4, 5, None)]
    """
    each = max(1, each)
    return [slice(start, min(start + each, count)) for start in range(0, count, each)]


def observed_alike(seen: np.ndarray) -> np.ndarray:
    """Return the number of the set of rows that every column is seen in, (column,), of cells (row, column).

    Examples
    --------
    >>> observed_alike(np.array([[True, False, True], [True, True, True]]))
    array([1, 0, 1])
    """
    if seen.all():
        return np.zeros(seen.shape[1], dtype=np.int64)
    return np.unique(np.packbits(seen, axis=0), axis=1, return_inverse=True)[1].reshape(-1)


def column_blocks(columns: int, rows: int) -> list[slice]:
    """Return slices over the columns, such that so many rows of one fit into a cache.

    Examples
    --------
    >>> column_blocks(2049, 64)
    [slice(0, 1024, None), slice(1024, 2048, None), slice(2048, 2049, None)]
    """
    return slices(columns, max(NARROWEST, BLOCK // max(rows, 1)))


@contextmanager
def in_one_thread() -> Iterator[None]:
    """Let `side_by_side` start no threads: where there are several of its callers at a time already."""
    token = _alone.set(True)
    try:
        yield
    finally:
        _alone.reset(token)


def side_by_side(work: Callable[[slice], object], blocks: Sequence[slice]) -> None:
    """Do the work on every block, on as many cores as there are for this process.

    The blocks must not write to the same places. An error of one is raised here once those under way are done.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(cores, len(blocks))
    if workers < 2 or _alone.get():
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(workers) as pool:
        parts = [pool.submit(_in_turn, work, blocks[worker::workers]) for worker in range(workers)]
    for part in parts:
        part.result()


def with_each(work: Callable[[slice], object], features: int) -> None:
    """Do the work on blocks of features, side by side: what it does itself is done in its thread."""

    def alone(block: slice) -> None:
        with in_one_thread():
            work(block)

    blocks = column_blocks(features, SOME_ROWS)
    side_by_side(alone if len(blocks) > 1 else work, blocks)


def _in_turn(work: Callable[[slice], object], blocks: Sequence[slice]) -> None:
    for block in blocks:
        work(block)
