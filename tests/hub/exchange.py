"""Requests and answers of the loopback Hub, free of sockets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

if TYPE_CHECKING:
    from tests.hub.store import Refusal


@dataclass(frozen=True)
class Request:
    """A request as the routes see it: who asks (None: anonymous), with a token of which role, on which host."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes
    user: str | None
    role: str = "write"
    on_storage: bool = False

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body or b"{}")

    @property
    def form(self) -> dict[str, list[str]]:
        return parse_qs(self.body.decode())


@dataclass
class Response:
    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


def as_json(value: Any, status: int = 200, **headers: str) -> Response:
    return Response(status, json.dumps(value).encode(), {"Content-Type": "application/json"} | headers)


def refused(refusal: Refusal) -> Response:
    """The Hub says why in the body and in X-Error-Message; the client reads the latter for a 403."""
    answer = as_json({"error": refusal.message}, refusal.status)
    answer.headers |= {"X-Error-Message": refusal.message.splitlines()[0]} | refusal.headers
    return answer


def failed(status: int) -> Response:
    return as_json({"error": HTTPStatus(status).phrase}, status)


def ranged(content: bytes, wanted: str | None) -> Response:
    """The content, or the one byte range that the client asks for (206), or 416 where there is none."""
    if not wanted:
        return Response(200, content, {"Accept-Ranges": "bytes"})
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= stop:
        return Response(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    span = f"bytes {start}-{stop - 1}/{len(content)}"
    return Response(206, content[start:stop], {"Accept-Ranges": "bytes", "Content-Range": span})
