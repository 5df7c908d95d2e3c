# SPDX-License-Identifier: Apache-2.0
"""A session and its places: who is admitted where, what a receiver is told, what operators can do, what stays of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.service.multicast_site import LOOPBACK, PACKAGE, PATIENCE_S, SETTINGS, HandReceiver, write_image

from dpd.content.kinds import ContentFormat, ContentKind
from dpd.content.library import Content
from dpd.errors import SessionError
from dpd.protocol.multicast.geometry import ROW_BYTES, SYMBOL_BYTES, Geometry
from dpd.protocol.multicast.message import (
    DATAGRAM_BYTES,
    HEADER_BYTES,
    TAG_BYTES,
    Control,
    ControlCode,
    ControlReason,
    Flag,
    MessageType,
    decode_header,
    decode_message,
)
from dpd.protocol.multicast.policy import PolicyOrder, StreamView
from dpd.service.isal import best_codec
from dpd.service.multicast import session as session_module
from dpd.service.multicast.cast import CastChanges, CastPlan
from dpd.service.multicast.join_request import JoinRequest
from dpd.service.multicast.session import Session
from dpd.service.multicast.session_status import describe_session, present_members
from dpd.service.multicast.slab_source import SlabSource
from dpd.service.multicast.stream import Outfit
from dpd.service.network.groups import GroupRange
from dpd.service.sealing import CIPHER, Opener
from dpd.settings import MulticastSettings
from dpd.telemetry.events import EventLog

SIZE = 5 * ROW_BYTES - 99
SLOW = replace(SETTINGS, rate_mbit_s=1.0, group_range="239.192.80.0/24", member_timeout_s=30.0)


class Opened:
    """A session over a small file, and what it told."""

    def __init__(self, path: Path, settings: MulticastSettings, changes: CastChanges) -> None:
        self.path = path
        self.events = EventLog()
        self.workers = ThreadPoolExecutor(1)
        content = Content(
            PACKAGE, 1, ContentKind.FILE, ContentFormat.RAW, path.name, SIZE, "00" * 32, 1, 1, (), (), 0.0
        )
        plan = CastPlan.of(settings).with_changes(changes)
        self.session = Session(content, settings, plan, self._outfit(settings))

    def _outfit(self, settings: MulticastSettings) -> Outfit:
        groups = GroupRange(settings.group_range, settings.port_low, settings.port_high)
        taken: set[str] = set()

        def allocate(content: Content, speed_class: int) -> Any:
            group = groups.allocate(f"{self.path}/{speed_class}", taken)
            taken.add(group.address)
            return group

        return Outfit(
            epoch=3,
            public_key=b"\x07" * 32,
            sign=lambda body: bytes(64),
            workers=self.workers,
            open_source=lambda content: SlabSource(os.open(self.path, os.O_RDONLY), Geometry(SIZE), best_codec()),
            allocate=allocate,
            flush=lambda stream: None,
            first_rate=lambda ceiling, speed_class: ceiling,
            events=self.events,
            is_paced_by_kernel=False,
        )

    def join(self, *, is_secure: bool = False, **request: Any) -> dict[str, Any]:
        return self.session.join(JoinRequest(**{"credit": 4000, **request}), LOOPBACK, is_secure=is_secure)

    def label(self, answer: dict[str, Any]) -> str:
        return str(answer["member"][8:])

    def told(self) -> list[str]:
        return [event.event for event in self.events.after(0)]

    def shown(self, answer: dict[str, Any]) -> Any:
        (member,) = [m for m in present_members(self.session) if m.member == self.label(answer)]
        return member

    def stop(self) -> None:
        self.session.stop()
        self.workers.shutdown()


Open = Callable[..., Opened]


@pytest.fixture
def open_session(tmp_path: Path) -> Iterator[Open]:
    opened: list[Opened] = []

    def open_session(changes: CastChanges | None = None, **settings: Any) -> Opened:
        path = write_image(tmp_path / "image", SIZE)
        opened.append(Opened(path, replace(SLOW, **settings), changes or CastChanges()))
        return opened[-1]

    yield open_session
    for each in opened:
        each.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def next_order(receiver: HandReceiver) -> Control:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        message = decode_message(receiver.read())
        if isinstance(message, Control):
            return message
    raise AssertionError("no order came")


# ---- joining


def test_the_answer_says_all_that_a_receiver_must_know(open_session: Open) -> None:
    opened = open_session(floor_kib_s=99, friendly=True)
    answer = opened.join(name="pc1")
    stream = opened.session.streams[0]
    assert answer.pop("member")[8:] == present_members(opened.session)[0].member
    assert answer == {
        "wire": 1,
        "mode": "multicast",
        "session_id": opened.session.session_id,
        "session": opened.session.number,
        "epoch": 3,
        "class": 0,
        "group": stream.group.address,
        "port": stream.group.port,
        "source": "",
        "sender": LOOPBACK,
        "feedback_port": stream.stream.feedback_port,
        "package_id": PACKAGE,
        "source_version": 1,
        "size_bytes": SIZE,
        "sha256": "00" * 32,
        "public_key": "07" * 32,
        "friendly": True,
        "floor_kib_s": 99,
        "starts_in_s": pytest.approx(0.05),
        "waiting": "starts in 1 s",
        "cipher": "",
        "key": "",
        "salt": "",
    }


def test_a_source_specific_group_names_its_source(open_session: Open) -> None:
    answer = open_session(group_range="232.192.80.0/24").join()
    assert (answer["source"], answer["group"][:4]) == (LOOPBACK, "232.")


def test_a_receiver_that_joins_again_is_replaced(open_session: Open) -> None:
    opened = open_session()
    first = opened.join(name="pc1")
    machine = opened.session.streams[0].stream.machine
    until(lambda: len(machine.members) == 1)
    again = opened.join(name="pc1", member=int(first["member"], 16))
    assert again["member"] != first["member"]
    until(lambda: list(machine.members) == [int(again["member"], 16)])
    assert [m.member for m in present_members(opened.session)] == [opened.label(again)]
    assert not opened.session.complete(int(first["member"], 16), {}), "the old id is worth nothing"


def test_an_unknown_earlier_id_is_a_new_receiver(open_session: Open) -> None:
    opened = open_session()
    assert opened.join(member=12345)["mode"] == "multicast"
    assert len(opened.session.roster) == 1


def test_a_completion_is_counted_with_its_statistics(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join(name="pc1")
    member = int(answer["member"], 16)
    assert opened.session.complete(
        member, {"received": 160, "repairs": 10, "lost": 4, "unicast_bytes": 77, "recovered": 3}
    )
    assert not opened.session.complete(member, {})
    (gone,) = opened.session.roster.finished
    assert (gone.state, gone.name, gone.verified_slabs, gone.recovered) == ("complete", "pc1", 1, 3)
    assert (gone.bytes_first_sent, gone.bytes_repair, gone.bytes_unicast) == (150 * SYMBOL_BYTES, 10 * SYMBOL_BYTES, 77)
    assert gone.finished_at == pytest.approx(time.time(), abs=5)
    event = opened.events.after(0)[-1]
    assert event.event == "receiver_completed"
    assert (event.fields["host"], event.fields["lost"], event.fields["bytes_unicast"]) == ("pc1", 4, 77)
    until(lambda: not opened.session.streams[0].stream.machine.members)


def test_a_receiver_that_tells_of_progress_by_http_leaves_its_stream_and_may_come_back(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join(name="pc1")
    member, machine = int(answer["member"], 16), opened.session.streams[0].stream.machine
    until(lambda: member in machine.members)
    assert opened.session.progress(member, 0b1)
    until(lambda: not machine.members)
    shown = opened.shown(answer)
    assert (shown.mode, shown.state, shown.verified_slabs) == ("unicast", "receiving", 1)
    assert opened.join(name="pc1", member=member)["mode"] == "multicast"
    assert not opened.session.progress(member, 0b1)


def test_those_whom_nobody_hears_any_more_are_given_up(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join()
    opened.session.progress(int(answer["member"], 16), 0)
    opened.session.look_after(time.monotonic() + session_module.SILENCE_S - 5)
    assert len(opened.session.roster) == 1
    opened.session.look_after(time.monotonic() + session_module.SILENCE_S + 5)
    assert not opened.session.roster
    assert opened.session.roster.finished[0].state == "lost"
    assert opened.told()[-1] == "receiver_lost"


def test_a_receiver_that_dies_falls_silent_and_is_lost(open_session: Open) -> None:
    opened = open_session(member_timeout_s=0.05)
    opened.join()
    until(lambda: not opened.session.roster)
    assert opened.told()[-2:] == ["receiver_silent", "receiver_lost"]


# ---- scheduled casts


def test_a_session_waits_for_receivers_and_says_so(open_session: Open) -> None:
    opened = open_session(CastChanges(minimum_clients=3, wait_s=240.0))
    assert describe_session(opened.session).waiting == "waiting for 3 of 3 receivers"
    answer = opened.join()
    assert answer["waiting"] == "waiting for 2 of 3 receivers, starts in 4 min"
    assert 239 < answer["starts_in_s"] <= 240
    until(lambda: opened.session.is_busy)
    status = describe_session(opened.session)
    assert (status.state, status.waiting) == ("waiting", "waiting for 2 of 3 receivers, starts in 4 min")
    assert status.datagrams_sent == 0
    for _ in range(2):
        opened.join()
    until(lambda: describe_session(opened.session).datagrams_sent > 0)
    assert describe_session(opened.session).state == "sending"


def test_start_now_overrides_all_of_it(open_session: Open) -> None:
    opened = open_session(CastChanges(minimum_clients=9, start_at=time.time() + 3600))
    opened.join()
    until(lambda: opened.session.is_busy)
    assert describe_session(opened.session).datagrams_sent == 0
    opened.session.start_now()
    until(lambda: describe_session(opened.session).datagrams_sent > 0)


def test_a_plan_can_be_changed_while_receivers_wait(open_session: Open) -> None:
    opened = open_session(CastChanges(minimum_clients=9))
    opened.join()
    until(lambda: opened.session.is_busy)
    opened.session.change(CastChanges(minimum_clients=1))
    until(lambda: describe_session(opened.session).datagrams_sent > 0)
    assert opened.session.plan.minimum_clients == 1


# ---- operators


def test_a_move_is_told_to_the_receiver_which_joins_the_other_group_and_keeps_what_it_has(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join(name="pc1")
    receiver = HandReceiver(answer)
    until(lambda: opened.session.is_busy)
    opened.session.move(opened.label(answer), 1)
    order = next_order(receiver)
    assert (order.code, order.reason, order.members) == (
        ControlCode.MOVE,
        ControlReason.OPERATOR,
        (int(opened.label(answer), 16),),
    )
    assert opened.shown(answer).state == "moving"
    again = opened.join(name="pc1", member=receiver.member, verified=0)
    assert (again["class"], again["session"]) == (1, answer["session"])
    assert again["group"] != answer["group"]
    other = HandReceiver(again)
    while (header := decode_header(other.read())).type is not MessageType.DATA:
        pass
    assert header.speed_class == 1
    shown = opened.shown(again)
    assert (shown.speed_class, shown.class_moves) == (1, 1)
    assert [s.speed_class for s in describe_session(opened.session).streams] == [0, 1]
    with pytest.raises(SessionError, match="is in class 1 already"):
        opened.session.move(opened.label(again), 1)
    receiver.close()
    other.close()


def test_a_kick_with_fall_back_sends_a_receiver_to_http_for_good(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join(name="pc1")
    receiver = HandReceiver(answer)
    until(lambda: opened.session.is_busy)
    opened.session.kick(opened.label(answer), fall_back=True)
    assert next_order(receiver).code == ControlCode.FALL_BACK
    assert opened.shown(answer).mode == "unicast"
    assert opened.session.progress(receiver.member, 0b1), "and it is still one of them"
    again = opened.join(name="pc1", member=receiver.member)
    assert (again["mode"], again["reason"]) == ("unicast", "taken out of the session: operator")
    with pytest.raises(SessionError, match="goes by HTTP: it is in no stream"):
        opened.session.move(opened.label(again), 1)
    assert opened.session.complete(int(again["member"], 16), {"unicast_bytes": SIZE})
    receiver.close()


def test_a_kick_without_fall_back_bars_the_receiver_until_the_session_ends(open_session: Open) -> None:
    opened = open_session()
    answer = opened.join(name="pc1")
    receiver = HandReceiver(answer)
    until(lambda: opened.session.is_busy)
    opened.session.kick(opened.label(answer), fall_back=False)
    assert next_order(receiver).code == ControlCode.KICK
    assert not opened.session.roster
    for request in ({"member": receiver.member}, {"name": "pc1"}):
        with pytest.raises(SessionError, match="was sent away from the session of LAB00001"):
            opened.join(**request)
    assert opened.join(name="pc2")["mode"] == "multicast", "its neighbour behind the same address may"
    assert opened.session.roster.finished[0].state == "kicked"
    receiver.close()


def test_a_receiver_that_is_not_there_cannot_be_ordered_about(open_session: Open) -> None:
    session = open_session().session
    with pytest.raises(SessionError, match="has no receiver 0badcafe; `dpd session members"):
        session.move("0badcafe", 1)
    with pytest.raises(SessionError, match="has no receiver 0badcafe; `dpd session members"):
        session.kick("0badcafe", fall_back=True)


def test_the_end_of_a_session_is_told_and_kept_of_each_receiver(open_session: Open) -> None:
    opened = open_session()
    opened.join()
    opened.session.stop()
    opened.session.stop()
    assert opened.told()[-1:] == ["session_ended"]
    assert opened.told().count("session_ended") == 1
    assert [m.state for m in opened.session.roster.finished] == ["ended"]
    assert describe_session(opened.session).state == "stopped"


# ---- slow receivers


class SlowOne:
    """A policy that has found the receiver it was told to find."""

    def __init__(self, *orders: PolicyOrder) -> None:
        self.orders = list(orders)
        self.looks: list[int] = []
        self.replaced: list[tuple[int, int]] = []

    def judge(self, views: Sequence[StreamView], now: float) -> list[PolicyOrder]:
        self.looks.append(sum(len(view.members) for view in views))
        return [self.orders.pop(0)] if self.orders else []

    def replace(self, member: int, successor: int) -> None:
        self.replaced.append((member, successor))


def test_what_the_policy_orders_is_done(open_session: Open) -> None:
    opened = open_session(slow_clients="multistream")
    answers = [opened.join(name=f"pc{i}") for i in range(3)]
    numbers = [int(answer["member"], 16) for answer in answers]
    until(lambda: len(opened.session.streams[0].stream.machine.members) == 3)
    policy = SlowOne(
        PolicyOrder(numbers[0], ControlCode.MOVE, ControlReason.SLOW, 1),
        PolicyOrder(numbers[1], ControlCode.FALL_BACK, ControlReason.BLAME, 0),
        PolicyOrder(numbers[2], ControlCode.KICK, ControlReason.SLOW, 0),
        PolicyOrder(numbers[2], ControlCode.KICK, ControlReason.SLOW, 0),
    )
    opened.session._policy = policy  # type: ignore[assignment]
    for _ in range(5):
        opened.session.look_after(time.monotonic())
    assert policy.looks[0] == 3
    assert (opened.shown(answers[0]).state, opened.shown(answers[1]).mode) == ("moving", "unicast")
    assert opened.shown(answers[1]).reason == "taken out of the session: blame"
    assert [m.name for m in opened.session.roster.finished] == ["pc2"]
    told = [e for e in opened.events.after(0) if e.event in ("receiver_moved", "receiver_kicked")]
    assert [(e.fields["host"], e.fields["reason"]) for e in told] == [
        ("pc0", "slow"),
        ("pc1", "blame"),
        ("pc2", "slow"),
    ]
    again = opened.join(name="pc0", member=numbers[0])
    assert policy.replaced == [(numbers[0], int(again["member"], 16))]


def test_the_settings_rules_reach_the_policy_also_live(open_session: Open) -> None:
    opened = open_session(slow_clients="disconnect", disconnect_below_kib_s=77, fall_back=False)
    rules = opened.session._policy.rules
    assert (rules.slow_clients.value, rules.below_kib_s, rules.fall_back) == ("disconnect", 77, False)
    opened.session.apply(replace(SLOW, slow_clients="multistream", streams=3))
    assert (opened.session._policy.rules.slow_clients.value, opened.session._policy.rules.streams) == ("multistream", 3)


def test_a_receiver_that_stores_too_little_is_sent_to_http_by_the_real_policy(open_session: Open) -> None:
    """Reports that never show a slab, for longer than the policy watches; its clock is turned by hand."""
    opened = open_session(slow_clients="disconnect", disconnect_below_kib_s=1 << 20, rate_mbit_s=0.0)
    answer = opened.join(name="pc1")
    receiver = HandReceiver(answer)
    machine = opened.session.streams[0].stream.machine
    until(lambda: machine.counters.source_symbols > 0)
    member = machine.members[receiver.member]
    now = time.monotonic()
    for second in range(20):
        member.reported_at = now + second
        opened.session.look_after(now + second)
    assert next_order(receiver).code == ControlCode.FALL_BACK
    assert opened.shown(answer).mode == "unicast"
    receiver.close()


# ---- encryption


def test_keys_are_given_over_tls_alone_and_to_those_who_can_use_them(open_session: Open) -> None:
    opened = open_session(encryption=True)
    plain = opened.join(ciphers=(CIPHER,))
    assert (plain["mode"], "key" in plain) == ("unicast", False)
    assert plain["reason"].endswith("its key goes over TLS alone: join by https")
    unable = opened.join(is_secure=True)
    assert (unable["mode"], "key" in unable) == ("unicast", False)
    assert "is encrypted (aes-128-gcm), which this receiver cannot open" in unable["reason"]
    able = opened.join(is_secure=True, ciphers=(CIPHER,))
    assert (able["mode"], able["cipher"]) == ("multicast", CIPHER)
    assert (len(bytes.fromhex(able["key"])), len(bytes.fromhex(able["salt"]))) == (16, 4)
    assert describe_session(opened.session).is_encrypted


def test_without_fall_back_they_are_refused(open_session: Open) -> None:
    with pytest.raises(SessionError, match="is encrypted"):
        open_session(encryption=True, fall_back=False).join()


def test_every_symbol_is_sealed_under_the_key_of_the_join(open_session: Open) -> None:
    opened = open_session(encryption=True, rate_mbit_s=0.0)
    answer = opened.join(is_secure=True, ciphers=(CIPHER,))
    receiver = HandReceiver(answer)
    opener = Opener(bytes.fromhex(answer["key"]), bytes.fromhex(answer["salt"]))
    symbols: dict[tuple[int, int], bytes] = {}
    while len(symbols) < 5 * 32:
        datagram = receiver.read()
        header = decode_header(datagram)
        if header.type in (MessageType.DATA, MessageType.PARITY):
            assert len(datagram) == DATAGRAM_BYTES + TAG_BYTES
            assert header.flags & Flag.SEALED
            symbol = opener.open(datagram[:HEADER_BYTES], datagram[HEADER_BYTES:])
            assert symbol is not None
            assert symbol != datagram[HEADER_BYTES:-TAG_BYTES]
            symbols[header.row, header.column] = symbol
    content = b"".join(symbols[key] for key in sorted(symbols))
    assert content.rstrip(b"\0") == opened.path.read_bytes().rstrip(b"\0")
    receiver.close()


def test_each_stream_and_each_session_has_a_key_of_its_own(open_session: Open) -> None:
    opened = open_session(encryption=True)
    answer = opened.join(is_secure=True, ciphers=(CIPHER,), name="pc1")
    until(lambda: opened.session.is_busy)
    opened.session.move(opened.label(answer), 1)
    again = opened.join(is_secure=True, ciphers=(CIPHER,), name="pc1", member=int(answer["member"], 16))
    assert again["key"] != answer["key"]
