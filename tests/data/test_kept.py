"""Documents that share a value of a column with a positive are no negatives, against sets of plain Python."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data import kept

VALUES = st.one_of(st.none(), st.sampled_from(["a", "b", "c", ""]), st.lists(st.sampled_from("ab"), max_size=2))
ROWS = st.lists(st.tuples(st.sampled_from(["Elbe", "elbe ", "Alster", "Bille", "Oste", "Seeve"]), VALUES), min_size=1)
WORDS = "river mountain city bridge harbour island forest castle".split()


def members(value: object) -> set[str]:
    return {v for v in (value if isinstance(value, list) else [value]) if v}


def shared(rows: list[tuple[str, object]]) -> dict[str, set[str]]:
    """Of each text, as it is compared, the texts of all rows that share a value with any row of that text."""
    plain = [(text.strip().casefold(), members(value)) for text, value in rows]
    own: dict[str, set[str]] = {}
    for text, values in plain:
        own.setdefault(text, set()).update(values)
    return {text: {other for other, theirs in own.items() if theirs & values} for text, values in own.items()}


@settings(max_examples=60, deadline=None)
@given(ROWS, ROWS)
def test_shared_values_are_those_of_every_pair_of_rows_also_after_a_union(first, second):
    def corpus(rows):
        listed = [{"text": text, "of": sorted(members(value))} for text, value in rows]
        return Corpus.from_dataset(Dataset.from_list(listed), keep=["of"])

    for made, rows in ((corpus(first), first), (corpus(first).union(corpus(second)), [*first, *second])):
        every = np.arange(len(made))
        at, found = made.kept["of"].with_same(every, every)
        texts = [text.casefold().strip() for text in made.texts(every).to_pylist()]
        got = {text: {texts[row] for row in found[at == number]} for number, text in enumerate(texts)}
        assert got == shared(rows)


def chunks(documents: int = 6, each: int = 3) -> list[dict[str, object]]:
    return [
        {
            "chunk_id": f"{document}-{part}",
            "doc_id": document,
            "text": f"the {WORDS[document]} of {WORDS[part]} {document}",
        }
        for document in range(documents)
        for part in range(each)
    ]


def pairs() -> list[dict[str, str]]:
    return [{"query": f"{WORDS[row]} of harbour", "positive_id": f"{row}-1"} for row in range(6)]


def documents_of(mined: Dataset) -> list[set[str]]:
    return [{name.split("-")[0] for name in ids} for ids in mined["negatives_ids"]]


def test_chunks_of_the_positives_document_are_left_out_by_default_and_counted(toy_model):
    options = {"fingerprint": "toy"}
    how = {"filters": (), "num_negatives": 17, "keep": ("ids", "stats"), "teacher_options": options}
    made = {}
    for name, same in (("default", {}), ("off", {"exclude_same": ()})):
        miner = PositiveAwareMiner.from_dataset(Dataset.from_list(pairs()), toy_model, corpus=chunks(), **how, **same)
        made[name] = mine(Dataset.from_list(pairs()), miner)
        assert miner.settings.exclude_same == (("doc_id",) if name == "default" else ())
        assert ("no negatives of the same doc_id as a positive (6 values)" in str(miner.data)) == (name == "default")
    assert documents_of(made["default"]) == [set(map(str, range(6))) - {str(row)} for row in range(6)]
    assert all(str(row) in found for row, found in enumerate(documents_of(made["off"])))
    assert [row["excluded_same_source"] for row in made["default"]["negatives_stats"]] == [2] * 6
    assert [row["excluded_same_source"] for row in made["off"]["negatives_stats"]] == [0] * 6


def test_siblings_of_every_known_positive_of_the_query_are_left_out(toy_model):
    rows = Dataset.from_list([{"query": "river", "positive_id": name} for name in ("0-1", "3-0")])
    how = {"filters": (), "num_negatives": 12, "keep": ("ids",), "teacher_options": {"fingerprint": "toy"}}
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, toy_model, corpus=chunks(), **how))
    assert documents_of(mined) == [{"1", "2", "4", "5"}] * 2


def test_a_positive_that_only_a_chunk_contains_leaves_out_that_chunks_document(toy_model):
    corpus = [row | {"text": f"{row['text']} and nothing else at all"} for row in chunks()]
    rows = Dataset.from_list([{"query": "castle", "positive": chunks()[4]["text"]}])
    how = {"filters": (), "num_negatives": 15, "keep": ("ids",), "teacher_options": {"fingerprint": "toy"}}
    mined = mine(rows, PositiveAwareMiner.from_dataset(rows, toy_model, corpus=corpus, **how))
    assert documents_of(mined) == [{"0", "2", "3", "4", "5"}]


def test_the_rows_own_column_counts_where_the_positives_are_the_corpus(toy_model):
    rows = [
        {"query": f"{row['text']}?", "positive": [row["text"], f"more {row['text']}"], "work": row["doc_id"]}
        for row in chunks(3, 2)
    ]
    how = {"filters": (), "num_negatives": 12, "exclude_same": "work", "teacher_options": {"fingerprint": "toy"}}
    data = Dataset.from_list(rows)
    mined = mine(data, PositiveAwareMiner.from_dataset(data, toy_model, **how))
    every = {text: row["work"] for row in rows for text in row["positive"]}
    expected = [{text for text, work in every.items() if work != row["work"]} for row in rows]
    assert [set(found) for found in mined["negatives"]] == expected


def test_a_miner_is_known_by_who_shares_what_and_not_by_names_of_values(toy_model):
    def fingerprint(values):
        corpus = Corpus.from_dataset([row | {"of": v} for row, v in zip(chunks(), values, strict=True)], keep=["of"])
        how = {"exclude_same": "of", "teacher_options": {"fingerprint": "toy"}, "positive_id_column": "positive_id"}
        miner = PositiveAwareMiner.from_dataset(Dataset.from_list(pairs()), toy_model, corpus=corpus, **how)
        assert pickle.loads(pickle.dumps(miner)).fingerprint == miner.fingerprint
        return miner.fingerprint

    values = [row["doc_id"] % 2 for row in chunks()]
    assert (
        fingerprint(values)
        == fingerprint(list(values))
        != fingerprint([value if at else 2 for at, value in enumerate(values)])
    )


@pytest.mark.parametrize(
    ("same", "message"),
    [
        ("book", "exclude_same='book': the corpus keeps no such column, only .'doc_id', 'one'.; make it with"),
        ("one", "exclude_same='one': 18 of 18 documents have the value 'x'"),
        ("", "exclude_same=''; expected names of columns"),
        ([1], r"exclude_same=\[1\]; expected names of columns"),
    ],
)
def test_a_column_that_cannot_tell_documents_apart_is_refused(toy_model, same, message):
    corpus = Corpus.from_dataset([row | {"one": "x"} for row in chunks()], keep=["one"])
    options = {"teacher_options": {"fingerprint": "toy"}, "exclude_same": same}
    with pytest.raises(InputError, match=message):
        PositiveAwareMiner.from_dataset(Dataset.from_list(pairs()), toy_model, corpus=corpus, **options)


def test_very_large_groups_are_refused(monkeypatch, toy_model):
    monkeypatch.setattr(kept, "MOST_SHARING", 3)
    corpus = Corpus.from_dataset(chunks())
    with pytest.raises(InputError, match="3 of 18 documents have the value '0'"):
        PositiveAwareMiner.from_dataset(
            Dataset.from_list(pairs()), toy_model, corpus=corpus, teacher_options={"fingerprint": "toy"}
        )


def test_values_that_cannot_be_compared_name_their_column_and_row():
    with pytest.raises(
        ColumnError, match=r"column 'of', row 1: expected a text, a number or a list of them, got \{'a': 1\}"
    ):
        Corpus.from_dataset([{"text": "a", "of": None}, {"text": "b", "of": {"a": 1}}], keep=["of"])


def test_ids_of_documents_that_several_chunks_bear_come_with_the_cure():
    with pytest.raises(
        InputError, match=r"or take row numbers \(id=''\) if it names the document that both are chunks of"
    ):
        Corpus.from_dataset([{"doc_id": "a", "text": "one"}, {"doc_id": "a", "text": "two"}])
    made = Corpus.from_dataset(
        [{"doc_id": "a", "text": "one"}, {"doc_id": "a", "text": "two"}, {"doc_id": "b", "text": "c"}], id=""
    )
    assert made.source_column == "doc_id"
