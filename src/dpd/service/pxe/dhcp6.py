# SPDX-License-Identifier: Apache-2.0
"""Network boot beside a DHCPv6 lease server: port 547 hears the SOLICITs, 4011 the firmware that comes back for its file.

Which forms OVMF 2022.11 was seen to take, beside dnsmasq and beside Kea that hand out addresses and know nothing of booting
(tests/interop/test_qemu_ipv6.py):

* UEFI PXE: an ADVERTISE without addresses, with vendor class `PXEClient`. It waits 4 s for further ones, takes the lease
  server's addresses, and asks at port 4011 of the address in our option 59, from its own port 4011. The REPLY names the file.
  It asks once, waits 3 s, and begins to listen only after it has asked: a REPLY within half a millisecond was lost in two boots
  of four. So that REPLY leaves later.
* UEFI HTTP boot: the same ADVERTISE with `HTTPClient` and a URL; nothing is asked at port 4011.
* Either also boots from option 59 of the lease server (`dpd pxe options` prints the lines), HTTP boot then with option 16.

What does not work, and why:
* OVMF never sends an INFORMATION-REQUEST as a boot client: only its IPv6 stack does, for DNS, without a vendor class.
* iPXE passes over an ADVERTISE without addresses. Where the router advertises O without M it sends an INFORMATION-REQUEST and
  takes the first REPLY, which a lease server in C wins. So iPXE gets its script from option 59 of the lease server, or
  from a file `autoexec.ipxe` beside it in builds that look for one.
* Without a router's prefix the firmware has an address and no route, not even to its own network.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from functools import partial

from dpd.boot.tree import BootImages
from dpd.errors import MalformedMessage, ServiceError
from dpd.protocol.dhcp6.message import Packet, decode
from dpd.protocol.machine import Datagram
from dpd.protocol.pxe.responder6 import Arrival6, Reason6, relay_address
from dpd.service.network.addresses6 import address_on, address_towards
from dpd.service.network.interfaces import interface_name
from dpd.service.network.udp import (
    IPV6_RECVPKTINFO,
    UdpReader,
    explain_bind,
    grow_receive_buffer,
    send_datagram,
)
from dpd.service.pxe.answers6 import Prepared6, Pxe6Answers
from dpd.service.pxe.granting import BootJudge
from dpd.settings import PxeSettings, Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump

log = logging.getLogger(__name__)

ALL_RELAYS_AND_SERVERS = "ff02::1:2"  # RFC 8415 section 7.1
ALL_SERVERS = "ff05::1:3"
RECEIVE_BUFFER_BYTES = 1 << 20  # as for IPv4: a room of machines switched on at once
BOOT_REPLY_DELAY_S = 0.2  # for OVMF to begin to listen, with much to spare on both sides
MAX_DELAYED = 4096  # answers; more leave at once


class Pxe6Service:
    """Answers network-boot clients beside the DHCPv6 lease server, which stays as it is."""

    name = "pxe6"

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
        self._answers = Pxe6Answers(
            journal=journal,
            http_port=http_port,
            https_port=https_port,
            policy=policy,
            images=images,
            refusal_of=refusal_of,
        )
        self.stats = self._answers.stats
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._readers: list[UdpReader] = []
        self._joined: set[tuple[int, str, int]] = set()
        self._delayed: set[asyncio.TimerHandle] = set()

    async def start(self) -> None:
        """Bind both ports, 4011 alone where another DHCPv6 server is on this host. Raises ServiceError, leaves none bound."""
        self._answers.adopt(self._settings)
        try:
            if self._settings.mode == "normal":
                self._open("port6", self._settings.port6, "DHCPv6 beside the lease server")
            self._open("boot_port6", self._settings.boot_port, "DHCPv6 boot server")
        except BaseException:
            self._close()
            raise
        self._join_groups()

    def _open(self, key: str, port: int, purpose: str) -> None:
        sock = _open_udp6(port, purpose)
        self.ports[key] = sock.getsockname()[1]
        self._readers.append(UdpReader(sock, partial(self._on_datagram, sock, key == "boot_port6")))

    def apply(self, settings: Settings) -> None:
        """Take over what may change while running, and listen on interfaces that came since; ports stay."""
        self._settings = settings.pxe
        self._answers.adopt(settings.pxe)
        self._join_groups()

    def _join_groups(self) -> None:
        for index, name in socket.if_nameindex():
            if self._settings.interfaces and name not in self._settings.interfaces:
                continue
            for reader in self._readers:
                for group in (ALL_RELAYS_AND_SERVERS, ALL_SERVERS):
                    self._join(reader.sock, group, index, name)

    def _join(self, sock: socket.socket, group: str, index: int, name: str) -> None:
        membership = sock.fileno(), group, index
        if membership in self._joined:
            return
        request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@i", index)
        try:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, request)
        except OSError as error:  # an interface without IPv6
            log.debug("DHCPv6 group not joined", extra={"interface": name, "group": group, "cause": error.strerror})
        else:
            self._joined.add(membership)

    async def drain(self) -> None:
        """Answers are single datagrams: nothing runs on, so this is the stop."""
        self._close()

    async def stop(self) -> None:
        """Close both ports; safe to call twice."""
        self._close()

    def _close(self) -> None:
        self._joined.clear()
        while self._delayed:
            self._delayed.pop().cancel()
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
        if self._settings.interfaces and interface_name(datagram.interface) not in self._settings.interfaces:
            bump(self.stats.ignored, Reason6.OTHER_INTERFACE.value)
            return
        packet = decode(datagram.payload)
        arrival = Arrival6(
            source=datagram.source,
            server=self._answers.server_for(packet, _own_address(packet, datagram)),
            at_boot_port=at_boot_port,
            by_multicast=not datagram.answer_from,
            known_mac=self._answers.known_mac(packet),
        )
        prepared = self._answers.prepare(packet, arrival)
        if prepared is None:
            return
        if at_boot_port and len(self._delayed) < MAX_DELAYED:
            self._send_later(sock, datagram, prepared)
        else:
            self._send(sock, datagram, prepared)

    def _send_later(self, sock: socket.socket, datagram: Datagram, prepared: Prepared6) -> None:
        def send() -> None:
            self._delayed.discard(handle)
            self._send(sock, datagram, prepared)

        handle = asyncio.get_running_loop().call_later(BOOT_REPLY_DELAY_S, send)
        self._delayed.add(handle)

    def _send(self, sock: socket.socket, datagram: Datagram, prepared: Prepared6) -> None:
        """Send the answer from the address that was asked; after a multicast the kernel has the right one."""
        reply = prepared.reply
        self._answers.leaves(prepared)
        try:
            sent = send_datagram(sock, reply.payload, reply.destination, local=datagram.answer_from)
        except OSError as error:
            sent = False
            log.debug("answer refused by the kernel", extra={"peer": reply.destination[0], "cause": error.strerror})
        if sent:
            self._answers.sent(prepared)
        else:
            self._answers.not_sent(prepared)


def _own_address(packet: Packet, datagram: Datagram) -> str:
    """The address that was asked, else the one with which the client's link is reached."""
    if link := relay_address(packet):
        return address_towards(link) or datagram.answer_from
    asked = datagram.answer_from
    return asked if asked and not asked.startswith("fe80:") else address_on(datagram.interface)


def _open_udp6(port: int, purpose: str) -> socket.socket:
    """IPv6 alone: the same port may be bound for IPv4 beside it. Raises ServiceError."""
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        sock.bind(("::", port))
    except OSError as error:
        sock.close()
        raise ServiceError(explain_bind(error, f"{purpose} (:: UDP {port})", "udp", port)) from None
    grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
    return sock
