# SPDX-License-Identifier: Apache-2.0
"""Which queueing disciplines an interface sends through, as rtnetlink tells.

SO_MAX_PACING_RATE is heeded by fq alone. Elsewhere the kernel takes the option for UDP without an error and sends as fast
as before: 14.6 Gbit/s were measured where 0.94 had been asked for. So it is looked up and not tried.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

RTM_NEWQDISC, RTM_GETQDISC = 36, 38  # <linux/rtnetlink.h>
NLM_F_REQUEST, NLM_F_DUMP = 1, 0x300
NLMSG_ERROR, NLMSG_DONE = 2, 3
TCA_KIND = 1
TC_H_ROOT, TC_H_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1
RECEIVE_BYTES = 65536
CONTAINERS = frozenset({"mq", "mqprio"})  # one queue for each of the card's; the queues below them count

_HEADER = struct.Struct("=IHHII")  # struct nlmsghdr
_TCMSG = struct.Struct("=BBHiIII")  # struct tcmsg: family, padding, interface, handle, parent, info
_ATTRIBUTE = struct.Struct("=HH")


def queue_kinds(interface: str) -> frozenset[str]:
    """The kinds of the queues that datagrams leave through, such as {"fq_codel"}. Raises OSError where the kernel does not
    tell, or there is no such interface."""
    index = socket.if_nametoindex(interface)
    found = [(parent, kind) for each, parent, kind in _all_queues() if each == index and parent != TC_H_INGRESS]
    roots = {kind for parent, kind in found if parent == TC_H_ROOT}
    below = {kind for parent, kind in found if parent != TC_H_ROOT}
    return frozenset(below if roots and roots <= CONTAINERS else roots)


def heeds_pacing(kinds: frozenset[str]) -> bool:
    """Whether every such queue keeps to SO_MAX_PACING_RATE."""
    return kinds == {"fq"}


def _all_queues() -> Iterator[tuple[int, int, str]]:
    """(interface, parent, kind) of every queueing discipline."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as sock:
        sock.settimeout(2.0)
        body = _TCMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0)
        flags = NLM_F_REQUEST | NLM_F_DUMP
        sock.send(_HEADER.pack(_HEADER.size + len(body), RTM_GETQDISC, flags, 1, 0) + body)
        while True:
            for kind, message in _messages(sock.recv(RECEIVE_BYTES)):
                if kind == NLMSG_DONE:
                    return
                if kind == NLMSG_ERROR:
                    code = -struct.unpack_from("=i", message)[0]
                    raise OSError(code, "the kernel does not list queueing disciplines")
                if kind == RTM_NEWQDISC:
                    yield _read_queue(message)


def _messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(packet):
        length, kind, _, _, _ = _HEADER.unpack_from(packet, at)
        if length < _HEADER.size:
            return
        yield kind, packet[at + _HEADER.size : at + length]
        at += -(-length // 4) * 4


def _read_queue(message: bytes) -> tuple[int, int, str]:
    _, _, _, interface, _, parent, _ = _TCMSG.unpack_from(message)
    at = _TCMSG.size
    while at + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, at)
        if kind == TCA_KIND:
            return interface, parent, message[at + _ATTRIBUTE.size : at + length].rstrip(b"\0").decode("ascii")
        at += max(-(-length // 4) * 4, _ATTRIBUTE.size)
    return interface, parent, ""
