# SPDX-License-Identifier: Apache-2.0
"""A clock for processes of Python that a test puts forward by hours while they run: wall clock, monotonic clock, and so every
timer of asyncio. What C code reads by itself, such as a wait for a lock or a socket, goes on by the machine's own."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

HOUR_S = 3600.0

_SITECUSTOMIZE = """
import mmap, os, struct, sys, time

_shared = mmap.mmap(os.open({path!r}, os.O_RDONLY), 8, prot=mmap.PROT_READ)


def _ahead(real, unit):
    return lambda: real() + type(real())(struct.unpack_from("d", _shared)[0] * unit)


for _name, _unit in (("time", 1), ("monotonic", 1), ("time_ns", 10**9), ("monotonic_ns", 10**9)):
    setattr(time, _name, _ahead(getattr(time, _name), _unit))
sys.modules["uvloop"] = None  # its timers go by a clock of their own; asyncio's loop is there without it
"""


class VirtualClock:
    """Processes follow it that are started with `python_path` as PYTHONPATH."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.python_path = os.pathsep.join(filter(None, (str(folder), os.environ.get("PYTHONPATH"))))
        self.ahead_s = 0.0
        path = folder / "ahead"
        path.write_bytes(struct.pack("d", 0.0))
        with path.open("r+b") as file:
            self._shared = mmap.mmap(file.fileno(), 8)
        (folder / "sitecustomize.py").write_text(_SITECUSTOMIZE.format(path=str(path)))

    def advance(self, by_s: float) -> None:
        """For all of them at once."""
        self.ahead_s += by_s
        struct.pack_into("d", self._shared, 0, self.ahead_s)
