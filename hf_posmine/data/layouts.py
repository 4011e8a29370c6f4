"""The part of each column: by known layouts first, then by names, then as the only text column left."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hf_posmine.core.errors import ColumnError
from hf_posmine.data import aliases
from hf_posmine.data.columns import column_names, require_column, splits_of
from hf_posmine.data.images import is_image

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets import Dataset, IterableDataset

    from hf_posmine.data.columns import AnyDataset

Kind: TypeAlias = Literal["text", "texts", "image", "images", "records", "id records", "other"]
SAMPLE_ROWS = 200
FEW = 10
"""So many rows or more per distinct value make short texts look like labels."""
LABEL_LENGTH = 30


@dataclass(frozen=True)
class Layout:
    """A layout that is known by its columns.

    Attributes:
        name: whose it is.
        query: column of the queries.
        positive: column of the positives.
        without: columns that a row of another layout would have.
    """

    name: str
    query: str
    positive: str
    without: tuple[str, ...] = ()

    def columns(self, names: Sequence[str]) -> tuple[str, str] | None:
        """Its query and positive columns among ``names``."""
        query, positive = (aliases.first_named(names, [name]) for name in (self.query, self.positive))
        if query is None or positive is None or aliases.named(names, self.without):
            return None
        return query, positive


LAYOUTS = (
    Layout("tevatron", "query", "positive_passages"),
    Layout("NeMo Retriever", "question", "pos_doc"),
    Layout("NeMo", "query", "pos_doc"),
    Layout("FlagEmbedding", "query", "pos"),
    Layout("sentence-transformers", "anchor", "positive"),
    Layout("MS MARCO triples", "query", "positive"),
    Layout("SQuAD", "question", "context", without=("answer", "positive", "passage", "query")),
    Layout("Alpaca", "instruction", "output", without=("query", "question")),
    Layout("Dolly", "instruction", "response", without=("query", "question")),
    Layout("prompt and completion", "prompt", "completion", without=("query", "question")),
    Layout("prompt and response", "prompt", "response", without=("query", "question")),
    Layout("NLI", "premise", "hypothesis"),
    *(Layout("pairs", f"{stem}1", f"{stem}2") for stem in ("sentence", "text", "question", "title", "caption")),
    Layout("pairs", "sentence_a", "sentence_b"),
    Layout("translations", "source", "target"),
)  # fmt: skip


@dataclass(frozen=True)
class DatasetColumns:
    """The columns of a dataset as far as picking needs them: names and kinds, and some rows if it comes to that."""

    dataset: Any

    @cached_property
    def names(self) -> list[str]:
        """In order."""
        return column_names(self.dataset)

    @cached_property
    def kinds(self) -> dict[str, Kind]:
        """The kind of each column, by the features or else by the first row."""
        first = splits_of(self.dataset)[0]
        if first.features is not None:
            return {name: _kind_of_feature(feature) for name, feature in first.features.items()}
        row: dict[str, Any] = next(iter(first), {})
        return {name: _kind_of_value(value) for name, value in row.items()}

    @cached_property
    def sample(self) -> dict[str, list[Any]]:
        """The first rows."""
        first = splits_of(self.dataset)[0]
        plain = first.with_format(None)
        return next(iter(plain.iter(batch_size=SAMPLE_ROWS)), {name: [] for name in self.names})

    def of_kind(self, *kinds: Kind) -> list[str]:
        """The columns of some kinds, in order."""
        return [name for name in self.names if self.kinds.get(name) in kinds]

    def free_texts(self, taken: Sequence[str | None] = ()) -> list[str]:
        """Columns of texts that look like neither ids, labels, constants nor negatives."""
        return [name for name in self.of_kind("text") if name not in taken and not self._describes(name)]

    def free(self, taken: Sequence[str | None] = ()) -> list[str]:
        """The same and columns of images behind them."""
        images = [name for name in self.of_kind("image") if name not in taken]
        return [*self.free_texts(taken), *(n for n in images if not n.startswith(("negative", "neg_")))]

    def _describes(self, name: str) -> bool:
        """Whether a column describes the row: an id, a label or a constant."""
        if aliases.names_an_id(name) or aliases.named([name], (*aliases.LABEL_NAMES, *aliases.NEGATIVE_NAMES)):
            return True
        if name.startswith(("negative", "neg_")):
            return True
        values = [value for value in self.sample[name] if isinstance(value, str)]
        distinct = set(values)
        if len(values) > 1 and len(distinct) == 1:
            return True
        short = all(len(value) <= LABEL_LENGTH for value in distinct)
        return short and (len(values) >= FEW * max(1, len(distinct)) or _all_codes(values))


def _all_codes(values: Sequence[str]) -> bool:
    """Whether all values are codes such as ``d17``: no white space, and a digit in each."""
    return len(values) > 1 and all(
        value.isascii() and not any(map(str.isspace, value)) and any(map(str.isdigit, value)) for value in values
    )


def pick_columns(
    dataset: AnyDataset, query: str | None, positive: str | None, positive_id: str | None
) -> tuple[str, str | None, str | None]:
    """The query, positive-text and positive-id columns: as given, by a known layout, by name, or the only texts left.

    Raises:
        ColumnError: a column that is missing, or several that could be meant; the message names them.
    """
    columns = DatasetColumns(dataset)
    names = columns.names
    if positive and positive_id:
        raise ColumnError(f"give positive_column={positive!r} or positive_id_column={positive_id!r}, not both")
    for column, what in ((query, "query"), (positive, "positive"), (positive_id, "positive id")):
        if column:
            require_column(names, column, what)
    if not query and not positive and not positive_id:
        known = _known_layout(columns)
        if known is not None:
            return known
    query = query or aliases.only_named(columns.of_kind("text", "image"), aliases.QUERY_NAMES, "query", "query_column")
    if not positive and not positive_id:
        positive, positive_id = _positive_by_name(columns, query)
    if not query or not (positive or positive_id):
        query, positive = _only_texts_left(columns, query, positive, positive_id)
    return query, positive, positive_id


def _known_layout(columns: DatasetColumns) -> tuple[str, str | None, str | None] | None:
    usable = [*columns.of_kind("text", "image"), *columns.of_kind("texts", "images", "records", "id records")]
    if any(len(aliases.named(usable, wanted)) > 1 for wanted in (aliases.QUERY_NAMES, aliases.POSITIVE_NAMES)):
        return None  # ambiguous, which picking by name reports
    for layout in LAYOUTS:
        found = layout.columns(usable)
        if found is not None and columns.kinds[found[0]] in ("text", "image"):
            query, positive = found
            return (query, None, positive) if columns.kinds[positive] == "id records" else (query, positive, None)
    return None


def _positive_by_name(columns: DatasetColumns, query: str | None) -> tuple[str | None, str | None]:
    """A column named positive, else one of positive ids, else an answer or document, else one of document ids."""
    texts = [name for name in columns.of_kind("text", "texts", "image", "images", "records") if name != query]
    ids = [name for name in columns.names if name != query and name not in columns.of_kind("records")]
    positive = aliases.only_named(texts, aliases.POSITIVE_NAMES, "positive", "positive_column")
    if positive:
        return positive, None
    positive_id = aliases.only_named(ids, aliases.POSITIVE_ID_NAMES, "positive id", "positive_id_column")
    if positive_id:
        return None, positive_id
    if query is None:
        return None, None  # what to a query would be an answer may be a document or a query itself
    positive = aliases.only_named(texts, aliases.REPLY_NAMES, "positive", "positive_column")
    if positive:
        return positive, None
    return None, aliases.only_named(ids, aliases.DOCUMENT_ID_NAMES, "positive id", "positive_id_column")


def _only_texts_left(
    columns: DatasetColumns, query: str | None, positive: str | None, positive_id: str | None
) -> tuple[str, str | None]:
    """The query and the positive by elimination, in order."""
    left = columns.free((query, positive, positive_id))
    wanted = ["query"] * (query is None) + ["positive"] * (positive is None and positive_id is None)
    if query is None and positive is None:
        _refuse_other_tables(columns)
    if len(left) > len(wanted):
        raise ColumnError(
            f"several columns could be the {wanted[0]}: {left}; name them with "
            f"{' and '.join(f'{part}_column=...' for part in wanted)}"
        )
    unfit = aliases.first_named(columns.names, aliases.QUERY_NAMES)
    if wanted == ["query"] and not left and unfit is not None:
        return unfit, positive  # of another type, which reading it reports
    if len(left) < len(wanted):
        part = wanted[len(left)]
        raise ColumnError(
            f"no {part} column found among {columns.names}; name it with {part}_column=...{_other_delimiter(columns.names)}"
        )
    roles = dict(zip(wanted, left, strict=True))
    return query or roles["query"], positive or roles.get("positive")


def _other_delimiter(names: Sequence[str]) -> str:
    """The cure where the only column is a header that was not split."""
    (name,) = names if len(names) == 1 else ("",)
    found = next((mark for mark in (";", "\t", "|") if mark in name), None)
    return (
        ""
        if found is None
        else f", or is the file separated by {found!r}? .csv is read by commas, .tsv by tabs; convert it"
    )


def _refuse_other_tables(columns: DatasetColumns) -> None:
    """A corpus or judgements in the place of pairs.

    Raises:
        ColumnError: the columns are those of another table.
    """
    names = columns.names
    ids = aliases.named(names, aliases.ID_NAMES)
    if aliases.named(names, aliases.JUDGED_QUERY_NAMES[:4]) and aliases.named(names, aliases.DOCUMENT_ID_NAMES):
        raise ColumnError(
            f"the columns {names} are judgements, without texts; pass the folder with corpus, queries and qrels"
        )
    if ids and aliases.named(columns.of_kind("text", "texts"), aliases.TEXT_NAMES):
        raise ColumnError(
            f"the columns {names} are those of a corpus, not of queries with positives; pass it as corpus=, or name "
            "query_column= and positive_column="
        )


@dataclass(frozen=True)
class CorpusColumns:
    """The columns of a corpus.

    Attributes:
        text: the texts.
        id: the ids; None for row numbers.
        title: put before the text; None for none.
        image: images that are a document together with the text, or alone if they are the text; None to read that off the
            type of the text.
    """

    text: str
    id: str | None = None
    title: str | None = None
    image: str | None = None

    def __str__(self) -> str:
        by = f"by {self.id}" if self.id else "by row number"
        parts = dict.fromkeys(name for name in (self.image, self.title, self.text) if name)
        return f"{by} ({' + '.join(parts)})"


def corpus_columns(
    dataset: AnyDataset,
    text: str | None = None,
    id: str | None = None,
    title: str | None = None,
    image: str | None = None,
) -> CorpusColumns:
    """The columns of a corpus: as given, else by their usual names; "" for no id or no title.

    A title is looked for only where the text is, too: who names the text gets that column alone. Images are documents by
    themselves unless both columns are named.

    Raises:
        ColumnError: a column that is missing, or several that could be the text.
    """
    columns = DatasetColumns(dataset)
    for column, what in ((text, "text"), (id, "id"), (title, "title"), (image, "image")):
        if column:
            require_column(columns.names, column, what)
    found = text or image or _corpus_text(columns, (id, title))
    if id is None:
        id = aliases.first_named((name for name in columns.names if name != found), aliases.ID_NAMES)
    if title is None and not text and not image:
        texts = [n for n in columns.of_kind("text") if n != found and columns.kinds.get(found) != "image"]
        title = aliases.first_named(texts, aliases.TITLE_NAMES)
    return CorpusColumns(found, id or None, title or None, image or None)


def source_column(dataset: AnyDataset, columns: CorpusColumns) -> str | None:
    """The column of a corpus that by its name holds the source document of each chunk; None for none, or without ids of chunks."""
    splits = splits_of(dataset)
    names = [
        name
        for name in column_names(dataset)
        if name not in (columns.id, columns.text) and all(_names_groups(split, name) for split in splits)
    ]
    return aliases.first_named(names, aliases.SOURCE_NAMES)


def _names_groups(split: Dataset | IterableDataset, name: str) -> bool:
    """Whether a split has a column of texts or numbers."""
    if name not in column_names(split):
        return False
    if split.features is None:
        return True
    from datasets import Value

    feature, plain = split.features[name], ("string", "large_string", "int", "uint", "float")
    return isinstance(feature, Value) and feature.dtype.startswith(plain)


def _corpus_text(columns: DatasetColumns, taken: Sequence[str | None]) -> str:
    usable = [name for name in columns.of_kind("text", "texts") if name not in taken]
    found = aliases.named(usable, aliases.TEXT_NAMES)
    if found and aliases.plain(found[0]) == aliases.TEXT_NAMES[0]:
        return found[0]
    if len(found) > 1:
        raise ColumnError(f"several columns could be the text of the corpus: {found}; name one with text=...")
    left = found or columns.of_kind("image")
    left = left or [n for n in columns.free_texts(taken) if not aliases.named([n], aliases.TITLE_NAMES)]
    left = left or [n for n in columns.of_kind("texts") if not aliases.names_an_id(n)]
    left = left or aliases.named(columns.names, aliases.TEXT_NAMES[:1])  # of another type, which reading it reports
    if len(left) == 1:
        return left[0]
    if left:
        raise ColumnError(f"several columns could be the text of the corpus: {left}; name one with text=...")
    raise ColumnError(f"no column with the texts of a corpus among {columns.names}; name one with text=...")


def query_columns(names: Sequence[str], images: Sequence[str] = ()) -> tuple[str, str]:
    """The id and text columns of a table of queries; where no column is named as a text, the only one of images."""
    identifier = aliases.required_named(names, aliases.QUERY_ID_NAMES, "query ids")
    rest = [name for name in names if name != identifier]
    if len(images) == 1 and aliases.first_named(rest, aliases.QUERY_TEXT_NAMES) is None:
        return identifier, images[0]
    return identifier, aliases.required_named(rest, aliases.QUERY_TEXT_NAMES, "query texts")


def judgement_columns(names: Sequence[str]) -> tuple[str, str, str | None]:
    """The query-id, document-id and score columns of judgements; without scores every row is relevant."""
    query = aliases.required_named(names, aliases.JUDGED_QUERY_NAMES, "query ids")
    rest = [name for name in names if name != query]
    document = aliases.required_named(rest, aliases.JUDGED_DOCUMENT_NAMES, "document ids")
    return query, document, aliases.first_named((n for n in rest if n != document), aliases.SCORE_NAMES)


def _kind_of_feature(feature: object) -> Kind:
    from datasets import Image, LargeList, List, Value

    if isinstance(feature, Image):
        return "image"
    if isinstance(feature, Value):
        return "text" if feature.dtype in ("string", "large_string", "string_view") else "other"
    if isinstance(feature, (List, LargeList)) or (isinstance(feature, list) and len(feature) == 1):
        inner = feature[0] if isinstance(feature, list) else feature.feature
        if isinstance(inner, dict):
            return _kind_of_record(list(inner), lambda name: _kind_of_feature(inner[name]))
        kinds: dict[Kind, Kind] = {"text": "texts", "image": "images"}
        return kinds.get(_kind_of_feature(inner), "other")
    return "other"


def _kind_of_value(value: object) -> Kind:
    if isinstance(value, str):
        return "text"
    if is_image(value):
        return "image"
    if isinstance(value, (list, tuple)) and value:
        if is_image(value[0]):
            return "images"
        if isinstance(value[0], dict):
            return _kind_of_record(list(value[0]), lambda name: _kind_of_value(value[0][name]))
        return "texts" if isinstance(value[0], str) else "other"
    return "other"


def _kind_of_record(names: Sequence[str], kind: Callable[[str], Kind]) -> Kind:
    """Records with texts, such as tevatron's passages, or with ids alone, such as NeMo's."""
    text = aliases.first_named(names, aliases.TEXT_NAMES)
    if text is not None and kind(text) == "text":
        return "records"
    return "id records" if aliases.named(names, aliases.ID_NAMES) else "other"
