"""What goes into a repetition of the mining, and what turned out to be otherwise than recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Inputs:
    """What to mine with instead of what the record names: for data that were local, or to see what a change would do.

    Attributes:
        dataset: the source rows: a Dataset or DatasetDict, or a file, folder or Hub id.
        corpus: the documents: a Corpus, or a file, folder or Hub id, read by the columns that the record names.
        teacher: in the place of a dense teacher: a SentenceTransformer, Hub id or folder.
        device: where to encode and search.
    """

    dataset: Any = None
    corpus: Any = None
    teacher: Any = None
    device: str | None = None


@dataclass(frozen=True)
class InputChange:
    """Something that is not as recorded.

    Attributes:
        what: which input.
        recorded: what the record says.
        found: what is there now.
        decisive: whether it can change the rows; a branch that moved on cannot, as the recorded commit was used.
    """

    what: str
    recorded: str
    found: str
    decisive: bool = True

    def __str__(self) -> str:
        return f"{self.what}: {self.recorded} when it was mined, now {self.found}"
