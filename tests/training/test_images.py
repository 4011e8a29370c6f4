"""Mined images as training rows, and a model of images trained on them."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature

from hf_posmine import Corpus, PositiveAwareMiner, mine, to_training
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.images import image_name
from hf_posmine.mining.training_formats import NegativesCollator
from tests.support import tiny
from tests.support.pages import encoded, pages

TEXTS = [f"page {number} of the book" for number in range(10)]
NEGATIVES = 2


@pytest.fixture(scope="module")
def images():
    return pages(TEXTS)


@pytest.fixture(scope="module")
def pairs(images):
    """Captions and photographs, which lose something whenever they are saved again."""
    files = [{"bytes": encoded(image, "JPEG", quality=60), "path": None} for image in images]
    return Dataset.from_dict(
        {"query": TEXTS, "image": files}, features=Features({"query": Value("string"), "image": ImageFeature()})
    )


def mined_as(pairs, form):
    miner = PositiveAwareMiner.from_dataset(pairs, "random", num_negatives=NEGATIVES, negatives_as=form)
    return mine(pairs, miner), miner.corpus


def names(row) -> list:
    return [value if isinstance(value, str) else image_name(value) for value in row.values()]


@pytest.mark.parametrize("form", ["ids", "images"])
@pytest.mark.parametrize("lazy", [True, False])
def test_tuples_have_the_very_pixels_of_the_corpus(fresh_home, pairs, form, lazy):
    mined, corpus = mined_as(pairs, form)
    ids, _ = mined_as(pairs, "ids")
    rows = to_training(mined, "n-tuple", lazy=lazy, corpus=corpus if form == "ids" else None)
    assert len(rows) == len(pairs)
    for n in range(len(pairs)):
        assert names(rows[n]) == [TEXTS[n], image_name(pairs[n]["image"]), *ids[n]["negatives_ids"]]
    if not lazy:
        assert rows.features["negative_2"] == rows.features["image"] == ImageFeature()


def test_other_formats_and_streams(fresh_home, pairs):
    mined, corpus = mined_as(pairs, "ids")
    triplets = to_training(mined, "triplet", corpus=corpus)
    assert len(triplets) == NEGATIVES * len(pairs) and triplets.features["negative"] == ImageFeature()
    labelled = to_training(mined, "labeled-list", corpus=corpus)
    assert labelled.features["documents"] == List(ImageFeature()) and labelled[3]["labels"] == [1, 0, 0]
    stream = to_training(mined.to_iterable_dataset(), "n-tuple", NEGATIVES, corpus=corpus)
    assert [names(row) for row in stream] == [names(row) for row in to_training(mined, "n-tuple", corpus=corpus)]


def test_ids_need_the_corpus_that_they_name(fresh_home, pairs):
    mined, _ = mined_as(pairs, "ids")
    with pytest.raises(ColumnError, match=r"column 'negatives_ids' holds ids; pass corpus="):
        to_training(mined, "n-tuple")
    with pytest.raises(InputError, match=r"column 'negatives_ids': the corpus has no document with id 'image:"):
        to_training(mined, "n-tuple", corpus=Corpus.from_images(pages(["another"])))[0]


def test_mixed_documents_are_opened_when_they_are_read(fresh_home, images):
    features = Features({"image": ImageFeature(), "text": Value("string"), "id": Value("string")})
    documents = Dataset.from_list(
        [
            {"image": images[0], "text": "a", "id": "0"},
            {"image": None, "text": "b", "id": "1"},
            {"image": images[2], "text": None, "id": "2"},
        ],
        features=features,
    )
    corpus = Corpus.from_dataset(documents, text="text", image="image")
    pairs = Dataset.from_dict({"query": ["q"], "positive_id": ["1"], "negatives_ids": [["0", "2"]]})
    row = to_training(pairs, "n-tuple", corpus=corpus, lazy=True)[0]
    assert row["positive_id"] == "b" and row["negative_1"]["text"] == "a"
    assert np.array_equal(np.asarray(row["negative_2"]), np.asarray(images[2]))
    with pytest.raises(InputError, match="use lazy=True"):
        to_training(pairs, "n-tuple", corpus=corpus)


def test_the_stock_trainer_takes_them_with_the_loss_of_their_pixels(fresh_home, tmp_path, pairs):
    """Against InfoNCE in numpy over vectors straight from transformers."""
    pytest.importorskip("accelerate")
    import torch
    from sentence_transformers import (
        SentenceTransformer,
        SentenceTransformerTrainer,
        SentenceTransformerTrainingArguments,
    )
    from sentence_transformers.sentence_transformer.data_collator import SentenceTransformerDataCollator
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
    from transformers import AutoProcessor, CLIPModel

    mined, corpus = mined_as(pairs, "ids")
    folder = str(tiny.clip(tmp_path / "clip"))
    model = SentenceTransformer(folder, device="cpu")
    rows = to_training(mined, "n-tuple", corpus=corpus, lazy=True)
    collator, loss = SentenceTransformerDataCollator(model.preprocess), MultipleNegativesRankingLoss(model)
    by_hand = NegativesCollator(collator, positive="image", num_negatives=NEGATIVES, corpus=corpus)
    batch, other = collator([rows[n] for n in range(5)]), by_hand([mined[n] for n in range(5)])
    assert batch.keys() == other.keys()
    assert all(torch.equal(value, other[k]) for k, value in batch.items() if isinstance(value, torch.Tensor))

    clip, processor = CLIPModel.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    answers = [image for column in ("image", "negative_1", "negative_2") for image in rows[:5][column]]
    with torch.inference_mode():
        queries = clip.get_text_features(**processor(text=TEXTS[:5], padding=True, return_tensors="pt")).pooler_output
        documents = clip.get_image_features(**processor(images=answers, return_tensors="pt")).pooler_output
    unit = [made.numpy() / np.linalg.norm(made.numpy(), axis=1, keepdims=True) for made in (queries, documents)]
    logits = 20 * unit[0] @ unit[1].T
    wanted = np.mean(np.log(np.exp(logits).sum(axis=1)) - logits.diagonal())
    features = [model.preprocess(list(column)) for column in (TEXTS[:5], *(rows[:5][c] for c in list(rows[0])[1:]))]
    assert loss(features, None).item() == pytest.approx(wanted, abs=1e-4)

    args = SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=2, per_device_train_batch_size=5, learning_rate=1e-3, report_to=[],
        save_strategy="no", use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    SentenceTransformerTrainer(model=model, args=args, train_dataset=rows, loss=loss).train()
    moved = [name for name, weights in model.named_parameters() if not torch.equal(weights, before[name])]
    assert any("vision" in name for name in moved) and any("text" in name for name in moved)
