# SPDX-License-Identifier: Apache-2.0
"""The sockets of TFTP: one for requests, one for each transfer, all by one port where containers or translation ask for that.

By one port: each transfer's socket is bound to the request port as well and connected to its client, and the kernel gives it
that client's datagrams and no other's.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from dpd.errors import ServiceError
from dpd.protocol.machine import Address, Datagram
from dpd.service.network.udp import grow_receive_buffer, kernel_address, open_udp, receive_batch
from dpd.settings import TftpSettings

# Of 1000 machines that were switched on at once, 475 lost their first request in the default buffer, and waited for 4 s.
RECEIVE_BUFFER_BYTES = 1 << 20


class TransferPorts:
    """Opens them as the settings say."""

    def __init__(self, settings: TftpSettings) -> None:
        self.single_port = settings.single_port
        self._settings = settings
        self._next = settings.port_low

    def open_requests(self) -> socket.socket:
        """The socket that requests come to. Raises ServiceError."""
        address, port = self._settings.listen, self._settings.port
        sock = open_udp(address, port, pktinfo=True, purpose="TFTP")
        if self.single_port:
            # With SO_REUSEADDR from the start, a second server on the port would not be told that it is in use.
            port = sock.getsockname()[1]
            sock.close()
            sock = open_udp(address, port, pktinfo=True, purpose="TFTP", reuse_address=True)
        grow_receive_buffer(sock, RECEIVE_BUFFER_BYTES)
        return sock

    def open_transfer(
        self, local: str, request_port: int, client: Address, misled: Callable[[Datagram], None]
    ) -> socket.socket:
        """A socket for one client. Raises ServiceError, OSError. `misled` gets what came in while the socket had the port but
        not yet its client: requests of others, which would be lost."""
        if self.single_port:
            sock = open_udp(local, request_port, purpose="TFTP transfer", reuse_address=True)
            try:
                sock.connect(kernel_address(client))
                receive_batch(sock, lambda datagram: misled(_addressed(datagram, local)))
            except BaseException:
                sock.close()
                raise
            return sock
        if self._settings.port_low:
            return self._open_in_range(local)
        return open_udp(local, 0, purpose="TFTP transfer")

    def _open_in_range(self, local: str) -> socket.socket:
        low, high = self._settings.port_low, self._settings.port_high
        for _ in range(low, high + 1):
            port = self._next
            self._next = low if port >= high else port + 1
            sock = _open_if_free(local, port)
            if sock is not None:
                return sock
        raise ServiceError(f"TFTP transfer: every port from tftp.port_low = {low} to tftp.port_high = {high} is in use")


def _open_if_free(local: str, port: int) -> socket.socket | None:
    sock = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind(kernel_address((local, port)))
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            return None
        raise
    return sock


def _addressed(datagram: Datagram, local: str) -> Datagram:
    return Datagram(datagram.payload, datagram.source, local, datagram.interface, local)
