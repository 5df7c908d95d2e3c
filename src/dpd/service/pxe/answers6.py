# SPDX-License-Identifier: Apache-2.0
"""From a DHCPv6 packet to its answer: policy is asked, the boot image is asked for its loader, and the machine's story is
written. The sockets belong to `dhcp6`, the words of the answer to `protocol.pxe.responder6`."""

from __future__ import annotations

import logging
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dpd.boot.tree import BootImages
from dpd.protocol.dhcp6.message import MessageType, Packet
from dpd.protocol.dhcp6.options import Duid, DuidKind, Option, encode_duid
from dpd.protocol.pxe.responder6 import (
    Arrival6,
    Ignored6,
    Question6,
    Reason6,
    Reply6,
    Terms6,
    answer6,
    elapsed_s,
    hear6,
    relay_address,
)
from dpd.protocol.pxe.rules import ClientClass, Machine
from dpd.service.pxe.granting import BootJudge, Granting, rules_of
from dpd.settings import PxeSettings
from dpd.site.decision import BootRequest, Decision
from dpd.site.subnets import Subnets
from dpd.telemetry.journal import BootJournal, Entry, Fields
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)

MAX_KNOWN = 8192  # machines whose DUID and MAC are remembered
MACHINE_ID = Path("/etc/machine-id")


@dataclass(slots=True)
class Pxe6Stats:
    """What network boot over DHCPv6 saw and did."""

    datagrams: int = counter("Datagrams received on the DHCPv6 and boot-server ports")
    solicits: dict[str, int] = counts("SOLICITs and INFORMATION-REQUESTs of network-boot clients", "client_arch")
    boot_requests: dict[str, int] = counts("REQUESTs of network-boot clients on the boot-server port", "client_arch")
    decisions: dict[str, int] = counts("What policy wanted of the machines that asked, one for each packet", "outcome")
    advertises: dict[str, int] = counts("ADVERTISEs sent", "client_class")
    replies: dict[str, int] = counts("REPLYs sent", "client_class")
    ignored: dict[str, int] = counts("Messages left without an answer", "reason")
    malformed: dict[str, int] = counts("Datagrams that are no valid DHCPv6 message", "reason")
    send_failures: int = counter("Answers that the kernel would not send")
    failures: int = counter("Datagrams that met a fault inside dpd")


@dataclass(frozen=True, slots=True)
class Prepared6:
    """A reply that is to leave, and what it was made from."""

    reply: Reply6
    request: BootRequest
    decision: Decision
    is_final: bool


class Pxe6Answers:
    """The answers of one server. `refusal_of` says why a loader must not be handed out, "" where it may."""

    def __init__(
        self,
        *,
        journal: BootJournal,
        http_port: int,
        https_port: int,
        policy: BootJudge | None,
        images: BootImages | None,
        refusal_of: Callable[[str], str],
    ) -> None:
        self.stats = Pxe6Stats()
        self._journal = journal
        self._ports = http_port, https_port
        self._granting = Granting(journal, http_port, policy, images, self.stats.decisions)
        self._refusal_of = refusal_of
        self._macs: OrderedDict[bytes, str] = OrderedDict()  # by DUID: at port 4011 firmware tells its DUID alone
        self._terms: Terms6
        self._subnets: Subnets
        self._delay_s = 0

    def adopt(self, settings: PxeSettings) -> None:
        """From now on these settings hold."""
        self._subnets = Subnets(settings.subnet)
        self._delay_s = settings.response_delay_s
        self._terms = Terms6(
            server_id=own_duid(),
            rules=rules_of(settings),
            respond=settings.respond,
            relay_port=settings.port6 or 547,
            http_port=self._ports[0],
            https_port=self._ports[1],
            delay_of=self._delay_of,
            refusal_of=self._refusal_of,
        )

    def _delay_of(self, address: str) -> int:
        subnet = self._subnets.of(address)
        return subnet.response_delay_s if subnet and subnet.response_delay_s else self._delay_s

    def server_for(self, packet: Packet, found: str) -> str:
        """The address told to clients of a network: as [[pxe.subnet]] has it, else the one that was found."""
        subnet = self._subnets.of(relay_address(packet) or found)
        return subnet.server_address if subnet and ":" in subnet.server_address else found

    def known_mac(self, packet: Packet) -> str:
        """What earlier messages told of this client, "" where there were none."""
        return self._macs.get(packet.message.option(Option.CLIENT_ID) or b"", "")

    def prepare(self, packet: Packet, arrival: Arrival6) -> Prepared6 | None:
        """The answer, None where there is none; the story has both. Raises MalformedMessage."""
        question = hear6(packet, arrival, self._terms)
        if isinstance(question, Ignored6):
            if question.identity is not None and question.identity.machine.mac:
                self._note_question(packet, arrival, question.identity.machine, question.identity.duid)
            self._pass_over(packet, question)
            return None
        machine = question.machine
        noted = self._note_question(packet, arrival, machine, question.identity.duid)
        request = _request(question)
        decision = self._granting.decide(request, noted)
        reply = answer6(question, self._granting.grant(request, decision, machine.client_class), self._terms)
        if isinstance(reply, Ignored6):
            self._pass_over(packet, reply)
            return None
        return Prepared6(reply, request, decision, packet.message.type == MessageType.REQUEST)

    def _note_question(self, packet: Packet, arrival: Arrival6, machine: Machine, duid: bytes) -> Entry | None:
        """Count and write down what a network-boot client asked."""
        message = packet.message
        self._macs[duid] = machine.mac
        self._macs.move_to_end(duid)
        while len(self._macs) > MAX_KNOWN:
            self._macs.popitem(last=False)
        if message.type in (MessageType.SOLICIT, MessageType.INFORMATION_REQUEST):
            bump(self.stats.solicits, machine.arch_name)
            return self._note(machine, "discover", _asked(packet, machine))
        if arrival.at_boot_port:
            address = arrival.source[0]
            bump(self.stats.boot_requests, machine.arch_name)
            noted = self._note(machine, "boot_request", {"address": address, **_asked(packet, machine)})
            self._granting.bind(address, machine.mac)
            return noted
        return None

    def _note(self, machine: Machine, event: str, asked: Fields) -> Entry:
        relay = str(asked.get("relay", ""))
        return self._journal.note_question(machine.mac, event, asked, dict, guid=machine.guid, relay=relay)

    def _pass_over(self, packet: Packet, ignored: Ignored6) -> None:
        bump(self.stats.ignored, ignored.reason.value)
        if ignored.identity is None or not ignored.identity.machine.mac:
            return
        mac = ignored.identity.machine.mac
        about: Fields = {"reason": ignored.reason.value, "family": 6}
        for address in ignored.leased:
            about["address"] = address
            self._granting.bind(address, mac)
        if ignored.reason is Reason6.TOO_EARLY:
            about |= {"secs": elapsed_s(packet.message), "delay_s": ignored.delay_s}
        if ignored.detail:
            about["detail"] = ignored.detail
        self._journal.note(mac, "ignored", **about)
        log.debug("boot client not answered", extra={"mac": mac, **about})

    def leaves(self, prepared: Prepared6) -> None:
        """The answer is about to leave: let the machine have what it is promised."""
        self._granting.permit(prepared.request, prepared.decision)

    def sent(self, prepared: Prepared6) -> None:
        """The answer has left: count it and write it down."""
        reply = prepared.reply
        self._granting.begin(prepared.request, prepared.decision)
        is_advertise = reply.message_type is MessageType.ADVERTISE
        bump(self.stats.advertises if is_advertise else self.stats.replies, reply.machine.client_class.value)
        about: Fields = {
            "rule": reply.rule,
            "loader": reply.loader,
            "destination": _shown(reply),
            "server": reply.server,
        }
        flow = "http" if reply.machine.client_class is ClientClass.HTTP else "binl" if is_advertise else "direct"
        event = "boot_reply" if prepared.is_final else "offer"
        self._journal.note(reply.machine.mac, event, **about, flow=flow, family=6)
        level = logging.INFO if self._granting.is_news(reply.machine.mac, reply.loader) else logging.DEBUG
        if log.isEnabledFor(level):
            who: Fields = {"client_class": reply.machine.client_class.value, "client_arch": reply.machine.arch_name}
            log.log(level, "boot client answered over IPv6", extra={"mac": reply.machine.mac, **who, **about})

    def not_sent(self, prepared: Prepared6) -> None:
        """The kernel would not have it."""
        self.stats.send_failures += 1
        self._journal.note(prepared.reply.machine.mac, "send_failed", destination=_shown(prepared.reply), family=6)


def own_duid() -> bytes:
    """Our server identifier: the same after each restart, where the system has an identity of its own."""
    try:
        seed = MACHINE_ID.read_text(encoding="ascii").strip()
    except OSError:
        seed = ""
    octets = uuid.uuid5(uuid.NAMESPACE_OID, f"dpd {seed or uuid.getnode()}").bytes
    return encode_duid(Duid(DuidKind.UUID, octets))


def _request(question: Question6) -> BootRequest:
    machine, relays = question.machine, question.packet.relays
    circuit = relays[-1].option(Option.INTERFACE_ID) if relays else None
    return BootRequest(
        mac=machine.mac,
        guid=machine.guid,
        arch=machine.processor,
        client_class=machine.client_class.value,
        server=question.arrival.server.partition("%")[0],
        relay=question.relay,
        circuit=(circuit or b"").hex(),
        secs=question.elapsed_s,
        at=time.time(),
    )


def _asked(packet: Packet, machine: Machine) -> Fields:
    about: Fields = {
        "family": 6,
        "xid": f"{packet.message.transaction_id:06x}",
        "secs": elapsed_s(packet.message),
        "client_class": machine.client_class.value,
        "client_arch": machine.arch_name,
    }
    if machine.guid:
        about["guid"] = machine.guid
    if relay := relay_address(packet):
        about["relay"] = relay
    return about


def _shown(reply: Reply6) -> str:
    return f"[{reply.destination[0]}]:{reply.destination[1]}"
