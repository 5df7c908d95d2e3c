# SPDX-License-Identifier: Apache-2.0
"""Export and import as jobs of a real desk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.bundles.test_taking_in import assert_same
from tests.distribution.job_room import Desk
from tests.distribution.stocked import open_library, publish_image, publish_tree

from dpd.content import repository
from dpd.content.library import Library
from dpd.distribution.bundles import holdings
from dpd.distribution.bundles.holdings import holdings_of
from dpd.distribution.bundles.work import ExportWork, ImportWork, read_key, whole_file
from dpd.distribution.jobs.job import Job, JobKind, JobOrder, JobState, OptionValue
from dpd.errors import ContentError


class Site:
    """Two libraries, and a desk that exports from the first and imports into the second."""

    def __init__(self, folder: Path, origin: Library, library: Library) -> None:
        self.origin, self.library = origin, library
        self.trusted = {origin.public_key()}
        self.desk = Desk(
            folder / "distribution.db",
            {
                JobKind.EXPORT: lambda run: ExportWork(self.origin, self.desk.told)(run),
                JobKind.IMPORT: lambda run: ImportWork(self.library, lambda: self.trusted, self.desk.told)(run),
            },
        )

    def run(self, kind: JobKind, **options: OptionValue) -> Job:
        job = self.desk.desk.submit(JobOrder(kind, options=options))
        self.desk.work_off()
        return self.desk.desk.find(job.id)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with open_library(tmp_path / "origin") as origin, open_library(tmp_path / "library") as library:
        publish_image(origin, tmp_path)
        publish_tree(origin, tmp_path)
        site = Site(tmp_path, origin, library)
        yield site
        site.desk.database.close()


def test_a_bundle_goes_from_one_to_the_other(site: Site, tmp_path: Path) -> None:
    bundle = tmp_path / "site.dpdbundle"
    done = site.run(JobKind.EXPORT, path=str(bundle))
    assert (done.state, done.message) == (JobState.DONE, f"2 packages in {bundle.stat().st_size} bytes")
    assert done.done_bytes == done.total_bytes == bundle.stat().st_size
    done = site.run(JobKind.IMPORT, path=str(bundle))
    assert done.state is JobState.DONE, done.error
    assert done.message.startswith("LAB00001 version 1, LAB00002 version 1 imported, nothing was here; ")
    for package_id in ("LAB00001", "LAB00002"):
        assert_same(site.library, site.origin, package_id)
    assert site.desk.told.names("bundle.") == ["bundle.exported"]
    assert site.desk.told.names("content.") == ["content.imported"] * 2


def test_chosen_packages_that_the_other_one_lacks(site: Site, tmp_path: Path) -> None:
    site.run(JobKind.EXPORT, path=str(tmp_path / "one"), packages="LAB00001")
    site.run(JobKind.IMPORT, path=str(tmp_path / "one"))
    assert [content.package_id for content in site.library.contents()] == ["LAB00001"]
    (tmp_path / "have.json").write_bytes(holdings.encode(holdings_of(site.library)))
    done = site.run(
        JobKind.EXPORT,
        path=str(tmp_path / "rest"),
        packages="LAB00001:1,LAB00002",
        since=str(tmp_path / "have.json"),
    )
    assert done.message.startswith("1 packages in ")
    site.run(JobKind.IMPORT, path=str(tmp_path / "rest"))
    assert_same(site.library, site.origin, "LAB00002")


def test_a_folder_for_a_web_server(site: Site, tmp_path: Path) -> None:
    done = site.run(JobKind.EXPORT, repository=str(tmp_path / "web"), packages="LAB00001")
    assert (done.state, done.message) == (JobState.DONE, "6 files written, 0 were there")
    assert (tmp_path / "web" / repository.manifest("LAB00001", 1)).is_file()
    assert site.run(JobKind.EXPORT, repository=str(tmp_path / "web"), packages="LAB00001").message.startswith("0 files")


def test_the_key_of_a_stranger_has_to_be_told(site: Site, tmp_path: Path) -> None:
    bundle, key = str(tmp_path / "bundle"), site.origin.public_key().hex()
    site.run(JobKind.EXPORT, path=bundle)
    site.trusted = set()
    done = site.run(JobKind.IMPORT, path=bundle)
    assert (done.state, f"--key {key}" in done.error) == (JobState.FAILED, True)
    assert site.run(JobKind.IMPORT, path=bundle, key=64 * "0").state is JobState.FAILED
    assert site.run(JobKind.IMPORT, path=bundle, key=key).state is JobState.DONE


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (JobKind.EXPORT, {}, "expected one of the options path and repository"),
        (JobKind.EXPORT, {"path": "/a", "repository": "/b"}, "expected one of the options path and repository"),
        (JobKind.EXPORT, {"path": "a"}, "expected an absolute path"),
        (JobKind.EXPORT, {"path": "/nowhere/at/all"}, "/nowhere/at/all: No such file or directory; name a file"),
        (JobKind.EXPORT, {"path": "/tmp", "packages": "LAB00009"}, "'LAB00009' is not in the library"),
        (JobKind.EXPORT, {"path": "/tmp/x", "since": "/nowhere"}, "expected what `dpd bundle holdings` printed"),
        (JobKind.IMPORT, {}, "expected the option path"),
        (JobKind.IMPORT, {"path": "/nowhere"}, "/nowhere: No such file or directory; give the path as"),
        (JobKind.IMPORT, {"path": "/nowhere", "key": "abc"}, "expected 64 lower-case hexadecimal digits"),
    ],
)
def test_what_cannot_be_is_told(site: Site, kind: JobKind, options: dict[str, OptionValue], words: str) -> None:
    done = site.run(kind, **options)
    assert (done.state, words in done.error) == (JobState.FAILED, True), done.error


def test_what_is_no_bundle_is_not_replaced_by_one(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "distribution.db"
    before = path.read_bytes()
    done = site.run(JobKind.EXPORT, path=str(path))
    assert (done.state, path.read_bytes()) == (JobState.FAILED, before)
    assert done.error == f"{path}: is there and no bundle; name a new file, or remove it first"
    (tmp_path / "again").touch()
    for _ in range(2):
        assert site.run(JobKind.EXPORT, path=str(tmp_path / "again")).state is JobState.DONE


def test_what_is_no_file_holds_nobody_up(site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        for options in ({"path": str(tmp_path / "out"), "since": str(path)}, {"path": str(path)}):
            kind = JobKind.EXPORT if "since" in options else JobKind.IMPORT
            done = site.run(kind, **options)
            assert (done.state, f"{path}: no regular file" in done.error) == (JobState.FAILED, True), done.error


def test_a_list_without_end_is_not_read_to_it(site: Site, tmp_path: Path) -> None:
    with (tmp_path / "list").open("wb") as file:
        file.truncate(1 << 40)
    done = site.run(JobKind.EXPORT, path=str(tmp_path / "out"), since=str(tmp_path / "list"))
    assert (done.state, "larger than " in done.error) == (JobState.FAILED, True), done.error


def test_a_file_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    def write(content: bytes, error: Exception | None = None) -> None:
        with whole_file(tmp_path / "bundle") as file:
            file.write(content)
            if error is not None:
                raise error

    write(b"first")
    with pytest.raises(ContentError, match="nobody has it"):
        write(b"half", ContentError("nobody has it"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("bundle", b"first")]


def test_no_key_is_no_key() -> None:
    assert read_key("") == set()
    assert read_key(64 * "a") == {bytes.fromhex(64 * "a")}
