"""Arguments that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.defaults import DEFAULT_MODEL, EMBEDDED

if TYPE_CHECKING:
    import argparse


def add_teacher_arguments(parser: argparse.ArgumentParser) -> None:
    """The teacher and its store."""
    group = parser.add_argument_group("teacher")
    group.add_argument(
        "--teacher",
        default=DEFAULT_MODEL,
        help=f"Hub id or folder of a sentence-transformers model, or '{EMBEDDED}' (default: %(default)s)",
    )
    group.add_argument("--revision", help="revision of the teacher on the Hub")
    group.add_argument("--query-prompt", help="text put before every query (default: the model's own)")
    group.add_argument("--document-prompt", help="text put before every document (default: the model's own)")
    group.add_argument("--similarity", help="cosine, dot, euclidean or manhattan (default: the model's own)")
    group.add_argument("--device", help="such as cpu or cuda:0 (default: CUDA if there is any)")
    group.add_argument("--store", help="folder of the embeddings (default: below the cache, shared by all runs)")
    group.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of stored embeddings (default: %(default)s)"
    )


def teacher_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :class:`~hf_posmine.teachers.dense.DenseTeacher`."""
    names = ("revision", "query_prompt", "document_prompt", "similarity", "device", "store", "dtype")
    return {name: getattr(args, name) for name in names}


def add_run_arguments(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    """How the program behaves."""
    group = parser.add_argument_group("run")
    if config:
        group.add_argument("--config", help="YAML file with any of these options; the command line wins")
    group.add_argument("--offline", action="store_true", help="ask nothing of any hub; the default teacher is embedded")
    group.add_argument("--quiet", action="store_true", help="no progress bars")
