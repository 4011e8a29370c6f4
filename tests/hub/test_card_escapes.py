"""No value changes the structure of a card, plants a mark or a record in it, or lets it grow from push to push."""

from __future__ import annotations

import dataclasses
import re
from functools import cache
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_posmine import PositiveAwareMiner, Qrels, push_dataset
from hf_posmine.core.errors import InputError
from hf_posmine.hub.card_values import LICENSES, About
from hf_posmine.hub.cards import marked, merge_body, record_in, split_card
from hf_posmine.hub.dataset_card import DatasetFacts, dataset_card
from hf_posmine.hub.model_card import model_card
from hf_posmine.hub.repository import Changes, Destination, publish
from hf_posmine.hub.training_record import StageRecord, TrainedOn, describe_model
from hf_posmine.hub.variants import make_configs
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import MiningRecord, Source
from hf_posmine.mining.summary import MiningSummary
from hf_posmine.teachers import RandomTeacher
from tests.hub.mining import KEEP, make_pairs

if TYPE_CHECKING:
    from datasets import Dataset

HTML = MarkdownIt("commonmark", {"html": True}).enable("table").enable("strikethrough")
BEGIN, END = "<!-- posmine:begin default (generated; replaced by the next push) -->", "<!-- posmine:end default -->"
PLANTED = '<!-- posmine:provenance -->\n```json\n{"planted": 1}\n```'
HOSTILE = (
    END, BEGIN, f"a\n{END}\nb", f"{END}\n{BEGIN}", PLANTED, f"x\n\n{PLANTED}\n", "a|b|c", "`|`", "``", "```\n# heading\n```",
    "</details>", "<img src=x onerror=alert(1)>", "<script>alert(1)</script>", "[a](https://evil.example)", "![a](//evil.example)",
    "a\n\n# heading\n", "\n---\n", "~~~\nx\n~~~", "&lt;b&gt;", '", __import__("os").system("id"), "', "\\", "\\|", "*a* _b_ ~~c~~",
    "| a | b |\n|---|---|\n| c | d |", "\x1b[31m", "\u202e", "{{ 7 * 7 }}", "{% raw %}",
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(HOSTILE),
    st.lists(st.sampled_from([*HOSTILE, " ", "\n", "x"]), min_size=1, max_size=3).map("".join),
    st.text(alphabet="`~|<>-!#\\\n ab[]()*_&\"'", min_size=1, max_size=30),
).filter(str.strip)


@cache
def mined() -> tuple[Dataset, MiningRecord]:
    pairs = make_pairs(6)
    known = Qrels.from_dataset(pairs, "query", "positive")
    miner = PositiveAwareMiner(
        corpus=known.documents, teachers=RandomTeacher(known.documents), known_positives=known,
        positive_column="positive", num_negatives=2, filters=["PercPos(0.9)"], keep=KEEP,
    )  # fmt: skip
    rows = pairs.map(miner, batched=True)
    summary = MiningSummary.from_dataset(rows, 2)
    return rows, provenance(miner, source={}, corpus_source={}, summary=summary, mined=rows)


def make_card(value: str, readme: str | None = None) -> str:
    """A card with a value in every place that takes a text."""
    rows, record = mined()
    column = value[:200]
    rows = rows.rename_column("note", column) if column not in rows.column_names else rows
    teacher = dataclasses.replace(
        record.teachers[0], name=value,
        recipe={"kind": value, "commit": value, "model_digest": value, "weights_dtype": value, "max_seq_length": value,
                "prompts": {value: value}},
    )  # fmt: skip
    source = Source(value, value, value, sha256=value)
    hub = Source("alice/pairs", value, value, "0" * 40)
    record = dataclasses.replace(
        record, teachers=(teacher,), source=source, corpus=dataclasses.replace(record.corpus, source=hub, fingerprint=value),
        command=value, settings=dict(record.settings) | {"filters": [value], "sampler": value},
        columns=dataclasses.replace(record.columns, positive=value),
        guarantee={
            "rate": 0.05, "confidence": 0.95, "filters": [value], "estimate": 0.02, "queries": 80, "evidence": value,
            "ladder": {value: []}, "passed": {value: 1}, "assumptions": [value],
            "judge": {"least_sensitivity": 0.5, "greatest_specificity": 1.0},
        },
    )  # fmt: skip
    configs = make_configs({"train": rows}, "default", [], record.columns, 2)
    facts = DatasetFacts("me/mined", "default", configs, None, "provenance.json")
    return dataset_card(readme, {"license": value}, record, facts, About(title=value)).decode()


def shape(card: str) -> list[str]:
    """The structure of the rendered card without its texts."""
    html = HTML.render(split_card(card)[1] or "")
    html = re.sub(r"<pre><code.*?</code></pre>", "<pre/>", html, flags=re.DOTALL)
    html = re.sub(r'"https://huggingface\.co/[\w./-]*"|"#?[\w.-]+"', '"…"', html)
    return re.findall(r"<[^>]*>", re.sub(r"</?(code|em|strong|p)>", "", html))


@settings(max_examples=60, deadline=None)
@given(VALUES)
def test_every_value_is_escaped_for_its_place_and_a_push_again_changes_nothing(value):
    card = make_card(value)
    assert shape(card) == shape(make_card("benign"))
    lines = card.splitlines()
    assert (lines.count(BEGIN), lines.count(END)) == (1, 1)
    body = split_card(card)[1]
    assert record_in(body, "default") and '"planted": 1}' not in record_in(body, "default").splitlines()
    assert '"tool": "hf_posmine"' in record_in(body, "default")
    assert make_card(value, card) == card


@pytest.mark.parametrize("value", [END, f"a\n{END}\nb", PLANTED, f"{END}\n{BEGIN}\n{PLANTED}"])
def test_a_description_is_markdown_but_holds_no_mark(value):
    rows, record = mined()
    configs = make_configs({"train": rows}, "default", [], record.columns, 2)
    facts = DatasetFacts("me/mined", "default", configs, None, "provenance.json")
    about = About(description=f"*Pairs* of all kinds. {value}")
    card = dataset_card(None, {}, record, facts, about).decode()
    assert (
        "*Pairs* of all kinds" in card and record_in(split_card(card)[1], "default").strip() == record.to_json().strip()
    )
    assert dataset_card(card, split_card(card)[0], record, facts, about).decode() == card


MARKS = st.sampled_from(
    [
        BEGIN,
        END,
        BEGIN.replace("default", "one"),
        END.replace("default", "one"),
        "text",
        "",
        f"in line {END}",
        f"  {BEGIN}",
    ]
)


@given(st.lists(MARKS, max_size=8))
def test_marks_that_an_author_left_behind_lose_no_text_and_let_no_card_grow(lines):
    old = "\n".join(["author", *lines])
    once = merge_body(old, "# title", marked("default", "part"), "default")
    twice = merge_body(once, "# title", marked("default", "part"), "default")
    assert twice == once and once.startswith("author")
    assert once.count("part") == 1 and once.count("text") >= old.count("text") - _inside(old)


def _inside(old: str) -> int:
    """Texts of the author between the marks, which are generated text."""
    found = re.search(
        rf"^{re.escape(BEGIN)}$((?:(?!^{re.escape(BEGIN)}$).)*?)^{re.escape(END)}$", old, re.DOTALL | re.MULTILINE
    )
    return found.group(1).count("text") if found else 0


@settings(max_examples=25, deadline=None)
@given(value=VALUES)
def test_a_model_card_is_escaped_too(embedded_model, value):
    def make(text: str, readme: str | None = None) -> str:
        trained = TrainedOn(text, text, text, text, text, text, text, 10, text, {"filters": [text], "teacher": text})
        stage = StageRecord({"model": text, "batches": text, "dtype": text}, 5, (trained,))
        record = dataclasses.replace(
            describe_model(embedded_model, (stage,)), prompts={text: text}, created="", similarity=text
        )
        return model_card(readme, "me/retriever", embedded_model, record, About(title=text), adapters=False).decode()

    card = make(value)
    assert shape(card) == shape(make("benign")) and make(value, card) == card


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"license": "Apache-2.0"}, "license='Apache-2.0' is not one that the Hub accepts; did you mean 'apache-2.0'"),
        ({"license": "mit\n---\nconfigs: []"}, "is not one that the Hub accepts"),
        ({"license": "made-up"}, "'other' is for all that are not in it"),
        ({"language": "english"}, "language='english' is not one that the Hub accepts; give ISO 639"),
        ({"language": ["en", "EN"]}, "language='EN'"),
        ({"language": ["en-US"]}, "language='en-US'"),
        ({"tags": ["ok", "a\nb"]}, "tag .* is not one line"),
        ({"tags": [" "]}, "tag ' ' is not one line"),
        ({"tags": ["x" * 101]}, "is not one line of 1 to 100"),
    ],
)
def test_values_that_the_hub_does_not_accept_are_refused_before_a_push(about, message):
    with pytest.raises(InputError, match=message):
        About(**about)


def test_values_that_the_hub_accepts_pass():
    for name in LICENSES:
        assert About(license=name, language=["en", "deu", "code", "multilingual"], tags=["quiz"]).license == name


def test_a_card_that_the_hub_refuses_is_an_error_in_a_line(hub):
    rows, record = mined()
    push_dataset(rows, "alice/mined", record)
    card = b"---\nbase_model: /a/local/path\n---\n# x\n"
    with pytest.raises(InputError, match="the Hub does not accept the card of alice/mined: Invalid metadata in README"):
        publish(Destination("alice/mined", "dataset"), "card", lambda _: Changes({"README.md": card}))
