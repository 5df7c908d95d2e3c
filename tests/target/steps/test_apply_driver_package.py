# SPDX-License-Identifier: Apache-2.0
"""Drivers are copied where the new system finds them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.target.point import opened_point
from tests.target.stage import Stage

from dpd.target.steps import apply_driver_package


async def test_every_file_of_the_package_is_there_and_a_second_time_fetches_none(tmp_path: Path) -> None:
    folder = tmp_path / "drivers"
    (folder / "net/x64").mkdir(parents=True)
    (folder / "net/x64/nic.inf").write_text("[Version]\n")
    (folder / "net/x64/nic.sys").write_bytes(bytes(5_000_000))
    async with opened_point(tmp_path, size_bytes=1000) as point:
        point.library.publish(folder, "DRV1")
        stage = Stage(tmp_path / "stage", url=point.url, public_key=point.library.public_key())
        root = stage.add_folder("root")
        work = stage.work('do = "apply_driver_package"\npackage = "DRV1"\nvolume = "root"')
        assert await asyncio.to_thread(apply_driver_package.run, work) == "DRV1 version 1: 2 files, 4.8 MiB"
        place = root / "drivers/DRV1/net/x64/nic.sys"
        assert place.read_bytes() == bytes(5_000_000)
        assert (root / "drivers/DRV1/net/x64/nic.inf").read_text() == "[Version]\n"
        before = place.stat().st_ino
        place.with_name("nic.inf").write_text("[damaged]")
        await asyncio.to_thread(apply_driver_package.run, work)
        assert place.stat().st_ino == before
        assert (root / "drivers/DRV1/net/x64/nic.inf").read_text() == "[Version]\n"
