# SPDX-License-Identifier: Apache-2.0
"""The socket by which a stream sends to its group and takes its feedback, IPv4 or IPv6."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

from dpd.errors import ServiceError
from dpd.service.network.groups import Group
from dpd.service.network.udp import interface_address

SOCKET_BUFFER_BYTES = 4 << 20
SO_MAX_PACING_RATE = 47  # <asm-generic/socket.h>; not in Python's socket module
NO_PACING = 0xFFFFFFFF_FFFFFFFF  # ~0UL: what a socket begins with
_ADDRESSES6 = "/proc/thread-self/net/if_inet6"


@dataclass(frozen=True, slots=True)
class SendingSocket:
    """`address` is ours as receivers see it; empty where the kernel chooses it for each datagram."""

    sock: socket.socket
    address: str


def open_sending_socket(interface: str, group: Group, ttl: int) -> SendingSocket:
    """A socket that sends to a group by an interface (empty: by the kernel's route). Raises ServiceError.

    Datagrams also reach receivers on this machine: the kernel copies them only where one has joined.
    """
    family = socket.AF_INET6 if ":" in group.address else socket.AF_INET
    address = _own_address(family, interface, group)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER_BYTES)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BUFFER_BYTES)
        if family == socket.AF_INET6:
            _prepare6(sock, interface, address, ttl)
        else:
            _prepare4(sock, interface, address, ttl)
    except OSError as error:
        sock.close()
        raise ServiceError(f"multicast socket on {address or 'any address'}: {error.strerror}") from None
    return SendingSocket(sock, address)


def _prepare4(sock: socket.socket, interface: str, address: str, ttl: int) -> None:
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
    if interface:
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    sock.bind((address or "0.0.0.0", 0))


def _prepare6(sock: socket.socket, interface: str, address: str, hops: int) -> None:
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, hops)
    index = socket.if_nametoindex(interface) if interface else 0
    if index:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
    sock.bind((address or "::", 0, 0, index if address.startswith("fe80:") else 0))


def sender_address(interface: str, network: str) -> str:
    """Our address on an interface, of the family of a range of groups. Raises ServiceError where there is none."""
    return _interface_address6(interface) if ":" in network else interface_address(interface)


def _own_address(family: int, interface: str, group: Group) -> str:
    if interface:
        return sender_address(interface, group.address)
    # Receivers join (source, group), so it has to be one address; and one that came over IPv4 cannot know our IPv6.
    if group.is_source_specific or family == socket.AF_INET6:
        return _routed_address(family, group)
    return ""


def _routed_address(family: int, group: Group) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((group.address, group.port))  # sends nothing
        except OSError as error:
            raise ServiceError(
                f"no route to group {group.address}: {error.strerror}; set multicast.interface to the interface of the receivers"
            ) from None
        return str(probe.getsockname()[0])


def _interface_address6(name: str) -> str:
    """The address of an interface that reaches furthest: global or unique local before link-local. Raises ServiceError."""
    found: dict[bool, str] = {}
    try:
        with open(_ADDRESSES6, encoding="ascii") as table:
            for line in table:
                digits, _, _, _, _, interface = line.split()
                address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))
                if interface == name:
                    found.setdefault(address.startswith("fe80:"), address)
    except FileNotFoundError:
        raise ServiceError(
            f"interface {name}: this machine has no IPv6; choose an IPv4 multicast.group_range"
        ) from None
    if not found:
        raise ServiceError(
            f"interface {name}: no such interface, or it has no IPv6 address; `ip -br -6 address` lists them"
        )
    return found.get(False) or found[True]


def pace(sock: socket.socket, rate_bit_s: float) -> None:
    """Have the kernel space the trains out as well, where its queue heeds it; a rate of 0 is no pacing."""
    rate_byte_s = int(rate_bit_s / 8) if rate_bit_s else NO_PACING
    sock.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, struct.pack("@Q", rate_byte_s))
