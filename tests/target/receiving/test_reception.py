# SPDX-License-Identifier: Apache-2.0
"""One image over whatever ways its distribution point and the network leave open; each shown by a real one on loopback."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from tests.service.certificates import write_certificate
from tests.service.multicast_site import PACKAGE
from tests.target.point import Point, Receiving, opened_point

from dpd.errors import ContentCorrupt
from dpd.protocol.multicast.geometry import SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import Flag, Header, MessageType
from dpd.protocol.multicast.receiver import ReceiverCounters
from dpd.service.receiving.receiver import GroupSocket, Progress, open_group
from dpd.target.bundle import build
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.receiving import fall_back
from dpd.target.receiving.account import Account
from dpd.target.receiving.progress import Display
from dpd.target.receiving.receive import EXIT_CORRUPT, EXIT_KICKED, main, parse_arguments
from dpd.target.receiving.reception import MAX_DAMAGED, Reception

RATE_MBIT_S = 100  # 0.5 s for each slab


@pytest.fixture
async def point(tmp_path: Path) -> AsyncIterator[Point]:
    async with opened_point(tmp_path, rate_mbit_s=RATE_MBIT_S) as point:
        yield point


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "image.wim"


@pytest.fixture
def _deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Receivers of this process listen where nobody sends, and notice it soon."""

    def listen_elsewhere(group: str, port: int, address: str, source: str = "") -> GroupSocket:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
            free.bind(("", 0))
            elsewhere = free.getsockname()[1]
        return open_group(group, elsewhere, address, source)

    monkeypatch.setattr("dpd.target.receiving.reception.open_group", listen_elsewhere)
    monkeypatch.setattr(fall_back, "DEAF_S", 0.5)


async def receive(point: Point, output: Path, *options: str) -> int:
    return await asyncio.to_thread(
        main, [point.url, PACKAGE, "-o", str(output), "--interface", "lo", "--json", "--patience", "20", *options]
    )


def events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def named(told: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    return [event for event in told if event["event"] == name]


def assert_same(output: Path, point: Point) -> None:
    assert sha256(output.read_bytes()).digest() == sha256(point.image.read_bytes()).digest()


def finished(point: Point) -> dict[str, Any]:
    """What the distribution point keeps of the one receiver that has completed."""
    (session,) = point.multicast.sessions()
    (member,) = [m for m in point.multicast.members(session.session_id) if m.state == "complete"]
    return {name: getattr(member, name) for name in member.__slots__}


@pytest.mark.usefixtures("_deaf")
async def test_without_multicast_the_image_comes_over_http(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await receive(point, output) == 0
    assert_same(output, point)
    told = events(capsys)
    assert [e["event"] for e in told if e["event"] != "progress"] == ["starting", "joined", "unicast", "completed"]
    size = point.image.stat().st_size
    assert (told[-1]["multicast_bytes"], told[-1]["unicast_bytes"]) == (0, size)
    assert named(told, "progress")[-1]["source"] == "unicast"
    assert point.multicast.stats.completions == 1


async def test_who_has_no_place_in_the_group_takes_http(tmp_path: Path, output: Path) -> None:
    other = output.with_name("two.wim")
    async with opened_point(tmp_path, rate_mbit_s=20, max_clients=1) as point:
        with Receiving(point.url, output) as first:
            await first.reach("joined")
            with Receiving(point.url, other) as second:
                assert await second.end() == 0
            assert await first.end() == 0
        assert_same(output, point)
        assert_same(other, point)
    assert [e["event"] for e in second.events if e["event"] != "progress"] == ["starting", "unicast", "completed"]
    assert "max_clients = 1" in second.named("unicast")[0]["reason"]
    assert first.named("completed")[0]["unicast_bytes"] == 0


async def test_who_is_moved_goes_on_in_the_other_class(point: Point, output: Path) -> None:
    with Receiving(point.url, output) as receiving:
        session = (await receiving.reach("joined"))["session"]
        await receiving.reach("progress", verified_slabs=1)
        (member,) = point.multicast.members(session)
        await asyncio.to_thread(point.multicast.move_member, session, member.member, 1)
        await receiving.reach("moved")
        assert await receiving.end() == 0
    assert_same(output, point)
    assert [e["class"] for e in receiving.named("joined")] == [0, 1]
    assert receiving.named("progress")[-1]["class"] == 1
    last = receiving.named("progress")[-1]
    assert last["symbols"] <= 2 * 4096 * 1.1, "what was verified came once more"


async def test_who_is_told_to_fall_back_takes_the_rest_over_http(point: Point, output: Path) -> None:
    with Receiving(point.url, output) as receiving:
        session = (await receiving.reach("joined"))["session"]
        await receiving.reach("progress", verified_slabs=1)
        (member,) = point.multicast.members(session)
        await asyncio.to_thread(point.multicast.kick_member, session, member.member, fall_back=True)
        assert await receiving.end() == 0
    assert_same(output, point)
    assert receiving.named("unicast")[0]["reason"] == "the sender asked us to go on by unicast"
    done = receiving.named("completed")[0]
    assert done["multicast_bytes"] >= SLAB_BYTES
    assert done["unicast_bytes"] + done["multicast_bytes"] == point.image.stat().st_size
    assert finished(point)["verified_slabs"] == 3


async def test_who_is_kicked_fails_with_6_and_keeps_what_it_has(point: Point, output: Path) -> None:
    with Receiving(point.url, output) as receiving:
        session = (await receiving.reach("joined"))["session"]
        await receiving.reach("progress", verified_slabs=1)
        (member,) = point.multicast.members(session)
        await asyncio.to_thread(point.multicast.kick_member, session, member.member, fall_back=False)
        assert await receiving.end() == EXIT_KICKED
    assert "serves this receiver no more" in receiving.events[-1]["reason"]
    assert "run the same command again to go on" in receiving.events[-1]["reason"]
    assert output.with_name("image.wim.journal").read_text().count("\nv ") >= 1


async def test_a_session_of_another_key_than_the_pinned_one_is_not_listened_to(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = DistributionPoint._ask_json
    monkeypatch.setattr(DistributionPoint, "_ask_json", lambda *arguments: real(*arguments) | {"public_key": "11" * 32})
    assert await receive(point, output, "--public-key", point.library.public_key().hex()) == EXIT_CORRUPT
    assert f"its session is signed by the key {'11' * 32}, expected" in events(capsys)[-1]["reason"]


@pytest.mark.usefixtures("_deaf")
async def test_an_image_damaged_on_the_points_disk_is_given_up_over_http_too(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blob = next((point.image.parent / "library" / "blobs").rglob("*/*"))
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(SLAB_BYTES + 5)
        file.write(b"spoilt")
    assert await receive(point, output) == EXIT_CORRUPT
    assert f"slab after slab of {PACKAGE} is not what its manifest says" in events(capsys)[-1]["reason"]


async def test_a_scheduled_start_is_told(tmp_path: Path, output: Path) -> None:
    async with opened_point(tmp_path, minimum_clients=2, wait_for_clients_s=30.0) as point:
        with Receiving(point.url, output) as one:
            joined = await one.reach("joined")
            await one.reach("progress")
            assert 20 < joined["starts_in_s"] <= 30
            assert joined["waiting"]
            assert 20 < one.named("progress")[-1]["starts_in_s"] <= 30
            with Receiving(point.url, output.with_name("two.wim")) as two:
                assert await two.end() == 0
            assert await one.end() == 0
        assert_same(output, point)


@pytest.mark.parametrize("is_bundle", [False, True], ids=["installed", "one file, standard library alone"])
async def test_an_encrypted_session_is_received_over_a_join_by_tls(
    tmp_path: Path, output: Path, is_bundle: bool
) -> None:
    tls = write_certificate(tmp_path)
    bundle = tmp_path / "receive.pyz"
    build(bundle)
    start = ("-I", "-S", str(bundle)) if is_bundle else ("-m", "dpd.target.receiving.receive")
    async with opened_point(tmp_path, tls=tls, encryption=True) as point:
        program = (sys.executable, *start)
        with Receiving(point.secure_url, output, "--ca-file", str(tls[0]), program=program) as receiving:
            assert await receiving.end() == 0
        assert_same(output, point)
    assert receiving.named("joined")
    assert receiving.named("completed")[0]["unicast_bytes"] == 0


async def test_a_key_is_not_had_without_tls_so_the_image_comes_over_http(tmp_path: Path, output: Path) -> None:
    async with opened_point(tmp_path, tls=write_certificate(tmp_path), encryption=True) as point:
        with Receiving(point.url, output) as receiving:
            assert await receiving.end() == 0
        assert_same(output, point)
    assert receiving.named("joined") == []
    assert receiving.named("completed")[0]["multicast_bytes"] == 0


async def test_forged_symbols_cost_themselves_and_not_their_slab(tmp_path: Path, output: Path) -> None:
    """The leaves tell them apart: of each slab that is damaged, all else is kept."""
    async with opened_point(tmp_path, rate_mbit_s=RATE_MBIT_S) as point:
        with Receiving(point.url, output) as receiving:
            joined = await receiving.reach("joined")
            (session,) = [point.multicast._session(joined["session"])]
            forging = asyncio.create_task(forge(session.number, session._outfit.epoch, joined["group"], joined["port"]))
            assert await receiving.end() == 0
            await forging
        assert_same(output, point)
        (done,) = [m for m in point.multicast.members(joined["session"]) if m.state == "complete"]
    last = receiving.named("progress")[-1]
    assert done.bad_slabs >= 1, "no forged symbol was taken: this test shows nothing"
    assert last["symbols"] <= 3 * 4096 * 1.3, "slabs came again for a few forged symbols"


async def forge(session: int, epoch: int, group: str, port: int) -> None:
    """Symbols of the first slab's last rows, before the sender comes to them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        for seq in range(60):
            for slab in range(2):
                header = Header(MessageType.DATA, session, epoch, Flag.REPAIR, slab, 120, slab + 1, tx_seq=seq * 150)
                sock.sendto(header.encode() + b"forged! " * (SYMBOL_BYTES // 8), (group, port))
            await asyncio.sleep(0.02)


def test_what_is_damaged_counts_from_one_place_to_the_next(tmp_path: Path) -> None:
    """A receiver that loses its place again and again would ask for a damaged image for ever."""
    options = parse_arguments(["http://127.0.0.1:1", PACKAGE, "-o", str(tmp_path / "image")])
    reception = Reception(options, Display(PACKAGE, as_json=True))
    geometry = Geometry(SLAB_BYTES)
    reception._verified, reception._account = 0, Account(0)
    for place in range(3):
        counters = ReceiverCounters()
        counters.bad_slabs = MAX_DAMAGED // 2 - (place == 0)  # 3, 7 and 11 so far
        progress = Progress.of(geometry, 0, 1.0, counters)
        if place == 2:
            with pytest.raises(ContentCorrupt, match="is not what its manifest says"):
                reception._watch(progress)
        else:
            reception._watch(progress)
            reception._end_place(0, counters, 0)
