"""Texts that already begin with the prompt which the model puts before them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.compute as pc

from hf_posmine.teachers.capabilities import describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from hf_posmine.core.types import Teacher
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.qrels import Qrels

EXAMPLES = 3


def prompted_texts(teacher: Teacher, corpus: Corpus, known: Qrels | None) -> list[str]:
    """One line for the queries and one for the documents that begin with the teacher's prompt, if there are any."""
    prompts = describe(teacher).get("prompts") or {}
    queries = None if known is None else known.queries
    texts = {"query": ("queries", queries), "document": ("documents", corpus)}
    lines = []
    for role, (plural, texts_of_role) in texts.items():
        prompt = (prompts.get(role) or "").strip()
        if not prompt or texts_of_role is None:
            continue
        rows = list(_rows_with(texts_of_role, prompt))
        if rows:
            shown = ", ".join(map(str, rows[:EXAMPLES])) + (", ..." if len(rows) > EXAMPLES else "")
            lines.append(
                f"{len(rows):,} of {len(texts_of_role):,} {plural} (unique ones, number {shown}) already begin with the prompt "
                f'{prompt!r}, which {teacher.name} puts before them once more; give {role}_prompt="", or '
                "take it off the texts"
            )
    return lines


def _rows_with(texts: Corpus, prompt: str) -> Iterator[int]:
    row = 0
    for part in texts.parts:
        for chunk in part.text_chunks():
            yield from (row + at for at in pc.indices_nonzero(pc.starts_with(chunk, prompt)).to_pylist())
            row += len(chunk)
