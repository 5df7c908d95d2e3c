# SPDX-License-Identifier: Apache-2.0
"""Captured images on their way in: taken piece by piece, compared with their hash, and published as a new version.

Theory of operation. A target asks for a place and sends the image from the offset that it is told; whatever breaks off, it asks
again and goes on there. Bytes are only ever added at the end, so a piece that comes twice changes nothing, and one behind a gap is
not taken. `settle` says how much is on disk for certain; after a power cut a capture goes on from there. Nothing is ever written
over: the image becomes the version after the newest, and asking a second time for the end gives the same version again.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Protocol

from dpd.content.records import Content
from dpd.database import Database
from dpd.deployment import capture_table as table
from dpd.deployment.capture_table import Capture, CaptureState
from dpd.deployment.execution import Execution
from dpd.deployment.execution_events import Tell, execution_fields
from dpd.errors import (
    CaptureNotFound,
    ContentCorrupt,
    ContentNotFound,
    DeploymentDiskFull,
    DeploymentError,
    ExecutionNotFound,
)
from dpd.sequence.exchange import Captured
from dpd.sequence.records import StepKind

ABANDONED_S = 86400.0  # without a byte
ENDED_S = 3600.0  # the same, of a machine whose task sequence has ended
KEPT_S = 90 * 86400.0  # the row of one that has ended
SPARE_BYTES = 64 << 20  # left free on the disk
SETTLE_BYTES = 64 << 20  # a power cut costs no more
HASH_BYTES = 1 << 20
_UNKNOWN = "no capture {!r}; ask for a place first (POST /target/captures)"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an image is sent: its capture, and from which byte on."""

    id: str
    offset: int


class Publishes(Protocol):
    """The content library."""

    def publish(self, source: Path, package_id: str, source_version: int | None = None, *, is_ours: bool = False) -> Content: ...  # fmt: skip
    def find(self, package_id: str, source_version: int | None = None) -> Content: ...


class Captures:
    """Any thread; blocks for the disk. `find_execution` raises ExecutionNotFound; `refuse_new_content` raises Unavailable during
    maintenance; `arrived` hears of each package that got a version."""

    def __init__(
        self,
        database: Database,
        directory: Path,
        library: Publishes,
        find_execution: Callable[[str], Execution],
        quota_bytes: Callable[[], int],
        *,
        tell: Tell = lambda event, fields: None,
        refuse_new_content: Callable[[], None] = lambda: None,
        arrived: Callable[[str], object] = lambda package_id: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """What an earlier daemon had not settled is cut off. Raises DeploymentError."""
        self._database = database
        self._directory = directory
        self._library = library
        self._find_execution = find_execution
        self._quota_bytes = quota_bytes
        self._tell = tell
        self._refuse_new_content = refuse_new_content
        self._arrived = arrived
        self._clock = clock
        self._lock = threading.Lock()  # for what is below, and for making one
        self._locks: dict[str, threading.Lock] = {}
        self._open: dict[str, Capture] = {}  # their kept_bytes are those that were settled
        self._written: dict[str, int] = {}
        with self._disk_told(str(directory)):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._go_on_with_what_was_settled()

    # ---- the target's desk

    def begin(self, execution: str, package_id: str, size_bytes: int) -> Place:
        """A place for an image, or the one that it has already. Raises ExecutionNotFound, Unavailable,
        DeploymentDiskFull, DeploymentError where this execution captures nothing or it is more than may come in."""
        running = self._find_execution(execution)
        if not running.is_open:
            raise DeploymentError(
                f"execution {execution} of {running.who}: has ended as {running.state}, and captures nothing"
            )
        if not any(step.kind == StepKind.CAPTURE_IMAGE for step in running.steps):
            raise DeploymentError(
                f"task sequence {running.sequence} version {running.version} has no step capture_image"
            )
        self._refuse_new_content()
        self._end_others(execution, package_id, size_bytes)
        with self._lock:
            for capture in self._open.values():
                if (capture.execution, capture.package_id, capture.size_bytes) == (execution, package_id, size_bytes):
                    return Place(capture.id, self._written[capture.id])
            self._refuse_too_much(running, package_id, size_bytes)
            now = self._clock()
            capture = Capture(
                token_hex(8), execution, running.who, package_id, size_bytes, started_at=now, changed_at=now
            )
            with self._disk_told(str(capture)):
                self._path(capture.id).touch(mode=0o600, exist_ok=False)
            table.put_capture(self._database, capture)
            self._open[capture.id], self._written[capture.id] = capture, 0
            return Place(capture.id, 0)

    def write(self, id: str, start: int, piece: bytes) -> int:
        """Take a piece that begins there; up to where all is here now. A piece behind that is not taken. Raises CaptureNotFound,
        DeploymentDiskFull, DeploymentError."""
        with self._one(id) as capture:
            written = self._written[id]
            if start + len(piece) > capture.size_bytes:
                raise DeploymentError(f"{capture}: bytes up to {start + len(piece)}, expected at most the {capture.size_bytes} it was announced with")  # fmt: skip
            fresh = memoryview(piece)[max(0, written - start) :]
            if start > written or not fresh:
                return written
            with self._disk_told(str(capture)):
                file = os.open(self._path(id), os.O_WRONLY | os.O_CLOEXEC)
                try:
                    while fresh:
                        count = os.pwrite(file, fresh, self._written[id])
                        self._written[id] += count
                        fresh = fresh[count:]
                finally:
                    os.close(file)
            if self._written[id] - capture.kept_bytes >= SETTLE_BYTES:
                self._settle(capture)
            return self._written[id]

    def settle(self, id: str) -> int:
        """What was written is on disk for certain; how much that is. Raises CaptureNotFound, DeploymentDiskFull."""
        with self._one(id) as capture:
            self._settle(capture)
            return self._written[id]

    def finish(self, id: str, sha256: str) -> Captured:
        """All was sent: compare, and publish as the version after the newest; which. Blocks for as long as it takes to
        read the image. Raises CaptureNotFound, Unavailable, ContentError, DeploymentError where bytes are missing, or wrong:
        then they are to be sent once more."""
        try:
            return self._finish(id, sha256)
        except CaptureNotFound:  # the answer was lost, and it asks again
            if (ended := self._ended(id)) is not None:
                return ended
            raise

    def _finish(self, id: str, sha256: str) -> Captured:
        with self._one(id) as capture:
            if self._written[id] < capture.size_bytes:
                raise DeploymentError(
                    f"{capture}: {self._written[id]} of {capture.size_bytes} bytes are here; send the rest first"
                )
            self._refuse_new_content()
            self._settle(capture)
            self._compare(capture, sha256)
            content = self._publish(capture, sha256)
            kept = replace(capture, kept_bytes=capture.size_bytes, source_version=content.source_version)
            self._end(replace(kept, state=CaptureState.DONE))
        self._tell_captured(capture, content)
        self._arrived(capture.package_id)
        return Captured(content.package_id, content.source_version)

    # ---- looking, and time

    def execution_of(self, id: str) -> str:
        """Whose capture it is. Raises CaptureNotFound."""
        with self._lock:
            capture = self._open.get(id)
        found = [capture] if capture is not None else table.find_captures(self._database, "id = ?", id)
        if not found:
            raise CaptureNotFound(_UNKNOWN.format(id[:80]))
        return found[0].execution

    def list(self, limit: int = 100) -> list[Capture]:
        """At most so many, the newest first, with what has been written of them until now."""
        found = table.find_captures(self._database, "1 ORDER BY number DESC LIMIT ?", limit)
        with self._lock:
            return [replace(each, kept_bytes=self._written.get(each.id, each.kept_bytes)) for each in found]

    def open_captures(self) -> Sequence[Capture]:
        """Those on their way in."""
        with self._lock:
            return [replace(each, kept_bytes=self._written[each.id]) for each in self._open.values()]

    def look_over(self, now: float) -> None:
        """Give up those that nobody has sent anything of for long, and forget what ended long ago."""
        with self._lock:
            quiet = [each for each in self._open.values() if each.changed_at < now - ENDED_S]
        for capture in quiet:
            if capture.changed_at < now - ABANDONED_S:
                self._give_up(capture.id, "nothing of it came for a day")
            elif not self._is_running(capture.execution):
                self._give_up(capture.id, "its machine's task sequence has ended")
        table.forget_captures(self._database, now - KEPT_S)

    # ---- inside

    def _end_others(self, execution: str, package_id: str, size_bytes: int) -> None:
        """A machine that captures once more for the same package has made its image anew."""
        with self._lock:
            others = [
                each.id
                for each in self._open.values()
                if (each.execution, each.package_id) == (execution, package_id) and each.size_bytes != size_bytes
            ]
        for id in others:
            self._give_up(id, "its machine has made the image anew")

    def _give_up(self, id: str, error: str) -> None:
        with suppress(CaptureNotFound), self._one(id) as capture:
            self._end(replace(capture, state=CaptureState.FAILED, error=error))

    def _is_running(self, execution: str) -> bool:
        try:
            return self._find_execution(execution).is_open
        except ExecutionNotFound:
            return False

    @contextmanager
    def _one(self, id: str) -> Iterator[Capture]:
        """One that is open, for one thread at a time."""
        with self._lock:
            lock = self._locks.setdefault(id, threading.Lock()) if id in self._open else None
        if lock is not None:
            with lock:
                capture = self._open.get(id)
                if capture is not None:
                    yield capture
                    return
        found = table.find_captures(self._database, "id = ?", id)
        if not found:
            raise CaptureNotFound(_UNKNOWN.format(id[:80]))
        raise CaptureNotFound(
            f"{found[0]}: has ended as {found[0].state}{f': {found[0].error}' * bool(found[0].error)}"
        )

    def _ended(self, id: str) -> Captured | None:
        found = table.find_captures(self._database, "id = ? AND state = 'done'", id)
        return Captured(found[0].package_id, found[0].source_version) if found else None

    def _refuse_too_much(self, running: Execution, package_id: str, size_bytes: int) -> None:
        quota = self._quota_bytes()
        announced = sum(each.size_bytes for each in self._open.values())
        if announced + size_bytes > quota:
            raise DeploymentError(
                f"capture of {running.who} for {package_id}: {size_bytes} bytes, and {announced} are on their way of {quota} that may be; raise deployment.capture_quota_gib"
            )
        to_come = announced - sum(self._written.values())
        free = shutil.disk_usage(self._directory).free
        if size_bytes + to_come + SPARE_BYTES > free:
            raise DeploymentDiskFull(
                f"capture of {running.who} for {package_id}: needs {size_bytes} bytes in {self._directory}, {free} are free and {to_come} of them promised; make room there"
            )

    def _settle(self, capture: Capture) -> None:
        written = self._written[capture.id]
        if written == capture.kept_bytes:
            return
        with self._disk_told(str(capture)):
            file = os.open(self._path(capture.id), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(file)
            finally:
                os.close(file)
        settled = replace(capture, kept_bytes=written, changed_at=self._clock())
        table.put_capture(self._database, settled)
        with self._lock:
            self._open[capture.id] = settled

    def _compare(self, capture: Capture, sha256: str) -> None:
        with self._disk_told(str(capture)), self._path(capture.id).open("rb") as file:
            found = hashlib.sha256()
            while piece := file.read(HASH_BYTES):
                found.update(piece)
        if found.hexdigest() == sha256:
            return
        with self._disk_told(
            str(capture)
        ):  # not truncated: a try that was killed may have given its bytes to the library
            self._path(capture.id).unlink()
            self._path(capture.id).touch(mode=0o600)
        self._written[capture.id] = 0
        self._settle(replace(capture, kept_bytes=-1))
        raise DeploymentError(
            f"{capture}: SHA-256 {found.hexdigest()}, expected {sha256}; send it again from the beginning"
        )

    def _publish(self, capture: Capture, sha256: str) -> Content:
        """Once, also where the daemon was killed between publishing and noting it."""
        try:
            newest = self._library.find(capture.package_id)
        except ContentNotFound:
            newest = None
        if newest is not None and newest.sha256 == sha256:
            return newest
        named = self._directory / capture.id / f"{capture.package_id}.wim"
        with self._disk_told(str(capture)):
            named.parent.mkdir(mode=0o700, exist_ok=True)
            named.unlink(missing_ok=True)
            os.link(self._path(capture.id), named)
        try:
            return self._library.publish(named, capture.package_id, is_ours=True)
        except ContentCorrupt as error:
            told = str(error).replace(str(named), str(capture))
            self._end(replace(capture, state=CaptureState.FAILED, error=told))
            raise ContentCorrupt(told) from None
        finally:
            shutil.rmtree(named.parent, ignore_errors=True)

    def _end(self, ended: Capture) -> None:
        """The row first: a file that nothing knows is removed by the next start."""
        table.put_capture(self._database, replace(ended, changed_at=self._clock()))
        self._path(ended.id).unlink(missing_ok=True)
        with self._lock:
            self._open.pop(ended.id, None)
            self._written.pop(ended.id, None)
            self._locks.pop(ended.id, None)

    def _go_on_with_what_was_settled(self) -> None:
        found = {each.id: each for each in table.find_captures(self._database, "state = 'open'")}
        for path in self._directory.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.stem not in found:
                path.unlink()
        for capture in found.values():
            path = self._path(capture.id)
            path.touch(mode=0o600)
            kept = min(capture.kept_bytes, path.stat().st_size)
            os.truncate(path, kept)
            self._open[capture.id], self._written[capture.id] = replace(capture, kept_bytes=kept), kept

    def _tell_captured(self, capture: Capture, content: Content) -> None:
        told = execution_fields(self._find_execution(capture.execution))
        told |= {"package_id": content.package_id, "source_version": content.source_version}
        self._tell("deployment.captured", told | {"size_bytes": content.size_bytes})

    def _path(self, id: str) -> Path:
        return self._directory / f"{id}.part"

    @contextmanager
    def _disk_told(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            kind = DeploymentDiskFull if error.errno in _FULL else DeploymentError
            raise kind(
                f"{what}: {self._directory}: {error.strerror}; make room there, or look after the disk"
            ) from None
