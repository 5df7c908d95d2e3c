# SPDX-License-Identifier: Apache-2.0
"""proxyDHCP on its two ports: 67 hears the DISCOVERs, 4011 the clients that come back for their file.

One socket for each port listens on all interfaces. The kernel tells for each datagram by which interface it came and
which of our addresses that client can reach, so a broadcast leaves where the request came in, and with the address
of that subnet inside. `answers` makes the answers.

Three modes. Normal binds both ports. `boot_port_only` leaves port 67 to a DHCP server on this host, which must say
"PXEClient" in its option 60, so that clients come to 4011 by themselves (PXE 2.1 section 2.2.3). `sniff` overhears port
67 beside whoever has it, who need not know of network boot.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from functools import partial

from dpd.boot.tree import BootImages
from dpd.errors import MalformedMessage
from dpd.protocol.dhcp.message import decode
from dpd.protocol.machine import Datagram
from dpd.protocol.pxe.responder import Arrival, Reason
from dpd.service.network.interfaces import interface_name
from dpd.service.pxe.answers import Prepared, PxeAnswers, PxeStats
from dpd.service.pxe.granting import BootJudge
from dpd.service.pxe.ports import BoundPort, Port, SniffedPort
from dpd.settings import PxeSettings, Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump

__all__ = ["PxeService", "PxeStats"]

log = logging.getLogger(__name__)


class PxeService:
    """Answers network-boot clients beside the lease server, which stays as it is. Without `policy` every machine gets the
    rules' loader."""

    name = "pxe"

    def __init__(
        self,
        settings: PxeSettings,
        *,
        http_port: int,
        journal: BootJournal,
        https_port: int = 443,
        policy: BootJudge | None = None,
        images: BootImages | None = None,
        refusal_of: Callable[[str], str] = lambda loader: "",
    ) -> None:
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._answers = PxeAnswers(
            journal=journal,
            http_port=http_port,
            https_port=https_port,
            policy=policy,
            images=images,
            refusal_of=refusal_of,
        )
        self.stats = self._answers.stats
        self._open_ports: dict[str, Port] = {}

    async def start(self) -> None:
        """Open the ports of the mode. Raises ServiceError and leaves none open."""
        try:
            if self._settings.mode == "sniff":
                self._open("port", self._sniff())
            elif self._settings.mode == "normal":
                self._open("port", self._bind(self._settings.port, at_boot_port=False))
            self._open("boot_port", self._bind(self._settings.boot_port, at_boot_port=True))
        except BaseException:
            self._close()
            raise
        self._adopt(self._settings)

    def _open(self, key: str, port: Port) -> None:
        self._open_ports[key] = port
        self.ports[key] = port.number

    def _bind(self, number: int, *, at_boot_port: bool) -> Port:
        purpose = "proxyDHCP boot server" if at_boot_port else "proxyDHCP"
        return BoundPort(self._settings.listen, number, partial(self._on_datagram, at_boot_port), purpose)

    def _sniff(self) -> Port:
        purpose = 'pxe.mode = "sniff"'
        return SniffedPort(self._settings.port, partial(self._on_datagram, False), purpose, self._on_malformed)

    def apply(self, settings: Settings) -> None:
        """Take over what may change while running; addresses, ports and the mode stay as they are."""
        self._adopt(settings.pxe)

    def _adopt(self, settings: PxeSettings) -> None:
        self._settings = settings
        self._answers.adopt(settings, self.ports.get("port", settings.port))
        unknown = set(settings.interfaces) - {name for _, name in socket.if_nameindex()}
        if unknown:
            log.warning("interfaces to answer on do not exist yet", extra={"interfaces": ", ".join(sorted(unknown))})

    async def drain(self) -> None:
        """Answers are single datagrams: nothing runs on, so this is the stop."""
        self._close()

    async def stop(self) -> None:
        """Close the ports; safe to call twice."""
        self._close()

    def _close(self) -> None:
        while self._open_ports:
            self._open_ports.popitem()[1].close()

    def _on_malformed(self, reason: str) -> None:
        """A packet that is not even a whole UDP datagram."""
        self.stats.datagrams += 1
        bump(self.stats.malformed, reason)

    def _on_datagram(self, at_boot_port: bool, datagram: Datagram) -> None:
        """The edge: whatever is wrong with one datagram ends here."""
        self.stats.datagrams += 1
        try:
            self._handle(at_boot_port, datagram)
        except MalformedMessage as error:
            bump(self.stats.malformed, error.reason)
            log.debug("malformed message", extra={"peer": datagram.source[0], "reason": str(error)})
        except Exception:
            self.stats.failures += 1
            log.exception("datagram not handled", extra={"peer": datagram.source[0]})

    def _handle(self, at_boot_port: bool, datagram: Datagram) -> None:
        reason = self._reason_by_place(datagram)
        if reason is not None:
            bump(self.stats.ignored, reason.value)
            return
        server = self._settings.server_address or datagram.answer_from
        prepared = self._answers.prepare(decode(datagram.payload), Arrival(datagram.source, server, at_boot_port))
        if prepared is not None:
            self._send("boot_port" if at_boot_port else "port", datagram, prepared)

    def _reason_by_place(self, datagram: Datagram) -> Reason | None:
        """Interfaces that are not ours to serve, before a byte of the payload is read."""
        if self._settings.interfaces and interface_name(datagram.interface) not in self._settings.interfaces:
            return Reason.OTHER_INTERFACE
        if datagram.answer_from in ("", "0.0.0.0"):
            return Reason.NO_OWN_ADDRESS
        return None

    def _send(self, key: str, datagram: Datagram, prepared: Prepared) -> None:
        """Send the answer from the address that the client asked, a broadcast by its interface alone."""
        reply = prepared.reply
        interface = datagram.interface if reply.is_broadcast else 0
        self._answers.leaves(prepared)
        try:
            port = self._open_ports[key]
            sent = port.send(reply.payload, reply.destination, interface=interface, local=datagram.answer_from)
        except OSError as error:
            sent = False
            log.debug("answer refused by the kernel", extra={"peer": reply.destination[0], "cause": error.strerror})
        if sent:
            self._answers.sent(prepared)
        else:
            self._answers.not_sent(prepared)
