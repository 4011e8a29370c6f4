"""The part that teachers of sparse and of late-interaction models share: model, prompts, digests and spelling."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from hf_posmine.encoding.encode import Encoder, Role, load_again
from hf_posmine.teachers.dense_model import commit_of
from hf_posmine.teachers.exhaustive import FullScores
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import cache_root

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SparseEncoder

    from hf_posmine.data.corpus import Corpus
    from hf_posmine.teachers.spellings import Late, Sparse


class SavedModelTeacher(FullScores):
    """A teacher of a model of sentence-transformers that encodes documents once, below ``store``.

    Args:
        model: a Hub id or folder, or the model.
        corpus: the documents.
        query_prompt: put before every query; None takes the model's own.
        document_prompt: the same for documents.
        store: folder of what is encoded, by default below :func:`~hf_posmine.utils.files.cache_root`.
        device: where to encode.
        revision: of a Hub model.
    """

    kind: ClassVar[str]
    """In records."""
    folder: ClassVar[str]
    """Below the cache."""
    spelled: ClassVar[type[Sparse | Late]]
    cached: ClassVar[tuple[str, ...]]
    """Of its state, what another process makes anew."""

    def __init__(
        self,
        model: str | SparseEncoder | MultiVectorEncoder,
        corpus: Corpus,
        *,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        store: str | Path | None = None,
        device: str | None = None,
        revision: str | None = None,
    ) -> None:
        self.corpus, self.device, self.revision = corpus, device, revision
        self._model_name = model if isinstance(model, str) else None
        self._options: dict[str, Any] = {"query_prompt": query_prompt, "document_prompt": document_prompt}
        self._store = Path(store) if store else cache_root() / self.folder
        self.encoder = self._encoder(model)
        self.keys: dict[Role, str] = {role: self.encoder.digest(role) for role in ("query", "document")}
        self.prompts = dict(self.encoder.prompts)
        self.name = self._model_name or type(self.encoder.model).__name__
        self.commit = commit_of(self._model_name, revision) if self._model_name else None
        _ = self.fingerprint  # reads what it needs of the model, which another process may not have

    def _encoder(self, model: str | SparseEncoder | MultiVectorEncoder) -> Encoder:
        """The model, loaded and checked.

        Raises:
            InputError: a model of another kind.
        """
        raise NotImplementedError

    def _decisive(self) -> str | int | None:
        """The setting of the model that decides scores, too."""
        raise NotImplementedError

    @cached_property
    def encoder(self) -> Encoder:
        """The model, loaded again in a process that did not inherit it."""
        cure = "save the model and pass its folder"
        return load_again(self._model_name, self.name, self._encoder, self.keys["document"], cure)

    @property
    def fingerprint(self) -> str:
        """Content digest of the model, that setting and the prompts; no paths."""
        return json_digest([self.kind, self._decisive(), self.keys])

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it; its spelling has the commit it was loaded from, if it was."""
        facts = {
            "kind": self.kind,
            "name": self.name,
            "commit": self.commit,
            "prompts": self.prompts,
            "keys": self.keys,
        }
        if self._model_name is None:
            return facts
        spec = self.spelled(self._model_name, **self._options, revision=self.commit or self.revision)
        return {**facts, "spelling": repr(spec)}

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name not in ("encoder", *self.cached)}
