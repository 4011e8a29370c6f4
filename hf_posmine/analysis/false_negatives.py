"""False negatives without a judge: hide all but one known positive, mine, and count the hidden ones among the negatives.

On a collection whose relevance was judged by people, this is the objective counterpart of the paper's LLM judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.errors import InputError
from hf_posmine.miner import PositiveAwareMiner
from hf_posmine.progress import quiet_bars
from hf_posmine.qrels import Qrels

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from hf_posmine.corpus import Corpus


@dataclass(frozen=True)
class Judgements:
    """A judged collection.

    Attributes:
        queries: text by query id.
        relevant: per query id, the ids of all relevant documents.
        unknown: per query id, ids of documents of unknown relevance (a score below 0): never candidates, never counted.
    """

    queries: Mapping[str, str]
    relevant: Mapping[str, frozenset[str]]
    unknown: Mapping[str, frozenset[str]]

    @classmethod
    def of(
        cls, queries: Mapping[Any, str], query_ids: Iterable[Any], document_ids: Iterable[Any], scores: Iterable[float]
    ) -> Judgements:
        """From aligned judgements; a score of 0 is judged not relevant."""
        relevant: dict[str, set[str]] = {}
        unknown: dict[str, set[str]] = {}
        for query, document, score in zip(query_ids, document_ids, scores, strict=True):
            if score != 0:
                (relevant if score > 0 else unknown).setdefault(str(query), set()).add(str(document))
        texts = {str(query): text for query, text in queries.items()}
        lost = [query for query in relevant if query not in texts]
        if lost:
            raise InputError(f"{len(lost)} judged queries have no text, such as {lost[0]!r}")
        return cls(
            texts,
            {query: frozenset(found) for query, found in relevant.items()},
            {query: frozenset(found) for query, found in unknown.items()},
        )

    def draw_visible(self, seed: int) -> dict[str, str]:
        """One relevant document of each query, drawn at random."""
        rng = np.random.default_rng(seed)
        return {query: sorted(found)[rng.integers(len(found))] for query, found in sorted(self.relevant.items())}


@dataclass(frozen=True)
class FalseNegativeRate:
    """How many mined negatives are hidden positives.

    Attributes:
        method: the filters, as spelled.
        false_negatives: hidden positives among the negatives.
        negatives: negatives in all.
        queries: queries with at least one hidden positive; the others are left out.
        hit_queries: queries with at least one false negative.
        mean_score: mean teacher score of the negatives: how hard they are.
    """

    method: str
    false_negatives: int
    negatives: int
    queries: int
    hit_queries: int
    mean_score: float

    @property
    def rate(self) -> float:
        """Share of the negatives that are hidden positives."""
        return self.false_negatives / self.negatives if self.negatives else 0.0


def false_negative_rate(
    corpus: Corpus,
    judgements: Judgements,
    visible: Mapping[str, str],
    teacher: Any,
    *,
    filters: Sequence[Any] = (),
    **settings: Any,
) -> FalseNegativeRate:
    """Mine with only ``visible`` known and count the hidden positives.

    Args:
        corpus: the judged documents.
        judgements: all of them.
        visible: the one known positive of each query, by ids.
        teacher: who scores, over the same corpus.
        filters: the method.
        settings: further :class:`~hf_posmine.settings.MiningSettings`.
    """
    from datasets import Dataset

    ids = hidden_queries(judgements, visible)
    known = visible_qrels(judgements, visible, ids)
    rows = Dataset.from_dict(
        {"query": [judgements.queries[q] for q in ids], "query_id": ids, "positive_id": [visible[q] for q in ids]}
    )
    miner = PositiveAwareMiner(
        corpus=corpus, teachers=[teacher], known_positives=known, positive_id_column="positive_id",
        filters=filters, keep=("ids", "scores"), **settings,
    )  # fmt: skip
    with quiet_bars():
        mined = rows.map(miner, batched=True)
    per_query = []
    for query, negatives in zip(mined["query_id"], mined["negatives_ids"], strict=True):
        hidden = set(corpus.rows_of_ids(judgements.relevant[query] - {visible[query]}).tolist())
        per_query.append(sum(row in hidden for row in corpus.rows_of_ids(negatives).tolist()))
    scores = np.concatenate([np.empty(0), *(np.array(s) for s in mined["negatives_scores"])])
    return FalseNegativeRate(
        " + ".join(map(repr, miner.settings.all_filters)) or "naive", sum(per_query), len(scores), len(ids),
        sum(count > 0 for count in per_query), float(scores.mean()) if len(scores) else 0.0,
    )  # fmt: skip


def hidden_queries(judgements: Judgements, visible: Mapping[str, str]) -> list[str]:
    """The queries that have a positive besides the visible one."""
    wrong = [query for query, document in visible.items() if document not in judgements.relevant.get(query, ())]
    if wrong:
        raise InputError(f"visible document {visible[wrong[0]]!r} of query {wrong[0]!r} is not judged relevant")
    ids = [query for query in visible if len(judgements.relevant[query]) > 1]
    if not ids:
        raise InputError("no query has a second positive to hide; false negatives cannot be counted here")
    return ids


def visible_qrels(judgements: Judgements, visible: Mapping[str, str], ids: Sequence[str]) -> Qrels:
    """What the miner may know: the visible positives, and the documents of unknown relevance."""
    rows = [(query, visible[query], 1) for query in ids]
    rows += [(query, document, -1) for query in ids for document in sorted(judgements.unknown.get(query, ()))]
    query_ids, document_ids, scores = zip(*rows, strict=True)
    return Qrels.from_judgements(query_ids, document_ids, scores, {query: judgements.queries[query] for query in ids})
