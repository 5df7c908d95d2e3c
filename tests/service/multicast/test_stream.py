# SPDX-License-Identifier: Apache-2.0
"""One stream's thread against a receiver written by hand: what is on the wire, and how it fails."""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from hashlib import sha512
from pathlib import Path

import pytest
from tests.service.multicast_site import (
    LOOPBACK,
    PACKAGE,
    PATIENCE_S,
    SETTINGS,
    HandReceiver,
    open_descriptors,
    write_image,
)

from dpd.errors import ServiceError
from dpd.protocol.multicast.fec import encode_parity
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, ROWS, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.member import Member
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    SIGNATURE_BYTES,
    Beat,
    Control,
    Flag,
    Header,
    Message,
    MessageType,
    Nack,
    Report,
    SlabDeficits,
    Symbol,
    Tally,
    decode_header,
    decode_message,
)
from dpd.protocol.multicast.schedule import Schedule
from dpd.protocol.multicast.sender import END_COPIES, MemberForgotten, MemberSilent
from dpd.service.isal import best_codec
from dpd.service.multicast.slab_source import SlabSource
from dpd.service.multicast.stream import Stream, StreamOrigin
from dpd.service.network.groups import Group
from dpd.service.network.sending_socket import SO_MAX_PACING_RATE, open_sending_socket
from dpd.settings import MulticastSettings

ROWS_SENT = 5
SIZE = ROWS_SENT * ROW_BYTES - 99
SESSION = 0x5E551011
GROUP, PORT = "239.192.78.5", 63011
EPOCH = 3


class Started:
    """A stream over a file of five rows, and what it told its owner."""

    def __init__(
        self, path: Path, settings: MulticastSettings, group: str = GROUP, *, is_paced_by_kernel: bool = False
    ) -> None:
        self.path = path
        self.workers = ThreadPoolExecutor(2)
        self.ignored: dict[str, int] = {}
        self.flushes = 0
        self.forgotten: list[object] = []
        self.signed: list[bytes] = []
        self.sending = open_sending_socket(settings.interface, Group(group, PORT), settings.ttl)
        self.stream = Stream(
            origin=StreamOrigin(SESSION, EPOCH, 1, group, PORT),
            sock=self.sending.sock,
            source=SlabSource(os.open(path, os.O_RDONLY), Geometry(SIZE), best_codec()),
            geometry=Geometry(SIZE),
            settings=settings,
            schedule=Schedule(settings.start_delay_s, 4 * settings.start_delay_s),
            rate_bit_s=settings.rate_mbit_s * 1e6,
            is_paced_by_kernel=is_paced_by_kernel,
            workers=self.workers,
            sign=self._sign,
            flush=self._flush,
            forgotten=self.forgotten.append,
            labels={"session": f"{SESSION:08x}", "package": PACKAGE},
        )

    def _flush(self, stream: Stream) -> None:
        self.flushes += 1
        self.ignored |= stream.ignored

    def _sign(self, body: bytes) -> bytes:
        self.signed.append(body)
        return sha512(body).digest()

    def admit(self, verified: int = 0, credit: int = 4000) -> int:
        """Add a member and nobody who plays it."""
        member, machine = len(machine_members(self)) + 0x1_0000_0001, self.stream.machine
        self.stream.tell(
            lambda now: machine.add_member(member, verified=verified, credit=credit, free_slabs=4, now=now)
        )
        return member

    def join(self, verified: int = 0, credit: int = 4000) -> HandReceiver:
        return HandReceiver(
            {
                "session": SESSION,
                "member": f"{self.admit(verified, credit):016x}",
                "group": self.stream.origin.group,
                "port": PORT,
                "sender": self.sending.address,
                "feedback_port": self.stream.feedback_port,
            }
        )

    def stop(self) -> None:
        self.stream.end()
        self.stream.join()
        self.workers.shutdown()


def machine_members(started: Started) -> dict[int, Member]:
    return started.stream.machine.members


class TooSmall:
    """A way out that takes no datagram of ours."""

    offload = True
    datagram_bytes = DATAGRAM_BYTES

    def send(self, *_: object) -> int:
        raise OSError(errno.EMSGSIZE, os.strerror(errno.EMSGSIZE))


Start = Callable[..., Started]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Started] = []

    def start(**changes: object) -> Started:
        path = write_image(tmp_path / "image", SIZE)
        started.append(Started(path, replace(SETTINGS, **changes)))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for one in started:
        one.stop()


def read(receiver: HandReceiver, wanted: Callable[[Message], bool]) -> Message:
    """The next datagram of the kind wanted; the others are passed over."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = decode_message(receiver.read())
        if wanted(message):
            return message
    raise AssertionError("it did not come")


def read_pass(receiver: HandReceiver) -> dict[tuple[int, int], bytes]:
    """(row, column) -> symbol, until the sender says that it has nothing more."""
    symbols: dict[tuple[int, int], bytes] = {}

    def is_end(message: Message) -> bool:
        if isinstance(message, Symbol):
            assert (message.header.session, message.header.epoch) == (receiver.answer["session"], EPOCH)
            symbols[message.header.row, message.header.column] = message.payload
        return isinstance(message, Beat) and bool(message.header.flags & Flag.END_OF_PASS)

    read(receiver, is_end)
    return symbols


def nack(receiver: HandReceiver, deficits: bytes, seen: int) -> bytes:
    header = Header(MessageType.NACK, receiver.answer["session"], EPOCH)
    return Nack(header, receiver.member, seen, (SlabDeficits(0, deficits),)).encode()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("offload", [True, False])
def test_the_wire_carries_the_file_and_then_its_parity(start: Start, offload: bool) -> None:
    started = start(segmentation_offload=offload)
    content = started.path.read_bytes().ljust(ROWS_SENT * ROW_BYTES, b"\0")
    receiver = started.join()
    symbols = read_pass(receiver)
    assert b"".join(symbols[row, column] for row in range(ROWS_SENT) for column in range(COLUMNS)) == content
    receiver.say(nack(receiver, b"\x02" * COLUMNS, ROWS_SENT * COLUMNS - 1))
    parity: dict[tuple[int, int], bytes] = {}
    while len(parity) < 2 * COLUMNS:
        message = read(receiver, lambda m: isinstance(m, Symbol))
        assert isinstance(message, Symbol)
        parity[message.header.row, message.header.column] = message.payload
    expected = encode_parity(best_codec(), memoryview(bytearray(content)), 0, 2)
    assert {key: bytes(value) for key, value in parity.items()} == {
        (ROWS + row, column): bytes(expected[row][column * SYMBOL_BYTES : (column + 1) * SYMBOL_BYTES])
        for row in range(2)
        for column in range(COLUMNS)
    }
    receiver.close()


def test_feedback_that_is_none_is_counted_by_reason_and_stops_nothing(start: Start) -> None:
    started = start()
    receiver = started.join()
    read_pass(receiver)
    session = receiver.answer["session"]
    for _ in range(1000):
        receiver.say(b"")
    receiver.say(b"\xff" * 40)
    receiver.say(nack(receiver, b"\x01" * COLUMNS, 0)[:-1])
    receiver.say(Nack(Header(MessageType.NACK, session, EPOCH), 1, 0, (SlabDeficits(0, bytes(COLUMNS)),)).encode())
    receiver.say(
        Report(
            Header(MessageType.REPORT, session ^ 1, EPOCH), receiver.member, 0, 0, 0, 0, Tally(), (), 0, 1, 1
        ).encode()
    )
    expected = {"too_short", "wrong_version", "wrong_length", "unknown_member", "other_session"}
    wait_until(lambda: set(started.ignored) == expected)
    assert started.stream.is_wanting
    receiver.close()


def test_a_report_that_everything_is_verified_silences_the_sender(start: Start) -> None:
    started = start()
    receiver = started.join()
    read_pass(receiver)
    header = Header(MessageType.REPORT, receiver.answer["session"], EPOCH)
    receiver.say(Report(header, receiver.member, ROWS_SENT * COLUMNS - 1, 0, 0, 4, Tally(160), (), 0, 1, 1).encode())
    wait_until(lambda: not started.stream.is_wanting)
    assert [member.is_complete for member in machine_members(started).values()] == [True]
    assert started.stream.datagrams == ROWS_SENT * COLUMNS
    receiver.close()


def test_the_end_is_said_three_times_and_everything_is_closed(start: Start) -> None:
    before = open_descriptors()
    started = start()
    receiver = started.join()
    read_pass(receiver)
    started.stop()
    for _ in range(END_COPIES):
        assert isinstance(read(receiver, lambda m: isinstance(m, Control)), Control)
    receiver.close()
    assert started.stream.has_ended
    assert open_descriptors() == before


def test_what_comes_for_a_session_that_has_ended_is_dropped(start: Start) -> None:
    started = start()
    started.stop()
    started.stream.set_rate(5)
    started.stop()
    assert not started.stream._inbox


def test_a_disk_error_ends_the_session_with_a_message(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """Receivers would ask for what cannot be read for ever; so they are told to join again."""
    started = start()
    receiver = started.join()
    read_pass(receiver)
    os.truncate(started.path, 10)
    receiver.say(nack(receiver, b"\x01" * COLUMNS, ROWS_SENT * COLUMNS - 1))
    assert isinstance(read(receiver, lambda m: isinstance(m, Control)), Control)
    wait_until(lambda: started.stream.machine.has_ended)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "the image cannot be read; `dpd content verify` tells where" in record.message
    assert record.exc_info is None
    receiver.close()


def test_a_page_that_cannot_be_read_while_sending_is_loss_and_no_crash(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """The file lost its end under the mapping: the kernel answers EFAULT to the send, not SIGBUS to us."""
    started = start(rate_mbit_s=0.5)
    receiver = started.join()
    read(receiver, lambda m: isinstance(m, Symbol))
    os.truncate(started.path, 4096)
    wait_until(lambda: started.stream.send_errors > 0)
    assert not started.stream.machine.has_ended
    assert "multicast cannot be sent" in caplog.text
    receiver.close()


def test_a_bug_in_the_thread_ends_the_session_and_is_logged(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    started = start()
    started.stream.tell(lambda now: 1 / 0)  # type: ignore[arg-type]
    wait_until(lambda: started.stream.machine.has_ended and started.flushes > 0)
    assert "multicast session failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert started.stream.has_ended


def test_an_error_of_the_socket_that_will_not_pass_ends_the_session_in_one_line(
    start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    """As on an interface whose MTU is below 1464 bytes."""
    started = start()
    started.stream._outlet = TooSmall()  # type: ignore[assignment]
    receiver = started.join()
    wait_until(lambda: started.stream.machine.has_ended)
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert "its datagrams cannot be sent" in record.message
    assert record.exc_info is None
    receiver.close()


def test_of_a_dead_receiver_the_owner_is_told(start: Start) -> None:
    started = start(member_timeout_s=0.05)
    started.admit()
    wait_until(lambda: len(started.forgotten) == 2)
    assert started.forgotten == [MemberSilent(0x1_0000_0001), MemberForgotten(0x1_0000_0001)]
    assert not machine_members(started)
    assert started.stream.silent == 1


def test_an_address_that_is_not_ours_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpd.service.network.sending_socket.interface_address", lambda _: "192.0.2.77")
    path = write_image(tmp_path / "image", SIZE)
    with pytest.raises(ServiceError, match=r"multicast socket on 192.0.2.77: Cannot assign"):
        Started(path, SETTINGS)


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_no_route_for_multicast_is_told_once_and_awaited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A thread moves into an empty namespace; the stream's socket is born there."""
    started: list[Started] = []

    def begin() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0  # CLONE_NEWNET
        path = write_image(tmp_path / "image", SIZE)
        started.append(Started(path, replace(SETTINGS, interface="")))

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    stream = started[0].stream
    started[0].admit()
    wait_until(lambda: stream.send_errors > 3)
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "check multicast.interface, or `ip route add 224.0.0.0/4 dev" in warnings[0].message
    assert vars(warnings[0])["error"] == "Network is unreachable"
    assert not stream.has_ended
    started[0].stop()


def test_an_idle_session_costs_no_cpu(start: Start) -> None:
    started = start()
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05
    assert started.flushes <= 2


def test_beats_and_controls_are_signed_and_nothing_else(start: Start) -> None:
    started = start()
    receiver = started.join()
    signed: dict[MessageType, bytes] = {}
    read_pass(receiver)
    started.stop()
    while MessageType.CONTROL not in signed:
        datagram = receiver.read()
        kind = decode_message(datagram).header.type
        if kind in (MessageType.BEAT, MessageType.CONTROL):
            signed[kind] = datagram
            assert datagram[-SIGNATURE_BYTES:] == sha512(datagram[:-SIGNATURE_BYTES]).digest()
    assert {decode_header(body).type for body in started.signed} == {MessageType.BEAT, MessageType.CONTROL}
    receiver.close()


def test_the_speed_class_is_in_every_header(start: Start) -> None:
    receiver = start().join()
    header = read(receiver, lambda m: isinstance(m, Symbol)).header
    assert (header.speed_class, header.session) == (1, SESSION)
    receiver.close()


@pytest.mark.parametrize("is_paced", [True, False])
def test_the_kernel_is_told_the_rate_where_its_queue_heeds_it(tmp_path: Path, is_paced: bool) -> None:
    settings = replace(SETTINGS, rate_mbit_s=80.0)
    started = Started(write_image(tmp_path / "image", SIZE), settings, is_paced_by_kernel=is_paced)

    def kernel_rate() -> int:
        return started.sending.sock.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE)

    assert (kernel_rate() == 10_000_000) is is_paced
    started.stream.set_rate(160e6)
    wait_until(lambda: started.stream.bucket.rate_bit_s == 160e6)
    wait_until(lambda: (kernel_rate() == 20_000_000) is is_paced)
    started.stop()


def test_the_socket_is_a_multicast_one_on_the_chosen_interface(start: Start) -> None:
    started = start(ttl=0)
    sock = started.stream._socket
    assert sock.getsockname()[0] == LOOPBACK
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL) == 0
