# SPDX-License-Identifier: Apache-2.0
"""An HTTP/1.1 answer as it comes in: status, headers, and a body that is read in place (RFC 9112).

Python's http.client does the same with the email package behind it, which costs 25 ms of CPU at the start of each receiver:
a quarter of all that it takes to begin.
"""

from __future__ import annotations

import re
from typing import Protocol

MAX_LINE_BYTES = 65536
MAX_HEADERS = 100
MAX_LENGTH_DIGITS = 19  # 2^63; and int() raises ValueError for thousands
MAX_INTERIM = 10  # 1xx, which may come before the answer itself
PIECE_BYTES = 1 << 20
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,16}")


class BadAnswer(OSError):
    """What came is no HTTP/1.1 answer, or not all of it."""


class Stream(Protocol):
    """What is read: a buffered file over a socket."""

    def readline(self, size: int = -1, /) -> bytes: ...

    def readinto1(self, buffer: memoryview, /) -> int: ...


class Answer:
    """Reads status and headers at once, the body when asked to. Raises BadAnswer and whatever the stream raises.

    `headers` have lower-case names; of several of one name the last counts. `is_last`: the connection ends with it.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        for _ in range(MAX_INTERIM + 1):
            version = self._read_status()
            self.headers = self._read_headers()
            if self.status // 100 != 1:
                break
        else:
            raise BadAnswer(f"more than {MAX_INTERIM} interim answers")
        self._is_chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        self._left = self._length()  # bytes of the body, or of this chunk; None: until the connection ends
        keeps = version != b"HTTP/1.0" and self.headers.get("connection", "").lower() != "close"
        self.is_last = not keeps or self._left is None

    def _read_status(self) -> bytes:
        line = self._stream.readline(MAX_LINE_BYTES)
        if not line:
            raise ConnectionResetError("the connection was closed instead of an answer")
        version, _, rest = line.partition(b" ")
        if not version.startswith(b"HTTP/1.") or not rest[:3].isdigit():
            raise BadAnswer(f"no HTTP answer: {line[:40]!r}")
        self.status = int(rest[:3])
        return version

    def _read_headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        for _ in range(MAX_HEADERS):
            line = self._stream.readline(MAX_LINE_BYTES)
            if line in (b"\r\n", b"\n"):
                return headers
            name, colon, value = line.decode("latin-1").partition(":")
            if not colon or not line.endswith(b"\n"):
                raise BadAnswer(f"no HTTP header: {line[:40]!r}")
            headers[name.strip().lower()] = value.strip()
        raise BadAnswer(f"more than {MAX_HEADERS} HTTP headers")

    def _length(self) -> int | None:
        if self._is_chunked or self.status in (204, 304):
            return 0
        length = self.headers.get("content-length")
        if length is None:
            return None
        if not (length.isascii() and length.isdigit() and len(length) <= MAX_LENGTH_DIGITS):
            raise BadAnswer(f"Content-Length: {length[:40]}")
        return int(length)

    def readinto(self, buffer: memoryview) -> int:
        """Read what is there of the body, at least one byte. 0: that was all. Raises BadAnswer where it was broken off."""
        if not self._left and self._is_chunked:
            self._begin_chunk()
        wanted = len(buffer) if self._left is None else min(len(buffer), self._left)
        if not wanted:
            return 0
        count = self._stream.readinto1(buffer[:wanted])
        if self._left is None:
            return count
        if not count:
            raise BadAnswer("the answer was broken off")
        self._left -= count
        if not self._left and self._is_chunked:
            self._stream.readline(MAX_LINE_BYTES)  # the end of line behind each chunk
        return count

    def _begin_chunk(self) -> None:
        line = self._stream.readline(MAX_LINE_BYTES)
        size = line.partition(b";")[0].strip()
        if not _CHUNK_SIZE.fullmatch(size):  # int() would take -5 and 1_0 as well
            raise BadAnswer(f"no size of a chunk: {line[:40]!r}")
        self._left = int(size, 16)
        if not self._left:
            self._is_chunked = False
            self._read_headers()  # trailers mean nothing here

    def read(self, limit: int) -> bytes:
        """The whole body. Raises BadAnswer where it has more than `limit` bytes."""
        body = bytearray()
        piece = memoryview(bytearray(min(self._left or PIECE_BYTES, PIECE_BYTES)))
        while count := self.readinto(piece):
            body += piece[:count]
            if len(body) > limit:
                raise BadAnswer(f"an answer of more than {limit} bytes")
        return bytes(body)
