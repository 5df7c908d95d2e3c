# SPDX-License-Identifier: Apache-2.0
"""The reply's bytes: sizes, options that not everybody gets, and where they go."""

from dataclasses import replace

import pytest
from tests.protocol.pxe.test_responder import AT_67, AT_4011, POLICY, answered
from tests.protocol.pxe.test_rules import captured

from dpd.protocol.dhcp.message import Message, decode
from dpd.protocol.dhcp.options import Option
from dpd.protocol.pxe.exchange import Place
from dpd.protocol.pxe.reply import is_microsofts, room_of
from dpd.protocol.pxe.responder import Grant, Reply, respond
from dpd.protocol.pxe.rules import ClientClass, Rule

BCD = r"\Boot\BCD"
WINDOWS = Grant(loader="bootmgfw.efi", image="win11", bcd_name=BCD)


def granted(message: Message, grant: Grant) -> Message:
    reply = respond(message, AT_67, POLICY, grant)
    assert isinstance(reply, Reply)
    return decode(reply.payload)


@pytest.mark.parametrize("name", ["edk2-x64-discover", "edk2-http-discover", "ipxe-bios-discover"])
def test_no_reply_is_shorter_than_bootp_allows(name: str) -> None:
    """RFC 1542 section 2.1."""
    policy = replace(POLICY, rules=tuple(Rule(c.value, c, "a") for c in ClientClass))
    reply, _ = answered(captured(name), policy=policy)
    assert len(reply.payload) >= 300


def test_microsofts_loader_is_told_its_bcd_in_offer_and_ack() -> None:
    offer = granted(captured("edk2-x64-discover"), WINDOWS)
    assert offer.option(Option.BCD) == BCD.encode() + b"\0"
    reply = respond(captured("edk2-x64-boot-request"), AT_4011, POLICY, WINDOWS)
    assert isinstance(reply, Reply)
    assert decode(reply.payload).option(Option.BCD) == BCD.encode() + b"\0"


def test_nobody_else_gets_what_might_be_a_proxy_setting() -> None:
    """252 is WPAD's number, too."""
    assert granted(captured("edk2-x64-discover"), replace(WINDOWS, loader="ipxe.efi")).option(Option.BCD) is None
    url = replace(WINDOWS, loader="http://10.77.0.10/boot/bootmgfw.efi")
    assert granted(captured("edk2-http-discover"), url).option(Option.BCD) is None


@pytest.mark.parametrize(
    ("loader", "answer"),
    [
        ("bootmgfw.efi", True),
        (r"\Boot\x64\wdsmgfw.efi", True),
        ("boot/x86/PXEBOOT.N12", True),
        ("bootmgfw_EX.efi", True),
        ("wdsnbp.com", True),
        ("boot.ipxe", False),
        ("bootmgfw/grub.efi", False),
    ],
)
def test_microsofts_loaders_are_known_by_name(loader: str, answer: bool) -> None:
    assert is_microsofts(loader) is answer


def test_room_is_what_the_client_says_and_never_less_than_everybody_has() -> None:
    assert room_of(captured("edk2-x64-discover", o57=None)) == 548
    assert room_of(captured("edk2-x64-discover", o57=b"\0\x10")) == 548
    assert room_of(captured("edk2-x64-discover", o57=b"\x05\xc0")) == 1444
    assert room_of(captured("edk2-x64-discover", o57=None, o82=bytes((1, 2, 0, 0)))) == 548 + 6


def test_where_room_is_short_the_server_stands_in_the_header_alone() -> None:
    asked = captured("edk2-x64-discover", o57=None, o55=bytes((66, 150)))
    wide = captured("edk2-x64-discover", o55=bytes((66, 150)))
    grant = Grant(loader="bootmgfw.efi?" + "x" * 100, image="i", bcd_name="\\" + "b" * 135)
    reply = respond(asked, AT_67, POLICY, grant)
    assert isinstance(reply, Reply)
    offer = decode(reply.payload)
    assert len(reply.payload) <= 548
    assert offer.option(Option.TFTP_SERVERS) is None
    assert offer.siaddr == AT_67.server
    assert granted(wide, grant).option(Option.TFTP_SERVERS) is not None


def test_https_has_its_port() -> None:
    rule = Rule("tls", ClientClass.HTTP, "https://{server}:{https_port}/boot/ipxe.efi")
    policy = replace(POLICY, rules=(rule,), https_port=8443)
    reply, _ = answered(captured("edk2-http-discover"), policy=policy)
    assert reply.loader == "https://10.77.0.10:8443/boot/ipxe.efi"


def test_option_82_ends_every_kind_of_reply() -> None:
    circuit = b"\x01\x04eth1\x02\x02ab"
    for grant in (Grant(), WINDOWS):
        asked = replace(captured("edk2-x64-discover", o82=circuit, o55=b"\x96"), giaddr="10.5.0.1")
        reply = respond(asked, AT_67, POLICY, grant)
        assert isinstance(reply, Reply)
        assert reply.payload.rstrip(b"\0").endswith(b"\x52\x0a" + circuit + b"\xff")


def test_the_clients_network_has_its_own_server_address() -> None:
    """Found by link selection (RFC 3527), else the relay's address, else the client's, else ours."""
    seen: list[str] = []

    def place_of(link: str) -> Place:
        seen.append(link)
        return Place(server="192.0.2.9")

    policy = replace(POLICY, place_of=place_of)
    by_link = replace(captured("edk2-x64-discover", o82=b"\x05\x04\x0a\x09\x00\x00"), giaddr="10.5.0.1")
    for message, arrival in (
        (by_link, AT_67),
        (replace(captured("edk2-x64-discover"), giaddr="10.5.0.1"), AT_67),
        (captured("edk2-x64-boot-request"), AT_4011),
        (captured("edk2-x64-discover"), AT_67),
    ):
        reply, said = answered(message, arrival, policy)
        assert (reply.server, said.siaddr, said.sname) == ("192.0.2.9", "192.0.2.9", b"192.0.2.9")
        assert said.address(Option.SERVER_ID) == "192.0.2.9"
        assert said.option(Option.TFTP_SERVER) == b"192.0.2.9"
    assert seen == ["10.9.0.0", "10.5.0.1", "10.77.0.100", "10.77.0.10"]


def test_xid_and_hardware_address_come_back_whatever_they_are() -> None:
    """InfiniBand has no chaddr (RFC 4390)."""
    asked = captured("edk2-x64-discover", o61=b"\xff" + bytes(12) + bytes(range(1, 9)))
    asked = replace(asked, htype=32, chaddr=b"", xid=7)
    _, offer = answered(asked)
    assert (offer.htype, offer.chaddr, offer.xid) == (32, b"", 7)
