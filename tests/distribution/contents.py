# SPDX-License-Identifier: Apache-2.0
"""Contents and a library for tests of jobs, and a puller that publishes what it is told to have."""

from __future__ import annotations

from pathlib import Path

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.jobs.run import JobRun
from dpd.errors import ContentNotFound, SourceUnavailable


def content(package_id: str, version: int, added_at: float = 0.0) -> Content:
    """A row as the catalogue gives it."""
    return Content(package_id, version, ContentKind.FILE, ContentFormat.RAW, "f", 1, "0" * 64, 1, 1, (), (), added_at)


class OtherPlace:
    """Stands for the sources: it has files under package and version, and publishes them into a real library."""

    def __init__(self, library: Library, folder: Path) -> None:
        self.library = library
        self.folder = folder
        self.has: dict[str, dict[int, bytes]] = {}
        self.asked: list[tuple[str, int | None]] = []
        self.errors: list[Exception] = []

    def pull(self, package_id: str, source_version: int | None, run: JobRun) -> Content:
        self.asked.append((package_id, source_version))
        run.check()
        if self.errors:
            raise self.errors.pop(0)
        versions = self.has.get(package_id, {})
        version = max(versions, default=0) if source_version is None else source_version
        try:
            return self.library.find(package_id, version)
        except ContentNotFound:
            pass
        if version not in versions:
            raise SourceUnavailable(f"{package_id}: no source has it")
        path = self.folder / f"{package_id}-{version}.bin"
        path.write_bytes(versions[version])
        return self.library.publish(path, package_id, version, progress=run.progress)

    def restore(self, content: Content, run: JobRun) -> None:
        """What a real one does with what is whole: read it."""
        assert self.library.damage(content) == []
