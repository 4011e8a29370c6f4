"""Words as bits rule out no near copy, whatever the script, and a parquet file is not kept in memory while it is read."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.audit.text_facts import LATIN, NO_SCRIPT, TextFacts, _alike, near_copies
from hf_posmine.audit.word_bits import WordBits
from hf_posmine.data.likeness import pieces
from hf_posmine.data.row_tables import ParquetRows
from hf_posmine.data.words import words_of
from tests.audit.planted import passage
from tests.support.scripts import MARKED, SPACED, THAI

SENTENCES = (
    "The Bees of Mount Hymettus, they say, make the best honey.", "a-b_c  4,5", "", "Größe äußerst", "蜜蜂如何酿造蜂蜜" * 9,
)  # fmt: skip


def test_words_are_counted_text_by_text():
    facts = TextFacts.of(list(SENTENCES))
    plain = [len(re.findall(r"[\w]+", text.lower())) for text in SENTENCES[:4]]
    assert facts.words.counts.tolist()[:4] == plain
    assert facts.words.unspaced.tolist() == [False, False, False, False, True]
    assert (facts.words.bits.sum(axis=1) <= facts.words.counts).all()


def test_words_are_known_by_their_first_letters_only_within_the_word():
    one, two, other = (WordBits.of([text], [text.encode()]).bits for text in ("ab cd", "cd. ab", "abcd"))
    assert (one == two).all()
    assert (one != other).any()


@given(st.integers(0, 40), st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=14), st.booleans())
def test_pairs_that_are_near_copies_are_never_ruled_out(number, edits, upper):
    text = passage(number)
    words = text.split()
    for at, drop in edits:
        if drop and len(words) > 1:
            del words[at % len(words)]
        else:
            words[at % len(words)] = f"other{at}"
    changed = " ".join(words).upper() if upper else " ".join(words)
    found = near_copies(TextFacts.of([changed]), TextFacts.of([text]), np.array([0]), np.array([0]))
    assert len(found) == (_alike(pieces(changed), pieces(text)) and 2 * len(changed) >= min(len(text), 500))


MARKED_WORDS = sorted({word for text in SPACED.values() for word in words_of(text)} | {"bee", "größe", "蜜蜂"})


@pytest.mark.parametrize("language", SPACED)
def test_words_keep_their_marks(language):
    facts = TextFacts.of([SPACED[language]])
    assert facts.words.counts.tolist() == [len(SPACED[language].split())] == [len(pieces(facts.normalized[0]))]
    assert not facts.words.unspaced[0]


def test_a_script_without_spaces_is_found_behind_its_marks():
    one, edited, other = THAI
    facts = TextFacts.of([one, edited, other])
    assert facts.words.unspaced.all()
    assert near_copies(facts, facts, np.array([0, 0]), np.array([1, 2])).tolist() == [0]


@given(st.text("".join(sorted({letter for text in MARKED for letter in text})) + "\u200c ab-", max_size=60))
def test_both_ways_find_the_same_words(text):
    facts = TextFacts.of([text])
    start = facts.normalized[0]
    assert facts.words.counts.tolist() == [len(words_of(start))]
    assert WordBits.of([start], [start.encode()]).bits.tolist() == facts.words.bits.tolist()
    alone = " ".join(words_of(start))
    assert WordBits.of([alone], [alone.encode()]).bits.tolist() == facts.words.bits.tolist()


@given(*[st.lists(st.sampled_from(MARKED_WORDS), min_size=1, max_size=40)] * 2, st.integers(0, 40))
def test_near_copies_with_marks_are_never_ruled_out(words, others, kept):
    one, two = (TextFacts.of([" ".join(some)]) for some in (words, words[:kept] + others))
    shorter, longer = sorted([len(one.normalized[0]), len(two.normalized[0])])
    wanted = _alike(pieces(one.normalized[0]), pieces(two.normalized[0])) and 2 * shorter >= min(longer, 500)
    assert len(near_copies(one, two, np.array([0]), np.array([0]))) == wanted


def test_a_parquet_file_is_not_kept_while_it_is_read(tmp_path):
    noise = np.random.default_rng(0)
    schema = pa.schema({"query": pa.string(), "positive": pa.string(), "negative": pa.string()})
    with pq.ParquetWriter(tmp_path / "rows.parquet", schema, compression="none") as writer:
        for _ in range(24):
            texts = [noise.bytes(500).hex() for _ in range(3000)]
            writer.write_table(pa.table([texts[i::3] for i in range(3)], schema=schema))
    used = []
    for _ in ParquetRows(tmp_path / "rows.parquet").batches():
        used.append(pa.total_allocated_bytes())
    assert max(used) - min(used) < 12 << 20  # the file has 72 MB


def test_texts_without_letters_are_of_no_script():
    texts = ["12 345", "1,000 %", "№ 5", "+49 (0)30", "abc 1", "Größe", "蜜蜂 7", ""]
    scripts = TextFacts.of(texts).scripts.tolist()
    assert scripts[:4] == [NO_SCRIPT] * 4 and scripts[7] == NO_SCRIPT
    assert scripts[4] == scripts[5] == LATIN
    assert scripts[6] not in (NO_SCRIPT, LATIN)


def test_scripts_are_told_apart():
    words = (
        "bee пчела μέλισσα نحلة דבורה मधुमक्खी ผึ้ง 꿀벌 蜜蜂 մեղու মৌমাছি "
        "ਮੱਖੀ મધમાખી தேனீ తేనెటీగ ಜೇನುನೊಣ തേനീച്ച මීමැස්සා ເຜິ້ງ ပျား ფუტკარი ንብ ឃ្មុំ"
    ).split()
    scripts = TextFacts.of(words).scripts.tolist()
    assert NO_SCRIPT not in scripts and len(set(scripts)) == len(words) == 23
    assert TextFacts.of([f"{word} a {word}" for word in words]).scripts.tolist() == scripts
