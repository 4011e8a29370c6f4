"""The compiled inner loops (numba, extra ``fast``): filtering a block of scores as it leaves the matrix product.

Without numba, :mod:`hf_posmine.search.scan_torch` does the same work with torch alone, and so it does for searches too small
to be worth a compiler. numba keeps the machine code on disk per processor, beside this file or, where that is read-only, in
the user's cache folder (``NUMBA_CACHE_DIR`` names another).
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

AVAILABLE = importlib.util.find_spec("numba") is not None
WORTH_COMPILING = 1 << 28
"""Pairs of a query and a document from which on compiled loops save more time than compiling them takes."""
KINDS = ("dot", "cosine", "euclidean", "manhattan")
GROUP = 64
FIRST_PRUNE = 32  # buffered documents before the first prune; later ones wait for twice what the last one left
GROWTH = 4
FEW = 16  # up to so many best values are kept by insertion, without allocating and partitioning an array
COLLECT_INPUTS = 13
"""Arguments of :func:`collect` that are only read."""
_compiled: dict[str, Any] = {}
_work = 0
_lock = threading.Lock()


def worth(pairs: int) -> bool:
    """Whether the compiled loops should do this work: where they are ready, or all work so far is worth compiling for.

    Args:
        pairs: of a query and a document.
    """
    global _work  # noqa: PLW0603 - of the process, as the compiled loops are
    _work += pairs
    return AVAILABLE and (bool(_compiled) or _work >= WORTH_COMPILING)


def ready() -> bool:
    """Whether this process has the loops."""
    return bool(_compiled)


def collect(*args: object) -> None:
    """Put the documents of a block that may matter into the queries' buffers; see :func:`_collect`."""
    _kernel("collect")(*map(_read_only, args[:COLLECT_INPUTS]), *args[COLLECT_INPUTS:])


def prune(*args: object) -> None:
    """Drop buffered documents that cannot be among the best k; see :func:`_prune_all`."""
    _kernel("prune")(*args)


def pick(*args: object) -> int:
    """Find the buffered documents whose float32 values would help most; see :func:`_pick`."""
    return _kernel("pick")(*args)


def round_to_int8(vectors: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write int8 ``codes``; returns the float32 step of each row, |v - codes * step| and |codes * step| in float64."""
    steps, quantization_error, lengths = (
        np.empty(len(vectors), np.float32),
        np.empty(len(vectors)),
        np.empty(len(vectors)),
    )
    _kernel("round")(_read_only(vectors), codes, steps, quantization_error, lengths)
    return steps, quantization_error, lengths


def int16_products(queries: np.ndarray, documents: np.ndarray, length: int, out: np.ndarray) -> np.ndarray:
    """Write int32 products ``[B, N]`` of codes; see :func:`hf_posmine.search.int16_tiles.products`."""
    _kernel("int16")(*map(_read_only, (queries, documents)), length, out)
    return out


def pair_products(queries: np.ndarray, at: np.ndarray, documents: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Float32 dot products of query ``at[i]`` with row ``rows[i]`` of float32 ``documents``."""
    out = np.empty(len(rows), np.float32)
    _kernel("products")(*map(_read_only, (queries, at, documents, rows)), out)
    return out


def pair_scores(
    similarity: str, queries: np.ndarray, at: np.ndarray, documents: np.ndarray, rows: np.ndarray
) -> np.ndarray:
    """Float64 scores of pairs, as :func:`hf_posmine.search.rescore.pair_scores`."""
    out = np.empty(len(rows), np.float64)
    _kernel("pairs")(KINDS.index(similarity), *map(_read_only, (queries, at, documents, rows)), out)
    return out


def _read_only(value: object) -> object:
    """An array that must not be written: numba compiles anew for the other kind, and memory maps are of this one."""
    if not isinstance(value, np.ndarray):
        return value
    view = np.asarray(value).view()
    view.flags.writeable = False
    return view


def _kernel(name: str) -> Callable[..., Any]:
    """Compile all kernels on first use (kept on disk by numba)."""
    with _lock:
        if not _compiled:
            _compile()
    return _compiled[name]


def _compile() -> None:
    import numba

    from hf_posmine.search import bfloat16, int16_tiles

    strict = numba.njit(nogil=True, cache=True, error_model="numpy")
    # sums may be reordered, so that they use vector registers; NaN must keep its meaning where it hides documents
    reordered = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
    global _prune, _excluded, _best_ends, _group_hits, _best, _value  # noqa: PLW0603 - what they call is compiled, too
    _value = bfloat16.value
    _best, _excluded, _group_hits = strict(_best), strict(_excluded), strict(_group_hits)
    _prune, _best_ends = strict(_prune), strict(_best_ends)
    _compiled["collect"] = strict(_collect)
    _compiled["prune"] = strict(_prune_all)
    _compiled["pick"] = strict(_pick)
    _compiled["int16"] = strict(int16_tiles.products)
    finite = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "nnan", "nsz"})
    _compiled["round"] = finite(_round)
    _compiled["products"] = reordered(_products)
    _compiled["pairs"] = reordered(_pairs)


def _value(product):  # type: ignore[no-untyped-def]
    """A product as float32; compiled, 16 bits are taken as a bfloat16 (:mod:`.bfloat16`)."""
    return np.float32(product)


def _excluded(row, rows, start, stop):  # type: ignore[no-untyped-def]
    end = stop
    while start < stop:  # binary search: rows is sorted within each query's bounds
        middle = (start + stop) // 2
        if rows[middle] < row:
            start = middle + 1
        else:
            stop = middle
    return start < end and rows[start] == row


def _best(values, k):  # type: ignore[no-untyped-def]
    """The k-th largest value, -inf if there are fewer."""
    if len(values) < k:
        return np.float32(-np.inf)
    if k > FEW:
        return np.partition(values, len(values) - k)[len(values) - k]
    top = np.full(k, -np.inf, np.float32)  # the largest first
    for v in range(len(values)):
        place = k - 1
        if values[v] > top[place]:
            while place > 0 and top[place - 1] < values[v]:
                top[place] = top[place - 1]
                place -= 1
            top[place] = values[v]
    return top[k - 1]


def _prune(k, low, below, found, count):  # type: ignore[no-untyped-def]
    """Keep what may still be among the best k below the ceiling; return the new count and the new least value."""
    # Only documents whose whole interval is below the ceiling may raise the bound: others may turn out to be no results.
    sure = np.empty(count, np.float32)
    number = 0
    for c in range(count):
        if found[c].upper < below:
            sure[number] = found[c].lower
            number += 1
    low = max(low, _best(sure[:number], k))
    kept = 0
    for c in range(count):
        if found[c].upper >= low:
            found[kept] = found[c]
            kept += 1
    return kept, low


def _group_hits(products, factor, spread, scale, bias, quantization_error, bound, hits):  # type: ignore[no-untyped-def]
    """Count the values of each group that may reach a bound: a loop of constant length compiles to vector registers."""
    for g in range(products.shape[0] // GROUP):
        block = products[g * GROUP : (g + 1) * GROUP]
        s = scale[g * GROUP : (g + 1) * GROUP]
        b = bias[g * GROUP : (g + 1) * GROUP]
        m = quantization_error[g * GROUP : (g + 1) * GROUP]
        found = np.int32(0)
        for j in range(GROUP):
            reach = _value(block[j]) * factor * s[j] + b[j] + spread * m[j]
            found += np.int32(1) if reach >= bound else np.int32(0)
        hits[g] = found


def _best_ends(products, factor, spread, error, scale, bias, quantization_error, below, best):  # type: ignore[no-untyped-def]
    """The highest lower end certainly below the ceiling among every ``GROUP``-th document, float32 ``[GROUP]``."""
    lowest = np.float32(-np.inf)
    for g in range(products.shape[0] // GROUP):
        block = products[g * GROUP : (g + 1) * GROUP]
        s = scale[g * GROUP : (g + 1) * GROUP]
        b = bias[g * GROUP : (g + 1) * GROUP]
        m = quantization_error[g * GROUP : (g + 1) * GROUP]
        for j in range(GROUP):
            value = _value(block[j]) * factor * s[j] + b[j]
            margin = spread * m[j] + error
            end = value - margin if value + margin < below else lowest
            best[j] = end if end > best[j] else best[j]


def _collect(  # type: ignore[no-untyped-def]
    products,
    factor,
    spread,
    error,
    scale,
    bias,
    quantization_error,
    offset,
    k,
    above_from,
    below,
    excluded,
    bounds,
    found,
    starts,
    rooms,
    free,
    count,
    low,
    above,
    full,
):
    """Buffer the documents of one block that may be among the best k strictly below the ceiling.

    A value is ``products[i, j] * factor[i] * scale[j] + bias[j]``, off by at most ``spread[i] * moved[j] + error[i]``; its
    document goes to ``found`` with the two ends of that interval. From ``above_from`` on, a lower end is certainly at or
    above the ceiling, and only counted; an upper end under ``below`` is certainly below it. ``low`` is the least value
    that k documents certainly reach; it rises as candidates are pruned. NaN in ``scale`` hides a document.

    Query i has the records from ``starts[i]`` on, ``rooms[i]`` of them; where they do not suffice it moves to a larger
    place behind ``free[0]``, and if there is none, it is marked in ``full``.
    """
    hits = np.ones(-(-products.shape[1] // GROUP), np.int32)  # a last group that is not full is always looked at
    columns = np.empty(GROUP + 1, np.int64)
    for i in range(products.shape[0]):
        if full[i]:
            continue
        # Pruning at twice the survivors of the last time keeps its cost in proportion to the documents that come in.
        limit = min(rooms[i], max(FIRST_PRUNE, 4 * k, 2 * count[i]))
        mine = found[starts[i] : starts[i] + rooms[i]]
        f, s, e, start, stop = factor[i], spread[i], error[i], bounds[i], bounds[i + 1]
        if low[i] == -np.inf:  # a first bound from this block, so that not every document of it is buffered
            ends = np.full(GROUP, -np.inf, np.float32)
            _best_ends(products[i], f, s, e, scale, bias, quantization_error, below[i], ends)
            low[i] = _best(ends, k + stop - start)  # at most so many of them are excluded

        bound = np.float32(low[i] - e)
        _group_hits(products[i], f, s, scale, bias, quantization_error, bound, hits)
        for g in range(hits.shape[0]):
            if hits[g] == 0:
                continue
            first = g * GROUP
            size = min(GROUP, products.shape[1] - first)
            reached = 0
            for j in range(first, first + size):  # without a branch: most documents of a group fall short
                reach = _value(products[i, j]) * f * scale[j] + bias[j] + s * quantization_error[j]
                columns[reached] = j
                reached += np.int64(reach >= bound)
            for c in range(reached):
                j = columns[c]
                value = _value(products[i, j]) * f * scale[j] + bias[j]
                margin = s * quantization_error[j] + e
                if not value + margin >= low[i] or _excluded(offset + j, excluded, start, stop):
                    continue
                if value - margin >= above_from[i]:
                    above[i] += 1
                    continue
                if count[i] == limit:
                    count[i], low[i] = _prune(k, low[i], below[i], mine, count[i])
                    bound = np.float32(low[i] - e)
                    if count[i] > rooms[i] - rooms[i] // 4:
                        full[i] = free[0] + GROWTH * rooms[i] > len(found)
                        if full[i]:
                            break
                        mine = found[free[0] : free[0] + GROWTH * rooms[i]]
                        mine[: count[i]] = found[starts[i] : starts[i] + count[i]]
                        starts[i], rooms[i] = free[0], len(mine)
                        free[0] += len(mine)
                    limit = min(rooms[i], max(FIRST_PRUNE, 4 * k, 2 * count[i]))
                    if not value + margin >= low[i]:
                        continue
                mine[count[i]].row = offset + j
                mine[count[i]].lower = value - margin
                mine[count[i]].upper = value + margin
                count[i] += 1
            if full[i]:
                break


def _prune_all(k, above_from, below, found, starts, count, low, above):  # type: ignore[no-untyped-def]
    """Count and drop what is certainly at or above the ceiling, then prune."""
    for i in range(len(count)):
        mine = found[starts[i] : starts[i] + count[i]]
        kept = 0
        for c in range(count[i]):
            if mine[c].lower >= above_from[i]:
                above[i] += 1
            else:
                mine[kept] = mine[c]
                kept += 1
        count[i], low[i] = _prune(k, low[i], below[i], mine, kept)


def _pick(want, ceiling, settled, found, starts, count, at, places):  # type: ignore[no-untyped-def]
    """The ``want`` most promising documents of each query whose intervals are wider than ``settled``.

    The most promising have the highest middle under the ceiling. With ``want`` 0, all that are not settled. Writes the
    query and the place in ``found`` of each, as many as there is room for, and returns their number.
    """
    number = 0
    for i in range(len(count)):
        mine = found[starts[i] : starts[i] + count[i]]
        least = np.float32(-np.inf)
        if want > 0:
            middles = np.empty(count[i], np.float32)
            under = 0
            for c in range(count[i]):
                middle = np.float32(0.5) * (mine[c].lower + mine[c].upper)
                if middle < ceiling[i]:
                    middles[under] = middle
                    under += 1
            least = _best(middles[:under], want)
        for c in range(count[i]):
            if number == len(at):
                return number
            middle = np.float32(0.5) * (mine[c].lower + mine[c].upper)
            if mine[c].upper - mine[c].lower > settled[i] and (want == 0 or least <= middle < ceiling[i]):
                at[number] = i
                places[number] = starts[i] + c
                number += 1
    return number


def _round(vectors, codes, steps, quantization_error, lengths):  # type: ignore[no-untyped-def]
    for i in range(vectors.shape[0]):
        largest = np.float32(0)
        for j in range(vectors.shape[1]):
            size = abs(vectors[i, j])
            largest = size if size > largest else largest
        step = largest / np.float32(127) if largest > 0 else np.float32(1)
        if step == 0:  # the division of a denormal number underflowed
            step = np.float32(1)
        apart = 0.0  # measured for each row: half a step in every dimension would be a looser bound
        square = 0.0
        for j in range(vectors.shape[1]):
            code = np.rint(vectors[i, j] / step)
            near = np.float64(code) * np.float64(step)
            codes[i, j] = np.int8(code)
            apart += (np.float64(vectors[i, j]) - near) ** 2
            square += near * near
        steps[i], quantization_error[i], lengths[i] = step, np.sqrt(apart), np.sqrt(square)


def _products(queries, at, documents, rows, out):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        q = queries[at[i]]
        d = documents[rows[i]]
        total = np.float32(0)
        for j in range(q.shape[0]):
            total += q[j] * d[j]
        out[i] = total


def _pairs(kind, queries, at, documents, rows, out):  # type: ignore[no-untyped-def]
    for i in range(len(rows)):
        q = queries[at[i]]
        d = documents[rows[i]]
        total = 0.0
        if kind == 3:  # noqa: PLR2004 - manhattan
            for j in range(q.shape[0]):
                total += abs(np.float64(q[j]) - np.float64(d[j]))
            out[i] = -total
        elif kind == 2:  # noqa: PLR2004 - euclidean
            for j in range(q.shape[0]):
                difference = np.float64(q[j]) - np.float64(d[j])
                total += difference * difference
            out[i] = -np.sqrt(total)
        else:
            for j in range(q.shape[0]):
                total += np.float64(q[j]) * np.float64(d[j])
            if kind == 1:
                qq = 0.0
                dd = 0.0
                for j in range(q.shape[0]):
                    qq += np.float64(q[j]) * np.float64(q[j])
                    dd += np.float64(d[j]) * np.float64(d[j])
                norm = np.sqrt(qq * dd)
                total = total / norm if norm > 0 else 0.0
            out[i] = total
