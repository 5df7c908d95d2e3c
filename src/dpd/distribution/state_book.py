# SPDX-License-Identifier: Apache-2.0
"""The states of all packages, by page and in sum, and what is told when one changes."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.content_work import versions_of
from dpd.distribution.jobs.desk import JobDesk
from dpd.distribution.jobs.events import Tell
from dpd.distribution.jobs.job import Job
from dpd.distribution.jobs.store import JobStore
from dpd.distribution.states import PackageState, PackageStatus, package_status
from dpd.errors import ContentNotFound

_PAGE = 500
_LAST_VERSION = 1 << 62


class StateBook:
    """Looks things up anew at each question; all that it remembers is which change it told last. Any thread."""

    def __init__(self, library: Library, store: JobStore, desk: JobDesk, tell: Tell) -> None:
        self._library = library
        self._store = store
        self._desk = desk
        self._tell = tell
        self._lock = threading.Lock()
        self._told: dict[str, str] = {}

    def status(self, package_id: str) -> PackageStatus:
        """Raises ContentNotFound for a package that is not here, and that nobody wants here."""
        found = self._statuses([package_id], versions_of(self._library, package_id))
        if not found:
            raise ContentNotFound(
                f"package {package_id!r} is neither in the library nor on its way; `dpd content distribute {package_id}` fetches it"
            )
        return found[0]

    def page(self, after: str = "", limit: int = 100) -> list[PackageStatus]:
        """Packages in their order, behind one of them; fewer than `limit` only at the end."""
        found: list[PackageStatus] = []
        while len(found) < limit:
            package_ids, contents = self._next_packages(after, limit)
            if not package_ids:
                break
            found += self._statuses(package_ids, contents)
            after = package_ids[-1]
        return found[:limit]

    def counts(self) -> dict[str, int]:
        """How many packages are in each state; states without any are 0. What is here, whole and without a job that waits or
        failed, is installed: of 10,000 packages mostly all, so only the others are looked at one by one."""
        here = {package_id for package_id, _ in self._library.versions()}
        others = set(self._store.unsettled())
        for some in _batches(sorted(here)):
            others |= {package_id for package_id, _ in self._library.unservable(some)}
        counted = dict.fromkeys((state.value for state in PackageState), 0)
        counted[PackageState.INSTALLED.value] = len(here - others)
        for some in _batches(sorted(others)):
            for status in self._statuses(some, [each for name in some for each in versions_of(self._library, name)]):
                counted[status.state.value] += 1
        return counted

    def note(self, package_id: str) -> None:
        """Something has happened to it: tell where its state is another one now."""
        if not package_id:
            return
        with self._lock:
            try:
                state = self.status(package_id).state.value
            except ContentNotFound:
                state = "absent"
            was = self._told.get(package_id)
            if state == was:
                return
            self._told[package_id] = state
        self._tell("content.state", {"package_id": package_id, "state": state} | ({"was": was} if was else {}))

    def _next_packages(self, after: str, limit: int) -> tuple[list[str], list[Content]]:
        """The next packages of library and jobs, and what the library has of them."""
        of_jobs = self._store.packages(after, limit)
        contents = self._library.page((after, _LAST_VERSION), limit)
        if len(contents) == limit:  # the last package may be cut
            contents += _rest_of(versions_of(self._library, contents[-1].package_id), contents[-1])
        last = contents[-1].package_id if len(contents) >= limit else None
        of_library = {content.package_id for content in contents}
        package_ids = sorted(of_library | {each for each in of_jobs if last is None or each <= last})[:limit]
        return package_ids, [content for content in contents if content.package_id in set(package_ids)]

    def _statuses(self, package_ids: list[str], contents: Iterable[Content]) -> list[PackageStatus]:
        by_package = {name: list(group) for name, group in groupby(contents, key=attrgetter("package_id"))}
        jobs = self._store.telling(package_ids)
        damaged: dict[str, set[int]] = {}
        for package_id, version in self._library.unservable(package_ids):
            damaged.setdefault(package_id, set()).add(version)
        statuses = (
            package_status(
                package_id,
                by_package.get(package_id, []),
                [self._as_now(job) for job in jobs.get(package_id, [])],
                sorted(damaged.get(package_id, ())),
            )
            for package_id in package_ids
        )
        return [status for status in statuses if status is not None]

    def _as_now(self, job: Job) -> Job:
        return self._desk.find(job.id) if job.is_open else job


def _batches(package_ids: list[str]) -> Iterator[list[str]]:
    """SQLite takes only so many values in one question."""
    return (package_ids[begin : begin + _PAGE] for begin in range(0, len(package_ids), _PAGE))


def _rest_of(versions: list[Content], last: Content) -> list[Content]:
    return [content for content in versions if content.source_version > last.source_version]
