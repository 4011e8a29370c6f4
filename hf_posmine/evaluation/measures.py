"""Runs, and trec_eval's measures of them, per query."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.utils.files import write_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Scores: TypeAlias = npt.NDArray[np.float64]

MEASURES = ("ndcg@10", "recall@100", "mrr@10")
FAMILIES = ("ndcg", "recall", "mrr")


@dataclass(frozen=True)
class Run:
    """The ranked documents of each query, as retrieved by a system.

    Attributes:
        query_ids: the queries, Q of them.
        documents: per query, ids of the documents, best first; ties in trec_eval's order (the greater id first).
        scores: per query, their scores.
    """

    query_ids: tuple[str, ...]
    documents: tuple[tuple[str, ...], ...]
    scores: tuple[tuple[float, ...], ...]

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Score by document id, by query id: what ir_measures, ranx and pytrec_eval take."""
        return {
            query: dict(zip(documents, scores, strict=True))
            for query, documents, scores in zip(self.query_ids, self.documents, self.scores, strict=True)
        }

    def write_trec(self, path: Path, tag: str = "hf_posmine") -> None:
        """Write the run for trec_eval: query, Q0, document, rank from 1, score, tag."""
        for name in (*self.query_ids, *(d for documents in self.documents for d in documents)):
            if not name or any(letter.isspace() for letter in name):
                raise InputError(f"id {name!r} is empty or holds white space, which a TREC run cannot carry")
        lines = [
            f"{query} Q0 {document} {rank} {score:.9g} {''.join(tag.split()) or 'run'}\n"  # 9 digits keep a float32
            for query, documents, scores in zip(self.query_ids, self.documents, self.scores, strict=True)
            for rank, (document, score) in enumerate(zip(documents, scores, strict=True), 1)
        ]
        write_file(path, lambda temporary: temporary.write_text("".join(lines), encoding="utf-8"))


def score_run(
    run: Run, qrels: Mapping[str, Mapping[str, int]], measures: Sequence[str] = MEASURES
) -> dict[str, Scores]:
    """Each measure of each query of the run, float64 ``[Q]``, as trec_eval computes it.

    NDCG has linear gains (the grade) and the ideal ranking of all judgements; recall and MRR count grades above 0.
    Documents that are not judged are not relevant. Ties are broken by document id, the greater first.

    Args:
        run: what was retrieved, at least to the greatest cutoff.
        qrels: relevance by document id, by query id.
        measures: ``ndcg@k``, ``recall@k`` or ``mrr@k``.

    Raises:
        MissingExtraError: ir-measures or pytrec-eval-terrier is not installed.
    """
    cutoffs = {measure: parse_measure(measure) for measure in measures}
    provider, wanted = _trec_eval(cutoffs)
    known = {query: dict(qrels[query]) for query in run.query_ids if query in qrels}
    found = provider.iter_calc(list(set(wanted.values())), known, run.as_dict())
    values = {(each.measure, each.query_id): each.value for each in found}
    scores = {}
    for measure, (family, cutoff) in cutoffs.items():
        column = np.array([values.get((wanted[measure], query), 0.0) for query in run.query_ids], np.float64)
        # trec_eval has no cutoff for the reciprocal rank: one below 1/k is a first hit below rank k
        scores[measure] = np.where(column < 1 / cutoff, 0.0, column) if family == "mrr" else column
    return scores


def parse_measure(measure: str) -> tuple[str, int]:
    """Family and cutoff of a measure.

    >>> parse_measure("ndcg@10")
    ('ndcg', 10)
    """
    family, _, cutoff = measure.partition("@")
    if family not in FAMILIES or not cutoff.isdecimal() or int(cutoff) < 1:
        raise InputError(f"no measure {measure!r}; write one of {', '.join(f'{name}@k' for name in FAMILIES)}")
    return family, int(cutoff)


def _trec_eval(cutoffs: Mapping[str, tuple[str, int]]) -> tuple[Any, dict[str, Any]]:
    """The provider of trec_eval's own code, and the measures as it knows them."""
    try:
        import ir_measures
    except ImportError:
        raise MissingExtraError("an evaluation", "eval") from None
    if not ir_measures.pytrec_eval.is_available():
        raise MissingExtraError("an evaluation", "eval")
    made: dict[str, Any] = {
        "ndcg": lambda cutoff: ir_measures.nDCG @ cutoff,
        "recall": lambda cutoff: ir_measures.R @ cutoff,
        "mrr": lambda _: ir_measures.RR,
    }
    return ir_measures.pytrec_eval, {measure: made[family](cutoff) for measure, (family, cutoff) in cutoffs.items()}
