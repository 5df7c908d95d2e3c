# SPDX-License-Identifier: Apache-2.0
"""From a DHCP message to its answer: policy is asked, the boot image is asked for its loader, and the machine's story is
written. The sockets belong to `proxy_dhcp`, the words of the answer to `protocol.pxe`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dpd.boot.tree import BootImages
from dpd.protocol.dhcp.message import UNSPECIFIED, Message, MessageType
from dpd.protocol.dhcp.options import Option
from dpd.protocol.machine import Address
from dpd.protocol.pxe.profiles import Flow
from dpd.protocol.pxe.responder import (
    Arrival,
    Ignored,
    Place,
    Policy,
    Question,
    Reason,
    Reply,
    answer,
    examine,
)
from dpd.protocol.pxe.rules import Machine
from dpd.service.pxe.granting import BootJudge, Granting, rules_of
from dpd.settings import PxeSettings
from dpd.site.decision import BootRequest, Decision
from dpd.site.subnets import Subnets
from dpd.telemetry.journal import BootJournal, Entry, Fields
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)


@dataclass(slots=True)
class PxeStats:
    """What the proxyDHCP saw and did."""

    datagrams: int = counter("Datagrams received on the DHCP and boot-server ports")
    discovers: dict[str, int] = counts("DISCOVERs of network-boot clients", "client_arch")
    boot_requests: dict[str, int] = counts("REQUESTs of network-boot clients on the boot-server port", "client_arch")
    decisions: dict[str, int] = counts("What policy wanted of the machines that asked, one for each packet", "outcome")
    offers: dict[str, int] = counts("OFFERs sent", "client_class")
    acks: dict[str, int] = counts("ACKs sent", "client_class")
    ignored: dict[str, int] = counts("Messages left without an answer", "reason")
    malformed: dict[str, int] = counts("Datagrams that are no valid DHCP message", "reason")
    send_failures: int = counter("Answers that the kernel would not send")
    failures: int = counter("Datagrams that met a fault inside dpd")


@dataclass(slots=True)
class Prepared:
    """A reply that is to leave, and what it was made from."""

    reply: Reply
    request: BootRequest
    decision: Decision
    question: Entry


class PxeAnswers:
    """The answers of one proxyDHCP. `refusal_of` says why a boot file must not be handed out, "" where it may."""

    def __init__(
        self,
        *,
        journal: BootJournal,
        http_port: int,
        https_port: int = 443,
        policy: BootJudge | None = None,
        images: BootImages | None = None,
        refusal_of: Callable[[str], str] = lambda loader: "",
    ) -> None:
        self.stats = PxeStats()
        self._journal = journal
        self._ports = http_port, https_port
        self._granting = Granting(journal, http_port, policy, images, self.stats.decisions)
        self._refusal_of = refusal_of
        self._policy: Policy
        self._subnets: Subnets

    def adopt(self, settings: PxeSettings, relay_port: int) -> None:
        """From now on these settings hold. A relay listens on the port that its server has."""
        self._subnets = Subnets(settings.subnet)
        self._policy = Policy(
            rules=rules_of(settings),
            respond=settings.respond,
            response_delay_s=settings.response_delay_s,
            client_port=settings.client_port,
            relay_port=relay_port,
            http_port=self._ports[0],
            https_port=self._ports[1],
            place_of=self._place_of,
            refusal_of=self._refusal_of,
        )

    def _place_of(self, link: str) -> Place:
        """What [[pxe.subnet]] says of the network that has this address."""
        subnet = self._subnets.of(link)
        if subnet is None:
            return NOWHERE
        server = "" if ":" in subnet.server_address else subnet.server_address
        return Place(server, subnet.response_delay_s or None)

    def prepare(self, message: Message, arrival: Arrival) -> Prepared | None:
        """The answer, None where there is none; the story has both. Raises MalformedMessage."""
        question = examine(message, arrival, self._policy)
        if isinstance(question, Ignored):
            if question.machine is not None and (
                message.message_type == _DISCOVER or (message.message_type == _REQUEST and arrival.at_boot_port)
            ):
                self._note_question(message, question.machine, "")
            self._pass_over(message, question)
            return None
        machine = question.machine
        noted = self._note_question(message, machine, question.profile.name)
        request = _request(question)
        decision = self._granting.decide(request, noted)
        grant = self._granting.grant(request, decision, machine.client_class)
        reply = answer(question, grant, self._policy)
        if isinstance(reply, Ignored):
            self._pass_over(message, reply)
            return None
        return Prepared(reply, request, decision, noted)

    def _note_question(self, message: Message, machine: Machine, profile: str) -> Entry:
        """Count and write down what a network-boot client asked, on port 67 only those REQUESTs that are for us."""
        is_discover = message.message_type == _DISCOVER
        bump(self.stats.discovers if is_discover else self.stats.boot_requests, machine.arch_name)
        asked = message.xid, message.secs, message.ciaddr, message.giaddr, machine, profile
        relay = "" if message.giaddr == UNSPECIFIED else message.giaddr
        event = "discover" if is_discover else "boot_request"
        noted = self._journal.note_question(machine.mac, event, asked, TELLS[event], guid=machine.guid, relay=relay)
        if not is_discover:
            self._granting.bind(message.ciaddr, machine.mac)
        return noted

    def _pass_over(self, message: Message, ignored: Ignored) -> None:
        bump(self.stats.ignored, ignored.reason)
        if ignored.machine is None:
            return
        mac = ignored.machine.mac
        about: Fields = {"reason": ignored.reason}
        if ignored.reason is Reason.LEASE_REQUEST:
            # A client that boots straight from our OFFER never shows up at 4011; what it asks of the lease server is
            # the only sign of the address it is about to have.
            address = message.address(Option.REQUESTED_ADDRESS) or message.ciaddr
            about |= {"address": address, "lease_server": message.address(Option.SERVER_ID) or ""}
            self._granting.bind(address, mac)
        elif ignored.reason is Reason.TOO_EARLY:
            about |= {"secs": message.secs, "delay_s": ignored.delay_s}
        if ignored.detail:
            about["detail"] = ignored.detail
        self._journal.note(mac, "ignored", **about)
        log.debug("boot client not answered", extra={"mac": mac, **about})

    def leaves(self, prepared: Prepared) -> None:
        """The answer is about to leave: let the machine have what it is promised."""
        if prepared.reply.hands_out:
            self._granting.permit(prepared.request, prepared.decision)

    def sent(self, prepared: Prepared) -> None:
        """The answer has left: count it and write it down."""
        reply = prepared.reply
        machine = reply.machine
        if reply.hands_out:
            self._granting.begin(prepared.request, prepared.decision)
        is_offer = reply.message_type is OFFER
        bump(self.stats.offers if is_offer else self.stats.acks, machine.client_class)
        answered = reply.rule, reply.loader, reply.destination, reply.server, reply.flow
        event = "offer" if is_offer else "boot_reply"
        self._journal.go_on(machine.mac, prepared.question, event, answered, _answered)
        is_news = self._granting.is_news(machine.mac, reply.loader)
        if is_news or log.isEnabledFor(logging.DEBUG):
            level = logging.INFO if is_news else logging.DEBUG
            log.log(level, "boot client answered", extra=_who(machine) | _answered(answered))

    def not_sent(self, prepared: Prepared) -> None:
        """The kernel would not have it."""
        self.stats.send_failures += 1
        self._journal.note(prepared.reply.machine.mac, "send_failed", destination=_shown(prepared.reply))


NOWHERE = Place()
OFFER = MessageType.OFFER
_DISCOVER, _REQUEST = int(MessageType.DISCOVER), int(MessageType.REQUEST)
Asked = tuple[int, int, str, str, Machine, str]  # xid, secs, ciaddr, giaddr, who, profile
Answered = tuple[str, str, Address, str, Flow]  # rule, loader, destination, our address, form


def _request(question: Question) -> BootRequest:
    machine, message = question.machine, question.message
    return BootRequest(  # by position: a dictionary of nine names takes 0.7 us to make
        machine.mac,
        machine.guid,
        machine.processor,
        machine.client_class,
        question.server,
        question.relay.address,
        question.relay.circuit,
        message.secs,
        time.time(),
    )


def _asked(asked: Asked) -> Fields:
    """A question in the machine's story."""
    xid, secs, _, giaddr, machine, profile = asked
    about: Fields = {
        "family": 4,
        "xid": f"{xid:08x}",
        "secs": secs,
        "client_class": machine.client_class,
        "client_arch": machine.arch_name,
    }
    if profile:
        about["profile"] = profile
    if machine.guid:
        about["guid"] = machine.guid
    if giaddr != UNSPECIFIED:
        about["relay"] = giaddr
    return about


def _asked_from_its_address(asked: Asked) -> Fields:
    return {"address": asked[2], **_asked(asked)}


TELLS = {"discover": _asked, "boot_request": _asked_from_its_address}


def _answered(answered: Answered) -> Fields:
    """An answer in the machine's story, and in the log."""
    rule, loader, (host, port), server, flow = answered
    return {"rule": rule, "loader": loader, "destination": f"{host}:{port}", "server": server, "flow": flow}


def _who(machine: Machine) -> Fields:
    return {"mac": machine.mac, "client_class": machine.client_class, "client_arch": machine.arch_name}


def _shown(reply: Reply) -> str:
    return f"{reply.destination[0]}:{reply.destination[1]}"
