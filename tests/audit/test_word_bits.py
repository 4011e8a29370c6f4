"""Words as bits rule out no near copy, whatever the script, and a parquet file is not kept in memory while it is read."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from hf_posmine.audit.text_facts import LATIN, NO_SCRIPT, TextFacts, _alike, near_copies
from hf_posmine.audit.word_bits import WordBits
from hf_posmine.data.likeness import pieces
from hf_posmine.data.row_tables import ParquetRows
from tests.audit.planted import passage

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
