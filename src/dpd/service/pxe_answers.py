# SPDX-License-Identifier: Apache-2.0
"""From a DHCP message to its answer: policy is asked, the boot image is asked for its loader, and the machine's story is
written. The sockets belong to `pxe`, the words of the answer to `protocol.pxe`."""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from dpd.boot.tree import BootContext, BootImages
from dpd.boot.winpe import BCD_NAME
from dpd.protocol.dhcp.message import UNSPECIFIED, Message, MessageType
from dpd.protocol.dhcp.options import Option
from dpd.protocol.pxe.responder import (
    Arrival,
    Grant,
    Ignored,
    Outcome,
    Place,
    Policy,
    Question,
    Reason,
    Reply,
    answer,
    examine,
)
from dpd.protocol.pxe.rules import ClientClass, Machine, Rule
from dpd.service.boot_tree import NoImages
from dpd.settings import PxeSettings
from dpd.site.decision import BootRequest, Cause, Decision
from dpd.site.decision import Outcome as DecisionOutcome
from dpd.site.subnets import Subnets
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)

ANNOUNCE_AGAIN_S = 300.0  # an INFO line for each boot of a machine, not for each of its retries
MAX_ANNOUNCED = 4096
WAITING_SCRIPT = "boot.ipxe"  # what the boot tree answers with the waiting screen

Fields = dict[str, str | int]


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


class BootJudge(Protocol):
    """Who decides: `dpd.site.policy.BootPolicy`."""

    def decide(self, request: BootRequest) -> Decision: ...

    def issue(self, request: BootRequest, decision: Decision) -> object: ...

    def bind(self, address: str, mac: str) -> None: ...


class EverybodyBoots:
    """A distribution point without policy: the rules' loaders for everybody."""

    _decision = Decision(DecisionOutcome.BOOT, Cause.DEFAULT)

    def decide(self, request: BootRequest) -> Decision:
        return self._decision

    def issue(self, request: BootRequest, decision: Decision) -> object:
        return None

    def bind(self, address: str, mac: str) -> None:
        pass


@dataclass(frozen=True, slots=True)
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
        self._judge: BootJudge = policy or EverybodyBoots()
        self._images: BootImages = images or NoImages()
        self._refusal_of = refusal_of
        self._policy: Policy
        self._subnets: Subnets
        self._announced: OrderedDict[tuple[str, str], float] = OrderedDict()

    def adopt(self, settings: PxeSettings, relay_port: int) -> None:
        """From now on these settings hold. A relay listens on the port that its server has."""
        self._subnets = Subnets(settings.subnet)
        self._policy = Policy(
            rules=tuple(
                Rule(rule.name, ClientClass(rule.client_class), rule.loader, tuple(rule.client_arch), rule.flow)
                for rule in settings.rule
            ),
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
        decision = self._judge.decide(request)
        self._note_decision(machine.mac, decision)
        reply = answer(question, self._grant(question, request, decision), self._policy)
        if isinstance(reply, Ignored):
            self._pass_over(message, reply)
            return None
        return Prepared(reply, request, decision)

    def _grant(self, question: Question, request: BootRequest, decision: Decision) -> Grant:
        """The decision as the responder takes it, with the loader of the boot image."""
        outcome = OUTCOMES[decision.outcome]
        if outcome not in LOADING:
            return Grant(outcome)
        if outcome is Outcome.BOOT and not decision.boot_image:
            return BY_THE_RULES
        loader, client_class = "", question.machine.client_class
        if decision.boot_image or outcome is Outcome.WAIT:
            context = self._context(request, decision)
            loader = self._images.loader(decision.boot_image, request.arch, client_class, context)
        if outcome is Outcome.WAIT and not loader and client_class is ClientClass.IPXE:
            loader = WAITING_SCRIPT  # never the rules' script, which may be anywhere
        image = decision.boot_image if outcome is not Outcome.WAIT else ""
        return Grant(outcome, loader, image, BCD_NAME, decision.message)

    def _context(self, request: BootRequest, decision: Decision) -> BootContext:
        return BootContext(
            ticket_id="",
            mac=request.mac,
            guid=request.guid,
            arch=request.arch,
            server=request.server,
            http_port=self._ports[0],
            outcome=decision.outcome,
            code=decision.code,
            message=decision.message,
        )

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
            self._bind(message.ciaddr, machine.mac)

    def _note_decision(self, mac: str, decision: Decision) -> None:
        bump(self.stats.decisions, decision.outcome)
        self._journal.note(
            mac,
            "decision",
            outcome=decision.outcome,
            cause=decision.cause,
            computer=decision.computer,
            deployment=decision.deployment,
            boot_image=decision.boot_image,
        )

    def _bind(self, address: str | None, mac: str) -> None:
        if address and address != UNSPECIFIED:
            self._journal.bind(address, mac)
            self._judge.bind(address, mac)

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
            self._bind(address, mac)
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
            self._judge.issue(prepared.request, prepared.decision)
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
        level = logging.INFO if self._is_news(reply) else logging.DEBUG
        if log.isEnabledFor(level):
            log.log(level, "boot client answered", extra=_who(reply.machine) | about)

    def not_sent(self, prepared: Prepared) -> None:
        """The kernel would not have it."""
        self.stats.send_failures += 1
        self._journal.note(prepared.reply.machine.mac, "send_failed", destination=_shown(prepared.reply))

    def _is_news(self, reply: Reply) -> bool:
        """Whether this machine was not told of this loader lately."""
        key, now = (reply.machine.mac, reply.loader), time.monotonic()
        told = self._announced.get(key)
        if told is not None and now - told < ANNOUNCE_AGAIN_S:
            return False
        self._announced[key] = now
        self._announced.move_to_end(key)
        while len(self._announced) > MAX_ANNOUNCED:
            self._announced.popitem(last=False)
        return True


NOWHERE = Place()
BY_THE_RULES = Grant()
OUTCOMES = {theirs: Outcome(theirs.value) for theirs in DecisionOutcome}
LOADING = (Outcome.BOOT, Outcome.PROMPT, Outcome.WAIT)


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
