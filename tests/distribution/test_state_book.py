# SPDX-License-Identifier: Apache-2.0
"""All packages by page, and what is told when a state changes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.job_room import Desk

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution import state_book
from dpd.distribution.content_work import versions_of
from dpd.distribution.jobs.job import JobKind, JobOrder
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.state_book import StateBook
from dpd.errors import ContentError, ContentNotFound, SourceUnavailable


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        yield library


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return Desk(tmp_path / "d.db")


def publish(library: Library, tmp_path: Path, *names: tuple[str, int]) -> None:
    for package_id, version in names:
        file = tmp_path / f"{package_id}-{version}"
        file.write_bytes(f"{package_id} {version}".encode())
        library.publish(file, package_id, version)


def test_pages_hold_each_package_of_library_and_jobs_once(library: Library, made: Desk, tmp_path: Path) -> None:
    book = StateBook(library, made.store, made.desk, made.told)
    publish(library, tmp_path, *[(f"P{n:02}", 1 + n % 3) for n in range(0, 20, 2)], *[("P04", 8), ("P04", 9)])
    for number in range(1, 20, 3):
        made.desk.submit(JobOrder(JobKind.DISTRIBUTE, f"P{number:02}"))
    made.desk.submit(JobOrder(JobKind.VALIDATE, "gone"))
    everything = [status.package_id for status in book.page("", 1000)]
    assert everything == sorted({f"P{n:02}" for n in range(0, 20, 2)} | {f"P{n:02}" for n in range(1, 20, 3)})
    for limit in (1, 2, 3, 5, 7, len(everything)):
        found: list[str] = []
        while page := book.page(found[-1] if found else "", limit):
            assert len(page) == limit or len(found) + len(page) == len(everything)
            found += [status.package_id for status in page]
        assert found == everything
    (p04,) = [status for status in book.page("", 1000) if status.package_id == "P04"]
    assert p04.versions == (2, 8, 9)
    counts = book.counts()
    assert (counts["installed"], counts["updating"], counts["pending"], sum(counts.values())) == (7, 3, 4, 14)


def test_counts_are_those_of_the_pages_and_look_at_few_packages(
    library: Library, made: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(run: JobRun) -> None:
        raise ContentError("no such thing")

    made.work = {JobKind.DISTRIBUTE: fail, JobKind.REMOVE: fail}
    made.restart()
    book = StateBook(library, made.store, made.desk, made.told)
    publish(library, tmp_path, *[(f"P{n:02}", 1 + n % 3) for n in range(20)])
    made.desk.submit(JobOrder(JobKind.DISTRIBUTE, "NONE"))
    made.desk.submit(JobOrder(JobKind.REMOVE, "P03"))
    made.work_off()
    for order in (
        JobOrder(JobKind.UPDATE, "P04"),
        JobOrder(JobKind.DISTRIBUTE, "NEW"),
        JobOrder(JobKind.REMOVE, "P05"),
    ):
        made.store.add(order, 0.0)
    made.restart()
    book = StateBook(library, made.store, made.desk, made.told)
    descriptor, _ = library.open_hash(library.find("P07").sha256)
    blob = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    os.close(descriptor)
    blob.chmod(0o600)
    blob.write_bytes(b"other than it was"[: blob.stat().st_size])
    assert library.damage(library.find("P07"))
    told = Counter(status.state.value for status in book.page("", 1000))
    looked: list[str] = []

    def look(found: Library, package_id: str) -> list[Content]:
        looked.append(package_id)
        return versions_of(found, package_id)

    monkeypatch.setattr(state_book, "versions_of", look)
    monkeypatch.setattr(book, "page", lambda *given: pytest.fail("pages"))
    counts = book.counts()
    assert {state: count for state, count in counts.items() if count} == told
    assert told["installed"] == 16
    assert told["failed"] == 2
    assert set(looked) == {"NONE", "P03", "P04", "NEW", "P05", "P07"}


def test_who_is_nowhere_is_not_found(library: Library, made: Desk) -> None:
    book = StateBook(library, made.store, made.desk, made.told)
    with pytest.raises(ContentNotFound, match="'X' is neither in the library nor on its way"):
        book.status("X")


def test_each_change_of_state_is_told_once(library: Library, made: Desk, tmp_path: Path) -> None:
    errors = [SourceUnavailable("away")]

    def work(run: object) -> None:
        if errors:
            raise errors.pop()
        publish(library, tmp_path, ("A", 1))

    made.work = {JobKind.DISTRIBUTE: work}
    made.restart()
    book = StateBook(library, made.store, made.desk, made.told)

    def look() -> None:
        book.note("A")
        book.note("A")

    made.desk.submit(JobOrder(JobKind.DISTRIBUTE, "A"))
    look()
    made.work_off()
    look()
    made.clock.pass_by(100)
    made.work_off()
    look()
    library.remove("A")
    look()
    told = [fields for name, fields in made.told.events if name == "content.state"]
    assert [(fields["state"], fields.get("was")) for fields in told] == [
        ("pending", None),
        ("retrying", "pending"),
        ("installed", "retrying"),
        ("absent", "installed"),
    ]


def test_content_in_a_root_that_is_missing_is_not_installed(tmp_path: Path, made: Desk) -> None:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        publish(library, tmp_path, ("A", 1))
        library.add_root(tmp_path / "disk2", 0)
        library.drain_root(0)
        library.set_root(0, active=True)
        publish(library, tmp_path, ("B", 1))
    (tmp_path / "disk2").rename(tmp_path / "pulled out")
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        book = StateBook(library, made.store, made.desk, made.told)
        states = {each.package_id: each.state.value for each in book.page()}
        assert states == {"A": "failed", "B": "installed"}
        assert "a root that is missing" in book.status("A").why
        (tmp_path / "pulled out").rename(tmp_path / "disk2")
        assert book.status("A").state.value == "installed"


def test_damage_shows_in_the_state(library: Library, made: Desk, tmp_path: Path) -> None:
    publish(library, tmp_path, ("A", 1), ("B", 1))
    content = library.find("A")
    (blob,) = [path for path in (tmp_path / "library").rglob(content.sha256) if path.parent.parent.name == "blobs"]
    blob.chmod(0o600)
    blob.write_bytes(b"X" * content.size_bytes)
    assert library.damage(content) != []
    book = StateBook(library, made.store, made.desk, made.told)
    assert [(each.state.value, each.damaged) for each in book.page()] == [("failed", (1,)), ("installed", ())]
