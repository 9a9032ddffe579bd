# pyright: reportUnknownParameterType=false, reportMissingParameterType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportUntypedFunctionDecorator=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false
# (numba and llvmlite have no types)
"""Dot products of float32 by vector instructions, whose order of sums is written out.

LLVM adds the terms of a plain loop one after another, unless it may reorder the sums of the whole
function (see ``sums.py``). So the order is written in vectors of 16 numbers, for which LLVM takes
what the processor has; the bits are the same on all of them.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES = 16
VECTORS = 4
"""Vectors that are summed side by side, so that one addition does not wait for the last."""

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_PLACE = ir.IntType(32)
_Dot = Callable[[NDArray[np.float32], NDArray[np.float32], int, int], float]


def _dot_of_blocks(vectors: int) -> _Dot:
    """Return a function for numba's loops that takes ``vectors`` times 16 terms a turn."""

    @intrinsic
    def dot_of_blocks(typing_context, a, b, first, last):
        for row in (a, b):
            if not (isinstance(row, types.Array) and row.dtype == types.float32):
                raise TypingError(f"a dot product is of rows of float32, not of {row}")
            if row.ndim != 1 or row.layout != "C":
                raise TypingError(f"a dot product is of contiguous rows, not of {row}")

        def build(context, builder, signature, arguments):
            rows = [
                context.make_array(kind)(context, builder, value).data
                for kind, value in zip(signature.args[:2], arguments[:2], strict=True)
            ]
            return _loop(builder, rows, arguments[2], arguments[3], vectors)

        return types.float32(a, b, types.intp, types.intp), build

    return cast("_Dot", dot_of_blocks)


def _loop(builder, rows, first, last, vectors):
    """Build ``for i in range(first, last, 16 * vectors)``; returns the sum."""
    before = builder.block
    inside, behind = (builder.append_basic_block(name) for name in ("dot", "dot.sum"))
    integer, zero = first.type, ir.Constant(_FLOATS, [0.0] * LANES)
    builder.cbranch(builder.icmp_signed("<", first, last), inside, behind)
    builder.position_at_end(inside)
    at = builder.phi(integer)
    at.add_incoming(first, before)
    sums = [builder.phi(_FLOATS) for _ in range(vectors)]
    added = []
    for n, total in enumerate(sums):
        total.add_incoming(zero, before)
        place = builder.add(at, integer(n * LANES))
        added.append(builder.fadd(total, builder.fmul(*(_load(builder, r, place) for r in rows))))
        total.add_incoming(added[-1], inside)
    following = builder.add(at, integer(LANES * vectors))
    at.add_incoming(following, inside)
    builder.cbranch(builder.icmp_signed("<", following, last), inside, behind)
    builder.position_at_end(behind)
    found = [builder.phi(_FLOATS) for _ in range(vectors)]
    for total, value in zip(found, added, strict=True):
        total.add_incoming(zero, before)
        total.add_incoming(value, inside)
    while len(found) > 1:
        found = [builder.fadd(*found[n : n + 2]) for n in range(0, len(found), 2)]
    return _across(builder, found[0])


def _load(builder, row, place):
    """Build the loading of 16 numbers; rows of a matrix begin anywhere."""
    found = builder.load(builder.bitcast(builder.gep(row, [place]), _FLOATS.as_pointer()))
    found.align = 4
    return found


def _across(builder, vector):
    """Build the sum of a vector's numbers: halves are added until one number is left."""
    count = LANES
    while count > 1:
        count //= 2
        halves = [
            builder.shuffle_vector(
                vector,
                ir.Constant(vector.type, ir.Undefined),
                ir.Constant(ir.VectorType(_PLACE, count), list(range(start, start + count))),
            )
            for start in (0, count)
        ]
        vector = builder.fadd(*halves)
    return builder.extract_element(vector, _PLACE(0))


dot_of_64 = _dot_of_blocks(VECTORS)
"""``sum(a[i] * b[i])`` for ``first <= i < last``, of which 64 divides the difference."""
dot_of_16 = _dot_of_blocks(1)
"""The same where 16 divides the difference."""
