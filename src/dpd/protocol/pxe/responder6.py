# SPDX-License-Identifier: Apache-2.0
"""Network boot beside a DHCPv6 lease server: one packet in, a Reply6 or the reason for silence out (RFC 5970, RFC 8415).

`hear6` says whether a packet is for us and who asks; `answer6` makes the answer once policy has granted something. Answers
carry no address: EDK2 takes an ADVERTISE without one, with the vendor class of PXE, as that of a proxy.

What goes into an answer follows what firmware takes (PxeBcDhcp6.c, HttpBootDhcp6.c of EDK2):
* PXE: after its lease the firmware asks once more, at port 4011 of the address in option 59, and boots what that answer
  names. So the ADVERTISE names our own address, too.
* UEFI HTTP boot pairs the URL of an ADVERTISE without addresses with any lease and asks nobody again. Its vendor class
  must have 16 bytes or more. Early versions read the URL up to a zero byte, so option 59 goes last.
* No option 60: EDK2 reads it as the size of the file and gives up on any other text.
* No preference: at 255 EDK2 would choose at once, before the lease server has spoken; and it does not need one.
* No menu: DHCPv6 has none. Firmware that hears nothing of booting goes on with its next boot device some 5 s later, PXE and
  HTTP boot alike, so that silence is what policy's "abort" becomes. Over IPv4 HTTP boot would wait for 78 s.
  Where somebody is to be asked, PXE firmware gets the rules' loader, which asks by its script.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote

from dpd.protocol.dhcp6.message import Message, MessageType, Options, Packet, Relay, encode
from dpd.protocol.dhcp6.options import (
    Option,
    VendorClass,
    decode_identity_association,
    encode_vendor_class,
)
from dpd.protocol.machine import Address
from dpd.protocol.pxe.exchange import Grant, Outcome
from dpd.protocol.pxe.identity6 import INTEL, Identity, identify6, vendor_word
from dpd.protocol.pxe.responder import boot_file_of
from dpd.protocol.pxe.rules import ClientClass, Machine, Rule, find_rule

RELAY_SOURCE_PORT = 135  # RFC 8357
ECHOED_BY_RELAY = (Option.INTERFACE_ID, RELAY_SOURCE_PORT)
SAFE_IN_PATH = "/~"  # beside letters, digits and _.-; EDK2 and iPXE both decode %5C


class Reason6(StrEnum):
    """Why a packet gets no answer; the closed set of labels for counters."""

    NOT_A_REQUEST = "not_a_request"  # a server's message, perhaps our own
    NOT_NETWORK_BOOT = "not_network_boot"  # an ordinary DHCP client
    NO_CLIENT_ID = "no_client_id"
    NO_HARDWARE_ADDRESS = "no_hardware_address"
    LEASE_REQUEST = "lease_request"  # the client takes or keeps its lease, from the lease server
    WRONG_PORT = "wrong_port"
    OTHER_SERVER = "other_server"
    OTHER_MESSAGE_TYPE = "other_message_type"
    UNICAST = "unicast"  # RFC 8415 section 16.2 and 16.12: clients begin by multicast, relays may use either
    SWITCHED_OFF = "switched_off"
    TOO_EARLY = "too_early"  # response_delay_s not over yet
    POLICY = "policy"  # it decided on silence, or on the next boot device, which silence leads to
    NO_RULE = "no_rule"
    CHAIN_BROKEN = "chain_broken"  # the loader failed its check
    NO_OWN_ADDRESS = "no_own_address"
    OTHER_INTERFACE = "other_interface"


@dataclass(frozen=True, slots=True)
class Terms6:
    """What the operator wants, as plain values; `server_id` is our DUID. `delay_of` gives the response delay of the network
    that has an address; `refusal_of` says in one sentence why a loader must not go out, "" where it may."""

    server_id: bytes
    rules: tuple[Rule, ...]
    respond: bool = True
    relay_port: int = 547
    http_port: int = 80
    https_port: int = 443
    delay_of: Callable[[str], int] = lambda address: 0
    refusal_of: Callable[[str], str] = lambda loader: ""


@dataclass(frozen=True, slots=True)
class Arrival6:
    """How a packet came: from whom, at which of our addresses it can be answered ("": none), whether on port 4011, whether to a
    multicast group, and what is known of its DUID."""

    source: Address
    server: str
    at_boot_port: bool = False
    by_multicast: bool = True
    known_mac: str = ""


@dataclass(frozen=True, slots=True)
class Question6:
    """A packet that is ours to answer, and who asks."""

    packet: Packet
    arrival: Arrival6
    identity: Identity

    @property
    def machine(self) -> Machine:
        return self.identity.machine

    @property
    def elapsed_s(self) -> int:
        """How long the client has been asking."""
        return elapsed_s(self.packet.message)

    @property
    def relay(self) -> str:
        """The address of the link that the client is on, as its relay tells it; "" where it was heard directly."""
        return relay_address(self.packet)


@dataclass(frozen=True, slots=True)
class Reply6:
    """An answer that hands out a loader, and where it goes."""

    payload: bytes
    destination: Address
    message_type: MessageType
    machine: Machine
    rule: str
    loader: str
    server: str


@dataclass(frozen=True, slots=True)
class Ignored6:
    """Silence and why; the identity is known where the message was one of network boot, `leased` where it took a lease."""

    reason: Reason6
    identity: Identity | None = None
    leased: tuple[str, ...] = ()
    detail: str = ""
    delay_s: int = 0


def hear6(packet: Packet, arrival: Arrival6, terms: Terms6) -> Question6 | Ignored6:
    """Whether this packet is to be answered now. Raises MalformedMessage for broken options of a network-boot client."""
    message = packet.message
    if message.type in _TELLING or any(relay.type == MessageType.RELAY_REPLY for relay in packet.relays):
        return Ignored6(Reason6.NOT_A_REQUEST)
    if message.type not in _ASKING:
        return Ignored6(Reason6.OTHER_MESSAGE_TYPE)
    if not vendor_word(message)[0]:
        return Ignored6(Reason6.NOT_NETWORK_BOOT)
    identity = identify6(packet, arrival.source[0], arrival.known_mac)
    if not identity.duid:
        return Ignored6(Reason6.NO_CLIENT_ID)
    if not identity.machine.mac:
        return Ignored6(Reason6.NO_HARDWARE_ADDRESS)
    reason = _reason_by_type(packet, arrival, terms)
    if reason is Reason6.LEASE_REQUEST:
        return Ignored6(reason, identity, leased_addresses(message))
    if reason is None and not terms.respond:
        reason = Reason6.SWITCHED_OFF
    if reason is None and not arrival.server:
        reason = Reason6.NO_OWN_ADDRESS
    if reason is not None:
        return Ignored6(reason, identity)
    question = Question6(packet, arrival, identity)
    delay_s = _delay_s(question, terms)
    if question.elapsed_s < delay_s:
        return Ignored6(Reason6.TOO_EARLY, identity, delay_s=delay_s)
    return question


_ASKING = (MessageType.SOLICIT, MessageType.REQUEST, MessageType.INFORMATION_REQUEST, MessageType.RENEW)
_TELLING = (MessageType.ADVERTISE, MessageType.REPLY, MessageType.RECONFIGURE)


def _reason_by_type(packet: Packet, arrival: Arrival6, terms: Terms6) -> Reason6 | None:
    message = packet.message
    server_id = message.option(Option.SERVER_ID)
    if message.type == MessageType.RENEW:
        return Reason6.LEASE_REQUEST
    if message.type == MessageType.REQUEST and not arrival.at_boot_port:
        return None if server_id == terms.server_id else Reason6.LEASE_REQUEST
    if message.type == MessageType.REQUEST:
        # Firmware before 2018 leaves the lease server's id in it, so to us alone it may name anybody.
        return Reason6.OTHER_SERVER if arrival.by_multicast and server_id != terms.server_id else None
    if arrival.at_boot_port:
        return Reason6.WRONG_PORT
    if not (arrival.by_multicast or packet.relays):
        return Reason6.UNICAST
    return Reason6.OTHER_SERVER if server_id not in (None, terms.server_id) else None


def _delay_s(question: Question6, terms: Terms6) -> int:
    """iPXE and whoever comes for its file have waited already."""
    if question.packet.message.type != MessageType.SOLICIT or question.machine.client_class == ClientClass.IPXE:
        return 0
    return terms.delay_of(question.relay or question.arrival.server)


def elapsed_s(message: Message) -> int:
    """Option 8, which counts hundredths of a second."""
    return int.from_bytes(message.option(Option.ELAPSED_TIME) or b"", "big") // 100


def relay_address(packet: Packet) -> str:
    """The link address of the relay nearest to the client that tells one (RFC 8415 section 13.1); "" where none does."""
    told = (relay.link_address for relay in reversed(packet.relays))
    return next((address for address in told if address != "::"), "")


def leased_addresses(message: Message) -> tuple[str, ...]:
    """The addresses that a client takes from its lease server."""
    found: list[str] = []
    for code, value in message.options:
        if code == Option.IA_NA:
            found += decode_identity_association(value).addresses
    return tuple(found)


def answer6(question: Question6, grant: Grant, terms: Terms6) -> Reply6 | Ignored6:
    """The answer that policy's grant leads to, or why it leads to none. A boot image without a loader of its own for this
    client begins with that of the rules, such as iPXE, which then asks for the image's script."""
    client_class = question.machine.client_class
    if grant.outcome in (Outcome.SILENT, Outcome.ABORT):
        return Ignored6(Reason6.POLICY, question.identity)
    by_menu = grant.outcome is Outcome.PROMPT and client_class == ClientClass.PXE
    if grant.loader and not by_menu:
        return _hand_out(question, grant.image or grant.outcome.value, grant.loader, terms)
    rule = find_rule(terms.rules, question.machine)
    if rule is None:
        return Ignored6(Reason6.NO_RULE, question.identity)
    if detail := terms.refusal_of(boot_file_of(rule.loader)):
        return Ignored6(Reason6.CHAIN_BROKEN, question.identity, detail=detail)
    return _hand_out(question, rule.name, rule.loader, terms)


def _hand_out(question: Question6, rule: str, loader: str, terms: Terms6) -> Reply6:
    return _build(
        question, rule, boot_url(loader, question.machine.client_class, question.arrival.server, terms), terms
    )


def boot_url(loader: str, client_class: ClientClass, server: str, terms: Terms6) -> str:
    """Option 59: a loader of the rules, or of a boot image, as the URL that this client takes. `server` is our address."""
    host = f"[{server.partition('%')[0]}]"
    filled = loader.replace("{server}", host)
    filled = filled.replace("{http_port}", str(terms.http_port)).replace("{https_port}", str(terms.https_port))
    if "://" in filled:
        return filled
    path = quote(filled.lstrip("/"), safe=SAFE_IN_PATH)
    is_http = client_class == ClientClass.HTTP
    return f"http://{host}:{terms.http_port}/boot/{path}" if is_http else f"tftp://{host}/{path}"


def _build(question: Question6, rule: str, url: str, terms: Terms6) -> Reply6:
    """The ADVERTISE or REPLY, inside the relays that the question came through."""
    message, machine = question.packet.message, question.machine
    kind = MessageType.ADVERTISE if message.type == MessageType.SOLICIT else MessageType.REPLY
    options: Options = (
        (int(Option.CLIENT_ID), question.identity.duid),
        (int(Option.SERVER_ID), terms.server_id),
        (int(Option.VENDOR_CLASS), encode_vendor_class(VendorClass(INTEL, (machine.vendor_class.encode(),)))),
        (int(Option.BOOT_FILE_URL), url.encode("ascii")),
    )
    relays = tuple(map(_mirrored, question.packet.relays))
    payload = encode(Packet(Message(kind, message.transaction_id, options), relays))
    return Reply6(payload, _destination(question, terms), kind, machine, rule, url, question.arrival.server)


def _mirrored(relay: Relay) -> Relay:
    """RFC 8415 section 19.3: hop count, link and peer address, and Interface-Id go back as they came."""
    kept = tuple(pair for pair in relay.options if pair[0] in ECHOED_BY_RELAY)
    return Relay(MessageType.RELAY_REPLY, relay.hop_count, relay.link_address, relay.peer_address, kept)


def _destination(question: Question6, terms: Terms6) -> Address:
    """Back to the sender; a relay hears at its own port unless it asks for another (RFC 8357)."""
    relays = question.packet.relays
    if not relays or question.arrival.at_boot_port or relays[0].option(RELAY_SOURCE_PORT) is not None:
        return question.arrival.source
    return question.arrival.source[0], terms.relay_port
