# SPDX-License-Identifier: Apache-2.0
"""Buckets of requests, allowed networks, and blocks that fit."""

from __future__ import annotations

import socket

import pytest

from dpd.service.tftp.limits import REMEMBERED, Admission, BlockSizes, FirstWaits, TokenBuckets, interface_mtu
from dpd.settings import PxeSubnet, TftpSettings


def test_a_bucket_empties_and_fills_again() -> None:
    buckets = TokenBuckets(4)
    assert [buckets.take("a", 10.0) for _ in range(5)] == [True] * 4 + [False]
    assert buckets.take("b", 10.0)
    assert not buckets.take("a", 10.2)
    assert buckets.take("a", 10.3)
    assert [buckets.take("a", 1000.0) for _ in range(5)] == [True] * 4 + [False]  # no more than a second's worth


def test_forgotten_buckets_are_those_asked_longest_ago() -> None:
    buckets = TokenBuckets(1, capacity=2)
    assert buckets.take("victim", 0.0)
    for number in range(100):  # a flood asks in the victim's name between all others
        buckets.take(f"other {number}", 0.0)
        assert not buckets.take("victim", 0.0)


def test_a_network_shares_a_bucket_whatever_addresses_it_invents() -> None:
    admission = Admission(TftpSettings(requests_per_s=10, requests_per_s_per_network=20))
    answers = [admission.refusal(f"192.0.2.{host}", 0.0) for host in range(30)]
    assert answers.count("") == 20
    assert set(answers[20:]) == {"network_rate"}
    assert admission.refusal("192.0.3.1", 0.0) == ""
    six = [admission.refusal(f"2001:db8::{host:x}", 0.0) for host in range(1, 31)]
    assert six.count("network_rate") == 10


def test_one_address_has_a_bucket_of_its_own() -> None:
    admission = Admission(TftpSettings(requests_per_s=2))
    assert [admission.refusal("fe80::1%3", 0.0) for _ in range(3)] == ["", "", "client_rate"]


@pytest.mark.parametrize(
    ("address", "refusal"),
    [("10.1.2.3", ""), ("::ffff:10.1.2.3", ""), ("10.2.0.1", "address"), ("fd00::9", ""), ("2001:db8::1", "address")],
)
def test_only_allowed_networks_are_looked_at(address: str, refusal: str) -> None:
    admission = Admission(TftpSettings(allowed_networks=("10.1.0.0/16", "fd00::/8")))
    assert admission.refusal(address, 0.0) == refusal


def test_a_block_leaves_room_for_the_headers_of_its_family() -> None:
    loopback = socket.if_nametoindex("lo")
    mtu = interface_mtu(loopback)
    assert mtu >= 1280
    sizes = BlockSizes(TftpSettings(max_blksize=65464), ())
    assert sizes.largest("192.0.2.1", loopback) == min(65464, mtu - 32)
    assert sizes.largest("::ffff:192.0.2.1", loopback) == min(65464, mtu - 32)
    assert sizes.largest("2001:db8::1", loopback) == min(65464, mtu - 52)


def test_an_unknown_interface_leaves_the_settings() -> None:
    assert interface_mtu(0) == interface_mtu(1 << 30) == 0
    assert BlockSizes(TftpSettings(max_blksize=1468), ()).largest("192.0.2.1", 0) == 1468


def test_what_the_operator_says_of_a_subnet_counts_alone() -> None:
    """An overlay needs less than its interface tells; bootmgr on a clean LAN takes blocks in fragments."""
    tables = (PxeSubnet(network="10.9.0.0/16", max_blksize=1300), PxeSubnet(network="10.9.8.0/24", max_blksize=16384))
    sizes = BlockSizes(TftpSettings(max_blksize=1468), tables)
    assert sizes.largest("10.9.1.1", 0) == 1300
    assert sizes.largest("10.9.8.1", 0) == 16384
    assert sizes.largest("10.8.0.1", 0) == 1468


def test_a_client_that_was_fast_is_waited_for_less_and_never_longer_than_a_stranger() -> None:
    waits = FirstWaits(1.0)
    assert waits.wait_s("192.0.2.1") == 0.2
    waits.note("192.0.2.1", 0.02)
    waits.note("192.0.2.2", 3.0)
    assert (waits.wait_s("192.0.2.1"), waits.wait_s("192.0.2.2")) == (0.02, 0.2)
    for number in range(REMEMBERED - 1):
        waits.note(f"other {number}", 0.1)
    assert waits.wait_s("192.0.2.1") == 0.2
