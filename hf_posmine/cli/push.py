"""Push a mined dataset or a trained model to the Hub, with the record of how it was made and a card.

PATH is what hf-posmine mine --output or hf-posmine train wrote. Everything is pushed atomically, in one commit; pushing
the same again changes nothing, and text that somebody wrote into the card stays. The token is that of hf auth login, or
HF_TOKEN.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.cli.arguments import add_push_arguments, add_run_arguments, push_options, repository_options
from hf_posmine.cli.show import show
from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    import argparse

HELP = "push a mined dataset or a trained model"
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
    parser.add_argument("path", metavar="PATH", help="a mined dataset (folder, .parquet) or a model folder")
    parser.add_argument("repo_id", metavar="REPO_ID", help="repository on the Hub, such as me/nq-mined")
    add_push_arguments(parser)
    add_run_arguments(parser)


def run(args: argparse.Namespace) -> None:
    """Push, and print where it is."""
    from hf_posmine.hub.push_model import push_model

    path = Path(args.path)
    if (path / "modules.json").is_file():
        if args.variants or args.report or args.config_name != "default":
            raise InputError(f"{path} is a model; --variants, --report and --config-name are for datasets")
        pushed = push_model(path, args.repo_id, **repository_options(args))
    else:
        pushed = _push_dataset(path, args)
    show(f"Pushed to {pushed.url} (commit {pushed.commit[:8]})")


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
