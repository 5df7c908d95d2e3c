# SPDX-License-Identifier: Apache-2.0
"""What distribute, update, redistribute and remove do. Each finds out what is left to do, so that each can be begun anew
at any point: after an error, after a restart, or because it was ordered twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.content_settings import LibrarySettings
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.job import JobKind
from dpd.distribution.jobs.ports import Puller, Restorer
from dpd.distribution.jobs.run import JobRun, Work
from dpd.distribution.jobs.store import JobStore
from dpd.errors import ContentNotFound
from dpd.telemetry.events import Value


class ContentWork:
    """The work on one package. `removed` is told of each version that has gone, so that nobody sends it any more."""

    def __init__(
        self,
        library: Library,
        puller: Puller,
        restorer: Restorer,
        store: JobStore,
        settings: LibrarySettings,
        *,
        tell: Tell,
        removed: Callable[[Content], None] = lambda content: None,
    ) -> None:
        self.settings = settings
        self._library = library
        self._puller = puller
        self._restorer = restorer
        self._store = store
        self._tell = tell
        self._removed = removed

    def works(self) -> Mapping[JobKind, Work]:
        """By kind."""
        return {
            JobKind.DISTRIBUTE: self.distribute,
            JobKind.UPDATE: self.update,
            JobKind.REDISTRIBUTE: self.redistribute,
            JobKind.REMOVE: self.remove,
        }

    def distribute(self, run: JobRun) -> None:
        """Bring the version, or the newest; other versions stay."""
        content, is_new = self._bring(run, run.job.source_version)
        run.say(f"version {content.source_version} {'has come' if is_new else 'was here already'}")

    def update(self, run: JobRun) -> None:
        """Bring the version, or the newest, then take older ones out beyond those that the settings keep."""
        content, is_new = self._bring(run, run.job.source_version)
        gone = [self._take_out(old, run) for old in self._outdated(content)]
        dropped = f", {', '.join(str(old.source_version) for old in gone)} taken out" if gone else ""
        run.say(f"version {content.source_version} {'has come' if is_new else 'was here already'}{dropped}")

    def redistribute(self, run: JobRun) -> None:
        """Make every byte of the version right, also where it seemed to be here; without one, of the newest that is here,
        and where none is, of the newest that a source has."""
        here = [content.source_version for content in self._versions(run.job.package_id)]
        content, is_new = self._bring(run, run.job.source_version or max(here, default=None))
        run.say(f"compares version {content.source_version}")
        self._restorer.restore(content, run)
        run.say(f"version {content.source_version} {'has come' if is_new else 'is as it should be'}")

    def remove(self, run: JobRun) -> None:
        """Take the version out, or every one."""
        wanted = run.job.source_version
        found = [each for each in self._versions(run.job.package_id) if wanted in (None, each.source_version)]
        for content in found:
            self._take_out(content, run)
        gone = ", ".join(str(content.source_version) for content in found)
        run.say(f"version {gone} taken out" if gone else "was not here")

    def _bring(self, run: JobRun, source_version: int | None) -> tuple[Content, bool]:
        package_id = run.job.package_id
        before = {content.source_version for content in self._versions(package_id)}
        content = self._puller.pull(package_id, source_version, run)
        run.resolve(content.source_version)
        is_new = content.source_version not in before
        if is_new:
            self._tell("content.arrived", _fields(content) | {"size_bytes": content.size_bytes, "job": run.job.id})
        return content, is_new

    def _outdated(self, newest: Content) -> list[Content]:
        """Oldest first. What is newer than the update stays, whoever brought it."""
        by_age = sorted(self._versions(newest.package_id), key=lambda each: each.source_version)
        beyond = by_age[: -self.settings.keep_versions]
        return [content for content in beyond if content.source_version < newest.source_version]

    def _take_out(self, content: Content, run: JobRun) -> Content:
        """No longer wanted before it is gone: else a crash between the two would bring it back."""
        run.check()
        self._store.unwant(content.package_id, content.source_version)
        try:
            self._library.remove(content.package_id, content.source_version)
        except ContentNotFound:
            return content  # somebody else was faster
        self._removed(content)
        self._tell("content.removed", _fields(content) | {"job": run.job.id})
        return content

    def _versions(self, package_id: str) -> list[Content]:
        return versions_of(self._library, package_id)


def versions_of(library: Library, package_id: str) -> list[Content]:
    """What the library has of one package, oldest first."""
    found: list[Content] = []
    after = package_id, 0
    while page := library.page(after, _PAGE):
        found += [content for content in page if content.package_id == package_id]
        if len(page) < _PAGE or page[-1].package_id != package_id:
            break
        after = package_id, page[-1].source_version
    return found


_PAGE = 20  # a package seldom has more versions


def _fields(content: Content) -> dict[str, Value]:
    return {"package_id": content.package_id, "source_version": content.source_version}
