# SPDX-License-Identifier: Apache-2.0
"""Sources in S3-compatible storage, by obstore: the layout of a repository below a bucket and a prefix.

Without a credentials file requests are not signed, which is what a public bucket wants. A cancelled pull is noticed when
bytes come, at the latest after the stall timeout: obstore does not let its reads be broken off.
"""

from __future__ import annotations

import re
import stat
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store

from dpd.distribution.pulling.http_connection import CONNECT_S
from dpd.distribution.pulling.source import Outcome, SourceFailure, Stream, Terms

if TYPE_CHECKING:
    from obstore.store import ClientConfig

CHUNK_BYTES = 1 << 20
_NOT_SATISFIABLE = re.compile(r"status code: 416\b")  # obstore has no type for it, and ports may be 41600
_WHOLE_REQUEST = timedelta(days=30)  # the ceiling on all pulls may make one last; a stall is told by the time of a read


@dataclass(frozen=True, slots=True)
class S3Source:
    """A repository at "s3://bucket/prefix". `endpoint` is the URL of the server, "" that of AWS in `region`."""

    name: str
    url: str
    priority: int = 1
    public_key: str = ""
    ca_file: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    credentials_file: str = ""
    kind: str = "s3"

    def session(self, terms: Terms) -> S3Session:
        """Raises SourceFailure where the settings are of no use."""
        client: dict[str, Any] = {
            "allow_http": self.endpoint.startswith("http://"),
            "connect_timeout": timedelta(seconds=min(CONNECT_S, terms.stall_s)),
            "read_timeout": timedelta(seconds=terms.stall_s),
            "timeout": _WHOLE_REQUEST,
        }
        if self.ca_file:
            client["root_certificate"] = _read(self.name, "ca_file", self.ca_file)
        options = _credentials(self.name, self.credentials_file)
        if self.endpoint:
            options["endpoint"] = self.endpoint
        parts = urlsplit(self.url)
        try:
            store = S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                region=self.region,
                client_options=cast("ClientConfig", client),
                # The next source is asked instead; the job has its own patience.
                retry_config={"max_retries": 0, "retry_timeout": timedelta(seconds=terms.stall_s)},
                **options,
            )
        except (BaseError, ValueError) as error:
            raise SourceFailure(self.name, Outcome.REFUSED, _first_line(error)) from None
        return S3Session(self.name, store, terms)


class S3Session:
    """Talk with one bucket; connections are obstore's."""

    def __init__(self, name: str, store: S3Store, terms: Terms) -> None:
        self._name = name
        self._store = store
        self._terms = terms

    def read(self, path: str, limit_bytes: int) -> bytes:
        with _told(self._name, path):
            found = obstore.get(self._store, path)
            if found.meta["size"] > limit_bytes:
                raise SourceFailure(self._name, Outcome.WRONG, f"{path}: more than {limit_bytes} bytes")
            body = found.bytes()
        self._terms.limit.take(len(body), self._terms.check)
        return bytes(body)

    def open(self, path: str, begin: int, end: int, size_bytes: int) -> Stream:
        with _told(self._name, path):
            found = obstore.get(self._store, path, options={"range": (begin, end)})
            if found.meta["size"] != size_bytes or found.range != (begin, end):
                why = f"{path}: has {found.meta['size']} bytes, expected {size_bytes}"
                raise SourceFailure(self._name, Outcome.WRONG, why)
            return S3Stream(self._name, path, iter(found.stream(min_chunk_size=CHUNK_BYTES)), end - begin, self._terms)

    def close(self) -> None:
        """Nothing is kept."""


class S3Stream:
    """The chunks of an answer, cut to what the reader's buffer takes."""

    def __init__(self, name: str, path: str, chunks: Iterator[Any], length: int, terms: Terms) -> None:
        self._name = name
        self._path = path
        self._chunks = chunks
        self._held = memoryview(b"")
        self._left = length
        self._terms = terms

    def readinto(self, buffer: memoryview) -> int:
        if not self._left:
            return 0
        if not self._held:
            self._terms.check()
            self._held = self._next()
        count = min(len(self._held), self._terms.limit.piece_bytes(len(buffer)), self._left)
        buffer[:count] = self._held[:count]
        self._held = self._held[count:]
        self._left -= count
        self._terms.limit.take(count, self._terms.check)
        return count

    def close(self) -> None:
        self._chunks = iter(())
        self._held = memoryview(b"")

    def _next(self) -> memoryview:
        with _told(self._name, self._path):
            for chunk in self._chunks:
                if len(chunk):
                    return memoryview(chunk)
        raise SourceFailure(self._name, Outcome.TRUNCATED, f"{self._path}: ended {self._left} bytes early")


@contextmanager
def _told(name: str, path: str) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        raise SourceFailure(name, Outcome.NOT_FOUND, f"{path}: no such object") from None
    except (PermissionDeniedError, UnauthenticatedError) as error:
        why = f"{path}: access denied; see credentials_file of this source ({_first_line(error)})"
        raise SourceFailure(name, Outcome.REFUSED, why) from None
    except (BaseError, OSError, ValueError) as error:
        text = str(error)
        outcome = Outcome.UNREACHABLE
        if _NOT_SATISFIABLE.search(text):
            outcome = Outcome.WRONG
        elif "timed out" in text.lower() or "TimedOut" in text:
            outcome = Outcome.STALLED
        elif "decoding response body" in text or "IncompleteMessage" in text or "UnexpectedEof" in text:
            outcome = Outcome.TRUNCATED
        raise SourceFailure(name, outcome, f"{path}: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0][:300]


def _read(name: str, key: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise SourceFailure(name, Outcome.REFUSED, f"{key} {path}: cannot be read: {error.strerror}") from None


def _credentials(name: str, path: str) -> dict[str, Any]:
    """What the store is given to sign with. A file that others can read is refused, as that of the control token is."""
    if not path:
        return {"skip_signature": True}
    content = _read(name, "credentials_file", path)
    if Path(path).stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO) & ~stat.S_IRGRP:
        raise SourceFailure(name, Outcome.REFUSED, f"credentials_file {path}: others may read it; `chmod 640 {path}`")
    try:
        fields = tomllib.loads(content.decode("utf-8"))
        keys = {key: fields[key] for key in ("access_key_id", "secret_access_key")}
    except (ValueError, KeyError):
        keys = {}
    if not keys or not all(isinstance(value, str) and value for value in keys.values()):
        why = f'credentials_file {path}: expected lines access_key_id = "…" and secret_access_key = "…"'
        raise SourceFailure(name, Outcome.REFUSED, why)
    return keys
