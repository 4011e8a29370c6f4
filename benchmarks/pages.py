"""Rendered pages of SQuAD's passages and vectors of them, written once: the inputs of :mod:`benchmarks.images`."""

from __future__ import annotations

import io
import json
import textwrap
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PASSAGES = ROOT.parent / "shared" / "data" / "squad_v1.1" / "train_corpus.parquet"
SIZE = (240, 320)
LETTER, LINE = 6, 15
"""Pixels of Pillow's bitmap font."""
FILE_PAGES = 1000
MEMBERS = 40
"""Pages of one cluster, however many pages there are."""
SPREAD = 0.8


def page(number: int, passage: str) -> bytes:
    """A passage on a white page as PNG, with a number, so that no two pages are the same."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("L", SIZE, 255)
    lines = textwrap.wrap(passage, SIZE[0] // LETTER - 2)[: SIZE[1] // LINE - 2]
    text = "\n".join([f"page {number}", *lines]).encode("latin-1", "replace").decode("latin-1")
    ImageDraw.Draw(image).multiline_text((6, 6), text, fill=0, font=ImageFont.load_default_imagefont())
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def rendered(folder: Path, pages: int) -> list[Path]:
    """Parquet files with the images and ids of the first pages; those that are there are left as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"pages-{start:06d}.parquet" for start in range(0, pages, FILE_PAGES)]
    missing = [file for file in files if not file.is_file()]
    if missing:
        passages = _passages()
        for file in missing:
            _write(file, int(file.stem.rpartition("-")[2]), passages)
    return files


def _passages() -> list[str]:
    import pyarrow.parquet as pq

    if not PASSAGES.is_file():
        raise SystemExit("the passages of SQuAD are not beside this checkout, so there is nothing to render")
    return pq.read_table(PASSAGES, columns=["text"])["text"].to_pylist()


def _write(file: Path, start: int, passages: Sequence[str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, Value

    schema = Features({"image": Image(), "id": Value("string")}).arrow_schema
    numbers = range(start, start + FILE_PAGES)
    encoded = [page(n, passages[n % len(passages)]) for n in numbers]
    rows = [{"image": {"bytes": raw, "path": None}, "id": f"p{n}"} for n, raw in zip(numbers, encoded, strict=True)]
    half = file.with_suffix(".part")
    pq.write_table(pa.Table.from_pylist(rows, schema), half)
    half.rename(file)


@dataclass(frozen=True)
class PageVectors:
    """Vectors of pages and of queries in a folder, as ``Vectors`` reads them.

    A vector of a page is a centre that its cluster shares and noise of its own. Those of a query are the centres of its
    positive page, and noise that is more or less that page's, so that ceilings differ and some of them exclude.

    Attributes:
        folder: where they are.
        pages: how many.
        each: vectors of a page; 1 for single ones, in float32, else patches, in float16.
        asking: vectors of a query.
        dim: of each.
        count: of queries.
    """

    folder: Path
    pages: int
    each: int
    asking: int
    dim: int
    count: int

    @property
    def queries(self) -> list[str]:
        """Their texts."""
        return [f"query {n}" for n in range(self.count)]

    @cached_property
    def positives(self) -> np.ndarray:
        """The page of each query, int64 ``[Q]``, all different."""
        return np.sort(np.random.default_rng(3).choice(self.pages, self.count, replace=False))

    def write(self) -> None:
        """Write them block by block, unless they are there."""
        if (self.folder / "query_texts.json").is_file():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        clusters = max(1, self.pages // MEMBERS)
        centres = _noise(np.random.default_rng(0), clusters * self.each, self.dim).reshape(clusters, self.each, -1)
        centres *= np.sqrt(self.dim)
        centres /= np.linalg.norm(centres, axis=2, keepdims=True)
        shape = (self.pages * self.each, self.dim)
        dtype = np.float32 if self.each == 1 else np.float16
        file = np.lib.format.open_memmap(self.folder / "documents.npy", "w+", dtype, shape)
        rng, own = np.random.default_rng(1), []
        for start in range(0, self.pages, FILE_PAGES):
            here = np.arange(start, min(self.pages, start + FILE_PAGES))
            noise = _noise(rng, len(here) * self.each, self.dim).reshape(len(here), self.each, -1)
            own.append(noise[np.isin(here, self.positives)])
            block = _unit(centres[_cluster(here, clusters)] + SPREAD * noise)
            file[start * self.each : (start + len(here)) * self.each] = block.reshape(-1, self.dim)
        file.flush()
        self._write_queries(centres[_cluster(self.positives, clusters)], np.concatenate(own))

    def _write_queries(self, centres: np.ndarray, noise: np.ndarray) -> None:
        rng = np.random.default_rng(2)
        patches = np.stack([rng.choice(self.each, self.asking, replace=False) for _ in range(self.count)])[:, :, None]
        near = rng.uniform(0.1, 1, (self.count, 1, 1)).astype(np.float32)
        mine, theirs = (np.take_along_axis(of, patches, axis=1) for of in (centres, noise))
        other = _noise(rng, self.count * self.asking, self.dim).reshape(mine.shape)
        vectors = _unit(mine + SPREAD * (near * theirs + np.sqrt(1 - near**2) * other))
        np.save(self.folder / "queries.npy", vectors.reshape(-1, self.dim))
        if self.each > 1:
            np.save(self.folder / "document_counts.npy", np.full(self.pages, self.each))
            np.save(self.folder / "query_counts.npy", np.full(self.count, self.asking))
        (self.folder / "query_texts.json").write_text(json.dumps(self.queries))

    def scores(self, query: int, pages: Sequence[int] | np.ndarray) -> np.ndarray:
        """MaxSim in float64 ``[m]`` of a query and some pages, from the files."""
        documents, queries = (np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in ("documents", "queries"))
        asked = queries[query * self.asking : (query + 1) * self.asking].astype(np.float64)
        held = (documents[n * self.each : (n + 1) * self.each].astype(np.float64) for n in pages)
        return np.array([(asked @ page.T).max(axis=1).sum() for page in held])

    def load(self) -> dict[str, Any]:
        """Both in memory, as float32: what is done without a store."""
        return {name: np.load(self.folder / f"{name}.npy").astype(np.float32) for name in ("documents", "queries")}


def _cluster(pages: np.ndarray, clusters: int) -> np.ndarray:
    return (pages * 2_654_435_761 % 2**32) % clusters


def _noise(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    """Float32 ``[rows, dim]`` of about unit length."""
    return rng.standard_normal((rows, dim), np.float32) * np.float32(dim**-0.5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)
