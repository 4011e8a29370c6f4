"""The same negatives as sentence-transformers' mine_hard_negatives, with the semantics set alike.

Alike means: ``ceiling_from="min"`` (its only one), exact text matching, exact search on its side, and a window deep enough for
the rows compared. The differences that remain are listed in docs/semantics.md and shown below, one test each.
"""

from __future__ import annotations

import numpy as np
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_posmine import Corpus, DenseTeacher, MarginPos, MaxScore, PercPos, PositiveAwareMiner, Qrels, SkipTop
from tests.conftest import real_data

NEGATIVES = 4
FLOAT32_SUM = 384 * 2.0**-24 / 16
"""Rounding of a float32 sum of 384 products of unit vectors: far below its worst case, above what kernels differ by."""


@pytest.fixture(scope="module")
def squad() -> Dataset:
    """2,000 rows of SQuAD, unique pairs with every query once, as the peer would otherwise regroup them."""
    folder = real_data("squad_v1.1")
    pairs = pq.read_table(folder / "train_pairs.parquet").slice(0, 2200)
    corpus = pq.read_table(folder / "train_corpus.parquet").to_pydict()
    texts = dict(zip(corpus["id"], corpus["text"], strict=True))
    first = {q: texts[d] for q, d in zip(pairs["query"].to_pylist(), pairs["positive_id"].to_pylist(), strict=True)}
    rows = list(first.items())[:2000]
    return Dataset.from_dict({"query": [q for q, _ in rows], "positive": [p for _, p in rows]})


class Remembered:
    """A SentenceTransformer whose texts were encoded once by our encoder, so both sides see the same vectors."""

    def __init__(self, model, vectors: dict[str, np.ndarray]) -> None:
        self._model, self._vectors = model, vectors

    def __getattr__(self, name: str):
        return getattr(self._model, name)

    def encode_query(self, texts, **_: object) -> np.ndarray:
        return np.stack([self._vectors[text] for text in texts])

    encode_document = encode_query


@pytest.fixture(scope="module")
def both(squad, embedded_model):
    """Our teacher and the peer's model over the same vectors."""
    corpus = Corpus.from_texts(squad["positive"], match="exact")
    known = Qrels.from_dataset(squad, "query", "positive", match="exact")
    teacher = DenseTeacher(embedded_model, corpus, queries=known.queries)
    teacher.prepare()
    vectors = {}
    for part, stored in ((known.queries, teacher.embeddings.of_queries), (corpus, teacher.embeddings.of_documents)):
        rows = np.arange(len(part))
        vectors.update(zip(part.texts(rows).to_pylist(), stored[rows], strict=True))
    return corpus, known, teacher, Remembered(embedded_model, vectors)


def ours(squad, both, filters):
    corpus, known, teacher, _ = both
    miner = PositiveAwareMiner(
        corpus=corpus, teachers=[teacher], known_positives=known, positive_column="positive",
        filters=filters, num_negatives=NEGATIVES, keep=("scores",),
    )  # fmt: skip
    mined = squad.map(miner, batched=True)
    return dict(zip(mined["query"], zip(mined["negatives"], mined["negatives_scores"], strict=True), strict=True))


def theirs(squad, both, **options):
    from sentence_transformers.util import mine_hard_negatives

    mined = mine_hard_negatives(
        squad, both[3], anchor_column_name="query", positive_column_name="positive", num_negatives=NEGATIVES,
        range_max=options.pop("range_max", 300), output_format="n-tuple", verbose=False, **options,
    )  # fmt: skip
    columns = [mined[f"negative_{i + 1}"] for i in range(NEGATIVES)]
    return {query: list(row) for query, *row in zip(mined["query"], *columns, strict=True)}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("filters", "options"),
    [
        pytest.param([], {"range_max": NEGATIVES}, id="naive"),
        pytest.param([MarginPos(0.05)], {"absolute_margin": 0.05}, id="absolute_margin"),
        pytest.param([PercPos(0.95)], {"relative_margin": 0.05}, id="relative_margin"),
        pytest.param([MaxScore(0.5)], {"max_score": 0.5}, id="max_score"),
        pytest.param([SkipTop(10)], {"range_min": 10, "range_max": 14}, id="range_min"),
    ],
)
def test_same_negatives_as_the_peer(squad, both, filters, options):
    mine, peer = ours(squad, both, filters), theirs(squad, both, **options)
    different = [query for query, negatives in peer.items() if mine[query][0] != negatives]
    # the peer sums in float32, in an order that depends on the processor: documents nearer than that rounding may swap
    for query in different:
        texts, scores = mine[query]
        score_of = dict(zip(texts, scores, strict=True))
        assert set(texts) == set(peer[query]), query
        assert np.allclose([score_of[text] for text in peer[query]], scores, rtol=0, atol=FLOAT32_SUM), query
    assert len(different) <= 5
    assert len(peer) >= 0.9 * len(squad)


@pytest.mark.real_data
def test_rows_the_peer_drops_are_filled_here(squad, both):
    """A shallow window is all above the ceiling for some rows: the peer drops them."""
    mine = ours(squad, both, [PercPos(0.95)])
    peer = theirs(squad, both, relative_margin=0.05, range_max=10)
    assert len(peer) < len(squad)
    assert all(len(texts) == NEGATIVES for texts, _ in mine.values())


class Fixed:
    """A model with given vectors, enough for the peer."""

    similarity_fn_name = "dot"
    device = "cpu"

    def __init__(self, vectors: dict[str, list[float]]) -> None:
        import torch
        from sentence_transformers.util import dot_score, pairwise_dot_score

        self.vectors = {text: np.array(vector, np.float32) for text, vector in vectors.items()}
        self.similarity, self.similarity_pairwise = dot_score, pairwise_dot_score
        self.device = torch.device("cpu")

    def encode_query(self, texts, **_: object) -> np.ndarray:
        return np.stack([self.vectors[text] for text in texts])

    encode_document = encode_query


def test_difference_a_candidate_at_the_ceiling():
    """The peer keeps a candidate whose score equals the ceiling; here it must lie strictly below (semantics 3)."""
    from sentence_transformers.util import mine_hard_negatives

    model = Fixed({"q": [1.0], "p": [0.5], "at": [0.375], "below": [0.25]})
    pair = Dataset.from_dict({"query": ["q"], "positive": ["p"]})
    peer = mine_hard_negatives(
        pair, model, corpus=["at", "below"], num_negatives=1, range_max=3, relative_margin=0.25,
        output_format="n-tuple", verbose=False,
    )  # fmt: skip
    corpus = Corpus.from_texts(["at", "below"])
    miner = PositiveAwareMiner.from_dataset(
        pair,
        model,
        corpus=corpus,
        filters=["PercPos(0.75)"],
        num_negatives=1,
        exclude_lookalikes=False,
        teacher_options={"fingerprint": "fixed"},
    )
    assert peer["negative_1"][:] == ["at"]
    assert pair.map(miner, batched=True)["negatives"][:] == [["below"]]


def test_difference_where_the_rank_is_counted():
    """The peer skips ``range_min`` survivors of the margin; here ranks count before the ceiling (semantics 2)."""
    from sentence_transformers.util import mine_hard_negatives

    scores = {"a": 0.9, "b": 0.8, "c": 0.4, "d": 0.3, "e": 0.2}
    model = Fixed({"q": [1.0], "p": [0.5], **{name: [score] for name, score in scores.items()}})
    pair = Dataset.from_dict({"query": ["q"], "positive": ["p"]})
    peer = mine_hard_negatives(
        pair, model, corpus=list(scores), num_negatives=1, range_min=2, range_max=5, relative_margin=0.05,
        output_format="n-tuple", verbose=False,
    )  # fmt: skip
    miner = PositiveAwareMiner.from_dataset(
        pair, model, corpus=Corpus.from_texts(scores), filters=["SkipTop(2)", "PercPos(0.95)"], num_negatives=1,
        exclude_lookalikes=False,
        teacher_options={"fingerprint": "ranks"},
    )  # fmt: skip
    assert peer["negative_1"][:] == ["e"]  # a and b lie above the ceiling; c and d are the two it skips
    assert pair.map(miner, batched=True)["negatives"][:] == [["c"]]  # a and b are ranks 0 and 1
