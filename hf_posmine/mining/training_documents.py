"""Documents of training rows: texts or images, held by a column or named by id."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.columns import check_text_lists
from hf_posmine.data.images import NamedImage, encoded_item, is_image

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.data.corpus import Corpus


def documents_of(value: object, column: str, row: int) -> list[Any]:
    """The documents of a cell: texts, or images as they are; something else is an error."""
    members = value if isinstance(value, list) else [value]
    if members and all(is_image(member) for member in members):
        return members
    return list(check_text_lists([value], column, row)[0])


def documents_of_ids(corpus: Corpus, ids: Sequence[str], column: str, *, encoded: bool = False) -> list[Any]:
    """The documents of some ids as an encoder takes them, or with ``encoded`` as ``datasets.Image()`` stores them.

    Raises:
        InputError: an id that the corpus lacks, or an image with a text, which has no encoded form.
    """
    items = corpus.items(corpus.required_rows(list(ids), column))
    if encoded:
        return [encoded_item(item) for item in items]
    return [item.item() if isinstance(item, NamedImage) else item for item in items]


def document_feature(features: Mapping[str, Any] | None, corpus: Corpus | None, columns: Sequence[str]) -> Any:
    """The type of a document, which all columns of documents have.

    Args:
        features: of the mined rows.
        corpus: the documents that are named by id.
        columns: those that hold documents themselves.

    Raises:
        InputError: texts and images, which no type holds.
    """
    from datasets import Image, Value

    kinds = [] if features is None else [member_type(features[name]) for name in columns]
    if corpus is not None:
        kinds += [Image()] * (corpus.num_images > 0) + [Value("string")] * (corpus.num_images < len(corpus))
    images = [isinstance(kind, Image) for kind in kinds]
    if any(images) and not all(images):
        raise InputError("texts and images have no common type; use lazy=True, which converts rows when they are read")
    return Image() if any(images) else Value("string")


def member_type(feature: object) -> Any:
    """The type of a value, or of the members of a list: of texts or of images."""
    from datasets import Image, LargeList, List, Value

    inner = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return Image() if isinstance(inner, Image) else Value("string")
