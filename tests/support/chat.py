"""A chat server on the loopback interface, with answers by a rule and faults on demand."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from hf_posmine.evaluation.judge.chat import ChatServer


class ChatService:
    """A chat server that answers as ``verdict(query, reference, candidate)`` says; ``faults`` go wrong first, one each."""

    def __init__(self):
        self.faults, self.requests, self.answered = [], [], []
        self.counts = False  # whether answers have the number of their tokens, here words
        self.lock = threading.Lock()
        self.answer = lambda query, reference, candidate: says("relevant" in candidate)
        self.other = lambda model, asked: ""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def chat(self, **options) -> ChatServer:
        return ChatServer(self.url, "toy", timeout=2, **options)

    def reply(self, body, asked) -> str | None:
        if "candidate" in asked:
            return self.answer(asked["query"], asked["reference"], asked["candidate"])
        return self.other(body["model"], asked)

    def _handler(service):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with service.lock:
                    service.requests.append((self.path, dict(self.headers), body))
                    fault = service.faults.pop(0) if service.faults else None
                if fault == "drop":
                    self.close_connection = True
                    return
                if fault == "slow":
                    threading.Event().wait(2.5)
                if isinstance(fault, int):
                    self._send(fault, b'{"error": "no"}')
                    return
                asked = json.loads(body["messages"][1]["content"])
                text = service.reply(body, asked)
                text = {"prose": "It is relevant.", "null": None}.get(fault, text)
                if fault is None:
                    with service.lock:
                        service.answered.append(asked.get("candidate", json.dumps(body["messages"])))
                answer = {"choices": [{"message": {"role": "assistant", "content": text}}]}
                if service.counts:
                    read = sum(len(message["content"].split()) for message in body["messages"])
                    answer["usage"] = {"prompt_tokens": read, "completion_tokens": len((text or "").split())}
                content = json.dumps(answer).encode()
                self._send(200, {"garbage": b"<html>", "empty": b'{"choices": []}'}.get(fault, content))

            def _send(self, status, content):
                try:
                    self.send_response(status)
                    self.send_header("Retry-After", "0.01")
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except (BrokenPipeError, ConnectionResetError):
                    return

            def log_message(self, *_):
                return

        return Handler


def says(relevant: bool, compared: str = "worse") -> str:
    return json.dumps({"relevant": relevant, "compared_with_reference": compared})
