# SPDX-License-Identifier: Apache-2.0
"""Partitions as the kernel has them: the names of their devices, and making it know them where it does not read the table itself."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import os
import time
from dataclasses import dataclass

from dpd.errors import DpdError

BLKPG = 0x1269  # linux/blkpg.h
ADD, DELETE = 1, 2
NODE_S = 10.0
READ_S = 0.2  # a kernel that reads tables itself has done so when they are written
POLL_S = 0.05


class _Partition(ctypes.Structure):
    _fields_ = (
        ("start", ctypes.c_longlong),
        ("length", ctypes.c_longlong),
        ("number", ctypes.c_int),
        ("device_name", ctypes.c_char * 64),
        ("volume_name", ctypes.c_char * 64),
    )


class _Argument(ctypes.Structure):
    _fields_ = (
        ("op", ctypes.c_int),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_int),
        ("data", ctypes.c_void_p),
    )


@dataclass(frozen=True, slots=True)
class Extent:
    """Where a partition lies, in bytes."""

    number: int
    start: int
    size_bytes: int


def partition_device(disk: str, number: int) -> str:
    """/dev/sda and 1: /dev/sda1; /dev/nvme0n1 and 1: /dev/nvme0n1p1."""
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"


def size_of(device: str) -> int:
    """Its bytes. Raises OSError."""
    descriptor = os.open(device, os.O_RDONLY)
    try:
        return os.lseek(descriptor, 0, os.SEEK_END)
    finally:
        os.close(descriptor)


def forget(disk: str) -> None:
    """Let the kernel forget the partitions of a disk that is about to get others; those in use it keeps."""
    name = os.path.basename(os.path.realpath(disk))
    for entry in glob.glob(f"/sys/class/block/{name}/{name}*/partition"):
        with open(entry, encoding="ascii") as file:
            _change(disk, DELETE, Extent(int(file.read()), 0, 0))


def announce(disk: str, extents: list[Extent]) -> None:
    """Wait until each partition has its device; tell the kernel of those that it did not find itself. Raises DpdError."""
    until = time.monotonic() + NODE_S
    is_told = False
    while missing := [each for each in extents if not os.path.exists(partition_device(disk, each.number))]:
        if not is_told and time.monotonic() > until - NODE_S + READ_S:
            for each in missing:
                _change(disk, ADD, each)
            is_told = True
        if time.monotonic() > until:
            raise DpdError(f"{disk}: its partition {missing[0].number} has no device; is /dev a devtmpfs?")
        time.sleep(POLL_S)


def _change(disk: str, operation: int, extent: Extent) -> None:
    """Tell the kernel of one. What it refuses shows in what follows: it may have been told meanwhile, or something uses it."""
    partition = _Partition(extent.start, extent.size_bytes, extent.number)
    data = ctypes.cast(ctypes.pointer(partition), ctypes.c_void_p)
    argument = _Argument(operation, 0, ctypes.sizeof(partition), data)
    descriptor = os.open(disk, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.ioctl(descriptor, BLKPG, argument)
    finally:
        os.close(descriptor)
