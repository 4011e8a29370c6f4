"""Texts on disk: when two count as the same, how they are found again, and what stays in memory."""

from __future__ import annotations

import gc
import pickle
import warnings
import weakref

import numpy as np
import pyarrow as pa
import pytest
from datasets import Dataset
from hypothesis import example, given
from hypothesis import strategies as st

from hf_posmine import Corpus, Qrels
from hf_posmine.core.errors import PosmineError
from hf_posmine.data import texts as module
from hf_posmine.data.texts import KeyIndex, PartWriter, TextPart, normalize, text_keys, write_part
from hf_posmine.utils import mapped

FEW = ["Alpha", "beta", " ALPHA ", "gamma", "Beta", "delta"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Paris", "pARIS"),
        ("a  b\t\nc", " a b c "),
        ("no\u00a0break", "no break"),
        ("\ufb01rst", "first"),
        ("\uff21\uff22\uff23", "abc"),
        ("Stra\u00dfe", "STRASSE"),
        ("caf\u00e9", "cafe\u0301"),
        ("\u0130stanbul", "i\u0307stanbul"),
        ("x\u00b2", "x2"),
        ("", " \n"),
    ],
)
def test_texts_that_count_as_the_same(one, other):
    assert normalize(one) == normalize(other)
    assert text_keys([one]) == text_keys([other])
    assert text_keys([one], "exact") != text_keys([other], "exact")


@pytest.mark.parametrize(("one", "other"), [("a b", "ab"), ("cafe", "caf\u00e9"), ("a.", "a"), ("1", "01")])
def test_texts_that_do_not(one, other):
    assert text_keys([one]) != text_keys([other])


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(text):
    assert normalize(normalize(text)) == normalize(text)


SPACED = st.text(
    st.sampled_from(["a", "B", "~", " ", "\t", "\n", "\r", "\x0b", "\x0c", "\x1c", "\x1f", "\x7f"]), max_size=9
)


@given(SPACED)
@example("")
@example(" a")
@example("a ")
@example("a\x1fb")
def test_ascii_is_lowered_and_its_white_space_collapsed(text):
    assert normalize(text) == " ".join(text.lower().split())


@given(st.lists(st.text(max_size=12), max_size=12), st.integers(0, 3))
def test_digests_are_over_each_text_after_its_length(texts, skipped):
    encoded = [text.encode() for text in texts[skipped:]]
    expected = b"".join(len(value).to_bytes(8, "little") + value for value in encoded)
    assert bytes(module._with_lengths(pa.array(texts, pa.string())[skipped:])) == expected


@given(st.lists(st.integers(0, 20), max_size=40), st.lists(st.integers(0, 25), max_size=10))
def test_the_key_index_finds_the_first_row(keys, wanted):
    found = KeyIndex.build(np.array(keys, np.uint64)).rows(np.array(wanted, np.uint64))
    assert found.dtype == np.int64
    assert found.tolist() == [keys.index(key) if key in keys else -1 for key in wanted]


@pytest.mark.parametrize("equal", ["64-bit hashes", "first halves of keys"])
def test_texts_that_share_64_bits_stay_apart(equal, tmp_path, monkeypatch):
    """As if somebody had written the texts so."""
    if equal == "64-bit hashes":
        monkeypatch.setattr(module.xxhash, "xxh3_64_intdigest", lambda data: 7)
    else:
        original = module.text_keys
        halves = lambda *args: np.array([b"the same" + key[:8] for key in original(*args).tolist()], "S16")  # noqa: E731
        monkeypatch.setattr(module, "text_keys", halves)
    texts = ["a victim", "a forged text", "A  Victim", "another"]
    part = write_part([(texts, ["v", "f", "w", "x"])], tmp_path, "normalized")
    assert part.take("text", np.arange(len(part))).to_pylist() == ["a victim", "a forged text", "another"]
    assert part.by_text.rows(module.text_keys([*texts, "unknown"], "normalized")).tolist() == [0, 1, 0, 2, -1]
    assert part.by_id.rows(module.text_keys("vfwx", "exact")).tolist() == [0, 1, 0, 2]


def blocks(texts, size, ids=None):
    for at in range(0, len(texts), size):
        yield texts[at : at + size], None if ids is None else ids[at : at + size]


def test_the_first_of_equal_texts_stays_and_all_ids_lead_to_it(tmp_path):
    part = write_part(blocks(FEW, 2, list("abcdef")), tmp_path, "normalized")
    assert [text for batch in part.iter_texts() for text in batch] == ["Alpha", "beta", "gamma", "delta"]
    assert part.by_text.rows(text_keys(["ALPHA", "gamma", "omega"])).tolist() == [0, 2, -1]
    assert part.by_id.rows(text_keys("abcdefg", "exact")).tolist() == [0, 1, 0, 2, 1, 3, -1]
    assert part.take("id", np.array([3, 0])).to_pylist() == ["f", "a"]
    assert (len(part), part.info["duplicates"]) == (4, 2)


def test_exact_matching_keeps_every_spelling(tmp_path):
    part = write_part(blocks([*FEW, "beta"], 3), tmp_path, "exact")
    assert (len(part), part.info["duplicates"]) == (6, 1)
    assert part.by_text.rows(text_keys(["Beta", "beta", "BETA"], "exact")).tolist() == [4, 1, -1]


def test_known_texts_are_left_out(tmp_path):
    first = write_part(blocks(FEW, 9), tmp_path, "normalized")
    second = write_part(blocks(["omega", "GAMMA", "psi"], 9), tmp_path, "normalized", [first.by_text])
    assert [text for batch in second.iter_texts() for text in batch] == ["omega", "psi"]


@pytest.mark.parametrize("chunk_rows", [1, 3, 64, 65_536])
@pytest.mark.parametrize("with_ids", [False, True])
def test_take_over_chunks_of_any_size(tmp_path, monkeypatch, chunk_rows, with_ids):
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
    texts = [f"text {number} {'é' * (number % 3)}" for number in range(100)]
    ids = [f"id{number}" for number in range(100)] if with_ids else None
    part = write_part(blocks(texts, 7, ids), tmp_path, "normalized")
    rng = np.random.default_rng(0)
    for rows in (np.arange(100), np.array([], np.int64), np.array([99]), rng.integers(0, 100, 50)):
        taken = part.take("text", rows)
        assert isinstance(taken, pa.Array)
        assert taken.to_pylist() == [texts[row] for row in rows]
        assert part.take("id", rows).to_pylist() == [ids[row] if ids else str(row) for row in rows]
    assert [text for batch in part.iter_texts(9) for text in batch] == texts


def test_a_chunk_ends_after_so_many_bytes_too(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 1000)
    texts = [f"{number} " + "x" * 300 for number in range(20)]
    part = write_part(blocks(texts, 1), tmp_path, "normalized")
    assert part._table.column("text").num_chunks > 2
    assert part.take("text", np.arange(19, -1, -1)).to_pylist() == texts[::-1]


def test_batches_and_chunks_do_not_move_the_digest_but_content_order_and_ids_do(tmp_path, monkeypatch):
    def digests(texts, size=9, ids=None, match="normalized"):
        part = write_part(blocks(texts, size, ids), tmp_path / str(len(list(tmp_path.iterdir()))), match)
        return part.digest, part.texts_digest

    base = digests(FEW)
    assert digests(FEW, 1) == base
    monkeypatch.setattr(module, "CHUNK_ROWS", 2)
    assert digests(FEW, 2) == base
    for other in (FEW[::-1], FEW[:-1], [*FEW[:-1], "delta "], ["Al", "phabeta", *FEW[2:]]):
        assert digests(other)[1] != base[1]
    with_ids = digests(FEW, 9, list("abcdef"))
    assert with_ids[0] != base[0]
    assert with_ids[1] == base[1]
    assert digests(FEW, 9, list("abcdeg"))[0] != with_ids[0]
    assert digests(["a", "b"], match="exact")[0] != digests(["a", "b"])[0]


def test_two_parts_that_differ_only_in_which_id_came_first_are_two_parts(tmp_path):
    one = write_part([(["same", "Same"], ["a", "b"])], tmp_path, "normalized")
    other = write_part([(["same", "Same"], ["b", "a"])], tmp_path, "normalized")
    assert one.take("id", np.array([0])).to_pylist() == ["a"]
    assert other.take("id", np.array([0])).to_pylist() == ["b"]


@pytest.mark.parametrize("size", [1, 7, 40])
def test_keys_sorted_range_by_range_give_the_same_part(tmp_path, monkeypatch, size):
    texts, ids = [f"Text {number % 61}" for number in range(100)], [f"id{number}" for number in range(100)]
    known = write_part(blocks(["TEXT 3", "text 50", "other"], 9), tmp_path / "known", "normalized").by_text

    def files(name):
        part = write_part(blocks(texts, 9, ids), tmp_path / name, "normalized", [known])
        return {path.name: path.read_bytes() for path in part.path.iterdir()}

    whole = files("whole")
    monkeypatch.setattr(mapped, "RANGE", size)
    monkeypatch.setattr(mapped, "BLOCK", size + 3)
    assert files("ranges") == whole


def test_lookups_are_memory_maps_and_nothing_keeps_the_strings(tmp_path):
    class Text(str):
        __slots__ = ("__weakref__",)

    alive = []

    def stream():
        for at in range(0, 3000, 500):
            block = [Text(f"document {number}") for number in range(at, at + 500)]
            alive.extend(map(weakref.ref, block))
            yield block, [str(number) for number in range(at, at + 500)]
            del block
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 500

    part = write_part(stream(), tmp_path, "normalized")
    gc.collect()
    assert not any(ref() is not None for ref in alive)
    before = pa.total_allocated_bytes()
    part.take("text", np.array([5]))
    for index in (part.by_text, part.by_id):
        assert isinstance(index.keys, np.memmap)
        assert isinstance(index.values, np.memmap)
        assert index.keys.nbytes + index.values.nbytes == 24 * 3000
    assert pa.total_allocated_bytes() - before < 10_000


def test_a_part_pickles_as_its_path(tmp_path):
    part = write_part(blocks(FEW, 9), tmp_path, "normalized")
    fresh = pickle.dumps(part)
    part.take("text", np.arange(4))
    _ = part.by_text, part.by_id, part.info
    assert pickle.dumps(part) == fresh
    assert pickle.loads(fresh) == part
    assert pickle.loads(fresh).take("text", np.array([3])).to_pylist() == ["delta"]


def test_only_finished_parts_lie_in_the_folder(tmp_path):
    part = write_part(blocks(FEW, 2), tmp_path, "normalized")
    again = write_part(blocks(FEW, 2), tmp_path, "normalized")
    assert again == part
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [part.path]


def test_an_abandoned_part_leaves_nothing(tmp_path):
    def broken():
        yield ["one"], None
        raise RuntimeError("the source failed")

    with pytest.raises(RuntimeError, match="the source failed"):
        write_part(broken(), tmp_path, "normalized")
    gc.collect()
    assert list(tmp_path.iterdir()) == []


def test_no_texts_make_an_empty_part(tmp_path):
    with PartWriter(tmp_path, "normalized") as writer:
        writer.add([])
        part = writer.finish()
    assert isinstance(part, TextPart)
    assert len(part) == 0
    assert part.take("text", np.array([], np.int64)).to_pylist() == []
    assert part.by_text.rows(text_keys(["a"])).tolist() == [-1]
    assert list(part.iter_texts()) == []


LEFT_OPEN = {
    "documents": lambda: Corpus.from_texts(["one", 2]),
    "documents with ids": lambda: Corpus.from_texts(["one", "two"], ids=["a", None]),
    "documents with titles": lambda: Corpus.from_dataset(
        Dataset.from_dict({"title": ["t", "u"], "text": ["one", None]})
    ),
    "known positives": lambda: Qrels.from_dataset(Dataset.from_dict({"query": ["q", None], "positive": ["p", "p"]})),
    "positives by id": lambda: Qrels.from_dataset(
        Dataset.from_dict({"query": ["q", "r"], "id": ["p", None]}), positive=None, positive_id="id"
    ),
    "no rows": lambda: Qrels.from_dataset(Dataset.from_dict({"query": [], "positive": []})),
}


@pytest.mark.parametrize("make", LEFT_OPEN.values(), ids=LEFT_OPEN)
def test_an_error_leaves_no_file_open_and_nothing_staged(make, fresh_home):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(PosmineError) as caught:
            make()
        assert not list(fresh_home.rglob("*.tmp-*"))
        del caught  # and with it the frames of the call
        gc.collect()
    assert [str(one.message) for one in found if one.category is ResourceWarning] == []
