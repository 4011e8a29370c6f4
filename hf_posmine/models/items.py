"""Rows of an embedder: ``(instruction, text)``, and which of their tokens belong to the instruction.

The boundary is found by characters. A token belongs to the instruction when it ends within it, trailing spaces left
out; the first one that reaches further starts the pooled part. So neither a trailing space, nor a merge
across the boundary, nor the padding side, nor a special token in front or behind can move it.
"""

from __future__ import annotations

from string import Formatter
from typing import TYPE_CHECKING, Any, NamedTuple

from hf_posmine.core.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

DEFAULT_TEMPLATE = "{instruction}: {text}"
"""How the paper joins the two (section 3): ``Instruct: ... Query: ...`` is another template, not another mechanism."""


class Row(NamedTuple):
    """What the model reads: ``prefix + text``; only the text is pooled."""

    prefix: str
    text: str


class RowError(InputError):
    """A row without a token to pool; ``position`` counts in the batch, ``item`` is what was passed."""

    def __init__(self, why: str, position: int, item: object) -> None:
        super().__init__(f"row {position}: {why}")
        self.why, self.position, self.item = why, position, item


def check_template(template: str) -> str:
    """A template holds ``{instruction}`` once and ends in ``{text}``.

    Raises:
        InputError: it does not.
    """
    fields = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
    if fields != ["instruction", "text"] or not template.endswith("{text}"):
        raise InputError(
            f"instruction_template={template!r} must hold {{instruction}} once and end in {{text}}, such as {DEFAULT_TEMPLATE!r}"
        )
    return template


def prefix_of(template: str, instruction: str | None) -> str:
    r"""What is put before a text: the template up to the text, or nothing without an instruction.

    >>> prefix_of("Instruct: {instruction}\nQuery: {text}", "Find the answer")
    'Instruct: Find the answer\nQuery: '
    >>> prefix_of("{instruction}: {text}", "")
    ''
    """
    return template.removesuffix("{text}").format(instruction=instruction) if instruction else ""


def read_rows(inputs: Sequence[Any], prompt: str | None, template: str) -> list[Row] | None:
    """Rows of strings, ``(instruction, text)`` pairs and ``{"instruction": ..., "text": ...}``, in any mixture.

    A row without an instruction of its own (a string, or None for the instruction) takes the call's ``prompt`` as it
    stands; an empty instruction means none. Returns None where the inputs are something else (images, messages).
    """
    rows = []
    for position, item in enumerate(inputs):
        parts = _parts(item)
        if parts is None:
            return None
        instruction, text = parts
        if not text.strip():
            raise RowError(f"the text is empty ({item!r}); drop the row or give it a text", position, item)
        rows.append(Row((prompt or "") if instruction is None else prefix_of(template, instruction), text))
    return rows


def _parts(item: object) -> tuple[str | None, str] | None:
    if isinstance(item, str):
        return None, item
    if isinstance(item, dict) and "text" in item and set(item) <= {"instruction", "text"}:
        item = (item.get("instruction"), item["text"])
    if isinstance(item, tuple | list) and len(item) == 2:  # noqa: PLR2004 - a pair
        instruction, text = item
        if isinstance(text, str) and (instruction is None or isinstance(instruction, str)):
            return instruction, text
    return None


def instruction_mask(rows: Sequence[Row], ends: torch.Tensor, attention: torch.Tensor) -> torch.Tensor:
    """1 where a token belongs to its row's instruction, or stands before its text; int64 ``[B, T]``.

    Args:
        rows: the batch.
        ends: where each token's characters end in ``prefix + text``, 0 for special tokens and padding; int ``[B, T]``.
        attention: 1 for tokens, 0 for padding; int ``[B, T]``.

    Raises:
        RowError: a row with an instruction and no token of its text, because the instruction fills the length.
    """
    import torch

    attended = attention.bool()
    bounds = torch.tensor([len(row.prefix.rstrip()) for row in rows])[:, None]
    is_text = (ends > bounds) & attended
    lost = ((bounds[:, 0] > 0) & ~is_text.any(dim=1)).nonzero()
    if len(lost):
        position = int(lost[0])
        row = rows[position]
        raise RowError(
            f"the instruction leaves no room for the text: {int(attended[position].sum())} tokens hold "
            f"{row.prefix[:60]!r}... and nothing of {row.text[:60]!r}; shorten it or raise the maximum length",
            position,
            row,
        )
    first = is_text.int().argmax(dim=1, keepdim=True)
    before = torch.arange(attention.shape[1]) < first
    return (before & attended & (bounds > 0)).long()
