# SPDX-License-Identifier: Apache-2.0
"""What is true now, out of those who know it: what was cured is gone, whatever history says."""

from __future__ import annotations

from pathlib import Path

from tests.control.distributing import Point

from dpd.control.operations.verbs import Operations
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.spool import Spool

PATIENCE_S = 30.0


async def test_content_is_told_by_package_and_counted(tmp_path: Path) -> None:
    point = Point(tmp_path / "point")
    image = tmp_path / "lab.img"
    image.write_bytes(b"x" * 1000)
    for package_id in ("LAB1", "LAB2", "LAB3"):
        point.library.publish(image, package_id)
    async with point.open():
        state = await point.operations.now.now(2, 10)
        assert [(each.package_id, each.state, each.versions) for each in state.packages] == [
            ("LAB1", "installed", (1,)),
            ("LAB2", "installed", (1,)),
        ]
        assert state.package_states["installed"] == 3
        assert (state.maintenance, state.position, state.open_jobs) == ("", "", {})
        await point.operations.jobs.set_maintenance("new disks", "ada")
        assert (await point.operations.now.now(0, 10)).maintenance == "new disks"
        await point.operations.jobs.set_maintenance("", "ada")
        state = await point.operations.now.now(0, 10)
        assert (state.maintenance, state.packages) == ("", ())


async def test_a_point_without_distribution_has_the_rest(
    operations: Operations, journal: BootJournal, spool: Spool
) -> None:
    spool.put("job.failed", {})
    assert spool.flush(PATIENCE_S)
    for number in range(5):
        journal.note(f"52:54:00:00:00:0{number}", "discover", client_class="PXEClient", client_arch="bios", secs=0)
    state = await operations.now.now(10, 3)
    assert (state.package_states, state.packages, state.open_jobs) == ({}, (), {})
    assert (state.machines, len(state.boots)) == (5, 3)
    assert state.position == f"{spool.epoch}-1"
    operations.site.set_maintenance("cables", "ada")
    assert (await operations.now.now(10, 3)).pxe_maintenance == "cables"
