"""The compiled inner loops (numba, extra ``fast``): filtering a block of scores as it leaves the matrix product.

Without numba, :mod:`hf_posmine.search.scan_torch` does the same work with torch alone.
"""

from __future__ import annotations

import importlib.util
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

AVAILABLE = importlib.util.find_spec("numba") is not None
GROUP = 64
FIRST_PRUNE = 32
_compiled: dict[str, Any] = {}
_lock = threading.Lock()


def collect(*args: Any) -> None:
    """Put the scores of a block that may matter into the queries' buffers; see :func:`_collect`."""
    _kernel("collect")(*args)


def prune(*args: Any) -> None:
    """Drop buffered documents that cannot be among the best k; see :func:`_prune_all`."""
    _kernel("prune")(*args)


def refine(*args: Any) -> None:
    """Replace buffered int8 scores by float32 ones; see :func:`_refine`."""
    _kernel("refine")(*args)


def pair_scores(similarity: str, queries: Any, at: Any, documents: Any, rows: Any) -> np.ndarray:
    """Float64 scores of pairs, as :func:`hf_posmine.search.similarity.pair_scores`."""
    out = np.empty(len(rows), np.float64)
    kind = ("dot", "cosine", "euclidean", "manhattan").index(similarity)
    _kernel("pairs")(kind, queries, at, documents, rows, out)
    return out


def _kernel(name: str) -> Callable[..., None]:
    """Compile all kernels on first use (kept on disk by numba)."""
    with _lock:
        if not _compiled:
            _compile()
    return _compiled[name]


def _compile() -> None:
    import numba

    strict = numba.njit(nogil=True, cache=True, error_model="numpy")
    # sums may be reordered, so that they use vector registers; NaN must keep its meaning
    reordered = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})
    global _prune, _excluded, _first_low, _group_hits  # noqa: PLW0603 - compiled functions call each other by name
    _prune, _excluded, _group_hits = strict(_prune), strict(_excluded), strict(_group_hits)
    _first_low = strict(_first_low)
    _compiled["collect"] = strict(_collect)
    _compiled["prune"] = strict(_prune_all)
    _compiled["refine"] = reordered(_refine)
    _compiled["pairs"] = reordered(_pairs)


def _excluded(row, rows, start, stop):  # type: ignore[no-untyped-def]
    end = stop
    while start < stop:
        middle = (start + stop) // 2
        if rows[middle] < row:
            start = middle + 1
        else:
            stop = middle
    return start < end and rows[start] == row


def _prune(k, certain, slack, ids, values, count):  # type: ignore[no-untyped-def]
    """Keep what may still be among the best k below the ceiling; return the new count and the new lower bound."""
    sure = np.empty(count, np.float32)
    number = 0
    for c in range(count):
        if values[c] < certain:
            sure[number] = values[c]
            number += 1
    if number < k:
        return count, np.float32(-np.inf)
    kth = np.partition(sure[:number], number - k)[number - k]
    low = np.float32(kth - slack)
    kept = 0
    for c in range(count):
        if values[c] >= low:
            ids[kept] = ids[c]
            values[kept] = values[c]
            kept += 1
    return kept, low


def _group_hits(products, factor, scale, bias, bound, hits):  # type: ignore[no-untyped-def]
    """Count the scores of each group that reach a bound: a loop of constant length compiles to vector registers."""
    for g in range(products.shape[0] // GROUP):
        block = products[g * GROUP : (g + 1) * GROUP]
        s = scale[g * GROUP : (g + 1) * GROUP]
        b = bias[g * GROUP : (g + 1) * GROUP]
        found = np.int32(0)
        for j in range(GROUP):
            found += np.int32(1) if np.float32(block[j]) * factor * s[j] + b[j] >= bound else np.int32(0)
        hits[g] = found


def _first_low(products, factor, scale, bias, offset, k, certain, slack, excluded, start, stop):  # type: ignore[no-untyped-def]
    """A lower bound from the first block: the k-th best of the groups' best documents certainly below the ceiling."""
    groups = products.shape[0] // GROUP
    if groups < k:
        return np.float32(-np.inf)
    best = np.empty(groups, np.float32)
    for g in range(groups):
        best[g] = -np.inf
        for j in range(g * GROUP, (g + 1) * GROUP):
            value = np.float32(products[j]) * factor * scale[j] + bias[j]
            if value > best[g] and value < certain and not _excluded(offset + j, excluded, start, stop):
                best[g] = value
    return np.float32(np.partition(best, groups - k)[groups - k] - slack)


def _collect(  # type: ignore[no-untyped-def]
    products,
    query_scale,
    scale,
    bias,
    offset,
    k,
    low,
    high,
    certain,
    slack,
    excluded,
    bounds,
    ids,
    values,
    count,
    above,
    full,
):
    """Buffer the documents of one block that may be among the best k strictly below the ceiling.

    A score is ``products[i, j] * query_scale[i] * scale[j] + bias[j]``, off by at most half of ``slack[i]``. Scores of
    at least ``high`` are certainly at or above the ceiling and only counted; scores below ``certain`` are certainly
    below it; ``low`` rises whenever a buffer is pruned, first when it holds a few. NaN in ``scale`` hides a document.
    ``full`` marks queries whose buffer overflowed.
    """
    capacity = ids.shape[1]
    hits = np.ones(-(-products.shape[1] // GROUP), np.int32)  # a last group that is not full is always looked at
    columns = np.empty(GROUP + 1, np.int64)
    for i in range(products.shape[0]):
        if full[i]:
            continue
        limit = min(capacity, max(FIRST_PRUNE, 4 * k, 2 * count[i]))
        factor = query_scale[i]
        if low[i] == -np.inf:
            low[i] = _first_low(
                products[i], factor, scale, bias, offset, k, certain[i], slack[i], excluded, bounds[i], bounds[i + 1]
            )
        _group_hits(products[i], factor, scale, bias, low[i], hits)
        for g in range(hits.shape[0]):
            if hits[g] == 0:
                continue
            first = g * GROUP
            size = min(GROUP, products.shape[1] - first)
            reached = 0
            for j in range(size):  # without a branch: most documents of a group fall short
                value = np.float32(products[i, first + j]) * factor * scale[first + j] + bias[first + j]
                columns[reached] = j
                reached += np.int64(value >= low[i])
            for c in range(reached):
                j = columns[c]
                value = np.float32(products[i, first + j]) * factor * scale[first + j] + bias[first + j]
                if not value >= low[i]:
                    continue
                row = offset + first + j
                if _excluded(row, excluded, bounds[i], bounds[i + 1]):
                    continue
                if value >= high[i]:
                    above[i] += 1
                    continue
                if count[i] == limit:
                    count[i], low[i] = _prune(k, certain[i], slack[i], ids[i], values[i], count[i])
                    if count[i] > capacity - capacity // 4:
                        full[i] = True
                        break
                    limit = min(capacity, max(FIRST_PRUNE, 4 * k, 2 * count[i]))
                    if not value >= low[i]:
                        continue
                ids[i, count[i]] = row
                values[i, count[i]] = value
                count[i] += 1
            if full[i]:
                break


def _prune_all(k, high, certain, slack, ids, values, count, above):  # type: ignore[no-untyped-def]
    """Count and drop what is certainly at or above the ceiling, then prune."""
    for i in range(ids.shape[0]):
        kept = 0
        for c in range(count[i]):
            if values[i, c] >= high[i]:
                above[i] += 1
            else:
                ids[i, kept] = ids[i, c]
                values[i, kept] = values[i, c]
                kept += 1
        count[i] = kept
        count[i], _ = _prune(k, certain[i], slack[i], ids[i], values[i], count[i])


def _refine(queries, query_scale, documents, scale, bias, start, ids, values, count):  # type: ignore[no-untyped-def]
    stop = start + documents.shape[0]
    for i in range(ids.shape[0]):
        for c in range(count[i]):
            if start <= ids[i, c] < stop:
                document = documents[ids[i, c] - start]
                total = np.float32(0)
                for j in range(document.shape[0]):
                    total += queries[i, j] * document[j]
                values[i, c] = total * query_scale[i] * scale[ids[i, c]] + bias[ids[i, c]]


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
