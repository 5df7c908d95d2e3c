# SPDX-License-Identifier: Apache-2.0
"""The OFFER or ACK itself: header, options in the form that the client's profile asks for, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dpd.protocol.dhcp.message import (
    BROADCAST_FLAG,
    UNSPECIFIED,
    Message,
    MessageType,
    encode_options,
    encode_reply,
)
from dpd.protocol.dhcp.options import (
    BootItem,
    DiscoveryControl,
    MenuItem,
    MenuPrompt,
    Option,
    PxeOptions,
    encode_pxe_options,
    pack_address,
)
from dpd.protocol.machine import Address
from dpd.protocol.pxe.exchange import EVERYONE, Policy, Question, Reply
from dpd.protocol.pxe.profiles import Flow
from dpd.protocol.pxe.rules import ClientClass

MAX_FILE = 127  # the header field `file` has 128 bytes with its NUL
MACHINE_ID_BYTES = 17
MIN_MESSAGE = 576  # RFC 2132 section 9.10: nobody may take less; IP and UDP headers count
IP_AND_UDP_BYTES = 28
MIN_ROOM = MIN_MESSAGE - IP_AND_UDP_BYTES
# Left out in this order where the client cannot take all: siaddr says the same.
DISPENSABLE = (Option.TFTP_SERVERS, Option.TFTP_SERVER)
# First words of the loaders that look for option 252, which to others is a proxy setting (WPAD).
MICROSOFT_LOADERS = ("bootmgfw", "bootmgr", "pxeboot", "wdsmgfw", "wdsnbp", "abortpxe")

# Under names of their own, see `rules`.
OFFER, ACK = MessageType.OFFER, MessageType.ACK
_DISCOVER = int(MessageType.DISCOVER)
_PARAMETER_LIST, _TFTP_SERVERS = int(Option.PARAMETER_LIST), int(Option.TFTP_SERVERS)
_CLIENT_MACHINE_ID, _RELAY_AGENT = int(Option.CLIENT_MACHINE_ID), int(Option.RELAY_AGENT)
_HTTP, _BARE = Flow.HTTP, Flow.BARE
PXE_CLIENT = ClientClass.PXE.value
MACHINE_ID_HEAD = bytes((_CLIENT_MACHINE_ID, MACHINE_ID_BYTES))


@dataclass(slots=True)
class Content:
    """What the client is given: a loader under a rule's name or a boot image's, or a menu."""

    rule: str = ""
    loader: str = ""
    menu: PxeOptions | None = None
    bcd_name: str = ""
    flow: Flow | None = None  # in place of the profile's


def build_reply(question: Question, content: Content, policy: Policy) -> Reply:
    """The OFFER or ACK that hands out the content, and where it goes."""
    kind = OFFER if question.message.message_type == _DISCOVER else ACK
    flow = content.flow or question.profile.flow
    payload, left_out = _payload(question, content, flow, kind), 0
    room = MIN_ROOM if len(payload) <= MIN_ROOM else room_of(question.message)
    while len(payload) > room and left_out < len(DISPENSABLE):  # never by option 52: shim needs `file`
        left_out += 1
        payload = _payload(question, content, flow, kind, DISPENSABLE[:left_out])
    destination = _destination(question, policy)
    rule, loader, profile = content.rule, content.loader, question.profile.name
    return Reply(payload, destination, kind, question.machine, rule, loader, question.server, profile, flow)


def _payload(
    question: Question, content: Content, flow: Flow, kind: MessageType, left_out: tuple[int, ...] = ()
) -> bytes:
    """The bytes. Only xid, addresses and option 97 differ between the machines of a room, so that the options before and
    behind 97 are made once for all: 8 us of 43 less."""
    message, server, loader = question.message, question.server, content.loader
    option, relay = message.option, question.relay
    in_header = flow is not _HTTP
    vendor = _vendor(question, content, flow) if in_header else b""
    wants_list = in_header and _TFTP_SERVERS in (option(_PARAMETER_LIST) or b"")
    identity, relayed = option(_CLIENT_MACHINE_ID), option(_RELAY_AGENT)
    options = _about_us(kind, relay.server_id or server, _word(question.machine.vendor_class, flow))
    if (
        identity is not None and len(identity) == MACHINE_ID_BYTES
    ):  # RFC 4578 section 2.3: even where it identifies nobody
        options += MACHINE_ID_HEAD + identity
    options += _about_file(server, vendor, loader, content.bcd_name, in_header, wants_list, left_out)
    if relayed is not None:
        options += encode_options(((_RELAY_AGENT, relayed),))  # RFC 3046 section 2.2: back byte for byte, and last
    return encode_reply(
        message,
        # yiaddr is 0: behind a relay only a broadcast reaches the client (RFC 2131 section 4.1)
        flags=message.flags | BROADCAST_FLAG if relay.address else message.flags,
        ciaddr=message.ciaddr if kind is ACK else UNSPECIFIED,
        siaddr=server,
        # shim reads siaddr and `file` of the header alone; UEFI HTTP boot reads option 67 alone
        sname=server.encode() if in_header else b"",
        file=loader.encode("ascii") if in_header and len(loader) <= MAX_FILE else b"",
        options=options,
    )


@lru_cache(1024)
def _about_us(kind: MessageType, server_id: str, word: str) -> bytes:
    """`server_id` may be the relay's (RFC 5107)."""
    about = encode_options(((Option.MESSAGE_TYPE, bytes((kind,))), (Option.SERVER_ID, pack_address(server_id))))
    return about + encode_options(((Option.VENDOR_CLASS, word.encode()),)) if word else about


@lru_cache(1024)
def _about_file(
    server: str, vendor: bytes, loader: str, bcd_name: str, is_pxe: bool, wants_list: bool, left_out: tuple[int, ...]
) -> bytes:
    options: list[tuple[int, bytes]] = [(Option.VENDOR, vendor)] if vendor else []
    if is_pxe:
        options.append((Option.TFTP_SERVER, server.encode()))
    if wants_list:
        options.append((Option.TFTP_SERVERS, pack_address(server)))
    if loader:
        options.append((Option.BOOT_FILE, loader.encode("ascii")))
    if is_pxe and bcd_name and is_microsofts(loader):
        options.append((Option.BCD, bcd_name.encode("ascii") + b"\0"))
    return encode_options(each for each in options if each[0] not in left_out)


def _word(told: str, flow: Flow) -> str:
    """Option 60 says what the client said, without its numbers. U-Boot looks for PXEClient whatever it says itself."""
    if flow is _BARE:
        return PXE_CLIENT if told != PXE_CLIENT else ""
    return told


def _vendor(question: Question, content: Content, flow: Flow) -> bytes:
    """Option 43: a menu, or "the file is given here", with the item a client chose: iPXE drops an answer without it."""
    if content.menu is not None:
        return encode_pxe_options(content.menu)
    return _given_file(question.profile.menu_text, flow, question.item)


@lru_cache(64)
def _given_file(menu_text: str, flow: Flow, item: BootItem | None) -> bytes:
    if menu_text:
        control = DiscoveryControl.NO_BROADCAST | DiscoveryControl.NO_MULTICAST
        menu = (MenuItem(0, menu_text),)
        return encode_pxe_options(PxeOptions(control, menu=menu, prompt=MenuPrompt(0, "PXE")))
    if flow is Flow.DIRECT:
        return encode_pxe_options(PxeOptions(discovery_control=DiscoveryControl.FILE_IS_GIVEN, item=item))
    return encode_pxe_options(PxeOptions(item=item)) if flow is Flow.BINL and item is not None else b""


def is_microsofts(loader: str) -> bool:
    """Whether a loader looks for its BCD store in option 252."""
    name = loader.replace("\\", "/").rpartition("/")[2].lower()
    return name.startswith(MICROSOFT_LOADERS)


def room_of(message: Message) -> int:
    """The payload that the client takes (option 57); what a relay adds it takes off again."""
    told = message.option(Option.MAX_MESSAGE_SIZE) or b""
    relayed = message.option(_RELAY_AGENT)
    return (
        max(int.from_bytes(told, "big"), MIN_MESSAGE) - IP_AND_UDP_BYTES + (0 if relayed is None else len(relayed) + 2)
    )


def _destination(question: Question, policy: Policy) -> Address:
    """RFC 2131 section 4.1 with yiaddr 0; at port 4011 back to the sender, since EDK2 asks from 4011, iPXE from 68."""
    message, relay = question.message, question.relay
    host, port = question.arrival.source
    if question.arrival.at_boot_port:
        return (EVERYONE if host == UNSPECIFIED else host, port)
    if relay.address:
        return (relay.address, port if relay.answer_to_source_port else policy.relay_port)  # RFC 8357
    if message.ciaddr != UNSPECIFIED:
        return (message.ciaddr, policy.client_port)
    return (EVERYONE, policy.client_port)
