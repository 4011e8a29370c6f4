"""A late-interaction teacher: a ColBERT-like MultiVectorEncoder of sentence-transformers, scored by MaxSim."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError
from hf_posmine.data.images import NamedImage
from hf_posmine.encoding.encode import Encoder, Role, load_as
from hf_posmine.encoding.images import IMAGES_AT_ONCE, image_batches, opened_batches
from hf_posmine.encoding.model_parts import ModelParts
from hf_posmine.teachers.encoded_parts import encoded_parts
from hf_posmine.teachers.maxsim import MaxSimScores
from hf_posmine.teachers.saved_model import SavedModelTeacher
from hf_posmine.teachers.spellings import Late
from hf_posmine.utils.cache import build_once, parts_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    from hf_posmine.core.types import Rows


class LateInteractionTeacher(MaxSimScores, SavedModelTeacher):
    """Scores by MaxSim: for each token of the query the best similarity with a token of the document, summed.

    The vectors of all tokens of the documents are stored once, below ``store``. Scores are summed in float64 and rounded
    once, so they do not depend on blocks (semantics 7). Every query meets every token: fit for corpora of tens of thousands
    of documents on a CPU; beyond that make a run elsewhere and use it with ``RunTeacher``.

    Args:
        model: a Hub id or folder, or a MultiVectorEncoder.
        corpus: the documents.
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        store: folder of the token vectors, by default below :func:`~hf_posmine.utils.files.cache_root`.
        device: where to encode.
        revision: of a Hub model.
    """

    kind, folder, spelled, cached = "late interaction", "tokens", Late, ("_tokens",)

    def _encoder(self, model: str | SparseEncoder | MultiVectorEncoder) -> Encoder:
        from sentence_transformers import MultiVectorEncoder

        if isinstance(model, str):
            model = load_as(MultiVectorEncoder, model, device=self.device, revision=self.revision)
        if not isinstance(model, MultiVectorEncoder):
            raise InputError(
                f"model={type(model).__name__} is not a MultiVectorEncoder; pass one, a Hub id or a folder"
            )
        return Encoder(model, **self._options)

    @cached_property
    def similarity(self) -> str:
        """``maxsim`` or ``meanmaxsim``."""
        return str(self.encoder.model.similarity_fn_name)

    def _decisive(self) -> str:
        return self.similarity

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        return {**super().describe(), "similarity": self.similarity}

    def prepare(self) -> None:
        """Encode the corpus, unless its token vectors are stored."""
        _ = self._tokens

    def _encode(self, texts: Sequence[str], role: Role) -> tuple[np.ndarray, Rows]:
        """Token vectors float64 ``[T, d]`` of texts, and where each text's begin and end, int64 ``[m + 1]``."""
        model = self.encoder.model
        method = model.encode_query if role == "query" else model.encode_document
        how: dict[str, Any] = {
            "prompt": self.prompts[role] or None, "convert_to_numpy": True, "show_progress_bar": False,
            "batch_size": 1 if self.encoder.on_cpu else 64,  # alone, so that no neighbour's padding moves the last bits
        }  # fmt: skip
        images = [text for text in dict.fromkeys(texts) if isinstance(text, NamedImage)]
        rest = [text for text in dict.fromkeys(texts) if not isinstance(text, NamedImage)]
        found = dict(zip(rest, method(ModelParts.of(model).as_texts(rest), **how), strict=True)) if rest else {}
        batches = image_batches(len(images), IMAGES_AT_ONCE)
        for rows, items in zip(batches, opened_batches(images, batches), strict=True):
            found |= zip([images[row] for row in rows.tolist()], method(items, **how), strict=True)
        vectors = {t: v.astype(np.float64) if len(v) else np.zeros((1, v.shape[1])) for t, v in found.items()}
        mine = [vectors[text] for text in texts]
        return np.concatenate(mine), np.cumsum([0, *map(len, mine)])

    @cached_property
    def _tokens(self) -> tuple[np.ndarray, Rows]:
        """Token vectors float32 ``[T, d]`` of all documents, memory-mapped, and their bounds int64 ``[N + 1]``."""
        folder = self._store / f"{self.keys['document']}-{self.corpus.fingerprint}"
        build_once(folder, lambda new: self._write(new, parts_folder(folder)))
        starts = np.load(folder / "starts.npy")
        return np.memmap(folder / "tokens.f32", np.float32, "r").reshape(starts[-1], -1), starts

    def _write(self, folder: Path, parts: Path) -> None:
        counts = [np.zeros(1, np.int64)]
        with (folder / "tokens.f32").open("wb") as file:
            for part in encoded_parts(parts, self.corpus, self._document_tokens):
                file.write(part["tokens"].tobytes())
                counts.append(part["counts"])
        np.save(folder / "starts.npy", np.cumsum(np.concatenate(counts)))

    def _document_tokens(self, texts: list[str]) -> dict[str, np.ndarray]:
        """Tokens of each text, and the vectors of all tokens, text after text."""
        tokens, bounds = self._encode(texts, "document")
        return {"counts": np.diff(bounds), "tokens": tokens.astype(np.float32)}
