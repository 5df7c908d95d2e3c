# SPDX-License-Identifier: Apache-2.0
"""The WIM in a content: the content itself, the parts of a split one, or a file in a folder, such as the
sources/install.wim of installation media."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

from dpd.content.kinds import ContentFormat
from dpd.content.records import Content, FileEntry
from dpd.content.wim import reader as wim
from dpd.content.wim.file import WimFile
from dpd.errors import ContentCorrupt, ContentError

MEDIA = ("sources/install.wim", "sources/install.esd", "sources/install.swm")


class Shelf(Protocol):
    """What is needed of a library."""

    def files(self, content: Content) -> Sequence[FileEntry]: ...
    def open_file(self, content: Content, path: str) -> tuple[int, int]: ...


@dataclass(frozen=True, slots=True)
class OpenedWim:
    """A WIM that can be read: descriptors of its parts in order, their paths in the content, their names for messages, and
    what each says of itself."""

    parts: tuple[int, ...]
    paths: tuple[str, ...]
    names: tuple[str, ...]
    summaries: tuple[wim.WimSummary, ...]

    @property
    def summary(self) -> wim.WimSummary:
        """The first part's."""
        return self.summaries[0]

    @property
    def file_name(self) -> str:
        return PurePosixPath(self.paths[0]).name

    @property
    def size_bytes(self) -> int:
        return sum(each.size_bytes for each in self.summaries)

    @property
    def is_solid(self) -> bool:
        return any(each.solid for each in self.summaries)

    @property
    def blob_count(self) -> int:
        return sum(each.blobs.blob_count for each in self.summaries)

    @property
    def blob_bytes(self) -> int:
        return sum(each.blobs.blob_bytes for each in self.summaries)


@contextmanager
def open_wim(shelf: Shelf, content: Content, path: str = "") -> Iterator[OpenedWim]:
    """`path` chooses among the files of a folder; without it that of installation media, or the only WIM at its top. Raises
    ContentError for what is no WIM, ContentCorrupt."""
    files = [each.path for each in shelf.files(content)]
    first = find_wim(content, files, path)
    with ExitStack() as stack:

        def opened(name: str) -> int:
            descriptor, _ = shelf.open_file(content, name)
            stack.callback(os.close, descriptor)
            return descriptor

        descriptor = opened(first)
        summary = wim.check(descriptor, f"{content}, {first}")
        parts = [(first, descriptor)]
        if summary.total_parts > 1:
            parts = _parts(content, summary, {name: opened(name) for name in _beside(first, files)})
        names = tuple(f"{content}, {name}" for name, _ in parts)
        yield OpenedWim(
            parts=tuple(descriptor for _, descriptor in parts),
            paths=tuple(name for name, _ in parts),
            names=names,
            summaries=tuple(wim.check(part, name) for (_, part), name in zip(parts, names, strict=True)),
        )


def find_wim(content: Content, paths: Sequence[str], path: str = "") -> str:
    """The file of a content to look for images in. Raises ContentError where there is none, or more than one."""
    if path:
        if path not in paths:
            raise ContentError(f"{content}: has no file {path!r}; name one of its files, such as {MEDIA[0]}")
        return path
    if content.format is ContentFormat.WIM:
        return paths[0]
    wims = _wims(paths)
    if content.format is ContentFormat.SPLIT_WIM and wims:
        return wims[0]
    if likely := likely_wim(paths):
        return likely
    if content.format is ContentFormat.RAW or not wims:
        raise ContentError(f"{content}: has no WIM in it, so it has no images")
    raise ContentError(f"{content}: has {len(wims)} WIMs; say which file is meant, such as {wims[0]}")


def likely_wim(paths: Sequence[str]) -> str | None:
    """The file of a folder that its images are likely to be in: that of installation media, or the only WIM at its top."""
    wims = _wims(paths)
    by_lower = {each.lower(): each for each in wims}
    media = [by_lower[each] for each in MEDIA if each in by_lower]
    top = [each for each in wims if "/" not in each]
    return media[0] if media else top[0] if len(top) == 1 else None


def _wims(paths: Sequence[str]) -> list[str]:
    return [each for each in paths if os.path.splitext(each)[1].lower() in wim.SUFFIXES]


def _beside(first: str, paths: Sequence[str]) -> list[str]:
    folder = PurePosixPath(first).parent
    return [each for each in _wims(paths) if PurePosixPath(each).parent == folder]


def _parts(content: Content, summary: wim.WimSummary, opened: dict[str, int]) -> list[tuple[str, int]]:
    """Path and descriptor of each part in order, which are those with the GUID of the set. Raises ContentError for a
    missing one."""
    found: dict[int, tuple[str, int]] = {}
    for name, descriptor in opened.items():
        try:
            header = WimFile(descriptor).read_header()
        except ContentCorrupt:
            continue  # another WIM of the folder
        if header.guid == summary.guid:
            found.setdefault(header.part_number, (name, descriptor))
    numbers = range(1, summary.total_parts + 1)
    missing = [number for number in numbers if number not in found]
    if missing:
        raise ContentError(
            f"{content}: part {missing[0]} of {summary.total_parts} of its split WIM is not in it; publish the whole set"
        )
    return [found[number] for number in numbers]
