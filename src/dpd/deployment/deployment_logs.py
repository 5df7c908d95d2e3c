# SPDX-License-Identifier: Apache-2.0
"""The logs that targets leave: one file for each execution, the newest wins, bounded each and together."""

from __future__ import annotations

import errno
import os
import re
import threading
from collections.abc import Collection
from pathlib import Path

from dpd.errors import DeploymentDiskFull, DeploymentError, ExecutionNotFound
from dpd.sequence.exchange import MAX_LOG_BYTES

MAX_TOTAL_BYTES = 1 << 30
_ID = re.compile(r"[0-9a-f]{16,128}")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DeploymentLogs:
    """A directory of its own. Any thread; blocks for the disk."""

    def __init__(self, directory: Path, *, max_total_bytes: int = MAX_TOTAL_BYTES) -> None:
        """Raises DeploymentError where it cannot be made."""
        self._directory = directory
        self._max_total_bytes = max_total_bytes
        self._lock = threading.Lock()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in directory.glob("*.part"):  # by a power cut
                left.unlink()
        except OSError as error:
            raise DeploymentError(f"{directory}: cannot keep logs of deployments: {error.strerror}") from None

    def keep(self, execution: str, text: bytes) -> int:
        """In the place of an earlier one; its size. What was kept longest gives way where all are more than may be. Raises
        DeploymentError for too long a text, DeploymentDiskFull."""
        if len(text) > MAX_LOG_BYTES:
            raise DeploymentError(
                f"log of execution {execution}: {len(text)} bytes, expected at most {MAX_LOG_BYTES}; send its end"
            )
        path = self._path(execution)
        part = path.with_suffix(".part")
        with self._lock:
            try:
                self._make_room(len(text), path)
                with part.open("wb") as file:
                    file.write(text)
                    file.flush()
                    os.fsync(file.fileno())
                part.replace(path)
            except OSError as error:
                part.unlink(missing_ok=True)
                kind = DeploymentDiskFull if error.errno in _FULL else DeploymentError
                raise kind(f"{path}: the log cannot be written: {error.strerror}; make room there") from None
        return len(text)

    def read(self, execution: str) -> str:
        """The text; what is no UTF-8 of it, and what a terminal would obey, shows as such. Raises ExecutionNotFound where it left none."""
        try:
            text = self._path(execution).read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            raise ExecutionNotFound(
                f"execution {execution} left no log; a machine sends it when its sequence fails"
            ) from None
        except OSError as error:
            raise DeploymentError(f"log of execution {execution}: cannot be read: {error.strerror}") from None
        return "".join(each if each.isprintable() or each in "\n\t" else "\ufffd" for each in text)

    def forget(self, executions: Collection[str]) -> None:
        """Drop the logs of those."""
        for execution in executions:
            self._path(execution).unlink(missing_ok=True)

    def _path(self, execution: str) -> Path:
        if not _ID.fullmatch(execution):
            raise ExecutionNotFound(f"no execution {execution[:80]!r}; `dpd deploy list` shows those there are")
        return self._directory / f"{execution}.log"

    def _make_room(self, wanted: int, replaced: Path) -> None:
        kept = [
            (entry.stat(), Path(entry.path)) for entry in os.scandir(self._directory) if entry.path != str(replaced)
        ]
        total = sum(status.st_size for status, _ in kept) + wanted
        for status, path in sorted(kept, key=lambda each: each[0].st_mtime_ns):
            if total <= self._max_total_bytes:
                return
            path.unlink(missing_ok=True)
            total -= status.st_size
