# SPDX-License-Identifier: Apache-2.0
"""The conflict watch: what other servers say to machines that boot over the network, and what is asked and never arrives.

It listens at the network cards and sends nothing. Seen are broadcast answers of other DHCP servers (a unicast one passes
the switch to its client alone) and TFTP requests to this host, before its firewall. Needs CAP_NET_RAW; without it dpd works
as well and explains less.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import TypeVar

from dpd.errors import MalformedMessage, ServiceError
from dpd.protocol.dhcp.message import BOOT_REPLY, decode
from dpd.protocol.pxe.foreign_offer import Flag, ForeignOffer, read_foreign_offer
from dpd.protocol.tftp import packet as tftp
from dpd.service.network.interfaces import own_addresses
from dpd.service.network.raw_listener import RawDatagram, RawListener, open_packet_socket, udp_filter
from dpd.settings import Settings
from dpd.telemetry.journal import BootJournal
from dpd.telemetry.stats import bump, counter, counts, gauge

log = logging.getLogger(__name__)

SERVER_PORTS = (67, 4011)
SETTLE_S = 0.2  # an answer may be read before the question that it is for; they come by different sockets
ADDRESSES_AGAIN_S = 30.0  # interfaces come and go
REPEAT_S = 30.0  # the same TFTP request once more in this time: nobody answered it
RELAYS_AGAIN_S = 600.0
ANNOUNCE_AGAIN_S = 3600.0
CAPACITY = 1024  # of each table

_K = TypeVar("_K")
_T = TypeVar("_T")


@dataclass(slots=True)
class ConflictStats:
    """What the watch saw."""

    is_watching: int = gauge("1 while other servers' answers are seen")
    datagrams: int = counter("Answers of DHCP servers and TFTP requests seen at the network cards")
    foreign_offers: int = counter("Answers of other DHCP servers, each exchange once")
    conflicts: dict[str, int] = counts("What stands in the way of network boots", "kind")
    silent_subnets: int = gauge("Subnets of [[pxe.subnet]] beyond a router from which no relay has passed anything on")
    malformed: dict[str, int] = counts("Datagrams that could not be read", "reason")
    failures: int = counter("Datagrams that met a fault inside dpd")


class ConflictWatch:
    """Writes into the stories of the machines that are concerned."""

    name = "pxe_watch"

    def __init__(
        self, settings: Settings, *, journal: BootJournal, server_ports: tuple[int, ...] = SERVER_PORTS
    ) -> None:
        self.stats = ConflictStats()
        self.ports: dict[str, int] = {}
        self._settings = settings
        self._journal = journal
        self._server_ports = server_ports
        self._listener: RawListener | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._own: tuple[float, frozenset[str]] = (0.0, frozenset())
        self._seen: OrderedDict[ForeignOffer, None] = OrderedDict()
        self._requests: OrderedDict[int, float] = OrderedDict()  # by the hash of address, port and content
        self._announced: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def start(self) -> None:
        """Begin to listen; where that is not permitted, say so and go on without."""
        self._journal.watch_duplicates(self._on_duplicate)
        self._check_relays()
        # Read requests alone: with tftp.single_port every ACK of every transfer goes to that port. Answers alone: EDK2 asks
        # from port 4011, relays from 67, and each question that was read here for nothing cost as much as half its answer.
        program = udp_filter(
            source_ports=self._server_ports,
            source_begins=bytes((BOOT_REPLY,)),
            destination_ports=self._tftp_ports(),
            destination_begins=tftp.Opcode.RRQ.to_bytes(2, "big"),
        )
        try:
            sock = open_packet_socket(program, purpose="conflict watch")
        except ServiceError as error:
            log.info("conflict watch is off; network boots are explained from what reaches dpd alone", extra={"cause": str(error)})  # fmt: skip
            return
        self._listener = RawListener(sock, self._on_datagram, lambda reason: bump(self.stats.malformed, reason))
        self.stats.is_watching = 1

    def _tftp_ports(self) -> tuple[int, ...]:
        tftp_settings = self._settings.tftp
        return (tftp_settings.port,) if tftp_settings.enabled and tftp_settings.port else ()

    def apply(self, settings: Settings) -> None:
        """Subnets may be others now."""
        self._settings = settings

    async def drain(self) -> None:
        """Nothing runs on."""

    async def stop(self) -> None:
        """Listen no more; safe to call twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.stats.is_watching = 0

    def _on_datagram(self, datagram: RawDatagram) -> None:
        """The edge: whatever is wrong with one datagram ends here."""
        self.stats.datagrams += 1
        try:
            if datagram.source[1] in self._server_ports:
                self._on_answer(datagram)
            else:
                self._on_request(datagram)
        except MalformedMessage as error:
            bump(self.stats.malformed, error.reason)
        except Exception:
            self.stats.failures += 1
            log.exception("watched datagram not handled", extra={"peer": datagram.source[0]})

    # ---- answers of other servers

    def _on_answer(self, datagram: RawDatagram) -> None:
        offer = read_foreign_offer(decode(datagram.payload), datagram.source[0], self._own_addresses())
        if offer is None or offer in self._seen:
            return
        _remember(self._seen, offer, None)
        self.stats.foreign_offers += 1
        for flag in offer.flags:
            if flag is not Flag.LEASE:
                self._announce(flag.value, offer)
        if Flag.PROXY in offer.flags or self._journal.story(offer.mac):
            self._note(offer)  # a proxy answers machines that boot, and no others
        else:
            asyncio.get_running_loop().call_later(SETTLE_S, self._note_if_known, offer)

    def _note_if_known(self, offer: ForeignOffer) -> None:
        """Every machine of the network gets leases; only those that asked for a boot have a story."""
        if self._journal.story(offer.mac):
            self._note(offer)

    def _note(self, offer: ForeignOffer) -> None:
        flags = " ".join(flag.value for flag in offer.flags)
        self._journal.note(offer.mac, "foreign_offer", server=offer.server, flags=flags, loader=offer.loader)

    def _announce(self, kind: str, offer: ForeignOffer) -> None:
        """Count each, and log each server's once an hour."""
        bump(self.stats.conflicts, kind)
        told = self._announced.get((offer.server, kind))
        if told is None or monotonic() - told >= ANNOUNCE_AGAIN_S:
            _remember(self._announced, (offer.server, kind), monotonic())
            log.warning("another server stands in the way of network boots", extra={"server": offer.server, "kind": kind, "mac": offer.mac, "loader": offer.loader})  # fmt: skip

    def _own_addresses(self) -> frozenset[str]:
        read_at, own = self._own
        if not own or monotonic() - read_at >= ADDRESSES_AGAIN_S:
            own = own_addresses()
            if self._settings.pxe.server_address:
                own |= {self._settings.pxe.server_address}
            self._own = (monotonic(), own)
        return own

    # ---- requests that nobody answers

    def _on_request(self, datagram: RawDatagram) -> None:
        """A TFTP request is noted when it comes a second time from the same port: the first one met no answer."""
        key = hash((*datagram.source, datagram.payload))  # keyed anew for each process; nobody can choose collisions
        before = self._requests.get(key)
        _remember(self._requests, key, monotonic())
        if before is None or monotonic() - before > REPEAT_S:
            return
        request = tftp.decode(datagram.payload)
        if not isinstance(request, tftp.ReadRequest):
            return
        bump(self.stats.conflicts, "repeated_request")
        mac = self._journal.owner_of(datagram.source[0]) or datagram.hardware_source
        if self._journal.story(mac):
            shown = "".join(c if c.isprintable() else "?" for c in request.filename[:80])
            self._journal.note(mac, "wire_request", file=shown, server=datagram.destination[0])

    # ---- what the journal and the settings tell

    def _on_duplicate(self) -> None:
        bump(self.stats.conflicts, "duplicate_guid")

    def _check_relays(self) -> None:
        """Subnets that the operator described and from which nothing comes: mostly a relay that nobody set up."""
        self._timer = asyncio.get_running_loop().call_later(RELAYS_AGAIN_S, self._check_relays)
        silent = silent_subnets(self._settings, self._journal.relays(), self._own_addresses())
        self.stats.silent_subnets = len(silent)
        if silent:
            log.debug("no relay has passed anything on from these subnets", extra={"subnets": ", ".join(silent)})


def silent_subnets(settings: Settings, relays: dict[str, float], own: frozenset[str]) -> list[str]:
    """IPv4 networks of [[pxe.subnet]] that no address of ours is in and no relay that was heard."""
    here = [ipaddress.ip_address(address) for address in (*relays, *own) if ":" not in address]
    networks = [ipaddress.ip_network(subnet.network, strict=False) for subnet in settings.pxe.subnet]
    return [str(net) for net in networks if net.version == 4 and not any(address in net for address in here)]


def _remember(table: OrderedDict[_K, _T], key: _K, value: _T) -> None:
    table[key] = value
    table.move_to_end(key)
    while len(table) > CAPACITY:
        table.popitem(last=False)
