"""A JSON service over HTTP: asked with a key from the environment, and again after what may pass."""

from __future__ import annotations

import json
import os
import random
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, TypeVar

from hf_posmine.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 60.0
TOO_MANY, BROKEN = 429, 500

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Service:
    """Where to ask, and how often.

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
        """What ``read`` makes of the answer.

        Args:
            body: the question.
            read: the answer as JSON in, what was wanted out; a ValueError, KeyError, IndexError or TypeError says that it
                cannot be read.
            what: was asked, for errors.
            failed: hears of every attempt after the first.

        Raises:
            StoreError: no key, a refusal, or no readable answer in all attempts.
        """
        pause, problem, name = FIRST_PAUSE, "", self.name or self.url
        for attempt in range(self.retries + 1):
            if attempt:
                time.sleep(min(pause, LONGEST_PAUSE) * (0.5 + random.random()))
                pause *= 2
                failed()
            try:
                return read(self._post(body))
            except urllib.error.HTTPError as error:
                problem = f"HTTP {error.code}"
                if error.code != TOO_MANY and error.code < BROKEN:
                    said = error.read(500).decode("utf-8", "replace")
                    raise StoreError(f"{name} refused {what} with {problem}: {said}") from None
                pause = max(pause, _wanted_pause(error))
            except (OSError, HTTPException, ValueError, KeyError, IndexError, TypeError) as error:
                problem = f"{type(error).__name__}: {error}"
        raise StoreError(
            f"{name} gave no usable answer in {self.retries + 1} attempts ({problem[:200]}); what was finished is stored, run "
            "again to continue"
        )

    def _post(self, body: dict[str, Any]) -> Any:
        headers = {"Content-Type": "application/json"}
        if self.api_key_env is not None:
            key = os.environ.get(self.api_key_env)
            if not key:
                raise StoreError(f"the environment variable {self.api_key_env} holds no key; set it")
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:
            return json.loads(answer.read())


def _wanted_pause(error: urllib.error.HTTPError) -> float:
    """Seconds the service asks to wait, where it says so in numbers."""
    wanted = error.headers.get("Retry-After", "")
    return float(wanted) if wanted.replace(".", "", 1).isdigit() else 0.0
