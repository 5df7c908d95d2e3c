# SPDX-License-Identifier: Apache-2.0
"""The connection to a distribution point: kept open, taken up again, over TLS, and past a lost SYN."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.target.canned import Canned, serving, write_certificate

from dpd.errors import ContentNotFound, DpdError
from dpd.target.distribution_point import connection as connection_module
from dpd.target.distribution_point.connection import FIRST_ATTEMPT_S, Connection, Unreachable, connect, trust


@pytest.fixture
def canned() -> Iterator[Canned]:
    with serving() as canned:
        yield canned


@pytest.fixture
def connection(canned: Canned) -> Iterator[Connection]:
    yield from opened(canned.url)


def opened(url: str, tls: ssl.SSLContext | None = None) -> Iterator[Connection]:
    parts = urlsplit(url)
    connection = Connection(parts.hostname or "", parts.port or 0, tls)
    yield connection
    connection.close()


def test_requests_share_one_connection(canned: Canned, connection: Connection) -> None:
    assert [connection.ask("GET", "/a"), connection.ask("POST", "/b", b"x")] == [b"{}", b"{}"]
    assert connection.peer_address() == "127.0.0.1"
    assert canned.connections == 1


def test_a_refusal_leaves_the_connection_open(canned: Canned, connection: Connection) -> None:
    canned.answer(404, {"error": {"message": "no such package"}})
    for _ in range(2):
        with pytest.raises(ContentNotFound, match="no such package"):
            connection.ask("GET", "/a")
    assert canned.connections == 1


def test_one_that_the_other_side_closed_meanwhile_is_opened_again(canned: Canned, connection: Connection) -> None:
    def answer_and_hang_up(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        handler.close_connection = True

    canned.answer_with = answer_and_hang_up
    for _ in range(3):
        assert connection.ask("GET", "/a") == b"ok"
        time.sleep(0.02)
    assert canned.connections == 3


def test_an_extent_is_read_in_place(canned: Canned, connection: Connection) -> None:
    canned.answer(206, b"4567", **{"Content-Range": "bytes 4-7/10"})
    buffer = bytearray(6)
    assert connection.fetch_extent("/x", 4, memoryview(buffer)[1:5]) == 4
    assert buffer == b"\x004567\x00"
    assert canned.ranges == ["bytes=4-7"]
    assert connection.fetch_extent("/x", 4, memoryview(buffer)[:4]) == 4
    assert canned.connections == 1


def test_what_came_before_a_break_counts(canned: Canned, connection: Connection) -> None:
    def break_off(handler: BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-9/10\r\nContent-Length: 10\r\n\r\n"
        handler.wfile.write(head + b"012345")
        handler.close_connection = True

    canned.answer_with = break_off
    buffer = bytearray(10)
    assert connection.fetch_extent("/x", 0, memoryview(buffer)) == 6
    assert bytes(buffer) == b"012345\0\0\0\0"


@pytest.mark.parametrize(
    ("status", "content_range", "message"),
    [(206, "bytes 0-3/10", "asked for bytes=4-7, got bytes 0-3/10"), (200, "", "HTTP 200"), (404, "", "HTTP 404")],
)
def test_another_extent_than_the_one_asked_for_is_refused(
    canned: Canned, connection: Connection, status: int, content_range: str, message: str
) -> None:
    canned.answer(status, b"0123", **{"Content-Range": content_range})
    with pytest.raises(DpdError, match=message):
        connection.fetch_extent("/x", 4, memoryview(bytearray(4)))


# ---- reaching it


def test_nobody_there_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        started = time.monotonic()
        with pytest.raises(
            Unreachable, match=r"^http://[^ ]+: Connection refused; is dpd running there, and is the port open"
        ):
            next(opened(f"http://127.0.0.1:{free.getsockname()[1]}")).ask("GET", "/")
    assert time.monotonic() - started < 5.0


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "TIMEOUT_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as mute, pytest.raises(Unreachable, match="timed out"):
        next(opened(f"http://127.0.0.1:{mute.getsockname()[1]}")).ask("GET", "/")


def test_a_full_queue_of_connections_is_waited_for_and_not_for_ever() -> None:
    """Linux drops the SYN then, as a network may: later attempts are made, and the first that stands is taken."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address):  # all that the queue takes
            timer = threading.Timer(0.3, lambda: listener.accept()[0].close())
            timer.start()
            started = time.monotonic()
            connect(address[0], address[1], 5.0).close()
            took = time.monotonic() - started
            timer.join()
            with pytest.raises(TimeoutError):
                connect(address[0], address[1], 0.1)
    assert took > 0.25, "the first SYN was taken: this test shows nothing"
    assert took < 1.0 or FIRST_ATTEMPT_S > 0.25, "it waited for the kernel's own second SYN"


def test_the_next_address_of_a_name_is_tried_where_one_refuses(canned: Canned, monkeypatch: pytest.MonkeyPatch) -> None:
    port = urlsplit(canned.url).port or 0
    real = socket.getaddrinfo
    addresses = [*real("127.0.0.2", port, type=socket.SOCK_STREAM), *real("127.0.0.1", port, type=socket.SOCK_STREAM)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    sock = connect("dp", port, 5.0)
    assert sock.getpeername()[0] == "127.0.0.1"
    sock.close()


# ---- TLS


def ask_over_tls(url: str, ca_file: str) -> bytes:
    connection = next(opened(url, trust(ca_file)))
    try:
        return connection.ask("GET", "/")
    finally:
        connection.close()


def test_a_certificate_of_the_named_authority_is_taken(tmp_path: Path) -> None:
    pem = write_certificate(tmp_path / "dp.pem")
    with serving(pem) as canned:
        assert ask_over_tls(canned.url, str(pem)) == b"{}"


def test_an_unknown_authority_is_told_with_the_option_that_names_it(tmp_path: Path) -> None:
    with (
        serving(write_certificate(tmp_path / "dp.pem")) as canned,
        pytest.raises(
            DpdError, match=r"its certificate is not trusted: self.signed certificate; name the PEM .* --ca-file"
        ),
    ):
        ask_over_tls(canned.url, "")


@pytest.mark.parametrize(
    ("address", "days", "message"),
    [
        ("192.0.2.1", (-1, 1), "call it by a name that stands in the certificate instead of 127.0.0.1"),
        (
            "127.0.0.1",
            (-3, -1),
            "certificate has expired; the distribution point needs a new one, or the clock here is wrong",
        ),
        ("127.0.0.1", (1, 3), "certificate is not yet valid; is the clock here right"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_told_in_words(
    tmp_path: Path, address: str, days: tuple[int, int], message: str
) -> None:
    pem = write_certificate(tmp_path / "dp.pem", address=address, days=days)
    with serving(pem) as canned, pytest.raises(DpdError, match=message) as caught:
        ask_over_tls(canned.url, str(pem))
    assert not isinstance(caught.value, Unreachable), "waiting does not help"


def test_tls_where_there_is_none_is_told(canned: Canned) -> None:
    with pytest.raises(DpdError, match="no TLS is spoken there; is it http://, or another port"):
        ask_over_tls(canned.url.replace("http:", "https:"), "")


def test_a_file_of_authorities_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    with pytest.raises(DpdError, match=r"empty.pem: no PEM certificate in it"):
        trust(str(tmp_path / "empty.pem"))
    with pytest.raises(DpdError, match=r"gone.pem: cannot be read: No such file"):
        trust(str(tmp_path / "gone.pem"))
