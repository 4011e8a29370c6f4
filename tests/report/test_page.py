"""The page as text: what it says, that it is whole and closed in itself, and that no text of the data breaks out of it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest
from datasets import Dataset, DatasetDict

from hf_posmine.report import TableLimits, make_report, write_report
from tests.report.made import at_random, by_hand, mined, rows_of
from tests.report.test_comparison import remined

HOSTILE = '</script><script>alert(1)</script><img src=x onerror="alert(2)">{{ 7*7 }}<!-- \u2028 &amp; \'"'
VOID = {"meta", "link", "input", "br", "img", "path", "line", "rect", "col"}


class Outline(HTMLParser):
    """Tags with their attributes, and whether they nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.wrong: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.texts.append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def html():
    return make_report(mined(by_hand(), name="by hand")).html


@pytest.fixture(scope="module")
def outline(html):
    return Outline(html)


def test_tags_nest_and_ids_are_unique(outline):
    assert outline.wrong == [] and outline.open == []
    ids = [attributes["id"] for _, attributes in outline.tags if attributes.get("id")]
    assert len(ids) == len(set(ids))
    for _, attributes in outline.tags:
        for name in ("aria-labelledby", "aria-describedby", "for"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
    targets = [
        attributes["href"][1:] for attributes in outline.of("a") if (attributes.get("href") or "").startswith("#")
    ]
    assert targets and set(targets) <= set(ids)


def test_nothing_is_asked_of_a_network(html, outline):
    assert [a["href"] for a in outline.of("link")] == ["data:,"]
    assert not outline.of("img") and not outline.of("iframe") and all("src" not in a for a in outline.of("script"))
    assert all((a.get("href") or "#").startswith("#") for a in outline.of("a"))
    assert not re.search(r"@import|url\(\s*['\"]?(?!#)", html)
    assert "http://" not in html and "https://" not in html


def test_only_this_style_and_this_script_may_run(html, outline):
    policy = next(a["content"] for a in outline.of("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    for directive, tag in (("style-src", "style"), ("script-src", "script")):
        content = re.search(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL).group(1)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}';" in policy
    assert not any("style" in attributes or "onclick" in attributes for _, attributes in outline.tags)


def test_figures_and_controls_have_names(outline):
    labels = sum(tag == "label" for tag, _ in outline.tags)
    assert labels == len(outline.of("input")) + len(outline.of("select"))
    for drawing in outline.of("svg"):
        assert drawing["role"] == "img" and drawing["aria-labelledby"]
    assert len(outline.of("svg")) == 4 and "As a table" in outline.text


def test_the_numbers_of_the_hand_made_rows_are_there(outline):
    for said in (
        "9 negatives for 5 rows", "yield: share of the requested negatives 90%", "rows with fewer than 2 1 (20%)",
        "excluded: the row's positive 5", "negatives that hold it 2 (22.22%)",
        "positives that hold the answer (column answers) 5 (100%)",
        "1 labelled positives among the negatives", "2 near duplicates of the positive", "86% of the words shared",
        "2,000 candidates above its ceiling", "The table holds all 5 rows", "There is no record of how they were mined",
    ):  # fmt: skip
        assert said in outline.text, said


def test_a_minimal_dataset_says_what_to_keep():
    text = Outline(make_report(mined(by_hand().select_columns(["query", "positive", "negatives"]))).html).text
    for option in ("scores", "ranks", "stats", "ids"):
        assert f'keep=("{option}",)' in text
    assert "Closest to" not in text and "Negatives per row" in text


def test_a_dataset_with_only_negatives_and_a_query():
    rows = Dataset.from_dict({"query": ["a", "b"], "positive_id": ["1", "2"], "negatives": [["x"], []]})
    made = make_report(mined(rows))
    assert made.suspects["Too few negatives"] == 1 and rows_of(made.html)[1]["negatives"] == []


def test_rows_without_any_negative_and_one_row():
    rows = Dataset.from_dict({"query": ["a"], "positive": ["b"], "negatives": [["x"]]}).map(lambda _: {"negatives": []})
    made = make_report(mined(rows))
    assert "0 negatives for 1 rows" in made.html and made.rows == 1


@pytest.mark.parametrize("column", ["query", "positive", "negatives", "negatives_ids", "answers"])
def test_hostile_texts_stay_texts(column):
    def spoil(row):
        return {
            column: [HOSTILE + text for text in row[column]] if isinstance(row[column], list) else HOSTILE + row[column]
        }

    html = make_report(mined(by_hand().map(spoil), name=HOSTILE), limits=TableLimits(characters=10_000)).html
    outline = Outline(html)
    assert outline.wrong == [] and len(outline.of("script")) == 4 and not outline.of("img")
    assert "{{ 7*7 }}" in outline.text and "<script>alert(1)" not in html
    meta = re.search(r'<script type="application/json" id="meta">(.*?)</script>', html, re.DOTALL).group(1)
    assert json.loads(meta)["name"] == HOSTILE
    if column in ("query", "negatives"):
        held = rows_of(html)[0][column]
        assert (held if column == "query" else held[0]).startswith(HOSTILE)


def test_hostile_names_of_splits_and_teachers_stay_texts():
    rows = Dataset.from_dict({
        "query": ["a"], "positive": ["c"], "negatives": [["x"]], "positive_score": [0.5], "negatives_scores": [[0.25]],
        "negatives_teachers": [[HOSTILE]], "negatives_positive_scores": [[0.5]],
    })  # fmt: skip
    outline = Outline(make_report(mined(DatasetDict({"a": rows, "b": rows}))).html)
    assert outline.wrong == [] and len(outline.of("script")) == 4 and not outline.of("img")


def test_the_same_rows_give_the_same_bytes():
    rows = at_random(200, 50)
    assert make_report(mined(rows)).html == make_report(mined(rows)).html


def test_a_comparison_stands_beside(tmp_path):
    rows = at_random(120, 51)
    other = remined(rows, 52)
    report = write_report(mined(rows, name="one"), tmp_path / "page.html", mined(other, name="two"))
    changed = sum(set(a) != set(b) for a, b in zip(rows["negatives"], other["negatives"], strict=True))
    assert report.changed == changed
    html = (tmp_path / "page.html").read_text("utf8")
    outline = Outline(html)
    assert html == report.html and outline.wrong == [] and [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert f"120 rows are in both, matched by the texts of query and positive. {changed} of them" in outline.text
    assert "Suspicious rows one two labelled positives among the negatives" in outline.text
    assert "Only in two" in outline.text and "Overlap with two" in outline.text
    heads = [tag for tag, attributes in outline.tags if tag == "th" and attributes.get("scope") == "col"]
    assert len(heads) > 4


def test_the_record_is_told(tmp_path):
    from hf_posmine.cli.main import main
    from hf_posmine.report import MinedRows
    from tests.conftest import SAMPLE

    path = tmp_path / "mined"
    main(["mine", str(SAMPLE), "--teacher", "embedded", "--filters", "PercPos(0.95)", "--output", str(path), "--quiet"])
    report = make_report(MinedRows.load(path))
    text = Outline(report.html).text
    assert "mined by embedded with PercPos(0.95) and Top()" in text and "embedded (cosine, weights" in text
    assert "of the naive top 4, removed by the ceiling of PercPos(0.95) 7.75%" in text
    assert "source of the rows sample, split train" in text and str(SAMPLE.parent) not in report.html
