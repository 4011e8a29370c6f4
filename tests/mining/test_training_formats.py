"""``to_training`` and ``NegativesCollator``: mined rows as SentenceTransformerTrainer takes them."""

from __future__ import annotations

import math

import pytest
from datasets import Dataset, DatasetDict, Features, List, Value, load_from_disk

from hf_posmine import Corpus, PositiveAwareMiner, to_training
from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.mining import NegativesCollator, to_margin_mse
from hf_posmine.mining.provenance import provenance, write_provenance

MINED = Dataset.from_dict(
    {
        "source": ["s0", "s1", "s2"],  # a column that no format passes on, and that stands before the query
        "answer": ["p0", "p1", "p2"],
        "query": ["q0", "q1", "q2"],
        "negatives": [["a0", "b0"], ["a1"], []],
        "negatives_scores": [[0.5, 0.25], [0.5], []],
        "positive_score": [1.0, 0.75, 0.5],
    },
    features=Features(
        {name: Value("string") for name in ("source", "answer", "query")}
        | {"negatives": List(Value("string")), "negatives_scores": List(Value("float32"))}
        | {"positive_score": Value("float32")}
    ),
)
FULL = MINED.select([0, 0])

TEXTS = {
    "triplet": [
        {"query": "q0", "answer": "p0", "negative": "a0", "scores": [1.0, 0.5]},
        {"query": "q0", "answer": "p0", "negative": "b0", "scores": [1.0, 0.25]},
        {"query": "q1", "answer": "p1", "negative": "a1", "scores": [0.75, 0.5]},
    ],
    "labeled-pair": [
        {"query": "q0", "document": "p0", "label": 1, "score": 1.0},
        {"query": "q0", "document": "a0", "label": 0, "score": 0.5},
        {"query": "q0", "document": "b0", "label": 0, "score": 0.25},
        {"query": "q1", "document": "p1", "label": 1, "score": 0.75},
        {"query": "q1", "document": "a1", "label": 0, "score": 0.5},
        {"query": "q2", "document": "p2", "label": 1, "score": 0.5},
    ],
    "labeled-list": [
        {"query": "q0", "documents": ["p0", "a0", "b0"], "labels": [1, 0, 0], "scores": [1.0, 0.5, 0.25]},
        {"query": "q1", "documents": ["p1", "a1"], "labels": [1, 0], "scores": [0.75, 0.5]},
        {"query": "q2", "documents": ["p2"], "labels": [1], "scores": [0.5]},
    ],
}
NTUPLE = {
    "drop": [{"query": "q0", "answer": "p0", "negative_1": "a0", "negative_2": "b0", "scores": [1.0, 0.5, 0.25]}],
}
NTUPLE["repeat"] = [
    *NTUPLE["drop"],
    {"query": "q1", "answer": "p1", "negative_1": "a1", "negative_2": "a1", "scores": [0.75, 0.5, 0.5]},
]


def without_scores(rows):
    return [{name: value for name, value in row.items() if name not in ("score", "scores")} for row in rows]


def without_labels(rows):
    """Scores replace labels: a trainer takes one of them."""
    return [{name: value for name, value in row.items() if name not in ("label", "labels")} for row in rows]


@pytest.mark.parametrize("scores", [False, True], ids=["texts", "scores"])
@pytest.mark.parametrize(
    ("format", "on_short", "expected"),
    [
        *((name, "raise", rows) for name, rows in TEXTS.items()),
        *(("n-tuple", how, rows) for how, rows in NTUPLE.items()),
    ],
)
def test_each_format_in_rows_and_in_column_order(format, on_short, scores, expected):
    made = to_training(MINED, format, on_short=on_short, scores=scores)
    expected = without_labels(expected) if scores else without_scores(expected)
    assert list(made) == expected
    assert made.column_names == list(expected[0])  # the trainer goes by the order


def test_a_short_row_raises_unless_told_otherwise():
    with pytest.raises(ShortRowError, match=r"row 1 of the batch \('q1'\) has 1 of 2 negatives; use on_short='drop'"):
        to_training(MINED, "n-tuple")


@pytest.mark.parametrize("format", ["triplet", "labeled-pair", "labeled-list"])
def test_fewer_negatives_than_there_are_can_be_taken(format):
    first = to_training(MINED, format, num_negatives=1)
    assert not any("b0" in str(row) for row in first)
    assert list(first) == list(to_training(MINED.map(lambda row: {"negatives": row["negatives"][:1]}), format))


@pytest.mark.parametrize(("format", "on_short"), [("n-tuple", "raise"), ("labeled-list", "raise")])
def test_a_lazy_view_gives_the_rows_of_the_converted_dataset(format, on_short):
    view = to_training(FULL, format, lazy=True, scores=True)
    assert view.data.nbytes == FULL.data.nbytes
    assert [view[i] for i in range(2)] == list(to_training(FULL, format, scores=True))


def test_a_stream_and_a_dict_are_converted_as_the_dataset_is():
    expected = list(to_training(MINED, "triplet"))
    stream = to_training(MINED.to_iterable_dataset(), "triplet")
    assert list(stream) == expected and stream.column_names == ["query", "answer", "negative"]
    splits = to_training(DatasetDict(train=MINED, test=MINED.select([1])), "triplet")
    assert isinstance(splits, DatasetDict)
    assert list(splits["train"]) == expected and list(splits["test"]) == expected[2:]


def test_every_split_gets_as_many_negatives():
    """The first row of the second split has one negative, which must not make another schema there."""
    splits = to_training(DatasetDict(train=FULL, test=MINED.select([1, 0])), "n-tuple", on_short="repeat")
    assert splits["test"].column_names == splits["train"].column_names


SEVERAL = Dataset.from_dict(
    {"query": ["q", "r"], "positives": [["p", "sibling"], ["o"]], "negatives": [["a"], ["b", "c"]]}
)


def test_a_row_with_several_positives_keeps_all_of_them():
    assert [(row["positives"], row["negative_1"]) for row in to_training(SEVERAL, num_negatives=1)] == [
        ("p", "a"), ("sibling", "a"), ("o", "b")
    ]  # fmt: skip
    pairs = [(row["positives"], row["negative"]) for row in to_training(SEVERAL, "triplet")]
    assert pairs == [("p", "a"), ("sibling", "a"), ("o", "b"), ("o", "c")]
    lists = to_training(SEVERAL, "labeled-list")[:]
    assert lists["documents"] == [["p", "sibling", "a"], ["o", "b", "c"]]
    assert lists["labels"] == [[1, 1, 0], [1, 0, 0]]
    assert to_training(SEVERAL, num_negatives=1, positives="first")["positives"][:] == ["p", "o"]


def test_one_score_of_a_positive_does_not_serve_several():
    scored = SEVERAL.add_column("positive_score", [1.0, 0.5]).add_column("negatives_scores", [[0.5], [0.25, 0.125]])
    for positives in ("all", "first"):  # the score is the lowest one's, who need not be the first
        with pytest.raises(InputError, match="2 positives and one score, that of the lowest"):
            to_training(scored, "labeled-list", scores=True, positives=positives)
    assert to_training(scored.select([1]), "labeled-list", scores=True)["scores"][:] == [[0.5, 0.25, 0.125]]
    with pytest.raises(InputError, match="one score"):
        to_margin_mse(scored, 1)
    with pytest.raises(InputError, match="lazy=True and several positives"):
        to_training(scored, num_negatives=1, lazy=True)


def test_the_longest_row_decides_where_no_number_is_recorded():
    """A first row that is short costs no other row its negatives."""
    shuffled = MINED.select([1, 0])
    assert [row["negative"] for row in to_training(shuffled, "triplet")] == ["a1", "a0", "b0"]
    assert len(to_training(shuffled, "labeled-pair")) == 5
    assert list(to_training(shuffled, on_short="drop")) == without_scores(NTUPLE["drop"])
    with pytest.raises(InputError, match="stream need num_negatives"):
        to_training(shuffled.to_iterable_dataset())


def test_the_recorded_number_decides_for_n_tuples(sample_pairs, tmp_path):
    miner = PositiveAwareMiner.from_dataset(sample_pairs, "random", num_negatives=3)
    mined = sample_pairs.select(range(6)).map(miner, batched=True)
    mined.map(lambda row: {"negatives": row["negatives"][:2]}).save_to_disk(tmp_path / "mined")
    write_provenance(tmp_path / "mined" / "provenance.json", provenance(miner, source={"path": "pairs"}))
    saved = load_from_disk(str(tmp_path / "mined"))
    with pytest.raises(ShortRowError, match="has 2 of 3 negatives"):
        to_training(saved)
    assert len(to_training(saved, on_short="drop")) == 0
    assert "negative_3" in to_training(saved, on_short="repeat").column_names


def test_positives_given_by_id_become_texts():
    by_id = Dataset.from_dict({"query": ["q", "r"], "positive_id": ["d7", "d9"], "negatives": [["a"], ["b"]]})
    corpus = Corpus.from_texts(["seven", "nine"], ids=["d7", "d9"])
    for column in (None, "positive_id"):
        with pytest.raises(ColumnError, match="pass corpus="):
            to_training(by_id, positive_column=column)
        made = to_training(by_id, positive_column=column, corpus=corpus)
        assert made["positive_id"][:] == ["seven", "nine"]
    with pytest.raises(ColumnError, match="corpus= has no effect"):
        to_training(MINED, "triplet", corpus=corpus)


def test_scores_of_the_second_opinion_can_be_taken():
    second = (
        MINED.select([0]).add_column("positive_second_score", [9.0]).add_column("negatives_second_scores", [[3.0, 2.0]])
    )
    assert to_training(second, scores="second")[0]["scores"] == [9.0, 3.0, 2.0]
    assert to_training(second, scores="teacher")[0]["scores"] == [1.0, 0.5, 0.25]
    asked = second.map(lambda row: {"negatives_second_scores": [3.0, None]})
    with pytest.raises(InputError, match="without band="):
        to_training(asked, "triplet", scores="second")


def test_the_columns_can_be_named():
    renamed = MINED.select([0]).rename_columns({"query": "x", "answer": "y"})
    made = to_training(renamed, "triplet", query_column="x", positive_column="y")
    assert made[0] == {"x": "q0", "y": "p0", "negative": "a0"}


@pytest.mark.parametrize(
    ("mined", "options", "message"),
    [
        (MINED, {"format": "pairs"}, "labeled-list"),
        (MINED, {"on_short": "keep"}, "repeat"),
        (MINED.remove_columns("negatives"), {}, "negatives"),
        (MINED.remove_columns("positive_score"), {"scores": True}, r"keep=\('scores',\)"),
        (MINED.select([2]), {}, "num_negatives=0"),
        (MINED, {"lazy": True, "format": "triplet"}, "lazy=True"),
        (MINED, {"lazy": True, "on_short": "drop"}, "lazy=True"),
        (MINED.to_iterable_dataset(), {"lazy": True, "num_negatives": 1}, "lazy=True"),
        (MINED.remove_columns(["answer", "source"]), {}, "positive_column="),
    ],
)
def test_what_cannot_be_converted_is_refused(mined, options, message):
    with pytest.raises((InputError, ColumnError), match=message):
        to_training(mined, **options)


# ---------------------------------------------------------------- the collator, and the trainer itself


def keep_texts(rows):
    return rows


keep_texts.valid_label_columns = ["label"]


def test_the_collator_passes_on_query_positive_and_n_negatives_in_this_order():
    collator = NegativesCollator(keep_texts, positive="answer", num_negatives=1)
    rows = collator([MINED[0] | {"dataset_name": "nq"}, MINED[1]])
    assert rows == [
        {"query": "q0", "answer": "p0", "negative_1": "a0", "dataset_name": "nq"},
        {"query": "q1", "answer": "p1", "negative_1": "a1"},
    ]
    assert list(rows[1]) == ["query", "answer", "negative_1"]
    assert collator.valid_label_columns == ["label"]
    with pytest.raises(ShortRowError, match="the row 'q2' has 0 of 1 negatives"):
        collator([MINED[2]])


def test_the_collator_leaves_no_positive_out_unasked():
    row = {"query": "q", "positives": ["p", "sibling"], "negatives": ["n"]}

    def collate(positives):
        return NegativesCollator(keep_texts, positive="positives", num_negatives=1, positives=positives)([row, row])

    with pytest.raises(InputError, match="the row 'q' has 2 positives; choose"):
        collate(None)
    assert [made["positives"] for made in collate("first")] == ["p", "p"]
    assert [made["positives"] for made in collate("all")] == ["p", "sibling"] * 2


def train(model, dataset, folder, collator=None):
    """Two steps; the losses, and the number of columns the loss was given."""
    from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    columns = []

    class Loss(MultipleNegativesRankingLoss):
        def forward(self, sentence_features, labels):
            columns.append(len(list(sentence_features)))
            return super().forward(sentence_features, labels)

    arguments = SentenceTransformerTrainingArguments(
        str(folder), max_steps=2, per_device_train_batch_size=2, report_to=[], logging_steps=1, save_strategy="no"
    )
    trainer = SentenceTransformerTrainer(
        model, arguments, train_dataset=dataset, loss=Loss(model), data_collator=collator
    )
    trainer.train()
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry], columns


@pytest.fixture(scope="module")
def mined_sample(sample_pairs, embedded_model):
    miner = PositiveAwareMiner.from_dataset(sample_pairs, embedded_model, num_negatives=2, keep="scores", filters=())
    return sample_pairs.select(range(8)).map(miner, batched=True)


@pytest.mark.parametrize("view", ["n-tuple", "lazy n-tuple", "collator"])
def test_the_trainer_trains_on_every_view(view, mined_sample, tmp_path):
    pytest.importorskip("accelerate", reason="the trainer needs accelerate (the extra 'train')")
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

    from hf_posmine.encoding.encode import load_model

    model = load_model("embedded", device="cpu")  # its own, because training changes it
    model.max_seq_length = 32
    collator = None
    if view == "collator":
        dataset = mined_sample
        collator = NegativesCollator(SentenceTransformerDataCollator(model.preprocess), num_negatives=2)
    else:
        dataset = to_training(mined_sample, "n-tuple", lazy=view.startswith("lazy"))
    losses, columns = train(model, dataset, tmp_path, collator)
    assert columns == [4, 4]  # query, positive and two negatives
    assert len(losses) == 2 and all(math.isfinite(loss) for loss in losses)


def test_the_raw_list_of_two_is_read_as_one_sentence_pair(embedded_model):
    """Why nobody should train on the column ``negatives``: no error, and one input where two texts were meant."""
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator

    collator = SentenceTransformerDataCollator(embedded_model.preprocess)
    raw = collator([{"query": "q", "positive": "p", "negatives": ["one fox", "two dogs"]}])
    safe = NegativesCollator(collator, num_negatives=2)([{"query": "q", "positive": "p", "negatives": ["fox", "dog"]}])
    inputs = [[name for name in batch if name.endswith("input_ids")] for batch in (raw, safe)]
    assert inputs[0] == ["query_input_ids", "positive_input_ids", "negatives_input_ids"]
    assert inputs[1] == ["query_input_ids", "positive_input_ids", "negative_1_input_ids", "negative_2_input_ids"]
    assert "[SEP] two dogs" in embedded_model.tokenizer.decode(raw["negatives_input_ids"][0])
