# SPDX-License-Identifier: Apache-2.0
"""Groups out of ranges of every kind."""

from __future__ import annotations

import ipaddress

import pytest

from dpd.errors import SessionError
from dpd.service.network.groups import Group, GroupRange


def groups(network: str) -> GroupRange:
    return GroupRange(network, 63000, 63999)


@pytest.mark.parametrize("network", ["239.192.0.0/14", "239.192.0.0/29", "224.0.0.0/4", "232.0.0.0/8"])
def test_no_group_is_one_that_switches_always_flood(network: str) -> None:
    """What shares its Ethernet address with 224.0.0.x: RFC 4541, 2.1.2."""
    found = set()
    for seed in range(2000):
        try:
            group = groups(network).allocate(str(seed), ())
        except SessionError:
            continue
        address = ipaddress.IPv4Address(group.address)
        assert address in ipaddress.ip_network(network)
        assert int(address) & 0x7FFF00, group
        assert 63000 <= group.port <= 63999
        found.add(group.address)
    assert len(found) > 1000 or network == "239.192.0.0/29"


@pytest.mark.parametrize("network", ["ff15::6470:0/112", "ff05::/16", "ff3e::/32"])
def test_ipv6_groups_keep_clear_of_what_every_host_listens_to(network: str) -> None:
    for seed in range(500):
        address = ipaddress.IPv6Address(groups(network).allocate(str(seed), ()).address)
        low = int(address) & 0xFFFFFFFF
        assert address in ipaddress.ip_network(network)
        assert low >= 0x100
        assert low >> 24 != 0xFF, "33:33:ff:… is solicited-node (RFC 4291, 2.7.1)"


def test_a_source_specific_ipv6_group_has_an_id_that_hosts_may_choose() -> None:
    """RFC 4607, section 1: ff3x::8000:0 to ff3x::ffff:ffff."""
    for seed in range(100):
        group = groups("ff35::/32").allocate(str(seed), ())
        address = int(ipaddress.IPv6Address(group.address))
        assert group.is_source_specific
        assert address >> 32 == 0xFF35 << 80
        assert address & 0x80000000


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("232.1.2.3", True),
        ("239.192.0.1", False),
        ("ff35::8000:1", True),
        ("ff3e::8000:1", True),
        ("ff3e:1::8000:1", False),
        ("ff15::1", False),
    ],
)
def test_source_specific_ranges_are_known(address: str, expected: bool) -> None:
    assert Group(address, 63000).is_source_specific is expected


def test_the_same_seed_gets_the_same_group_again_and_its_neighbour_where_that_is_taken() -> None:
    first = groups("239.192.0.0/24").allocate("content", ())
    assert first == groups("239.192.0.0/24").allocate("content", {"239.192.0.250"} - {first.address})
    other = groups("239.192.0.0/24").allocate("content", {first.address})
    assert other.address != first.address


def test_a_range_that_is_used_up_is_told() -> None:
    with pytest.raises(SessionError, match=r"every group of multicast.group_range = 239.192.77.9/32 is in use"):
        groups("239.192.77.9/32").allocate("x", {"239.192.77.9"})
    with pytest.raises(SessionError, match="one that switches flood"):
        groups("239.128.0.0/24").allocate("x", ())
