# SPDX-License-Identifier: Apache-2.0
"""UDP as the kernel offers it: sockets, the interface a datagram came by, multicast groups, segmentation offload.

Standard library alone, since the receiver on the target uses it too. asyncio's own datagram transport allocates
256 KiB for each packet and uvloop's shows no ancillary data; so sockets are raw and non-blocking, on `add_reader`,
and drained in batches into one buffer.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from dpd.errors import ServiceError
from dpd.protocol.machine import Address, Buffer, Datagram

# Names that Python 3.11's socket module lacks; values from <linux/udp.h>, <linux/in.h>, <asm-generic/socket.h>.
UDP_SEGMENT = 103
UDP_GRO = 104
IP_PKTINFO = 8
IPV6_RECVPKTINFO = 49
IPV6_PKTINFO = 50
IP_MULTICAST_ALL = 49
IP_ADD_SOURCE_MEMBERSHIP = 39
IP_DROP_SOURCE_MEMBERSHIP = 40
IPV6_MULTICAST_ALL = 29
MCAST_JOIN_SOURCE_GROUP = 46
MCAST_LEAVE_SOURCE_GROUP = 47
SO_RCVBUFFORCE = 33
SO_RXQ_OVFL = 40

MAX_TRAIN_BYTES = 65507  # one UDP datagram over IPv4, and so the most that UDP_SEGMENT takes
MAX_TRAIN_SEGMENTS = 64  # UDP_MAX_SEGMENTS before Linux 6.9
BATCH = 64  # datagrams drained at one wake-up, so that a flood on one port cannot starve the others
RECEIVE_BYTES = 65536  # GRO hands over whole trains; a smaller buffer cuts them and looks like loss

# Errors by which a kernel or a network card refuses a train: no checksum offload, an old kernel, a tunnel.
NO_SEGMENTATION = frozenset({errno.EIO, errno.EINVAL, errno.ENOPROTOOPT, errno.EOPNOTSUPP, errno.EMSGSIZE})
# Errors of one destination or one full queue; the next datagram may well pass.
TRANSIENT = frozenset(
    {
        errno.EAGAIN,
        errno.ENOBUFS,
        errno.ECONNREFUSED,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.EPERM,
        errno.ENETDOWN,
    }
)

_PKTINFO6 = struct.Struct("@16si")  # struct in6_pktinfo: destination in the header, interface index
_PKTINFO = struct.Struct("@i4s4s")  # struct in_pktinfo: interface index, local address, destination in the header


def open_udp(
    address: str,
    port: int,
    *,
    broadcast: bool = False,
    pktinfo: bool = False,
    reuse_address: bool = False,
    purpose: str = "UDP",
) -> socket.socket:
    """A bound, non-blocking socket. Raises ServiceError that says what stands in the way and how to clear it.

    `pktinfo`: each datagram tells its interface and the address it was sent to. `reuse_address`: others that say so too may
    have the port as well. `purpose` is for the message.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if broadcast:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if pktinfo and family == socket.AF_INET:
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        elif pktinfo:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)
        sock.bind(kernel_address((address, port)))
    except OSError as error:
        sock.close()
        raise ServiceError(explain_bind(error, f"{purpose} ({address} UDP {port})", "udp", port)) from None
    return sock


def explain_bind(error: OSError, what: str, protocol: str, port: int) -> str:
    """Why a port cannot be had, and the command that shows or clears the reason."""
    if error.errno == errno.EADDRINUSE:
        flags = "ulpn" if protocol == "udp" else "tlpn"
        return (
            f"{what}: port {port} is in use; `ss -H{flags} 'sport = :{port}'` (as root) names the process that holds it: "
            "stop that one, or choose another port in the settings"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return (
            f"{what}: not permitted; ports below 1024 need CAP_NET_BIND_SERVICE: run it as the systemd service dpd.service, or "
            "`setcap cap_net_bind_service=+ep` on the Python that runs dpd, or choose a high port in the settings"
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{what}: this machine does not have that address; `ip -br address` lists those it has"
    return f"{what}: {error.strerror}"


def receive_batch(sock: socket.socket, handle: Callable[[Datagram], None], limit: int = BATCH) -> int:
    """Hand over what waits in the socket, at most `limit` datagrams. Returns how many there were."""
    for count in range(limit):
        try:
            payload, ancillary, _, source = sock.recvmsg(RECEIVE_BYTES, 128)
        except (BlockingIOError, InterruptedError):
            return count
        except OSError as error:
            if error.errno in TRANSIENT:  # a queued ICMP error of an earlier send; the socket is fine
                continue
            raise
        interface, local, answer_from = _read_pktinfo(ancillary)
        handle(Datagram(payload, peer_address(source), local, interface, answer_from))
    return limit


def _read_pktinfo(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, str, str]:
    """Interface, the address the datagram was sent to, and ours to answer from; zero and empty where not told."""
    for level, kind, content in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO:
            interface, specific, destination = _PKTINFO.unpack_from(content)
            return interface, socket.inet_ntoa(destination), socket.inet_ntoa(specific)
        if level == socket.IPPROTO_IPV6 and kind == IPV6_PKTINFO:
            destination, interface = _PKTINFO6.unpack_from(content)
            local = _scoped(socket.inet_ntop(socket.AF_INET6, destination), interface)
            return interface, local, "" if destination[0] == 0xFF else local
    return 0, "", ""


def peer_address(source: tuple[Any, ...]) -> Address:
    """Address and port as the rest of dpd has them, from what recvmsg or recvfrom returns."""
    if len(source) == 2:
        return source
    return _scoped(source[0], source[3]), source[1]


def kernel_address(address: Address) -> tuple[Any, ...]:
    """The other way: a link-local address's interface has a field of its own, which Python does not fill from the text."""
    host, _, interface = address[0].partition("%")
    if not interface:
        return address
    return host, address[1], 0, int(interface) if interface.isdigit() else socket.if_nametoindex(interface)


def _scoped(address: str, interface: int) -> str:
    """A link-local address means something on its own link alone, so that it carries the interface."""
    return f"{address}%{interface}" if address.startswith("fe80:") and interface else address


def send_datagram(
    sock: socket.socket, payload: Buffer, destination: Address, *, interface: int = 0, local: str = ""
) -> bool:
    """Send one datagram, by `interface` and from `local` where given. False: the kernel would not take it now."""
    ancillary = []
    if ":" in local:
        source = socket.inet_pton(socket.AF_INET6, local.partition("%")[0])
        ancillary = [(socket.IPPROTO_IPV6, IPV6_PKTINFO, _PKTINFO6.pack(source, interface))]
    elif interface or local:
        source = socket.inet_aton(local) if local else bytes(4)
        ancillary = [(socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(interface, source, bytes(4)))]
    try:
        sock.sendmsg([payload], ancillary, 0, kernel_address(destination))
    except OSError as error:
        if error.errno in TRANSIENT:
            return False
        raise
    return True


@dataclass(slots=True)
class TrainSender:
    """Sends trains of equal datagrams by UDP_SEGMENT and falls back to one call each where the kernel refuses.

    `offload` turns False at the first refusal and stays so: a card that lacks the feature will not grow it.
    """

    sock: socket.socket
    offload: bool = True

    def send(self, pieces: Sequence[Buffer], segment_size: int, destination: Address | None = None) -> int:
        """Send the gathered pieces as datagrams of `segment_size` bytes, the last perhaps shorter. Returns the number of
        datagrams that the kernel took. `pieces` must start a new piece at every datagram boundary."""
        total = sum(map(len, pieces))
        if total <= segment_size:
            self._sendmsg(pieces, [], destination)
            return 1
        if self.offload:
            ancillary = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", segment_size))]
            try:
                self._sendmsg(pieces, ancillary, destination)
            except OSError as error:
                if error.errno not in NO_SEGMENTATION:
                    raise
                self.offload = False
            else:
                return -(-total // segment_size)
        return self._send_one_by_one(pieces, segment_size, destination)

    def _send_one_by_one(self, pieces: Sequence[Buffer], segment_size: int, destination: Address | None) -> int:
        sent = 0
        datagram: list[Buffer] = []
        size = 0
        for piece in pieces:
            datagram.append(piece)
            size += len(piece)
            if size >= segment_size:
                self._sendmsg(datagram, [], destination)
                sent += 1
                datagram, size = [], 0
        if datagram:
            self._sendmsg(datagram, [], destination)
            sent += 1
        return sent

    def _sendmsg(
        self, pieces: Sequence[Buffer], ancillary: list[tuple[int, int, bytes]], destination: Address | None
    ) -> None:
        if destination is None:
            self.sock.sendmsg(pieces, ancillary)
        else:
            self.sock.sendmsg(pieces, ancillary, 0, kernel_address(destination))


class UdpReader:
    """Feeds the datagrams of a socket to a callback, on any asyncio loop, until closed."""

    def __init__(self, sock: socket.socket, handle: Callable[[Datagram], None]) -> None:
        import asyncio  # 15 ms of CPU at the start of each receiver on a target, which has no loop

        self.sock = sock
        self._handle = handle
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        receive_batch(self.sock, self._handle)

    def close(self) -> None:
        """Stop reading and close the socket; safe to call twice."""
        if self.sock.fileno() >= 0:
            self._loop.remove_reader(self.sock.fileno())
            self.sock.close()


def join_group(sock: socket.socket, group: str, interface_address: str = "", source: str = "") -> None:
    """Ask for a group's datagrams by the interface that has this address, and for no other group's; with `source` only for
    those of that sender (source-specific, RFC 4607). "" is the kernel's choice of interface. Raises OSError."""
    _change_membership(sock, group, interface_address, source, _JOINS)


def leave_group(sock: socket.socket, group: str, interface_address: str = "", source: str = "") -> None:
    """Take back `join_group`. Raises OSError."""
    _change_membership(sock, group, interface_address, source, _LEAVES)


@dataclass(frozen=True, slots=True)
class _MembershipOptions:
    """Socket options that join or leave; for IPv4 and IPv6, with and without a source."""

    ipv4: int
    ipv4_source: int
    ipv6: int
    ipv6_source: int


_JOINS = _MembershipOptions(
    socket.IP_ADD_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP, socket.IPV6_JOIN_GROUP, MCAST_JOIN_SOURCE_GROUP
)
_LEAVES = _MembershipOptions(
    socket.IP_DROP_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, socket.IPV6_LEAVE_GROUP, MCAST_LEAVE_SOURCE_GROUP
)


def _change_membership(
    sock: socket.socket, group: str, interface_address: str, source: str, options: _MembershipOptions
) -> None:
    if ":" in group:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MULTICAST_ALL, 0)
        index = interface_index(interface_address)
        if source:  # struct group_source_req: the index, then two struct sockaddr_storage
            request = struct.pack("@I4x", index) + _sockaddr6(group) + _sockaddr6(source)
            sock.setsockopt(socket.IPPROTO_IPV6, options.ipv6_source, request)
        else:
            request = socket.inet_pton(socket.AF_INET6, group) + struct.pack("@i", index)
            sock.setsockopt(socket.IPPROTO_IPV6, options.ipv6, request)
        return
    sock.setsockopt(socket.IPPROTO_IP, IP_MULTICAST_ALL, 0)
    # struct ip_mreq and ip_mreq_source of Linux: group, interface, source.
    request = socket.inet_aton(group) + socket.inet_aton(_ipv4_beside(interface_address))
    if source:
        sock.setsockopt(socket.IPPROTO_IP, options.ipv4_source, request + socket.inet_aton(source))
    else:
        sock.setsockopt(socket.IPPROTO_IP, options.ipv4, request)


def _ipv4_beside(address: str) -> str:
    """The IPv4 address of the interface that has this address: of either family, for who reaches the sender over IPv6."""
    if ":" not in address:
        return address or "0.0.0.0"
    index = interface_index(address)
    own = _ipv4_address(socket.if_indextoname(index)) if index else "0.0.0.0"
    if own is None:
        raise OSError(errno.EADDRNOTAVAIL, f"the interface of {address} has no IPv4 address")
    return own


def _sockaddr6(address: str) -> bytes:
    """struct sockaddr_storage with an IPv6 address in it."""
    host, _, scope = address.partition("%")
    index = (int(scope) if scope.isdigit() else socket.if_nametoindex(scope)) if scope else 0
    octets = socket.inet_pton(socket.AF_INET6, host)
    return (struct.pack("@HHI", socket.AF_INET6, 0, 0) + octets + struct.pack("@I", index)).ljust(128, b"\0")


def interface_index(address: str) -> int:
    """The index of the interface that has this address of either family; 0, the kernel's choice, for "" and any address.
    Raises OSError where no interface has it."""
    if address in ("", "0.0.0.0", "::"):
        return 0
    for index, name in socket.if_nameindex():
        if address.partition("%")[0] in _addresses_of(name):
            return index
    raise OSError(errno.ENODEV, f"no interface has the address {address}")


def _addresses_of(name: str) -> list[str]:
    """The first IPv4 address of an interface and all IPv6 ones, those of a wider scope first."""
    with contextlib.ExitStack() as opened:
        addresses = [] if (own := _ipv4_address(name)) is None else [own]
        try:
            lines = opened.enter_context(open("/proc/thread-self/net/if_inet6", encoding="ascii")).read().splitlines()
        except OSError:  # a kernel without IPv6
            return addresses
    fields = [line.split() for line in lines]  # address, index, prefix length, scope, flags, name
    own6 = sorted((int(field[3], 16), field[0]) for field in fields if field[5] == name)
    return addresses + [socket.inet_ntop(socket.AF_INET6, bytes.fromhex(octets)) for _, octets in own6]


def _ipv4_address(name: str) -> str | None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # SIOCGIFADDR fills struct ifreq: 16 bytes of name, then struct sockaddr_in with the address at offset 4.
            answer = fcntl.ioctl(probe.fileno(), 0x8915, struct.pack("16s24x", name.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def grow_receive_buffer(sock: socket.socket, size_bytes: int) -> int:
    """Ask for a large receive buffer, past the system's limit where allowed. Returns what the kernel granted, in bytes
    of its own accounting (about twice the payload)."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, size_bytes)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)


def interface_address(name: str) -> str:
    """The first IPv4 address of an interface. Raises ServiceError where there is none."""
    address = _ipv4_address(name)
    if address is None:
        raise ServiceError(
            f"interface {name}: no such interface, or it has no IPv4 address; `ip -br -4 address` lists them"
        )
    return address


def receiving_address(name: str) -> str:
    """An address by which `join_group` finds an interface: IPv4 where it has one. Raises ServiceError where it has none."""
    addresses = _addresses_of(name)
    if not addresses:
        raise ServiceError(f"interface {name}: no such interface, or it has no address; `ip -br address` lists them")
    return _scoped(addresses[0], socket.if_nametoindex(name))
