# SPDX-License-Identifier: Apache-2.0
"""Work that must not be felt: in a thread whose disk accesses the kernel lets through only when nobody else wants the disk.

The I/O class "idle" belongs to the thread (ioprio_set(2)), and threads that it starts inherit it; so each such work has a
thread of its own, which ends with it. The nice value stays as it is: a thread that hardly gets the processor while it holds
the interpreter's lock would hold up every other thread of dpd. I/O schedulers that know no classes ("none") ignore the
class: `Pace` helps there.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import TypeVar

log = logging.getLogger(__name__)

_T = TypeVar("_T")

_SET = {"x86_64": 251, "aarch64": 30, "riscv64": 30, "ppc64le": 273, "s390x": 282, "loongarch64": 30}
_WHO_PROCESS = 1  # include/uapi/linux/ioprio.h; with 0 as who: the calling thread
_CLASS_IDLE, _CLASS_SHIFT = 3, 13

REST_LIMIT_S = 2.0
STRETCH_BYTES, STRETCH_S = 1 << 20, 0.05  # between two rests at least one of them: small files would rest by thousands
_SLOWER = 2.0  # times the usual time for as many bytes: somebody else uses the disk
_FORGET = 1.02  # the fastest time is forgotten by 2 % a piece, so that one from memory does not count for ever


def run_idle(work: Callable[[], _T]) -> _T:
    """Run it in an idle thread and wait; its result, or its exception. Where the kernel refuses, it runs all the same."""
    results: list[_T] = []
    errors: list[BaseException] = []

    def body() -> None:
        become_idle()
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=body, name="idle work")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def become_idle() -> str:
    """Lower the I/O priority of the calling thread, for good. Why the kernel refused, in words; that is logged too."""
    if (number := _set_idle_io()) == 0:
        return ""
    refused = f"ioprio_set: {os.strerror(number)}"
    log.warning("idle work at ordinary priority", extra={"cause": refused})
    return refused


def _set_idle_io() -> int:
    """The errno, or 0."""
    number = _SET.get(platform.machine())
    if number is None:
        return errno.ENOSYS
    system = ctypes.CDLL(None, use_errno=True)
    done = system.syscall(number, _WHO_PROCESS, 0, _CLASS_IDLE << _CLASS_SHIFT)
    return 0 if done == 0 else ctypes.get_errno()


class Pace:
    """Rests between stretches of reading: as long as the stretch took, and four times that while somebody else slows the disk
    down. That is seen by what a megabyte takes; where small files take a stretch's time, nobody can tell."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep
    ) -> None:
        self._clock, self._sleep = clock, sleep
        self._begun_at = clock()
        self._done = 0
        self._usual_s = float("inf")  # for a byte

    def start(self) -> None:
        """What comes now begins at byte 0 of something else."""
        self._done = 0

    def rest(self, done: int) -> None:
        """Everything up to byte `done` has been read."""
        took_s, count = self._clock() - self._begun_at, done - self._done
        if count < STRETCH_BYTES and took_s < STRETCH_S:
            return
        self._sleep(min(took_s * (4 if self._is_contended(took_s, count) else 1), REST_LIMIT_S))
        self._begun_at, self._done = self._clock(), done

    def _is_contended(self, took_s: float, count: int) -> bool:
        if count < STRETCH_BYTES:
            return False
        is_contended = took_s / count > _SLOWER * self._usual_s
        self._usual_s = min(self._usual_s * _FORGET, took_s / count)
        return is_contended
