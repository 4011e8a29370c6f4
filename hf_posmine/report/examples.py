"""The rows that the page shows as plain text: the worst of each kind, and the documents that most rows share."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.data.likeness import answers_of
from hf_posmine.report.rows import as_texts
from hf_posmine.report.suspects import WHOLE_ROW, Suspects, shared_documents

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Rows
    from hf_posmine.report.comparison import MiningComparison
    from hf_posmine.report.numbers import Numbers
    from hf_posmine.report.side import Side

SHOWN = 4
CHARACTERS = 320
BRIEF = 160


@dataclass(frozen=True)
class Example:
    """One row as the page shows it.

    Attributes:
        row: its number through all splits.
        where: its number in its split, as people read it.
        reason: why the row is shown.
        query: its query.
        positive: its first positive.
        positive_facts: score of the positive.
        negative: the negative in question, as text before, in and after what is marked; None for the row as a whole.
        negative_facts: its score, rank, id and teacher.
        answers: of the row, for negatives that hold one.
    """

    row: int
    where: str
    reason: str
    query: str
    positive: str
    positive_facts: str
    negative: tuple[str, str, str] | None
    negative_facts: str
    answers: str = ""


@dataclass(frozen=True)
class Kind:
    """A kind of suspicion on the page.

    Attributes:
        suspects: all rows of it.
        examples: the worst.
        bit: its number among the flags of the table.
        share: of all rows.
    """

    suspects: Suspects
    examples: Sequence[Example]
    bit: int
    share: float


@dataclass(frozen=True)
class Shared:
    """A text that is a negative of many rows."""

    count: int
    share: float
    row: int
    where: str
    text: str


@dataclass(frozen=True)
class Changed:
    """A row that got other negatives in another mining: those that only one of the two has."""

    row: int
    where: str
    overlap: float
    query: str
    positive: str
    here: Sequence[str]
    there: Sequence[str]


def kinds(side: Side) -> list[Kind]:
    """Every kind with its worst rows."""
    wanted = [kind.rows[:SHOWN] for kind in side.suspects]
    rows = np.unique(np.concatenate([np.empty(0, np.int64), *wanted]))
    texts = _take(side, rows)
    return [
        Kind(
            kind,
            [_example(side, kind, i, texts) for i in range(min(SHOWN, len(kind)))],
            bit,
            len(kind) / max(1, side.summary.rows),
        )
        for bit, kind in enumerate(side.suspects)
    ]


def most_shared(side: Side) -> list[Shared]:
    """The documents that are a negative most often."""
    counts, rows, at = shared_documents(side.texts)
    texts = _take(side, np.unique(rows))
    return [
        Shared(count, count / side.summary.rows, row, where(side, row), cut(texts[row]["negatives"][place] or ""))
        for count, row, place in zip(counts.tolist(), rows.tolist(), at.tolist(), strict=True)
    ]


def most_changed(side: Side, other: MiningComparison) -> list[Changed]:
    """The rows whose negatives changed most."""
    rows = other.changed[:SHOWN]
    partners = other.partners[rows]
    texts, unique = _take(side, np.sort(rows)), np.unique(partners)
    theirs = dict(zip(unique.tolist(), other.side.mined.take(unique, ["negatives"])["negatives"], strict=True))
    made = []
    for row, partner in zip(rows.tolist(), partners.tolist(), strict=True):
        held, positive = texts[row], side.mined.columns.positive
        here, there = held["negatives"] or [], theirs[partner] or []
        made.append(
            Changed(
                row=row,
                where=where(side, row),
                overlap=float(other.jaccard[row]),
                query=cut(held[side.mined.columns.query] or ""),
                positive=cut(as_texts(held[positive])[0]) if positive else "",
                here=[cut(text, BRIEF) for text in here if text not in there],
                there=[cut(text, BRIEF) for text in there if text not in here],
            )
        )
    return made


def where(side: Side, row: int) -> str:
    """A row's number in its split, with the split where there are several."""
    for name, split in side.mined.splits.items():
        if row < len(split):
            return f"{name} {row:,}" if len(side.mined.splits) > 1 else f"{row:,}"
        row -= len(split)
    raise IndexError(row)


def cut(text: str, characters: int = CHARACTERS) -> str:
    """The beginning of a text, white space collapsed."""
    text = " ".join(text.split())
    return text if len(text) <= characters else text[:characters].rstrip() + " …"


def _take(side: Side, rows: Rows) -> dict[int, dict[str, Any]]:
    columns = side.mined.columns
    names = [columns.query, columns.positive, columns.answer, "negatives"]
    names += ["negatives_ids"] if "negatives_ids" in side.mined.names else []
    wanted = [name for name in names if name is not None]
    taken = side.mined.take(rows, wanted)
    return {row: {name: taken[name][i] for name in wanted} for i, row in enumerate(rows.tolist())}


def _example(side: Side, kind: Suspects, number: int, texts: dict[int, dict[str, Any]]) -> Example:
    row, at, columns = int(kind.rows[number]), int(kind.at[number]), side.mined.columns
    held = texts[row]
    positives = as_texts(held[columns.positive]) if columns.positive else []
    answers = answers_of(held[columns.answer]) if kind.kind == "answer" and columns.answer else []
    negative = None if at == WHOLE_ROW else _marked(held["negatives"][at] or "", answers)
    return Example(
        row=row,
        where=where(side, row),
        reason=kind.describe(number),
        query=cut(held[columns.query] or ""),
        positive=cut(positives[0]) if positives else "",
        positive_facts=_positive_facts(side.numbers, row, at),
        negative=negative,
        negative_facts="" if negative is None else _negative_facts(side.numbers, row, at, held.get("negatives_ids")),
        answers=cut(", ".join(dict.fromkeys(answers))),
    )


def _marked(text: str, answers: Sequence[str]) -> tuple[str, str, str]:
    """A text cut to where it holds an answer: before, the answer, after; all before where it holds none."""
    text = " ".join(text.split())
    found = [re.search(re.escape(answer), text, re.IGNORECASE) for answer in answers]
    hit = next((match for match in found if match is not None), None)
    if hit is None:
        return cut(text), "", ""
    start = max(0, hit.start() - CHARACTERS // 2)
    before = text[start : hit.start()]
    before = "… " + before.partition(" ")[2] if start else before
    return (
        before,
        hit.group(),
        text[hit.end() :][: CHARACTERS // 2] + (" …" if len(text) > hit.end() + CHARACTERS // 2 else ""),
    )


def _positive_facts(numbers: Numbers, row: int, at: int) -> str:
    if at != WHOLE_ROW and numbers.reference is not None:
        return _score(float(numbers.reference[numbers.bounds[row] + at]))
    return "" if numbers.positive is None else _score(float(numbers.positive[row]))


def _negative_facts(numbers: Numbers, row: int, at: int, ids: Sequence[Any] | None) -> str:
    place = int(numbers.bounds[row]) + at
    facts = [] if numbers.scores is None else [_score(float(numbers.scores[place]))]
    if numbers.ranks is not None:
        facts.append(f"rank {int(numbers.ranks[place]):,}" if numbers.ranks[place] >= 0 else "drawn at random")
    if numbers.teachers is not None:
        facts.append(f"by {numbers.teacher_names[int(numbers.teachers[place])]}")
    return ", ".join([*facts, *([f"id {ids[at]}"] if ids else [])])


def _score(value: float) -> str:
    return f"score {value:.4f}" if np.isfinite(value) else "no score"
