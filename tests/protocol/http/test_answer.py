# SPDX-License-Identifier: Apache-2.0
"""Answers as servers and proxies send them, whole, in pieces and damaged."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpd.protocol.http.answer import Answer, BadAnswer


class Trickle(io.RawIOBase):
    """A socket that brings a few bytes at a time."""

    def __init__(self, content: bytes, piece: int) -> None:
        self._content = io.BytesIO(content)
        self._piece = piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        piece = self._content.read(min(self._piece, len(buffer)))
        buffer[: len(piece)] = piece
        return len(piece)


def answer_of(content: bytes, piece: int = 7) -> tuple[Answer, io.BufferedReader[Trickle]]:
    stream = io.BufferedReader(Trickle(content, piece), 64)
    return Answer(stream), stream


def test_an_answer_of_known_length_ends_there() -> None:
    answer, stream = answer_of(
        b"HTTP/1.1 206 Partial Content\r\nCONTENT-Length: 5\r\nContent-Range:bytes 0-4/9\r\n\r\n01234NEXT"
    )
    assert (answer.status, answer.headers["content-range"], answer.is_last) == (206, "bytes 0-4/9", False)
    assert answer.read(100) == b"01234"
    assert stream.read(4) == b"NEXT"


def test_chunks_are_joined() -> None:
    body = b"5\r\n01234\r\n3;name=x\r\n567\r\n0\r\nTrailer: y\r\n\r\nNEXT"
    answer, stream = answer_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body)
    assert answer.read(100) == b"01234567"
    assert answer.readinto(memoryview(bytearray(4))) == 0
    assert stream.read(4) == b"NEXT"
    assert not answer.is_last


def test_without_a_length_the_end_of_the_connection_is_that_of_the_body() -> None:
    answer, _ = answer_of(b"HTTP/1.1 200 OK\r\n\r\nall of it")
    assert answer.read(100) == b"all of it"
    assert answer.is_last


@pytest.mark.parametrize("head", [b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\nConnection: Close\r\n"])
def test_a_connection_that_ends_with_the_answer_is_known(head: bytes) -> None:
    answer, _ = answer_of(head + b"Content-Length: 0\r\n\r\n")
    assert answer.is_last
    assert answer.read(10) == b""


def test_what_comes_before_the_answer_is_skipped() -> None:
    answer, _ = answer_of(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
    assert answer.status == 204
    assert answer.read(10) == b""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "closed instead of an answer"),
        (b"SSH-2.0-OpenSSH\r\n", "no HTTP answer: b'SSH-2.0-OpenSSH"),
        (b"HTTP/1.1 abc\r\n\r\n", "no HTTP answer"),
        (b"HTTP/1.1 200 OK\r\nnothing\r\n\r\n", "no HTTP header: b'nothing"),
        (b"HTTP/1.1 200 OK\r\nA: b", "no HTTP header: b'A: b'"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length: -1"),
        (b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 101 + b"\r\n", "more than 100 HTTP headers"),
    ],
)
def test_what_is_no_answer_is_told(content: bytes, message: str) -> None:
    with pytest.raises(OSError, match=message):
        answer_of(content)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"Content-Length: 9\r\n\r\n01234", "broken off"),
        (b"Transfer-Encoding: chunked\r\n\r\n5\r\n012", "broken off"),
        (b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "no size of a chunk"),
        (b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", "no size of a chunk"),
        (b"Transfer-Encoding: chunked\r\n\r\n1_0\r\n", "no size of a chunk"),
        (b"Content-Length: 101\r\n\r\n" + bytes(101), "more than 100 bytes"),
    ],
)
def test_a_body_that_ends_early_or_never_is_told(content: bytes, message: str) -> None:
    answer, _ = answer_of(b"HTTP/1.1 200 OK\r\n" + content)
    with pytest.raises(BadAnswer, match=message):
        answer.read(100)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_bytes_are_an_answer_or_an_error(content: bytes, piece: int) -> None:
    try:
        answer, _ = answer_of(b"HTTP/1.1 200" + content, piece)
        answer.read(1000)
    except OSError:
        pass


@given(st.lists(st.binary(min_size=1, max_size=80)), st.integers(1, 50))
def test_chunks_give_what_was_cut(chunks: list[bytes], piece: int) -> None:
    body = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    answer, _ = answer_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body, piece)
    assert answer.read(10_000) == b"".join(chunks)


def test_interim_answers_do_not_go_on_for_ever() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"
    answer, _ = answer_of(10 * interim + b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx")
    assert (answer.status, answer.read(9)) == (200, b"x")
    with pytest.raises(BadAnswer, match="more than 10 interim answers"):
        answer_of(11 * interim + b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_length_of_thousands_of_digits_is_none() -> None:
    with pytest.raises(BadAnswer, match="Content-Length: 999"):
        answer_of(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n")
