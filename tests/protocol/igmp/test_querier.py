# SPDX-License-Identifier: Apache-2.0
"""The election by its timers: who asks, who is silent, who takes over, and what is asked after a leave."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address
from random import Random

import pytest

from dpd.protocol.igmp.message import (
    EVERY_GROUP,
    ROUTER_ALERT,
    Leave,
    Message,
    Query,
    Record,
    RecordType,
    Report,
    decode,
)
from dpd.protocol.igmp.querier import (
    MAX_LEFT_GROUPS,
    Elected,
    Ignored,
    Intervals,
    OlderVersion,
    Querier,
    State,
    Yielded,
)

OURS, LOWER, HIGHER = "10.0.0.5", "10.0.0.4", "10.0.0.40"
GROUP = "239.192.0.7"
IPV4 = struct.Struct("!BBHHHBBH4s4s")


def packet(message: Message, source: str, ttl: int = 1) -> bytes:
    body = message.encode()
    fields = (0x46, 0xC0, 24 + len(body), 0, 0, ttl, 2, 0, IPv4Address(source).packed, IPv4Address("224.0.0.1").packed)
    return IPV4.pack(*fields) + ROUTER_ALERT + body


def hear(querier: Querier, message: Message, source: str, now: float, ttl: int = 1) -> None:
    querier.receive_datagram(packet(message, source, ttl), (source, 0), now)


def facts(querier: Querier) -> list[object]:
    found: list[object] = []
    while (event := querier.next_event()) is not None:
        found.append(event)
    return found


def run(querier: Querier, begin: float, end: float) -> list[tuple[float, str, Query]]:
    """Let time pass. Returns (time, destination, query) of what was sent."""
    sent, now = [], begin
    while True:
        querier.handle_timeout(now)
        while (transmit := querier.poll_transmit(now)) is not None:
            message = decode(bytes(transmit.pieces[0]))
            assert isinstance(message, Query)
            sent.append((now, transmit.destination[0], message))
        due = querier.next_timeout()
        assert due is not None
        assert due > now, "it would spin"
        if due > end:
            return sent
        now = due


def test_it_asks_at_once_again_soon_and_then_every_125_seconds() -> None:
    querier = Querier(OURS, 100.0)
    sent = run(querier, 100.0, 500.0)
    assert [at - 100 for at, _, _ in sent] == [0, 31.25, 156.25, 281.25]
    assert {destination for _, destination, _ in sent} == {"224.0.0.1"}
    assert sent[0][2] == Query(EVERY_GROUP, 10.0, 3, robustness=2, interval_s=125)
    assert facts(querier) == [Elected()]


def test_a_lower_address_silences_it_until_that_one_is_gone() -> None:
    querier = Querier(OURS, 0.0)
    run(querier, 0.0, 10.0)
    hear(querier, Query(robustness=2, interval_s=125), LOWER, 10.0)
    assert (querier.state, querier.querier) == (State.NON_QUERIER, LOWER)
    assert run(querier, 10.0, 264.9) == []
    hear(querier, Query(robustness=2, interval_s=125), LOWER, 264.9)
    assert run(querier, 264.9, 519.8) == []
    assert [at for at, _, _ in run(querier, 519.8, 530.0)] == [pytest.approx(264.9 + 255)]
    assert querier.querier == OURS
    assert facts(querier) == [Elected(), Yielded(LOWER), Elected(silent=LOWER)]


def test_a_higher_address_changes_nothing() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(), HIGHER, 1.0)
    assert querier.state is State.QUERIER
    assert facts(querier) == [Elected(), Ignored("higher_address")]


def test_addresses_are_compared_as_numbers() -> None:
    querier = Querier("10.0.0.9", 0.0)
    hear(querier, Query(), "10.0.0.10", 1.0)
    assert querier.state is State.QUERIER


def test_a_querier_s_own_interval_decides_how_long_it_is_waited_for() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(max_response_s=4.0, robustness=3, interval_s=20), LOWER, 0.0)
    assert querier.next_timeout() == 3 * 20 + 2


def test_group_queries_of_a_lower_address_count_but_their_response_time_does_not() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(GROUP, max_response_s=1.0), LOWER, 0.0)
    assert querier.next_timeout() == 255


def test_a_query_without_source_counts_in_no_election() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(), "0.0.0.0", 1.0)
    assert querier.state is State.QUERIER
    assert Ignored("no_source") in facts(querier)


def test_what_came_through_a_router_is_ignored() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(), LOWER, 1.0, ttl=2)
    assert querier.state is State.QUERIER
    assert Ignored("ttl") in facts(querier)


def test_its_own_packets_and_broken_ones_change_nothing() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(), OURS, 1.0)
    querier.receive_datagram(b"\x46garbage", (LOWER, 0), 1.0)
    broken = bytearray(packet(Query(), LOWER))
    broken[-1] ^= 1
    querier.receive_datagram(broken, (LOWER, 0), 1.0)
    assert querier.state is State.QUERIER
    assert facts(querier) == [Elected(), Ignored("malformed_ip_header"), Ignored("malformed_checksum")]


def test_beside_an_old_router_it_asks_in_version_2() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(version=2), HIGHER, 1.0)
    hear(querier, Query(version=2), HIGHER, 2.0)
    assert [query.version for _, _, query in run(querier, 2.0, 250.0)] == [2, 2, 2]
    assert facts(querier) == [
        Elected(),
        OlderVersion(HIGHER, 2),
        Ignored("higher_address"),
        Ignored("higher_address"),
    ]
    assert [query.version for _, _, query in run(querier, 260.0, 420.0)] == [3, 3]


@pytest.mark.parametrize(
    "message", [Leave(GROUP), Report(3, (Record(RecordType.TO_INCLUDE, GROUP),))], ids=["version 2", "version 3"]
)
def test_a_group_that_somebody_left_is_asked_after_twice(message: Message) -> None:
    querier = Querier(OURS, 0.0)
    run(querier, 0.0, 5.0)
    hear(querier, message, HIGHER, 5.0)
    hear(querier, message, HIGHER, 5.5)
    sent = run(querier, 5.5, 20.0)
    assert [(at, destination, query.group, query.max_response_s) for at, destination, query in sent] == [
        (5.5, GROUP, GROUP, 1.0),
        (6.5, GROUP, GROUP, 1.0),
    ]


@pytest.mark.parametrize(
    "message",
    [
        Leave("224.0.0.251"),
        Report(3, (Record(RecordType.TO_EXCLUDE, GROUP),)),
        Report(3, (Record(RecordType.TO_INCLUDE, GROUP, ("10.0.0.1",)),)),
        Report(2, (Record(RecordType.TO_EXCLUDE, GROUP),)),
    ],
)
def test_other_news_of_members_ask_nothing(message: Message) -> None:
    querier = Querier(OURS, 0.0)
    run(querier, 0.0, 5.0)
    hear(querier, message, HIGHER, 5.0)
    assert run(querier, 5.0, 20.0) == []


def test_leaves_are_none_of_a_silent_candidate_s_business() -> None:
    querier = Querier(OURS, 0.0)
    hear(querier, Query(), LOWER, 1.0)
    hear(querier, Leave(GROUP), HIGHER, 2.0)
    assert run(querier, 2.0, 20.0) == []


def test_a_flood_of_leaves_is_bounded() -> None:
    querier = Querier(OURS, 0.0)
    run(querier, 0.0, 5.0)
    for number in range(1000):
        hear(querier, Leave(f"239.1.{number >> 8}.{number & 255}"), HIGHER, 5.0)
    assert len(run(querier, 5.0, 20.0)) == 2 * MAX_LEFT_GROUPS


def test_a_new_address_of_the_interface_is_ours() -> None:
    querier = Querier(OURS, 0.0)
    querier.change_address("10.0.0.50")
    assert querier.querier == "10.0.0.50"
    hear(querier, Query(), HIGHER, 1.0)
    assert querier.state is State.NON_QUERIER
    querier.change_address("10.0.0.1")
    assert querier.querier == HIGHER


@pytest.mark.parametrize("seed", range(20))
def test_of_many_candidates_the_lowest_asks_and_when_it_goes_the_next(seed: int) -> None:
    """Everybody hears everybody, a third of the packets is lost; they start at random times."""
    rng = Random(seed)
    candidates = {
        f"10.0.0.{number}": Querier(f"10.0.0.{number}", rng.random() * 60) for number in rng.sample(range(1, 99), 5)
    }
    order = sorted(candidates, key=IPv4Address)

    def live(begin: int, end: int) -> None:
        for now in range(begin, end):
            for address, querier in candidates.items():
                querier.handle_timeout(now)
                while (transmit := querier.poll_transmit(now)) is not None:
                    query = decode(bytes(transmit.pieces[0]))
                    for other in candidates.values():
                        if rng.random() > 1 / 3:
                            hear(other, query, address, now)

    live(0, 3000)
    assert order[0] in [address for address, q in candidates.items() if q.state is State.QUERIER]
    del candidates[order[0]]
    live(3000, 9000)
    assert candidates[order[1]].state is State.QUERIER


def test_intervals_are_those_of_the_rfc() -> None:
    assert (Intervals().startup_s, Intervals().other_querier_s) == (31.25, 255.0)
