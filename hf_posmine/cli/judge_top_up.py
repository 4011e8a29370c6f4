"""The miner of ``hf-posmine judge --top-up``: that of the record beside the rows, or one of a teacher and a corpus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from datasets import Dataset

    from hf_posmine.evaluation.judge.candidates import CandidateJudge, Verdict
    from hf_posmine.mining.miner import PositiveAwareMiner
    from hf_posmine.mining.record import MiningRecord

RECORDED = ""
"""The teacher of ``--top-up`` without a value."""


def add_top_up_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of new negatives."""
    group = parser.add_argument_group("new negatives")
    group.add_argument(
        "--top-up", metavar="TEACHER", nargs="?", const=RECORDED,
        help="mine and judge new negatives in the place of suspects: as the record beside MINED has it, or by this teacher",
    )  # fmt: skip
    group.add_argument(
        "--corpus",
        help="documents for --top-up, where no record names them, and of rows that hold ids: a file, folder or Hub id",
    )
    group.add_argument("--filters", nargs="*", metavar="FILTER", help="ceilings of the teacher of --top-up")
    group.add_argument("--num-negatives", type=int, help="that every row should have (default: as mined)")
    group.add_argument(
        "--depth", type=int, default=50, help="candidates that are tried for a row at most (default: %(default)s)"
    )


def check_top_up(args: argparse.Namespace) -> None:
    """Refuse combinations without effect, before anything is asked.

    Raises:
        InputError: there is one.
    """
    if args.top_up is None:
        given = [name for name in ("filters", "num_negatives") if vars(args)[name] is not None]
        if given:
            raise InputError(f"--{given[0].replace('_', '-')} has no effect without --top-up")
    elif args.action == "flag":
        raise InputError(
            "--top-up replaces what an action takes, and flag takes nothing; choose drop, demote or relabel"
        )
    elif args.top_up != RECORDED and args.corpus is None:
        raise InputError(f"--top-up {args.top_up}: name the documents with --corpus")
    elif args.top_up == RECORDED and args.filters is not None:
        raise InputError("--filters has no effect on the recorded miner; name a teacher with --top-up TEACHER")


def top_up_miner(whole: Dataset, args: argparse.Namespace, record: MiningRecord | None) -> PositiveAwareMiner | None:
    """The miner of new negatives, made before a judge is paid; None without ``--top-up``.

    Args:
        whole: all rows, of which some may be judged.
        args: the command line.
        record: the record beside the rows.

    Raises:
        InputError: no record and no teacher, or inputs that have changed since.
    """
    if args.top_up is None:
        return None
    return _recorded(whole, args, record) if args.top_up == RECORDED else _of_teacher(whole, args)


def read_texts(
    mined: Dataset, args: argparse.Namespace, miner: PositiveAwareMiner | None, record: MiningRecord | None
) -> Dataset:
    """The rows with the texts of documents that they name by id, by ``--corpus`` or the recorded one.

    The column of the positives' ids is that of ``--positive-id-column``, else the recorded one, else found by name.

    Raises:
        InputError: ids without a corpus, or a corpus without use.
    """
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.by_id import with_texts
    from hf_posmine.mining.columns import list_column

    if list_column(mined.column_names) != "negatives_ids":
        if args.corpus is not None and miner is None:
            raise InputError("--corpus has no effect without --top-up on rows that hold texts")
        return mined
    if args.corpus is None and miner is None:
        raise InputError(f"{args.data} names documents by id, which no judge can read; give their texts with --corpus")
    corpus = Corpus.of(args.corpus) if miner is None else miner.corpus
    by_id, has_texts = args.positive_id_column, args.positive_column is not None or "positive" in mined.column_names
    if by_id is None and not has_texts and record is not None and record.columns.positive is None:
        by_id = record.columns.positive_id
    made = with_texts(mined, corpus, args.query_column, args.positive_column, by_id)
    if "positive" in set(made.column_names) - set(mined.column_names):
        args.positive_column = "positive"
    return made


def topped_up(
    mined: Dataset, judgements: list[list[Verdict]], judge: CandidateJudge, miner: PositiveAwareMiner, args: argparse.Namespace,
) -> tuple[Dataset, list[list[Verdict]]]:  # fmt: skip
    """The rows with new negatives in the place of suspects, and all verdicts.

    Raises:
        InputError: rows that cannot be topped up.
    """
    from hf_posmine.evaluation.judge.actions import taken_by
    from hf_posmine.evaluation.judge.top_up import top_up

    recorded = miner.settings.num_negatives if args.top_up == RECORDED else max(map(len, judgements), default=0)
    wanted = args.num_negatives or recorded
    options = {"num_negatives": wanted, "suspect": taken_by(args.action, args.suspect), "depth": args.depth}
    rows, verdicts = top_up(mined, judgements, judge, miner, **options)
    added = sum(map(len, verdicts)) - sum(map(len, judgements))
    show(f"\nTopped up to {wanted} negatives a row by {miner!r}: {added:,} more were judged")
    return rows, verdicts


def _recorded(whole: Dataset, args: argparse.Namespace, record: MiningRecord | None) -> PositiveAwareMiner:
    """The miner of the record, as long as its corpus and teachers are as recorded."""
    from hf_posmine.hub.inputs import Inputs
    from hf_posmine.hub.rebuild import rebuild

    if record is None:
        raise InputError(
            f"no record beside {args.data}, so the miner is not known; name one with --top-up TEACHER --corpus DOCUMENTS"
        )
    rebuilt = rebuild({next(iter(record.rows)): whole}, record, Inputs(corpus=args.corpus, allow_local=True))
    changed = [str(change) for change in rebuilt.changes if change.decisive]
    if changed:
        raise InputError(f"--top-up needs what mined the rows, and it has changed: {'; '.join(changed)}")
    return rebuilt.miner


def _of_teacher(whole: Dataset, args: argparse.Namespace) -> PositiveAwareMiner:
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.mining.columns import without_outputs, written_side_by_side
    from hf_posmine.mining.miner import PositiveAwareMiner

    scored = [name for name in written_side_by_side(whole) if name.endswith("scores")]
    if scored:
        raise InputError(
            f"the rows have {scored[0]!r} of another teacher; top up with the recorded one (--top-up alone), or leave the "
            "column out"
        )
    return PositiveAwareMiner.from_dataset(
        without_outputs(whole), args.top_up, query_column=args.query_column, positive_column=args.positive_column,
        corpus=Corpus.of(args.corpus), filters=args.filters,
    )  # fmt: skip
