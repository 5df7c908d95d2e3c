# SPDX-License-Identifier: Apache-2.0
"""Names as boot loaders write them: any case, either slash, with or without the folder that they think they are in."""

from __future__ import annotations

# What an iPXE asks for of itself: a signed one has no script inside and takes autoexec.ipxe from wherever it came.
SCRIPT_NAMES = frozenset({"boot.ipxe", "autoexec.ipxe", "script.ipxe"})
SCRIPT_NAME = "boot.ipxe"


def split_name(name: str) -> tuple[str, ...]:
    """The parts of a name in lower case: `\\Boot\\BCD`, `/boot/bcd` and `boot//BCD` are one. Empty for no name."""
    return tuple(part for part in name.replace("\\", "/").casefold().split("/") if part not in ("", "."))


def spellings(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Under which keys to look for a name, the most exact first. Loaders put the folder of whatever started them before a
    name, so that the last two parts (a font's or a language's folder) and the last one stand for the file too."""
    whole = "/".join(parts)
    return tuple(dict.fromkeys((whole, "/".join(parts[-2:]), *parts[-1:])))
