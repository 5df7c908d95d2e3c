# SPDX-License-Identifier: Apache-2.0
"""Which IPv6 address of ours a machine can reach; the kernel's table in its own format, and the kernel itself."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dpd.service.network import addresses6
from dpd.service.network.addresses6 import address_on, address_towards

# address, interface index, prefix length, scope, flags, name: all but the name in hex
TABLE = """\
fe800000000000005054000000000001 03 40 20 80     eth1
fd7700000000000050540000fe000001 03 40 00 00     eth1
fd770000000000000000000000000010 03 40 00 80     eth1
fd770000000000000000000000000011 03 40 00 c0     eth1
fe800000000000005054000000000002 0b 40 20 80     eth2
fd780000000000000000000000000012 0c 40 00 a0     eth3
"""


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "if_inet6").write_text(TABLE, encoding="ascii")
    monkeypatch.setattr(addresses6, "IF_INET6", tmp_path / "if_inet6")


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("interface", "address"),
    [
        (3, "fd77::10"),  # the operator's own, before one made of a router's prefix; ::11 is tentative yet
        (11, "fe80::5054:0:0:2%11"),
        (12, ""),  # deprecated
        (4, ""),
    ],
)
def test_the_address_on_an_interface(interface: int, address: str) -> None:
    assert address_on(interface) == address


def test_a_kernel_without_ipv6_has_no_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses6, "IF_INET6", tmp_path / "missing")
    assert address_on(1) == ""


def test_the_kernel_tells_of_loopback() -> None:
    assert address_on(socket.if_nametoindex("lo")) == "::1"
    assert address_towards("::1") == "::1"


def test_where_no_route_leads_there_is_no_address() -> None:
    assert address_towards("100::1%lo") == ""  # RFC 6666's discard prefix, by an interface that has no route to it
