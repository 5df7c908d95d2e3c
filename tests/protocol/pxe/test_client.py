# SPDX-License-Identifier: Apache-2.0
"""The client against captures of another server and against our own responder."""

from dataclasses import replace

import pytest
from tests.data.dhcp_vectors import VECTORS
from tests.protocol.pxe.test_responder import AT_67, AT_4011, POLICY

from dpd.protocol.dhcp.message import Message, MessageType, decode, encode
from dpd.protocol.dhcp.options import BootServer, Option, PxeOptions, encode_pxe_options
from dpd.protocol.pxe.client import BootAnswer, PxeClient
from dpd.protocol.pxe.responder import Arrival, Reply, respond
from dpd.protocol.pxe.rules import ClientClass, identify

CLIENT = PxeClient(mac="52:54:00:77:03:04", guid="70786c61-6200-4000-8000-525400770004")


def ask(data: bytes, arrival: Arrival = AT_67) -> Reply:
    reply = respond(decode(data), arrival, POLICY)
    assert isinstance(reply, Reply), reply
    return reply


@pytest.mark.parametrize(
    ("client", "capture"),
    [
        (CLIENT, "edk2-x64-discover"),
        (replace(CLIENT, client_class=ClientClass.HTTP, client_arch=16), "edk2-http-discover"),
        (replace(CLIENT, client_arch=11), "aavmf-discover"),
        (replace(CLIENT, client_class=ClientClass.IPXE, client_arch=0), "ipxe-bios-discover"),
    ],
)
def test_our_discover_says_what_the_firmware_says(client: PxeClient, capture: str) -> None:
    ours, theirs = identify(decode(client.discover(1))), identify(decode(VECTORS[capture]))
    assert (ours.client_class, ours.client_arch, ours.vendor_class) == (
        theirs.client_class,
        theirs.client_arch,
        theirs.vendor_class,
    )
    assert ours.guid == CLIENT.guid


def test_an_offer_of_dpd_is_final() -> None:
    answer = CLIENT.read(ask(CLIENT.discover(7)).payload, 7)
    assert answer == BootAnswer(MessageType.OFFER, "10.77.0.10", "ipxe.efi", visit_server=False)


def test_4011_says_the_same() -> None:
    answer = CLIENT.read(ask(CLIENT.boot_request(8, "10.77.0.100"), AT_4011).payload, 8)
    assert answer == BootAnswer(MessageType.ACK, "10.77.0.10", "ipxe.efi", visit_server=False)


def test_http_client_reads_its_url() -> None:
    client = replace(CLIENT, client_class=ClientClass.HTTP, client_arch=16)
    answer = client.read(ask(client.discover(9)).payload, 9)
    assert answer is not None
    assert answer.loader == "http://10.77.0.10:8080/boot/ipxe.efi"
    assert not answer.visit_server


def test_as_a_relay_it_is_answered_at_its_own_port() -> None:
    client = replace(CLIENT, relay="127.0.0.1")
    reply = ask(client.discover(7), replace(AT_67, source=("127.0.0.1", 40000)))
    assert reply.destination == ("127.0.0.1", 40000)
    assert client.read(reply.payload, 7) is not None


def test_the_ack_of_dnsmasq_is_read() -> None:
    answer = CLIENT.read(VECTORS["dnsmasq-proxy-ack"], 0xDA37F767)
    assert answer == BootAnswer(MessageType.ACK, "10.77.0.10", "grubx64-lab.efi", visit_server=False)


def test_a_menu_without_a_file_sends_the_client_to_4011() -> None:
    client = PxeClient(mac="52:54:00:77:01:00", client_arch=0)
    answer = client.read(VECTORS["dnsmasq-proxy-menu-offer"], 0xB6B77B58)
    assert answer is not None
    assert answer.visit_server
    assert answer.server == "10.77.0.10"  # option 54, since siaddr is 0


def test_tag_8_names_the_server_when_the_file_is_given() -> None:
    offer = decode(ask(CLIENT.discover(7)).payload)
    servers = PxeOptions(discovery_control=8, boot_servers=(BootServer(0, ("10.77.0.77",)),))
    changed = dict(offer.options) | {int(Option.VENDOR): encode_pxe_options(servers)}
    answer = CLIENT.read(encode(replace(offer, options=tuple(changed.items()))), 7)
    assert answer is not None
    assert answer.server == "10.77.0.77"


@pytest.mark.parametrize("name", ["dnsmasq-lease-offer", "edk2-x64-discover", "dnsmasq-proxy-http-offer"])
def test_what_is_no_boot_answer_is_passed_over(name: str) -> None:
    assert CLIENT.read(VECTORS[name], decode(VECTORS[name]).xid) is None


def offer(**changes: object) -> bytes:
    message = replace(decode(ask(CLIENT.discover(7)).payload), **changes)  # type: ignore[arg-type]
    return encode(message)


def without(message: Message, code: int) -> tuple[tuple[int, bytes], ...]:
    return tuple(entry for entry in message.options if entry[0] != code)


def test_firmware_drops_what_is_not_its_own() -> None:
    good = decode(offer())
    assert CLIENT.read(offer(), 8) is None
    assert CLIENT.read(offer(chaddr=bytes(6)), 7) is None
    assert CLIENT.read(offer(options=without(good, Option.SERVER_ID)), 7) is None
    assert CLIENT.read(offer(options=without(good, Option.MESSAGE_TYPE)), 7) is None
    assert CLIENT.read(offer(options=(*good.options, (200, bytes(1200)))), 7) is None
    assert CLIENT.read(offer(), 7) is not None
