"""Rows of images through the Hub and back: types, digests, and the same rows from the record alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from datasets import Dataset, Features, Value, load_dataset
from datasets import Image as ImageFeature
from huggingface_hub import hf_hub_download
from sentence_transformers import MultiVectorEncoder, SentenceTransformer

from hf_posmine import Corpus, PositiveAwareMiner, mine, push_dataset, remine, to_training, verify
from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import named_rows
from hf_posmine.data.images import image_name
from tests.support import tiny
from tests.support.pages import encoded, pages

REPO, TEACHER = "alice/pages-mined", "alice/clip"
TEXTS = [f"page {number} of the book" for number in range(12)]


@pytest.fixture(autouse=True)
def _no_figure(monkeypatch):
    monkeypatch.setattr("hf_posmine.hub.push.score_histogram", lambda _: None)


@pytest.fixture(params=["one vector", "late interaction"])
def teacher(hub, tmp_path, request) -> str:
    """A spelling of a model on the Hub."""
    if request.param == "one vector":
        SentenceTransformer(str(tiny.clip(tmp_path / "clip")), device="cpu").push_to_hub(TEACHER, exist_ok=True)
        return TEACHER
    MultiVectorEncoder(str(tiny.late_pages(tmp_path / "late")), device="cpu").push_to_hub(TEACHER, exist_ok=True)
    return f"Late('{TEACHER}')"


def pairs_in(folder, *, asked="texts") -> Dataset:
    """Some images in files, the others inside the rows; queries are texts, or the pages upside down."""
    values = []
    for number, image in enumerate(pages(TEXTS)):
        path = folder / f"{number}.png"
        image.save(path)
        values.append(str(path) if number % 2 else {"bytes": encoded(image, "JPEG"), "path": None})
    turned = [{"bytes": encoded(image.rotate(180), "JPEG"), "path": None} for image in pages(TEXTS)]
    queries, kind = (TEXTS, Value("string")) if asked == "texts" else (turned, ImageFeature())
    features = Features({"query": kind, "image": ImageFeature()})
    return Dataset.from_dict({"query": queries, "image": values}, features=features)


def hub_card() -> str:
    return Path(hf_hub_download(REPO, "README.md", repo_type="dataset")).read_text("utf8")


def test_the_corpus_that_a_card_names_resolves_the_ids(fresh_home, tmp_path):
    pairs = pairs_in(tmp_path)
    miner = PositiveAwareMiner.from_dataset(pairs, "random", num_negatives=2)
    mined = mine(pairs, miner)
    rows = to_training(mined, "n-tuple", corpus=Corpus.from_dataset(mined, "image", id=""), lazy=True)
    assert [image_name(rows[3][f"negative_{n}"]) for n in (1, 2)] == mined[3]["negatives_ids"]


@pytest.mark.parametrize(("form", "asked"), [("ids", "texts"), ("images", "texts"), ("ids", "images")])
def test_types_and_rows_survive_and_the_record_gives_them_again(teacher, tmp_path, fresh_home, form, asked):
    pairs = pairs_in(tmp_path, asked=asked)
    miner = PositiveAwareMiner.from_dataset(
        pairs, teacher, num_negatives=2, filters="MarginPos(0.0001)", negatives_as=form, keep=("scores",)
    )
    mined = mine(pairs, miner)
    variants = ["n-tuple"] if form == "images" else []
    push_dataset(mined, REPO, miner, variants=variants, on_short="repeat")
    for number in range(1, len(TEXTS), 2):
        (tmp_path / f"{number}.png").unlink()  # what was pushed holds its images
    back = load_dataset(REPO, split="train")
    assert back.features == mined.features
    want = list(named_rows(back))
    if form == "images":
        assert load_dataset(REPO, "n-tuple", split="train").features["negative_2"] == ImageFeature()
        assert all(name.startswith("image:") for row in want for name in row["negatives"])
    card = hub_card()
    assert f"list of {'string' if form == 'ids' else 'Image'}" in card and '"image": "image:' in card
    assert ("corpus = Corpus.from_dataset(mined, " in card) == (form == "ids")
    found = verify(REPO)
    assert found.verified and found.changes == ()
    again = remine(REPO)["train"]
    assert list(named_rows(again)) == want and again.features == back.features


def test_variants_refuse_what_they_cannot_hold(hub, tmp_path):
    pairs = pairs_in(tmp_path)
    for form, variant, reason in (("ids", "n-tuple", "name them by id"), ("images", "scored", "holds texts")):
        miner = PositiveAwareMiner.from_dataset(pairs, "random", num_negatives=2, negatives_as=form)
        with pytest.raises(InputError, match=reason):
            push_dataset(mine(pairs, miner), REPO, miner, variants=[variant])
