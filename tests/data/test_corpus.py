"""Corpus and Qrels: what counts as one document, where its ids lead, and what every kind of source gives."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict, Features, Image, Value
from datasets.fingerprint import Hasher

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data import qrels as qrels_module
from hf_posmine.data import texts as texts_module
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.images import image_name
from hf_posmine.data.qrels import OUTSIDE, Qrels
from hf_posmine.data.texts import KeyIndex, text_keys
from hf_posmine.utils import mapped as mapped_module
from tests.conftest import SAMPLE
from tests.support.pages import encoded, page

TEXTS = ["Paris is in France.", "paris is  in france.", "Rome is in Italy.", "Oslo is in Norway."]
UNIQUE = [TEXTS[0], TEXTS[2], TEXTS[3]]
pytestmark = pytest.mark.usefixtures("fresh_home")


def all_texts(corpus: Corpus) -> list[str]:
    return corpus.texts(np.arange(len(corpus))).to_pylist()


def all_ids(corpus: Corpus) -> list[str]:
    return corpus.ids(np.arange(len(corpus))).to_pylist()


def rows(dataset_columns: dict) -> Dataset:
    return Dataset.from_dict(dataset_columns)


# Corpus


def test_duplicates_merge_and_every_id_leads_to_the_row_that_stayed():
    corpus = Corpus.from_texts(TEXTS, ids="abcd")
    assert all_texts(corpus) == UNIQUE
    assert all_ids(corpus) == ["a", "c", "d"]
    assert corpus.rows_of_ids("abcdx").tolist() == [0, 0, 1, 2, -1]
    assert corpus.rows_of_texts(["PARIS IS IN FRANCE.", "Oslo is in Norway.", "Nowhere"]).tolist() == [0, 2, -1]
    assert (len(corpus), corpus.duplicates, corpus.num_candidates) == (3, 1, 3)


def test_the_number_of_duplicates_is_that_of_this_source():
    assert Corpus.from_texts(["a", "b"]).duplicates == 0
    assert Corpus.from_texts(["a", "A", "b"]).duplicates == 1


def test_without_ids_the_row_number_is_the_id():
    corpus = Corpus.from_texts(UNIQUE)
    assert all_ids(corpus) == ["0", "1", "2"]
    assert corpus.rows_of_ids(["2", 0, "3"]).tolist() == [2, 0, -1]


def test_exact_matching_is_on_request():
    corpus = Corpus.from_texts(TEXTS, match="exact")
    assert len(corpus) == 4
    assert corpus.rows_of_texts([TEXTS[1], TEXTS[1].upper()]).tolist() == [1, -1]


SOURCES = {
    "list": lambda tmp: Corpus.from_texts(TEXTS, ids=["7", "8", "9", "10"]),
    "whole-number ids": lambda tmp: Corpus.from_texts(TEXTS, ids=range(7, 11)),
    "generator": lambda tmp: Corpus.from_texts((t for t in TEXTS), ids=(i for i in range(7, 11))),
    "numpy": lambda tmp: Corpus.from_texts(np.array(TEXTS), ids=np.arange(7, 11)),
    "Arrow": lambda tmp: Corpus.from_texts(pa.array(TEXTS), ids=pa.array(["7", "8", "9", "10"])),
    "chunked Arrow": lambda tmp: Corpus.from_texts(pa.chunked_array([TEXTS[:1], TEXTS[1:]]), ids=range(7, 11)),
    "column": lambda tmp: Corpus.from_texts(dataset()["text"], ids=dataset()["id"]),
    "Dataset": lambda tmp: Corpus.from_dataset(dataset(), id="id"),
    "formatted Dataset": lambda tmp: Corpus.from_dataset(dataset().with_format("numpy"), id="id"),
    "IterableDataset": lambda tmp: Corpus.from_dataset(dataset().to_iterable_dataset(), id="id"),
    "nameless IterableDataset": lambda tmp: Corpus.from_dataset(dataset().to_iterable_dataset().map(dict), id="id"),
    "DatasetDict": lambda tmp: Corpus.from_dataset(
        DatasetDict({"a": dataset().select([0, 1]), "b": dataset().select([2, 3])}), id="id"
    ),
    "parquet": lambda tmp: from_file(tmp, "parquet"),
    "jsonl": lambda tmp: from_file(tmp, "json", "jsonl"),
    "csv": lambda tmp: from_file(tmp, "csv"),
}


def pictures() -> Dataset:
    """The same with a page for each text, the second of which is the first in another file."""
    same = [TEXTS[0], TEXTS[0], *TEXTS[2:]]
    files = [encoded(page(text), form) for text, form in zip(same, ("PNG", "BMP", "PNG", "PNG"), strict=True)]
    kinds = Features({"id": Value("int64"), "text": Image(), "other": Value("string")})
    values = {"id": [7, 8, 9, 10], "text": [{"bytes": file, "path": None} for file in files], "other": [None] * 4}
    return Dataset.from_dict(values, features=kinds)


OF_IMAGES = {
    "list": lambda tmp: Corpus.from_images(pictures()["text"][:], ids=["7", "8", "9", "10"]),
    "encoded": lambda tmp: Corpus.from_images([v["bytes"] for v in undecoded()["text"]], ids=range(7, 11)),
    "generator": lambda tmp: Corpus.from_images((i for i in pictures()["text"]), ids=(i for i in range(7, 11))),
    "column": lambda tmp: Corpus.from_texts(pictures()["text"], ids=pictures()["id"]),
    "Dataset": lambda tmp: Corpus.from_dataset(pictures(), id="id"),
    "undecoded Dataset": lambda tmp: Corpus.from_dataset(undecoded(), id="id"),
    "formatted Dataset": lambda tmp: Corpus.from_dataset(pictures().with_format("numpy"), id="id"),
    "IterableDataset": lambda tmp: Corpus.from_dataset(pictures().to_iterable_dataset(), id="id"),
    "nameless IterableDataset": lambda tmp: Corpus.from_dataset(pictures().to_iterable_dataset().map(dict), id="id"),
    "DatasetDict": lambda tmp: Corpus.from_dataset(
        DatasetDict({"a": pictures().select([0, 1]), "b": pictures().select([2, 3])}), id="id"
    ),
    "parquet": lambda tmp: from_file(tmp, "parquet", of=pictures()),
    "union": lambda tmp: Corpus.from_dataset(pictures().select([0, 1]), id="id").union(
        Corpus.from_dataset(pictures().select([1, 2, 3]), id="id")
    ),
}


def undecoded() -> Dataset:
    return pictures().cast_column("text", Image(decode=False))


def dataset() -> Dataset:
    return rows({"id": [7, 8, 9, 10], "text": TEXTS, "other": [None] * 4})


def from_file(folder, kind: str, suffix: str | None = None, of: Dataset | None = None) -> Corpus:
    whole = (dataset() if of is None else of).remove_columns("other")
    files = [folder / f"{part}.{suffix or kind}" for part in "ab"]
    for number, file in enumerate(files):
        getattr(whole.shard(2, number, contiguous=True), f"to_{kind}")(str(file))
    return Corpus.from_files(files, id="id")


@pytest.mark.parametrize(
    ("kind", "source"), [*(("texts", name) for name in SOURCES), *(("images", name) for name in OF_IMAGES)]
)
def test_every_kind_of_source_gives_the_same_corpus(kind, source, tmp_path):
    sources = SOURCES if kind == "texts" else OF_IMAGES
    corpus = sources[source](tmp_path)
    assert all_texts(corpus) == (UNIQUE if kind == "texts" else [image_name(page(text)) for text in UNIQUE])
    assert all_ids(corpus) == ["7", "9", "10"] and corpus.rows_of_ids(range(7, 12)).tolist() == [0, 0, 1, 2, -1]
    if kind == "images":
        assert [image_name(item.open()) for item in corpus.items(np.arange(3))] == all_texts(corpus)
    assert source == "union" or corpus.fingerprint == sources["list"](tmp_path).fingerprint


def test_lists_of_texts_become_one_document_each():
    corpus = Corpus.from_dataset(rows({"passages": [["a", "b"], ["A", "c"]]}), text="passages")
    assert all_texts(corpus) == ["a", "b", "c"]


def test_a_title_comes_before_the_text_as_in_beir():
    data = rows({"title": ["One", None, ""], "text": ["first", "second", "third"], "id": ["x", "y", "z"]})
    assert all_texts(Corpus.from_dataset(data, id="id", title="title")) == ["One first", "second", "third"]


def write_beir(folder, ids=("d1", "d2"), kind="jsonl"):
    """A BEIR folder whose query i is answered by document i."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": i, "title": "T", "text": f"text of {i}"} for i in ids]
    if kind == "jsonl":
        (folder / "corpus.jsonl").write_text("".join(json.dumps(d) + "\n" for d in documents))
    else:
        Dataset.from_list(documents).remove_columns("title").to_parquet(folder / "corpus.parquet")
    queries = [{"_id": i, "text": f"query {i}"} for i in ids]
    (folder / "queries.jsonl").write_text("".join(json.dumps(q) + "\n" for q in queries))
    lines = ["query-id\tcorpus-id\tscore", *(f"{i}\t{i}\t1" for i in ids)]
    (folder / "qrels" / "train.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_beir_folders_with_and_without_titles(tmp_path):
    assert all_texts(Corpus.from_beir(write_beir(tmp_path / "a"))) == ["T text of d1", "T text of d2"]
    untitled = Corpus.from_beir(write_beir(tmp_path / "b", kind="parquet"))
    assert all_texts(untitled) == ["text of d1", "text of d2"]
    assert all_ids(untitled) == ["d1", "d2"]


def test_the_union_keeps_rows_and_adds_what_is_new():
    first = Corpus.from_texts(UNIQUE, ids="abc")
    union = first.union(["rome is in italy.", "Bern is in Switzerland."]).union(["Kyiv is in Ukraine."])
    assert all_texts(union) == [*UNIQUE, "Bern is in Switzerland.", "Kyiv is in Ukraine."]
    assert all_ids(union) == ["a", "b", "c", "row-3", "row-4"]
    assert union.parts[0] == first.parts[0]
    assert union.num_candidates == 5
    assert union.rows_of_texts(["BERN is in Switzerland.", "kyiv is in ukraine.", UNIQUE[1]]).tolist() == [3, 4, 1]
    assert union.texts(np.array([4, 0, 3, 3, 2])).to_pylist() == [all_texts(union)[row] for row in (4, 0, 3, 3, 2)]
    assert union.ids(np.array([4, 0, 3])).to_pylist() == ["row-4", "a", "row-3"]
    assert union.starts.tolist() == [0, 3, 4, 5]


def test_the_union_of_two_corpora_keeps_all_their_ids():
    one = Corpus.from_texts(UNIQUE, ids="abc")
    other = Corpus.from_texts(["ROME is in Italy.", "Bern", "bern"], ids=["rome", "bern", "bern2"])
    union = one.union(other)
    assert all_ids(union) == ["a", "b", "c", "bern"]
    assert union.rows_of_ids(["a", "c", "bern"]).tolist() == [0, 2, 3]
    assert union.rows_of_ids(["rome"]).tolist() == [1]  # the id of a document that the first corpus had already
    assert union.rows_of_ids(["bern2"]).tolist() == [3]  # the id of a duplicate within the second


def test_a_union_in_which_one_id_names_two_documents_is_an_error():
    with pytest.raises(InputError, match="the id 'a' names two different documents"):
        Corpus.from_texts(["x"], ids=["a"]).union(Corpus.from_texts(["y"], ids=["a"]))


def test_a_union_that_adds_nothing_is_the_same_corpus():
    corpus = Corpus.from_texts(UNIQUE)
    assert corpus.union([t.upper() for t in UNIQUE]) == corpus


def test_known_documents_are_no_candidates():
    corpus = Corpus.from_texts(UNIQUE).union(["Bern"], candidates=False)
    assert (len(corpus), corpus.num_candidates) == (4, 3)
    assert corpus.rows_of_texts(["bern"]).tolist() == [3]
    assert corpus.fingerprint != Corpus.from_texts(UNIQUE).union(["Bern"]).fingerprint
    with pytest.raises(InputError, match="add candidates before"):
        corpus.union(["Kyiv"])


@pytest.mark.parametrize("chunk_rows", [1, 3])
def test_many_parts_of_many_chunks(monkeypatch, chunk_rows):
    monkeypatch.setattr(texts_module, "CHUNK_ROWS", chunk_rows)
    expected = [f"part {part} text {number}" for part in range(6) for number in range(part + 1)]
    corpus = Corpus.from_texts(expected[:1])
    for part in range(1, 6):
        corpus = corpus.union([text for text in expected if text.startswith(f"part {part}")])
    assert len(corpus.parts) == 6
    at = np.random.default_rng(0).permutation(len(expected))
    assert corpus.texts(at).to_pylist() == [expected[row] for row in at]
    assert corpus.ids(at).to_pylist() == [str(row) for row in at]
    assert np.array_equal(corpus.rows_of_texts(expected), np.arange(len(expected)))
    assert corpus.texts(np.array([], np.int64)).to_pylist() == []


def test_the_fingerprint_is_of_the_content_wherever_it_lies(tmp_path):
    def corpus(texts=TEXTS, folder="a", **kwargs):
        return Corpus.from_texts(texts, cache_dir=tmp_path / folder, **kwargs)

    base = corpus()
    assert corpus(folder="b").fingerprint == base.fingerprint
    assert str(tmp_path / "b") in str(corpus(folder="b").parts[0].path)
    others = [
        corpus(TEXTS[::-1]),
        corpus(TEXTS[:-1]),
        corpus([*TEXTS, "x"]),
        corpus(ids="abcd"),
        corpus(ids="abdc"),
        corpus(match="exact"),
        corpus(TEXTS[:3]).union(TEXTS[3:]),
    ]
    prints = [base.fingerprint, *(other.fingerprint for other in others)]
    assert len(set(prints)) == len(prints)
    assert others[-1].fingerprint == corpus(TEXTS[:3], "b").union(TEXTS[3:]).fingerprint


def test_a_corpus_pickles_as_its_paths_before_and_after_use():
    corpus = Corpus.from_texts([f"a document of some length, number {n}" for n in range(500)])
    fresh, hashed = pickle.dumps(corpus), Hasher.hash(corpus)
    corpus.rows_of_texts(all_texts(corpus))
    corpus.rows_of_ids(all_ids(corpus))
    _ = corpus.fingerprint
    assert (pickle.dumps(corpus), Hasher.hash(corpus)) == (fresh, hashed)
    assert len(fresh) < 1000
    again = pickle.loads(fresh)
    assert again == corpus
    assert all_texts(again) == all_texts(corpus)


def test_lookups_hold_arrays_and_no_texts():
    corpus = Corpus.from_texts([f"document {n}" for n in range(1000)], ids=range(1000)).union(["one more"])
    corpus.rows_of_texts(["document 7"])
    corpus.rows_of_ids(["7"])
    for part in corpus.parts:
        held = {name: value for name, value in vars(part).items() if name not in ("path", "info")}
        assert {type(value) for value in held.values()} <= {KeyIndex, pa.Table, np.ndarray}
        for index in (part.by_text, part.by_id):
            assert {type(value) for value in vars(index).values()} == {np.memmap}
    assert corpus.kept == {}
    assert {type(value) for value in vars(corpus).values()} <= {tuple, int, str, np.ndarray, type(None), KeyIndex, dict}


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Corpus.from_texts([]), InputError, "the corpus has no documents"),
        (lambda: Corpus.from_texts("one text"), InputError, "got one string 'one text'; put it in a list"),
        (lambda: Corpus.from_texts(["a"], ids=[1, 2]), InputError, "1 texts and 2 ids"),
        (lambda: Corpus.from_texts(["a", None]), ColumnError, r"'texts', row 1: expected a text, got None"),
        (lambda: Corpus.from_texts(["a"] * 8192 + [float("nan")]), ColumnError, r"row 8192: .* got nan \(float\)"),
        (lambda: Corpus.from_texts(["a"], ids=[1.5]), ColumnError, r"'ids', row 0: expected an id, got 1\.5"),
        (lambda: Corpus.from_texts(["a"], match="fuzzy"), InputError, "match='fuzzy'; choose"),
        (lambda: Corpus.from_texts(["a", "b", "c"], ids="xyx"), InputError, r"id 'x' names two .*'a'.* 'c'"),
        (lambda: Corpus.from_texts(["a", "A", "c"], ids="xyy"), InputError, r"id 'y' names two .*'a'.* 'c'"),
        (lambda: Corpus.from_texts(["fine", "half \ud800"]), ColumnError, "row 1"),
        (lambda: Corpus.from_dataset(rows({"t": ["a"]}), "s"), ColumnError, r"'s' is not in .* columns are \['t'\]"),
        (lambda: Corpus.from_dataset(rows({"text": ["a", None]})), ColumnError, "'text', row 1: expected a text"),
        (lambda: Corpus.from_dataset(rows({"text": [["a"], []]})), ColumnError, "'text', row 1: an empty list"),
        (lambda: Corpus.from_dataset(rows({"text": [["a", None]]})), ColumnError, "row 0: expected texts, found None"),
        (lambda: Corpus.from_dataset(rows({"text": [1, 2]})), ColumnError, r"row 0: expected a text, got 1 \(int\)"),
        (lambda: Corpus.from_dataset(DatasetDict()), InputError, "has no splits|no documents"),
        (lambda: Corpus.from_files("nowhere.parquet"), InputError, "no such file: nowhere.parquet"),
        (
            lambda: Corpus.from_beir("nowhere"),
            InputError,
            "'nowhere' is not a folder; pass one with corpus, queries and qrels",
        ),
    ],
)
def test_bad_input_names_the_place_and_the_cure(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_an_error_message_shows_a_document():
    assert "document 'b' ('Rome is in Italy.'" in Corpus.from_texts(UNIQUE, ids="abc").describe(1)


# Qrels


def positives_of(qrels: Qrels, corpus: Corpus, query: str) -> list[int]:
    _, found, relevant = qrels.resolve(corpus).of(text_keys([query]))
    return found[relevant].tolist()


def test_positives_of_one_query_come_together_over_the_whole_dataset():
    corpus = Corpus.from_texts(["a", "b", "c", "d"])
    qrels = Qrels.from_columns(["q", "r", " Q ", "q"], ["a", "b", "C", "a"])
    assert (qrels.num_queries, qrels.num_judgements) == (2, 4)
    assert positives_of(qrels, corpus, "Q") == [0, 2]
    assert positives_of(qrels, corpus, "r") == [1]
    assert positives_of(qrels, corpus, "unknown") == []
    assert qrels.resolve(corpus).all_positive_rows.tolist() == [0, 1, 2]


QRELS_SOURCES = {
    "columns": lambda: Qrels.from_columns(["q", "r"], [["a", "c"], "b"]),
    "lists": lambda: Qrels.from_dataset(
        rows({"query": ["q", "r"], "positive": [["a", "c"], ["b"]]}), positive="positive"
    ),
    "rows": lambda: Qrels.from_dataset(
        rows({"question": ["q", "q", "r"], "answer": ["a", "c", "b"]}), query="question", positive="answer"
    ),
    "stream": lambda: Qrels.from_dataset(
        rows({"query": ["q", "q", "r"], "pos": ["a", "c", "b"]}).to_iterable_dataset(), positive="pos"
    ),
    "ids": lambda: Qrels.from_dataset(rows({"query": ["q", "q", "r"], "doc": [10, 12, 11]}), positive_id="doc"),
    "lists of ids": lambda: Qrels.from_dataset(
        rows({"query": ["q", "r"], "doc": [["10", "12"], ["11"]]}), positive_id="doc"
    ),
    "splits": lambda: Qrels.from_dataset(
        DatasetDict(a=rows({"query": ["q"], "p": ["a"]}), b=rows({"query": ["q", "r"], "p": ["c", "b"]})), positive="p"
    ),
    "judgements": lambda: Qrels.from_judgements([1, 1, "2"], [10, 12, 11], [1, 2, 1], {"1": "q", "2": "r"}),
}


@pytest.mark.parametrize("source", QRELS_SOURCES)
def test_every_kind_of_source_gives_the_same_positives(source):
    corpus, qrels = Corpus.from_texts(["a", "b", "c"], ids=[10, 11, 12]), QRELS_SOURCES[source]()
    assert positives_of(qrels, corpus, "q") == [0, 2]
    assert positives_of(qrels, corpus, "r") == [1]
    assert all_texts(qrels.queries) == ["q", "r"]
    for array in (qrels.query_keys, qrels.document_keys, qrels.relevant):
        assert isinstance(array, np.ndarray)
        assert len(array) == qrels.num_judgements == 3


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize("source", QRELS_SOURCES)
def test_many_judgements_are_maps_of_files_and_the_same(source, size, fresh_home, monkeypatch):
    corpus = Corpus.from_texts(["a", "b"], ids=[10, 11]).union(Corpus.from_texts(["c"], ids=[12]))
    small = QRELS_SOURCES[source]()
    held = small.resolve(corpus)
    monkeypatch.setattr(qrels_module, "SMALL", 0)
    monkeypatch.setattr(mapped_module, "RANGE", size)
    large = QRELS_SOURCES[source]()
    again = pickle.loads(pickle.dumps(large))
    for qrels in (large, again):
        assert qrels.fingerprint == small.fingerprint
        assert {type(getattr(qrels, name)) for name in ("query_keys", "document_keys", "relevant")} == {np.memmap}
        mapped = qrels.resolve(corpus)
        for name in ("keys", "offsets", "rows", "relevant"):
            assert isinstance(getattr(mapped, name), np.memmap)
            assert getattr(mapped, name).tolist() == getattr(held, name).tolist()
        assert mapped.all_positive_rows.tolist() == held.all_positive_rows.tolist()
    assert len(list((fresh_home / "known").glob("*/files.json"))) == 1  # made once, for everybody
    if source in ("ids", "lists of ids", "judgements"):
        with pytest.raises(InputError, match="judgements name document ids that the corpus lacks"):
            large.resolve(Corpus.from_texts(["a"], ids=[10]))
        assert len(list((fresh_home / "known").glob("*/files.json"))) == 1


def test_scores_below_zero_are_unknown_and_zero_is_dropped():
    corpus = Corpus.from_texts(["a", "b", "c"], ids="abc")
    qrels = Qrels.from_judgements("qqq", "abc", [1, 0, -1], {"q": "query"})
    known = qrels.resolve(corpus)
    _, found, relevant = known.of(text_keys(["query"]))
    assert dict(zip(found.tolist(), relevant.tolist(), strict=True)) == {0: True, 2: False}
    assert known.all_positive_rows.tolist() == [0]


def test_the_ids_of_duplicates_name_the_same_document():
    corpus = Corpus.from_texts(["a", "A", "b"], ids="xyz")
    qrels = Qrels.from_judgements("qq", "xy", [1, 1], {"q": "query"})
    assert positives_of(qrels, corpus, "query") == [0]


def test_positives_outside_the_corpus_keep_their_text():
    qrels = Qrels.from_columns(["q", "q", "r"], ["a", "Elsewhere", "Nowhere"])
    known = qrels.resolve(Corpus.from_texts(["a"]))
    _, found, relevant = known.of(text_keys(["q"]))
    outside = OUTSIDE - found[found < 0]
    assert qrels.documents.texts(outside).to_pylist() == ["Elsewhere"]
    assert relevant.all()
    assert known.all_positive_rows.tolist() == [0]


def test_positives_match_as_the_corpus_does_or_the_mismatch_is_named():
    corpus = Corpus.from_texts(["Paris", "paris", "Rome"], match="exact")
    known = Qrels.from_columns(["capital"], ["Paris"], match="exact").resolve(corpus)
    assert known.all_positive_rows.tolist() == [0]
    with pytest.raises(InputError, match="match texts 'normalized', the corpus 'exact'"):
        Qrels.from_columns(["capital"], ["Paris"]).resolve(corpus)


def test_judged_ids_name_documents_of_a_corpus_that_matches_exactly():
    corpus = Corpus.from_texts(["Paris", "paris"], ids="xy", match="exact")
    known = Qrels.from_judgements("q", "y", [1], {"q": "query"}).resolve(corpus)
    assert known.all_positive_rows.tolist() == [1]


def test_a_missing_id_is_an_error_with_a_sample_of_the_ids():
    qrels = Qrels.from_judgements("qq", "ax", [1, 1], {"q": "query"})
    with pytest.raises(InputError, match=r"1 of 2 judgements name document ids that the corpus lacks.*such as 'a'"):
        qrels.resolve(Corpus.from_texts(["text"], ids=["a"]))


def test_beir_judgements_of_the_embedded_sample(sample_corpus, sample_pairs):
    qrels = Qrels.from_beir(SAMPLE)
    known = qrels.resolve(sample_corpus)
    assert qrels.num_queries == len(set(sample_pairs["query"]))
    expected = sample_corpus.rows_of_ids(sample_pairs["positive_id"])
    queries, rows, _ = known.of(text_keys(sample_pairs["query"]))
    found = set(zip(queries.tolist(), rows.tolist(), strict=True))
    assert set(enumerate(expected.tolist())) <= found


@pytest.mark.parametrize("ids", [("007", "010"), ("1e5", "2e5"), ("NA", "12"), ("1", "NULL"), ("True", "False")])
def test_beir_ids_are_texts_however_they_look(tmp_path, ids):
    folder = write_beir(tmp_path / "beir", ids)
    corpus, qrels = Corpus.from_beir(folder), Qrels.from_beir(folder)
    assert [positives_of(qrels, corpus, f"query {i}") for i in ids] == [[0], [1]]


def test_the_fingerprint_of_qrels_is_of_their_content(tmp_path):
    def build(queries=("q", "r"), positives=("a", "b"), folder="a"):
        return Qrels.from_columns(queries, positives, cache_dir=tmp_path / folder)

    base = build()
    assert build(folder="b").fingerprint == base.fingerprint
    assert build(positives=("a", "c")).fingerprint != base.fingerprint
    assert build(queries=("q", "s")).fingerprint != base.fingerprint
    assert pickle.loads(pickle.dumps(base)).fingerprint == base.fingerprint
    signs = [Qrels.from_judgements("q", "a", [s], {"q": "q"}).fingerprint for s in (1, -1)]
    assert signs[0] != signs[1]


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: Qrels.from_columns(["q"], ["a", "b"]), InputError, "1 queries and 2 positives"),
        (lambda: Qrels.from_columns(["q", None], ["a", "b"]), ColumnError, r"1 with an empty query \(row 1\)"),
        (lambda: Qrels.from_columns(["q"], [[]]), ColumnError, r"1 with no positive \(row 0\)"),
        (lambda: Qrels.from_columns(["q"], [["a", None]]), ColumnError, r"1 with an empty positive \(row 0\)"),
        (lambda: Qrels.from_columns([], []), InputError, "no rows|at least one"),
        (lambda: Qrels.from_dataset(rows({"query": ["q"]})), InputError, "give positive= .* or positive_id="),
        (lambda: Qrels.from_dataset(rows({"query": ["q"]}), positive="p"), ColumnError, "'p' is not in the dataset"),
        (
            lambda: Qrels.from_dataset(rows({"query": ["q"], "d": [None]}), positive_id="d"),
            ColumnError,
            r"'d': 1 row cannot be mined, 1 with no positive \(row 0\)",
        ),
        (lambda: Qrels.from_judgements("qx", "ab", [1, 1], {"q": "t"}), InputError, "queries .* such as 'x'"),
        (lambda: Qrels.from_beir(SAMPLE, "dev"), InputError, r"no judgements for split 'dev'.*there are: \["),
    ],
)
def test_bad_judgements_name_the_place_and_the_cure(make, error, says):
    with pytest.raises(error, match=says):
        make()


def test_row_numbers_are_no_ids_where_duplicates_were_dropped():
    corpus = Corpus.from_texts(["a", "A", "b"])
    with pytest.raises(InputError, match="1 duplicates were dropped, so its row numbers are not those of the source"):
        corpus.rows_of_ids(["1"])


def test_documents_without_ids_beside_some_with_ids_are_named_by_their_row():
    corpus = Corpus.from_texts(["a", "b"]).union(Corpus.from_texts(["x", "y"], ids=["1", "k"]))
    assert corpus.ids(np.arange(4)).to_pylist() == ["row-0", "row-1", "1", "k"]
    assert corpus.rows_of_ids(["row-1", "1", "k", "0"]).tolist() == [1, 2, 3, -1]
