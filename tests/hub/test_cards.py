"""Cards: true facts, metadata the Hub's own classes accept, HTML as meant, and an author's text that survives."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from datasets import Dataset
from huggingface_hub import DatasetCard, DatasetCardData, ModelCard
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from hf_posmine import MiningSummary, PositiveAwareMiner
from hf_posmine.hub.card_values import About
from hf_posmine.hub.cards import cell, fenced, marked, merge_body, record_in, split_card, templates
from hf_posmine.hub.dataset_card import DatasetFacts, dataset_card, source_words
from hf_posmine.hub.figures import score_histogram
from hf_posmine.hub.metadata import merge_configs, splits_there
from hf_posmine.hub.model_card import model_card
from hf_posmine.hub.push import write_configs
from hf_posmine.hub.training_record import EvaluationRecord, StageRecord, TrainedOn, describe_model
from hf_posmine.hub.variants import make_configs
from hf_posmine.mining.provenance import provenance
from hf_posmine.mining.record import MiningRecord, Source

HTML = MarkdownIt("commonmark", {"html": True}).enable("table")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def mined(sample_pairs):
    pairs = sample_pairs.select(range(30)).remove_columns(["positive_id"])
    options = {"filters": ["PercPos(0.7)"], "keep": ("scores", "ids", "ranks", "stats"), "num_negatives": 3}
    miner = PositiveAwareMiner.from_dataset(pairs, "embedded", **{"filters": (), **options})
    return miner, pairs.map(miner, batched=True)


@pytest.fixture(scope="module")
def card(mined, tmp_path_factory) -> str:
    miner, rows = mined
    source = Source("user/pairs", "pair", "train", COMMIT)
    summary = MiningSummary.from_dataset(rows, 3)
    record = provenance(miner, source=source, summary=summary, mined=rows)
    configs = make_configs({"train": rows}, "default", ["n-tuple", "scored", "flag-embedding"], record.columns, 3)
    files = write_configs(configs, tmp_path_factory.mktemp("files"))
    facts = DatasetFacts("me/mined", "default", configs, "figures/scores.png", "provenance.json")
    about = About("cc-by-sa-3.0", ["en"], "Pairs | mined *well*", "Questions of <b>all</b> kinds.", ["quiz"])
    return dataset_card(None, merge_configs({}, configs, files), record, facts, about).decode()


def body_of(card: str) -> str:
    return card.split("\n---\n", 1)[1]


def tables_of(card: str) -> list[list[list[str]]]:
    """Every table of the rendered card, as rows of cells."""
    html = HTML.render(body_of(card))
    return [
        [re.findall(r"<t[dh].*?>(.*?)</t[dh]>", row, re.S) for row in re.findall(r"<tr>(.*?)</tr>", table, re.S)]
        for table in re.findall(r"<table>(.*?)</table>", html, re.S)
    ]


def test_the_metadata_is_what_the_hub_understands(card):
    data = DatasetCard(card).data
    assert (data.license, data.language, data.size_categories) == ("cc-by-sa-3.0", ["en"], ["n<1K"])
    assert data.task_categories == ["text-retrieval", "sentence-similarity"]
    assert data.source_datasets == ["user/pairs"] and {"hard-negatives", "quiz"} <= set(data.tags)
    configs = {c["config_name"]: c["data_files"] for c in data.configs}
    assert set(configs) == {"default", "n-tuple", "documents", "queries", "scores"}
    assert configs["default"] == [{"split": "train", "path": "data/train-*"}]
    assert DatasetCardData(**data.to_dict()).to_dict() == data.to_dict()


def test_every_table_has_as_many_cells_in_each_row_as_in_its_head(card):
    tables = tables_of(card)
    assert len(tables) == 6
    for table in tables:
        assert {len(row) for row in table} == {len(table[0])}


def test_the_card_says_what_is_true(card, mined):
    miner, rows = mined
    html, body = HTML.render(body_of(card)), body_of(card)
    summary = MiningSummary.from_dataset(rows, 3)
    negatives = sum(map(len, rows["negatives"]))
    assert f"{negatives:,} negatives for 30 queries" in body
    assert "TopK-PercPos" in body and "<code>PercPos(0.7)</code>" in html
    assert f"{100 * summary.removed['PercPos(0.7)']:.1f} % were removed by the ceiling of `PercPos(0.7)`" in body
    assert f"{100 * summary.replaced:.1f} %" in body
    assert ["the row's positive", str(summary.excluded["positive"])] in [
        row for table in tables_of(card) for row in table
    ]
    median = f"{summary.quantiles['negative']['0.5']:.3f}"
    assert median in next(row for table in tables_of(card) for row in table if row[0] == "negative")
    assert f'href="https://huggingface.co/datasets/user/pairs/tree/{COMMIT}"' in html
    assert "<h1>Pairs | mined *well*</h1>" in html
    assert "The candidates are the positives of the source itself" in body
    assert (
        record_in(body, "default")
        and MiningRecord.from_json(record_in(body, "default")).miner_fingerprint == miner.fingerprint
    )


def test_no_template_mark_and_no_hole_is_left(card):
    assert not re.search(r"\{\{|\{%|\bNone\b|\bUndefined\b|\bnan\b", body_of(card).split("<!-- posmine:provenance")[0])
    assert "\n\n\n" not in card and not re.search(r"[^\n]\n## ", card)


def test_a_bare_record_makes_a_card_too(mined):
    """Without scores, ranks, statistics, source or licence nothing is claimed about them."""
    miner, rows = mined
    bare = rows.select_columns(["query", "positive", "negatives"])
    record = provenance(miner, source={}, summary=MiningSummary.from_dataset(bare, 3), mined=bare)
    configs = make_configs({"train": bare}, "one", [], record.columns, 3)
    facts = DatasetFacts("me/mined", "one", configs, None, "one/provenance.json")
    body = body_of(dataset_card(None, {}, record, facts, About()).decode())
    shown = body.split("<details>")[0]
    assert "Histogram" not in shown and "quantile" not in shown and "were removed by" not in shown
    assert "No licence was stated" in shown and "was not recorded" in shown
    assert 'load_dataset("me/mined", "one", split="train")' in shown
    assert score_histogram([bare]) is None


def test_a_card_of_naive_negatives_claims_no_ceiling(mined):
    miner, rows = mined
    made = provenance(miner, source={}, summary=MiningSummary.from_dataset(rows, 3))
    record = dataclasses.replace(made, settings=miner.settings.to_dict() | {"filters": []})
    configs = make_configs({"train": rows}, "default", [], record.columns, 3)
    facts = DatasetFacts("me/mined", "default", configs, None, "provenance.json")
    shown = body_of(dataset_card(None, {}, record, facts, About()).decode()).split("<details>")[0]
    assert "probably unlabelled positives are left out" not in shown and "Naive Top-K" in shown
    assert "unlabelled positives are likely among them" in shown


def test_the_histogram_is_the_same_for_the_same_scores(mined):
    _, rows = mined
    drawn = score_histogram([rows])
    assert drawn is not None and drawn.startswith(b"\x89PNG") and len(drawn) < 60_000
    assert score_histogram([rows.select(range(10)), rows.select(range(10, 30))]) == drawn
    assert score_histogram([rows.select(range(10))]) != drawn


def test_a_text_cannot_break_a_table_or_a_fence():
    text = "a|b\n`c` <img src=x onerror=alert(1)> [d](javascript:x) *e*"
    html = HTML.render(f"| x |\n|---|\n| {cell(text)} |\n")
    assert re.findall(r"<td>(.*?)</td>", html) == ["a|b `c` &lt;img src=x onerror=alert(1)&gt; [d](javascript:x) *e*"]
    assert [cell(v) for v in (None, True, 1234567, 0.123456, "")] == ["–", "yes", "1,234,567", "0.1235", "–"]


@given(st.text(alphabet="`~a\n ", max_size=30))
def test_nothing_inside_a_fence_closes_it(text):
    tokens = [t for t in HTML.parse(fenced(text) + "\n\nafter\n") if t.type in ("fence", "inline")]
    assert [t.type for t in tokens] == ["fence", "inline"] and tokens[1].content == "after"


TEXT = st.text(alphabet="ab|#\n-é", max_size=40)


@settings(max_examples=60)
@given(TEXT.filter(str.strip), st.lists(st.sampled_from(["one", "two", "three"]), min_size=1, max_size=6))
def test_whatever_an_author_wrote_survives_any_order_of_pushes(text, names):
    body = text
    for number, name in enumerate(names):
        body = merge_body(body, "# title", marked(name, f"part {number}"), name)
    assert body.startswith(text)
    last = {name: number for number, name in enumerate(names)}
    assert [f"part {last[name]}" in body for name in last] == [True] * len(last)
    assert body.count("posmine:begin") == len(last)


@given(TEXT)
def test_metadata_and_text_of_a_card_are_parted_to_the_character(text):
    assert split_card(f"---\nlicense: mit\n---\n{text}") == ({"license": "mit"}, text)
    assert split_card(None) == ({}, None)


def test_metadata_of_other_configurations_and_splits_stays(mined, tmp_path):
    rows = Dataset.from_dict({"query": ["q"], "negatives": [["n"]]})
    old = yaml.safe_load(
        "configs:\n- {config_name: other, data_files: [{split: dev, path: other/dev.parquet}]}\n"
        "- {config_name: default, data_files: [{split: test, path: data/test-*}]}\nlicense: mit"
    )
    from hf_posmine.hub.variants import Config

    configs = [Config("default", {"train": rows})]
    merged = merge_configs(old, configs, write_configs(configs, tmp_path))
    assert splits_there(merged, "default") == {"train", "test"} and splits_there(merged, "other") == {"dev"}
    assert merged["license"] == "mit"


def test_sources_are_named_without_their_folders():
    assert source_words(Source("~/secret/place/pairs.parquet", split="train", sha256="ab" * 32)) == (
        "the local data `pairs.parquet`, split `train`, sha256 `abababababababab…`"
    )


def test_the_templates_are_found_and_go_into_the_wheel():
    assert {p.name for p in templates().iterdir()} == {"dataset_card.md", "model_card.md", "questions_card.md"}
    told = (templates().parent / "pyproject.toml").read_text()
    assert '"model_card_templates" = "hf_posmine/model_card_templates"' in told


def test_the_model_card_s_metadata_and_figures_are_those_of_the_record(embedded_model):
    trained = TrainedOn(
        "nq",
        "user/nq",
        None,
        "train",
        COMMIT,
        "retrieval",
        "Given | a question",
        1000,
        "d",
        {"filters": ["PercPos(0.9)"]},
    )
    scores = EvaluationRecord("fiqa", "ndcg@10", 0.4321, 0.41, 0.45, 648)
    stage = StageRecord({"model": "embedded", "temperature": 0.02, "learning_rate": 1e-5}, 500, (trained,), (scores,))
    record = describe_model(embedded_model, (stage,))
    text = model_card(None, "me/retriever", embedded_model, record, About("mit", "en"), adapters=False).decode()
    data = ModelCard(text).data
    assert (data.base_model, data.datasets, data.license) == (
        "sentence-transformers/all-MiniLM-L6-v2",
        ["user/nq"],
        "mit",
    )
    (result,) = data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("fiqa", "ndcg@10", 0.4321)
    rows = [row for table in tables_of(text) for row in table]
    assert ["fiqa", "ndcg@10", "0.4321", "0.4100 – 0.4500", "648"] in rows
    assert ["temperature", "0.02"] in rows and ["learning rate", "1e-05"] in rows
    assert "Given | a question" in next(row for row in rows if "user/nq" in row[0])[-1]
    for table in tables_of(text):
        assert {len(row) for row in table} == {len(table[0])}
    assert not re.search(r"\{\{|\{%|\n\n\n|[^\n]\n## ", text)
