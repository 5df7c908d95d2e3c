# SPDX-License-Identifier: Apache-2.0
"""Sources that speak HTTP: another dpd or a static web server with the layout of a repository, and one file at a plain URL.

What a source says is believed as far as hashes and signatures carry it, so of HTTP itself only what must be is asked:
ranges where a pull goes on in the middle, lengths that agree with what is known. Redirects: a repository has one place, so
one that redirects is refused, with the place that it names to be written into the settings; a plain URL, which mirrors
and release pages redirect as a rule, is followed up to five times, and never from https to http.
"""

from __future__ import annotations

import json
import os
import re
import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from dpd.content import repository
from dpd.distribution.pulling.http_connection import HttpConnection, Origin, shown
from dpd.distribution.pulling.source import Outcome, SourceFailure, Stream, Terms
from dpd.protocol.http.answer import Answer

MAX_REDIRECTS = 5
MAX_ERROR_BYTES = 4096
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_REDIRECTS = (301, 302, 303, 307, 308)

T = TypeVar("T")


def open_trust(name: str, ca_file: str) -> ssl.SSLContext:
    """The context that trusts the authorities in a PEM file, or the system's where it is empty. Raises SourceFailure."""
    try:
        if ca_file and not stat.S_ISREG(os.stat(ca_file).st_mode):  # OpenSSL would wait at a pipe for ever
            raise SourceFailure(name, Outcome.REFUSED, f"ca_file {ca_file}: no regular file; expected one in PEM")
        return ssl.create_default_context(cafile=ca_file or None)
    except ssl.SSLError:
        raise SourceFailure(name, Outcome.REFUSED, f"ca_file {ca_file}: no PEM certificate in it") from None
    except OSError as error:
        raise SourceFailure(name, Outcome.REFUSED, f"ca_file {ca_file}: cannot be read: {error.strerror}") from None


def _origin_of(name: str, url: str) -> Origin:
    try:
        return Origin.of(url)
    except ValueError as error:
        raise SourceFailure(name, Outcome.REFUSED, str(error)) from None


@dataclass(frozen=True, slots=True)
class HttpSource:
    """A repository below `url`. `kind` is "dpd" for all of them: whether files or a daemon answer makes no difference."""

    name: str
    url: str
    priority: int = 1
    public_key: str = ""
    ca_file: str = ""
    kind: str = "dpd"

    def session(self, terms: Terms) -> HttpSession:
        """Raises SourceFailure where URL or CA file are of no use."""
        origin = _origin_of(self.name, self.url)
        tls = open_trust(self.name, self.ca_file) if origin.is_tls else None
        return HttpSession(self.name, HttpConnection(self.name, origin, tls, terms), _prefix(self.url), terms.via)


def _prefix(url: str) -> str:
    return quote(urlsplit(url).path.rstrip("/"), safe="/%:@!$&'()*+,;=~")


class HttpSession:
    """Talk with a repository over one connection that is kept open."""

    def __init__(self, name: str, connection: HttpConnection, prefix: str, via: tuple[str, ...]) -> None:
        self._name = name
        self._connection = connection
        self._prefix = prefix
        self._headers = {repository.VIA_HEADER: repository.encode_via(via)} if via else {}

    def read(self, path: str, limit_bytes: int) -> bytes:
        answer = self._connection.get(f"{self._prefix}/{path}", self._headers)
        if answer.status != 200:
            raise refused(self._name, self._connection, answer, path)
        return _read_all(self._name, self._connection, answer, limit_bytes, path)

    def open(self, path: str, begin: int, end: int, size_bytes: int) -> Stream:
        return open_range(self._name, self._connection, f"{self._prefix}/{path}", self._headers, begin, end, size_bytes)

    def close(self) -> None:
        self._connection.close()


def open_range(
    name: str,
    connection: HttpConnection,
    target: str,
    headers: dict[str, str],
    begin: int,
    end: int,
    size_bytes: int,
    inspect: Callable[[Answer], None] = lambda answer: None,
) -> Stream:
    """The bytes from `begin` to `end` of what should have `size_bytes`. Who does not know ranges sends all of it: what is in
    front is read and dropped where the end of the file is wanted, anything else is refused (NO_RANGES)."""
    is_whole = begin == 0 and end == size_bytes
    wanted = {} if is_whole else {"Range": f"bytes={begin}-{end - 1}"}
    answer = connection.get(target, headers | wanted)
    inspect(answer)
    if answer.headers.get("content-encoding", "identity").lower() != "identity":
        connection.close()
        raise SourceFailure(name, Outcome.REFUSED, f"{shown(target)}: comes compressed although that was not asked for")
    if answer.status == 206:
        _check_range(name, connection, answer, begin, end, size_bytes)
        return HttpStream(name, connection, answer, 0, end - begin)
    if answer.status != 200:
        raise refused(name, connection, answer, target)
    _check_length(name, connection, answer, size_bytes)
    if not is_whole and end != size_bytes:
        connection.close()  # of a whole file nobody wants to read the rest
        raise SourceFailure(name, Outcome.NO_RANGES, f"{shown(target)}: sends the whole file instead of a range")
    return HttpStream(name, connection, answer, begin, end - begin)


def _check_range(name: str, connection: HttpConnection, answer: Answer, begin: int, end: int, size_bytes: int) -> None:
    told = answer.headers.get("content-range", "")
    found = _CONTENT_RANGE.fullmatch(told)
    good = found and found[3] in ("*", str(size_bytes)) and (int(found[1]), int(found[2])) == (begin, end - 1)
    length = answer.headers.get("content-length", str(end - begin))
    if not good or length != str(end - begin):
        connection.close()
        why = f"asked for bytes {begin}-{end - 1} of {size_bytes}, got {told[:60] or 'no Content-Range'} in {length} bytes"
        raise SourceFailure(name, Outcome.WRONG, why)


def _check_length(name: str, connection: HttpConnection, answer: Answer, size_bytes: int) -> None:
    length = answer.headers.get("content-length", str(size_bytes))
    if length != str(size_bytes):
        connection.close()
        raise SourceFailure(name, Outcome.WRONG, f"has {length} bytes, expected {size_bytes}")


def refused(name: str, connection: HttpConnection, answer: Answer, target: str) -> SourceFailure:
    """What an answer that is no good means."""
    status, target = answer.status, shown(target)
    if status in _REDIRECTS:
        connection.close()
        place = shown(answer.headers.get("location", "nowhere"))[:200]
        return SourceFailure(
            name,
            Outcome.REFUSED,
            f"{target}: redirects to {place}; a source is asked at its own place, so write that into url",
        )
    message = _error_text(connection, answer) or f"HTTP {status} for {target}"
    if status in (404, 410):
        return SourceFailure(name, Outcome.NOT_FOUND, message)
    if status == 416:
        return SourceFailure(name, Outcome.WRONG, f"{target}: has fewer bytes than it should ({message})")
    if status in (408, 429) or status >= 500:
        return SourceFailure(name, Outcome.UNREACHABLE, message)
    return SourceFailure(name, Outcome.REFUSED, message)


def _error_text(connection: HttpConnection, answer: Answer) -> str:
    """What a dpd says; "" of anybody else."""
    try:
        body = _read_all("", connection, answer, MAX_ERROR_BYTES, "")
        return str(json.loads(body)["error"]["message"])[:400]
    except (SourceFailure, ValueError, KeyError, TypeError):
        return ""


def _read_all(name: str, connection: HttpConnection, answer: Answer, limit_bytes: int, path: str) -> bytes:
    body, piece = bytearray(), memoryview(bytearray(64 << 10))
    while count := connection.readinto(answer, piece):
        body += piece[:count]
        if len(body) > limit_bytes:
            connection.close()
            raise SourceFailure(name, Outcome.WRONG, f"{path}: more than {limit_bytes} bytes")
    if answer.is_last:
        connection.close()
    return bytes(body)


class HttpStream:
    """The body of an answer: `skip` bytes to drop, then `length` bytes that are wanted."""

    def __init__(self, name: str, connection: HttpConnection, answer: Answer, skip: int, length: int) -> None:
        self._name = name
        self._connection = connection
        self._answer = answer
        self._skip = skip
        self._left = length

    def readinto(self, buffer: memoryview) -> int:
        while self._skip:
            self._skip -= self._read(buffer[: self._skip])
        if not self._left:
            self._end()
            return 0
        count = self._read(buffer[: self._left])
        self._left -= count
        return count

    def close(self) -> None:
        """A connection with the rest of a body in it is of no more use."""
        if self._left or self._skip:
            self._connection.close()

    def _read(self, buffer: memoryview) -> int:
        count = self._connection.readinto(self._answer, buffer)
        if not count:
            self._connection.close()
            raise SourceFailure(self._name, Outcome.TRUNCATED, f"ended {self._left + self._skip} bytes early")
        return count

    def _end(self) -> None:
        """Read the end of a chunked body, or close what is not kept open."""
        if self._answer.is_last:
            self._connection.close()
        elif self._connection.readinto(self._answer, memoryview(bytearray(1))):
            self._connection.close()
            raise SourceFailure(self._name, Outcome.WRONG, "goes on behind its end")


@dataclass(frozen=True, slots=True)
class UrlHead:
    """What is known of a file at a plain URL before it is pulled. `begin` are its first bytes."""

    size_bytes: int
    begin: bytes
    has_ranges: bool


@dataclass(frozen=True, slots=True)
class UrlSource:
    """One file at a plain URL, which must have this SHA-256. To a pull it is a repository with that blob and nothing else."""

    url: str
    sha256: str
    ca_file: str = ""
    priority: int = 1
    public_key: str = ""
    kind: str = "http"

    @property
    def name(self) -> str:
        return urlsplit(self.url).hostname or self.url

    def session(self, terms: Terms) -> UrlSession:
        """Raises SourceFailure where the URL or the CA file is of no use."""
        return UrlSession(self, terms)


class UrlSession:
    """Talk with whoever has the file: the URL's own server, or where that one redirects to."""

    def __init__(self, source: UrlSource, terms: Terms) -> None:
        self._source = source
        self._terms = terms
        self._url = source.url
        self._connection = self._connect()
        self._validator = ""

    def read(self, path: str, limit_bytes: int) -> bytes:
        raise SourceFailure(self._source.name, Outcome.NOT_FOUND, f"{path}: a plain URL has no documents")

    def head(self, begin_bytes: int) -> UrlHead:
        """The size and the first bytes, by one request. Raises SourceFailure."""
        return self._following(lambda: self._head(begin_bytes))

    def open(self, path: str, begin: int, end: int, size_bytes: int) -> Stream:
        if path != repository.blob(self._source.sha256):
            raise SourceFailure(self._source.name, Outcome.NOT_FOUND, f"{path}: the URL has one file alone")
        name = self._source.name

        def open_it() -> Stream:
            target = _target(self._url)
            return open_range(name, self._connection, target, {}, begin, end, size_bytes, self._inspect)

        return self._following(open_it)

    def close(self) -> None:
        self._connection.close()

    def _head(self, begin_bytes: int) -> UrlHead:
        answer = self._connection.get(_target(self._url), {"Range": f"bytes=0-{begin_bytes - 1}"})
        self._inspect(answer)
        told = _CONTENT_RANGE.fullmatch(answer.headers.get("content-range", ""))
        size = told[3] if answer.status == 206 and told else answer.headers.get("content-length", "")
        if answer.status not in (200, 206) or not (size.isascii() and size.isdigit()):
            raise refused(self._source.name, self._connection, answer, self._url)
        wanted = min(begin_bytes, int(size))
        stream = HttpStream(self._source.name, self._connection, answer, 0, wanted)
        begin, piece = bytearray(), memoryview(bytearray(begin_bytes))
        while len(begin) < wanted:
            begin += piece[: stream.readinto(piece)]
        self._connection.close()
        return UrlHead(int(size), bytes(begin), answer.status == 206)

    def _following(self, ask: Callable[[], T]) -> T:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                return ask()
            except _Redirected as redirected:
                self._move_to(redirected.place)
        raise SourceFailure(self._source.name, Outcome.REFUSED, f"{shown(self._source.url)}: redirects without end")

    def _move_to(self, place: str) -> None:
        self._connection.close()
        try:
            url = urljoin(self._url, place)
        except ValueError:
            url = place = ""
        if not place or (self._url.startswith("https:") and not url.startswith("https:")):
            why = f"{shown(self._url)}: redirects to {shown(place)[:200] or 'nowhere'}, which is not followed: expected https"
            raise SourceFailure(self._source.name, Outcome.REFUSED, why)
        self._url = url
        self._connection = self._connect()

    def _connect(self) -> HttpConnection:
        origin = _origin_of(self._source.name, self._url)
        tls = open_trust(self._source.name, self._source.ca_file) if origin.is_tls else None
        return HttpConnection(self._source.name, origin, tls, self._terms)

    def _inspect(self, answer: Answer) -> None:
        """The file must be the same one from the first request of this session to the last."""
        if answer.status in _REDIRECTS:
            self._connection.close()
            raise _Redirected(answer.headers.get("location", ""))
        if answer.status not in (200, 206):
            return
        validator = answer.headers.get("etag", "") or answer.headers.get("last-modified", "")
        if self._validator and validator != self._validator:
            self._connection.close()
            why = f"{shown(self._url)}: has been replaced while it was pulled ({self._validator} before, {validator or 'nothing'} now)"
            raise SourceFailure(self._source.name, Outcome.CHANGED, why)
        self._validator = validator


class _Redirected(Exception):
    """The file is elsewhere."""

    def __init__(self, place: str) -> None:
        super().__init__(place)
        self.place = place


def _target(url: str) -> str:
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    return f"{path}?{quote(parts.query, safe='=&%/?:@!$()*+,;~')}" if parts.query else path
