"""``push_questions``: a set of questions with the record of how it was made and a card, in one commit."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.evaluation.questions.attrition import Attrition
from hf_posmine.evaluation.questions.record import FILE, QuestionsRecord
from hf_posmine.hub.card_values import About
from hf_posmine.hub.cards import cell, join_card, marked, merge_body, render, split_card
from hf_posmine.hub.dataset_card import described, shown_row, source_words, title_of
from hf_posmine.hub.metadata import merge_configs, replaced_files
from hf_posmine.hub.push import write_configs
from hf_posmine.hub.repository import README, Changes, Destination, Pushed, Snapshot, check_login, publish, record_there
from hf_posmine.hub.variants import Config
from hf_posmine.mining.provenance import describe_rows
from hf_posmine.mining.record import Source, of_known

if TYPE_CHECKING:
    from datasets import Dataset

NAME = "default"
TAGS = ("synthetic", "hf-posmine", "sentence-transformers")


def push_questions(
    rows: Dataset, repo_id: str, record: QuestionsRecord, *, about: About | None = None, private: bool | None = None,
    revision: str | None = None, create_pr: bool = False, token: str | None = None,
) -> Pushed:  # fmt: skip
    """Push questions, their record and a card atomically, in one commit; the same again makes none.

    Args:
        rows: what ``hf-posmine questions`` wrote.
        repo_id: such as ``me/manual-questions``.
        record: how they were made.
        about: licence, language, heading: values that only the author knows.
        private: create the repository private.
        revision: branch; by default main.
        create_pr: propose a pull request instead.
        token: by default that of the logged-in user.

    Raises:
        InputError: the record is of other rows; nothing was sent.
        HubError: the Hub refused or could not be reached; the same push again resumes.
    """
    to = Destination(repo_id, "dataset", private, revision, create_pr, token)
    (found,) = describe_rows(rows).values()
    if (found.rows, found.digest) != (record.rows, record.digest):
        raise InputError(f"{FILE} is of {record.rows:,} other rows; push the questions as they were written")
    check_login(token)
    config = Config(NAME, {"train": rows})
    with tempfile.TemporaryDirectory(prefix="posmine-push-") as folder:
        files = write_configs([config], Path(folder))

        def changes(there: Snapshot) -> Changes:
            kept = _unless_same(record, there, to)
            metadata, body = split_card(there.readme)
            card = _card(merge_configs(metadata, [config], files), body, there.repo_id, kept, rows, about or About())
            added: dict[str, bytes | Path] = {**files, FILE: kept.to_json().encode(), README: card}
            return Changes(added, frozenset(replaced_files(metadata, [config], there.files) - set(added)))

        changes(Snapshot(repo_id, "main", "", frozenset(), None))  # an error here comes before anything is sent
        return publish(to, "Questions", changes)


def _card(
    metadata: dict[str, Any], body: str | None, repo_id: str, record: QuestionsRecord, rows: Dataset, about: About
) -> bytes:
    from huggingface_hub import DatasetCardData

    source: Source = of_known(Source, record.documents)
    new = described(metadata, repo_id, record.rows, [source], about, TAGS)
    attrition = Attrition(**record.attrition)
    model, judge = (None if name is None else name.rpartition(" ")[2] for name in (record.writer, record.judge))
    facts = vars(record) | {
        "repo_id": repo_id,
        "description": about.description,
        "example": json.dumps(shown_row(rows[0]), indent=1, ensure_ascii=False),
        "source_words": source_words(source),
        "model": model,
        "judge_model": judge,
        "steps": attrition.lines(),
        "license": new.get("license"),
        "record_json": record.to_json(),
    }
    part = marked(NAME, render("questions_card.md", facts))
    return join_card(
        DatasetCardData(**new), merge_body(body, f"# {cell(title_of(new, repo_id, about))}", part, NAME)
    )  # fmt: skip


def _unless_same(record: QuestionsRecord, there: Snapshot, to: Destination) -> QuestionsRecord:
    """The record in the repository where the rows are the same, so that the same push makes no commit."""
    old = record_there(there, to, FILE, QuestionsRecord.from_json)
    return old if old is not None and dataclasses.replace(old, created=record.created) == record else record
