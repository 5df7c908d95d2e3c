# SPDX-License-Identifier: Apache-2.0
"""The IGMP querier of last resort: the election machine of `protocol.igmp` on a raw socket.

For networks whose switches snoop and where nobody asks, which cuts every multicast group off after some minutes. Needs
CAP_NET_RAW. Its interface is `multicast.interface`, or the one that the kernel's route to the groups leads to.
"""

from __future__ import annotations

import asyncio
import fcntl
import ipaddress
import logging
import socket
import struct
import time
from dataclasses import dataclass

from dpd.errors import ServiceError
from dpd.protocol.igmp.message import (
    ALL_ROUTERS,
    ALL_V3_ROUTERS,
    EVERY_GROUP,
    PRECEDENCE,
    PROTOCOL_NUMBER,
    ROUTER_ALERT,
)
from dpd.protocol.igmp.querier import Elected, Fact, Ignored, Intervals, OlderVersion, Querier, State, Yielded
from dpd.protocol.machine import Datagram, Transmit
from dpd.service.network.udp import UdpReader, interface_address
from dpd.settings import MulticastSettings, Settings
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

MIN_DELAY_S = 0.001
SIOCGIFADDR = 0x8915  # <linux/sockios.h>
GIVEN = "AmbientCapabilities=CAP_NET_RAW"


@dataclass(slots=True)
class QuerierStats:
    """What the querier did and heard."""

    is_querier: int = gauge("1 while this machine is the network's IGMP querier, 0 while another one is")
    elections: dict[str, int] = counts("Changes of the querier", "outcome")
    queries: int = counter("IGMP queries sent")
    ignored: dict[str, int] = counts("IGMP packets that changed nothing, by reason", "reason")
    send_failures: int = counter("IGMP queries that the kernel would not send")


class QuerierService:
    """One candidate on one interface. Belongs to the control loop."""

    name = "querier"

    def __init__(self, settings: MulticastSettings, intervals: Intervals | None = None) -> None:
        self.stats = QuerierStats()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._intervals = intervals
        self._reader: UdpReader | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._interface, self._index = "", 0
        self._machine: Querier
        self._sock: socket.socket

    async def start(self) -> None:
        """Begin the election. Raises ServiceError that says what stands in the way."""
        self._interface = self._settings.interface or routed_interface(self._settings.group_range)
        address = interface_address(self._interface)
        self._sock = open_igmp(self._interface)
        self._index = socket.if_nametoindex(self._interface)
        self._machine = Querier(address, time.monotonic(), self._intervals)
        self._reader = UdpReader(self._sock, self._on_packet)
        log.info("IGMP querier ready", extra={"interface": self._interface, "address": address})
        self._pump()

    def apply(self, settings: Settings) -> None:
        """Nothing of it changes while it runs."""

    async def drain(self) -> None:
        """Ask on until the end: sessions that are being drained need their groups."""

    async def stop(self) -> None:
        """Fall silent; another candidate takes over after its interval. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def _on_packet(self, datagram: Datagram) -> None:
        """The edge: whatever a packet brings ends here."""
        try:
            self._machine.receive_datagram(datagram.payload, datagram.source, time.monotonic())
            self._pump()
        except Exception:
            log.exception("IGMP packet not handled", extra={"peer": datagram.source[0]})

    def _on_timer(self) -> None:
        self._timer = None
        self._machine.handle_timeout(time.monotonic())
        self._pump()

    def _pump(self) -> None:
        now = time.monotonic()
        while (transmit := self._machine.poll_transmit(now)) is not None:
            self._send(transmit)
        while (fact := self._machine.next_event()) is not None:
            self._note(fact)
        self.stats.is_querier = int(self._machine.state is State.QUERIER)
        self._set_timer(now)

    def _set_timer(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        due = self._machine.next_timeout()
        delay_s = MIN_DELAY_S if due is None else max(due - now, MIN_DELAY_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _send(self, transmit: Transmit) -> None:
        """From the address that the interface has now; the election goes by it."""
        try:
            address = _current_address(self._sock, self._interface)
            self._machine.change_address(address)
            membership = _membership(EVERY_GROUP, address, self._index)
            self._sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, membership)
            self._sock.sendto(b"".join(transmit.pieces), transmit.destination)
        except OSError as error:
            self.stats.send_failures += 1
            log.warning("IGMP query not sent", extra={"interface": self._interface, "cause": str(error)})
        else:
            self.stats.queries += 1

    def _note(self, fact: Fact) -> None:
        about = {"interface": self._interface}
        match fact:
            case Elected(silent=""):
                log.info("IGMP querier asks", extra=about)
            case Elected(silent=other):
                bump(self.stats.elections, "took_over")
                log.warning("IGMP querier fell silent; this machine asks in its place", extra=about | {"silent": other})
            case Yielded(querier=other):
                bump(self.stats.elections, "yielded")
                log.info("another IGMP querier asks; this machine is silent", extra=about | {"querier": other})
            case OlderVersion(router=router, version=version):
                log.warning("a router asks in an older IGMP; queries are version 2", extra=about | {"router": router, "version": version})  # fmt: skip
            case Ignored(reason=reason):
                bump(self.stats.ignored, reason)


def open_igmp(interface: str) -> socket.socket:
    """A raw socket that hears what members tell routers on an interface, and sends as a querier must: TTL 1, with the
    router alert. Raises ServiceError."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, PROTOCOL_NUMBER)
    except PermissionError:
        raise ServiceError(
            "multicast.querier = true: not permitted, a raw socket needs CAP_NET_RAW; install systemd/dpd-querier.conf as "
            f"/etc/systemd/system/dpd.service.d/querier.conf ({GIVEN}), then `systemctl daemon-reload`; or set multicast.querier = false"
        ) from None
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, PRECEDENCE)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, ROUTER_ALERT)
        for group in (ALL_ROUTERS, ALL_V3_ROUTERS):
            membership = _membership(group, EVERY_GROUP, socket.if_nametoindex(interface))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership)
    except OSError as error:
        sock.close()
        raise ServiceError(f"multicast.querier = true: IGMP on {interface}: {error.strerror}") from None
    return sock


def routed_interface(group_range: str) -> str:
    """The interface that the kernel's route to an IPv4 group leads to. Raises ServiceError."""
    network = ipaddress.ip_network(group_range)
    group = str(network.network_address) if network.version == 4 else "239.192.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((group, 9))  # sends nothing
        except OSError as error:
            raise ServiceError(
                f"multicast.querier = true: no route to {group}: {error.strerror}; set multicast.interface"
            ) from None
        address = probe.getsockname()[0]
    for _, name in socket.if_nameindex():
        try:
            if interface_address(name) == address:
                return name
        except ServiceError:  # has no IPv4 address
            continue
    raise ServiceError(f"multicast.querier = true: no interface has {address}; set multicast.interface")


def _current_address(sock: socket.socket, interface: str) -> str:
    """Asked of the socket itself: it stays in the network that it was opened in. Raises OSError."""
    answer = fcntl.ioctl(sock.fileno(), SIOCGIFADDR, struct.pack("16s24x", interface.encode()[:15]))
    return socket.inet_ntoa(answer[20:24])


def _membership(group: str, address: str, index: int) -> bytes:
    """struct ip_mreqn."""
    return socket.inet_aton(group) + socket.inet_aton(address) + struct.pack("@i", index)
