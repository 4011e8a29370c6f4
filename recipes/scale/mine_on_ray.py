"""Mine Natural Questions over a corpus of your own on a Ray cluster; after any failure, run it again and it continues.

    python recipes/scale/mine_on_ray.py --corpus /shared/passages.parquet --output /shared/nq-mined

Run it on a machine of the cluster (`ray start --head` here is a cluster of one), or with `ray submit`.
"""

from __future__ import annotations

import argparse
import os


def main() -> None:
    """Read, make the miner, mine on the cluster."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", default="sentence-transformers/natural-questions", help="a Hub id, file or folder")
    parser.add_argument("--corpus", default="/shared/passages.parquet", help="columns id and text")
    parser.add_argument("--teacher", default="intfloat/e5-large-v2")
    parser.add_argument("--output", default="/shared/nq-mined")
    parser.add_argument("--gpus", type=float, default=1, help="of each worker; 0 for a cluster of CPUs")
    args = parser.parse_args()

    # 1. Everything that workers read is on the disk that all machines share.
    os.environ.setdefault("HF_HOME", "/shared/huggingface")
    os.environ.setdefault("HF_POSMINE_HOME", "/shared/posmine")
    import ray
    from datasets import load_dataset

    from hf_posmine import Corpus, PositiveAwareMiner
    from hf_posmine.data import load_source
    from hf_posmine.mining.execution import Workers, mine_on_ray

    # 2. The driver reads rows and documents once; the miner travels as its recipe, a few kilobytes.
    pairs = load_source(args.pairs)
    corpus = Corpus.from_files(args.corpus, text="text", id="id")
    miner = PositiveAwareMiner.from_dataset(
        pairs,
        args.teacher,
        corpus=corpus,
        filters=["PercPos(0.95)"],
        # larger shards for large corpora: a kill loses one, and each is one memory map in every process
        teacher_options={
            "shard_rows": 65_536,
            "dtype": "float16",
            "query_prompt": "query: ",
            "document_prompt": "passage: ",
        },
    )

    # 3. Encode on all GPUs, then search: every worker the whole corpus here. Where one machine cannot scan it fast enough,
    #    search=Workers(count=8, gpus=1) cuts it into eight parts, each held by one GPU, and merges what they find.
    with_gpu = Workers(gpus=args.gpus)
    ray.init(address="auto", log_to_driver=False)
    mine_on_ray(pairs, miner, args.output, encode=with_gpu, mine=with_gpu)

    # 4. Ordinary parquet shards.
    print(load_dataset(args.output, split="train"))


if __name__ == "__main__":
    main()
