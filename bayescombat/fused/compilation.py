"""The density as C functions.

Data come in by a pointer, so that machine code is made once for all studies and kept on disk.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from numba import carray, cfunc, types

from bayescombat.fused.density import log_density_and_gradient
from bayescombat.fused.kernels import doubles, kernel
from bayescombat.fused.report import expand
from bayescombat.fused.rows import finite

__all__ = ["density", "expansion", "sources"]

POINTER = types.CPointer(types.float64)


def sources() -> int:
    """Return what changes with the code that is compiled; Numba itself looks at one file only."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    return crc32(b"".join(path.read_bytes() for path in code))


@kernel()
def _study(pointer):
    """Return the numbers of a study, of which the first says how many there are."""
    numbers = doubles(pointer)
    return carray(numbers, (int(carray(numbers, (1,))[0]),))


@cache
def density(sources: int) -> Any:
    """Return the log-density and its gradient as a C function, compiled or from disk."""

    def of_position(dimension, position, gradient, value, study):
        """Return zero, or one where the density or its gradient is no number."""
        _ = sources
        size = int(dimension)
        slopes = carray(gradient, (size,))
        found = log_density_and_gradient(carray(position, (size,)), _study(study), slopes)
        value[0] = found
        return 0 if finite(slopes) and math.isfinite(found) else 1

    signature = types.int64(types.uint64, POINTER, POINTER, POINTER, types.voidptr)
    return cfunc(signature, cache=True, error_model="numpy")(of_position)


@cache
def expansion(sources: int) -> Any:
    """Return what sets the reported parameters of a position as a C function, compiled or from disk."""

    def of_draw(dimension, count, position, out, study):
        _ = sources
        expand(carray(position, (int(dimension),)), _study(study), carray(out, (int(count),)))
        return 0

    signature = types.int64(types.uint64, types.uint64, POINTER, POINTER, types.voidptr)
    return cfunc(signature, cache=True, error_model="numpy")(of_draw)
