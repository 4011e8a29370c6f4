"""New negatives for the rows of a mended copy that have too few, mined from a corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_posmine.audit.forms import same_form
from hf_posmine.audit.grouping import as_mined
from hf_posmine.core.errors import InputError
from hf_posmine.core.filters import refuse_of_rows
from hf_posmine.data.row_layouts import AddedDocument
from hf_posmine.mining.miner import PositiveAwareMiner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hf_posmine.core.types import Filter
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.row_layouts import RowView
    from hf_posmine.data.training_data import TrainingData


@dataclass(frozen=True)
class TopUp:
    """Where new negatives come from.

    Attributes:
        corpus: the documents, with ids where the rows hold ids.
        teacher: whose scores choose them, by its spelling.
        filters: whose ceilings they stay below; the default of the teacher for ().
        device: of the teacher.
    """

    corpus: Corpus
    teacher: str = "bm25"
    filters: tuple[Filter, ...] = ()
    device: str | None = None


class ToppingUp:
    """Mines for rows of one dataset, of which every positive is known.

    Args:
        data: the rows.
        settings: where new negatives come from.
        num_negatives: that a row should have.

    Raises:
        InputError: rows that new negatives cannot be written into.
    """

    def __init__(self, data: TrainingData, settings: TopUp, num_negatives: int) -> None:
        rows = as_mined(data)
        if data.layout.one_document or "negatives_scores" in rows.column_names:
            what = "hold one document each" if data.layout.one_document else "hold scores of another teacher"
            raise InputError(
                f"{data.name}: rows that {what} cannot be topped up; mine again with hf-posmine mine, or leave --top-up out"
            )
        if settings.corpus.num_images:
            raise InputError(
                f"{settings.corpus.num_images:,} documents of the corpus are images, and --top-up writes texts; mine again with "
                "hf-posmine mine, or leave --top-up out"
            )
        refuse_of_rows(settings.filters, "an audit")
        self.num_negatives = num_negatives
        self.miner = PositiveAwareMiner.from_dataset(
            rows.select_columns(["query", "positive"]),
            settings.teacher,
            query_column="query",
            positive_column="positive",
            corpus=settings.corpus,
            teacher_options={"device": settings.device} if settings.device else None,
            filters=settings.filters or None,
            num_negatives=2 * num_negatives,  # some may be in their row already
            keep=("ids",),
            skip_bad_rows=True,
        )

    def new_negatives(self, views: Sequence[RowView], wanted: Sequence[int]) -> list[list[AddedDocument]]:
        """Up to ``wanted`` documents for each row, the best first, that it does not have."""
        batch = {"query": [view.query for view in views], "positive": [view.positives for view in views]}
        mined = self.miner(batch)
        found = []
        for view, count, texts, ids in zip(views, wanted, mined["negatives"], mined["negatives_ids"], strict=True):
            there = set(map(same_form, (*view.negatives, *view.positives)))
            new = [AddedDocument(*one) for one in zip(ids, texts, strict=True) if same_form(one[1]) not in there]
            found.append(new[:count])
        return found
