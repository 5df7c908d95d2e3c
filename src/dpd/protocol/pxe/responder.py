# SPDX-License-Identifier: Apache-2.0
"""The proxyDHCP decision: one message in, a Reply or the reason for silence out (PXE 2.1 sections 2.2 to 2.5).

`examine`: is it ours, what machine is it, is it to be answered now? Then policy says what that machine is granted, and
`answer` puts it into words. The same content goes into the OFFER and into the ACK of port 4011, since firmware differs in
which one it boots from: with discovery control 8 EDK2 takes the OFFER, other firmware comes to 4011 all the same, and shim
reads whichever packet the firmware kept, header fields only.
"""

from __future__ import annotations

from functools import lru_cache

from dpd.protocol.dhcp.message import BOOT_REQUEST, UNSPECIFIED, Message, MessageType
from dpd.protocol.dhcp.options import BootItem, Option, decode_pxe_options
from dpd.protocol.pxe.exchange import (
    EVERYONE,
    Arrival,
    Grant,
    Ignored,
    Outcome,
    Place,
    Policy,
    Question,
    Reason,
    Reply,
)
from dpd.protocol.pxe.menu import NO_SUCH_FILE, has_menus, menu_for
from dpd.protocol.pxe.profiles import Flow, find_profile
from dpd.protocol.pxe.relay import RelayAgent, read_relay
from dpd.protocol.pxe.reply import Content, build_reply
from dpd.protocol.pxe.rules import ClientClass, Machine, find_rule, identify, vendor_class

__all__ = [
    "EVERYONE",
    "Arrival",
    "Grant",
    "Ignored",
    "Outcome",
    "Place",
    "Policy",
    "Question",
    "Reason",
    "Reply",
    "answer",
    "examine",
    "reason_it_is_not_ours",
    "respond",
]

# Under names of their own, see `rules`.
_DISCOVER, _REQUEST = int(MessageType.DISCOVER), int(MessageType.REQUEST)
_VENDOR_CLASS, _VENDOR = int(Option.VENDOR_CLASS), int(Option.VENDOR)
_ABORT, _SILENT, _HTTP = Outcome.ABORT, Outcome.SILENT, Flow.HTTP
_IPXE, _HTTP_CLASS = ClientClass.IPXE, ClientClass.HTTP
HTTP_CLIENT = ClientClass.HTTP.value


def respond(message: Message, arrival: Arrival, policy: Policy, grant: Grant | None = None) -> Reply | Ignored:
    """Answer a message or say why not. Raises MalformedMessage for broken options of a network-boot client."""
    question = examine(message, arrival, policy)
    return question if isinstance(question, Ignored) else answer(question, grant or Grant(), policy)


def examine(message: Message, arrival: Arrival, policy: Policy) -> Question | Ignored:
    """Whether this message is to be answered now, and who asks. Raises MalformedMessage."""
    reason = reason_it_is_not_ours(message)
    if reason is not None:
        return Ignored(reason)
    machine = identify(message)
    if not machine.mac:
        return Ignored(Reason.NO_HARDWARE_ADDRESS)
    relay = read_relay(message)
    place = policy.place_of(_link(message, relay, arrival))
    reason = _reason_by_type(message, machine, arrival)
    if reason is None and not policy.respond:
        reason = Reason.SWITCHED_OFF
    if reason is not None:
        return Ignored(reason, machine)
    delay_s = _delay_s(message, machine, policy, place)
    if message.secs < delay_s:
        return Ignored(Reason.TOO_EARLY, machine, delay_s=delay_s)
    server = place.server or arrival.server
    return Question(message, arrival, machine, find_profile(machine), relay, server, _item(message))


def reason_it_is_not_ours(message: Message) -> Reason | None:
    """Whether a network-boot client sent it; None means yes."""
    if message.op != BOOT_REQUEST:
        return Reason.NOT_A_REQUEST
    if message.message_type is None:
        return Reason.PLAIN_BOOTP
    if not vendor_class(message):
        is_apple = (message.option(_VENDOR_CLASS) or b"").startswith(b"AAPLBSDPC")
        return Reason.APPLE_BSDP if is_apple else Reason.NOT_NETWORK_BOOT
    if not _is_host(message.giaddr) or not _is_host(message.ciaddr):
        return Reason.BAD_ADDRESS
    return None


def _is_host(address: str) -> bool:
    """0.0.0.0 or a unicast address: a multicast or broadcast one would turn an answer into a storm."""
    return address == UNSPECIFIED or 0 < int(address.partition(".")[0]) < 224


def _link(message: Message, relay: RelayAgent, arrival: Arrival) -> str:
    """An address of the network that the client is in; without a relay our own there is as good as its own."""
    return relay.link or (message.ciaddr if message.ciaddr != UNSPECIFIED else arrival.server)


def _delay_s(message: Message, machine: Machine, policy: Policy, place: Place) -> int:
    """How many seconds a machine must have asked before it is answered.

    iPXE waits for a proxy just 2 s and keeps private bits in `secs`, so a delay would lock it out for good.
    """
    if message.message_type != _DISCOVER or machine.client_class is _IPXE:
        return 0
    return policy.response_delay_s if place.response_delay_s is None else place.response_delay_s


def _reason_by_type(message: Message, machine: Machine, arrival: Arrival) -> Reason | None:
    """Why a message of this type gets no answer by this port."""
    kind = message.message_type
    if kind == _DISCOVER:
        return Reason.WRONG_PORT if arrival.at_boot_port else None
    if kind != _REQUEST:
        return Reason.OTHER_MESSAGE_TYPE
    is_http = machine.vendor_class == HTTP_CLIENT
    if arrival.at_boot_port:  # UEFI HTTP boot has no second step; iPXE counts by what its option 60 says
        return Reason.WRONG_PORT if is_http else None
    return Reason.LEASE_REQUEST if is_http or not _is_boot_server_discovery(message) else None


def _is_boot_server_discovery(message: Message) -> bool:
    """A REQUEST on port 67 is ours only when it asks by broadcast for the boot server of a menu item (tag 71, as EDK2
    does). With a server id it goes to the lease server, and answering or refusing it would break the lease."""
    return message.option(Option.SERVER_ID) is None and _item(message) is not None


def _item(message: Message) -> BootItem | None:
    """The line of the boot menu that the client chose."""
    vendor = message.option(_VENDOR)
    if vendor is None or message.message_type != _REQUEST:
        return None
    return decode_pxe_options(vendor).item


def answer(question: Question, grant: Grant, policy: Policy) -> Reply | Ignored:
    """What policy grants, in the words that this client understands; silence where there are none."""
    if grant.outcome is _ABORT and question.profile.flow is _HTTP:
        return build_reply(question, Content(loader=_for_client(NO_SUCH_FILE, question, policy)), policy)
    has_no_words = grant.outcome is _ABORT and not has_menus(question)
    if grant.outcome is _SILENT or has_no_words:
        return Ignored(Reason.POLICY, question.machine)
    menu = menu_for(question, grant)
    if menu is not None:
        return build_reply(question, Content(menu=menu), policy)
    content = _granted(question, grant, policy)
    return content if isinstance(content, Ignored) else build_reply(question, content, policy)


def _granted(question: Question, grant: Grant, policy: Policy) -> Content | Ignored:
    """The loader of the boot image, else that of the rules. A Raspberry Pi asks for the files that it knows by name."""
    rule = find_rule(policy.rules, question.machine)
    flow = Flow(rule.flow) if rule is not None and rule.flow and question.profile.flow is not _HTTP else None
    if grant.loader:
        loader = _for_client(grant.loader, question, policy)
        return Content(grant.image or grant.outcome.value, loader, bcd_name=grant.bcd_name, flow=flow)
    if question.profile.menu_text:
        return Content(question.profile.name)
    if rule is None:
        return Ignored(Reason.NO_RULE, question.machine)
    loader = _for_client(rule.loader, question, policy)
    refusal = policy.refusal_of(boot_file_of(loader))
    if refusal:
        return Ignored(Reason.CHAIN_BROKEN, question.machine, detail=refusal)
    return Content(rule.name, loader, flow=flow)


@lru_cache(1024)
def boot_file_of(loader: str) -> str:
    """The name in the boot directory that a loader's name or URL stands for."""
    _, is_url, rest = loader.partition("://")
    return rest.partition("/")[2].removeprefix("boot/") if is_url else loader


def _for_client(loader: str, question: Question, policy: Policy) -> str:
    is_http = question.machine.client_class is _HTTP_CLASS
    return fill_in(loader, is_http, question.server, policy.http_port, policy.https_port)


@lru_cache(1024)
def fill_in(loader: str, is_http: bool, server: str, http_port: int, https_port: int) -> str:
    """The loader as the client gets it; UEFI HTTP boot takes nothing but a URL."""
    if is_http and "://" not in loader:
        loader = "http://{server}:{http_port}/boot/" + loader.lstrip("/")
    for name, value in (("server", server), ("http_port", str(http_port)), ("https_port", str(https_port))):
        loader = loader.replace("{" + name + "}", value)
    return loader
