# SPDX-License-Identifier: Apache-2.0
"""Addresses and the networks of the settings."""

from __future__ import annotations

import pytest

from dpd.settings import PxeSubnet
from dpd.site.subnets import Subnets

WIDE = PxeSubnet(network="10.0.0.0/8", max_blksize=1400)
NARROW = PxeSubnet(network="10.1.2.0/24", max_blksize=1200)
SIX = PxeSubnet(network="fd00:1::/64")
SUBNETS = Subnets([WIDE, NARROW, SIX])


@pytest.mark.parametrize(
    ("address", "table"),
    [
        ("10.1.2.3", NARROW),
        ("10.9.2.3", WIDE),
        ("::ffff:10.1.2.3", NARROW),
        ("fd00:1::7", SIX),
        ("fd00:2::7", None),
        ("fe80::1%eth0", None),
        ("192.0.2.1", None),
        ("", None),
        ("nonsense", None),
    ],
)
def test_the_longest_prefix_counts(address: str, table: PxeSubnet | None) -> None:
    assert SUBNETS.of(address) is table


def test_without_tables_nothing_fits() -> None:
    assert Subnets(()).of("10.1.2.3") is None
