"""NDCG@10 on the 15 retrieval sets of MTEB, beside the paper's (its Table 5). Needs the package mteb.

    python recipes/nv_retriever/5_evaluate.py --dry-run                          # what it takes; no weights are loaded
    python recipes/nv_retriever/5_evaluate.py SciFact NFCorpus --trial 50        # 50 questions each, among few documents
    accelerate launch --config_file recipes/scale/accelerate.yaml recipes/nv_retriever/5_evaluate.py    # 8 GPUs share each set

Each task's values go to a file of their own, so an interrupted run resumes, and hf-posmine compare can test two models.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoTokenizer

from hf_posmine import DenseTeacher
from hf_posmine.evaluation import Collection, RetrievalResult, evaluate_retrieval, load_collection
from hf_posmine.mining.execution import Rank, encode_all
from hf_posmine.models import InstructSentenceTransformer, ModelShape
from hf_posmine.training import instruction_for
from hf_posmine.utils import Node, store_root
from nv.cost import SAMPLE, Line, Texts, encoding_line, sample_of, show
from nv.sets import part_of

HERE = Path(__file__).parent


def main(given: list[str] | None = None) -> None:
    """All steps, in order."""
    # 1. What to measure, by which model; instructions come with the queries, passages have none (paper).
    args = arguments(given)
    plan = yaml.safe_load(args.config.read_text("utf8"))
    tasks = {name: tasks_of(name, plan) for name in args.sets or plan["sets"]}
    rank = Rank.from_environment()
    rank.use_gpu()
    model = (
        None if args.dry_run else InstructSentenceTransformer(str(args.model), model_kwargs={"dtype": plan["dtype"]})
    )

    # 2. Each task, at the lengths of training.
    found = {name: [measure(args, task, source, model, rank) for task, source in tasks[name].items()] for name in tasks}

    # 3. Beside the paper's values; or only what all of this would take.
    if args.dry_run:
        lines = [line for of_set in found.values() for line in of_set if isinstance(line, Line)]
        show(f"5 evaluate: {len(lines)} collections", lines, Node.parse(args.node))
    elif rank.number == 0:
        Console().print(table(str(args.model), found, plan))


def arguments(given: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", help="names of evaluate.yaml (default: all)")
    parser.add_argument(
        "--model", type=Path, default=Path("out/nv_retriever/stage2"), help="a folder of a trained stage"
    )
    parser.add_argument("--config", type=Path, default=HERE / "evaluate.yaml")
    parser.add_argument("--output", type=Path, default=Path("out/nv_retriever/results"))
    parser.add_argument(
        "--trial", type=int, metavar="QUERIES", help="at most so many queries of a task, among few documents"
    )
    parser.add_argument("--dry-run", action="store_true", help="read the collections, print what it takes, and stop")
    parser.add_argument("--node", default="8xA100", help="GPUs that --dry-run counts with (default: %(default)s)")
    return parser.parse_args(given)


def tasks_of(name: str, plan: dict[str, Any]) -> dict[str, str]:
    """The tasks of a set, and where the collection of each is loaded from."""
    options = plan["sets"][name]
    return {task: options.get("source", f"mteb:{task}") for task in options.get("tasks", [name])}


def measure(
    args: argparse.Namespace, task: str, source: str, model: InstructSentenceTransformer | None, rank: Rank
) -> RetrievalResult | Line | None:
    """One task, measured or read back by the first process, while the others encode with it; its cost without a model."""
    part = "" if args.trial is None else f"--trial-{args.trial}"
    name = f"{args.model.name}--{task}{part}"
    file = args.output / f"{name}.json"
    if model is not None and file.exists():
        return RetrievalResult.load(file)
    collection = load_collection(source)
    collection = collection if args.trial is None else part_of(collection, args.trial)
    if model is None:
        return cost(task, collection, args.model)
    encode_all([DenseTeacher(model, collection.corpus)], args.output / "claims" / name, rank)
    if rank.number:
        return None
    result = evaluate_retrieval(
        model, collection, model_name=str(args.model), store=store_root(), query_instruction=instruction_for(task)
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    result.save(file)
    return result


def table(title: str, found: dict[str, list[RetrievalResult]], plan: dict[str, Any]) -> Table:
    """Each set's mean beside the paper's."""
    made = Table("set", "NDCG@10", "paper", title=title, title_justify="left")
    means = {name: 100 * np.mean([result.means["ndcg@10"] for result in results]) for name, results in found.items()}
    paper = {name: plan["sets"][name]["paper"] for name in means}
    for name, mean in means.items():
        made.add_row(name, f"{mean:.2f}", f"{paper[name]:.2f}")
    made.add_section()
    made.add_row("mean", f"{np.mean(list(means.values())):.2f}", f"{np.mean(list(paper.values())):.2f}")
    return made


def cost(task: str, collection: Collection, model: Path) -> Line:
    """What a task takes, by the configuration and tokenizer of the model and some of the texts."""
    tokenizer, shape = AutoTokenizer.from_pretrained(model), ModelShape.of_config(AutoConfig.from_pretrained(model))
    queries = [collection.queries[query] for query in collection.scored_queries]
    instruction = f"{instruction_for(task)}: "
    documents = Texts.of(len(collection.corpus), sample_of(collection.corpus), tokenizer, 512)  # paper, Table 10
    asked = Texts.of(len(queries), queries[:SAMPLE], tokenizer, 192, instruction)  # paper, Table 10
    return encoding_line(task, shape, documents, asked)


if __name__ == "__main__":
    main()
