"""Arguments that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.encoding.defaults import DEFAULT_MODEL
from hf_posmine.teachers.factory import HELP

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def add_teacher_arguments(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """The teacher and its store; some commands take several teachers."""
    group = parser.add_argument_group("teacher")
    more = "; several with commas, the best first, for an ensemble" if several else ""
    group.add_argument("--teacher", default=DEFAULT_MODEL, help=f"{HELP}{more} (default: %(default)s)")
    group.add_argument("--revision", help="revision of the teacher on the Hub")
    group.add_argument("--query-prompt", help="text put before every query (default: the model's own)")
    group.add_argument("--document-prompt", help="text put before every document (default: the model's own)")
    group.add_argument("--similarity", help="cosine, dot, euclidean or manhattan (default: the model's own)")
    group.add_argument("--device", help="such as cpu or cuda:0 (default: CUDA if there is any)")
    group.add_argument("--store", help="folder of the embeddings (default: below the cache, shared by all runs)")
    group.add_argument(
        "--dtype", choices=["float32", "float16"], default="float32", help="of stored embeddings (default: %(default)s)"
    )
    group.add_argument(
        "--compute", choices=["float32", "bfloat16", "float16"],
        help="precision to compute embeddings in (default: the model's); halves are faster and change some lists",
    )  # fmt: skip
    group.add_argument(
        "--backend", choices=["torch", "openvino"], default="torch",
        help="what computes embeddings; openvino is faster on CPUs (extra 'openvino'; default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with the key of an embedding service"
    )
    group.add_argument("--price", type=float, help="of a service, per million tokens, to show what it cost")
    group.add_argument(
        "--index",
        help="search approximately: 'IVF4096,SQ8' or another factory string of FAISS, or 'Lance()' (default: exactly)",
    )


def teacher_names(args: argparse.Namespace) -> list[str]:
    """The teachers, by name."""
    return [name.strip() for name in args.teacher.split(",")]


def teacher_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of teachers, as :func:`~hf_posmine.teachers.factory.make_teacher` takes them."""
    names = (
        "revision",
        "query_prompt",
        "document_prompt",
        "similarity",
        "device",
        "store",
        "dtype",
        "compute",
        "backend",
        "index",
        "api_key_env",
        "price",
    )
    return {name: getattr(args, name) for name in names}


def print_usage(teachers: Sequence[Any]) -> None:
    """What services among the teachers were asked, and what that cost."""
    for teacher in teachers:
        usage = getattr(teacher, "usage", None)
        if usage is not None and usage.requests:
            cost = "" if teacher.cost is None else f", which cost {teacher.cost:.4f}"
            print(
                f"Asked {teacher.name}: {usage.texts:,} texts in {usage.requests:,} requests, {usage.tokens:,} tokens{cost}"
            )


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """How a dataset is pushed."""
    from hf_posmine.hub.variants import VARIANTS

    group = parser.add_argument_group("push")
    group.add_argument(
        "--variants", nargs="*", choices=VARIANTS, default=[], help="further layouts, each a configuration: %(choices)s"
    )
    group.add_argument("--report", action="store_true", help="push a page about the rows, too (see hf-posmine report)")
    group.add_argument("--config-name", default="default", help="configuration of the rows (default: %(default)s)")
    add_repository_arguments(group)


def add_repository_arguments(group: argparse._ArgumentGroup) -> None:
    """The repository to push to."""
    group.add_argument("--private", action="store_true", default=None, help="create the repository private")
    group.add_argument("--push-revision", metavar="BRANCH", help="branch to push to (default: main)")
    group.add_argument("--create-pr", action="store_true", help="propose a pull request instead")
    group.add_argument("--license", help="of what is pushed, as the Hub spells it, such as cc-by-sa-4.0")
    group.add_argument("--language", nargs="*", help="ISO 639 codes of the texts, such as en")
    group.add_argument("--title", help="heading of the card (default: the name of the repository)")


def repository_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that :func:`~hf_posmine.hub.push.push_dataset` and push_model share."""
    from hf_posmine.hub.cards import About

    about = About(license=args.license, language=args.language, title=args.title)
    return {"about": about, "private": args.private, "revision": args.push_revision, "create_pr": args.create_pr}


def push_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`~hf_posmine.hub.push.push_dataset`."""
    return repository_options(args) | {
        "variants": args.variants,
        "config_name": args.config_name,
        "report": args.report,
    }


def add_run_arguments(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    """How the program behaves."""
    group = parser.add_argument_group("run")
    if config:
        group.add_argument("--config", help="YAML file with any of these options; the command line wins")
    group.add_argument("--offline", action="store_true", help="ask nothing of any hub; the default teacher is embedded")
    group.add_argument("--quiet", action="store_true", help="no progress bars")
    group.add_argument("--log-progress", action="store_true", help="progress as JSON lines on stderr, for logs")
