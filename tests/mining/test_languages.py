"""Texts that count as the same, languages of negatives, and mining across languages, against plain computations."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset, load_from_disk

from hf_posmine import Corpus, PositiveAwareMiner
from hf_posmine.cli.main import main
from hf_posmine.core.errors import InputError

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
