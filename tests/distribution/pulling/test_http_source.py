# SPDX-License-Identifier: Apache-2.0
"""HTTP as sources speak it: ranges that are right, ranges that are not, and TLS by the operator's own authority."""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.distribution.origin import Asked, Origin, Reply
from tests.interop.tls_authority import TlsAuthority

from dpd.content import repository
from dpd.distribution.pulling.http_source import HttpSource, UrlSession, UrlSource
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.source import Outcome, Session, SourceFailure, Stream, Terms

BODY = bytes(range(256)) * 400
TERMS = Terms(lambda: None, RateLimit(lambda: float("inf")), 1.0, ("a" * 32, "b" * 32))


def drained(stream: Stream) -> bytes:
    got, buffer = bytearray(), memoryview(bytearray(7000))
    while count := stream.readinto(buffer):
        got += buffer[:count]
    stream.close()
    return bytes(got)


def opened(session: Session, begin: int, end: int, size: int = len(BODY)) -> bytes:
    return drained(session.open("x", begin, end, size))


def failure(session: Session, begin: int = 0, end: int = len(BODY), size: int = len(BODY)) -> SourceFailure:
    with pytest.raises(SourceFailure) as caught:
        opened(session, begin, end, size)
    return caught.value


@pytest.mark.parametrize("prefix", ["", "/dpd", "/a%20b/c"])
def test_ranges_below_any_prefix_over_one_connection(prefix: str) -> None:
    with Origin({f"{prefix[1:]}/x".lstrip("/"): BODY}) as origin:
        session = HttpSource("hq", origin.url + prefix).session(TERMS)
        assert opened(session, 0, len(BODY)) == BODY
        assert opened(session, 5, 9) == BODY[5:9]
        assert opened(session, len(BODY) - 1, len(BODY)) == BODY[-1:]
        assert session.read("x", len(BODY)) == BODY
        assert len(origin._threads) == 2
        assert "range" not in origin.asked[0].headers
        assert origin.asked[1].range == (5, 8)
        assert repository.decode_via(origin.asked[0].headers["x-dpd-via"]) == TERMS.via
        session.close()


def test_without_ranges_the_rest_is_read_and_a_middle_is_refused() -> None:
    with Origin({"x": BODY}, ranges=False) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        assert opened(session, 50_000, len(BODY)) == BODY[50_000:]
        assert failure(session, 10, 20).outcome is Outcome.NO_RANGES
        assert opened(session, 0, len(BODY)) == BODY
        session.close()


def test_chunked_answers_are_read_and_held_against_their_length() -> None:
    def chunk(asked: Asked, reply: Reply) -> None:
        body = BODY if asked.path == "x" else BODY + b"more"
        reply.headers = {"Transfer-Encoding": "chunked", "Content-Length": "0"}
        del reply.headers["Content-Length"]
        reply.body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        reply.headers["X-No"] = "length"

    with Origin({"x": BODY, "y": BODY}, chunk) as origin:
        origin._send = _send_without_length  # type: ignore[method-assign]
        session = HttpSource("hq", origin.url).session(TERMS)
        assert opened(session, 0, len(BODY)) == BODY
        with pytest.raises(SourceFailure, match="goes on behind its end"):
            drained(session.open("y", 0, len(BODY), len(BODY)))
        session.close()


def _send_without_length(client: object, reply: Reply) -> bool:
    head = "".join(f"{name}: {value}\r\n" for name, value in reply.headers.items())
    client.sendall(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode() + reply.body)  # type: ignore[attr-defined]
    return True


@pytest.mark.parametrize(
    ("told", "length"),
    [
        ("bytes 0-3/102400", None),
        ("bytes 4-7/99", None),
        ("bytes 4-8/102400", None),
        ("4-7", None),
        ("", None),
        ("bytes 4-7/102400", "5"),
    ],
)
def test_an_answer_with_another_range_is_a_lie(told: str, length: str | None) -> None:
    def lie(asked: Asked, reply: Reply) -> None:
        reply.headers["Content-Range"] = told
        if length is not None:
            reply.headers["Content-Length"] = length

    with Origin({"x": BODY}, lie) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        assert failure(session, 4, 8).outcome is Outcome.WRONG
        session.close()


def test_a_range_of_unknown_total_is_taken() -> None:
    with Origin({"x": BODY}, lambda asked, reply: reply.headers.update({"Content-Range": "bytes 4-7/*"})) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        assert opened(session, 4, 8) == BODY[4:8]
        session.close()


@pytest.mark.parametrize("status", [403, 301])
def test_what_a_source_says_writes_nothing_to_a_terminal_but_words(status: int) -> None:
    def answer(asked: Asked, reply: Reply) -> None:
        reply.status, reply.body = status, b'{"error":{"message":"no\\u001b[2J\\nwarning: yes"}}'
        reply.headers["Location"] = "https://x/\x1b[2J"

    with Origin({"x": BODY}, answer) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        found = failure(session)
        session.close()
    assert "?[2J" in found.why
    assert str(found).isprintable()


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (404, Outcome.NOT_FOUND),
        (410, Outcome.NOT_FOUND),
        (416, Outcome.WRONG),
        (401, Outcome.REFUSED),
        (405, Outcome.REFUSED),
        (429, Outcome.UNREACHABLE),
        (500, Outcome.UNREACHABLE),
        (503, Outcome.UNREACHABLE),
        (301, Outcome.REFUSED),
        (308, Outcome.REFUSED),
        (204, Outcome.REFUSED),
    ],
)
def test_what_a_status_means(status: int, outcome: Outcome) -> None:
    def answer(asked: Asked, reply: Reply) -> None:
        reply.status, reply.body = status, b'{"error":{"code":"x","message":"closed for today"}}'
        reply.headers["Location"] = "https://elsewhere.example/dpd"
        if status == 204:
            reply.body = b""

    with Origin({"x": BODY}, answer) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        found = failure(session)
        assert found.outcome is outcome
        if status in (301, 308):
            assert "redirects to https://elsewhere.example/dpd; a source is asked at its own place" in found.why
        elif status != 204:
            assert "closed for today" in found.why
        session.close()


def test_a_document_has_a_limit() -> None:
    with Origin({"x": BODY}) as origin:
        session = HttpSource("hq", origin.url).session(TERMS)
        with pytest.raises(SourceFailure, match="more than 1000 bytes"):
            session.read("x", 1000)
        session.close()


def test_a_url_is_a_repository_of_one_blob() -> None:
    with Origin({"img?v=1&k=a%2Bb": BODY}) as origin:
        session = UrlSource(f"{origin.url}/img?v=1&k=a%2Bb", "ab" * 32).session(TERMS)
        blob = repository.blob("ab" * 32)
        assert drained(session.open(blob, 3, 9, len(BODY))) == BODY[3:9]
        head = session.head(100)
        assert (head.size_bytes, head.begin, head.has_ranges) == (len(BODY), BODY[:100], True)
        for ask in (lambda: session.read(repository.IDENTITY, 9), lambda: session.open("other", 0, 1, 1)):
            with pytest.raises(SourceFailure) as caught:
                ask()
            assert caught.value.outcome is Outcome.NOT_FOUND
        session.close()


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """A web server over TLS with BODY at /x, and its authority's certificate."""
    authority = TlsAuthority()
    certificate, key = authority.issue(tmp_path, "127.0.0.1")
    ca = tmp_path / "ca.pem"
    from cryptography.hazmat.primitives.serialization import Encoding

    ca.write_bytes(authority.certificate.public_bytes(Encoding.PEM))
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "x").write_bytes(BODY)
    web = str(tmp_path / "web")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def __init__(self, *args: object, **kw: object) -> None:
            super().__init__(*args, directory=web, **kw)  # type: ignore[arg-type]

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_address[1]}", ca
    server.shutdown()
    server.server_close()
    thread.join(5)


def test_tls_by_the_operators_own_authority(tls: tuple[str, Path]) -> None:
    url, ca = tls
    session = HttpSource("hq", url, ca_file=str(ca)).session(TERMS)
    assert opened(session, 0, len(BODY)) == BODY
    session.close()


def test_a_certificate_of_nobody_is_refused(tls: tuple[str, Path]) -> None:
    session = HttpSource("hq", tls[0]).session(TERMS)
    found = failure(session)
    assert found.outcome is Outcome.REFUSED
    assert "not trusted" in found.why
    assert "ca_file" in found.why


def test_a_name_that_is_not_in_the_certificate_is_refused(tls: tuple[str, Path]) -> None:
    session = HttpSource("hq", tls[0].replace("127.0.0.1", "localhost"), ca_file=str(tls[1])).session(TERMS)
    assert failure(session).outcome is Outcome.REFUSED


def test_tls_where_none_is_spoken(tls: tuple[str, Path]) -> None:
    with Origin({"x": BODY}) as origin:
        session = HttpSource("hq", origin.url.replace("http:", "https:"), ca_file=str(tls[1])).session(TERMS)
        found = failure(session)
        assert found.outcome is Outcome.UNREACHABLE
        assert "TLS" in found.why


def test_a_ca_file_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("nothing")
    with pytest.raises(SourceFailure, match="no PEM certificate in it"):
        HttpSource("hq", "https://x", ca_file=str(tmp_path / "ca")).session(TERMS)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    answer=st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda status, headers, body: (
                b"HTTP/1.1 %d X\r\n" % status + b"".join(b"%b: %b\r\n" % pair for pair in headers) + b"\r\n" + body
            ),
            st.sampled_from([100, 200, 204, 206, 302, 404, 416, 500]),
            st.lists(
                st.tuples(
                    st.sampled_from(
                        [
                            b"Content-Length",
                            b"Content-Range",
                            b"Transfer-Encoding",
                            b"Location",
                            b"Content-Encoding",
                            b"ETag",
                        ]
                    ),
                    st.one_of(
                        st.sampled_from(
                            [b"0", b"4", b"-1", b"9" * 30, b"chunked", b"bytes 0-3/4", b"http://[::1", b"x:y"]
                        ),
                        st.binary(max_size=20).filter(lambda value: b"\n" not in value),
                    ),
                ),
                max_size=4,
            ),
            st.binary(max_size=40),
        ),
    )
)
@example(b"HTTP/1.1 302 X\r\nLocation: http://[::1\r\nContent-Length: 0\r\n\r\n")
@example(b"HTTP/1.1 302 X\r\nLocation: http://\xff\x00:x/\r\nContent-Length: 0\r\n\r\n")
@example(b"HTTP/1.1 302 X\r\nLocation: http://a b/ c\xe9?\xe9\r\nContent-Length: 0\r\n\r\n")
@example(b"HTTP/1.1 302 X\r\nLocation: http://" + b"a" * 300 + b"/\r\nContent-Length: 0\r\n\r\n")
@example(b"HTTP/1.1 302 X\r\nLocation: ftp://x/\r\nContent-Length: 0\r\n\r\n")
def test_whatever_a_source_answers_it_is_bytes_or_a_failure(answer: bytes) -> None:
    with Raw(answer) as raw:
        quick = Terms(lambda: None, RateLimit(lambda: float("inf")), 2.0)
        sessions: list[Session] = [
            HttpSource("hq", raw.url).session(quick),
            UrlSource(f"{raw.url}/x", "ab" * 32).session(quick),
        ]
        asks: list[Callable[[], object]] = [
            lambda: sessions[0].read("x", 100),
            lambda: drained(sessions[0].open("x", 0, 4, 4)),
            lambda: drained(sessions[0].open("x", 1, 3, 4)),
            lambda: cast(UrlSession, sessions[1]).head(10),
            lambda: drained(sessions[1].open(repository.blob("ab" * 32), 0, 4, 4)),
        ]
        for ask in asks:
            with suppress(SourceFailure):
                ask()
        for each in sessions:
            each.close()


class Raw:
    """A server that answers every request with these bytes and hangs up."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def __enter__(self) -> Raw:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                with client, suppress(OSError):
                    client.recv(65536)
                    client.sendall(self._answer)


def test_a_trust_that_is_no_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    reader: list[object] = []

    def read() -> None:
        with pytest.raises(SourceFailure, match="no regular file"):
            HttpSource("hq", "https://127.0.0.1:1", ca_file=str(tmp_path / "pipe")).session(TERMS)
        reader.append("refused")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    if thread.is_alive():
        os.close(os.open(tmp_path / "pipe", os.O_WRONLY | os.O_NONBLOCK))  # or it stays there
    assert reader == ["refused"]
