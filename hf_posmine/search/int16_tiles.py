"""Products of 16-bit codes, compiled: on x86 with AVX2 the only products that are quicker than those of float32.

A tile, a few queries times a few documents, is written as vectors of LLVM. Two products of 16-bit numbers and their sum in
32 bits are one instruction there (``vpmaddwd``), which does twice the work of a float32 multiply-add. Elsewhere the same
code is right, and :func:`~hf_posmine.search.product_speed.int16_share` tells whether it is quick.

Documents lie in groups of 8, two numbers of each in turn (:mod:`~hf_posmine.search.groups`), so that a vector holds
sums of 8 documents and none has to be summed up, however few numbers count: the layout of PDX (SIGMOD 2025), for pairs.

Imported only by :mod:`hf_posmine.search.kernels` when it compiles, since it needs numba.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from hf_posmine.search.groups import GROUP

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

QUERIES, GROUPS = 4, 2
"""A tile: its sums, and what they are made of, fit the 16 vector registers of AVX2. Of six shapes that were timed, the quickest."""
IN_CACHE = 12
"""Groups that all queries are multiplied with before the next ones: they stay in a near cache."""
SHORT, WORD, SIZE = ir.IntType(16), ir.IntType(32), ir.IntType(64)
PAIRS, SUMS = ir.VectorType(SHORT, 2 * GROUP), ir.VectorType(WORD, GROUP)
WIDE = ir.VectorType(WORD, 2 * GROUP)


def _tile(queries: int, groups: int) -> Any:
    """An intrinsic that multiplies some queries, from row i on, with some groups, from group g on."""

    @intrinsic
    def tile(_context, left, i, right, g, length, out):  # type: ignore[no-untyped-def]
        def write(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            first, other, result = (
                context.make_array(signature.args[n])(context, builder, arguments[n]) for n in (0, 2, 5)
            )
            first_query, first_document = arguments[1], builder.mul(arguments[3], SIZE(GROUP))
            width, columns = (cgutils.unpack_tuple(builder, matrix.shape, 2)[1] for matrix in (first, result))
            rows = _rows(builder, first.data, width, first_query, queries)
            lefts = [builder.bitcast(row, WORD.as_pointer()) for row in rows]
            rights = _rows(builder, other.data, width, first_document, groups, GROUP)
            outs = _rows(builder, result.data, columns, first_query, queries)
            sums = [[cgutils.alloca_once_value(builder, ir.Constant(SUMS, [0] * GROUP)) for _ in rights] for _ in lefts]
            with cgutils.for_range(builder, builder.udiv(arguments[4], SIZE(2))) as loop:
                at = builder.mul(loop.index, SIZE(2 * GROUP))
                documents = [_wide(builder, _load(builder, group, at)) for group in rights]
                for row, its_sums in zip(lefts, sums, strict=True):
                    pair = _wide(builder, _repeated(builder, builder.load(builder.gep(row, [loop.index]), align=2)))
                    for document, total in zip(documents, its_sums, strict=True):
                        added = _added_pairs(builder, builder.mul(pair, document, flags=("nsw",)))
                        builder.store(builder.add(builder.load(total), added), total)
            for row, its_sums in zip(outs, sums, strict=True):
                for number, total in enumerate(its_sums):
                    place = builder.gep(row, [builder.add(first_document, SIZE(number * GROUP))])
                    builder.store(builder.load(total), builder.bitcast(place, SUMS.as_pointer()), align=4)
            return context.get_dummy_value()

        return types.void(left, types.intp, right, types.intp, types.intp, out), write

    return tile


def _rows(
    builder: ir.IRBuilder, data: ir.Value, width: ir.Value, first: ir.Value, number: int, step: int = 1
) -> list[ir.Value]:
    """Pointers to every ``step``-th row of a contiguous matrix, from a first one on."""
    at = [builder.add(first, SIZE(row * step)) for row in range(number)]
    return [builder.gep(data, [builder.mul(row, width)]) for row in at]


def _load(builder: ir.IRBuilder, row: ir.Value, at: ir.Value) -> ir.Value:
    """Two numbers of each document of a group."""
    return builder.load(builder.bitcast(builder.gep(row, [at]), PAIRS.as_pointer()), align=2)


def _repeated(builder: ir.IRBuilder, word: ir.Value) -> ir.Value:
    """Two 16-bit numbers in one word, once for each document of a group."""
    vector = builder.insert_element(ir.Constant(SUMS, ir.Undefined), word, WORD(0))
    return builder.bitcast(_pick(builder, vector, [0] * GROUP), PAIRS)


def _wide(builder: ir.IRBuilder, numbers: ir.Value) -> ir.Value:
    """In 32 bits, so that products do not overflow; the compiler still knows that they have 16."""
    return builder.sext(numbers, WIDE)


def _added_pairs(builder: ir.IRBuilder, products: ir.Value) -> ir.Value:
    """Each even product plus the odd one behind it."""
    return builder.add(*(_pick(builder, products, range(first, 2 * GROUP, 2)) for first in (0, 1)))


def _pick(builder: ir.IRBuilder, numbers: ir.Value, places: Sequence[int]) -> ir.Value:
    return builder.shuffle_vector(numbers, numbers, ir.Constant(ir.VectorType(WORD, len(places)), list(places)))


tile, narrow, single = _tile(QUERIES, GROUPS), _tile(QUERIES, 1), _tile(1, 1)


def products(queries: np.ndarray, documents: np.ndarray, length: int, out: np.ndarray) -> None:
    """Write the products of the first numbers of some codes; numba compiles it.

    Args:
        queries: int16 ``[B, p]``.
        documents: int16 ``[G, 8 p]`` as ``[8 G, p]``, in groups; rows behind the last whole group are left out.
        length: how many numbers of each row count, even.
        out: int32 ``[B, N]``, N at least 8 G; the caller sees to it that no sum overflows.
    """
    whole_queries, number = len(queries) // QUERIES * QUERIES, len(documents) // GROUP
    for start in range(0, number, IN_CACHE):
        stop = min(start + IN_CACHE, number)
        whole = start + (stop - start) // GROUPS * GROUPS
        for i in range(0, whole_queries, QUERIES):
            for g in range(start, whole, GROUPS):
                tile(queries, i, documents, g, length, out)
            for g in range(whole, stop):
                narrow(queries, i, documents, g, length, out)
        for i in range(whole_queries, len(queries)):
            for g in range(start, stop):
                single(queries, i, documents, g, length, out)
