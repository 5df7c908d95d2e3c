# SPDX-License-Identifier: Apache-2.0
"""The driver of a TFTP transfer: that of every machine, with a short way for windows that arrived whole.

With windowsize 1 each block is a turn of the loop, so what a turn costs is the speed, and a window of 4 is not far from that.
Once the client has answered, its socket is connected: the kernel then looks up no route and Python no address, which is
1.5 of 18 us. Strangers get their refusal from the kernel from then on (ICMP port unreachable in place of ERROR 5). The ACK
that is waited for is answered in the callback that read it; everything else goes the long way.
"""

from __future__ import annotations

import socket
import struct
import time
from concurrent.futures import Executor

from dpd.protocol.tftp.packet import HEADER_BYTES
from dpd.protocol.tftp.transfer import ReadTransfer
from dpd.service.driver import MIN_DELAY_S, RECEIVE_BYTES, Driver, Owner
from dpd.service.udp import NO_SEGMENTATION, TRANSIENT, UDP_SEGMENT, kernel_address


class TransferDriver(Driver):
    """Drives one ReadTransfer."""

    def __init__(self, transfer: ReadTransfer, sock: socket.socket, owner: Owner, pool: Executor) -> None:
        super().__init__(transfer, sock, owner, pool)
        self._transfer = transfer
        self._connected = False
        self._segment_bytes = transfer.terms.blksize + HEADER_BYTES
        self._segmented = [(socket.IPPROTO_UDP, UDP_SEGMENT, struct.pack("@H", self._segment_bytes))]

    def _on_readable(self) -> None:
        if not self._connected:
            super()._on_readable()
            if self._transfer.answered and not self._closed:
                self._guard(self._connect)
            return
        try:
            ack = self._sock.recv(RECEIVE_BYTES)
            now = time.monotonic()
            train = self._transfer.answer(ack, now)
            if train is not None:
                self._send_train(train)
                return
        except OSError as error:
            # What the kernel would not send now is lost as on the wire; the timer of the block before is still set.
            if error.errno not in TRANSIENT:
                self._fail(error)
            return
        self._guard(self._receive_from_client, ack, now)

    def _on_timer(self) -> None:
        """Nearly every block moves the deadline, so that the timer mostly comes too early and is only set anew. With a
        thousand clients at once that is as often as a block."""
        deadline, now = self._transfer.next_timeout(), time.monotonic()
        if deadline is None or deadline <= now or self._closed:
            super()._on_timer()
            return
        self._timer_due = deadline
        self._timer = self._loop.call_later(max(deadline - now, MIN_DELAY_S), self._on_timer)

    def _send_train(self, train: bytes) -> None:
        size = self._segment_bytes
        if len(train) == size:
            self._sock.send(train)
        elif self._train.offload:
            try:
                self._sock.sendmsg((train,), self._segmented)
            except OSError as error:
                if error.errno not in NO_SEGMENTATION:
                    raise
                self._train.offload = False
                self._send_train(train)
        else:
            for start in range(0, len(train), size):
                self._sock.send(train[start : start + size])

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
