"""Are the negatives the same, and if not, why: every difference is explained in float64 or called unexplained."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.contender import NEGATIVES, SHARE

if TYPE_CHECKING:
    from benchmarks.synthetic import Task

TOLERANCE = 1e-6
"""Largest gap between float64 scores that the peer's float32 products may turn round."""
BLOCK = 8192


def filled(rows: np.ndarray) -> np.ndarray:
    """Which queries have all their negatives, bool ``[Q]``."""
    return (rows >= 0).all(axis=1)


def compare(task: Task, ours: np.ndarray, peer: np.ndarray) -> dict[str, Any]:
    """Queries both fill: equal lists, and each difference with its reason."""
    both = filled(ours) & filled(peer)
    different = np.flatnonzero(both & (ours != peer).any(axis=1))
    listed = [explain(task, int(q), ours[q], peer[q]) for q in different]
    return {
        "filled_by_both": int(both.sum()),
        "filled_by_ours_only": int((filled(ours) & ~filled(peer)).sum()),
        "filled_by_peer_only": int((filled(peer) & ~filled(ours)).sum()),
        "identical": int(both.sum() - len(different)),
        "reasons": dict(Counter(entry["reason"] for entry in listed)),
        "differences": listed,
    }


def explain(task: Task, query: int, ours: np.ndarray, peer: np.ndarray) -> dict[str, Any]:
    """Why two lists differ.

    ``tie``: position by position the scores are equal as float32. ``near tie``: they are within what the float32
    product of the peer is off by. ``threshold``: a document in one list only is that close to the ceiling.
    """
    mine, theirs = _scores(task, query, ours), _scores(task, query, peer)
    positive = _scores(task, query, task.positives[query : query + 1])[0]
    ceiling = positive - abs(positive) * (1 - SHARE)
    alone = np.array(sorted(set(ours.tolist()) ^ set(peer.tolist())), np.int64)
    edge = np.abs(_scores(task, query, alone) - ceiling).min(initial=np.inf)
    gap = float(np.abs(mine - theirs).max())
    if (mine.astype(np.float32) == theirs.astype(np.float32)).all():
        reason = "tie"
    elif gap <= TOLERANCE:
        reason = "near tie"
    else:
        reason = "threshold" if edge <= TOLERANCE else "unexplained"
    return {
        "query": query,
        "reason": reason,
        "ours": ours.tolist(),
        "peer": peer.tolist(),
        "ours_scores": mine.tolist(),
        "peer_scores": theirs.tolist(),
        "ceiling": float(ceiling),
        "gap": gap,
        "nearest_to_ceiling": None if np.isinf(edge) else float(edge),
    }


def check_against_brute_force(task: Task, ours: np.ndarray, count: int = 200) -> dict[str, Any]:
    """Compare a sample, half of it with weak positives, with a full float64 search of our own rules."""
    rng = np.random.default_rng(0)
    groups = [np.flatnonzero(task.weak), np.flatnonzero(~task.weak)]
    sample = np.concatenate([rng.permutation(group)[: count // 2] for group in groups])
    scores = np.concatenate([_cosine(task, sample, block) for block in _blocks(len(task.documents))], axis=1)
    scores = scores.astype(np.float32)
    at = np.arange(len(sample))
    positive = scores[at, task.positives[sample]].astype(np.float64)
    ceiling = (positive - np.abs(positive) * (1 - SHARE)).astype(np.float32)
    scores[scores >= ceiling[:, None]] = -np.inf
    scores[at, task.positives[sample]] = -np.inf
    best = np.argsort(-scores, axis=1, kind="stable")[:, :NEGATIVES]
    best[np.isneginf(np.take_along_axis(scores, best, 1))] = -1
    wrong = [explain(task, int(q), ours[q], row) for q, row in zip(sample, best, strict=True) if (ours[q] != row).any()]
    return {"queries": len(sample), "weak": len(groups[0][: count // 2]), "different": wrong}


def _blocks(documents: int) -> list[np.ndarray]:
    return np.array_split(np.arange(documents), -(-documents // BLOCK))


def _cosine(task: Task, queries: np.ndarray, documents: np.ndarray) -> np.ndarray:
    q, d = task.queries[queries].astype(np.float64), task.documents[documents].astype(np.float64)
    return (q @ d.T) / np.linalg.norm(q, axis=1)[:, None] / np.linalg.norm(d, axis=1)


def _scores(task: Task, query: int, documents: np.ndarray) -> np.ndarray:
    """Float64 cosines of a query with some documents; nothing (-1) scores -inf."""
    return np.where(documents >= 0, _cosine(task, np.array([query]), np.maximum(documents, 0))[0], -np.inf)
