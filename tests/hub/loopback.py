"""A Hugging Face Hub on 127.0.0.1 that the real clients talk to: nothing in them is replaced, only the endpoint.

It keeps tokens apart, hides private repositories, takes LFS uploads with their checksum and NDJSON commits with their
parent, serves branches, tags, pull requests, redirects and byte ranges, and fails on order (``Fault``). It knows no
Xet, no multipart LFS, no organizations and no ``.gitignore``; commits are not git objects; an unknown route is a 404
that ``LoopbackHub.unknown`` lists. What it answers was read from the clients' source, not compared with the Hub.
"""

from __future__ import annotations

import functools
import os
import re
import socket
import socketserver
import struct
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.hub.access import identify
from tests.hub.content import Content
from tests.hub.exchange import Request, Response, as_json, failed, refused
from tests.hub.faults import Exchange, Fault
from tests.hub.repositories import Repositories
from tests.hub.store import Refusal, Repo

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKENS = {"hf_alice": "alice", "hf_alice_read": "alice:read", "hf_bob": "bob"}

_ID = r"((?:[^/]+/)?[^/]+)"
_API = rf"/api/(models|datasets)/{_ID}"
_REPO = rf"/(?:(datasets)/)?{_ID}"
_ROUTES = [
    (methods, re.compile(pattern), name)
    for methods, pattern, name in [
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create"),
        ("DELETE", r"/api/repos/delete", "delete"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("GET", rf"{_API}/tree/([^/]+)(/.+)?", "tree"),
        ("POST", rf"{_API}/paths-info/([^/]+)", "paths_info"),
        ("POST", rf"{_API}/preupload/([^/]+)", "preupload"),
        ("POST", rf"{_API}/commit/([^/]+)", "commit"),
        ("GET", rf"{_API}/refs", "refs"),
        ("GET", rf"{_API}/commits/([^/]+)", "commits"),
        ("POST DELETE", rf"{_API}/branch/([^/]+)", "branch"),
        ("POST DELETE", rf"{_API}/tag/([^/]+)", "tag"),
        ("PUT", rf"{_API}/settings", "settings"),
        ("GET", rf"{_API}/auth-check(/write)?", "auth_check"),
        ("GET POST", rf"{_API}/discussions", "discussions"),
        ("GET", rf"{_API}/discussions/(\d+)", "discussion"),
        ("POST", rf"{_API}/discussions/(\d+)/(comment|status|merge)", "change_discussion"),
        ("GET", rf"{_API}(?:/revision/([^/]+))?", "info"),
        ("POST", rf"{_REPO}\.git/info/lfs/objects/batch", "lfs_batch"),
        ("POST", rf"{_REPO}\.git/info/lfs/objects/verify", "lfs_verify"),
        ("GET HEAD PUT", rf"/_lfs/(models|datasets)/{_ID}/([0-9a-f]{{64}})", "stored"),
        ("GET HEAD", rf"{_REPO}/resolve/([^/]+)/(.+)", "resolve"),
    ]
]


class LoopbackHub(Repositories, Content):
    """The server, running from the start in daemon threads, and everything a test may look at.

    ``repos`` and ``repo()`` are what is stored, ``faults`` what shall fail, ``requests`` what was asked (users, never
    tokens), ``unknown`` the requests without a route, ``crashes`` the errors of this server itself.
    """

    def __init__(self, tokens: dict[str, str]) -> None:
        self.tokens = tokens
        self.repos: dict[tuple[str, str], Repo] = {}
        self.faults: list[Fault] = []
        self.requests: list[Exchange] = []
        self.unknown: list[str] = []
        self.crashes: list[Exception] = []
        self.epoch = 0
        self._lock = threading.RLock()
        server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{server.server_port}"
        # the client follows redirects on the Hub's own host and then misses X-Repo-Commit: storage is another host
        self.storage = f"http://localhost:{server.server_port}"
        threading.Thread(target=server.serve_forever, name="loopback-hub", daemon=True).start()

    def reset(self) -> None:
        """As new."""
        with self._lock:
            self.epoch += 1
            for kept in (self.repos, self.faults, self.requests, self.unknown, self.crashes):
                kept.clear()

    def repo(self, repo_id: str, kind: str = "datasets") -> Repo:
        return self.repos[kind, repo_id]

    def fail(
        self, method: str, path: str | re.Pattern[str], action: str, times: int | None = 1, after: int = 0
    ) -> Fault:
        """Order a failure; the answer tells later how often it struck (``hits``)."""
        self.faults.append(Fault(method, path, action, times, after))
        return self.faults[-1]

    def asked(self, method: str, part: str = "") -> list[Exchange]:
        """The requests so far with this method and this part in their path."""
        return [exchange for exchange in self.requests if exchange.method == method and part in exchange.path]

    def snapshot(self) -> dict[str, dict[str, str]]:
        """Every ref of every repository, to be compared with a later one."""
        with self._lock:
            return {f"{kind}/{name}": dict(repo.refs) for (kind, name), repo in self.repos.items()}

    def strike(self, method: str, path: str) -> str | None:
        with self._lock:
            return next((fault.action for fault in self.faults if fault.strikes(method, path)), None)

    def answer(self, method: str, target: str, headers: dict[str, str], body: bytes) -> tuple[Response, str | None]:
        """The response to one request, and the user who sent it."""
        parts, user = urlsplit(target), None
        with self._lock:
            try:
                on_storage = headers.get("host", "").startswith("localhost")
                user, role = (None, "read") if on_storage else identify(self.tokens, headers.get("authorization"))
                query = dict(parse_qsl(parts.query))
                return self._route(Request(method, parts.path, query, headers, body, user, role, on_storage)), user
            except Refusal as refusal:
                return refused(refusal), user
            except Exception as error:
                self.crashes.append(error)
                return failed(500), user

    def _route(self, request: Request) -> Response:
        for methods, pattern, name in _ROUTES:
            match = pattern.fullmatch(request.path)
            if match and request.method in methods.split():
                return getattr(self, name)(request, *(group and unquote(group) for group in match.groups()))
        self.unknown.append(f"{request.method} {request.path}")
        return as_json({"error": "the loopback Hub has no such route"}, 404)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = True

    def server_bind(self) -> None:  # HTTPServer's asks the resolver for the name of this host, which may take seconds
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is part of the tests; what the routes raise is in ``crashes``."""


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``LoopbackHub.requests``."""

    def _serve(self) -> None:
        action = self.hub.strike(self.command, unquote(self.path)) or ""
        kind, _, number = action.partition(":")
        if kind == "cut_after":
            self.rfile.read(int(number))
            return self._end(None, action)
        body = b"".join(self._body())
        if kind == "cut":
            return self._end(None, action)
        if kind == "sleep":
            epoch = self.hub.epoch
            time.sleep(float(number))
            if self.hub.epoch != epoch:  # the test that asked is over
                return self._reset()
        if kind in ("status", "no_space"):
            response, user = failed(int(number or 507)), None
        else:
            headers = {name.lower(): value for name, value in self.headers.items()}
            response, user = self.hub.answer(self.command, self.path, headers, body)
        if kind == "lose_response":
            return self._end(user, action)
        sent = int(number) if kind in ("truncate", "truncate_rst") else len(response.body)
        self._log(user, response.status, action)
        self._send(response, sent)
        if kind == "truncate":
            self.close_connection = True
        if kind == "truncate_rst":
            self._reset()

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _send(self, response: Response, sent: int) -> None:
        """Head and body in one segment, the body cut to ``sent`` bytes though its full length is promised."""
        self.send_response_only(response.status)
        for name, value in ({"Content-Length": str(len(response.body))} | response.headers).items():
            self.send_header(name, value)
        self._headers_buffer += [b"\r\n", b"" if self.command == "HEAD" else response.body[:sent]]
        self.flush_headers()

    def _end(self, user: str | None, action: str) -> None:
        self._log(user, 0, action)
        self._reset()

    def _reset(self) -> None:
        """RST: no FIN is sent, which would look like a clean end; hence the descriptor is closed without a shutdown."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        os.close(self.connection.detach())

    def _log(self, user: str | None, status: int, action: str) -> None:
        self.hub.requests.append(Exchange(self.command, unquote(self.path), user, status, action or None))


@functools.cache
def running() -> LoopbackHub:
    """The one server of this process."""
    return LoopbackHub(TOKENS)


def environment() -> dict[str, str]:
    """What must be in ``os.environ`` before huggingface_hub is imported, because it is read then."""
    return {
        "HF_ENDPOINT": running().url,
        "HF_HOME": tempfile.mkdtemp(
            prefix="posmine-hf-home-"
        ),  # without the tokens and caches of whoever runs the tests
        "HF_HUB_DISABLE_XET": "1",  # with Xet the client goes to a server of another kind, with no way back to LFS
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_UPDATE_DOWNLOAD_COUNTS": "0",
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }
