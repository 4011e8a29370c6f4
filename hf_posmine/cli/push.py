"""Push a mined dataset, a trained model or a set of questions to the Hub, with the record of how it was made and a card.

PATH is what hf-posmine mine --output, hf-posmine questions --output or hf-posmine train wrote. Everything is pushed
atomically, in one commit; pushing the same again changes nothing, and text that somebody wrote into the card stays. The
token is that of hf auth login, or HF_TOKEN.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_push_arguments, add_run_arguments, push_options, repository_options
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

    from hf_posmine.evaluation.questions.record import QuestionsRecord
    from hf_posmine.hub.repository import Pushed

HELP = "push a mined dataset, a trained model or questions"
EXAMPLES = """examples:
  # the rows; and in the layouts of sentence-transformers, PyLate and FlagEmbedding
  hf-posmine push mined me/nq-mined --license cc-by-sa-3.0 --language en
  hf-posmine push mined me/nq-mined --variants n-tuple scored flag-embedding

  # a model, private; a proposal to somebody else's repository
  hf-posmine push out/stage2 me/nq-retriever --private
  hf-posmine push mined them/nq-mined --create-pr
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``hf-posmine push``."""
    parser.add_argument("path", metavar="PATH", help="a mined dataset (folder, .parquet), questions, or a model folder")
    parser.add_argument("repo_id", metavar="REPO_ID", help="repository on the Hub, such as me/nq-mined")
    add_push_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Push, and print where it is."""
    from hf_posmine.evaluation.questions.record import WHAT, read_record
    from hf_posmine.hub.push_model import push_model

    path = Path(args.path)
    questions = read_record(path)
    if (path / "modules.json").is_file():
        _refuse_layouts(args, "a model")
        pushed = push_model(path, args.repo_id, **repository_options(args))
    elif questions is not None:
        _refuse_layouts(args, WHAT)
        pushed = _push_questions(path, questions, args)
    else:
        pushed = _push_dataset(path, args)
    show(f"Pushed to {pushed.url} (commit {pushed.commit[:8]})")


def _refuse_layouts(args: argparse.Namespace, what: str) -> None:
    """Refuse the options of mined rows, which have no effect here."""
    if args.variants or args.report or args.config_name != "default":
        raise InputError(f"{args.path} is {what}; --variants, --report and --config-name are for mined datasets")


def _push_questions(path: Path, record: QuestionsRecord, args: argparse.Namespace) -> Pushed:
    from hf_posmine.data.sources import load_source
    from hf_posmine.evaluation.questions.push import push_questions

    return push_questions(load_source(path), args.repo_id, record, **repository_options(args))


def _push_dataset(path: Path, args: argparse.Namespace) -> Any:
    from datasets import DatasetDict, load_from_disk

    from hf_posmine.data.sources import load_files
    from hf_posmine.hub.push import push_dataset
    from hf_posmine.mining.execution.shards import read_shards, split_folders
    from hf_posmine.mining.provenance import read_provenance

    if path.is_file() and path.suffix == ".parquet":
        mined, record = load_files(path), read_provenance(path.with_suffix(".parquet.provenance.json"))
    elif split_folders(path):
        return push_dataset(read_shards(path), args.repo_id, path / "provenance.json", **push_options(args))
    elif (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
        mined, record = load_from_disk(str(path)), read_provenance(path / "provenance.json")
    else:
        raise InputError(
            f"{path} is neither a mined dataset nor a model; pass a folder or .parquet file that hf-posmine mine wrote, or a "
            "folder that hf-posmine train wrote (json lines keep no types, so they cannot be pushed)"
        )
    splits = mined if isinstance(mined, dict) else DatasetDict({next(iter(record.rows), "train"): mined})
    return push_dataset(splits, args.repo_id, record, **push_options(args))
