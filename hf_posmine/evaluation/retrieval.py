"""Retrieval evaluation: exact search of a judged collection, scored per query as trec_eval does."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import batched
from hf_posmine.data.texts import normalize
from hf_posmine.encoding.encode import Encoder, load_model
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.encoding.store import Vectors
from hf_posmine.evaluation.encoding import encode_texts
from hf_posmine.evaluation.measures import MEASURES, Run, parse_measure, score_run
from hf_posmine.evaluation.results import RetrievalResult
from hf_posmine.search.exact import ExactIndex
from hf_posmine.search.rescore import check_similarity
from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.utils.files import store_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from sentence_transformers import SentenceTransformer

    from hf_posmine.core.types import Ranking
    from hf_posmine.evaluation.collection import Collection

BLOCK = 16_384


@dataclass(frozen=True)
class RetrievalSettings:
    """How a model is evaluated.

    Attributes:
        measures: ``ndcg@k``, ``recall@k``, ``mrr@k``; the first is the main one.
        depth: documents kept per query.
        query_instruction: what the task is; see :func:`~hf_posmine.evaluation.encoding.encode_texts`.
        query_prompt: put before every query as it is; None takes the model's own.
        document_prompt: the same for documents.
        ignore_identical_ids: whether a document with the query's own id is left out: True as BEIR does (ArguAna and
            Quora search a corpus that holds the queries), False never. None leaves it out only where its text also
            holds the query's text, since collections that number both from 1 share ids by accident.
    """

    measures: tuple[str, ...] = MEASURES
    depth: int = 100
    query_instruction: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    ignore_identical_ids: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "measures", tuple(self.measures))
        if not self.measures:
            raise InputError("measures is empty; name at least one, such as 'ndcg@10'")
        deepest = max(parse_measure(measure)[1] for measure in self.measures)
        if self.depth < deepest:
            raise InputError(f"depth={self.depth}, but {list(self.measures)} need {deepest} documents per query")
        if self.query_instruction is not None and self.query_prompt is not None:
            raise InputError("give query_instruction or query_prompt, not both")


def evaluate_retrieval(
    model: SentenceTransformer,
    collection: Collection,
    *,
    model_name: str | None = None,
    store: str | Path | None = None,
    device: str | None = None,
    **settings: Any,
) -> RetrievalResult:
    """NDCG, recall and MRR of every query with a judged positive.

    Search is exact, by the similarity that the model declares. The order of equal scores is trec_eval's (the greater id
    first), except which of several that tie at the last rank are kept: those first in the corpus.

    Args:
        model: a Hub id or folder, ``"embedded"``, or a SentenceTransformer, saved or not.
        collection: see :func:`~hf_posmine.evaluation.collection.load_collection`.
        model_name: what results call the model; by default its id or folder.
        store: folder that keeps the documents' embeddings. By default those of a model given by name are kept where
            miners keep theirs, and those of a live model, which training changes at every step, are not kept.
        device: where to encode and to search; by default the model's.
        settings: fields of :class:`RetrievalSettings`.

    Returns:
        Values per query, and the run.
    """
    chosen = RetrievalSettings(**settings)
    if isinstance(model, str):
        model_name, store = model_name or model, store_root(store)
        model = load_model(model, device=device)
    if model_name is None:
        model_name = next(iter(ModelParts.of(model).names), type(model).__name__)
    index = _index(model, collection, chosen, store, device)
    queries = collection.scored_queries
    vectors = encode_texts(
        model,
        [collection.queries[query] for query in queries],
        instruction=chosen.query_instruction,
        prompt=chosen.query_prompt,
    )
    run = make_run(collection, index.search(vectors, chosen.depth + 1), chosen)  # one more: a query may be a document
    details = {
        "settings": asdict(chosen), "corpus": collection.corpus.fingerprint, "data": collection.taken,
        "similarity": index.similarity,
    }  # fmt: skip
    scores = score_run(run, collection.qrels, chosen.measures)
    return RetrievalResult(collection.name, model_name, queries, scores, details, run)


def make_run(collection: Collection, ranking: Ranking, settings: RetrievalSettings) -> Run:
    """The retrieved documents of the scored queries, by id.

    Args:
        collection: what was searched.
        ranking: corpus rows ``[Q, k]``, by any teacher, for ``collection.scored_queries``.
        settings: the depth, and which documents are left out.
    """
    own = _own_documents(collection, settings.ignore_identical_ids)
    documents, scores = [], []
    for query, rows, values in zip(collection.scored_queries, ranking.doc_ids, ranking.scores, strict=True):
        found = rows[rows >= 0]
        first_ids = collection.corpus.ids(found).to_pylist()
        pairs = [
            (score, document)
            for row, first, score in zip(found.tolist(), first_ids, values.tolist(), strict=False)
            for document in (first, *collection.duplicates.get(row, ()))
            if not (document == query and query in own)
        ]
        kept = sorted(pairs, reverse=True)[: settings.depth]
        documents.append(tuple(document for _, document in kept))
        scores.append(tuple(score for score, _ in kept))
    return Run(collection.scored_queries, tuple(documents), tuple(scores))


def _own_documents(collection: Collection, rule: bool | None) -> set[str]:
    """Ids of queries whose document of the same id is left out."""
    if rule is not None:
        return set(collection.scored_queries) if rule else set()
    rows = collection.corpus.rows_of_ids(collection.scored_queries)
    at = np.flatnonzero(rows >= 0)
    queries = [collection.scored_queries[number] for number in at.tolist()]
    texts = collection.corpus.texts(rows[at]).to_pylist()
    return {
        query
        for query, text in zip(queries, texts, strict=True)
        if normalize(collection.queries[query]) in normalize(text)
    }


def _index(
    model: SentenceTransformer,
    collection: Collection,
    settings: RetrievalSettings,
    store: str | Path | None,
    device: str | None,
) -> ExactIndex:
    """The documents' vectors, kept on disk or only in memory."""
    device = device or ("cuda" if ModelParts.of(model).device.startswith("cuda") else "cpu")
    if store is not None:
        teacher = DenseTeacher(
            model, collection.corpus, document_prompt=settings.document_prompt, store=store, device=device
        )
        return teacher.exact
    similarity = check_similarity(ModelParts.of(model).similarity or "cosine")
    encoder = Encoder(model, document_prompt=settings.document_prompt, unit=similarity == "cosine")
    with progress_bar(len(collection.corpus), f"Encoding {collection.name}", "text") as bar:
        blocks = [
            encoder.encode(collection.corpus.items(np.array(rows)), "document", bar.update)
            for rows in batched(range(len(collection.corpus)), BLOCK)
        ]
    return ExactIndex(Vectors(tuple(blocks)), similarity, device=device)
