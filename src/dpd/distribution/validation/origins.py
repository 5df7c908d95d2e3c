# SPDX-License-Identifier: Apache-2.0
"""Who is asked for a damaged blob: first other files of this machine, then the sources in their order.

A copy beside the damaged file is there where a disk was replaced, a drain was cut off, or an operator put it there out of a
backup: a file under the blob's name in any root.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.storage.root_folder import RootFolder
from dpd.distribution.jobs.events import Tell
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure, Stream, Terms
from dpd.distribution.pulling.supply import READ_BYTES, in_order
from dpd.distribution.validation.repair import Check, Origin
from dpd.errors import ContentError, ContentNotFound


@dataclass(frozen=True, slots=True)
class FileOrigin:
    """A file that has the blob's name."""

    path: Path

    @property
    def name(self) -> str:
        return str(self.path)

    def read_blob(self, sha256: str, begin: int, end: int, size_bytes: int) -> Iterator[bytes]:
        """Raises ContentNotFound where the file is not as long, or cannot be read."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size != size_bytes:
                    raise ContentNotFound(f"{self.path}: is not as long as the blob")
                file.seek(begin)
                while begin < end and (piece := file.read(min(READ_BYTES, end - begin))):
                    begin += len(piece)
                    yield piece
        except OSError as error:
            raise ContentNotFound(f"{self.path}: {error.strerror}") from None

    def blame(self, why: str) -> None:
        """It was worth a try."""


class SourceOrigin:
    """A source, asked by one thread."""

    def __init__(self, source: Source, terms: Terms, stats: PullStats, tell: Tell) -> None:
        self._source = source
        self._terms = terms
        self._stats = stats
        self._tell = tell
        self._session: Session | None = None

    @property
    def name(self) -> str:
        return self._source.name

    def read_blob(self, sha256: str, begin: int, end: int, size_bytes: int) -> Iterator[memoryview]:
        """Raises ContentNotFound, SourceUnavailable, and what the check of the terms raises."""
        try:
            stream = self._open_session().open(repository.blob(sha256), begin, end, size_bytes)
            try:
                yield from self._read(stream)
            finally:
                stream.close()
        except SourceFailure as failure:
            self._failed(failure.outcome, failure.why)
            if failure.outcome is Outcome.NOT_FOUND:
                raise ContentNotFound(str(failure)) from None
            raise
        self._stats.ended(Outcome.OK)

    def blame(self, why: str) -> None:
        """Count and tell it."""
        self._failed(Outcome.WRONG, why)

    def close(self) -> None:
        """Idempotent."""
        if self._session is not None:
            self._session.close()
        self._session = None

    def _open_session(self) -> Session:
        if self._session is None:
            self._session = self._source.session(self._terms)
        return self._session

    def _read(self, stream: Stream) -> Iterator[memoryview]:
        buffer = memoryview(bytearray(READ_BYTES))
        while count := stream.readinto(buffer):
            self._stats.came(self._source.kind, count)
            yield buffer[:count]

    def _failed(self, outcome: Outcome, why: str) -> None:
        self._stats.ended(outcome)
        event = "source.lied" if outcome is Outcome.WRONG else "source.failed"
        fields: Mapping[str, str] = {"source": self.name, "outcome": outcome.value, "why": why}
        self._tell(event, fields)


class RepairOrigins:
    """Those of one library. `sources` are the settings' of the moment, `terms_of` what they are asked on."""

    def __init__(
        self,
        library: Library,
        sources: Callable[[], Sequence[Source]],
        terms_of: Callable[[Check], Terms],
        stats: PullStats,
        tell: Tell,
        rng: random.Random,
    ) -> None:
        self._library = library
        self._sources = sources
        self._terms_of = terms_of
        self._stats = stats
        self._tell = tell
        self._rng = rng

    def __call__(self, sha256: str, check: Check) -> Generator[Origin]:
        """In the order in which they are to be asked."""
        yield from self._copies(sha256)
        for source in in_order(self._sources(), self._rng):
            origin = SourceOrigin(source, self._terms_of(check), self._stats, self._tell)
            try:
                yield origin
            finally:
                origin.close()

    def _copies(self, sha256: str) -> Iterator[FileOrigin]:
        damaged = self._damaged_file(sha256)
        for root in self._library.roots():
            path = RootFolder(root.id, Path(root.path)).blob(sha256)
            try:
                status = path.stat()
            except OSError:
                continue
            if (status.st_dev, status.st_ino) != damaged:
                yield FileOrigin(path)

    def _damaged_file(self, sha256: str) -> tuple[int, int] | None:
        try:
            descriptor, _ = self._library.open_damaged(sha256)
        except (ContentError, OSError):
            return None
        try:
            status = os.fstat(descriptor)
            return status.st_dev, status.st_ino
        finally:
            os.close(descriptor)
