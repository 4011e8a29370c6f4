"""An embedding service over HTTP: batches, retries, and what it cost."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from hf_posmine.core.errors import InputError, StoreError
from hf_posmine.teachers.encoded_parts import read_arrays, save_arrays
from hf_posmine.utils.digest import json_digest
from hf_posmine.utils.files import answers_folder, write_file
from hf_posmine.utils.http import Service

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hf_posmine.core.types import Floats


@dataclass(frozen=True)
class EmbeddingService:
    """A service that embeds texts, and the form of its requests.

    Attributes:
        url: an OpenAI-compatible ``.../v1/embeddings``, or the ``.../embed`` of a text-embeddings-inference server.
        model: the model's name there; OpenAI-compatible services need it.
        api_key_env: environment variable that holds the key; the key itself is never stored.
        batch_size: texts per request.
        concurrency: requests at a time.
        retries: further attempts after a timeout, a refused connection, a 429 or 5xx status, or an unreadable answer.
        timeout: seconds per request.
        price: per million tokens, to show the cost.
    """

    url: str
    model: str | None = None
    api_key_env: str | None = None
    batch_size: int = 32
    concurrency: int = 4
    retries: int = 5
    timeout: float = 60.0
    price: float | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")) or not self.url.endswith(("/embeddings", "/embed")):
            raise InputError(
                f"url={self.url!r}; give the whole address, ending in /v1/embeddings (OpenAI-compatible) or /embed "
                "(text-embeddings-inference)"
            )
        if self.is_openai and self.model is None:
            raise InputError(f"{self.url!r} needs the name of a model; give model=")
        for name, least in (("batch_size", 1), ("concurrency", 1), ("retries", 0)):
            if vars(self)[name] < least:
                raise InputError(f"{name}={vars(self)[name]}; expected at least {least}")

    @property
    def is_openai(self) -> bool:
        """Whether it speaks OpenAI's protocol."""
        return self.url.endswith("/embeddings")

    def describe(self) -> dict[str, Any]:
        """What decides the answers."""
        return {name: value for name, value in asdict(self).items() if name in ("url", "model")}


@dataclass
class Usage:
    """Requests to a service in this process, with their texts and tokens.

    Attributes:
        requests: answered requests.
        texts: embedded texts.
        tokens: as the service counts them; 0 where it gives none.
        retries: failed attempts.
    """

    requests: int = 0
    texts: int = 0
    tokens: int = 0
    retries: int = 0

    def cost(self, price: float | None) -> float | None:
        """In the currency of the price per million tokens."""
        return None if price is None else self.tokens * price / 1e6


class RemoteModel:
    """An endpoint as the encoder of a dense teacher.

    Args:
        endpoint: the service.
        answered: folder where each answer is kept until the next request: paid, and not in a store yet.
    """

    def __init__(self, endpoint: EmbeddingService, answered: Path | None = None) -> None:
        self.endpoint, self.usage, self.answered = endpoint, Usage(), answered
        self._returned: list[Path] = []
        self._lock = threading.Lock()
        self._dimensions: int | None = None

    def anew(self) -> RemoteModel:
        """The same service for a process that did not inherit it."""
        return RemoteModel(self.endpoint, self.answered)

    def __reduce__(self) -> tuple[type[RemoteModel], tuple[EmbeddingService, Path | None]]:
        return RemoteModel, (self.endpoint, self.answered)

    def encode_query(self, texts: Sequence[str], **_: Any) -> Floats:
        """Vectors float32 ``[m, d]``."""
        return self._encode(list(texts))

    encode_document = encode_query

    def _encode(self, texts: list[str]) -> Floats:
        for path in self._returned:  # those vectors have been stored
            path.unlink(missing_ok=True)
        size = self.endpoint.batch_size
        batches = [texts[i : i + size] for i in range(0, len(texts), size)]
        with ThreadPoolExecutor(self.endpoint.concurrency) as pool:
            futures = [pool.submit(self._answer, batch) for batch in batches]
            try:
                vectors = np.concatenate([future.result() for future in futures])
            except BaseException:
                pool.shutdown(cancel_futures=True)  # requests that were not sent cost nothing
                raise
        self._returned = [path for path in map(self._path, batches) if path is not None]
        return vectors

    def _path(self, texts: list[str]) -> Path | None:
        return None if self.answered is None else self.answered / f"{json_digest(texts)}.npz"

    def _answer(self, texts: list[str]) -> Floats:
        """The vectors of a batch, requested unless its answer is kept."""
        path = self._path(texts)
        kept = None if path is None else read_arrays(path)
        if kept is not None:
            return kept["vectors"]
        vectors = self._ask(texts)
        if path is not None:
            answers_folder(path.parent)
            write_file(path, partial(save_arrays, {"vectors": vectors}))
        return vectors

    def _ask(self, texts: list[str]) -> Floats:
        endpoint = self.endpoint
        body: dict[str, Any] = {"inputs": texts, "truncate": True, "normalize": False}
        if endpoint.is_openai:
            body = {"model": endpoint.model, "input": texts, "encoding_format": "float"}
        service = Service(endpoint.url, endpoint.api_key_env, endpoint.retries, endpoint.timeout)
        return service.ask(body, lambda answer: self._read(answer, texts), f"{len(texts)} texts", self._failed)

    def _failed(self) -> None:
        with self._lock:
            self.usage.retries += 1

    def _read(self, answer: Any, texts: list[str]) -> Floats:
        tokens = 0
        if self.endpoint.is_openai:
            tokens = int((answer.get("usage") or {}).get("total_tokens", 0))
            by_index = {int(item["index"]): item["embedding"] for item in answer["data"]}
            if sorted(by_index) != list(range(len(answer["data"]))):
                raise ValueError(f"indexes {sorted(by_index)[:4]} ... of {len(answer['data'])} embeddings")
            answer = [by_index[index] for index in range(len(by_index))]
        vectors = np.asarray(answer, np.float32)
        if vectors.ndim != 2 or len(vectors) != len(texts) or not vectors.shape[1]:  # noqa: PLR2004 - [m, d]
            raise ValueError(f"vectors of shape {vectors.shape} for {len(texts)} texts")
        if not np.isfinite(vectors).all():
            raise ValueError("vectors that are not finite")
        with self._lock:
            self._dimensions = self._dimensions or vectors.shape[1]
            if vectors.shape[1] != self._dimensions:
                raise StoreError(
                    f"{self.endpoint.url} gave vectors of {vectors.shape[1]} dimensions after {self._dimensions}; is another "
                    "model there now?"
                )
            self.usage.requests += 1
            self.usage.texts += len(texts)
            self.usage.tokens += tokens
        return vectors
