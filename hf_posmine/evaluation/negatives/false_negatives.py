"""False negatives without a judge: hide all but one known positive, mine, and count the hidden ones among the negatives.

On a collection whose relevance was judged by people, this is the objective counterpart of the paper's LLM judge.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import as_filters, refuse_of_rows
from hf_posmine.core.samplers import Top
from hf_posmine.data.qrels import Qrels
from hf_posmine.data.taken import judged_line
from hf_posmine.mining.miner import PositiveAwareMiner

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from hf_posmine.core.settings import MiningSettings
    from hf_posmine.core.types import Rows, Teacher
    from hf_posmine.data.corpus import Corpus

Doubles: TypeAlias = npt.NDArray[np.float64]


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

    def taken(self, corpus: Corpus) -> str:
        """The line about the collection: its queries, documents, and positives among these."""
        return judged_line(len(self.relevant), (d for found in self.relevant.values() for d in sorted(found)), corpus)

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


@dataclass(frozen=True, eq=False)
class FalseNegativeRate:
    """The share of mined negatives that are hidden positives.

    Queries without a hidden positive are left out. Q is the number of the others.

    Attributes:
        method: the filters and, unless it is ``Top()``, the sampler, as spelled.
        num_negatives: requested per query.
        false: int64 ``[Q]``, hidden positives among each query's negatives.
        found: int64 ``[Q]``, negatives of each query.
        scores: float64 ``[Q]``, their teacher scores, summed.
        ranks: int64 ``[Q]``, their ranks, summed.
        positive_scores: float64 ``[Q]``, the score of the visible positive.
        hidden: int64 ``[Q]``, hidden positives.
    """

    method: str
    num_negatives: int
    false: Rows
    found: Rows
    scores: Doubles
    ranks: Rows
    positive_scores: Doubles
    hidden: Rows

    @property
    def false_negatives(self) -> int:
        """Hidden positives among the negatives."""
        return int(self.false.sum())

    @property
    def negatives(self) -> int:
        """Negatives in all."""
        return int(self.found.sum())

    @property
    def queries(self) -> int:
        """Queries with at least one hidden positive."""
        return len(self.false)

    @property
    def hit_queries(self) -> int:
        """Queries with at least one false negative."""
        return int((self.false > 0).sum())

    @property
    def rate(self) -> float:
        """Share of the negatives that are hidden positives."""
        return self.false_negatives / self.negatives if self.negatives else 0.0

    @property
    def mean_score(self) -> float:
        """Mean teacher score of the negatives: how hard they are."""
        return float(self.scores.sum() / self.negatives) if self.negatives else 0.0

    @property
    def mean_rank(self) -> float:
        """Mean rank of the negatives, the best candidate being 0; the lower, the harder."""
        return float(self.ranks.sum() / self.negatives) if self.negatives else 0.0

    def as_dict(self) -> dict[str, Any]:
        """The figures, without those of single queries."""
        return {
            "method": self.method, "false_negatives": self.false_negatives, "negatives": self.negatives,
            "queries": self.queries, "hit_queries": self.hit_queries, "rate": self.rate, "mean_score": self.mean_score,
            "mean_rank": self.mean_rank,
        }  # fmt: skip


def false_negative_rate(
    corpus: Corpus,
    judgements: Judgements,
    visible: Mapping[str, str],
    teacher: Teacher,
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
        settings: further :class:`~hf_posmine.core.settings.MiningSettings`.
    """
    return Experiment.of(corpus, judgements, visible).rate(teacher, filters=filters, **settings)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Queries with all their positives hidden but one, ready to be mined with any method.

    Attributes:
        corpus: the judged documents.
        columns: ``query`` and ``positive_id`` of each query.
        known: what the miner may know.
        hidden: per query, int64, the corpus rows of its hidden positives.
    """

    corpus: Corpus
    columns: Mapping[str, list[str]]
    known: Qrels
    hidden: Sequence[Rows]

    @classmethod
    def of(cls, corpus: Corpus, judgements: Judgements, visible: Mapping[str, str]) -> Experiment:
        """Of the queries that have a positive besides the visible one; arguments as of :func:`false_negative_rate`."""
        ids = hidden_queries(judgements, visible)
        columns = {"query": [judgements.queries[q] for q in ids], "positive_id": [visible[q] for q in ids]}
        rows = (corpus.rows_of_ids(sorted(judgements.relevant[q] - {visible[q]})) for q in ids)
        return cls(corpus, columns, visible_qrels(judgements, visible, ids), [np.unique(r[r >= 0]) for r in rows])

    def rate(self, teacher: Teacher, *, filters: Sequence[Any] = (), **settings: Any) -> FalseNegativeRate:
        """Mine and count, as :func:`false_negative_rate` does."""
        refuse_of_rows(as_filters(filters), "a measurement of false negatives")
        miner = PositiveAwareMiner(
            corpus=self.corpus, teachers=[teacher], known_positives=self.known, positive_id_column="positive_id",
            filters=filters, keep=("ids", "scores", "ranks", "positive_score"), **settings,
        )  # fmt: skip
        mined = {name: pa.array(values).to_pylist() for name, values in miner(dict(self.columns)).items()}
        rows = [self.corpus.rows_of_ids(ids) for ids in mined["negatives_ids"]]
        counted = zip(rows, self.hidden, strict=True)
        return FalseNegativeRate(
            method=spelled(miner.settings),
            num_negatives=miner.settings.num_negatives,
            false=np.array([np.isin(found, hidden).sum() for found, hidden in counted], np.int64),
            found=np.array([len(found) for found in rows], np.int64),
            scores=np.array([sum(scores) for scores in mined["negatives_scores"]], np.float64),
            ranks=np.array([sum(ranks) for ranks in mined["negatives_ranks"]], np.int64),
            positive_scores=np.array(mined["positive_score"], np.float64),
            hidden=np.array([len(hidden) for hidden in self.hidden], np.int64),
        )


def spelled(settings: MiningSettings) -> str:
    """A method's name: its filters and, unless it is ``Top()``, the sampler."""
    filters = " + ".join(map(repr, settings.all_filters)) or "naive"
    return filters if settings.sampler == Top() else f"{filters}, {settings.sampler!r}"


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
    """The judgements given to the miner: visible positives, and documents of unknown relevance."""
    rows = [(query, visible[query], 1) for query in ids]
    rows += [(query, document, -1) for query in ids for document in sorted(judgements.unknown.get(query, ()))]
    query_ids, document_ids, scores = zip(*rows, strict=True)
    return Qrels.from_judgements(query_ids, document_ids, scores, {query: judgements.queries[query] for query in ids})


def load_judged(
    folder: Path, qrels: str, visible: str | None, seed: int, reading: Mapping[str, Any] | None = None
) -> tuple[Corpus, Judgements, dict[str, str]]:
    """Corpus, judgements, and the visible positive of each query.

    Args:
        folder: a BEIR folder, or one with corpus, queries and qrels as parquet, jsonl, csv or tsv files.
        qrels: split or file of all judgements.
        visible: that of the visible positives; None draws them.
        seed: of the draw.
        reading: how the corpus is read, as arguments of :meth:`~hf_posmine.data.corpus.Corpus.from_dataset`.
    """
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.sources import read_table
    from hf_posmine.evaluation.collection import query_texts
    from hf_posmine.evaluation.loading import judgements_of

    documents, queries = read_table(folder, "corpus"), read_table(folder, "queries")
    corpus = Corpus.from_dataset(documents, **(reading or {}))
    judgements = Judgements.of(query_texts(queries), *judgements_of(folder, qrels))
    if visible is None:
        return corpus, judgements, judgements.draw_visible(seed)
    shown: dict[str, str] = {}
    for query, document, score in zip(*judgements_of(folder, visible), strict=True):
        if score > 0:
            shown.setdefault(str(query), str(document))
    return corpus, judgements, shown
