# SPDX-License-Identifier: Apache-2.0
"""Validation over a real library and a real desk: what it finds, mends, tells and remembers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.distribution.job_room import Desk
from tests.distribution.stocked import SLAB_BYTES, blob_path, open_library, publish_image, publish_tree
from tests.distribution.validation.test_repair import Away, Shelf, harm
from tests.prepared import Prepared

from dpd.content.library import Library
from dpd.content.records import Content
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, Priority
from dpd.distribution.jobs.run import JobRun
from dpd.distribution.validation.idle import Pace
from dpd.distribution.validation.origins import FileOrigin
from dpd.distribution.validation.repair import Repair
from dpd.distribution.validation.store import DamageState, RunState, ValidationStore
from dpd.distribution.validation.validation import Validation
from dpd.errors import ContentCorrupt, JobCancelled


def no_rest() -> Pace:
    return Pace(sleep=lambda seconds: None)


class Hooked(Pace):
    """A pace that rests by calling something at each piece that was read."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__()
        self._then = then

    def rest(self, done: int) -> None:
        self._then()


class Site:
    """A library with an image and a tree, copies of all blobs, and a desk that validates."""

    def __init__(self, library: Library, folder: Path) -> None:
        self.library = library
        self.place = folder / "library"
        self.image, self.tree = publish_image(library, folder), publish_tree(library, folder)
        self.copies = folder / "copies"
        self.copies.mkdir()
        for content in (self.image, self.tree):
            for each in library.files(content):
                (self.copies / each.sha256).write_bytes(blob_path(self.place, each.sha256).read_bytes())
        self.may_repair = True
        self.shelf = Shelf()
        self.desk = Desk(folder / "distribution.db", {JobKind.VALIDATE: lambda run: self.validation(run)})
        self.store = ValidationStore(folder / "validation.db", clock=lambda: self.desk.clock.wall)
        self.validation = Validation(
            library,
            self.store,
            Repair(library, self.shelf),
            may_repair=lambda: self.may_repair,
            tell=self.desk.told,
            pace=no_rest,
        )

    def copy(self, sha256: str) -> FileOrigin:
        return FileOrigin(self.copies / sha256)

    def big(self) -> str:
        """The large file of the tree."""
        return max(self.library.files(self.tree), key=lambda each: each.size_bytes).sha256

    def harm(self, sha256: str, offset: int = 3 * SLAB_BYTES) -> None:
        harm(blob_path(self.place, sha256), offset)

    def validate(self, package_id: str = "") -> Job:
        job = self.desk.desk.submit(JobOrder(JobKind.VALIDATE, package_id))
        self.desk.work_off()
        return self.desk.desk.find(job.id)

    def told(self) -> list[str]:
        return self.desk.told.names("content.")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_library(tmp_path / "library") as library:
        site = Site(library, tmp_path)
        yield site
        site.store.close()
        site.desk.database.close()


def test_what_is_whole_is_read_once_and_that_is_noted(site: Site) -> None:
    site.desk.clock.pass_by(50)
    job = site.validate()
    assert (job.state, job.error) == (JobState.DONE, "")
    assert job.message == f"2 package versions compared, {site.library.totals().blob_bytes} bytes read; no damage"
    (run,) = site.store.runs(10)
    total = site.library.totals()
    assert (run.state, run.contents, run.read_bytes) == (RunState.DONE, 2, total.blob_bytes)
    assert (site.validation.stats.read_bytes, site.validation.stats.contents) == (total.blob_bytes, 2)
    assert site.store.age_s() == 0
    assert site.told() == []


def test_a_shared_blob_is_read_once(site: Site, tmp_path: Path) -> None:
    publish_image(site.library, tmp_path, "SAME0001")
    site.validate()
    assert site.validation.stats.read_bytes == site.library.totals().blob_bytes


def test_damage_is_told_and_mended(site: Site) -> None:
    site.shelf.origins = [site.copy(site.image.sha256)]
    site.harm(site.image.sha256)
    job = site.validate()
    assert (job.state, job.message.endswith("; 1 files damaged, 1 of them mended")) == (JobState.DONE, True)
    assert site.told() == ["content.damaged", "content.repaired"]
    stats = site.validation.stats
    assert (stats.found, stats.repaired, stats.fetched_bytes, stats.unrepaired) == (1, 1, SLAB_BYTES, 0)
    (noted,) = site.store.damage(10)
    assert (noted.state, noted.package_id, noted.reason) == (DamageState.REPAIRED, "LAB00001", "content")
    site.library.verify("LAB00001")


def test_one_package_alone(site: Site) -> None:
    site.harm(site.image.sha256)
    assert site.validate("LAB00002").state is JobState.DONE
    assert site.told() == []
    assert site.store.validated_at() == 0  # that was not everything
    job = site.validate("LAB00009")
    assert (job.state, "LAB00009" in job.error) == (JobState.FAILED, True)


def test_what_nobody_has_stays_damaged_and_is_not_given_out(site: Site) -> None:
    site.harm(site.image.sha256)
    site.harm(site.big(), 700_000)
    site.shelf.origins = [site.copy(site.big())]
    job = site.validate()
    assert job.state is JobState.FAILED
    assert job.error.startswith(
        f"LAB00001 version 1: blob {site.image.sha256} is damaged (content) and nobody has it: "
    )
    assert job.error.endswith("publish LAB00001 version 1 again")
    assert site.told() == ["content.damaged", "content.not_repaired", "content.damaged", "content.repaired"]
    with pytest.raises(ContentCorrupt):
        site.library.open_blob(site.image)
    (noted,) = site.store.open_damage()
    assert (noted.sha256, noted.note) == (site.image.sha256, job.error)
    assert site.store.runs(1)[0].state is RunState.DONE  # all of it was read


def test_damage_that_stays_is_told_once(site: Site) -> None:
    site.harm(site.image.sha256)
    for _ in range(3):
        assert site.validate().state is JobState.FAILED
    assert site.told().count("content.damaged") == 1
    assert site.validation.stats.found == 1


def test_published_again_it_is_right_again(site: Site, tmp_path: Path) -> None:
    site.harm(site.image.sha256)
    site.validate()
    site.library.publish(tmp_path / "LAB00001-1.img", "LAB00001", 1)
    site.validation.reconcile()
    assert site.store.open_damage() == []
    assert site.told()[-1] == "content.repaired"
    assert site.validate().state is JobState.DONE


def test_removed_it_is_nobodys_trouble(site: Site) -> None:
    site.harm(site.image.sha256)
    site.validate()
    site.library.remove("LAB00001")
    assert site.validate().state is JobState.DONE
    assert site.store.damage_counts() == {"damaged": 0, "repaired": 0, "removed": 1}


def test_without_repair_it_only_tells(site: Site) -> None:
    site.may_repair = False
    site.shelf.origins = [site.copy(site.image.sha256)]
    site.harm(site.image.sha256)
    job = site.validate()
    assert (job.state, "[library] repair is off" in job.error) == (JobState.FAILED, True)
    assert site.told() == ["content.damaged"]
    run = JobRun(job)
    site.validation.restore(site.image, run)  # an operator's redistribute mends all the same
    assert site.told() == ["content.damaged", "content.repaired"]
    site.library.verify("LAB00001")


def test_a_source_that_is_away_is_asked_again_without_reading_all_anew(site: Site) -> None:
    site.harm(site.image.sha256)
    site.shelf.origins = [Away(site.copies / site.image.sha256)]
    job = site.validate()
    assert (job.state, "cannot be mended now" in job.error) == (JobState.WAITING, True)
    read = site.validation.stats.read_bytes
    site.shelf.origins = [site.copy(site.image.sha256)]
    site.desk.clock.pass_by(7200)
    site.desk.work_off()
    assert site.desk.desk.find(job.id).state is JobState.DONE
    assert site.validation.stats.read_bytes == read
    site.library.verify("LAB00001")


def test_stopped_it_goes_on_behind_what_it_has_read(site: Site) -> None:
    reports = [0]

    def stop() -> None:
        reports[0] += 1
        if reports[0] == 13:  # in the tree: the image has twelve slabs
            site.desk.desk.drain()

    site.validation._pace = lambda: Hooked(stop)
    site.desk.desk.submit(JobOrder(JobKind.VALIDATE))
    site.desk.work_off()
    assert site.store.runs(1)[0].state is RunState.STOPPED
    assert site.store.validated_at() == 0
    site.desk.restart()
    site.validation._pace = no_rest
    before = site.validation.stats.read_bytes
    site.desk.work_off()
    (run,) = site.store.runs(10)
    assert (run.state, run.contents) == (RunState.DONE, 2)
    assert site.validation.stats.read_bytes - before == site.library.totals().blob_bytes - site.image.size_bytes


def test_cancelled_it_ends(site: Site) -> None:
    job = site.desk.desk.submit(JobOrder(JobKind.VALIDATE))

    def cancel() -> None:
        if site.desk.desk.find(job.id).state is JobState.RUNNING:
            site.desk.desk.cancel(job.id)

    site.validation._pace = lambda: Hooked(cancel)
    site.desk.work_off()
    assert site.desk.desk.find(job.id).state is JobState.CANCELLED
    assert site.store.runs(1)[0].state is RunState.STOPPED


def test_a_damaged_manifest_is_made_anew(site: Site) -> None:
    (manifest,) = (site.place / "manifests").glob("*.json")
    before = manifest.read_bytes()
    manifest.write_bytes(before[:-40])
    assert site.validate().state is JobState.DONE
    assert site.told() == ["content.manifest_renewed"]
    site.library.verify("LAB00001")
    assert site.library.manifest(site.library.find("LAB00001")) == before


def test_content_that_goes_meanwhile_is_no_damage(site: Site) -> None:
    gone: list[Content] = []

    def remove() -> None:
        if not gone:
            gone.append(site.library.remove("LAB00002"))

    site.validation._pace = lambda: Hooked(remove)
    assert site.validate().state is JobState.DONE
    assert site.told() == []


def test_a_root_that_is_not_there_is_told_and_its_content_is_not_called_damaged(tmp_path: Path) -> None:
    """As a disk that is not mounted: what lies elsewhere is compared all the same."""
    with open_library(tmp_path / "library") as library:
        library.add_root(tmp_path / "root", 0)
        library.set_root(0, active=False)
        publish_image(library, tmp_path, "AWAY0001", seed=33)
        library.set_root(0, active=True)
        library.set_root(1, active=False)
    (tmp_path / "root").rename(tmp_path / "unplugged")
    with open_library(tmp_path / "library") as library:
        site = Site(library, tmp_path)
        job = site.validate()
        assert (job.state, "root" in job.error) == (JobState.FAILED, True), job.error
        assert site.validation.stats.contents == 3
        assert (site.told(), library.damaged_blobs()) == ([], [])
        assert (site.store.runs(1)[0].state, site.store.validated_at()) == (RunState.INCOMPLETE, 0)
        site.store.close()
        site.desk.database.close()


def test_a_wrong_step_of_the_job_is_not_swallowed(site: Site) -> None:
    job = site.desk.desk.submit(JobOrder(JobKind.VALIDATE))
    run = site.desk.desk.claim()
    assert run is not None
    run.interrupt(JobCancelled("cancelled"))
    with pytest.raises(JobCancelled):
        site.validation(run)
    assert job.id == run.job.id


def main(folder: str, copies: str) -> None:
    """In a process of its own: validate everything."""
    with open_library(Path(folder) / "library") as library:
        store = ValidationStore(Path(folder) / "validation.db")
        repair = Repair(library, Shelf(*sorted(Path(copies).iterdir())))
        validation = Validation(
            library, store, repair, may_repair=lambda: True, tell=lambda event, fields: None, pace=no_rest
        )
        print("open", flush=True)
        validation(JobRun(Job(1, JobKind.VALIDATE, "", None, Priority.LOW, JobState.RUNNING, 0.0)))
        print("done", flush=True)


def test_killed_at_any_moment_it_mends_all_in_the_end(tmp_path: Path) -> None:
    rng: random.Random = random.Random(11)
    with open_library(tmp_path / "library") as library:
        site = Site(library, tmp_path)
        for content in (site.image, site.tree):
            for each in library.files(content):
                if each.size_bytes > 100:
                    site.harm(each.sha256, rng.randrange(each.size_bytes))
        site.store.close()
        site.desk.database.close()
    kills = 0
    with Prepared(__name__) as prepared:
        for attempt in range(60):
            after_s = 0.004 * 1.2**attempt + rng.random() * 0.004
            if "done" in prepared.run(tmp_path, site.copies, kill_after_s=after_s):
                break
            kills += 1
    assert kills >= 2
    with open_library(tmp_path / "library") as library:
        library.verify("LAB00001")
        library.verify("LAB00002")
