"""What the model and the loss get to see of a batch of rows."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.texts import normalize
from hf_posmine.training.collator import RowCollator
from hf_posmine.training.row_labels import RowIdentity
from tests.support.distributed import tiny_model


def collate(rows):
    """The batch, and the items of each column as the model got them."""
    seen = {}

    def preprocess(items, prompt=None, task=None):
        seen[len(seen)] = items
        return {"input_ids": torch.zeros(len(items), 1)}

    batch = RowCollator(preprocess)(rows)
    names = [key.removesuffix("_input_ids") for key in batch if key.endswith("_input_ids")]
    return batch, dict(zip(names, seen.values(), strict=True))


def test_instructions_travel_beside_their_text_and_empty_ones_do_not():
    rows = [
        {
            "query": "q1",
            "positive": "p1",
            "negative_1": "n1",
            "query_instruction": "Find",
            "positive_instruction": "",
            "in_batch_negatives": True,
            "dataset_name": "nq",
        },
        {
            "query": "q2",
            "positive": "p2",
            "negative_1": "n2",
            "query_instruction": None,
            "positive_instruction": "Same",
            "in_batch_negatives": False,
            "dataset_name": "nq",
        },
    ]
    batch, seen = collate(rows)
    assert seen == {"query": [("Find", "q1"), "q2"], "positive": ["p1", ("Same", "p2")], "negative_1": ["n1", "n2"]}
    assert batch["dataset_name"] == "nq"
    assert batch["label"].shape == (2, 8)
    assert batch["label"].dtype == torch.int64
    assert batch["label"][:, 0].tolist() == [1, 0]
    assert rows[0]["query"] == "q1"  # the data set's own rows stay as they are


texts = st.sampled_from(["a b", "A  B", "Ａ b", "ab", "", "straße", "STRASSE"])


@given(st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5))
def test_keys_are_equal_exactly_for_texts_that_count_as_the_same(triples):
    batch, _ = collate([{"query": q, "positive": p, "negative_1": n} for q, p, n in triples])
    identity = RowIdentity.from_labels(batch["label"], 2, in_batch_negatives=True)
    keys = torch.cat([identity.query[:, None], identity.documents], 1).flatten().tolist()
    flat = [normalize(text) for triple in triples for text in triple]
    for i, text in enumerate(flat):
        for j, other in enumerate(flat):
            assert (keys[i] == keys[j]) == (text == other)
    assert min(keys) >= 0


@pytest.mark.parametrize("switch", [True, False])
def test_rows_that_do_not_say_leave_it_to_the_loss(switch):
    batch, _ = collate([{"query": "q", "positive": "p"}])
    assert RowIdentity.from_labels(batch["label"], 1, switch).in_batch.tolist() == [switch]


def test_the_keys_do_not_depend_on_the_instruction_or_the_batch():
    with_instruction, _ = collate([{"query": "q", "positive": "p", "query_instruction": "Find"}])
    other_batch, _ = collate([{"query": "x", "positive": "y"}, {"query": "q", "positive": "p"}])
    assert with_instruction["label"][0].tolist() == other_batch["label"][1].tolist()


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"query": "q", "positive": "p", "score": 0.5}, "'score' would be taken for labels"),
        ({"query": "q", "positive": ["p", "r"]}, r"'positive' holds list.*to_training"),
        ({"query": "q", "positive": None}, "'positive' holds NoneType in row 0"),
        ({"query": "q", "positive": "p", "answer_instruction": "x"}, "'answer_instruction' instructs a column"),
    ],
)
def test_each_bad_column_has_its_error(row, says):
    with pytest.raises(ColumnError, match=says):
        collate([row])


def test_a_stock_model_refuses_instructions_and_takes_rows_without(tmp_path):
    collator = RowCollator(SentenceTransformer(str(tiny_model(tmp_path)), device="cpu").preprocess)
    row = {"query": "w1 w2", "positive": "w3", "query_instruction": "w4"}
    with pytest.raises(InputError, match=r"query_instruction.*stock Transformer.*InstructSentenceTransformer"):
        collator([row])
    assert collator([row | {"query_instruction": ""}])["query_input_ids"].shape == (1, 4)


def test_no_rows_give_no_batch():
    assert collate([]) == ({}, {})
