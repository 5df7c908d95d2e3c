# SPDX-License-Identifier: Apache-2.0
"""Which [[pxe.subnet]] an address belongs to."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache

from dpd.settings import PxeSubnet

REMEMBERED = 4096  # addresses: a look through a hundred networks takes 60 us


class Subnets:
    """The tables of the settings, made ready for look-ups."""

    def __init__(self, tables: Sequence[PxeSubnet]) -> None:
        networks = [(ipaddress.ip_network(table.network), table) for table in tables]
        self._networks = sorted(networks, key=lambda pair: -pair[0].prefixlen)
        self.of = lru_cache(REMEMBERED)(self._of)

    def _of(self, address: str) -> PxeSubnet | None:
        """The one with the longest prefix that holds the address, which may be a relay's; None where none does."""
        try:
            host = ipaddress.ip_address(address.partition("%")[0])
        except ValueError:
            return None
        mapped = getattr(host, "ipv4_mapped", None)
        host = mapped or host
        return next((table for network, table in self._networks if host in network), None)
