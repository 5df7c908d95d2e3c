# SPDX-License-Identifier: Apache-2.0
"""The connection of a pull: what a stall is, when it is noticed that nobody wants the bytes any more, and the ceiling."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing

import pytest
from tests.distribution.origin import Asked, Origin, Reply

from dpd.distribution.pulling.http_connection import HttpConnection, PatientSocket, Stalled
from dpd.distribution.pulling.http_connection import Origin as Place
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Outcome, SourceFailure, Terms
from dpd.errors import JobCancelled

BODY = bytes(range(256)) * 20_000


def connection(
    url: str, *, stall_s: float = 1.0, check: Callable[[], None] = lambda: None, rate: float = float("inf")
) -> HttpConnection:
    return HttpConnection("hq", Place.of(url), None, Terms(check, RateLimit(lambda: rate), stall_s))


def read(some: HttpConnection, path: str = "/x") -> bytes:
    answer, got, buffer = some.get(path, {}), bytearray(), memoryview(bytearray(1 << 20))
    while count := some.readinto(answer, buffer):
        got += buffer[:count]
    return bytes(got)


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("http://dp1.example", Place(False, "dp1.example", 80), "dp1.example"),
        ("https://dp1.example/x", Place(True, "dp1.example", 443), "dp1.example"),
        (
            "http://mirror.müller.example/",
            Place(False, "mirror.xn--mller-kva.example", 80),
            "mirror.xn--mller-kva.example",
        ),
        ("http://[fe80::1]:8080", Place(False, "fe80::1", 8080), "[fe80::1]:8080"),
    ],
)
def test_an_origin_is_read_out_of_a_url(url: str, expected: Place, authority: str) -> None:
    assert Place.of(url) == expected
    assert expected.authority == authority


@pytest.mark.parametrize(
    "url", ["ftp://x", "http://", "http://user@x", "http://x:port", "http://" + "a" * 64, "http://a..b"]
)
def test_what_is_no_origin(url: str) -> None:
    with pytest.raises(ValueError):
        Place.of(url)


def test_one_connection_serves_many_requests_and_is_made_anew_when_it_was_closed() -> None:
    with Origin({"x": BODY}) as origin:
        some = connection(origin.url)
        assert read(some) == read(some) == BODY
        assert len(origin._threads) == 2
        for each in list(origin._open):
            each.shutdown(socket.SHUT_RDWR)
        while origin._open:  # its threads have seen it
            time.sleep(0.01)
        assert read(some) == BODY
        assert len(origin._threads) == 3
        some.close()
        some.close()


def test_a_source_that_says_nothing_is_stalled_and_one_that_drips_too() -> None:
    def hang(asked: Asked, reply: Reply) -> None:
        reply.hang = 0 if asked.path == "x" else 1000

    with Origin({"x": BODY, "y": BODY}, hang) as origin:
        for path in ("/x", "/y"):
            some, begun = connection(origin.url, stall_s=0.6), time.monotonic()
            with pytest.raises(SourceFailure, match="in 1 s; is the network slow") as caught:
                read(some, path)
            assert caught.value.outcome is Outcome.STALLED
            assert 0.5 <= time.monotonic() - begun < 30


def test_a_cancel_is_noticed_in_a_stall() -> None:
    begun = time.monotonic()

    def check() -> None:
        if time.monotonic() > begun + 0.5:
            raise JobCancelled("enough")

    with Origin({"x": BODY}, lambda asked, reply: setattr(reply, "hang", 10)) as origin:
        some = connection(origin.url, stall_s=30.0, check=check)
        with pytest.raises(JobCancelled):
            read(some)
        assert time.monotonic() - begun < 25  # and not only when the stall is over
        some.close()


def test_our_own_ceiling_is_no_stall_of_the_source() -> None:
    with Origin({"x": BODY[:400_000]}) as origin:
        some = connection(origin.url, stall_s=0.3, rate=1.6e6)
        begun = time.monotonic()
        assert len(read(some)) == 400_000
        assert time.monotonic() - begun > 1.5
        some.close()


def test_under_a_ceiling_the_kernel_does_not_take_megabytes_ahead() -> None:
    """What left the origin is what has crossed the line."""
    with Origin({"x": bytes(40 << 20)}) as origin, closing(connection(origin.url, rate=8e6, stall_s=10.0)) as some:
        answer, buffer = some.get("/x", {}), memoryview(bytearray(1 << 20))
        begun, got = time.monotonic(), 0
        while time.monotonic() < begun + 1.0:
            got += some.readinto(answer, buffer)
        assert got <= 1e6 * (time.monotonic() - begun + 0.5)
        # Linux lifts the clamp when it gives a buffer room: on a line without delay 4.5 MB may come until it is said again.
        assert origin.sent_bytes - got <= 6 << 20


def test_words_for_what_goes_wrong() -> None:
    with pytest.raises(SourceFailure, match="hq: Connection refused") as caught:
        connection("http://127.0.0.1:1").get("/", {})
    assert caught.value.outcome is Outcome.UNREACHABLE
    with pytest.raises(SourceFailure) as caught:
        connection("http://no-such-host.invalid").get("/", {})
    assert caught.value.outcome is Outcome.UNREACHABLE


def test_lines_and_bytes_come_out_of_one_buffer_in_order() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody")
        some = PatientSocket(ours, lambda: None, 0.5)
        assert some.readline() == b"HTTP/1.1 200 OK\r\n"
        assert some.readline(2) == b"A:"
        assert some.readline(65536) == b" b\r\n"
        assert some.readline() == b"\r\n"
        buffer = memoryview(bytearray(10))
        assert some.readinto1(buffer[:3]) == 3
        assert some.readinto1(buffer[3:]) == 1
        assert bytes(buffer[:4]) == b"body"
        with pytest.raises(Stalled):
            some.readinto1(buffer)
        threading.Timer(0.1, lambda: theirs.sendall(bytes(5))).start()
        some.begin_wait()
        assert some.readinto1(buffer) == 5
        theirs.close()
        assert some.readline() == b""
