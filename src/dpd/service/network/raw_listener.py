# SPDX-License-Identifier: Apache-2.0
"""UDP datagrams as they come in by the network card, whoever they are for and whichever process holds their port.

A packet socket with a filter in the kernel: what does not fit costs no wake-up. It sees a packet before the host's own
firewall does, so that a datagram that is seen here and not at its port was dropped on this host. Needs CAP_NET_RAW.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain

from dpd.errors import MalformedMessage, ServiceError
from dpd.protocol.machine import Address

ETH_P_IP = 0x0800
SOL_PACKET, PACKET_IGNORE_OUTGOING = 263, 23  # <linux/socket.h>, <linux/if_packet.h>
SO_ATTACH_FILTER = 26  # <asm/socket.h>
PACKET_OUTGOING = 4  # <linux/if_packet.h>
BATCH = 64  # datagrams read before other work of the loop gets its turn
SNAP_BYTES = 65535
UDP_HEADER_BYTES = 8

_instruction = struct.Struct("@HBBI").pack
_LOAD_BYTE, _LOAD_HALF, _LOAD_HALF_BEHIND_HEADER = 0x30, 0x28, 0x48  # <linux/bpf_common.h>
_LOADS_BEHIND_HEADER = {1: 0x50, 2: _LOAD_HALF_BEHIND_HEADER, 4: 0x40}
_HEADER_LENGTH = 0xB1  # X = 4 * (packet[k] & 15): the bytes of the IP header
_JUMP_IF_EQUAL, _JUMP_IF_SET, _RETURN = 0x15, 0x45, 0x06


@dataclass(frozen=True, slots=True)
class RawDatagram:
    """One UDP datagram. `hardware_source` is who put it on this wire: the sender or the last router."""

    payload: bytes
    source: Address
    destination: Address
    interface: int
    hardware_source: str


def udp_filter(
    *,
    source_ports: Sequence[int] = (),
    destination_ports: Sequence[int] = (),
    source_begins: bytes = b"",
    destination_begins: bytes = b"",
) -> bytes:
    """A classic BPF program that lets pass whole UDP datagrams over IPv4 with one of these ports at either end; of each end
    those alone whose payload begins so (1, 2 or 4 bytes, none: any)."""
    ends = ((0, source_ports, source_begins), (2, destination_ports, destination_begins))
    reject = 5 + sum(2 * len(ports) for _, ports, _ in ends)
    accept, look = reject + 1, reject + 2
    program = [
        (_LOAD_BYTE, 0, 0, 9),
        (_JUMP_IF_EQUAL, 0, reject - 2, socket.IPPROTO_UDP),
        (_LOAD_HALF, 0, 0, 6),
        (_JUMP_IF_SET, reject - 4, 0, 0x3FFF),  # a fragment
        (_HEADER_LENGTH, 0, 0, 0),
    ]
    looks: list[list[tuple[int, int, int, int]]] = []
    for offset, ports, begins in ends:
        target = look + 4 * len(looks) if begins else accept
        for port in ports:
            program.append((_LOAD_HALF_BEHIND_HEADER, 0, 0, offset))
            program.append((_JUMP_IF_EQUAL, target - len(program) - 1, 0, port))
        if begins:
            looks.append(_look(begins))
    program += [(_RETURN, 0, 0, 0), (_RETURN, 0, 0, SNAP_BYTES)]
    return b"".join(_instruction(*each) for each in (*program, *chain.from_iterable(looks)))


def _look(begins: bytes) -> list[tuple[int, int, int, int]]:
    """Four instructions: whether the payload begins so."""
    return [
        (_LOADS_BEHIND_HEADER[len(begins)], 0, 0, UDP_HEADER_BYTES),
        (_JUMP_IF_EQUAL, 0, 1, int.from_bytes(begins, "big")),
        (_RETURN, 0, 0, SNAP_BYTES),
        (_RETURN, 0, 0, 0),
    ]


def open_packet_socket(program: bytes, *, purpose: str = "passive watch") -> socket.socket:
    """A socket that gets what `program` lets pass on every interface. Raises ServiceError."""
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    except PermissionError:
        raise ServiceError(
            f"{purpose}: not permitted, a packet socket needs CAP_NET_RAW (and AF_PACKET in the unit's "
            "RestrictAddressFamilies); systemd/dpd-watch.conf has both"
        ) from None
    except OSError as error:
        raise ServiceError(f"{purpose}: no packet socket: {error.strerror}") from None
    try:
        sock.setblocking(False)
        with suppress(OSError):  # Linux before 4.20 hands over what we send, too: a wake-up for each answer of ours
            sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        _attach(sock, program)
        _empty(sock)
    except OSError as error:
        sock.close()
        raise ServiceError(f"{purpose}: no packet socket: {error.strerror}") from None
    return sock


def _attach(sock: socket.socket, program: bytes) -> None:
    instructions = ctypes.create_string_buffer(program, len(program))
    count = len(program) // 8
    # struct sock_fprog: the number of instructions, then a pointer to them.
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(instructions)))


def _empty(sock: socket.socket) -> None:
    """Packets of any kind came in before the filter stood."""
    with suppress(BlockingIOError):
        while True:
            sock.recv(1)


class RawListener:
    """Feeds the datagrams of a packet socket to a callback, on any asyncio loop, until closed.

    `malformed` hears the reason where a packet is cut short or lies about its length.
    """

    def __init__(
        self,
        sock: socket.socket,
        handle: Callable[[RawDatagram], None],
        malformed: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self.sock = sock
        self._handle = handle
        self._malformed = malformed
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(BATCH):
            try:
                packet, (interface, _, kind, _, hardware) = self.sock.recvfrom(SNAP_BYTES)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno == errno.ENETDOWN:  # an interface went away; the others are still heard
                    continue
                raise
            if kind != PACKET_OUTGOING:
                self._read(packet, interface, hardware)

    def _read(self, packet: bytes, interface: str, hardware: bytes) -> None:
        try:
            source, destination, payload = read_udp(packet)
        except MalformedMessage as error:
            self._malformed(error.reason)
            return
        self._handle(RawDatagram(payload, source, destination, _index(interface), hardware.hex(":")))

    def close(self) -> None:
        """Stop reading and close the socket; safe to call twice."""
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()


def _index(interface: str) -> int:
    try:
        return socket.if_nametoindex(interface)
    except OSError:  # gone in the meantime
        return 0


def read_udp(packet: bytes) -> tuple[Address, Address, bytes]:
    """Source, destination and payload of an IPv4 packet with a whole UDP datagram inside. Raises MalformedMessage.

    Checksums are not judged: a card that makes them itself leaves them blank until the wire.
    """
    if len(packet) < 20 or packet[0] >> 4 != 4:
        raise MalformedMessage("no_ipv4", f"{len(packet)} bytes, expected an IPv4 header")
    start, total = 4 * (packet[0] & 15), int.from_bytes(packet[2:4], "big")
    if start < 20 or total < start + UDP_HEADER_BYTES or total > len(packet):
        raise MalformedMessage("ip_length", f"header of {start} and total of {total} in {len(packet)} bytes")
    if packet[9] != socket.IPPROTO_UDP or int.from_bytes(packet[6:8], "big") & 0x3FFF:
        raise MalformedMessage("no_whole_udp", "another protocol, or a fragment")
    source_port, destination_port, length = struct.unpack_from("!HHH", packet, start)
    if not UDP_HEADER_BYTES <= length <= total - start:
        raise MalformedMessage("udp_length", f"UDP length {length} in {total - start} bytes")
    source, destination = socket.inet_ntoa(packet[12:16]), socket.inet_ntoa(packet[16:20])
    payload = packet[start + UDP_HEADER_BYTES : start + length]
    return (source, source_port), (destination, destination_port), payload
