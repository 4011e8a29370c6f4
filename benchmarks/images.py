"""Mining rendered pages by given vectors, one of each or several, against the same in memory, as the pages grow.

Run ``python -m benchmarks.images --output out/bench``; see README.md beside this file.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import pickle
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.measure import ROOT, MemoryPeak, Watch, machine, markdown, release_memory
from benchmarks.pages import FILE_PAGES, SIZE, PageVectors, rendered
from benchmarks.synthetic import save_json

if TYPE_CHECKING:
    from collections.abc import Sequence

PAGES = (10_000, 30_000, 100_000)
NEGATIVES, SHARE = 4, 0.95
KINDS = {
    "one": {"each": 1, "asking": 1, "dim": 512, "count": 1000},
    "several": {"each": 32, "asking": 12, "dim": 128, "count": 200},
}
READING, OURS, MEMORY = "reading", "hf-posmine", "in memory"
TITLES = {"one": "One vector of each page", "several": "Several vectors of each page"}
DETAILS = {
    "one": "512 dimensions, float32, in a file; 1,000 queries. In memory: `mine_hard_negatives` of sentence-transformers over the "
    "names of the pages, whose vectors a stub model gives.",
    "several": "32 patches of 128 dimensions, float16, in a store; 200 queries of 12 vectors. In memory: all patches as float32, "
    "MaxSim by torch for all queries and some hundred pages at a time.",
}
BLOCK_PAGES = 500
SAME = 1e-5
"""Difference of scores that float32 products do not resolve."""


def names(numbers: Sequence[int] | np.ndarray) -> list[str]:
    return [f"p{n}" for n in numbers]


def read_pages(files: list[Path], scratch: Path, pages: int) -> None:
    """The corpus of the pages, each decoded once; it stays in the folder, and a pickle of it leads there."""
    from datasets import Dataset

    from hf_posmine import Corpus

    source = Dataset.from_parquet(list(map(str, files)), cache_dir=str(scratch / f"arrow-{pages}"))
    corpus = Corpus.from_dataset(source, cache_dir=scratch / f"corpus-{pages}")
    if len(corpus) != pages or corpus.num_images != pages:
        raise SystemExit(f"{len(corpus):,} documents, {corpus.num_images:,} of them images; expected {pages:,}")
    (scratch / f"corpus-{pages}.pickle").write_bytes(pickle.dumps(corpus))


def mined_from_disk(given: PageVectors, scratch: Path, folder: Path) -> list[list[str]]:
    """The ids of the negatives, from images and vectors that stay on disk."""
    from datasets import Dataset

    from hf_posmine import PositiveAwareMiner, mine
    from hf_posmine.teachers import make_teacher

    corpus = pickle.loads((scratch / f"corpus-{given.pages}.pickle").read_bytes())
    pairs = Dataset.from_dict({"query": given.queries, "positive_id": names(given.positives)})
    similarity = "cosine" if given.each == 1 else "maxsim"
    teacher = make_teacher(f"Vectors({str(given.folder)!r}, similarity={similarity!r})", corpus)
    filters = [f"PercPos({SHARE})"]
    miner = PositiveAwareMiner.from_dataset(pairs, teacher, filters=filters, num_negatives=NEGATIVES)
    return mine(pairs, miner, work_dir=folder / "mined")["negatives_ids"][:]


def mined_by_the_peer(given: PageVectors) -> list[list[str]]:
    """``mine_hard_negatives`` of sentence-transformers, over names that stand for the images."""
    from datasets import Dataset
    from sentence_transformers.util import SimilarityFunction, mine_hard_negatives

    pages, vectors = names(range(given.pages)), given.load()
    pairs = Dataset.from_dict({"query": given.queries, "positive": names(given.positives)})

    def rows(texts: Sequence[str], of: str, start: int) -> np.ndarray:
        return vectors[of][[int(text[start:]) for text in texts]]

    model = SimpleNamespace(
        device="cpu",
        model_card_data=SimpleNamespace(base_model=None),
        encode_query=lambda texts, **_: rows(texts, "queries", len("query ")),
        encode_document=lambda texts, **_: rows(texts, "documents", len("p")),
        similarity=SimilarityFunction.to_similarity_fn("cosine"),
        similarity_pairwise=SimilarityFunction.to_similarity_pairwise_fn("cosine"),
    )
    mined = mine_hard_negatives(
        pairs,
        model,
        corpus=pages,
        relative_margin=1 - SHARE,
        num_negatives=NEGATIVES,
        output_format="n-tuple",
        verbose=False,
    )
    found = {row["query"]: [row[f"negative_{n + 1}"] for n in range(NEGATIVES)] for row in mined}
    return [found.get(query, []) for query in given.queries]


def mined_by_maxsim(given: PageVectors) -> list[list[str]]:
    """Late interaction by torch over all patches in memory."""
    import torch

    vectors = {name: torch.from_numpy(values) for name, values in given.load().items()}
    scores = torch.empty(given.count, given.pages)
    for first in range(0, given.pages, BLOCK_PAGES):
        block = vectors["documents"][first * given.each : (first + BLOCK_PAGES) * given.each]
        products = (vectors["queries"] @ block.T).view(given.count, given.asking, -1, given.each)
        scores[:, first : first + BLOCK_PAGES] = products.amax(3).sum(1)
    rows, positives = torch.arange(given.count), torch.from_numpy(given.positives)
    own = scores[rows, positives][:, None]
    scores[scores > own - own.abs() * (1 - SHARE)] = -torch.inf
    scores[rows, positives] = -torch.inf
    return [names(row) for row in torch.topk(scores, NEGATIVES).indices.tolist()]


def vectors_of(scratch: Path, kind: str, pages: int) -> PageVectors:
    return PageVectors(scratch / f"{kind}-{pages}", pages, **KINDS[kind])


def work(arguments: argparse.Namespace, pages: int, folder: Path) -> list[list[str]]:
    """What is measured."""
    if arguments.way == READING:
        read_pages(rendered(arguments.scratch / "rendered", pages), arguments.scratch, pages)
        return []
    given = vectors_of(arguments.scratch, arguments.kind, pages)
    if arguments.way == OURS:
        return mined_from_disk(given, arguments.scratch, folder)
    return mined_by_the_peer(given) if given.each == 1 else mined_by_maxsim(given)


def point(arguments: argparse.Namespace) -> None:
    """One way at one size in this process: a small run first, then the measured one."""
    import datasets
    import torch

    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    (pages,) = arguments.pages
    for size in (FILE_PAGES, pages):
        with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
            os.environ["HF_POSMINE_HOME"] = folder
            release_memory()
            watch = Watch()
            with MemoryPeak(watch) as memory, watch("total"):
                found = work(arguments, size, Path(folder))
    record = {"pages": pages, "kind": arguments.kind, "way": arguments.way, "memory": memory.report()}
    save_json(arguments.result, record | {"cpu_seconds": round(watch.spans["total"]["cpu"], 2), "negatives": found})


def peer_over_images(scratch: Path) -> str:
    """What ``mine_hard_negatives`` does with opened images in the place of texts."""
    from datasets import Dataset, Image
    from sentence_transformers.util import mine_hard_negatives

    rows = Dataset.from_parquet(str(rendered(scratch / "rendered", FILE_PAGES)[0])).select(range(8))
    pairs = rows.select_columns(["id", "image"]).cast_column("image", Image())
    try:
        mine_hard_negatives(pairs, SimpleNamespace(device="cpu"), verbose=False)
    except TypeError as error:
        return f"TypeError: {error}"
    return "runs"


def measure(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Reading at every size, then every way to mine in turn, each in a fresh process of one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "HF_POSMINE_OFFLINE": "1"}
    points = []
    mining = itertools.product(range(arguments.repeat), arguments.pages, KINDS, (OURS, MEMORY))
    for pages, kind, way in [
        *((pages, "one", READING) for pages in (FILE_PAGES, *arguments.pages)),
        *(one[1:] for one in mining),
    ]:
        print(f"{pages:,} pages, {kind}, {way}", file=sys.stderr)
        for size in (FILE_PAGES, pages):
            vectors_of(arguments.scratch, kind, size).write()
        result = arguments.scratch / "result.json"
        command = [sys.executable, "-m", "benchmarks.images", "--scratch", str(arguments.scratch), "--kind", kind]
        command += ["--pages", str(pages), "--way", way, "--result", str(result)]
        subprocess.run(command, check=True, env=environment, cwd=ROOT)
        points.append(json.loads(result.read_text()))
    return points[1:]


def differences(given: PageVectors, ours: list[list[str]], theirs: list[list[str]]) -> dict[str, int]:
    """Rows of both ways by whether they are equal, and if not, why.

    ``tie``: place by place the scores differ by no more than float32 resolves. ``threshold``: a page that one way alone has
    is that close to the ceiling.
    """
    reasons = dict.fromkeys(("equal", "tie", "threshold", "short", "unexplained"), 0)
    for query, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        reasons[_reason(given, query, one, other)] += 1
    return reasons


def _reason(given: PageVectors, query: int, one: list[str], other: list[str]) -> str:
    if one == other:
        return "equal"
    if len(other) < NEGATIVES:
        return "short"  # the peer leaves out rows that its first candidates do not fill
    mine, theirs = (given.scores(query, [int(name[1:]) for name in row]) for row in (one, other))
    if np.abs(mine - theirs).max() <= SAME:
        return "tie"
    (own,) = given.scores(query, given.positives[query : query + 1])
    alone = given.scores(query, [int(name[1:]) for name in {*one} ^ {*other}])
    near = np.abs(alone - (own - abs(own) * (1 - SHARE))).min(initial=np.inf) <= SAME
    return "threshold" if near else "unexplained"


def summarized(points: list[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """Medians over the repeats of each way at each size, and what became of its rows beside those of the other way."""
    runs: dict[tuple[str, int, str], list[dict[str, Any]]] = {}
    for one in points:
        runs.setdefault((one["kind"], one["pages"], one["way"]), []).append(one)
    made = []
    for (kind, pages, way), of in runs.items():
        memory = {
            name: statistics.median(run["memory"][name] for run in of)
            for name in ("above_inputs_anonymous_mib", "above_inputs_mib")
        }
        rows = {}
        if way == MEMORY:
            ours = runs[kind, pages, OURS][0]["negatives"]
            rows = {"rows": differences(vectors_of(scratch, kind, pages), ours, of[0]["negatives"])}
        seconds = round(statistics.median(run["cpu_seconds"] for run in of), 2)
        made.append({"kind": kind, "pages": pages, "way": way, "cpu_seconds": seconds, "memory": memory, **rows})
    return made


def report(record: dict[str, Any]) -> str:
    """A table for reading and for each kind of vectors, and the bytes of memory that a page more takes."""
    about, sizes = record["machine"], sorted({one["pages"] for one in record["points"]})
    reading = [one for one in record["points"] if one["way"] == READING]
    lines = [
        "# Mining rendered pages",
        f"{about['cpu']}, one thread; source {about['source_digest']}; {about['time']}. SQuAD's passages as pages of "
        f"{SIZE[0]} x {SIZE[1]} pixels, {record['pages_mib']:,} MiB of PNG for {sizes[-1]:,}; {NEGATIVES} negatives of each query "
        f"below `PercPos({SHARE})`. Made by `python -m benchmarks.images --repeat {record['repeats']}`.",
        "## Reading the pages",
        "From parquet files to a corpus, each page decoded once for its digest.",
        _table(reading),
        _growth(READING, reading),
    ]
    for kind, title in TITLES.items():
        points = [one for one in record["points"] if one["kind"] == kind and one["way"] != READING]
        lines += [f"## {title}", f"{DETAILS[kind]} Medians of {record['repeats']}.", _table(points), _ratios(points)]
        lines += ["\n".join(_growth(way, points) for way in (OURS, MEMORY))]
    lines += [
        f"`mine_hard_negatives` over opened images in the place of texts: `{record['peer_over_images']}`, so it got names."
    ]
    return "\n\n".join(lines) + "\n"


def _table(points: list[dict[str, Any]]) -> str:
    rows = []
    for one in points:
        sizes = [f"{one['memory'][name]:,.0f}" for name in ("above_inputs_anonymous_mib", "above_inputs_mib")]
        rows.append([f"{one['pages']:,}", one["way"], one["cpu_seconds"], *sizes])
    return markdown(["pages", "way", "CPU s", "own MiB", "with maps, MiB"], rows)


def _ratios(points: list[dict[str, Any]]) -> str:
    """Ours by the other way's, at every size, and the rows of both."""
    lines = []
    for theirs in (one for one in points if one["way"] == MEMORY):
        ours = next(one for one in points if one["way"] == OURS and one["pages"] == theirs["pages"])
        seconds, (own, maps) = ours["cpu_seconds"] / theirs["cpu_seconds"], (
            ours["memory"][name] / theirs["memory"][name] for name in ("above_inputs_anonymous_mib", "above_inputs_mib")
        )  # fmt: skip
        rows = ", ".join(f"{reason} {count:,}" for reason, count in theirs["rows"].items() if count)
        lines.append(
            f"- {theirs['pages']:,} pages: {seconds:.2f} of the time, {own:.2f} of the memory ({maps:.2f} with maps); rows: {rows}"
        )
    return "\n".join(lines)


def _growth(way: str, points: list[dict[str, Any]]) -> str:
    mine = [one for one in points if one["way"] == way]
    own, mapped = (
        np.polyfit([one["pages"] for one in mine], [2**20 * one["memory"][name] for one in mine], 1)[0]
        for name in ("above_inputs_anonymous_mib", "above_inputs_mib")
    )
    return f"- {way}: {own:,.0f} bytes of the process's own memory for a page more, {mapped:,.0f} with mapped files"


def main() -> None:
    """Measure all points and write the report, or measure one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    parser.add_argument("--pages", type=int, nargs="+", default=list(PAGES), help=f"multiples of {FILE_PAGES:,}")
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--scratch", type=Path, help="folder of pages and vectors, which stay there for the next run")
    parser.add_argument("--way", choices=(READING, OURS, MEMORY), help=argparse.SUPPRESS)
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if any(pages % FILE_PAGES for pages in arguments.pages):
        parser.error(f"--pages {arguments.pages}; give multiples of {FILE_PAGES:,}")
    if arguments.way is not None:
        point(arguments)
        return
    with tempfile.TemporaryDirectory(prefix="posmine-images-") as folder:
        arguments.scratch = (arguments.scratch or Path(folder)).resolve()
        files = rendered(arguments.scratch / "rendered", max(arguments.pages))
        size = sum(file.stat().st_size for file in files) / 2**20
        points = measure(arguments)
        record = {
            "machine": machine(),
            "repeats": arguments.repeat,
            "pages_mib": round(size),
            "peer_over_images": peer_over_images(arguments.scratch),
            "points": summarized(points, arguments.scratch),
            "runs": points,
        }
    for run in record["runs"]:
        del run["negatives"]
    save_json(arguments.output / "images.json", record)
    (arguments.output / "images.md").write_text(report(record))
    print(report(record))


if __name__ == "__main__":
    main()
