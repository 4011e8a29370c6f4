"""Inputs of mining again that replace those of the record, and inputs that are not as recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from datasets import Dataset, DatasetDict

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.factory import TeacherLike

    Rows: TypeAlias = "Dataset | DatasetDict | str | Path"


@dataclass(frozen=True)
class Inputs:
    """Inputs in the place of those that the record names: for data that were local, or to see the effect of a change.

    Attributes:
        dataset: source rows: a Dataset or DatasetDict, or a file, folder or Hub id.
        corpus: documents: a Corpus, or a file, folder or Hub id, read by the columns that the record names.
        teacher: one teacher or a list, in the place of recorded ones: a spelling, Hub id, folder, model or Teacher. Those that
            were local have to be given (folders of models, run files, vectors), and so have services, which are never called
            because a record names them.
        device: device to encode and search on.
        allow_local: also read local paths that the record names. A record is written by whoever pushed it, so allow this only
            for your own.
    """

    dataset: Rows | None = None
    corpus: Corpus | str | Path | None = None
    teacher: TeacherLike | Sequence[TeacherLike] | None = None
    device: str | None = None
    allow_local: bool = False


@dataclass(frozen=True)
class InputChange:
    """An input that is not as recorded.

    Attributes:
        what: name of the input.
        recorded: its value in the record.
        found: its value now.
        decisive: whether it can change rows, or makes the record untrue; a branch that has moved on cannot, as the recorded
            commit is used.
    """

    what: str
    recorded: str
    found: str
    decisive: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.recorded} when it was mined, now {self.found}"
