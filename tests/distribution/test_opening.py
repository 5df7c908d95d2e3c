# SPDX-License-Identifier: Apache-2.0
"""All of distribution, opened by the settings alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.origin import Origin

from dpd.content import repository
from dpd.content.library import Library
from dpd.content_settings import DistributionSettings, LibrarySettings, SourceSettings
from dpd.distribution.jobs.job import JobKind, JobOrder, JobState, Priority
from dpd.distribution.opening import OpenDistribution
from dpd.errors import JobError, Unavailable
from dpd.settings import Settings
from dpd.telemetry.events import EventLog
from dpd.telemetry.metrics import MetricsRegistry

QUIET = LibrarySettings(validate=())


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", slab_bytes=1 << 20) as library:
        yield library


@pytest.fixture
def opened(library: Library, tmp_path: Path) -> Iterator[OpenDistribution]:
    opened = OpenDistribution(Settings(library=QUIET), library, tmp_path, EventLog())
    yield opened
    opened.stop()


def wait(opened: OpenDistribution, order: JobOrder) -> JobState:
    ended = threading.Event()
    job = opened.core.desk.submit(order)
    for _ in range(1000):
        if not opened.core.desk.find(job.id).is_open:
            return opened.core.desk.find(job.id).state
        ended.wait(0.01)
    raise AssertionError(opened.core.desk.find(job.id))


def test_every_kind_has_its_work(opened: OpenDistribution, library: Library, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 1000)
    library.publish(tmp_path / "file", "A")
    opened.start()
    path = str(tmp_path / "a.bundle")
    for order in (
        JobOrder(JobKind.VALIDATE),
        JobOrder(JobKind.REDISTRIBUTE, "A", 1),
        JobOrder(JobKind.GC, options={"delete": True}),
        JobOrder(JobKind.EXPORT, options={"path": path}),
        JobOrder(JobKind.REMOVE, "A"),
        JobOrder(JobKind.IMPORT, options={"path": path}),
        JobOrder(JobKind.DISTRIBUTE, "A", 1),
        JobOrder(JobKind.UPDATE, "A", 1),
    ):
        assert wait(opened, order) is JobState.DONE, order
    assert library.damage(library.find("A")) == []
    assert wait(opened, JobOrder(JobKind.DRAIN, options={"root": 9})) is JobState.FAILED


def test_damage_that_validation_finds_and_mends_shows_in_the_state(
    opened: OpenDistribution, library: Library, tmp_path: Path
) -> None:
    content_bytes = bytes(range(256)) * 100
    (tmp_path / "file").write_bytes(content_bytes)
    content = library.publish(tmp_path / "file", "A")
    (blob,) = [path for path in (tmp_path / "library").rglob(content.sha256) if path.parent.parent.name == "blobs"]
    blob.chmod(0o600)
    blob.write_bytes(b"X" + content_bytes[1:])
    opened.start()
    assert wait(opened, JobOrder(JobKind.VALIDATE)) is JobState.FAILED  # no source has it
    assert opened.core.states.status("A").state.value == "failed"
    blob.write_bytes(content_bytes)  # out of a backup
    assert wait(opened, JobOrder(JobKind.VALIDATE)) is JobState.DONE
    assert opened.core.states.status("A").state.value == "installed"
    told = [event.fields["state"] for event in opened.events.after(0) if event.event == "content.state"]
    assert told == ["failed", "installed"]


def test_other_settings_reach_every_part(opened: OpenDistribution, library: Library) -> None:
    source = SourceSettings(name="dp1", url="http://dp1.example:8080", public_key="ab" * 32)
    settings = Settings(
        library=LibrarySettings(chunk_index=False, validate=("daily 03:00",), keep_versions=3, repair=False),
        distribution=DistributionSettings(source=(source,), schedule=("mon-sun 00-24 closed",), rate_mbit_s=8.0),
    )
    assert library.makes_chunk_index
    opened.apply(settings)
    assert not library.makes_chunk_index
    assert [each.name for each in opened.puller.sources] == ["dp1"]
    assert opened.clock.next_due() is not None
    assert opened.trusted_keys() == {library.public_key(), bytes.fromhex("ab" * 32)}
    job = opened.core.desk.submit(JobOrder(JobKind.UPDATE, "A", None, Priority.HIGH))
    assert opened.core.desk.find(job.id).message == "the hours are closed for priority high"


def test_a_pinned_key_is_trusted_as_long_as_its_source_has_no_other_one(
    opened: OpenDistribution, library: Library
) -> None:
    with Origin({repository.IDENTITY: repository.encode_identity(b"p" * 32)}) as origin:
        pinned = SourceSettings(name="hq", url=origin.url)
        opened.apply(Settings(distribution=DistributionSettings(source=(pinned,))))
        session = opened.puller.sources[0].session(opened.puller.terms(lambda: None))
        opened.puller.keys.key_of(opened.puller.sources[0], session)
        session.close()
    assert opened.trusted_keys() == {library.public_key(), b"p" * 32}
    configured = SourceSettings(name="hq", url=pinned.url, public_key="ab" * 32)
    opened.apply(Settings(distribution=DistributionSettings(source=(configured,))))
    assert opened.trusted_keys() == {library.public_key(), bytes.fromhex("ab" * 32)}
    opened.apply(Settings())
    assert opened.trusted_keys() == {library.public_key()}


def test_what_a_client_misses_is_not_ordered_in_maintenance(opened: OpenDistribution) -> None:
    opened.core.desk.set_maintenance("new disks")
    with pytest.raises(Unavailable, match="new disks"):
        opened._order_for_client("A", None, ())
    opened.core.desk.set_maintenance("")
    job = opened._order_for_client("A", None, ())
    assert (job.priority, job.actor) == (Priority.HIGH, "client")


def test_its_numbers_are_there_for_prometheus(opened: OpenDistribution) -> None:
    registry = MetricsRegistry()
    opened.add_metrics(registry)
    text = registry.render().decode()
    for name in ("dpd_library_contents", "dpd_distribution_packages", "dpd_validation_", "dpd_pull_"):
        assert name in text


def test_a_broken_file_is_refused_and_leaves_nothing_open(library: Library, tmp_path: Path) -> None:
    (tmp_path / "distribution.db").write_bytes(b"nonsense" * 1000)
    with pytest.raises(JobError, match=r"distribution\.db"):
        OpenDistribution(Settings(library=QUIET), library, tmp_path, EventLog())


def test_stop_is_idempotent_and_comes_before_start_too(library: Library, tmp_path: Path) -> None:
    opened = OpenDistribution(Settings(library=QUIET), library, tmp_path, EventLog())
    opened.stop()
    opened.stop()
