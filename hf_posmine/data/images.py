"""Images as documents and queries: known by their pixels, kept as they were encoded, opened when a model reads them.

Between reading and encoding, an image is its name, which is a text: ``image:`` and a digest of its pixels, then its own text
where it has one. So whatever works on texts (keys, exclusions, seeds, records) works on images, and the same picture in
another file is the same document. The bytes lie in one file per part of a corpus and are read one image at a time.
"""

from __future__ import annotations

import base64
import hashlib
import io
import re
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa

from hf_posmine.core.errors import InputError, MissingExtraError
from hf_posmine.utils.mapped import Appended

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from PIL.Image import Image

    from hf_posmine.core.types import Rows

PREFIX = "image:"
NAME_LENGTH = len(PREFIX) + 32
DECODERS = 4
"""Threads that open images, which Pillow does beside each other."""
AT_ONCE = 64
"""Images that are in memory at a time while they are read."""
CONVERTED = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "CMYK", "YCbCr", "HSV")
"""Modes that are compared as RGB(A); others, such as 16-bit grey, as they are, since RGB would lose most of them."""
THUMBNAIL = 128
"""Pixels of a thumbnail's longer side."""
ORIENTATION = 0x0112
"""The EXIF tag of how a camera was held."""
STORAGE = {"bytes", "path"}
"""Keys of an encoded value of ``datasets.Image()``."""


@dataclass(frozen=True)
class StoredBytes:
    """Bytes inside a file."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        """The bytes."""
        with self.path.open("rb") as file:
            file.seek(self.offset)
            return file.read(self.size)


@dataclass(frozen=True)
class ArrowCell:
    """An encoded image in an Arrow array, which may be mapped from a file."""

    values: pa.Array
    at: int

    def read(self) -> bytes:
        """The bytes."""
        return encoded_bytes(self.values[self.at].as_py())


Source: TypeAlias = "bytes | StoredBytes | ArrowCell | Image"


class NamedImage(str):
    """The name of an image, which can be opened; the same pixels have the same name.

    Args:
        name: ``image:`` and 32 hexadecimal digits, and a space and its text where it has one.
        source: where its bytes are, or an image in memory.
    """

    source: Source

    def __new__(cls, name: str, source: Source) -> NamedImage:  # noqa: D102 - see above
        made = super().__new__(cls, name)
        made.source = source
        return made

    def __getnewargs__(self) -> tuple[str, Source]:  # type: ignore[override]
        return str(self), self.source

    @property
    def caption(self) -> str:
        """The text that belongs to the image; "" for none."""
        return str(self)[NAME_LENGTH + 1 :]

    def with_text(self, text: str | None) -> NamedImage:
        """The image together with a text, as one document."""
        return NamedImage(f"{self} {text}", self.source) if text else self

    def encoded(self) -> bytes:
        """Its bytes as they came; an image in memory as PNG, or TIFF, which lose nothing."""
        source = self.source
        if isinstance(source, bytes):
            return source
        return source.read() if isinstance(source, (StoredBytes, ArrowCell)) else _saved(source)

    def open(self) -> Image:
        """The image in RGB, as models read it."""
        source = self.source
        encoded = isinstance(source, (bytes, StoredBytes, ArrowCell))
        return as_rgb(opened(self.encoded()) if encoded else source)  # type: ignore[arg-type]

    def item(self) -> Any:
        """What an encoder takes: the image, or a dict of image and text."""
        return {"image": self.open(), "text": self.caption} if self.caption else self.open()


@dataclass(frozen=True)
class UnreadableImage:
    """An image that cannot be opened: the reason, and the value as it came."""

    reason: str
    value: object = None


def pillow() -> Any:
    """The module ``PIL.Image``.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        import PIL.Image
    except ImportError:
        raise MissingExtraError("reading images", "images") from None
    return PIL.Image


def opened(encoded: bytes) -> Image:
    """An encoded image, decoded, and turned as its EXIF data says, which is how ``datasets.Image()`` gives it."""
    image = pillow().open(io.BytesIO(encoded))
    image.load()
    return _upright(image)


def _upright(image: Image) -> Image:
    """An image as the camera was held; the same object where it says nothing of that."""
    from PIL.ImageOps import exif_transpose

    return exif_transpose(image) if image.getexif().get(ORIENTATION, 1) != 1 else image


def as_rgb(image: Image) -> Image:
    """An image in RGB; of 16-bit grey the upper byte, which Pillow would clip instead."""
    if image.mode.startswith("I;16"):
        image = pillow().fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image if image.mode == "RGB" else image.convert("RGB")


def image_name(image: Image) -> str:
    """The name of an image: mode, size and pixels decide, in RGB, or in RGBA where something is transparent.

    >>> from PIL import Image
    >>> grey, coloured = Image.new("L", (2, 2), 7), Image.new("RGB", (2, 2), (7, 7, 7))
    >>> image_name(grey) == image_name(coloured), image_name(grey) == image_name(grey.resize((4, 1)))
    (True, False)
    """
    if image.mode in CONVERTED:
        clear = image.mode.lower().endswith("a") or "transparency" in image.info
        image = image.convert("RGBA" if clear else "RGB")
        if clear and image.getchannel("A").getextrema()[0] == 255:  # noqa: PLR2004 - opaque everywhere
            image = image.convert("RGB")
    else:
        as_rgb(image)  # an image that models cannot read is found here, where its row is known
    digest = hashlib.sha256(f"{image.mode} {image.width} {image.height} ".encode())
    digest.update(image.tobytes())
    return PREFIX + digest.hexdigest()[:32]


def _saved(image: Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG" if image.mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "TIFF")
    return buffer.getvalue()


def is_image(value: object) -> bool:
    """Whether a value is an image: of Pillow, or encoded as ``datasets.Image()`` stores it."""
    if isinstance(value, Mapping):
        return value.keys() == STORAGE
    return not isinstance(value, str) and "PIL.Image" in sys.modules and isinstance(value, pillow().Image)


def encoded_bytes(value: object) -> bytes:
    """The bytes of an encoded image or a path, read where they are in a file."""
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    held, path = (value["bytes"], value["path"]) if isinstance(value, Mapping) else (None, value)
    if held is not None:
        return bytes(held)
    if not isinstance(path, (str, Path)):
        raise ValueError("neither bytes nor a path")
    if Path(path).is_file():
        return Path(path).read_bytes()
    import fsspec

    with fsspec.open(str(path), "rb") as file:
        return bytes(file.read())


def encoded_item(item: str) -> Any:
    """A document as columns hold it: a text, or an image as ``datasets.Image()`` stores it; one with a text is an error."""
    if not isinstance(item, NamedImage):
        return item
    if item.caption:
        raise InputError(
            "an image with a text has no column type; use lazy=True, which converts rows when they are read"
        )
    return {"bytes": item.encoded(), "path": None}


def stored_value(value: object) -> Any:
    """A cell that may hold named images, as ``datasets.Image()`` stores them; other values as they are."""
    if isinstance(value, UnreadableImage):
        return value.value
    if isinstance(value, list):
        return [stored_value(member) for member in value]
    return encoded_item(value) if isinstance(value, NamedImage) else value


def named_image(value: object, source: Source | None = None) -> NamedImage | UnreadableImage:
    """An image by its name: of Pillow, encoded, bytes or a path.

    Args:
        value: the image.
        source: where its bytes can be read again; None keeps them.
    """
    if isinstance(value, NamedImage):
        return value
    try:
        if isinstance(value, (Mapping, bytes, bytearray, str, Path)):
            held = encoded_bytes(value)
            return NamedImage(image_name(opened(held)), source or held)
        if not is_image(value):
            raise ValueError(f"a {type(value).__name__} instead of an image")
        image = _upright(value)  # type: ignore[arg-type]
        return NamedImage(image_name(image), image)
    except Exception as error:  # Pillow raises many kinds for broken files, also SyntaxError and struct.error
        if isinstance(error, MissingExtraError):
            raise
        reason = re.sub(r" ?<[^<>]* at 0x[0-9a-f]+>", "", " ".join(str(error).split()))  # an address differs each time
        return UnreadableImage(reason[:80] or type(error).__name__, value)


def named_images(values: Iterable[Any]) -> list[Any]:
    """Values in which images, also those inside lists, are known by name; other values as they are.

    An image that cannot be opened becomes an :class:`UnreadableImage`, which whoever checks the values reports.
    """
    values = list(values)
    if all(isinstance(value, str) for value in values):
        return values
    flat = [member for value in values for member in (value if isinstance(value, list) else [value])]
    at = [number for number, member in enumerate(flat) if is_image(member)]
    if not at:
        return values
    for number, image in zip(at, side_by_side(named_image, [flat[n] for n in at]), strict=True):
        flat[number] = image
    rest = iter(flat)
    return [[next(rest) for _ in value] if isinstance(value, list) else next(rest) for value in values]


def named_cells(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """As :func:`named_images`, of an Arrow column; the bytes of images stay in it and are not kept in memory."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    if not holds_images(column.type):
        return named_images(column.to_pylist())
    if is_image_type(column.type):
        return side_by_side(_named_cell, [ArrowCell(chunk, at) for chunk in chunks for at in range(len(chunk))])
    lists = [chunk[at] for chunk in chunks for at in range(len(chunk))]
    cells = [ArrowCell(one.values, at) for one in lists if one.is_valid for at in range(len(one.values))]
    named = iter(side_by_side(_named_cell, cells))
    return [[next(named) for _ in range(len(one.values))] if one.is_valid else None for one in lists]


def _named_cell(cell: ArrowCell) -> NamedImage | UnreadableImage | None:
    value = cell.values[cell.at].as_py()
    return None if value is None else named_image(value, cell)


def thumbnail(image: NamedImage) -> str:
    """A small JPEG of an image as a data URI: at most 128 pixels wide and high, some 4 kB."""
    small, buffer = image.open(), io.BytesIO()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    small.save(buffer, "JPEG", quality=60)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def is_image_type(type_: pa.DataType) -> bool:
    """Whether an Arrow type is that of ``datasets.Image()``."""
    return pa.types.is_struct(type_) and {type_.field(i).name for i in range(type_.num_fields)} == STORAGE


def holds_images(type_: pa.DataType) -> bool:
    """Whether an Arrow type is that of images, or of lists of them."""
    lists = pa.types.is_list(type_) or pa.types.is_large_list(type_)
    return is_image_type(type_.value_type if lists else type_)


def side_by_side(function: Callable[[Any], Any], values: Sequence[Any]) -> list[Any]:
    """What a function makes of each value, in order, by a few threads."""
    if len(values) < 2:  # noqa: PLR2004 - one value needs no thread
        return [function(value) for value in values]
    with ThreadPoolExecutor(DECODERS) as pool:
        return list(pool.map(function, values))


class ImageWriter:
    """Takes the images among texts as they come and leaves those that are kept in a folder, in one file.

    Args:
        folder: of its temporary files.
    """

    def __init__(self, folder: Path) -> None:
        self._bytes = folder / "images"
        self._rows, self._ends = (Appended(folder / f"images-{name}", np.int64) for name in ("rows", "ends"))
        self._seen: set[bytes] = set()
        self._texts = 0

    def add(self, texts: Sequence[str], keys: np.ndarray) -> None:
        """Append the images among texts; of equal keys the first alone, which is the one that stays."""
        rows, ends = [], []
        images = [(at, text) for at, text in enumerate(texts) if isinstance(text, NamedImage)]
        if images:
            with self._bytes.open("ab") as file:
                for at, image in images:
                    if keys[at] not in self._seen:
                        self._seen.add(keys[at])
                        file.write(image.encoded())
                        rows.append(self._texts + at)
                        ends.append(file.tell())
        self._rows.add(np.array(rows, np.int64))
        self._ends.add(np.array(ends, np.int64))
        self._texts += len(texts)

    def finish(self, kept: np.ndarray, row_of: Rows, folder: Path) -> int:
        """Leave those whose text is kept, by its row; returns how many they are."""
        rows, ends = self._rows.array(), self._ends.array()
        starts = np.append(0, ends)[:-1]
        mine = np.flatnonzero(kept[rows]) if len(rows) else rows
        if not len(mine):
            return 0
        np.save(folder / "image_rows.npy", row_of[rows[mine]])
        np.save(folder / "image_ends.npy", np.cumsum((ends - starts)[mine]))
        if len(mine) == len(rows):
            self._bytes.rename(folder / "images")
        else:
            with (folder / "images").open("wb") as file:
                for at in mine.tolist():
                    file.write(StoredBytes(self._bytes, int(starts[at]), int(ends[at] - starts[at])).read())
        return len(mine)


@dataclass(frozen=True)
class StoredImages:
    """The images of a part of a corpus."""

    folder: Path

    @cached_property
    def _rows(self) -> Rows:
        return np.load(self.folder / "image_rows.npy", mmap_mode="r")

    @cached_property
    def _ends(self) -> Rows:
        return np.load(self.folder / "image_ends.npy", mmap_mode="r")

    def named(self, texts: Sequence[str], rows: Rows) -> list[str]:
        """Texts of rows int64 ``[m]``, with those that name an image as :class:`NamedImage`."""
        at = np.minimum(np.searchsorted(self._rows, rows), len(self._rows) - 1)
        found = np.flatnonzero(self._rows[at] == rows)
        named = list(texts)
        for n in found.tolist():
            end, start = int(self._ends[at[n]]), int(self._ends[at[n] - 1]) if at[n] else 0
            named[n] = NamedImage(texts[n], StoredBytes(self.folder / "images", start, end - start))
        return named
