"""The texts of a corpus that are longer than what a model reads."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hf_posmine.core.errors import ReadOnlyError
from hf_posmine.utils.cache import build_once
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root
from hf_posmine.utils.progress import progress_bar

if TYPE_CHECKING:
    from pathlib import Path

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.dense_model import DenseModel

VERSION = 1


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


def cut_texts(model: DenseModel, corpus: Corpus) -> CutTexts | None:
    """Count them, once for the same texts and model; None where the model has no tokenizer or no limit."""
    limit = model.max_seq_length
    encoder = model.encoder if limit is not None else None
    if encoder is None or corpus.num_images or not encoder.native or encoder.token_counts([""], "document") is None:
        return None
    tokens = encoder.max_length("document") or limit or 0

    def count(folder: Path) -> None:
        cut = 0
        with progress_bar(len(corpus), "Measuring documents", "text") as bar:
            for texts in (block for part in corpus.parts for block in part.iter_texts()):
                counts = encoder.token_counts(texts, "document")
                cut += 0 if counts is None else int((counts > tokens).sum())
                bar.update(len(texts))
        (folder / "cut.json").write_text(json.dumps(cut))

    identity = [VERSION, model.keys["document"], tokens, [part.texts_digest for part in corpus.parts]]
    try:
        found = build_once(cache_root() / "cut" / json_digest(identity), count)
    except ReadOnlyError:  # it decides no row
        return None
    return CutTexts(int(json.loads((found / "cut.json").read_text())), len(corpus), tokens)
