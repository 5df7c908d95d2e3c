# SPDX-License-Identifier: Apache-2.0
"""The boot files: an index of one directory, made when asked, in which clients' names are looked up.

A client's string is compared with the index and never reaches the file system. What is opened is opened by the name
that the index found, one component after the other below the directory, so that a link put there later leads nowhere.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from dpd.content.below import open_below
from dpd.errors import ContentCorrupt, ContentNotFound

MAX_NAME_CHARACTERS = 255
SHOWN_CHARACTERS = 80
MAX_LOADER_BYTES = 32 << 20  # what is larger is a kernel with all in it, or an image
LOADER = b"MZ"  # every EFI program begins so
_DRIVE = re.compile(r"^[A-Za-z]:")


@dataclass(frozen=True, slots=True)
class BootFile:
    """One regular file as the index saw it. `name` is its path below the directory; `etag` comes without quotes. `sha256` is
    there for EFI programs, so that it can be told which loader a machine was given."""

    name: str
    size_bytes: int
    mtime_ns: int
    sha256: str = ""

    @property
    def etag(self) -> str:
        """Changes whenever the index sees another file under this name."""
        return f"{self.mtime_ns:x}-{self.size_bytes:x}"


class BootFiles:
    """The index. `lookup` and `open` may be called from any thread, also during `refresh`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._exact: dict[str, BootFile] = {}
        self._folded: dict[str, BootFile] = {}
        self._refusals: dict[str, str] = {}  # by folded name
        self._remarks: dict[str, str] = {}  # by name
        self.refresh()

    def refresh(self) -> int:
        """Index the directory as it is now; a missing one is an empty index. Returns the number of files."""
        found = sorted(_walk(self.directory), key=lambda file: file.name)
        exact = {file.name: self._with_hash(file) for file in found}
        folded: dict[str, BootFile] = {}
        for name, file in exact.items():
            folded.setdefault(name.casefold(), file)
        self._exact, self._folded = exact, folded
        return len(exact)

    def files(self) -> list[BootFile]:
        """All of them, by name."""
        return list(self._exact.values())

    def refuse(self, reasons: Mapping[str, str]) -> None:
        """From now on these files are not handed out, each for the reason given in one sentence; earlier refusals end."""
        self._refusals = {name.casefold(): reason for name, reason in reasons.items()}

    def refusal(self, name: str) -> str:
        """Why the file that a client means is not handed out; "" where that is not so."""
        if not self._refusals:  # asked for each PXE answer
            return ""
        return "" if explain_name(name) else self._refusals.get(_normalise(name).casefold(), "")

    def refused_count(self) -> int:
        """How many are refused now."""
        return len(self._refusals)

    def remark(self, remarks: Mapping[str, str]) -> None:
        """What is wrong with files that are handed out all the same, in half a sentence each; earlier remarks end."""
        self._remarks = dict(remarks)

    def remark_on(self, file: BootFile) -> str:
        """What is wrong with a file, "" for nothing that is known."""
        return self._remarks.get(file.name, "")

    def lookup(self, name: str) -> BootFile | None:
        """The file a client means: `\\Boot\\BCD`, `/boot/bcd` and `boot//BCD` are one. The exact case wins."""
        if explain_name(name) or self.refusal(name):
            return None
        normal = _normalise(name)
        return self._exact.get(normal) or self._folded.get(normal.casefold())

    def open(self, file: BootFile) -> int:
        """A descriptor of the file, which the caller closes. Raises ContentNotFound where it is gone or no longer a
        regular file, ContentCorrupt where it has changed since the index was made."""
        try:
            descriptor = open_below(self.directory, file.name)
        except OSError as error:
            reason = error.strerror
            raise ContentNotFound(f"boot file {file.name}: cannot be opened below {self.directory}: {reason}") from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            os.close(descriptor)
            raise ContentNotFound(f"boot file {file.name}: no longer a regular file in {self.directory}")
        if (found.st_size, found.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
            os.close(descriptor)
            raise ContentCorrupt(
                f"boot file {file.name}: changed since it was indexed; reload dpd to serve the new one"
            )
        return descriptor

    def _with_hash(self, file: BootFile) -> BootFile:
        """The file with its hash, which is taken again only where the file is another one."""
        known = self._exact.get(file.name)
        if known is not None and known.etag == file.etag:
            return known
        if file.size_bytes > MAX_LOADER_BYTES:
            return file
        try:
            with os.fdopen(self.open(file), "rb") as stream:
                content = stream.read() if stream.peek(len(LOADER)).startswith(LOADER) else b""
        except (OSError, ContentNotFound, ContentCorrupt):
            return file
        return replace(file, sha256=hashlib.sha256(content).hexdigest()) if content else file


def explain_name(name: str) -> str:
    """What makes a name impossible for any boot file, empty where nothing does."""
    if not name.strip("/\\"):
        return "the name is empty"
    if len(name) > MAX_NAME_CHARACTERS:
        return f"the name has {len(name)} characters, at most {MAX_NAME_CHARACTERS} are allowed"
    if "\0" in name or not name.isprintable():
        return "the name holds a control character"
    if _DRIVE.match(name):
        return "the name starts with a drive letter"
    if ".." in _normalise(name).split("/"):
        return 'the name holds ".."'
    return ""


def explain_miss(name: str) -> str:
    """One sentence for the client and the log about a name that `lookup` did not find."""
    shown = name if len(name) <= SHOWN_CHARACTERS else name[: SHOWN_CHARACTERS - 3] + "..."
    printable = "".join(character if character.isprintable() else "?" for character in shown)
    return f'no boot file "{printable}": {explain_name(name) or "not in the index"}'


def _normalise(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    return "/".join(part for part in parts if part not in ("", "."))


def _walk(directory: Path) -> Iterator[BootFile]:
    """Regular files below the directory, without following a link; what cannot be read or vanishes is left out. The
    directory itself may be a link: that one is the operator's."""
    directory = directory.resolve()
    if not directory.is_dir():
        return
    for folder, _, names, at in os.fwalk(directory):
        for name in names:
            try:
                found = os.stat(name, dir_fd=at, follow_symlinks=False)
            except OSError:
                continue
            path = os.path.relpath(os.path.join(folder, name), directory)
            if stat.S_ISREG(found.st_mode) and _is_servable(path):
                yield BootFile(path, found.st_size, found.st_mtime_ns)


def _is_servable(path: str) -> bool:
    """A name with a backslash or bytes that are no UTF-8 could never be asked for."""
    return path.isprintable() and "\\" not in path and not explain_name(path)
