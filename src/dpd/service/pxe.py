# SPDX-License-Identifier: Apache-2.0
"""proxyDHCP on its two ports: 67 hears the DISCOVERs, 4011 the clients that come back for their file.

One socket for each port listens on all interfaces. The kernel tells for each datagram by which interface it came and
which of our addresses that client can reach, so a broadcast leaves where the request came in, and with the address
of that subnet inside. What to answer is decided in `protocol.pxe`.
"""

from __future__ import annotations

import logging
import socket
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from time import monotonic

from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import Message, MessageType, decode
from dpd.protocol.dhcp.options import Option
from dpd.protocol.machine import Datagram
from dpd.protocol.pxe.responder import Arrival, Ignored, Policy, Reason, Reply, respond
from dpd.protocol.pxe.rules import ClientClass, Machine, Rule
from dpd.service.udp import UdpReader, grow_receive_buffer, open_udp, send_datagram
from dpd.settings import PxeSettings, Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts

log = logging.getLogger(__name__)

RECEIVE_BUFFER_BYTES = 1 << 20  # a room of 1000 machines switched on at once, while the loop is busy elsewhere
ANNOUNCE_AGAIN_S = 300.0  # an INFO line for each boot of a machine, not for each of its retries
MAX_ANNOUNCED = 4096


@dataclass(slots=True)
class PxeStats:
    """What the proxyDHCP saw and did."""

    datagrams: int = counter("Datagrams received on the DHCP and boot-server ports")
    discovers: dict[str, int] = counts("DISCOVERs of network-boot clients", "client_arch")
    boot_requests: dict[str, int] = counts("REQUESTs of network-boot clients on the boot-server port", "client_arch")
    offers: dict[str, int] = counts("OFFERs sent", "client_class")
    acks: dict[str, int] = counts("ACKs sent", "client_class")
    ignored: dict[str, int] = counts("Messages left without an answer", "reason")
    malformed: dict[str, int] = counts("Datagrams that are no valid DHCP message", "reason")
    send_failures: int = counter("Answers that the kernel would not send")
    failures: int = counter("Datagrams that met a fault inside dpd")


class PxeService:
    """Answers network-boot clients beside the lease server, which stays as it is."""

    name = "pxe"

    def __init__(self, settings: PxeSettings, *, http_port: int, journal: BootJournal) -> None:
        self.stats = PxeStats()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._http_port = http_port
        self._journal = journal
        self._policy = _policy(settings, http_port, settings.port)
        self._readers: list[UdpReader] = []
        self._announced: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def start(self) -> None:
        """Bind both ports. Raises ServiceError and leaves neither bound."""
        try:
            for key, port in (("port", self._settings.port), ("boot_port", self._settings.boot_port)):
                self._open(key, port)
        except BaseException:
            self._close()
            raise
        self._adopt(self._settings)

    def _open(self, key: str, port: int) -> None:
        at_boot_port = key == "boot_port"
        purpose = "proxyDHCP boot server" if at_boot_port else "proxyDHCP"
        sock = open_udp(self._settings.listen, port, broadcast=True, pktinfo=True, purpose=purpose)
        grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
        self.ports[key] = sock.getsockname()[1]
        handle = partial(self._on_datagram, sock, at_boot_port)
        self._readers.append(UdpReader(sock, handle))

    def apply(self, settings: Settings) -> None:
        """Take over what may change while running; addresses and ports stay as they are bound."""
        self._adopt(settings.pxe)

    def _adopt(self, settings: PxeSettings) -> None:
        self._settings = settings
        self._policy = _policy(settings, self._http_port, self.ports.get("port", settings.port))
        unknown = set(settings.interfaces) - {name for _, name in socket.if_nameindex()}
        if unknown:
            log.warning("interfaces to answer on do not exist yet", extra={"interfaces": ", ".join(sorted(unknown))})

    async def drain(self) -> None:
        """Answers are single datagrams: nothing runs on, so this is the stop."""
        self._close()

    async def stop(self) -> None:
        """Close both ports; safe to call twice."""
        self._close()

    def _close(self) -> None:
        while self._readers:
            self._readers.pop().close()

    def _on_datagram(self, sock: socket.socket, at_boot_port: bool, datagram: Datagram) -> None:
        """The edge: whatever is wrong with one datagram ends here."""
        self.stats.datagrams += 1
        try:
            self._handle(sock, at_boot_port, datagram)
        except MalformedMessage as error:
            bump(self.stats.malformed, error.reason)
            log.debug("malformed message", extra={"peer": datagram.source[0], "reason": str(error)})
        except Exception:
            self.stats.failures += 1
            log.exception("datagram not handled", extra={"peer": datagram.source[0]})

    def _handle(self, sock: socket.socket, at_boot_port: bool, datagram: Datagram) -> None:
        reason = self._reason_by_place(datagram)
        if reason is not None:
            bump(self.stats.ignored, reason.value)
            return
        message = decode(datagram.payload)
        server = self._settings.server_address or datagram.answer_from
        outcome = respond(message, Arrival(datagram.source, server, at_boot_port), self._policy)
        if outcome.machine is not None:
            self._note_question(message, outcome.machine, at_boot_port)
        if isinstance(outcome, Ignored):
            self._pass_over(message, outcome)
        else:
            self._send(sock, datagram, outcome)

    def _reason_by_place(self, datagram: Datagram) -> Reason | None:
        """Interfaces that are not ours to serve, before a byte of the payload is read."""
        if self._settings.interfaces and _interface_name(datagram.interface) not in self._settings.interfaces:
            return Reason.OTHER_INTERFACE
        if datagram.answer_from in ("", "0.0.0.0"):
            return Reason.NO_OWN_ADDRESS
        return None

    def _note_question(self, message: Message, machine: Machine, at_boot_port: bool) -> None:
        """Count and write down what a network-boot client asked."""
        about: dict[str, str | int] = {"client_class": machine.client_class.value, "client_arch": machine.arch_name}
        if machine.guid:
            about["guid"] = machine.guid
        if message.giaddr != "0.0.0.0":
            about["relay"] = message.giaddr
        if message.message_type == MessageType.DISCOVER:
            bump(self.stats.discovers, machine.arch_name)
            self._journal.note(machine.mac, "discover", secs=message.secs, **about)
        elif message.message_type == MessageType.REQUEST and at_boot_port:
            bump(self.stats.boot_requests, machine.arch_name)
            self._journal.note(machine.mac, "boot_request", address=message.ciaddr, **about)
            self._bind(message.ciaddr, machine.mac)

    def _bind(self, address: str | None, mac: str) -> None:
        if address and address != "0.0.0.0":
            self._journal.bind(address, mac)

    def _pass_over(self, message: Message, ignored: Ignored) -> None:
        bump(self.stats.ignored, ignored.reason.value)
        if ignored.machine is None:
            return
        mac = ignored.machine.mac
        about: dict[str, str | int] = {"reason": ignored.reason.value}
        if ignored.reason is Reason.LEASE_REQUEST:
            # A client that boots straight from our OFFER never shows up at 4011; what it asks of the lease server is
            # the only sign of the address it is about to have.
            address = message.address(Option.REQUESTED_ADDRESS) or message.ciaddr
            about |= {"address": address, "lease_server": message.address(Option.SERVER_ID) or ""}
            self._bind(address, mac)
        self._journal.note(mac, "ignored", **about)
        log.debug("boot client not answered", extra={"mac": mac, **about})

    def _send(self, sock: socket.socket, datagram: Datagram, reply: Reply) -> None:
        """Send the answer from the address that the client asked, a broadcast by its interface alone."""
        interface = datagram.interface if reply.is_broadcast else 0
        try:
            sent = send_datagram(
                sock, reply.payload, reply.destination, interface=interface, local=datagram.answer_from
            )
        except OSError as error:
            sent = False
            log.debug("answer refused by the kernel", extra={"peer": reply.destination[0], "cause": error.strerror})
        if sent:
            self._note_answer(reply)
        else:
            self.stats.send_failures += 1
            self._journal.note(reply.machine.mac, "send_failed", destination=_shown(reply))

    def _note_answer(self, reply: Reply) -> None:
        """Count, write down and log what a client was given."""
        is_offer = reply.message_type == MessageType.OFFER
        bump(self.stats.offers if is_offer else self.stats.acks, reply.machine.client_class.value)
        about = {"rule": reply.rule, "loader": reply.loader, "destination": _shown(reply)}
        self._journal.note(reply.machine.mac, "offer" if is_offer else "boot_reply", **about)
        level = logging.INFO if self._is_news(reply) else logging.DEBUG
        log.log(level, "boot client answered", extra=_who(reply.machine) | about)

    def _is_news(self, reply: Reply) -> bool:
        """Whether this machine was not told of this loader lately."""
        key, now = (reply.machine.mac, reply.loader), monotonic()
        told = self._announced.get(key)
        if told is not None and now - told < ANNOUNCE_AGAIN_S:
            return False
        self._announced[key] = now
        self._announced.move_to_end(key)
        while len(self._announced) > MAX_ANNOUNCED:
            self._announced.popitem(last=False)
        return True


def _who(machine: Machine) -> dict[str, str]:
    return {"mac": machine.mac, "client_class": machine.client_class.value, "client_arch": machine.arch_name}


def _shown(reply: Reply) -> str:
    return f"{reply.destination[0]}:{reply.destination[1]}"


def _interface_name(index: int) -> str:
    """Asked of the kernel each time: indexes are used again when interfaces come and go."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""


def _policy(settings: PxeSettings, http_port: int, relay_port: int) -> Policy:
    """Settings as the plain values that the protocol takes. A relay listens on the port that its server has."""
    return Policy(
        rules=tuple(
            Rule(rule.name, ClientClass(rule.client_class), rule.loader, tuple(rule.client_arch))
            for rule in settings.rule
        ),
        respond=settings.respond,
        response_delay_s=settings.response_delay_s,
        client_port=settings.client_port,
        relay_port=relay_port,
        http_port=http_port,
    )
