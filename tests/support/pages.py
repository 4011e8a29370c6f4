"""Pages rendered from texts, and the same pixels in several files."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable


def page(text: str, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A text on white, in a colour of its own, so that pages differ also for a model of few pixels."""
    number = sum(map(ord, text))
    image = Image.new("RGB", size, (255 - number % 97, 255 - number % 89, 255 - number % 83))
    ImageDraw.Draw(image).multiline_text((2, 2), "\n".join(text.split()), fill=(number * 7 % 200, number * 3 % 200, 0))
    return image


def pages(texts: Iterable[str]) -> list[Image.Image]:
    return [page(text) for text in texts]


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
