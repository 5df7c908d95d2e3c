# SPDX-License-Identifier: Apache-2.0
"""The proxyDHCP decision: one message in, a Reply or the reason for silence out (PXE 2.1 sections 2.2 to 2.5).

Three questions in order. Is it ours? What machine is it, and does policy answer it now? What does the reply say?
The same content goes into the OFFER and into the ACK of port 4011, since firmware differs in which one it boots from:
with discovery control 8 EDK2 takes the OFFER, other firmware comes to 4011 all the same, and shim reads whichever
packet the firmware kept, header fields only.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from dpd.protocol.dhcp.message import BOOT_REPLY, BOOT_REQUEST, BROADCAST_FLAG, Message, MessageType, encode
from dpd.protocol.dhcp.options import (
    DiscoveryControl,
    Option,
    PxeOptions,
    RelayTag,
    decode_pxe_options,
    encode_pxe_options,
    pack_address,
    read_suboptions,
)
from dpd.protocol.machine import Address
from dpd.protocol.pxe.rules import ClientClass, Machine, Rule, find_rule, identify, vendor_class

UNSPECIFIED = "0.0.0.0"
EVERYONE = "255.255.255.255"
MAX_FILE = 127  # the header field `file` has 128 bytes with its NUL
MACHINE_ID_BYTES = 17


class Reason(StrEnum):
    """Why a message gets no answer; the closed set of labels for counters."""

    NOT_A_REQUEST = "not_a_request"  # a server's reply, perhaps our own
    PLAIN_BOOTP = "plain_bootp"  # no option 53
    APPLE_BSDP = "apple_bsdp"
    NOT_NETWORK_BOOT = "not_network_boot"  # an ordinary DHCP client
    NO_HARDWARE_ADDRESS = "no_hardware_address"
    BAD_ADDRESS = "bad_address"  # giaddr or ciaddr to which nobody may send
    LEASE_REQUEST = "lease_request"  # the client takes its lease, from the lease server
    WRONG_PORT = "wrong_port"
    OTHER_MESSAGE_TYPE = "other_message_type"
    SWITCHED_OFF = "switched_off"
    TOO_EARLY = "too_early"  # response_delay_s not over yet
    NO_RULE = "no_rule"
    NO_OWN_ADDRESS = "no_own_address"
    OTHER_INTERFACE = "other_interface"


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator wants, as plain values. In a rule's loader {server} and {http_port} are filled in."""

    rules: tuple[Rule, ...]
    respond: bool = True
    response_delay_s: int = 0
    client_port: int = 68
    relay_port: int = 67
    http_port: int = 80


@dataclass(frozen=True, slots=True)
class Arrival:
    """How a message came: from whom, at which of our addresses it can be answered, and whether on port 4011."""

    source: Address
    server: str
    at_boot_port: bool


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer. A broadcast must leave by the interface on which the request came."""

    payload: bytes
    destination: Address
    message_type: MessageType
    machine: Machine
    rule: str
    loader: str

    @property
    def is_broadcast(self) -> bool:
        return self.destination[0] == EVERYONE


@dataclass(frozen=True, slots=True)
class Ignored:
    """Silence and why; the machine is known where the message was one of network boot."""

    reason: Reason
    machine: Machine | None = None


def respond(message: Message, arrival: Arrival, policy: Policy) -> Reply | Ignored:
    """Answer a message or say why not. Raises MalformedMessage for broken options of a network-boot client."""
    reason = reason_it_is_not_ours(message)
    if reason is not None:
        return Ignored(reason)
    machine = identify(message)
    if not machine.mac:
        return Ignored(Reason.NO_HARDWARE_ADDRESS)
    reason = reason_to_wait(message, machine, arrival, policy)
    if reason is not None:
        return Ignored(reason, machine)
    rule = find_rule(policy.rules, machine)
    if rule is None:
        return Ignored(Reason.NO_RULE, machine)
    return build_reply(message, machine, rule, arrival, policy)


def reason_it_is_not_ours(message: Message) -> Reason | None:
    """Whether a network-boot client sent it; None means yes."""
    if message.op != BOOT_REQUEST:
        return Reason.NOT_A_REQUEST
    if message.message_type is None:
        return Reason.PLAIN_BOOTP
    if (message.option(Option.VENDOR_CLASS) or b"").startswith(b"AAPLBSDPC"):
        return Reason.APPLE_BSDP
    if not vendor_class(message):
        return Reason.NOT_NETWORK_BOOT
    if not _is_host(message.giaddr) or not _is_host(message.ciaddr):
        return Reason.BAD_ADDRESS
    return None


def _is_host(address: str) -> bool:
    """0.0.0.0 or a unicast address: a multicast or broadcast one would turn an answer into a storm."""
    return address == UNSPECIFIED or 0 < int(address.partition(".")[0]) < 224


def reason_to_wait(message: Message, machine: Machine, arrival: Arrival, policy: Policy) -> Reason | None:
    """Whether this message of this machine is one to answer now; None means yes."""
    reason = _reason_by_type(message, machine, arrival)
    if reason is not None:
        return reason
    if not policy.respond:
        return Reason.SWITCHED_OFF
    # iPXE waits for a proxy just 2 s and keeps private bits in `secs`, so a delay would lock it out for good.
    delayed = message.message_type == MessageType.DISCOVER and machine.client_class != ClientClass.IPXE
    if delayed and message.secs < policy.response_delay_s:
        return Reason.TOO_EARLY
    return None


def _reason_by_type(message: Message, machine: Machine, arrival: Arrival) -> Reason | None:
    if message.message_type == MessageType.DISCOVER:
        return Reason.WRONG_PORT if arrival.at_boot_port else None
    if message.message_type != MessageType.REQUEST:
        return Reason.OTHER_MESSAGE_TYPE
    if arrival.at_boot_port:  # UEFI HTTP boot has no second step; iPXE counts by what its option 60 says
        return Reason.WRONG_PORT if machine.vendor_class == ClientClass.HTTP else None
    return None if _is_boot_server_discovery(message) else Reason.LEASE_REQUEST


def _is_boot_server_discovery(message: Message) -> bool:
    """A REQUEST on port 67 is ours only when it asks by broadcast for the boot server of a menu item (tag 71, as EDK2
    does). With a server id it goes to the lease server, and answering or refusing it would break the lease."""
    vendor = message.option(Option.VENDOR)
    if vendor is None or message.option(Option.SERVER_ID) is not None:
        return False
    return vendor_class(message) == ClientClass.PXE and decode_pxe_options(vendor).item is not None


def build_reply(message: Message, machine: Machine, rule: Rule, arrival: Arrival, policy: Policy) -> Reply:
    """The OFFER or ACK that hands out the rule's loader, and where it goes."""
    kind = MessageType.OFFER if message.message_type == MessageType.DISCOVER else MessageType.ACK
    loader = _fill_in(rule, arrival.server, policy.http_port)
    is_http = machine.vendor_class == ClientClass.HTTP
    relay = dict(read_suboptions(message.option(Option.RELAY_AGENT) or b"", framed=False))
    options = [
        (Option.MESSAGE_TYPE, bytes((kind,))),
        (Option.SERVER_ID, _server_id(relay, arrival.server)),
        (Option.VENDOR_CLASS, machine.vendor_class.encode()),
        *_echo_machine_id(message),
        *([] if is_http else _pxe_options(message, arrival.server)),
        (Option.BOOT_FILE, loader.encode("ascii")),
        *_echo_relay_agent(message),
    ]
    answer = Message(
        op=BOOT_REPLY,
        htype=message.htype,
        hops=message.hops,
        xid=message.xid,
        # yiaddr is 0: behind a relay only a broadcast reaches the client (RFC 2131 section 4.1)
        flags=message.flags | (BROADCAST_FLAG if message.giaddr != UNSPECIFIED else 0),
        ciaddr=message.ciaddr if kind == MessageType.ACK else UNSPECIFIED,
        siaddr=arrival.server,
        giaddr=message.giaddr,
        chaddr=message.chaddr,
        # shim reads siaddr and `file` of the header alone; UEFI HTTP boot reads option 67 alone
        sname=b"" if is_http else arrival.server.encode(),
        file=b"" if is_http or len(loader) > MAX_FILE else loader.encode("ascii"),
        options=tuple((int(code), value) for code, value in options),
    )
    destination = _destination(message, arrival, policy, relay)
    return Reply(encode(answer), destination, kind, machine, rule.name, loader)


def _fill_in(rule: Rule, server: str, http_port: int) -> str:
    """The loader as the client gets it; UEFI HTTP boot takes nothing but a URL."""
    loader = rule.loader
    if rule.client_class == ClientClass.HTTP and "://" not in loader:
        loader = "http://{server}:{http_port}/boot/" + loader.lstrip("/")
    return loader.replace("{server}", server).replace("{http_port}", str(http_port))


def _server_id(relay: dict[int, bytes], server: str) -> bytes:
    """Option 54; a relay may put itself in our place (RFC 5107)."""
    override = relay.get(RelayTag.SERVER_ID_OVERRIDE, b"")
    return override if len(override) == 4 else pack_address(server)


def _pxe_options(message: Message, server: str) -> list[tuple[Option, bytes]]:
    """Option 43 that says "boot the file given here", with the menu item a client asked for, and option 66."""
    chosen = message.option(Option.VENDOR) if message.message_type == MessageType.REQUEST else None
    item = decode_pxe_options(chosen).item if chosen is not None else None  # iPXE drops an answer without its item
    vendor = encode_pxe_options(PxeOptions(discovery_control=DiscoveryControl.FILE_IS_GIVEN, item=item))
    return [(Option.VENDOR, vendor), (Option.TFTP_SERVER, server.encode())]


def _echo_machine_id(message: Message) -> list[tuple[Option, bytes]]:
    """RFC 4578 section 2.3: back as it came, even where it identifies nobody."""
    value = message.option(Option.CLIENT_MACHINE_ID)
    return [(Option.CLIENT_MACHINE_ID, value)] if value is not None and len(value) == MACHINE_ID_BYTES else []


def _echo_relay_agent(message: Message) -> list[tuple[Option, bytes]]:
    """RFC 3046 section 2.2: back byte for byte."""
    value = message.option(Option.RELAY_AGENT)
    return [] if value is None else [(Option.RELAY_AGENT, value)]


def _destination(message: Message, arrival: Arrival, policy: Policy, relay: dict[int, bytes]) -> Address:
    """RFC 2131 section 4.1 with yiaddr 0; at port 4011 back to the sender, since EDK2 asks from 4011, iPXE from 68."""
    host, port = arrival.source
    if arrival.at_boot_port:
        return (EVERYONE if host == UNSPECIFIED else host, port)
    if message.giaddr != UNSPECIFIED:
        return (message.giaddr, port if RelayTag.SOURCE_PORT in relay else policy.relay_port)  # RFC 8357
    if message.ciaddr != UNSPECIFIED:
        return (message.ciaddr, policy.client_port)
    return (EVERYONE, policy.client_port)
