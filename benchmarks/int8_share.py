"""How many queries the proved bound of the int8 scan decides, on real embeddings: SQuAD, all-MiniLM-L6-v2.

    python -m benchmarks.int8_share --output docs/benchmarks

Every question of SQuAD against every passage, 4 negatives below 95 % of the positive's score. A query that the bound leaves
open is scanned again, with more room in int8 and then in float32. Embeddings are encoded first, which takes 20 minutes of CPU
time; HF_POSMINE_HOME names where they are kept.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from benchmarks.measure import Watch, machine, markdown
from benchmarks.synthetic import save_json

DATA = Path(__file__).parents[2] / "shared" / "data" / "squad_v1.1"


def count_scans() -> dict[tuple[str, int], int]:
    """Queries given to each kind of scan and room, from now on."""
    from hf_posmine.search.scan_cpu import CpuScan

    counts: dict[tuple[str, int], int] = {}
    scan = CpuScan.__call__

    def call(self: Any, queries: Any, k: int, limits: Any, room: int) -> Any:
        key = "float32" if self.coarse is None else "int8", room
        counts[key] = counts.get(key, 0) + len(queries.vectors)
        return scan(self, queries, k, limits, room)

    CpuScan.__call__ = call
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/bench"))
    arguments = parser.parse_args()
    os.environ["HF_POSMINE_OFFLINE"] = "1"
    from datasets import disable_progress_bars

    from hf_posmine import Corpus, PositiveAwareMiner
    from hf_posmine.data import load_files

    disable_progress_bars()
    pairs = load_files(DATA / "train_pairs.parquet")
    corpus = Corpus.from_dataset(load_files(DATA / "train_corpus.parquet"), "text", "id")
    counts, rows, watch = count_scans(), [], Watch()
    for engine in ("int8", "float32"):
        miner = PositiveAwareMiner.from_dataset(
            pairs, "embedded", corpus=corpus, query_column="query", positive_id_column="positive_id",
            filters="PercPos(0.95)", keep=("ids", "scores"), teacher_options={"engine": engine},
        )  # fmt: skip
        miner.prepare()
        counts.clear()
        with watch(engine):
            mined = pairs.map(miner, batched=True, load_from_cache_file=False)
        rows.append((mined["negatives_ids"][:], mined["negatives_scores"][:]))
        if engine == "int8":
            scans = [{"scan": kind, "room": room, "queries": n} for (kind, room), n in sorted(counts.items())]
    record = {
        "machine": machine(),
        "queries": len(pairs),
        "documents": corpus.num_candidates,
        "scans": scans,
        "same rows and scores as float32": rows[0] == rows[1],
        "cpu seconds": {name: round(span["cpu"], 2) for name, span in watch.spans.items()},
    }
    arguments.output.mkdir(parents=True, exist_ok=True)
    save_json(arguments.output / "int8_share.json", record)
    print(
        markdown(
            ["scan", "room", "queries", "share"],
            [[s["scan"], s["room"], f"{s['queries']:,}", f"{s['queries'] / len(pairs):.3%}"] for s in scans],
        )
    )
    print(record["same rows and scores as float32"], record["cpu seconds"])


if __name__ == "__main__":
    main()
