"""Several data sets made ready to train on together: one converter, instruction and in-batch switch for each.

Every dataset of a blend has the columns ``query``, ``positive`` (``positive_2`` and so on where rows have several), ``negative_1``
to ``negative_n``; unless its instruction is empty the constant ``query_instruction``, with ``positive_instruction`` and
``negative_1_instruction`` to ``negative_n_instruction`` where it is symmetric; and the constant ``in_batch_negatives``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.check import whole
from hf_posmine.core.errors import InputError
from hf_posmine.data.images import NamedImage
from hf_posmine.training.collator import positive_columns, text_columns
from hf_posmine.training.convert.images import all_images, with_images
from hf_posmine.training.convert.shared import negative_columns
from hf_posmine.training.dataset_rows import rows_of
from hf_posmine.training.dataset_spec import DatasetSpec
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from datasets import Dataset

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.training.role_columns import RoleColumns

SAMPLED_ROWS = 2000
"""Rows from which the mean number of words is estimated."""


@dataclass(frozen=True)
class Blend:
    """Data sets ready to train on.

    Attributes:
        datasets: a DatasetDict, by name, in the order of the specs.
        specs: what they were made from, by name.
        counts: what became of the raw rows, by name; see :class:`~hf_posmine.training.convert.Converted`.
        columns: which columns they were made from, by name.
        images: what the names of images in their rows open; None where there are none.
    """

    datasets: Any
    specs: dict[str, DatasetSpec]
    counts: dict[str, dict[str, int]]
    columns: dict[str, RoleColumns]
    images: Corpus | None = None


@dataclass(frozen=True)
class BlendLine:
    """One data set of a blend as a plan shows it.

    Attributes:
        name: its name.
        task: its task.
        rows: its training rows.
        negatives: hard negatives per row.
        instruction: the text before the queries.
        symmetric: whether it also stands before the documents.
        in_batch_negatives: whether other rows' documents are negatives.
        query_words: mean number of words of a query, from at most 2,000 rows; those beside an image, where there is one.
        document_words: likewise of the positives and negatives.
        counts: what became of the raw rows.
        columns: the line about the columns that were taken.
    """

    name: str
    task: str
    rows: int
    negatives: int
    instruction: str
    symmetric: bool
    in_batch_negatives: bool
    query_words: float
    document_words: float
    counts: dict[str, int]
    columns: str


def load_blend(
    specs: Sequence[DatasetSpec | Mapping[str, Any]], *, num_negatives: int | None = None, num_positives: int = 1,
    seed: int = 0,
) -> Blend:  # fmt: skip
    """Load, convert and, where a set has ``mine``, mine the data sets of a blend.

    All specs are checked before any data are read. The same specs, data and seed give the same rows.

    Args:
        specs: the data sets, as :class:`DatasetSpec` or mappings.
        num_negatives: hard negatives per row, where a data set has no number of its own; by default as many as the
            provenance beside its rows has, else 1. The paper has 1 in stage 1 and 5 in stage 2 (its Table 11). Label texts
            cap it at the number of other classes.
        num_positives: at most so many positives of a query in one row, see
            :func:`~hf_posmine.training.convert.positives.join_positives`; 1 for a row for each.
        seed: of the draws, where a data set has no seed of its own.

    Raises:
        InputError: a bad spec, or data that do not fit it; the message starts with the name of the data set.
    """
    import datasets

    if num_negatives is not None:
        whole("num_negatives", num_negatives, least=1)
    whole("num_positives", num_positives, least=1)
    ready = [spec if isinstance(spec, DatasetSpec) else DatasetSpec.from_mapping(spec) for spec in specs]
    if not ready:
        raise InputError("the blend has no data sets; give at least one")
    names = [spec.name for spec in ready]
    again = [name for i, name in enumerate(names) if name in names[:i]]
    if again:
        raise InputError(f"two data sets are named {again[0]!r}; give each its own name")
    made, counts, columns, images = datasets.DatasetDict(), {}, {}, []
    with progress_bar(len(ready), "Loading the blend", "data set") as bar:
        for spec in ready:
            try:
                converted, columns[spec.name] = rows_of(spec, num_negatives, seed, num_positives)
            except InputError as error:
                raise type(error)(f"data set {spec.name!r}: {error}") from error
            made[spec.name] = _with_constants(converted.dataset, spec)
            counts[spec.name] = converted.counts
            images.append(_without_instructions(converted.images, made[spec.name], spec))
            bar.update()
    return Blend(made, dict(zip(names, ready, strict=True)), counts, columns, all_images(images))


def mixed(blend: Blend) -> Any:
    """All rows of a blend in one Dataset, for batches that mix data sets.

    Every row gets as many negatives as the data set with the fewest, and all instruction columns that any has, empty
    where it has none. A classification by label texts of two classes has one negative, so it sets one for all.

    Raises:
        InputError: a data set without negatives beside one that takes no in-batch negatives.
    """
    import datasets

    common = min(map(_negatives, blend.datasets.values()))
    if common == 0:
        alone = [name for name, spec in blend.specs.items() if not spec.in_batch]
        bare = next(name for name, dataset in blend.datasets.items() if _negatives(dataset) == 0)
        if alone:
            raise InputError(
                f"data set {bare!r} has no hard negatives and {alone[0]!r} no in-batch negatives; mixed batches need one of "
                "them for all rows, so mine the first or keep the data sets in batches of their own"
            )
    several = max((positive_columns(dataset.column_names) for dataset in blend.datasets.values()), key=len)
    texts = ["query", *several, *negative_columns(common)]
    there = {column for dataset in blend.datasets.values() for column in dataset.column_names}
    instructions = [column for column in (f"{text}_instruction" for text in texts) if column in there]
    parts = []
    for dataset in blend.datasets.values():
        missing = [column for column in instructions if column not in dataset.column_names]
        filled = _add_constants(_repeat_positive(dataset, several), dict.fromkeys(missing, ""))
        scored = ["scores"] if "scores" in dataset.column_names and common else []
        parts.append(filled.select_columns([*texts, *instructions, "in_batch_negatives", *scored]))
    return datasets.concatenate_datasets(_with_equal_scores(parts, common))


def _repeat_positive(dataset: Dataset, several: Sequence[str]) -> Any:
    """The rows with all the positive columns, of which those that they lack repeat their first positive."""
    import datasets

    table = dataset.data.table
    for column in several:
        if column not in table.column_names:
            table = table.append_column(column, table["positive"])
    return datasets.Dataset(table)


def _with_equal_scores(parts: list[Dataset], negatives: int) -> list[Dataset]:
    """Where some have scores: those of the negatives that are kept, null in the rows of the others."""
    import datasets
    import pyarrow as pa

    if not any("scores" in part.column_names for part in parts):
        return parts
    made = []
    for part in parts:
        given = part["scores"][:] if "scores" in part.column_names else [None] * len(part)
        kept = [None if scores is None else scores[: 1 + negatives] for scores in given]
        table = part.data.table.drop_columns(["scores"]) if "scores" in part.column_names else part.data.table
        made.append(datasets.Dataset(table.append_column("scores", pa.array(kept, pa.list_(pa.float64())))))
    return made


def describe(blend: Blend) -> tuple[BlendLine, ...]:
    """One line per data set: rows, negatives, instruction, in-batch switch and mean words."""
    return tuple(_line(blend, name) for name in blend.datasets)


def _line(blend: Blend, name: str) -> BlendLine:
    dataset, spec = blend.datasets[name], blend.specs[name]
    negatives = _negatives(dataset)
    at = np.linspace(0, len(dataset) - 1, min(len(dataset), SAMPLED_ROWS)).astype(np.int64)
    sample = dataset.select(at)

    def words(columns: list[str]) -> float:
        texts = [text for column in columns for text in with_images(sample[column], blend.images)]
        return float(np.mean([len((t.caption if isinstance(t, NamedImage) else t).split()) for t in texts]))

    return BlendLine(
        name=name,
        task=spec.task,
        rows=len(dataset),
        negatives=negatives,
        instruction=spec.text_before,
        symmetric=spec.is_symmetric,
        in_batch_negatives=spec.in_batch,
        query_words=words(["query"]),
        document_words=words([*positive_columns(dataset.column_names), *negative_columns(negatives)]),
        counts=blend.counts[name],
        columns=str(blend.columns[name]),
    )


def _negatives(dataset: Dataset) -> int:
    return sum(
        column.startswith("negative_") and not column.endswith("_instruction") for column in dataset.column_names
    )


def _without_instructions(images: Corpus | None, rows: Dataset, spec: DatasetSpec) -> Corpus | None:
    """The images of a data set; one that an instruction stands before is an error."""
    for column in text_columns(rows.column_names):
        if images is None or f"{column}_instruction" not in rows.column_names:
            continue
        if (images.rows_of_texts(rows[column][:]) >= 0).any():
            raise InputError(
                f"data set {spec.name!r}: column {column!r} holds images, and the instruction {spec.text_before!r} is for texts; "
                "give instruction: ''"
            )
    return images


def _with_constants(dataset: Dataset, spec: DatasetSpec) -> Any:
    before = [] if not spec.text_before else text_columns(dataset.column_names) if spec.is_symmetric else ["query"]
    constants: dict[str, Any] = {f"{column}_instruction": spec.text_before for column in before}
    return _add_constants(dataset, constants | {"in_batch_negatives": spec.in_batch})


def _add_constants(dataset: Dataset, constants: Mapping[str, str | bool]) -> Any:
    import datasets
    import pyarrow as pa

    table = dataset.data.table
    for name, value in constants.items():
        table = table.append_column(name, pa.repeat(value, len(dataset)))
    return datasets.Dataset(table)
