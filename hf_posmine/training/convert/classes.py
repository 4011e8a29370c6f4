"""Classification and clustering: texts of one class belong together (NV-Embed, arXiv 2405.17428, section 4.2)."""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np

from hf_posmine.core.check import whole
from hf_posmine.core.errors import ColumnError, InputError
from hf_posmine.data.texts import text_keys
from hf_posmine.training.convert.shared import (
    draw_different,
    first_of_each,
    label_names,
    not_blank,
    read_texts,
    read_whole,
    training_rows,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.core.types import Rows
    from hf_posmine.training.convert.shared import Converted

Positives: TypeAlias = Literal["auto", "label", "example"]
UNLABELLED = -1
WHY_WHOLE = "its documents are drawn from all rows of a class"
BINARY = 2


def labels_to_triples(
    dataset: Dataset,
    text: str = "text",
    label: str = "label",
    *,
    num_negatives: int = 1,
    positives: Positives = "auto",
    label_texts: Mapping[Any, str] | None = None,
    seed: int = 0,
) -> Converted:
    """Classified or clustered texts -> (query, positive, negatives), as NV-Embed's second stage (its section 4.2).

    The documents are ``example`` texts of the same and of other classes, or the ``label`` texts themselves. Two texts
    are the same under :func:`~hf_posmine.data.texts.normalize`: a document is never the query's own text, and never a text
    that stands in two classes. The negatives of a row differ from each other. Rows keep their order.

    Args:
        dataset: a Dataset; not a stream, since documents are drawn from the whole.
        text: column of the texts.
        label: column of the classes: ClassLabel, whole numbers or texts. None, NaN and -1 (also the noise of a
            clustering) mean unlabelled.
        num_negatives: n; at most the number of other classes with label texts, which have one document per class.
        positives: ``auto`` takes label texts for two classes and examples otherwise.
        label_texts: class -> the text that stands for it, by default its name.
        seed: of the draws.

    Raises:
        ColumnError: a column that is missing or holds something else, or a class without a name.
        InputError: fewer than two classes, or too few documents outside a class.
    """
    whole("num_negatives", num_negatives, least=1)
    if positives not in get_args(Positives):
        raise InputError(f"positives={positives!r}; choose one of {list(get_args(Positives))}")
    read = read_whole(dataset, [text, label], WHY_WHOLE)
    texts, names = read_texts(read, text), label_names(dataset, label)
    codes, classes = _codes(read[label], label, names)
    counts = {"rows_in": len(texts), "rows_out": 0}
    grouped = _group(texts, codes, counts)
    _check_several(grouped, classes, label)
    present = int((grouped.sizes > 0).sum())
    by_label = positives == "label" or (positives == "auto" and present == BINARY)
    if label_texts is not None and not by_label:
        raise InputError(
            f"label_texts has no effect on {present} classes with positives={positives!r}; use positives='label'"
        )
    rng = np.random.default_rng(seed)
    if by_label:
        of_labels = _label_texts(grouped, classes, names, label, label_texts)
        query, positive, negatives = _draw_labels(grouped, texts, of_labels, num_negatives, rng, counts)
        texts = [*texts, *of_labels]
    else:
        query, positive, negatives = _draw_examples(grouped, classes, num_negatives, rng, counts)
    return training_rows(texts, query, positive, negatives, counts)


@dataclass(frozen=True)
class _Grouped:
    """Labelled rows, and the distinct texts sorted by class.

    Attributes:
        rows: int64 ``[R]``, rows of the dataset that can be queries, in order.
        codes: int64 ``[R]``, their classes.
        places: int64 ``[R]``, the place of their own text in ``documents``.
        documents: int64 ``[N]``, the row of each distinct text, class after class.
        starts: int64 ``[C]``, where each class starts in ``documents``.
        sizes: int64 ``[C]``, how many distinct texts it has.
    """

    rows: Rows
    codes: Rows
    places: Rows
    documents: Rows
    starts: Rows
    sizes: Rows

    def keep(self, kept: np.ndarray) -> _Grouped:
        """Only some rows as queries; the documents stay."""
        return _Grouped(self.rows[kept], self.codes[kept], self.places[kept], self.documents, self.starts, self.sizes)


def _group(texts: Sequence[str], codes: Rows, counts: dict[str, int]) -> _Grouped:
    labelled = codes >= 0
    has_text = not_blank(texts)
    counts["dropped_unlabelled"] = int((~labelled).sum())
    counts["dropped_blank_text"] = int((labelled & ~has_text).sum())
    rows = np.flatnonzero(labelled & has_text)
    _, text_of_row = np.unique(text_keys(texts[i] for i in rows.tolist()), return_inverse=True)
    pairs = first_of_each(text_of_row * (codes.max(initial=0) + 1) + codes[rows])
    in_two = np.bincount(text_of_row[pairs], minlength=len(rows))[text_of_row] > 1
    counts["dropped_conflicting_labels"] = int(in_two.sum())
    rows, text_of_row = rows[~in_two], text_of_row[~in_two]
    first = first_of_each(text_of_row)
    first = first[np.argsort(codes[rows[first]], kind="stable")]
    place_of_text = np.zeros(int(text_of_row.max(initial=-1)) + 1, np.int64)
    place_of_text[text_of_row[first]] = np.arange(len(first))
    sizes = np.bincount(codes[rows[first]], minlength=int(codes.max(initial=-1)) + 1)
    return _Grouped(
        rows, codes[rows], place_of_text[text_of_row], rows[first], np.cumsum(sizes) - sizes, sizes.astype(np.int64)
    )


def _draw_examples(
    grouped: _Grouped, classes: Sequence[Any], n: int, rng: np.random.Generator, counts: dict[str, int]
) -> tuple[Rows, Rows, Rows]:
    """Another text of the class and n of other classes: draw as if the own place, or class, were not there, then shift."""
    alone = grouped.sizes[grouped.codes] == 1
    counts["dropped_single_member_class"] = int(alone.sum())
    grouped = grouped.keep(~alone)
    outside = len(grouped.documents) - grouped.sizes
    if not len(grouped.rows):
        raise InputError("no class has two different texts, so there is no positive; use positives='label'")
    least = int(grouped.codes[outside[grouped.codes].argmin()])
    if outside[least] < n:
        raise InputError(
            f"class {classes[least]!r} leaves {outside[least]} texts of other classes for num_negatives={n}; ask for "
            f"at most {outside[least]}"
        )
    sizes, starts = grouped.sizes[grouped.codes], grouped.starts[grouped.codes]
    positive = rng.integers(0, sizes - 1)
    positive += positive >= grouped.places - starts
    negatives = draw_different(rng, outside[grouped.codes], n)
    negatives += np.where(negatives >= starts[:, None], sizes[:, None], 0)
    return grouped.rows, grouped.documents[starts + positive], grouped.documents[negatives]


def _draw_labels(
    grouped: _Grouped,
    texts: Sequence[str],
    of_labels: list[str],
    n: int,
    rng: np.random.Generator,
    counts: dict[str, int],
) -> tuple[Rows, Rows, Rows]:
    """The text of the row's own label and n of the others, which follow the ``texts``."""
    is_label = np.isin(text_keys(texts[i] for i in grouped.rows.tolist()), text_keys(of_labels))
    counts["dropped_same_text"] = int(is_label.sum())
    grouped = grouped.keep(~is_label)
    place = np.cumsum(grouped.sizes > 0) - 1  # of a class among those that have rows
    own = place[grouped.codes]
    negatives = draw_different(rng, np.full(len(own), len(of_labels) - 1), min(n, len(of_labels) - 1))
    negatives += negatives >= own[:, None]
    return grouped.rows, len(texts) + own, len(texts) + negatives


def _codes(values: Sequence[Any], column: str, names: Sequence[str] | None) -> tuple[Rows, list[Any]]:
    """Classes as numbers in order of appearance, int64 ``[N]`` (-1 unlabelled), and what each stands for."""
    numbers_of: dict[Any, int] = {}
    codes = np.full(len(values), UNLABELLED, np.int64)
    for row, value in enumerate(values):
        plain = int(value) if isinstance(value, float) and value.is_integer() else value
        if plain is None or plain != plain or plain == UNLABELLED:  # noqa: PLR0124 - NaN
            continue
        if not isinstance(plain, (str, numbers.Integral)):
            raise ColumnError(
                f"column {column!r}, row {row}: expected a class (a whole number or a text), got {value!r} "
                f"({type(value).__name__}); for scores use the task 'sts'"
            )
        if names is not None and not 0 <= int(plain) < len(names):
            raise ColumnError(
                f"column {column!r}, row {row}: label {plain} is outside its {len(names)} names; mend the label or the names"
            )
        codes[row] = numbers_of.setdefault(plain, len(numbers_of))
    return codes, [names[int(value)] if names is not None else value for value in numbers_of]


def _check_several(grouped: _Grouped, classes: Sequence[Any], column: str) -> None:
    present = [name for name, size in zip(classes, grouped.sizes.tolist(), strict=False) if size]
    if len(present) < BINARY:
        there = f"only the class {present[0]!r}" if present else "no labelled text"
        raise InputError(f"column {column!r} has {there}; negatives need at least two classes")


def _label_texts(
    grouped: _Grouped, classes: Sequence[Any], names: Sequence[str] | None, column: str, given: Mapping[Any, str] | None
) -> list[str]:
    """The text of each class that has rows."""
    present = [name for name, size in zip(classes, grouped.sizes.tolist(), strict=True) if size]
    texts: list[str] = []
    for name in present:
        text: Any = name if given is None else given.get(name, given.get(str(name)))
        if given is not None and text is None and names is not None:
            text = given.get(names.index(name))
        if not isinstance(text, str) or not text.strip():
            raise ColumnError(
                f"column {column!r}: class {name!r} has no text; name it in label_texts={{{name!r}: '...'}}"
            )
        texts.append(text)
    for i, key in enumerate(keys := text_keys(texts).tolist()):
        if key in keys[:i]:
            raise InputError(
                f"the classes {present[keys.index(key)]!r} and {present[i]!r} have the same text {texts[i]!r}; tell them apart in "
                "label_texts"
            )
    return texts
