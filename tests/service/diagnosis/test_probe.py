# SPDX-License-Identifier: Apache-2.0
"""The daemon's side of a network test on loopback: what it sends, what it refuses, what it tells the operator."""

from __future__ import annotations

import asyncio
import itertools
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest

from dpd.errors import MalformedMessage, SessionError
from dpd.protocol.multicast.probe import (
    BURST_DATAGRAMS,
    BURSTS,
    PACED_DATAGRAMS,
    PACKET_BYTES,
    PROBE_BYTES,
    SIZE_COPIES,
    Probe,
    ProbeTally,
    Stream,
    decode,
)
from dpd.service.diagnosis.network_test import ECHOES_S
from dpd.service.diagnosis.probe import MAX_TESTS, ProbeService
from dpd.service.network.udp import grow_receive_buffer, join_group
from dpd.settings import MulticastSettings

CLIENT = "192.0.2.1"
PATIENCE_S = 20.0
SETTINGS = MulticastSettings(interface="lo", ttl=0, group_range="239.192.79.0/24")


@pytest.fixture
def service() -> Iterator[ProbeService]:
    service = ProbeService(SETTINGS, pause_s=0.2)
    yield service
    asyncio.run(service.stop())


def open_group(answer: dict[str, Any]) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    grow_receive_buffer(sock, 16 << 20)
    sock.bind((answer["group"], answer["port"]))
    join_group(sock, answer["group"], "127.0.0.1")
    sock.settimeout(PATIENCE_S)
    return sock


def drained(sock: socket.socket) -> int:
    """How many datagrams come until none does."""
    for count in itertools.count():
        try:
            sock.recv(2048)
        except TimeoutError:
            return count
    raise AssertionError


def receive_run(service: ProbeService, answer: dict[str, Any]) -> tuple[ProbeTally, dict[str, Any]]:
    """Take in what a test sends until its run is over. Returns what came and what the service says it sent."""
    tally = ProbeTally()
    deadline = time.monotonic() + PATIENCE_S
    with closing(open_group(answer)) as sock:
        service.run(answer["test"])
        while service.status(answer["test"])["state"] != "sent":
            assert time.monotonic() < deadline
            for _ in range(200):
                probe = decode(sock.recv(65536))
                tally.note(probe, time.monotonic(), 0)
                if probe.stream is Stream.BEAT:
                    break
        sock.settimeout(0.1)
        try:
            while True:
                tally.note(decode(sock.recv(65536)), time.monotonic(), 0)
        except TimeoutError:
            return tally, service.status(answer["test"])


def test_a_run_sends_what_is_planned_and_says_so(service: ProbeService) -> None:
    answer = service.open({"seconds": 30}, CLIENT)
    assert service.status(answer["test"])["state"] == "open"
    tally, status = receive_run(service, answer)
    assert status["sent"]["size"] == len(PACKET_BYTES) * SIZE_COPIES  # loopback takes 64 KiB
    assert status["sent"]["paced"] == PACED_DATAGRAMS
    assert status["sent"]["burst"] == BURSTS * BURST_DATAGRAMS
    assert (status["errors"], status["too_large"]) == (0, [])
    assert {stream.name.lower(): each.received for stream, each in tally.streams.items() if stream in (Stream.SIZE, Stream.PACED, Stream.BURST)} == {
        name: status["sent"][name] for name in ("size", "paced", "burst")
    }  # fmt: skip
    assert tally.sizes == dict.fromkeys(PACKET_BYTES, SIZE_COPIES)
    assert service.stats.datagrams == sum(status["sent"].values())


def test_beats_come_without_a_run_and_end_with_the_test(service: ProbeService) -> None:
    answer = service.open({"seconds": 1}, CLIENT)
    with closing(open_group(answer)) as sock:
        numbers = [decode(sock.recv(2048)).number for _ in range(3)]
        assert numbers == sorted(set(numbers))
        sock.settimeout(1.5)
        assert drained(sock) < 3
    with pytest.raises(SessionError, match="no network test"):
        service.status(answer["test"])
    assert service.stats.running == 0


def test_an_echo_comes_back_to_who_sent_it_and_only_for_this_test(service: ProbeService) -> None:
    answer = service.open({}, CLIENT)
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as sock:
        sock.settimeout(PATIENCE_S)
        sock.connect((answer["sender"], answer["feedback_port"]))
        test = int(answer["test"], 16)
        echo = Probe(Stream.ECHO, test, 1, 12345).encode()
        assert len(echo) == PROBE_BYTES
        for wrong in (
            b"x",
            echo + b"0",
            Probe(Stream.ECHO, test ^ 1, 1, 1).encode(),
            Probe(Stream.BEAT, test, 1, 1).encode(),
        ):
            sock.send(wrong)
        sock.send(echo)
        assert sock.recv(2048) == echo
        for _ in range(4 * ECHOES_S):
            sock.send(echo)
        sock.settimeout(0.2)
        answers = drained(sock)
    assert answers <= 2 * ECHOES_S
    assert service.status(answer["test"])["echoes"] == answers + 1


def test_each_test_has_a_group_of_its_own_that_no_session_has() -> None:
    taken = {f"239.192.79.{last}" for last in range(256) if last % 16}
    service = ProbeService(SETTINGS, taken=lambda: taken)
    answers = [service.open({"seconds": 2}, f"192.0.2.{n}") for n in range(4)]
    for answer in answers:
        service.finish(answer["test"], {"verdict": "fit"})
    assert len({answer["group"] for answer in answers}) == 4
    assert taken.isdisjoint(answer["group"] for answer in answers)


def test_no_more_than_so_many_at_once(service: ProbeService) -> None:
    for number in range(MAX_TESTS):
        service.open({"seconds": 30}, f"192.0.2.{number}")
    with pytest.raises(SessionError, match="as many as may"):
        service.open({}, "192.0.2.100")
    assert (service.stats.refused, service.stats.running) == (1, MAX_TESTS)
    assert service.open({"seconds": 30}, "192.0.2.3")["test"]  # the same client again: its earlier one is over
    assert service.stats.running == MAX_TESTS


def test_runs_wait_for_each_other_and_a_test_has_one(service: ProbeService) -> None:
    first, second = (service.open({"seconds": 30}, f"192.0.2.{n}") for n in (1, 2))
    for answer in (first, second, first, second):
        service.run(answer["test"])
    deadline = time.monotonic() + PATIENCE_S
    while any(service.status(answer["test"])["state"] != "sent" for answer in (first, second)):
        states = [service.status(answer["test"])["state"] for answer in (first, second)]
        assert states.count("sending") <= 1
        assert time.monotonic() < deadline
        time.sleep(0.01)
    service.run(first["test"])
    assert service.status(first["test"])["state"] == "sent"
    assert service.status(first["test"])["sent"]["paced"] == PACED_DATAGRAMS


def test_the_verdict_is_told_to_the_operator(service: ProbeService, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for verdict, failed in (("fit", []), ("unfit", ["passes", "querier"])):
        answer = service.open({}, CLIENT)
        assert service.finish(answer["test"], {"verdict": verdict, "failed": failed})["verdict"] == verdict
        record = caplog.records[-1]
        assert record.message == "network test finished"
        assert (vars(record)["peer"], vars(record)["verdict"]) == (CLIENT, verdict)
        assert vars(record)["failed"] == (", ".join(failed) or "none")
        with pytest.raises(SessionError):
            service.status(answer["test"])
    assert service.stats.verdicts == {"fit": 1, "unfit": 1}
    assert service.stats.running == 0


@pytest.mark.parametrize("seconds", [0, 661, "9", True, None])
def test_a_wrong_duration_is_refused(service: ProbeService, seconds: object) -> None:
    with pytest.raises(MalformedMessage, match="seconds"):
        service.open({"seconds": seconds}, CLIENT)
    assert service.stats.running == 0


@pytest.mark.parametrize(
    ("result", "field"),
    [
        ({}, "verdict"),
        ({"verdict": "good"}, "verdict"),
        ({"verdict": "fit", "failed": "loss"}, "failed"),
        ({"verdict": "fit", "failed": ["a\nb"]}, "failed"),
        ({"verdict": "fit", "failed": ["x"] * 25}, "failed"),
    ],
)
def test_a_result_that_says_anything_else_is_refused(service: ProbeService, result: dict[str, Any], field: str) -> None:
    answer = service.open({}, CLIENT)
    with pytest.raises(MalformedMessage, match=field):
        service.finish(answer["test"], result)


async def test_the_end_of_the_daemon_ends_the_tests(service: ProbeService) -> None:
    await service.start()
    answer = service.open({}, CLIENT)
    await service.drain()
    with pytest.raises(SessionError, match="shutting down"):
        service.open({}, "192.0.2.9")
    begin = time.monotonic()
    await service.stop()
    assert time.monotonic() - begin < 5
    with pytest.raises(SessionError):
        service.status(answer["test"])


def test_an_interface_that_is_not_there_is_told() -> None:
    service = ProbeService(replace(SETTINGS, interface="nope0"))
    with pytest.raises(SessionError, match="nope0"):
        service.open({}, CLIENT)
