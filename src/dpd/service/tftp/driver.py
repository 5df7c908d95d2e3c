# SPDX-License-Identifier: Apache-2.0
"""The driver of a TFTP transfer: that of every machine, with a short way for windows that arrived whole.

With windowsize 1 each block is a turn of the loop, so what a turn costs is the speed, and a window of 4 is not far from that.
Once the client has answered, its socket is connected: the kernel then looks up no route and Python no address, which is
1.5 of 18 us. Strangers get their refusal from the kernel from then on (ICMP port unreachable in place of ERROR 5). The ACK
that is waited for is answered in the callback that read it; everything else goes the long way.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor

from dpd.protocol.tftp.packet import HEADER_BYTES
from dpd.protocol.tftp.transfer import ReadTransfer
from dpd.service.driver import MIN_DELAY_S, RECEIVE_BYTES, Driver, Owner
from dpd.service.network.udp import NO_SEGMENTATION, TRANSIENT, UDP_SEGMENT, kernel_address

ACK_RECEIVE_BYTES = 480  # as much as Python allocates cheaply; the text of an ERROR may be cut


class TransferDriver(Driver):
    """Drives one ReadTransfer."""

    def __init__(self, transfer: ReadTransfer, sock: socket.socket, owner: Owner, pool: Executor) -> None:
        super().__init__(transfer, sock, owner, pool)
        self._transfer = transfer
        self._look = self._on_readable
        self._segment_bytes = transfer.terms.blksize + HEADER_BYTES

    def _on_readable(self) -> None:
        """Until the client has answered."""
        super()._on_readable()
        if self._transfer.answered and not self._closed:
            self._guard(self._connect)

    def _short_way(self) -> Callable[[], None]:
        """What to do when the connected socket is readable. Names are looked up once, since it runs for every window."""
        receive, send, answer, now_s = self._sock.recv, self._sock.send, self._transfer.answer, time.monotonic
        segment_bytes, trains = self._segment_bytes, self._train

        def on_readable() -> None:
            try:
                ack = receive(ACK_RECEIVE_BYTES)
                now = now_s()
                train = answer(ack, now)
                if train is None:
                    self._guard(self._receive_from_client, ack, now)
                elif len(train) == segment_bytes or trains.offload:
                    send(train)
                else:
                    self._send_apart(train)
            except OSError as error:
                if error.errno in NO_SEGMENTATION and trains.offload:
                    self._stop_segmenting()  # the train is lost; the timer sends it again
                elif error.errno not in TRANSIENT:
                    self._fail(error)
                # What the kernel would not send now is lost as on the wire; the timer of the block before is still set.

        return on_readable

    def _on_timer(self) -> None:
        """Nearly every block moves the deadline, so that the timer mostly comes too early and is only set anew. With a
        thousand clients at once that is as often as a block. Where it is due, the answer may wait in the socket all the same:
        the loop has timers before sockets, and whatever holds it up for 20 ms would have every transfer repeat a block."""
        self._timer = None
        deadline, now = self._transfer.next_timeout(), time.monotonic()
        if deadline is not None and deadline <= now and not self._closed:
            self._look()
            deadline = self._transfer.next_timeout()
        if self._timer is not None:  # what was there went the long way
            return
        if deadline is None or deadline <= now or self._closed:
            super()._on_timer()
            return
        self._timer_due = deadline
        self._timer = self._loop.call_later(max(deadline - now, MIN_DELAY_S), self._on_timer)

    def _send_apart(self, train: memoryview) -> None:
        for start in range(0, len(train), self._segment_bytes):
            self._sock.send(train[start : start + self._segment_bytes])

    def _stop_segmenting(self) -> None:
        self._train.offload = False
        self._sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, 0)

    def _connect(self) -> None:
        self._sock.connect(kernel_address(self._transfer.client))
        if self._train.offload:  # for the socket rather than for each train: half a microsecond of each
            try:
                self._sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, self._segment_bytes)
            except OSError:
                self._train.offload = False
        self._look = self._short_way()
        self._loop.add_reader(self._sock.fileno(), self._look)
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
