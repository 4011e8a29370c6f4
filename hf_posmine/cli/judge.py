"""Ask a language model which mined negatives are relevant after all, and drop, demote, relabel or flag them.

MINED is what hf-posmine mine wrote, or training data in a layout that hf-posmine audit reads. Answers are kept, so an
interrupted run, another action or a later run pays for nothing twice. --controls judges known positives and random
negatives too, which measures the judge; --collection compares it with human judgements, --second-model with another
judge. --cheap-model reads everything first, and --model only what that one suspects. --top-up mines and judges new
negatives in the place of those that are taken.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from hf_posmine.cli.arguments import add_run_arguments
from hf_posmine.cli.chats import add_chat_arguments, chat_of, make_chat, other_chat, show_costs
from hf_posmine.cli.judge_top_up import add_top_up_arguments, check_top_up, read_texts, top_up_miner, topped_up
from hf_posmine.cli.output import FILES, write_rows
from hf_posmine.cli.show import show
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.evaluation.judge.actions import Action, apply_judgements, judge_negatives
from hf_posmine.evaluation.judge.candidates import SUSPECTS, CandidateJudge, Suspect, Verdict
from hf_posmine.evaluation.judge.cascade import Cascade
from hf_posmine.evaluation.judge.judge import Judge
from hf_posmine.evaluation.judge.quoting import QuoteJudge
from hf_posmine.evaluation.judge.validation import Agreement, agreement, as_relevant, controls, corrected_rate
from hf_posmine.mining.columns import without_outputs, written_columns
from hf_posmine.mining.provenance import recorded_at

if TYPE_CHECKING:
    import argparse

    from datasets import Dataset

HELP = "ask a language model about mined negatives"
EXAMPLES = """examples:
  # a local server (vLLM, llama.cpp, ollama, ...); drop what is relevant; 100 controls
  hf-posmine judge mined --url http://localhost:8000/v1 --model Qwen/Qwen3-8B --action drop --controls 100 --output judged

  # a model of the Hub; only flag what is better than the labelled positive
  hf-posmine judge mined.parquet --model meta-llama/Llama-3.3-70B-Instruct --suspect better --output judged.parquet

  # quote and rank: what ranks above the positive becomes one, what else holds an answer is replaced
  hf-posmine judge mined --model Qwen/Qwen3-32B --form quote --suspect better --action relabel_or_drop --top-up --output judged
"""


FORMS: dict[str, type[Judge | QuoteJudge]] = {"compare": Judge, "quote": QuoteJudge}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine judge``."""
    parser.add_argument("data", metavar="MINED", help="mined or other training rows: a folder or a file")
    parser.add_argument("--query-column", help="column of the queries (default: query, anchor or question)")
    parser.add_argument("--positive-column", help="texts or lists of texts (default: positive, answer, ...)")
    parser.add_argument(
        "--positive-id-column", help="ids of --corpus, instead of texts (default: as recorded, or by its name)"
    )
    parser.add_argument("--rows", type=int, help="judge only this many rows, drawn by --seed")
    parser.add_argument(
        "--seed", type=int, default=0, help="random seed of --rows and --controls (default: %(default)s)"
    )
    group = parser.add_argument_group("judge")
    add_chat_arguments(group)
    group.add_argument(
        "--form", choices=list(FORMS), default="compare",
        help="compare each negative with the positive, or quote the answer and rank (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--cheap-model", help="a judge that reads everything first; --model reads what it suspects")
    group.add_argument("--cheap-url", help="where --cheap-model is (default: as --model)")
    group.add_argument("--cheap-api-key-env", help="environment variable with the key of --cheap-url")
    group.add_argument("--second-model", help="a second judge at the same place, for agreement")
    group.add_argument(
        "--suspect",
        choices=get_args(Suspect),
        default="relevant",
        help="which negatives are suspects (default: %(default)s)",
    )
    group.add_argument(
        "--action", choices=get_args(Action), default="flag", help="treatment of a suspect (default: %(default)s)"
    )
    add_top_up_arguments(parser)
    check = parser.add_argument_group("validation")
    check.add_argument("--controls", type=int, default=0, metavar="N", help="rows with known answers to judge too")
    check.add_argument("--collection", help="judged collection (as for fn-rate) that the negatives_ids belong to")
    check.add_argument("--qrels", default="qrels", help="judgements of --collection (default: %(default)s, or 'test')")
    parser.add_argument("--output", required=True, help="a folder (save_to_disk), or a .parquet or .jsonl file")
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Judge, validate, act, write."""
    from hf_posmine.utils.files import replace_folder, write_file

    output = Path(args.output)
    if output.suffix and output.suffix not in FILES:
        raise InputError(f"--output {args.output}: write a folder or a {', '.join(FILES)} file")
    if Path(args.data).resolve() == output.resolve():
        raise InputError(f"--output {args.output} is the input; write elsewhere")
    check_top_up(args)
    mined = _mined(args)
    record = recorded_at(Path(args.data))
    miner = top_up_miner(mined, args, record)
    mined = read_texts(mined, args, miner, record)
    if args.rows is not None:
        mined = mined.shuffle(seed=args.seed).select(range(min(args.rows, len(mined))))
    judge = _judge(args)
    judges = [judge]
    columns = {"query_column": args.query_column, "positive_column": args.positive_column}
    judgements = judge_negatives(mined, judge, **columns)
    flat = [verdict for row in judgements for verdict in row]
    observed = _print_verdicts(flat, args.suspect)
    if args.controls:
        _print_controls(mined, judge, observed, args)
    of_row = [number for number, row in enumerate(judgements) for _ in row]
    if args.collection:
        _print_agreement("people", agreement(flat, _truth(mined, args), of_row, suspect=args.suspect), observed)
    if args.second_model:
        other = FORMS[args.form](make_chat(args.second_model, args.url, args.api_key_env), concurrency=args.concurrency)
        judges.append(other)
        second = [verdict for row in judge_negatives(mined, other, **columns) for verdict in row]
        _print_agreement(
            args.second_model, agreement(flat, as_relevant(second, args.suspect), of_row, suspect=args.suspect)
        )
    if miner is not None:
        mined, judgements = topped_up(mined, judgements, judge, miner, args)
    judged = apply_judgements(mined, judgements, action=args.action, suspect=args.suspect)
    show("")
    show_costs([cost for judge in judges for cost in judge.costs()])
    if output.suffix:
        write_file(output, lambda path: write_rows(judged, path, output.suffix))
    else:
        replace_folder(output, lambda path: judged.save_to_disk(str(path)))
    show(f"\n{len(judged):,} rows written to {args.output}")


def _mined(args: argparse.Namespace) -> Dataset:
    """Mined rows; training data in another layout as such."""
    from hf_posmine.audit.grouping import as_mined
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.row_layouts import NamedColumns
    from hf_posmine.data.sources import load_source
    from hf_posmine.data.training_sources import is_mined, open_training_data

    place = Path(args.data)
    if not place.exists() or recorded_at(place) is not None or is_mined(place):
        return load_source(args.data)
    named = NamedColumns(args.query_column, args.positive_column)
    data = open_training_data(args.data, columns=named)
    if not data.holds_texts and args.corpus is not None:
        data = open_training_data(args.data, columns=named, corpus=Corpus.of(args.corpus))
        args.corpus = args.corpus if args.top_up else None  # it has had its effect
    if not data.holds_texts:
        raise InputError(f"{args.data} names documents by id, which no judge can read; give their texts with --corpus")
    show(f"Read as {data.layout.name}: {data.layout.describe()}")
    args.query_column, args.positive_column = "query", "positive"
    return as_mined(data)


def _judge(args: argparse.Namespace) -> CandidateJudge:
    form, options = FORMS[args.form], {"concurrency": args.concurrency}
    cheap, judge = other_chat(args, "cheap"), form(chat_of(args), **options)
    return judge if cheap is None else Cascade(form(cheap, **options), judge)


def _print_verdicts(verdicts: list[Verdict], suspect: Suspect) -> float:
    """The counts; returns the share of suspects among the answers that could be read."""
    counts: Counter[str] = Counter(verdicts)
    show(f"{len(verdicts):,} negatives judged")
    for verdict in get_args(Verdict):
        show(f"  {verdict:<11} {counts[verdict]:>8,}")
    readable = len(verdicts) - counts["unreadable"]
    if not readable:
        show("no answer could be read; does the model follow the JSON schema?", error=True)
        return 0.0
    observed = sum(counts[name] for name in SUSPECTS[suspect]) / readable
    show(f"False negatives ({suspect}): {observed:.2%} of the {readable:,} answers that could be read")
    return observed


def _print_controls(mined: Dataset, judge: CandidateJudge, observed: float, args: argparse.Namespace) -> None:
    from hf_posmine.data.columns import check_text_lists
    from hf_posmine.data.layouts import pick_columns

    inputs = without_outputs(mined)
    query, positive, _ = pick_columns(inputs, args.query_column, args.positive_column, None)
    rows = mined.shuffle(seed=args.seed).select(range(min(args.controls, len(mined))))
    documents = list(dict.fromkeys(text for negatives in mined["negatives"] for text in negatives))
    found = controls(judge, rows[query], check_text_lists(rows[positive], str(positive)), documents, seed=args.seed)
    good, bad = found.shares(args.suspect)
    show(
        f"\nControls, {len(rows):,} each: {good:.1%} of known positives and {1 - bad:.1%} of random negatives are called relevant"
    )
    _print_corrected(observed, good, bad)


def _print_corrected(observed: float, sensitivity: float, specificity: float) -> None:
    if sensitivity + specificity > 1:
        rate = corrected_rate(observed, sensitivity, specificity)
        show(f"Corrected for the judge's errors: {rate:.2%}")
    else:
        show("The judge is no better than chance here; do not use its verdicts")


def _print_agreement(other: str, found: Agreement, observed: float | None = None) -> None:
    (no_no, no_yes), (yes_no, yes_yes) = found.confusion
    show(f"\nAgreement with {other}: kappa {found.kappa:.3f} ({found.low:.3f} to {found.high:.3f})")
    show(f"  {other}: not relevant   judge: no {no_no:>6,}   yes {no_yes:>6,}")
    show(f"  {other}: relevant       judge: no {yes_no:>6,}   yes {yes_yes:>6,}   unreadable {found.unreadable:,}")
    if observed is not None:
        _print_corrected(observed, found.sensitivity, found.specificity)


def _truth(mined: Dataset, args: argparse.Namespace) -> list[bool | None]:
    """People's judgement of each negative: None where its relevance is unknown, False where they did not list it."""
    from hf_posmine.data.layouts import pick_columns
    from hf_posmine.evaluation.negatives.false_negatives import load_judged

    if "negatives_ids" not in written_columns(mined):
        raise ColumnError("--collection needs the column 'negatives_ids'; mine with --keep ids")
    _, judgements, _ = load_judged(Path(args.collection), args.qrels, None, args.seed)
    by_text = {text: query for query, text in judgements.queries.items()}
    inputs = without_outputs(mined)
    query, _, _ = pick_columns(inputs, args.query_column, args.positive_column, None)
    truth: list[bool | None] = []
    for text, ids in zip(mined[query], mined["negatives_ids"], strict=True):
        number = by_text.get(text)
        relevant = judgements.relevant.get(number, frozenset()) if number is not None else frozenset()
        unknown = judgements.unknown.get(number, frozenset()) if number is not None else frozenset(ids)
        truth += [None if document in unknown else document in relevant for document in ids]
    return truth
