# SPDX-License-Identifier: Apache-2.0
import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES, MakeFile

import dpd
from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Library
from dpd.content.records import BlobRow, BlobState, Content, ContentQuery, FileEntry, Place, Totals
from dpd.content.storage.catalogue import Catalogue
from dpd.content.wim.xml import ImageSummary
from dpd.errors import ContentError

IMAGE = ImageSummary(1, "Windows „11“", "x64", 2**62, "Professional")
CONTENT = Content(
    "P",
    2**31 - 1,
    ContentKind.OS_IMAGE,
    ContentFormat.WIM,
    "Ünïcode.wim",
    2**62,
    "ab" * 32,
    7,
    1,
    (IMAGE,),
    ("lab", "language=de-DE"),
    1795228375.018325,
)
FILE = FileEntry("Ünïcode.wim", 2**62, "ab" * 32)
BLOB = BlobRow("ab" * 32, 2**62, 0, BlobState.HERE)


def test_a_row_comes_back_as_it_was(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.put(CONTENT, "cd" * 32, [FILE], adopted=[BLOB])
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        assert catalogue.contents() == catalogue.page(None, 10, ContentQuery()) == [CONTENT]
        assert catalogue.find("P", None) == CONTENT
        assert catalogue.manifest_of(CONTENT) == "cd" * 32
        assert catalogue.files(CONTENT) == [FILE]
        assert catalogue.file(CONTENT, FILE.path) == BLOB
        assert catalogue.file(CONTENT, "other") is None
        assert catalogue.users_of(BLOB.sha256) == [CONTENT]
        assert catalogue.totals() == Totals(1, 2**62, 1, 2**62, 0)


def test_a_manifest_belongs_to_one_content_only(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.put(CONTENT, "cd" * 32, [FILE], adopted=[BLOB])
        assert catalogue.manifest_of(replace(CONTENT, sha256="ef" * 32)) is None


def test_a_content_of_a_blob_that_is_not_here_does_not_begin_to_exist(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        with pytest.raises(ContentError, match="P version 2147483647: 1 of its blobs are not in the library"):
            catalogue.put(CONTENT, "", [FILE])
        assert catalogue.contents() == []


def test_equal_files_are_counted_once_and_saved_otherwise(tmp_path: Path) -> None:
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.blobs.add([BlobRow("ab" * 32, 100, 0, BlobState.HERE)])
        two = replace(CONTENT, format=ContentFormat.TREE, size_bytes=200, file_count=2)
        catalogue.put(two, "", [FileEntry("a", 100, "ab" * 32), FileEntry("b/c", 100, "ab" * 32)], ["empty"])
        assert catalogue.directories(two) == ("empty",)
        assert catalogue.totals() == Totals(1, 200, 1, 100, 100)
        assert catalogue.remove(two) == [Place("ab" * 32, 0)]
        assert catalogue.totals() == Totals(0, 0, 0, 0, 0)
        assert catalogue.blobs.loose() == [Place("ab" * 32, 0)]


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Catalogue]:
    """Packages A to F with versions 1 and 2, of alternating kinds and tags."""
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        catalogue.blobs.add([BLOB])
        for n, package_id in enumerate("ABCDEF"):
            for version in (1, 2):
                kind = (ContentKind.PACKAGE, ContentKind.OS_IMAGE)[n % 2]
                tags = ("lab", f"language={'de' if version == 1 else 'en'}")
                content = replace(CONTENT, package_id=package_id, source_version=version, kind=kind, tags=tags)
                catalogue.put(replace(content, name=f"Name{n}.wim"), "", [FILE])
        yield catalogue


def test_pages_follow_each_other(many: Catalogue) -> None:
    found, after = list[Content](), None
    while page := many.page(after, 5, ContentQuery()):
        assert len(page) == (5 if len(found) < 10 else 2)
        found += page
        after = (page[-1].package_id, page[-1].source_version)
    assert found == many.contents()
    assert len(found) == 12
    assert many.versions() == {(content.package_id, content.source_version) for content in found}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (ContentQuery(kind=ContentKind.OS_IMAGE), "B1 B2 D1 D2 F1 F2"),
        (ContentQuery(newest=True), "A2 B2 C2 D2 E2 F2"),
        (ContentQuery(text="nAmE3"), "D1 D2"),
        (ContentQuery(text="f"), "F1 F2"),
        (ContentQuery(tags=("language=de",)), "A1 B1 C1 D1 E1 F1"),
        (ContentQuery(tags=("language", "lab"), text="a", newest=True, kind=ContentKind.PACKAGE), "A2 C2 E2"),
        (ContentQuery(tags=("lang",)), ""),
        (ContentQuery(tags=("language=d",)), ""),
        (ContentQuery(text="%"), ""),
    ],
)
def test_a_query_finds_what_it_names(many: Catalogue, query: ContentQuery, found: str) -> None:
    named = [f"{content.package_id}{content.source_version}" for content in many.page(None, 100, query)]
    assert " ".join(named) == found


def test_other_tags_replace_those_before(many: Catalogue) -> None:
    content = many.contents()[0]
    assert many.set_tags(content, ["new"])
    assert many.page(None, 10, ContentQuery(tags=("new",))) == [replace(content, tags=("new",))]
    assert many.remove(content) == []  # the others need its blob
    assert not many.set_tags(content, ["gone"])


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
    with pytest.raises(ContentError, match=r"library\.db: written by a newer dpd \(schema 9, expected at most 3\)"):
        Catalogue(tmp_path / "library.db")


def test_a_damaged_catalogue_is_told_and_the_lock_given_back(root: Path) -> None:
    Library(root, slab_bytes=SLAB_BYTES).close()
    good = (root / "library.db").read_bytes()
    (root / "library.db").write_bytes(b"garbage" * 1000)
    with pytest.raises(ContentError, match=r"library\.db: file is not a database; check the disk, or restore"):
        Library(root, slab_bytes=SLAB_BYTES)
    (root / "library.db").write_bytes(good)
    Library(root, slab_bytes=SLAB_BYTES).close()


OLD_SCHEMA = """
CREATE TABLE content (
    package_id TEXT NOT NULL, source_version INTEGER NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL,
    size_bytes INTEGER NOT NULL, sha256 TEXT NOT NULL, slab_count INTEGER NOT NULL, images TEXT NOT NULL,
    added_at REAL NOT NULL, manifest TEXT NOT NULL, PRIMARY KEY (package_id, source_version)
) WITHOUT ROWID;
CREATE INDEX content_by_blob ON content (sha256);
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""


def test_a_library_of_the_dpd_before_is_taken_over_in_place(root: Path, make_file: MakeFile) -> None:
    """Its rows are put back into the tables of schema 1, beside the blobs and manifests that have not changed since."""
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        one = library.publish(make_file(), "P")
        two = library.publish(make_file("same.wim.bin"), "Q", 3)
        library.next_epoch()
        manifests = [library.manifest(one), library.manifest(two)]
    images = json.dumps([[1, "one", "x64", 5]])
    with closing(sqlite3.connect(root / "library.db")) as shell:
        names = [row[0] for row in shell.execute("SELECT manifest FROM content ORDER BY package_id")]
    for path in root.glob("library.db*"):
        path.unlink()
    with closing(sqlite3.connect(root / "library.db")) as shell:
        shell.executescript(OLD_SCHEMA)
        for content, kind, name in ((one, "raw", names[0]), (two, "wim", names[1])):
            row: tuple[object, ...] = (
                content.package_id,
                content.source_version,
                kind,
                content.name,
                content.size_bytes,
                content.sha256,
            )
            row += (content.slab_count, images if kind == "wim" else "[]", content.added_at, name)
            shell.execute("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        shell.execute("INSERT INTO counter VALUES ('epoch', 41)")
        shell.commit()
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        image = ImageSummary(1, "one", "x64", 5)
        wim = replace(two, format=ContentFormat.WIM, kind=ContentKind.OS_IMAGE, images=(image,))
        assert library.contents() == [one, wim]
        assert [library.manifest(content) for content in library.contents()] == manifests
        assert library.totals() == Totals(2, 2 * one.size_bytes, 1, one.size_bytes, one.size_bytes)
        assert library.next_epoch() == 42
        library.verify("P")
        library.verify("Q")
        library.remove("P")
        library.verify("Q")


MIGRATE = """
import sys
from pathlib import Path
from dpd.content.storage.catalogue import Catalogue
print("go", flush=True)
Catalogue(Path(sys.argv[1])).close()
"""


def test_a_kill_while_an_older_library_is_taken_over_leaves_the_old_schema_or_the_new(tmp_path: Path) -> None:
    """Twelve moments: from before its first statement to behind its last."""
    old, rng = tmp_path / "old.db", random.Random(1)
    with closing(sqlite3.connect(old)) as shell:
        shell.executescript(OLD_SCHEMA)
        rows = ((f"P{n}", 1, "raw", "x", 5, f"{n % 9000:064x}", 1, "[]", 0.0, f"{n:064x}") for n in range(10_000))
        shell.executemany("INSERT INTO content VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        shell.commit()
    versions = []
    for turn in range(12):
        path = tmp_path / f"{turn}.db"
        shutil.copy(old, path)
        with subprocess.Popen(
            [sys.executable, "-c", MIGRATE, path],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(dpd.__file__).parents[1])},
        ) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == b"go\n"
            time.sleep(rng.uniform(0.0, 0.02) * turn)
            child.kill()
        with closing(sqlite3.connect(path)) as shell:
            versions.append(shell.execute("PRAGMA user_version").fetchone()[0])
            assert shell.execute("SELECT count(*) FROM content").fetchone()[0] == 10_000
        with closing(Catalogue(path)) as catalogue:
            assert (catalogue.totals().contents, catalogue.totals().blobs) == (10_000, 9_000)
    assert set(versions) <= {1, 2, 3}


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
