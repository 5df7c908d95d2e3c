# SPDX-License-Identifier: Apache-2.0
"""Which multicast group and port a stream gets: IPv4 or IPv6, any-source or source-specific, one group for each stream."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Collection
from dataclasses import dataclass

from dpd.errors import SessionError

ATTEMPTS = 65536
STRIDE = 0x9E3779B1  # odd, so that it comes by every address of a network; large, so that it leaves what is flooded

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True)
class Group:
    """A group address as text, and a UDP port."""

    address: str
    port: int

    @property
    def is_source_specific(self) -> bool:
        """Whether receivers have to name the sender when they join (RFC 4607): 232/8 and ff3x::/32."""
        address = ipaddress.ip_address(self.address)
        if address.version == 4:
            return int(address) >> 24 == 232
        return int(address) >> 96 & 0xFFF0FFFF == 0xFF300000


@dataclass(frozen=True, slots=True)
class GroupRange:
    """The groups and ports of the settings."""

    network: str
    port_low: int
    port_high: int

    def allocate(self, seed: str, taken: Collection[str]) -> Group:
        """A group that is not taken: by the seed's hash, so that the same content seldom changes its group. Raises
        SessionError where all are."""
        hashed = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:12], "big")
        network = _dynamic_part(ipaddress.ip_network(self.network))
        port = self.port_low + (hashed >> 64) % (self.port_high - self.port_low + 1)
        for attempt in range(min(network.num_addresses, ATTEMPTS)):
            address = network[(hashed + attempt * STRIDE) % network.num_addresses]
            if str(address) not in taken and not _is_flooded(int(address), address.version):
                return Group(str(address), port)
        raise SessionError(
            f"every group of multicast.group_range = {self.network} is in use, or is one that switches flood; "
            "a wider range holds more sessions"
        )


def _dynamic_part(network: Network) -> Network:
    """Of a source-specific IPv6 range, the group ids that hosts may choose themselves: RFC 4607, section 1."""
    if network.version == 6 and Group(str(network.network_address), 0).is_source_specific:
        chosen = ipaddress.ip_network((int(network.network_address) >> 96 << 96 | 0x80000000, 97))
        if isinstance(chosen, ipaddress.IPv6Network) and chosen.subnet_of(network):
            return chosen
    return network


def _is_flooded(address: int, version: int) -> bool:
    """Whether its Ethernet address is one of those that switches pass to every port, snooping or not.

    IPv4: what aliases 224.0.0.x (RFC 4541, 2.1.2). IPv6: the low 32 bits make the Ethernet address (RFC 2464, 7); those of
    the well-known ff02::x, and of solicited-node groups, which hosts join for each of their own addresses.
    """
    if version == 4:
        return not address & 0x7FFF00
    low = address & 0xFFFFFFFF
    return low < 0x100 or low >> 24 == 0xFF
