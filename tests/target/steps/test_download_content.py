# SPDX-License-Identifier: Apache-2.0
"""Content is kept where there is room, and fetched once."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.target.point import opened_point
from tests.target.stage import Stage

from dpd.target.images import keeping
from dpd.target.steps import download_content
from dpd.target.work.step_failure import StepFailed

DO = 'do = "download_content"\npackage = "LAB00001"\n'


async def test_without_a_volume_it_is_kept_in_memory_and_not_fetched_again(tmp_path: Path) -> None:
    async with opened_point(tmp_path, size_bytes=3_000_000) as point:
        stage = Stage(tmp_path / "stage", url=point.url, public_key=point.library.public_key())
        work = stage.work(DO + 'variable = "Where"')
        assert await asyncio.to_thread(download_content.run, work) == "LAB00001 version 1, 2.9 MiB, in memory"
        place = Path(stage.variables.get("Where"))
        assert place.read_bytes() == point.image.read_bytes()
        fetched = len(stage.progress)
        await asyncio.to_thread(download_content.run, work)
        assert len(stage.progress) == fetched


async def test_a_folder_is_kept_as_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "package"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub/file").write_text("x")
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(folder, "TREE1")
        stage = Stage(tmp_path / "stage", url=point.url)
        await asyncio.to_thread(
            download_content.run, stage.work('do = "download_content"\npackage = "TREE1"\nvariable = "Where"')
        )
        assert (Path(stage.variables.get("Where")) / "sub/file").read_text() == "x"


async def test_a_killed_run_goes_on_with_what_it_had(tmp_path: Path) -> None:
    async with opened_point(tmp_path, size_bytes=20_000_000) as point:
        stage = Stage(tmp_path / "stage", url=point.url)

        class Killed(BaseException):
            pass

        def kill(done: int, total: int, way: str) -> None:
            raise Killed

        work = stage.work(DO)
        work.progress = kill
        with pytest.raises(Killed):
            await asyncio.to_thread(download_content.run, work)
        (journal,) = (stage.home / "content" / keeping.FOLDER).glob("*.journal")
        assert "v 0" in journal.read_text()  # the slab that came before
        await asyncio.to_thread(download_content.run, stage.work(DO))
        (received,) = stage.state.received
        assert (stage.home / "content" / received.path).read_bytes() == point.image.read_bytes()


async def test_a_volume_without_room_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SPARE_BYTES", 1 << 50)
    monkeypatch.setattr(keeping, "memory", lambda: {"MemAvailable": 0})
    async with opened_point(tmp_path, size_bytes=1000) as point:
        stage = Stage(tmp_path / "stage", url=point.url)
        stage.add_folder("root")
        with pytest.raises(StepFailed, match="0 bytes are free, 1000 are needed"):
            await asyncio.to_thread(download_content.run, stage.work(DO + 'volume = "root"'))
        with pytest.raises(StepFailed, match="have no room on any volume and none in memory"):
            await asyncio.to_thread(download_content.run, stage.work(DO))
