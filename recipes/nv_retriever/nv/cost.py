"""What a step costs on a node, from the operations of the model and the lengths of the texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from hf_posmine import Corpus
from hf_posmine.models import ModelShape
from hf_posmine.utils import Node

SAMPLE = 1000
"""Texts whose tokens are counted."""
BATCH_TOKENS = 16_384
"""Tokens of a batch when texts are encoded on a GPU."""


@dataclass(frozen=True)
class Texts:
    """Texts of one kind: how many, and the tokens of some of them, int64 ``[m]``."""

    count: int
    lengths: np.ndarray

    @classmethod
    def of(
        cls, count: int, sample: Sequence[str], tokenizer: PreTrainedTokenizerBase, most: int, prompt: str = ""
    ) -> Texts:
        """Measured on a sample, cut to the most tokens that the model reads."""
        ids = tokenizer([prompt + text for text in sample], truncation=True, max_length=most)["input_ids"]
        return cls(count, np.array([len(row) for row in ids], np.int64))

    @classmethod
    def of_words(cls, count: int, words: float, per_word: float, most: int, before: int = 0) -> Texts:
        """Of a mean number of words, with so many tokens before them."""
        return cls(count, np.array([min(most, round(before + words * per_word))], np.int64))

    @property
    def tokens(self) -> float:
        """Of a text, on average."""
        return float(self.lengths.mean())

    def operations(self, shape: ModelShape) -> float:
        """To encode all of them."""
        return self.count * shape.forward(self.lengths) / len(self.lengths)


@dataclass(frozen=True)
class Line:
    """A line of a plan: what is computed, and how much."""

    name: str
    amount: str
    operations: float
    gib: float
    paper: str = ""


def sample_of(corpus: Corpus) -> list[str]:
    """Some documents, from all over the corpus."""
    rows = np.linspace(0, corpus.num_candidates - 1, min(corpus.num_candidates, SAMPLE)).astype(np.int64)
    return corpus.texts(rows).to_pylist()


def encoding_line(name: str, shape: ModelShape, documents: Texts, queries: Texts, paper: str = "") -> Line:
    """The line of a set whose texts are encoded."""
    amount = f"{documents.count:,} documents of {documents.tokens:.0f} tokens, {queries.count:,} queries of {queries.tokens:.0f}"
    operations = documents.operations(shape) + queries.operations(shape)
    return Line(name, amount, operations, shape.encoding_bytes(BATCH_TOKENS) / 2**30, paper)


def show(title: str, lines: Sequence[Line], node: Node) -> None:
    """The plan, a line for each step, and the sum."""
    operations = sum(line.operations for line in lines)
    rows = [
        (line.name, *measures(line.operations, node), f"{line.gib:.0f} GiB", line.amount, line.paper) for line in lines
    ]
    rows = [
        ("", "hours", "operations", "each GPU", "", "paper, 8 A100" if any(line.paper for line in lines) else ""),
        *rows,
    ]
    rows.append(("in all", *measures(operations, node), "", "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(title)
    for row in rows:
        name, *numbers, amount, paper = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        right = [cell.strip().rjust(len(cell)) for cell in numbers]
        console.print("  ".join([name, *right, amount, paper]).rstrip())
    console.print(f"Hours on {node}: assumed, not measured. The search, loading and writing are not counted.")


def measures(operations: float, node: Node) -> tuple[str, str]:
    """Hours and operations."""
    return f"{node.hours(operations):,.1f}", f"{operations:.1e}"
