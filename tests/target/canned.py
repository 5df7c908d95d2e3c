# SPDX-License-Identifier: Apache-2.0
"""A distribution point played by hand: whatever answer, plain or over TLS; and the certificates for that."""

from __future__ import annotations

import ipaddress
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat


@dataclass
class Canned:
    """A server with one answer for everything; remembers what it was asked, and over how many connections."""

    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, bytes]] = field(default_factory=list)
    ranges: list[str | None] = field(default_factory=list)
    answer_with: Callable[[BaseHTTPRequestHandler], None] | None = None
    connections: int = 0
    url: str = ""

    def answer(self, status: int, body: Any, **headers: str) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.headers = headers


@contextmanager
def serving(certificate: Path | None = None) -> Iterator[Canned]:
    """Serve on loopback; over TLS with a PEM file of certificate and key."""
    canned = Canned()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            super().setup()
            canned.connections += 1

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            canned.asked.append((self.command, self.path, self.rfile.read(length)))
            canned.ranges.append(self.headers.get("Range"))
            if canned.answer_with is not None:
                canned.answer_with(self)
                return
            self.send_response(canned.status)
            for name, value in canned.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(canned.body)))
            self.end_headers()
            self.wfile.write(canned.body)

        do_POST = do_GET

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True  # a kept connection is no reason to wait
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    canned.url = f"{'https' if certificate else 'http'}://127.0.0.1:{server.server_port}"
    try:
        yield canned
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_certificate(path: Path, *, address: str = "127.0.0.1", days: tuple[int, int] = (-1, 1)) -> Path:
    """A PEM file of a certificate that signs itself and its key; valid from and to so many days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "dp")])
    begin, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), begin, end)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(address))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    return path
