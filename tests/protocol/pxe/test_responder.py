# SPDX-License-Identifier: Apache-2.0
"""Captured firmware against the responder: what it is told, where that goes, and every kind of silence."""

import random
from dataclasses import replace

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from tests.data.dhcp_vectors import VECTORS
from tests.protocol.pxe.test_rules import captured

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import BootItem, DiscoveryControl, Option, PxeOptions, decode_pxe_options
from dpd.protocol.pxe.responder import Arrival, Ignored, Policy, Reason, Reply, respond
from dpd.protocol.pxe.rules import ClientClass, Rule

POLICY = Policy(
    rules=(
        Rule("ipxe", ClientClass.IPXE, "boot.ipxe"),
        Rule("x64-http", ClientClass.HTTP, "http://{server}:{http_port}/boot/ipxe.efi", (16,)),
        Rule("x64", ClientClass.PXE, "ipxe.efi", (7, 9)),
        Rule("arm64", ClientClass.PXE, "ipxe-arm64.efi", (11,)),
    ),
    http_port=8080,
)
AT_67 = Arrival(("0.0.0.0", 68), "10.77.0.10", at_boot_port=False)
AT_4011 = Arrival(("10.77.0.100", 4011), "10.77.0.10", at_boot_port=True)


def answered(message: Message, arrival: Arrival = AT_67, policy: Policy = POLICY) -> tuple[Reply, Message]:
    reply = respond(message, arrival, policy)
    assert isinstance(reply, Reply), reply
    return reply, decode(reply.payload)


def silence(message: Message, arrival: Arrival = AT_67, policy: Policy = POLICY) -> Reason:
    outcome = respond(message, arrival, policy)
    assert isinstance(outcome, Ignored), outcome
    return outcome.reason


def test_offer_to_edk2_carries_all_that_any_reader_looks_for() -> None:
    asked = captured("edk2-x64-discover")
    reply, offer = answered(asked)
    assert reply.destination == ("255.255.255.255", 68)
    assert reply.is_broadcast
    assert (reply.rule, reply.loader) == ("x64", "ipxe.efi")
    assert (offer.op, offer.xid, offer.chaddr, offer.htype, offer.flags) == (2, asked.xid, asked.chaddr, 1, 0x8000)
    assert (offer.yiaddr, offer.siaddr, offer.ciaddr, offer.secs) == ("0.0.0.0", "10.77.0.10", "0.0.0.0", 0)
    assert (offer.sname, offer.file) == (b"10.77.0.10", b"ipxe.efi")
    assert offer.message_type == MessageType.OFFER
    assert offer.address(Option.SERVER_ID) == "10.77.0.10"
    assert offer.option(Option.VENDOR_CLASS) == b"PXEClient"
    assert offer.option(Option.CLIENT_MACHINE_ID) == asked.option(Option.CLIENT_MACHINE_ID)
    assert offer.option(Option.VENDOR) == b"\x06\x01\x08\xff"
    assert offer.option(Option.TFTP_SERVER) == b"10.77.0.10"
    assert offer.option(Option.BOOT_FILE) == b"ipxe.efi"
    assert not {1, 3, 6, 51, 58, 59} & dict(offer.options).keys()  # a proxy leases nothing


def test_scapy_reads_the_offer() -> None:
    reply, _ = answered(captured("edk2-x64-discover"))
    theirs = BOOTP(reply.payload)
    options = {entry[0]: entry[1] for entry in theirs[DHCP].options if isinstance(entry, tuple)}
    assert (theirs.op, theirs.siaddr, theirs.file.rstrip(b"\0")) == (2, "10.77.0.10", b"ipxe.efi")
    assert options["message-type"] == 2
    assert options["server_id"] == "10.77.0.10"
    assert options["vendor_class_id"] == b"PXEClient"
    assert options["boot-file-name"] == b"ipxe.efi"
    assert theirs[DHCP].options[-1] in ("end", "pad")


def test_ack_at_4011_has_the_content_of_the_offer() -> None:
    _, offer = answered(captured("edk2-x64-discover"))
    reply, ack = answered(captured("edk2-x64-boot-request"), AT_4011)
    assert reply.destination == ("10.77.0.100", 4011)
    assert ack.message_type == MessageType.ACK
    assert ack.ciaddr == "10.77.0.100"
    assert [o for o in ack.options if o[0] != 53] == [o for o in offer.options if o[0] != 53]
    assert (ack.siaddr, ack.sname, ack.file) == (offer.siaddr, offer.sname, offer.file)


def test_http_client_gets_a_url_and_no_pxe_options() -> None:
    reply, offer = answered(captured("edk2-http-discover"))
    assert reply.loader == "http://10.77.0.10:8080/boot/ipxe.efi"
    assert offer.option(Option.VENDOR_CLASS) == b"HTTPClient"
    assert offer.option(Option.BOOT_FILE) == reply.loader.encode()
    assert offer.option(Option.VENDOR) is None
    assert offer.option(Option.TFTP_SERVER) is None
    assert offer.file == b""


def test_http_client_gets_a_bare_name_as_url() -> None:
    policy = replace(POLICY, rules=(Rule("http", ClientClass.HTTP, "/loaders/a.efi"),))
    reply, _ = answered(captured("edk2-http-discover"), policy=policy)
    assert reply.loader == "http://10.77.0.10:8080/boot/loaders/a.efi"


@pytest.mark.parametrize(
    ("name", "loader"),
    [
        ("aavmf-discover", "ipxe-arm64.efi"),
        ("ipxe-bios-discover", "boot.ipxe"),
        ("ipxe-efi-discover", "boot.ipxe"),
    ],
)
def test_each_client_gets_its_own_loader(name: str, loader: str) -> None:
    assert answered(captured(name))[0].loader == loader


def test_ipxe_asks_4011_from_port_68_with_our_server_id() -> None:
    reply, ack = answered(captured("ipxe-efi-boot-request"), replace(AT_4011, source=("10.77.0.100", 68)))
    assert reply.destination == ("10.77.0.100", 68)
    assert ack.file == b"boot.ipxe"


def test_a_chosen_menu_item_comes_back() -> None:
    """iPXE drops an answer whose tag 71 is not what it asked for."""
    _, ack = answered(captured("ipxe-bios-menu-request"), AT_4011)
    vendor = ack.option(Option.VENDOR)
    assert vendor is not None
    item = BootItem(0x8000, 0)
    assert decode_pxe_options(vendor) == PxeOptions(discovery_control=DiscoveryControl.FILE_IS_GIVEN, item=item)
    assert ack.xid == 0


def test_broadcast_boot_server_discovery_on_67_is_answered() -> None:
    asked = captured("ipxe-bios-menu-request")
    reply, ack = answered(replace(asked, ciaddr="0.0.0.0"))
    assert ack.message_type == MessageType.ACK
    assert reply.destination == ("255.255.255.255", 68)


@pytest.mark.parametrize("name", ["edk2-x64-lease-request", "edk2-http-lease-request", "ipxe-bios-lease-request"])
def test_requests_to_the_lease_server_are_left_to_it(name: str) -> None:
    assert silence(captured(name)) is Reason.LEASE_REQUEST


def test_a_request_on_67_needs_a_menu_item_and_no_server() -> None:
    menu = b"\x47\x04\x80\x00\x00\x00\xff"
    assert silence(captured("edk2-x64-lease-request", o43=menu)) is Reason.LEASE_REQUEST
    assert silence(captured("edk2-x64-lease-request", o54=None)) is Reason.LEASE_REQUEST
    assert silence(captured("edk2-x64-lease-request", o54=None, o43=b"\x06\x01\x08\xff")) is Reason.LEASE_REQUEST
    assert silence(captured("edk2-http-lease-request", o54=None, o43=menu)) is Reason.LEASE_REQUEST
    answered(captured("edk2-x64-lease-request", o54=None, o43=menu))


@pytest.mark.parametrize(
    ("message", "arrival", "reason"),
    [
        (captured("udhcpc-discover"), AT_67, Reason.NOT_NETWORK_BOOT),
        (captured("dnsmasq-proxy-ack"), AT_67, Reason.NOT_A_REQUEST),
        (captured("edk2-x64-discover", o53=None), AT_67, Reason.PLAIN_BOOTP),
        (captured("edk2-x64-discover", o60=b"AAPLBSDPC/i386"), AT_67, Reason.APPLE_BSDP),
        (captured("edk2-x64-discover", o53=b"\x08"), AT_67, Reason.OTHER_MESSAGE_TYPE),
        (captured("edk2-x64-discover", o53=b"\xc8"), AT_4011, Reason.OTHER_MESSAGE_TYPE),
        (captured("edk2-x64-discover"), AT_4011, Reason.WRONG_PORT),
        (captured("edk2-http-lease-request"), AT_4011, Reason.WRONG_PORT),
        (captured("edk2-x64-discover", o93=b"\0\x29"), AT_67, Reason.NO_RULE),
        (replace(captured("edk2-x64-discover"), chaddr=b""), AT_67, Reason.NO_HARDWARE_ADDRESS),
        (replace(captured("edk2-x64-discover"), giaddr="255.255.255.255"), AT_67, Reason.BAD_ADDRESS),
        (replace(captured("edk2-x64-discover"), giaddr="0.0.0.1"), AT_67, Reason.BAD_ADDRESS),
        (replace(captured("edk2-x64-boot-request"), ciaddr="239.1.1.1"), AT_4011, Reason.BAD_ADDRESS),
    ],
)
def test_silence_has_its_reason(message: Message, arrival: Arrival, reason: Reason) -> None:
    assert silence(message, arrival) is reason


def test_switched_off_is_silent_and_still_knows_the_machine() -> None:
    outcome = respond(captured("edk2-x64-discover"), AT_67, replace(POLICY, respond=False))
    assert isinstance(outcome, Ignored)
    assert outcome.reason is Reason.SWITCHED_OFF
    assert outcome.machine is not None
    assert outcome.machine.mac == "52:54:00:77:03:04"


def test_ipxe_without_a_rule_never_gets_the_loader_of_its_firmware() -> None:
    policy = replace(POLICY, rules=tuple(rule for rule in POLICY.rules if rule.name != "ipxe"))
    assert silence(captured("ipxe-efi-discover"), policy=policy) is Reason.NO_RULE


def test_response_delay_is_measured_by_secs() -> None:
    policy = replace(POLICY, response_delay_s=8)
    asked = captured("edk2-x64-discover")
    assert silence(asked, policy=policy) is Reason.TOO_EARLY
    assert silence(replace(asked, secs=7), policy=policy) is Reason.TOO_EARLY
    answered(replace(asked, secs=8), policy=policy)


def test_response_delay_exempts_ipxe_and_port_4011() -> None:
    policy = replace(POLICY, response_delay_s=32)
    answered(captured("ipxe-bios-discover"), policy=policy)
    answered(captured("edk2-x64-boot-request"), AT_4011, policy)


def test_broken_options_of_a_boot_client_are_malformed() -> None:
    with pytest.raises(MalformedMessage):
        respond(captured("edk2-x64-discover", o93=b"\7"), AT_67, POLICY)
    with pytest.raises(MalformedMessage):
        respond(captured("edk2-x64-discover", o82=b"\x05\x04\x0a"), AT_67, POLICY)


def test_a_relay_is_answered_at_its_address_with_its_option_82_last() -> None:
    circuit = b"\x01\x04eth1\x02\x02ab"
    asked = replace(captured("edk2-x64-discover", o82=circuit), giaddr="10.5.0.1", hops=2, flags=0)
    reply, offer = answered(asked, replace(AT_67, source=("10.5.0.1", 1067)))
    assert reply.destination == ("10.5.0.1", 67)
    assert (offer.giaddr, offer.hops, offer.flags) == ("10.5.0.1", 2, 0x8000)
    assert offer.options[-1] == (Option.RELAY_AGENT, circuit)
    assert reply.payload.rstrip(b"\0").endswith(circuit + b"\xff")


def test_a_relay_that_asks_for_its_source_port_gets_it() -> None:
    """RFC 8357."""
    asked = replace(captured("edk2-x64-discover", o82=b"\x13\x00"), giaddr="10.5.0.1")
    reply, _ = answered(asked, replace(AT_67, source=("10.5.0.1", 1067)))
    assert reply.destination == ("10.5.0.1", 1067)


def test_a_relay_may_stand_in_as_server() -> None:
    """RFC 5107; siaddr stays ours, since the file is here."""
    asked = replace(captured("edk2-x64-discover", o82=b"\x0b\x04\x0a\x05\x00\x01"), giaddr="10.5.0.1")
    _, offer = answered(asked)
    assert offer.address(Option.SERVER_ID) == "10.5.0.1"
    assert offer.siaddr == "10.77.0.10"


def test_a_client_with_an_address_is_answered_there() -> None:
    reply, offer = answered(replace(captured("edk2-x64-discover"), ciaddr="10.77.0.55"))
    assert reply.destination == ("10.77.0.55", 68)
    assert not reply.is_broadcast
    assert offer.ciaddr == "0.0.0.0"


def test_a_sender_without_address_at_4011_is_reached_by_broadcast() -> None:
    reply, _ = answered(captured("edk2-x64-boot-request"), replace(AT_4011, source=("0.0.0.0", 68)))
    assert reply.destination == ("255.255.255.255", 68)


@pytest.mark.parametrize("value", [None, bytes(16), b"\0" + bytes(17)])
def test_no_machine_id_of_odd_length_is_echoed(value: bytes | None) -> None:
    _, offer = answered(captured("edk2-x64-discover", o97=value))
    assert offer.option(Option.CLIENT_MACHINE_ID) is None


def test_a_useless_guid_is_echoed_all_the_same() -> None:
    _, offer = answered(captured("edk2-x64-discover", o97=bytes(17)))
    assert offer.option(Option.CLIENT_MACHINE_ID) == bytes(17)


def test_the_longest_reply_fits_the_smallest_client() -> None:
    """576 octets of IP packet (RFC 2131 section 2) are 548 of DHCP; what a relay adds it takes off again."""
    loader = "http://{server}:{http_port}/" + "x" * 99
    policy = replace(POLICY, rules=(Rule("long", ClientClass.PXE, loader),), http_port=65535)
    arrival = replace(AT_67, server="255.255.255.254")
    reply, offer = answered(captured("edk2-x64-discover"), arrival, policy)
    assert len(reply.payload) <= 548
    assert offer.option(Option.BOOT_FILE) == reply.loader.encode()
    assert offer.file == b""  # past 127 characters it has no room in the header


def test_no_mutation_of_a_capture_gets_past_the_edge() -> None:
    """Bytes changed, cut and repeated at random: an answer, a counted silence or MalformedMessage, nothing else."""
    chance = random.Random(4011)
    names = sorted(VECTORS)
    seen = {"answered": 0, "ignored": 0, "malformed": 0}
    for _ in range(20_000):
        data = mutate(chance, VECTORS[chance.choice(names)])
        arrival = AT_4011 if chance.random() < 0.4 else AT_67
        try:
            outcome = respond(decode(data), arrival, POLICY)
        except MalformedMessage:
            seen["malformed"] += 1
            continue
        if isinstance(outcome, Reply):
            seen["answered"] += 1
            answer = decode(outcome.payload)
            assert answer.op == 2
            assert answer.yiaddr == "0.0.0.0"
            assert encode(answer) == outcome.payload
        else:
            seen["ignored"] += 1
    assert all(count > 1000 for count in seen.values()), seen


def mutate(chance: random.Random, data: bytes) -> bytes:
    out = bytearray(data)
    for _ in range(chance.randrange(4)):
        place = chance.choice([chance.randrange(len(out)), chance.randrange(min(240, len(out)), len(out) + 1)])
        kind = chance.randrange(5)
        if kind == 0 and place < len(out):
            out[place] = chance.randrange(256)
        elif kind == 1 and place < len(out):
            out[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            out[place:place] = chance.randbytes(chance.randrange(1, 9))
        elif kind == 3:
            del out[place : place + chance.randrange(1, 5)]
        elif kind == 4 and chance.random() < 0.3:
            del out[max(place, 1) :]
    return bytes(out)
