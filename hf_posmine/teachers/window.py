"""The texts of a corpus that are longer than what a model reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.core.types import Rows
    from hf_posmine.data.corpus import Corpus
    from hf_posmine.data.texts import TextPart
    from hf_posmine.encoding.encode import Encoder
    from hf_posmine.encoding.store import EmbeddingStore
    from hf_posmine.teachers.dense_model import DenseModel

VERSION = 1
BLOCK = 8192


@dataclass(frozen=True)
class CutTexts:
    """How many texts a model reads the beginning of alone.

    Attributes:
        cut: the longer ones.
        texts: all of them.
        tokens: that it reads, with its prompt and special tokens.
        what: the texts.
    """

    cut: int
    texts: int
    tokens: int
    what: Literal["documents", "passages"] = "documents"

    def line(self, teacher: str) -> str:
        """What a run prints."""
        cure = (
            "take fewer words to a passage, as in MaxP(..., words=100)"
            if self.what == "passages"
            else f"teacher=\"MaxP('{teacher}')\" scores each by its best passage"
        )
        return (
            f"{self.cut:,} of {self.texts:,} {self.what} are longer than the {self.tokens:,} tokens that {teacher} reads, and are "
            f"scored by their beginning; {cure}"
        )


def cut_texts(model: DenseModel, corpus: Corpus, store: EmbeddingStore) -> CutTexts | None:
    """Count them, by what was counted when they were encoded; None where the model has no tokenizer or no limit."""
    limit = model.max_seq_length
    encoder = model.encoder if limit is not None else None
    if encoder is None or corpus.num_images or not encoder.native or not encoder.counts_tokens:
        return None
    tokens, key = encoder.max_length("document") or limit or 0, model.keys["document"]

    def count(folder: Path) -> None:
        shards = [(part, *shard) for part in corpus.parts for shard in store.cut_texts(key, part)]
        cut = sum(known or 0 for _, _, known in shards)
        left = [(part, rows) for part, rows, known in shards if known is None]
        if left:  # stored without the count, or taken from another corpus
            cut += _measure(encoder, tokens, left)
        (folder / "cut.json").write_text(json.dumps(cut))

    identity = [VERSION, key, tokens, [part.texts_digest for part in corpus.parts]]
    try:
        found = build_once(cache_root() / "cut" / json_digest(identity), count)
    except ReadOnlyError:  # it decides no row
        return None
    return CutTexts(int(json.loads((found / "cut.json").read_text())), len(corpus), tokens)


def _measure(encoder: Encoder, tokens: int, texts: Sequence[tuple[TextPart, Rows]]) -> int:
    """How many texts, given as rows of parts, are longer than so many tokens; they are tokenised for it."""
    cut = 0
    with progress_bar(sum(len(rows) for _, rows in texts), "Measuring documents", "text") as bar:
        for part, rows in texts:
            for some in np.array_split(rows, -(-len(rows) // BLOCK)):
                counts = encoder.token_counts(part.take("text", some).to_pylist(), "document")
                cut += 0 if counts is None else int((counts > tokens).sum())
                bar.update(len(some))
    return cut
