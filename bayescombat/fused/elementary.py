"""Elementary functions that compiled loops can use on several numbers at once; those of the C library prevent it."""

import math
from typing import Any

import numpy as np
from numba import types
from numba.extending import intrinsic

from bayescombat.fused.kernels import kernel

__all__ = ["exp", "log"]

LOG2_E = 1 / math.log(2)
# The first has so few bits that a whole number times it is exact.
LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
# Adding it leaves the nearest whole number in the last bits of a double.
SHIFT = 1.5 * 2.0**52
SHIFT_BITS = int(np.float64(SHIFT).view(np.int64))
ROOT_HALF_BITS = int(np.float64(math.sqrt(0.5)).view(np.int64))
LARGEST_EXPONENT = 708.0


@intrinsic
def _bits(typing: Any, number: Any) -> Any:
    """Return the bits of a double as an integer."""
    return types.int64(types.float64), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.int64)
    )


@intrinsic
def _number(typing: Any, bits: Any) -> Any:
    """Return the double that has these bits."""
    return types.float64(types.int64), lambda context, builder, signature, args: builder.bitcast(
        args[0], context.get_value_type(types.float64)
    )


@kernel(fastmath={"contract"})
def exp(x: float) -> float:
    """Return the exponential, to 1e-15 of itself; beyond the range of doubles its nearest value within."""
    x = min(max(x, -LARGEST_EXPONENT), LARGEST_EXPONENT)
    shifted = x * LOG2_E + SHIFT
    power = shifted - SHIFT
    r = (x - power * LN2_HIGH) - power * LN2_LOW
    p = 1 / 6227020800
    p = p * r + 1 / 479001600
    p = p * r + 1 / 39916800
    p = p * r + 1 / 3628800
    p = p * r + 1 / 362880
    p = p * r + 1 / 40320
    p = p * r + 1 / 5040
    p = p * r + 1 / 720
    p = p * r + 1 / 120
    p = p * r + 1 / 24
    p = p * r + 1 / 6
    p = p * r + 1 / 2
    p = p * r + 1
    p = p * r + 1
    return p * _number((_bits(shifted) + 1023) << 52)


@kernel(fastmath={"contract"})
def log(x: float) -> float:
    """Return the logarithm of a positive normal number, to 1e-15."""
    bits = _bits(x)
    power = (bits - ROOT_HALF_BITS) >> 52
    m = _number(bits - (power << 52))
    exponent = _number(power + SHIFT_BITS) - SHIFT
    r = (m - 1) / (m + 1)
    s = r * r
    p = 1 / 21
    p = p * s + 1 / 19
    p = p * s + 1 / 17
    p = p * s + 1 / 15
    p = p * s + 1 / 13
    p = p * s + 1 / 11
    p = p * s + 1 / 9
    p = p * s + 1 / 7
    p = p * s + 1 / 5
    p = p * s + 1 / 3
    p = p * s
    return exponent * LN2_HIGH + (2 * r + (2 * r * p + exponent * LN2_LOW))
