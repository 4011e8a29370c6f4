"""A cross-encoder's second opinion on mined candidates, asked only where it can change the outcome.

Candidates come in the teacher's order. If the teacher ranks and the cross-encoder filters, the negatives are the first n
candidates below the cross-encoder's ceiling, so nothing behind the n-th has to be asked about: rows take turns, all in one
stream per turn, until each has its n. That is exact, unlike a guess of who is near the ceiling.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.columns import SIDE_BY_SIDE
from hf_posmine.errors import ColumnError, InputError
from hf_posmine.filters import as_filters, common_window, highest_floor, lowest_ceiling
from hf_posmine.tables import check_text_lists, check_texts, pick_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hf_posmine.types import Filter, Floats, Mask, Rows, ScoreKind

RankBy: TypeAlias = Literal["teacher", "second"]
STREAM_PAIRS = 200_000
"""Pairs sorted by length together; enough that sorting more saves nothing."""


def rescore(cross_encoder: Any, queries: Sequence[str], documents: Sequence[str], *, batch_size: int = 32) -> Floats:
    """Scores float32 ``[m]`` of query i with document i, each different pair once, sorted by length over all queries.

    A call per query pads every query's batch to its longest candidate and leaves most batches half full.

    Args:
        cross_encoder: a ``CrossEncoder`` of sentence-transformers with one label; its own activation decides the scale.
        queries: m texts.
        documents: m texts.
        batch_size: pairs per forward pass. Scores depend on it in the last digits, as padding does.
    """
    if len(queries) != len(documents):
        raise InputError(f"{len(queries)} queries and {len(documents)} documents; give one document per query")
    pairs = list(zip(queries, documents, strict=True))
    number = {pair: at for at, pair in enumerate(dict.fromkeys(pairs))}
    ordered = sorted(number, key=lambda pair: len(pair[0]) + len(pair[1]), reverse=True)
    scores = np.empty(len(number), np.float32)
    for start in range(0, len(ordered), STREAM_PAIRS):
        block = ordered[start : start + STREAM_PAIRS]
        made = np.asarray(cross_encoder.predict(block, batch_size=batch_size, show_progress_bar=False))
        if made.shape != (len(block),):
            raise InputError(
                f"the cross-encoder gives scores of shape {made.shape} for {len(block)} pairs; use one label"
            )
        scores[[number[pair] for pair in block]] = made
    if not np.isfinite(scores).all():
        query, document = list(number)[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise InputError(f"the cross-encoder gives no finite score to {query[:40]!r} with {document[:40]!r}")
    return scores[[number[pair] for pair in pairs]]


@dataclass(frozen=True)
class Opinion:
    """What a second scorer made of candidates.

    Attributes:
        columns: int64 ``[B, n]``, the chosen candidates, -1 where the row is short.
        scores: float32 ``[B, K]``, NaN where it was not asked.
    """

    columns: Rows
    scores: Floats


def second_opinion(
    ask: Callable[[Rows, Rows], Floats], there: Mask, ceilings: Floats, floors: Floats, n: int, *, assumed: Mask | None = None
) -> Opinion:  # fmt: skip
    """The first ``n`` candidates of each row whose second score is in ``[floor, ceiling)``, asking for no more than that takes.

    Args:
        ask: scores float32 ``[m]`` of candidates by row and column, int64 ``[m]`` each.
        there: bool ``[B, K]``, which candidates exist, best first.
        ceilings: float32 ``[B]``, on the second scale.
        floors: float32 ``[B]``, likewise.
        n: candidates wanted per row.
        assumed: bool ``[B, K]``, candidates that pass without being asked about, as those far below their positive may
            (:func:`far_below`).
    """
    assumed = np.zeros(there.shape, bool) if assumed is None else assumed & there
    scores = np.full(there.shape, np.nan, np.float32)
    passed, open_ = assumed.copy(), there & ~assumed
    while True:
        # Asked is what counts even if everything before it passes; one at a time would ask about the same candidates.
        before = np.cumsum(passed | open_, axis=1) - (passed | open_)
        rows, columns = np.nonzero(open_ & (before < n))
        if not len(rows):
            break
        scores[rows, columns] = ask(rows, columns)
        open_[rows, columns] = False
        values = scores[rows, columns]
        passed[rows, columns] = (values < ceilings[rows]) & (values >= floors[rows])
    order = np.argsort(~passed, axis=1, kind="stable")[:, :n]
    chosen = np.where(np.take_along_axis(passed, order, axis=1), order, -1)
    chosen = np.pad(chosen, ((0, 0), (0, n - chosen.shape[1])), constant_values=-1)
    return Opinion(chosen.astype(np.int64), scores)


def far_below(scores: Floats, positive_scores: Floats, band: float) -> Mask:
    """Candidates bool ``[B, K]`` at least ``band`` below their positive by the teacher: too far to be worth a question.

    This is the approximate short cut: a cross-encoder may disagree with the teacher about any of them.

    Args:
        scores: float32 ``[B, K]``, by the teacher.
        positive_scores: float32 ``[B]``, by the teacher.
        band: distance on the teacher's scale.
    """
    if band < 0:
        raise InputError(f"band={band:g}; give a distance of 0 or more")
    return scores <= (positive_scores.astype(np.float64) - band)[:, None]


def rerank(
    candidates: Any,
    cross_encoder: Any,
    filters: Sequence[Filter | str] | Filter | str,
    num_negatives: int,
    *,
    rank_by: RankBy = "teacher",
    band: float | None = None,
    batch_size: int = 32,
    **columns: str,
) -> Any:
    """Negatives among mined candidates, filtered by a cross-encoder; both scores are kept.

    Args:
        candidates: a Dataset mined with more negatives than are wanted, such as 50, best first.
        cross_encoder: see :func:`rescore`.
        filters: ceilings and floors on the cross-encoder's scores; the lowest score of a row's positives sets the ceiling.
        num_negatives: n.
        rank_by: ``"teacher"`` takes the teacher's first n that pass, ``"second"`` the cross-encoder's (asks about all).
        band: leave out questions about candidates so far below the positive by the teacher, which then pass; needs the
            columns of ``keep=("scores",)``.
        batch_size: pairs per forward pass.
        columns: ``query_column`` and ``positive_column``, by default found by name.

    Returns:
        The rows with the chosen negatives in every column of negatives, ``negatives_second_scores`` (null where nothing was
        asked) and ``positive_second_score``.
    """
    filters = as_filters(filters)
    _check(candidates, cross_encoder, filters, num_negatives, rank_by, band)
    inputs = candidates.remove_columns([name for name in candidates.column_names if name.startswith("negatives")])
    query, positive, _ = pick_columns(inputs, columns.get("query_column"), columns.get("positive_column"), None)
    queries, texts = check_texts(candidates[query], query), candidates["negatives"][:]
    positives = check_text_lists(candidates[positive], str(positive))
    row_of = np.repeat(np.arange(len(queries)), [len(known) for known in positives])
    flat = [text for known in positives for text in known]
    anchors = np.full(len(queries), np.inf, np.float32)
    np.minimum.at(
        anchors, row_of, rescore(cross_encoder, [queries[i] for i in row_of.tolist()], flat, batch_size=batch_size)
    )

    def ask(rows: Rows, at: Rows) -> Floats:
        asked = [texts[row][column] for row, column in zip(rows.tolist(), at.tolist(), strict=True)]
        return rescore(cross_encoder, [queries[row] for row in rows.tolist()], asked, batch_size=batch_size)

    there = _mask(texts)
    ceilings, floors = lowest_ceiling(filters, anchors)[0], highest_floor(filters, anchors)
    width = there.shape[1] if rank_by == "second" else num_negatives
    assumed = None if band is None else _far(candidates, there, band)
    opinion = second_opinion(ask, there, ceilings, floors, width, assumed=assumed)
    chosen = opinion.columns
    if rank_by == "second":
        second = np.where(chosen >= 0, np.take_along_axis(opinion.scores, np.maximum(chosen, 0), axis=1), -np.inf)
        chosen = np.take_along_axis(chosen, np.argsort(-second, axis=1, kind="stable"), axis=1)[:, :num_negatives]
    return _with_choice(candidates, chosen, opinion.scores, anchors)


def _check(
    candidates: Any, cross_encoder: Any, filters: Sequence[Filter], n: int, rank_by: RankBy, band: float | None
) -> None:
    if "negatives" not in candidates.column_names:
        raise ColumnError(f"no column 'negatives' among {candidates.column_names}; give a mined dataset")
    if rank_by not in get_args(RankBy):
        raise InputError(f"rank_by={rank_by!r}; expected one of {', '.join(get_args(RankBy))}")
    if n < 1:
        raise InputError(f"num_negatives={n}; expected at least 1")
    if common_window(filters) != (0, None):
        raise InputError(f"{list(filters)} limits ranks, which are the teacher's; give it to the miner")
    if rank_by == "teacher" and not filters:
        raise InputError(
            "a cross-encoder that neither ranks nor filters has no effect; give filters or rank_by='second'"
        )
    if rank_by == "second" and band is not None:
        raise InputError("rank_by='second' asks about every candidate, so band= has no effect; leave it out")
    if band is not None and not {"negatives_scores", "positive_score"} <= set(candidates.column_names):
        raise ColumnError("band= compares the teacher's scores; mine with keep=('scores',)")
    for filter_ in filters:
        filter_.check(score_kind_of(cross_encoder))


def score_kind_of(cross_encoder: Any) -> ScoreKind:
    """What a cross-encoder's scores mean, by its activation: probabilities after a sigmoid, else logits."""
    return "probability" if type(getattr(cross_encoder, "activation_fn", None)).__name__ == "Sigmoid" else "logit"


def _mask(lists: Sequence[Sequence[Any]]) -> Mask:
    counts = np.array([len(members) for members in lists])
    return np.arange(max(1, int(counts.max(initial=0)))) < counts[:, None]


def _far(candidates: Any, there: Mask, band: float) -> Mask:
    scores = np.full(there.shape, -np.inf, np.float32)
    scores[there] = np.array([score for row in candidates["negatives_scores"] for score in row], np.float32)
    return far_below(scores, np.asarray(candidates["positive_score"][:], np.float32), band)


def _with_choice(candidates: Any, chosen: Rows, scores: Floats, anchors: Floats) -> Any:
    from datasets import Features, List, Value

    types = {"negatives_second_scores": List(Value("float32")), "positive_second_score": Value("float32")}
    parallel = [name for name in SIDE_BY_SIDE if name in candidates.column_names]

    def take(row: dict[str, Any], number: int) -> dict[str, Any]:
        order = [at for at in chosen[number].tolist() if at >= 0]
        second = [float(scores[number, at]) if np.isfinite(scores[number, at]) else None for at in order]
        lists = {name: [row[name][at] for at in order] for name in parallel}
        return {**lists, "negatives_second_scores": second, "positive_second_score": float(anchors[number])}

    features = Features({**candidates.features, **types})
    return candidates.map(take, with_indices=True, features=features, load_from_cache_file=False)
