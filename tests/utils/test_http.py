"""A service that is not trusted: redirects, echoed keys, malformed and endless answers are one line each."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from hf_posmine.core.errors import StoreError
from hf_posmine.utils import http
from hf_posmine.utils.http import Service

KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server(monkeypatch):
    """A server that gives ``server.answer``: status, headers, body; and keeps the headers that it got."""
    monkeypatch.setattr("hf_posmine.utils.retry.sleep", lambda seconds: None)
    monkeypatch.setenv("TEST_KEY", KEY)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.server.got.append((self.path, self.headers["Authorization"]))
            status, headers, body = self.server.answer
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST

        def log_message(self, *_):
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.answer = [], (200, {}, b"[]")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


def ask(server, read=lambda answer: answer["data"][0], **changes):
    url = f"http://user:hunter2@127.0.0.1:{server.server_port}/embed"
    return Service(url, "TEST_KEY", 1, 5.0, **changes).ask({"inputs": ["a"]}, read, "1 text")


def failure(server) -> str:
    with pytest.raises(StoreError) as caught:
        ask(server)
    text = str(caught.value)
    assert "\n" not in text and KEY not in text and "hunter2" not in text and len(text) < 600
    return text


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_refused_and_the_key_does_not_follow_it(server, status):
    server.answer = (status, {"Location": f"http://localhost:{server.server_port}/elsewhere"}, b"")
    assert "a redirect to http://localhost" in failure(server)
    assert [path for path, _ in server.got] == ["/embed"]


@pytest.mark.parametrize("status", [400, 401, 500, 503])
def test_a_key_that_the_service_echoes_is_not_shown(server, status):
    server.answer = (status, {}, b"\x1b[31m" + b"x" * 190 + f" bad key {KEY}\nsecond line".encode())
    assert f"HTTP {status}" in failure(server)


@pytest.mark.parametrize(
    "body", [b"[]", b'"text"', b"null", b"7", b"", b"{", b"[" * 100_000, b'{"data": []}', b'{"data": {}}', b"\xff\xfe", b"9" * 5000]
)  # fmt: skip
def test_a_malformed_answer_is_one_line(server, body):
    server.answer = (200, {}, body)
    assert "gave no usable answer in 2 attempts" in failure(server)
    assert len(server.got) == 2


@pytest.mark.parametrize("pause", ["nan", "inf", "-3", "1e999", "soon", "Wed, 21 Oct 2099 07:28:00 GMT", ""])
def test_any_retry_after_is_a_pause_or_none(server, pause):
    server.answer = (429, {"Retry-After": pause}, b"")
    assert "HTTP 429" in failure(server)


def test_an_answer_has_a_largest_size(server, monkeypatch):
    monkeypatch.setattr(http, "ANSWER_BYTES", 1000)
    server.answer = (200, {}, b" " * 5000 + b"[]")
    assert "the answer has more than 1,000 bytes" in failure(server)
