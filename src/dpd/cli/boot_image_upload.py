# SPDX-License-Identifier: Apache-2.0
"""The files of a boot image on their way to the daemon, one behind the other in one body."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from dpd.cli.client import CHUNK_BYTES, Client, plain_name
from dpd.cli.screen import Bar, follow_job
from dpd.errors import ContentError


class _Joined:
    """Several files read as one."""

    def __init__(self, files: Sequence[BinaryIO]) -> None:
        self._files = list(files)

    def read(self, count: int) -> bytes:
        while self._files:
            if chunk := self._files[0].read(count):
                return chunk
            del self._files[0]
        return b""


def upload(client: Client, files: Sequence[Path], query: dict[str, str], bar: Bar) -> dict[str, Any]:
    """Send them and follow the job; the image as the daemon tells it. Raises ContentError."""
    opened: list[BinaryIO] = []
    try:
        sizes = [path.stat().st_size for path in files]
        opened = [path.open("rb", buffering=CHUNK_BYTES) for path in files]
        parts = [{"name": plain_name(path), "size_bytes": each} for path, each in zip(files, sizes, strict=True)]
        total = sum(sizes)
        given = {name: value for name, value in query.items() if value}
        lines = client.upload(
            _Joined(opened),
            "boot-images",
            size_bytes=total,
            sent=lambda done: bar("sending", done, total),
            parts=json.dumps(parts),
            **given,
        )
        return follow_job(lines, "adding", bar)
    except OSError as error:
        raise ContentError(
            f"{error.filename or 'boot image'}: {error.strerror}; expected a file of a boot image"
        ) from None
    finally:
        for file in opened:
            file.close()
