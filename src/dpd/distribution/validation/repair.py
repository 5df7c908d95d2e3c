# SPDX-License-Identifier: Apache-2.0
"""Makes a damaged blob right again: what is still good of it stays, what is not comes from somebody who has it.

A slab manifest or a chunk index tells which bytes are bad, so that a flipped bit in an image of 5 GiB costs a slab and not
the image. Neither is trusted: the new file gets the blob's name only when its SHA-256 is the blob's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Protocol

from blake3 import blake3

from dpd.content.blob_part import BlobPart
from dpd.content.chunks import ChunkIndex
from dpd.content.damage import Damage
from dpd.content.library import Library
from dpd.content.manifest import Manifest, decode_signed
from dpd.content.records import Content
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, SourceUnavailable

log = logging.getLogger(__name__)

PIECE_BYTES = 1 << 20

Extent = tuple[int, int]  # first byte, and the byte behind the last one
Check = Callable[[], None]


class Origin(Protocol):
    """Somebody who may have the blob whole: a source, or another file on this machine."""

    @property
    def name(self) -> str: ...

    def read_blob(self, sha256: str, begin: int, end: int, size_bytes: int) -> Iterator[bytes | memoryview]:
        """The bytes of it from `begin` up to `end`, good until the next piece is asked for. Raises ContentNotFound where it has
        no such blob, SourceUnavailable where it may give it later."""
        ...

    def blame(self, why: str) -> None:
        """What it gave is not the blob."""
        ...


Origins = Callable[[str, Check], Generator[Origin]]  # of a blob, in the order in which they are to be asked


@dataclass(frozen=True, slots=True)
class Mended:
    """A blob that is right again: from whom, and how many bytes came from there."""

    sha256: str
    origin: str
    fetched_bytes: int


class Repair:
    """Mends the blobs of one library."""

    def __init__(self, library: Library, origins: Origins) -> None:
        self._library = library
        self._origins = origins

    def mend(self, content: Content, damage: Damage, check: Check) -> Mended:
        """Make this blob of the content right again. `check` is called at each piece, and may raise.

        Raises SourceUnavailable where a later try may help, ContentCorrupt where nobody has the blob: both name whom was
        asked; ContentNotFound where it was removed meanwhile. What came is kept for the next try.
        """
        reasons: list[str] = []
        may_help_later = False
        with closing(self._origins(damage.sha256, check)) as origins:
            for origin in origins:
                try:
                    return self._mend_from(origin, content, damage, check)
                except SourceUnavailable as error:
                    may_help_later = True
                    reasons.append(str(error))
                except (ContentNotFound, ContentCorrupt) as error:
                    reasons.append(str(error))
        if not self._library.users_of(damage.sha256):
            raise ContentNotFound(f"{content} has been removed from the library")
        whom = "; ".join(reasons) or "no source is in the settings ([[distribution.source]])"
        what = f"{content}: blob {damage.sha256} is damaged ({damage.reason})"
        if may_help_later:
            raise SourceUnavailable(f"{what} and cannot be mended now: {whom}")
        raise ContentCorrupt(f"{what} and nobody has it: {whom}; publish {content} again")

    def _mend_from(self, origin: Origin, content: Content, damage: Damage, check: Check) -> Mended:
        """Where what seemed good was not, everything is fetched."""
        try:
            return self._fill(origin, damage, self._bad_extents(content, damage), check)
        except _NotSalvaged as error:
            log.warning("repair begins anew", extra={"blob": damage.sha256, "cause": str(error)})
            return self._fill(origin, damage, [(0, damage.size_bytes)], check)

    def _fill(self, origin: Origin, damage: Damage, bad: Sequence[Extent], check: Check) -> Mended:
        part = self._library.repair_part(damage.sha256)
        fetched = 0
        try:
            for begin, end, is_bad in alternate(bad, damage.size_bytes):
                begin = max(begin, part.position)
                if begin < end and is_bad:
                    fetched += _fetch(origin, damage, begin, end, part, check)
                elif begin < end:
                    self._salvage(damage, begin, end, part, check)
            _finish(part, origin, may_blame_salvage=bad != [(0, damage.size_bytes)])
        except BaseException:
            part.close()  # what is in it is good as far as anybody can tell, and stays for the next try
            raise
        return Mended(damage.sha256, origin.name, fetched)

    def _salvage(self, damage: Damage, begin: int, end: int, part: BlobPart, check: Check) -> None:
        """Take bytes of the damaged file that should be good. Raises _NotSalvaged where they are not."""
        try:
            with closing(_Open(*self._library.open_damaged(damage.sha256))) as damaged:
                copied = _copy(damaged.read(begin, end), part, check)
        except (ContentError, OSError) as error:
            raise _NotSalvaged(f"bytes {begin} to {end - 1}: {error}") from None
        if copied != end - begin:
            raise _NotSalvaged(f"bytes {begin} to {end - 1}: {end - begin - copied} of them are missing")

    def _bad_extents(self, content: Content, damage: Damage) -> list[Extent]:
        """What is to be fetched; all of it where nothing tells what is good."""
        whole = [(0, damage.size_bytes)]
        if damage.slabs is not None and content.is_one_file:
            return slabs_as_extents(damage.slabs, self._manifest(content)) or whole
        with suppress(ContentError, OSError):
            index = ChunkIndex.decode(self._library.chunk_index(damage.sha256))
            with closing(_Open(*self._library.open_damaged(damage.sha256))) as damaged:
                if index.size_bytes == damage.size_bytes:
                    return bad_chunks(damaged.descriptor, index) or whole
        return whole

    def _manifest(self, content: Content) -> Manifest:
        return decode_signed(self._library.manifest(content), self._library.public_key())


def slabs_as_extents(slabs: Iterable[int], manifest: Manifest) -> list[Extent]:
    """Damaged slabs in bytes; neighbours are one extent."""
    return join(manifest.extent(slab) for slab in sorted(slabs) if slab < manifest.slab_count)


def bad_chunks(descriptor: int, index: ChunkIndex) -> list[Extent]:
    """What of an open file is not what its chunk index says; neighbours are one extent."""
    return join(_bad_chunks(descriptor, index))


def _bad_chunks(descriptor: int, index: ChunkIndex) -> Iterator[Extent]:
    for offset, length, digest in index:
        try:
            is_good = blake3(os.pread(descriptor, length, offset)).digest() == digest
        except OSError:
            is_good = False
        if not is_good:
            yield offset, offset + length


def join(extents: Iterable[Extent]) -> list[Extent]:
    """Ordered extents, those that touch made one."""
    joined: list[Extent] = []
    for begin, end in extents:
        if joined and joined[-1][1] >= begin:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def alternate(bad: Sequence[Extent], size_bytes: int) -> Iterator[tuple[int, int, bool]]:
    """The whole file in order, as extents that are bad (True) and those between."""
    at = 0
    for begin, end in bad:
        if at < begin:
            yield at, begin, False
        yield begin, end, True
        at = end
    if at < size_bytes:
        yield at, size_bytes, False


def _fetch(origin: Origin, damage: Damage, begin: int, end: int, part: BlobPart, check: Check) -> int:
    """Raises SourceUnavailable for an answer that ends early, ContentCorrupt for wrong bytes; both name the origin."""
    try:
        copied = _copy(origin.read_blob(damage.sha256, begin, end, damage.size_bytes), part, check)
    except ContentCorrupt as error:
        origin.blame(str(error))
        raise ContentCorrupt(f"{origin.name}: {error}") from None
    if copied != end - begin:
        raise SourceUnavailable(f"{origin.name}: gave {copied} of {end - begin} bytes; it may give the rest later")
    return copied


def _finish(part: BlobPart, origin: Origin, *, may_blame_salvage: bool) -> None:
    try:
        part.finish()
    except ContentCorrupt as error:
        if may_blame_salvage:  # nothing of it is kept, since nobody knows which part is wrong
            raise _NotSalvaged(str(error)) from None
        origin.blame(str(error))
        raise ContentCorrupt(f"{origin.name}: {error}") from None


def _copy(pieces: Iterator[bytes | memoryview], part: BlobPart, check: Check) -> int:
    copied = 0
    for piece in pieces:
        check()
        part.write(memoryview(piece))
        copied += len(piece)
    return copied


class _NotSalvaged(ContentError):
    """What seemed good of a damaged file is not."""


@dataclass(frozen=True, slots=True)
class _Open:
    """A damaged file."""

    descriptor: int
    size_bytes: int

    def read(self, begin: int, end: int) -> Iterator[memoryview]:
        while begin < end and (piece := os.pread(self.descriptor, min(PIECE_BYTES, end - begin), begin)):
            yield memoryview(piece)
            begin += len(piece)

    def close(self) -> None:
        os.close(self.descriptor)
