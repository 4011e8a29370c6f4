"""Every kind of file in the cache, damaged in every way: the same rows as before, or one line that names the file.

By default one damage per file; all of them with ``HF_POSMINE_ALL_FAULTS=1``.
"""

from __future__ import annotations

import os
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset, disable_progress_bars
from PIL import Image

from hf_posmine import Corpus, DenseTeacher, PercPos, PositiveAwareMiner, Qrels, mine
from hf_posmine.core.errors import PosmineError
from hf_posmine.data import qrels as qrels_module
from hf_posmine.encoding.store import Vectors
from hf_posmine.mining.execution.shards import read_shards
from hf_posmine.search.prepared import prepare
from hf_posmine.teachers.bm25 import BM25Teacher
from hf_posmine.teachers.endpoint import EmbeddingService, RemoteModel
from hf_posmine.teachers.late_interaction import LateInteractionTeacher
from hf_posmine.teachers.sparse import SparseTeacher
from hf_posmine.teachers.stored_run import StoredRun
from hf_posmine.teachers.trec_run import RunTeacher
from hf_posmine.teachers.vectors import VectorTeacher
from hf_posmine.teachers.window import cut_texts
from hf_posmine.training.guide import Guide
from hf_posmine.training.neighbours import Neighbours
from hf_posmine.utils import cache
from tests.conftest import ToyModel
from tests.support import tiny

disable_progress_bars()
EVERYTHING = os.environ.get("HF_POSMINE_ALL_FAULTS") == "1"
COLOURS, THINGS = "red green blue".split(), "cat dog bird sky sea tree stone house river".split()
TEXTS = [f"a {colour} {thing} in the {other}" for colour in COLOURS for thing in THINGS for other in THINGS[:2]]
QUERIES = [f"{colour} {thing}" for colour in COLOURS for thing in THINGS]
PAIRS = Dataset.from_dict({"query": QUERIES, "positive": TEXTS[::2]})


def corpus() -> Corpus:
    return Corpus.from_texts(TEXTS, ids=[f"d{n}" for n in range(len(TEXTS))])


def dense(**options) -> DenseTeacher:
    return DenseTeacher(ToyModel(), corpus(), fingerprint="toy", **options)


def scores(teacher) -> list:
    ranking = teacher.search(QUERIES[:5], 4)
    return [ranking.doc_ids.tolist(), ranking.scores.tolist()]


def use_corpus(home: Path) -> list:
    made = corpus()
    return [
        made.texts(np.arange(len(made))).to_pylist(),
        made.rows_of_texts(TEXTS).tolist(),
        made.rows_of_ids(["d3"])[0],
    ]


def use_known(home: Path) -> list:
    known = Qrels.from_dataset(PAIRS, positive="positive").resolve(corpus())
    return [np.asarray(getattr(known, name)).tolist() for name in ("keys", "offsets", "rows", "relevant")]


def use_union(home: Path) -> list:
    union = corpus().union(Corpus.from_texts([*TEXTS[:3], "a new one"], ids=["x", "y", "z", "n"]))
    return [union.rows_of_ids(["x", "y", "z", "n", "d5"]).tolist()]


def use_titles(home: Path) -> list:
    """A corpus with titles, which the positives lack."""
    documents = Corpus.from_dataset(
        Dataset.from_dict({"title": [f"About {n}" for n in range(len(TEXTS))], "text": TEXTS})
    )
    miner = PositiveAwareMiner.from_dataset(PAIRS, "bm25", corpus=documents)
    return [miner(PAIRS[:5])["negatives"], miner.data.to_dict()]


def use_scan(home: Path) -> list:
    vectors = Vectors((np.random.default_rng(0).standard_normal((60, 24)).astype(np.float32),))
    found = prepare("cosine", vectors, 60, rounding="int8", rows=16, held=0)
    return [found.scale.tolist(), np.asarray(found.coded.codes).tolist(), found.length, found.coded.most]


def use_vectors(home: Path) -> list:
    vectors = np.random.default_rng(0).standard_normal((len(TEXTS), 8)).astype(np.float32)
    return scores(pickle.loads(pickle.dumps(VectorTeacher(corpus(), vectors, QUERIES, vectors[: len(QUERIES)]))))


def use_run(home: Path) -> list:
    queries = {f"q{n}": text for n, text in enumerate(QUERIES)}
    entries = [(query, f"d{(n + m) % 54}", 9.0 - m) for n, query in enumerate(queries) for m in range(5)]
    return scores(pickle.loads(pickle.dumps(RunTeacher(corpus(), queries, entries))))


def use_answers(home: Path) -> list:
    model = RemoteModel(EmbeddingService("http://127.0.0.1:9/embed"), home / "answered")
    model._ask = ToyModel().encode_document
    model._returned = []
    return [model._answer(QUERIES[:4]).tolist()]


def use_parts(home: Path) -> list:
    teacher = SparseTeacher(str(tiny.sparse(home.parent / "sparse")), corpus())
    return [
        list(map(sorted, teacher._build(home / "sparse" / "index.parts").__dict__)),
        teacher._build(home / "sparse" / "index.parts").weights.tolist(),
    ]


def use_map_shards(home: Path) -> dict:
    return mine(PAIRS, PositiveAwareMiner.from_dataset(PAIRS, dense(), filters=PercPos(0.95)), shard_rows=10).to_dict()


def use_parquet_shards(home: Path) -> dict:
    miner = PositiveAwareMiner.from_dataset(PAIRS, dense(), filters=PercPos(0.95))
    mine(PAIRS, miner, output=home / "mined-files", shard_rows=10)
    return read_shards(home / "mined-files")["train"].table().to_pydict()


def use_kept(home: Path) -> list:
    """A column by which documents belong together."""
    documents = Dataset.from_dict({"text": TEXTS, "source": [f"s{n // 3}" for n in range(len(TEXTS))]})
    kept = Corpus.from_dataset(documents, keep=["source"]).values_of("source", "exclude_same")
    found = kept.with_same(np.arange(10), np.arange(10, 20))
    return [rows.tolist() for rows in found] + [kept.largest]


def use_images(home: Path) -> list:
    made = Corpus.from_images(Image.new("RGB", (4, 3), (n, 0, 2 * n)) for n in range(7))
    rows = np.arange(len(made))
    return [made.texts(rows).to_pylist(), [np.asarray(item.open()).tolist() for item in made.items(rows)]]


def use_near_rows(home: Path) -> list:
    rows = PAIRS.select(range(12))
    documents, queries = (Corpus.from_texts(rows[name][:], match="exact") for name in ("positive", "query"))
    guide = Guide(DenseTeacher(ToyModel(), documents, queries=queries, fingerprint="toy"))
    found = Neighbours("toy", "PercPos(0.95)", k=3).within(rows, guide)
    return [np.asarray(getattr(found, name)).tolist() for name in ("near", "ceilings", "above")]


def use_cut(home: Path) -> list:
    teacher = DenseTeacher("embedded", corpus())
    return [cut_texts(teacher.model, teacher.corpus, teacher.embeddings.store)]


KINDS = {
    "corpus": (use_corpus, "corpora"),
    "known positives": (use_known, ""),
    "ids of a union": (use_union, "corpora"),
    "embeddings": (
        lambda home: scores(dense(shard_rows=20, queries=Corpus.from_texts(QUERIES, match="exact"))),
        "stores",
    ),
    "bodies": (use_titles, "corpora"),
    "lookalikes": (use_titles, "lookalikes"),
    "kept columns": (use_kept, "corpora"),
    "images": (use_images, "corpora"),
    "near rows": (use_near_rows, "neighbours"),
    "cut texts": (use_cut, "cut"),
    "scan": (use_scan, "scans"),
    "bm25": (lambda home: scores(BM25Teacher(corpus())), "bm25"),
    "sparse": (lambda home: scores(SparseTeacher(str(tiny.sparse(home.parent / "sparse")), corpus())), "sparse"),
    "late interaction": (
        lambda home: scores(LateInteractionTeacher(str(tiny.late(home.parent / "late")), corpus())),
        "tokens",
    ),
    "parts of an index": (use_parts, "sparse"),
    "vectors": (use_vectors, "vectors"),
    "run file": (use_run, "run-files"),
    "stored run": (lambda home: scores(StoredRun.build(dense(), PAIRS, 10)), "runs"),
    "answers": (use_answers, "answered"),
    "faiss": (lambda home: scores(dense(index="Flat")), "stores"),
    "lance": (lambda home: scores(dense(index="Lance('IVF_FLAT', partitions=1)")), "stores"),
    "mined shards": (use_map_shards, "mined"),
    "mined files": (use_parquet_shards, "mined-files"),
}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes() or b"\0")
    content[len(content) // 2] ^= 0x15
    path.write_bytes(content)


def link(path: Path) -> None:
    """To another file of the same name's ending, or to a device that gives bytes without end."""
    other = next(
        (f for f in sorted(path.parent.glob(f"*{path.suffix}")) if f != path and f.is_file()), Path("/dev/zero")
    )
    path.unlink()
    path.symlink_to(other)


def directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGES = {
    "flipped": flip,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3]),
    "empty": lambda path: path.write_bytes(b""),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(max(1, path.stat().st_size))),
    "directory": directory,
    "link": link,
}


def cases(files: list[Path]) -> list[tuple[Path, str]]:
    """All damages of all files, or one of each file, in turn."""
    names = list(DAMAGES)
    if EVERYTHING:
        return [(file, name) for file in files for name in names]
    return [(file, names[number % len(names)]) for number, file in enumerate(files)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_changes_no_row_or_is_named_in_one_line(kind, fresh_home, tmp_path, monkeypatch):
    if kind == "lance":
        pytest.importorskip("lance")
    monkeypatch.setattr(qrels_module, "SMALL", 0)
    use, below = KINDS[kind]
    expected = use(fresh_home)
    sound = tmp_path / "sound"
    shutil.copytree(fresh_home, sound)
    files = sorted(f.relative_to(sound) for f in (sound / below).rglob("*") if f.is_file() and f.suffix != ".lock")
    assert files
    if "HF_POSMINE_COUNT" in os.environ:  # the runner of the whole table counts each damage
        with Path(os.environ["HF_POSMINE_COUNT"]).open("a") as counted:
            counted.write(f"{len(cases(files)) - 1}\n")
    for file, damage in cases(files):
        shutil.rmtree(fresh_home)
        shutil.copytree(sound, fresh_home)
        before = (fresh_home / file).stat()
        DAMAGES[damage](fresh_home / file)
        if damage in ("flipped", "noise"):  # as a disk does it, without a trace in size and time
            os.utime(fresh_home / file, ns=(before.st_atime_ns, before.st_mtime_ns))
        cache._checked.clear()
        cache._checked_files.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                found = use(fresh_home)
            except PosmineError as error:
                assert str(fresh_home / file) in str(error), (file, damage)
                assert "\n" not in str(error)
                continue
        assert found == expected, (file, damage)
        assert all("\n" not in str(w.message) for w in caught)
