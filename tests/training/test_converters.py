"""Converters against plain loops, by hand, and on real sets."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.training.convert import (
    labels_to_triples,
    nli_to_triples,
    reranking_to_rows,
    retrieval_to_rows,
    sts_to_pairs,
)
from hf_posmine.training.convert.shared import draw_different
from tests.conftest import real_data
from tests.support.pages import pages

LABELLED = {"text": ["a", "b", "c", "d", "e"], "label": ["x", "x", "y", "y", "z"]}


def same(text: str) -> str:
    """Our test texts are ASCII, so this is what counts as the same text."""
    return " ".join(text.lower().split())


def negatives_of(row: dict) -> list[str]:
    return [text for name, text in row.items() if name.startswith("negative_")]


def classes_of_texts(rows: dict) -> dict[str, set]:
    """Text -> its classes, over labelled rows that say something."""
    found = defaultdict(set)
    for text, label in zip(rows["text"], rows["label"], strict=True):
        if label not in (None, -1) and text.strip():
            found[same(text)].add(label)
    return found


def check_triples(rows: dict, converted, negatives: int) -> None:
    """What example-based triples must be, by loops over the raw rows."""
    classes = classes_of_texts(rows)
    members = defaultdict(set)
    for text, its in classes.items():
        if len(its) == 1:
            members[next(iter(its))].add(text)
    alone = {label for label, texts in members.items() if len(texts) == 1}
    expected = [
        text
        for text, label in zip(rows["text"], rows["label"], strict=True)
        if len(classes.get(same(text), ())) == 1 and label not in (None, -1) and label not in alone
    ]
    out = converted.dataset
    assert out["query"][:] == expected
    assert out.column_names == ["query", "positive", *(f"negative_{i + 1}" for i in range(negatives))]
    for row in out:
        label = next(iter(classes[same(row["query"])]))
        assert classes[same(row["positive"])] == {label} and same(row["positive"]) != same(row["query"])
        others = negatives_of(row)
        assert len({same(text) for text in others}) == negatives
        assert all(len(classes[same(text)]) == 1 and label not in classes[same(text)] for text in others)
    assert converted.counts["rows_in"] == len(rows["text"]) and converted.counts["rows_out"] == len(expected)
    dropped = [count for reason, count in converted.counts.items() if reason.startswith("dropped_")]
    assert sum(dropped) == len(rows["text"]) - len(expected)


labelled_rows = st.lists(
    st.tuples(
        st.sampled_from(["red", "Red ", "green", "blue", "cat", "dog", "fox", "sun", "tea", "ink", "", " "]),
        st.sampled_from([0, 1, 2, 3, -1, None]),
    ),
    min_size=1,
    max_size=25,
)


@settings(deadline=None, max_examples=150)
@given(labelled_rows, st.integers(1, 3), st.integers(0, 3))
def test_examples_are_of_the_same_and_of_other_classes(rows, n, seed):
    """Or the one error that the rows deserve."""
    raw = {"text": [t for t, _ in rows], "label": [label for _, label in rows]}
    source = Dataset.from_dict(raw, Features({"text": Value("string"), "label": Value("int64")}))
    texts = {label: {t for t, its in classes_of_texts(raw).items() if its == {label}} for label in range(4)}
    several = [label for label in texts if len(texts[label]) > 1]
    outside = {a: sum(len(t) for b, t in texts.items() if b != a) for a in texts}
    convert = {"num_negatives": n, "positives": "example", "seed": seed}
    if sum(map(bool, texts.values())) < 2:
        error = "negatives need at least two classes"
    elif not several:
        error = "no class has two different texts"
    elif min(outside[label] for label in several) < n:
        error = f"ask for at most {min(outside[label] for label in several)}"
    else:
        made = labels_to_triples(source, **convert)
        check_triples(raw, made, n)
        assert labels_to_triples(source, **convert).dataset.to_dict() == made.dataset.to_dict()
        return
    with pytest.raises(InputError, match=error):
        labels_to_triples(source, **convert)


def test_every_other_member_and_outsider_is_drawn():
    raw = {"text": list("abcdefg"), "label": [0, 1, 0, 2, 0, 1, 0]}
    drawn, rejected = set(), set()
    for seed in range(60):
        row = labels_to_triples(Dataset.from_dict(raw), num_negatives=2, seed=seed).dataset[2]
        drawn.add(row["positive"])
        rejected |= set(negatives_of(row))
    assert row["query"] == "c" and drawn == set("aeg") and rejected == set("bdf")


@pytest.mark.parametrize(("size", "count"), [(4, 2), (3, 3), (5, 1)])
def test_draws_without_replacement_are_uniform(size, count):
    drawn = draw_different(np.random.default_rng(0), np.full(60_000, size), count)
    ordered = Counter(map(tuple, drawn.tolist()))
    choices = int(np.prod(np.arange(size, size - count, -1)))
    assert len(ordered) == choices and all(len(set(draw)) == count for draw in ordered)
    expected = 60_000 / choices
    chi_square = sum((seen - expected) ** 2 / expected for seen in ordered.values())
    assert chi_square < choices - 1 + 5 * np.sqrt(2 * (choices - 1))


def test_every_row_draws_from_its_own_range():
    sizes = np.array([2, 5, 3, 2, 40])
    drawn = np.stack([draw_different(np.random.default_rng(seed), sizes, 2) for seed in range(200)])
    assert drawn.min(axis=(0, 2)).tolist() == [0] * 5 and drawn[:, :4].max(axis=(0, 2)).tolist() == [1, 4, 2, 1]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(-1, 4)), min_size=2, max_size=15),
    st.integers(1, 6),
)
def test_label_texts_are_the_documents(rows, n):
    raw = {"text": [t for t, _ in rows], "label": [label for _, label in rows]}
    classes = classes_of_texts(raw)
    present = {next(iter(its)) for its in classes.values() if len(its) == 1}
    said = {label: f"the class {label}" for label in range(5)}
    if len(present) < 2:
        return
    options = {"num_negatives": n, "positives": "label", "label_texts": said}
    out = labels_to_triples(Dataset.from_dict(raw), **options).dataset
    assert len(negatives_of(out[0])) == min(n, len(present) - 1)
    kept = [(t, label) for t, label in rows if label != -1 and len(classes[t]) == 1]
    assert out["query"][:] == [t for t, _ in kept]
    for row, (_, label) in zip(out, kept, strict=True):
        others = negatives_of(row)
        assert row["positive"] == said[label]
        assert len(set(others)) == len(others) and set(others) <= {said[other] for other in present - {label}}


def test_auto_takes_label_texts_for_two_classes_only():
    two = Dataset.from_dict({"text": ["good film", "bad film", "fine"], "label": [1, 0, 1]}).cast_column(
        "label", ClassLabel(names=["negative", "positive"])
    )
    assert labels_to_triples(two, num_negatives=4).dataset.to_dict() == {
        "query": ["good film", "bad film", "fine"],
        "positive": ["positive", "negative", "positive"],
        "negative_1": ["negative", "positive", "negative"],
    }
    three = labels_to_triples(Dataset.from_dict(LABELLED), num_negatives=2)
    assert set(three.dataset["positive"]) == {"a", "b", "c", "d"}
    assert three.counts["dropped_single_member_class"] == 1


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ([0, 1, 0], {0: "no", 1: "yes"}),
        ([0, 1, 0], {"0": "no", "1": "yes"}),
        ([False, True, False], {False: "no", True: "yes"}),
        (["n", "y", "n"], {"n": "no", "y": "yes"}),
        ([0.0, 1.0, 0.0], {0: "no", 1: "yes"}),
    ],
    ids=str,
)
def test_label_texts_go_by_label(labels, names):
    out = labels_to_triples(Dataset.from_dict({"text": ["a", "b", "c"], "label": labels}), label_texts=names).dataset
    assert out["positive"][:] == ["no", "yes", "no"] and out["negative_1"][:] == ["yes", "no", "yes"]


def test_label_texts_of_class_names_may_go_by_number():
    rows = Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}).cast_column("label", ClassLabel(names=["n", "y"]))
    assert labels_to_triples(rows, label_texts={0: "no", "y": "yes"}).dataset["positive"][:] == ["no", "yes"]


def test_a_text_that_is_a_label_is_no_query():
    rows = Dataset.from_dict({"text": ["Good", "bad film", "good film"], "label": ["good", "bad", "good"]})
    made = labels_to_triples(rows)
    assert made.dataset["query"][:] == ["bad film", "good film"] and made.counts["dropped_same_text"] == 1


def test_a_text_in_two_classes_is_no_document():
    rows = {"text": ["a", "b", "A ", "c", "d", "e"], "label": [0, 0, 1, 1, 1, 0]}
    made = labels_to_triples(Dataset.from_dict(rows), positives="example")
    assert made.counts["dropped_conflicting_labels"] == 2
    check_triples(rows, made, 1)


SCORED = {
    "sentence1": ["a man runs", "a dog", "Same", "a cat", "jogging man", " "],
    "sentence2": ["a man jogs", "a hound", "same ", "a car", "a man runs", "b"],
    "score": [5.0, 4.0, 5.0, 1.0, 3.9, 4.5],
}


def test_sts_pairs_go_both_ways():
    made = sts_to_pairs(Dataset.from_dict(SCORED))
    assert made.dataset.to_dict() == {
        "query": ["a man runs", "a man jogs", "a dog", "a hound"],
        "positive": ["a man jogs", "a man runs", "a hound", "a dog"],
    }
    assert made.counts == {
        "rows_in": 6,
        "rows_out": 4,
        "dropped_low_score": 2,
        "dropped_blank_text": 1,
        "dropped_same_text": 1,
        "dropped_duplicate_pair": 0,
    }
    assert made.pool == ("a man runs", "a man jogs", "a dog", "a hound", "Same", "a cat", "a car", "jogging man", "b")


def test_sts_pairs_that_come_again_are_dropped():
    rows = {"sentence1": ["a", "b", "A"], "sentence2": ["b", "a", "c"], "score": [5, 4, 5]}
    made = sts_to_pairs(Dataset.from_dict(rows))
    assert list(zip(made.dataset["query"], made.dataset["positive"], strict=True)) == [
        ("a", "b"), ("b", "a"), ("A", "c"), ("c", "A"),
    ]  # fmt: skip
    assert made.counts["dropped_duplicate_pair"] == 2


NLI = {
    "premise": ["p", "p", "p", "p", "q", "q", "p", "r", "r", "s", "s", "q"],
    "hypothesis": [
        "p yes",
        "p no",
        "p maybe",
        "P  Yes",
        "q yes",
        "q no",
        "p never",
        "r yes",
        "r yes",
        "s",
        "s yes",
        "?",
    ],
    "label": [0, 2, 1, 0, 0, 2, 2, 0, 2, 0, 0, -1],
}
NLI_FEATURES = Features(
    {
        "premise": Value("string"),
        "hypothesis": Value("string"),
        "label": ClassLabel(names=["entailment", "neutral", "contradiction"]),
    }
)


def test_nli_by_hand():
    made = nli_to_triples(Dataset.from_dict(NLI, NLI_FEATURES))
    assert made.dataset.to_dict() == {
        "query": ["p", "q"],
        "positive": ["p yes", "q yes"],
        "negative_1": ["p no", "q no"],
    }
    assert made.counts == {
        "rows_in": 12,
        "rows_out": 2,
        "dropped_unlabelled": 1,
        "dropped_blank_text": 0,
        "dropped_same_text": 1,  # s entails itself
        "dropped_conflicting_labels": 2,  # r
        "dropped_duplicate_pair": 1,
        "neutral": 1,
        "contradiction": 3,
        "dropped_no_contradiction": 1,  # s yes
        "filled_negatives": 0,
        "dropped_few_negatives": 0,
    }


def test_missing_contradictions_are_filled_from_other_premises():
    made = nli_to_triples(Dataset.from_dict(NLI, NLI_FEATURES), num_negatives=3)
    first, second = made.dataset
    assert negatives_of(first)[:2] == ["p no", "p never"] and negatives_of(first)[2] in {"q yes", "q no", "s yes"}
    assert negatives_of(second)[0] == "q no" and len(set(negatives_of(second))) == 3
    assert set(negatives_of(second)[1:]) <= {"p yes", "p no", "p never", "s yes"}
    assert made.counts["filled_negatives"] == 3


def test_a_premise_is_no_filler_of_its_own_rows():
    rows = {"premise": ["s", "s", "t", "t"], "hypothesis": ["a", "b", "s", "c"], "label": [0, 2, 0, 2]}
    for seed in range(10):
        row = nli_to_triples(Dataset.from_dict(rows, NLI_FEATURES), num_negatives=2, seed=seed).dataset[0]
        assert row == {"query": "s", "positive": "a", "negative_1": "b", "negative_2": "c"}


@settings(deadline=None, max_examples=100)
@given(
    st.lists(
        st.tuples(st.sampled_from("stuv"), st.sampled_from("stuvwxyz"), st.sampled_from([0, 1, 2, -1])),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 3),
)
def test_nli_negatives_never_belong_to_their_premise_otherwise(rows, n):
    relations = defaultdict(set)
    for premise, hypothesis, label in rows:
        relations[premise, hypothesis].add(label)
    columns = dict(zip(("premise", "hypothesis", "label"), map(list, zip(*rows, strict=True)), strict=True))
    wanted = {
        (p, h)
        for (p, h), labels in relations.items()
        if 0 in labels and 2 not in labels and p != h
        if any(a == p and 2 in its and 0 not in its and b != p for (a, b), its in relations.items())
    }
    source = Dataset.from_dict(columns, NLI_FEATURES)
    if not wanted:
        with pytest.raises(InputError, match="no row is left"):
            nli_to_triples(source, num_negatives=n)
        return
    try:
        made = nli_to_triples(source, num_negatives=n)
    except InputError as error:
        assert n > 1 and "dropped_few_negatives" in str(error)  # not enough fillers for any row
        return
    pairs = set(zip(made.dataset["query"], made.dataset["positive"], strict=True))
    assert pairs <= wanted and len(pairs) + made.counts["dropped_few_negatives"] == len(wanted)
    for row in made.dataset:
        others = negatives_of(row)
        assert len(set(others)) == n and row["query"] not in others
        contradicted = [2 in relations.get((row["query"], h), ()) for h in others]
        assert contradicted == sorted(contradicted, reverse=True) and contradicted[0]
        for h, contradicts in zip(others, contradicted, strict=True):
            assert (row["query"], h) not in relations or (contradicts and 0 not in relations[row["query"], h])


LISTS = {
    "query": ["q1", "q2", "q3", "q4"],
    "positive": [["a", "b"], ["c"], [], ["q4", "e", "E "]],
    "negative": [["n1", "n2", "n3", "a"], ["m1", "M1"], ["o1", "o2"], ["k1", "k2", ""]],
}


def test_reranking_by_hand():
    """Two positives of a query take its negatives in turn; a negative that is a positive, or comes twice, does not count."""
    made = reranking_to_rows(Dataset.from_dict(LISTS), num_negatives=2)
    assert made.dataset.to_dict() == {
        "query": ["q1", "q1", "q4"],
        "positive": ["a", "b", "e"],
        "negative_1": ["n1", "n3", "k1"],
        "negative_2": ["n2", "n1", "k2"],
    }
    assert made.counts == {"rows_in": 4, "rows_out": 3, "dropped_no_positive": 1, "dropped_few_negatives": 1}


MINED = {"query": ["q1", "q2"], "positive": ["p1", "p2"], "negatives": [["a", "b", "c"], ["d", "e", "f"]]}
WIDE = {"query": ["q1", "q2"], "positive": ["p1", "p2"], "negative_1": ["a", "d"], "negative_2": ["b", "e"]}


@pytest.mark.parametrize("source", [MINED, WIDE], ids=["list", "columns"])
def test_mined_rows_become_columns(source):
    assert retrieval_to_rows(Dataset.from_dict(source), num_negatives=2).dataset.to_dict() == WIDE


def test_pairs_without_negatives():
    assert retrieval_to_rows(Dataset.from_dict(MINED), num_negatives=0).dataset.column_names == ["query", "positive"]


@pytest.mark.parametrize(
    "convert",
    [lambda rows: reranking_to_rows(rows, num_negatives=2), lambda rows: retrieval_to_rows(rows, negatives="negative")],
    ids=["reranking", "retrieval"],
)
def test_a_stream_gives_the_same_rows(convert):
    source = Dataset.from_dict({name: values[:1] + values[3:] for name, values in LISTS.items()})
    stream = convert(source.to_iterable_dataset())
    assert list(stream.dataset) == list(convert(source).dataset) and stream.counts == {}
    assert stream.dataset.features == convert(source).dataset.features


def test_a_short_row_in_a_stream_is_named():
    rows = {"query": ["q"] * 1500, "positive": ["p"] * 1500, "negatives": [["a", "b"]] * 1499 + [["a"]]}
    stream = retrieval_to_rows(Dataset.from_dict(rows).to_iterable_dataset(), num_negatives=2).dataset
    with pytest.raises(ShortRowError, match=r"row 1499: 1 negatives, for num_negatives=2"):
        list(stream)


def odd_class_labels() -> Dataset:
    """A label beyond its names, as a file with a wrong schema has it."""
    features = Features({"text": Value("string"), "label": ClassLabel(names=["x", "y"])})
    return Dataset(
        pa.table({"text": ["a", "b"], "label": [0, 7]}).replace_schema_metadata(features.arrow_schema.metadata)
    )


def labels(**columns):
    return lambda **options: labels_to_triples(Dataset.from_dict(LABELLED | columns), **options)


BAD = {
    "no such text column": (labels(), {"text": "body"}, ColumnError, r"'body' is not in the dataset; its columns are \['text'"),
    "text is a number": (labels(text=[1, 2, 3, 4, 5]), {}, ColumnError, r"column 'text', row 0: expected a text, got 1"),
    "text is None": (labels(text=["a", None, "c", "d", "e"]), {}, ColumnError, r"column 'text', row 1"),
    "label is a score": (labels(label=[0.0, 0.5, 1, 1, 1]), {}, ColumnError, r"column 'label', row 1: expected a class.*0\.5"),
    "label is a list": (labels(label=[[1], [2], [1], [1], [1]]), {}, ColumnError, r"column 'label', row 0: expected a class"),
    "label has no name": (labels(label=[0, 1, 1, 0, 1]), {}, ColumnError, r"class 0 has no text; name it in label_texts"),
    "label beyond names": (
        lambda **o: labels_to_triples(odd_class_labels(), **o), {}, ColumnError, r"row 1: label 7 is outside its 2 names",
    ),
    "one class": (labels(label=["x"] * 5), {}, InputError, r"column 'label' has only the class 'x'"),
    "no label": (labels(label=[None] * 5), {}, InputError, r"has no labelled text"),
    "same label texts": (
        labels(), {"positives": "label", "label_texts": {"x": "One", "y": "one", "z": "two"}}, InputError,
        r"'x' and 'y' have the same text 'one'",
    ),
    "label texts unused": (labels(), {"label_texts": {"x": "One"}}, InputError, r"label_texts has no effect on 3 classes"),
    "positives misspelt": (labels(), {"positives": "examples"}, InputError, r"positives='examples'; choose one of"),
    "too many negatives": (labels(), {"num_negatives": 9}, InputError, r"leaves 3 texts of other classes for num_negatives=9"),
    "no negatives": (labels(), {"num_negatives": 0}, InputError, r"num_negatives=0; expected a whole number of at least 1"),
    "empty": (lambda: labels_to_triples(Dataset.from_dict({"text": [], "label": []})), {}, InputError, "has no rows"),
    "splits": (
        lambda: labels_to_triples(DatasetDict(train=Dataset.from_dict(LABELLED))), {}, InputError, r"got the splits \['train'\]",
    ),
    "stream": (
        lambda: labels_to_triples(Dataset.from_dict(LABELLED).to_iterable_dataset()), {}, InputError,
        r"stream cannot be converted: its documents are drawn from all rows of a class",
    ),
    "score is NaN": (
        lambda: sts_to_pairs(Dataset.from_dict(SCORED | {"score": [1.0, float("nan"), 1, 1, 1, 1]})), {}, ColumnError,
        r"column 'score', row 1: expected a score, got nan",
    ),
    "score is a text": (
        lambda: sts_to_pairs(Dataset.from_dict(SCORED | {"score": ["5"] * 6})), {}, ColumnError,
        r"row 0: expected a score, got '5'",
    ),
    "score on another scale": (
        lambda: sts_to_pairs(Dataset.from_dict(SCORED | {"score": [0.1, 0.9, 0.2, 0.3, 0.4, 0.5]})), {}, InputError,
        r"no pair scores 4 or more: column 'score' runs from 0\.1 to 0\.9",
    ),
    "sts stream": (
        lambda: sts_to_pairs(Dataset.from_dict(SCORED).to_iterable_dataset()), {}, InputError, "mined from the texts of all rows",
    ),
    "relation unknown": (
        lambda: nli_to_triples(Dataset.from_dict({"premise": ["p"], "hypothesis": ["h"], "label": [0]})), {}, ColumnError,
        r"row 0: label 0 names no relation; say which is which in label_texts",
    ),
    "nothing entailed": (
        lambda: nli_to_triples(Dataset.from_dict({"premise": ["p"], "hypothesis": ["h"], "label": ["neutral"]})), {}, InputError,
        r"no row is left to train on \(rows_in 1, neutral 1\)",
    ),
    "short row": (
        lambda: retrieval_to_rows(Dataset.from_dict(MINED | {"negatives": [["a", "b"], ["c"]]}), num_negatives=2), {},
        ShortRowError, r"column 'negatives', row 1: 1 negatives, for num_negatives=2",
    ),
    "negative is the positive": (
        lambda: retrieval_to_rows(Dataset.from_dict(MINED | {"negatives": [["a", "P1"], ["c", "d"]]}), num_negatives=2), {},
        ShortRowError, r"row 0: 2 negatives, 1 of them blank, repeated, or equal to the query or its positive",
    ),
    "no negatives column": (
        lambda: retrieval_to_rows(Dataset.from_dict({"query": ["q"], "positive": ["p"]})), {}, ColumnError,
        "no column with negatives",
    ),
    "two negatives columns": (
        lambda: retrieval_to_rows(Dataset.from_dict(MINED | WIDE)), {}, ColumnError, r"several columns \(negatives, negative_1\)",
    ),
    "too few columns": (
        lambda: retrieval_to_rows(Dataset.from_dict(WIDE), num_negatives=3), {}, ColumnError,
        r"only \['negative_1', 'negative_2'\]",
    ),
    "None among negatives": (
        lambda: retrieval_to_rows(Dataset.from_dict(MINED | {"negatives": [["a"], ["b", None]]})), {}, ColumnError,
        r"column 'negatives', row 1: expected a text, got None",
    ),
    "list rows empty": (
        lambda: reranking_to_rows(Dataset.from_dict({"query": [], "positive": [], "negative": []})), {}, InputError, "no rows",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_gets_one_clear_error(case):
    convert, options, error, message = BAD[case]
    with pytest.raises(error, match=message):
        convert(**options)


def read(name: str, file: str) -> tuple[dict, Dataset]:
    table = pq.read_table(real_data(name) / file)
    return table.to_pydict(), Dataset(table)


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("name", "file", "classes", "rows_out"),
    [("banking77", "train.parquet", 77, 10_003), ("stackoverflow_titles", "all.parquet", 20, 20_000)],
)
def test_real_classes(name, file, classes, rows_out):
    raw, source = read(name, file)
    made = labels_to_triples(source, num_negatives=5, seed=3)
    assert len(set(raw["label"])) == classes
    assert made.counts["rows_out"] == rows_out
    check_triples(raw, made, 5)
    again, other = (labels_to_triples(source, num_negatives=5, seed=seed).dataset for seed in (3, 4))
    assert again.data.table.equals(made.dataset.data.table)
    changed = np.array(other["positive"][:]) != np.array(made.dataset["positive"][:])
    assert changed.mean() > 0.9


@pytest.mark.real_data
def test_real_label_texts():
    raw, source = read("banking77", "test.parquet")
    said = {label: label.replace("_", " ") for label in set(raw["label"])}
    made = labels_to_triples(source, num_negatives=100, positives="label", label_texts=said).dataset
    assert len(made) == 3080 and len(negatives_of(made[0])) == 76
    for row, label in zip(made.select(range(0, 3080, 50)), raw["label"][::50], strict=True):
        assert row["positive"] == said[label] and {*negatives_of(row), said[label]} == set(said.values())


@pytest.mark.real_data
def test_real_sts():
    """1,406 pairs score 4 or more, 2,812 both ways: the number of NV-Retriever's Table 9."""
    raw, source = read("stsb", "en_train.parquet")
    made = sts_to_pairs(source)
    triples = list(zip(raw["sentence1"], raw["sentence2"], raw["score"], strict=True))
    high = [(a, b) for a, b, score in triples if score >= 4]
    expected = {(same(x), same(y)) for a, b in high for x, y in ((a, b), (b, a)) if same(x) != same(y)}
    found = [(same(q), same(p)) for q, p in zip(made.dataset["query"], made.dataset["positive"], strict=True)]
    assert 2 * len(high) == 2812
    assert len(found) == len(set(found)) and set(found) == expected
    assert (
        made.counts["rows_out"] + 2 * made.counts["dropped_same_text"] + made.counts["dropped_duplicate_pair"] == 2812
    )
    assert {same(text) for text in made.pool} == {same(t) for a, b, _ in triples for t in (a, b)}


@pytest.mark.real_data
def test_real_lists():
    """SciFact: every relevant abstract of a claim is a positive, and never its negative."""
    folder = real_data("scifact")
    texts = {
        n: dict(zip(*pq.read_table(folder / f"{n}.parquet").to_pydict().values(), strict=True))
        for n in ("queries", "corpus")
    }
    relevant = defaultdict(list)
    for query, document, score in zip(*pq.read_table(folder / "qrels_train.parquet").to_pydict().values(), strict=True):
        assert score > 0
        relevant[query].append(document)
    others = list(texts["corpus"].values())[:8]
    rows = {
        "query": [texts["queries"][q] for q in relevant],
        "positive": [[texts["corpus"][d] for d in its] for its in relevant.values()],
        "negative": [others] * len(relevant),
    }
    made = reranking_to_rows(Dataset.from_dict(rows), num_negatives=7)
    assert made.counts == {"rows_in": 809, "rows_out": 919, "dropped_no_positive": 0, "dropped_few_negatives": 0}
    of_query = defaultdict(list)  # one claim stands there twice, with different abstracts
    for query, its in zip(rows["query"], rows["positive"], strict=True):
        of_query[query] += its
    for row in made.dataset:
        assert row["positive"] in of_query[row["query"]] and not set(negatives_of(row)) & set(of_query[row["query"]])


def test_a_stream_of_images_is_refused_at_once():
    rows = {"query": ["q"], "positive": pages(["a"]), "negative": pages(["b"])}
    features = Features({"query": Value("string"), "positive": Image(), "negative": Image()})
    stream = Dataset.from_dict(rows, features=features).to_iterable_dataset()
    with pytest.raises(
        ColumnError, match="'positive' holds images, which a stream cannot convert; load the data without"
    ):
        retrieval_to_rows(stream, "query", "positive", "negative")
