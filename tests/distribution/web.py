# SPDX-License-Identifier: Apache-2.0
"""A folder on a web server of its own, with ranges; it can stall, lie and vanish as a test wants."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Web:
    """What is served, and what was asked: paths with their ranges."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[tuple[str, str]] = []
        self.url = ""
        self.lies = False


@contextmanager
def served(folder: Path) -> Iterator[Web]:
    """The folder on a free port of loopback."""
    web = Web(folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Ranges, web))
    web.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Ranges(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, web: Web, *rest: object) -> None:
        self._web = web
        super().__init__(*rest, directory=str(web.folder))  # type: ignore[arg-type]

    def do_GET(self) -> None:
        asked = self.headers.get("Range", "")
        self._web.asked.append((self.path, asked))
        path = self._web.folder / self.path.lstrip("/")
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        begin, end = 0, len(content)
        if found:
            begin, end = int(found[1]), min(int(found[2]) + 1 if found[2] else len(content), len(content))
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{end - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(end - begin))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        body = content[begin:end]
        self.wfile.write(bytes(reversed(body)) if self._web.lies else body)

    def log_message(self, format: str, *arguments: object) -> None:
        """Not into the test's output."""
