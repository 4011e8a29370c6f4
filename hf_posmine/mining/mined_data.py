"""The data of a run as it was read, in one line and in the record: columns, documents, positives among them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.data.lookalikes import CONTAINER, NEAR, VARIANT
from hf_posmine.data.taken import taken_line
from hf_posmine.mining.near import NEAR_BOUND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from hf_posmine.core.types import Match, Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.lookalikes import Lookalikes
    from hf_posmine.data.qrels import Qrels
    from hf_posmine.mining.batch import RowReader
    from hf_posmine.mining.near import NearLookalikes


@dataclass(frozen=True)
class MinedData:
    """The columns and documents of a run, and how many of the known positives are among the documents.

    Attributes:
        query: column of the queries.
        positive: column of the positives' texts or ids; None where they come from judgements.
        positives: known positives, a query's each.
        in_corpus: those whose text (or id) is a candidate's.
        variants: of the others, those that differ from a candidate only by a title or invisible characters; None, like the
            counts below, where such candidates are not excluded.
        contained: those that a candidate contains.
        near: those that have a candidate with a cosine of at least 0.95; None if nobody compared them.
        unlike: those of the others that have none of these.
        crowded: those that too many candidates contain to exclude these.
        documents: candidates.
        corpus: columns that they came from; None for the positives themselves or texts without columns.
        own: whether the candidates are the positives themselves.
        bad_rows: rows without a query or a positive that were left out, by fault; None where they are an error.
        match: which texts count as the same.
        same: columns that documents may not share with a positive, and how many values each has; None without any.
    """

    query: str
    positive: str | None
    positives: int
    in_corpus: int
    variants: int | None
    contained: int | None
    near: int | None
    unlike: int | None
    crowded: int | None
    documents: int
    corpus: str | None
    own: bool
    bad_rows: Mapping[str, int] | None = None
    match: Match = "normalized"
    same: Mapping[str, int] | None = None

    @classmethod
    def of(cls, reader: RowReader, near: NearLookalikes | None) -> MinedData:
        """From what reads the rows, and the near duplicates that are excluded."""
        corpus, known = reader.corpus, reader.known
        codes = np.empty(0, np.int64) if known is None else known.rows[known.relevant]
        outside = codes[(codes < 0) | (codes >= corpus.num_candidates)]
        close = near.prepare() if near is not None and near.folder.is_dir() else None
        return cls(
            query=reader.query_column,
            positive=reader.positive_column or reader.positive_id_column,
            positives=len(codes),
            in_corpus=len(codes) - len(outside),
            **_forms(outside, reader.lookalikes, close),
            documents=corpus.num_candidates,
            corpus=None if corpus.columns is None else str(corpus.columns),
            own=_is_own(reader.qrels, corpus),
            bad_rows=None if reader.qrels is None or not reader.qrels.bad_rows else reader.qrels.bad_rows.counts,
            match=corpus.match,
            same={name: len(values.values) for name, values in reader.same.items()} or None,
        )

    def __str__(self) -> str:
        """The line that every run prints."""
        positive = self.positive or "by judgements"
        where = f"the {self.documents:,} positives" if self.own else f"{self.documents:,} documents"
        found = None if self.own else (self.in_corpus, self.positives)
        line = taken_line(self.query, positive, where, self.corpus, found)
        if self.match != "normalized":
            line += f" · texts match {self.match}"
        for name, values in (self.same or {}).items():
            line += f" · no negatives of the same {name} as a positive ({values:,} values)"
        if not self.bad_rows:
            return line
        counts = ", ".join(f"{count:,} with {fault}" for fault, count in self.bad_rows.items())
        return f"{line} · rows left out: {counts}"

    @property
    def notice(self) -> str | None:
        """A warning where the corpus lacks known positives: how many, in which form it has them, and the cure."""
        outside = self.positives - self.in_corpus
        if not outside or self.own:
            return None
        begin = f"{outside:,} of {self.positives:,} known positives are not documents of the corpus"
        cure = "to be exact, give the positives by the ids of the corpus (positive_id_column=)"
        if self.variants is None:
            return f"{begin}, and documents that hold them may be negatives (exclude_lookalikes=False); {cure}"
        near = "" if self.near is None else f", {self.near:,} have a document with a cosine of at least {NEAR_BOUND}"
        crowded = f" ({self.crowded:,} are in too many documents to exclude these)" if self.crowded else ""
        return (
            f"{begin}: {self.contained:,} are contained in a document{crowded}, {self.variants:,} of them differ only by a "
            f"title or invisible characters{near}, {self.unlike:,} are like none. Documents that hold a query's positive are "
            f"excluded for it unless exclude_lookalikes=False; {cure}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def _forms(outside: Rows, texts: Lookalikes | None, close: Lookalikes | None) -> dict[str, int | None]:
    """How many judgements outside the corpus are in it in each form."""
    if texts is None:
        return dict.fromkeys(("variants", "contained", "near", "unlike", "crowded"))
    variant, container = (np.isin(outside, texts.having(kind)) for kind in (VARIANT, CONTAINER))
    near = np.zeros(len(outside), bool) if close is None else np.isin(outside, close.having(NEAR))
    return {
        "variants": int(variant.sum()),
        "contained": int((variant | container).sum()),
        "near": None if close is None else int(near.sum()),
        "unlike": int((~(variant | container | near)).sum()),
        "crowded": int(np.isin(outside, texts.codes[texts.crowded]).sum()),
    }


def _is_own(known: Qrels | None, corpus: Corpus) -> bool:
    return known is not None and known.documents is not None and known.documents.fingerprint == corpus.fingerprint
