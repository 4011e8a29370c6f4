"""Images where they are easily taken for something else: turned photographs, streams, names, rows one by one, JSON."""

from __future__ import annotations

import io

import numpy as np
import pytest
from datasets import Dataset, Features, IterableDataset, Value
from datasets import Image as ImageFeature
from PIL import Image

from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner
from hf_posmine.cli.main import main
from hf_posmine.data.images import named_image
from hf_posmine.mining.rows_digest import rows_digest
from tests.support import tiny
from tests.support.pages import encoded, pages

WORDS = "red green blue black white grey".split()


@pytest.fixture
def pairs():
    photographs = [encoded(image, "JPEG", quality=60) for image in pages(WORDS)]
    features = Features({"query": Value("string"), "image": ImageFeature()})
    return Dataset.from_dict(
        {"query": WORDS, "image": [{"bytes": b, "path": None} for b in photographs]}, features=features
    )


def stored(rows: Dataset) -> list[bytes]:
    return [value["bytes"] for value in rows.cast_column("image", ImageFeature(decode=False))["image"]]


@pytest.mark.parametrize("options", [{}, {"batched": True}, {"batched": True, "batch_size": 2}])
def test_a_map_in_any_steps_leaves_the_bytes_of_photographs(pairs, fresh_home, tmp_path, options):
    miner = PositiveAwareMiner.from_dataset(
        pairs, str(tiny.clip(tmp_path / "clip")), filters=(), num_negatives=2, positive_column="image"
    )
    mined = pairs.map(miner, features=miner.features(pairs.features), **options)
    assert stored(mined) == stored(pairs) and all(len(ids) == 2 for ids in mined["negatives_ids"])


def test_rows_that_a_map_drops_leave_the_bytes_of_the_others(pairs, fresh_home, tmp_path):
    broken = stored(pairs)
    broken[3] = b"no image"
    rows = Dataset.from_dict(
        {"query": WORDS, "image": [{"bytes": b, "path": None} for b in broken]}, features=pairs.features
    )
    miner = PositiveAwareMiner.from_dataset(
        rows,
        str(tiny.clip(tmp_path / "clip")),
        filters=(),
        num_negatives=2,
        positive_column="image",
        skip_bad_rows=True,
    )
    mined = rows.map(miner, batched=True, features=miner.features(rows.features))
    assert stored(mined) == [*broken[:3], *broken[4:]]
    assert rows_digest(rows) == rows_digest(rows)  # a broken image has no address in its reason


def test_a_turned_photograph_is_one_image_in_memory_and_in_a_file():
    image, exif = Image.new("RGB", (20, 10), "red"), Image.Exif()
    image.putpixel((0, 0), (0, 0, 255))
    exif[0x0112] = 6
    content = encoded(image, "PNG", exif=exif)
    assert named_image(content) == named_image(Image.open(io.BytesIO(content))) != named_image(image)


def test_a_stream_without_types_gives_images(fresh_home, tmp_path):
    for number, image in enumerate(pages(WORDS)):
        image.save(tmp_path / f"{number}.png")

    def paths():
        for number in range(len(WORDS)):
            yield {"file": str(tmp_path / f"{number}.png")}

    corpus = Corpus.from_dataset(IterableDataset.from_generator(paths), image="file")
    assert corpus.num_images == len(WORDS) and corpus.fingerprint == Corpus.from_images(pages(WORDS)).fingerprint


def test_a_text_that_reads_like_the_name_of_an_image_is_another_document(fresh_home, tmp_path):
    images = pages(WORDS)
    names, model = [str(named_image(image)) for image in images], str(tiny.clip(tmp_path / "clip"))
    texts = Corpus.from_texts(names)
    DenseTeacher(model, texts, store=tmp_path / "shared").prepare()
    found = []
    for store in ("shared", "other"):
        teacher = DenseTeacher(model, Corpus.from_images(images), store=tmp_path / store)
        teacher.prepare()
        found.append(np.asarray(teacher.embeddings.of_documents[np.arange(len(images))]))
    assert Corpus.from_images(images).fingerprint != texts.fingerprint
    np.testing.assert_array_equal(*found)


def test_what_writes_texts_refuses_images(pairs, fresh_home, tmp_path, capsys):
    pairs.to_parquet(tmp_path / "pairs.parquet")
    model, data = str(tiny.clip(tmp_path / "clip")), str(tmp_path / "pairs.parquet")
    named = ["--positive-column", "image", "--quiet"]
    assert main(["mine", data, "--teacher", model, *named, "--output", str(tmp_path / "x.jsonl")]) == 2
    assert "JSON holds no images" in capsys.readouterr().err
    assert main(["split", data, *named, "--output", str(tmp_path / "split")]) == 2
    assert "a split is written as texts" in capsys.readouterr().err and not (tmp_path / "split").exists()
