"""Training rows of other tools, each read into one view, and written back in the layout they came in."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from hf_posmine.core.errors import ColumnError
from hf_posmine.data import aliases
from hf_posmine.data.columns import id_of_record, require_column, text_of_record
from hf_posmine.data.images import UnreadableImage

Row: TypeAlias = Mapping[str, Any]
POSITIVE_LABEL = 0.5
"""Labels and graded scores from here on mark a positive: 1 of 0 and 1, any grade above 0, the upper half of 0 to 1."""
POSITIVE_SCORES = ("pos_scores", "positive_score", "positive_scores", "pos_score")
NEGATIVE_SCORES = ("neg_scores", "negatives_scores", "negative_scores", "neg_score")
DOCUMENT_LISTS = ("documents", "document_ids", "docs", "passages", "texts")
QUERIES = (*aliases.QUERY_NAMES, "query_id", "queries")
SPECIAL = ("instruction", "prompt")


@dataclass(slots=True)
class RowView:
    """One training row, whatever its layout.

    Attributes:
        query: its text.
        positives: texts.
        negatives: texts, in the order of the layout.
        positive_scores: of the positives; None where the layout has none.
        negative_scores: of the negatives; None where the layout has none.
    """

    query: str
    positives: list[str]
    negatives: list[str]
    positive_scores: list[Any] | None = None
    negative_scores: list[Any] | None = None


@dataclass(frozen=True)
class AddedDocument:
    """A new negative.

    Attributes:
        id: in its corpus.
        text: as the corpus has it.
    """

    id: str
    text: str


class RowLayout(Protocol):
    """How the columns of a row make a query, positives and negatives."""

    @property
    def name(self) -> str:
        """The tool whose layout it is."""

    @property
    def one_document(self) -> bool:
        """Whether a row holds one document with a label, so that a query takes several rows."""

    @property
    def by_id(self) -> bool:
        """Whether documents are ids, whose texts are elsewhere."""

    @property
    def negatives_by_id(self) -> bool:
        """Whether negatives are ids, and positives are not."""

    def read(self, row: Row) -> RowView:
        """The view of a row."""

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """The row without some of its negatives and with new ones; None where the layout leaves nothing of it."""

    def describe(self) -> str:
        """The columns, for the line that is printed."""


@dataclass(frozen=True)
class ListColumns:
    """Positives and negatives in lists of texts, records or ids: FlagEmbedding, Tevatron, NeMo, and mined rows."""

    name: str
    query: str
    positive: str
    negatives: str
    positive_scores: str | None = None
    negative_scores: str | None = None
    one_document: bool = False
    by_id: bool = False
    negatives_by_id: bool = False

    def read(self, row: Row) -> RowView:
        """The view of a row."""
        return RowView(
            as_text(row[self.query]),
            as_texts(row[self.positive]),
            as_texts(row[self.negatives]),
            _listed(row, self.positive_scores),
            _listed(row, self.negative_scores),
        )

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """The row with other lists; columns beside the negatives, such as their ids, change with them."""
        length = len(row[self.negatives] or ())
        beside = [name for name in row if name != self.positive and self._goes_along(name, row, length)]
        likes = {name: (row[name] or as_list(row[self.positive]) or [""])[0] for name in {*beside, self.negatives}}
        lists = {name: _shorter(row[name] or [], gone) for name in likes}
        return dict(row) | {
            name: [*members, *(_member(one, likes[name], ids=self.by_id or aliases.names_an_id(name)) for one in new)]
            for name, members in lists.items()
        }

    def _goes_along(self, name: str, row: Row, length: int) -> bool:
        return isinstance(row[name], list) and len(row[name]) == length and name.startswith(self.negatives[:3])

    def describe(self) -> str:
        """The columns."""
        return f"query {self.query!r}, positives {self.positive!r}, negatives {self.negatives!r}"


@dataclass(frozen=True)
class TupleColumns:
    """A column for each text: triplets, n-tuples and MS MARCO's triples, also with a list of scores."""

    name: str
    query: str
    positive: str
    negatives: tuple[str, ...]
    scores: str | None = None
    one_document: bool = False
    by_id: bool = False
    negatives_by_id: bool = False

    def read(self, row: Row) -> RowView:
        """The view of a row; a negative that is None is not there."""
        scores = _listed(row, self.scores)
        negatives = [as_text(row[name]) for name in self.negatives if row[name] is not None]
        if scores is None:
            return RowView(as_text(row[self.query]), [as_text(row[self.positive])], negatives)
        return RowView(as_text(row[self.query]), [as_text(row[self.positive])], negatives, scores[:1], scores[1:])

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """New texts in the place of those that go; nothing with fewer, as a trainer needs every column of an n-tuple."""
        there = [name for name in self.negatives if row[name] is not None]
        free = [there[place] for place in sorted(gone)] + [name for name in self.negatives if row[name] is None]
        if len(new) < len(gone):
            return None
        return dict(row) | {name: one.text for name, one in zip(free, new, strict=False)}

    def describe(self) -> str:
        """The columns."""
        first, last = self.negatives[0], self.negatives[-1]
        shown = repr(first) if first == last else f"{first!r} to {last!r}"
        return f"query {self.query!r}, positive {self.positive!r}, negatives {shown}"


@dataclass(frozen=True)
class PairColumns:
    """One document a row, with a label or a score."""

    name: str
    query: str
    document: str
    label: str
    one_document: bool = True
    by_id: bool = False
    negatives_by_id: bool = False

    def read(self, row: Row) -> RowView:
        """The view of a row: a positive or a negative."""
        document, label = [as_text(row[self.document])], row[self.label]
        positive = isinstance(label, (int, float)) and label >= POSITIVE_LABEL
        query = as_text(row[self.query])
        return RowView(query, document, []) if positive else RowView(query, [], document)

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """Nothing, if its document is to go."""
        return None if gone else dict(row)

    def describe(self) -> str:
        """The columns."""
        return (
            f"query {self.query!r}, document {self.document!r}, label {self.label!r} "
            f"(a positive from {POSITIVE_LABEL} on)"
        )


@dataclass(frozen=True)
class LabelledLists:
    """All documents of a query in one list, with a list of labels; without labels the first is the positive (PyLate)."""

    name: str
    query: str
    documents: str
    labels: str | None
    scores: str | None = None
    one_document: bool = False
    by_id: bool = False
    negatives_by_id: bool = False

    def read(self, row: Row) -> RowView:
        """The view of a row."""
        texts, positive, scores = as_texts(row[self.documents]), self._positive(row), _listed(row, self.scores)
        view = RowView(as_text(row[self.query]), _chosen(texts, positive, True), _chosen(texts, positive, False))
        if scores is not None:
            view.positive_scores = _chosen(scores, positive, True)
            view.negative_scores = _chosen(scores, positive, False)
        return view

    def exchange(self, row: Row, gone: Collection[int], new: Sequence[AddedDocument] = ()) -> dict[str, Any] | None:
        """The row with other lists; new documents have the label of the other negatives, or 0."""
        places = [place for place, positive in enumerate(self._positive(row)) if not positive]
        taken = {places[number] for number in gone}
        lists = {name: _shorter(row[name], taken) for name in (self.documents, self.labels, self.scores) if name}
        like = (row[self.documents] or [""])[0]
        lists[self.documents] += [_member(one, like, ids=self.by_id) for one in new]
        if self.labels:
            lists[self.labels] += [row[self.labels][places[0]] if places else 0] * len(new)
        return dict(row) | lists

    def _positive(self, row: Row) -> list[bool]:
        if self.labels is None:
            return [place == 0 for place in range(len(row[self.documents] or ()))]
        return [isinstance(label, (int, float)) and label >= POSITIVE_LABEL for label in row[self.labels] or ()]

    def describe(self) -> str:
        """The columns."""
        by = f"labels {self.labels!r}" if self.labels else "the first is the positive"
        return f"query {self.query!r}, documents {self.documents!r} ({by})"


def as_text(value: object) -> str:
    """A cell, or a record such as Tevatron's, as a text; "" for None."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        text = text_of_record(value)
        value = id_of_record(value) if isinstance(text, Mapping) else text
    return "" if value is None or isinstance(value, UnreadableImage) else str(value)


def as_texts(value: object) -> list[str]:
    """A cell with a text, a list of texts or a list of records."""
    if isinstance(value, str):
        return [value]
    if value is None:
        return []
    if isinstance(value, (list, tuple)):
        return [member if isinstance(member, str) else as_text(member) for member in value]  # most are
    return [as_text(value)]


def _chosen(members: Sequence[Any], positive: Sequence[bool], wanted: bool) -> list[Any]:
    return [member for member, is_positive in zip(members, positive, strict=False) if is_positive == wanted]


def _shorter(members: Sequence[Any], gone: Collection[int]) -> list[Any]:
    return [member for place, member in enumerate(members) if place not in gone]


def as_list(value: object) -> list[Any]:
    """A cell as a list."""
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _member(added: AddedDocument, like: object, *, ids: bool) -> Any:
    """A new negative as the others are written: a text, an id, or a record with the same fields."""
    if not isinstance(like, Mapping):
        return added.id if ids else added.text
    text = aliases.first_named(like, aliases.TEXT_NAMES)
    identifier = aliases.first_named(like, aliases.ID_NAMES)
    return {name: added.text if name == text else added.id if name == identifier else "" for name in like}


def _listed(row: Row, column: str | None) -> list[Any] | None:
    value = row[column] if column else None
    return None if value is None else as_list(value)


@dataclass(frozen=True)
class SampledColumns:
    """The columns of a table and the first value of each that is not empty."""

    names: tuple[str, ...]
    values: Row

    @classmethod
    def of(cls, rows: Sequence[Row]) -> SampledColumns:
        """From the first rows."""
        names = tuple(dict.fromkeys(name for row in rows for name in row))
        values = {name: next((row[name] for row in rows if row.get(name) not in (None, [])), None) for name in names}
        return cls(names, values)

    def named(self, wanted: Sequence[str], *kinds: type) -> str | None:
        """The column that bears the first of the names, among those whose values are of one of the kinds."""
        return aliases.first_named((n for n in self.names if not kinds or isinstance(self.values[n], kinds)), wanted)

    def numbers(self, wanted: Sequence[str]) -> str | None:
        """The column of numbers that bears the first of the names."""
        return self.named(wanted, int, float, bool)

    def free(self, *taken: str | None) -> list[str]:
        """Columns of texts that no part uses, neither ids nor labels."""
        return [
            name
            for name, value in self.values.items()
            if isinstance(value, str) and name not in taken and not _describes(name)
        ]


def _describes(name: str) -> bool:
    return aliases.names_an_id(name) or bool(aliases.named([name], (*aliases.LABEL_NAMES, *SPECIAL)))


@dataclass(frozen=True)
class NamedColumns:
    """Columns that the user named; None for those to be found."""

    query: str | None = None
    positive: str | None = None
    negatives: str | None = None


def layout_of(rows: Sequence[Row], given: NamedColumns | None = None) -> RowLayout:
    """The layout of a table from its first rows.

    Raises:
        ColumnError: none that is known, with the columns that are there.
    """
    columns, given = SampledColumns.of(rows), given or NamedColumns()
    for name in (given.query, given.positive, given.negatives):
        if name:
            require_column(columns.names, name, "the")
    for find in FINDERS:
        found = find(columns, given)
        if found is not None:
            return found
    raise ColumnError(
        f"no training layout is known with the columns {list(columns.names)}; rows have a query with a positive and "
        "negatives (lists, or a column each), with documents and labels, or with one document and a label; name "
        "--query-column, --positive-column and --negatives-column"
    )


def _lists(columns: SampledColumns, given: NamedColumns) -> RowLayout | None:
    negatives = given.negatives or columns.named((*aliases.NEGATIVE_NAMES, "negatives_ids"), list)
    if negatives is None or not (isinstance(columns.values[negatives], list) or columns.values[negatives] is None):
        return None
    query, positive = _query_and_positive(columns, given, negatives)
    if query is None or positive is None:
        return None
    scores = (columns.named(POSITIVE_SCORES), columns.named(NEGATIVE_SCORES))
    ids = _holds_ids(columns.values[negatives], negatives)
    by_id = ids and _holds_ids(columns.values[positive], positive)
    named = _tool(negatives, positive), query, positive, negatives
    return ListColumns(*named, *scores, by_id=by_id, negatives_by_id=ids and not by_id)


def _holds_ids(value: object, column: str) -> bool:
    """Whether a cell holds ids rather than texts: by the name of its column, or records without a text."""
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    record = isinstance(first, Mapping) and isinstance(text_of_record(first), Mapping)
    return record or (not isinstance(first, Mapping) and aliases.names_an_id(column))


def _tool(negatives: str, positive: str) -> str:
    names = {
        "neg": "FlagEmbedding",
        "negative_passages": "Tevatron",
        "neg_doc": "NeMo",
        "negatives": "mined rows",
        "negatives_ids": "mined rows",
    }
    return names.get(negatives, f"lists of {positive!r} and {negatives!r}")


def _tuples(columns: SampledColumns, given: NamedColumns) -> RowLayout | None:
    numbered = [n for n in columns.names if re.fullmatch(r"neg(ative)?_?\d+", n)]
    one = given.negatives or columns.named(aliases.NEGATIVE_NAMES, str)
    negatives = tuple(sorted(numbered, key=lambda n: int(re.sub(r"\D", "", n)))) or ((one,) if one else ())
    if not negatives:
        return None
    query, positive = _query_and_positive(columns, given, *negatives)
    if query is None or positive is None:
        return None
    scores = columns.named(("scores", "labels", "label", "score"), list)
    return TupleColumns("triplets" if len(negatives) == 1 else "n-tuples", query, positive, negatives, scores)


def _labelled_lists(columns: SampledColumns, given: NamedColumns) -> RowLayout | None:
    query = given.query or columns.named(QUERIES)
    documents = columns.named(DOCUMENT_LISTS, list)
    labels, scores = columns.named(("labels", "label"), list), columns.named(("scores", "score"), list)
    if query is None or documents is None or (labels is None and scores is None):
        return None
    name = "labelled lists" if labels else "PyLate"
    by_id = _holds_ids(columns.values[documents], documents)
    return LabelledLists(name, query, documents, labels, scores, by_id=by_id)


def _pairs(columns: SampledColumns, given: NamedColumns) -> RowLayout | None:
    label = columns.numbers(aliases.SCORE_NAMES) or columns.numbers(("labels", "similarity"))
    query, document = _query_and_positive(columns, given)
    if label is None or query is None or document is None:
        return None
    scored = isinstance(columns.values[label], float)
    return PairColumns("scored pairs" if scored else "labelled pairs", query, document, label)


def _query_and_positive(columns: SampledColumns, given: NamedColumns, *taken: str) -> tuple[str | None, str | None]:
    """By name, else in the order of the columns, as sentence-transformers reads them."""
    query = given.query or columns.named(QUERIES[:-2], str)
    positive = given.positive or columns.named(aliases.POSITIVE_NAMES)
    positive = positive or columns.named(aliases.POSITIVE_ID_NAMES)
    left = columns.free(query, positive, *taken)
    query = query or (left.pop(0) if left else None)
    return query, positive or (left.pop(0) if left else None)


FINDERS: tuple[Callable[[SampledColumns, NamedColumns], RowLayout | None], ...] = (
    _labelled_lists, _lists, _tuples, _pairs,
)  # fmt: skip
