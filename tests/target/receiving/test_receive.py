# SPDX-License-Identifier: Apache-2.0
"""`dpd receive` against a real distribution point on loopback: whole files, kills, refusals, and every exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from tests.service.multicast_site import PACKAGE, write_image
from tests.target.point import Point, Receiving, opened_point

from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.target.distribution_point.distribution_point import DistributionPoint
from dpd.target.receiving.receive import (
    EXIT_CORRUPT,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_NOT_FOUND,
    EXIT_UNREACHABLE,
    main,
    parse_arguments,
)

SLABS = 3
RATE_MBIT_S = 150  # 0.33 s for each slab: time enough to kill between two of them


@pytest.fixture
async def point(tmp_path: Path) -> AsyncIterator[Point]:
    async with opened_point(tmp_path) as point:
        yield point


@pytest.fixture
async def slow_point(tmp_path: Path) -> AsyncIterator[Point]:
    async with opened_point(tmp_path, rate_mbit_s=RATE_MBIT_S) as point:
        yield point


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out" / "image.wim"


@pytest.fixture(autouse=True)
def _folder(output: Path) -> None:
    output.parent.mkdir()


async def receive(point: Point | str, output: Path, *options: str, package: str = PACKAGE) -> int:
    """The command within this process."""
    url = point if isinstance(point, str) else point.url
    arguments = [url, package, "-o", str(output), "--interface", "lo", "--json", *options]
    return await asyncio.to_thread(main, arguments)


def last_event(capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    return dict(json.loads(capsys.readouterr().out.splitlines()[-1]))


def assert_same(output: Path, point: Point) -> None:
    assert sha256(output.read_bytes()).digest() == sha256(point.image.read_bytes()).digest()


# ---- it works


async def test_an_image_arrives_and_leaves_nothing_else_behind(point: Point, output: Path) -> None:
    with Receiving(point.url, output) as receiving:
        assert await receiving.end() == 0
    assert_same(output, point)
    assert list(output.parent.iterdir()) == [output]
    names = [event["event"] for event in receiving.events]
    assert names[:2] == ["starting", "joined"]
    assert names[-1] == "completed"
    assert receiving.named("progress")[-1]["verified_bytes"] == point.image.stat().st_size
    assert point.multicast.stats.completions == 1


async def test_two_receivers_share_one_pass(point: Point, output: Path) -> None:
    other = output.with_name("other.wim")
    with Receiving(point.url, output) as one, Receiving(point.url, other) as two:
        assert await one.end() == await two.end() == 0
    assert_same(output, point)
    assert_same(other, point)


async def test_an_older_version_is_received_when_asked_for(point: Point, output: Path, tmp_path: Path) -> None:
    point.library.publish(write_image(tmp_path / "newer", 5000, seed=9), PACKAGE)
    assert await receive(point, output, "--source-version", "1") == 0
    assert_same(output, point)
    assert await receive(point, output) == 0
    assert output.stat().st_size == 5000


async def test_without_an_interface_the_way_to_the_point_is_the_one(point: Point, output: Path) -> None:
    assert await asyncio.to_thread(main, [point.url, PACKAGE, "-o", str(output), "--json"]) == 0
    assert_same(output, point)


async def test_a_manifest_of_the_right_key_is_taken(point: Point, output: Path) -> None:
    assert await receive(point, output, "--public-key", point.library.public_key().hex()) == 0


# ---- it goes on


async def test_a_killed_receiver_goes_on_with_what_it_had(slow_point: Point, output: Path) -> None:
    with Receiving(slow_point.url, output) as receiving:
        await receiving.reach("progress", verified_slabs=1)
        receiving.kill()
    assert not output.exists()
    with Receiving(slow_point.url, output) as again:
        assert await again.end() == 0
    assert again.events[0]["event"] == "resuming"
    had = again.events[0]["verified_slabs"]
    assert had >= 1
    assert again.named("progress")[-1]["symbols"] <= (SLABS - had) * 4096 * 1.1
    assert_same(output, slow_point)


def cut_the_part(output: Path) -> None:
    os.truncate(output.with_name(output.name + ".part"), 1000)


def spoil_the_journal(output: Path) -> None:
    output.with_name(output.name + ".journal").write_bytes(b"\xff\0garbage\n" * 99)


@pytest.mark.parametrize("damage", [cut_the_part, spoil_the_journal])
async def test_what_a_run_left_damaged_is_received_anew(
    slow_point: Point, output: Path, damage: Callable[[Path], None]
) -> None:
    with Receiving(slow_point.url, output) as receiving:
        await receiving.reach("progress", verified_slabs=1)
        receiving.kill()
    damage(output)
    assert await receive(slow_point, output) == 0
    assert_same(output, slow_point)


async def test_an_interrupted_receiver_says_how_to_go_on(slow_point: Point, output: Path) -> None:
    with Receiving(slow_point.url, output) as receiving:
        await receiving.reach("progress", verified_slabs=1)
        receiving.process.send_signal(signal.SIGINT)
        assert await receiving.end() == EXIT_INTERRUPTED
    assert receiving.events[-1]["event"] == "interrupted"
    assert receiving.events[-1]["next"] == "run the same command again to go on"


async def test_a_session_that_is_stopped_and_started_again_is_joined_again(slow_point: Point, output: Path) -> None:
    with Receiving(slow_point.url, output) as receiving:
        session = (await receiving.reach("joined"))["session"]
        await receiving.reach("progress", verified_slabs=1)
        await asyncio.to_thread(slow_point.multicast.stop_session, session)
        lost = await receiving.reach("session lost")
        refused = await receiving.reach("waiting")
        slow_point.multicast.start_session(PACKAGE)
        assert await receiving.end() == 0
    assert lost["reason"] == "the sender ended the session"
    assert f"the session of {PACKAGE} was stopped" in refused["reason"]
    assert_same(output, slow_point)


# ---- it fails, and says why


async def test_an_unknown_package_is_3(point: Point, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await receive(point, output, package="NOPE") == EXIT_NOT_FOUND
    assert "NOPE" in last_event(capsys)["reason"]
    assert list(output.parent.iterdir()) == []


async def test_nobody_there_is_4_when_patience_is_over(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await receive("http://127.0.0.1:1", output, "--patience", "0.2") == EXIT_UNREACHABLE
    waiting, failed = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert waiting["event"] == "waiting"
    assert "is dpd running there, and is the port open?" in failed["reason"]


async def test_a_manifest_of_another_key_is_5(point: Point, output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await receive(point, output, "--public-key", "11" * 32) == EXIT_CORRUPT
    assert f"signed by the key {point.library.public_key().hex()}, expected 1111" in last_event(capsys)["reason"]
    assert list(output.parent.iterdir()) == []


async def test_the_manifest_of_another_package_is_5(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy between them answers with what it kept of another request."""
    document = point.library.manifest(point.library.find(PACKAGE))
    monkeypatch.setattr(DistributionPoint, "fetch_manifest", lambda *_: document)
    assert await receive(point, output, package="OTHER") == EXIT_CORRUPT
    assert f"manifest: of {PACKAGE} version 1, expected OTHER version 1" in last_event(capsys)["reason"]


async def test_an_image_damaged_on_the_points_disk_is_5_and_not_asked_for_for_ever(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every datagram comes, one slab is never what the manifest says; the good ones are kept."""
    blob = next((point.image.parent / "library" / "blobs").rglob("*/*"))
    blob.chmod(0o644)
    with blob.open("r+b") as file:
        file.seek(SLAB_BYTES + 5)
        file.write(b"spoilt")
    assert await receive(point, output) == EXIT_CORRUPT
    reason = last_event(capsys)["reason"]
    assert f"slab after slab of {PACKAGE} is not what its manifest says; `dpd content verify {PACKAGE}`" in reason
    assert output.with_name("image.wim.part").read_bytes()[:SLAB_BYTES] == point.image.read_bytes()[:SLAB_BYTES]


async def test_a_session_that_brings_no_slab_within_patience_is_4(
    tmp_path: Path, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened_point(tmp_path, rate_mbit_s=1) as point:
        assert await receive(point, output, "--patience", "0.5") == EXIT_UNREACHABLE
    assert "no slab could be completed within --patience, though the session goes on" in last_event(capsys)["reason"]


async def test_an_interface_that_is_not_there_is_1(
    point: Point, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await receive(point, output, "--interface", "nope7") == EXIT_FAILED
    assert "interface nope7: no such interface" in last_event(capsys)["reason"]


async def test_an_output_that_cannot_be_written_is_1(
    point: Point, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await receive(point, tmp_path / "nope" / "image") == EXIT_FAILED
    assert "cannot be written: No such file or directory; choose another --output" in last_event(capsys)["reason"]
    assert await receive(point, tmp_path) == EXIT_FAILED
    assert "is a directory" in last_event(capsys)["reason"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("mounting a tmpfs needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


async def test_a_full_disk_is_1_before_anything_is_sent(
    point: Point, small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await receive(point, small_disk / "image") == EXIT_FAILED
    assert f"no room for {point.image.stat().st_size} bytes, 1048576 are free" in last_event(capsys)["reason"]
    assert point.multicast.sessions() == []


async def test_an_address_that_is_none_is_1(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert await receive("ftp://dp", output) == EXIT_FAILED
    assert "expected the address of a distribution point such as http://dp:8080" in last_event(capsys)["reason"]


async def test_a_message_for_people_is_one_line_on_standard_error(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    arguments = ["http://127.0.0.1:1", PACKAGE, "-o", str(output), "--patience", "0.1"]
    assert await asyncio.to_thread(main, arguments) == EXIT_UNREACHABLE


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "the following arguments are required: url, package, -o/--output"),
        (["http://dp", PACKAGE], "the following arguments are required: -o/--output"),
        (["http://dp", PACKAGE, "-o", "x", "--slots", "3"], "--slots 3: expected 4 to 64"),
        (["http://dp", PACKAGE, "-o", "x", "--slots", "many"], "invalid int value: 'many'"),
        (["http://dp", PACKAGE, "-o", "x", "--public-key", "abc"], "--public-key: expected 64 hex digits"),
        (["http://dp", PACKAGE, "-o", "x", "--public-key", "ab"], "--public-key: expected 64 hex digits"),
    ],
)
def test_wrong_usage_is_2_and_names_the_argument(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(options)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_help_shows_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments(["--help"])
    assert caught.value.code == 0
    assert "dpd receive http://dp:8080 LAB00001 -o install.wim" in capsys.readouterr().out


async def test_the_wait_between_tries_ends_in_time(output: Path) -> None:
    started = time.monotonic()
    assert await receive("http://127.0.0.1:1", output, "--patience", "1.2") == EXIT_UNREACHABLE
    assert time.monotonic() - started < 2.0


def test_what_only_some_need_is_not_loaded_at_the_start() -> None:
    """Each costs 5 to 25 ms of CPU at every receiver: http.client and importlib.metadata (by email), TLS, the event loop."""
    heavy = {"email", "http.client", "importlib.metadata", "ssl", "asyncio", "logging"}
    look = f"import sys, dpd.target.receiving.receive; print(*({heavy!r} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-I", "-c", look], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []
