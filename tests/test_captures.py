# SPDX-License-Identifier: Apache-2.0
"""Real firmware's own packets, once more: read by dpd's codecs as recorded and as scapy reads them, and answered so that the
firmware's rules take the answer. What the captures are and how they were made stands in tests/data/captures/README.md.
"""

from __future__ import annotations

import socket
import struct
import tomllib
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scapy.layers import dhcp6 as scapy6
from scapy.layers.dhcp import BOOTP, DHCP, DHCPRevOptions
from scapy.layers.tftp import TFTP, TFTP_RRQ
from scapy.utils import PcapReader

from dpd.protocol.dhcp import message as dhcp4
from dpd.protocol.dhcp.options import Option
from dpd.protocol.dhcp6 import message as dhcp6
from dpd.protocol.machine import Datagram
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.responder import Arrival, Grant, Policy, Reply, respond
from dpd.protocol.pxe.responder6 import Arrival6, Ignored6, Reply6, Terms6, answer6, hear6
from dpd.protocol.pxe.rules import ClientClass, Rule, identify
from dpd.protocol.tftp import packet as tftp

CAPTURES = Path(__file__).parent / "data" / "captures"
RECORD: dict[str, dict[str, Any]] = tomllib.loads((CAPTURES / "captures.toml").read_text(encoding="utf-8"))
SERVER, SERVER6 = "10.77.0.2", "fd77::2"
RULES = tuple(Rule(word.value, word, f"http://{{server}}/{word.value}.efi") for word in ClientClass)
PORTS4, PORTS6 = (67, 4011), (547, 4011)


@dataclass(frozen=True)
class Heard:
    """One UDP datagram of a capture; `packet` is scapy's view of the whole frame."""

    datagram: Datagram
    port: int
    packet: Any

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.datagram.local


def read_capture(name: str) -> Iterator[Heard]:
    """The datagrams, cut out of their frames here and by scapy."""
    with PcapReader(str(CAPTURES / f"{name}.pcap")) as reader:
        for packet in reader:
            frame = bytes(packet)
            is_ipv6 = frame[12:14] == b"\x86\xdd"
            start = 54 if is_ipv6 else 14 + 4 * (frame[14] & 15)
            family, first, size = (socket.AF_INET6, 22, 16) if is_ipv6 else (socket.AF_INET, 26, 4)
            source, local = (socket.inet_ntop(family, frame[at : at + size]) for at in (first, first + size))
            source_port, port, length = struct.unpack_from("!HHH", frame, start)
            yield Heard(Datagram(frame[start + 8 : start + length], (source, source_port), local), port, packet)


def dhcp_messages(name: str) -> Iterator[tuple[Heard, dhcp4.Message]]:
    for heard in read_capture(name):
        if not heard.is_ipv6 and heard.port in PORTS4:
            yield heard, dhcp4.decode(heard.datagram.payload)


def dhcp6_packets(name: str) -> Iterator[tuple[Heard, dhcp6.Packet]]:
    for heard in read_capture(name):
        if heard.is_ipv6 and heard.port in PORTS6:
            yield heard, dhcp6.decode(heard.datagram.payload)


def told(heard: Heard) -> str:
    """A datagram in one line, as dpd's codecs read it."""
    payload = heard.datagram.payload
    if not heard.is_ipv6 and heard.port in PORTS4:
        message = dhcp4.decode(payload)
        assert message.message_type is not None
        return f"{heard.port} {dhcp4.MessageType(message.message_type).name}"
    if heard.is_ipv6 and heard.port in PORTS6:
        return f"{heard.port} {dhcp6.MessageType(dhcp6.decode(payload).message.type).name}"
    found = tftp.decode(payload)
    match found:
        case tftp.ReadRequest():
            return " ".join(["RRQ", found.filename, *(f"{option}={value}" for option, value in found.options)])
        case tftp.Ack():
            return f"ACK {found.block_number}"
        case tftp.Error():
            return f"ERROR {found.code}"
    raise AssertionError(f"a client says {found}")


def terms6() -> Terms6:
    return Terms6(b"\0\3\0\1\x52\x54\0\0\0\1", RULES)


def arrival6(heard: Heard) -> Arrival6:
    by_multicast = heard.datagram.local.startswith("ff")
    return Arrival6(heard.datagram.source, SERVER6, heard.port == 4011, by_multicast)


def guid_of(record: dict[str, Any]) -> str:
    """What QEMU was given as -uuid (tests/interop/guest.py)."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, record["mac"]))


def test_each_capture_is_on_record_and_the_other_way_round() -> None:
    assert {path.stem for path in CAPTURES.glob("*.pcap")} == set(RECORD)


@pytest.mark.parametrize("name", RECORD)
def test_our_codecs_read_what_the_firmware_said(name: str) -> None:
    assert [told(heard) for heard in read_capture(name)] == RECORD[name]["said"]


@pytest.mark.parametrize("name", RECORD)
def test_the_machine_is_known_for_what_it_is(name: str) -> None:
    """QEMU's command line is the other source: MAC, SMBIOS UUID, and the processor."""
    record, classes = RECORD[name], []
    for _, message in dhcp_messages(name):
        if message.option(Option.VENDOR_CLASS) is None:
            continue  # UEFI's IPv4 stack, before a boot program asks
        machine = identify(message)
        assert (machine.mac, machine.guid) == (record["mac"], guid_of(record))
        assert machine.processor == record["processor"]
        classes.append(machine.client_class.value)
    for heard, packet in dhcp6_packets(name):
        question = hear6(packet, arrival6(heard), terms6())
        if isinstance(question, Ignored6):
            continue
        assert (question.machine.mac, question.machine.guid) == (record["mac"], guid_of(record))
        assert question.machine.processor == record["processor"]
        classes.append(question.machine.client_class.value + " by IPv6")
    assert list(dict.fromkeys(classes)) == record["classes"]


@pytest.mark.parametrize("name", RECORD)
def test_scapy_reads_the_same_dhcp_options(name: str) -> None:
    for heard, message in dhcp_messages(name):
        theirs = BOOTP(heard.datagram.payload)
        assert (theirs.xid, theirs.chaddr[:6], theirs.ciaddr) == (message.xid, message.chaddr, message.ciaddr)
        options = [option for option in theirs[DHCP].options if not isinstance(option, str)]
        codes = [code_of(option[0]) for option in options]
        assert codes == [code for code, _ in message.options]
        for (_, ours), (_, *values) in zip(message.options, options, strict=True):
            assert as_bytes(values, len(ours)) == ours


def code_of(name: str | int) -> int:
    return name if isinstance(name, int) else DHCPRevOptions[name][0]


def as_bytes(values: list[Any], size: int) -> bytes:
    """scapy makes numbers, addresses and lists of what it knows."""
    if isinstance(values[0], bytes):
        return bytes(values[0])
    if isinstance(values[0], str):
        return b"".join(map(socket.inet_aton, values))
    numbers = values[0] if isinstance(values[0], list) else values
    return b"".join(number.to_bytes(size // len(numbers), "big") for number in numbers)


@pytest.mark.parametrize("name", RECORD)
def test_scapy_reads_the_same_dhcpv6_options(name: str) -> None:
    for heard, packet in dhcp6_packets(name):
        kind = scapy6.dhcp6_cls_by_type[packet.message.type]
        layer = getattr(scapy6, kind)(heard.datagram.payload)
        assert (layer.msgtype, layer.trid) == (packet.message.type, packet.message.transaction_id)
        theirs = []
        while (layer := layer.payload) and hasattr(layer, "optcode"):
            alone = layer.copy()
            alone.remove_payload()
            theirs.append((layer.optcode, bytes(alone)[4:]))
        assert tuple(theirs) == packet.message.options


@pytest.mark.parametrize("name", RECORD)
def test_scapy_reads_the_same_requests_for_files(name: str) -> None:
    for heard in read_capture(name):
        if heard.port != 69:
            continue
        ours = tftp.decode(heard.datagram.payload)
        assert isinstance(ours, tftp.ReadRequest)
        theirs = TFTP(heard.datagram.payload)
        assert theirs[TFTP_RRQ].filename.decode() == ours.filename
        options = [(option.oname.decode().lower(), option.value.decode()) for option in theirs.payload.payload.options]
        assert tuple(options) == ours.options


@pytest.mark.parametrize("name", RECORD)
def test_each_question_of_a_booting_machine_gets_an_answer_that_it_takes(name: str) -> None:
    record, answered = RECORD[name], []
    for heard, message in dhcp_messages(name):
        reply = respond(message, Arrival(heard.datagram.source, SERVER, heard.port == 4011), Policy(rules=RULES))
        if not isinstance(reply, Reply):
            continue
        client = PxeClient(record["mac"], client_class=reply.machine.client_class)
        taken = client.read(reply.payload, message.xid)
        assert taken is not None
        assert (taken.server, taken.visit_server) == (SERVER, False)
        assert taken.loader == f"http://{SERVER}/{reply.machine.client_class.value}.efi"
        answered.append(reply.machine.client_class.value)
    for heard, packet in dhcp6_packets(name):
        question = hear6(packet, arrival6(heard), terms6())
        if isinstance(question, Ignored6):
            continue
        reply6 = answer6(question, Grant(), terms6())
        assert isinstance(reply6, Reply6)
        assert dhcp6.decode(reply6.payload).message.transaction_id == packet.message.transaction_id
        assert reply6.destination == heard.datagram.source
        answered.append(reply6.machine.client_class.value + " by IPv6")
    assert list(dict.fromkeys(answered)) == record["classes"]
