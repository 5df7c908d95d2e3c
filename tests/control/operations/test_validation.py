# SPDX-License-Identifier: Apache-2.0
"""What is told of validation, over a real distribution."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.control.distributing import Point

from dpd.control.operations.validation import ValidationOperations
from dpd.distribution.jobs.job import JobKind, JobOrder
from dpd.distribution.validation.store import DamageState, RunState
from dpd.errors import Unavailable


async def test_before_and_after(tmp_path: Path) -> None:
    point = Point(tmp_path / "state")
    point.publish()
    async with point.open():
        before = await point.operations.validation.status(10)
        assert (before.validated_at, before.damaged, before.runs) == (0, 0, ())
        assert before.next_at > 0
        await point.operations.jobs.submit(JobOrder(JobKind.VALIDATE))
        async with asyncio.timeout(20):
            while not (await point.operations.validation.status(10)).validated_at:
                await asyncio.sleep(0.02)
        after = await point.operations.validation.status(10)
    (run,) = after.runs
    assert (run.state, run.contents, run.read_bytes) == (RunState.DONE, 1, 9000)


async def test_damage_is_what_is_so_now(tmp_path: Path) -> None:
    """A list that was read when it was published again shows that, without another validation."""
    point = Point(tmp_path / "state")
    point.publish()
    image = point.library.find("LAB00001")
    blob = point.folder / "library" / "blobs" / image.sha256[:2] / image.sha256
    blob.write_bytes(b"damage")
    async with point.open():
        await point.operations.jobs.submit(JobOrder(JobKind.VALIDATE))
        async with asyncio.timeout(20):
            while not (await point.operations.validation.status(10)).damaged:
                await asyncio.sleep(0.02)
        (found,) = await point.operations.validation.damage(10)
        assert (found.state, found.reason, found.package_id) == (DamageState.DAMAGED, "size", "LAB00001")
        point.library.publish(point.folder / "LAB00001.img", "LAB00001", 1)
        (found,) = await point.operations.validation.damage(10)
        assert found.state is DamageState.REPAIRED
        assert (await point.operations.validation.status(10)).damaged == 0


async def test_without_distribution_it_says_so() -> None:
    async def never(*_: object) -> None: ...

    with pytest.raises(Unavailable, match="runs without distribution"):
        await ValidationOperations(None, never).status(1)
