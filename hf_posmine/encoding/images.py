"""Images to vectors: opened ahead of the model by a few threads, some at a time."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from hf_posmine.data.images import DECODERS, NamedImage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

    from hf_posmine.core.types import Floats, Rows

IMAGES_AT_ONCE = 32
"""Images in a batch of an accelerator, or of a model that is not ours to plan."""

In = TypeVar("In")
Out = TypeVar("Out")


def image_batches(count: int, size: int) -> list[Rows]:
    """Rows of each batch, in order. On a CPU each image is read alone, so that its vector depends on no other."""
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def ahead(function: Callable[[In], Out], values: Iterable[In], depth: int) -> Iterator[Out]:
    """What a function makes of each value, in order, made by threads before it is asked for, ``depth`` at a time."""
    with ThreadPoolExecutor(DECODERS) as pool:
        pending: deque[Future[Out]] = deque()
        for value in values:
            pending.append(pool.submit(function, value))
            if len(pending) >= depth:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def opened_batches(images: Sequence[NamedImage], batches: Sequence[Rows]) -> Iterator[list[Any]]:
    """The images of each batch as encoders take them, in order."""
    depth = max([2 * DECODERS, *map(len, batches[:1])])
    ready = ahead(NamedImage.item, images, depth)
    for rows in batches:
        yield [next(ready) for _ in rows]


def by_kind(
    texts: Sequence[str], of_texts: Callable[[list[str]], Floats], of_images: Callable[[list[NamedImage]], Floats]
) -> Floats:
    """Vectors float32 ``[m, d]`` of texts and images, each kind by a function of its own."""
    images = [text for text in texts if isinstance(text, NamedImage)]
    found = of_images(images)
    if len(images) == len(texts):
        return found
    vectors, at = (
        np.empty((len(texts), found.shape[1]), np.float32),
        np.array([isinstance(t, NamedImage) for t in texts]),
    )
    vectors[at], vectors[~at] = found, of_texts([text for text in texts if not isinstance(text, NamedImage)])
    return vectors
