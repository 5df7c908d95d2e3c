# SPDX-License-Identifier: Apache-2.0
"""Kills a library at every step of a change and looks at what the next open finds. A program of its own: it forks.

Usage: crash_steps.py SCENARIO DIRECTORY [POINTS]. Prints the outcome after each kill, "old" or "new", as a JSON list.
Without POINTS the kills come among the lines of code when they are run for the first time: of lines one after the other
that leave everything on the disk as it is, before the first and before the last, since whoever comes after a kill sees the
disk alone. With POINTS they come at so many moments picked at random among all lines that are run.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType

import dpd.content
from dpd import database
from dpd.content.description import Description, decode_signed
from dpd.content.garbage import GcReport
from dpd.content.library import Library
from dpd.content.manifest import Manifest
from dpd.content.manifest import decode_signed as decode_manifest
from dpd.content.storage.stored_parity import ParityCode

SLAB_BYTES = 1 << 19  # the big source is three slabs in two pieces
WATCHED = (str(Path(dpd.content.__file__).parent), str(database.__file__))
Change = Callable[[Library], object]
PARITY = ParityCode(1, 4096, lambda slab: [bytes(slab[:4096]).ljust(4096, b"\0")])


def main(scenario: str, directory: Path, points: int) -> None:
    root = directory / "library"
    sources = Sources(directory)
    change, undo = scenarios(root, sources)[scenario]
    opening = scenario == "open without a key"
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(sources.old, "A", 1)
        library.publish(sources.tree, "T", 1)
        if scenario in ("publish again with parity", "remove with parity"):
            publish_with_parity(library, sources.old, 1)
        if scenario == "gc":
            make_garbage(library, root, sources)
        before = state(library)
    outcomes: list[str] = []
    for step in steps(root, change, opening=opening, points=points):
        if not killed_in_step(step, root, change, opening=opening, every=points > 0):
            break
        with Library(root, slab_bytes=SLAB_BYTES) as library:
            check_sound(library, root)
            outcomes.append("old" if state(library) == before else "new")
            if outcomes[-1] == "new" or scenario == "gc":
                undo(library)
    print(json.dumps(outcomes))


class Sources:
    """What is published."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = directory / "old.img", directory / "new.img"
        self.old.write_bytes(b"old" * 1000)
        self.new.write_bytes(b"new" * 500_000)
        self.tree, self.next_tree = directory / "tree", directory / "next"
        for folder in (self.tree, self.next_tree):
            (folder / "sub" / "empty").mkdir(parents=True)
            (folder / "same").write_bytes(b"same")
            (folder / "sub" / "again").write_bytes(b"same")
            (folder / "sub" / "changing").write_bytes(bytes(folder.name, "ascii") * 100)
            (folder / "large").write_bytes(bytes(folder.name, "ascii") * 300_000)
        with Library(directory / "origin", slab_bytes=SLAB_BYTES) as origin:
            content = origin.publish(self.new, "A", 2)
            self.said = decode_signed(origin.description(content), None)
            self.manifest = decode_manifest(origin.manifest(content), None)
            tree = origin.publish(self.next_tree, "T", 2)
            self.said_of_tree = decode_signed(origin.description(tree), None)
        self.contents = {path.read_bytes() for path in (self.new, *self.next_tree.rglob("*")) if path.is_file()}


def scenarios(root: Path, sources: Sources) -> dict[str, tuple[Change, Change]]:
    """What is done, and how it is undone."""
    old, new = sources.old, sources.new
    remove_new: Change = lambda library: library.remove("A", 2)  # noqa: E731
    remove_tree: Change = lambda library: library.remove("T", 2)  # noqa: E731
    return {
        "publish": (lambda library: library.publish(new, "A"), remove_new),
        "publish a shared blob": (lambda library: library.publish(old, "B"), lambda library: library.remove("B")),
        "publish again": (lambda library: library.publish(old, "A", 1), lambda library: None),
        "remove": (lambda library: library.remove("A"), lambda library: library.publish(old, "A", 1)),
        "open without a key": (lambda library: None, lambda library: None),
        "publish with parity": (lambda library: publish_with_parity(library, new), remove_new),
        "publish again with parity": (lambda library: publish_with_parity(library, old, 1), lambda library: None),
        "remove with parity": (
            lambda library: library.remove("A"),
            lambda library: publish_with_parity(library, old, 1),
        ),
        "publish a folder": (
            lambda library: library.publish(sources.next_tree, "N"),
            lambda library: library.remove("N"),
        ),
        "publish the next version of a folder": (lambda library: library.publish(sources.next_tree, "T"), remove_tree),
        "remove a folder": (
            lambda library: library.remove("T"),
            lambda library: library.publish(sources.tree, "T", 1),
        ),
        "gc": (lambda library: library.gc(delete=True), lambda library: make_garbage(library, root, sources)),
        "receive": (lambda library: receive(library, sources, sources.said, sources.manifest), remove_new),
        "receive a folder": (lambda library: receive(library, sources, sources.said_of_tree, None), remove_tree),
    }


def publish_with_parity(library: Library, source: Path, version: int | None = None) -> None:
    library.parity_code = PARITY
    library.publish(source, "A", version)


def receive(library: Library, sources: Sources, said: Description, manifest: Manifest | None) -> None:
    arrival = library.arrive(said, manifest)
    for wanted in arrival.missing:
        (content,) = (each for each in sources.contents if len(each) == wanted.size_bytes)
        part = arrival.receive(wanted.sha256)
        part.write(content[part.position :])
        part.finish()
    arrival.finish()


def make_garbage(library: Library, root: Path, sources: Sources) -> None:
    """Blobs of content that did not come, a part that nobody goes on with, a file of nothing."""
    arrival = library.arrive(replace(sources.said_of_tree, package_id="NEVER"))
    for wanted in arrival.missing[:-1]:
        (content,) = (each for each in sources.contents if len(each) == wanted.size_bytes)
        part = arrival.receive(wanted.sha256)
        part.write(content[part.position :])
        part.finish()
    arrival.abandon()
    (root / "incoming" / f"{'12' * 32}.part").write_bytes(b"part")
    (root / "manifests" / f"{'34' * 32}.json").write_bytes(b"manifest")


def state(library: Library) -> list[tuple[str, int]]:
    return [(content.package_id, content.source_version) for content in library.contents()]


def steps(root: Path, change: Change, *, opening: bool, points: int) -> Iterator[int]:
    """The steps to kill in: all of them, or some of as many as the change takes when it is not killed."""
    seen = states_seen(root, change, opening=opening, every=points > 0)
    if points:
        rng = random.Random(len(seen))
        yield from (rng.randrange(len(seen)) for _ in range(points))
        return
    last = len(seen) - 1
    yield from (
        step
        for step, state in enumerate(seen)
        if step in (0, last) or seen[step - 1] != state or seen[step + 1] != state
    )


def states_seen(root: Path, change: Change, *, opening: bool, every: bool) -> list[str]:
    """What is on the disk before each line, in a word each; in a copy of the library, so that it stays as it is."""
    copy = root.with_name("copy")
    shutil.copytree(root, copy)
    told = root.with_name("seen")
    if os.fork() == 0:
        seen = list[str]()
        look: Callable[[], str] = (lambda: "") if every else DiskLook(copy).state
        if opening:
            (copy / "keys" / "manifest.ed25519").unlink()
            before_lines(lambda: seen.append(look()), every=every)
        library = Library(copy, slab_bytes=SLAB_BYTES)
        before_lines(lambda: seen.append(look()), every=every)
        change(library)
        sys.settrace(None)
        told.write_text(json.dumps(seen), encoding="ascii")
        os._exit(0)
    os.wait()
    shutil.rmtree(copy)
    found: list[str] = json.loads(told.read_text(encoding="ascii"))
    return found


class DiskLook:
    """What a folder holds: its names, and the bytes of its files."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)

    def state(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for path, folders, files in os.walk(self._folder):
            digest.update(repr((path, sorted(folders), sorted(files))).encode())
            for name in sorted(files):
                with open(os.open(f"{path}/{name}", os.O_RDONLY), "rb") as file:
                    digest.update(hashlib.sha1(file.read(), usedforsecurity=False).digest())
        return digest.hexdigest()


def killed_in_step(step: int, root: Path, change: Change, *, opening: bool, every: bool) -> bool:
    """Fork, make the change there, SIGKILL it before that step; False: it finished."""
    child = os.fork()
    if child == 0:
        kill = Killer(step)
        if opening:
            (root / "keys" / "manifest.ed25519").unlink()
            before_lines(kill, every=every)
        library = Library(root, slab_bytes=SLAB_BYTES)
        before_lines(kill, every=every)
        with suppress(BrokenPipeError):
            change(library)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return every  # a count of random steps is another one in each run


class Killer:
    """SIGKILL at the step-th call, counted from 0."""

    def __init__(self, step: int) -> None:
        self._left = step

    def __call__(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def before_lines(call: Callable[[], None], *, every: bool) -> None:
    """Call it before each line that is new, or simply before each."""
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> object:
        if not frame.f_code.co_filename.startswith(WATCHED):
            return None
        if event == "line":
            line = (frame.f_code.co_filename, frame.f_lineno)
            if every or line not in seen:
                seen.add(line)
                call()
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]


def check_sound(library: Library, root: Path) -> None:
    """Every content is whole; what is in the way is found by the dry run, and gone after gc; and then nothing is left that
    belongs to none."""
    contents = library.contents()
    for content in contents:
        library.verify(content.package_id, content.source_version)
    check_gc(library)
    blobs = {path.name for path in root.glob("blobs/*/*") if path.suffix != ".parity"}
    assert blobs == {entry.sha256 for content in contents for entry in library.files(content)}
    totals, content_bytes = library.totals(), sum(content.size_bytes for content in contents)
    assert (totals.contents, totals.content_bytes, totals.blobs) == (len(contents), content_bytes, len(blobs))
    assert totals.saved_bytes == content_bytes - totals.blob_bytes
    assert {path.stem for path in root.glob("blobs/*/*.parity")} <= blobs  # each is checked by verify
    assert {path.name for path in root.glob("chunks/*")} <= blobs
    assert len(list(root.glob("manifests/*"))) == sum(content.is_one_file for content in contents)
    assert list(root.glob("incoming/*")) == []
    assert [path.name for path in root.glob("keys/*")] == ["manifest.ed25519"]


def check_gc(library: Library) -> None:
    found = library.gc()
    assert found.missing == (), found
    assert library.gc(delete=True) == replace(found, deleted=True)
    assert found.is_clean or library.gc() == GcReport(False, 0, 0, 0, 0, (), ())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 0)
