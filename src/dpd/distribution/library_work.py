# SPDX-License-Identifier: Apache-2.0
"""Long work of the library itself, as jobs: emptying a root, and removing what nobody needs."""

from __future__ import annotations

from collections.abc import Mapping

from dpd.content.drain import told
from dpd.content.garbage import GcReport
from dpd.content.intake import Progress
from dpd.content.library import Library
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.job import JobKind
from dpd.distribution.jobs.run import JobRun, Work
from dpd.errors import ContentCorrupt, JobError


class LibraryWork:
    """Options of a drain: `root`, its number. Of gc: `delete`, else it only looks."""

    def __init__(self, library: Library, tell: Tell) -> None:
        self._library = library
        self._tell = tell

    def works(self) -> Mapping[JobKind, Work]:
        """By kind."""
        return {JobKind.DRAIN: self.drain, JobKind.GC: self.collect}

    def drain(self, run: JobRun) -> None:
        """What was moved stays moved, however it ends. Raises ContentCorrupt where damaged blobs stay, LibraryFull."""
        root = run.job.options.get("root")
        if not isinstance(root, int) or isinstance(root, bool):
            raise JobError("drain: expected the option root, the number that `dpd root list` shows")
        run.say(f"empties root {root}")
        report = self._library.drain_root(root, progress=_checked(run))
        moved = {"root": report.root, "blobs": report.blobs, "size_bytes": report.size_bytes}
        self._tell("root.drained", moved | {"damaged": len(report.damaged), "job": run.job.id})
        if trouble := told(report):
            raise ContentCorrupt(trouble)
        run.say(
            f"root {root}: {report.blobs} blobs with {report.size_bytes} bytes moved; `dpd root remove {root}` ends it"
        )

    def collect(self, run: JobRun) -> None:
        """Raises ContentError where a file cannot go."""
        run.say("looks at every file")
        report = self._library.gc(delete=run.job.options.get("delete") is True, progress=_checked(run))
        if report.deleted and not report.is_clean:
            self._tell("library.collected", {"freed_bytes": report.freed_bytes, "job": run.job.id})
        run.say(in_words(report))


def in_words(report: GcReport) -> str:
    """A report in one line."""
    found = (
        f"{report.garbage_blobs} blobs that no content needs, {report.stale_parts} parts of tries that ended, "
        f"{report.orphan_files} files of nothing"
    )
    missing = (
        f"; {len(report.missing)} blobs are missing, `dpd content validate` fetches them again"
        if report.missing
        else ""
    )
    return f"{found}: {report.freed_bytes} bytes {'freed' if report.deleted else 'could be freed'}{missing}"


def _checked(run: JobRun) -> Progress:
    """Progress that also hears of a cancellation."""

    def report(done: int, total: int) -> None:
        run.check()
        run.progress(done, total)

    return report
