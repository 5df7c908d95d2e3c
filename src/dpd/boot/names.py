# SPDX-License-Identifier: Apache-2.0
"""Names as boot loaders write them: any case, either slash, with or without the folder that they think they are in."""

from __future__ import annotations

# What an iPXE asks for of itself: a signed one has no script inside and takes autoexec.ipxe from wherever it came.
SCRIPT_NAMES = frozenset({"boot.ipxe", "autoexec.ipxe", "script.ipxe"})
SCRIPT_NAME = "boot.ipxe"
# What a GRUB asks for, in whatever folder it was built for; before it, the same with its card's address behind it.
GRUB_CONFIGURATION = "grub.cfg"
GRUB_WAITING = "dpd-wait.cfg"  # is there for as long as a machine waits


def split_name(name: str) -> tuple[str, ...]:
    """The parts of a name in lower case: `\\Boot\\BCD`, `/boot/bcd` and `boot//BCD` are one. Empty for no name."""
    return tuple(part for part in name.replace("\\", "/").casefold().split("/") if part not in ("", "."))


def spellings(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Under which keys to look for a name, the most exact first. Loaders put the folder of whatever started them before a
    name, so that the last two parts (a font's or a language's folder) and the last one stand for the file too."""
    whole = "/".join(parts)
    return tuple(dict.fromkeys((whole, "/".join(parts[-2:]), *parts[-1:])))


def is_grub_configuration(parts: tuple[str, ...], mac: str) -> bool:
    """Whether a GRUB asks what to do, by its plain name or by that of this machine (01 is Ethernet)."""
    names = (GRUB_CONFIGURATION, f"{GRUB_CONFIGURATION}-01-{mac.casefold().replace(':', '-')}")
    return parts[-1:] != () and parts[-1] in names
