"""``mine(..., since=...)``: the rows of a full mining after any changes, and no more searches than changed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError
from hf_posmine.mining import SecondOpinion
from hf_posmine.mining.execution.keeper import keep_searches, update_of
from hf_posmine.mining.execution.searches import KeptDocuments
from hf_posmine.mining.execution.update import in_order
from hf_posmine.mining.provenance import provenance, read_provenance, write_provenance
from hf_posmine.search import ExactIndex
from hf_posmine.teachers import BM25Teacher, CrossEncoderTeacher, DenseTeacher, VectorTeacher
from tests.conftest import ToyModel
from tests.support.vector_models import HashedPairs

disable_progress_bars()

KEEP = ("scores", "ids", "ranks", "positive_score", "stats")
FILTERS = [(), "PercPos(0.95)", "MarginPos(0.1)", "MaxScore(0.4)", "SkipTop(2) + PercPos(0.9)", "RankWindow(1, 9)"]
FILTERS += ["MinScore(-0.2) + PercPos(0.95)"]
SAMPLERS = ["Top()", "SampledTopK(k=6)", "SimANS(k=5)", "Uniform(k=4)", "Top1Sampled(k=5)"]
EXTRAS = [
    {}, {"on_short": "random"}, {"on_short": "drop"}, {"weak_positive": "flag", "weak_rank": 2}, {"ceiling_from": "own"},
    {"exclude_other_positives": True}, {"near_duplicates": 0.9, "sampler": "Top()"},
]  # fmt: skip


def vector(text: str, name: str) -> np.ndarray:
    """Small whole numbers, so that scores tie and documents share vectors."""
    seed = int.from_bytes(hashlib.sha256(f"{name} {text}".encode()).digest()[:8], "little")
    return np.random.default_rng(seed).integers(-1, 3, 4).astype(np.float32)


class SmallModel:
    """The same vectors as a model, which can compare documents with each other."""

    prompts: dict[str, str] = {}  # noqa: RUF012 - as sentence-transformers has it

    def __init__(self, similarity: str) -> None:
        self.similarity_fn_name = similarity

    def encode_query(self, texts: list[str], **_: object) -> np.ndarray:
        return np.stack([vector(text, "a") for text in texts])

    encode_document = encode_query


@dataclasses.dataclass(frozen=True)
class Collection:
    """Documents by id, pairs of query and id, and how often the vectors were made."""

    documents: dict[str, str]
    pairs: list[tuple[str, str]]
    version: int = 0

    def rows(self) -> Dataset:
        return Dataset.from_dict(
            {"query": [q for q, _ in self.pairs], "positive": [self.documents[d] for _, d in self.pairs]}
        )

    def teacher(self, corpus: Corpus, similarity: str, name: str = "a") -> VectorTeacher:
        texts, queries = corpus.texts(np.arange(len(corpus))).to_pylist(), list(dict.fromkeys(q for q, _ in self.pairs))
        # a new version of the vectors changes every eighth document
        names = [
            f"{name}{self.version}" if int(hashlib.sha256(t.encode()).hexdigest(), 16) % 8 == 0 else name for t in texts
        ]
        made = np.stack([vector(t, n) for t, n in zip(texts, names, strict=True)])
        asked = np.stack([vector(q, name) for q in queries])
        return VectorTeacher(corpus, made, queries, asked, similarity=similarity, name=name)

    def miner(self, options: dict, similarity: str, teachers: int = 1) -> PositiveAwareMiner:
        corpus = Corpus.from_texts(self.documents.values(), ids=self.documents)
        made = [self.teacher(corpus, similarity, name) for name in "ab"[:teachers]]
        if "near_duplicates" in options:
            made = [DenseTeacher(SmallModel(similarity), corpus, fingerprint=f"small {similarity}")]
        return PositiveAwareMiner.from_dataset(self.rows(), made, corpus=corpus, keep=KEEP, **options)


def first(draw: st.DataObject) -> Collection:
    documents = {f"d{i}": f"document {i}" for i in range(draw.draw(st.integers(8, 30)))}
    pairs = draw.draw(st.lists(st.tuples(st.integers(0, 9), st.sampled_from(list(documents))), min_size=3, max_size=14))
    return Collection(documents, [(f"query {q}", d) for q, d in pairs])


def changed(draw: st.DataObject, before: Collection, step: int) -> Collection:
    """Documents added at any place, removed, rewritten and moved; pairs added, removed and pointed elsewhere."""
    documents = dict(before.documents)
    for _ in range(draw.draw(st.integers(0, 3))):
        free = [d for d in documents if d not in {d for _, d in before.pairs}]
        if len(free) > 6:
            del documents[draw.draw(st.sampled_from(free))]
    for document in draw.draw(st.lists(st.sampled_from(list(documents)), max_size=2)):
        documents[document] += f" rewritten {step}"
    entries = list(documents.items())
    for i in range(draw.draw(st.integers(0, 3))):
        entries.insert(draw.draw(st.integers(0, len(entries))), (f"s{step}-{i}", f"document of step {step} {i}"))
    if draw.draw(st.booleans()):
        entries.insert(0, entries.pop(draw.draw(st.integers(0, len(entries) - 1))))
    documents, pairs = dict(entries), list(before.pairs)
    if len(pairs) > 2 and draw.draw(st.booleans()):
        pairs.pop(draw.draw(st.integers(0, len(pairs) - 1)))
    for query in draw.draw(st.lists(st.integers(0, 12), max_size=2)):
        pairs.append((f"query {query}", draw.draw(st.sampled_from(list(documents)))))
    return Collection(documents, pairs, before.version + draw.draw(st.integers(0, 1)))


def anew(collection: Collection, miner: PositiveAwareMiner) -> dict:
    """A full mining, without anything kept."""
    return miner(collection.rows().with_format("arrow")[:]).to_pydict()


def assert_equal_after_changes(draw: st.DataObject) -> None:
    options = {"filters": draw.draw(st.sampled_from(FILTERS)), "num_negatives": draw.draw(st.integers(1, 4))}
    teachers = draw.draw(st.sampled_from([1, 1, 1, 2]))
    choice = st.sampled_from(SAMPLERS if teachers == 1 else ["CrossSample()", "IntraSample(dedup=True)"])
    options |= {"sampler": draw.draw(choice), **draw.draw(st.sampled_from(EXTRAS))}
    teachers = 1 if "near_duplicates" in options else teachers
    similarity = draw.draw(st.sampled_from(["dot", "dot", "cosine", "euclidean"]))
    if similarity == "euclidean" and options["filters"]:
        options["filters"] = options["filters"].replace("PercPos(0.9", "MarginPos(0.9")
    assume("weak_positive" not in options or any(name in options["filters"] for name in ("Pos", "Max")))
    collection = first(draw)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="since=: more than half")
        mined = mine(collection.rows(), collection.miner(options, similarity, teachers), work_dir=folder)
        for step in (1, 2):
            collection = changed(draw, collection, step)
            miner = collection.miner(options, similarity, teachers)
            again = mine(
                collection.rows(), miner, work_dir=Path(folder) / str(step), since=mined,
                shard_rows=draw.draw(st.integers(3, 20)), batch_size=draw.draw(st.integers(2, 9)),
            )  # fmt: skip
            assert again.to_dict() == anew(collection, miner)
            mined = again


relaxed = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.reuse, Phase.generate]
)  # shrinking takes minutes


@settings(relaxed, max_examples=16)
@given(st.data())
def test_an_update_equals_mining_anew(draw):
    assert_equal_after_changes(draw)


@pytest.mark.matrix
@settings(relaxed, max_examples=100)
@given(st.data())
def test_an_update_equals_mining_anew_in_100_histories(draw):
    assert_equal_after_changes(draw)


ROWS, DOCUMENTS, DIMENSIONS = 40, 300, 16


@dataclasses.dataclass(frozen=True)
class Given:
    """Rows with given vectors, of which row i has document i as its positive."""

    documents: np.ndarray
    queries: np.ndarray
    names: list[str]

    @classmethod
    def make(cls) -> Given:
        rng = np.random.default_rng(3)
        documents = rng.standard_normal((DOCUMENTS, DIMENSIONS)).astype(np.float32)
        queries = documents[:ROWS] + rng.standard_normal((ROWS, DIMENSIONS)).astype(np.float32)
        return cls(documents, queries, [f"document {i}" for i in range(DOCUMENTS)])

    def with_document(self, vector: np.ndarray, name: str) -> Given:
        return Given(np.concatenate([self.documents, vector[None]]), self.queries, [*self.names, name])

    def without(self, number: int) -> Given:
        names = [name for at, name in enumerate(self.names) if at != number]
        return Given(np.delete(self.documents, number, axis=0), self.queries, names)

    @property
    def rows(self) -> Dataset:
        return Dataset.from_dict({"query": [f"query {i}" for i in range(ROWS)], "positive": self.names[:ROWS]})

    def miner(self, **options: object) -> PositiveAwareMiner:
        corpus = Corpus.from_texts(self.names)
        teacher = VectorTeacher(corpus, self.documents, self.rows["query"][:], self.queries)
        options = {"filters": "PercPos(0.95)", "keep": KEEP} | options
        return PositiveAwareMiner.from_dataset(self.rows, teacher, corpus=corpus, **options)

    def mined(self, folder: Path, since: object = None, **options: object) -> Dataset:
        miner = self.miner(**options)
        mined = mine(self.rows, miner, work_dir=folder, since=since)
        assert mined.to_dict() == miner(self.rows.with_format("arrow")[:]).to_pydict()
        return mined


@pytest.fixture(scope="module")
def given_rows() -> Given:
    return Given.make()


@pytest.fixture(scope="module")
def earlier(given_rows, tmp_path_factory) -> Dataset:
    return given_rows.mined(tmp_path_factory.mktemp("earlier"))


def counts(mined: Dataset) -> tuple[int, int, int]:
    found = update_of(mined)
    assert found is not None
    return found["rows_kept"], found["rows_updated"], found["rows_mined_again"]


def test_a_document_far_from_all_rows_costs_no_row(given_rows, earlier, tmp_path):
    far = given_rows.with_document(-given_rows.queries.mean(axis=0), "far")
    assert counts(far.mined(tmp_path, earlier)) == (ROWS, 0, 0)


def test_a_document_that_enters_lists_or_counts_is_merged_without_a_search(given_rows, earlier, tmp_path):
    mined = given_rows.with_document(given_rows.queries[7], "near one query").mined(tmp_path, earlier)
    kept, updated, again = counts(mined)
    assert again == 0 and 1 <= updated < ROWS and kept == ROWS - updated
    before, after = earlier["negatives_stats"][7], mined["negatives_stats"][7]
    assert after["num_above_ceiling"] == before["num_above_ceiling"] + 1


def test_a_removed_document_costs_the_rows_that_list_it(given_rows, earlier, tmp_path):
    lists = earlier["negatives"][:]
    used = {name for row in lists for name in row}
    unused = next(at for at, name in enumerate(given_rows.names) if at >= ROWS and name not in used)
    assert counts(given_rows.without(unused).mined(tmp_path / "unused", earlier))[2] == 0
    listed = given_rows.names.index(next(name for name in lists[5] if given_rows.names.index(name) >= ROWS))
    users = sum(given_rows.names[listed] in row for row in lists)
    assert counts(given_rows.without(listed).mined(tmp_path / "listed", earlier))[2] == users


def test_updates_follow_updates_and_the_result_equals_its_own_searches(given_rows, earlier, tmp_path):
    longer = given_rows.with_document(given_rows.queries[3] / 2, "new")
    once = longer.mined(tmp_path / "a", earlier)
    assert counts(longer.mined(tmp_path / "b", once)) == (ROWS, 0, 0)
    assert counts(given_rows.mined(tmp_path / "c", once))[2] < ROWS


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_negatives": 5}, "num_negatives was 4, is 5"),
        ({"filters": "PercPos(0.9)"}, "filters was"),
        ({"seed": 8}, "seed was 0, is 8"),
    ],
    ids=str,
)
def test_other_settings_are_a_full_mining_with_one_line(options, line, given_rows, earlier, tmp_path):
    with pytest.warns(UserWarning, match=f"since=: {line}.*every row is mined anew"):
        mined = given_rows.mined(tmp_path, earlier, **options)
    assert update_of(mined) is None


def test_another_teacher_and_one_that_keeps_no_searches_are_full_minings(given_rows, earlier, tmp_path):
    miner = given_rows.miner()
    corpus = miner.corpus
    other = VectorTeacher(
        corpus, given_rows.documents, given_rows.rows["query"][:], given_rows.queries, similarity="dot"
    )
    for teacher, line in ((other, "teachers changed"), (BM25Teacher(corpus), "no teacher searches vectors exactly")):
        miner = PositiveAwareMiner.from_dataset(
            given_rows.rows, teacher, corpus=corpus, filters="PercPos(0.95)", keep=KEEP
        )
        with pytest.warns(UserWarning, match=line):
            mine(given_rows.rows, miner, work_dir=tmp_path, since=earlier)


def test_damaged_searches_are_a_full_mining(given_rows, earlier, tmp_path):
    keep_searches(earlier, tmp_path / "mined.parquet")
    (file,) = (tmp_path / "mined.parquet.searches").glob("*/searches-0.npz")
    file.write_bytes(file.read_bytes()[:-400])
    (tmp_path / "mined.parquet").touch()
    with pytest.warns(UserWarning, match="are damaged"):
        given_rows.mined(tmp_path / "work", tmp_path / "mined.parquet")


def test_places_without_searches(given_rows, tmp_path):
    with pytest.raises(InputError, match="no such folder or file"):
        given_rows.mined(tmp_path / "work", tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="the earlier mining kept no searches"):
        given_rows.mined(tmp_path / "work", tmp_path / "empty")
    for options in ({"num_proc": 2}, {"output": tmp_path / "shards"}):
        with pytest.raises(InputError, match="keeps no searches, so since= has no effect"):
            mine(given_rows.rows, given_rows.miner(), since=tmp_path / "empty", **options)


def test_a_killed_update_resumes_and_the_earlier_rows_stay(given_rows, earlier, tmp_path, monkeypatch):
    longer = given_rows.with_document(given_rows.queries[3], "new")
    miner, original, calls = longer.miner(), PositiveAwareMiner._mine, []

    def killed(self: PositiveAwareMiner, columns: dict) -> object:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(self, columns)

    monkeypatch.setattr(PositiveAwareMiner, "_mine", killed)
    before = earlier.to_dict()
    with pytest.raises(KeyboardInterrupt):
        mine(longer.rows, miner, work_dir=tmp_path, shard_rows=10, since=earlier)
    mined = mine(longer.rows, miner, work_dir=tmp_path, shard_rows=10, since=earlier)
    assert len(calls) == 5 and sum(counts(mined)) == ROWS
    assert mined.to_dict() == miner(longer.rows.with_format("arrow")[:]).to_pydict()
    assert earlier.to_dict() == before


def test_a_second_opinion_gives_the_rows_of_a_full_mining(given_rows, tmp_path):
    def opinion(rows: Given) -> SecondOpinion:
        cross = CrossEncoderTeacher(HashedPairs(), Corpus.from_texts(rows.names), fingerprint="hashed")
        return SecondOpinion(cross, "MaxScore(0.5)", depth=8)

    before = given_rows.mined(tmp_path / "a", second_opinion=opinion(given_rows))
    longer = given_rows.with_document(given_rows.queries[3] / 2, "new")
    assert counts(longer.mined(tmp_path / "b", before, second_opinion=opinion(longer)))[2] == 0


def test_only_new_texts_are_encoded(tmp_path):
    texts, model = [f"red cat {i}" for i in range(50)], ToyModel()
    for grown in (texts, [*texts[:20], "blue fox", *texts[20:45], "moon"]):
        model.encoded.clear()
        teacher = DenseTeacher(model, Corpus.from_texts(grown), store=tmp_path, fingerprint="toy", shard_rows=16)
        teacher.prepare()
        fresh = DenseTeacher(ToyModel(), teacher.corpus, store=tmp_path / "fresh", fingerprint="toy")
        rows = np.arange(len(grown))
        assert np.array_equal(teacher.embeddings.of_documents[rows], fresh.embeddings.of_documents[rows])
    assert sorted(model.encoded) == ["blue fox", "moon"]


def test_texts_that_count_as_the_same_document_have_vectors_of_their_own(tmp_path):
    for texts in (["red cat", "ink"], ["Red  Cat", "ink"]):
        model = ToyModel()
        DenseTeacher(model, Corpus.from_texts(texts), store=tmp_path, fingerprint="toy").prepare()
    assert model.encoded == ["Red  Cat"]


@given(st.lists(st.integers(0, 30), unique=True, max_size=12))
def test_the_longest_ascending_run(values):
    kept = np.array(values, np.int64)[in_order(np.array(values, np.int64))]
    assert (np.diff(kept) > 0).all()
    longest = [1] * len(values)
    for at, value in enumerate(values):
        longest[at] = 1 + max((longest[i] for i in range(at) if values[i] < value), default=0)
    assert len(kept) == max(longest, default=0)


@pytest.mark.parametrize("similarity", ["cosine", "dot"])
def test_bounds_hold_the_exact_scores(similarity, tmp_path):
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((200, 33)).astype(np.float32) * 10.0 ** rng.integers(-3, 4, (200, 1)).astype(
        np.float32
    )
    vectors[7] = 0
    queries = rng.standard_normal((9, 33)).astype(np.float32)
    index = ExactIndex(vectors, similarity)
    KeptDocuments.write(tmp_path / "0", index, Corpus.from_texts(map(str, range(200))), np.array([5]))
    kept = KeptDocuments.opened(tmp_path / "0")
    rows = np.arange(200)
    exact = index.score(queries, np.tile(rows, (9, 1)))
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True) if similarity == "cosine" else queries
    ((_, low, high),) = kept.bounds_of(asked, rows)
    assert (low <= exact).all() and (exact <= high).all()
    lengths = np.linalg.norm(asked, axis=1)[:, None] * np.linalg.norm(vectors, axis=1) if similarity == "dot" else 1
    assert np.median((high - low) / np.maximum(lengths, 1e-30)) < 0.05
    assert kept.keys[5] == b"" and (kept.keys != b"").sum() == 199


def test_the_command_updates_its_own_output(given_rows, tmp_path, capsys):
    from hf_posmine.cli.main import main

    def run(rows: Given, *more: str) -> list[dict]:
        texts = rows.rows["query"][:]
        vectors = tmp_path / f"vectors-{len(more)}.npz"  # the name of the file is not part of the teacher
        np.savez(vectors, documents=rows.documents, queries=rows.queries, query_texts=texts)
        rows.rows.to_parquet(tmp_path / "pairs.parquet")
        Dataset.from_dict({"text": rows.names}).to_parquet(tmp_path / "corpus.parquet")
        command = [
            "mine",
            tmp_path / "pairs.parquet",
            "--corpus",
            tmp_path / "corpus.parquet",
            "--output",
            tmp_path / "mined",
        ]
        command += ["--teacher", f"Vectors('{vectors}')", "--filters", "PercPos(0.95)", "--quiet"]
        assert main([*map(str, command), *more]) == 0
        return Dataset.load_from_disk(str(tmp_path / "mined")).to_list()

    run(given_rows)
    first_record = hashlib.sha256((tmp_path / "mined" / "provenance.json").read_bytes()).hexdigest()
    capsys.readouterr()
    longer = given_rows.with_document(given_rows.queries[3], "new").without(DOCUMENTS - 1)
    updated = run(longer, "--update", str(tmp_path / "mined"))
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("update: "))
    assert line.endswith("documents 1 added, 1 removed, 0 changed")
    record = read_provenance(tmp_path / "mined" / "provenance.json")
    assert record.update is not None and record.update["previous"] == first_record
    shutil.rmtree(tmp_path / "mined")
    assert updated == run(longer, "--work-dir", str(tmp_path / "other"))
    assert read_provenance(tmp_path / "mined" / "provenance.json").update is None


def test_the_record_counts_what_was_taken_from_the_earlier_mining(given_rows, earlier, tmp_path):
    longer = given_rows.with_document(given_rows.queries[3], "new")
    mined = longer.mined(tmp_path / "work", earlier)
    record = provenance(longer.miner(), source={"path": "pairs.parquet"}, mined=mined)
    write_provenance(tmp_path / "provenance.json", record)
    update = read_provenance(tmp_path / "provenance.json").update
    assert update == json.loads((tmp_path / "provenance.json").read_text())["update"] == {
        "previous": None, "documents_added": 1, "documents_removed": 0, "documents_changed": 0,
        "rows_kept": counts(mined)[0], "rows_updated": counts(mined)[1], "rows_mined_again": 0,
    }  # fmt: skip
