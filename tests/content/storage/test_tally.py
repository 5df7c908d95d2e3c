# SPDX-License-Identifier: Apache-2.0
import hashlib
import random
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.content.conftest import SLAB_BYTES

from dpd.content.library import Library
from dpd.content.records import Totals
from dpd.content.stock import Ready
from dpd.content.storage.catalogue import Catalogue
from dpd.errors import ContentError

COUNT = (
    "SELECT (SELECT count(*) FROM content), (SELECT ifnull(sum(size_bytes), 0) FROM content),"
    " (SELECT count(*) FROM blob), (SELECT ifnull(sum(size_bytes), 0) FROM blob),"
    " (SELECT ifnull(sum(size_bytes), 0) FROM blob WHERE EXISTS (SELECT 1 FROM file WHERE file.blob = blob.id))"
)


def counted(root: Path) -> Totals:
    """Anew, by somebody else."""
    with closing(sqlite3.connect(root / "library.db")) as shell:
        contents, content_bytes, blobs, blob_bytes, used_bytes = shell.execute(COUNT).fetchone()
    return Totals(contents, content_bytes, blobs, blob_bytes, content_bytes - used_bytes)


def test_whatever_comes_and_goes_it_is_what_counting_finds(root: Path, tmp_path: Path) -> None:
    """Contents that share blobs, versions that replace nothing, garbage that gc takes, and a restart in between."""
    chance = random.Random(5)
    sources = [tmp_path / f"tree{number}" for number in range(4)]
    for number, source in enumerate(sources):
        for name in range(6):
            (source / str(name)).parent.mkdir(exist_ok=True)
            (source / str(name)).write_bytes(b"%d" % chance.randrange(8) * (1 + number % 2))
    library = Library(root, slab_bytes=SLAB_BYTES)

    def remove() -> None:
        if contents := library.contents():
            content = chance.choice(contents)
            library.remove(content.package_id, content.source_version)

    def leave_garbage() -> None:
        """As of content that came and was given up; some of it is in a tree that may be published next."""
        content = b"%d" % chance.randrange(12)
        part = library._stock.roots.folder(0).new_part()
        part.write_bytes(content)
        library._stock.adopt([Ready(part, hashlib.sha256(content).hexdigest(), len(content), 0)])

    changes: list[Callable[[], object]] = [
        lambda: library.publish(chance.choice(sources), chance.choice("PQ")),
        lambda: library.publish(chance.choice(sources) / "0", "FILE"),
        lambda: library.publish(sources[0], "SAME", 1),
        remove,
        leave_garbage,
        lambda: library.gc(delete=True),
    ]
    with library:
        for _ in range(60):
            chance.choice(changes)()
            assert library.totals() == counted(root)
        assert library.totals().saved_bytes > 0
    with Library(root, slab_bytes=SLAB_BYTES) as again:
        assert again.totals() == counted(root)


def test_a_change_that_fails_counts_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"content")
    with Library(root, slab_bytes=SLAB_BYTES) as library:
        library.publish(tmp_path / "file", "P")
        before = library.totals()
        monkeypatch.setattr("dpd.content.storage.catalogue._put_tags", _fail)
        with pytest.raises(ContentError):
            library.publish(tmp_path / "file", "Q")
        assert library.totals() == before == counted(root)


def _fail(*_: object) -> None:
    raise ContentError("no room for tags")


def test_nobody_who_asks_waits_for_a_change_that_runs(tmp_path: Path) -> None:
    """Status asks on the control loop, and publishing 20,000 files is one transaction."""
    with closing(Catalogue(tmp_path / "library.db")) as catalogue:
        inside, over = threading.Event(), threading.Event()

        def change() -> None:
            with catalogue._database.transaction():
                inside.set()
                over.wait(30)

        changing = threading.Thread(target=change)
        changing.start()
        assert inside.wait(30)
        told = list[Totals]()
        asking = threading.Thread(target=lambda: told.append(catalogue.totals()))
        asking.start()
        asking.join(20)
        over.set()
        changing.join()
        assert told == [Totals(0, 0, 0, 0, 0)]
        asking.join()
