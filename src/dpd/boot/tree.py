# SPDX-License-Identifier: Apache-2.0
"""What a boot image looks like to the machine that boots it: names, each with bytes behind it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class BootContext:
    """For whom a name is resolved. `server` is our address as the machine reaches it, an IPv6 one without brackets."""

    ticket_id: str
    mac: str
    guid: str
    arch: str
    server: str
    http_port: int
    outcome: str
    code: str = ""
    message: str = ""
    ramdisk_block_size: int = 0  # bytes; 0: the loader's own
    ramdisk_window_size: int = 0  # blocks; 0: the loader's own
    asks_pin: bool = False  # what it waits for is a PIN, typed at the machine
    affinity_mode: str = "none"  # what is to become of the user whom the booted machine names as its own
    target_url: str = ""  # where the booted machine asks for its task sequence; "" where there is none for it
    proof: str = field(default="", repr=False)  # by which it shows there that it was given this boot

    @property
    def boot_variables(self) -> tuple[str, ...]:
        """What the booted machine is told of its site, as words of a kernel's command line."""
        affinity = () if self.affinity_mode == "none" else (f"dpd.affinity={self.affinity_mode}",)
        return (*affinity, f"dpd.server={self.target_url}", f"dpd.proof={self.proof}") if self.target_url else affinity

    @property
    def host(self) -> str:
        """The server as URLs have it."""
        return f"[{self.server}]" if ":" in self.server else self.server


@dataclass(frozen=True, slots=True)
class BootObject:
    """One file of a boot image, stored or made in memory. `open` gives a descriptor that the caller closes; where `may_block`,
    in a thread: a few system calls do not count as that, taking a file out of a WIM does.
    `completes_boot`: with this the machine has all that it boots from us, the WIM of WinPE or the initrd."""

    name: str
    size_bytes: int
    etag: str
    mtime_ns: int
    open: Callable[[], int]
    completes_boot: bool = False
    may_block: bool = True
    sha256: str = ""  # of loaders in the boot directory


class BootImages(Protocol):
    """The boot images that this distribution point has."""

    def lookup(self, image_id: str, name: str, context: BootContext) -> BootObject | None:
        """The file of an image that a machine means by a name, in any case and with any slashes. `image_id` is "" where a
        machine waits for approval: then only the script is there that shows its code."""

    def holds(self, name: str) -> bool:
        """Whether any image has a file of that name: then who has no ticket for it is told so, and not "not found"."""

    def loader(self, image_id: str, arch: str, client_class: str, context: BootContext) -> str:
        """What a machine is told to load first: a file name for PXE clients, a URL for UEFI HTTP boot, a script's for iPXE.
        "" where the loader of the rules comes first, or the image has nothing for that architecture."""


def in_memory(name: str, content: bytes, mtime_ns: int = 0) -> BootObject:
    """A file that was made for one machine; it is never on a disk."""
    etag = hashlib.sha256(content).hexdigest()[:32]
    return BootObject(name, len(content), etag, mtime_ns, lambda: _as_file(content), may_block=False)


def _as_file(content: bytes) -> int:
    descriptor = os.memfd_create("dpd-boot", os.MFD_CLOEXEC)
    try:
        view = memoryview(content)
        while view:
            view = view[os.write(descriptor, view) :]
        os.lseek(descriptor, 0, os.SEEK_SET)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
