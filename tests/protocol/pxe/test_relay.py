# SPDX-License-Identifier: Apache-2.0
"""What relays say, whole, wrong and cut."""

from dataclasses import replace

import pytest
from tests.protocol.pxe.test_rules import captured

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import Message
from dpd.protocol.pxe.relay import RelayAgent, read_relay


def relayed(option_82: bytes | None, giaddr: str = "10.5.0.1") -> Message:
    return replace(captured("edk2-x64-discover", o82=option_82), giaddr=giaddr)


def test_without_a_relay_nothing_is_known() -> None:
    assert read_relay(captured("edk2-x64-discover")) == RelayAgent()


def test_a_relay_stands_in_the_clients_network() -> None:
    assert read_relay(relayed(None)) == RelayAgent(address="10.5.0.1", link="10.5.0.1")


def test_everything_a_relay_can_say() -> None:
    told = b"\x01\x04eth1" + b"\x05\x04\x0a\x06\x00\x00" + b"\x0b\x04\x0a\x05\x00\x02" + b"\x13\x00"
    assert read_relay(relayed(told)) == RelayAgent("10.5.0.1", "10.6.0.0", "10.5.0.2", b"eth1".hex(), True)


def test_a_switch_without_giaddr_says_its_port_all_the_same() -> None:
    """An access switch that snoops inserts option 82 and relays nothing."""
    assert read_relay(relayed(b"\x01\x02ab", giaddr="0.0.0.0")) == RelayAgent(circuit="6162")


@pytest.mark.parametrize("wrong", [b"\x05\x03\x0a\x06\x00", b"\x0b\x05\x0a\x05\x00\x02\x00", b"\x05\x00\x0b\x00"])
def test_addresses_of_a_wrong_length_say_nothing(wrong: bytes) -> None:
    agent = read_relay(relayed(wrong))
    assert (agent.link, agent.server_id) == ("10.5.0.1", "")


def test_a_cut_option_82_is_malformed() -> None:
    with pytest.raises(MalformedMessage):
        read_relay(relayed(b"\x05\x04\x0a"))
