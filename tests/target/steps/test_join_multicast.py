# SPDX-License-Identifier: Apache-2.0
"""Multicast first, HTTP where it does not get through and may be taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.target.point import opened_point
from tests.target.stage import Stage

from dpd.errors import DpdError
from dpd.service.receiving.receiver import open_group
from dpd.target.receiving import reception
from dpd.target.steps import join_multicast
from dpd.target.work.content import MulticastMissing

DO = 'do = "join_multicast"\npackage = "LAB00001"\n'


async def test_it_comes_by_multicast(tmp_path: Path) -> None:
    async with opened_point(tmp_path) as point:
        stage = Stage(tmp_path / "stage", url=point.url, public_key=point.library.public_key())
        await asyncio.to_thread(join_multicast.run, stage.work(DO + 'variable = "Where"\nfall_back = false'))
        assert Path(stage.variables.get("Where")).read_bytes() == point.image.read_bytes()
        assert stage.progress[-1][2] == "by multicast"
        assert "LAB00001 joined" in stage.told()


async def test_where_no_session_can_be_joined_http_is_taken_after_the_patience(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: object) -> None:
        raise DpdError("no session")

    monkeypatch.setattr(reception.Reception, "run", refuse)
    async with opened_point(tmp_path) as point:
        stage = Stage(tmp_path / "stage", url=point.url)
        await asyncio.to_thread(join_multicast.run, stage.work(DO + 'variable = "Where"'))
        assert Path(stage.variables.get("Where")).read_bytes() == point.image.read_bytes()
        assert "multicast failed, HTTP is taken: no session" in stage.told()
        with pytest.raises(DpdError, match="no session"):
            await asyncio.to_thread(
                join_multicast.run, Stage(tmp_path / "b", url=point.url).work(DO + "fall_back = false")
            )


async def test_by_multicast_alone_nothing_is_taken_over_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the group arrives here: its socket listens elsewhere."""

    def deaf(group: str, port: int, address: str, source: str) -> object:
        return open_group("239.255.77.77", 9, address, source)

    monkeypatch.setattr(reception, "open_group", deaf)
    async with opened_point(tmp_path) as point:
        stage = Stage(tmp_path / "stage", url=point.url)
        with pytest.raises(MulticastMissing, match="no multicast arrived for 3 s, and fall_back is false"):
            await asyncio.to_thread(join_multicast.run, stage.work(DO + "fall_back = false"))
        assert stage.state.received == []
