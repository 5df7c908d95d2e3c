# SPDX-License-Identifier: Apache-2.0
"""The multicast service: real sockets on loopback, real files, and every answer that a receiver or an operator can get."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.service.multicast_site import (
    PACKAGE,
    PATIENCE_S,
    SETTINGS,
    HandReceiver,
    Site,
    open_descriptors,
    write_image,
)

from dpd.content.library import Library
from dpd.errors import ContentNotFound, MalformedMessage, ServiceError, SessionError
from dpd.protocol.multicast.geometry import COLUMNS, ROWS, SLAB_BYTES, Geometry
from dpd.protocol.multicast.receiver import SessionFact
from dpd.service.multicast import service as multicast
from dpd.service.multicast.service import MulticastService, SessionStatus
from dpd.settings import Settings


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    home = tmp_path_factory.mktemp("library")
    with Library(home / "library", slab_bytes=SLAB_BYTES) as library:
        library.publish(write_image(home / "image"), PACKAGE)
        yield library


@pytest.fixture
async def site(library: Library) -> Any:
    site = Site(library)
    await site.service.start()
    yield site
    await site.service.stop()


def until(condition: Callable[[], bool]) -> None:
    """What another thread is about to do."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def only(site: Site) -> SessionStatus:
    (status,) = site.service.sessions()
    return status


# ---- receivers


async def test_two_receivers_get_the_image_byte_for_byte_from_one_pass(site: Site, tmp_path: Path) -> None:
    receivers = [site.receiver(tmp_path / f"image{i}") for i in range(2)]
    for receiver in receivers:
        await asyncio.to_thread(receiver.complete)
        assert receiver.sha256() == site.content().sha256
    geometry = Geometry(site.content().size_bytes)
    symbols = sum(geometry.rows(s) for s in range(geometry.slab_count)) * COLUMNS
    status = only(site)
    assert status.datagrams_sent - status.repairs_sent == symbols
    assert status.repairs_sent <= 0.2 * symbols, "loopback may drop some on a busy machine"
    until(lambda: site.service.stats.datagrams >= symbols)
    assert (status.members, status.state) == ((), "idle")
    assert site.service.stats.completions == 2
    assert site.service.stats.members == 0


async def test_segmentation_offload_off_gives_identical_bytes(library: Library, tmp_path: Path) -> None:
    site = Site(library, replace(SETTINGS, segmentation_offload=False))
    receiver = site.receiver(tmp_path / "image")
    await asyncio.to_thread(receiver.complete)
    assert receiver.sha256() == site.content().sha256
    await site.service.stop()
    assert site.service.stats.trains_split == 1


async def test_one_that_joins_late_gets_all_of_it_too(library: Library, tmp_path: Path) -> None:
    site = Site(library, replace(SETTINGS, rate_mbit_s=400))
    first = site.receiver(tmp_path / "first")
    await asyncio.to_thread(until, lambda: only(site).datagrams_sent > ROWS * COLUMNS)
    second = site.receiver(tmp_path / "second")
    for receiver in (first, second):
        await asyncio.to_thread(receiver.complete)
        assert receiver.sha256() == site.content().sha256
    await site.service.stop()


async def test_a_receiver_with_a_part_is_sent_the_rest(site: Site, tmp_path: Path) -> None:
    receiver = site.receiver(tmp_path / "image")
    await asyncio.to_thread(receiver.complete)
    site.service.stop_session(receiver.answer["session_id"])
    site.service.start_session(PACKAGE)
    journal = receiver.store.journal
    journal.write_text("".join(line for line in journal.read_text().splitlines(True) if line != "v 1\n"))
    again = site.receiver(tmp_path / "image")
    assert again.store.verified == 0b101
    await asyncio.to_thread(again.complete)
    assert again.sha256() == site.content().sha256
    assert only(site).datagrams_sent - only(site).repairs_sent == ROWS * COLUMNS


async def test_many_join_at_once_and_find_one_session(site: Site) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: site.join(credit=500, slots=4), range(64)))
    assert len({answer["session_id"] for answer in answers}) == 1
    assert len({answer["member"] for answer in answers}) == 64
    await asyncio.to_thread(until, lambda: len(only(site).members) == 64)
    assert site.service.stats.members == 64


async def test_the_status_tells_of_each_member(site: Site) -> None:
    receiver = HandReceiver(site.join(credit=500, slots=4, verified="01"))
    await asyncio.to_thread(until, lambda: only(site).state == "sending")
    (member,) = only(site).members
    assert (member.address, member.state, member.verified_slabs) == ("127.0.0.1", "receiving", 1)
    assert member.member == f"{receiver.member & 0xFFFFFFFF:08x}"
    assert (only(site).state, only(site).slabs, only(site).package_id) == ("sending", 3, PACKAGE)
    receiver.close()


# ---- refusals


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"wire": [2]}, "wire: this distribution point speaks version 1, the receiver offers [2]"),
        ({"wire": 1}, "wire: "),
        ({"verified": "ff"}, "verified: expected a slab set as hex digits: a set of 3 slabs takes 1 bytes"),
        ({"verified": "no"}, "verified: expected a slab set as hex digits: non-hexadecimal"),
        ({"verified": 7}, "verified: "),
        ({"credit": 0}, "credit: expected a whole number from 1 to 1048576, got 0"),
        ({"credit": True}, "credit: expected"),
        ({"slots": "many"}, "slots: expected a whole number from 1 to 1024, got 'many'"),
    ],
)
async def test_a_join_that_makes_no_sense_names_the_field(site: Site, request_: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        site.join(**request_)
    assert message in str(caught.value)
    assert site.service.sessions() == []


async def test_an_unknown_package_is_not_found(site: Site) -> None:
    with pytest.raises(ContentNotFound):
        site.service.join("NOPE", None, {}, "127.0.0.1")
    with pytest.raises(ContentNotFound):
        site.service.start_session(PACKAGE, 99)


async def test_a_full_session_sends_further_receivers_to_http(library: Library) -> None:
    site = Site(library, replace(SETTINGS, max_clients=1))
    inside = site.join()
    outside = site.join(name="pc2")
    assert (outside["mode"], outside["reason"]) == (
        "unicast",
        "the session of LAB00001 is full: multicast.max_clients = 1",
    )
    assert outside["session_id"] == inside["session_id"]
    assert site.service.stats.joins_by_mode == {"multicast": 1, "unicast": 1}
    site.service.complete(inside["session_id"], {"member": inside["member"]})
    again = site.join(name="pc2", member=outside["member"])
    assert again["mode"] == "multicast", "a place has become free"
    assert [member.name for member in only(site).members] == ["pc2"], "and it has one place, not two"
    await site.service.stop()


async def test_without_fall_back_a_full_session_refuses(library: Library) -> None:
    site = Site(library, replace(SETTINGS, max_clients=2, fall_back=False))
    for _ in range(2):
        site.join()
    with pytest.raises(SessionError, match=r"is full: multicast.max_clients = 2"):
        site.join()
    assert site.service.stats.joins_refused == 1
    await site.service.stop()


async def test_the_places_of_those_who_died_become_free(library: Library) -> None:
    site = Site(library, replace(SETTINGS, max_clients=1, member_timeout_s=0.05, fall_back=False))
    site.join()
    with pytest.raises(SessionError, match="is full"):
        site.join()
    await asyncio.to_thread(until, lambda: not only(site).members)
    site.join()
    assert site.service.stats.members_silent >= 1
    await site.service.stop()


async def test_a_folder_is_not_sent_and_the_refusal_says_why(site: Site, library: Library, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "empty").touch()
    library.publish(tmp_path / "folder", "FOLDER")
    try:
        for ask in (
            lambda: site.service.join("FOLDER", None, {}, "127.0.0.1"),
            lambda: site.service.start_session("FOLDER"),
        ):
            with pytest.raises(
                SessionError, match="FOLDER version 1: a tree of 1 files; multicast sends content of one"
            ):
                ask()
        assert site.service.sessions() == []
    finally:
        library.remove("FOLDER")


async def test_every_group_taken_is_told(library: Library, tmp_path: Path) -> None:
    library.publish(write_image(tmp_path / "other", 1000, seed=8), "OTHER")
    site = Site(library, replace(SETTINGS, group_range="239.192.77.9/32"))
    assert site.join()["group"] == "239.192.77.9"
    with pytest.raises(SessionError, match=r"every group of multicast.group_range = 239.192.77.9/32 is in use"):
        site.service.join("OTHER", None, {}, "127.0.0.1")
    library.remove("OTHER")
    await site.service.stop()


@pytest.mark.parametrize(("session", "member"), [("00000000", "1"), ("", ""), (None, "f" * 16), (None, "-1")])
async def test_the_completion_of_a_stranger_is_refused(site: Site, session: str | None, member: str) -> None:
    answer = site.join()
    with pytest.raises((SessionError, MalformedMessage), match=r"has no such member|expected the 16 hex digits"):
        site.service.complete(answer["session_id"] if session is None else session, {"member": member})
    with pytest.raises(MalformedMessage):
        site.service.complete(answer["session_id"], {"member": 12})
    assert site.service.stats.completions == 0


async def test_completion_counts_once(site: Site) -> None:
    answer = site.join()
    site.service.complete(answer["session_id"], {"member": answer["member"]})
    with pytest.raises(SessionError):
        site.service.complete(answer["session_id"], {"member": answer["member"]})
    assert site.service.stats.completions == 1


async def test_an_interface_that_is_not_there_is_told_at_the_start(library: Library) -> None:
    service = MulticastService(replace(SETTINGS, interface="nope7"), library=library, epoch=1)
    with pytest.raises(ServiceError, match="interface nope7: no such interface"):
        await service.start()
    with pytest.raises(SessionError, match="interface nope7"):
        service.join(PACKAGE, None, {}, "127.0.0.1")
    await service.stop()


# ---- operators


async def test_a_stopped_session_ends_for_its_receivers_and_refuses_until_started_again(
    library: Library, tmp_path: Path
) -> None:
    site = Site(library, replace(SETTINGS, rate_mbit_s=50))
    receiver = site.receiver(tmp_path / "image")
    await asyncio.to_thread(site.service.stop_session, receiver.answer["session_id"])
    assert await asyncio.to_thread(receiver.wait) is SessionFact.ENDED
    assert site.service.sessions() == []
    with pytest.raises(SessionError, match=f"was stopped; `dpd session start {PACKAGE}` opens it again"):
        site.join()
    with pytest.raises(SessionError, match="no session"):
        site.service.stop_session(receiver.answer["session_id"])
    assert site.service.start_session(PACKAGE).state == "idle"
    site.join()
    await site.service.stop()


async def test_removed_content_ends_its_session(site: Site) -> None:
    site.join()
    await asyncio.to_thread(site.service.forget, site.content())
    assert site.service.sessions() == []
    assert site.join()["session_id"], "and leaves no mark: the package may come back"


async def test_draining_admits_nobody_and_waits_for_those_inside(library: Library, tmp_path: Path) -> None:
    site = Site(library, replace(SETTINGS, rate_mbit_s=400))
    receiver = site.receiver(tmp_path / "image")
    await asyncio.to_thread(until, lambda: only(site).state == "sending")
    draining = asyncio.get_running_loop().create_task(site.service.drain())
    await asyncio.sleep(0)
    with pytest.raises(SessionError, match="shutting down"):
        site.join()
    with pytest.raises(SessionError, match="shutting down"):
        site.service.start_session(PACKAGE)
    await asyncio.wait_for(draining, PATIENCE_S)
    await asyncio.to_thread(receiver.complete)
    await site.service.stop()


async def test_a_new_ceiling_reaches_running_sessions(library: Library, tmp_path: Path) -> None:
    site = Site(library, replace(SETTINGS, rate_mbit_s=1))
    receiver = site.receiver(tmp_path / "image")
    site.service.apply(Settings(multicast=replace(SETTINGS, rate_mbit_s=0)))
    await asyncio.to_thread(receiver.complete)
    assert only(site).rate_mbit_s == 0
    await site.service.stop()


async def test_stopping_leaves_no_thread_and_nothing_open(library: Library, tmp_path: Path) -> None:
    before = open_descriptors()
    site = Site(library)
    receiver = site.receiver(tmp_path / "image")
    await asyncio.to_thread(receiver.complete)
    site.join()
    await site.service.stop()
    await site.service.stop()
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("multicast-", "parity", "slab-"))]
    assert {entry.split()[1] for entry in open_descriptors() - before} <= {"/dev/null"}


async def test_a_session_that_nobody_wants_makes_room(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multicast, "IDLE_S", 0.0)
    library.publish(write_image(tmp_path / "other", 1000, seed=8), "OTHER")
    site = Site(library, replace(SETTINGS, group_range="239.192.77.9/32"))
    answer = site.join()
    site.service.complete(answer["session_id"], {"member": answer["member"]})
    assert site.service.join("OTHER", None, {}, "127.0.0.1")["group"] == "239.192.77.9"
    assert [status.package_id for status in site.service.sessions()] == ["OTHER"]
    library.remove("OTHER")
    await site.service.stop()
