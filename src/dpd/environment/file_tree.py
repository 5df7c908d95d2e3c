# SPDX-License-Identifier: Apache-2.0
"""The files of an image by name, taken from unpacked packages: a program with the libraries that it needs, a folder, a text.
/bin, /sbin and /lib are links into /usr, as in Debian, wherever a package has its file."""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath

from dpd.environment import cpio, elf
from dpd.environment.cpio import Member
from dpd.errors import BuildError

MERGED = ("bin", "sbin", "lib", "lib64")
PROGRAM, TEXT = 0o755, 0o644


class FileTree:
    """`packages`: the folder that each package was unpacked to. `libraries`: where libraries are, below usr/lib. `used` are the
    packages of which something was taken."""

    def __init__(self, packages: Mapping[str, Path], libraries: str) -> None:
        self.libraries = libraries
        self._found = {name: (package, path) for package, folder in packages.items() for name, path in _files(folder)}
        self._members: dict[str, Member] = {}
        self.used: set[str] = set()
        for name in MERGED:
            self._put(Member(name, cpio.LINK | 0o777, f"usr/{name}".encode()))
            self.put_folder(f"usr/{name}")

    def members(self) -> Iterator[Member]:
        return iter(self._members.values())

    def holds(self, name: str) -> bool:
        return name in self._members

    def take(self, name: str) -> None:
        """A file of a package by its name in there, and what it needs to run. Raises BuildError where no package has it."""
        name = merged(name)
        if name in self._members:
            return
        if name not in self._found:
            raise BuildError(f"/{name}: in none of the packages")
        package, path = self._found[name]
        self.used.add(package)
        if path.is_symlink():
            points_to = os.readlink(path)
            self._put(Member(name, cpio.LINK | 0o777, points_to.encode()))
            self.take(posixpath.normpath(posixpath.join("/", posixpath.dirname(name), points_to)).lstrip("/"))
            return
        executable = path.stat().st_mode & stat.S_IXUSR
        self._put(Member(name, cpio.FILE | (PROGRAM if executable else TEXT), source=path))
        for needed in elf.needed(elf.read(path)):
            self.take(needed if needed.startswith("/") else self._library(needed, name))

    def take_folder(self, folder: str, wants: Callable[[str], bool] = lambda name: True) -> None:
        """Every file below a folder whose name there is wanted."""
        found = [name for name in self._found if name.startswith(f"{folder}/")]
        if not found:
            raise BuildError(f"/{folder}: in none of the packages")
        for name in found:
            if wants(name.removeprefix(f"{folder}/")):
                self.take(name)

    def paths(self, folder: str) -> Iterator[tuple[str, Path]]:
        """What the packages have below a folder, by its name there; nothing of it is taken."""
        for name, (_, path) in self._found.items():
            if name.startswith(f"{folder}/"):
                yield name.removeprefix(f"{folder}/"), path

    def put(self, name: str, content: bytes | Path, mode: int = TEXT) -> None:
        """A file that no package has, or another one in its place."""
        if isinstance(content, Path):
            self._put(Member(name, cpio.FILE | mode, source=content))
        else:
            self._put(Member(name, cpio.FILE | mode, content))

    def put_link(self, name: str, points_to: str) -> None:
        self._put(Member(name, cpio.LINK | 0o777, points_to.encode()))

    def put_folder(self, name: str, mode: int = 0o755) -> None:
        self._put(Member(name, cpio.FOLDER | mode))

    def put_device(self, name: str, major: int, minor: int, mode: int = 0o600) -> None:
        self._put(Member(name, cpio.CHARACTER_DEVICE | mode, device=(major, minor)))

    def _library(self, name: str, of: str) -> str:
        for folder in (f"usr/lib/{self.libraries}", f"usr/lib/{self.libraries}/systemd", "usr/lib", "usr/lib64"):
            if f"{folder}/{name}" in self._found or f"{folder}/{name}" in self._members:
                return f"{folder}/{name}"
        raise BuildError(f"/{of}: needs {name}, which is in none of the packages")

    def _put(self, member: Member) -> None:
        for parent in PurePosixPath(member.name).parents:
            if (above := str(parent)) != "." and above not in self._members:
                self._members[above] = Member(above, cpio.FOLDER | 0o755)
        if member.mode & 0o170000 != cpio.FOLDER or member.name not in self._members:
            self._members[member.name] = member


def merged(name: str) -> str:
    """A name with /usr where Debian's packages leave it to a link; without a leading slash."""
    name = name.lstrip("/")
    return f"usr/{name}" if name.partition("/")[0] in MERGED else name


def _files(folder: Path) -> Iterator[tuple[str, Path]]:
    for at, folders, names in os.walk(folder):
        for name in (*names, *(each for each in folders if os.path.islink(os.path.join(at, each)))):
            path = Path(at, name)
            yield merged(path.relative_to(folder).as_posix()), path
