# SPDX-License-Identifier: Apache-2.0
"""What the boot script told this machine on the kernel's command line: where dpd is, and the proof of the boot ticket."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from dpd.errors import DpdError

PLACE = Path("/proc/cmdline")
PREFIX = "dpd."
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_PROOF = re.compile(r"[0-9a-fA-F]{16,128}")


class NotBooted(DpdError):
    """This machine was not started by dpd, or by a boot script that tells too little."""


@dataclass(frozen=True, slots=True)
class Boot:
    """`proof` is worth the machine's policy: it is never shown. `mac` is the address that the machine booted by, "" where its loader
    does not tell."""

    server: str
    proof: str
    mac: str = ""

    def __repr__(self) -> str:
        return f"Boot({self.server})"


def read(place: Path = PLACE) -> Boot:
    """Of the running kernel. Raises NotBooted."""
    try:
        return parse(place.read_text("utf-8", "replace"))
    except OSError as error:
        raise NotBooted(f"{place}: cannot be read: {error.strerror}; is /proc mounted?") from None


def parse(line: str) -> Boot:
    """Raises NotBooted that names what is missing; of several of one name the last counts, as for the kernel."""
    words = options(line)
    if not words.get("server"):
        raise NotBooted("the kernel's command line has no dpd.server=URL: boot this machine over the network by dpd")
    if not _PROOF.fullmatch(words.get("proof", "")):
        raise NotBooted(
            "the kernel's command line has no dpd.proof, which dpd makes anew for each boot: boot this machine over the "
            "network by dpd, with a boot image and not with a kernel entered by hand"
        )
    return Boot(words["server"], words["proof"].lower(), _mac(line))


def _mac(line: str) -> str:
    """Of BOOTIF=01-52-54-00-12-34-56, as PXELINUX, GRUB and iPXE scripts pass it; 01 is Ethernet."""
    found = [word.removeprefix("BOOTIF=") for word in line.split() if word.startswith("BOOTIF=")]
    told = found[-1].lower().replace("-", ":").removeprefix("01:") if found else ""
    return told if _MAC.fullmatch(told) else ""


def options(line: str) -> dict[str, str]:
    """Every dpd.NAME=VALUE, without its prefix."""
    found = (word.partition("=") for word in line.split() if word.startswith(PREFIX))
    return {name.removeprefix(PREFIX): value for name, _, value in found}
