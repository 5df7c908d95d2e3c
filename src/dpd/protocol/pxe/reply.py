# SPDX-License-Identifier: Apache-2.0
"""The OFFER or ACK itself: header, options in the form that the client's profile asks for, and where it goes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from dpd.protocol.dhcp.message import BOOT_REPLY, BROADCAST_FLAG, UNSPECIFIED, Message, MessageType, encode
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
# Left out in this order where the client cannot take all: siaddr says the same.
DISPENSABLE = (Option.TFTP_SERVERS, Option.TFTP_SERVER)
# First words of the loaders that look for option 252, which to others is a proxy setting (WPAD).
MICROSOFT_LOADERS = ("bootmgfw", "bootmgr", "pxeboot", "wdsmgfw", "wdsnbp", "abortpxe")

Options = tuple[tuple[int, bytes], ...]


@dataclass(frozen=True, slots=True)
class Content:
    """What the client is given: a loader under a rule's name or a boot image's, or a menu."""

    rule: str = ""
    loader: str = ""
    menu: PxeOptions | None = None
    bcd_name: str = ""
    flow: Flow | None = None  # in place of the profile's


def build_reply(question: Question, content: Content, policy: Policy) -> Reply:
    """The OFFER or ACK that hands out the content, and where it goes."""
    message, server, loader = question.message, question.server, content.loader
    kind = MessageType.OFFER if question.is_discover else MessageType.ACK
    flow = content.flow or question.profile.flow
    in_header = flow is not Flow.HTTP
    answer = Message(
        op=BOOT_REPLY,
        htype=message.htype,
        hops=message.hops,
        xid=message.xid,
        # yiaddr is 0: behind a relay only a broadcast reaches the client (RFC 2131 section 4.1)
        flags=message.flags | (BROADCAST_FLAG if question.relay.address else 0),
        ciaddr=message.ciaddr if kind == MessageType.ACK else UNSPECIFIED,
        siaddr=server,
        giaddr=message.giaddr,
        chaddr=message.chaddr,
        # shim reads siaddr and `file` of the header alone; UEFI HTTP boot reads option 67 alone
        sname=server.encode() if in_header else b"",
        file=loader.encode("ascii") if in_header and len(loader) <= MAX_FILE else b"",
        options=_options(question, content, flow, kind),
    )
    payload = _fit(answer, room_of(message))
    destination = _destination(question, policy)
    return Reply(
        payload, destination, kind, question.machine, content.rule, loader, server, question.profile.name, flow
    )


def _options(question: Question, content: Content, flow: Flow, kind: MessageType) -> Options:
    message, server = question.message, question.server
    told = message.option(Option.PARAMETER_LIST) or b""
    return (
        *_about_us(kind, question.relay.server_id or server, _word(question.machine.vendor_class, flow)),
        *_echo(message, Option.CLIENT_MACHINE_ID, MACHINE_ID_BYTES),  # RFC 4578 section 2.3
        *(() if flow is Flow.HTTP else _for_pxe(server, _vendor(question, content, flow), Option.TFTP_SERVERS in told)),
        *_file(content.loader, "" if flow is Flow.HTTP else content.bcd_name),
        *_echo(message, Option.RELAY_AGENT),  # RFC 3046 section 2.2
    )


@lru_cache(256)
def _about_us(kind: MessageType, server_id: str, word: str) -> Options:
    """`server_id` may be the relay's (RFC 5107)."""
    about = ((Option.MESSAGE_TYPE, bytes((kind,))), (Option.SERVER_ID, pack_address(server_id)))
    return (*about, (Option.VENDOR_CLASS, word.encode())) if word else about


def _word(told: str, flow: Flow) -> str:
    """Option 60 says what the client said, without its numbers. U-Boot looks for PXEClient whatever it says itself."""
    if flow is Flow.BARE:
        return ClientClass.PXE.value if told != ClientClass.PXE else ""
    return told


@lru_cache(256)
def _for_pxe(server: str, vendor: bytes, wants_server_list: bool) -> Options:
    options: Options = ((Option.VENDOR, vendor),) if vendor else ()
    options += ((Option.TFTP_SERVER, server.encode()),)
    return (*options, (Option.TFTP_SERVERS, pack_address(server))) if wants_server_list else options


@lru_cache(1024)
def _file(loader: str, bcd_name: str) -> Options:
    if not loader:
        return ()
    named = ((Option.BOOT_FILE, loader.encode("ascii")),)
    return (*named, (Option.BCD, bcd_name.encode("ascii") + b"\0")) if bcd_name and is_microsofts(loader) else named


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


def _echo(message: Message, code: int, size: int = 0) -> Options:
    """Back byte for byte, even where it identifies nobody; with `size` only what has it."""
    value = message.option(code)
    return () if value is None or (size and len(value) != size) else ((code, value),)


def room_of(message: Message) -> int:
    """The payload that the client takes (option 57); what a relay adds it takes off again."""
    told = message.option(Option.MAX_MESSAGE_SIZE) or b""
    relayed = message.option(Option.RELAY_AGENT)
    return (
        max(int.from_bytes(told, "big"), MIN_MESSAGE) - IP_AND_UDP_BYTES + (0 if relayed is None else len(relayed) + 2)
    )


def _fit(answer: Message, room: int) -> bytes:
    """The bytes, without what is dispensable where they were too many. Never by option 52: shim needs `file`."""
    payload = encode(answer)
    left_out: tuple[int, ...] = ()
    for code in DISPENSABLE:
        if len(payload) <= room:
            break
        left_out += (code,)
        payload = encode(replace(answer, options=tuple(each for each in answer.options if each[0] not in left_out)))
    return payload


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
