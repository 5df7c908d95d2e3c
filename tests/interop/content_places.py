# SPDX-License-Identifier: Apache-2.0
"""Three distribution points in a row on one LAN: the second pulls from the first, the third from the second alone."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.netns import Host, Lan
from tests.interop.daemon import Daemon
from tests.interop.doors import ApiDoor, CommandDoor, Door

NAMES = ("dp1", "dp2", "dp3")
_SETTINGS = """
[http]
enabled = true
[tftp]
enabled = false
[multicast]
enabled = false
[library]
validate = []
"""
_SOURCE = """
[[distribution.source]]
name = "{name}"
url = "http://{address}:8080"
"""


@dataclass(slots=True)
class Place:
    """One distribution point, and the doors by which it is asked."""

    daemon: Daemon
    host: Host
    command: Door
    api: Door

    @property
    def doors(self) -> tuple[Door, Door]:
        return self.command, self.api

    @property
    def library(self) -> Path:
        return self.daemon.state / "library"

    def stored_bytes(self) -> int:
        """What its library takes on the disk, without the catalogue, which keeps room for rows that were there."""
        files = (path for path in self.library.rglob("*") if path.is_file() and not path.name.startswith("library.db"))
        return sum(path.stat().st_size for path in files)

    def received_bytes(self) -> int:
        """By the wire's own counter."""
        return self.host.traffic().received_bytes

    def blob(self, sha256: str) -> Path:
        return self.library / "blobs" / sha256[:2] / sha256


@contextmanager
def three_places(lan: Lan, folder: Path) -> Iterator[list[Place]]:
    """Ready, with empty libraries."""
    with ExitStack() as stack:
        places: list[Place] = []
        for number, name in enumerate(NAMES):
            settings = _SETTINGS
            if number:
                before = NAMES[number - 1]
                settings += _SOURCE.format(name=before, address=lan[before].address)
            directory = folder / name
            directory.mkdir(parents=True)
            daemon = stack.enter_context(Daemon(directory, settings, lan[name]))
            socket = directory / "control.sock"
            places.append(Place(daemon, lan[name], CommandDoor(socket), ApiDoor(socket)))
        yield places


def damage(path: Path, *offsets: int) -> None:
    """Another bit at each offset of a file, as a disk loses them: behind the back of whoever has it open."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        for offset in offsets:
            (byte,) = os.pread(descriptor, 1, offset)
            os.pwrite(descriptor, bytes([byte ^ 0x10]), offset)
    finally:
        os.close(descriptor)
