# SPDX-License-Identifier: Apache-2.0
"""What is summed over sessions, and under which names it is told."""

from __future__ import annotations

from dataclasses import fields

from dpd.protocol.multicast.message import Tally
from dpd.protocol.multicast.receiver import ReceiverCounters
from dpd.target.receiving.account import Account


def test_sessions_add_up() -> None:
    account = Account(0)
    account.add(ReceiverCounters(symbols=10, lost=1, recovered=1, bad_slabs=2), 1000)
    account.add(ReceiverCounters(symbols=5, nacks=3), 500)
    account.moves += 1
    told = account.statistics()
    assert (told["received"], told["lost"], told["recovered"], told["nacks"], told["bad_slabs"]) == (15, 1, 1, 3, 2)
    assert (told["unicast_bytes"], told["moves"]) == (1500, 1)
    assert 0.0 <= told["seconds"] < 5.0


def test_the_names_are_those_of_the_tally_and_a_few_more() -> None:
    measured_only = {"reordered", "drain_kib_s"}  # told by REPORT, which has the moment
    names = {field.name for field in fields(Tally)} - measured_only
    assert names | {"recovered", "nacks", "moves", "seconds", "unicast_bytes"} <= Account(0).statistics().keys()


def test_each_byte_of_the_image_has_one_source() -> None:
    account = Account(300)
    account.add(ReceiverCounters(), 200)
    assert account.sources(1000) == {"multicast_bytes": 500, "unicast_bytes": 200, "resumed_bytes": 300}
