# SPDX-License-Identifier: Apache-2.0
"""The power is cut between any two system calls of a change: what was reported is there, whole, and nothing else is given
out that is not what its hash says."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES
from tests.content.power_cut import Lasting, Moment, Recorder, layout, rebuild

from dpd.content.blob_part import BlobPart
from dpd.content.description import Description, decode_signed
from dpd.content.intake import take_in
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content.storage.stored_parity import ParityCode
from dpd.errors import ContentCorrupt

Key = tuple[str, int]
Files = dict[str, bytes]
made = random.Random(11)
OLD: Files = {"old.img": made.randbytes(3 * SLAB_BYTES + 9)}
NEW: Files = {"new.img": made.randbytes((1 << 20) + 5)}  # large enough for chunks
TREE: Files = {
    "setup.exe": made.randbytes(20_000),
    "sources/install.cab": made.randbytes((1 << 20) + 77),
    "sources/empty": b"",
    "sources/same": OLD["old.img"],
    **{f"many/{n}": made.randbytes(50) for n in range(12)},
}
KNOWN: dict[Key, Files] = {
    ("OLD", 1): OLD,
    ("NEW", 1): NEW,
    ("TREE", 1): TREE,
    ("SAME", 1): OLD,
}
CHANCES = 2  # disks by chance for each moment
PARITY = ParityCode(1, 512, lambda slab: [bytes(slab[:512]).ljust(512, b"\0")])


@pytest.fixture
def folder() -> Iterator[Path]:
    """In memory: some thousand libraries are made here."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="dpd-power-cut-", dir=memory if os.access(memory, os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


class Site:
    """A disk with a library, its sources beside it, and what has been told of it."""

    def __init__(self, folder: Path) -> None:
        self.disk, self.sources = folder / "disk", folder / "sources"
        self.root = self.disk / "library"
        self.disk.mkdir()
        self.recorder: Recorder | None = None
        self.library = Library(self.root, slab_bytes=SLAB_BYTES)

    def source(self, key: Key) -> Path:
        """The file, or the folder, that a content is published from."""
        files, base = KNOWN[key], self.sources / key[0]
        for path, content in files.items():
            (base / path).parent.mkdir(parents=True, exist_ok=True)
            (base / path).write_bytes(content)
        return base / next(iter(files)) if len(files) == 1 else base

    def publish(self, package_id: str) -> None:
        self.library.publish(self.source((package_id, 1)), package_id, 1)
        self.report(("is there", (package_id, 1)))

    def remove(self, package_id: str) -> None:
        self.report(("may go", (package_id, 1)))
        self.library.remove(package_id, 1)
        self.report(("is gone", (package_id, 1)))

    def report(self, fact: tuple[str, Key]) -> None:
        if self.recorder is not None:
            self.recorder.report(fact)

    def record(self, change: Callable[[Site], None]) -> list[Moment]:
        """Make the change, and note what every moment of it left."""
        with Recorder(self.disk) as recorder:
            self.recorder = recorder
            change(self)
        self.recorder = None
        return recorder.moments


def files_of(library: Library, content: Content) -> Files:
    """What the library gives out; that its hashes are those is seen by `verify`."""
    found = {}
    for entry in library.files(content):
        descriptor, size_bytes = library.open_file(content, entry.path)
        with open(descriptor, "rb") as file:
            found[entry.path] = file.read()
        assert len(found[entry.path]) == size_bytes
    return found


def check(site_root: Path, before: set[Key], moment: Moment) -> None:
    """The library opens; what it was before and what was told since holds; nothing is given out that is not whole."""
    told = dict.fromkeys(before, "is there") | {key: fact for fact, key in moment.reported}
    with Library(site_root, slab_bytes=SLAB_BYTES) as library:
        there = {(content.package_id, content.source_version): content for content in library.contents()}
        for key, fact in told.items():
            if fact == "is there":
                assert key in there, f"{key} was told to be there, and is not"
            elif fact == "is gone":
                assert key not in there, f"{key} was told to be gone, and is back"
        for key, content in there.items():
            assert files_of(library, content) == KNOWN[key]
            library.verify(*key)
        assert library.damaged_blobs() == []
        parts = [path for path in site_root.glob("incoming/*") if len(path.stem) != 64]
        assert parts == []


def cut_at_every_moment(
    site: Site, change: Callable[[Site], None], seed: int, then: Callable[[Library], object] = lambda library: None
) -> int:
    """How many different disks were looked at. `then` is done with each afterwards, and has to go well."""
    before = {(content.package_id, content.source_version) for content in site.library.contents()}
    moments = site.record(change)
    site.library.close()
    kept = site.disk.with_name("as it was")
    site.disk.rename(kept)  # roots are known by their whole path
    looked = set[int]()
    for number, moment in enumerate(moments):
        kinds = [each for each in Lasting if each is not Lasting.CHANCE] + [Lasting.CHANCE] * CHANCES
        for place, lasting in enumerate(kinds):
            laid_out = layout(moment, lasting, random.Random(seed * 1_000_003 + number * 101 + place))
            if (found := hash((moment.reported, laid_out))) in looked:
                continue
            looked.add(found)
            rebuild(laid_out, site.disk)
            try:
                check(site.root, before, moment)
                with Library(site.root, slab_bytes=SLAB_BYTES) as library:
                    then(library)
            except BaseException as error:
                error.add_note(f"moment {number} of {len(moments)}, {moment.label}; {lasting.value}")
                raise
    return len(looked)


def with_parity(site: Site) -> None:
    site.library.parity_code = PARITY
    site.publish("NEW")


def one_after_the_other(site: Site) -> None:
    site.publish("NEW")
    site.remove("OLD")
    site.publish("SAME")


SCENARIOS: dict[str, tuple[tuple[str, ...], Callable[[Site], None]]] = {  # what is there before, and the change
    "publish a file": (("OLD",), lambda site: site.publish("NEW")),
    "publish with parity": (("OLD",), with_parity),
    "publish a folder": (("OLD",), lambda site: site.publish("TREE")),
    "publish a shared blob": (("OLD",), lambda site: site.publish("SAME")),
    "publish again": (("OLD",), lambda site: site.publish("OLD")),
    "remove a file": (("OLD", "NEW"), lambda site: site.remove("NEW")),
    "remove a folder that shares a blob": (("OLD", "TREE"), lambda site: site.remove("TREE")),
    "one after the other": (("OLD",), one_after_the_other),
}


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_power_cut_at_any_moment_loses_nothing_that_was_told(folder: Path, scenario: str) -> None:
    before, change = SCENARIOS[scenario]
    site = Site(folder)
    for package_id in before:
        site.publish(package_id)
    assert cut_at_every_moment(site, change, seed=1) >= 8


def test_a_power_cut_while_the_library_is_made(folder: Path) -> None:
    """From an empty disk to the first content."""
    site = Site(folder)
    site.library.close()
    shutil.rmtree(site.root)

    def begin(site: Site) -> None:
        site.library = Library(site.root, slab_bytes=SLAB_BYTES)
        site.publish("OLD")

    with Recorder(site.disk):
        pass
    site.library = EmptyLibrary()  # type: ignore[assignment]
    assert cut_at_every_moment(site, begin, seed=2) > 20


class EmptyLibrary:
    """What is there before there is a library."""

    def contents(self) -> list[Content]:
        return []


def test_a_power_cut_while_a_root_is_added_and_drained(folder: Path) -> None:
    site = Site(folder)
    second = site.disk / "second"
    site.library.add_root(second)
    site.library.set_root(0, 1 << 59)
    for package_id in ("OLD", "NEW", "TREE"):
        site.publish(package_id)
    site.library.set_root(0, 0)

    def drain(site: Site) -> None:
        assert site.library.drain_root(1).damaged == ()
        site.library.remove_root(1)
        site.library.add_root(site.disk / "third", 0)
        site.library.set_root(0, 1 << 59)
        site.publish("SAME")

    assert cut_at_every_moment(site, drain, seed=3) > 100


def test_a_power_cut_while_a_folder_goes_to_two_roots(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each root is a disk of its own: a sync of one says nothing of the other."""
    site = Site(folder)
    site.library.add_root(site.disk / "second")
    site.publish("OLD")
    turns = itertools.count()
    monkeypatch.setattr("dpd.content.storage.roots.Roots.place", lambda roots, size_bytes: next(turns) % 2)
    monkeypatch.setattr("dpd.content.folder_intake.BATCH_FILES", 1)

    def change(site: Site) -> None:
        site.publish("TREE")
        assert [status.blobs > 3 for status in site.library.roots()] == [True, True]
        site.remove("TREE")

    assert cut_at_every_moment(site, change, seed=8) > 60


def test_a_power_cut_while_content_arrives_and_after_it_is_gone_on_with(folder: Path) -> None:
    """What had come of it may be less after the cut, and is never taken for more than it is: gone on with, it is whole."""
    site = Site(folder)
    site.publish("OLD")
    with Library(folder / "other", slab_bytes=SLAB_BYTES) as other:
        content = other.publish(site.source(("TREE", 1)), "TREE", 1)
        told = decode_signed(other.description(content), other.public_key())

    def arrive(site: Site) -> None:
        receive(site.library, told)
        site.report(("is there", ("TREE", 1)))

    def go_on(library: Library) -> None:
        receive(library, told)
        assert files_of(library, library.find("TREE", 1)) == TREE

    assert cut_at_every_moment(site, arrive, seed=6, then=go_on) > 40


def receive(library: Library, told: Description) -> None:
    """As a pull: each blob in pieces; one that turns out to be wrong is begun again."""
    by_hash = {hashlib.sha256(content).hexdigest(): content for content in TREE.values()}
    arrival = library.arrive(told, None)
    try:
        for wanted in arrival.missing:
            try:
                take(arrival.receive(wanted.sha256), by_hash[wanted.sha256])
            except ContentCorrupt:
                take(arrival.receive(wanted.sha256), by_hash[wanted.sha256])
        arrival.finish()
    finally:
        arrival.abandon()


def take(part: BlobPart, content: bytes) -> None:
    try:
        for at in range(part.position, len(content), 200_000):
            part.write(content[at : at + 200_000])
        part.finish()
    except ContentCorrupt:
        part.discard()
        raise


def test_a_power_cut_while_garbage_is_collected(folder: Path) -> None:
    site = Site(folder)
    for package_id in ("OLD", "TREE"):
        site.publish(package_id)
    orphan = site.root / "blobs" / "ab" / ("ab" * 32)
    orphan.parent.mkdir(exist_ok=True)
    orphan.write_bytes(b"nobody knows me")
    os.utime(orphan, (1, 1))

    def collect(site: Site) -> None:
        site.remove("TREE")
        site.library.gc(delete=True)

    assert cut_at_every_moment(site, collect, seed=7, then=lambda library: library.gc(delete=True)) > 20


def test_a_second_power_cut_while_the_library_opens_after_the_first(folder: Path) -> None:
    site = Site(folder)
    site.publish("OLD")

    def change(site: Site) -> None:
        site.publish("TREE")
        site.publish("NEW")
        site.remove("TREE")

    first = site.record(change)
    site.library.close()
    site.disk.rename(site.disk.with_name("as it was"))
    looked = set[int]()
    for number in range(0, len(first), max(1, len(first) // 12)):
        rebuild(layout(first[number], Lasting.ALL, random.Random(number)), site.disk)
        with Recorder(site.disk) as recorder:
            Library(site.root, slab_bytes=SLAB_BYTES).close()
        for moment in recorder.moments:
            for lasting in Lasting:
                laid_out, reported = layout(moment, lasting, random.Random(number)), first[number].reported
                if (found := hash((reported, laid_out))) in looked:
                    continue
                looked.add(found)
                rebuild(laid_out, site.disk)
                check(site.root, {("OLD", 1)}, replace(moment, reported=reported))
    assert len(looked) > 20


def test_the_simulation_sees_a_missing_sync(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the sync of names, content that was told is lost; without that of bytes, it is damaged."""
    site = Site(folder)
    site.publish("OLD")
    monkeypatch.setattr("dpd.content.storage.root_folder.RootFolder._sync_names", lambda *_: None)
    with pytest.raises(Exception, match=r"cannot be opened|No such file") as lost:
        cut_at_every_moment(site, lambda site: site.publish("NEW"), seed=4)
    assert "moment" in lost.value.__notes__[0]


def test_the_simulation_sees_bytes_that_were_not_synced(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(folder)
    site.publish("OLD")
    monkeypatch.setattr("dpd.content.publication.take_in", partial(take_in, sync=False))
    with pytest.raises(AssertionError):
        cut_at_every_moment(site, lambda site: site.publish("NEW"), seed=5)
