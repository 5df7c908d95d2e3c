# SPDX-License-Identifier: Apache-2.0
"""The two ways to a DHCP port: to bind it, or to overhear it where another process has it.

A bound port hears what the kernel hands over, with the address to answer from. A sniffed one reads UDP datagrams off the
network card and answers by a raw socket, from the same port number: firmware takes offers from port 67 alone. The process
that holds the port hears everything as before.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Protocol

from dpd.errors import ServiceError
from dpd.protocol.igmp.message import checksum
from dpd.protocol.machine import Address, Datagram
from dpd.service.interfaces import own_addresses
from dpd.service.raw_listener import RawDatagram, RawListener, open_packet_socket, udp_filter
from dpd.service.udp import UdpReader, grow_receive_buffer, interface_address, open_udp, send_datagram

RECEIVE_BUFFER_BYTES = 1 << 20  # a room of 1000 machines switched on at once, while the loop is busy elsewhere
EVERYONE = "255.255.255.255"
TIME_TO_LIVE = 64

_ip_header = struct.Struct("!BBHHHBBH4s4s").pack
_udp_header = struct.Struct("!HHHH").pack
_pseudo_header = struct.Struct("!4s4sBBH").pack

Handle = Callable[[Datagram], None]


class Port(Protocol):
    """One DHCP port. `number` is the one it has, also where 0 was asked for."""

    number: int

    def send(self, payload: bytes, destination: Address, *, interface: int, local: str) -> bool:
        """Send from `local` by `interface`, 0: by any. False: the kernel would not take it now. Raises OSError."""

    def close(self) -> None:
        """Give the port back; safe to call twice."""


class BoundPort:
    """A port of our own on every interface. Raises ServiceError that says who stands in the way."""

    def __init__(self, address: str, port: int, handle: Handle, purpose: str) -> None:
        self._sock = open_udp(address, port, broadcast=True, pktinfo=True, purpose=purpose)
        grow_receive_buffer(self._sock, RECEIVE_BUFFER_BYTES)
        self.number: int = self._sock.getsockname()[1]
        self._reader = UdpReader(self._sock, handle)

    def send(self, payload: bytes, destination: Address, *, interface: int, local: str) -> bool:
        return send_datagram(self._sock, payload, destination, interface=interface, local=local)

    def close(self) -> None:
        self._reader.close()


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
