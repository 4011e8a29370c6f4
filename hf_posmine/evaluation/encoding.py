"""Texts to vectors for an evaluation, with an instruction where the task has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hf_posmine.core.errors import InputError
from hf_posmine.data.images import NamedImage
from hf_posmine.encoding.encode import Encoder, Role, accepts_instructions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentence_transformers import SentenceTransformer

    from hf_posmine.core.types import Floats


def encode_texts(
    model: SentenceTransformer,
    texts: Sequence[str],
    *,
    instruction: str | None = None,
    prompt: str | None = None,
    role: Role = "query",
) -> Floats:
    """Vectors float32 ``[m, d]`` of texts, as the model gives them (not scaled to length 1).

    Args:
        model: a SentenceTransformer, or an object with ``encode_query`` and ``encode_document``.
        texts: what to encode.
        instruction: describes the task. A model whose first module ``accepts_instructions`` gets (instruction, text)
            pairs, and leaves the instruction out of its pooling; any other gets ``"{instruction}: "`` as its prompt.
        prompt: text put before every text as it is; None takes the model's own.
        role: which of the model's own prompts.

    Raises:
        InputError: an instruction and a prompt.
        StoreError: a vector that is not finite.
    """
    if instruction is not None and prompt is not None:
        raise InputError(f"give an instruction ({instruction!r}) or a prompt ({prompt!r}), not both")
    rows: Any = texts
    if instruction is not None and any(isinstance(text, NamedImage) for text in texts):
        raise InputError(f"the instruction {instruction!r} is for texts, and queries are images; leave it out")
    if instruction is not None and accepts_instructions(model):
        rows = [(instruction, text) for text in texts]
    elif instruction is not None:
        prompt = f"{instruction}: "
    query, document = (prompt, None) if role == "query" else (None, prompt)
    return Encoder(model, query_prompt=query, document_prompt=document).encode(rows, role)
