# SPDX-License-Identifier: Apache-2.0
"""Which IPv6 address of ours a machine can reach: the kernel knows, and /proc and a connected socket tell."""

from __future__ import annotations

import socket
from pathlib import Path

IF_INET6 = Path("/proc/thread-self/net/if_inet6")
LINK_LOCAL_SCOPE = 0x20
NOT_TO_USE = 0x01 | 0x08 | 0x20 | 0x40  # IFA_F_TEMPORARY, _DADFAILED, _DEPRECATED, _TENTATIVE of <linux/if_addr.h>
PERMANENT = 0x80  # IFA_F_PERMANENT: set by the operator, and not made of a router's prefix


def address_on(interface: int) -> str:
    """Our address on an interface: one that routers forward where there is one, and of those the operator's own; "" where
    there is none at all. A link-local one carries its interface ("fe80::1%3")."""
    try:
        lines = IF_INET6.read_text(encoding="ascii").splitlines()
    except OSError:  # a kernel without IPv6
        return ""
    found: list[tuple[int, bool, int, str]] = []
    for order, (octets, index, _, scope, flags, _) in enumerate(map(str.split, lines)):
        if int(index, 16) == interface and not int(flags, 16) & NOT_TO_USE:
            found.append((int(scope, 16), not int(flags, 16) & PERMANENT, order, octets))
    if not found:
        return ""
    narrowness, _, _, octets = min(found)
    address = socket.inet_ntop(socket.AF_INET6, bytes.fromhex(octets))
    return f"{address}%{interface}" if narrowness == LINK_LOCAL_SCOPE else address


def address_towards(destination: str) -> str:
    """Our address with which the kernel would reach another network; "" where no route leads there."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((destination, 9))  # no datagram leaves by this
        except OSError:
            return ""
        address: str = probe.getsockname()[0]
        return address
