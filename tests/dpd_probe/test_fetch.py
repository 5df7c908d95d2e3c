# SPDX-License-Identifier: Apache-2.0
"""The probe's TFTP and HTTP clients: whole files over a bad path, and failures by name."""

from __future__ import annotations

import hashlib
import http.server
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from dpd_probe.client import Target, Told
from dpd_probe.fetch import BLKSIZE, fetch
from dpd_probe.steps import Account, Ending, ProbeError

HERE = "127.0.0.1"
CONTENT = bytes(range(256)) * 40
Losing = Callable[[bytes], bool]


@contextmanager
def tftp(losing: Losing = lambda datagram: False, *, options: bool = True, error: bytes = b"") -> Iterator[Target]:
    """A plain TFTP server that follows its client block by block, and loses what `losing` says."""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as door,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock,
    ):
        door.bind((HERE, 0))
        sock.bind((HERE, 0))
        ends = threading.Event()
        thread = threading.Thread(target=_serve, args=(door, sock, losing, options, error, ends))
        thread.start()
        try:
            yield Target(HERE, tftp_port=door.getsockname()[1], relay=HERE, timeout_s=0.1)
        finally:
            ends.set()
            thread.join()


def _serve(
    door: socket.socket, sock: socket.socket, losing: Losing, options: bool, error: bytes, ends: threading.Event
) -> None:
    door.settimeout(0.05)
    sock.settimeout(0.02)
    peer, size, window = ("", 0), BLKSIZE if options else 512, 2 if options else 1
    while not ends.is_set():
        try:
            request, peer = door.recvfrom(2048)
            if error:
                door.sendto(b"\0\5\0\1" + error + b"\0", peer)
            elif options:
                assert b"windowsize" in request
                _send(
                    sock, b"\0\6blksize\0%d\0windowsize\0%d\0tsize\0%d\0" % (size, window, len(CONTENT)), peer, losing
                )
            else:
                _send(sock, b"\0\3\0\1" + CONTENT[:size], peer, losing)
        except TimeoutError:
            pass
        while peer[1]:
            try:
                acknowledged = int.from_bytes(sock.recv(4)[2:], "big")
            except TimeoutError:
                break
            for block in range(acknowledged + 1, acknowledged + 1 + window):
                if (block - 1) * size <= len(CONTENT):
                    _send(
                        sock,
                        b"\0\3" + block.to_bytes(2, "big") + CONTENT[(block - 1) * size : block * size],
                        peer,
                        losing,
                    )


def _send(sock: socket.socket, datagram: bytes, peer: tuple[str, int], losing: Losing) -> None:
    if not losing(datagram):
        sock.sendto(datagram, peer)


def told(loader: str = "ipxe.efi") -> Told:
    return Told(HERE, loader, True)


def is_whole(fetched: object) -> bool:
    return fetched.sha256 == hashlib.sha256(CONTENT).hexdigest()  # type: ignore[attr-defined, no-any-return]


def test_a_file_comes_whole_by_tftp() -> None:
    with tftp() as target:
        assert is_whole(fetch(told(), target, Account()))


def test_a_server_without_options_is_served_from_too() -> None:
    with tftp(options=False) as target:
        assert is_whole(fetch(told("tftp://127.0.0.1/dir/ipxe.efi"), target, Account()))


def test_lost_datagrams_come_again() -> None:
    once = {b"\0\6": 1, b"\0\3\0\2": 1, b"\0\3\0\5": 2}

    def losing(datagram: bytes) -> bool:
        for start in once:
            if datagram.startswith(start) and once[start]:
                once[start] -= 1
                return True
        return False

    with tftp(losing) as target:
        assert is_whole(fetch(told(), target, Account()))
    assert not any(once.values())


def test_large_blocks_that_never_come_are_named() -> None:
    with (
        tftp(lambda datagram: len(datagram) > 1000) as target,
        pytest.raises(ProbeError, match="no answer after block 0"),
    ):
        fetch(told(), target, Account())


def test_an_error_of_the_server_is_told() -> None:
    with (
        tftp(error=b"no such file") as target,
        pytest.raises(ProbeError, match="the server says: no such file") as caught,
    ):
        fetch(told(), target, Account())
    assert caught.value.ending is Ending.FAILED


def test_a_server_that_is_silent_is_named() -> None:
    with tftp(lambda datagram: True) as target, pytest.raises(ProbeError, match="is UDP blocked on the way"):
        fetch(told(), target, Account())


class _Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/boot/ipxe.efi" else 403)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[str]:
    with http.server.HTTPServer((HERE, 0), _Answer) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield f"http://{HERE}:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_file_comes_whole_by_http(web: str) -> None:
    assert is_whole(fetch(told(f"{web}/boot/ipxe.efi"), Target(), Account()))


def test_a_refusal_by_http_is_told(web: str) -> None:
    with pytest.raises(ProbeError, match="403"):
        fetch(told(f"{web}/boot/secret"), Target(), Account())
