"""Soak: one long mining job, killed -9 and started again at 24 random moments; the rows and files of an undisturbed run.

    python -m benchmarks.soak --restarts 24 --output out/bench

The job encodes a corpus and its queries, then mines a stream into parquet shards. Each life ends by SIGKILL at a random
moment, in the midst of whatever it does, and the next one begins where it was. Afterwards the rows must be those of one
``dataset.map`` and of an undisturbed run, every file must be that of the undisturbed run, no shard that was once finished
may have been written again, and nothing temporary may be left. The real MiniLM encodes the 2,067 passages and 3,000 of the
questions of SQuAD's development set if the data are beside the checkout, else the embedded sample.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

os.environ["HF_POSMINE_OFFLINE"] = "1"

import datasets

from benchmarks.measure import forked
from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, Qrels, mine
from hf_posmine.data import beir_pairs, load_files
from hf_posmine.mining.execution import read_shards
from tests.conftest import ToyModel
from tests.mining.test_mine import make_pairs

SAMPLE = Path(__file__).parents[1] / "hf_posmine" / "data" / "sample"
SQUAD = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"
FINISHED = (".safetensors", ".parquet")


@dataclass
class Soak:
    """What happened to the disturbed run.

    Attributes:
        lives: for each kill, the phase it hit and the shards that were finished then.
        failures: what was not as in the undisturbed run.
        shards: files of the undisturbed run.
    """

    lives: list[tuple[str, int]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    shards: int = 0

    @property
    def phases(self) -> dict[str, int]:
        return dict(Counter(phase for phase, _ in self.lives))


def run_soak(job, folder: Path, restarts: int, seed: int) -> Soak:
    """Kill ``job(home)`` so many times.

    Args:
        job: works below the folder it is given, touches ``phase-*`` files there, and writes a digest of its rows to
            ``done``.
        folder: an empty folder.
        restarts: kills.
        seed: of the moments.
    """
    soak, rng = Soak(), random.Random(seed)
    began = time.perf_counter()
    os.waitpid(start(job, folder / "whole"), 0)
    expected = finished(folder / "whole")
    soak.shards = len(expected)
    pause = (time.perf_counter() - began) / len(expected)
    home, seen = folder / "soaked", {}
    for progress in sorted(rng.sample(range(len(expected) - 2), restarts)):
        child = start(job, home)
        wait_for_shards(home, progress)
        time.sleep(rng.uniform(0, pause))  # anywhere within a shard, or between two
        os.kill(child, signal.SIGKILL)
        if not os.WIFSIGNALED(os.waitpid(child, 0)[1]):
            soak.failures.append(f"it ended before kill {len(soak.lives) + 1}")
            break
        now = finished(home)
        soak.lives.append((phase_of(home), len(now)))
        soak.failures += [f"{name} was written again" for name in seen if now.get(name) != seen[name]]
        seen = now
        print(f"kill {len(soak.lives)}: {soak.lives[-1]}", file=sys.stderr, flush=True)
    os.waitpid(start(job, home), 0)
    now = finished(home)
    soak.failures += [f"{name} was written again" for name in seen if now.get(name) != seen[name]]
    soak.failures += differences(folder / "whole", home)
    return soak


def wait_for_shards(home: Path, count: int) -> None:
    deadline = time.time() + 600
    while time.time() < deadline:  # os.walk does not mind files that are renamed meanwhile
        names = [name for _, _, files in os.walk(home) for name in files]
        if sum(name.endswith(FINISHED) and ".tmp-" not in name for name in names) >= count:
            return
        time.sleep(0.005)


def differences(whole: Path, soaked: Path) -> list[str]:
    found = []
    if (soaked / "error").exists():
        found.append((soaked / "error").read_text())
    elif (soaked / "done").read_text() != (whole / "done").read_text():
        found.append("other rows")
    one, other = ({name: digest for name, (digest, _) in finished(home).items()} for home in (whole, soaked))
    if one != other:
        found.append(f"other files: {sorted(set(one.items()) ^ set(other.items()))[:3]}")
    return found + [f"left over: {path}" for path in soaked.rglob("*.tmp-*")]


def start(job, home: Path) -> int:
    """The job in a process of its own, with a cache of its own."""

    def alone(home: Path) -> None:
        os.environ["HF_POSMINE_HOME"] = str(home / "cache")
        datasets.disable_progress_bars()
        job(home)

    return forked(alone, home)


def finished(home: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of writing of every finished shard; a shard of rows keeps its time when it gets its last name."""
    files = [f for f in home.rglob("*") if f.suffix in FINISHED and ".tmp-" not in f.name]
    return {
        str(f.relative_to(home)).split("-of-")[0].removesuffix(f.suffix): (
            hashlib.sha256(f.read_bytes()).hexdigest(),
            f.stat().st_mtime_ns,
        )
        for f in files
    }


def phase_of(home: Path) -> str:
    return "mine" if (home / "phase-mine").exists() else "encode" if (home / "phase-encode").exists() else "start"


def rows_digest(stream) -> str:
    digest = hashlib.sha256()
    for row in stream:
        digest.update(json.dumps(row, sort_keys=True).encode())
    return digest.hexdigest()


def squad_job() -> tuple[datasets.Dataset, PositiveAwareMiner]:
    """Rows and miner: SQuAD's development set, or the embedded sample."""
    options = {"filters": ["PercPos(0.95)"], "keep": ("scores", "ids", "ranks", "stats")}
    if SQUAD.is_dir():
        corpus = Corpus.from_files(SQUAD / "dev_corpus.parquet", text="text", id="id")
        pairs = load_files(SQUAD / "dev_pairs.parquet").select(range(3000))
    else:
        corpus, pairs = Corpus.from_beir(SAMPLE), beir_pairs(SAMPLE)
    known = Qrels.from_dataset(pairs, "query", positive_id="positive_id")
    teacher = DenseTeacher("embedded", corpus, queries=known.queries, shard_rows=32 if SQUAD.is_dir() else 8)
    return pairs, PositiveAwareMiner(
        corpus=corpus, teachers=[teacher], known_positives=known, positive_id_column="positive_id", **options
    )


def toy_job() -> tuple[datasets.Dataset, PositiveAwareMiner]:
    """The same for a test: 120 rows, and a model that takes its time."""

    class SlowModel(ToyModel):
        def encode_document(self, texts, **options):
            time.sleep(0.006 * len(texts))
            return super().encode_document(texts)

        encode_query = encode_document

    class SlowMiner(PositiveAwareMiner):
        def __call__(self, batch, *extra):
            time.sleep(0.05)
            return super().__call__(batch, *extra)

    pairs = make_pairs()
    options = {"fingerprint": "toy", "shard_rows": 10}
    return pairs, SlowMiner.from_dataset(pairs, SlowModel(), teacher_options=options, filters="PercPos(0.8)")


def job(make, home: Path) -> None:
    """Encode, then mine a stream into shards."""
    pairs, miner = make()
    size = max(4, len(pairs) // 120)
    (home / "phase-encode").touch()
    miner.prepare()
    (home / "phase-mine").touch()
    mined = mine(
        pairs.to_iterable_dataset(num_shards=4), miner, output=home / "mined", shard_rows=size, batch_size=size // 2
    )
    (home / "done").write_text(rows_digest(mined))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--restarts", type=int, default=24)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="out/bench")
    parser.add_argument("--toy", action="store_true", help="a job of seconds, for the tests")
    args = parser.parse_args()
    make = toy_job if args.toy else squad_job
    folder = Path(tempfile.mkdtemp(prefix="posmine-soak-"))
    began = time.perf_counter()
    soak = run_soak(functools.partial(job, make), folder, args.restarts, args.seed)
    seconds = time.perf_counter() - began
    mined = read_shards(folder / "soaked" / "mined")["train"]
    os.environ["HF_POSMINE_HOME"] = str(folder / "whole" / "cache")
    pairs, miner = make()
    plain = pairs.map(miner, batched=True, load_from_cache_file=False)
    if rows_digest(plain) != (folder / "soaked" / "done").read_text():
        soak.failures.append("rows of dataset.map differ")
    record = {
        "job": f"{job_name(args.toy)}, {len(mined):,} rows",
        "restarts": len(soak.lives), "phases": soak.phases, "shards": soak.shards, "seconds": round(seconds),
        "lives": soak.lives, "failures": soak.failures, "seed": args.seed,
    }  # fmt: skip
    write(record, Path(args.output))
    print(f"{len(soak.lives)} restarts {soak.phases}, {len(soak.failures)} differences {soak.failures[:5]}")
    return 1 if soak.failures else 0


def job_name(toy: bool) -> str:
    if toy:
        return "toy"
    return f"all-MiniLM-L6-v2 over {'SQuAD dev' if SQUAD.is_dir() else 'the embedded sample'}"


def write(record: dict, output: Path) -> None:
    output.mkdir(parents=True, exist_ok=True)
    (output / "soak.json").write_text(json.dumps(record, indent=1) + "\n")
    lives = "\n".join(f"| {n} | {phase} | {whole} |" for n, (phase, whole) in enumerate(record["lives"], 1))
    (output / "soak.md").write_text(
        f"# Soak: {record['restarts']} restarts of one mining job\n\n"
        "From `python -m benchmarks.soak`: one job is killed with SIGKILL at random moments and started again. After "
        "the last start the rows must be those of an undisturbed run and of `dataset.map`, every file must have the same "
        "bytes, no shard that was once finished may have been written again (content and time of writing are compared at "
        "every kill), and nothing temporary may be left.\n\n"
        f"Job: {record['job']}; {record['shards']} shards of embeddings and rows; {record['seconds']} s in all. "
        f"Kills by phase: {record['phases']}. **Differences: {len(record['failures'])}.**\n\n"
        f"| kill | phase | shards finished |\n|---|---|---|\n{lives}\n"
    )


if __name__ == "__main__":
    sys.exit(main())
