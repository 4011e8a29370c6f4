"""The report of rows with images: thumbnails in the table and in the examples, small, and nothing else."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from hf_posmine import Corpus, PositiveAwareMiner, mine
from hf_posmine.core.errors import InputError
from hf_posmine.data.images import image_name
from hf_posmine.report import MinedRows, make_report
from hf_posmine.report.text_table import TextTable
from tests.report.made import table
from tests.support.pages import encoded, page

TEXTS = [f"page {number} <script>alert({number})</script>" for number in range(8)]


@pytest.fixture(scope="module")
def images():
    return [page(text, (900, 300)) for text in TEXTS]


def mined_as(form, images, queries=TEXTS):
    kind = Value("string") if isinstance(queries[0], str) else ImageFeature()
    files = [{"bytes": encoded(image, "JPEG"), "path": None} for image in images]
    pairs = Dataset.from_dict(
        {"query": queries, "image": files}, features=Features({"query": kind, "image": ImageFeature()})
    )
    how = {"num_negatives": 2, "negatives_as": form, "keep": ("scores",)}
    return mine(pairs, PositiveAwareMiner.from_dataset(pairs, "random", **how))


@pytest.mark.parametrize("form", ["ids", "images"])
def test_every_image_has_one_small_thumbnail(fresh_home, images, form):
    mined = mined_as(form, images)
    html = make_report(MinedRows.of(mined, query_column="query", positive_column="image")).html
    data, texts = table(html)
    names = [image_name(row["image"]) for row in mined]
    assert [texts[number] for number in data["positives"]["values"]] == names
    assert set(data["images"]) == set(names) and all(len(uri) < 12_000 for uri in data["images"].values())
    for name, row in zip(names, mined, strict=True):
        kind, _, value = data["images"][name].partition(",")
        small = Image.open(io.BytesIO(base64.b64decode(value)))
        assert (kind, small.format, small.size) == ("data:image/jpeg;base64", "JPEG", (128, 43))
        wanted = row["image"].resize(small.size)
        means = [np.asarray(one, np.float64).mean((0, 1)) for one in (small, wanted)]
        assert np.allclose(*means, atol=8)
    negatives = mined["negatives" if form == "images" else "negatives_ids"]
    wanted = [one if isinstance(one, str) else image_name(one) for row in negatives for one in row]
    assert [texts[number] for number in data["negatives"]["values"]] == wanted
    assert '<img class="thumb" src="data:image/jpeg;base64,' in html
    assert "<script>alert" not in html


def test_ids_are_shown_as_the_corpus_has_them(fresh_home, tmp_path, images):
    """Pages named by ids of their own: negatives and positives get their pictures by the corpus, and only so."""
    pages = Dataset.from_dict(
        {"id": list("abcdefgh"), "page": images}, features=Features({"id": Value("string"), "page": ImageFeature()})
    )
    corpus = Corpus.of(pages)
    pairs = Dataset.from_dict({"query": TEXTS, "positive_id": list("abcdefgh")})
    how = {"num_negatives": 2, "keep": ("scores",), "corpus": corpus}
    mined = mine(pairs, PositiveAwareMiner.from_dataset(pairs, "random", **how))
    assert set(mined.column_names) >= {"negatives_ids"} and "negatives" not in mined.column_names
    data, texts = table(make_report(MinedRows.of(mined)).html)
    assert not data.get("images")
    data, texts = table(make_report(MinedRows.of(mined, corpus=corpus)).html)
    names = dict(zip("abcdefgh", map(image_name, images), strict=True))
    assert [texts[n] for n in data["negatives"]["values"]] == [
        names[one] for row in mined["negatives_ids"] for one in row
    ]
    assert [texts[n] for n in data["positives"]["values"]] == [names[one] for one in mined["positive_id"]]
    assert set(data["images"]) == {*names.values()}
    lost = (
        mined.add_column("other", [["z"]] * 8).remove_columns("negatives_ids").rename_column("other", "negatives_ids")
    )
    with pytest.raises(InputError, match=r"column 'negatives'.*'z'"):
        make_report(MinedRows.of(lost, corpus=corpus))


def test_queries_that_are_images_and_the_limit(fresh_home, monkeypatch, images):
    monkeypatch.setattr("hf_posmine.report.text_table.MOST_IMAGES", 3)
    mined = mined_as("ids", images, [image.rotate(90) for image in images])
    data, texts = table(make_report(MinedRows.of(mined, query_column="query", positive_column="image")).html)
    assert [texts[number] for number in data["query"]] == [image_name(row["query"]) for row in mined]
    assert len(data["images"]) == 3


def test_a_page_of_texts_has_none(fresh_home):
    texts = TextTable(100)
    texts.add(["image:" + "0" * 32, "a text"])
    assert texts.images == {}
