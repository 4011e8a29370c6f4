"""Likeness against definitions written out; answers against a search word by word."""

from __future__ import annotations

import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.data.likeness import COMPARED, answers_of, holds_answer, jaccard, pieces
from hf_posmine.data.words import has_whole
from tests.support.scripts import THAI

WORDS = st.lists(st.sampled_from(["bee", "honey", "The", "queen", "x1"]), max_size=12)


@given(WORDS, WORDS)
def test_jaccard_of_words_is_shared_over_all(one, two):
    either = {word.lower() for word in one} | {word.lower() for word in two}
    both = [w for w in either if w in [v.lower() for v in one] and w in [v.lower() for v in two]]
    wanted = len(both) / len(either) if both else 0.0
    assert jaccard(pieces(" ".join(one)), pieces(", ".join(two))) == wanted


def test_case_and_punctuation_do_not_count():
    assert jaccard(pieces("The bee, busy!"), pieces("the BUSY bee")) == 1.0


def test_scripts_without_spaces_are_compared_by_pairs_of_letters():
    one, two = "蜜蜂采集花蜜并在蜂巢里酿造蜂蜜供蜂群过冬食用", "蜜蜂采集花蜜并在蜂巢里酿造蜂蜜供全群过冬食用"
    assert len(pieces(one)) == len({one[i : i + 2] for i in range(len(one) - 1)})
    assert 0.7 < jaccard(pieces(one), pieces(two)) < 1


def test_only_the_beginning_is_compared():
    start = "word " * (COMPARED // 5)
    assert jaccard(pieces(start + "one"), pieces(start + "two")) == 1.0


def test_answers_of_texts_lists_and_squad():
    assert answers_of("Saint  Bernadette") == ["Saint Bernadette"]
    assert answers_of(["Paris", "no", "", None]) == ["Paris"]
    assert answers_of({"text": ["1858"], "answer_start": [3]}) == ["1858"]
    assert answers_of({"value": "Rome", "aliases": ["Roma"]}) == ["Rome", "Roma"]
    assert answers_of(None) == []


@given(st.text(string.ascii_letters + "  ", max_size=40), st.text(string.ascii_letters + " ", min_size=3, max_size=8))
def test_an_answer_is_held_where_its_words_follow_each_other(text, answer):
    wanted, words = answer.lower().split(), text.lower().split()
    follows = any(words[i : i + len(wanted)] == wanted for i in range(len(words)))
    unspaced = len(" ".join(words)) > 12 * max(1, len(words))  # taken for a script without spaces
    if wanted and not unspaced:
        assert holds_answer(text, [" ".join(wanted)]) == follows


def test_an_answer_is_found_in_a_script_without_spaces():
    assert holds_answer("蜜蜂采集花蜜并在蜂巢里酿造蜂蜜", ["在蜂巢里"])
    assert not holds_answer("The unpaired socks", ["pair"])
    assert holds_answer("in 1858, at Lourdes", ["1858"])
    assert holds_answer("le café (fermé)", ["café"])


def test_words_that_differ_in_their_marks_differ():
    assert jaccard(pieces("बाल कान"), pieces("बल कान")) == pytest.approx(1 / 3)
    assert jaccard(pieces("كَتَبَ الوَلَدُ"), pieces("كُتِبَ الوَلَدُ")) == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "inside", "whole"),
    [
        ("एक बला टल गई", "बल", "बला"),
        ("সে কালো জামা পরে", "কাল", "কালো"),
        ("அவன் பாலை குடித்தான்", "பால", "பாலை"),
        ("می\u200cخواهم", "می", "می\u200cخواهم"),
    ],
)
def test_an_answer_ends_before_no_mark(text, inside, whole):
    assert holds_answer(text, [whole]) and not holds_answer(text, [inside])


def test_an_answer_within_thai_needs_no_boundary():
    assert holds_answer(THAI[0], ["น้ำหวานจากดอกไม้"]) and not holds_answer(THAI[2], ["น้ำหวานจากดอกไม้"])


@given(st.text("ab é'ाब\u0651م-", max_size=30), st.text("ab éाबم", min_size=1, max_size=4))
def test_a_part_is_whole_where_neither_side_is_of_a_word(text, part):
    def of_word(letter):
        return letter.isalnum() or letter == "_" or unicodedata.category(letter).startswith("M")

    starts = [n for n in range(len(text)) if text.startswith(part, n)]
    beside = [[text[n] for n in (start - 1, start + len(part)) if 0 <= n < len(text)] for start in starts]
    assert has_whole(text, part) == any(not any(map(of_word, letters)) for letters in beside)
