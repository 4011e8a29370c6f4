"""Test differences between models for statistical significance, from the per-query results of hf-posmine evaluate.

Every result is compared with the baseline's on the same collection: paired t-test, sign-flip permutation test,
bootstrap interval of the mean difference, and effect size dz. P-values are Holm-corrected over all comparisons of
the table. These tests cover other queries like these, not other training runs: for those, train with several seeds and
give their results with --runs; seeds and queries are then both resampled.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.records import save_record
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.evaluation.results import RetrievalResult
    from hf_posmine.evaluation.statistics.comparison import Comparison

HELP = "test differences between models for significance"
EXAMPLES = """examples:
  # two models on one collection
  hf-posmine compare results/base--fiqa.json results/mined--fiqa.json --baseline results/base--fiqa.json

  # several models on several collections: the baseline's files are those of its model
  hf-posmine compare results/*.json --baseline results/base--fiqa.json --measure recall@100 --output comparison.json

  # two ways of training, three seeds each; the first is the baseline
  hf-posmine compare --runs naive naive-1--fiqa.json naive-2--fiqa.json naive-3--fiqa.json \\
      --runs mined mined-1--fiqa.json mined-2--fiqa.json mined-3--fiqa.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine compare``."""
    parser.add_argument("results", nargs="*", metavar="RESULT", help="JSON files of hf-posmine evaluate --output")
    parser.add_argument(
        "--runs", action="append", nargs="+", metavar=("NAME", "RESULT"),
        help="a way of training and the results of its seeds; given again for each other way, the baseline first",
    )  # fmt: skip
    parser.add_argument(
        "--baseline", help="the file of the model that the others are compared with (default: the first)"
    )
    parser.add_argument("--measure", default="ndcg@10", help="measure to compare (default: %(default)s)")
    parser.add_argument("--permutations", type=int, default=10_000, help="of the test (default: %(default)s)")
    parser.add_argument(
        "--resamples", type=int, default=10_000, help="resamples of the bootstrap (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="random seed of both (default: %(default)s)")
    parser.add_argument("--alpha", type=float, default=0.05, help="significance level (default: %(default)s)")
    parser.add_argument("--output", help="write the figures as JSON")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Compare, and print a table and a sentence per claim."""
    from hf_posmine.evaluation.statistics.significance import corrected
    from hf_posmine.mining.provenance import versions

    if not 0 < args.alpha < 1:
        raise InputError(f"--alpha {args.alpha}: the significance level is between 0 and 1, such as 0.05")
    if bool(args.runs) == bool(args.results or args.baseline):
        raise InputError(
            "give RESULT files of single models, or --runs for each way of training; not both, and not neither"
        )
    draws = {"seed": args.seed, "permutations": args.permutations, "resamples": args.resamples}
    baseline, made = _ways(args, draws) if args.runs else _models(args, draws)
    made = corrected(made)
    _print(made, baseline, args)
    if args.output:
        record = {
            "command": args.command_line, "baseline": baseline, "measure": args.measure, "draws": draws,
            "comparisons": [
                {"collection": collection, "model": model, "sentence": found.sentence(baseline, model, args.alpha)} | asdict(found)
                for (collection, model), found in made.items()
            ],
            "versions": versions(),
        }  # fmt: skip
        save_record(record, Path(args.output))


def _models(args: argparse.Namespace, draws: dict[str, Any]) -> tuple[str, dict[tuple[str, str], Comparison]]:
    """The baseline, and every other model against it on each collection."""
    from hf_posmine.evaluation.results import RetrievalResult, aligned_scores
    from hf_posmine.evaluation.statistics.significance import compare

    paths = list(dict.fromkeys([*([args.baseline] if args.baseline else []), *args.results]))
    results = [RetrievalResult.load(path) for path in paths]
    baseline, made = results[0].model, {}
    for (collection, model), pair in _pairs(results).items():
        scores = aligned_scores(pair, args.measure)
        made[collection, model] = compare(scores[baseline], scores[model], **draws)
    return baseline, made


def _ways(args: argparse.Namespace, draws: dict[str, Any]) -> tuple[str, dict[tuple[str, str], Comparison]]:
    """The baseline, and every other way of training against it on each collection."""
    import numpy as np

    from hf_posmine.evaluation.results import RetrievalResult, aligned_scores
    from hf_posmine.evaluation.statistics.significance import compare_runs

    names = [name for name, *_ in args.runs]
    if len(set(names)) < max(2, len(names)):
        raise InputError(f"--runs {' '.join(names)}: name a baseline and at least one other, each once")
    made: dict[tuple[str, str], Comparison] = {}
    loaded = {name: [RetrievalResult.load(path) for path in paths] for name, *paths in args.runs}
    for collection in dict.fromkeys(result.name for results in loaded.values() for result in results):
        runs = {name: [r for r in results if r.name == collection] for name, results in loaded.items()}
        lost = [name for name, results in runs.items() if not results]
        if lost:
            raise InputError(f"--runs {lost[0]}: no result on {collection!r}; give one for each seed")
        scores = aligned_scores(
            {f"{name}, run {at}": result for name, results in runs.items() for at, result in enumerate(results, 1)},
            args.measure,
        )
        by_seed = {n: np.stack([scores[f"{n}, run {at}"] for at in range(1, len(r) + 1)]) for n, r in runs.items()}
        for name in names[1:]:
            made[collection, name] = compare_runs(by_seed[names[0]], by_seed[name], **draws)
    return names[0], made


def _pairs(results: list[RetrievalResult]) -> dict[tuple[str, str], dict[str, RetrievalResult]]:
    """Baseline and other result for each collection and other model; the first result is the baseline's."""
    baseline = results[0].model
    by_key: dict[tuple[str, str], RetrievalResult] = {}
    for result in results:
        if (result.name, result.model) in by_key:
            raise InputError(f"two results of {result.model!r} on {result.name!r}; give one")
        by_key[result.name, result.model] = result
    others = [key for key in by_key if key[1] != baseline]
    lost = [name for name, _ in others if (name, baseline) not in by_key]
    if lost:
        raise InputError(f"no result of the baseline {baseline!r} on {lost[0]!r}; evaluate it there as well")
    if not others:
        raise InputError(f"all results are of {baseline!r}; give those of at least one other model")
    return {(name, model): {baseline: by_key[name, baseline], model: by_key[name, model]} for name, model in others}


def _print(made: dict[tuple[str, str], Comparison], baseline: str, args: argparse.Namespace) -> None:
    columns = (
        "collection",
        "model",
        "queries",
        "baseline",
        "mean",
        "difference",
        "95 % interval",
        "p",
        "p (Holm)",
        "dz",
    )
    rows = [
        (
            collection, model, str(found.n), f"{found.mean_a:.4f}", f"{found.mean_b:.4f}", f"{found.difference:+.4f}",
            f"{found.low:+.4f} {found.high:+.4f}", f"{found.p_value:.2g}", _number(found.adjusted_p), f"{found.effect_size:+.2f}",
        )
        for (collection, model), found in made.items()
    ]  # fmt: skip
    show_table(f"{args.measure} against {baseline}", columns, rows, left=columns[:2])
    for (collection, model), found in made.items():
        show(f"{collection}: {found.sentence(baseline, model, args.alpha)}")


def _number(value: object) -> str:
    return "" if value is None else f"{value:.2g}"
