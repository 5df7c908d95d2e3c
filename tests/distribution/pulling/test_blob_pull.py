# SPDX-License-Identifier: Apache-2.0
"""A pull that is killed at any point goes on: what was verified stays, and at most a slab or a small file comes twice."""

from __future__ import annotations

import os
import random
from pathlib import Path

from tests.distribution import killed_pull
from tests.distribution.origin import SLAB_BYTES, Origin, opened, repository_files
from tests.prepared import Prepared

from dpd.content.library import Library

KILLS = int(os.environ.get("DPD_KILLS", "8"))  # 200 for the long run
PAUSE_S = 0.003  # at the origin behind each 64 KiB
DOCUMENT_BYTES = 100_000  # description, manifest and index come anew with each try
IN_FLIGHT_BYTES = 1 << 20  # in the sockets, since the origin is slower than the pull
SMALL_S = 2.0  # how long small files wait to be made durable together
TREE_KILLED_S = 4.5


def _publish(folder: Path, source: Path) -> tuple[dict[str, bytes], int]:
    with Library(folder, slab_bytes=SLAB_BYTES) as library:
        content = library.publish(source, "LAB00001", 1)
        return repository_files(library, content), content.size_bytes


def _pull_and_kill(prepared: Prepared, folder: Path, url: str, after_s: float) -> bool:
    """Whether it ended before it was killed."""
    return "came" in prepared.run(folder, url, "LAB00001", kill_after_s=after_s)


def test_kill_9_at_random_points_and_the_next_try_goes_on(tmp_path: Path) -> None:
    rng = random.Random(7)
    source = tmp_path / "source"
    source.write_bytes(rng.randbytes(24 << 20))
    files, size = _publish(tmp_path / "publisher", source)
    with Origin(files) as origin, Prepared(killed_pull.__name__) as prepared:
        origin.pause_s = PAUSE_S
        kills = 0
        for _ in range(KILLS):
            kills += not _pull_and_kill(prepared, tmp_path / "site", origin.url, rng.uniform(0.0, 0.5))
        _finish(tmp_path / "site", origin.url, size)
        assert kills >= 3
        twice = origin.sent_bytes - size - sum(len(body) for path, body in files.items() if "/blobs/" not in path)
        assert twice <= kills * (SLAB_BYTES + IN_FLIGHT_BYTES + DOCUMENT_BYTES)


def test_kill_9_in_a_tree_costs_what_came_in_two_seconds(tmp_path: Path) -> None:
    """Small files are made durable together, so that a tree of thousands does not take an fsync for each."""
    rng = random.Random(7)
    source = tmp_path / "source"
    source.mkdir()
    for number in range(1200):
        (source / f"{number:04}.cab").write_bytes(rng.randbytes(rng.randrange(1, 6000)))
    files, size = _publish(tmp_path / "publisher", source)
    with Origin(files) as origin, Prepared(killed_pull.__name__) as prepared:
        origin.pause_s = 0.02  # 200 files in a second: six for all
        ended = _pull_and_kill(prepared, tmp_path / "site", origin.url, TREE_KILLED_S)
        first = len(origin.paths("/blobs/"))
        for _ in range(KILLS // 4):
            ended |= _pull_and_kill(prepared, tmp_path / "site", origin.url, rng.uniform(0.0, 0.3))
        before, origin.pause_s = len(origin.paths("/blobs/")), 0.0
        _finish(tmp_path / "site", origin.url, size)
        assert not ended
        again = len(origin.paths("/blobs/")) - len(set(origin.paths("/blobs/")))
        assert again <= first * (SMALL_S + 0.7) / TREE_KILLED_S + (before - first) + 8


def _finish(folder: Path, url: str, size: int) -> None:
    """The last try brings all, all of it is right, and nothing is left over."""
    with opened(folder, {"hq": url}, stall_timeout_s=20.0) as site:
        content = site.pull()
        assert site.library.damage(content) == []
        assert content.size_bytes == size
        report = site.library.gc()
        assert (report.garbage_blobs, report.orphan_files, report.missing) == (0, 0, ())
