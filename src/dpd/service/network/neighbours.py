# SPDX-License-Identifier: Apache-2.0
"""Which machine has an address on our own link, as the kernel's neighbour table has it (rtnetlink, RFC 3549).

For machines whose lease nobody overheard. The table has what a machine said by ARP or neighbour discovery; who is behind a
router has the router's hardware address there, and so counts as unknown.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
import sys
from collections.abc import Iterator

# <linux/netlink.h>, <linux/rtnetlink.h>, <linux/neighbour.h>
NLMSG_ERROR = 2
NLM_F_REQUEST = 1
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH, RTM_GETNEIGH = 28, 30
RTA_DST, RTA_OIF, RTA_GATEWAY, RTA_VIA = 1, 4, 5, 18
NDA_DST, NDA_LLADDR = 1, 2
RTN_UNICAST = 1
KNOWN_STATES = 0x02 | 0x04 | 0x08 | 0x10 | 0x80  # reachable, stale, delay, probe, permanent
ANSWER_BYTES = 8192
TIMEOUT_S = 0.5  # the kernel answers at once or not at all

_header = struct.Struct("=IHHII")
_route = struct.Struct("=8BI")
_neighbour = struct.Struct("=BxxxiHBB")
_attribute = struct.Struct("=HH")

Attributes = dict[int, bytes]


def mac_at(address: str) -> str:
    """The hardware address that this address has, "" where it is not on one of our links or did not speak lately."""
    host, _, scope = address.partition("%")
    try:
        octets = ipaddress.ip_address(host).packed
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
            sock.settimeout(TIMEOUT_S)
            interface = _index(scope) if scope else _interface_to(sock, octets)
            return _hardware_address(sock, octets, interface) if interface else ""
    except (OSError, ValueError):
        return ""


def _index(scope: str) -> int:
    return int(scope) if scope.isdigit() else socket.if_nametoindex(scope)


def _interface_to(sock: socket.socket, octets: bytes) -> int:
    """The interface on whose link an address is; 0 for our own addresses and for those behind a router."""
    body = _route.pack(_family(octets), 8 * len(octets), 0, 0, 0, 0, 0, 0, 0)
    answer = _ask(sock, RTM_GETROUTE, body + _attribute_of(RTA_DST, octets), RTM_NEWROUTE)
    if answer is None or _route.unpack_from(answer)[7] != RTN_UNICAST:
        return 0
    found = read_attributes(answer[_route.size :])
    if RTA_OIF not in found or RTA_GATEWAY in found or RTA_VIA in found:
        return 0
    return int.from_bytes(found[RTA_OIF], sys.byteorder)


def _hardware_address(sock: socket.socket, octets: bytes, interface: int) -> str:
    body = _neighbour.pack(_family(octets), interface, 0, 0, 0)
    answer = _ask(sock, RTM_GETNEIGH, body + _attribute_of(NDA_DST, octets), RTM_NEWNEIGH)
    if answer is None or not _neighbour.unpack_from(answer)[2] & KNOWN_STATES:
        return ""
    return read_attributes(answer[_neighbour.size :]).get(NDA_LLADDR, b"").hex(":")


def _family(octets: bytes) -> int:
    return socket.AF_INET if len(octets) == 4 else socket.AF_INET6


def _ask(sock: socket.socket, kind: int, body: bytes, expected: int) -> bytes | None:
    """The body of the kernel's answer, None where it knows nothing."""
    sock.send(_header.pack(_header.size + len(body), kind, NLM_F_REQUEST, 1, 0) + body)
    answer = sock.recv(ANSWER_BYTES)
    size, told, *_ = _header.unpack_from(answer)
    return answer[_header.size : size] if told == expected else None


def _attribute_of(kind: int, content: bytes) -> bytes:
    return _attribute.pack(_attribute.size + len(content), kind) + content  # addresses need no padding to 4 bytes


def read_attributes(octets: bytes) -> Attributes:
    """The attributes behind a message's own header; what is cut short ends the list."""
    return dict(_scan(octets))


def _scan(octets: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _attribute.size <= len(octets):
        size, kind = _attribute.unpack_from(octets, position)
        if size < _attribute.size or position + size > len(octets):
            return
        yield kind & 0x3FFF, octets[position + _attribute.size : position + size]
        position += -(-size // 4) * 4
