"""Images of training rows: rows hold their names, which are texts, and a corpus on disk opens them.

So whatever works on the texts of rows (keys, masks, samplers, joins, digests) works on images.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import ColumnError
from hf_posmine.data.corpus import Corpus
from hf_posmine.data.images import AT_ONCE, NamedImage, encoded_item
from hf_posmine.mining.rows_digest import rows_digest
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.progress import quiet_bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from datasets import Dataset


def images_among(texts: Iterable[str]) -> Corpus | None:
    """The images among texts, on disk; None where there are none."""
    images = {text: text for text in texts if isinstance(text, NamedImage)}
    return Corpus.from_texts(images, match="exact") if images else None


def all_images(corpora: Iterable[Corpus | None]) -> Corpus | None:
    """The images of several data sets together."""
    there = [corpus for corpus in corpora if corpus is not None]
    return reduce(Corpus.union, there) if there else None


def with_images(texts: Sequence[str], images: Corpus | None) -> list[str]:
    """Texts in which the names of images are images that can be opened."""
    if images is None:
        return list(texts)
    rows = images.rows_of_texts(texts)
    found = iter(images.items(rows[rows >= 0]))
    return [text if row < 0 else next(found) for text, row in zip(texts, rows.tolist(), strict=True)]


def image_rows(rows: Dataset, images: Corpus | None) -> Any:
    """Rows of names as rows of ``datasets.Image()``, on disk, which a miner reads.

    Raises:
        ColumnError: a column that holds texts, too.
    """
    if images is None:
        return rows
    from datasets import Dataset, Image

    features = rows.features.copy()
    for column in rows.column_names:
        held = images.rows_of_texts(rows[column][:]) >= 0
        if held.any() and not held.all():
            raise ColumnError(f"column {column!r} holds images and texts; mine such rows first, with hf-posmine mine")
        if held.any():
            features[column] = Image()

    def encoded(batch: dict[str, list[str]]) -> dict[str, list[Any]]:
        return {name: [encoded_item(item) for item in with_images(texts, images)] for name, texts in batch.items()}

    def build(folder: Path) -> None:
        with quiet_bars():
            rows.map(
                encoded, batched=True, batch_size=AT_ONCE, features=features, cache_file_name=str(folder / "rows.arrow")
            )

    key = json_digest([rows_digest(rows), images.fingerprint])
    return Dataset.from_file(str(build_once(cache_root() / "blends" / f"images-{key}", build) / "rows.arrow"))
