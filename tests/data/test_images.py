"""Images are known by their pixels, whatever file they come in."""

from __future__ import annotations

import hashlib
import io
import pickle

import numpy as np
import pytest
from datasets import Dataset, Features, List, Value
from datasets import Image as ImageFeature
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from hf_posmine import Corpus, Qrels
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.images import NamedImage, image_name, named_image
from hf_posmine.data.layouts import pick_columns
from tests.support.pages import encoded, page, pages

TEXTS = [f"page {number} of the book" for number in range(12)]


def dataset_of(images, **columns) -> Dataset:
    features = Features({"image": ImageFeature(), **{name: Value("string") for name in columns}})
    return Dataset.from_dict({"image": images, **columns}, features=features)


def oracle_name(array: np.ndarray) -> str:
    """The name of an opaque image, from an array of its pixels."""
    height, width, _ = array.shape
    return "image:" + hashlib.sha256(f"RGB {width} {height} ".encode() + array.tobytes()).hexdigest()[:32]


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 2**32 - 1))
@settings(max_examples=30)
def test_a_name_is_a_digest_of_pixels_and_size(width, height, seed):
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    image = Image.fromarray(array)
    files = [encoded(image), encoded(image, "BMP"), encoded(image, "TIFF"), encoded(image, "WEBP", lossless=True)]
    opaque = image.copy()
    opaque.putalpha(255)
    assert {named_image(value) for value in (*files, image, encoded(opaque))} == {oracle_name(array)}
    other = array.copy()
    other[0, 0, 0] ^= 1
    assert image_name(Image.fromarray(other)) != oracle_name(array)
    turned = array.reshape(width, height, 3)
    assert (image_name(Image.fromarray(turned)) == oracle_name(array)) == (width == height)


def test_transparency_depth_and_turned_photographs_count():
    image = page("one")
    clear = image.copy()
    clear.putalpha(0)
    assert image_name(clear) != image_name(image)
    grey = Image.fromarray(np.full((2, 2), 1000, np.uint16))
    lighter = Image.fromarray(np.full((2, 2), 2000, np.uint16))  # both are white in RGB
    assert image_name(grey) != image_name(lighter)
    assert image_name(Image.open(io.BytesIO(encoded(image.quantize())))) == image_name(image.quantize().convert("RGB"))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera lay on its side
    assert named_image(encoded(image, exif=exif)) == image_name(image.transpose(Image.Transpose.ROTATE_270))


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("streaming", [True, False])
def test_one_picture_in_several_files_is_one_document(fresh_home, tmp_path, decode, streaming):
    images = pages(TEXTS)
    images[3].save(tmp_path / "copy.bmp")
    values = [*images[:6], {"bytes": encoded(images[2], "TIFF"), "path": None}, str(tmp_path / "copy.bmp")]
    rows = dataset_of(values, id=[f"d{i}" for i in range(8)]).cast_column("image", ImageFeature(decode=decode))
    rows = rows.to_iterable_dataset() if streaming else rows
    corpus = Corpus.from_dataset(rows)
    assert (len(corpus), corpus.duplicates, corpus.num_images) == (6, 2, 6)
    assert corpus.rows_of_ids([f"d{i}" for i in range(8)]).tolist() == [0, 1, 2, 3, 4, 5, 2, 3]
    assert corpus.fingerprint == Corpus.from_images(values, [f"d{i}" for i in range(8)]).fingerprint
    for item, image in zip(corpus.items(np.arange(6)), images, strict=False):
        assert np.array_equal(np.asarray(item.open()), np.asarray(image))


def test_images_without_ids_are_known_by_their_names(fresh_home):
    images = pages(TEXTS)
    corpus = Corpus.of([*images[:4], images[0]])
    assert corpus.ids(np.arange(4)).to_pylist() == [image_name(image) for image in images[:4]]
    assert corpus.rows_of_ids([image_name(images[2]), image_name(images[9])]).tolist() == [2, -1]
    assert Corpus.of(images[:2]).rows_of_ids(["1", 0]).tolist() == [1, 0]


def test_image_and_text_are_one_document(fresh_home):
    images, texts = pages(TEXTS[:4]), ["a", "b", None, "d"]
    rows = dataset_of([images[0], images[0], images[1], None], text=texts)
    corpus = Corpus.from_dataset(rows, text="text", image="image")
    assert corpus.texts(np.arange(4)).to_pylist() == [
        f"{image_name(images[0])} a", f"{image_name(images[0])} b", image_name(images[1]), "d",
    ]  # fmt: skip
    first, _, third, last = corpus.items(np.arange(4))
    assert (first.caption, third.caption, type(last)) == ("a", "", str)
    assert first.item()["text"] == "a" and np.array_equal(np.asarray(third.item()), np.asarray(images[1]))
    assert str(corpus.columns) == "by row number (image + text)"
    alone = Corpus.from_dataset(rows.select(range(3)), image="image")
    assert (len(alone), str(alone.columns)) == (2, "by row number (image)")
    assert len(Corpus.from_dataset(rows.select(range(3)), text="image")) == 2


def test_paths_are_images_where_their_column_is_named_so(fresh_home, tmp_path):
    images = pages(TEXTS[:3])
    paths = [str(tmp_path / f"{number}.png") for number in range(3)]
    for image, path in zip(images, paths, strict=True):
        image.save(path)
    corpus = Corpus.from_dataset(Dataset.from_dict({"file": paths, "id": ["a", "b", "c"]}), image="file")
    assert corpus.rows_of_texts(map(image_name, images)).tolist() == [0, 1, 2]
    assert corpus.fingerprint == Corpus.from_images(paths, ["a", "b", "c"]).fingerprint


def test_a_union_and_a_copy_in_another_process_keep_the_bytes(fresh_home):
    images = pages(TEXTS)
    left, right = Corpus.from_images(images[:5]), Corpus.from_images(images[3:9])
    both = pickle.loads(pickle.dumps(left.union(right)))
    items = both.items(np.array([7, 0, 4]))
    assert [np.asarray(item.open()).tobytes() for item in items] == [images[n].tobytes() for n in (7, 0, 4)]
    assert pickle.loads(pickle.dumps(items[0])).encoded() == items[0].encoded()


def test_a_mixed_corpus_opens_its_images_alone(fresh_home):
    images = pages(TEXTS[:2])
    corpus = Corpus.of(["a text", images[0], "another", images[1]])
    kinds = [isinstance(item, NamedImage) for item in corpus.items(np.array([3, 2, 1, 0]))]
    assert kinds == [True, False, True, False]
    assert (len(corpus), corpus.num_images) == (4, 2)


@pytest.mark.parametrize("broken", [b"no image", encoded(page("cut"))[:120], b""])
def test_a_broken_image_is_one_line_with_its_row(fresh_home, broken):
    values = [*pages(TEXTS[:3]), {"bytes": broken, "path": None}]
    with pytest.raises(ColumnError, match=r"^column 'image', row 3: the image cannot be opened \(.*\); [^\n]*$"):
        Corpus.from_dataset(dataset_of(values))
    pairs = dataset_of(values, query=TEXTS[:4])
    with pytest.raises(ColumnError, match=r"1 row cannot be mined, 1 with an unreadable image \(row 3\)"):
        Qrels.from_dataset(pairs, "query", "image")
    known = Qrels.from_dataset(pairs, "query", "image", skip_bad_rows=True)
    assert (known.num_judgements, known.bad_rows.counts) == (3, {"an unreadable image": 1})


def test_columns_of_images_are_found(fresh_home):
    images = pages(TEXTS[:4])
    pairs = dataset_of(images, caption=TEXTS[:4])
    assert pick_columns(pairs, None, None, None) == ("caption", "image", None)
    named = pairs.rename_columns({"caption": "text", "image": "query"})
    assert pick_columns(named, None, None, None) == ("query", "text", None)
    lists = Dataset.from_dict(
        {"query": TEXTS[:2], "positive": [images[:2], images[2:]]},
        features=Features({"query": Value("string"), "positive": List(ImageFeature())}),
    )
    assert pick_columns(lists, None, None, None) == ("query", "positive", None)
    known = Qrels.from_dataset(lists, "query", "positive")
    assert known.documents.rows_of_texts(map(image_name, images)).tolist() == [0, 1, 2, 3]
    corpus = Corpus.from_dataset(pairs.add_column("markdown", TEXTS[:4]))
    assert str(corpus.columns) == "by row number (image)"


def test_a_corpus_of_texts_is_as_before(fresh_home):
    corpus = Corpus.from_texts(["image:0", "b"])
    assert corpus.num_images == 0 and corpus.items(np.array([1, 0])) == ["b", "image:0"]
    with pytest.raises(InputError, match="negatives_as='images', and 0 of 2 documents are images; use texts or ids"):
        from hf_posmine import PositiveAwareMiner

        PositiveAwareMiner.from_dataset(
            [{"query": "q", "positive": "b"}], "random", corpus=corpus, negatives_as="images"
        )
