"""Products as float32 inside compiled loops: numba has no bfloat16, so its bits are put into the upper half of a word.

Imported only by :mod:`hf_posmine.search.kernels` when it compiles, since it needs numba.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

WORD, HALF = ir.IntType(32), 16


@intrinsic
def value(_context, product):  # type: ignore[no-untyped-def]
    """A float32, an int32, or the bits of a bfloat16 (uint16), as float32."""

    def write(context, builder, _signature, arguments):  # type: ignore[no-untyped-def]
        if product != types.uint16:
            return context.cast(builder, arguments[0], product, types.float32)
        word = builder.shl(builder.zext(arguments[0], WORD), ir.Constant(WORD, HALF))
        return builder.bitcast(word, ir.FloatType())

    return types.float32(product), write
