# SPDX-License-Identifier: Apache-2.0
"""The receiver's threads and sockets, against a sender written by hand on loopback; whole transfers are in
test_multicast.py."""

from __future__ import annotations

import ctypes
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tests.service.multicast_site import LOOPBACK, PATIENCE_S, open_descriptors

from dpd.errors import ContentError, SessionError
from dpd.protocol.multicast import receiver as machine
from dpd.protocol.multicast.fec import StandardCodec
from dpd.protocol.multicast.geometry import COLUMNS, ROW_BYTES, SLAB_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.leaves import leaves_of
from dpd.protocol.multicast.message import (
    Beat,
    Control,
    ControlCode,
    Flag,
    Header,
    MessageType,
    Nack,
    Report,
    decode_message,
)
from dpd.protocol.multicast.receiver import SessionFact
from dpd.protocol.multicast.train_headers import encode_row_headers
from dpd.service.receiving.receiver import (
    GroupSocket,
    Membership,
    Progress,
    ReceiverSession,
    _Renewal,
    granted_credit,
    open_group,
)

GROUP, SESSION, EPOCH, MEMBER = "239.192.79.5", 77, 5, 0xABC
ROWS = 4
CONTENT = random.Random(4).randbytes(ROWS * ROW_BYTES - 50)


class Store:
    """Keeps what it is given; may be told to be slow, to fail, or to find everything damaged."""

    def __init__(self) -> None:
        self.slabs: dict[int, bytes] = {}
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.refusals = 0
        self.synced = 0

    def check_and_write(self, slab: int, content: memoryview) -> bool:
        self.reached.set()
        self.gate.wait(PATIENCE_S)
        if self.error:
            raise self.error
        if self.refusals:
            self.refusals -= 1
            return False
        self.slabs[slab] = bytes(content)
        return True

    def sync(self) -> None:
        self.synced += 1


class Stage:
    """A receiver in its thread, and the sender's side of the wire."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.geometry = Geometry(len(content))
        self.store = Store()
        self.progress: list[Progress] = []
        self.seq = 0
        self.sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        self.sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 0)
        self.sender.bind((LOOPBACK, 0))
        self.sender.settimeout(PATIENCE_S)
        self.port = self.sender.getsockname()[1]  # a port of our own: other runs may be under way
        self.session = ReceiverSession(
            membership=Membership(SESSION, EPOCH, MEMBER, GROUP, self.port, (LOOPBACK, self.port)),
            group_socket=open_group(GROUP, self.port, LOOPBACK),
            geometry=self.geometry,
            verified=0,
            slots=4,
            store=self.store,
            codec=StandardCodec(),
            on_progress=self.progress.append,
        )
        self.outcome: SessionFact | Exception | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self.outcome = self.session.run()
        except Exception as error:
            self.outcome = error

    def wait(self) -> SessionFact | Exception | None:
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive(), "the receiver did not come to an end"
        return self.outcome

    def send(self, datagram: bytes) -> None:
        self.sender.sendto(datagram, (GROUP, self.port))

    def send_slab(self, slab: int = 0, lost: int = -1, session: int = SESSION) -> None:
        """All rows; `lost` is a column missing in the first of them."""
        rows = self.geometry.rows(slab)
        for row in range(rows):
            flags = Flag.END_OF_SLAB if row == rows - 1 else 0
            start = slab * SLAB_BYTES + row * ROW_BYTES
            content = self.content[start : start + ROW_BYTES].ljust(ROW_BYTES, b"\0")
            headers = encode_row_headers(
                Header(MessageType.DATA, session, EPOCH, flags, slab, row, tx_seq=self.seq, nack_ms=2)
            )
            self.seq += COLUMNS
            for column in range(COLUMNS):
                if row or column != lost:
                    symbol = content[column * SYMBOL_BYTES : (column + 1) * SYMBOL_BYTES]
                    self.send(headers[28 * column : 28 * column + 28] + symbol)

    def say(self, kind: MessageType, **fields: int) -> None:
        header = Header(kind, SESSION, EPOCH, tx_seq=(self.seq - 1) & 0xFFFFFFFF, **fields)
        self.send(
            Control(header).encode() if kind is MessageType.CONTROL else Beat(header, 0, 1, 1, (MEMBER,)).encode()
        )

    def hear(self, wanted: Callable[[Nack | Report], bool]) -> Nack | Report:
        """The next feedback of this kind."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            message = decode_message(self.sender.recv(65536))
            assert isinstance(message, Nack | Report)
            if wanted(message):
                return message
        raise AssertionError("it was not said")

    def close(self) -> None:
        self.store.gate.set()
        if self._thread.is_alive():
            self.say(MessageType.CONTROL, row=ControlCode.END)
            self.wait()
        elif self.outcome is None:  # never started
            self.session._socket.close()
            self.session._feedback.close()
            os.close(self.session._wake)
        self.sender.close()


@pytest.fixture
def stage() -> Iterator[Stage]:
    stage = Stage()
    stage.start()
    yield stage
    stage.close()


def test_what_is_sent_is_stored_and_reported(stage: Stage) -> None:
    stage.send_slab()
    assert stage.wait() is SessionFact.FINISHED
    assert stage.store.slabs == {0: CONTENT}
    assert stage.store.synced >= 1
    report = stage.hear(lambda m: isinstance(m, Report) and m.verified == 1)
    assert isinstance(report, Report)
    assert (report.member, report.tally.lost) == (MEMBER, 0)


def test_a_loss_is_asked_for_and_mended(stage: Stage) -> None:
    stage.send_slab(lost=6)
    nack = stage.hear(lambda m: isinstance(m, Nack))
    assert isinstance(nack, Nack)
    assert [(s.slab, sum(s.deficits), s.deficits[6]) for s in nack.slabs] == [(0, 1, 1)]
    repair = Header(MessageType.DATA, SESSION, EPOCH, Flag.REPAIR | Flag.END_OF_SLAB, 0, 0, 6, tx_seq=stage.seq)
    stage.send(repair.encode() + CONTENT[6 * SYMBOL_BYTES : 7 * SYMBOL_BYTES])
    assert stage.wait() is SessionFact.FINISHED
    assert stage.store.slabs == {0: CONTENT}


def test_a_damaged_slab_is_counted_and_received_again(stage: Stage) -> None:
    stage.store.refusals = 1
    stage.send_slab()
    stage.hear(lambda m: isinstance(m, Report) and m.seen_seq == stage.seq - 1 and not m.held)
    stage.send_slab()
    assert stage.wait() is SessionFact.FINISHED
    assert stage.session.machine.counters.bad_slabs == 1


def test_progress_is_told_in_bytes_of_the_object() -> None:
    stage = Stage(random.Random(1).randbytes(SLAB_BYTES + 1000))
    stage.start()
    stage.send_slab(1)
    stage.hear(lambda m: isinstance(m, Report) and m.verified == 0b10)
    stage.say(MessageType.CONTROL, row=ControlCode.END)
    assert stage.wait() is SessionFact.ENDED
    last = stage.progress[-1]
    assert (last.slabs, last.verified_slabs, last.verified_bytes, last.size_bytes) == (2, 1, 1000, SLAB_BYTES + 1000)
    stage.close()


def test_a_slab_stored_when_the_session_ends_still_counts(stage: Stage) -> None:
    """Else the next session would be asked for it again."""
    stage.store.gate.clear()
    stage.send_slab()
    assert stage.store.reached.wait(PATIENCE_S)
    stage.say(MessageType.CONTROL, row=ControlCode.END)
    until(lambda: stage.session._socket.fileno() < 0 or stage.session._tasks.qsize() > 0)
    stage.store.gate.set()
    assert stage.wait() is SessionFact.ENDED
    assert stage.session.machine.verified == 1


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.mark.parametrize("error", [ContentError("the disk is full"), KeyError("a bug")], ids=["disk", "bug"])
def test_an_error_while_storing_ends_the_session_with_it(stage: Stage, error: Exception) -> None:
    """A worker that dies alone would leave the slab in its hands for ever."""
    stage.store.error = error
    stage.send_slab()
    assert stage.wait() is error
    assert stage.store.synced == 1
    assert not [t.name for t in threading.enumerate() if t.name.startswith("slab-")]


def test_whoever_watches_may_end_it(stage: Stage) -> None:
    def stop(_: Progress) -> None:
        raise SessionError("enough")

    stage.session.on_progress = stop
    assert isinstance(stage.wait(), SessionError)


def test_silence_is_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SILENCE_S", 0.1)
    stage = Stage()
    stage.start()
    assert stage.wait() is SessionFact.SILENT
    stage.close()


def test_what_is_not_ours_is_counted_by_reason(stage: Stage) -> None:
    stage.send(b"")
    stage.send(b"\xff" * 100)
    stage.send_slab(session=SESSION + 1)
    stage.seq = 0
    stage.send_slab()
    assert stage.wait() is SessionFact.FINISHED
    assert stage.session.ignored == {"too_short": 1, "wrong_version": 1, "other_session": ROWS * COLUMNS}


def test_everything_is_closed_however_it_ends() -> None:
    before = open_descriptors()
    for end in ("finished", "ended", "failed"):
        stage = Stage()
        stage.start()
        stage.store.error = ContentError("disk") if end == "failed" else None
        if end == "ended":
            stage.say(MessageType.CONTROL, row=ControlCode.END)
        else:
            stage.send_slab()
        stage.wait()
        stage.close()
    assert open_descriptors() == before


def test_waiting_costs_no_cpu(stage: Stage) -> None:
    before = time.process_time()
    time.sleep(0.2)
    assert time.process_time() - before < 0.05


# ---- slabs from elsewhere, damaged ones, silence


def test_another_thread_may_bring_a_slab(stage: Stage) -> None:
    stage.session.call_soon(lambda now: stage.session.machine.provide_unicast(0, now))
    assert stage.wait() is SessionFact.FINISHED
    assert stage.session.machine.counters.unicast_slabs == 1
    called: list[float] = []
    stage.session.call_soon(called.append)
    assert called == [], "the session has ended"


def test_what_another_threads_call_raises_ends_the_session(stage: Stage) -> None:
    def fail(_: float) -> None:
        raise SessionError("enough")

    stage.session.call_soon(fail)
    assert isinstance(stage.wait(), SessionError)


def test_of_a_damaged_slab_what_its_leaves_confirm_is_kept(stage: Stage) -> None:
    """One symbol is forged; that one alone is asked for."""
    rows = CONTENT.ljust(ROWS * ROW_BYTES, b"\0")
    stage.session._fetch_leaves = lambda _: leaves_of(memoryview(rows))
    stage.store.refusals = 1
    true, stage.content = stage.content, CONTENT[: 3 * SYMBOL_BYTES] + bytes(SYMBOL_BYTES) + CONTENT[4 * SYMBOL_BYTES :]
    stage.send_slab()
    nack = stage.hear(lambda m: isinstance(m, Nack))
    assert isinstance(nack, Nack)
    assert [(s.slab, list(s.deficits)) for s in nack.slabs] == [(0, [column == 3 for column in range(COLUMNS)])]
    repair = Header(MessageType.DATA, SESSION, EPOCH, Flag.REPAIR | Flag.END_OF_SLAB, 0, 0, 3, tx_seq=stage.seq)
    stage.send(repair.encode() + true[3 * SYMBOL_BYTES : 4 * SYMBOL_BYTES])
    assert stage.wait() is SessionFact.FINISHED
    assert stage.store.slabs == {0: CONTENT}
    assert stage.session.machine.counters.bad_slabs == 1


@pytest.mark.parametrize("leaves", [None, b"", b"too few"], ids=["none", "empty", "short"])
def test_without_leaves_a_damaged_slab_comes_again(stage: Stage, leaves: bytes | None) -> None:
    stage.session._fetch_leaves = lambda _: leaves
    stage.store.refusals = 1
    stage.send_slab()
    stage.hear(lambda m: isinstance(m, Report) and m.seen_seq == stage.seq - 1 and not m.held)
    stage.send_slab()
    assert stage.wait() is SessionFact.FINISHED


def test_who_has_another_source_bears_a_silence_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SILENCE_S", 0.1)
    stage = Stage()
    stage.session.awaits_other_source = True
    stage.start()
    time.sleep(0.4)
    assert stage.outcome is None
    stage.say(MessageType.BEAT)
    assert stage.wait() is SessionFact.SILENT, "it was heard and then no more: that is another matter"
    stage.close()


def test_who_is_apart_says_nothing_and_bears_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "SILENCE_S", 0.1)
    stage = Stage()
    stage.session.is_apart = True
    stage.start()
    stage.say(MessageType.BEAT)
    time.sleep(0.4)
    assert stage.outcome is None
    stage.sender.settimeout(0.05)
    with pytest.raises(TimeoutError):
        stage.sender.recv(65536)
    stage.close()


def test_a_silent_group_is_joined_again_and_again_but_ever_more_seldom() -> None:
    renewals: list[float] = []
    now = [100.0]
    renewal = _Renewal(lambda: renewals.append(round(now[0] - 100.0, 1)), now[0])
    while now[0] < 140.0:
        now[0] += 0.2
        renewal.watch(0, 100.0, now[0])
    assert renewals == pytest.approx([1.0, 3.0, 7.0, 15.0, 31.0], abs=0.6)
    renewals.clear()
    renewal.watch(50, 100.0, now[0])
    for _ in range(7):
        now[0] += 0.2
        renewal.watch(50, 100.0, now[0])
    assert len(renewals) == 1, "after it was heard again the first second counts again"


def test_a_group_that_flows_is_left_in_peace() -> None:
    renewals: list[None] = []
    renewal = _Renewal(lambda: renewals.append(None), 0.0)
    for step in range(100):
        renewal.watch(0, step * 0.2 if step % 4 == 0 else 0.0, step * 0.2)  # BEATs, one every 0.8 s
        renewal.watch(step // 4, 0.0, step * 0.2)
    assert renewals == []


# ---- sockets


def test_renewing_a_membership_keeps_the_group() -> None:
    group = open_group(GROUP, 63995, LOOPBACK)
    group.renew()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
        sender.sendto(b"heard", (GROUP, 63995))
    assert group.sock.recv(100) == b"heard"
    group.sock.close()


def test_a_source_specific_group_is_joined_for_its_source() -> None:
    group = open_group("232.192.79.5", 63994, LOOPBACK, "127.0.0.2")
    group.renew()
    for source in (LOOPBACK, "127.0.0.2"):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((source, 0))
            sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(LOOPBACK))
            sender.sendto(source.encode(), ("232.192.79.5", 63994))
    assert group.sock.recv(100) == b"127.0.0.2"
    with pytest.raises(BlockingIOError):
        group.sock.recv(100)
    group.sock.close()


def test_the_credit_is_what_the_kernel_grants() -> None:
    group = open_group(GROUP, 63999, LOOPBACK)
    assert group.credit == granted_credit() > 50
    group.sock.close()


def test_a_port_in_use_by_another_receiver_is_shared() -> None:
    groups = [open_group(GROUP, 63998, LOOPBACK) for _ in range(2)]
    for group in groups:
        group.sock.close()


@pytest.mark.parametrize(
    ("group", "interface", "reason"),
    [(GROUP, "192.0.2.9", "No such device"), ("192.0.2.9", LOOPBACK, "Cannot assign requested address")],
)
def test_a_group_that_cannot_be_joined_names_the_way_out(group: str, interface: str, reason: str) -> None:
    before = open_descriptors()
    with pytest.raises(SessionError) as caught:
        open_group(group, 63997, interface)
    assert str(caught.value).startswith(f"cannot join group {group} port 63997: {reason}; name the interface")
    assert "ip route add 224.0.0.0/4 dev eth0" in str(caught.value)
    assert open_descriptors() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace of its own needs root")
def test_no_way_to_the_sender_is_told_and_nothing_stays_open() -> None:
    """A thread moves into an empty namespace: there is no route at all."""
    errors: list[Exception] = []
    before = open_descriptors()

    def begin() -> None:
        assert ctypes.CDLL(None, use_errno=True).unshare(0x40000000) == 0  # CLONE_NEWNET
        try:
            open_alone()
        except SessionError as error:
            errors.append(error)

    thread = threading.Thread(target=begin)
    thread.start()
    thread.join()
    assert [str(error) for error in errors] == [
        "cannot send to the distribution point at 192.0.2.1: Network is unreachable"
    ]
    assert open_descriptors() == before


def open_alone() -> None:
    """A receiver where nothing leads anywhere."""
    ReceiverSession(
        membership=Membership(SESSION, EPOCH, MEMBER, GROUP, 63996, ("192.0.2.1", 4000)),
        group_socket=GroupSocket(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 100),
        geometry=Geometry(1),
        verified=0,
        slots=4,
        store=Store(),
        codec=StandardCodec(),
        on_progress=lambda _: None,
    )
