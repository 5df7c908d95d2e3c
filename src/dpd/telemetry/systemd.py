# SPDX-License-Identifier: Apache-2.0
"""What a service tells systemd, sd_notify(3); nothing happens where nobody asked."""

from __future__ import annotations

import os
import socket


def sd_notify(state: str, *, wait: bool = True) -> bool:
    """Send a state such as READY=1, STOPPING=1 or STATUS=text. False: there is no systemd that listens, or, without
    `wait`, one that does not keep up: its queue has ten places, and a full one would hold the caller's loop."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notifier:
        try:
            notifier.sendto(state.encode(), 0 if wait else socket.MSG_DONTWAIT, address)
        except OSError:
            return False
    return True


def watchdog_interval_s() -> float | None:
    """How often WATCHDOG=1 is to be sent: half of WatchdogSec=, as sd_watchdog_enabled(3) advises. None: not wanted."""
    interval = os.environ.get("WATCHDOG_USEC", "")
    pid = os.environ.get("WATCHDOG_PID", "")
    if not (interval.isascii() and interval.isdigit()) or (pid and pid != str(os.getpid())):
        return None
    return int(interval) / 2_000_000 or None
