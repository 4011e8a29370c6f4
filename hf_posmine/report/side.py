"""Everything that is known of one mined dataset; a comparison has two."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.mining.summary import MiningSummary
from hf_posmine.report.numbers import Numbers, read_numbers
from hf_posmine.report.reading import RowTexts, read_texts
from hf_posmine.report.suspects import Suspects, find_suspects

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.report.rows import MinedRows


@dataclass(frozen=True)
class Side:
    """A mined dataset and what was found in it.

    Attributes:
        mined: the rows.
        numbers: their scores, ranks and so on.
        texts: keys and likeness of their texts.
        summary: counts, as ``hf-posmine mine`` prints them.
        suspects: suspicious rows, by kind.
    """

    mined: MinedRows
    numbers: Numbers
    texts: RowTexts
    summary: MiningSummary
    suspects: Sequence[Suspects]


def read_side(mined: MinedRows) -> Side:
    """Read all rows once and look for suspects."""
    numbers, texts = read_numbers(mined), read_texts(mined)
    wanted = mined.record.settings.get("num_negatives") if mined.record is not None else None
    summary = MiningSummary.from_dataset(dict(mined.splits), wanted)
    return Side(mined, numbers, texts, summary, find_suspects(numbers, texts, summary.num_negatives, mined.record))
