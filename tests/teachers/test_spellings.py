"""Teachers by their spelling: read, written, opened over a corpus, and carried by options and records."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hf_posmine import Corpus
from hf_posmine.core.errors import InputError, SpecError
from hf_posmine.core.spec import split_list
from hf_posmine.search.specs import Approximate, Lance
from hf_posmine.teachers import TeacherContext, as_teacher_spec, make_teacher, make_teachers, open_teacher
from hf_posmine.teachers.capabilities import describe
from hf_posmine.teachers.spellings import (
    BM25,
    TEACHERS,
    Cross,
    Dense,
    Endpoint,
    Late,
    MaxP,
    Random,
    RunFile,
    Sparse,
    VectorFiles,
)
from tests.support import services, tiny

SPECS = [
    BM25(),
    BM25("german"),
    BM25(None, stem=False, k1=0.9, b=0.4),
    Random(7),
    Dense("intfloat/e5-base-v2", query_prompt="query: ", document_prompt='say "it": '),
    Dense(
        "a/b", similarity="dot", revision="main", compute="bfloat16", dtype="float16", max_length=128, truncate_dim=64
    ),
    Dense("a/b", index="IVF16,SQ8"),
    Dense("a/b", index=Approximate("IVF16,SQ8", {"nprobe": 3})),
    Dense("a/b", index=Lance("IVF_SQ")),
    Sparse("a/splade", document_prompt="d, "),
    Late("a/colbert", revision="abc"),
    Cross("BAAI/bge-reranker-base"),
    Endpoint("https://host/v1/embeddings", model="e5", fingerprint="June"),
    RunFile("runs/bm25.trec", queries="queries.jsonl", score_kind="dot"),
    VectorFiles("my, vectors", similarity="euclidean"),
    MaxP("bm25:german"),
    BM25(tokenizer="a/b", revision="0" * 40),
    MaxP(Dense("a/b", query_prompt="it's, "), words=40, overlap=0),
]
SHORT = {
    "bm25": BM25(),
    "BM25": BM25(),
    "Bm25:french": BM25("french"),
    "bM25(language='french')": BM25("french"),
    "random": Random(),
    "Random:12": Random(12),
    "sparse:a/b": Sparse("a/b"),
    "LATE:a/b": Late("a/b"),
    "cross:./folder": Cross("./folder"),
    "embedded": Dense("embedded"),
    "intfloat/e5-base-v2": Dense("intfloat/e5-base-v2"),
    "http://host:80/embed": Endpoint("http://host:80/embed"),
    "https://host/v1/embeddings#e5": Endpoint("https://host/v1/embeddings", "e5"),
    "vectors('f')": VectorFiles("f"),
}


@pytest.mark.parametrize("spec", SPECS, ids=repr)
def test_the_spelling_reads_back_and_stands_in_lists_yaml_and_json(spec):
    yaml = pytest.importorskip("yaml")
    text = repr(spec)
    assert as_teacher_spec(text) == spec and repr(as_teacher_spec(text)) == text
    assert split_list(f"bm25,{text} , random") == ["bm25", text, "random"]
    assert yaml.safe_load(yaml.safe_dump({"teacher": text}))["teacher"] == json.loads(json.dumps(text)) == text


def test_every_kind_is_spelled():
    assert {type(spec) for spec in SPECS} == set(TEACHERS.values())


@pytest.mark.parametrize("text", SHORT)
def test_shorthands_name_the_same_values(text):
    assert as_teacher_spec(text) == SHORT[text]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("Dens('a')", SpecError, "unknown teacher 'Dens' .*did you mean Dense"),
        ("Dense('a', prompt='q')", SpecError, r"Dense takes \(model, query_prompt"),
        ("Dense()", SpecError, "wrong arguments"),
        ("Dense('')", InputError, "give the model"),
        ("Dense('a', max_length='x')", InputError, "Dense.max_length='x'.: expected int"),
        ("BM25(stem=1)", InputError, "expected bool"),
        ("Random(True)", InputError, "expected int"),
        ("Lance('IVF_SQ')", InputError, "is an index, not a teacher; write Dense"),
        ("random:x", InputError, "the seed must be a whole number"),
        ("late:", InputError, "names no model; write late:<Hub id or folder>"),
    ],
)
def test_what_cannot_be_read_says_why(text, error, message):
    with pytest.raises(error, match=message):
        as_teacher_spec(text)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return Corpus.from_texts(["red cat", "blue sky", "a river of stone"], ["a", "b", "c"])


def opened(kind: str, corpus: Corpus, folder):
    """A spelling of each kind that can be opened here."""
    if kind == "Dense":
        return Dense(str(tiny.static(folder / "static")), query_prompt="red ")
    if kind in ("Sparse", "Late", "Cross"):
        make = {"Sparse": tiny.sparse, "Late": tiny.late, "Cross": tiny.cross}[kind]
        return TEACHERS[kind](str(make(folder / kind)))
    if kind == "Endpoint":
        service = services.start().openai
        return Endpoint(service.url, service.model, fingerprint="toy")
    if kind == "Run":
        (folder / "run.trec").write_text("q1 Q0 b 1 2.5 tag\nq1 Q0 a 2 -1 tag\n")
        (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "sky"}\n')
        return RunFile(str(folder / "run.trec"), str(folder / "queries.jsonl"), "dot")
    if kind == "Vectors":
        np.savez(
            folder / "v.npz",
            documents=np.eye(3)[::-1],
            queries=[[0.6, 0.8, 0]],
            query_texts=["sky"],
            ids=["c", "b", "a"],
        )
        return VectorFiles(str(folder / "v.npz"), "dot")
    return {"BM25": BM25("german", k1=1.2), "Random": Random(4), "MaxP": MaxP(BM25("german"), words=2, overlap=1)}[kind]


@pytest.mark.parametrize("kind", TEACHERS)
def test_a_teacher_records_the_spelling_that_opens_it_again(kind, corpus, tmp_path):
    context = TeacherContext(store=tmp_path / "store")
    first = open_teacher(opened(kind, corpus, tmp_path), corpus, context)
    again = open_teacher(as_teacher_spec(describe(first)["spelling"]), corpus, context)
    assert again.fingerprint == first.fingerprint and describe(again) == describe(first)
    found, same = first.search(["sky"], 2), again.search(["sky"], 2)
    assert found.doc_ids.tolist() == same.doc_ids.tolist() and found.scores.tolist() == same.scores.tolist()


def test_a_folder_of_vectors_is_read_as_a_file_of_them(corpus, tmp_path):
    np.save(tmp_path / "documents.npy", np.eye(3, dtype=np.float32))
    np.save(tmp_path / "queries.npy", np.array([[0, 1, 0]], np.float32))
    (tmp_path / "query_texts.json").write_text('["sky"]')
    assert make_teacher(f"Vectors({str(tmp_path)!r})", corpus).search(["sky"], 1).doc_ids.tolist() == [[1]]
    (tmp_path / "query_texts.json").unlink()
    with pytest.raises(InputError, match="has no 'query_texts'"):
        make_teacher(VectorFiles(str(tmp_path)), corpus)
    with pytest.raises(InputError, match=r"there is no such folder, and no such .npz file"):
        make_teacher("Vectors('nowhere')", corpus)


def test_a_run_needs_its_file_and_the_texts_of_its_queries(corpus, tmp_path):
    with pytest.raises(InputError, match="has no texts of queries; give Run"):
        make_teacher(RunFile("x.trec"), corpus)
    with pytest.raises(InputError, match=r"no such run file: x.trec"):
        make_teacher(RunFile("x.trec", queries="q.jsonl"), corpus)


def test_options_change_the_spelling_or_the_context_and_others_are_refused(corpus, tmp_path):
    folder = str(tiny.static(tmp_path / "static"))
    made = make_teacher(folder, corpus, query_prompt="red ", store=tmp_path / "s", price=None)
    assert as_teacher_spec(describe(made)["spelling"]) == Dense(folder, query_prompt="red ")
    assert made.embeddings.store.root == tmp_path / "s"
    with pytest.raises(
        InputError, match=r"the teacher \"Cross\('x'\)\" has no option 'query_prompt'; it has: revision, device"
    ):
        make_teacher("Cross('x')", corpus, query_prompt="q")
    with pytest.raises(
        InputError, match="price is for services, named by their address; the teacher 'bm25' is not one"
    ):
        make_teacher("bm25", corpus, price=1.0)
    both = make_teachers([BM25("german"), f"Dense({folder!r})"], corpus, query_prompt="red ", store=tmp_path / "s")
    assert [describe(t)["spelling"] for t in both] == ["BM25('german')", repr(Dense(folder, query_prompt="red "))]


def test_length_and_dimensions_belong_to_the_spelling(corpus, tmp_path):
    context = TeacherContext(store=tmp_path / "store")
    folder = str(tiny.static(tmp_path / "static"))
    whole = open_teacher(Dense(folder), corpus, context)
    cut = open_teacher(Dense(folder, truncate_dim=4), corpus, context)
    assert whole.embed_queries(["sky"]).shape == (1, 16) and cut.embed_queries(["sky"]).shape == (1, 4)
    assert cut.fingerprint != whole.fingerprint and "truncate_dim=4" in describe(cut)["spelling"]
