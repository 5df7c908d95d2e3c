# SPDX-License-Identifier: Apache-2.0
"""The two ways to a DHCP port: to bind it, or to overhear it where another process has it.

A bound port hears what the kernel hands over, with the address to answer from. A sniffed one reads UDP datagrams off the
network card and answers by a raw socket, from the same port number: firmware takes offers from port 67 alone. The process
that holds the port hears everything as before.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

from dpd.errors import ServiceError
from dpd.protocol.dhcp.message import MAX_BYTES
from dpd.protocol.igmp.message import checksum
from dpd.protocol.machine import Address, Datagram
from dpd.service.network.interfaces import own_addresses
from dpd.service.network.raw_listener import RawDatagram, RawListener, open_packet_socket, udp_filter
from dpd.service.network.udp import (
    BATCH,
    IP_PKTINFO,
    TRANSIENT,
    grow_receive_buffer,
    interface_address,
    open_udp,
    send_datagram,
)

RECEIVE_BUFFER_BYTES = 1 << 20  # a room of 1000 machines switched on at once, while the loop is busy elsewhere
RECEIVE_BYTES = MAX_BYTES + 1  # one more than a message may have; and 64 KiB for each were 1 us to get and give back
ANCILLARY_BYTES = socket.CMSG_SPACE(12)
EVERYONE = "255.255.255.255"
TIME_TO_LIVE = 64

_ip_header = struct.Struct("!BBHHHBBH4s4s").pack
_udp_header = struct.Struct("!HHHH").pack
_pseudo_header = struct.Struct("!4s4sBBH").pack

# struct in_pktinfo: interface index, our address, destination in the header
_pktinfo = struct.Struct("@i4s4s")

Handle = Callable[[Datagram], None]


class Port(Protocol):
    """One DHCP port. `number` is the one it has, also where 0 was asked for."""

    number: int

    def send(self, payload: bytes, destination: Address, *, interface: int, local: str) -> bool:
        """Send from `local` by `interface`, 0: by any. False: the kernel would not take it now. Raises OSError."""

    def close(self) -> None:
        """Give the port back; safe to call twice."""


class BoundPort:
    """A port of our own on every interface. Raises ServiceError that says who stands in the way.

    It reads what waits, at most BATCH datagrams, before the first one is handled. What the kernel says of the way of each
    datagram, and is told of the way of each answer, is the same for a whole room and so read and made once.
    """

    def __init__(self, address: str, port: int, handle: Handle, purpose: str) -> None:
        self._sock = open_udp(address, port, broadcast=True, pktinfo=True, purpose=purpose)
        grow_receive_buffer(self._sock, RECEIVE_BUFFER_BYTES)
        self.number: int = self._sock.getsockname()[1]
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for datagram in self._read():
            self._handle(datagram)

    def _read(self) -> list[Datagram]:
        batch: list[Datagram] = []
        receive = self._sock.recvmsg
        for _ in range(BATCH):
            try:
                payload, ancillary, _, source = receive(RECEIVE_BYTES, ANCILLARY_BYTES)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as error:
                if error.errno in TRANSIENT:  # a queued ICMP error of an earlier send; the socket is fine
                    continue
                raise
            batch.append(Datagram(payload, source, *read_pktinfo(ancillary[0][2])))
        return batch

    def send(self, payload: bytes, destination: Address, *, interface: int, local: str) -> bool:
        """See Port."""
        try:
            self._sock.sendmsg((payload,), pktinfo(interface, local), 0, destination)
        except OSError as error:
            if error.errno in TRANSIENT:
                return False
            raise
        return True

    def close(self) -> None:
        """See Port."""
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock.fileno())
            self._sock.close()


@lru_cache(1024)
def read_pktinfo(content: bytes) -> tuple[str, int, str]:
    """The address a datagram was sent to, the interface it came by, and our address to answer from."""
    interface, specific, destination = _pktinfo.unpack(content)
    return socket.inet_ntoa(destination), interface, socket.inet_ntoa(specific)


@lru_cache(1024)
def pktinfo(interface: int, local: str) -> tuple[tuple[int, int, bytes], ...]:
    """What `sendmsg` is told, for a datagram to leave by that interface and from that address."""
    source = socket.inet_aton(local) if local else bytes(4)
    return ((socket.IPPROTO_IP, IP_PKTINFO, _pktinfo.pack(interface, source, bytes(4))),)


class SniffedPort:
    """A port that another process has. Raises ServiceError without CAP_NET_RAW."""

    def __init__(self, port: int, handle: Handle, purpose: str, malformed: Callable[[str], None]) -> None:
        self.number = port
        self._handle = handle
        packets = open_packet_socket(udp_filter(destination_ports=(port,)), purpose=purpose)
        try:
            grow_receive_buffer(packets, RECEIVE_BUFFER_BYTES)
            self._sender = _open_raw(purpose)
        except BaseException:
            packets.close()
            raise
        self._listener = RawListener(packets, self._hear, malformed)

    def _hear(self, raw: RawDatagram) -> None:
        """What goes through this host to another one, as a router has it, is not for us."""
        asked = raw.destination[0]
        if asked != EVERYONE and not is_own(asked):
            return
        is_unicast = asked != EVERYONE and asked in own_addresses()
        answer_from = asked if is_unicast else _address_on(raw.interface)
        self._handle(Datagram(raw.payload, raw.source, asked, raw.interface, answer_from))

    def send(self, payload: bytes, destination: Address, *, interface: int, local: str) -> bool:
        packet = build_packet((local, self.number), destination, payload)
        return send_datagram(self._sender, packet, (destination[0], 0), interface=interface, local=local)

    def close(self) -> None:
        self._listener.close()
        self._sender.close()


def _open_raw(purpose: str) -> socket.socket:
    """Sends whole IPv4 packets and receives none."""
    try:
        sock = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    except OSError as error:
        raise ServiceError(f"{purpose}: no raw socket, which needs CAP_NET_RAW: {error.strerror}") from None
    sock.setblocking(False)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    return sock


def is_own(address: str) -> bool:
    """Whether datagrams to this address end on this host: its own addresses and its networks' broadcast ones."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:  # EADDRNOTAVAIL, as a rule
        return False
    return True


def _address_on(index: int) -> str:
    """Our IPv4 address on an interface, "" where it has none."""
    try:
        return interface_address(socket.if_indextoname(index))
    except (OSError, ServiceError):
        return ""


def build_packet(source: Address, destination: Address, payload: bytes) -> bytes:
    """An IPv4 packet with one UDP datagram; identification and checksum of the IP header are the kernel's to fill in."""
    addresses = socket.inet_aton(source[0]), socket.inet_aton(destination[0])
    size = 8 + len(payload)
    header = _udp_header(source[1], destination[1], size, 0)
    pseudo = _pseudo_header(*addresses, 0, socket.IPPROTO_UDP, size)
    total = checksum(pseudo + header + payload) or 0xFFFF  # RFC 768; 0 would mean that there is none
    udp = _udp_header(source[1], destination[1], size, total) + payload
    return _ip_header(0x45, 0, 20 + size, 0, 0, TIME_TO_LIVE, socket.IPPROTO_UDP, 0, *addresses) + udp
