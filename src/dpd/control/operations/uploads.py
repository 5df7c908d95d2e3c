# SPDX-License-Identifier: Apache-2.0
"""Files on their way in: each upload has a folder of its own, which goes when it has been published or has failed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiofiles

from dpd.errors import ContentError, LibraryFull

SPARE_BYTES = 16 << 20  # kept free while an upload grows, for the catalogue and the log


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that a client sends. `name` is a plain file name; `size_bytes` is None where the client did not say."""

    name: str
    size_bytes: int | None
    chunks: AsyncIterator[bytes]


class Uploads:
    """The directory of the uploads of one daemon; whatever an earlier one left there goes at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        shutil.rmtree(directory, ignore_errors=True)

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one upload, private to the daemon."""
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            folder = Path(tempfile.mkdtemp(dir=self._directory))
        except OSError as error:
            raise ContentError(f"{self._directory}: no upload possible: {error.strerror}") from None
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def save(self, upload: Upload, folder: Path) -> Path:
        """Write the upload as it comes in. Raises ContentError, LibraryFull."""
        path = folder / upload.name
        self._refuse_if_full(upload, upload.size_bytes or 0)
        received = 0
        try:
            async with aiofiles.open(path, "xb") as file:
                async for chunk in upload.chunks:
                    self._refuse_if_full(upload, len(chunk))
                    await file.write(chunk)
                    received += len(chunk)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ContentError(
                f"{upload.name}: upload broke off after {received} bytes: {reason}; send it again"
            ) from None
        return path

    def _refuse_if_full(self, upload: Upload, wanted: int) -> None:
        free = shutil.disk_usage(self._directory).free
        if wanted + SPARE_BYTES > free:
            raise LibraryFull(
                f"{upload.name}: needs {wanted} bytes in {self._directory}, {free} are free; make room, for example with `dpd content remove`"
            )
