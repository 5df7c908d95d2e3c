# SPDX-License-Identifier: Apache-2.0
"""A disk as it may be after a power cut at any moment of a real run.

`Recorder` stands between a run and the system calls that change a folder: before and after each of them it notes what is
there, and what of it has been promised to last. The rules are the strictest that POSIX leaves room for:

- a file's bytes last once fsync of the file has returned, or syncfs of its file system (here: of the root's folder);
- a name, new, replaced or taken away, lasts once fsync of its directory has returned, or that syncfs;
- anything else may or may not be there, each by itself: bytes as they were at the last sync, none at all, zeros or half of
  them, and of a rename either name, both or none.

library.db and its write-ahead log are taken as they are at that moment: what SQLite has committed with synchronous=FULL is
SQLite's promise, and a transaction that is not committed is one that the log does not end with. Since they are noted
before and after every call, a commit between two calls is seen with either neighbour.
"""

from __future__ import annotations

import os
import random
import shutil
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from unittest.mock import patch

from dpd.content.storage import disk, root_folder

DATABASE = ("library.db", "library.db-wal")
NOT_KEPT = ("library.db-shm",)
_CHANGES = ("replace", "rename", "unlink", "remove", "mkdir", "rmdir", "link", "symlink", "truncate", "ftruncate")
_WRITES = ("write", "pwrite", "posix_fallocate", "sendfile", "copy_file_range")


@dataclass(frozen=True, slots=True)
class Node:
    """What a name stands for: one file or directory, however it is called."""

    number: int
    is_directory: bool


Names = dict[Node, dict[str, Node]]
Contents = dict[Node, bytes]


class Lasting(Enum):
    """What of the things that were not promised is there after the cut."""

    NOTHING = "nothing that was not synced"
    NAMES = "names without their bytes"
    BYTES = "bytes without their names"
    ALL = "everything, as after a kill"
    CHANCE = "each by itself"


@dataclass(frozen=True, slots=True)
class Moment:
    """The folder between two system calls, what of it lasts, and what had been reported by then."""

    label: str
    names: Names
    contents: Contents
    lasting_names: Names
    lasting_contents: Contents
    database: dict[str, bytes]
    reported: tuple[Any, ...]


@dataclass
class Recorder:
    """Notes every moment of a run within `folder` while it is entered. From any thread."""

    folder: Path
    moments: list[Moment] = field(default_factory=list)
    _lasting_names: Names = field(default_factory=dict)
    _lasting_contents: Contents = field(default_factory=dict)
    _nodes: dict[int, Node] = field(default_factory=dict)
    _reported: tuple[Any, ...] = ()
    _count: int = 0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _patches: ExitStack = field(default_factory=ExitStack)
    _same: dict[bytes, bytes] = field(default_factory=dict)

    def __enter__(self) -> Self:
        """What is there now lasts."""
        names, contents = self._look()
        self._lasting_names, self._lasting_contents = names, contents
        for name in (*_CHANGES, *_WRITES):
            self._watch(os, name, lambda *_: None)
        self._watch(os, "open", lambda *_: None)
        self._watch(os, "fsync", lambda descriptor, *_: self._file_lasts(descriptor))
        self._watch(os, "fdatasync", lambda descriptor, *_: self._file_lasts(descriptor))
        self._watch(disk, "sync_file_system", self._all_lasts)
        # The folder has the function by its own name; it is to find the watched one.
        self._patches.enter_context(patch.object(root_folder, "sync_file_system", disk.sync_file_system))
        self._note("start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._note("end")
        self._patches.close()

    def report(self, fact: Any) -> None:
        """Somebody was told this; from here on it must be true."""
        with self._lock:
            self._note(f"before {fact}")
            self._reported = (*self._reported, fact)
            self._note(f"after {fact}")

    def _watch(self, module: Any, name: str, then: Callable[..., None]) -> None:
        real = getattr(module, name)

        def watched(*args: Any, **kwargs: Any) -> Any:
            if name == "open" and not args[1] & os.O_CREAT:
                return real(*args, **kwargs)
            with self._lock:
                self._note(f"before {name} {args[:2]}")
                result = real(*args, **kwargs)
                then(*args)
                self._note(f"after {name} {args[:2]}")
                return result

        self._patches.enter_context(patch.object(module, name, watched))

    def _file_lasts(self, descriptor: int) -> None:
        status = os.fstat(descriptor)
        names, contents = self._look()
        node = self._nodes.get(status.st_ino)
        if node is None:
            return  # not in the folder
        if stat.S_ISDIR(status.st_mode):
            self._lasting_names = {**self._lasting_names, node: names[node]}
        else:
            self._lasting_contents = {**self._lasting_contents, node: contents[node]}

    def _all_lasts(self, path: Path) -> None:
        names, contents = self._look()
        inside = set(_below(names, self._nodes[path.stat().st_ino]))
        self._lasting_names = {**self._lasting_names, **{node: names[node] for node in inside if node.is_directory}}
        self._lasting_contents = {
            **self._lasting_contents,
            **{node: contents[node] for node in inside if not node.is_directory},
        }

    def _note(self, label: str) -> None:
        with self._lock:
            names, contents = self._look()
            database = {
                name: (parent / name).read_bytes()
                for parent in [self.folder / "library"]
                for name in DATABASE
                if (parent / name).exists()
            }
            moment = Moment(
                label, names, contents, self._lasting_names, self._lasting_contents, database, self._reported
            )
            if self.moments and _same_but_label(self.moments[-1], moment):
                return
            self.moments.append(moment)

    def _look(self) -> tuple[Names, Contents]:
        """Everything that is there; which node a file is follows its inode from look to look."""
        names: Names = {}
        contents: Contents = {}
        seen: dict[int, Node] = {}
        self._look_into(self.folder, names, contents, seen)
        self._nodes = seen
        return names, contents

    def _look_into(self, path: Path, names: Names, contents: Contents, seen: dict[int, Node]) -> Node:
        node = self._node(path.stat().st_ino, seen, is_directory=True)
        names[node] = {}
        with os.scandir(path) as entries:
            for entry in sorted(entries, key=lambda each: each.name):
                if entry.name in (*DATABASE, *NOT_KEPT):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    child = self._look_into(Path(entry.path), names, contents, seen)
                else:
                    child = self._node(entry.inode(), seen, is_directory=False)
                    content = Path(entry.path).read_bytes()
                    contents[child] = self._same.setdefault(content, content)
                names[node][entry.name] = child
        return node

    def _node(self, inode: int, seen: dict[int, Node], *, is_directory: bool) -> Node:
        if inode not in seen:
            known = self._nodes.get(inode)
            if known is None or known.is_directory is not is_directory:
                self._count += 1
                known = Node(self._count, is_directory)
            seen[inode] = known
        return seen[inode]


def _same_but_label(one: Moment, other: Moment) -> bool:
    return (one.names, one.contents, one.lasting_names, one.lasting_contents, one.database, one.reported) == (
        other.names,
        other.contents,
        other.lasting_names,
        other.lasting_contents,
        other.database,
        other.reported,
    )


def _below(names: Names, node: Node) -> Iterator[Node]:
    yield node
    for child in names.get(node, {}).values():
        yield from _below(names, child)


Layout = tuple[tuple[str, bytes | None], ...]  # paths with the bytes of files, None for folders; each behind its folder


def layout(moment: Moment, lasting: Lasting, chance: random.Random) -> Layout:
    """What the disk may hold when the power is cut at that moment."""
    found: list[tuple[str, bytes | None]] = []
    _lay_out(moment, next(iter(moment.names)), "", lasting, chance, found)
    if moment.database and ("library", None) not in found:
        found.append(("library", None))  # SQLite's promise includes its directory
    found += ((f"library/{name}", content) for name, content in moment.database.items())
    return tuple(found)


def _lay_out(
    moment: Moment,
    node: Node,
    path: str,
    lasting: Lasting,
    chance: random.Random,
    found: list[tuple[str, bytes | None]],
) -> None:
    for name, child in _entries(moment, node, lasting, chance).items():
        below = f"{path}/{name}" if path else name
        if child.is_directory:
            found.append((below, None))
            _lay_out(moment, child, below, lasting, chance, found)
        else:
            found.append((below, _bytes(moment, child, lasting, chance)))


def rebuild(laid_out: Layout, folder: Path) -> None:
    """Make `folder` that."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path, content in laid_out:
        if content is None:
            os.mkdir(f"{folder}/{path}")
            continue
        with open(os.open(f"{folder}/{path}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)  # the library refuses a key that others may read


def _entries(moment: Moment, node: Node, lasting: Lasting, chance: random.Random) -> dict[str, Node]:
    now, promised = moment.names.get(node, {}), moment.lasting_names.get(node, {})
    if lasting in (Lasting.NAMES, Lasting.ALL):
        return now
    if lasting in (Lasting.NOTHING, Lasting.BYTES):
        return promised
    found = {name: chance.choice((now.get(name), promised.get(name))) for name in sorted({**now, **promised})}
    return {name: child for name, child in found.items() if child is not None}


def _bytes(moment: Moment, node: Node, lasting: Lasting, chance: random.Random) -> bytes:
    promised = moment.lasting_contents.get(node, b"")
    now = moment.contents.get(node, promised)
    if lasting in (Lasting.BYTES, Lasting.ALL) or now == promised:
        return now
    if lasting in (Lasting.NOTHING, Lasting.NAMES):
        return promised
    return chance.choice((promised, now, bytes(len(now)), now[: len(now) // 2], b""))
