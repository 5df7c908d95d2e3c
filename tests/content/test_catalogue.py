# SPDX-License-Identifier: Apache-2.0
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

from dpd.content.catalogue import Catalogue, Content
from dpd.content.library import Library
from dpd.content.wim_xml import ImageSummary
from dpd.errors import ContentError

IMAGE = ImageSummary(1, "Windows „11“", "x64", 2**62, "Professional")
CONTENT = Content("P", 2**31 - 1, "wim", "Ünïcode.wim", 2**62, "ab" * 32, 7, (IMAGE,), 1795228375.018325)


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.put(CONTENT, "cd" * 32)
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        assert catalogue.contents() == [CONTENT]
        assert catalogue.find("P", None) == CONTENT
        assert catalogue.manifest_of(CONTENT) == "cd" * 32
        assert catalogue.used_files() == ({"ab" * 32}, {"cd" * 32})


def test_a_manifest_belongs_to_one_content_only(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.put(CONTENT, "cd" * 32)
        assert catalogue.manifest_of(replace(CONTENT, sha256="ef" * 32)) is None


def test_epochs_wrap_after_sixteen_bits(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        assert catalogue.next_epoch() == 1
        with closing(sqlite3.connect(tmp_path / "library.db")) as shell:
            shell.execute("UPDATE counter SET value = 65534")
            shell.commit()
        assert [catalogue.next_epoch() for _ in range(3)] == [65535, 0, 1]


def test_an_operator_may_look_while_the_library_is_open(library: Library, make_file: MakeFile, root: Path) -> None:
    with closing(sqlite3.connect(f"file:{root}/library.db?mode=ro", uri=True)) as shell:
        library.publish(make_file(), "P")
        assert shell.execute("SELECT package_id FROM content").fetchall() == [("P",)]


def test_a_catalogue_of_a_newer_dpd_is_refused(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "library.db")) as shell:
        shell.execute("PRAGMA user_version = 9")
    with pytest.raises(ContentError, match=r"library\.db: written by a newer dpd \(schema 9, expected at most 1\)"):
        Catalogue(tmp_path / "library.db")


def test_a_damaged_catalogue_is_told_and_the_lock_given_back(root: Path) -> None:
    Library(root, slab_bytes=SLAB_BYTES).close()
    good = (root / "library.db").read_bytes()
    (root / "library.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(ContentError, match=r"library\.db: file is not a database; check the disk, or restore"):
        Library(root, slab_bytes=SLAB_BYTES)
    (root / "library.db").write_bytes(good)
    Library(root, slab_bytes=SLAB_BYTES).close()


@pytest.mark.parametrize("emptied", [False, True], ids=["missing", "empty"])
def test_a_lost_catalogue_does_not_have_the_blobs_swept_away(root: Path, make_file: MakeFile, emptied: bool) -> None:
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(make_file(), "P")
    (root / "library.db").rename(root / "backup")
    if emptied:
        (root / "library.db").touch()
    for _ in range(2):  # the first try must not make a catalogue that the second one believes
        with pytest.raises(ContentError, match=r"library\.db: missing or empty, but there are blobs .*; restore it"):
            Library(root, slab_bytes=SLAB_BYTES)
    (root / "backup").rename(root / "library.db")
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.verify("P")
