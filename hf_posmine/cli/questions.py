"""Write questions for documents that have none, and keep those that pass every gate: training pairs to mine and train on.

DOCUMENTS is a parquet, jsonl or csv file, a saved dataset, a Hub id, or a BEIR folder. A language model writes questions of
several kinds about each document. They are dropped where they are copied from it (--copied), where --teacher does not find
it by them (--top-k), where they are nearly the same as another (--near), and where a judge finds no answer in it. --plan
prints what it would cost. Answers are kept, so an interrupted run or one with other gates pays for nothing twice. The output
has the columns query, positive, positive_id, kind and model; questions.json in it has the prompts, the models and every count.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hf_posmine.cli.arguments import add_run_arguments, print_usage
from hf_posmine.cli.chats import add_chat_arguments, chat_of, other_chat, price_of, show_costs
from hf_posmine.cli.output import FILES, check_no_input, check_output, write_described, write_rows
from hf_posmine.cli.show import show, show_table
from hf_posmine.core.errors import InputError
from hf_posmine.encoding.defaults import DEFAULT_MODEL
from hf_posmine.evaluation.questions.gates import GATES
from hf_posmine.evaluation.questions.settings import QuestionSettings
from hf_posmine.evaluation.questions.writing import KINDS
from hf_posmine.teachers.factory import HELP as TEACHERS

if TYPE_CHECKING:
    import argparse

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.evaluation.judge.asking import Asker
    from hf_posmine.evaluation.questions.attrition import Attrition
    from hf_posmine.evaluation.questions.making import QuestionMaker
    from hf_posmine.mining.record import Source

HELP = "write questions for documents that have none"
EXAMPLES = """examples:
  # what would it cost? then do it: a local server (vLLM, llama.cpp, ollama, ...)
  hf-posmine questions docs.jsonl --url http://localhost:8000/v1 --model Qwen/Qwen3-8B --output asked --plan
  hf-posmine questions docs.jsonl --url http://localhost:8000/v1 --model Qwen/Qwen3-8B --output asked

  # a model of the Hub; 1,000 documents, two keyword queries each, another judge, prices per million tokens read and written
  hf-posmine questions me/docs --model meta-llama/Llama-3.3-70B-Instruct --judge-model Qwen/Qwen3-32B --documents 1000 \\
      --kinds keywords --per-kind 2 --price 0.6 0.8 --output asked.parquet --dropped dropped.jsonl

  # then: held-out documents, negatives, a model, and is it good?
  hf-posmine split asked --corpus docs.jsonl --positive-id-column positive_id --output my-split
  hf-posmine init my-split
  hf-posmine mine --config mine.yaml
  hf-posmine train --config stage1.yaml
  hf-posmine evaluate stage1 --on my-split
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine questions``."""
    default = QuestionSettings()
    parser.add_argument("path", metavar="DOCUMENTS", help="what to ask about (see above)")
    data = parser.add_argument_group("documents")
    data.add_argument("--corpus-split", default="train", help="split of DOCUMENTS (default: %(default)s)")
    data.add_argument("--corpus-text-column", help="column of texts (default: by its name, such as text or body)")
    data.add_argument("--corpus-id-column", help='default: found by its name, such as _id or docid; "" for row numbers')
    data.add_argument(
        "--corpus-title-column", help='put before the text (default: title, if there is one; "" for none)'
    )
    data.add_argument("--documents", type=int, metavar="N", help="ask about so many, drawn by --seed (default: all)")
    data.add_argument(
        "--max-characters", type=int, default=default.max_characters,
        help="of a document that the model is given; the rest is cut (default: %(default)s)",
    )  # fmt: skip
    group = parser.add_argument_group("questions")
    add_chat_arguments(group)
    group.add_argument(
        "--kinds", nargs="+", choices=list(KINDS), default=list(default.kinds), help="kinds of questions (default: all)"
    )
    group.add_argument(
        "--per-kind", type=int, default=default.per_kind, help="of each kind about a document (default: %(default)s)"
    )
    group.add_argument("--seed", type=int, default=default.seed, help="random seed (default: %(default)s)")
    group.add_argument(
        "--price", type=float, nargs=2, metavar="PRICE", help="of a million tokens read, and written, to show the cost"
    )
    group.add_argument("--plan", action="store_true", help="print what would be asked and what it would cost, and stop")
    _add_gates(parser.add_argument_group("gates"), default)
    output = parser.add_argument_group("output")
    output.add_argument("--output", required=True, help="a folder (save_to_disk), or a .parquet or .jsonl file")
    output.add_argument(
        "--dropped", metavar="FILE", help="also write what was dropped, with the reason: .parquet or .jsonl"
    )
    add_run_arguments(parser)


def _add_gates(group: argparse._ArgumentGroup, default: QuestionSettings) -> None:
    group.add_argument(
        "--gates",
        nargs="*",
        choices=GATES,
        default=list(default.gates),
        help="that a question has to pass, in this order; nothing behind it for none (default: all)",
    )
    group.add_argument(
        "--copied", type=float, default=default.copied,
        help="drop a question if more of its phrases of three words are its document's (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--teacher", default=DEFAULT_MODEL, help=f"{TEACHERS} (default: %(default)s)")
    group.add_argument("--device", help="device of the teacher, such as cpu or cuda:0 (default: CUDA if there is any)")
    group.add_argument("--store", help="folder of its embeddings (default: below the cache, shared by all runs)")
    group.add_argument(
        "--top-k", type=int, default=default.top_k,
        help="drop a question if the teacher does not find its document among so many (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--near", type=float, default=default.near,
        help="drop a question whose letter trigrams are so similar to another's, by Jaccard (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--judge-model", help="who checks that the document answers (default: --model)")
    group.add_argument("--judge-url", help="where --judge-model is (default: as --model)")
    group.add_argument("--judge-api-key-env", help="environment variable with the key of --judge-url")


def run(args: argparse.Namespace) -> None:
    """Ask, drop, write, and print every count."""
    from hf_posmine.evaluation.questions.record import FILE, WHAT, QuestionsRecord, dropped_rows, question_rows
    from hf_posmine.utils.files import write_file

    names = QuestionSettings.__dataclass_fields__
    given = {name: vars(args)[name] for name in names}
    settings = QuestionSettings(**{**given, "kinds": tuple(args.kinds), "gates": tuple(args.gates)})
    output, dropped = Path(args.output), None if args.dropped is None else Path(args.dropped)
    check_output(output, [args.path], FILE, WHAT)
    if dropped is not None:
        check_no_input(dropped, [args.path, args.output])
        if output.resolve() in dropped.resolve().parents:
            raise InputError(
                f"--dropped {dropped} is inside --output, which is replaced as a whole; choose another place"
            )
        if dropped.suffix not in FILES:
            raise InputError(f"--dropped {dropped}: write a {' or '.join(FILES)} file")
    maker, source = _maker(args, settings)
    prices = None if args.price is None else (args.price[0], args.price[1])
    _show_estimate(maker, prices)
    if args.plan:
        return
    made = maker.make()
    costs = [cost for asker in dict.fromkeys(_askers(maker)) for cost in asker.costs()]
    rows = question_rows(maker, made)
    record = QuestionsRecord.of(maker, made, rows, source, costs, args.command_line)
    _show_attrition(made.attrition)
    show_costs(costs, prices)
    print_usage([] if maker.teacher is None else [maker.teacher])
    if dropped is not None:
        others = dropped_rows(maker, made)
        write_file(dropped, lambda path: write_rows(others, path, dropped.suffix))
    if not len(rows):
        raise InputError("no question passed every gate; look at --dropped FILE, and lower a gate or change the model")
    beside = write_described(rows, output, FILE, record.to_json())
    show(f"\n{len(rows):,} questions written to {args.output}, how they were made to {beside}")


def _maker(args: argparse.Namespace, settings: QuestionSettings) -> tuple[QuestionMaker, Source]:
    from hf_posmine.cli.work import DataOptions, load_corpus
    from hf_posmine.evaluation.judge.asking import Asker
    from hf_posmine.evaluation.questions.making import QuestionMaker

    other = other_chat(args, "judge")
    names = ("corpus_split", "corpus_text_column", "corpus_id_column", "corpus_title_column")
    options = DataOptions(None, corpus=args.path, **{name: vars(args)[name] for name in names})
    corpus, source = load_corpus(options)
    writer = Asker(chat_of(args), concurrency=args.concurrency)
    judge = None
    if "answerable" in settings.gates:
        judge = writer if other is None else Asker(other, concurrency=args.concurrency)
    teacher = _teacher(args, corpus) if "consistent" in settings.gates else None
    return QuestionMaker(corpus, writer, settings, judge, teacher), source


def _teacher(args: argparse.Namespace, corpus: Corpus) -> Teacher:
    from hf_posmine.teachers.factory import make_teacher

    return make_teacher(args.teacher, corpus, device=args.device, store=args.store)


def _askers(maker: QuestionMaker) -> list[Asker]:
    return [maker.writer, *([] if maker.judge is None else [maker.judge])]


def _show_estimate(maker: QuestionMaker, prices: tuple[float, float] | None) -> None:
    """What is asked now, at four characters a token."""
    found = maker.estimate()
    read, written = found.tokens_read + found.judge_read, found.tokens_written + found.judge_written
    money = "" if prices is None else f", about {price_of(read, written, prices):.4f} at most"
    show(
        f"{found.documents:,} of {maker.corpus.num_candidates:,} documents, kinds: {', '.join(maker.settings.kinds)}, "
        f"gates: {', '.join(maker.settings.gates) or 'none'}"
    )
    show(
        f"plan: {found.requests:,} requests to {maker.writer.chat.name} ({found.tokens_read:,} tokens read, "
        f"{found.tokens_written:,} written) and at most {found.judged:,} to the judge ({found.judge_read:,} and "
        f"{found.judge_written:,}){money}; at 4 characters a token, without what is answered already"
    )


def _show_attrition(attrition: Attrition) -> None:
    show_table(
        "Documents to questions", ("step", "count"), [(name, f"{n:,}") for name, n in attrition.lines()], left=("step",)
    )
