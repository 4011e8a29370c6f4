"""Measure how well a model retrieves: NDCG@10, recall@100 and MRR@10 of every query, as trec_eval computes them.

MODEL is a Hub id or folder of a sentence-transformers model, or 'embedded'. A collection (--on) is one of
  a BEIR folder, or a folder with corpus, queries and qrels as parquet, jsonl, csv or tsv files
  a NanoBEIR set by name, such as NanoNFCorpus
  a retrieval task of MTEB, such as mteb:SciFact, or mteb:MIRACLRetrieval:de for one subset
  a Hub id with configurations corpus, queries and qrels, such as mteb/scifact
The values of every query are kept with --output, for hf-posmine compare.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.evaluation.results import RetrievalResult

HELP = "measure how well a model retrieves"
MEASURES = ("ndcg@10", "recall@100", "mrr@10")
EXAMPLES = """examples:
  # your own judged collection; the values of every query go to results/
  hf-posmine evaluate my-model --on my_collection --output results/

  # a task instruction before every query, on two NanoBEIR sets
  hf-posmine evaluate my-model --on NanoNFCorpus NanoSciFact \\
      --query-instruction "Given a question, retrieve passages that answer it"

  # then: is the trained model better than the one it started from?
  hf-posmine evaluate base-model --on my_collection --output results/
  hf-posmine compare results/*.json --baseline results/base-model--my_collection.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine evaluate``."""
    parser.add_argument("model", metavar="MODEL", help="what to evaluate (see above)")
    parser.add_argument(
        "--on", nargs="+", action="extend", required=True, metavar="COLLECTION",
        help="one or several (see above); may be given again",
    )  # fmt: skip
    parser.add_argument(
        "--qrels", help="file or split of the judgements (default: 'test', 'qrels', or the only one there is)"
    )
    parser.add_argument(
        "--query-instruction", nargs="+", action="extend", metavar="TEXT",
        help="description of the task, put before the queries: one for all collections, or one for each",
    )  # fmt: skip
    parser.add_argument("--query-prompt", help="text put before every query as it is (default: the model's own)")
    parser.add_argument("--document-prompt", help="text put before every document (default: the model's own)")
    parser.add_argument(
        "--measures", nargs="+", default=list(MEASURES), help="ndcg@k, recall@k, mrr@k (default: %(default)s)"
    )
    parser.add_argument("--depth", type=int, default=100, help="documents kept per query (default: %(default)s)")
    parser.add_argument(
        "--identical-ids", choices=["same-text", "ignore", "keep"], default="same-text",
        help="a document with the query's own id is left out if it also holds the query's text, always (as BEIR does), or "
        "never (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--output", help="folder for one JSON file per collection")
    parser.add_argument("--runs", action="store_true", help="also write the runs there, in TREC's format")
    parser.add_argument("--revision", help="revision of the model on the Hub")
    parser.add_argument("--device", help="device to compute on, such as cpu or cuda:0 (default: CUDA if there is any)")
    parser.add_argument("--store", help="folder of the embeddings (default: below the cache, shared by all runs)")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Evaluate on each collection, write the results, print the table."""
    from hf_posmine.encoding.encode import load_model
    from hf_posmine.evaluation.loading import load_collection
    from hf_posmine.evaluation.retrieval import RetrievalSettings, evaluate_retrieval
    from hf_posmine.utils.files import store_root

    instructions = _one_each(args.query_instruction, args.on)
    if args.runs and not args.output:
        raise InputError("--runs writes beside the results; give --output as well")
    settings = [_settings(args, instruction) for instruction in instructions]
    for values in settings:
        RetrievalSettings(**values)  # before anything is loaded
    collections = [load_collection(source, args.qrels) for source in args.on]
    model = load_model(args.model, device=args.device, revision=args.revision)
    place: dict[str, Any] = {"store": store_root(args.store), "device": args.device}
    results = []
    for collection, values in zip(collections, settings, strict=True):
        show(f"{collection.name}: {collection.taken}")
        results.append(evaluate_retrieval(model, collection, model_name=args.model, **place, **values))
        if collection.lost_positives:
            show(
                f"{collection.name}: {collection.lost_positives} judged positives are not in the corpus, and count as missed"
            )
    _print(results)
    if args.output:
        for result in results:
            show(f"{result.num_queries} queries written to {_write(result, Path(args.output), args)}")


def _print(results: list[RetrievalResult]) -> None:
    """Means, a row per collection, and their mean where there are several."""
    measures = list(results[0].scores)
    rows = [(r.name, str(r.num_queries), *(f"{r.means[measure]:.4f}" for measure in measures)) for r in results]
    if len(results) > 1:
        means = [sum(r.means[measure] for r in results) / len(results) for measure in measures]
        rows.append(("mean", "", *(f"{mean:.4f}" for mean in means)))
    show_table(
        f"Retrieval by {results[0].model}", ("collection", "queries", *measures), rows, left=("collection",), width=100,
        sections=[len(results)],
    )  # fmt: skip


def file_stem(result: RetrievalResult) -> str:
    """The name of a result's file: model and collection, with what no file name may hold replaced."""
    return "--".join(re.sub(r"[^\w.-]+", "_", part).strip("_.") for part in (result.model, result.name))


def _write(result: RetrievalResult, folder: Path, args: argparse.Namespace) -> Path:
    from dataclasses import replace

    from hf_posmine.mining.provenance import versions
    from hf_posmine.utils.redact import redact

    details = {
        **result.details,
        "command": redact(args.command_line),
        "revision": args.revision,
        "versions": versions(),
    }
    if args.runs and result.run is not None:
        result.run.write_trec(folder / f"{file_stem(result)}.trec", result.model)
    return replace(result, details=details).save(folder / f"{file_stem(result)}.json")


def _one_each(instructions: list[str] | None, sources: list[str]) -> list[str | None]:
    if not instructions:
        return [None] * len(sources)
    if len(instructions) not in (1, len(sources)):
        raise InputError(
            f"{len(instructions)} query instructions for {len(sources)} collections; give one, or one for each"
        )
    return [*instructions] * (1 if len(instructions) == len(sources) else len(sources))


def _settings(args: argparse.Namespace, instruction: str | None) -> dict[str, Any]:
    """Fields of :class:`~hf_posmine.evaluation.retrieval.RetrievalSettings`."""
    return {
        "measures": tuple(args.measures), "depth": args.depth, "query_instruction": instruction,
        "query_prompt": args.query_prompt, "document_prompt": args.document_prompt,
        "ignore_identical_ids": {"same-text": None, "ignore": True, "keep": False}[args.identical_ids],
    }  # fmt: skip
