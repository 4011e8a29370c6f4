"""Files of a folder over HTTP on the loopback interface."""

from __future__ import annotations

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Website:
    """A running server of a folder.

    Attributes:
        url: its address.
        versions: whether answers name a version of the file (``Last-Modified``).
        sent: bytes of bodies that were sent, per file.
        status: of every answer, instead of the file; None for the file.
    """

    def __init__(self, folder: Path) -> None:
        self.versions, self.status = True, None
        self.sent: dict[str, int] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_handler(self), directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        """Answer no more."""
        self._server.shutdown()
        self._server.server_close()


def _handler(site: Website) -> type[SimpleHTTPRequestHandler]:
    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self):
            if site.status is not None:
                self.send_error(site.status)
                return
            super().do_GET()

        def copyfile(self, source, outputfile):
            try:
                while piece := source.read(1 << 16):
                    outputfile.write(piece)
                    site.sent[self.path] = site.sent.get(self.path, 0) + len(piece)
            except ConnectionError:  # the client had seen enough of the head
                return

        def send_header(self, keyword, value):
            if site.versions or keyword != "Last-Modified":
                super().send_header(keyword, value)

        def log_message(self, *_):
            return

    return Handler
