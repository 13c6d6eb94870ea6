"""The density as C functions.

Data come in by a pointer, so that machine code is made once for all studies and kept on disk.
"""

import math
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

from numba import carray, cfunc, types
from numba.core.caching import FunctionCache
from numba.core.cpu import CPUContext
from numba.core.registry import cpu_target

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

    return _from_disk(types.int64(types.uint64, POINTER, POINTER, POINTER, types.voidptr), of_position)


@cache
def expansion(sources: int) -> Any:
    """Return what sets the reported parameters of a position as a C function, compiled or from disk."""

    def of_draw(dimension, count, position, out, study):
        _ = sources
        expand(carray(position, (int(dimension),)), _study(study), carray(out, (int(count),)))
        return 0

    return _from_disk(types.int64(types.uint64, types.uint64, POINTER, POINTER, types.voidptr), of_draw)


def _from_disk(signature: Any, function: Any) -> Any:
    """Return a C function whose bits are the same in the process that compiles it and in those after it.

    What was just compiled calls kernels that were compiled by themselves, and may round unlike the copies of them that
    are on disk with it: so it is read again, by what knows nothing of the kernels.
    """
    compiled = cfunc(signature, cache=True, error_model="numpy")(function)
    if not compiled.cache_hits:
        found = FunctionCache(function).load_overload(compiled._sig, CPUContext(cpu_target.typing_context))
        if found is not None:
            compiled._library = found.library
            compiled._wrapper_address = found.library.get_pointer_to_function(compiled.native_name)
    return compiled
