"""A JSON service over HTTP, called with a key from the environment and again after faults that may pass.

The service is not trusted: it is never followed to another address, because the key would go there; its answers have a
limit of size and depth; and what it writes appears in errors shortened, on one line, and without the key.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from hf_posmine.core.errors import RefusedError, StoreError
from hf_posmine.utils.redact import redact
from hf_posmine.utils.retry import backoff, retry

try:
    import httpx2 as httpx  # what huggingface_hub 2 brings
except ImportError:  # pragma: no cover - what huggingface_hub 1 brings, with the same names
    import httpx  # type: ignore[import-not-found,no-redef]

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
REDIRECT, REFUSED, TOO_MANY, BROKEN = 300, 400, 429, 500
UNFIT = (400, 413, 422)
"""Refusals of a request for what it holds: a filter, or a text that is too long."""
ANSWER_BYTES = 1 << 30
"""The largest answer that is read: 100,000 vectors of 512 dimensions as text."""
SHOWN = 200
"""Characters of an answer that an error shows."""

Answer = TypeVar("Answer")
NOT_FOUND = 404
PAGE_SECONDS = 60.0


@contextlib.contextmanager
def opened_page(address: str) -> Iterator[httpx.Response]:
    """A page whose head is there and whose body is still to be read, unpacked by nobody.

    Raises:
        FileNotFoundError: the server has no such page.
    """
    as_it_is = {"Accept-Encoding": "identity"}
    with httpx.stream("GET", address, headers=as_it_is, follow_redirects=True, timeout=PAGE_SECONDS) as answer:
        if answer.status_code == NOT_FOUND:
            raise FileNotFoundError(address)
        answer.raise_for_status()
        yield answer


class _Refusal(Exception):
    """The service answered with a status other than success."""

    def __init__(self, status: int, pause: float, text: str) -> None:
        super().__init__(f"HTTP {status}")
        self.status, self.pause, self.text = status, pause, text


@dataclass(frozen=True)
class Service:
    """A service and how often it is called.

    Attributes:
        url: the whole address.
        api_key_env: environment variable that holds the key; the key itself is never stored.
        retries: further attempts after a timeout, a refused connection, a 429 or 5xx status, or an unreadable answer.
        timeout: seconds per request.
        name: in errors, by default the address.
    """

    url: str
    api_key_env: str | None
    retries: int
    timeout: float
    name: str | None = None

    def ask(
        self,
        body: dict[str, Any],
        read: Callable[[Any], Answer],
        what: str,
        failed: Callable[[], object] = lambda: None,
    ) -> Answer:
        """The answer as ``read`` returns it.

        Args:
            body: the request, as JSON.
            read: takes the answer as JSON; a ValueError, LookupError, TypeError, AttributeError, OverflowError or
                RecursionError means that it cannot be read.
            what: is requested, for errors.
            failed: called before every attempt after the first.

        Raises:
            RefusedError: the service refuses this request for what it holds.
            StoreError: no key, another refusal, a redirect, or no readable answer in all attempts.
        """
        key, attempts = self._key(), 0

        def pause(error: Exception) -> float:
            nonlocal attempts
            if isinstance(error, StoreError) or not isinstance(error, _PASSING):
                raise error
            attempts += 1
            refusal = error if isinstance(error, _Refusal) else None
            if refusal is not None and refusal.status != TOO_MANY and refusal.status < BROKEN:
                kind = RefusedError if refusal.status in UNFIT else StoreError
                raise kind(f"{redact(self.name or self.url)} refused {what} with {refusal}{refusal.text}") from None
            if attempts > self.retries:
                problem = str(refusal) if refusal else f"{type(error).__name__}: {_shown(str(error), key)}"
                raise StoreError(
                    f"{redact(self.name or self.url)} gave no usable answer in {attempts} attempts ({problem}); what was "
                    "finished is stored, run again to continue"
                ) from None
            failed()
            return max(backoff(attempts - 1, FIRST_PAUSE, LONGEST_PAUSE), refusal.pause if refusal else 0.0)

        return retry(lambda: read(self._post(body, key)), pause)

    def _key(self) -> str | None:
        if self.api_key_env is None:
            return None
        key = os.environ.get(self.api_key_env, "").strip()
        if not key:
            raise StoreError(f"the environment variable {self.api_key_env} holds no key; set it")
        if not (key.isascii() and key.isprintable()):
            raise StoreError(f"the environment variable {self.api_key_env} holds no key, but other text; set it")
        return key

    def _post(self, body: dict[str, Any], key: str | None) -> Any:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        with _client(self.timeout, os.getpid()).stream("POST", self.url, json=body, headers=headers) as response:
            content = _limited(response)
            if response.status_code >= REFUSED:
                shown = _shown(content.decode("utf-8", "replace"), key)
                raise _Refusal(
                    response.status_code, _wanted_pause(response.headers.get("Retry-After", "")), f": {shown}"
                )
            if response.status_code >= REDIRECT:
                where = _shown(response.headers.get("Location", "another address"), key)
                text = f", a redirect to {where}, which is not followed because the key would go there; give the final address"
                raise _Refusal(response.status_code, 0.0, text)
            return json.loads(content)


_PASSING = (
    _Refusal, httpx.HTTPError, httpx.InvalidURL, OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError,
    RecursionError,
)  # fmt: skip


@lru_cache(maxsize=8)
def _client(timeout: float, process: int) -> Any:
    """One client, which keeps its connections, per time limit and process: a fork must not share them."""
    return httpx.Client(timeout=timeout, follow_redirects=False)


def _limited(response: httpx.Response) -> bytes:
    """The content of a response.

    Raises:
        ValueError: it is larger than any answer.
    """
    pieces, size = [], 0
    for piece in response.iter_bytes():
        pieces.append(piece)
        size += len(piece)
        if size > ANSWER_BYTES:
            raise ValueError(f"the answer has more than {ANSWER_BYTES:,} bytes")
    return b"".join(pieces)


def _shown(text: str, key: str | None) -> str:
    """The beginning of a text of the service on one line, without the key, other secrets and control characters."""
    text = text if key is None else text.replace(key, "***")
    return redact("".join(c for c in " ".join(text.split()) if c.isprintable()))[:SHOWN]


def _wanted_pause(wanted: str) -> float:
    """Seconds that the service asks to wait, where it does so in numbers; at most the longest pause.

    >>> _wanted_pause("2.5"), _wanted_pause("Wed, 21 Oct 2026 07:28:00 GMT"), _wanted_pause("1e99"), _wanted_pause("nan")
    (2.5, 0.0, 60.0, 0.0)
    """
    try:
        seconds = float(wanted)
    except ValueError:
        return 0.0
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), LONGEST_PAUSE)
