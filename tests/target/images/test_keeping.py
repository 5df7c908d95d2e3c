# SPDX-License-Identifier: Apache-2.0
"""Where content is kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.target.stage import MIB, Stage

from dpd.target.images import keeping
from dpd.target.work.state import Received, Volume
from dpd.target.work.step_failure import StepFailed
from dpd.target.work.work import Work

STEP = 'do = "download_content"\npackage = "P"\n'


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Volumes with so many MiB free, and 100 MiB of memory."""
    stage = Stage(tmp_path)
    free = {"small": 10, "large": 500, "windows": 900, "esp": 5000}
    for name, format in (("small", "ext4"), ("large", "btrfs"), ("windows", "ntfs"), ("esp", "fat32")):
        stage.state.volumes.append(Volume(name, "/dev/x", 1, "/dev/x1", format=format))
    stage.state.volumes.append(Volume("swap", "/dev/x", 1, "/dev/x1", format="swap"))
    monkeypatch.setattr(keeping, "_free_bytes", lambda work, name: free[name.lower()] * MIB)
    monkeypatch.setattr(keeping, "memory", lambda: {"MemAvailable": 100 * MIB})
    return stage.work(STEP)


@pytest.mark.parametrize(
    ("size_mib", "unless", "place"),
    [
        (5, "", "esp"),  # the most room
        (5, "esp", "large"),
        (600, "esp", "windows"),  # NTFS last, since it is the likeliest to be written as a whole
        (600, "windows", "esp"),
        (5000, "esp", None),
        (4500, "", None),  # FAT has no file of 4 GiB
    ],
)
def test_the_place_with_room_is_chosen(work: Work, size_mib: int, unless: str, place: str | None) -> None:
    assert keeping.choose(work, size_mib * MIB, unless=unless) == place


def test_memory_is_taken_where_no_plain_volume_has_room(work: Work) -> None:
    work.state.volumes[:] = [each for each in work.state.volumes if each.format == "ntfs"]
    assert keeping.choose(work, 50 * MIB) == ""
    assert keeping.choose(work, 70 * MIB) == "windows"
    assert keeping.choose(work, 70 * MIB, unless="windows") is None


def test_a_place_that_was_wished_is_taken_or_told(work: Work) -> None:
    assert keeping.choose(work, 5 * MIB, "SMALL") == "small"
    with pytest.raises(StepFailed, match="10485760 bytes are free, 20971520 are needed"):
        keeping.choose(work, 20 * MIB, "small")


def test_what_was_received_is_found_by_its_version_or_any(work: Work) -> None:
    received = Received("P", 3, "x")
    work.state.received.append(received)
    assert keeping.find(work, "P", 0) is received
    assert keeping.find(work, "P", 3) is received
    assert keeping.find(work, "P", 2) is None
    assert keeping.find(work, "Q", 0) is None


def test_what_was_applied_is_dropped_with_its_folder(tmp_path: Path) -> None:
    work = Stage(tmp_path).work(STEP)
    place = work.room / keeping.FOLDER
    place.mkdir(parents=True)
    (place / "a").write_text("x")
    (place / "b").mkdir()
    (place / "b" / "file").write_text("x")
    a, b = Received("A", 1, f"{keeping.FOLDER}/a"), Received("B", 1, f"{keeping.FOLDER}/b")
    work.state.received += [a, b]
    keeping.drop(work, a)
    assert place.exists()
    keeping.drop(work, b)
    assert not place.exists()
    assert work.state.received == []
