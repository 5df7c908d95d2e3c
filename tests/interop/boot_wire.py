# SPDX-License-Identifier: Apache-2.0
"""The network of a model client (tests/protocol/pxe/models.py) as sockets in a namespace: what it asks goes out as firmware
sends it, before it has an address and after."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import suppress

from bench.netns import DEVICE, Host

from dpd.protocol.dhcp.message import Message, MessageType, decode
from dpd.protocol.machine import Address

EVERYBODY = ("255.255.255.255", 67)
WAIT_S = 10.0
LINGER_S = 0.2  # firmware collects offers for seconds; here the last one comes within milliseconds


class BootWire:
    """One client on `host`, which has no address yet on `device`. `heard` has the sender of every answer, in order."""

    def __init__(
        self, host: Host, *, expected_offers: int, device: str = DEVICE, prefix_length: int = 16, gateway: str = ""
    ) -> None:
        self._host = host
        self._device = device
        self._gateway = gateway
        self._expected = expected_offers
        self._prefix_length = prefix_length
        self._sock = self._open("0.0.0.0", 68)
        self.heard: list[Address] = []
        self.offers: list[Message] = []
        self.address = ""

    def close(self) -> None:
        self._sock.close()

    def _open(self, address: str, port: int) -> socket.socket:
        with self._host.inside():
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._device.encode())
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((address, port))
        return sock

    def discover(self, payload: bytes) -> list[bytes]:
        """All offers; LINGER_S after the expected number nobody else answers."""
        self._sock.sendto(payload, EVERYBODY)
        xid = decode(payload).xid
        answers = self._collect(self._sock, lambda message: message.xid == xid, self._expected)
        self.offers = [decode(answer) for answer in answers]
        return answers

    def discover_by_item(self, payload: bytes) -> list[bytes]:
        return self.discover(payload)

    def lease(self, payload: bytes) -> Message:
        """The lease server's ACK; the address is then the host's."""
        self._sock.sendto(payload, EVERYBODY)
        (answer,) = self._collect(self._sock, lambda message: message.message_type == MessageType.ACK, 1)
        ack = decode(answer)
        self.address = ack.yiaddr
        self._host.run("ip", "address", "add", f"{ack.yiaddr}/{self._prefix_length}", "dev", self._device)
        if self._gateway:
            self._host.run("ip", "route", "replace", "default", "via", self._gateway)
        return ack

    def visit(self, server: str, payload: bytes, port: int = 4011) -> list[bytes]:
        xid = decode(payload).xid
        with self._open(self.address, port) as sock:
            sock.sendto(payload, (server, 4011))
            return self._collect(sock, lambda message: message.xid == xid, 1)

    def _collect(self, sock: socket.socket, wanted: Callable[[Message], bool], count: int) -> list[bytes]:
        found: list[bytes] = []
        deadline = time.monotonic() + WAIT_S
        while (left_s := deadline - time.monotonic()) > 0:
            sock.settimeout(left_s)
            with suppress(TimeoutError):
                data, source = sock.recvfrom(2048)
                if wanted(decode(data)):
                    found.append(data)
                    self.heard.append(source)
            if len(found) == count:
                deadline = min(deadline, time.monotonic() + LINGER_S)
        return found
