"""The head of the page: counts, exclusions, filters, and how the rows were mined."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.mining.summary import language_shares
from hf_posmine.mining.wording import CEILING_FROM_WORDS, EXCLUSION_WORDS, MATCH_WORDS, ON_SHORT_WORDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from hf_posmine.mining.record import MiningRecord, OpinionRecord, Source, TeacherRecord
    from hf_posmine.report.side import Side

SMALLEST = 0.0001
KEPT = {
    "scores": ("negatives_scores", "scores, margins, and the negatives closest to their positive"),
    "ranks": ("negatives_ranks", "ranks, and how many negatives the plain nearest neighbours would not have given"),
    "stats": ("negatives_stats", "what was excluded and what the ceiling removed, ceilings, weak positives"),
    "ids": ("negatives_ids", "ids of the negatives"),
}


@dataclass(frozen=True)
class Lines:
    """A table of facts: label -> one value per side."""

    title: str
    rows: Mapping[str, tuple[str, ...]]


def overview(sides: Sequence[Side]) -> list[Lines]:
    """The tables of facts, with a column per side; lines that no side knows are left out."""
    parts: list[tuple[str, Callable[[Side], dict[str, str]]]] = [("Rows and negatives", _counts)]
    parts += (
        [("Suspicious rows", _suspects)] if len(sides) > 1 else []
    )  # for one dataset they have a section of their own
    parts += [("Excluded and removed", _removed), ("How they were mined", _made)]
    return [Lines(title, _joined([part(side) for side in sides])) for title, part in parts]


def missing(side: Side) -> list[tuple[str, str]]:
    """Options of ``keep=`` that were not used, each with what it would show."""
    return [(name, what) for name, (column, what) in KEPT.items() if column not in side.mined.names]


def found_share(side: Side) -> float:
    """The share of the requested negatives that were found."""
    wanted = side.summary.rows * side.summary.num_negatives
    own = side.summary.negatives - (side.summary.filled or 0)
    return own / wanted if wanted else 0.0


def _joined(facts: Sequence[Mapping[str, str]]) -> dict[str, tuple[str, ...]]:
    labels = dict.fromkeys(label for lines in facts for label in lines)
    return {label: tuple(lines.get(label, "–") for lines in facts) for label in labels}


def _counts(side: Side) -> dict[str, str]:
    summary, numbers, texts = side.summary, side.numbers, side.texts
    facts = {
        "rows": f"{summary.rows:,}",
        "splits": ", ".join(f"{name}: {len(rows):,}" for name, rows in side.mined.splits.items()),
        "negatives": f"{summary.negatives:,}",
        "requested negatives per row": f"{summary.num_negatives}",
        "yield: share of the requested negatives": percent(found_share(side)),
        f"rows with fewer than {summary.num_negatives}": _of(summary.short_rows, summary.rows),
        "rows without any": _of(summary.empty_rows, summary.rows),
        "different texts among the negatives": f"{len(np.unique(texts.negatives)):,}",
    }
    if len(side.mined.splits) == 1:
        del facts["splits"]
    if summary.filled is not None:
        facts["negatives drawn at random for short rows"] = f"{summary.filled:,}"
    if summary.weak_rows is not None:
        facts["rows flagged as having a weak positive"] = _of(summary.weak_rows, summary.rows)
    repeated = texts.repeated()
    if repeated:
        facts["negatives that are in their row already"] = _of(repeated, summary.negatives)
    margins = numbers.margins
    if margins is not None and len(margins):
        facts["negatives that score at least as high as their positive"] = percent(float((margins <= 0).mean()))
    for query, shares in language_shares(summary.languages).items():
        facts[f"languages of the negatives of queries in {query}"] = shares
    if texts.answers is not None and texts.has_answer is not None and texts.answered is not None:
        answered = _of(int(texts.answered.sum()), int(texts.has_answer.sum()))
        facts[f"positives that hold the answer (column {side.mined.columns.answer})"] = answered
        facts["negatives that hold it"] = _of(int(texts.answers.sum()), summary.negatives)
    return facts


def _suspects(side: Side) -> dict[str, str]:
    return {kind.title.lower(): _of(len(kind), side.summary.rows) for kind in side.suspects if not kind.graded}


def _removed(side: Side) -> dict[str, str]:
    summary = side.summary
    facts = {
        f"excluded: {EXCLUSION_WORDS.get(reason, reason)}": f"{n:,}" for reason, n in summary.excluded.items() if n
    }
    for name, share in summary.removed.items():
        what = f"the {name}" if name in ("rank window", "score floor") else f"the ceiling of {name}"
        facts[f"of the naive top {summary.num_negatives}, removed by {what}"] = percent(share)
    if summary.rejected is not None:
        facts["candidates rejected by the second opinion"] = f"{summary.rejected:,}"
    if summary.replaced is not None:
        facts[f"negatives that are not in the naive top {summary.num_negatives}"] = percent(summary.replaced)
    return facts


def _made(side: Side) -> dict[str, str]:
    record = side.mined.record
    if record is None:
        return {}
    settings, corpus = record.settings, record.corpus
    facts = {
        "teacher": "; ".join(_teacher(teacher) for teacher in record.teachers),
        "prompts": "; ".join(dict.fromkeys(prompt for teacher in record.teachers for prompt in _prompts(teacher))),
        "filters": ", ".join(settings.get("filters", ())) or "none (Naive Top-K)",
        "second opinion": "" if record.second_opinion is None else _opinion(record.second_opinion),
        "sampler": str(settings.get("sampler", "–")),
        "seed": str(settings.get("seed", "–")),
        "ceiling of a query with several positives": f"set by the {CEILING_FROM_WORDS.get(settings.get('ceiling_from', ''), '–')}",
        "rows with too few negatives": ON_SHORT_WORDS.get(settings.get("on_short", ""), "–"),
        "source of the rows": _source(record.source),
        "candidates": f"{corpus.candidates:,} documents, {_candidates(record)}",
        "texts that count as one": MATCH_WORDS.get(corpus.match, "–"),
        "documents left out that share with a positive": ", ".join(settings.get("exclude_same", ())),
        "known positives": "" if record.known_positives is None else f"{record.known_positives.judgements:,} of "
        f"{record.known_positives.queries:,} queries",
        "made with": ", ".join(f"{name} {record.versions[name]}" for name in ("hf-posmine", "datasets") if name in record.versions),
    }  # fmt: skip
    return {label: value for label, value in facts.items() if value}


def _teacher(teacher: TeacherRecord) -> str:
    recipe = teacher.recipe
    version = recipe.get("commit") or recipe.get("model_digest")
    details = [teacher.score_kind, *([f"weights {str(version)[:12]}"] if version else [])]
    return f"{teacher.name} ({', '.join(details)})"


def _opinion(opinion: OpinionRecord) -> str:
    filters = ", ".join(opinion.filters) or "no filter"
    first = "" if opinion.first is None else f"; first {_opinion(opinion.first)}"
    return f"{_teacher(opinion.teacher)}, {filters}, ranked by the {opinion.rank_by}, depth {opinion.depth}{first}"


def _prompts(teacher: TeacherRecord) -> list[str]:
    prompts: Any = teacher.recipe.get("prompts") or {}
    return [f"{role}: “{prompt}”" for role, prompt in prompts.items() if prompt]


def _candidates(record: MiningRecord) -> str:
    return "the positives of the rows" if record.corpus.source is None else _source(record.corpus.source)


def _source(source: Source) -> str:
    """The source of data; of a local path its last part only, as on the dataset's card."""
    if source.path is None:
        return "not recorded"
    where = source.path if source.revision else source.path.rstrip("/").rpartition("/")[2]
    more = [f"{what} {value}" for what, value in (("configuration", source.name), ("split", source.split)) if value]
    more += [f"commit {source.revision[:8]}"] if source.revision else []
    return ", ".join([where, *more])


def _of(part: int, whole: int) -> str:
    return f"{part:,} ({percent(part / whole)})" if part and whole else f"{part:,}"


def percent(share: float) -> str:
    """A share as people write it.

    >>> percent(0.0), percent(0.9), percent(0.04561), percent(1e-6), percent(1.0)
    ('0%', '90%', '4.56%', '<0.01%', '100%')
    """
    if 0 < share < SMALLEST:
        return f"<{SMALLEST:.2%}"
    return f"{100 * share:.2f}".rstrip("0").rstrip(".") + "%"
