"""Arguments that several commands share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.cli.show import show
from hf_posmine.core.settings import MiningSettings, NegativesAs, OnShort, WeakPositive
from hf_posmine.core.spec import split_list
from hf_posmine.core.types import CeilingFrom, Match
from hf_posmine.encoding.defaults import DEFAULT_MODEL
from hf_posmine.mining.second_opinion import RankBy
from hf_posmine.teachers.factory import HELP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Teacher


def add_data_arguments(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """What to mine, and from which documents."""
    parser.add_argument("data", metavar="DATA", nargs=None if required else "?", help="what to mine (see above)")
    data = parser.add_argument_group("data")
    data.add_argument("--name", help="configuration of a Hub dataset")
    data.add_argument("--split", default="train", help="split of a Hub, saved or BEIR dataset (default: %(default)s)")
    data.add_argument("--query-column", help="column of the queries (default: by its name, such as query or anchor)")
    data.add_argument("--positive-column", help="column of texts or lists of texts (default: by its name)")
    data.add_argument("--positive-id-column", help="ids of --corpus, instead of texts")
    data.add_argument("--corpus", help="candidates: a file, folder or Hub id (default: the positives)")
    data.add_argument("--corpus-split", default="train", help="split of --corpus (default: %(default)s)")
    data.add_argument("--corpus-text-column", help="its column of texts (default: by its name, such as text or body)")
    data.add_argument(
        "--corpus-image-column",
        help="its column of images, or of their paths; with --corpus-text-column both are one document",
    )
    data.add_argument("--corpus-id-column", help='default: found by its name, such as _id or docid; "" for row numbers')
    data.add_argument(
        "--corpus-title-column", help='put before the text, with a space (default: title, if there is one; "" for none)'
    )
    data.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows with an empty query or without a positive"
    )


def add_mining_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that become :class:`~hf_posmine.core.settings.MiningSettings`."""
    default = MiningSettings()
    group = parser.add_argument_group("mining")
    group.add_argument(
        "--filters", nargs="*", metavar="FILTER",
        help='such as "PercPos(0.95)", see below; none for Naive Top-K (default: PercPos(0.95), where scores have a zero)',
    )  # fmt: skip
    group.add_argument("--sampler", default=repr(default.sampler), help="draw of the negatives (default: %(default)s)")
    group.add_argument(
        "--num-negatives", type=int, default=default.num_negatives, help="per row (default: %(default)s)"
    )
    group.add_argument(
        "--ceiling-from", choices=get_args(CeilingFrom), default=default.ceiling_from,
        help="which of several positives sets the ceiling (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--on-short", choices=get_args(OnShort), default=default.on_short,
        help="rows with too few negatives (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weak-positive", choices=get_args(WeakPositive), default=default.weak_positive,
        help="rows whose positive is outranked by --weak-rank documents (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--weak-rank", type=int, default=default.weak_rank, help="of weak positives (default: %(default)s)"
    )
    group.add_argument(
        "--near-duplicates", type=float, metavar="COSINE", help="exclude documents at least this similar to a positive"
    )
    group.add_argument(
        "--negatives-as", choices=get_args(NegativesAs),
        help="texts or images in the column negatives, or ids alone in negatives_ids, which copies no document (default: texts, "
        "or ids where documents are images)",
    )  # fmt: skip
    group.add_argument(
        "--exclude-other-positives", action="store_true", help="exclude every document that is a positive of any row"
    )
    group.add_argument(
        "--exclude-lookalikes", action=argparse.BooleanOptionalAction, default=default.exclude_lookalikes,
        help="exclude documents that hold a positive which the corpus lacks (default: %(default)s)",
    )  # fmt: skip
    _add_documents(group)
    group.add_argument("--seed", type=int, default=default.seed, help="random seed (default: %(default)s)")
    _add_second_opinion(
        parser.add_argument_group("second opinion", "another teacher, which scores candidates that matter")
    )


def _add_documents(group: argparse._ArgumentGroup) -> None:
    """Which documents are one, belong together, and are of which language."""
    group.add_argument(
        "--match", choices=get_args(Match), default="normalized",
        help="which texts are one document, and no negatives of each other: exact (the same), normalized (also in another case, "
        "white space or compatible form, such as full-width letters), loose (also with invisible characters: zero-width spaces, "
        "soft hyphens, marks of direction, variation selectors; default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--exclude-same", nargs="*", metavar="COLUMN",
        help="columns of --corpus (else of DATA): exclude documents that share a value with a positive, such as doc_id for further "
        "chunks of its document or parallel_id for its translations; none switches it off (default: the column of source "
        "documents, where the corpus has one beside the ids of its chunks)",
    )  # fmt: skip
    group.add_argument(
        "--language-column", metavar="COLUMN",
        help="column of the languages of documents in --corpus, and of queries in DATA where it has one: writes the language of "
        "each negative, and counts negatives by pair of languages in summary, record, card and report",
    )  # fmt: skip


def _add_second_opinion(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--second-opinion", metavar="TEACHER", help="such as cross:BAAI/bge-reranker-base")
    group.add_argument(
        "--second-filters", nargs="*", default=[], metavar="FILTER", help="ceilings and floors on its scores"
    )
    group.add_argument("--second-first", metavar="TEACHER", help="a cheaper one that rejects candidates before it")
    group.add_argument(
        "--second-first-filters", nargs="*", default=[], metavar="FILTER", help="ceilings and floors on its scores"
    )
    group.add_argument(
        "--second-rank-by", choices=get_args(RankBy), default="teacher",
        help="whose scores rank the negatives (default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--second-depth", type=int, default=50, help="candidates that it scores per row, at most (default: %(default)s)"
    )
    group.add_argument("--second-band", type=float, help="leave out candidates that score this much below the positive")


def add_teacher_arguments(parser: argparse.ArgumentParser, *, several: bool = True) -> None:
    """The teacher and its store; some commands take several teachers."""
    group = parser.add_argument_group("teacher")
    more = "; several with commas, the best first, for an ensemble" if several else ""
    group.add_argument("--teacher", default=DEFAULT_MODEL, help=f"{HELP}{more} (default: %(default)s)")
    group.add_argument("--revision", help="revision of the teacher on the Hub")
    group.add_argument("--query-prompt", help="text put before every query (default: the model's own)")
    group.add_argument("--document-prompt", help="text put before every document (default: the model's own)")
    group.add_argument("--similarity", help="cosine, dot, euclidean or manhattan (default: the model's own)")
    group.add_argument("--device", help="device to compute on, such as cpu or cuda:0 (default: CUDA if there is any)")
    group.add_argument("--store", help="folder of the embeddings (default: below the cache, shared by all runs)")
    group.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        default="float32",
        help="type of the stored embeddings (default: %(default)s)",
    )
    group.add_argument(
        "--compute", choices=["float32", "bfloat16", "float16"],
        help="precision to compute embeddings in (default: the model's); halves change some lists, and are faster on GPUs and on "
        "processors that multiply them quickly (AMX); on CUDA take bfloat16",
    )  # fmt: skip
    group.add_argument(
        "--backend", choices=["torch", "openvino"], default="torch",
        help="what computes embeddings; openvino is faster on CPUs (extra 'openvino'; default: %(default)s)",
    )  # fmt: skip
    group.add_argument(
        "--api-key-env", metavar="NAME", help="environment variable with the key of an embedding service"
    )
    group.add_argument("--price", type=float, help="price of a service per million tokens, to show the cost")
    group.add_argument(
        "--index",
        help="search approximately: 'IVF4096,SQ8' or another factory string of FAISS, or 'Lance()' (default: exactly)",
    )


def teacher_names(args: argparse.Namespace) -> list[str]:
    """The teachers, by name."""
    return split_list(args.teacher)


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
    return {name: vars(args)[name] for name in names}


def print_usage(teachers: Sequence[Teacher]) -> None:
    """The requests to services among the teachers, and their cost."""
    from hf_posmine.teachers.capabilities import Metered

    for teacher in teachers:
        if isinstance(teacher, Metered) and (bill := teacher.bill()) is not None:
            show(f"Requests to {teacher.name}: {bill}")


def add_push_arguments(parser: argparse.ArgumentParser) -> None:
    """How a dataset is pushed."""
    from hf_posmine.hub.variants import VARIANTS
    from hf_posmine.mining.training_formats import Short

    group = parser.add_argument_group("push")
    group.add_argument(
        "--variants", nargs="*", choices=VARIANTS, default=[], help="further layouts, each a configuration: %(choices)s"
    )
    group.add_argument(
        "--variants-on-short", choices=get_args(Short), default="drop",
        help="rows with too few negatives in the layouts n-tuple and scored (default: %(default)s)",
    )  # fmt: skip
    group.add_argument("--report", action="store_true", help="also push a page about the rows (see hf-posmine report)")
    group.add_argument("--config-name", default="default", help="configuration of the rows (default: %(default)s)")
    add_repository_arguments(group)


def add_repository_arguments(group: argparse._ArgumentGroup) -> None:
    """The repository to push to."""
    group.add_argument("--private", action="store_true", default=None, help="create the repository private")
    group.add_argument("--push-revision", metavar="BRANCH", help="branch to push to (default: main)")
    group.add_argument("--create-pr", action="store_true", help="propose a pull request instead")
    group.add_argument("--license", help="license of the repository, as the Hub spells it, such as cc-by-sa-4.0")
    group.add_argument("--language", nargs="*", help="ISO 639 codes of the texts, such as en")
    group.add_argument("--title", help="heading of the card (default: the name of the repository)")


def repository_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options that :func:`~hf_posmine.hub.push.push_dataset` and push_model share."""
    from hf_posmine.hub.card_values import About

    about = About(license=args.license, language=args.language, title=args.title)
    return {"about": about, "private": args.private, "revision": args.push_revision, "create_pr": args.create_pr}


def push_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of :func:`~hf_posmine.hub.push.push_dataset`."""
    return repository_options(args) | {
        "variants": args.variants,
        "config_name": args.config_name,
        "report": args.report,
        "on_short": args.variants_on_short,
    }


def add_run_arguments(parser: argparse.ArgumentParser, *, config: bool = True) -> None:
    """How the program behaves."""
    group = parser.add_argument_group("run")
    if config:
        group.add_argument("--config", metavar="YAML", help="file with any of these options; the command line wins")
    group.add_argument(
        "--offline", action="store_true", help="make no requests to the Hub; the default teacher is then embedded"
    )
    group.add_argument("--quiet", action="store_true", help="show no progress bars")
    group.add_argument("--log-progress", action="store_true", help="write progress as JSON lines to stderr, for logs")
    group.add_argument("--debug", action="store_true", help="show the traceback of an error")
