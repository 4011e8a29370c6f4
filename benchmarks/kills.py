"""Kill -9 a mining job at random moments of encoding and of mapping, resume it, and compare with an undisturbed run.

    python -m benchmarks.kills --kills 20 --output out/bench

The job mines the embedded sample with the embedded MiniLM, in small shards. A kill counts for the phase it hit. After
each kill the job is run again to its end; every stored shard and every row must be as without the kill, shards
that were whole must not have been written again, and nothing temporary may be left.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

os.environ["HF_POSMINE_OFFLINE"] = "1"

import datasets

from benchmarks.measure import forked
from hf_posmine import Corpus, DenseTeacher, PositiveAwareMiner, Qrels, mine
from hf_posmine.data import beir_pairs

SAMPLE = Path(__file__).parents[1] / "hf_posmine" / "data" / "sample"


def job(home: Path) -> None:
    """Encode and mine; touches ``phase-*`` files so that the parent knows where a kill hit."""
    os.environ["HF_POSMINE_HOME"] = str(home)
    datasets.disable_progress_bars()
    (home / "phase-encode").touch()
    corpus, known = Corpus.from_beir(SAMPLE), Qrels.from_beir(SAMPLE, "train")
    teacher = DenseTeacher("embedded", corpus, queries=known.queries, shard_rows=8)
    miner = PositiveAwareMiner(
        corpus=corpus, teachers=[teacher], known_positives=known, positive_id_column="positive_id",
        filters=["PercPos(0.95)"], keep=("scores", "ids", "ranks", "stats"),
    )  # fmt: skip
    miner.prepare()
    (home / "phase-map").touch()
    mined = mine(beir_pairs(SAMPLE), miner, shard_rows=1)
    digest = hashlib.sha256(json.dumps(mined.to_dict(), sort_keys=True).encode()).hexdigest()
    (home / "done").write_text(digest)


def state(home: Path) -> dict[str, tuple[str, int]]:
    """Content digest and modification time of every finished shard."""
    files = [*home.glob("stores/**/*.safetensors"), *home.glob("mined/**/*.arrow")]
    return {
        str(f.relative_to(home)): (hashlib.sha256(f.read_bytes()).hexdigest(), f.stat().st_mtime_ns)
        for f in files
        if ".tmp-" not in str(f)
    }


def wait_for(home: Path, name: str, child: int) -> bool:
    while not (home / name).exists():
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.005)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", default="out/bench")
    args = parser.parse_args()
    rng = random.Random(args.seed)
    root = Path(tempfile.mkdtemp(prefix="posmine-kills-"))
    began = time.perf_counter()
    child = forked(job, root / "reference")
    wait_for(root / "reference", "phase-map", child)
    encode_seconds = time.perf_counter() - began
    os.waitpid(child, 0)
    map_seconds = time.perf_counter() - began - encode_seconds
    reference = state(root / "reference")
    digest = (root / "reference" / "done").read_text()
    phases, failures, kept = Counter(), [], []
    trial = 0
    while sum(phases.values()) < args.kills:
        home = root / f"trial-{trial:03d}"
        phase, seconds = ("map", map_seconds) if trial % 2 else ("encode", encode_seconds)
        trial += 1
        child = forked(job, home)
        if not wait_for(home, f"phase-{phase}", child):
            failures.append((trial, (home / "error").read_text()))
            break
        time.sleep(rng.uniform(0, 0.95 * seconds))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            continue  # it had already finished
        phases["map" if (home / "phase-map").exists() else "encode"] += 1
        whole = state(home)
        kept.append(len(whole))
        os.waitpid(forked(job, home), 0)
        after = state(home)
        if (home / "error").exists():
            failures.append((trial, (home / "error").read_text()))
        elif (home / "done").read_text() != digest:
            failures.append((trial, "other rows"))
        elif {k: v[0] for k, v in after.items()} != {k: v[0] for k, v in reference.items()}:
            failures.append((trial, "other shards"))
        elif any(after[name] != found for name, found in whole.items()):
            failures.append((trial, "a finished shard was written again"))
        print(
            f"kill {sum(phases.values())}: in {phase}, {len(whole)} of {len(reference)} shards were whole", flush=True
        )
    record = {"kills": dict(phases), "shards": len(reference), "whole_at_kill": kept, "failures": failures}
    Path(args.output).mkdir(parents=True, exist_ok=True)
    (Path(args.output) / "kills.json").write_text(json.dumps(record, indent=1))
    print(f"{sum(phases.values())} kills ({dict(phases)}), {len(failures)} differences {failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
