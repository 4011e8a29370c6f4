"""Texts that count as the same, languages of negatives, and mining across languages, against plain computations."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from datasets import Dataset, load_from_disk

from hf_posmine import Corpus, MiningSummary, PositiveAwareMiner, mine
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError
from hf_posmine.mining.execution.shards import read_shards
from hf_posmine.mining.provenance import provenance, read_provenance, write_provenance
from hf_posmine.mining.record_schema import check_record
from hf_posmine.teachers import BM25Teacher
from tests.mining.test_long_documents import judged

SHAPES = {
    "exact": "Die Elbe fließt nach Hamburg.",
    "normalized": "die  ELBE fließt nach\u3000Hamburg.",
    "loose": "\ufeffDie El\u00adbe\ufe0f fließt nach\u200b \u200fHamburg.",
}


@pytest.mark.parametrize(("match", "kept"), [("exact", 2), ("normalized", 1), ("loose", 0)])
@pytest.mark.parametrize("own", [True, False])
def test_the_choice_of_the_command_line_decides_what_is_a_positive_again(tmp_path, capsys, match, kept, own):
    rows = [{"query": "Where does the Elbe flow?", "positive": SHAPES["exact"]}]
    others = [
        {"query": f"question {at}", "positive": text} for at, text in enumerate([*SHAPES.values(), "Another text."])
    ]
    if own:
        rows += others
    else:
        Dataset.from_list([{"text": row["positive"]} for row in others]).to_json(str(tmp_path / "c.jsonl"))
    Dataset.from_list(rows).to_json(str(tmp_path / "rows.jsonl"))
    corpus = [] if own else ["--corpus", str(tmp_path / "c.jsonl")]
    main(
        ["mine", str(tmp_path / "rows.jsonl"), *corpus, "--match", match, "--teacher", "random", "--no-exclude-lookalikes",
         "--output", str(tmp_path / "mined"), "--num-negatives", "9"]
    )  # fmt: skip
    mined = load_from_disk(str(tmp_path / "mined"))[0]["negatives"]
    assert sorted(text == "Another text." for text in mined) == [False] * kept + [True]
    assert json.loads((tmp_path / "mined" / "provenance.json").read_text())["corpus"]["match"] == match
    assert (f"texts match {match}" in capsys.readouterr().out) == (match != "normalized")


def test_a_corpus_that_matches_otherwise_is_refused(toy_model):
    corpus = Corpus.from_texts(["a", "b"], match="exact")
    rows = Dataset.from_dict({"query": ["q"], "positive": ["a"]})
    with pytest.raises(InputError, match="match='loose', and the corpus matches texts 'exact'"):
        PositiveAwareMiner.from_dataset(rows, "random", corpus=corpus, match="loose")


def test_negatives_are_counted_by_pair_of_languages_and_their_columns_hold_them(toy_model):
    rng = np.random.default_rng(0)
    words = "red green blue cat dog bird sky sea tree stone".split()
    languages = {}
    for at in range(60):
        languages[f"{' '.join(rng.choice(words, 3))} {at}"] = [None, "de", "en", "zh"][at % 4]
    rows = [{"query": text[:9], "positive": text, "lang": language} for text, language in list(languages.items())[:20]]
    corpus = [{"text": text, "lang": language} for text, language in languages.items()]
    how = {"language_column": "lang", "filters": (), "teacher_options": {"fingerprint": "toy"}}
    mined = mine(
        Dataset.from_list(rows),
        PositiveAwareMiner.from_dataset(Dataset.from_list(rows), toy_model, corpus=corpus, **how),
    )
    expected: dict[str, Counter] = {}
    for row, own, negatives, found in zip(
        rows, *(mined[name] for name in ("query_language", "negatives", "negatives_languages")), strict=True
    ):
        assert own == (row["lang"] or "und") and found == [languages[text] or "und" for text in negatives]
        expected.setdefault(own, Counter()).update(found)
    summary = MiningSummary.from_dataset(mined)
    assert summary.languages == expected and list(summary.languages) == sorted(expected)
    assert "languages of the negatives of queries in de" in str(summary)
    without = mine(
        Dataset.from_list(rows).remove_columns("lang"),
        PositiveAwareMiner.from_dataset(Dataset.from_list(rows), toy_model, corpus=corpus, **how),
    )
    assert set(without["query_language"]) == {"und"} and without["negatives"][:] == mined["negatives"][:]


def in_languages(values, documents=("de", "en"), queries=None):
    """Rows and a miner over documents in some languages."""
    corpus = [{"text": f"document {n}", "lang": documents[n % len(documents)]} for n in range(max(8, len(documents)))]
    rows = Dataset.from_list(
        [{"query": f"q{n}", "positive": "document 0", "lang": value} for n, value in enumerate(values)]
    )
    how = {"corpus": corpus, "language_column": "lang", "num_negatives": 1}
    return rows, lambda: PositiveAwareMiner.from_dataset(rows, "random", **how)


@pytest.mark.parametrize("way", ["mine", "output", "map"])
@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            ["de", "x" * 65],
            r"'lang': row 1.* is 'xxx.*at most 64 characters, as a language is; name the column of languages",
        ),
        (["de", "en", "d\ne"], "'lang': row 2.*without control characters or new lines"),
        ([f"l{n}" for n in range(1024)], "'lang' has 1,024 different values up to row 1023"),
    ],
)
def test_languages_of_queries_that_no_record_holds_are_an_error_before_any_is_mined(
    fresh_home, tmp_path, monkeypatch, values, message, way
):
    rows, miner = in_languages(values)
    made = miner()
    if way != "map":
        monkeypatch.setattr(PositiveAwareMiner, "prepare", lambda self: pytest.fail("mined"))
    with pytest.raises(InputError, match=message):
        if way == "map":
            rows.map(made, batched=True, batch_size=2000)
        else:
            mine(rows, made, output=tmp_path / "out" if way == "output" else None)


@pytest.mark.parametrize(
    ("documents", "message"),
    [(("de", "x" * 65), "at most 64 characters"), ([str(n) for n in range(1024)], "1,024 different values")],
)
def test_languages_of_documents_that_no_record_holds_are_an_error(fresh_home, documents, message):
    with pytest.raises(InputError, match=rf"language_column='lang'.*{message}"):
        in_languages(["de"], documents)[1]()


def test_as_many_languages_as_a_record_holds_are_written_and_read(fresh_home, tmp_path):
    names = [f"{n:064}" for n in range(1023)]
    rows, miner = in_languages([*names, None], [*names, None])
    made = miner()
    mined = mine(rows, made)
    record = provenance(made, source={}, summary=MiningSummary.from_dataset(mined))
    write_provenance(tmp_path / "provenance.json", record)
    again = read_provenance(tmp_path / "provenance.json")
    assert len(again.summary["languages"]) == 1024 and "und" in again.summary["languages"]


def test_the_rarest_languages_of_a_long_stream_are_counted_together(fresh_home, tmp_path):
    values = [f"l{n:04}" for n in range(1500)] + [f"l{n:04}" for n in range(1023)]
    rows, miner = in_languages(values)
    made = miner()
    mine(rows.to_iterable_dataset(), made, output=tmp_path / "out", batch_size=500)
    found = MiningSummary.from_dataset(read_shards(tmp_path / "out"))
    assert list(found.languages) == [*(f"l{n:04}" for n in range(1023)), "477 other languages"]
    assert sum(found.languages["477 other languages"].values()) == 477
    assert sum(sum(counts.values()) for counts in found.languages.values()) == len(values)
    check_record(provenance(made, source={}, summary=found).to_dict())


@pytest.fixture(scope="module")
def parallel(tmp_path_factory):
    """XQuAD in three languages as one corpus with parallel ids, questions of each, and a tokenizer of its words and characters."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    folder, documents, rows = tmp_path_factory.mktemp("xquad"), [], []
    for language in ("de", "es", "zh"):
        texts, queries, relevant = judged(f"xquad/{language}")
        documents += [
            {"id": f"{language}-{name}", "text": text, "lang": language, "parallel_id": name}
            for name, text in texts.items()
        ]
        for at, (name, query) in enumerate(list(queries.items())[::30]):
            of = {"zh": "de"}.get(language, "zh") if at % 4 == 3 else language  # a quarter asks across languages
            rows.append({"query": query, "positive_id": f"{of}-{relevant[name][0]}", "lang": language})
    tokenizer = Tokenizer(models.WordLevel(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordLevelTrainer(special_tokens=["[UNK]"], vocab_size=50_000, show_progress=False)
    tokenizer.train_from_iterator([document["text"] for document in documents], trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(str(folder / "tokenizer"))
    Dataset.from_list(documents).to_json(str(folder / "corpus.jsonl"))
    Dataset.from_list(rows).to_json(str(folder / "rows.jsonl"))
    return folder, documents, rows


@pytest.mark.parametrize("same", [["parallel_id"], []], ids=["without translations", "with translations"])
def test_translations_of_the_positive_are_false_negatives_of_every_language_unless_left_out(parallel, tmp_path, same):
    folder, documents, rows = parallel
    main(
        ["mine", str(folder / "rows.jsonl"), "--corpus", str(folder / "corpus.jsonl"), "--positive-id-column", "positive_id",
         "--teacher", f"BM25(tokenizer={str(folder / 'tokenizer')!r})", "--filters", "none", "--exclude-same", *same,
         "--language-column", "lang", "--output", str(tmp_path / "mined"), "--quiet"]
    )  # fmt: skip
    mined = load_from_disk(str(tmp_path / "mined"))
    corpus = Corpus.from_dataset(documents)
    teacher = BM25Teacher(corpus, tokenizer=str(folder / "tokenizer"))
    ids, parallel_ids = (np.array([document[name] for document in documents]) for name in ("id", "parallel_id"))
    every = np.tile(corpus.rows_of_ids(ids), (len(rows), 1))
    scores, false, pairs = teacher.score([row["query"] for row in rows], every), Counter(), {}
    for row, own, found in zip(rows, scores, mined, strict=True):
        passage = row["positive_id"].partition("-")[2]
        out = parallel_ids == passage if same else ids == row["positive_id"]
        best = sorted(np.flatnonzero(~out).tolist(), key=lambda at: (-own[at], at))[:4]
        assert found["negatives_ids"] == ids[best].tolist()
        false[row["lang"]] += int((parallel_ids[best] == passage).sum())
        pairs.setdefault(row["lang"], Counter()).update(documents[at]["lang"] for at in best)
    assert all(count == 0 for count in false.values()) if same else min(false[name] for name in ("de", "es", "zh")) > 0
    record = json.loads((tmp_path / "mined" / "provenance.json").read_text())
    assert record["summary"]["languages"] == pairs
    assert record["settings"]["exclude_same"] == same and record["teachers"][0]["tokenizer_digest"]
