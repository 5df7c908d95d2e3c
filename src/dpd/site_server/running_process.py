# SPDX-License-Identifier: Apache-2.0
"""Whether a process of this very host has ended, told for certain or not at all."""

from __future__ import annotations

import os
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START = 19  # starttime among the fields behind the command's name, proc_pid_stat(5)


def sign_of_process(pid: int | None = None) -> str:
    """This boot of this host, the namespace of its process ids, the process and when it began; "" where that cannot be read."""
    try:
        boot = _BOOT_ID.read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return f"{boot}-{namespace}-{os.getpid() if pid is None else pid}-{_start_of(pid or os.getpid())}"
    except (OSError, ValueError, IndexError):
        return ""


def has_ended(sign: str, own_sign: str) -> bool:
    """True for a process of this host and namespace that is no more. False also where that cannot be known from here."""
    place, own_place = sign.rsplit("-", 2)[0], own_sign.rsplit("-", 2)[0]
    if not sign or not own_sign or place != own_place:
        return False
    try:
        _, pid, started = sign.rsplit("-", 2)
        os.kill(int(pid), 0)
        return _start_of(int(pid)) != started  # its number is another's by now
    except ProcessLookupError:
        return True
    except (OSError, ValueError, IndexError, OverflowError):
        return False


def _start_of(pid: int) -> str:
    """In ticks since the boot."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[_START]
