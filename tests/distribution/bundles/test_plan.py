# SPDX-License-Identifier: Apache-2.0
"""What goes into a bundle, and in which order."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.distribution.stocked import blob_path, open_library, publish_image, publish_tree

from dpd.content import repository
from dpd.content.library import Library
from dpd.content.repository import Kind
from dpd.distribution.bundles.holdings import Holdings, holdings_of
from dpd.distribution.bundles.plan import Plan, choose, plan
from dpd.errors import ContentCorrupt, ContentError, ContentNotFound


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with open_library(tmp_path / "library") as library:
        publish_image(library, tmp_path)
        publish_tree(library, tmp_path)
        yield library


def kinds(made: Plan) -> list[Kind]:
    named = [repository.parse(each.file.path) for each in made.files]
    return [name.kind for name in named if name is not None]


def test_documents_come_before_blobs_and_each_blob_once(library: Library) -> None:
    made = plan(library, library.contents())
    assert made.packages == (("LAB00001", 1), ("LAB00002", 1))
    documents = [Kind.IDENTITY, Kind.NEWEST, Kind.NEWEST, Kind.DESCRIPTION, Kind.MANIFEST, Kind.DESCRIPTION]
    assert kinds(made) == [*documents, Kind.CHUNKS, Kind.CHUNKS, *[Kind.BLOB] * 4]
    assert len({each.file.path for each in made.files}) == len(made.files)


def test_every_file_is_what_the_plan_says(library: Library) -> None:
    made = plan(library, library.contents())
    for each in made.files:
        content = b"".join(each.pieces())
        assert (len(content), hashlib.sha256(content).hexdigest()) == (each.file.size_bytes, each.file.sha256)
    assert made.size_bytes == sum(each.file.size_bytes for each in made.files)


def test_the_newest_of_what_is_exported(library: Library, tmp_path: Path) -> None:
    publish_image(library, tmp_path, seed=7)
    made = plan(library, choose(library, ["LAB00001:1", "LAB00001:2"]))
    (newest,) = [each for each in made.files if each.file.path == repository.newest("LAB00001")]
    assert repository.decode_newest(b"".join(newest.pieces())) == 2
    assert kinds(made).count(Kind.NEWEST) == 1


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        ([], ["LAB00001 version 1", "LAB00001 version 2", "LAB00002 version 1"]),
        (["LAB00001"], ["LAB00001 version 2"]),
        (["LAB00001:1", "LAB00001:1", "LAB00002"], ["LAB00001 version 1", "LAB00002 version 1"]),
    ],
)
def test_what_is_meant(library: Library, tmp_path: Path, names: list[str], chosen: list[str]) -> None:
    publish_image(library, tmp_path, seed=7)
    assert [str(content) for content in choose(library, names)] == chosen


@pytest.mark.parametrize("name", ["", ":1", "LAB00001:", "LAB00001:0", "LAB00001:x", "../x", "a b"])
def test_what_is_no_name_of_a_package(library: Library, name: str) -> None:
    with pytest.raises(ContentError, match="expected a package ID"):
        choose(library, [name])


def test_a_package_that_is_not_there(library: Library) -> None:
    with pytest.raises(ContentNotFound):
        choose(library, ["LAB00009"])


def test_what_the_other_one_has_stays_here(library: Library, tmp_path: Path) -> None:
    image = library.find("LAB00001")
    has_it_all = plan(library, library.contents(), holdings_of(library))
    assert (has_it_all.packages, kinds(has_it_all), has_it_all.kept_back) == ((), [Kind.IDENTITY], 0)
    blobs_alone = Holdings(blobs=frozenset({image.sha256}))
    made = plan(library, library.contents(), blobs_alone)
    assert len(made.packages) == 2
    assert repository.blob(image.sha256) not in {each.file.path for each in made.files}
    assert made.kept_back == 1
    other = Holdings(packages=frozenset({("LAB00001", 1, 64 * "0")}))
    assert len(plan(library, library.contents(), other).packages) == 2  # other content under the same name


def test_nothing_damaged_leaves(library: Library, tmp_path: Path) -> None:
    image = library.find("LAB00001")
    path = blob_path(tmp_path / "library", image.sha256)
    path.chmod(0o600)
    with path.open("r+b") as file:
        file.seek(2_000_000)
        file.write(b"damage")
    (blob,) = [each for each in plan(library, [image]).files if each.file.path == repository.blob(image.sha256)]
    with pytest.raises(ContentCorrupt, match=f"blob {image.sha256} is damaged here"):
        b"".join(blob.pieces())
    path.write_bytes(b"short")
    with pytest.raises(ContentCorrupt, match="is damaged here"):
        b"".join(blob.pieces())


def test_what_changes_meanwhile_is_seen(library: Library, tmp_path: Path) -> None:
    image = library.find("LAB00001")
    made = plan(library, [image])
    library.set_tags("LAB00001", 1, ["room=12"])
    whole = [b"".join(each.pieces()) for each in made.files]  # as it was when the plan was made
    assert len(whole) == 6
    (tmp_path / "library" / "chunks" / image.sha256).write_bytes(b"dpdchnk1")
    (index,) = [each for each in made.files if each.file.path == repository.chunks(image.sha256)]
    with pytest.raises(ContentError, match="changed while it was exported"):
        b"".join(index.pieces())
    library.remove("LAB00001")
    (description,) = [each for each in made.files if each.file.path.endswith("description")]
    with pytest.raises(ContentNotFound):
        b"".join(description.pieces())
