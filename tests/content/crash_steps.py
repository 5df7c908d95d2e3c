# SPDX-License-Identifier: Apache-2.0
"""Kills a library at every step of a change and looks at what the next open finds. A program of its own: it forks.

Usage: crash_steps.py SCENARIO DIRECTORY. Prints the outcome after each kill, "old" or "new", as a JSON list.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import dpd.content
from dpd.content.library import Library
from dpd.content.stored_parity import ParityCode

SLAB_BYTES = 1 << 19  # the big source is three slabs in two pieces
CONTENT_FOLDER = str(Path(dpd.content.__file__).parent)
Change = Callable[[Library], object]
PARITY = ParityCode(1, 4096, lambda slab: [bytes(slab[:4096]).ljust(4096, b"\0")])


def main(scenario: str, directory: Path) -> None:
    root, old, new = directory / "library", directory / "old.img", directory / "new.img"
    old.write_bytes(b"old" * 1000)
    new.write_bytes(b"new" * 500_000)
    scenarios: dict[str, tuple[Change, Change]] = {  # what is done, and how it is undone
        "publish": (lambda library: library.publish(new, "A"), lambda library: library.remove("A", 2)),
        "publish a shared blob": (lambda library: library.publish(old, "B"), lambda library: library.remove("B")),
        "publish again": (lambda library: library.publish(old, "A", 1), lambda library: None),
        "remove": (lambda library: library.remove("A"), lambda library: library.publish(old, "A", 1)),
        "open without a key": (lambda library: None, lambda library: None),
        "publish with parity": (
            lambda library: publish_with_parity(library, new),
            lambda library: library.remove("A", 2),
        ),
        "publish again with parity": (lambda library: publish_with_parity(library, old, 1), lambda library: None),
        "remove with parity": (
            lambda library: library.remove("A"),
            lambda library: publish_with_parity(library, old, 1),
        ),
    }
    change, undo = scenarios[scenario]
    opening = scenario == "open without a key"
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(old, "A", 1)
        if scenario in ("publish again with parity", "remove with parity"):
            publish_with_parity(library, old, 1)
        before = state(library)
    outcomes: list[str] = []
    while killed_in_step(len(outcomes), root, change, opening=opening):
        with Library(root, slab_bytes=SLAB_BYTES) as library:
            check_sound(library, root)
            outcomes.append("old" if state(library) == before else "new")
            if outcomes[-1] == "new":
                undo(library)
    print(json.dumps(outcomes))


def publish_with_parity(library: Library, source: Path, version: int | None = None) -> None:
    library.parity_code = PARITY
    library.publish(source, "A", version)


def state(library: Library) -> list[tuple[str, int]]:
    return [(content.package_id, content.source_version) for content in library.contents()]


def killed_in_step(step: int, root: Path, change: Change, *, opening: bool) -> bool:
    """Fork, make the change there, SIGKILL it before it runs its step-th new line of dpd.content; False: it finished."""
    child = os.fork()
    if child == 0:
        if opening:
            (root / "keys" / "manifest.ed25519").unlink()
            kill_before_line(step)
        library = Library(root, slab_bytes=SLAB_BYTES)
        kill_before_line(step)
        change(library)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def kill_before_line(step: int) -> None:
    seen: set[tuple[str, int]] = set()

    def trace(frame: FrameType, event: str, _: object) -> object:
        if not frame.f_code.co_filename.startswith(CONTENT_FOLDER):
            return None
        if event == "line":
            seen.add((frame.f_code.co_filename, frame.f_lineno))
            if len(seen) > step:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    sys.settrace(trace)  # type: ignore[arg-type]


def check_sound(library: Library, root: Path) -> None:
    """Every content is whole, and there is no file that belongs to none."""
    contents = library.contents()
    for content in contents:
        library.verify(content.package_id, content.source_version)
    blobs = {path.name for path in root.glob("blobs/*/*") if path.suffix != ".parity"}
    assert blobs == {content.sha256 for content in contents}
    assert {path.stem for path in root.glob("blobs/*/*.parity")} <= blobs  # each is checked by verify
    assert len(list(root.glob("manifests/*"))) == len(contents)
    assert list(root.glob("incoming/*")) == []
    assert [path.name for path in root.glob("keys/*")] == ["manifest.ed25519"]


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
