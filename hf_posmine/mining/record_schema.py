"""The types, ranges and sizes of a mining record, checked before anything that it names is loaded or allocated.

A record may come from anywhere. Numbers of candidates are bounded by the corpus: more could only ask for memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import common_window
from hf_posmine.core.settings import Keep, MiningSettings, NegativesAs, OnShort, WeakPositive
from hf_posmine.core.types import CeilingFrom, Match, ScoreKind
from hf_posmine.mining.languages import LANGUAGE, MOST_LANGUAGES
from hf_posmine.mining.second_opinion import RankBy
from hf_posmine.utils.typed_json import fields, flag, items, mapping, number, one_of, optional, text, whole

if TYPE_CHECKING:
    from collections.abc import Mapping

MOST_DOCUMENTS = 2**40
SMALL_CORPUS = 10_000
"""Candidates that may be asked for even of a smaller corpus, as the defaults of samplers do."""
MOST_TEACHERS = 64
FLOATS = ("torch.float32", "torch.float16", "torch.bfloat16", "torch.float64")

LINE, NAME, SPELLING = text(), text(1_024), text(512)
COUNT = whole(0, MOST_DOCUMENTS)
SOURCE = fields(
    {},
    {name: optional(NAME) for name in ("path", "name", "split", "revision", "sha256", "text", "id", "title", "image")},
)
TEACHER = fields(
    {"name": NAME, "score_kind": one_of(get_args(ScoreKind)), "fingerprint": text(256)},
    {
        "kind": text(64),
        "spelling": text(8_192),
        "commit": optional(text(64)),
        "model_digest": optional(text(256)),
        "similarity": one_of(("cosine", "dot", "euclidean", "manhattan", "distance", "maxsim")),
        "prompts": mapping(optional(text(lines=True)), text(64), 64),
        "dtype": text(32),
        "weights_dtype": one_of(FLOATS),
        "max_seq_length": optional(whole(1, 2**24)),
        "truncate_dim": optional(whole(1, 2**24)),
        "index": SPELLING,
        "backend": text(32),
        "compute": text(32),
        "language": optional(text(32)),
        "tokenizer_digest": text(256),
        "stem": flag,
        "k1": number,
        "b": number,
        "seed": whole(),
        "words": whole(1, 2**24),
        "overlap": whole(0, 2**24),
        "passages": COUNT,
        "cut_texts": COUNT,
    },
)
SUMMARY = fields(
    dict.fromkeys(("rows", "num_negatives", "negatives", "short_rows", "empty_rows"), COUNT),
    {
        **{name: optional(COUNT) for name in ("filled", "weak_rows", "bad_rows", "dropped_rows", "rejected")},
        "excluded": mapping(COUNT, text(256), 64),
        "removed": mapping(number, text(512), 64),
        "replaced": optional(number),
        "languages": mapping(mapping(COUNT, LANGUAGE, MOST_LANGUAGES), LANGUAGE, MOST_LANGUAGES),
        "quantiles": mapping(mapping(number, text(32, r"[01]?\.\d+|[01]"), 64), text(64), 16),
    },
)
DATA = fields(
    {"query": NAME, "positives": COUNT, "in_corpus": COUNT, "documents": COUNT, "own": flag},
    {
        **dict.fromkeys(("variants", "contained", "near", "unlike", "crowded"), optional(COUNT)),
        "positive": optional(NAME),
        "corpus": optional(text(4_096)),
        "bad_rows": optional(mapping(COUNT, text(64), 16)),
        "match": one_of(get_args(Match)),
        "same": optional(mapping(COUNT, NAME, 32)),
    },
)
OPINION_FIELDS = {
    "teacher": TEACHER,
    "filters": items(SPELLING, 32),
    "rank_by": one_of(get_args(RankBy)),
    "depth": whole(1),
}
OPINION = fields(
    OPINION_FIELDS, {"band": optional(number), "first": optional(fields(OPINION_FIELDS, {"band": optional(number)}))}
)
UPDATE = fields(
    {f"rows_{name}": COUNT for name in ("kept", "updated", "mined_again")}
    | {f"documents_{name}": COUNT for name in ("added", "removed", "changed")},
    {"previous": optional(text(256))},
)
FAMILY = text(128)
GUARANTEE = fields(
    {
        "rate": number,
        "confidence": number,
        "filters": items(SPELLING, 32),
        "estimate": number,
        "gap": number,
        "queries": COUNT,
        "evidence": text(64),
        "ladder": mapping(items(SPELLING, 1_024), FAMILY, 64),
        "passed": mapping(COUNT, FAMILY, 64),
        "assumptions": items(text(512), 32),
        "corpus": text(256),
    },
    {
        "judge": optional(
            fields(
                {
                    "names": items(NAME, 8),
                    "confusion": items(items(COUNT, 2), 2),
                    "least_sensitivity": number,
                    "greatest_specificity": number,
                }
            )
        )
    },
)
SETTINGS = fields(
    {
        "filters": items(SPELLING, 32),
        "sampler": SPELLING,
        "num_negatives": whole(1, MOST_DOCUMENTS),
        "keep": items(one_of(get_args(Keep)), 32),
        "on_short": one_of(get_args(OnShort)),
        "ceiling_from": one_of(get_args(CeilingFrom)),
        "weak_positive": one_of(get_args(WeakPositive)),
        "weak_rank": whole(1, MOST_DOCUMENTS),
        "near_duplicates": optional(number),
        "exclude_lookalikes": flag,
        "exclude_other_positives": flag,
        "skip_bad_rows": flag,
        "seed": whole(0, 2**64 - 1),
    },
    {
        "language_column": optional(NAME),
        "exclude_same": items(NAME, 32),
        "match": one_of(get_args(Match)),
        "negatives_as": one_of(get_args(NegativesAs)),
    },
)
RECORD = fields(
    {
        "schema": whole(1),
        "tool": text(64),
        "algo_version": whole(1, 2**31),
        "created": text(64),
        "command": optional(text(65_536, lines=True)),
        "miner_fingerprint": text(256),
        "settings": SETTINGS,
        "teachers": items(TEACHER, MOST_TEACHERS),
        "source": SOURCE,
        "columns": fields({"query": NAME}, {"positive": optional(NAME), "positive_id": optional(NAME)}),
        "corpus": fields(
            {
                "source": optional(SOURCE),
                "fingerprint": text(256),
                "documents": COUNT,
                "candidates": COUNT,
                "duplicates_dropped": COUNT,
                "match": one_of(get_args(Match)),
                "excluded_everywhere": COUNT,
            }
        ),
        "summary": optional(SUMMARY),
        "versions": mapping(text(256), text(128), 256),
    },
    {
        "known_positives": optional(fields({"fingerprint": text(256), "queries": COUNT, "judgements": COUNT})),
        "rows": mapping(fields({"rows": COUNT, "digest": text(256)}), text(256), 1_024),
        "data": optional(DATA),
        "format": optional(text(64)),
        "second_opinion": optional(OPINION),
        "update": optional(UPDATE),
        "guarantee": optional(GUARANTEE),
    },
)


def check_record(plain_record: Mapping[str, Any]) -> None:
    """Check the plain values of a record.

    Raises:
        InputError: which field, its value, and the expected one.
    """
    RECORD(plain_record, "")
    if not plain_record["teachers"]:
        raise InputError("teachers is empty; expected at least one")
    wanted, documents = plain_record["settings"]["num_negatives"], plain_record["corpus"]["documents"]
    _check_number("settings.num_negatives", wanted, documents)


def check_sizes(settings: MiningSettings, depth: int, documents: int) -> None:
    """Refuse to ask for more candidates of a row than a corpus holds.

    Args:
        settings: of a record.
        depth: of its second opinion; 0 without one.
        documents: size of the corpus.

    Raises:
        InputError: which number, and the size of the corpus.
    """
    first, last = common_window(settings.all_filters)
    sampler, filters = f"the sampler {settings.sampler!r:.80}", f"the filters {list(settings.all_filters)!r:.200}"
    _check_number("num_negatives", settings.num_negatives, documents)
    _check_number(sampler, settings.one_sampler.pool(settings.num_negatives), documents)
    _check_number(filters, max(first, last or 0), documents)
    _check_number("second_opinion.depth", depth, documents)


def _check_number(what: str, wanted: int, documents: int) -> None:
    if wanted > max(documents, SMALL_CORPUS):
        raise InputError(f"{what} asks for {wanted:,} candidates of a row; the corpus has {documents:,} documents")
