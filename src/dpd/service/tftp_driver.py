# SPDX-License-Identifier: Apache-2.0
"""The driver of a TFTP transfer: that of every machine, with a short way for lock-step.

With windowsize 1 each block is a turn of the loop, so what a turn costs is the speed. Once the client has answered, its
socket is connected: the kernel then looks up no route and Python no address, which is 1.5 of 18 us. Strangers get their
refusal from the kernel from then on (ICMP port unreachable in place of ERROR 5). The ACK that is waited for is answered in
the callback that read it; everything else goes the long way.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import Executor

from dpd.protocol.tftp.transfer import ReadTransfer
from dpd.service.driver import RECEIVE_BYTES, Driver, Owner
from dpd.service.udp import TRANSIENT, kernel_address


class TransferDriver(Driver):
    """Drives one ReadTransfer."""

    def __init__(self, transfer: ReadTransfer, sock: socket.socket, owner: Owner, pool: Executor) -> None:
        super().__init__(transfer, sock, owner, pool)
        self._transfer = transfer
        self._connected = False

    def _on_readable(self) -> None:
        if not self._connected:
            super()._on_readable()
            if self._transfer.in_lock_step and not self._closed:
                self._guard(self._connect)
            return
        try:
            ack = self._sock.recv(RECEIVE_BYTES)
            now = time.monotonic()
            datagram = self._transfer.answer(ack, now)
            if datagram is not None:
                self._sock.send(datagram)
                return
        except OSError as error:
            # What the kernel would not send now is lost as on the wire; the timer of the block before is still set.
            if error.errno not in TRANSIENT:
                self._fail(error)
            return
        self._guard(self._receive_from_client, ack, now)

    def _connect(self) -> None:
        self._sock.connect(kernel_address(self._transfer.client))
        self._connected = True
        while not self._closed:  # what came before that may still be a stranger's
            try:
                data, source = self._sock.recvfrom(RECEIVE_BYTES)
            except OSError as error:
                if error.errno not in TRANSIENT:
                    raise
                return
            self._receive(data, source)

    def _receive_from_client(self, data: bytes, now: float) -> None:
        self._transfer.receive_datagram(data, self._transfer.client, now)
        self._pump(now)
