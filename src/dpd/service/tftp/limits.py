# SPDX-License-Identifier: Apache-2.0
"""Who may ask how often, and how large a block may be on the way to him.

A read request of thirty bytes from a forged address makes a server send to that address. So each address and each network
has a bucket of requests, what is beyond it meets silence, and a transfer says little until its client has answered.
"""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections import OrderedDict
from collections.abc import Sequence
from functools import lru_cache

from dpd.settings import PxeSubnet, TftpSettings
from dpd.site.subnets import Subnets

BUCKETS = 4096  # kept; the one that was asked longest ago goes first, and those of a flood are asked all the time
HEADERS_IPV4 = 20 + 8 + 4  # IP, UDP and TFTP in front of a block
HEADERS_IPV6 = 40 + 8 + 4
MIN_BLKSIZE = 512  # every way carries the block of RFC 1350
SIOCGIFMTU = 0x8921
REMEMBERED = 1024
FIRST_WAIT_SHARE = 0.2  # of timeout_s, where a client is not known


class TokenBuckets:
    """One bucket for each key: `rate_per_s` tokens come in each second, as many fit."""

    def __init__(self, rate_per_s: float, capacity: int = BUCKETS) -> None:
        self._rate_per_s, self._capacity = rate_per_s, capacity
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, and when that was so

    def take(self, key: str, now: float) -> bool:
        """Whether there was a token."""
        full = max(self._rate_per_s, 1.0)
        tokens, since = self._buckets.get(key, (full, now))
        tokens = min(full, tokens + (now - since) * self._rate_per_s)
        enough = tokens >= 1
        self._buckets[key] = (tokens - enough, now)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._capacity:
            self._buckets.popitem(last=False)
        return enough


class Admission:
    """Whether a request is looked at. New settings mean a new one."""

    def __init__(self, settings: TftpSettings) -> None:
        self._networks = [ipaddress.ip_network(network) for network in settings.allowed_networks]
        self._clients = TokenBuckets(settings.requests_per_s)
        self._prefixes = TokenBuckets(settings.requests_per_s_per_network)
        self._place = lru_cache(REMEMBERED)(self._place_of)

    def refusal(self, address: str, now: float) -> str:
        """Why a request from this address is left unanswered; empty where it may pass."""
        allowed, prefix = self._place(address)
        if not allowed:
            return "address"
        if not self._clients.take(address, now):
            return "client_rate"
        return "" if self._prefixes.take(prefix, now) else "network_rate"

    def _place_of(self, address: str) -> tuple[bool, str]:
        host: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
        host = getattr(host, "ipv4_mapped", None) or host
        allowed = not self._networks or any(host in network for network in self._networks)
        length = 24 if host.version == 4 else 64
        return allowed, str(ipaddress.ip_network((host, length), strict=False))


class FirstWaits:
    """How long the first datagram of a transfer is waited upon. A machine reads file after file; where its offer is lost, what it
    has shown before says more than timeout_s: 1 % loss costs 32 clients of 1 MiB that second in every third run."""

    def __init__(self, timeout_s: float) -> None:
        self._unknown_s = FIRST_WAIT_SHARE * timeout_s
        self._shown_s: OrderedDict[str, float] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """Before the first repetition."""
        return min(self._shown_s.get(client, self._unknown_s), self._unknown_s)

    def note(self, client: str, wait_s: float) -> None:
        """What a transfer has found."""
        self._shown_s[client] = wait_s
        self._shown_s.move_to_end(client)
        if len(self._shown_s) > REMEMBERED:
            self._shown_s.popitem(last=False)


class BlockSizes:
    """The largest block that reaches a client whole. New settings mean a new one."""

    def __init__(self, settings: TftpSettings, tables: Sequence[PxeSubnet]) -> None:
        self._max_blksize = settings.max_blksize
        self._subnets = Subnets(tables)

    def largest(self, address: str, interface: int) -> int:
        """Bytes: what the operator says of the client's subnet, which may be more than a frame holds for loaders that put
        fragments together; else what fits into a frame of the interface that the request came by."""
        table = self._subnets.of(address)
        if table is not None and table.max_blksize:
            return max(table.max_blksize, MIN_BLKSIZE)
        mtu = interface_mtu(interface)
        ipv4 = ":" not in address.removeprefix("::ffff:")
        fitting = mtu - (HEADERS_IPV4 if ipv4 else HEADERS_IPV6) if mtu else self._max_blksize
        return max(min(self._max_blksize, fitting), MIN_BLKSIZE)


def interface_mtu(index: int) -> int:
    """Bytes of the largest packet; 0 where the interface is not known or gone."""
    if not index:
        return 0
    try:
        name = socket.if_indextoname(index)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            answer = fcntl.ioctl(probe.fileno(), SIOCGIFMTU, struct.pack("16si20x", name.encode()[:15], 0))
    except OSError:
        return 0
    return int(struct.unpack_from("@i", answer, 16)[0])
