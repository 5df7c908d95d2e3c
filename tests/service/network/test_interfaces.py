# SPDX-License-Identifier: Apache-2.0
"""Interfaces of this host, by index and by address."""

from __future__ import annotations

import socket

from dpd.service.network.interfaces import interface_name, own_addresses


def test_an_index_has_a_name_and_an_unknown_one_none() -> None:
    assert interface_name(socket.if_nametoindex("lo")) == "lo"
    assert interface_name(1 << 30) == ""


def test_loopback_is_among_our_addresses() -> None:
    assert "127.0.0.1" in own_addresses()
