# SPDX-License-Identifier: Apache-2.0
"""Captured images on their way in, into a real library."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.content.wim_builder import make_wim
from tests.deployment.executions import Ears, begin, said

from dpd.content.library import Library
from dpd.database import Database
from dpd.deployment.capture_table import CaptureState
from dpd.deployment.captures import ABANDONED_S, ENDED_S, Captures, Place
from dpd.deployment.database import open_database
from dpd.deployment.execution import StepName
from dpd.deployment.execution_book import ExecutionBook
from dpd.errors import (
    CaptureNotFound,
    ContentCorrupt,
    DeploymentDiskFull,
    DeploymentError,
    ExecutionNotFound,
    Unavailable,
)
from dpd.protocol.multicast.geometry import SLAB_BYTES
from dpd.sequence.exchange import Captured

PATIENCE_S = 60.0


@dataclass(slots=True)
class Room:
    """A library, a book with an execution that captures, and what takes captures in."""

    folder: Path
    quota_bytes: int = 1 << 40
    now: float = 1000.0
    closed: str = ""
    ears: Ears = field(default_factory=Ears)
    arrived: list[str] = field(default_factory=list)
    library: Library = field(init=False)
    database: Database = field(init=False)
    book: ExecutionBook = field(init=False)
    captures: Captures = field(init=False)
    execution: str = field(init=False)

    def __post_init__(self) -> None:
        self.library = Library(self.folder / "library", slab_bytes=SLAB_BYTES)
        self.open()
        self.execution = self.book.begin(
            "pc-1", "PC-1", "52:54:00:00:00:01", 7, "reference", 1, [StepName("1", "Capture", "capture_image")], 1000.0
        )

    def open(self) -> None:
        """As a daemon that starts finds it."""
        self.database = open_database(self.folder / "deployment.db")
        self.book = ExecutionBook(self.database)
        self.captures = Captures(
            self.database, self.folder / "captures", self.library, self.book.find, lambda: self.quota_bytes, tell=self.ears,
            refuse_new_content=self.refuse, arrived=self.arrived.append, clock=lambda: self.now,
        )  # fmt: skip

    def refuse(self) -> None:
        if self.closed:
            raise Unavailable(self.closed)

    def send(self, image: bytes, package_id: str = "CAP00001") -> str:
        """A place, and all of the image in it."""
        place = self.captures.begin(self.execution, package_id, len(image))
        assert self.captures.write(place.id, place.offset, image[place.offset :]) == len(image)
        return place.id


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.database.close()
    room.library.close()


@pytest.fixture(scope="session")
def image() -> bytes:
    return make_wim()


def hash_of(image: bytes) -> str:
    return hashlib.sha256(image).hexdigest()


def test_an_image_that_came_whole_is_the_next_version_of_its_package(room: Room, image: bytes) -> None:
    id = room.send(image)
    assert room.captures.finish(id, hash_of(image)) == Captured("CAP00001", 1)
    content = room.library.find("CAP00001", 1)
    assert (content.sha256, content.name, content.format) == (hash_of(image), "CAP00001.wim", "wim")
    room.library.verify("CAP00001")
    assert room.arrived == ["CAP00001"]
    assert room.ears.events == ["deployment.captured"]
    assert list((room.folder / "captures").iterdir()) == []


def test_nothing_is_written_over(room: Room, image: bytes) -> None:
    first = room.folder / "first.wim"
    other = make_wim(chunk_bytes=128)
    first.write_bytes(other)
    room.library.publish(first, "CAP00001")
    assert room.captures.finish(room.send(image), hash_of(image)) == Captured("CAP00001", 2)
    assert room.library.find("CAP00001", 1).sha256 == hash_of(other)


def test_who_asks_for_the_end_again_gets_the_same_version(room: Room, image: bytes) -> None:
    id = room.send(image)
    with ThreadPoolExecutor(4) as threads:
        ends = [threads.submit(room.captures.finish, id, hash_of(image)) for _ in range(4)]
        assert {each.result(PATIENCE_S) for each in ends} == {Captured("CAP00001", 1)}
    room.open()
    assert room.captures.finish(id, hash_of(image)) == Captured("CAP00001", 1)
    assert len(room.library.contents()) == 1


def test_a_daemon_that_was_killed_behind_publishing_publishes_no_second_time(room: Room, image: bytes) -> None:
    id = room.send(image)
    room.captures.settle(id)
    published = room.folder / "published.wim"
    published.write_bytes(image)
    room.library.publish(published, "CAP00001")
    room.open()
    assert room.captures.finish(id, hash_of(image)) == Captured("CAP00001", 1)
    assert len(room.library.contents()) == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_breaks_off_the_image_arrives_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, image: bytes, seed: int
) -> None:
    """Pieces come twice, overlap, are lost behind gaps; the daemon is restarted, and what it had not settled is gone."""
    rng = random.Random(seed)
    room = Room(tmp_path_factory.mktemp("room"))
    id, offset = room.captures.begin(room.execution, "CAP00001", len(image)).id, 0
    while offset < len(image):
        start = min(max(0, offset + rng.randint(-3000, 500)), len(image))
        piece = image[start : start + rng.randint(0, 9000)]
        after = room.captures.write(id, start, piece)
        assert after >= offset
        assert start <= offset or after == offset
        offset = after
        if rng.random() < 0.3:
            assert room.captures.settle(id) == offset
        if rng.random() < 0.2:
            room.open()
            place = room.captures.begin(room.execution, "CAP00001", len(image))
            assert place.id == id
            offset = place.offset
    assert room.captures.finish(id, hash_of(image)) == Captured("CAP00001", 1)
    assert room.library.find("CAP00001").sha256 == hash_of(image)
    room.library.close()


def test_what_was_settled_is_there_after_a_restart_and_no_more(room: Room) -> None:
    id = room.captures.begin(room.execution, "CAP00001", 100).id
    room.captures.write(id, 0, bytes(40))
    room.captures.settle(id)
    room.captures.write(id, 40, bytes(30))
    room.open()
    assert room.captures.begin(room.execution, "CAP00001", 100) == Place(id, 40)


def test_wrong_bytes_are_told_and_sent_once_more(room: Room, image: bytes) -> None:
    wrong = bytes(len(image))
    id = room.send(wrong)
    with pytest.raises(DeploymentError, match="send it again from the beginning"):
        room.captures.finish(id, hash_of(image))
    assert room.library.contents() == []
    assert room.captures.begin(room.execution, "CAP00001", len(image)) == Place(id, 0)
    assert room.captures.finish(room.send(image), hash_of(image)) == Captured("CAP00001", 1)


def test_what_is_no_wim_is_refused_for_good(room: Room) -> None:
    junk = b"junk" * 1000
    id = room.send(junk)
    with pytest.raises(ContentCorrupt):
        room.captures.finish(id, hash_of(junk))
    with pytest.raises(CaptureNotFound, match="has ended as failed"):
        room.captures.write(id, 0, b"x")
    (listed,) = room.captures.list()
    assert listed.state is CaptureState.FAILED
    assert list((room.folder / "captures").iterdir()) == []


def test_an_end_before_the_last_byte_is_refused_with_how_much_is_here(room: Room) -> None:
    id = room.captures.begin(room.execution, "CAP00001", 100).id
    room.captures.write(id, 0, bytes(40))
    with pytest.raises(DeploymentError, match="40 of 100 bytes are here"):
        room.captures.finish(id, "0" * 64)


def test_more_than_was_announced_is_refused(room: Room) -> None:
    id = room.captures.begin(room.execution, "CAP00001", 100).id
    with pytest.raises(DeploymentError, match="expected at most the 100"):
        room.captures.write(id, 60, bytes(41))
    assert room.captures.write(id, 0, b"") == 0


def test_no_more_than_the_quota_is_on_its_way(room: Room, image: bytes) -> None:
    room.quota_bytes = len(image) + 50
    room.captures.begin(room.execution, "CAP00001", len(image))
    with pytest.raises(DeploymentError, match=r"raise deployment\.capture_quota_gib"):
        room.captures.begin(room.execution, "CAP00002", 51)
    room.captures.begin(room.execution, "CAP00002", 50)
    room.captures.finish(room.send(image), hash_of(image))
    room.captures.begin(room.execution, "CAP00003", 51)  # what has arrived is the library's


def test_what_the_disk_has_no_room_for_is_refused_before_a_byte_comes(room: Room) -> None:
    room.quota_bytes = 1 << 62
    with pytest.raises(DeploymentDiskFull, match="are free"):
        room.captures.begin(room.execution, "CAP00001", 1 << 60)


def test_only_an_execution_that_captures_may_send(room: Room) -> None:
    other = begin(room.book, "pc-2")
    with pytest.raises(DeploymentError, match="has no step capture_image"):
        room.captures.begin(other, "CAP00001", 100)
    with pytest.raises(ExecutionNotFound):
        room.captures.begin("f" * 16, "CAP00001", 100)
    room.book.take_reports(room.execution, [said(1, "", "sequence_done")], 1100.0)
    with pytest.raises(DeploymentError, match="has ended as done"):
        room.captures.begin(room.execution, "CAP00001", 100)


def test_maintenance_lets_none_begin_and_none_end(room: Room, image: bytes) -> None:
    id = room.send(image)
    room.closed = "maintenance: new disks"
    with pytest.raises(Unavailable, match="new disks"):
        room.captures.begin(room.execution, "CAP00002", 100)
    with pytest.raises(Unavailable, match="new disks"):
        room.captures.finish(id, hash_of(image))
    room.closed = ""
    assert room.captures.finish(id, hash_of(image)) == Captured("CAP00001", 1)


def test_one_that_nobody_sends_anything_of_is_given_up(room: Room) -> None:
    id = room.captures.begin(room.execution, "CAP00001", 100).id
    room.now += ABANDONED_S
    room.captures.look_over(room.now)
    room.captures.write(id, 0, bytes(10))
    room.captures.settle(id)
    room.captures.look_over(room.now + ABANDONED_S)
    assert [each.state for each in room.captures.list()] == [CaptureState.OPEN]
    room.captures.look_over(room.now + ABANDONED_S + 1.0)
    assert [each.state for each in room.captures.list()] == [CaptureState.FAILED]
    assert list((room.folder / "captures").iterdir()) == []


def test_one_whose_machine_has_ended_is_given_up_sooner(room: Room) -> None:
    room.captures.begin(room.execution, "CAP00001", 100)
    room.captures.look_over(room.now + ENDED_S + 1.0)
    assert [each.state for each in room.captures.list()] == [CaptureState.OPEN]
    room.book.take_reports(room.execution, [said(1, "", "sequence_failed")], 1100.0)
    room.captures.look_over(room.now + ENDED_S)
    assert [each.state for each in room.captures.list()] == [CaptureState.OPEN]
    room.captures.look_over(room.now + ENDED_S + 1.0)
    assert [each.error for each in room.captures.list()] == ["its machine's task sequence has ended"]


def test_an_image_that_is_made_anew_takes_the_place_of_the_one_before(room: Room) -> None:
    first = room.captures.begin(room.execution, "CAP00001", 100).id
    other = room.captures.begin(room.execution, "CAP00002", 70).id
    second = room.captures.begin(room.execution, "CAP00001", 101).id
    assert {each.id for each in room.captures.open_captures()} == {other, second}
    with pytest.raises(CaptureNotFound, match="has made the image anew"):
        room.captures.write(first, 0, b"x")


def test_the_list_has_the_newest_first_and_what_is_here_until_now(room: Room) -> None:
    first = room.captures.begin(room.execution, "CAP00001", 100).id
    second = room.captures.begin(room.execution, "CAP00002", 100).id
    room.captures.write(first, 0, bytes(10))
    assert room.captures.execution_of(first) == room.execution
    assert [(each.id, each.kept_bytes) for each in room.captures.list()] == [(second, 0), (first, 10)]
    assert [each.id for each in room.captures.list(1)] == [second]


@pytest.mark.parametrize("id", ["../library/stock", "", "f" * 16])
def test_what_is_no_capture_reaches_no_file(room: Room, id: str) -> None:
    for ask in (
        lambda: room.captures.write(id, 0, b"x"),
        lambda: room.captures.finish(id, "0" * 64),
        lambda: room.captures.execution_of(id),
    ):
        with pytest.raises(CaptureNotFound, match="no capture"):
            ask()
