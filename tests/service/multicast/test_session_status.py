# SPDX-License-Identifier: Apache-2.0
"""A session as operators see it: streams apart, counts together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.service.multicast_site import PACKAGE, PATIENCE_S, SETTINGS, Site, write_image

from dpd.content.library import Library
from dpd.protocol.multicast.geometry import SLAB_BYTES, SYMBOL_BYTES
from dpd.service.multicast.session_status import SessionStatus


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with Library(tmp_path / "library", slab_bytes=SLAB_BYTES) as library:
        library.publish(write_image(tmp_path / "image"), PACKAGE)
        site = Site(library, replace(SETTINGS, rate_mbit_s=20.0, member_timeout_s=60.0))
        yield site
        await site.service.stop()


def only(site: Site) -> SessionStatus:
    (status,) = site.service.sessions()
    return status


async def sent(site: Site, streams: int = 1) -> SessionStatus:
    deadline = time.monotonic() + PATIENCE_S
    while len(only(site).streams) < streams or not all(stream.datagrams_sent for stream in only(site).streams):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
    return only(site)


async def test_a_session_is_idle_then_waits_then_sends(site: Site) -> None:
    assert site.service.start_session(PACKAGE).state == "idle"
    answer = site.join(slots=100, credit=1 << 20)
    status = await sent(site)
    assert (status.state, status.session_id, status.slabs) == ("sending", answer["session_id"], 3)
    assert (status.group, status.port) == (answer["group"], answer["port"])
    assert (status.rate_mbit_s, status.max_clients, status.minimum_clients) == (20.0, 1000, 0)
    assert status.starts_in_s is None
    assert status.bytes_sent == status.datagrams_sent * SYMBOL_BYTES
    site.service.complete(answer["session_id"], {"member": answer["member"]})
    assert (only(site).members, only(site).finished) == ((), 1)


async def test_counts_are_of_all_streams_and_rates_are_shared_by_them(site: Site) -> None:
    answers = [site.join(slots=100, credit=1 << 20, name=f"pc{i}") for i in range(2)]
    session_id, moved = answers[0]["session_id"], answers[1]["member"]
    await sent(site)
    site.service.move_member(session_id, moved[8:], 1)
    site.join(slots=100, credit=1 << 20, name="pc1", member=moved)
    status = await sent(site, streams=2)
    assert status.datagrams_sent == sum(stream.datagrams_sent for stream in status.streams)
    assert [stream.members for stream in status.streams] == [1, 1]
    deadline = time.monotonic() + PATIENCE_S
    while sum(stream.rate_mbit_s for stream in only(site).streams) > 20.01:
        assert time.monotonic() < deadline, "the classes share what the session may send"
        await asyncio.sleep(0.01)
    assert len({stream.group for stream in only(site).streams}) == 2
