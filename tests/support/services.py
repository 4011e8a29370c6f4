"""An embedding service on the loopback interface: OpenAI's protocol, text-embeddings-inference's, and faults on demand."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.conftest import ToyModel


@dataclass
class Service:
    """A running server.

    Attributes:
        faults: what goes wrong with the next requests, one each: a status, "slow", "garbage", "short", "narrow", "drop".
        texts: every text that was embedded and answered.
        requests: headers and body of every request.
    """

    port: int = 0
    faults: list = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    requests: list[tuple[dict, dict]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def openai(self):
        from hf_posmine.teachers.endpoint import EmbeddingService

        return EmbeddingService(f"http://127.0.0.1:{self.port}/v1/embeddings", model="toy", batch_size=8, timeout=5)

    @property
    def tei(self) -> str:
        return f"http://127.0.0.1:{self.port}/embed"


def start() -> Service:
    """A server of :class:`~tests.conftest.ToyModel` that ends with the process."""
    service = Service()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(service))
    service.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return service


def _handler(service: Service):
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with service.lock:
                service.requests.append((dict(self.headers), body))
                fault = service.faults.pop(0) if service.faults else None
            if fault == "drop":
                self.close_connection = True
                return
            if fault == "slow":
                threading.Event().wait(0.6)
            if isinstance(fault, int):
                self._send(fault, b'{"error": "no"}', {"Retry-After": "0.01"})
                return
            texts = body["input"] if "input" in body else body["inputs"]
            vectors = ToyModel().encode_document(texts).tolist() if texts else []
            vectors = vectors[:-1] if fault == "short" else vectors
            vectors = [v[:-1] for v in vectors] if fault == "narrow" else vectors
            if fault is None:
                with service.lock:
                    service.texts += texts
            if self.path == "/v1/embeddings":
                data = [{"index": i, "embedding": v} for i, v in enumerate(vectors)][::-1]
                answer = {"data": data, "usage": {"total_tokens": sum(len(t.split()) for t in texts)}}
            else:
                answer = vectors
            self._send(200, b"<html>" if fault == "garbage" else json.dumps(answer).encode())

        def _send(self, status, content, headers=()):
            try:
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except BrokenPipeError:
                return

        def log_message(self, *_):
            return

    return Handler
