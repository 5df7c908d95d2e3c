# SPDX-License-Identifier: Apache-2.0
"""A bundle: content as one tar archive, to be carried where the network does not reach. Its first file is the signed listing
of the others. Unpacked by tar it is a repository that any web server can offer.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from dpd.content.intake import Progress
from dpd.content.library import Library
from dpd.distribution.bundles import listing as bundle_listing
from dpd.distribution.bundles.listing import LISTING_PATH, MAX_LISTING_BYTES, BundleFile, Listing
from dpd.distribution.bundles.plan import Plan
from dpd.distribution.bundles.tar_stream import Read, TarReader, TarWriter, Write, archive_bytes
from dpd.errors import ContentCorrupt

Check = Callable[[], None]


class Bundle:
    """One bundle that is about to be written: how long it is, is known before."""

    def __init__(self, library: Library, plan: Plan, *, clock: Callable[[], float] = time.time) -> None:
        """Raises ContentError where it would be too much for one bundle."""
        self._plan = plan
        self._created_at = int(clock())
        body = bundle_listing.encode(Listing(self._created_at, plan.packages, tuple(each.file for each in plan.files)))
        self._listing = bundle_listing.sign(body, library.public_key(), library.sign(body))
        self.size_bytes = archive_bytes(self._sizes())

    def _sizes(self) -> Iterator[int]:
        yield len(self._listing)
        yield from (each.file.size_bytes for each in self._plan.files)

    def write(self, write: Write, progress: Progress, check: Check) -> None:
        """All of it. Raises ContentError where something is not what it was, which leaves the bundle cut off."""
        done = 0

        def put(piece: bytes | memoryview) -> None:
            nonlocal done
            check()
            write(piece)
            done += len(piece)
            progress(done, self.size_bytes)

        archive = TarWriter(put, self._created_at)
        archive.begin(LISTING_PATH, len(self._listing))
        archive.write(self._listing)
        for each in self._plan.files:
            archive.begin(each.file.path, each.file.size_bytes)
            for piece in each.pieces():
                archive.write(piece)
        archive.finish()


@dataclass(frozen=True, slots=True)
class Opened:
    """A bundle whose listing has been read; `signer` is the key that signed it."""

    listing: Listing
    signer: bytes
    archive: TarReader


def open_bundle(read: Read) -> Opened:
    """Read the listing. Raises ContentCorrupt."""
    archive = TarReader(read)
    first = archive.next()
    if first is None or first.path != LISTING_PATH:
        found = "an empty archive" if first is None else f"{first.path[:80]!r}"
        raise ContentCorrupt(f"bundle: begins with {found}, expected {LISTING_PATH}; is it a bundle of dpd?")
    if first.size_bytes > MAX_LISTING_BYTES:
        raise ContentCorrupt(f"bundle: its listing has {first.size_bytes} bytes, expected at most {MAX_LISTING_BYTES}")
    listing, signer = bundle_listing.decode(b"".join(archive.pieces()))
    return Opened(listing, signer, archive)


def files_of(opened: Opened) -> Iterator[tuple[BundleFile, int, Iterator[bytes]]]:
    """Each file, where it begins, and its bytes, which are held against the listing when their end is read.

    Raises ContentCorrupt for a file that is missing, too much, at another place, or changed.
    """
    for expected in opened.listing.files:
        member = opened.archive.next()
        if member is None:
            raise ContentCorrupt(
                f"bundle: ends at byte {opened.archive.offset} without {expected.path}; it was cut off: get it again"
            )
        if (member.path, member.size_bytes) != (expected.path, expected.size_bytes):
            raise ContentCorrupt(
                f"bundle: byte {member.offset}: {member.path[:200]!r} of {member.size_bytes} bytes, expected {expected.path} of {expected.size_bytes}; it was changed: get it again"
            )
        yield expected, member.offset, _compared(opened.archive, expected, member.offset)
    extra = opened.archive.next()
    if extra is not None:
        raise ContentCorrupt(f"bundle: byte {extra.offset}: {extra.path[:200]!r} is not in its listing; get it again")


def _compared(archive: TarReader, expected: BundleFile, offset: int) -> Iterator[bytes]:
    whole = hashlib.sha256()
    for piece in archive.pieces():
        whole.update(piece)
        yield piece
    if whole.hexdigest() != expected.sha256:
        raise ContentCorrupt(
            f"bundle: {expected.path}, which begins at byte {offset}, is not what the listing says; it was changed or damaged: get it again"
        )
