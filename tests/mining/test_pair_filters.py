"""Filters that look at the positive: against a walk over all documents in plain Python."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars, load_from_disk
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, DenseTeacher, MarginPos, MinScore, PositiveAwareMiner, SkipTop, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.pair_filters import Consistency, FartherFromPositive, NearerToPositive
from hf_posmine.evaluation import Judgements, calibrate, sweep
from hf_posmine.hub.record_check import summary_changes
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.provenance import read_provenance
from hf_posmine.search import search_on
from hf_posmine.teachers import BM25Teacher, StoredRun, VectorTeacher
from hf_posmine.training.ceilings import check_ceiling
from tests.conftest import ToyModel

disable_progress_bars()
VECTORS = st.lists(st.integers(-3, 3), min_size=3, max_size=3).filter(any)


def cosine(a: list[int], b: list[int]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return float(np.float32(dot / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))))


def mined_by_hand(documents, query, positives, n, *, allowed, ceiling, first=0, floor=-np.inf):
    """Numbers and ranks of the first n allowed documents, the best first, by one walk over all of them."""
    order = sorted(
        (d for d in range(len(documents)) if d not in positives), key=lambda d: (-cosine(query, documents[d]), d)
    )
    found = []
    for rank, document in enumerate(order):
        score = cosine(query, documents[document])
        nearest = max(cosine(documents[p], documents[document]) for p in positives)
        if score < ceiling and rank >= first and score >= floor and allowed(score, nearest):
            found.append((document, rank))
    return found[:n]


def miner_of(documents, queries, positives, **options):
    corpus = Corpus.from_texts([f"d{number}" for number in range(len(documents))])
    names = [f"q{number}" for number in range(len(queries))]
    teacher = VectorTeacher(corpus, documents, names, queries)
    rows = {"query": names, "positive": [[f"d{p}" for p in own] for own in positives]}
    options = {"keep": ("ids", "ranks", "stats"), **options}
    return PositiveAwareMiner(corpus=corpus, teachers=teacher, positive_column="positive", **options), rows


@st.composite
def cases(draw):
    documents = draw(st.lists(VECTORS, min_size=4, max_size=40))
    queries = draw(st.lists(VECTORS, min_size=1, max_size=4))
    numbers = st.integers(0, len(documents) - 1)
    return documents, queries, [draw(st.sets(numbers, min_size=1, max_size=2)) for _ in queries]


@settings(max_examples=40)
@given(
    cases(),
    st.sampled_from([FartherFromPositive, NearerToPositive]),
    st.sampled_from([-0.5, 0.0, 0.25]),
    st.integers(1, 3),
    st.sampled_from([(), (MarginPos(0.0),), (SkipTop(2),), (MinScore(0.25),)]),
)
def test_a_row_gets_the_best_candidates_in_their_place_however_deep_they_lie(case, kind, margin, n, others):
    documents, queries, positives = case
    miner, rows = miner_of(documents, queries, positives, filters=[kind(margin), *others], num_negatives=n)
    mined = miner(rows)
    for row, (query, own) in enumerate(zip(queries, positives, strict=True)):
        lowest = min(cosine(query, documents[p]) for p in own)
        wanted = mined_by_hand(
            documents, query, own, n,
            allowed=(lambda s, p: s - margin > p) if kind is FartherFromPositive else (lambda s, p: p - margin > s),
            ceiling=lowest if MarginPos(0.0) in others else np.inf,
            first=2 if SkipTop(2) in others else 0,
            floor=0.25 if MinScore(0.25) in others else -np.inf,
        )  # fmt: skip
        assert mined["negatives"][row] == [f"d{document}" for document, _ in wanted]
        assert mined["negatives_ranks"][row] == [rank for _, rank in wanted]


@settings(max_examples=40)
@given(cases(), st.integers(1, 4))
def test_a_row_stays_if_its_positive_is_among_the_first_k(case, k):
    documents, queries, positives = case
    miner, rows = miner_of(documents, queries, positives, filters=[Consistency(k)], num_negatives=1)
    kept = []
    for query, own in zip(queries, positives, strict=True):
        lowest = min(cosine(query, documents[p]) for p in own)
        kept.append(sum(cosine(query, documents[d]) > lowest for d in range(len(documents)) if d not in own) < k)
    mined = miner(dict(rows))
    assert mined.get("query", rows["query"]) == [name for name, stays in zip(rows["query"], kept, strict=True) if stays]


def test_the_two_directions_exclude_each_other_and_leave_out_ties_only():
    scores, to_positive = np.array([[0.5, 0.25, 0.5]], np.float32), np.array([[0.25, 0.5, 0.5]], np.float32)
    assert FartherFromPositive().keeps(scores, to_positive).tolist() == [[True, False, False]]
    assert NearerToPositive().keeps(scores, to_positive).tolist() == [[False, True, False]]


@pytest.fixture(scope="module")
def pairs() -> Dataset:
    rng = np.random.default_rng(5)
    words = "red green blue cat dog bird sky sea tree stone".split()
    texts = [" ".join(rng.choice(words, size=6)) for _ in range(120)]
    return Dataset.from_dict({"query": texts[:40], "positive": texts[40:80]})


@pytest.fixture(scope="module")
def toy(pairs, tmp_path_factory) -> DenseTeacher:
    rng = np.random.default_rng(6)
    corpus = Corpus.from_texts(
        [" ".join(rng.choice("red green blue cat dog bird sky sea".split(), size=6)) for _ in range(90)]
    )
    return DenseTeacher(ToyModel(), corpus, fingerprint="toy", store=tmp_path_factory.mktemp("store"))


GEOMETRY = [FartherFromPositive(-0.1), MarginPos(0.0)]


def test_positives_outside_the_corpus_are_encoded(pairs, toy):
    miner = PositiveAwareMiner.from_dataset(pairs, toy, filters=[FartherFromPositive(-0.1)], num_negatives=2)
    mined = pairs.map(miner, batched=True)
    model = ToyModel()
    texts = [toy.corpus.texts(np.array([row]))[0].as_py() for row in range(len(toy.corpus))]
    unit = {
        text: v / np.linalg.norm(v)
        for text in {*texts, *pairs["query"], *pairs["positive"]}
        for v in [model._vector(text)]
    }
    for row in mined:
        q, p = unit[row["query"]], unit[row["positive"]]
        fitting = [
            text
            for text in texts
            if unit[text] @ q + 0.1 > unit[text] @ p and text not in (row["query"], row["positive"])
        ]
        assert set(row["negatives"]) <= set(fitting)
        assert len(row["negatives"]) == min(2, len(fitting))


def test_an_index_in_parts_and_an_approximate_one_give_the_same_rows(pairs, toy, tmp_path):
    def mined(change, **options):
        teacher = DenseTeacher(ToyModel(), toy.corpus, fingerprint="toy", **options)
        change(teacher)
        miner = PositiveAwareMiner.from_dataset(pairs, teacher, filters=GEOMETRY, num_negatives=3, keep=("scores",))
        return pairs.map(miner, batched=True, load_from_cache_file=False)[:]

    plain = mined(lambda teacher: None)
    assert mined(lambda teacher: search_on(teacher, ["cpu", "cpu"])) == plain
    pytest.importorskip("faiss")
    assert mined(lambda teacher: None, index="Flat") == plain


def test_a_sweep_over_a_stored_run_gives_the_miners_rows(pairs, toy, tmp_path):
    miner = PositiveAwareMiner.from_dataset(pairs, toy, filters=GEOMETRY, num_negatives=3, keep=("scores",))
    rows = pairs.map(miner, batched=True)
    run = StoredRun.build(toy, pairs, depth=5, path=tmp_path / "run")
    table = sweep(run, pairs, filters=[GEOMETRY, "naive"], num_negatives=[3])
    assert table[0]["negatives"] == sum(map(len, rows["negatives"]))
    assert table[0]["mean_score"] == pytest.approx(np.concatenate(rows["negatives_scores"]).mean())
    assert table[1]["negatives"] == 3 * len(pairs)  # the rankings of the first setting were not written over


def test_an_update_gives_the_rows_of_a_full_mining(pairs, toy, tmp_path):
    def miner(corpus):
        teacher = DenseTeacher(ToyModel(), corpus, fingerprint="toy")
        return PositiveAwareMiner.from_dataset(
            pairs, teacher, filters=GEOMETRY, num_negatives=3, keep=("scores", "ranks")
        )

    texts = [toy.corpus.texts(np.array([row]))[0].as_py() for row in range(len(toy.corpus))]
    before = mine(pairs, miner(Corpus.from_texts(texts)), work_dir=tmp_path / "before")
    changed = miner(Corpus.from_texts([*texts[5:], "cat cat sea sea sky red"]))
    assert mine(pairs, changed, work_dir=tmp_path / "after", since=before)[:] == pairs.map(changed, batched=True)[:]


def test_what_cannot_take_effect_is_refused_in_one_line(pairs, toy):
    farther, few = FartherFromPositive(), Consistency(2)
    bm25 = BM25Teacher(toy.corpus)
    one = {"q": frozenset({"a", "b"})}
    judged = Judgements({"q": "red cat"}, one, {})
    ids = Corpus.from_texts(["red cat", "red dog", "sea"], ids=["a", "b", "c"])
    cases = [
        (
            lambda: PositiveAwareMiner.from_dataset(pairs, bm25, filters=farther),
            "no vectors of documents; take a dense one",
        ),
        (
            lambda: PositiveAwareMiner.from_dataset(pairs, toy, filters=farther, on_short="random"),
            "use 'keep', 'drop' or 'raise'",
        ),
        (lambda: SecondOpinion(bm25, [MarginPos(0.0), farther]), "no effect on a second opinion; give it to the miner"),
        (lambda: SecondOpinion(bm25, [MarginPos(0.0), few]), "no effect on a second opinion; give it to the miner"),
        (lambda: check_ceiling(few), "sets no ceiling"),
        (lambda: sweep(toy, pairs, filters=[few]), "drops rows, and a sweep keeps all"),
        (
            lambda: calibrate(ids, judged, BM25Teacher(ids), families={"c": [few]}),
            "drops rows, and calibrate keeps all",
        ),
        (lambda: Consistency(0), "k must be a whole number of at least 1"),
        (lambda: FartherFromPositive(2.5), "give a margin from -2 to 2"),
        (lambda: NearerToPositive("x"), "margin must be a finite number"),
    ]
    for attempt, message in cases:
        with pytest.raises((InputError, SpecError), match=message) as error:
            attempt()
        assert "\n" not in str(error.value)


def test_dropped_rows_are_counted_printed_and_recorded_and_the_rows_verify(pairs, tmp_path, capsys):
    pairs.to_parquet(tmp_path / "pairs.parquet")
    output = tmp_path / "mined"
    main(["mine", str(tmp_path / "pairs.parquet"), "--teacher", "random", "--filters", "Consistency(20)",
          "--num-negatives", "1", "--output", str(output)])  # fmt: skip
    rows, record = load_from_disk(str(output)), json.loads((output / "provenance.json").read_text())
    dropped = len(pairs) - len(rows)
    assert 0 < dropped < len(pairs)
    assert record["summary"]["dropped_rows"] == dropped
    assert "Consistency(20)" in record["settings"]["filters"]
    assert f"rows dropped, as the settings ask {dropped}" in " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert summary_changes({"train": rows}, read_provenance(output / "provenance.json")) == []
