"""Mine the negatives of both stages with e5-mistral-7b-instruct, as mine.yaml has it.

    python recipes/nv_retriever/1_mine.py --dry-run                              # what it takes; no model is loaded
    python recipes/nv_retriever/1_mine.py SciFact --trial 100 --output out/trial # 100 rows of one set
    accelerate launch --config_file recipes/scale/accelerate.yaml recipes/nv_retriever/1_mine.py   # 8 GPUs share each set

Machines that share a disk share the work, too: start it on each with RANK and WORLD_SIZE, or by torchrun. A mined set that is
there is left alone, and whatever was interrupted resumes, so the same command may be given again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from sentence_transformers import SentenceTransformer
from transformers import AutoConfig

from hf_posmine import Corpus, DenseTeacher, MiningSummary, PositiveAwareMiner, Qrels
from hf_posmine.mining.execution import Rank, mine_share, read_shards
from hf_posmine.mining.provenance import provenance, write_provenance
from hf_posmine.models import ModelShape
from hf_posmine.training import read_recipe
from hf_posmine.utils import Node
from nv.cost import SAMPLE, Line, Texts, encoding_line, sample_of, show
from nv.sets import MiningSet, load_set
from nv.teacher import load_teacher, load_tokenizer

HERE = Path(__file__).parent
STORE_ROWS = 16_384  # of a shard of embeddings: 128 MiB at 4,096 dimensions in 16 bits, which a kill can lose


def main(given: list[str] | None = None) -> None:
    """All steps, in order."""
    # 1. What to mine. The recipe of stage 2 has every set's instruction and number of samples.
    args = arguments(given)
    plan = yaml.safe_load(args.config.read_text("utf8"))
    stage = {spec.name: spec for spec in read_recipe(args.config.parent / plan["stage"]).contrastive.datasets}
    left = [name for name in args.sets or plan["datasets"] if not (args.output / name / "provenance.json").exists()]

    # 2. This process and its GPU, and the teacher.
    rank = Rank.from_environment()
    rank.use_gpu()
    teacher = load_teacher(plan["teacher"]) if left and not args.dry_run else None
    lines = []

    for name in left:
        # 3. Questions and positives, drawn before they are mined, and the documents that negatives are chosen from.
        samples, seed = stage[name].max_samples, plan["mining"]["seed"]
        pairs = load_set(plan["datasets"][name], round(samples * (1 + plan["spare"])), seed, args.trial)
        before = prompts(plan, name, stage[name].text_before)
        if teacher is None:
            lines.append(cost(name, plan, pairs, before))
            continue

        # 4. Mine, together with the other processes: the five best documents below 95 % of the positive's score.
        miner = make_miner(teacher, pairs, before, plan)
        rows = plan["batch_size"]
        mine_share(pairs.drawn, miner, args.output / name, rank=rank, shard_rows=rows, batch_size=rows)

        # 5. The rows are there; one process adds how they came about.
        if rank.number == 0:
            record(miner, args.output / name, plan["datasets"][name])

    # 6. Or only what all of this would take.
    if lines:
        show(f"1 mine: {len(lines)} sets", lines, Node.parse(args.node))


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="names of mine.yaml (default: all)")
    parser.add_argument("--config", type=Path, default=HERE / "mine.yaml")
    parser.add_argument(
        "--output", type=Path, default=Path("out/nv_retriever/mined"), help="a folder for each set goes there"
    )
    parser.add_argument(
        "--trial", type=int, metavar="ROWS", help="mine at most so many rows of a set, among few documents"
    )
    parser.add_argument("--dry-run", action="store_true", help="read the sets, print what mining takes, and stop")
    parser.add_argument("--node", default="8xA100", help="GPUs that --dry-run counts with (default: %(default)s)")
    return parser.parse_args(given)


def prompts(plan: dict[str, Any], name: str, instruction: str) -> dict[str, str]:
    """Before queries; also before the documents of a symmetric task, as E5-Mistral is evaluated on STS."""
    prompt = plan["teacher"]["prompt"].format(instruction=instruction)
    symmetric = plan["datasets"][name]["layout"] == "sts"
    return {"query_prompt": prompt, "document_prompt": prompt if symmetric else ""}


def make_miner(
    model: SentenceTransformer, pairs: MiningSet, before: dict[str, str], plan: dict[str, Any]
) -> PositiveAwareMiner:
    """The miner of a set. Only the drawn queries are encoded; the positives of all are known."""
    known = Qrels.from_dataset(pairs.known, "query", "positive")
    corpus = pairs.corpus or known.documents
    queries = Corpus.from_texts(pairs.drawn["query"], match="exact")
    teacher = DenseTeacher(model, corpus, queries=queries, dtype="float16", shard_rows=STORE_ROWS, **before)
    columns = {"query_column": "query", "positive_column": "positive"}
    return PositiveAwareMiner(corpus=corpus, teachers=teacher, known_positives=known, **columns, **plan["mining"])


def record(miner: PositiveAwareMiner, folder: Path, options: dict[str, Any]) -> None:
    """The provenance beside the rows, and the summary on the screen."""
    mined = read_shards(folder)
    summary = MiningSummary.from_dataset(mined, miner.settings.num_negatives)
    source = {"path": options.get("data_files", options["path"]), "name": options.get("config"), "split": "train"}
    documents = {"path": options["path"], "name": "corpus"} if options["layout"] == "beir" else None
    made = provenance(miner, source=source, corpus_source=documents, summary=summary, mined=mined)
    write_provenance(folder / "provenance.json", made)
    Console().print(f"[bold]{folder.name}[/bold]\n{summary}")


def cost(name: str, plan: dict[str, Any], pairs: MiningSet, before: dict[str, str]) -> Line:
    """What mining a set takes, by its configuration, its tokenizer and some of its texts."""
    teacher = plan["teacher"]
    tokenizer, most = load_tokenizer(teacher), teacher["max_length"]
    shape = ModelShape.of_config(AutoConfig.from_pretrained(teacher["model"], revision=teacher.get("revision")))
    corpus = pairs.corpus or Qrels.from_dataset(pairs.known, "query", "positive").documents
    documents = Texts.of(corpus.num_candidates, sample_of(corpus), tokenizer, most, before["document_prompt"])
    queries = pairs.drawn["query"][:SAMPLE]
    return encoding_line(
        name, shape, documents, Texts.of(len(pairs.drawn), queries, tokenizer, most, before["query_prompt"])
    )


if __name__ == "__main__":
    main()
