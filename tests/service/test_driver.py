# SPDX-License-Identifier: Apache-2.0
"""The driver over real sockets: order of transmits and facts, the timer, the pool, and the session's edge."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import pytest

from dpd.protocol.machine import Address, Buffer, Transmit
from dpd.service.driver import Driver
from dpd.service.network.udp import open_udp


class Echo:
    """A small machine: says back what it hears, tells it as a fact, and knows a few words that do more."""

    def __init__(self) -> None:
        self.transmits: deque[Transmit] = deque()
        self.events: deque[str] = deque()
        self.deadline: float | None = None
        self.timeouts = 0

    def receive_datagram(self, data: Buffer, source: Address, now: float) -> None:
        word = bytes(data).decode()
        if word == "broken":
            raise ValueError("the machine is broken")
        if word == "later":
            self.deadline = now + 0.01
        self.transmits.append(Transmit((word.encode(),), source))
        self.events.append(word)

    def handle_timeout(self, now: float) -> None:
        if self.deadline is not None and now >= self.deadline:
            self.deadline = None
            self.timeouts += 1
            self.events.append("timeout")

    def poll_transmit(self, now: float) -> Transmit | None:
        return self.transmits.popleft() if self.transmits else None

    def next_event(self) -> str | None:
        return self.events.popleft() if self.events else None

    def next_timeout(self) -> float | None:
        return self.deadline


class Session:
    """The owner: keeps what it was told, and wakes the test for each."""

    def __init__(self, machine: Echo, pool: ThreadPoolExecutor) -> None:
        self.told: asyncio.Queue[object] = asyncio.Queue()
        self.failures: list[Exception] = []
        self.released = 0
        self.gate = threading.Event()
        self.machine = machine
        self.sock = open_udp("127.0.0.1", 0)
        self.driver = Driver(machine, self.sock, self, pool)

    def on_event(self, event: str) -> None:
        if event == "close":
            self.driver.close()
        if event == "stumble":
            raise RuntimeError("the owner stumbled")
        if event == "work":
            self.driver.request(self.read, self.told.put_nowait)
        if event == "fail":
            self.driver.request(self.read_badly, self.told.put_nowait)
        self.told.put_nowait(event)

    def read(self) -> str:
        self.gate.wait(5)
        return f"read by {threading.current_thread().name}"

    def read_badly(self) -> str:
        raise OSError(5, "Input/output error")

    def on_failure(self, error: Exception) -> None:
        self.failures.append(error)
        self.told.put_nowait(error)

    def on_released(self) -> None:
        self.released += 1
        self.told.put_nowait("released")

    async def next(self) -> object:
        return await asyncio.wait_for(self.told.get(), 5)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as threads:
        yield threads


@pytest.fixture
async def session(pool: ThreadPoolExecutor) -> AsyncIterator[Session]:
    session = Session(Echo(), pool)
    session.driver.start()
    yield session
    session.gate.set()
    session.driver.close()


@pytest.fixture
def peer(session: Session) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(session.sock.getsockname())
        sock.settimeout(5)
        yield sock


async def test_what_comes_in_reaches_the_machine_and_its_answer_goes_out(session: Session, peer: socket.socket) -> None:
    peer.send(b"hello")
    assert await session.next() == "hello"
    assert peer.recv(100) == b"hello"


async def test_the_last_word_leaves_before_the_fact_that_closes(session: Session, peer: socket.socket) -> None:
    peer.send(b"close")
    assert await session.next() == "released"
    assert peer.recv(100) == b"close"


async def test_the_timer_fires_at_the_machines_deadline(session: Session, peer: socket.socket) -> None:
    started = time.monotonic()
    peer.send(b"later")
    assert await session.next() == "later"
    assert await session.next() == "timeout"
    assert time.monotonic() - started >= 0.01


async def test_an_earlier_deadline_moves_the_timer(session: Session, peer: socket.socket) -> None:
    session.machine.deadline = time.monotonic() + 3600
    session.driver.pump()
    session.machine.deadline = time.monotonic() + 0.01
    session.driver.pump()
    assert await session.next() == "timeout"


async def test_a_later_deadline_is_kept_by_the_timer_that_is_set(session: Session) -> None:
    session.machine.deadline = time.monotonic() + 0.005
    session.driver.pump()
    session.machine.deadline = later = time.monotonic() + 0.05
    session.driver.pump()
    assert await session.next() == "timeout"
    assert time.monotonic() >= later
    assert session.machine.timeouts == 1


async def test_requested_work_runs_in_the_pool_and_comes_back_on_the_loop(
    session: Session, peer: socket.socket
) -> None:
    peer.send(b"work")
    assert await session.next() == "work"
    peer.send(b"meanwhile")
    assert await session.next() == "meanwhile"  # the loop did not wait
    session.gate.set()
    assert await session.next() == "read by pool_0"


async def test_closing_during_work_releases_only_after_it(session: Session, peer: socket.socket) -> None:
    peer.send(b"work")
    assert await session.next() == "work"
    session.driver.close()
    assert session.released == 0
    session.gate.set()
    assert await session.next() == "released"
    assert session.released == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("broken", "the machine is broken"),
        ("stumble", "the owner stumbled"),
        ("fail", "Input/output error"),
    ],
)
async def test_what_is_raised_ends_this_session_and_nothing_else(
    session: Session, peer: socket.socket, pool: ThreadPoolExecutor, word: str, message: str
) -> None:
    other = Session(Echo(), pool)
    other.driver.start()
    peer.send(word.encode())
    told = [await session.next() for _ in range(3 if word == "fail" else 2)]
    assert told[-1] == "released"
    assert message in str(session.failures[0])
    assert session.sock.fileno() == -1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"alive", other.sock.getsockname())
        assert await other.next() == "alive"
    other.driver.close()


def unix_session(pool: ThreadPoolExecutor, path: Path) -> tuple[Session, Address]:
    """A session on a unix datagram socket, whose short queue gives EAGAIN as a network card with a full one does."""
    session = Session(Echo(), pool)
    session.sock.close()
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    ours.connect(str(path))
    session.driver = Driver(session.machine, ours, session, pool)
    return session, cast(Address, str(path))


async def test_a_full_socket_buffer_keeps_the_train_until_there_is_room(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(tmp_path / "peer"))
        theirs.settimeout(5)
        session, destination = unix_session(pool, tmp_path / "peer")
        numbers = [f"{number:04d}".encode() for number in range(2000)]
        session.machine.transmits.extend(Transmit((number,), destination) for number in numbers)
        session.driver.start()
        assert session.machine.transmits  # more than the queue takes
        assert [await asyncio.to_thread(theirs.recv, 100) for _ in numbers] == numbers
        assert session.driver.send_failures == 0
        session.driver.close()


async def test_a_peer_that_is_gone_costs_the_datagram_and_not_the_session(
    pool: ThreadPoolExecutor, tmp_path: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs:
        theirs.bind(str(tmp_path / "peer"))
        session, destination = unix_session(pool, tmp_path / "peer")
    session.machine.transmits.append(Transmit((b"x",), destination))
    session.driver.start()
    assert session.driver.send_failures == 1
    assert not session.failures
    session.driver.close()


async def test_closing_twice_is_harmless_and_leaves_no_descriptor(pool: ThreadPoolExecutor) -> None:
    before = len(os.listdir("/proc/self/fd"))
    session = Session(Echo(), pool)
    session.driver.start()
    session.driver.close()
    session.driver.close()
    session.driver.pump()
    assert session.released == 1
    assert len(os.listdir("/proc/self/fd")) == before
