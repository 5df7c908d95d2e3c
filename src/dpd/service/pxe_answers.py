# SPDX-License-Identifier: Apache-2.0
"""From a DHCP message to its answer: policy is asked, the boot image is asked for its loader, and the machine's story is
written. The sockets belong to `pxe`, the words of the answer to `protocol.pxe`."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from dpd.boot.tree import BootImages
from dpd.protocol.dhcp.message import UNSPECIFIED, Message, MessageType
from dpd.protocol.dhcp.options import Option
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
from dpd.service.granting import BootJudge, Fields, Granting, rules_of
from dpd.settings import PxeSettings
from dpd.site.decision import BootRequest, Decision
from dpd.site.subnets import Subnets
from dpd.telemetry.journal import BootJournal
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
            if question.machine is not None:
                self._note_question(message, question.machine, arrival, "")
            self._pass_over(message, question)
            return None
        machine = question.machine
        self._note_question(message, machine, arrival, question.profile.name)
        request = _request(question)
        decision = self._granting.decide(request)
        grant = self._granting.grant(request, decision, machine.client_class)
        reply = answer(question, grant, self._policy)
        if isinstance(reply, Ignored):
            self._pass_over(message, reply)
            return None
        return Prepared(reply, request, decision)

    def _note_question(self, message: Message, machine: Machine, arrival: Arrival, profile: str) -> None:
        """Count and write down what a network-boot client asked; on port 67 only those REQUESTs that are for us, which have a
        profile by then."""
        if message.message_type == MessageType.DISCOVER:
            bump(self.stats.discovers, machine.arch_name)
            self._journal.note(machine.mac, "discover", **_asked(message, machine, profile))
        elif message.message_type == MessageType.REQUEST and (arrival.at_boot_port or profile):
            bump(self.stats.boot_requests, machine.arch_name)
            about = _asked(message, machine, profile)
            self._journal.note(machine.mac, "boot_request", address=message.ciaddr, **about)
            self._granting.bind(message.ciaddr, machine.mac)

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

    def sent(self, prepared: Prepared) -> None:
        """The answer has left: count it, write it down, and let the machine have what it was promised."""
        reply = prepared.reply
        if reply.hands_out:
            self._granting.issue(prepared.request, prepared.decision)
        is_offer = reply.message_type == MessageType.OFFER
        bump(self.stats.offers if is_offer else self.stats.acks, reply.machine.client_class)
        about: Fields = {
            "rule": reply.rule,
            "loader": reply.loader,
            "destination": _shown(reply),
            "server": reply.server,
            "flow": reply.flow,
        }
        self._journal.note(reply.machine.mac, "offer" if is_offer else "boot_reply", **about)
        level = logging.INFO if self._granting.is_news(reply.machine.mac, reply.loader) else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "boot client answered", extra=_who(reply.machine) | about)

    def not_sent(self, prepared: Prepared) -> None:
        """The kernel would not have it."""
        self.stats.send_failures += 1
        self._journal.note(prepared.reply.machine.mac, "send_failed", destination=_shown(prepared.reply))


NOWHERE = Place()


def _request(question: Question) -> BootRequest:
    machine, message = question.machine, question.message
    return BootRequest(
        mac=machine.mac,
        guid=machine.guid,
        arch=machine.processor,
        client_class=machine.client_class,
        server=question.server,
        relay=question.relay.address,
        circuit=question.relay.circuit,
        secs=message.secs,
        at=time.time(),
    )


def _asked(message: Message, machine: Machine, profile: str) -> Fields:
    about: Fields = {
        "family": 4,
        "xid": f"{message.xid:08x}",
        "secs": message.secs,
        "client_class": machine.client_class,
        "client_arch": machine.arch_name,
    }
    if profile:
        about["profile"] = profile
    if machine.guid:
        about["guid"] = machine.guid
    if message.giaddr != UNSPECIFIED:
        about["relay"] = message.giaddr
    return about


def _who(machine: Machine) -> Fields:
    return {"mac": machine.mac, "client_class": machine.client_class, "client_arch": machine.arch_name}


def _shown(reply: Reply) -> str:
    return f"{reply.destination[0]}:{reply.destination[1]}"
