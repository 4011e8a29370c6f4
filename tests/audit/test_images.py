"""The audit of rows with images: planted faults are found by pixels, and a mended copy keeps the bytes of the rest."""

from __future__ import annotations

import pytest
from datasets import Dataset, Features, List, Value, load_dataset, load_from_disk
from datasets import Image as ImageFeature

from hf_posmine import Corpus
from hf_posmine.audit import TopUp, audit_data
from hf_posmine.core.errors import InputError
from hf_posmine.data import open_training_data
from hf_posmine.data.images import image_name
from tests.support.pages import encoded, pages

TEXTS = [f"page {number} of the book" for number in range(12)]
FILES = [{"bytes": encoded(image, "JPEG", quality=70), "path": None} for image in pages(TEXTS)]
NEGATIVES = [[FILES[(n + 1) % 12], FILES[(n + 5) % 12]] for n in range(12)]


def planted() -> Dataset:
    """Row 3 has its positive, in another file, as a negative; row 6 a broken image; row 8 one image twice."""
    negatives = [list(row) for row in NEGATIVES]
    (again,) = pages([TEXTS[3]])
    positives = [*FILES[:3], {"bytes": encoded(again, "BMP"), "path": None}, *FILES[4:]]
    negatives[3][0] = {"bytes": encoded(again), "path": None}
    negatives[6][1] = {"bytes": b"broken", "path": None}
    negatives[8][1] = negatives[8][0]
    features = Features({"query": Value("string"), "positive": ImageFeature(), "negatives": List(ImageFeature())})
    return Dataset.from_dict({"query": TEXTS, "positive": positives, "negatives": negatives}, features=features)


@pytest.mark.parametrize("kind", ["saved", "parquet"])
def test_planted_faults_are_found_and_mended(fresh_home, tmp_path, kind):
    rows, place = planted(), tmp_path / ("rows" if kind == "saved" else "rows.parquet")
    if kind == "saved":
        rows.save_to_disk(str(place))
    else:
        rows.to_parquet(str(place))
    result = audit_data(open_training_data(place), repair=tmp_path / f"mended{place.suffix}")
    found = {name: [(one.row, one.index) for one in held.examples] for name, held in result.findings.items()}
    assert found == {"same_text": [(3, 0)], "empty_text": [(6, 1)], "duplicate_negative": [(8, 1)]}
    (example,) = result.findings["same_text"].examples
    assert example.positive == example.negative == image_name(pages([TEXTS[3]])[0])
    mended = tmp_path / f"mended{place.suffix}"
    back = (
        load_from_disk(str(mended))
        if kind == "saved"
        else load_dataset("parquet", data_files=str(mended), split="train")
    )
    assert back.features == rows.features
    before, after = (one.with_format("arrow")[:].to_pylist() for one in (rows, back))
    gone = {3: 0, 6: 1, 8: 1}
    for number, (was, now) in enumerate(zip(before, after, strict=True)):
        left = [one for at, one in enumerate(was["negatives"]) if at != gone.get(number)]
        assert now == was | {"negatives": left}


def test_rows_of_images_are_not_topped_up(fresh_home, tmp_path):
    planted().save_to_disk(str(tmp_path / "rows"))
    with pytest.raises(
        InputError, match="12 documents of the corpus are images, and --top-up writes texts; mine again"
    ):
        audit_data(
            open_training_data(tmp_path / "rows"),
            repair=tmp_path / "mended",
            top_up=TopUp(Corpus.from_images(pages(TEXTS))),
        )
    assert not (tmp_path / "mended").exists()
