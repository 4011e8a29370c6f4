"""Memory of mining rendered pages, with one given vector or several of each, as the pages grow; a process per point.

Run ``python -m benchmarks.images --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.growth import fitted
from benchmarks.measure import ROOT, MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus

PAGES = (2000, 4000, 8000)
QUERIES, DIM, PATCHES = 200, 64, 32
SIZE = (480, 640)
TABLE_ROWS = 200
WORDS = "river stone lamp paper harbour winter letter garden engine silver market shadow".split()


def page(number: int) -> bytes:
    """A page of text as PNG."""
    from PIL import Image, ImageDraw

    rng, image = np.random.default_rng(number), Image.new("L", SIZE, 255)
    lines = [" ".join(rng.choice(WORDS, 9)) for _ in range(40)]
    ImageDraw.Draw(image).multiline_text((20, 20), "\n".join([f"page {number}", *lines]), fill=0)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def rendered(file: Path, pages: int) -> None:
    """A parquet file of pages with ids, written piece by piece."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features, Image, Value

    schema = Features({"image": Image(), "id": Value("string")}).arrow_schema
    with pq.ParquetWriter(file, schema) as writer:
        for start in range(0, pages, TABLE_ROWS):
            numbers = range(start, min(pages, start + TABLE_ROWS))
            rows = [{"image": {"bytes": page(n), "path": None}, "id": f"p{n}"} for n in numbers]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def blocks_of(rows: int, dim: int, seed: int) -> Iterator[np.ndarray]:
    """Unit vectors float16, some at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, rows, 8192):
        block = rng.standard_normal((min(8192, rows - start), dim), np.float32)
        yield (block / np.linalg.norm(block, axis=1, keepdims=True)).astype(np.float16)


def teacher_of(kind: str, folder: Path, corpus: Corpus, queries: list[str]) -> Teacher:
    """Given vectors, in a folder on disk."""
    from hf_posmine.teachers import make_teacher

    each = PATCHES if kind == "several" else 1
    for name, rows, seed in (("documents", len(corpus), 1), ("queries", len(queries), 2)):
        dtype = np.float16 if kind == "several" else np.float32
        file = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (rows * each, DIM))
        at = 0
        for block in blocks_of(rows * each, DIM, seed):
            file[at : at + len(block)] = block
            at += len(block)
        del file
        counts = "document_counts" if name == "documents" else "query_counts"
        np.save(folder / f"{counts}.npy", np.full(rows, each))
    (folder / "query_texts.json").write_text(json.dumps(queries))
    similarity = "maxsim" if kind == "several" else "cosine"
    return make_teacher(f"Vectors({str(folder)!r}, similarity={similarity!r})", corpus)


def work(folder: Path, pages: int, kind: str, watch: Watch) -> None:
    """Read the pages, and mine."""
    from datasets import Dataset

    from hf_posmine import Corpus, PositiveAwareMiner, mine

    with watch("total"):
        with watch("corpus"):
            source = Dataset.from_parquet(str(folder / "pages.parquet"), cache_dir=str(folder / "arrow"))
            corpus = Corpus.from_dataset(source, cache_dir=folder / "cache")
        if len(corpus) != pages or corpus.num_images != pages:
            raise SystemExit(f"{len(corpus)} of {pages} pages")
        queries = [f"query {n}" for n in range(QUERIES)]
        pairs = Dataset.from_dict({"query": queries, "positive_id": [f"p{n * 7 % pages}" for n in range(QUERIES)]})
        (folder / kind).mkdir()
        teacher = teacher_of(kind, folder / kind, corpus, queries)
        with watch("search"):
            miner = PositiveAwareMiner.from_dataset(pairs, teacher, num_negatives=4, filters=())
            mined = mine(pairs, miner, work_dir=folder / "mined")
    if not all(len(ids) == 4 for ids in mined["negatives_ids"]):
        raise SystemExit("a row lacks negatives")


def point(arguments: argparse.Namespace) -> None:
    """One point in this process: a small run first, then the measured one."""
    import datasets
    import torch

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    for name, pages in (("warm-up", 300), ("point", arguments.pages_of_point)):
        with tempfile.TemporaryDirectory(dir=arguments.scratch, prefix=f"{name}-") as folder:
            os.environ["HF_POSMINE_HOME"] = folder
            rendered(Path(folder) / "pages.parquet", pages)
            release_memory()
            watch = Watch()
            with MemoryPeak(watch) as memory:
                work(Path(folder), pages, arguments.kind, watch)
            size = (Path(folder) / "pages.parquet").stat().st_size
    spans = {phase: round(span["cpu"], 2) for phase, span in watch.spans.items()}
    found = {"pages": arguments.pages_of_point, "kind": arguments.kind, "cpu_seconds": spans, "memory": memory.report()}
    save_json(arguments.result, found | {"pages_mib": round(size / 2**20, 1)})


def measure(pages: list[int]) -> dict[str, list[dict[str, Any]]]:
    """All points, each in a fresh process of one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"}
    points: dict[str, list[dict[str, Any]]] = {"one": [], "several": []}
    with tempfile.TemporaryDirectory(prefix="posmine-images-") as scratch:
        for kind, found in points.items():
            for number in pages:
                result = Path(scratch) / "result.json"
                command = [sys.executable, "-m", "benchmarks.images", "--point", str(number), "--kind", kind]
                command += ["--scratch", scratch, "--result", str(result)]
                subprocess.run(command, check=True, env=environment, cwd=ROOT)
                found.append(json.loads(result.read_text()))
    return points


def report(record: dict[str, Any]) -> str:
    """A table of all points, and the bytes of memory that a page takes."""
    about = record["machine"]
    rows = [
        [f"{p['pages']:,}", p["kind"], p["pages_mib"], p["cpu_seconds"]["corpus"], p["cpu_seconds"]["search"],
         p["memory"]["above_inputs_anonymous_mib"], p["memory"]["above_inputs_mib"]]
        for points in record["points"].values() for p in points
    ]  # fmt: skip
    header = ["pages", "vectors of each", "MiB of PNG", "reading, CPU s", "mining, CPU s", "own MiB", "with maps, MiB"]
    fits = [
        f"- {kind}: {fit['above_inputs_anonymous_mib, bytes each']['slope']:,.0f} bytes of the process's own memory per page, "
        f"{fit['above_inputs_mib, bytes each']['slope']:,.0f} with mapped files"
        for kind, fit in record["fits"].items()
    ]
    lines = [
        "# Memory of mining rendered pages",
        f"{about['cpu']}, one thread; source {about['source_digest']}; {about['time']}. Pages of {SIZE[0]} x {SIZE[1]} pixels, "
        f"{QUERIES} queries; one vector, or {PATCHES} patches, of {DIM} dimensions. Made by `python -m benchmarks.images`. "
        "The machine was shared: memory counts, time does not.",
        markdown(header, rows),
        "\n".join(fits),
    ]
    return "\n\n".join(lines) + "\n"


def main() -> None:
    """Measure all points and write the report, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--pages", type=int, nargs="+", default=list(PAGES))
    for name in ("--point", "--kind", "--scratch"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.point:
        arguments.pages_of_point = int(arguments.point)
        point(arguments)
        return
    points = measure(arguments.pages)
    record = {"machine": machine(), "points": points, "fits": {k: fitted(p, "pages") for k, p in points.items()}}
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_json(arguments.output / "images.json", record)
    (arguments.output / "images.md").write_text(report(record))
    print(report(record))


if __name__ == "__main__":
    main()
