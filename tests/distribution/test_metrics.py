# SPDX-License-Identifier: Apache-2.0
"""The numbers of the library and of distribution, as Prometheus reads them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from tests.distribution.job_room import EPOCH, Told
from tests.distribution.stocked import blob_path, open_library, publish_image, publish_tree

from dpd.content.library import Library
from dpd.distribution.jobs.job import JobState
from dpd.distribution.jobs.queue import Standing
from dpd.distribution.metrics import (
    EventStats,
    Kept,
    add_distribution,
    add_library,
    add_validation,
    counted,
    read_distribution,
)
from dpd.distribution.pulling.pull_stats import PullStats
from dpd.distribution.validation.store import ValidationStore
from dpd.distribution.validation.validation import ValidationStats
from dpd.telemetry.metrics import MetricsRegistry

Samples = dict[tuple[str, str], float]


def samples_of(registry: MetricsRegistry) -> Samples:
    """By name and the value of the only label, "" where there is none."""
    families = text_string_to_metric_families(registry.render().decode())
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
    }


def test_the_library_in_numbers(tmp_path: Path) -> None:
    with open_library(tmp_path / "library") as library:
        image = publish_image(library, tmp_path)
        publish_image(library, tmp_path, "SAME0001")
        tree = publish_tree(library, tmp_path)
        library.add_root(tmp_path / "root", 1 << 30)
        blob_path(tmp_path / "library", image.sha256).unlink()
        library.damage(image)
        registry = MetricsRegistry()
        add_library(registry, library)
        found = samples_of(registry)
    assert found["dpd_library_contents", ""] == 3
    assert found["dpd_library_content_bytes", ""] == 2 * image.size_bytes + tree.size_bytes
    assert found["dpd_library_blobs", ""] == 4
    assert found["dpd_library_saved_bytes", ""] == image.size_bytes + len(b"start\r\n")
    assert (
        found["dpd_library_blob_bytes", ""] + found["dpd_library_saved_bytes", ""]
        == found["dpd_library_content_bytes", ""]
    )
    assert found["dpd_library_damaged_blobs", ""] == 1
    assert found["dpd_library_roots_missing", ""] == 0
    assert found["dpd_library_root_free_bytes", "0"] > 0
    assert (found["dpd_library_root_reserve_bytes", "0"], found["dpd_library_root_reserve_bytes", "1"]) == (0, 1 << 30)
    assert found["dpd_library_root_blob_bytes", "1"] == 0


def test_jobs_by_state_and_the_oldest_of_each() -> None:
    jobs = {
        JobState.RUNNING: Standing(1, EPOCH),
        JobState.WAITING: Standing(2, EPOCH - 50),
        JobState.QUEUED: Standing(),
    }
    levels = read_distribution({"installed": 4, "failed": 0}, jobs, is_maintenance=True, now=EPOCH + 100)
    assert levels.packages == {"installed": 4, "failed": 0}
    assert levels.jobs == {"queued": 0, "running": 1, "waiting": 2}
    assert levels.oldest_job_seconds == {"queued": 0, "running": 100, "waiting": 150}
    assert levels.is_maintenance == 1


def test_distribution_validation_and_pulls_are_told(tmp_path: Path) -> None:
    registry, events, told, pulls = MetricsRegistry(), EventStats(), Told(), PullStats()
    tell = counted(told, events)
    tell("job.done", {"job": 1})
    tell("job.done", {"job": 2})
    pulls.came("s3", 1000)
    store = ValidationStore(tmp_path / "validation.db")
    store.note_damage(64 * "a", "LAB00001", 1, "missing", 10)
    add_validation(registry, store, ValidationStats(found=1))
    add_distribution(
        registry,
        states=lambda: {"installed": 3},
        jobs=lambda: {JobState.RUNNING: Standing(1, EPOCH)},
        is_maintenance=lambda: False,
        events=events,
        pulls=pulls,
    )
    found = samples_of(registry)
    store.close()
    assert found["dpd_distribution_events_total", "job.done"] == 2 == len(told.events)
    assert found["dpd_distribution_packages", "installed"] == 3
    assert found["dpd_distribution_jobs", "running"] == 1
    assert found["dpd_pull_bytes_total", "s3"] == 1000
    assert found["dpd_validation_damage", "damaged"] == 1
    assert found["dpd_validation_found_total", ""] == 1
    assert 0 <= found["dpd_validation_age_seconds", ""] < 60


def test_what_is_dear_is_read_seldom() -> None:
    now, reads = [100.0], [0]

    def read() -> int:
        reads[0] += 1
        now[0] += 0.05
        return reads[0]

    kept = Kept(read, clock=lambda: now[0])
    assert [kept(), kept()] == [1, 1]
    now[0] += 4.9
    assert kept() == 1
    now[0] += 0.2
    assert kept() == 2
    now[0] += 3600
    assert kept() == 3


@pytest.fixture(scope="module")
def crowded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library of 10,000 packages, as rows: no files are needed for sums."""
    place = tmp_path_factory.mktemp("crowded") / "library"
    with open_library(place) as library:
        path = place.parent / "one.img"
        for number in range(3):
            path.write_bytes(b"%d" % number)
            library.publish(path, f"P{number:05}")
        _multiply(library)
    return place


def _multiply(library: Library) -> None:
    """The first package's rows again under 9,997 names."""
    with library._catalogue._database.transaction() as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(content)")]
        kept = [name for name in columns if name not in ("id", "package_id")]
        names = ", ".join(kept)
        connection.execute(
            "WITH RECURSIVE number(n) AS (SELECT 3 UNION ALL SELECT n + 1 FROM number WHERE n < 9999)"
            f" INSERT INTO content (package_id, {names}) SELECT printf('P%05d', n), {names} FROM number, content"
            " WHERE package_id = 'P00000'"
        )


def test_a_scrape_of_ten_thousand_packages_is_cheap(crowded: Path) -> None:
    with open_library(crowded) as library:
        registry = MetricsRegistry()
        add_library(registry, library)
        assert samples_of(registry)["dpd_library_contents", ""] == 10_000
        begun = time.thread_time()
        for _ in range(10):
            registry.render()
        assert (time.thread_time() - begun) / 10 < 0.25
