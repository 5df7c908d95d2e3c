# SPDX-License-Identifier: Apache-2.0
"""Receivers against a member that writes nonsense into headers, one field at a time, with the payload that was sent: what
is under attack here is their order of work, not the bytes. Whole sessions of the real machines in virtual time."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
from tests.sim.clock import seeded
from tests.sim.group import Group
from tests.sim.link import Element, Flight, Loss
from tests.sim.node import make_nodes
from tests.sim.sessions import content, finished

from dpd.protocol.multicast.geometry import COLUMNS, ROWS
from dpd.protocol.multicast.message import DATAGRAM_BYTES, HEADER_BYTES, Flag, Header, MessageType, decode_header

LEAVES_S = 0.005
# Leaves, disk twice, grace and back-off, a question put off once, its way, repairs that take turns with new rows; and a
# slab's first rows that came while the stream was not believed.
ROUND_S = LEAVES_S + 2 * 0.001 + 0.004 + 0.02 + 0.0004 + 0.009 + 0.01

Change = Callable[[Header, random.Random], list[Header]]


@dataclass
class Liar:
    """Behind a share of the symbols comes what `change` makes of their headers."""

    share: float
    change: Change
    lies: int = 0

    def carry(self, flight: Flight, rng: random.Random) -> Flight:
        passed: Flight = []
        for time, datagram in flight:
            passed.append((time, datagram))
            if len(datagram) == DATAGRAM_BYTES and rng.random() < self.share:
                for header in self.change(decode_header(datagram), rng):
                    self.lies += 1
                    passed.append((time, header.encode() + datagram[HEADER_BYTES:]))
        return passed


def leap(header: Header, rng: random.Random) -> list[Header]:
    return [replace(header, tx_seq=rng.randrange(1 << 32))]


def leap_in_pairs(header: Header, rng: random.Random) -> list[Header]:
    """A second one to confirm the first."""
    to = header.tx_seq + rng.randrange(1 << 20)
    return [replace(header, tx_seq=to & 0xFFFFFFFF), replace(header, tx_seq=(to + 1) & 0xFFFFFFFF)]


def creep(header: Header, rng: random.Random) -> list[Header]:
    """As far ahead as is believed, again and again."""
    return [replace(header, tx_seq=(header.tx_seq + 100 * i) & 0xFFFFFFFF) for i in range(1, 4)]


def other_slab(header: Header, rng: random.Random) -> list[Header]:
    """The stream has gone on to another slab, it says: to one that was, to one that will be, to none."""
    slab = rng.choice([0, 1, 2, 3, 4, 0xFFFFFFFF])
    return [replace(header, type=MessageType.DATA, slab=slab, row=rng.randrange(17), tx_seq=header.tx_seq + 1)]


def ends(header: Header, rng: random.Random) -> list[Header]:
    return [replace(header, flags=Flag.END_OF_SLAB | rng.choice([0, Flag.REPAIR]))]


def promises(header: Header, rng: random.Random) -> list[Header]:
    return [replace(header, promised_rows=rng.choice([0, 1, 127, 65535]))]


def waits(header: Header, rng: random.Random) -> list[Header]:
    return [replace(header, nack_ms=rng.choice([0, 65535]), tx_time=rng.randrange(1 << 32))]


def anything(header: Header, rng: random.Random) -> list[Header]:
    row = rng.randrange(ROWS)
    return [
        replace(
            header, type=MessageType.DATA, flags=rng.randrange(16), slab=rng.randrange(6), row=row,
            column=rng.randrange(COLUMNS), tx_seq=(header.tx_seq + rng.randrange(-300, 300)) & 0xFFFFFFFF,
            tx_time=rng.randrange(1 << 32), promised_rows=rng.randrange(1 << 16), nack_ms=rng.randrange(1 << 16),
        )
    ]  # fmt: skip


def run(path: list[Element]) -> Group:
    nodes = make_nodes(3, Loss(0.005), *deepcopy(path))
    for node in nodes:
        node.leaves_s = LEAVES_S
    group = Group(content(4), nodes, seeded(1))
    group.run(limit_s=30.0)
    return group


@pytest.fixture(scope="module")
def clean() -> Group:
    return run([])


@pytest.mark.parametrize("change", [leap, leap_in_pairs])
def test_forged_numbers_are_not_taken_for_congestion(change: Change) -> None:
    group = run([Liar(0.01, change)])
    assert min(node.running._window.size for node in group.nodes) >= 1024


@pytest.mark.parametrize("change", [leap, leap_in_pairs, creep, other_slab, ends, promises, waits, anything])
def test_a_lying_header_delays_a_session_by_one_round_of_repair(change: Change, clean: Group) -> None:
    group = run([Liar(0.01, change)])
    lies = sum(element.lies for node in group.nodes for element in node.path if isinstance(element, Liar))
    assert lies >= 300
    assert finished(group) <= finished(clean) + ROUND_S
    assert group.sent_ratio <= clean.sent_ratio + 0.05
    assert max(node.running.buffers for node in group.nodes) <= 8
    assert all(node.lost_sessions == 0 for node in group.nodes)
