# SPDX-License-Identifier: Apache-2.0
"""SBAT: generations by which shim refuses loaders with known holes (SBAT.md of the shim project).

Each loader says in its section `.sbat` which generation of which component it is; a shim carries in `.sbatlevel` the
generations below which it refuses.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dpd.errors import MalformedImage

MAX_COMPONENTS = 64
SHIM, GRUB = "shim", "grub"
_LEVEL_HEADER = struct.Struct("<III")  # version, and the offsets of two texts counted from behind the version


@dataclass(frozen=True, slots=True)
class SbatEntry:
    """One line of `.sbat`."""

    component: str
    generation: int
    version: str = ""  # the vendor's own, for people


def read_sbat(section: bytes) -> tuple[SbatEntry, ...]:
    """The lines of a `.sbat` section. Raises MalformedImage."""
    return tuple(_entry(line) for line in _lines(section))


def read_sbat_level(section: bytes) -> dict[str, int]:
    """The generations that a shim asks for at least, from its `.sbatlevel`: those that it applies by itself, not the later
    ones that a machine's owner may opt into. Raises MalformedImage."""
    if len(section) < _LEVEL_HEADER.size:
        raise MalformedImage("bad_sbat", "a .sbatlevel section without its header")
    version, automatic, _ = _LEVEL_HEADER.unpack_from(section)
    start = automatic + 4
    if version != 0 or not _LEVEL_HEADER.size <= start < len(section):
        raise MalformedImage("bad_sbat", f".sbatlevel version {version} with its text at {start}")
    entries = map(_entry, _lines(section[start:].partition(b"\0")[0]))
    return {entry.component: entry.generation for entry in entries if entry.component != "sbat"}


def _lines(text: bytes) -> list[str]:
    try:
        lines = text.partition(b"\0")[0].decode("utf-8").splitlines()
    except UnicodeDecodeError:
        raise MalformedImage("bad_sbat", "not UTF-8 text") from None
    found = [line for line in lines if line.strip()]
    if len(found) > MAX_COMPONENTS:
        raise MalformedImage("bad_sbat", f"{len(found)} components, at most {MAX_COMPONENTS} are expected")
    return found


def _entry(line: str) -> SbatEntry:
    component, _, rest = line.partition(",")
    fields = rest.split(",")
    if not component or not line.isprintable() or not (fields[0].isascii() and fields[0].isdigit()):
        raise MalformedImage("bad_sbat", f"line {line[:80]!r} has no component and generation")
    return SbatEntry(component, int(fields[0]), fields[3] if len(fields) > 3 else "")
