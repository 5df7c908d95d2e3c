# SPDX-License-Identifier: Apache-2.0
"""Fuzz targets of network boot: what anybody on the wire may send to ports 67, 547, 4011 and 69.

`dhcp4`, `dhcp6`: the codecs and every reader of an option. `option43`, `option82`: the two options with options inside, which
the fuzzer would have to frame well before it came to them; nothing of dpd reads option 250, so that it has no target. `pxe4`, `pxe6`: the proxy with policy of the fuzzer's choosing.
`tftp`: packets, and a transfer whose client is the fuzzer. Whatever comes is a message or malformed for a reason, and what is
answered keeps the rules that firmware and relays rely on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tests.data.dhcp6_vectors import VECTORS as VECTORS6
from tests.data.dhcp_vectors import VECTORS as VECTORS4

from dpd.errors import MalformedMessage, MisuseError
from dpd.protocol.dhcp import message as dhcp4_message
from dpd.protocol.dhcp import options as options4
from dpd.protocol.dhcp6 import message as dhcp6_message
from dpd.protocol.dhcp6 import options as options6
from dpd.protocol.machine import Transmit
from dpd.protocol.pxe.client import PxeClient
from dpd.protocol.pxe.foreign_offer import read_foreign_offer
from dpd.protocol.pxe.menu import LOCAL_BOOT_AT_ONCE
from dpd.protocol.pxe.relay import read_relay
from dpd.protocol.pxe.responder import Arrival, Grant, Outcome, Policy, Reply, respond
from dpd.protocol.pxe.responder6 import Arrival6, Ignored6, Terms6, answer6, hear6
from dpd.protocol.pxe.rules import ClientClass, Rule
from dpd.protocol.tftp import packet as tftp_packet
from dpd.protocol.tftp.blocks import Extent
from dpd.protocol.tftp.events import ExtentNeeded
from dpd.protocol.tftp.options import Limits
from dpd.protocol.tftp.transfer import ReadTransfer

SERVER, SERVER6 = "10.77.0.10", "fd77::10"
RULES = tuple(Rule(word.value, word, f"{word.value}.efi") for word in ClientClass)
TERMS4 = Policy(rules=RULES, http_port=8080)
TERMS6 = Terms6(b"\0\3\0\1\x52\x54\0\0\0\1", RULES, http_port=8080)
CLIENT = PxeClient("52:54:00:00:00:01")
QUESTION = dhcp4_message.decode(CLIENT.discover(7))
NOBODY = dhcp4_message.UNSPECIFIED
LOADERS = ("", "boot/bootmgfw.efi", "http://{server}:{http_port}/boot/x.efi", "x" * 127)
MAX_PAYLOAD = 1472  # what EDK2 takes

READERS4: tuple[Callable[[bytes], object], ...] = (
    options4.decode_pxe_options,
    options4.decode_client_arch,
    options4.decode_client_interface,
    options4.decode_machine_id,
    options4.decode_user_classes,
    lambda value: list(options4.read_suboptions(value, framed=False)),
)
READERS6: tuple[Callable[[bytes], object], ...] = (
    options6.decode_duid,
    options6.decode_vendor_class,
    options6.decode_vendor_options,
    options6.decode_user_classes,
    options6.decode_boot_parameters,
    options6.decode_codes,
    options6.decode_client_interface,
    options6.decode_link_layer,
    options6.decode_remote_id,
    options6.decode_identity_association,
)


def dhcp4(data: bytes) -> None:
    """A message encodes to what decodes to it again; each option goes to each reader."""
    try:
        found = dhcp4_message.decode(data)
    except MalformedMessage:
        read_everywhere(READERS4, data)
        return
    for _, value in found.options:
        read_everywhere(READERS4, value)
    read_foreign_offer(found, "10.77.0.2", (SERVER,))
    try:
        again = dhcp4_message.decode(dhcp4_message.encode(found))
    except MisuseError:  # names that fill their field to the last byte have no NUL
        assert len(found.sname) > 63 or len(found.file) > 127
        return
    assert dict(again.options) == dict(found.options)
    assert replace(again, options=()) == replace(found, options=())


def read_everywhere(readers: tuple[Callable[[bytes], object], ...], value: bytes) -> None:
    for reader in readers:
        try:
            found = reader(value)
        except MalformedMessage:
            continue
        if isinstance(found, options4.PxeOptions):
            keeps_its_meaning(found)


def keeps_its_meaning(found: options4.PxeOptions) -> None:
    """Option 43 encodes to what decodes to it again, unless it has no room."""
    try:
        content = options4.encode_pxe_options(found)
    except MisuseError:
        return
    assert options4.decode_pxe_options(content) == found


def option43(data: bytes) -> None:
    """PXE's vendor options, as a server reads a client's and a client a server's."""
    read_everywhere((options4.decode_pxe_options,), data)
    for sent in (
        dhcp4_message.encode_reply(QUESTION, flags=0, ciaddr=NOBODY, siaddr=SERVER, sname=b"", file=b"x", options=each)
        for each in (options4_offer(data), options4_offer(data, file_option=b"ipxe.efi"))
    ):
        try:
            told = CLIENT.read(sent, QUESTION.xid)
        except MalformedMessage:
            continue
        assert told is not None
        assert told.loader in ("x", "ipxe.efi")


def options4_offer(vendor: bytes, file_option: bytes = b"") -> bytes:
    """What an offer of network boot has, with this option 43."""
    options = [
        (options4.Option.MESSAGE_TYPE, bytes((dhcp4_message.MessageType.OFFER,))),
        (options4.Option.SERVER_ID, options4.pack_address(SERVER)),
        (options4.Option.VENDOR_CLASS, b"PXEClient"),
        (options4.Option.VENDOR, vendor),
    ]
    if file_option:
        options.append((options4.Option.BOOT_FILE, file_option))
    return dhcp4_message.encode_options(options)


def option82(data: bytes) -> None:
    """A relay's own words: sub-options that fill the option, and addresses that are addresses."""
    told = dhcp4_message.Message(1, 7, bytes(6), ((int(options4.Option.RELAY_AGENT), data),), giaddr="10.78.0.1")
    try:
        relay = read_relay(told)
    except MalformedMessage:
        return
    parts = list(options4.read_suboptions(data, framed=False))
    assert b"".join(bytes((code, len(value))) + value for code, value in parts) == data
    assert relay.address == "10.78.0.1"
    for address in filter(None, (relay.link, relay.server_id)):
        assert options4.unpack_address(options4.pack_address(address)) == address
    assert bytes.fromhex(relay.circuit) == dict(parts).get(options4.RelayTag.CIRCUIT_ID, b"")


def pxe4(data: bytes) -> None:
    """An answer is well-formed, goes where it may, and gives a relay back what it sent."""
    if len(data) < 3:
        return
    grant = Grant(list(Outcome)[data[0] % len(Outcome)], LOADERS[data[1] % len(LOADERS)], "i" * (data[1] >> 7))
    terms = replace(TERMS4, respond=data[2] & 6 != 6, response_delay_s=(data[2] >> 3) % 5)
    arrival = Arrival(("10.77.0.77", 68 + data[2]), SERVER, at_boot_port=bool(data[2] & 1))
    try:
        asked = dhcp4_message.decode(data[3:])
        answer = respond(asked, arrival, terms, grant)
    except MalformedMessage:
        return
    if isinstance(answer, Reply):
        hold_to_the_rules(asked, answer)


def hold_to_the_rules(asked: dhcp4_message.Message, answer: Reply) -> None:
    told = dhcp4_message.decode(answer.payload)
    assert (told.op, told.xid, told.chaddr, told.giaddr) == (2, asked.xid, asked.chaddr, asked.giaddr)
    assert told.message_type in (dhcp4_message.MessageType.OFFER, dhcp4_message.MessageType.ACK)
    assert told.yiaddr == "0.0.0.0"
    assert len(answer.payload) >= dhcp4_message.MIN_BYTES
    relayed = asked.option(options4.Option.RELAY_AGENT)
    assert told.option(options4.Option.RELAY_AGENT) == relayed
    if relayed is None:
        assert len(answer.payload) <= MAX_PAYLOAD
    else:
        assert told.options[-1] == (options4.Option.RELAY_AGENT, relayed)
    first = int(answer.destination[0].partition(".")[0])
    assert 0 < first < 224 or answer.is_broadcast


def dhcp6(data: bytes) -> None:
    """A packet encodes to what decodes to it again; each option goes to each reader."""
    try:
        found = dhcp6_message.decode(data)
    except MalformedMessage:
        read_everywhere(READERS6, data)
        return
    for options in (found.message.options, *(relay.options for relay in found.relays)):
        for _, value in options:
            read_everywhere(READERS6, value)
    assert dhcp6_message.decode(dhcp6_message.encode(found)) == found


def pxe6(data: bytes) -> None:
    """An answer is well-formed and goes back through the relays that the question came by."""
    if len(data) < 3:
        return
    grant = Grant(list(Outcome)[data[0] % len(Outcome)], LOADERS[data[1] % len(LOADERS)], "i" * (data[1] >> 7))
    source = "fe80::5054:ff:fe00:7%2" if data[2] & 4 else "fd77::7"
    arrival = Arrival6((source, 546), SERVER6, bool(data[2] & 1), bool(data[2] & 2))
    try:
        asked = dhcp6_message.decode(data[3:])
        question = hear6(asked, arrival, TERMS6)
        if isinstance(question, Ignored6):
            return
        answer = answer6(question, grant, TERMS6)
    except MalformedMessage:
        return
    if isinstance(answer, Ignored6):
        return
    told = dhcp6_message.decode(answer.payload)
    assert told.message.transaction_id == asked.message.transaction_id
    assert [relay.peer_address for relay in told.relays] == [relay.peer_address for relay in asked.relays]
    interfaces = [relay.option(options6.Option.INTERFACE_ID) for relay in asked.relays]
    assert [relay.option(options6.Option.INTERFACE_ID) for relay in told.relays] == interfaces


def tftp(data: bytes) -> None:
    """A packet encodes to what decodes to it again; a request is served to whatever client the rest of the bytes are."""
    head, _, script = data.partition(b"\xff\xfe")
    try:
        found = tftp_packet.decode(head)
    except MalformedMessage as error:
        if error.reason not in tftp_packet.REASONS:
            raise
        return
    assert tftp_packet.decode(tftp_packet.encode(found)) == found
    if isinstance(found, tftp_packet.ReadRequest):
        serve(found, script)


def serve(request: tftp_packet.ReadRequest, script: bytes) -> None:
    """One transfer: each step is a length and so many bytes from the client, or from a stranger, or a time that passes."""
    size_bytes, now = (int.from_bytes(script[:3], "big")) % 300_000, 1.0
    client = ("10.77.0.77", 2070)
    machine = ReadTransfer(request, client, size_bytes, Limits(timeout_s=0.5, attempts=4))
    assert len(machine.terms.granted) <= len(request.options)
    position, steps = 3, 0
    drain(machine, now)
    while position < len(script) and steps < 64:
        step, position, steps = script[position], position + 1, steps + 1
        if step & 0x80:
            now += (step & 0x7F) / 16
            machine.handle_timeout(now)
        else:
            source = client if step & 0x40 else ("10.77.0.78", 9)
            length = step & 0x3F
            machine.receive_datagram(script[position : position + length], source, now)
            position += length
        drain(machine, now)
    assert machine.bytes_acked <= size_bytes


def drain(machine: ReadTransfer, now: float) -> None:
    """Send all that is to be sent; a window is bounded, whoever asks."""
    sent = 0
    for _ in range(4096):
        out = machine.poll_transmit(now)
        if isinstance(out, Transmit):
            sent += sum(len(piece) for piece in out.pieces)
            continue
        event = machine.next_event()
        if event is None:
            break
        if isinstance(event, ExtentNeeded):
            machine.provide_extent(Extent(event), event.length)
    assert sent <= (1 << 20) + 65536


_REQUEST = tftp_packet.ReadRequest("boot/ipxe.efi", options=(("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")))
_MICROSOFT = tftp_packet.ReadRequest("\\Boot\\BCD", options=(("windowsize", "8"), ("msftwindow", "31416")))
_ACKS = b"\x01\x00\x00\x44\0\x04\0\0\x44\0\x04\0\x04\x90\x44\0\x04\0\x04\xff\x45\0\x04\0\x08\x05"
_MESSAGES4 = [dhcp4_message.decode(vector) for vector in VECTORS4.values()]


def told_in(code: int) -> list[bytes]:
    """What the captured messages have under an option's number."""
    return [value for each in _MESSAGES4 if (value := each.option(code)) is not None]


SEEDS = {
    "dhcp4": list(VECTORS4.values()),
    "option43": [*told_in(options4.Option.VENDOR), options4.encode_pxe_options(LOCAL_BOOT_AT_ONCE)],
    "option82": [
        *told_in(options4.Option.RELAY_AGENT),
        bytes.fromhex("0104000100020b040a4e00010504c0a80001130000"),
    ],
    "pxe4": [
        bytes((outcome, 0, port)) + vector for vector in VECTORS4.values() for outcome in (0, 1) for port in (0, 1)
    ],
    "dhcp6": list(VECTORS6.values()),
    "pxe6": [bytes((0, 0, port)) + vector for vector in VECTORS6.values() for port in (2, 1)],
    "tftp": [
        *(tftp_packet.encode(request) + b"\xff\xfe" + _ACKS for request in (_REQUEST, _MICROSOFT)),
        tftp_packet.encode(tftp_packet.Error(8, "User aborted the transfer")),
        tftp_packet.encode(tftp_packet.OptionAck((("blksize", "1468"),))),
    ],
}
TARGETS: dict[str, Callable[[bytes], None]] = {
    "dhcp4": dhcp4,
    "option43": option43,
    "option82": option82,
    "pxe4": pxe4,
    "dhcp6": dhcp6,
    "pxe6": pxe6,
    "tftp": tftp,
}
MAX_BYTES = {"dhcp4": 2048, "option43": 512, "option82": 512, "pxe4": 2048, "dhcp6": 2048, "pxe6": 2048, "tftp": 2048}
