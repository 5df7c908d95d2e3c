# SPDX-License-Identifier: Apache-2.0
"""Content for the steps of a run: into a file by multicast or HTTP, as a stream, or as a folder. Nothing leaves here that does
not match what the distribution point signed.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dpd.content.description import Description
from dpd.content.description import decode_signed as decode_description
from dpd.content.manifest import Manifest, SlabCheck, decode_signed
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound, DpdError
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.service.receiving.receiver import Progress
from dpd.target.distribution_point.connection import Unreachable
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.distribution_point.patience import Patience
from dpd.target.receiving.progress import Display
from dpd.target.receiving.receive import parse_arguments
from dpd.target.receiving.reception import MAX_DAMAGED, Kicked, Reception
from dpd.target.receiving.slab_store import SlabStore
from dpd.target.receiving.unicast import SlabFetcher
from dpd.target.work.step_failure import RunEnded, StepFailed

SMALL_MEMORY_BYTES = 1 << 30
SLOTS, SMALL_SLOTS = 16, 6  # slabs of 5.5 MiB in assembly at once: a target of 512 MiB has no 88 for them
PIECE_BYTES = 4 << 20
PATIENCE_S = 600.0

Watch = Callable[[int, int, str], object]  # bytes here, bytes in all, by which way


class MulticastMissing(DpdError):
    """Content was to come by multicast alone, and does not."""


class ContentSource:
    """What one distribution point has. `check` is called often and may raise; `tell` gets what happens, for the log."""

    def __init__(
        self,
        url: str,
        *,
        ca_file: str = "",
        public_key: bytes | None = None,
        ram_bytes: int = 0,
        check: Callable[[], object] = lambda: None,
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.url = url
        self.patience_s = PATIENCE_S
        self.may_be_unicast = True  # where multicast does not get through
        self._ca_file = ca_file
        self._public_key = public_key
        self._slots = SMALL_SLOTS if 0 < ram_bytes <= SMALL_MEMORY_BYTES else SLOTS
        self._check = check
        self._tell = tell

    def describe(self, package: str, version: int = 0) -> Description:
        """A version of a package, 0 for the newest. Raises ContentNotFound, Unreachable after the patience, ContentCorrupt."""
        with closing(self._point()) as point, closing(point.open_connection()) as connection:
            base = f"/repository/v1/packages/{quote(package, safe='')}"
            if not version:
                version = _newest(self._ask(lambda: connection.ask("GET", f"{base}/newest")), package)
            document = self._ask(lambda: connection.ask("GET", f"{base}/{version}/description"))
        description = decode_description(document, self._public_key)
        if (description.package_id, description.source_version) != (package, version):
            raise ContentCorrupt(f"description: of {description}, expected {package} version {version}")
        return description

    def beside(self, check: Callable[[], object]) -> ContentSource:
        """The same for another thread, which `check` ends."""
        other = copy.copy(self)
        other._check = check
        return other

    def receive(
        self,
        package: str,
        version: int,
        output: Path,
        watch: Watch,
        *,
        by_multicast: bool,
        opened: Callable[[SlabStore], object] = lambda store: None,
    ) -> None:
        """Fill `output` with a package of one file; what an earlier try left there counts. By HTTP where multicast fails, unless that is
        the only way. `opened` is given each store before anything comes. Raises DpdError."""
        if by_multicast:
            try:
                self._join(package, version, output, watch, opened)
                return
            except (RunEnded, ContentError, StepFailed, Kicked):  # where HTTP is no help
                raise
            except DpdError as error:
                if not self.may_be_unicast:
                    raise
                self._check()
                self._tell(f"multicast failed, HTTP is taken: {error}")
        self._fetch(package, version, output, watch, opened)

    def stream(self, package: str, version: int, watch: Watch) -> Iterator[memoryview]:
        """The bytes of a package of one file in their order, each slab verified before it is given out; a piece is good until the
        next is asked for."""
        with closing(self._point()) as point:
            manifest = self._manifest(point, package, version)
            passing = _Passing(manifest)
            with closing(point.open_connection()) as connection:
                fetcher = SlabFetcher(connection, manifest, passing, self._pause)
                for slab in range(manifest.slab_count):
                    self._fetch_slab(fetcher, manifest, slab)
                    watch(manifest.extent(slab)[1], manifest.size_bytes, "stream")
                    yield passing.content

    def fetch_folder(self, description: Description, into: Path, watch: Watch) -> None:
        """Every file of a package, each held against the SHA-256 of its description. Raises DpdError."""
        done = 0
        with closing(self._point()) as point, closing(point.open_connection()) as connection:
            for directory in description.directories:
                (into / directory).mkdir(parents=True, exist_ok=True)
            for entry in description.files:
                place = into / entry.path
                place.parent.mkdir(parents=True, exist_ok=True)
                if not _is_here(place, entry.size_bytes, entry.sha256):
                    self._fetch_blob(connection, entry.sha256, entry.size_bytes, place)
                done += entry.size_bytes
                watch(done, description.size_bytes, "HTTP")

    # ---- ways

    def _join(
        self, package: str, version: int, output: Path, watch: Watch, opened: Callable[[SlabStore], object]
    ) -> None:
        arguments = [self.url, package, "--output", str(output), "--source-version", str(version)]
        arguments += ["--slots", str(self._slots), "--patience", str(self.patience_s)]
        arguments += ["--ca-file", self._ca_file] if self._ca_file else []
        arguments += ["--public-key", self._public_key.hex()] if self._public_key else []
        display = _Told(package, watch, self._check, self._tell, self.may_be_unicast)
        Reception(parse_arguments(arguments), display, opened).run()

    def _fetch(
        self, package: str, version: int, output: Path, watch: Watch, opened: Callable[[SlabStore], object]
    ) -> None:
        with closing(self._point()) as point:
            manifest = self._manifest(point, package, version)
            with closing(SlabStore(output, manifest)) as store, closing(point.open_connection()) as connection:
                fetcher = SlabFetcher(connection, manifest, store, self._pause)
                verified = store.verified
                opened(store)
                try:
                    for slab in range(manifest.slab_count):
                        if not verified >> slab & 1:
                            self._fetch_slab(fetcher, manifest, slab)
                        watch(manifest.extent(slab)[1], manifest.size_bytes, "HTTP")
                finally:
                    store.sync()
                store.finish()

    def _fetch_slab(self, fetcher: SlabFetcher, manifest: Manifest, slab: int) -> None:
        self._began_at = time.monotonic()
        for _ in range(MAX_DAMAGED):
            if fetcher.fetch(slab):
                return
            self._tell(f"slab {slab} of {manifest.package_id} is not what its manifest says; asked for again")
        raise ContentCorrupt(
            f"{self.url}: {manifest.package_id} is not what its manifest says; `dpd content verify {manifest.package_id}` "
            "there tells where it is damaged"
        )

    def _pause(self, wait_s: float) -> None:
        """Between two requests of a slab."""
        self._check()
        if wait_s:
            if time.monotonic() - self._began_at > self.patience_s:
                raise Unreachable(
                    f"{self.url}: no byte of the content came for {self.patience_s:.0f} s; is dpd running there?"
                )
            time.sleep(wait_s)
        else:
            self._began_at = time.monotonic()

    def _fetch_blob(self, connection: Any, sha256: str, size_bytes: int, place: Path) -> None:
        fresh = place.with_name(place.name + ".part")
        patience = Patience(self.patience_s)
        digest, done = hashlib.sha256(), 0
        buffer = memoryview(bytearray(min(PIECE_BYTES, size_bytes) or 1))
        with fresh.open("wb") as file:
            while done < size_bytes:
                self._check()
                wanted = buffer[: size_bytes - done]
                try:
                    count = connection.fetch_extent(f"/repository/v1/blobs/{sha256}", done, wanted)
                except Unreachable as error:
                    patience.wait(error)
                    continue
                if count:
                    patience.reset()
                digest.update(wanted[:count])
                file.write(wanted[:count])
                done += count
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            fresh.unlink()
            raise ContentCorrupt(
                f"{self.url}: {place.name} is not what its description says; `dpd content verify` there"
            )
        os.replace(fresh, place)

    # ----

    def _point(self) -> DistributionPoint:
        return DistributionPoint(self.url, self._ca_file)

    def _manifest(self, point: DistributionPoint, package: str, version: int) -> Manifest:
        manifest = decode_signed(self._ask(lambda: point.fetch_manifest(package, version)), self._public_key)
        if (manifest.package_id, manifest.source_version, manifest.slab_bytes) != (package, version, SLAB_BYTES):
            raise ContentCorrupt(
                f"manifest: of {manifest.package_id} version {manifest.source_version}, expected {package} {version}"
            )
        return manifest

    def _ask(self, question: Callable[[], bytes]) -> bytes:
        """Ask until there is an answer, or the patience is over."""
        patience = Patience(self.patience_s)
        while True:
            self._check()
            try:
                return question()
            except Unreachable as error:
                self._tell(f"waiting: {error}")
                patience.wait(error)


class _Passing:
    """A store that keeps nothing but the slab that was verified last."""

    def __init__(self, manifest: Manifest) -> None:
        self._fits = SlabCheck(manifest).fits
        self.content = memoryview(b"")

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        if not self._fits(slab, content):
            return False
        self.content = content
        return True

    def sync(self) -> None:
        """Nothing is on a disk."""


class _Told(Display):
    """A receiver's display that speaks to a run instead of a terminal."""

    def __init__(
        self,
        package: str,
        watch: Watch,
        check: Callable[[], object],
        tell: Callable[[str], object],
        may_be_unicast: bool,
    ) -> None:
        super().__init__(package, as_json=True)
        self._package, self._watch, self._check, self._tell = package, watch, check, tell
        self._may_be_unicast = may_be_unicast

    def show(self, progress: Progress) -> None:
        self._check()
        self._watch(progress.verified_bytes, progress.size_bytes, "HTTP" if progress.is_unicast else "multicast")

    def tell(self, event: str, **fields: Any) -> None:
        self._check()
        if event == "unicast" and not self._may_be_unicast:
            raise MulticastMissing(
                f"{self._package}: {fields.get('reason', '')}, and fall_back is false; `dpd mc-test` tells why"
            )
        self._tell(f"{self._package} {event} " + "  ".join(f"{key} {value}" for key, value in fields.items()))


def _newest(answer: bytes, package: str) -> int:
    """The number in {"source_version": N}, as `dpd.content.repository` writes it, which needs more than the standard library."""
    import json

    try:
        version = json.loads(answer)["source_version"]
    except (ValueError, KeyError, TypeError):
        version = 0
    if type(version) is not int or version < 1:
        raise ContentNotFound(f"{package}: the distribution point tells no newest version")
    return version


def _is_here(place: Path, size_bytes: int, sha256: str) -> bool:
    if not place.is_file() or place.stat().st_size != size_bytes:
        return False
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == sha256
