# SPDX-License-Identifier: Apache-2.0
"""What the library's verbs share: its files and its rows, opened together, and the short steps that change both.

A blob comes in five steps: its part is on the disk; its place is noted as loose; a rename gives it its name, which is
made durable; a row vouches for it and the note goes. It leaves in three: row out and note in, as one transaction; the file
is unlinked; the note goes. So whatever a crash interrupts, opening has the notes alone to look at, never all blobs.

These steps run one after the other under `change`. Streams run side by side, and hold the blobs that they count on: what
is held is not dropped by a removal meanwhile, but when it is released.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from dpd.content.occupancy import Occupancy
from dpd.content.own_key import own_key
from dpd.content.records import BlobRow, BlobState, Content, FileEntry, Place
from dpd.content.storage.catalogue import Catalogue
from dpd.content.storage.disk import in_words
from dpd.content.storage.root_folder import Adopted
from dpd.content.storage.roots import Roots
from dpd.content.storage.store import Store
from dpd.content.storage.stored_parity import StoredParity
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound

KEPT_S = 7 * 86400.0  # how long a part that was being received waits for its next try


@dataclass(frozen=True, slots=True)
class Ready:
    """A part that is a whole blob, in the incoming/ of the root it shall stay in. Its chunk index is encoded."""

    part: Path
    sha256: str
    size_bytes: int
    root: int
    parity: Path | None = None
    chunk_index: bytes | None = None

    def discard(self) -> None:
        """Idempotent, and nothing where it has been adopted."""
        self.part.unlink(missing_ok=True)
        if self.parity is not None:
            self.parity.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is to exist from now on. `settle` gives it its final version, or refuses; `manifest` is the canonical body of its
    slab manifest, where it has one. Both are called under `change`."""

    settle: Callable[[], Content]
    files: Sequence[FileEntry]
    directories: Sequence[str] = ()
    manifest: Callable[[Content], bytes] | None = None


class Stock:
    """The files and rows of one library, locked for this process. Every method may be called from any thread."""

    def __init__(self, root: Path) -> None:
        """Raises LibraryInUse, ContentError."""
        self.change = threading.RLock()
        self.occupancy = Occupancy(f"library {root}")
        self._held: Counter[str] = Counter()
        self._spared: set[str] = set()
        self._claimed: set[str] = set()
        self.store = Store(root)
        try:
            is_empty = next(self.store.own.blobs(), None) is None  # else an empty catalogue would make garbage of them
            self.catalogue = Catalogue(self.store.database, may_make=is_empty)
        except BaseException:
            self.store.close()
            raise
        try:
            self.blobs = self.catalogue.blobs
            self.roots = Roots(self.store.own, self.blobs)
            self._recover()
            self.key = own_key(self.store, self._manifests())
        except OSError as error:
            self.close()
            raise ContentError(f"library {root}: {in_words(error)}") from None
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Idempotent."""
        if hasattr(self, "roots"):
            self.roots.close()
        self.catalogue.close()
        self.store.close()

    def _recover(self) -> None:
        """Put right what a crash left: parts, and files that are noted as loose."""
        self.store.sweep_parts()
        for folder in self.roots.folders():
            folder.sweep_parts()
            for part in folder.parts():
                if part.stat().st_mtime < time.time() - KEPT_S:
                    part.unlink(missing_ok=True)
        self.settle(self.blobs.loose())

    def _manifests(self) -> Iterator[str]:
        yield from self.catalogue.manifests()

    # ---- blobs

    def path_of(self, row: BlobRow) -> Path:
        """Raises ContentError where its root is not there."""
        return self.roots.folder(row.root).blob(row.sha256)

    def open_row(self, row: BlobRow) -> int:
        """A descriptor for reading, closed by the caller, wherever the blob has been moved since. Raises ContentError,
        ContentCorrupt."""
        try:
            return self.roots.open_blob(row.sha256)[0]
        except OSError as error:
            raise ContentCorrupt(
                f"blob {row.sha256} cannot be opened: {error.strerror}; `dpd content validate` repairs it, or publish it again"
            ) from None

    def open_parity(self, row: BlobRow, slab_bytes: int) -> StoredParity | None:
        """The parity kept beside a blob; None where there is none. Raises ContentCorrupt where it cannot be used."""
        try:
            path = self.roots.folder(row.root).parity(row.sha256)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except (FileNotFoundError, ContentError):
            return None
        except OSError as error:
            raise ContentCorrupt(f"stored parity cannot be opened: {error.strerror}") from None
        return StoredParity(descriptor, row.sha256, row.size_bytes, slab_bytes)

    def is_usable(self, row: BlobRow) -> bool:
        """Whether a blob is there as far as a look at it tells: not known as damaged, and of its size."""
        try:
            return row.state is BlobState.HERE and self.path_of(row).stat().st_size == row.size_bytes
        except (OSError, ContentError):
            return False

    def hold(self, hashes: Iterable[str]) -> dict[str, BlobRow]:
        """Those of these blobs that are here; none of them goes until `release` has been called as often."""
        wanted = list(hashes)
        with self.change:
            self._held.update(wanted)
            return self.blobs.known(wanted)

    def release(self, hashes: Iterable[str]) -> None:
        """The holder does not count on these blobs any more; those that a removal left for it go now."""
        with self.change:
            self._held.subtract(list(hashes))
            self._held = +self._held
            due = {each for each in self._spared if each not in self._held}
            self._spared -= due
            if due:
                self.settle(self.blobs.drop(due))

    def held(self) -> frozenset[str]:
        """What running work counts on."""
        return frozenset(self._held)

    def claim(self, sha256: str) -> bool:
        """Whether the caller alone may go on with the kept part of this blob, until `disclaim`."""
        with self.change:
            is_free = sha256 not in self._claimed
            self._claimed.add(sha256)
            return is_free

    def disclaim(self, sha256: str) -> None:
        with self.change:
            self._claimed.discard(sha256)

    def is_claimed(self, sha256: str) -> bool:
        """Whether its kept part is being written to."""
        return sha256 in self._claimed

    # ---- changes

    def adopt(self, ready: Sequence[Ready]) -> None:
        """Keep blobs that no content needs yet; hold them, or gc takes them for garbage."""
        with self.change:
            with self._taken_back(ready):
                self._give_names(ready)
                moved = self.blobs.add([_row(each) for each in ready])
            self.settle_moved(moved)

    def install(self, recipe: Recipe, ready: Sequence[Ready]) -> Content:
        """Make content exist, of blobs that are here and held and of those that are ready. The only way in which content
        begins to exist; what fails before leaves nothing behind."""
        with self.change:
            content = recipe.settle()
            before, manifest = self.catalogue.manifest_of(content), ""
            try:
                with self._taken_back(ready):
                    self._give_names(ready)
                    if recipe.manifest is not None:
                        manifest = self._write_manifest(recipe.manifest(content))
                    moved = self.catalogue.put(
                        content, manifest, recipe.files, recipe.directories, [_row(each) for each in ready]
                    )
            except BaseException:
                if manifest and manifest != before:
                    self.store.drop_manifest(manifest)
                raise
            self.settle_moved(moved)
            if before and before != manifest:
                self.store.drop_manifest(before)
            return content

    def remove(self, content: Content) -> None:
        """Rows first, then files. Raises OSError where a file cannot go; the rows are gone then all the same."""
        with self.change:
            manifest = self.catalogue.manifest_of(content)
            if manifest is None:
                raise ContentNotFound(f"{content} has been removed from the library")
            self._spared.update(each.sha256 for each in self.catalogue.files(content) if each.sha256 in self._held)
            places = self.catalogue.remove(content, self._held)
            if manifest:
                self.store.drop_manifest(manifest)
            self.settle(places)

    def drop(self, hashes: Iterable[str]) -> None:
        """Those of these blobs that neither a content nor running work needs."""
        with self.change:
            self.settle(self.blobs.drop(hashes, self._held))

    def settle_moved(self, places: Sequence[Place]) -> None:
        """Where blobs were that have a row for another place now. A disk that has failed may not let go of its files: they
        are noted, and the next start tries again."""
        with suppress(OSError):
            self.settle(places)

    def settle(self, places: Sequence[Place]) -> None:
        """Loose places, where a file may be: it goes if no row vouches for it. Raises OSError, behind all others,
        where one cannot go; its note stays for the next start."""
        with self.change:
            known, done, failed = self.blobs.known(place.sha256 for place in places), [], None
            for place in places:
                try:
                    if self._settle(place, known.get(place.sha256)):
                        done.append(place)
                except OSError as error:
                    failed = error
            if done:
                self.blobs.forget_loose(done)
            if failed is not None:
                raise failed

    def _settle(self, place: Place, row: BlobRow | None) -> bool:
        """Whether nothing is loose there any more."""
        if row is None or row.root != place.root:
            if not self._has_folder(place.root):
                return False  # its disk is not there now; the note stays for the next start
            self.roots.folder(place.root).drop([place.sha256])
        if row is None:
            self.store.drop_chunks([place.sha256])
        return True

    def _has_folder(self, root: int) -> bool:
        try:
            self.roots.folder(root)
        except ContentError:
            return False
        return True

    @contextmanager
    def _taken_back(self, ready: Sequence[Ready]) -> Iterator[None]:
        """Where the block fails, the files that it has given names go again."""
        try:
            yield
        except BaseException:
            with suppress(ContentError, OSError):  # a full disk may not take the note back; the next start does
                self.settle([_place(each) for each in ready])
            raise

    def _give_names(self, ready: Sequence[Ready]) -> None:
        self.blobs.note_loose([_place(each) for each in ready])
        self.roots.adopt([Adopted(each.part, each.sha256, each.root, each.parity) for each in ready])
        for each in ready:
            if each.chunk_index is not None:
                self.store.write_chunks(each.sha256, each.chunk_index)

    def _write_manifest(self, body: bytes) -> str:
        name = sha256(body).hexdigest()
        self.store.write_manifest(name, self.key.sign(body))
        return name


def _row(ready: Ready) -> BlobRow:
    return BlobRow(ready.sha256, ready.size_bytes, ready.root, BlobState.HERE)


def _place(ready: Ready) -> Place:
    return Place(ready.sha256, ready.root)
