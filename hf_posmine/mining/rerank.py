"""Scores of a second scorer for a dataset that was mined before (while mining: ``second_opinion.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.core.filters import as_filters, highest_floor, lowest_ceiling
from hf_posmine.data.columns import check_text_lists, check_texts
from hf_posmine.data.layouts import pick_columns
from hf_posmine.mining.by_id import require_texts
from hf_posmine.mining.columns import without_outputs, written_columns, written_side_by_side
from hf_posmine.mining.second_opinion import RankBy, check_effect, far_below, second_opinion
from hf_posmine.teachers.cross_encoder import score_kind_of, score_pairs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import CrossEncoder

    from hf_posmine.core.types import Filter, Floats, Mask, Rows
    from hf_posmine.data.columns import AnyDataset


def rerank(
    candidates: AnyDataset,
    cross_encoder: CrossEncoder,
    filters: Sequence[Filter | str] | Filter | str,
    num_negatives: int,
    *,
    rank_by: RankBy = "teacher",
    band: float | None = None,
    **columns: str,
) -> Any:
    """Negatives among mined candidates, filtered by a cross-encoder; both scores are kept.

    Args:
        candidates: a Dataset mined with more negatives than are wanted, such as 50, best first.
        cross_encoder: a ``CrossEncoder`` with one label, or an object with ``predict(pairs)``.
        filters: ceilings and floors on the cross-encoder's scores; the lowest score of a row's positives sets the ceiling.
        num_negatives: n.
        rank_by: ``"teacher"`` takes the teacher's first n that pass, ``"second"`` the cross-encoder's (scores all).
        band: leave out questions about candidates so far below the positive by the teacher, which then pass; needs the
            columns of ``keep=("scores",)``.
        columns: ``query_column`` and ``positive_column``, by default found by name.

    Returns:
        The rows with the chosen negatives in every column of negatives, ``negatives_second_scores`` (null where nothing was
        asked) and ``positive_second_score``.
    """
    filters = as_filters(filters)
    _check(candidates, cross_encoder, filters, num_negatives, rank_by, band)
    inputs = without_outputs(candidates)
    query, positive, _ = pick_columns(inputs, columns.get("query_column"), columns.get("positive_column"), None)
    queries, texts = check_texts(candidates[query], query), candidates["negatives"][:]
    positives = check_text_lists(candidates[positive], str(positive))
    row_of = np.repeat(np.arange(len(queries)), [len(known) for known in positives])
    flat = [text for known in positives for text in known]
    reference_scores = np.full(len(queries), np.inf, np.float32)
    np.minimum.at(reference_scores, row_of, score_pairs(cross_encoder, [queries[i] for i in row_of.tolist()], flat))

    def ask(rows: Rows, at: Rows) -> Floats:
        asked = [texts[row][column] for row, column in zip(rows.tolist(), at.tolist(), strict=True)]
        return score_pairs(cross_encoder, [queries[row] for row in rows.tolist()], asked)

    there = _mask(texts)
    ceilings, floors = lowest_ceiling(filters, reference_scores)[0], highest_floor(filters, reference_scores)
    width = there.shape[1] if rank_by == "second" else num_negatives
    assumed = None if band is None else _far(candidates, there, band)
    opinion = second_opinion(ask, there, ceilings, floors, width, assumed=assumed)
    chosen = opinion.columns
    if rank_by == "second":
        second = np.where(chosen >= 0, np.take_along_axis(opinion.scores, np.maximum(chosen, 0), axis=1), -np.inf)
        chosen = np.take_along_axis(chosen, np.argsort(-second, axis=1, kind="stable"), axis=1)[:, :num_negatives]
    return _with_choice(candidates, chosen, opinion.scores, reference_scores)


def _check(
    candidates: AnyDataset,
    cross_encoder: CrossEncoder,
    filters: Sequence[Filter],
    n: int,
    rank_by: RankBy,
    band: float | None,
) -> None:
    require_texts(candidates, "a cross-encoder")
    if n < 1:
        raise InputError(f"num_negatives={n}; expected at least 1")
    if band is not None and not {"negatives_scores", "positive_score"} <= set(written_columns(candidates)):
        raise ColumnError("band= compares the teacher's scores; mine with keep=('scores',)")
    check_effect(filters, rank_by, band, score_kind_of(cross_encoder))


def _mask(lists: Sequence[Sequence[Any]]) -> Mask:
    counts = np.array([len(members) for members in lists])
    return np.arange(max(1, int(counts.max(initial=0)))) < counts[:, None]


def _far(candidates: AnyDataset, there: Mask, band: float) -> Mask:
    scores = np.full(there.shape, -np.inf, np.float32)
    scores[there] = np.array([score for row in candidates["negatives_scores"] for score in row], np.float32)
    return far_below(scores, np.asarray(candidates["positive_score"][:], np.float32), band)


def _with_choice(candidates: AnyDataset, chosen: Rows, scores: Floats, reference_scores: Floats) -> Any:
    from datasets import Features, List, Value

    types = {"negatives_second_scores": List(Value("float32")), "positive_second_score": Value("float32")}
    parallel = written_side_by_side(candidates)

    def take(row: dict[str, Any], number: int) -> dict[str, Any]:
        order = [at for at in chosen[number].tolist() if at >= 0]
        second = [float(scores[number, at]) if np.isfinite(scores[number, at]) else None for at in order]
        lists: dict[str, Any] = {name: [row[name][at] for at in order] for name in parallel}
        filled = row.get("num_random")
        if filled is not None:  # they are at the end
            lists["num_random"] = sum(at >= len(row["negatives"]) - filled for at in order)
        return {**lists, "negatives_second_scores": second, "positive_second_score": float(reference_scores[number])}

    features = Features({**candidates.features, **types})
    return candidates.map(take, with_indices=True, features=features, load_from_cache_file=False)
