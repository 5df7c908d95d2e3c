# SPDX-License-Identifier: Apache-2.0
"""What the interfaces of this host are called and which addresses they have, asked of the kernel each time: they come and go."""

from __future__ import annotations

import contextlib
import socket

from dpd.errors import ServiceError
from dpd.service.network.udp import interface_address


def own_addresses() -> frozenset[str]:
    """The IPv4 address of each interface that has one."""
    found = set()
    for _, name in socket.if_nameindex():
        with contextlib.suppress(ServiceError, OSError):
            found.add(interface_address(name))
    return frozenset(found)


def interface_name(index: int) -> str:
    """ "" where there is none of that index. Asked of the kernel each time: indexes are used again when interfaces come and
    go."""
    try:
        return socket.if_indextoname(index)
    except OSError:
        return ""
