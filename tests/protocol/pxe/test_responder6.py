# SPDX-License-Identifier: Apache-2.0
"""Which DHCPv6 packets are answered, with what, and where to; judged by what EDK2 accepts (PxeBcDhcp6.c, HttpBootDhcp6.c)."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.data.dhcp6_vectors import VECTORS
from tests.protocol.pxe.firmware6 import BootOffer, read_http_offer, read_pxe_offer
from tests.protocol.pxe.test_identity6 import changed

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp6.message import MessageType, Packet, Relay, decode, encode
from dpd.protocol.dhcp6.options import Option
from dpd.protocol.pxe.exchange import Grant, Outcome
from dpd.protocol.pxe.responder6 import (
    RELAY_SOURCE_PORT,
    Arrival6,
    Ignored6,
    Question6,
    Reason6,
    Reply6,
    Terms6,
    answer6,
    boot_url,
    hear6,
)
from dpd.protocol.pxe.rules import ClientClass, Rule

SERVER = "fd77::10"
LINK_LOCAL = ("fe80::5054:ff:fe77:50b%3", 546)
DUID = b"\0\4dpd-server-duid!"
RULES = (
    Rule("ipxe", ClientClass.IPXE, "boot.ipxe"),
    Rule("http", ClientClass.HTTP, "http://{server}:{http_port}/boot/ipxe.efi", (16,)),
    Rule("x64", ClientClass.PXE, "ipxe.efi", (7, 9)),
)
TERMS = Terms6(DUID, RULES, http_port=8080, https_port=8443)
ARRIVAL = Arrival6(LINK_LOCAL, SERVER)
AT_BOOT_PORT = Arrival6(
    ("fd77::162", 4011), SERVER, at_boot_port=True, by_multicast=False, known_mac="52:54:00:d9:d6:01"
)
PXE = decode(VECTORS["edk2-pxe-solicit"])
HTTP = decode(VECTORS["edk2-http-solicit"])
IPXE = decode(VECTORS["ipxe-efi-solicit"])
BOOT_REQUEST = changed(decode(VECTORS["edk2-boot-request"]), SERVER_ID=DUID)


PLAIN = Grant()


def hear(packet: Packet, arrival: Arrival6 = ARRIVAL, terms: Terms6 = TERMS) -> Question6:
    question = hear6(packet, arrival, terms)
    assert isinstance(question, Question6)
    return question


def reply_to(packet: Packet, arrival: Arrival6 = ARRIVAL, grant: Grant = PLAIN, terms: Terms6 = TERMS) -> Reply6:
    reply = answer6(hear(packet, arrival, terms), grant, terms)
    assert isinstance(reply, Reply6)
    return reply


def reason(packet: Packet, arrival: Arrival6 = ARRIVAL, terms: Terms6 = TERMS) -> Reason6:
    ignored = hear6(packet, arrival, terms)
    assert isinstance(ignored, Ignored6)
    return ignored.reason


def test_pxe_firmware_takes_the_advertise_as_a_proxys() -> None:
    reply = reply_to(PXE)
    offer = read_pxe_offer(reply.payload, PXE)
    assert offer == BootOffer(MessageType.ADVERTISE, DUID, "tftp://[fd77::10]/ipxe.efi", is_proxy=True)
    assert (reply.destination, reply.rule) == (LINK_LOCAL, "x64")


def test_pxe_firmware_gets_its_file_at_the_boot_port() -> None:
    reply = reply_to(BOOT_REQUEST, AT_BOOT_PORT)
    offer = read_pxe_offer(reply.payload, BOOT_REQUEST)
    assert offer == BootOffer(MessageType.REPLY, DUID, "tftp://[fd77::10]/ipxe.efi", is_proxy=True)
    assert reply.destination == ("fd77::162", 4011)


def test_http_boot_takes_the_advertise_with_its_url() -> None:
    offer = read_http_offer(reply_to(HTTP).payload, HTTP)
    assert offer == BootOffer(MessageType.ADVERTISE, DUID, "http://[fd77::10]:8080/boot/ipxe.efi", is_proxy=True)


def test_ipxe_that_asks_for_no_address_gets_its_script() -> None:
    question = replace(IPXE, message=replace(IPXE.message, type=MessageType.INFORMATION_REQUEST))
    reply = reply_to(question)
    assert (reply.message_type, reply.loader) == (MessageType.REPLY, "tftp://[fd77::10]/boot.ipxe")


@pytest.mark.parametrize(("packet", "arrival"), [(PXE, ARRIVAL), (HTTP, ARRIVAL), (BOOT_REQUEST, AT_BOOT_PORT)])
def test_no_answer_has_what_firmware_chokes_on(packet: Packet, arrival: Arrival6) -> None:
    message = decode(reply_to(packet, arrival).payload).message
    codes = [code for code, _ in message.options]
    assert codes == [Option.CLIENT_ID, Option.SERVER_ID, Option.VENDOR_CLASS, Option.BOOT_FILE_URL]
    assert message.transaction_id == packet.message.transaction_id


def with_type(kind: int) -> Packet:
    return replace(PXE, message=replace(PXE.message, type=kind))


@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        (with_type(MessageType.ADVERTISE), Reason6.NOT_A_REQUEST),
        (with_type(MessageType.REPLY), Reason6.NOT_A_REQUEST),
        (with_type(MessageType.RELEASE), Reason6.OTHER_MESSAGE_TYPE),
        (with_type(200), Reason6.OTHER_MESSAGE_TYPE),
        (with_type(MessageType.RENEW), Reason6.LEASE_REQUEST),
        (decode(VECTORS["edk2-stack-solicit"]), Reason6.NOT_NETWORK_BOOT),
        (changed(PXE, CLIENT_ID=None), Reason6.NO_CLIENT_ID),
        (changed(PXE, SERVER_ID=b"\0\4other"), Reason6.OTHER_SERVER),
        (decode(VECTORS["edk2-pxe-request"]), Reason6.LEASE_REQUEST),
        (replace(PXE, relays=(Relay(13, 0, "fd00::1", "fe80::2"),)), Reason6.NOT_A_REQUEST),
    ],
)
def test_what_is_not_ours_has_a_reason(packet: Packet, expected: Reason6) -> None:
    assert reason(packet) is expected


def test_how_it_came_matters() -> None:
    assert reason(PXE, replace(ARRIVAL, by_multicast=False)) is Reason6.UNICAST
    assert reason(PXE, replace(ARRIVAL, at_boot_port=True)) is Reason6.WRONG_PORT
    assert reason(PXE, replace(ARRIVAL, source=("fe80::1", 546))) is Reason6.NO_HARDWARE_ADDRESS
    assert reason(PXE, replace(ARRIVAL, server="")) is Reason6.NO_OWN_ADDRESS


def test_at_the_boot_port_a_multicast_is_for_the_server_it_names() -> None:
    """Firmware asks ff02::1:2 where the ADVERTISE had no URL; before 2018 it left the lease server's id in it."""
    other = changed(BOOT_REQUEST, SERVER_ID=b"\0\4other")
    assert reason(other, replace(AT_BOOT_PORT, by_multicast=True)) is Reason6.OTHER_SERVER
    assert reply_to(other, AT_BOOT_PORT).message_type is MessageType.REPLY
    assert reply_to(BOOT_REQUEST, replace(AT_BOOT_PORT, by_multicast=True)).message_type is MessageType.REPLY


def test_who_takes_our_advertise_for_a_lease_gets_the_file_and_no_address() -> None:
    request = changed(decode(VECTORS["edk2-pxe-request"]), SERVER_ID=DUID)
    reply = reply_to(request)
    assert reply.message_type is MessageType.REPLY
    assert decode(reply.payload).message.option(Option.IA_NA) is None


def test_a_lease_request_tells_the_address_that_the_machine_will_have() -> None:
    ignored = hear6(decode(VECTORS["edk2-pxe-request"]), ARRIVAL, TERMS)
    assert isinstance(ignored, Ignored6)
    assert ignored.leased == ("fd77::1e4",)
    assert ignored.identity is not None
    assert ignored.identity.machine.mac == "52:54:00:77:05:0b"


def test_switched_off() -> None:
    assert reason(PXE, terms=replace(TERMS, respond=False)) is Reason6.SWITCHED_OFF


def test_the_response_delay_goes_by_the_elapsed_time() -> None:
    asked: list[str] = []

    def delay_of(address: str) -> int:
        asked.append(address)
        return 4

    terms = replace(TERMS, delay_of=delay_of)
    early = hear6(PXE, ARRIVAL, terms)
    assert isinstance(early, Ignored6)
    assert (early.reason, early.delay_s) == (Reason6.TOO_EARLY, 4)
    assert asked == [SERVER]
    assert reason(changed(PXE, ELAPSED_TIME=b"\x01\x8f"), terms=terms) is Reason6.TOO_EARLY  # 3.99 s
    hear(changed(PXE, ELAPSED_TIME=b"\x01\x90"), terms=terms)
    hear(IPXE, terms=terms)  # it does not wait
    hear(changed(BOOT_REQUEST, ELAPSED_TIME=b"\0\0"), AT_BOOT_PORT, terms)  # it has waited


LOADED = Grant(loader="winpe/bootmgfw.efi", image="WIN")


@pytest.mark.parametrize(
    ("packet", "grant", "rule", "url"),
    [
        (PXE, LOADED, "WIN", "tftp://[fd77::10]/winpe/bootmgfw.efi"),
        (PXE, replace(LOADED, outcome=Outcome.PROMPT), "x64", "tftp://[fd77::10]/ipxe.efi"),
        (HTTP, replace(LOADED, outcome=Outcome.PROMPT), "WIN", "http://[fd77::10]:8080/boot/winpe/bootmgfw.efi"),
        (IPXE, replace(LOADED, outcome=Outcome.PROMPT), "WIN", "tftp://[fd77::10]/winpe/bootmgfw.efi"),
        (PXE, Grant(image="LINUX"), "x64", "tftp://[fd77::10]/ipxe.efi"),
        (PXE, Grant(Outcome.WAIT), "x64", "tftp://[fd77::10]/ipxe.efi"),
        (IPXE, Grant(Outcome.WAIT, "boot.ipxe"), "wait", "tftp://[fd77::10]/boot.ipxe"),
    ],
)
def test_what_policy_grants_is_handed_out(packet: Packet, grant: Grant, rule: str, url: str) -> None:
    reply = reply_to(packet, grant=grant)
    assert (reply.rule, reply.loader) == (rule, url)


@pytest.mark.parametrize(
    ("packet", "outcome"), [(PXE, Outcome.SILENT), (PXE, Outcome.ABORT), (HTTP, Outcome.ABORT), (IPXE, Outcome.ABORT)]
)
def test_what_policy_keeps_back_has_a_reason(packet: Packet, outcome: Outcome) -> None:
    ignored = answer6(hear(packet), Grant(outcome, "x"), TERMS)
    assert isinstance(ignored, Ignored6)
    assert ignored.reason is Reason6.POLICY
    assert ignored.identity is not None


def test_without_a_rule_there_is_silence() -> None:
    ignored = answer6(hear(PXE), Grant(), replace(TERMS, rules=RULES[:2]))
    assert isinstance(ignored, Ignored6)
    assert ignored.reason is Reason6.NO_RULE


def test_a_loader_of_a_broken_chain_stays_here() -> None:
    ignored = answer6(hear(PXE), Grant(), replace(TERMS, refusal_of={"ipxe.efi": "revoked"}.__getitem__))
    assert isinstance(ignored, Ignored6)
    assert (ignored.reason, ignored.detail) == (Reason6.CHAIN_BROKEN, "revoked")


def test_the_chain_is_asked_for_the_file_behind_a_url_and_not_for_files_of_boot_images() -> None:
    refused = {"ipxe.efi": "revoked"}
    terms = replace(TERMS, refusal_of=lambda loader: refused.get(loader, ""))
    assert isinstance(answer6(hear(HTTP), Grant(), terms), Ignored6)
    assert isinstance(answer6(hear(HTTP), Grant(loader="ipxe.efi", image="WIN"), terms), Reply6)


@pytest.mark.parametrize(
    ("loader", "client_class", "url"),
    [
        ("ipxe.efi", ClientClass.PXE, "tftp://[fe80::1]/ipxe.efi"),
        ("/x64/grub.efi", ClientClass.PXE, "tftp://[fe80::1]/x64/grub.efi"),
        ("x64\\a b%.efi", ClientClass.PXE, "tftp://[fe80::1]/x64%5Ca%20b%25.efi"),
        ("ipxe.efi", ClientClass.HTTP, "http://[fe80::1]:8080/boot/ipxe.efi"),
        ("https://{server}:{https_port}/boot/x.efi", ClientClass.HTTP, "https://[fe80::1]:8443/boot/x.efi"),
        ("http://boot.example/x.ipxe", ClientClass.IPXE, "http://boot.example/x.ipxe"),
    ],
)
def test_a_loader_as_url(loader: str, client_class: ClientClass, url: str) -> None:
    assert boot_url(loader, client_class, "fe80::1%7", TERMS) == url


INTERFACE = (int(Option.INTERFACE_ID), b"port7")
REMOTE = (int(Option.REMOTE_ID), b"\0\0\1\x57x")
INNER = Relay(12, 0, "fd00:2::1", "fe80::5054:ff:fe77:50b", (INTERFACE, REMOTE))
OUTER = Relay(12, 1, "::", "fd00:2::1", (REMOTE,))
FROM_RELAY = Arrival6(("fd00::9", 40000), SERVER, by_multicast=False)


def test_relays_get_back_what_rfc_8415_wants_and_no_more() -> None:
    question = hear(replace(PXE, relays=(OUTER, INNER)), FROM_RELAY)
    assert question.relay == "fd00:2::1"
    reply = reply_to(replace(PXE, relays=(OUTER, INNER)), FROM_RELAY)
    assert reply.destination == ("fd00::9", 547)
    assert decode(reply.payload).relays == (
        Relay(13, 1, "::", "fd00:2::1"),
        Relay(13, 0, "fd00:2::1", "fe80::5054:ff:fe77:50b", (INTERFACE,)),
    )


def test_a_relay_may_want_its_answer_at_another_port() -> None:
    wanted = (RELAY_SOURCE_PORT, b"\0\0")
    reply = reply_to(replace(PXE, relays=(replace(OUTER, options=(wanted,)), INNER)), FROM_RELAY)
    assert reply.destination == ("fd00::9", 40000)
    assert decode(reply.payload).relays[0].options == (wanted,)


ARRIVALS = st.builds(
    Arrival6,
    source=st.sampled_from([LINK_LOCAL, ("fd77::162", 4011)]),
    server=st.sampled_from([SERVER, ""]),
    at_boot_port=st.booleans(),
    by_multicast=st.booleans(),
    known_mac=st.sampled_from(["", "52:54:00:d9:d6:01"]),
)


@given(st.sampled_from(sorted(VECTORS)), st.integers(0, 15), ARRIVALS, st.sampled_from(list(Outcome)), st.data())
def test_any_packet_is_answered_or_has_a_reason(
    name: str, kind: int, arrival: Arrival6, outcome: Outcome, data: st.DataObject
) -> None:
    """And an answer is one that firmware can read, to the one who asked."""
    packet = decode(VECTORS[name])
    options = [
        (code, data.draw(st.one_of(st.just(value), st.binary(max_size=30)))) for code, value in packet.message.options
    ]
    packet = replace(packet, message=replace(packet.message, type=kind, options=tuple(options)))
    try:
        question = hear6(packet, arrival, TERMS)
    except MalformedMessage:
        return
    if isinstance(question, Question6):
        reply = answer6(question, Grant(outcome), TERMS)
        if isinstance(reply, Reply6):
            assert encode(decode(reply.payload)) == reply.payload
            assert reply.destination == arrival.source
            assert outcome not in (Outcome.SILENT, Outcome.ABORT)
