"""The arguments of ``mine_hard_negatives`` (sentence-transformers 6.2), checked in its order and with its messages."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, get_args

from hf_posmine.core.errors import ColumnError, InputError

logger = logging.getLogger("hf_posmine.compat")

OutputFormat: TypeAlias = Literal["triplet", "n-tuple", "labeled-pair", "labeled-list"]
SamplingStrategy: TypeAlias = Literal["random", "top"]
PER_NEGATIVE = 10
"""Candidates per negative that a derived ``range_max`` allows for where a bound may reject some."""


@dataclass(frozen=True)
class Arguments:
    """The arguments as given, and after :meth:`checked` without what is deprecated or left to a default.

    The attributes are the parameters of :func:`hf_posmine.compat.mine_hard_negatives`.
    """

    dataset: Any
    model: Any
    anchor_column_name: str | None
    positive_column_name: str | None
    corpus: list[str] | None
    cross_encoder: Any
    range_min: int
    range_max: int | None
    max_score: float | None
    min_score: float | None
    absolute_margin: float | None
    relative_margin: float | None
    num_negatives: int
    sampling_strategy: SamplingStrategy
    query_prompt_name: str | None
    query_prompt: str | None
    corpus_prompt_name: str | None
    corpus_prompt: str | None
    include_positives: bool
    output_format: OutputFormat | Literal["n-tuple-scores"]
    output_scores: bool
    batch_size: int
    faiss_batch_size: int
    use_faiss: bool
    use_multi_process: list[str] | bool
    verbose: bool
    cache_folder: str | None
    as_triplets: bool | None
    margin: float | None
    keep_columns: bool
    seed: int
    strict: bool

    def checked(self) -> Arguments:
        """The same with columns that exist, and the deprecated arguments in the place of those that replaced them.

        Raises:
            InputError: a value that cannot be used; a ValueError with the message of sentence-transformers.
        """
        _check_dataset(self.dataset)
        if self.faiss_batch_size <= 0:
            raise InputError(f"faiss_batch_size must be a positive integer, got {self.faiss_batch_size}.")
        checked = _with_format(_with_columns(self))
        if checked.output_format not in get_args(OutputFormat):
            raise InputError(
                f"Invalid output_format: {checked.output_format}. Must be one of 'triplet', 'n-tuple', 'labeled-pair', or "
                "'labeled-list'."
            )
        if checked.sampling_strategy not in get_args(SamplingStrategy):
            raise InputError(f"sampling_strategy={checked.sampling_strategy!r}; choose 'top' or 'random'")
        if checked.margin is not None:
            logger.warning(
                "The `margin` parameter is deprecated. Use the `absolute_margin` and/or `relative_margin` parameter instead. "
                f"Setting `absolute_margin` to `{checked.margin}`."
            )
            checked = replace(checked, absolute_margin=checked.margin)
        if checked.num_negatives < 1:
            raise InputError(f"num_negatives must be at least 1, got num_negatives={checked.num_negatives}.")
        return checked

    @property
    def bounds(self) -> dict[str, float]:
        """The margins and score limits that are set, in the order in which they are reported."""
        bounds = {
            "absolute_margin": self.absolute_margin,
            "relative_margin": self.relative_margin,
            "max_score": self.max_score,
            "min_score": self.min_score,
        }
        return {name: value for name, value in bounds.items() if value is not None}

    @property
    def reranks(self) -> bool:
        """Whether the cross-encoder takes part: as in sentence-transformers, only together with a bound."""
        return self.cross_encoder is not None and bool(self.bounds)

    @property
    def anchor(self) -> str:
        """The column of the queries, after :meth:`checked`."""
        return str(self.anchor_column_name)

    @property
    def positive(self) -> str:
        """The column of the positives, after :meth:`checked`."""
        return str(self.positive_column_name)


@dataclass(frozen=True)
class Window:
    """How deep to look: ranks of the closest matches.

    Attributes:
        first: candidates skipped, ``range_min``.
        last: ``range_max``, as given or derived.
        depth: documents that the search considers, positives included.
        given: whether the caller chose ``range_max``; a derived one does not leave rows short.
    """

    first: int
    last: int
    depth: int
    given: bool

    @classmethod
    def of(cls, arguments: Arguments, positives: int) -> Window:
        """The window of checked arguments, where the most frequent query has ``positives`` rows.

        Raises:
            InputError: a window that is empty or holds fewer than ``num_negatives``.
        """
        n, first, last = arguments.num_negatives, arguments.range_min, arguments.range_max
        if last is None:
            ceiling = any(name != "min_score" for name in arguments.bounds)
            last = first + n * (PER_NEGATIVE if ceiling or arguments.reranks else 1) + positives
        if first < 0:
            raise InputError(f"range_min must be non-negative, got range_min={first}.")
        if first >= last:
            raise InputError(f"range_min must be smaller than range_max, got range_min={first} and range_max={last}.")
        if n > last - first:
            raise InputError(
                f"Cannot mine {n} negatives per query: only {last - first} candidates remain after skipping the first "
                f"range_min={first} of range_max={last}. Consider decreasing num_negatives or range_min, or increasing "
                "range_max."
            )
        return cls(first, last, last + positives, arguments.range_max is not None)


def _check_dataset(dataset: object) -> None:
    from datasets import Dataset

    if not isinstance(dataset, Dataset):
        raise InputError(
            f"mine_hard_negatives takes a datasets.Dataset, got {type(dataset).__name__}; pass one split, such as "
            "dataset['train']"
        )
    if len(dataset) == 0:
        raise InputError("The dataset is empty. Please provide a non-empty dataset.")


def _with_columns(arguments: Arguments) -> Arguments:
    names = arguments.dataset.column_names
    anchor = _column(arguments.anchor_column_name, names, 0, "anchor_column_name")
    if arguments.positive_column_name not in names and len(names) < 2:  # noqa: PLR2004 - anchor and positive
        raise ColumnError("Dataset must contain at least two columns to select the positive column automatically.")
    positive = _column(arguments.positive_column_name, names, 1, "positive_column_name")
    return replace(arguments, anchor_column_name=anchor, positive_column_name=positive)


def _column(given: str | None, names: list[str], position: int, argument: str) -> str:
    if given and given in names:
        return given
    if given:
        logger.warning(f"{argument}={given!r} is not among {names}; column {names[position]!r} is used instead.")
    return names[position]


def _with_format(arguments: Arguments) -> Arguments:
    """The output format after the deprecated spellings, and the only one that can hold included positives."""
    output_format, scores = arguments.output_format, arguments.output_scores
    if arguments.as_triplets is not None:
        output_format = "triplet" if arguments.as_triplets else "n-tuple"
        logger.warning(
            "The `as_triplets` parameter is deprecated. Use the `output_format` parameter instead. "
            f"Setting `output_format` to `{output_format}`."
        )
    if arguments.include_positives:
        output_format = _format_of_included(arguments, output_format)
    if output_format == "n-tuple-scores":
        logger.warning(
            '`output_format="n-tuple-scores"` is deprecated. Use `output_format="n-tuple"` with `output_scores=True` '
            "instead for equivalent output formats."
        )
        output_format, scores = "n-tuple", True
    return replace(arguments, output_format=output_format, output_scores=scores)


def _format_of_included(arguments: Arguments, output_format: str) -> Any:
    ranges = arguments.range_min != 0 or arguments.range_max is not None
    if ranges or arguments.bounds or arguments.margin is not None or arguments.sampling_strategy != "top":
        logger.warning(
            "When using `include_positives=True`, updating `range_min`, `range_max`, `max_score`, `min_score`, "
            "`absolute_margin`, `relative_margin`, or `sampling_strategy` from the default values may still discard the "
            "positive values."
        )
    if output_format != "n-tuple":
        logger.warning(
            'When using `include_positives=True`, `output_format` will be set to `"n-tuple"` to ensure that the ranking '
            "order is preserved."
        )
    return "n-tuple"
