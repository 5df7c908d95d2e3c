# SPDX-License-Identifier: Apache-2.0
"""One blob out of the sources: made out of an older one where that has most of it, gone on with where an earlier try left
off, and from the next source where one fails.

A slab that does not fit the manifest convicts the source it came from. Where there is no manifest, the hash of the whole
convicts nobody if several took part; the blob is then pulled again, by each source alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dpd.content import repository
from dpd.content.arrival import Arrival
from dpd.content.blob_part import BlobPart, Wanted
from dpd.content.chunks import MIN_BLOB_BYTES, ChunkIndex, DeltaPlan, Step, missing
from dpd.content.library import Library
from dpd.distribution.jobs.events import Tell
from dpd.distribution.pulling.source import Outcome, Session, Source, SourceFailure, Stream
from dpd.distribution.pulling.supply import READ_BYTES, Lane
from dpd.distribution.pulling.under_way import Incoming
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, SourceUnavailable

# A try over all sources that brought less than this ends the pull for now; what it brought stays.
LEAST_PROGRESS_BYTES = 1 << 20
# So many slabs in which several answers had a part may be wrong: a source that gives half a slab and hangs up convicts
# nobody, and could keep a pull busy for ever.
MAX_MIXED_SLABS = 8


class _SlabWrong(Exception):
    """A slab in which two sources had a part does not fit."""


@dataclass(frozen=True, slots=True)
class BlobPull:
    """Pulls blobs of one arrival. `older` names for a blob one that is here and may have much of it. `moved` is told of each
    piece that has come to stay, in bytes; a negative number takes back. From any number of threads, each with its lane."""

    library: Library
    arrival: Arrival
    older: Mapping[str, str]
    incoming: Incoming
    moved: Callable[[int], None]
    tell: Tell

    def pull(self, lane: Lane, wanted: Wanted) -> None:
        """Afterwards the blob is here. Raises SourceUnavailable, LibraryFull, and what the lane's `check` raises."""
        if not wanted.size_bytes:
            self._finish_empty(wanted)
            return
        pulled = _Pulled(self, lane, wanted)
        try:
            pulled.together()
        except ContentCorrupt as error:
            self.tell("content.mixed", {"sha256": wanted.sha256, "why": str(error)})
            self.incoming.part_changed()
            pulled.alone()

    def _finish_empty(self, wanted: Wanted) -> None:
        self.arrival.receive(wanted.sha256).finish()


class _Pulled:
    """One blob's way here."""

    def __init__(self, means: BlobPull, lane: Lane, wanted: Wanted) -> None:
        self._means = means
        self._lane = lane
        self._wanted = wanted
        self._path = repository.blob(wanted.sha256)
        self._buffer = memoryview(bytearray(min(READ_BYTES, wanted.size_bytes)))
        self._told = 0
        self._from: dict[str, Source | None] = {}  # who had a part in it; None: what was here already
        self._has_ranges = True
        self._part: BlobPart

    def together(self) -> None:
        """From what is here and from any sources. Raises ContentCorrupt where the whole is wrong."""
        self._begin()
        try:
            older = self._means.older.get(self._wanted.sha256)
            if older is not None and self._wanted.size_bytes >= MIN_BLOB_BYTES:
                self._patch(older)
            self._fill()
            self._finish()
        except ContentCorrupt as error:
            self._convict(str(error))
            raise
        finally:
            self._part.close()

    def _convict(self, why: str) -> None:
        """Where one source gave all of it, there is no doubt."""
        only = next(iter(self._from.values())) if len(self._from) == 1 else None
        if only is not None:
            self._lane.supply.failed(only, SourceFailure(only.name, Outcome.WRONG, why))

    def alone(self) -> None:
        """All of it from one source."""

        def all_of_it(source: Source, session: Session) -> None:
            self._begin(anew=True)
            try:
                self._stream(source, session, self._wanted.size_bytes)
                self._finish()
            except ContentCorrupt as error:
                raise SourceFailure(source.name, Outcome.WRONG, str(error)) from None
            finally:
                self._part.close()

        self._lane.ask(f"blob {self._wanted.sha256}", all_of_it)

    def _begin(self, *, anew: bool = False) -> None:
        self._part = self._means.arrival.receive(self._wanted.sha256)
        if anew and self._part.position:
            self._part.discard()
            self._part = self._means.arrival.receive(self._wanted.sha256)
        if self._part.position:
            self._from["an earlier try"] = None
        self._tell()

    def _finish(self) -> None:
        try:
            self._part.finish()
        except ContentCorrupt:
            self._lane.supply.stats.add(again=self._wanted.size_bytes)
            raise

    def _fill(self) -> None:
        """The rest, from whoever can go on."""
        size, mixed = self._wanted.size_bytes, 0
        while (before := self._part.position) < size:
            try:
                self._lane.ask(
                    f"blob {self._wanted.sha256}", lambda source, session: self._stream(source, session, size)
                )
            except SourceUnavailable:
                if self._part.position - before < LEAST_PROGRESS_BYTES:
                    raise
            except _SlabWrong:
                mixed += 1
                if mixed > MAX_MIXED_SLABS:
                    raise ContentCorrupt(
                        f"blob {self._wanted.sha256}: {mixed} slabs of several answers are not what the manifest says"
                    ) from None

    def _stream(self, source: Source, session: Session, end: int) -> None:
        """From where the part is up to `end`."""
        begin = self._part.position
        if begin >= end:  # the one before has brought all, but did not end well
            return
        stream = session.open(self._path, begin, end, self._wanted.size_bytes)
        try:
            while self._part.position < end:
                self._take(source, stream, begin)
            stream.readinto(self._buffer[:1])  # its proper end leaves the connection for the next request
        finally:
            stream.close()

    def _take(self, source: Source, stream: Stream, begin: int) -> None:
        """What is there, into the part at once: a process that is killed loses no more than a slab that is not whole."""
        count = stream.readinto(self._buffer)
        if not count:
            raise SourceFailure(source.name, Outcome.TRUNCATED, f"{self._path}: ended at byte {self._part.position}")
        self._from[source.name] = source
        self._lane.supply.stats.came(source.kind, count)
        self._write(self._buffer[:count], source, begin)

    def _write(self, piece: memoryview, source: Source, begin: int) -> None:
        before = self._part.position
        try:
            self._part.write(piece)
        except ContentCorrupt as error:
            place = self._part.position
            self._lane.supply.stats.add(again=before + len(piece) - place)
            if place < begin:  # the slab was begun by another source: this one has not been convicted
                raise _SlabWrong from None
            raise SourceFailure(source.name, Outcome.WRONG, str(error)) from None
        finally:
            self._tell()

    # ---- out of an older blob

    def _patch(self, older: str) -> None:
        """As far as it goes; what is left is for `_fill`."""
        plan = self._plan(older)
        if plan is None:
            return
        try:
            descriptor, _ = self._means.library.open_hash(older)
        except ContentError:
            return
        try:
            for step in plan.steps:
                self._do(step, descriptor)
        except ContentCorrupt as error:  # the index has lied, or the older blob is damaged: the rest comes whole
            self._means.tell("content.delta_failed", {"sha256": self._wanted.sha256, "why": str(error)})
        except OSError as error:
            self._means.tell("content.delta_failed", {"sha256": self._wanted.sha256, "why": str(error)})
        except _NoRanges:
            pass
        finally:
            os.close(descriptor)

    def _plan(self, older: str) -> DeltaPlan | None:
        """None where nothing is to be saved, or not enough is known."""
        limit = repository.max_index_bytes(self._wanted.size_bytes)
        try:
            old = ChunkIndex.decode(self._means.library.chunk_index(older))
        except (ContentNotFound, ContentCorrupt):
            return None
        try:
            new = self._lane.ask(
                "chunk index",
                lambda source, session: _read_index(source, session, self._wanted, limit),
                is_optional=True,
            )
        except SourceUnavailable:
            return None
        plan = missing(new, old)
        return plan if plan.copy_bytes else None

    def _do(self, step: Step, descriptor: int) -> None:
        """One step, or what an earlier try has left of it."""
        begin, end = max(step.offset, self._part.position), step.offset + step.size_bytes
        if step.old_offset is None:
            self._fetch(end)
            return
        offset = step.old_offset + begin - step.offset
        while begin < end:
            self._lane.terms.check()
            piece = self._buffer[: end - begin]
            count = os.preadv(descriptor, [piece], offset)
            if not count:
                raise ContentCorrupt("an older blob ends early")
            self._part.write(piece[:count])
            self._from["an older blob"] = None
            self._lane.supply.stats.add(reused=count)
            self._tell()
            begin, offset = begin + count, offset + count

    def _fetch(self, end: int) -> None:
        while (before := self._part.position) < end:
            try:
                self._lane.ask(
                    f"blob {self._wanted.sha256}", lambda source, session: self._stream_range(source, session, end)
                )
            except SourceUnavailable:
                if not self._has_ranges:
                    raise _NoRanges from None
                if self._part.position == before:
                    raise
            except _SlabWrong:
                raise ContentCorrupt("a slab of old and new bytes does not fit its manifest") from None

    def _stream_range(self, source: Source, session: Session, end: int) -> None:
        try:
            self._stream(source, session, end)
        except SourceFailure as failure:
            self._has_ranges &= failure.outcome is not Outcome.NO_RANGES
            raise

    def _tell(self) -> None:
        position = self._part.position
        self._means.moved(position - self._told)
        self._told = position
        if self._part.verified:
            self._means.incoming.grows(self._part)


class _NoRanges(Exception):
    """No source has ranges."""


def _read_index(source: Source, session: Session, wanted: Wanted, limit_bytes: int) -> ChunkIndex:
    document = session.read(repository.chunks(wanted.sha256), limit_bytes)
    try:
        index = ChunkIndex.decode(document)
        if index.size_bytes != wanted.size_bytes:
            raise ContentCorrupt(f"chunk index of {index.size_bytes} bytes, expected {wanted.size_bytes}")
    except ContentCorrupt as error:
        raise SourceFailure(source.name, Outcome.WRONG, str(error)) from None
    return index
