"""The form in which texts count as the same: many at once as one by one, whatever punctuation, case or script."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.audit import AuditSettings, audit_data
from hf_posmine.audit.forms import PLAIN, same_form, same_forms
from hf_posmine.audit.text_facts import TextFacts, _alike, near_copies
from hf_posmine.data import open_training_data
from hf_posmine.data.likeness import pieces
from hf_posmine.data.texts import loosen, normalize
from tests.audit.planted import passage, write_jsonl

CHARACTERS = st.sampled_from(
    [
        "a",
        "B",
        "3",
        " ",
        " ",
        "\n",
        "\t",
        "\0",
        "\x01",
        "-",
        "'",
        "\u2019",
        "\u2014",
        "\u200b",
        "é",
        "ß",
        "\uff21",
        "蜜",
    ]
)
TEXTS = st.lists(st.text(CHARACTERS, max_size=8), max_size=8)
MARKS = "".join(PLAIN.values())


@given(TEXTS)
def test_many_texts_have_the_forms_of_each(texts):
    forms, encoded = same_forms(texts)
    assert forms == [same_form(text) for text in texts]
    assert encoded == [form.encode() for form in forms]
    for text, form in zip(texts, forms, strict=True):
        assert form == (normalize(text) if text.isascii() else loosen("".join(map(plain, text))))


def plain(letter: str) -> str:
    return next((ascii_mark for ascii_mark, marks in PLAIN.items() if letter in marks), letter)


def test_every_mark_has_one_plain_form():
    assert len(set(MARKS)) == len(MARKS) and not MARKS.isascii()
    assert all(same_form(f"a{mark}b") == f"a{plain(mark)}b" for mark in MARKS)


COPIES = {
    "curly quotes": ("She said \"it's the bees' honey\" and left.", "She said “it’s the bees’ honey” and left."),
    "guillemets": ('Il dit "bonjour" à tous.', "Il dit «bonjour» à tous."),
    "dashes": ("A well-known bee - the queen - lives long.", "A well‑known bee – the queen — lives long."),
    "an ellipsis inside": ("Wait... the queen lives long.", "Wait… the queen lives long."),
    "full width": ("Bees: 3 (three), honey!", "Ｂｅｅｓ： ３ （ｔｈｒｅｅ）， ｈｏｎｅｙ！"),
    "marks of Chinese": ("蜜蜂住在蜂巢里. 它们酿造蜂蜜, 过冬食用!", "蜜蜂住在蜂巢里。 它们酿造蜂蜜、 过冬食用！"),
    "a soft hyphen and a zero-width space": ("The first step.", "The fi\u00adrst\u200b step."),
}


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("swap", [False, True], ids=["", "swapped"])
def test_a_copy_with_other_marks_is_the_same(kind, swap, tmp_path):
    positive, negative = COPIES[kind][::-1] if swap else COPIES[kind]
    rows = [
        {"query": "q1", "pos": [positive], "neg": ["Salt keeps too, they say.", negative]},
        {"query": "q2", "pos": [passage(3)], "neg": [passage(4), passage(5)]},
        {"query": "q2", "pos": [positive], "neg": [passage(6), passage(7)]},
        {"query": "q2", "pos": [passage(8)], "neg": [negative, passage(9)]},
    ]
    result = audit_data(open_training_data(write_jsonl(tmp_path / "rows.jsonl", rows)))
    assert [(e.row, e.index) for e in result.findings["same_normalized"].examples] == [(0, 1)]
    assert [(e.row, e.index) for e in result.findings["labelled_elsewhere"].examples] == [(3, 0)]


@given(
    st.integers(0, 40), st.lists(st.tuples(st.integers(0, 60), st.sampled_from([*MARKS, "•", "é", "·"])), max_size=30)
)
def test_a_near_copy_with_other_marks_is_not_ruled_out(number, edits):
    words = passage(number).replace(" the ", " the 'old' bee's ").split()
    changed = list(words)
    for at, mark in edits:
        changed[at % len(words)] = f"{mark}{words[at % len(words)]}{mark}"
    changed[0] = "Another"
    one, two = TextFacts.of([" ".join(changed)]), TextFacts.of([" ".join(words)])
    alike = _alike(pieces(one.normalized[0]), pieces(two.normalized[0]))
    assert len(near_copies(one, two, np.array([0]), np.array([0]))) == alike
    assert alike or any(mark == "é" for _, mark in edits)


def test_test_queries_with_other_marks_are_known(tmp_path):
    queries = write_jsonl(tmp_path / "queries.jsonl", [{"_id": "1", "text": "What’s “honey” – and why?"}])
    rows = [{"query": 'what\'s "honey" - and why?', "pos": [passage(1)], "neg": [passage(2)]}]
    data = open_training_data(write_jsonl(tmp_path / "rows.jsonl", rows))
    assert audit_data(data, AuditSettings(collection=queries)).rows_with("leaked_query") == 1
