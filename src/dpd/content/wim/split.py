# SPDX-License-Identifier: Apache-2.0
"""A split WIM: install.swm, install2.swm, … are one WIM in parts, each a file of its own with the GUID of all.

Every part says which it is and of how many. Their names are only a habit of the writers, so what belongs together is told
by GUID and part number; the habit decides where two files claim to be the same part, and it helps to say what is missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dpd.content.wim import reader as wim
from dpd.content.wim.file import WimFile
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentCorrupt, ContentError

_NAMED = 5  # in a message


@dataclass(frozen=True, slots=True)
class SplitSet:
    """All parts of one split WIM, the first one first. `images` are the same in each."""

    parts: tuple[Path, ...]
    images: tuple[ImageSummary, ...]
    size_bytes: int


def find_parts(first: Path) -> SplitSet:
    """The whole set of a first part, each part checked as a WIM. Raises ContentError, and ContentCorrupt for parts that do
    not fit together."""
    summary = wim.check(first)
    if summary.total_parts == 1:
        raise ContentError(f"{first}: one whole WIM and no part of a split one; publish it as it is")
    if summary.part_number != 1:
        begin = _find_first(first, summary.guid)
        raise ContentError(
            f"{first}: part {summary.part_number} of {summary.total_parts}; publish {begin or 'part 1'} instead, the others are found beside it"
        )
    paths = _complete(first, summary, _siblings(first, summary.guid))
    checked = [summary, *(wim.check(path) for path in paths[1:])]
    for path, each in zip(paths, checked, strict=True):
        _check_fits(first, summary, path, each)
    return SplitSet(paths, summary.images, sum(each.size_bytes for each in checked))


def part_name(first: str, number: int) -> str:
    """The name that writers give: install.swm, install2.swm, install3.swm."""
    stem, suffix = os.path.splitext(first)
    return first if number == 1 else f"{stem}{number}{suffix}"


def _siblings(path: Path, guid: bytes) -> dict[int, list[Path]]:
    """The files beside it with that GUID, by their part number."""
    found: dict[int, list[Path]] = {}
    for beside, number in _parts_in(path.parent, guid):
        found.setdefault(number, []).append(beside)
    return found


def _parts_in(folder: Path, guid: bytes) -> Iterator[tuple[Path, int]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise ContentError(f"{folder}: the other parts cannot be looked for: {error.strerror}") from None
    for name in names:
        if os.path.splitext(name)[1].lower() not in wim.SUFFIXES:
            continue
        told = _guid_and_part(folder / name)
        if told is not None and told[0] == guid:
            yield folder / name, told[1]


def _guid_and_part(path: Path) -> tuple[bytes, int] | None:
    """None for what is no WIM, or cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        header = WimFile(descriptor).read_header()
        return header.guid, header.part_number
    except (ContentCorrupt, OSError):
        return None
    finally:
        os.close(descriptor)


def _find_first(path: Path, guid: bytes) -> Path | None:
    return next(iter(_siblings(path, guid).get(1, [])), None)


def _complete(first: Path, summary: wim.WimSummary, found: dict[int, list[Path]]) -> tuple[Path, ...]:
    """One file for each part. Raises ContentError that names what is missing or there twice."""
    missing = [number for number in range(2, summary.total_parts + 1) if number not in found]
    if missing:
        names = _listed(part_name(first.name, number) for number in missing)
        raise ContentError(
            f"{first}: {_parts(missing)} of {summary.total_parts} not beside it; expected {names} of the same set (GUID {summary.guid.hex()}), so copy them into {first.parent}"
        )
    return (first, *(_choose(first, number, found[number]) for number in range(2, summary.total_parts + 1)))


def _choose(first: Path, number: int, paths: list[Path]) -> Path:
    usual = part_name(first.name, number).lower()
    by_name = [path for path in paths if path.name.lower() == usual]
    if len(paths) > 1 and len(by_name) != 1:
        names = _listed(path.name for path in paths)
        raise ContentError(f"{first}: part {number} is there more than once, as {names}; move all but one away")
    return by_name[0] if by_name else paths[0]


def _check_fits(first: Path, summary: wim.WimSummary, path: Path, part: wim.WimSummary) -> None:
    """What a part has in common with the first one. Raises ContentCorrupt."""
    for what, own, others in (
        ("parts in all", part.total_parts, summary.total_parts),
        ("images", len(part.images), len(summary.images)),
        ("compression", part.compression, summary.compression),
    ):
        if own != others:
            raise ContentCorrupt(
                f"{path}: has the GUID of {first.name}, but {what}: {own}, expected {others}; copy or split the set again"
            )


def _parts(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"part {numbers[0]}"
    return f"parts {_listed(map(str, numbers))}"


def _listed(names: Iterable[str]) -> str:
    every = list(names)
    shown, more = every[:_NAMED], len(every) - _NAMED
    if more > 0:
        return f"{', '.join(shown)} and {more} more"
    return " and ".join(filter(None, (", ".join(shown[:-1]), shown[-1])))
