"""What all compiled functions have in common: how they are compiled, and arrays that begin at an address."""

from functools import partial
from typing import Any

from numba import carray, njit, types
from numba.extending import intrinsic

__all__ = ["FAST", "array_at", "doubles", "kernel"]

# No flag here lets the compiler assume that numbers are finite.
FAST = {"reassoc", "nsz", "arcp", "contract"}

# Called by nothing but compiled code, kernels need no way in from Python. What is called in one place alone may be
# `inline="always"` too: then it is not compiled by itself before.
kernel = partial(njit, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)


@intrinsic
def doubles(typing: Any, pointer: Any) -> Any:
    """Return a pointer to anything as one to doubles."""
    return types.CPointer(types.float64)(types.voidptr), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.CPointer(types.float64))
    )


@intrinsic
def _address(typing: Any, numbers: Any, place: Any) -> Any:
    """Return the address of one of the numbers of an array."""

    def generated(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        return builder.gep(array.data, [args[1]])

    return types.CPointer(types.float64)(numbers, types.int64), generated


@kernel()
def array_at(numbers, place, shape):
    """Return the part of a contiguous array that begins at a place, in a shape of its own."""
    # Without the checks of slices and reshapes, which take longer to compile than all arithmetic.
    return carray(_address(numbers, place), shape)
