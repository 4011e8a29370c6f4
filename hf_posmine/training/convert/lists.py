"""Rows that already carry their negatives: judged lists (reranking), and what a miner made. Row by row, also as a stream."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from hf_posmine.core.check import whole
from hf_posmine.core.errors import ColumnError, InputError, ShortRowError
from hf_posmine.data.aliases import NEGATIVE_NAMES, named, names_an_id
from hf_posmine.data.columns import (
    check_texts,
    column_names,
    image_columns,
    iter_columns,
    require_column,
    text_of_record,
)
from hf_posmine.data.texts import normalize
from hf_posmine.mining.by_id import documents_by_id
from hf_posmine.training.convert.shared import Converted, converted, negative_columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from datasets import Dataset, IterableDataset

    from hf_posmine.data.corpus import Corpus


def reranking_to_rows(
    dataset: Dataset | IterableDataset,
    query: str = "query",
    positive: str = "positive",
    negative: str | None = None,
    *,
    num_negatives: int = 1,
) -> Converted:
    """Queries with judged lists -> one row per positive, with n of the query's negatives.

    The positives of a query take its negatives in turn, so that long lists are used. Rows with fewer than n are dropped
    and counted.

    Args:
        dataset: a Dataset or an IterableDataset.
        query: column of the queries.
        positive: column of the positives, texts or lists of texts.
        negative: column of the negatives, texts or lists of texts; by default found by name.
        num_negatives: n.

    Raises:
        ColumnError: a column that is missing or holds something else.
    """
    whole("num_negatives", num_negatives, least=1)
    column = negative or find_negatives(column_names(dataset))
    columns = (column,) if column else _numbered(column_names(dataset))
    return _convert(dataset, _Explode(query, positive, columns, num_negatives, strict=False))


def retrieval_to_rows(
    dataset: Dataset | IterableDataset,
    query: str = "query",
    positive: str = "positive",
    negatives: str | None = None,
    judged_positives: str | None = None,
    *,
    num_negatives: int = 1,
    scores: tuple[str, str] | None = None,
    corpus: Corpus | None = None,
) -> Converted:
    """Mined rows -> one row per positive, with the first n negatives in columns of their own.

    Args:
        dataset: a Dataset or an IterableDataset.
        query: column of the queries.
        positive: column of the positives, texts or images, or lists of them.
        negatives: column of the lists of negatives; by default ``negatives``, ``negative_1`` to ``negative_n``,
            ``negative``, ``neg`` or another usual name.
        judged_positives: column of lists of further positives: negatives that a judge relabelled.
        num_negatives: n; 0 for pairs that have in-batch negatives only.
        scores: columns of the positive's score and of the lists of the negatives' scores; then the rows have ``scores``, the
            positive's first, null where one of them is.
        corpus: the documents that columns of ids name, such as ``negatives_ids``.

    Raises:
        ColumnError: a column that is missing or holds something else, or scores of a row with several positives.
        ShortRowError: a row with fewer than n negatives that are neither its query nor its positive.
    """
    whole("num_negatives", num_negatives)
    columns = _negative_columns(column_names(dataset), negatives, num_negatives)
    return _convert(dataset, _Explode(query, positive, columns, num_negatives, True, scores, judged_positives, corpus))


@dataclass(frozen=True)
class _Explode:
    """A batch of rows with lists -> a batch of training rows; a callable for ``IterableDataset.map(with_indices=True)``."""

    query: str
    positive: str
    negatives: tuple[str, ...]
    num_negatives: int
    strict: bool
    scores: tuple[str, str] | None = None
    judged: str | None = None
    corpus: Corpus | None = None

    def __call__(self, batch: dict[str, list[Any]], rows: Sequence[int]) -> dict[str, list[Any]]:
        return self.explode(batch, rows[0] if rows else 0)[0]

    @property
    def _positives(self) -> list[str]:
        return [self.positive, *([] if self.judged is None else [self.judged])]

    @property
    def inputs(self) -> list[str]:
        return [self.query, *self._positives, *self.negatives, *(self.scores or ())]

    @property
    def outputs(self) -> list[str]:
        return ["query", "positive", *negative_columns(self.num_negatives), *(["scores"] if self.scores else [])]

    def explode(self, batch: dict[str, list[Any]], start: int) -> tuple[dict[str, list[Any]], dict[str, int]]:
        """The training rows of a batch, and its rows dropped by reason; ``start`` is its first row's number."""
        out: dict[str, list[Any]] = {name: [] for name in self.outputs}
        dropped = dict.fromkeys(("dropped_no_positive", "dropped_few_negatives"), 0)
        if self.corpus is not None:
            by_id = [column for column in (self.positive, *self.negatives) if names_an_id(column)]
            batch = {**batch, **{column: documents_by_id(self.corpus, batch[column], column) for column in by_id}}
        for offset, query in enumerate(check_texts(batch[self.query], self.query, start)):
            row = start + offset
            seen = {normalize(query), ""}
            labelled = [text for column in self._positives for text in _texts(batch[column][offset], column, row)]
            positives = _distinct(labelled, seen)
            given = [text for column in self.negatives for text in _texts(batch[column][offset], column, row)]
            negatives = _distinct(given, seen)
            if not positives:
                dropped["dropped_no_positive"] += 1
            elif len(negatives) < self.num_negatives:
                self._refuse_short(row, len(given), len(negatives))
                dropped["dropped_few_negatives"] += 1
            else:
                self._add(out, query, positives, negatives)
                if self.scores is not None:
                    self._refuse_several(row, len(positives))
                    out["scores"].append(self._scores_of(batch, offset, row, given, negatives))
        return out, dropped

    def _scores_of(
        self, batch: dict[str, list[Any]], offset: int, row: int, given: list[str], negatives: list[str]
    ) -> list[float] | None:
        """The scores of the positive and of the negatives that are taken; None where one is missing."""
        own, theirs = (batch[column][offset] for column in self.scores or ())
        if theirs is None or len(theirs) != len(given):
            raise ColumnError(
                f"column {self.scores[1]!r}, row {row}: {0 if theirs is None else len(theirs)} scores of {len(given)} negatives"  # type: ignore[index]
            )
        by_text = dict(zip(reversed(given), reversed(theirs), strict=True))
        taken = [own, *(by_text[text] for text in negatives[: self.num_negatives])]
        return None if None in taken else taken

    def _refuse_several(self, row: int, positives: int) -> None:
        if positives > 1:
            what = f", {self.judged} among them" * (self.judged is not None)
            raise ColumnError(
                f"row {row} has several positives{what}, and column {self.scores[0]!r} one score; leave scores out, mine one "  # type: ignore[index]
                "row for each positive" + ", or judged_positives: false" * (self.judged is not None)
            )

    def _add(self, out: dict[str, list[str]], query: str, positives: list[str], negatives: list[str]) -> None:
        n = self.num_negatives
        for turn, positive in enumerate(positives):
            taken = [negatives[(turn * n + i) % len(negatives)] for i in range(n)]
            for name, text in zip(out, (query, positive, *taken), strict=False):  # scores come behind
                out[name].append(text)

    def _refuse_short(self, row: int, given: int, usable: int) -> None:
        if self.strict:
            repeated = f", {given - usable} of them blank, repeated, or equal to the query or its positive" * (
                given > usable
            )
            raise ShortRowError(
                f"column {self.negatives[0]!r}, row {row}: {given} negatives{repeated}, for num_negatives={self.num_negatives}; "
                "mine with on_short='drop' or 'random', replace what a judge took (hf-posmine judge --top-up), or ask for fewer"
            )


def _convert(dataset: Dataset | IterableDataset, explode: _Explode) -> Converted:
    if isinstance(dataset, dict):
        raise InputError(f"expected one dataset, got the splits {list(dataset)}; pass one of them")
    names = column_names(dataset)
    for column in explode.inputs:
        require_column(names, column, "the")
        if explode.corpus is None and column in explode.negatives and names_an_id(column):
            raise ColumnError(f"column {column!r} holds ids; give the corpus with the documents that they name")
    if not isinstance(dataset, Sized):
        images = [name for name in image_columns(dataset.features or {}) if name in explode.inputs]
        if images:
            raise ColumnError(
                f"column {images[0]!r} holds images, which a stream cannot convert; load the data without streaming"
            )
        return Converted(_stream(dataset, explode, names))
    columns: dict[str, list[Any]] = {name: [] for name in explode.outputs}
    counts = {"rows_in": len(dataset), "rows_out": 0}
    if not len(dataset):
        raise InputError("the dataset has no rows")
    for start, batch in iter_columns(dataset, explode.inputs):
        exploded, dropped = explode.explode(batch, start)
        for name, texts in exploded.items():
            columns[name] += texts
        counts |= {reason: counts.get(reason, 0) + count for reason, count in dropped.items()}
    scores = columns.pop("scores", None)
    made = converted(columns, counts)
    if scores is None:
        return made
    import pyarrow as pa

    table = made.dataset.data.table.append_column("scores", pa.array(scores, pa.list_(pa.float64())))
    return replace(made, dataset=type(made.dataset)(table))


def _stream(dataset: Dataset | IterableDataset, explode: _Explode, names: list[str]) -> Any:
    import datasets

    kinds = dict.fromkeys(explode.outputs, datasets.Value("string"))
    features = datasets.Features(
        kinds | ({"scores": datasets.List(datasets.Value("float64"))} if explode.scores else {})
    )
    return dataset.map(explode, batched=True, with_indices=True, remove_columns=names, features=features)


def _negative_columns(names: Sequence[str], given: str | None, n: int) -> tuple[str, ...]:
    if n == 0:
        return ()
    column = given or find_negatives(names)
    if column is not None:
        return (column,)
    numbered = _numbered(names)
    if len(numbered) < n:
        raise ColumnError(
            f"num_negatives={n}, but the dataset has only {list(numbered)}; ask for at most {len(numbered)}"
        )
    return numbered[:n]


def _numbered(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(takewhile(lambda name: name in names, negative_columns(len(names))))


def find_negatives(names: Sequence[str], taken: Sequence[str] = ()) -> str | None:
    """The one column with negatives, by name; None where they are in ``negative_1`` to ``negative_n``.

    Raises:
        ColumnError: none, or several.
    """
    usual = [name for name in NEGATIVE_NAMES if not names_an_id(name)]
    found = [name for name in named(names, usual) if name not in taken]
    numbered = _numbered(names)
    if not found and not numbered and "negatives_ids" in names:  # the miner's name for documents by id
        return "negatives_ids"
    if len(found) + bool(numbered) != 1:
        several = f"several columns ({', '.join([*found, *numbered[:1]])})"
        what = several if found else "no column"
        raise ColumnError(f"{what} with negatives among {list(names)}; mine them, or name one with negatives=...")
    return found[0] if found else None


def _texts(value: object, column: str, row: int) -> list[str]:
    """A text, a list of texts or None as a list."""
    if value is None:
        return []
    several = [text_of_record(member) for member in (value if isinstance(value, (list, tuple)) else [value])]
    for text in several:
        check_texts([text], column, row)
    return several


def _distinct(texts: Sequence[str], seen: set[str]) -> list[str]:
    """The texts that are not in ``seen``, to which they are added."""
    new = []
    for text in texts:
        normalized = normalize(text)
        if normalized not in seen:
            seen.add(normalized)
            new.append(text)
    return new
