"""A dense teacher behind an HTTP service, whose answers are paid for once."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hf_posmine.teachers.dense import DenseTeacher
from hf_posmine.teachers.endpoint import EmbeddingService, RemoteModel, Usage
from hf_posmine.teachers.spellings import Endpoint
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import store_root

if TYPE_CHECKING:
    from hf_posmine.data.corpus import Corpus

ANSWER_SHARD_ROWS = 256


class RemoteTeacher(DenseTeacher):
    """Scores by the similarity of embeddings from an OpenAI-compatible or text-embeddings-inference service.

    Answers go to the embedding store, shard by shard, and are kept beside it until their shard is whole, so an interrupted
    run pays for no answer twice. Give ``queries`` too, or each run pays for them.

    Args:
        endpoint: the service, or its address if it needs no more.
        corpus: the documents.
        fingerprint: stands for the model; by default its address and name. A service may change a model under its name:
            then give another.
        shard_rows: texts per stored shard.
        options: of :class:`~hf_posmine.teachers.dense.DenseTeacher`: ``queries``, prompts, ``store``, ``similarity``, ...
    """

    def __init__(
        self,
        endpoint: EmbeddingService | str,
        corpus: Corpus,
        *,
        fingerprint: str | None = None,
        shard_rows: int = ANSWER_SHARD_ROWS,
        **options: Any,
    ) -> None:
        self.endpoint = EmbeddingService(endpoint) if isinstance(endpoint, str) else endpoint
        self._fingerprint = fingerprint
        digest = fingerprint or json.dumps(self.endpoint.describe(), sort_keys=True)
        store = store_root(options.pop("store", None))
        model = RemoteModel(self.endpoint, store / "answered" / json_digest(digest)[:16])
        super().__init__(model, corpus, fingerprint=digest, shard_rows=shard_rows, store=store, **options)
        self.name = self.endpoint.model or self.endpoint.url

    @property
    def usage(self) -> Usage:
        """The requests of this process to the service."""
        usage: Usage = self.model.encoder.model.usage
        return usage

    @property
    def cost(self) -> float | None:
        """What this process paid, where the endpoint has a price."""
        return self.usage.cost(self.endpoint.price)

    def bill(self) -> str | None:
        """The requests of this process and their cost in one line; None without requests."""
        usage = self.usage
        if not usage.requests:
            return None
        cost = "" if self.cost is None else f", which cost {self.cost:.4f}"
        return f"{usage.texts:,} texts in {usage.requests:,} requests, {usage.tokens:,} tokens{cost}"

    def describe(self) -> dict[str, Any]:
        """The teacher as a provenance record holds it."""
        facts = {**super().describe(), "kind": "remote", **self.endpoint.describe()}
        given = self.model.settings
        prompts = {"query_prompt": given.query_prompt, "document_prompt": given.document_prompt}
        spec = Endpoint(
            self.endpoint.url, self.endpoint.model, **prompts, similarity=given.similarity, dtype=facts["dtype"],
            fingerprint=self._fingerprint,
        )  # fmt: skip
        return {**facts, "spelling": repr(spec)}
