# SPDX-License-Identifier: Apache-2.0
"""A web server on loopback with the files of a repository, which can be told to misbehave; and how to pull from it."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content_settings import DistributionSettings, SourceSettings
from dpd.distribution.database import open_database
from dpd.distribution.jobs.job import Job, JobKind, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.pulling.pull import SourcePuller
from dpd.distribution.pulling.rate import RateLimit
from dpd.distribution.pulling.trust import KeyRing
from dpd.errors import ContentError

SLAB_BYTES = 1 << 18
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass
class Reply:
    """What is about to be answered; a misbehaviour changes it. `cut` sends so many bytes of the body and hangs up, `hang` so many
    and then nothing; `drip` sends a byte each so many seconds."""

    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = None
    hang: int | None = None
    drip: float = 0.0


@dataclass
class Asked:
    """A request as it came."""

    path: str
    headers: dict[str, str]

    @property
    def range(self) -> tuple[int, int | None] | None:
        found = _RANGE.fullmatch(self.headers.get("range", ""))
        return (int(found[1]), int(found[2]) if found[2] else None) if found else None


Misbehave = Callable[[Asked, Reply], None]


@dataclass
class Origin:
    """Files by path. `misbehave` sees each answer before it is sent."""

    files: dict[str, bytes] = field(default_factory=dict)
    misbehave: Misbehave = lambda asked, reply: None
    ranges: bool = True
    asked: list[Asked] = field(default_factory=list)
    sent_bytes: int = 0
    pause_s: float = 0.0  # behind each 64 KiB

    def __enter__(self) -> Self:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._lock:
            for each in self._open:
                each.close()
        for thread in self._threads:
            thread.join(5)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}"

    def paths(self, part: str = "") -> list[str]:
        return [each.path for each in self.asked if part in each.path]

    def _accept(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 17)  # what was sent has left, but for so much
            with self._lock:
                self._open.add(client)
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, client.makefile("rb") as stream:
                while self._answer(client, stream):
                    pass
        except (OSError, ValueError):
            pass
        finally:
            with self._lock:
                self._open.discard(client)

    def _answer(self, client: socket.socket, stream: Any) -> bool:
        line = stream.readline().decode()
        if not line:
            return False
        headers = {}
        while (header := stream.readline().decode().strip()) != "":
            name, _, value = header.partition(":")
            headers[name.lower()] = value.strip()
        asked = Asked(line.split()[1].lstrip("/"), headers)
        self.asked.append(asked)
        reply = self._reply(asked)
        self.misbehave(asked, reply)
        return self._send(client, reply)

    def _reply(self, asked: Asked) -> Reply:
        body = self.files.get(asked.path)
        if body is None:
            return Reply(404, {}, b'{"error":{"code":"x","message":"nothing here"}}')
        if asked.range is None or not self.ranges:
            return Reply(200, {}, body)
        begin, last = asked.range
        if begin >= len(body):
            return Reply(416, {"Content-Range": f"bytes */{len(body)}"}, b"")
        end = min(len(body), (last if last is not None else len(body)) + 1)
        return Reply(206, {"Content-Range": f"bytes {begin}-{end - 1}/{len(body)}"}, body[begin:end])

    def _send(self, client: socket.socket, reply: Reply) -> bool:
        fields = {"Content-Length": str(len(reply.body)), **reply.headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        client.sendall(f"HTTP/1.1 {reply.status} X\r\n{head}\r\n".encode())
        stop = next((each for each in (reply.cut, reply.hang) if each is not None), len(reply.body))
        for begin in range(0, stop, 65536) if not reply.drip else range(stop):
            piece = reply.body[begin : min(stop, begin + (65536 if not reply.drip else 1))]
            client.sendall(piece)
            with self._lock:
                self.sent_bytes += len(piece)
            if reply.drip or self.pause_s:
                self._over.wait(reply.drip or self.pause_s)
        if reply.hang is not None:
            self._over.wait(20)
        return reply.cut is None and reply.hang is None


def repository_files(library: Library, *contents: Content) -> dict[str, bytes]:
    """What a static export of these contents is."""
    files = {repository.IDENTITY: repository.encode_identity(library.public_key())}
    for content in contents:
        package, version = content.package_id, content.source_version
        files[repository.newest(package)] = repository.encode_newest(library.find(package).source_version)
        files[repository.description(package, version)] = library.description(content)
        if content.slab_count:
            files[repository.manifest(package, version)] = library.manifest(content)
        for entry in library.files(content):
            files[repository.blob(entry.sha256)] = _blob(library, entry.sha256)
            with suppress(ContentError):
                files[repository.chunks(entry.sha256)] = library.chunk_index(entry.sha256)
    return files


def _blob(library: Library, sha256: str) -> bytes:
    descriptor, _ = library.open_hash(sha256)
    with open(descriptor, "rb") as file:
        return file.read()


class Site:
    """A dpd that pulls: a library, a puller, what it tells, and runs of jobs."""

    def __init__(self, folder: Path, sources: Mapping[str, str] | tuple[SourceSettings, ...], **keys: Any) -> None:
        folder.mkdir(exist_ok=True)
        if isinstance(sources, Mapping):
            sources = tuple(SourceSettings(name=name, url=url) for name, url in sources.items())
        keys.setdefault("stall_timeout_s", 1.0)
        self.settings = DistributionSettings(source=sources, **keys)
        self.library = Library(folder / "library", slab_bytes=SLAB_BYTES)
        self.database = open_database(folder / "distribution.db")
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.rate_bit_s = float("inf")
        self.limit = RateLimit(lambda: self.rate_bit_s)
        self.puller = SourcePuller(
            self.settings,
            self.library,
            KeyRing(self.database),
            self.limit,
            tell=lambda event, fields: self.told.append((event, dict(fields))),
            rng=random.Random(1),
        )

    def close(self) -> None:
        self.library.close()
        self.database.close()

    def run(
        self,
        package: str = "LAB00001",
        gate: Callable[[], None] = lambda: None,
        options: Mapping[str, str] | None = None,
        via: tuple[str, ...] = (),
    ) -> JobRun:
        what = JobKind.DISTRIBUTE, package, None, Priority.NORMAL, JobState.RUNNING
        return JobRun(Job(1, *what, 0.0, options=dict(options or {}), via=via), gate=gate)

    def pull(
        self, package: str = "LAB00001", version: int | None = None, via: tuple[str, ...] = (), **options: str
    ) -> Content:
        return self.puller.pull(package, version, self.run(package, options=options, via=via))

    def outcomes(self) -> dict[str, list[str]]:
        """How sources failed, as it was told."""
        found: dict[str, list[str]] = {}
        for event, fields in self.told:
            if event.startswith("source."):
                found.setdefault(fields["source"], []).append(fields["outcome"])
        return found

    def moved_bytes(self) -> int:
        return sum(self.puller.stats.bytes.values())


@contextmanager
def opened(folder: Path, sources: Mapping[str, str] | tuple[SourceSettings, ...], **keys: Any) -> Iterator[Site]:
    site = Site(folder, sources, **keys)
    try:
        yield site
    finally:
        site.close()
