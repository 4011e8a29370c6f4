"""Mining on a local Ray cluster of several nodes while something fails; the rows are compared with a single process.

    python -m benchmarks.ray_faults --output out/bench

Head and two nodes of one processor each, the real MiniLM over the embedded sample, in small shards. In turn: nothing fails; a
worker is killed in the middle of a shard, while encoding and while mining; the corpus is searched in two parts and a worker
is killed; a node is removed while rows are mined; the disk is full; a shard of embeddings is damaged; the rows travel through
an object store that is smaller than they are. Each must give the rows of ``dataset.map``, and encode no finished shard again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
import warnings
from pathlib import Path

os.environ["HF_POSMINE_OFFLINE"] = "1"

import datasets
from datasets import Dataset, load_dataset

from hf_posmine import Corpus
from hf_posmine.core import DiskFullError
from hf_posmine.data import beir_pairs
from hf_posmine.mining.execution import Workers, mine_on_ray
from tests.support.ray_jobs import NODE_MEMORY, encoded_shards, make_miner, ray_cluster, remove_a_working_node
from tests.support.small_disk import small_disk

SAMPLE = Path(__file__).parents[1] / "hf_posmine" / "data" / "sample"
SHARD_ROWS = 8


def load_pairs() -> Dataset:
    corpus, pairs = Corpus.from_beir(SAMPLE), beir_pairs(SAMPLE)
    texts = corpus.texts(corpus.rows_of_ids(pairs["positive_id"])).to_pylist()
    return pairs.add_column("positive", texts).add_column("row", range(len(pairs)))


def with_ballast(pairs: Dataset) -> Dataset:
    """The rows in memory, with a column larger than the object store of all nodes."""
    kilobytes = 4 * NODE_MEMORY // len(pairs) // 1024
    return Dataset.from_dict({**pairs.to_dict(), "ballast": [os.urandom(1024 * kilobytes) for _ in range(len(pairs))]})


class Trial:
    """One run below a folder of its own, with a store of its own."""

    def __init__(self, cluster, pairs: Dataset, expected: dict, root: Path, name: str) -> None:
        self.cluster, self.pairs, self.expected, self.name = cluster, pairs, expected, name
        self.folder = root / name.replace(" ", "-")
        self.diary = self.folder / "diary"
        os.environ["HF_POSMINE_HOME"] = str(self.folder / "home")
        self.miner = make_miner(pairs, "embedded", self.diary, shard_rows=SHARD_ROWS)

    def order(self, what: str, number: int) -> None:
        (self.diary / what).write_text(str(number))

    def run(self, output: Path | None = None, **options) -> None:
        mine_on_ray(self.pairs, self.miner, output or self.folder / "mined", shard_rows=10, batch_size=5, **options)

    def result(self, seconds: float, output: Path | None = None) -> dict:
        mined = load_dataset(str(output or self.folder / "mined"), split="train").to_dict()
        encoded = encoded_shards(self.diary)
        return {
            "trial": self.name,
            "same rows": {name: mined[name] for name in self.expected} == self.expected,
            "shards encoded": len(encoded),
            "encoded again": len(encoded) - len(set(encoded)),
            "left over": len(list(self.folder.rglob("*.tmp-*"))),
            "seconds": round(seconds, 1),
        }


def nothing(trial: Trial) -> None:
    trial.run()


def killed_worker(trial: Trial) -> None:
    trial.order("kill-encoder", 3)
    trial.order("kill-miner", 25)
    trial.run()
    assert (trial.diary / "encoder-died").exists() and (trial.diary / "miner-died").exists()


def killed_worker_in_parts(trial: Trial) -> None:
    trial.order("kill-miner", 25)
    trial.run(search=Workers(2))
    assert (trial.diary / "miner-died").exists()


def lost_node(trial: Trial) -> None:
    trial.miner.seconds = 0.3
    data = trial.folder / "mined" / "data"
    thread = remove_a_working_node(trial.cluster, trial.diary, when=lambda: len(list(data.glob("*0.parquet"))) >= 1)
    try:
        trial.run()
    finally:
        thread.join()
        trial.cluster.add_node(num_cpus=1, object_store_memory=NODE_MEMORY)
    assert (trial.diary / "node-removed").exists()


def full_disk(trial: Trial) -> None:
    with small_disk(trial.folder / "disk", kilobytes=120) as disk:
        try:
            trial.run(disk.folder / "mined")
        except DiskFullError as error:
            print(f"  error: {error}", file=sys.stderr)
        else:
            raise AssertionError("the disk was not full")
        assert list(disk.folder.rglob("*.parquet")) and not list(disk.folder.rglob("*.tmp-*"))
        disk.enlarge(kilobytes=20_000)
        trial.run(disk.folder / "mined")
        shutil.copytree(disk.folder / "mined", trial.folder / "mined")


def damaged_shard(trial: Trial) -> None:
    teacher = trial.miner.teachers[0]
    role, part = teacher.parts()[0]
    teacher.begin(role, part)
    teacher.fill_shard(role, part, 1, lambda count: None)
    shard = next((trial.folder / "home").rglob("shard-000001.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trial.run()
    assert any("encoded again" in str(w.message) for w in caught)


def small_object_store(trial: Trial) -> None:
    trial.pairs = with_ballast(trial.pairs)
    trial.run()


TRIALS = {
    "nothing fails": nothing,
    "worker killed encoding and mining": killed_worker,
    "corpus in two parts, worker killed": killed_worker_in_parts,
    "node removed while mining": lost_node,
    "full disk, then space": full_disk,
    "damaged shard of embeddings": damaged_shard,
    "rows larger than the object store": small_object_store,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="out/bench")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    root = Path(tempfile.mkdtemp(prefix="posmine-ray-"))
    pairs = load_pairs()
    os.environ["HF_POSMINE_HOME"] = str(root / "single")
    expected = pairs.map(make_miner(pairs, "embedded", root / "single" / "diary", shard_rows=SHARD_ROWS), batched=True)
    results = []
    with ray_cluster(nodes=2) as cluster:
        for name, fail in TRIALS.items():
            trial = Trial(cluster, pairs, expected.to_dict(), root, name)
            began = time.perf_counter()
            fail(trial)
            results.append(trial.result(time.perf_counter() - began))
            print(results[-1], file=sys.stderr, flush=True)
    write(results, Path(args.output))
    with contextlib.suppress(OSError):
        shutil.rmtree(root)
    wrong = [r for r in results if not r["same rows"] or r["left over"]]
    print(f"{len(results)} trials, {len(wrong)} with other rows or leftovers")
    return 1 if wrong else 0


def write(results: list[dict], output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "ray_faults.json").write_text(json.dumps(results, indent=1) + "\n")
    head = "| " + " | ".join(results[0]) + " |\n|" + "---|" * len(results[0])
    lines = [
        "| " + " | ".join(str(v).replace("True", "yes").replace("False", "**no**") for v in r.values()) + " |"
        for r in results
    ]
    (output / "ray_faults.md").write_text(
        "# Mining on Ray while something fails\n\n"
        "From `python -m benchmarks.ray_faults`: a head and two nodes of one processor each on one machine, the real "
        "all-MiniLM-L6-v2 over the embedded sample. *same rows*: all columns and their order are those of `dataset.map` in "
        "a single process. *encoded again*: shards that were encoded to their end more than once (one where it was damaged "
        "on purpose). *left over*: temporary files. Seconds include the start of the actors, on two busy cores: they say "
        "nothing about speed.\n\n" + "\n".join([head, *lines]) + "\n"
    )


if __name__ == "__main__":
    sys.exit(main())
