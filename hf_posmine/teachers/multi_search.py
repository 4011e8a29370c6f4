"""Many ceilings at once from a ranking that is there already."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from hf_posmine.core.types import PADDING, Exclusions, Floats, Mask, Ranking, Rows, SearchRequest

if TYPE_CHECKING:
    from collections.abc import Sequence


def placed(parts: Sequence[tuple[Rows, Ranking]], want: SearchRequest) -> Ranking:
    """One ranking of a want from parts of it, each with its positions in the want."""
    whole = Ranking.nothing(len(want.rows), want.k)
    for at, part in parts:
        whole.put(at, part)
    return whole


def stored_prefix(
    ids: np.ndarray, scores: Floats, wants: Sequence[SearchRequest], exclude: Exclusions, *, complete: bool, known: Mask
) -> list[tuple[Ranking, Mask]]:
    """Rankings of each request from the best documents of each query, and for which queries they are complete.

    Args:
        ids: int ``[B, D]``, the best D candidates of each query without any exclusion, best first.
        scores: float32 ``[B, D]``.
        wants: the searches.
        exclude: documents that may not be candidates.
        complete: whether D is the whole corpus.
        known: bool ``[B]``, queries that have a row in ``ids`` at all.
    """
    rows, columns = _excluded_at(ids, exclude)
    return [_one(ids, scores, want, (rows, columns), complete=complete, known=known) for want in wants]


def _one(
    ids: np.ndarray, scores: Floats, want: SearchRequest, excluded: tuple[Rows, Rows], *, complete: bool, known: Mask
) -> tuple[Ranking, Mask]:
    depth, mine = ids.shape[1], want.rows
    first = np.zeros(len(ids), np.int64)
    lowest = np.finfo(np.float32).min  # padding, at -inf, is at no ceiling
    first[mine] = (scores[mine] >= np.maximum(want.below, lowest)[:, None]).sum(axis=1)
    rows, columns = excluded
    hidden = np.bincount(rows, minlength=len(ids))  # so many of the ranking may have to be passed over
    passed = np.bincount(rows[columns < first[rows]], minlength=len(ids))
    width = min(depth, want.k + int(hidden[mine].max(initial=0)))
    window = first[mine, None] + np.arange(width)
    there = window < depth
    at = np.minimum(window, depth - 1)
    doc_ids, values = ids[mine[:, None], at].astype(np.int64), scores[mine[:, None], at]
    there &= (doc_ids >= 0) & ~_among(window, mine, excluded, len(ids))
    order = np.argsort(~there, axis=1, kind="stable")[:, : want.k]
    there = np.take_along_axis(there, order, axis=1)
    sure = known[mine] & (complete | (there.sum(axis=1) == want.k))
    missing = ((0, 0), (0, want.k - order.shape[1]))
    doc_ids = np.where(there, np.take_along_axis(doc_ids, order, axis=1), PADDING)
    values = np.where(there, np.take_along_axis(values, order, axis=1), -np.inf).astype(np.float32)
    doc_ids = np.pad(doc_ids, missing, constant_values=PADDING)
    return Ranking(doc_ids, np.pad(values, missing, constant_values=-np.inf), (first - passed)[mine]), sure


def _excluded_at(ids: np.ndarray, exclude: Exclusions) -> tuple[Rows, Rows]:
    """Row and column of every excluded document of a ranking int ``[B, D]``."""
    owners = np.repeat(np.arange(len(ids)), np.diff(exclude.bounds))
    entries, columns = np.nonzero(ids[owners] == exclude.rows[:, None])
    found = [(owners[entries], columns)]
    if len(exclude.everywhere):
        found.append(np.nonzero(np.isin(ids, exclude.everywhere)))  # type: ignore[arg-type]
    rows, columns = (np.concatenate(parts) for parts in zip(*found, strict=True))
    both = np.unique(rows.astype(np.int64) * ids.shape[1] + columns)
    return both // ids.shape[1], both % ids.shape[1]


def _among(window: Rows, mine: Rows, excluded: tuple[Rows, Rows], size: int) -> Mask:
    """Which columns int64 ``[b, w]`` of the queries ``mine`` hold excluded documents."""
    place = np.full(size, PADDING, np.int64)
    place[mine] = np.arange(len(mine))
    rows, columns = place[excluded[0]], excluded[1]
    rows, columns = rows[rows >= 0], columns[rows >= 0]
    offsets = columns - window[rows, 0]
    inside = (offsets >= 0) & (offsets < window.shape[1])
    mask = np.zeros(window.shape, bool)
    mask[rows[inside], offsets[inside]] = True
    return mask
