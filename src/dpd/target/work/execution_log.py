# SPDX-License-Identifier: Apache-2.0
"""The log of one execution: every line with its time, secrets masked before it is written, never more than a limit.

    2026-11-22T02:30:01Z 2.1 apply_os_image: started
    2026-11-22T02:30:01Z   $ wimlib-imagex apply …

Where it grows too long the middle is lost, not the beginning, which tells of the machine, nor the end, which tells of the
failure.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

LIMIT_BYTES = 4 << 20
MAX_LINE_CHARACTERS = 4000


class ExecutionLog:
    """Lines into `place`, which may be there from before a restart. `mask` hides what is secret, and may learn of more."""

    def __init__(
        self,
        place: Path,
        mask: Callable[[str], str],
        now: Callable[[], float] = time.time,
        limit_bytes: int = LIMIT_BYTES,
    ) -> None:
        self.place = place
        self._mask = mask
        self._now = now
        self._limit_bytes = limit_bytes
        self._lock = threading.Lock()
        self._size_bytes = place.stat().st_size if place.exists() else 0

    def write(self, text: str) -> None:
        """One line, or one for each line of it. A disk that refuses ends no deployment."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(self._now()))
        lines = self._mask(text).splitlines() or [""]
        encoded = "".join(f"{at} {line[:MAX_LINE_CHARACTERS]}\n" for line in lines).encode("utf-8", "replace")
        with self._lock:
            try:
                if self._size_bytes + len(encoded) > 2 * self._limit_bytes:
                    self._shorten()
                with self.place.open("ab") as file:
                    file.write(encoded)
                self._size_bytes += len(encoded)
            except OSError:
                return

    def text(self) -> bytes:
        """What goes to the site: at most the limit. Secrets that became known meanwhile are hidden, too."""
        with self._lock:
            try:
                content = self.place.read_bytes()
            except OSError as error:
                return f"the log {self.place} cannot be read: {error.strerror}\n".encode()
        hidden = self._mask(content.decode("utf-8", "replace")).encode()
        return _without_middle(hidden, self._limit_bytes)

    def _shorten(self) -> None:
        shorter = _without_middle(self.place.read_bytes(), self._limit_bytes)
        fresh = self.place.with_name(self.place.name + ".new")
        fresh.write_bytes(shorter)
        os.replace(fresh, self.place)
        self._size_bytes = len(shorter)


def _without_middle(content: bytes, limit_bytes: int) -> bytes:
    if len(content) <= limit_bytes:
        return content
    told = b"\n... %d bytes are left out here ...\n" % (len(content) - limit_bytes)
    keep = limit_bytes - len(told) - 32
    head = content[: keep // 4].rpartition(b"\n")[0]
    tail = content[len(content) - (keep - keep // 4) :].partition(b"\n")[2]
    return head + told + tail
