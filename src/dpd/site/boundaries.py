# SPDX-License-Identifier: Apache-2.0
"""Which distribution points an address is to fetch content from, and why."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from dpd.site.records import Boundary, SiteError


@dataclass(frozen=True, slots=True)
class BoundaryAnswer:
    """`points`, the best first; `boundaries`, the networks that said so, the narrowest first; both empty where none holds the
    address. `reason` is a sentence."""

    address: str
    points: tuple[str, ...]
    boundaries: tuple[str, ...]
    reason: str


class BoundaryMap:
    """A map that nobody changes."""

    def __init__(self, boundaries: Iterable[Boundary] = ()) -> None:
        by_network = {ipaddress.ip_network(each.network): each for each in boundaries}
        # by version and length of prefix, the longest first: as many look-ups as there are lengths, not networks
        self._lengths = sorted({(each.version, each.prefixlen) for each in by_network}, reverse=True)
        self._by_network = by_network

    def points_for(self, address: str) -> tuple[str, ...]:
        """The best first, () where no boundary holds the address. Raises SiteError for what is no address."""
        return self.look_up(address).points

    def look_up(self, address: str) -> BoundaryAnswer:
        """With the reason. Raises SiteError for what is no address."""
        try:
            host = ipaddress.ip_address(address.strip().partition("%")[0])
        except ValueError:
            raise SiteError(f"address {address[:60]!r}: expected such as 10.1.2.3 or fd00:1::7") from None
        host = getattr(host, "ipv4_mapped", None) or host
        found = self._holding(host)
        points = tuple(dict.fromkeys(point for each in found for point in each.points))
        networks = tuple(each.network for each in found)
        return BoundaryAnswer(str(host), points, networks, _reason(str(host), found, points))

    def _holding(self, host: ipaddress.IPv4Address | ipaddress.IPv6Address) -> list[Boundary]:
        lengths = [length for version, length in self._lengths if version == host.version]
        networks = (ipaddress.ip_network((host, length), strict=False) for length in lengths)
        return [self._by_network[network] for network in networks if network in self._by_network]


def _reason(address: str, found: list[Boundary], points: tuple[str, ...]) -> str:
    if not found:
        return f"no boundary holds {address}; `dpd boundary list` shows those there are"
    first = f"{found[0].network} is the narrowest boundary that holds {address}: {', '.join(found[0].points)}"
    wider = [each.network for each in found[1:] if not set(each.points) <= set(found[0].points)]
    return f"{first}; then what wider ones name ({', '.join(wider)})" if wider else first
